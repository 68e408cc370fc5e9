"""What the tests of the command share: runs of it, as a person's, in a folder of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from outside import env, openssl

COMMAND = [sys.executable, "-m", "acme_micro"]


@dataclass
class Run:
    """What has come of one."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The whole of standard output: one object and nothing else, of which the manual has each field."""
        found = json.loads(self.out)
        untold = set(fields(found)) - described()
        assert not untold, f"acme-micro.1 does not have {untold}"
        return found


def fields(value: Any) -> Iterator[str]:
    """The names in an object and in those that it has; what a CA's document has is the CA's."""
    if isinstance(value, list):
        for one in value:
            yield from fields(one)
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            if name != "problem":
                yield from fields(one)


@cache
def described() -> frozenset[str]:
    """The words of the manual's section on JSON."""
    manual = (Path(__file__).parents[1] / "acme-micro.1").read_text()
    return frozenset(re.findall(r"\w+", manual.split(".Sh JSON\n")[1].split(".Sh ")[0]))


class Person:
    """Somebody at a shell, who has a folder for the command and a CA."""

    def __init__(self, folder: Path, directory: str | None = None, ca_file: str | None = None):
        self.folder = folder
        self.ca = ["--directory", directory or env("ACME_DIRECTORY")]
        self.ca += ["--ca-file", ca_file or env("ACME_CA_FILE")]
        self.environment = dict(os.environ)

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Begins a run, in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            [*COMMAND, *arguments, "--folder", str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=self.environment, start_new_session=True,
        )  # fmt: skip

    def runs(self, *arguments: str, status: int = 0) -> Run:
        """A run that ends with this status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (out, err)
        return Run(status, out, err)

    def seen(self, *arguments: str) -> str:
        """What is seen on a terminal during a run, besides its result."""
        terminal, inside = pty.openpty()
        process = self.start(*arguments, stderr=inside)
        os.close(inside)
        process.communicate(timeout=60)
        seen = b""
        with suppress(OSError):  # at its end
            while more := os.read(terminal, 4096):
                seen += more
        os.close(terminal)
        assert process.returncode == 0, seen.decode()
        return seen.decode()

    def obtains(self, *arguments: str, status: int = 0) -> Run:
        return self.runs("obtain", *self.ca, "--agree-terms", *arguments, status=status)

    def has_certificate(self, name: str) -> None:
        """As if there had been one for a key that is there: self-signed, for a day."""
        chain, key = self.path(f"{name}.chain.pem"), self.path(f"{name}.key.pem")
        openssl(
            "req", "-x509", "-key", str(key), "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}", "-days", "1", "-out", str(chain),
        )  # fmt: skip

    def path(self, name: str) -> Path:
        """Of a file in the CA's folder, which is the only one."""
        (folder,) = (path.parent for path in self.folder.glob("*/ca.json"))
        return folder / name
