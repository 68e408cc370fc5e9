from __future__ import annotations

import shutil
from pathlib import Path

from .adapter import Ca, Command, Program, Run, fresh


class AcmeTiny(Program):
    """acme-tiny, which makes no keys and no CSRs: openssl makes them, as its documentation shows."""

    name = program = "acme-tiny"
    told_root_by = "`SSL_CERT_FILE`"
    many = 20

    def prepare(self, ca: Ca, folder: Path) -> Run:
        first = self.known(ca, folder, ["first.acme-tiny.test"])
        return Run([self._account_key(folder), *first.commands])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        own = fresh(folder / "new")
        return Run([self._account_key(own), *self._issue(ca, own, [name])])

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        return Run(self._issue(ca, folder, names))

    def _account_key(self, folder: Path) -> Command:
        # acme-tiny accepts only RSA keys.
        return [openssl(), "genrsa", "-out", f"{folder}/account.key", "2048"]

    def _issue(self, ca: Ca, folder: Path, names: list[str]) -> list[Command]:
        csr, alternatives = f"{folder}/{names[0]}.csr", ",".join(f"DNS:{name}" for name in names)
        return [
            [openssl(), "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", f"{folder}/{names[0]}.key", "-out", csr, "-subj", "/",
             "-addext", f"subjectAltName={alternatives}"],
            [self.path(), "--quiet", "--disable-check", "--directory-url", ca.directory,
             "--account-key", f"{folder}/account.key", "--csr", csr, "--acme-dir", str(folder)],
        ]  # fmt: skip

    def at_once(self, ca: Ca, folder: Path, prefix: str, count: int) -> Run:
        # Each certificate needs its CSR: the commands for all CSRs come first.
        commands = self.in_a_row(ca, folder, prefix, count).commands
        return Run(commands[::2] + commands[1::2], self.jobs)


def openssl() -> str:
    return shutil.which("openssl") or "openssl"
