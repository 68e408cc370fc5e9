/* Faults around a driver: the CA stops and restarts, connections break, signals interrupt calls, the
 * process forks workers, and the host cancels at every moment. */
#include "driver.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

/* --- a relay to Pebble that can break connections ----------------------------------------------- */

enum { RELAYED = 64 };

static struct {
    int listener, port, pebble_port;
    int pairs[RELAYED][2];
    int left[RELAYED];   /* bytes from the CA until the connection breaks */
    int breaks_after;    /* 0: never */
    int broken;          /* number of broken connections */
    int down, stop;      /* set by the test */
    pthread_mutex_t lock;
    pthread_t thread;
} relay = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void relay_listen(void)
{
    struct sockaddr_in address = loopback(relay.port);
    socklen_t size = sizeof address;
    int yes = 1;

    relay.listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(relay.listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(relay.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(relay.listener, 100) != 0) {
        perror("relay");
        exit(1);
    }
    getsockname(relay.listener, (struct sockaddr *)&address, &size);
    relay.port = ntohs(address.sin_port);
}

static void relay_break(int i)
{
    struct linger reset = { 1, 0 };

    setsockopt(relay.pairs[i][0], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(relay.pairs[i][0]);
    close(relay.pairs[i][1]);
    relay.pairs[i][0] = -1;
}

static void relay_accept(void)
{
    struct sockaddr_in pebble = loopback(relay.pebble_port);
    int i = 0, client = accept(relay.listener, NULL, NULL);

    while (i < RELAYED && relay.pairs[i][0] >= 0)
        i++;
    if (i == RELAYED) {
        close(client);
        return;
    }
    relay.pairs[i][0] = client;
    relay.pairs[i][1] = socket(AF_INET, SOCK_STREAM, 0);
    relay.left[i] = relay.breaks_after;
    if (connect(relay.pairs[i][1], (struct sockaddr *)&pebble, sizeof pebble) != 0)
        relay_break(i);
}

/* Forwards bytes from one side. Ends the connection if that side has ended, or if it is time to break it. */
static void relay_pass(int i, int from)
{
    char bytes[4096];
    ssize_t size = read(relay.pairs[i][from], bytes, sizeof bytes);

    if (size <= 0) {
        relay_break(i);
        return;
    }
    if (from == 1 && relay.breaks_after && (relay.left[i] -= (int)size) <= 0) {
        relay.broken++;
        relay_break(i);
    } else if (send(relay.pairs[i][!from], bytes, (size_t)size, MSG_NOSIGNAL) < 0) {
        relay_break(i);
    }
}

static void *relay_run(void *unused)
{
    int i, side;

    (void)unused;
    pthread_mutex_lock(&relay.lock);
    while (!relay.stop) {
        struct pollfd fds[2 * RELAYED + 1];

        if (relay.down && relay.listener >= 0) {
            close(relay.listener);
            relay.listener = -1;
            for (i = 0; i < RELAYED; i++)
                if (relay.pairs[i][0] >= 0)
                    relay_break(i);
        } else if (!relay.down && relay.listener < 0) {
            relay_listen();
        }
        for (i = 0; i < 2 * RELAYED; i++) {
            fds[i].fd = relay.pairs[i / 2][0] < 0 ? -1 : relay.pairs[i / 2][i % 2];
            fds[i].events = POLLIN;
        }
        fds[i].fd = relay.listener;
        fds[i].events = POLLIN;
        pthread_mutex_unlock(&relay.lock);
        poll(fds, 2 * RELAYED + 1, 10);
        pthread_mutex_lock(&relay.lock);
        for (i = 0; i < RELAYED; i++)
            for (side = 0; side < 2; side++)
                if (relay.pairs[i][0] >= 0 && fds[2 * i + side].fd == relay.pairs[i][side] &&
                    fds[2 * i + side].revents)
                    relay_pass(i, side);
        if (relay.listener >= 0 && fds[2 * RELAYED].revents)
            relay_accept();
    }
    pthread_mutex_unlock(&relay.lock);
    return NULL;
}

/* Starts the relay. Returns the URL of the directory through the relay. */
static const char *relay_start(void)
{
    static char url[200];
    const char *directory = env("ACME_DIRECTORY"), *port = strrchr(directory, ':');
    int i;

    for (i = 0; i < RELAYED; i++)
        relay.pairs[i][0] = -1;
    relay.pebble_port = atoi(port + 1);
    relay_listen();
    snprintf(url, sizeof url, "https://127.0.0.1:%d%s", relay.port, strchr(port, '/'));
    pthread_create(&relay.thread, NULL, relay_run, NULL);
    return url;
}

static int relay_set(int *what, int value)
{
    int before;

    pthread_mutex_lock(&relay.lock);
    before = *what;
    *what = value;
    pthread_mutex_unlock(&relay.lock);
    return before;
}

/* --- the CA goes away ---------------------------------------------------------------------------- */

enum { ORDERS = 8 };

/* Obtains all certificates at the same time, and checks that all succeed. The library sends a request whose
 * response is lost at most four times, newOrder twice. If the last response is lost, too, the operation
 * fails, and the host starts another. */
static void obtain_all(acme_driver_t *driver, acme_client_t *client, const char *what,
                       void (*on_publish)(struct job *))
{
    struct job jobs[ORDERS];
    char names[ORDERS][40];
    int i, round;

    memset(jobs, 0, sizeof jobs);
    for (round = 0; round < 10; round++) {
        for (i = 0; i < ORDERS; i++) {
            if (jobs[i].cert)
                continue;
            sprintf(names[i], "n%d.%s.faults.test", i, what);
            jobs[i] = order(client, names[i]);
            jobs[i].on_publish = on_publish;
            add(driver, &jobs[i]);
        }
        run(driver);
        for (i = 0; i < ORDERS; i++)
            if (!jobs[i].cert) {
                CHECK(jobs[i].status == ACME_ERR_TRANSPORT);
                fprintf(stderr, "%s: %s\n", names[i], jobs[i].message);
            }
    }
    for (i = 0; i < ORDERS; i++)
        judge(&jobs[i], names[i]);
}

static void *up_again(void *unused)
{
    struct timespec pause = { 0, 200 * 1000 * 1000 };

    (void)unused;
    nanosleep(&pause, NULL);
    relay_set(&relay.down, 0);
    return NULL;
}

/* Stops the relay when the challenge is published. */
static void go_down(struct job *job)
{
    static int gone;
    pthread_t later;

    CHECK(put_in_place(job->op) == 0);
    OK(acme_op_published(job->op, NULL));
    if (gone++)
        return;
    relay_set(&relay.down, 1);
    pthread_create(&later, NULL, up_again, NULL);
    pthread_detach(later);
}

static void the_ca_restarts(acme_driver_t *driver, acme_client_t *client)
{
    obtain_all(driver, client, "restart", go_down);
}

/* Connections break after a few kilobytes, which are enough for a TLS handshake and a response or two. */
static void connections_break(acme_driver_t *driver, acme_client_t *client)
{
    relay_set(&relay.breaks_after, 6000);
    obtain_all(driver, client, "reset", NULL);
    CHECK(relay_set(&relay.broken, 0) > ORDERS);
    relay_set(&relay.breaks_after, 0);
}

/* --- signals ---------------------------------------------------------------------------------------- */

static volatile sig_atomic_t alarms;

/* Blocks or unblocks SIGALRM. Only this thread gets it, because the test's own servers expect no signals. */
static void alarms_here(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void a_loop_that_signals_interrupt(acme_driver_t *driver, acme_client_t *client)
{
    struct sigaction action = { .sa_handler = on_alarm }, before; /* without SA_RESTART */
    struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct pollfd fd = { acme_driver_fd(driver), POLLIN, 0 };
    struct job job = order(client, "signals.faults.test");
    int interrupted = 0;

    sigaction(SIGALRM, &action, &before);
    alarms_here(SIG_UNBLOCK);
    add(driver, &job);
    setitimer(ITIMER_REAL, &often, NULL);
    while (acme_driver_count(driver) > 0) {
        interrupted += poll(&fd, 1, -1) < 0;
        OK(acme_driver_dispatch(driver)); /* also after EINTR */
    }
    setitimer(ITIMER_REAL, &never, NULL);
    alarms_here(SIG_BLOCK);
    sigaction(SIGALRM, &before, NULL);
    CHECK(alarms > 0 && interrupted > 0);
    judge(&job, "signals.faults.test");
}

/* --- cancellation ------------------------------------------------------------------------------------ */

/* Cancels an operation before the first dispatch, after one dispatch, after two, and so on, until it ends
 * before. */
static void canceled_at_every_moment(acme_driver_t *driver, acme_client_t *client)
{
    int moment, i, canceled = 0, was_published = 0;
    struct job job = { 0 };

    for (moment = 0; !job.finished || job.status != ACME_OK; moment++) {
        char name[40];

        sprintf(name, "m%d.faults.test", moment);
        job = order(client, name);
        add(driver, &job);
        for (i = 0; i < moment && !job.finished; i++)
            dispatch(driver);
        if (!job.finished) {
            acme_op_cancel(job.op);
            run(driver);
            CHECK(job.status == ACME_ERR_CANCELED && !job.cert);
            canceled++;
            was_published += job.published;
        }
        CHECK(job.finished == 1 && job.published == job.unpublished && http_published() == 0);
        CHECK(acme_driver_count(driver) == 0);
        if (moment == 500)
            break;
    }
    CHECK(job.status == ACME_OK);
    acme_cert_free(job.cert);
    CHECK(canceled > 5 && was_published > 0 && was_published < canceled);
}

/* --- workers ------------------------------------------------------------------------------------------ */

/* Publishes with dns-01, for workers: the parent has the port of http-01. */
static void publish_by_dns(acme_op_t *op, void *user)
{
    struct job *job = user;

    job->published++;
    CHECK(dns_publish(acme_op_challenge(op, 0), NULL) == 0);
    OK(acme_op_published(op, NULL));
}

static void unpublish_by_dns(acme_op_t *op, void *user)
{
    struct job *job = user;

    job->unpublished++;
    CHECK(dns_unpublish(acme_op_challenge(op, 0), NULL) == 0);
}

/* Starts a process that obtains a certificate with its own driver. */
static pid_t worker(const char *name)
{
    pid_t child = fork();

    if (child == 0) {
        acme_key_t *key = new_key();
        acme_client_t *client = pebble_client(key);
        acme_driver_t *driver = driver_with(0, 0);
        const char *names[] = { name }, *types[] = { "dns-01" };
        acme_order_options_t options = order_for(names, 1);
        struct job job = { 0 };
        int failed_before = failed;

        options.challenge_types = types;
        options.challenge_type_count = 1;
        OK(acme_begin_order(client, &options, &job.op));
        host_thread = pthread_self();
        callbacks.publish = publish_by_dns;
        callbacks.unpublish = unpublish_by_dns;
        callbacks.done = done;
        add(driver, &job);
        run(driver);
        judge(&job, name);
        acme_driver_free(driver);
        acme_client_free(client);
        acme_key_free(key);
        /* End by exec(), because valgrind would otherwise complain about the parent's threads. */
        execl("/bin/sh", "sh", "-c", failed == failed_before ? "exit 0" : "exit 1", (char *)NULL);
        _exit(1);
    }
    return child;
}

static void ends_well(pid_t child)
{
    int status;

    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The parent has a driver with threads, and keeps using it after fork(). */
static void y10_a_worker_beside(acme_driver_t *driver, acme_client_t *client)
{
#ifdef __SANITIZE_THREAD__
    pid_t late = -1; /* ThreadSanitizer supports no threads in such a child */
#else
    pid_t late = worker("late.faults.test");
#endif

    obtain_all(driver, client, "parent", NULL);
    if (late >= 0)
        ends_well(late);
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client = NULL;
    acme_driver_t *driver;

    choose_tests(argc, argv);
    alarms_here(SIG_BLOCK);
    ends_well(worker("early.faults.test"));

    host_start();
    options.directory_url = relay_start();
    OK(acme_client_new(&options, &client));
    driver = driver_with(4, 4);
    TEST(the_ca_restarts(driver, client));
    TEST(connections_break(driver, client));
    TEST(a_loop_that_signals_interrupt(driver, client));
    TEST(canceled_at_every_moment(driver, client));
    TEST(y10_a_worker_beside(driver, client));
    acme_driver_free(driver);
    acme_client_free(client);
    relay_set(&relay.stop, 1);
    pthread_join(relay.thread, NULL);
    http_stop();
    acme_key_free(key);
    return report("test_driver_faults");
}
