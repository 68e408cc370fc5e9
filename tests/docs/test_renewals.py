#!/usr/bin/env python3
"""docs/guides/renewals.md: certificates are renewed when it is time, and not before."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time

from case import PUT_C, Case, web_server
from pages import BLOCKS, DIRECTORY, WEBROOT, changed, is_in_example, main, run, shows

# Ends keep_fresh() after one name has a certificate and the other one has failed; later, when the certificate was
# read from the store.
MANAGER_MAIN_C = """
#include <pthread.h>

static acme_manager_t *manager;
static int served, failed_once;

static void count(const acme_event_t *event, void *user)
{
    on_event(event, user);
    served |= event->cert != NULL;
    failed_once |= event->type == ACME_EVENT_FAILED;
    if (event->type == ACME_EVENT_LOADED || (served && failed_once))
        acme_manager_stop(manager);
}

static void publish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    size_t i;
    int wrong = 0;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        wrong |= strncmp(challenge->identifier, "other", 5) == 0 || put(challenge, user);
    acme_op_published(op, wrong ? "no web server for this name" : NULL);
}

static void add(const char *name)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;

    order.names = &name;
    order.name_count = 1;
    if (acme_manager_add(manager, &order) != ACME_OK)
        exit(3);
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_manager_options_t with = ACME_MANAGER_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_store_t *store = NULL;
    pthread_t thread;

    if (argc != 4 || acme_store_directory(argv[2], &store) != ACME_OK)
        return 2;
    root = argv[1];
    options.directory_url = argv[3];
    options.store = store;
    options.terms_agreed = 1;
    if (acme_client_new(&options, &client) != ACME_OK)
        return 2;
    with.client = client;
    with.event = count;
    with.user = stdout;
    with.publish = publish;
    SERVE
    if (acme_manager_new(&with, &manager) != ACME_OK)
        return 2;
    add("manager.renewals.test");
    add("other.renewals.test");
    pthread_create(&thread, NULL, keep_fresh, manager);
    pthread_join(thread, NULL);
    acme_manager_free(manager);
    acme_client_free(client);
    acme_store_free(store);
    return 0;
}
"""

# A manager whose first CA does not answer obtains a certificate on demand from the other one.
CAS_MAIN_C = """
static acme_manager_t *manager;

static void told(const acme_event_t *event, void *user)
{
    (void)user;
    if (event->name[0])
        printf("%d %s %s\\n", event->type, event->name, event->ca);
    if (event->cert)
        acme_manager_stop(manager);
}

static void publish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    size_t i;
    int wrong = 0;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        wrong |= put(challenge, user);
    acme_op_published(op, wrong ? "no web server" : NULL);
}

static acme_client_t *client_at(const char *directory_url)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_store_t *store = NULL;

    options.directory_url = directory_url;
    options.terms_agreed = 1;
    if (acme_store_memory(&store) != ACME_OK)
        exit(2);
    options.store = store;
    if (acme_client_new(&options, &client) != ACME_OK)
        exit(2);
    acme_store_free(store);
    return client;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    root = argv[1];
    manager = with_two_cas(client_at("https://127.0.0.1:1/directory"), client_at(argv[2]));
    if (serve_customers(manager) != ACME_OK || acme_manager_cert(manager, "stranger.renewals.test") ||
        acme_manager_cert(manager, "shop.renewals.test"))
        return 3;
    if (acme_manager_run(manager) != ACME_OK)
        return 4;
    acme_manager_free(manager);
    return 0;
}
"""

NGINX = """
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {site}/chain.pem;
        ssl_certificate_key {site}/key.pem;
    }}
    server {{
        listen 127.0.0.1:{other_port} ssl;
        ssl_certificate {both};
        ssl_certificate_key {both};
    }}
}}
"""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Renewals(Case):
    @shows("renewals sh timer")
    def test_command(self, text):
        names = {
            "example.org": "sh.renewals.test", WEBROOT: str(self.webroot),
            "systemctl reload nginx": "echo reloaded >>reloads",
        }  # fmt: skip
        with web_server(self.webroot):
            self.shell(changed(text, **names))
        self.assertEqual((self.folder / "reloads").read_text(), "reloaded\n", "renewed without need")

    @shows("renewals sh daemon")
    def test_daemon(self, text):
        """The daemon of the page notices the certificate, and ends as the page says."""
        names = {"example.org": "daemon.renewals.test", WEBROOT: str(self.webroot)}
        text = changed(text, **names, **{"daemon &": "daemon >out &"})
        end = "until grep 'daemon.renewals.test: in use' out; do sleep 0.1; done; kill $!; wait $!"
        with web_server(self.webroot):
            out = self.shell(f"{text}\n{end}\n")
        self.assertIn("daemon.renewals.test: in use, valid until 20", out)

    @shows("renewals python daily")
    def test_daily(self, text):
        text = changed(
            text,
            **{
                "example.org": "daily.renewals.test", WEBROOT: str(self.webroot),
                "/var/lib/acme": str(self.folder / "acme"),
                '["systemctl", "reload", "nginx"]': '["echo", "reloaded"]',
            },
        )  # fmt: skip
        with web_server(self.webroot):
            self.assertEqual(self.python(text), "reloaded\n")
            self.assertEqual(self.python(text), "", "renewed without need")
        refused = text.replace("daily.renewals.test", "daily.renewals.invalid_name")
        with self.assertRaisesRegex(AssertionError, "invalid_name"):
            self.python(refused)

    @shows("renewals python server")
    def test_server(self, text):
        is_in_example(text, "https_server.py")  # bindings/python/tests/test_https_server.py runs it

    @shows("renewals python forever")
    def test_forever(self, text):
        """One success and one failure; then the program would sleep."""
        told = f"""
import sys
{text}

class Slept(BaseException): pass

def sleep(seconds):
    print("sleeps", int(seconds))
    raise Slept

with acme.Store(sys.argv[1]) as store, store.client({DIRECTORY!r}, terms_agreed=True) as ca:
    solver = acme.Webroot(sys.argv[2])
    try:
        keep_fresh(store, ca, ["forever.renewals.test"], solver, lambda *files: print(*files))
    except Slept:
        pass
    try:
        keep_fresh(store, ca, ["other.renewals.test"], acme.Webroot("/nowhere"), print)
    except Slept:
        pass
"""
        told = changed(told, **{"time.sleep(": "sleep("})
        with web_server(self.webroot):
            out = self.python(told, self.folder / "store", self.webroot).splitlines()
        self.assertEqual(out[0], f"{self.folder}/store/forever.renewals.test.chain.pem "
                                 f"{self.folder}/store/forever.renewals.test.key.pem")  # fmt: skip
        self.assertGreater(int(out[1].split()[1]), 60)  # the time of the next check
        self.assertIn("/nowhere", out[2])
        self.assertIn(int(out[3].split()[1]), range(55, 91))  # a minute after the first failure

    @shows("renewals c events", "renewals c thread")
    def test_manager(self, events, thread):
        """Two programs on one folder, one after the other: the second one finds the certificate of the first."""
        program = self.program_c(
            f"#define _GNU_SOURCE\n{events}{thread}{PUT_C}{MANAGER_MAIN_C.replace('SERVE', '')}", "-pthread"
        )
        with web_server(self.webroot):
            first, second = (
                sorted(run(program, self.webroot, self.folder / "acme", DIRECTORY).splitlines())
                for _ in range(2)
            )
        self.assertRegex(first[0], r"^manager.renewals.test: \d+ days left$")
        self.assertRegex(first[1], r"^other.renewals.test: .*no web server for this name")
        self.assertEqual(second, first[:1])
        chain, key = (self.folder / f"acme/manager.renewals.test.{part}.pem" for part in ("chain", "key"))
        self.is_valid(chain, key, "manager.renewals.test")

    @shows("renewals c cas", "renewals c demand")
    def test_two_cas_and_a_certificate_on_demand(self, cas, demand):
        cas = changed(cas, **{
            "options.client = first;": "options.client = first;\n    options.publish = publish;\n    options.event = told;",
        })  # fmt: skip
        demand = changed(demand, **{"shop.example.org": "shop.renewals.test"})
        begin, end = CAS_MAIN_C.split("static acme_client_t *client_at")
        text = f"#include <stdio.h>\n#include \"acme_micro.h\"\n{PUT_C}{begin}{cas}{demand}static acme_client_t *client_at{end}"
        program = self.program_c(text)
        with web_server(self.webroot):
            told = run(program, self.webroot, DIRECTORY).splitlines()
        self.assertEqual(told, [
            "7 shop.renewals.test https://127.0.0.1:1/directory", f"2 shop.renewals.test {DIRECTORY}",
        ])  # fmt: skip

    @shows("renewals c files")
    def test_nginx(self, text):
        """nginx starts with the first certificate, and serves the second one after a reload, in both ways."""
        port, other_port = free_port(), free_port()
        site, both = self.folder / "site", self.folder / "both.pem"
        (self.folder / "nginx.conf").write_text(NGINX.format(
            folder=self.folder, port=port, other_port=other_port, site=site, both=both,
        ))  # fmt: skip
        start = f"/usr/sbin/nginx -c {self.folder}/nginx.conf"
        self.tool("nginx", f'#!/bin/sh\n[ -e {self.folder}/pid ] && exec {start} "$@" || exec {start}\n')
        self.addCleanup(lambda: subprocess.run([self.folder / "bin/nginx", "-s", "stop"], check=True))
        text = changed(text, **{"= folder;": f'= folder;\n    files.combined = "{both}";'})
        serve = "with.serve = give_to_nginx; with.serve_user = argv[4];"
        main = changed(MANAGER_MAIN_C, **{"SERVE": serve, "argc != 4": "argc != 5"})
        events, thread = BLOCKS["renewals c events"], BLOCKS["renewals c thread"]
        program = self.program_c(f"#define _GNU_SOURCE\n{events}{thread}{text}{PUT_C}{main}", "-pthread")
        served = set()
        for run_number in range(2):
            state = self.folder / f"acme{run_number}"  # an empty one: a new certificate
            with web_server(self.webroot):
                run(program, self.webroot, state, DIRECTORY, site, env={**os.environ, **self.tools})
            leaf = (site / "chain.pem").read_text().partition("-----END CERTIFICATE-----")[0]
            for one in port, other_port:
                self.is_served(leaf, one)
            served.add(leaf)
        self.assertEqual(len(served), 2)

    def is_served(self, leaf, port):
        """Waits until a server has this certificate: nginx reloads after `nginx -s reload` has ended."""
        until = time.monotonic() + 60
        while True:
            try:
                if leaf in ssl.get_server_certificate(("127.0.0.1", port)):
                    return
            except OSError:
                pass
            self.assertLess(time.monotonic(), until, "the new certificate is not served")
            time.sleep(0.05)

    @shows("renewals python files")
    def test_haproxy(self, text):
        both = self.folder / "both.pem"
        text = changed(text, **{
            "/etc/haproxy/example.org.pem": str(both), '["systemctl", "reload", "haproxy"]': '["echo", "reloaded"]',
        })  # fmt: skip
        told = f"""
import sys
import acme_micro as acme
{text}

def tell(event):
    give_to_haproxy(event)
    if event.certificate:
        manager.stop()

store = acme.MemoryStore()
with store.client({DIRECTORY!r}, terms_agreed=True) as ca:
    with acme.Manager(ca, acme.Webroot(sys.argv[1]), on_event=tell) as manager:
        manager.add(["haproxy.renewals.test"])
        manager.run()
"""
        with web_server(self.webroot):
            self.assertEqual(self.python(told, self.webroot), "reloaded\n")
        self.is_valid(both, both, "haproxy.renewals.test")

    @shows("renewals c round", "renewals c stored")
    def test_c(self, text, stored):
        main = """
#include <time.h>

#define CHECK(what) \\
    do { \\
        if (!(what)) { \\
            fprintf(stderr, "line %d: %s\\n", __LINE__, #what); \\
            exit(1); \\
        } \\
    } while (0)

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *account_key = NULL, *key = NULL;
    acme_cert_t *cert = NULL, *read;
    size_t failures = 3, renewals = 0;
    acme_time_t first, second;
    char serial[128];

    root = argv[1];
    CHECK(argc == 2 && acme_key_generate(ACME_KEY_P256, &account_key) == ACME_OK);
    CHECK(acme_key_generate(ACME_KEY_P256, &key) == ACME_OK);
    options.directory_url = ACME_LETSENCRYPT_STAGING;
    options.account_key = account_key;
    options.terms_agreed = 1;
    run.publish = put;
    CHECK(acme_client_new(&options, &client) == ACME_OK);
    first = renew(client, key, &run, &cert, &failures, &renewals);
    CHECK(cert != NULL && failures == 0 && renewals == 1);
    CHECK(first <= (acme_time_t)(time(NULL) + 95) * 1000); /* the failures are forgotten */
    snprintf(serial, sizeof serial, "%s", acme_cert_serial(cert));
    read = stored_certificate(acme_cert_chain_pem(cert), strlen(acme_cert_chain_pem(cert)), key);
    CHECK(read != NULL);
    acme_cert_free(read);
    CHECK(!stored_certificate(acme_cert_chain_pem(cert), strlen(acme_cert_chain_pem(cert)),
                              account_key));
    CHECK(!stored_certificate("text", 4, key));
    second = renew(client, key, &run, &cert, &failures, &renewals);
    CHECK(!failures && !renewals && strcmp(serial, acme_cert_serial(cert)) == 0 && second > first);
    root = "/nowhere";
    acme_cert_free(cert);
    cert = NULL;
    /* An account of its own: the CA may not use the authorizations again. */
    acme_client_free(client);
    acme_key_free(account_key);
    CHECK(acme_key_generate(ACME_KEY_P256, &account_key) == ACME_OK);
    options.account_key = account_key;
    CHECK(acme_client_new(&options, &client) == ACME_OK);
    (void)renew(client, key, &run, &cert, &failures, &renewals);
    CHECK(failures == 1 && renewals == 0);
    acme_client_free(client);
    acme_key_free(key);
    acme_key_free(account_key);
    return 0;
}
"""
        names = {"example.org": "c.renewals.test"}
        text += stored.replace('#include "acme_micro.h"\n', "") + PUT_C + main
        program = self.program_c(changed(text, **names))
        with web_server(self.webroot):
            run(program, self.webroot)

    @shows("README rust obtain", "renewals rust round")
    def test_rust(self, readme, text):
        # The host is the one in README.md.
        host = readme[readme.index("struct Web") : readme.index("fn obtain")]
        host = """
use acme_micro::HttpClient;
use acme_micro::engine::{Challenge, ClientOptions, Reply, Request};
use std::{fs, sync::Arc};
""" + host
        main = """
fn main() {
    let generate = || Key::generate(acme_micro::KeyType::P256).unwrap();
    let mut options = ClientOptions::new("DIRECTORY", generate());
    options.terms_agreed = true;
    let client = Client::new(options).unwrap();
    let mut host = Web(HttpClient::new(&Default::default()).unwrap());
    let key = generate();
    let mut wanted = OrderOptions::new(["example.org", "www.example.org"]);
    wanted.key = Some(key.clone());
    let order = client.obtain(wanted).unwrap();
    run(&order, &mut host).unwrap();
    let mut chain = order.take().unwrap().chain;
    let (mut tries, before) = (Tries { failures: 3, renewals: 1 }, chain.fingerprint());
    let next = renew(&client, &key, &mut host, &mut chain, &mut tries);
    assert!((tries.failures, tries.renewals) == (0, 0) && chain.fingerprint() == before && next > Time::now());
}
""".replace("DIRECTORY", DIRECTORY)
        names = {"example.org": "rust.renewals.test", WEBROOT: str(self.webroot)}
        program = self.program_rust(changed(host + text + main, **names))
        with web_server(self.webroot):
            run(program)


if __name__ == "__main__":
    main("renewals")
