"""Runs of the command for the tests, each with a folder of its own."""

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
    """The result of a run."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON on standard output. The manual must have each of its fields."""
        found = json.loads(self.out)
        untold = set(fields(found)) - described()
        assert not untold, f"acme-micro.1 does not have {untold}"
        return found


def fields(value: Any) -> Iterator[str]:
    """Yields the names of all members, but not those of a CA's problem document."""
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
    """Returns the words in the manual's section on JSON."""
    manual = (Path(__file__).parents[1] / "acme-micro.1").read_text()
    return frozenset(re.findall(r"\w+", manual.split(".Sh JSON\n")[1].split(".Sh ")[0]))


class Person:
    """A user at a shell, with a folder for the command and a CA."""

    def __init__(self, folder: Path, directory: str | None = None, ca_file: str | None = None):
        self.folder = folder
        self.ca = ["--directory", directory or env("ACME_DIRECTORY")]
        self.ca += ["--ca-file", ca_file or env("ACME_CA_FILE")]
        self.environment = dict(os.environ)
        #: A program that starts the command, with its arguments.
        self.under: list[str] = []

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Starts the command in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            [*self.under, *COMMAND, *arguments, "--folder", str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace",
            env=self.environment, start_new_session=True,
        )  # fmt: skip

    def runs(self, *arguments: str, status: int = 0) -> Run:
        """Runs the command, which must end with this status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (out, err)
        return Run(status, out, err)

    def seen(self, *arguments: str) -> str:
        """Returns what a run writes to a terminal, without its result."""
        terminal, inside = pty.openpty()
        process = self.start(*arguments, stderr=inside)
        os.close(inside)
        process.communicate(timeout=60)
        seen = b""
        with suppress(OSError):  # at the end of the output
            while more := os.read(terminal, 4096):
                seen += more
        os.close(terminal)
        assert process.returncode == 0, seen.decode()
        return seen.decode()

    def obtains(self, *arguments: str, status: int = 0) -> Run:
        return self.runs("obtain", *self.ca, "--agree-terms", *arguments, status=status)

    def has_certificate(self, name: str) -> None:
        """Adds a self-signed certificate for a day, for a key that is in the folder."""
        chain, key = self.path(f"{name}.chain.pem"), self.path(f"{name}.key.pem")
        openssl(
            "req", "-x509", "-key", str(key), "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}", "-days", "1", "-out", str(chain),
        )  # fmt: skip

    def path(self, name: str) -> Path:
        """Returns the path of a file in the folder of the only CA."""
        (folder,) = (path.parent for path in self.folder.glob("*/ca.json"))
        return folder / name
