from __future__ import annotations

from pathlib import Path

from .adapter import Ca, Program, Run, fresh


class Lego(Program):
    name = program = "lego"
    told_root_by = "`LEGO_CA_CERTIFICATES`"
    many = 20

    def prepare(self, ca: Ca, folder: Path) -> Run:
        # lego has no command that only registers.
        return self.known(ca, folder, ["first.lego.test"])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        return self.known(ca, fresh(folder / "new"), [name])

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        webroot = folder / "webroot"
        webroot.mkdir(exist_ok=True)
        domains = [word for name in names for word in ("-d", name)]
        return Run([[
            self.path(), "-s", ca.directory, "-a", "-m", "bench@example.org", "--path", str(folder),
            "--http", "--http.webroot", str(webroot), *domains, "run",
        ]])  # fmt: skip
