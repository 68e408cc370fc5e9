#!/usr/bin/env python3
"""docs/guides/migrating-from-certbot-hooks.md: certbot's scripts and files can be used."""

from __future__ import annotations

from case import DnsCase
from pages import changed, main, shows


class FromCertbot(DnsCase):
    def setUp(self) -> None:
        super().setUp()
        # Typical scripts for certbot.
        for name, text in {
            "auth": 'dns-record add "_acme-challenge.$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION"\n'
            'echo "id of $CERTBOT_DOMAIN"',
            "cleanup": 'test "$CERTBOT_AUTH_OUTPUT" = "id of $CERTBOT_DOMAIN"\n'
            'dns-record remove "_acme-challenge.$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION"',
            "deploy": 'test -s "${ACME_KEY_FILE:-$RENEWED_LINEAGE/hooks.certbot.test.key.pem}"\n'
            'echo "deployed $RENEWED_DOMAINS" | tee -a "$(dirname "$0")/deployed"',
        }.items():
            (self.folder / name).write_text(f"#!/bin/sh\nset -e\n{text}\n")
            (self.folder / name).chmod(0o755)

    @shows("migrating-from-certbot-hooks sh hooks")
    def test_command(self, text):
        self.shell(changed(text, **{"example.org": "sh.certbot.test", "/etc/acme": str(self.folder)}))
        once = "deployed sh.certbot.test *.sh.certbot.test\n"
        self.assertEqual((self.folder / "deployed").read_text(), once)
        self.assertEqual(self.taken_down(), ["_acme-challenge.sh.certbot.test"] * 2)
        self.shell("cd / && acme-micro renew --force")
        self.assertEqual((self.folder / "deployed").read_text(), once * 2)

    @shows("migrating-from-certbot-hooks python hooks", "migrating-from-certbot-hooks python import")
    def test_hooks(self, hooks, take_over):
        told = f"""
{hooks}
{take_over}
names = ["hooks.certbot.test", "*.hooks.certbot.test"]
solver = CertbotHooks("./auth", "./cleanup")
with acme.Store("old") as store, store.client(acme.LETSENCRYPT_STAGING, terms_agreed=True) as ca:
    renew(store, ca, names, solver, "./deploy")
    renew(store, ca, names, solver, "./deploy")
    live = Path("live")
    live.mkdir()
    (live / "privkey.pem").write_bytes(Path(store.key_file(names[0])).read_bytes())
    (live / "fullchain.pem").write_bytes(Path(store.chain_file(names[0])).read_bytes())
with acme.Store("new") as store, store.client(acme.LETSENCRYPT_STAGING, terms_agreed=True) as ca:
    take_over(live, store, names[0], acme.LETSENCRYPT_STAGING)
    renew(store, ca, names, solver, "./deploy")
"""
        out = self.python(changed(told), **self.tools)
        once = "deployed hooks.certbot.test *.hooks.certbot.test\n"
        self.assertEqual(out, once, "of three calls, the first")
        self.assertEqual(self.taken_down(), ["_acme-challenge.hooks.certbot.test"] * 2)


if __name__ == "__main__":
    main("migrating-from-certbot-hooks")
