"""What the benchmark asks of a peer."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

Command = list[str]


class Missing(Exception):
    """The peer is not on this machine; the text says what is lacking."""


@dataclass(frozen=True)
class Ca:
    directory: str
    ca_file: str


@dataclass(frozen=True)
class Run:
    """Commands that are measured together, so many at once."""

    commands: list[Command]
    jobs: int = 1


class Peer:
    """All challenges are http-01, and believed by the CA without a look; certificates' keys are P-256."""

    name: str
    # "C library", "program", ...
    kind: str
    # How many certificates in a row it gets at most: fewer of those that take seconds for each.
    many = 200
    # It has no option or variable for roots, and trusts the system's.
    needs_system_roots = False
    # A run fails now and then, through a fault that is known, and is repeated.
    fails_at_times = False

    def version(self) -> str:
        """Raises Missing."""
        raise NotImplementedError

    def prepare(self, ca: Ca, folder: Path) -> Run:
        """Makes an account, which is the known one, in a folder that is the peer's own."""
        raise NotImplementedError

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        """A new account, and a certificate."""
        raise NotImplementedError

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        """A certificate for the known account."""
        raise NotImplementedError

    def in_a_row(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        """Certificates for PREFIX0.test, PREFIX1.test, ..."""
        raise NotImplementedError

    def at_once(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        raise NotImplementedError


class Program(Peer):
    """One process for each certificate; many at once are many processes."""

    kind = "program"
    program: str
    jobs = 8

    def path(self) -> str:
        path = shutil.which(self.program)
        if not path:
            raise Missing(f"{self.program} is not installed")
        return path

    def version(self) -> str:
        self.path()
        query = ["dpkg-query", "-W", "-f", "${Version}", self.program]
        if not shutil.which(query[0]):
            return "of unknown version"
        found = subprocess.run(query, capture_output=True, text=True)
        return found.stdout.rpartition("-")[0].rpartition(":")[2] or "of unknown version"

    def in_a_row(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        names = [f"{prefix}{i}.test" for i in range(count)]
        return Run([command for name in names for command in self.known(ca, folder, [name]).commands])

    def at_once(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        return Run(self.in_a_row(ca, folder, prefix, count).commands, self.jobs)


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
