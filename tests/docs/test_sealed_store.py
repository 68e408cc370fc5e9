#!/usr/bin/env python3
"""docs/guides/sealed-store.md: no key in plain text, and the change of the key."""

from __future__ import annotations

import secrets
import subprocess

from case import PUT_C, Case, web_server
from pages import ROOT, changed, main, run, shows

PAGE = ROOT / "docs/guides/sealed-store.md"


class SealedStore(Case):
    @shows("sealed-store c sealed", "sealed-store c change")
    def test_c(self, sealed, change):
        main = """
int main(int argc, char **argv)
{
    static const uint8_t key[32] = { 1 }, next[32] = { 2 };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_run_options_t with = ACME_RUN_OPTIONS_INIT;
    const char *name = "c.sealed.test";
    acme_store_t *records = NULL;
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL, *again = NULL;

    root = argv[1];
    if (argc != 2 || acme_store_memory(&records) != ACME_OK)
        return 2;
    options.directory_url = ACME_LETSENCRYPT_STAGING;
    options.store = sealed(records, key);
    options.terms_agreed = 1;
    order.names = &name;
    order.name_count = 1;
    with.publish = put;
    if (acme_client_new(&options, &client) != ACME_OK || acme_obtain(client, &order, &with, &cert) != ACME_OK ||
        change_key(records, next, key) != ACME_OK ||
        acme_store_cert(sealed(records, next), options.directory_url, name, &again) != ACME_OK || !again) {
        fprintf(stderr, "%s\\n", acme_error_message(acme_last_error()));
        return 1;
    }
    return 0;
}
"""
        change = change.replace('#include "acme_micro.h"', "#include <stdio.h>")
        program = self.program_c(changed(sealed + change + PUT_C + main))
        with web_server(self.webroot):
            run(program, self.webroot)

    @shows("sealed-store python sealed", "sealed-store python plain")
    def test_python(self, sealed, plain):
        (self.folder / "sealing.key").write_bytes(secrets.token_bytes(32))
        names = {
            "example.org": "py.sealed.test", "/var/www/html": str(self.webroot),
            "/var/lib/acme-sealed": str(self.folder / "state"),
        }  # fmt: skip
        with web_server(self.webroot):
            self.python(changed(sealed, **names) + "print(cert.names)\n")
        del names["example.org"], names["/var/www/html"]
        start = "import acme_micro as acme\nkey = open('sealing.key', 'rb').read()\n"
        self.python(start + changed(plain, **names))
        records = [path for path in (self.folder / "state").iterdir() if path.name != ".lock"]
        self.assertEqual(len(records), 2)
        command = PAGE.read_text().split("`(printf", 1)[1].split("` prints")[0]
        key_id = subprocess.check_output(["bash", "-c", f"(printf{command}"], cwd=self.folder, text=True)
        for record in records:
            data = record.read_bytes()
            self.assertTrue(data.startswith(b"acme-sealed 1\n" + bytes.fromhex(key_id)), record)
            self.assertNotIn(b"BEGIN", data)


if __name__ == "__main__":
    main("sealed-store")
