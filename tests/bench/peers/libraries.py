"""The libraries, including ours. Each has a small program with two forms:

    PROGRAM DIRECTORY CA_FILE ACCOUNT issue NAME...
    PROGRAM DIRECTORY CA_FILE ACCOUNT many COUNT in-a-row|at-once PREFIX

ACCOUNT is "-" for a new account that is not stored, or a file in the program's own format, which is made with a
new account if it does not exist. In a row, one client does all the work; at once, the library's fastest way is
used.
"""

from __future__ import annotations

from pathlib import Path

from .adapter import Ca, Command, Missing, Peer, Run

TARGET = Path(__file__).resolve().parents[3] / "target"
HERE = Path(__file__).resolve().parent


class Library(Peer):
    told_root_by = "an option for a file"

    def __init__(self, name: str, kind: str, version: str, *command: Path):
        self.name, self.kind = name, kind
        self._version, self._command = version, command

    def version(self) -> str:
        for path in self._command:
            if not path.exists():
                raise Missing(f"{path.relative_to(TARGET.parent)} has not been built")
        return self._version

    def _words(self, ca: Ca, account: str, *words: str) -> Run:
        return Run([[*map(str, self._command), ca.directory, ca.ca_file, account, *words]])

    def prepare(self, ca: Ca, folder: Path) -> Run:
        return self.known(ca, folder, ["first.library.test"])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        return self._words(ca, "-", "issue", name)

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        return self._words(ca, str(folder / "account"), "issue", *names)

    def in_a_row(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        return self._words(ca, str(folder / "account"), "many", str(count), "in-a-row", prefix)

    def at_once(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        return self._words(ca, str(folder / "account"), "many", str(count), "at-once", prefix)


def our_version() -> str:
    manifest = (TARGET.parent / "Cargo.toml").read_text()
    return manifest.split('\nversion = "', 1)[1].split('"', 1)[0]


def pinned(path: str, before: str, after: str) -> str:
    """The version in a manifest, between these two texts."""
    return (HERE / path).read_text().split(before, 1)[1].split(after, 1)[0]


class OldAcmeMicro(Library):
    # It drops the leading zero byte of a number, which one signature in 128 has.
    fails_at_times = True
    told_root_by = "`SSL_CERT_FILE`"


OURS = Library("acme-micro (C)", "C library", our_version(), TARGET / "c/bench/issue")
LIBRARIES = [
    OURS,
    Library(
        "acme-micro (Python)", "Python library", our_version(),
        TARGET / "bench/venv/bin/python", HERE / "acme_micro_python.py",
    ),
    OldAcmeMicro(
        "acme-micro 0.14.0", "Rust library", "0.14.0", TARGET / "bench/rust/release/peer-acme-micro-014"
    ),
    Library(
        "instant-acme", "Rust library", pinned("instant-acme/Cargo.toml", 'instant-acme = { version = "=', '"'),
        TARGET / "bench/rust/release/peer-instant-acme",
    ),
    Library("acmez", "Go library", pinned("acmez/go.mod", "acmez/v3 v", "\n").split()[0], TARGET / "bench/go/acmez"),
    Library(
        "python-acme", "Python library", pinned("python-acme/requirements.txt", "acme==", "\n"),
        TARGET / "bench/venv/bin/python", HERE / "python-acme/main.py",
    ),
]  # fmt: skip
