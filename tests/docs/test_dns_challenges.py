#!/usr/bin/env python3
"""docs/guides/dns-challenges.md: wildcards, delegation, records that stay."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

from case import DnsCase
from pages import changed, main, run, shows


def asked(url: str, **body: str) -> None:
    """Sends a command to the tests' DNS server."""
    request = urllib.request.Request(
        f"{os.environ['PEBBLE_CHALLTESTSRV']}/{url}", json.dumps(body).encode()
    )
    urllib.request.urlopen(request).close()


class DnsChallenges(DnsCase):
    @shows("dns-challenges sh hook")
    def test_hook(self, text):
        self.shell(changed(text, **{"example.org": "sh.dns.test"}))
        self.assertEqual(self.taken_down(), ["_acme-challenge.sh.dns.test"] * 2)

    @shows("dns-challenges python solver")
    def test_solver(self, text):
        self.python(changed(text, **{"example.org": "solver.dns.test"}), **self.tools)
        self.assertEqual(self.taken_down(), ["_acme-challenge.solver.dns.test"] * 2)
        stored = self.folder / "certificates/solver.dns.test"
        self.is_valid(
            Path(f"{stored}.chain.pem"), Path(f"{stored}.key.pem"),
            "solver.dns.test", "any.solver.dns.test",
        )  # fmt: skip

    @shows("dns-challenges python solver")
    def test_dns_account_01_by_the_same_solver(self, text):
        names = {'"dns-01"': '"dns-account-01"', "example.org": "account.dns.test"}
        self.python(changed(text, **names), **self.tools)
        one, other = self.taken_down()
        self.assertEqual(one, other)
        self.assertRegex(one, r"^_[a-z2-7]{16}\._acme-challenge\.account\.dns\.test$")

    @shows("dns-challenges python solver", "dns-challenges python delegation")
    def test_delegation(self, solver, delegation):
        asked(
            "set-cname", host="_acme-challenge.delegated.dns.test.",
            target="delegated.validation.example.net.",
        )  # fmt: skip
        solver, order = solver.split("\n\n\nwith ")
        names = {"example-org.": "delegated.", "example.org": "delegated.dns.test"}
        order = order.replace(', "*.example.org"', "").replace("Dns()", "DelegatedDns()")
        self.python(changed(f"{solver}\n{delegation}\nwith {order}", **names), **self.tools)
        self.assertEqual(self.taken_down(), ["delegated.validation.example.net"])

    @shows("dns-challenges python persist")
    def test_persist(self, text):
        told = f"""
import subprocess
import acme_micro as acme

{text}

key = acme.PrivateKey.generate()
with acme.Client(acme.LETSENCRYPT_STAGING, key, terms_agreed=True) as ca:
    for names in ["persist.dns.test", "*.persist.dns.test"], ["persist.dns.test"]:
        cert = ca.obtain(names, Persistent())
        assert set(cert.names) == set(names), cert
"""
        # Stands in for the person who follows the printed instruction.
        person = "subprocess.run(['dns-record', 'add', c.dns_name, c.dns_value], check=True); print("
        self.python(changed(told, **{"print(": person}), **self.tools)
        lines = self.log.read_text().splitlines()
        for line in lines:
            self.assertTrue(line.startswith("add _validation-persist.persist.dns.test "), line)
        self.assertTrue(any("; accounturi=https://" in line for line in lines))
        self.assertTrue(any(line.endswith("; policy=wildcard") for line in lines))

    @shows("dns-challenges c publish")
    def test_c(self, text):
        main = """
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int dns_record(const char *verb, const char *name, const char *value)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        execlp("dns-record", "dns-record", verb, name, value, (char *)NULL);
        _exit(127);
    }
    return waitpid(child, &status, 0) == child ? status : -1;
}

int main(void)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    acme_cert_t *cert;

    options.directory_url = ACME_LETSENCRYPT_STAGING;
    options.terms_agreed = 1;
    if (acme_key_generate(ACME_KEY_P256, &key) != ACME_OK)
        return 2;
    options.account_key = key;
    if (acme_client_new(&options, &client) != ACME_OK || !(cert = obtain_wildcard(client)))
        return 1;
    printf("%s %s\\n", acme_cert_name(cert, 0), acme_cert_name(cert, 1));
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    return 0;
}
"""
        text = "#define _POSIX_C_SOURCE 200809L\n" + text + main
        program = self.program_c(changed(text, **{"example.org": "c.dns.test"}))
        self.assertEqual(run(program, env={**os.environ, **self.tools}), "c.dns.test *.c.dns.test\n")
        self.assertEqual(self.taken_down(), ["_acme-challenge.c.dns.test"] * 2)


if __name__ == "__main__":
    main("dns-challenges")
