/* A certificate in files for servers. With arguments, it is the program that test_files.py kills:
 *
 *     test_files CERTIFICATE KEY FOLDER
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static char root[] = "/tmp/acme-files-XXXXXX";
static char combined[100], folder[100];

static acme_cert_t *new_cert(const char *name)
{
    static const uint8_t digest[32] = { 1 };
    acme_challenge_t challenge;
    acme_cert_t *cert = NULL;

    memset(&challenge, 0, sizeof challenge);
    challenge.identifier = name;
    challenge.tls_alpn_digest = digest;
    OK(acme_cert_create_tls_alpn(&challenge, NULL, &cert));
    return cert;
}

static acme_files_options_t all_files(void)
{
    acme_files_options_t options = ACME_FILES_OPTIONS_INIT;

    options.combined = combined;
    options.folder = folder;
    options.chain = "chain.pem";
    options.key = "key.pem";
    options.certificate = "cert.pem";
    options.issuers = "issuers.pem";
    return options;
}

static const char *content(const char *path)
{
    static char room[20000];
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(room, 1, sizeof room - 1, file) : 0;

    room[size] = 0;
    if (file)
        fclose(file);
    return room;
}

static const char *in_folder(const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct stat info(const char *path)
{
    struct stat found;

    memset(&found, 0, sizeof found);
    CHECK(stat(path, &found) == 0);
    return found;
}

/* Checks that the files are those of this certificate, and that there are no others. */
static void are_of(const acme_cert_t *cert)
{
    const char *chain = acme_cert_chain_pem(cert), *key = acme_key_pem(acme_cert_key(cert));
    char both[20000], command[400];

    snprintf(both, sizeof both, "%s%s", key, chain);
    CHECK(strcmp(content(combined), both) == 0);
    CHECK(strcmp(content(in_folder("chain.pem")), chain) == 0);
    CHECK(strcmp(content(in_folder("cert.pem")), chain) == 0);
    CHECK(strcmp(content(in_folder("issuers.pem")), "") == 0);
    CHECK(strcmp(content(in_folder("key.pem")), key) == 0);
    snprintf(command, sizeof command,
             "cd %s; test \"$(ls -A | grep -cE '^(both.pem|.acme-lock|set|.set.[0-9a-f]{16})$')\" = 4 && "
             "test $(ls -A | wc -l) = 4 && test $(ls -A set/ | wc -l) = 4", root);
    CHECK(system(command) == 0);
}

static void writes_and_replaces(void)
{
    acme_cert_t *first = new_cert("first.test"), *second = new_cert("second.test");
    acme_files_options_t options = all_files();

    errno = 77;
    OK(acme_cert_write_files(first, &options));
    CHECK(errno == 77);
    are_of(first);
    OK(acme_cert_write_files(second, &options));
    are_of(second);
    CHECK((info(combined).st_mode & 07777) == 0600 && (info(in_folder("key.pem")).st_mode & 07777) == 0600);
    CHECK((info(in_folder("chain.pem")).st_mode & 07777) == 0644 && (info(folder).st_mode & 07777) == 0755);
    acme_cert_free(first);
    acme_cert_free(second);
}

static void modes_and_owners(void)
{
    acme_cert_t *cert = new_cert("modes.test");
    acme_files_options_t options = all_files();
    mode_t before = umask(0777);

    options.mode = 0604;
    options.key_mode = 0640;
    if (geteuid() == 0) {
        options.owner = 1234;
        options.group = 4321;
    }
    OK(acme_cert_write_files(cert, &options));
    umask(before);
    are_of(cert);
    CHECK((info(combined).st_mode & 07777) == 0640 && (info(in_folder("key.pem")).st_mode & 07777) == 0640);
    CHECK((info(in_folder("chain.pem")).st_mode & 07777) == 0604);
    if (geteuid() == 0) {
        CHECK(info(combined).st_uid == 1234 && info(combined).st_gid == 4321);
        CHECK(info(in_folder("key.pem")).st_uid == 1234 && info(in_folder("key.pem")).st_gid == 4321);
        CHECK(info(folder).st_uid == 1234 && info(in_folder("chain.pem")).st_gid == 4321);
        options.owner = 0;
        OK(acme_cert_write_files(cert, &options)); /* the group alone */
        CHECK(info(combined).st_uid == 0 && info(combined).st_gid == 4321);
    } else {
        options.owner = geteuid() + 1;
        CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "not permitted");
    }
    acme_cert_free(cert);
}

/* A certificate that was parsed has no key of its own. */
static void key_from_elsewhere(void)
{
    acme_cert_t *cert = new_cert("parsed.test"), *other = new_cert("other.test"), *parsed = NULL;
    const char *pem = acme_cert_chain_pem(cert);
    acme_files_options_t options = all_files();

    OK(acme_cert_parse(pem, strlen(pem), &parsed));
    CHECK_STATUS(acme_cert_write_files(parsed, &options), ACME_ERR_INVALID_ARGUMENT, "no key");
    options.private_key = acme_cert_key(other);
    CHECK_STATUS(acme_cert_write_files(parsed, &options), ACME_ERR_INVALID_ARGUMENT, "not the certificate's");
    options.private_key = acme_cert_key(cert);
    OK(acme_cert_write_files(parsed, &options));
    are_of(cert);
    options.private_key = NULL;
    options.combined = options.key = NULL; /* needs no key */
    OK(acme_cert_write_files(parsed, &options));
    CHECK(access(in_folder("key.pem"), F_OK) != 0 && strcmp(content(in_folder("chain.pem")), pem) == 0);
    acme_cert_free(parsed);
    acme_cert_free(other);
    acme_cert_free(cert);
}

static void refused(const acme_cert_t *cert, acme_files_options_t options, const char *why)
{
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_INVALID_ARGUMENT, why);
}

static void wrong_arguments(void)
{
    static const char *const names[] = { "", ".", "..", "a/b", "/a", "chain.pem" };
    acme_files_options_t none = ACME_FILES_OPTIONS_INIT, options = all_files();
    acme_cert_t *cert = new_cert("wrong.test");
    size_t i;

    OK(acme_cert_write_files(cert, &options));
    refused(cert, none, "no file");
    none.folder = folder;
    refused(cert, none, "no file");
    none.folder = NULL;
    none.combined = combined;
    none.chain = "chain.pem";
    refused(cert, none, "without a folder");
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        options.key = names[i];
        refused(cert, options, "name");
    }
    options.key = "k\xff";
    refused(cert, options, "UTF-8");
    options.key = "key.pem";
    options.key_mode = 0604;
    refused(cert, options, "mode");
    options.key_mode = 0;
    options.mode = 010000;
    refused(cert, options, "mode");
    options.mode = SIZE_MAX;
    refused(cert, options, "mode is too large");
    options.mode = 0;
    options.owner = SIZE_MAX;
    refused(cert, options, "owner");
    options.owner = 0;
    options.folder = "/";
    refused(cert, options, "path");
    options.folder = "..";
    refused(cert, options, "path");
    options.folder = folder;
    are_of(cert);
    acme_cert_free(cert);
}

/* An obstacle stays as it is, and so do the files. */
static void obstacles(void)
{
    acme_files_options_t options = all_files();
    acme_cert_t *cert = new_cert("obstacles.test"), *next = new_cert("next.test");
    char path[200], command[300];

    OK(acme_cert_write_files(cert, &options));
    snprintf(path, sizeof path, "%s/none/set", root);
    options.folder = path;
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "/none: No such file");
    snprintf(path, sizeof path, "%s/own", root);
    CHECK(mkdir(path, 0755) == 0);
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "/own: this is not a symbolic link of");
    CHECK(rmdir(path) == 0 && symlink("/etc", path) == 0);
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "/own: this is not a symbolic link of");
    CHECK(unlink(path) == 0);
    options.folder = NULL;
    options.chain = options.key = options.certificate = options.issuers = NULL;
    options.combined = path;
    CHECK(symlink("/etc/passwd", path) == 0);
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "/own: this is not a regular file");
    CHECK(unlink(path) == 0);
    are_of(cert);

    /* A killed program has left a folder and temporary files; another link's folder stays. */
    snprintf(command, sizeof command,
             "cd %s && mkdir .set.0123456789abcdef .set2.0123456789abcdef && touch .set.0123456789abcdef/key.pem "
             ".tmp-0123456789abcdef && ln -s nowhere .set.new", root);
    CHECK(system(command) == 0);
    options = all_files();
    OK(acme_cert_write_files(next, &options));
    snprintf(command, sizeof command, "cd %s && rmdir .set2.0123456789abcdef", root);
    CHECK(system(command) == 0);
    are_of(next);

    CHECK(chmod(root, 0777) == 0);
    CHECK_STATUS(acme_cert_write_files(cert, &options), ACME_ERR_STORE, "anybody can write");
    CHECK(chmod(root, 0700) == 0);
    are_of(next);
    acme_cert_free(next);
    acme_cert_free(cert);
}

static void *write_often(void *cert)
{
    acme_files_options_t options = all_files();
    int i;

    for (i = 0; i < 20; i++)
        if (acme_cert_write_files(cert, &options) != ACME_OK)
            return cert;
    return NULL;
}

static void threads_at_the_same_time(void)
{
    acme_cert_t *certs[4];
    pthread_t threads[4];
    void *wrong;
    int i;

    for (i = 0; i < 4; i++) {
        certs[i] = new_cert("threads.test");
        CHECK(pthread_create(&threads[i], NULL, write_often, certs[i]) == 0);
    }
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], &wrong) == 0 && !wrong);
    write_often(certs[0]);
    are_of(certs[0]);
    for (i = 0; i < 4; i++)
        acme_cert_free(certs[i]);
}

/* Writes the files; the lines before and after show test_files.py where the work begins and ends. */
static int write_once(char **argv)
{
    static char pem[20000], key_pem[20000];
    acme_files_options_t options = all_files();
    acme_cert_t *cert = NULL;
    acme_key_t *key = NULL;
    int status;

    strcpy(pem, content(argv[1]));
    strcpy(key_pem, content(argv[2]));
    snprintf(combined, sizeof combined, "%.80s/both.pem", argv[3]);
    snprintf(folder, sizeof folder, "%.80s/set", argv[3]);
    if (acme_cert_parse(pem, strlen(pem), &cert) != ACME_OK ||
        acme_key_parse(key_pem, strlen(key_pem), &key) != ACME_OK)
        return 2;
    options.private_key = key;
    if (write(1, "begin\n", 6) != 6)
        return 2;
    status = acme_cert_write_files(cert, &options);
    if (write(1, "end\n", 4) != 4)
        return 2;
    if (status != ACME_OK)
        fprintf(stderr, "%s\n", acme_error_message(acme_last_error()));
    acme_key_free(key);
    acme_cert_free(cert);
    return status != ACME_OK;
}

int main(int argc, char **argv)
{
    char command[100];

    if (argc == 4)
        return write_once(argv);
    CHECK(mkdtemp(root) != NULL);
    snprintf(combined, sizeof combined, "%s/both.pem", root);
    snprintf(folder, sizeof folder, "%s/set", root);
    writes_and_replaces();
    modes_and_owners();
    key_from_elsewhere();
    wrong_arguments();
    obstacles();
    threads_at_the_same_time();
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0);
    return report("test_files");
}
