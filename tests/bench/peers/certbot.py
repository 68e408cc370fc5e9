from __future__ import annotations

from pathlib import Path

from .adapter import Ca, Program, Run, fresh


class Certbot(Program):
    name = program = "certbot"
    told_root_by = "`REQUESTS_CA_BUNDLE`"
    many = 20
    # certbot locks its folders.
    jobs = 1

    def _command(self, ca: Ca, folder: Path, *words: str) -> list[str]:
        return [
            self.path(), *words, "--server", ca.directory, "-q", "-n", "--agree-tos",
            "--register-unsafely-without-email", "--config-dir", f"{folder}/config",
            "--work-dir", f"{folder}/work", "--logs-dir", f"{folder}/logs",
        ]  # fmt: skip

    def prepare(self, ca: Ca, folder: Path) -> Run:
        return Run([self._command(ca, folder, "register")])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        return self.known(ca, fresh(folder / "new"), [name])

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        webroot = folder / "webroot"
        webroot.mkdir(exist_ok=True)
        domains = [word for name in names for word in ("-d", name)]
        words = ["certonly", "--key-type", "ecdsa", "--webroot", "-w", str(webroot), *domains]
        return Run([self._command(ca, folder, *words)])
