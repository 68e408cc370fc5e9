"""The interface between the benchmark and a peer."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

Command = list[str]


class Missing(Exception):
    """The peer is not on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Ca:
    directory: str
    ca_file: str


@dataclass(frozen=True)
class Run:
    """Commands that are measured together, ``jobs`` of them at the same time."""

    commands: list[Command]
    jobs: int = 1


class Peer:
    """A client in the benchmark. All challenges are http-01, and the CA accepts them; certificate keys are P-256."""

    name: str
    # "C library", "program", ...
    kind: str
    # Maximum number of certificates in a row: less for a peer that takes seconds for each.
    many = 200
    # Whether it has no option or variable for root certificates, and trusts only the system's.
    needs_system_roots = False
    # How the benchmark tells it the CA's root certificate.
    told_root_by: str
    # Whether a run sometimes fails because of a known bug, and is repeated.
    fails_at_times = False

    def version(self) -> str:
        """The peer's version. Raises Missing if the peer is not installed."""
        raise NotImplementedError

    def prepare(self, ca: Ca, folder: Path) -> Run:
        """Creates the known account, in a folder of the peer's own."""
        raise NotImplementedError

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        """Creates a new account and obtains a certificate."""
        raise NotImplementedError

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        """Obtains a certificate with the known account."""
        raise NotImplementedError

    def in_a_row(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        """Obtains certificates for PREFIX0.test, PREFIX1.test, ..."""
        raise NotImplementedError

    def at_once(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        raise NotImplementedError


class Program(Peer):
    """A peer with one process for each certificate; certificates at once are processes at once."""

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
