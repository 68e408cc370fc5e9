#!/usr/bin/env python3
"""README.md does what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from case import EXAMPLES, OPENSSL_HEADER, PUT_C, Case, function_length, marked, web_server
from pages import DIRECTORY, ROOT, WEBROOT, changed, main, run, shows

C_MAIN = """
#include <sys/stat.h>

int publish(const acme_challenge_t *challenge, void *user)
{
    return put(challenge, user);
}

int unpublish(const acme_challenge_t *challenge, void *user)
{
    char path[1024];

    (void)user;
    snprintf(path, sizeof path, "%s%s", root, challenge->http_path);
    return remove(path);
}

static void store(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        exit(2);
}

int main(int argc, char **argv)
{
    acme_key_t *account_key = NULL;
    acme_cert_t *cert;

    umask(077);
    root = argv[1];
    if (argc != 4 || acme_key_generate(ACME_KEY_P256, &account_key) != ACME_OK)
        return 2;
    if (!(cert = obtain(account_key)))
        return 1;
    store(argv[2], acme_cert_chain_pem(cert));
    store(argv[3], acme_key_pem(acme_cert_key(cert)));
    acme_cert_free(cert);
    acme_key_free(account_key);
    return 0;
}
"""
RUST_MAIN = """
fn main() {
    let key = Key::generate(acme_micro::KeyType::P256).unwrap();
    let issued = obtain(&std::env::args().nth(1).unwrap(), key).unwrap().unwrap();
    print!("{}", issued.chain.pem());
}
"""


class Readme(Case):
    @shows("README sh try")
    def test_try(self, text):
        commands = re.findall(r"^make (\w+) ", text, re.M)
        self.assertEqual(commands, ["demo", "test"])
        listed = run("make", "help", cwd=ROOT)
        for target in commands:
            self.assertIn(f"make {target} ", listed)

    @shows("README sh command")
    def test_command(self, text):
        names = {WEBROOT: str(self.webroot), "example.org": "sh.readme.test"}
        with web_server(self.webroot):
            self.shell(changed(text, **names))
        (chain,) = (self.folder / "acme").glob("*/sh.readme.test.chain.pem")
        (key,) = (self.folder / "acme").glob("*/sh.readme.test.key.pem")
        self.is_valid(chain, key, "sh.readme.test")

    @shows("README c manage")
    def test_manage(self, text):
        self.assertEqual(text, OPENSSL_HEADER + marked(EXAMPLES / "minimal.c"))
        self.assertEqual(function_length(text), 25)
        self.serves_https("minimal.c", "manage.readme.test")

    @shows("README c obtain")
    def test_c(self, text):
        names = {"example.org": "c.readme.test"}
        program = self.program_c(f"{changed(text, **names)}{PUT_C}{C_MAIN}")
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        with web_server(self.webroot):
            run(program, self.webroot, chain, key)
        self.is_valid(chain, key, "c.readme.test", "www.c.readme.test")
        self.is_clean()

    @shows("README python obtain")
    def test_python(self, text):
        names = {WEBROOT: str(self.webroot), "example.org": "py.readme.test"}
        folder = {"/var/lib/acme": str(self.folder / "acme")}
        with web_server(self.webroot):
            out = self.python(changed(text, **names, **folder))
        chain, days = re.fullmatch(r"(.*) is good for (\d+) days\n", out).groups()
        key = chain.replace(".chain.", ".key.")
        self.is_valid(Path(chain), Path(key), "py.readme.test", "www.py.readme.test")
        self.is_clean()

    @shows("README rust obtain")
    def test_rust(self, text):
        names = {WEBROOT: str(self.webroot), "example.org": "rust.readme.test"}
        program = self.program_rust(changed(text, **names) + RUST_MAIN)
        with web_server(self.webroot):
            chain = self.folder / "chain.pem"
            chain.write_text(run(program, DIRECTORY))
        run(
            "openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-untrusted", chain,
            "-verify_hostname", "www.rust.readme.test", chain,
        )  # fmt: skip
        self.is_clean()


if __name__ == "__main__":
    main("README")
