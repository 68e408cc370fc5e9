"""A person who uses the command with Boulder."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import command_runs
from command_runs import Run
from conftest import env, openssl

# Boulder sends a Retry-After of a minute if one of its parts does not respond.
PATIENCE_S = 240

HOOK = Path(__file__).with_name("hook.py")


class Person(command_runs.Person):
    def tries(self, *arguments: str) -> Run:
        """A run with any exit status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE_S)
        return Run(process.returncode, out, err)

    def runs(self, *arguments: str, status: int = 0) -> Run:
        run = self.tries(*arguments)
        assert run.status == status, f"status {run.status}\n{run.out}{run.err}"
        return run

    def obtaining(self, *arguments: str) -> list[str]:
        return ["obtain", *self.ca, "--agree-terms", *arguments]

    def renewal_record(self, name: str) -> dict[str, Any]:
        """The record of ``renew`` about the certificate: number of attempts, and time of the next."""
        return json.loads(self.path(f"{name}.renewal.json").read_text())

    def account(self) -> tuple[str, str]:
        """Creates or finds the account; returns its URL and its number at Boulder."""
        run = self.runs("account", "create", *self.ca, "--agree-terms", "--json")
        url = run.json["account"]["url"]
        return url, url.rpartition("/")[2]

    def check(self, name: str, names: list[str]) -> str:
        """Checks the files with openssl; returns the whole certificate as text."""
        return check(self.path(f"{name}.chain.pem"), self.path(f"{name}.key.pem"), names)


def check(chain: Path, key: Path, names: list[str]) -> str:
    openssl("verify", "-CAfile", env("BOULDER_ROOT"), "-untrusted", str(chain), str(chain))
    shown = openssl("x509", "-in", str(chain), "-noout", "-ext", "subjectAltName").split("\n")[1]
    assert sorted(shown.replace("IP Address:", "IP:").replace(",", "").split()) == sorted(names)
    public = openssl("x509", "-in", str(chain), "-noout", "-pubkey")
    assert openssl("pkey", "-in", str(key), "-pubout") == public
    return openssl("x509", "-in", str(chain), "-noout", "-text")


def dns(*names: str) -> list[str]:
    """The names as openssl prints them."""
    return [f"DNS:{name}" for name in names]


def domains(*names: str) -> list[str]:
    """The names as options of the command."""
    return [option for name in names for option in ("-d", name)]


def hook(challenge_type: str, root: Path, *parts: str) -> list[str]:
    """Options for a hook that ends these parts of Boulder when it publishes."""
    command = shlex.join([sys.executable, str(HOOK), str(root), *parts])
    return ["--hook", command, "--challenge-type", challenge_type]
