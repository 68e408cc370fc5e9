/* Three copies of the library in one process: one linked statically, and the shared library twice, in a linker
 * namespace of its own and in the program's. Each copy has its own state, and no copy calls another.
 *
 *   two_copies libacme-micro.so.1 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

/* Functions of one copy that the test calls. */
struct copy {
    const char *(*version)(void);
    acme_status_t (*generate)(int, acme_key_t **);
    const char *(*pem)(const acme_key_t *);
    void (*key_free)(acme_key_t *);
    const acme_error_t *(*last_error)(void);
    const char *(*message)(const acme_error_t *);
    acme_status_t (*client_new)(const acme_client_options_t *, acme_client_t **);
    void (*client_free)(acme_client_t *);
};

static struct copy loaded(void *library)
{
    struct copy copy;

#define LOAD(member, name) *(void **)&copy.member = dlsym(library, name)
    LOAD(version, "acme_version");
    LOAD(generate, "acme_key_generate");
    LOAD(pem, "acme_key_pem");
    LOAD(key_free, "acme_key_free");
    LOAD(last_error, "acme_last_error");
    LOAD(message, "acme_error_message");
    LOAD(client_new, "acme_client_new");
    LOAD(client_free, "acme_client_free");
    return copy;
}

static struct copy copies[3];
static pthread_barrier_t barrier;

/* Uses a copy, on a thread of its own. Another namespace has another libc: on one thread, the thread-local
 * data of its libcrypto would be in the same place as that of the first libcrypto. */
static void *use(void *which)
{
    const struct copy *copy = which;
    int number = 100 + (int)(copy - copies);
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    char wanted[32];
    uintptr_t wrong = copy->generate(number, &key) != ACME_ERR_INVALID_ARGUMENT;

    pthread_barrier_wait(&barrier);
    sprintf(wanted, "type is %d,", number);
    wrong |= !strstr(copy->message(copy->last_error()), wanted);
    wrong |= copy->generate(ACME_KEY_P256, &key) != ACME_OK || !copy->pem(key);
    pthread_barrier_wait(&barrier);
    options.directory_url = "https://ca.example/dir";
    options.account_key = key;
    wrong |= copy->client_new(&options, &client) != ACME_OK;
    copy->client_free(client);
    copy->key_free(key);
    return (void *)wrong;
}

static void f20_copies_of_the_library_know_nothing_of_each_other(const char *path)
{
    struct copy own = { acme_version, acme_key_generate, acme_key_pem, acme_key_free,
                        acme_last_error, acme_error_message, acme_client_new, acme_client_free };
    void *beside = dlopen(path, RTLD_NOW | RTLD_LOCAL), *apart = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    pthread_t threads[3];
    void *wrong;
    int i, j;

    CHECK(beside && apart);
    if (!beside || !apart) {
        fprintf(stderr, "    %s\n", dlerror());
        return;
    }
    copies[0] = own;
    copies[1] = loaded(beside);
    copies[2] = loaded(apart);
    for (i = 0; i < 3; i++) {
        CHECK(strcmp(copies[i].version(), acme_version()) == 0);
        for (j = 0; j < i; j++)
            CHECK(copies[i].generate != copies[j].generate &&
                  copies[i].version() != copies[j].version());
    }
    pthread_barrier_init(&barrier, NULL, 3);
    for (i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, use, &copies[i]);
    for (i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], &wrong) == 0 && !wrong);
    CHECK(!acme_last_error()); /* this thread has no error */
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    f20_copies_of_the_library_know_nothing_of_each_other(argv[1]);
    return report("two_copies");
}
