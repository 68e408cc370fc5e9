#!/usr/bin/env python3
"""The snippets of docs/event-loops.md do what the page says: each is put into a small program that
obtains a certificate from Pebble on that loop. The one for nginx is only compiled, with nginx's headers."""

import functools
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/event-loops.md").read_text()
SNIPPETS = {
    name: text for name, text in re.findall(r"^```\w+ (\w+)\n(.*?)^```$", PAGE, re.M | re.S)
}

HARNESS = """
#include "responder.h"

static struct responder responder;
static const char *obtained;

static void publish(acme_op_t *op, void *user)
{
    (void)user;
    acme_op_published(op, responder_publish(acme_op_challenge(op, 0), &responder) ? "no" : NULL);
}

static void unpublish(acme_op_t *op, void *user)
{
    (void)user;
    responder_unpublish(acme_op_challenge(op, 0), &responder);
}

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    acme_cert_t *cert = acme_op_take_cert(op);

    (void)user;
    if (status == ACME_OK)
        fputs(acme_cert_chain_pem(cert), stdout);
    else
        fprintf(stderr, "%s\\n", acme_error_message(acme_op_error(op)));
    acme_cert_free(cert);
    acme_op_free(op);
}
"""

MAIN = """
int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_driver_t *driver = NULL;
    acme_key_t *key = NULL;

    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.terms_agreed = 1;
    if (argc != 5 || acme_key_generate(ACME_KEY_P256, &key) != ACME_OK)
        return 2;
    options.account_key = key;
    responder.port = (unsigned short)atoi(argv[3]);
    responder.listener = -1;
    if (acme_client_new(&options, &client) != ACME_OK || acme_driver_new(NULL, &driver) != ACME_OK ||
        obtain(driver, client, argv[4]) != 0)
        return 1;
    %s
    acme_driver_free(driver);
    acme_client_free(client);
    acme_key_free(key);
    %s
    return 0;
}
"""

MANAGER_HARNESS = """
#include "acme_micro.h"

static int is_there;

static void event(const acme_event_t *event, void *user)
{
    (void)user;
    is_there |= event->cert != NULL;
    fprintf(event->cert ? stdout : stderr, "%s",
            event->cert ? acme_cert_chain_pem(event->cert) : acme_error_message(event->error));
}

static void publish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge = acme_op_challenge(op, 0);
    FILE *file = fopen(challenge->http_path + 1, "w");

    (void)user;
    fputs(challenge->key_authorization, file);
    fclose(file);
    acme_op_published(op, NULL);
}

static void unpublish(acme_op_t *op, void *user)
{
    (void)user;
    remove(acme_op_challenge(op, 0)->http_path + 1);
}
"""

MANAGER_MAIN = """
int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_driver_t *driver = NULL;
    acme_manager_t *manager;
    acme_store_t *store = NULL;
    int epoll_fd = epoll_create1(0);

    if (argc != 4 || acme_store_memory(&store) != ACME_OK || acme_driver_new(NULL, &driver) != ACME_OK)
        return 2;
    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.store = store;
    options.terms_agreed = 1;
    if (acme_client_new(&options, &client) != ACME_OK || !(manager = keep_fresh(driver, client, argv[3])))
        return 1;
    watch(epoll_fd, driver);
    while (!is_there)
        turn(epoll_fd, driver);
    acme_manager_free(manager);
    acme_driver_free(driver);
    acme_client_free(client);
    acme_store_free(store);
    return 0;
}
"""

POLLED_HARNESS = """
#include <poll.h>
#include <stdlib.h>

struct order {
    acme_op_t *op;
    int64_t wait_ms;
} orders[4];

static int manager_wait_ms;

static struct order *order_new(acme_op_t *op)
{
    struct order *order = orders;

    while (order->op)
        order++;
    order->op = op;
    return order;
}

static void request_start(struct order *order, const acme_http_request_t *request)
{
    acme_op_send(order->op, request->id);
}

static void timer_start(struct order *order, int64_t ms) { order->wait_ms = ms; }
static void store_start(struct order *order) { acme_op_access_store(order->op); }
static void load_start(acme_manager_t *manager) { acme_manager_load(manager); }

static void manager_timer_start(acme_manager_t *manager, int ms)
{
    (void)manager;
    manager_wait_ms = ms;
}

static void finished(struct order *order)
{
    acme_op_free(order->op);
    order->op = NULL;
    manager_wait_ms = 0;
}
"""

POLLED_MAIN = """
int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_manager_options_t with = ACME_MANAGER_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_manager_t *manager = NULL;
    acme_store_t *store = NULL;
    const char *names[] = { argv[3] };
    size_t i;

    if (argc != 4 || acme_store_memory(&store) != ACME_OK)
        return 2;
    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.store = store;
    options.terms_agreed = 1;
    order.names = names;
    order.name_count = 1;
    if (acme_client_new(&options, &client) != ACME_OK)
        return 1;
    with.client = client;
    with.event = event;
    if (acme_manager_new(&with, &manager) != ACME_OK || acme_manager_add(manager, &order) != ACME_OK)
        return 1;
    for (poll_manager(manager); !is_there; poll_manager(manager)) {
        int wait_ms = manager_wait_ms;

        for (i = 0; i < 4; i++)
            if (orders[i].op && orders[i].wait_ms < wait_ms)
                wait_ms = (int)orders[i].wait_ms;
        poll(NULL, 0, wait_ms);
        for (i = 0; i < 4; i++)
            if (orders[i].op)
                drive(&orders[i]);
    }
    acme_manager_free(manager);
    acme_client_free(client);
    acme_store_free(store);
    return 0;
}
"""

GOING_ON = "while (acme_driver_count(driver) > 0)"


def run(*command, **more):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    if ended.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, command))}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def pkg_config(*packages):
    return run("pkg-config", "--cflags", "--libs", *packages).split()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Snippets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def obtains(self, pem, name):
        chain = self.folder / "chain.pem"
        chain.write_text(pem)
        run(
            "openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-verify_hostname", name,
            "-untrusted", chain, chain,
        )  # fmt: skip

    def on_loop(self, name, includes, turns, flags=(), language="c", after=""):
        source = self.folder / f"{name}.{language}"
        source.write_text(
            "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n#include <stdlib.h>\n"
            + "".join(f"#include <{header}>\n" for header in includes)
            + HARNESS
            + SNIPPETS["common"]
            + SNIPPETS[name]
            + MAIN % (turns, after)
        )
        for compiler, standard in {
            "c": [("gcc", "c99"), ("clang", "c99")],
            "cpp": [("g++", "c++17"), ("clang++", "c++17")],
        }[language]:
            program = self.folder / compiler
            run(
                compiler, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-Wno-unused",
                "-Wno-missing-field-initializers", *(["-Wno-c99-designator"] if compiler == "clang++" else []),
                "-I", ROOT / "include", "-I", ROOT / "bindings/c-examples", source, "-o", program,
                "-L", ROOT / "target/c/lib", f"-Wl,-rpath,{ROOT}/target/c/lib", "-lacme-micro", "-pthread",
                *flags,
            )  # fmt: skip
            pem = run(
                program, os.environ["ACME_DIRECTORY"], os.environ["ACME_CA_FILE"],
                os.environ["PEBBLE_HTTP_PORT"], f"{name}.snippets.test",
            )  # fmt: skip
            self.obtains(pem, f"{name}.snippets.test")

    def test_libuv(self):
        turns = f"""uv_loop_t loop;
            uv_poll_t handle;
            uv_loop_init(&loop);
            watch(&loop, &handle, driver);
            {GOING_ON} uv_run(&loop, UV_RUN_ONCE);
            unwatch(&handle);
            uv_run(&loop, UV_RUN_DEFAULT);"""
        self.on_loop("libuv", ["uv.h"], turns, pkg_config("libuv"), after="return uv_loop_close(&loop);")

    def test_libevent(self):
        turns = f"""struct event_base *base = event_base_new();
            struct event *event = watch(base, driver);
            {GOING_ON} event_base_loop(base, EVLOOP_ONCE);
            event_free(event);"""
        self.on_loop(
            "libevent", ["event2/event.h"], turns, pkg_config("libevent"), after="event_base_free(base);"
        )

    def test_epoll(self):
        turns = f"""int epoll_fd = epoll_create1(0);
            watch(epoll_fd, driver);
            {GOING_ON} turn(epoll_fd, driver);
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, acme_driver_fd(driver), NULL);"""
        self.on_loop("epoll", ["sys/epoll.h"], turns)

    def test_manager(self):
        """The snippet for epoll is its loop."""
        common = re.sub(r"static int obtain.*?^}$", "", SNIPPETS["common"], flags=re.M | re.S)
        self.manages("manager", common + SNIPPETS["epoll"] + SNIPPETS["manager"] + MANAGER_MAIN)

    def test_polled(self):
        """The operations of the manager go through the snippet for an own HTTP client."""
        self.manages("polled", POLLED_HARNESS + SNIPPETS["own"] + SNIPPETS["polled"] + POLLED_MAIN)

    def manages(self, name, code):
        """A manager in this code obtains a certificate. The challenges are files of a web server."""
        source = self.folder / f"{name}.c"
        source.write_text(
            "#define _GNU_SOURCE\n#include <stdio.h>\n#include <string.h>\n#include <sys/epoll.h>\n"
            + MANAGER_HARNESS
            + code
        )
        handler = functools.partial(Quiet, directory=str(self.folder))
        server = http.server.ThreadingHTTPServer(("", int(os.environ["PEBBLE_HTTP_PORT"])), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        (self.folder / ".well-known/acme-challenge").mkdir(parents=True)
        for compiler in ("gcc", "clang"):
            run(
                compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers",
                "-I", ROOT / "include", source, "-o", self.folder / compiler, "-L", ROOT / "target/c/lib",
                f"-Wl,-rpath,{ROOT}/target/c/lib", "-lacme-micro",
            )  # fmt: skip
            pem = run(
                self.folder / compiler, os.environ["ACME_DIRECTORY"], os.environ["ACME_CA_FILE"],
                f"{compiler}-{name}.snippets.test", cwd=self.folder,
            )  # fmt: skip
            self.obtains(pem, f"{compiler}-{name}.snippets.test")
        self.assertEqual(list((self.folder / ".well-known/acme-challenge").iterdir()), [])

    def test_glib(self):
        turns = f"""guint watched = watch(driver);
            {GOING_ON} g_main_context_iteration(NULL, TRUE);
            g_source_remove(watched);"""
        self.on_loop("glib", ["glib-unix.h"], turns, pkg_config("glib-2.0"))

    def test_asio(self):
        turns = f"""boost::asio::io_context io;
            Descriptor descriptor(io, acme_driver_fd(driver));
            watch(descriptor, driver);
            {GOING_ON} io.run_one();
            descriptor.release();"""
        self.on_loop("asio", ["boost/asio.hpp"], turns, language="cpp")

    def test_nginx(self):
        # Debian's package has nginx's sources; their configure script writes some of the headers.
        nginx = self.folder / "nginx"
        shutil.copytree("/usr/share/nginx/src", nginx)
        run("./configure", "--without-http", cwd=nginx)
        source = self.folder / "nginx.c"
        source.write_text(
            '#include <ngx_config.h>\n#include <ngx_core.h>\n#include <ngx_event.h>\n'
            '#include "acme_micro.h"\n' + SNIPPETS["nginx"]
        )
        includes = [f"-I{nginx}/{part}" for part in ("objs", "src/core", "src/event", "src/os/unix")]
        for compiler in ("gcc", "clang"):
            run(
                compiler, "-Wall", "-Werror", "-Wno-unused-function", "-I", ROOT / "include", *includes,
                "-c", source, "-o", self.folder / "nginx.o",
            )  # fmt: skip

    def test_own(self):
        source = self.folder / "own.c"
        source.write_text(
            """
            #include "acme_micro.h"
            struct order { acme_op_t *op; };
            void request_start(struct order *, const acme_http_request_t *);
            void timer_start(struct order *, int64_t);
            void store_start(struct order *);
            void finished(struct order *);
            void publish(acme_op_t *, void *);
            void unpublish(acme_op_t *, void *);
            """
            + SNIPPETS["own"]
        )
        run(
            "gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-I",
            ROOT / "include", "-c", source, "-o", self.folder / "own.o",
        )  # fmt: skip

    def test_asyncio(self):
        program = self.folder / "certificates.py"
        program.write_text(
            "from __future__ import annotations\nimport asyncio, sys\nimport acme_micro as acme\n"
            + SNIPPETS["asyncio"].replace("example.org", "snippets.test")
            + textwrap.dedent("""
                key = acme.PrivateKey.generate()
                solver = acme.AsyncStandalone(int(sys.argv[2]))
                asyncio.run(certificates(sys.argv[1], key, solver))
            """)
        )
        out = run(
            sys.executable, program, os.environ["ACME_DIRECTORY"], os.environ["PEBBLE_HTTP_PORT"],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "bindings/python/src"),
                "ACME_MICRO_LIBRARY": str(ROOT / "target/c/lib/libacme-micro.so.1"),
                "SSL_CERT_FILE": os.environ["ACME_CA_FILE"],
            },
        )  # fmt: skip
        self.assertEqual(
            out, "('one.snippets.test',) ('two.snippets.test', 'www.two.snippets.test')\n"
        )

    def test_each_snippet_is_tested(self):
        tested = {name[5:] for name in dir(self) if name.startswith("test_")}
        self.assertEqual(set(SNIPPETS) - tested, {"common", "haproxy"})


if __name__ == "__main__":
    unittest.main()
