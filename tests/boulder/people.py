"""Somebody who uses the command with Boulder."""

from __future__ import annotations

import json
from typing import Any

import command_runs
from command_runs import Run
from conftest import env, openssl

# Boulder asks for a minute's patience when one of its parts does not answer.
PATIENCE_S = 240


class Person(command_runs.Person):
    def runs(self, *arguments: str, status: int = 0) -> Run:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status, (process.returncode, out, err)
        return Run(status, out, err)

    def renewal_record(self, name: str) -> dict[str, Any]:
        """What ``renew`` has noted about the certificate: when it tries again."""
        record = json.loads(self.path("renewal.json").read_text())
        return record[name]

    def check(self, name: str, names: list[str]) -> str:
        """What openssl says of the files; gives the whole certificate as text."""
        chain, key = str(self.path(f"{name}.chain.pem")), str(self.path(f"{name}.key.pem"))
        openssl("verify", "-CAfile", env("BOULDER_ROOT"), "-untrusted", chain, chain)
        shown = openssl("x509", "-in", chain, "-noout", "-ext", "subjectAltName").split("\n")[1]
        assert sorted(shown.replace("IP Address:", "IP:").replace(",", "").split()) == sorted(names)
        assert openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-in", chain, "-noout", "-pubkey")
        return openssl("x509", "-in", chain, "-noout", "-text")


def dns(*names: str) -> list[str]:
    """As openssl shows them."""
    return [f"DNS:{name}" for name in names]


def domains(*names: str) -> list[str]:
    """As the command takes them."""
    return [option for name in names for option in ("-d", name)]
