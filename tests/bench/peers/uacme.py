from __future__ import annotations

from pathlib import Path

from .adapter import Ca, Program, Run, fresh


class Uacme(Program):
    name = program = "uacme"
    needs_system_roots = True
    told_root_by = "the system's file"

    def _command(self, ca: Ca, folder: Path, *words: str) -> list[str]:
        return [self.path(), "-a", ca.directory, "-c", str(folder), "-t", "EC", "-y", *words]

    def prepare(self, ca: Ca, folder: Path) -> Run:
        return Run([self._command(ca, folder, "new")])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        own = fresh(folder / "new")
        return Run([self._command(ca, own, "new"), self._issue(ca, own, [name])])

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        return Run([self._issue(ca, folder, names)])

    def _issue(self, ca: Ca, folder: Path, names: list[str]) -> list[str]:
        # This hook accepts the first challenge type that uacme offers, http-01, and publishes nothing.
        return self._command(ca, folder, "-h", "/bin/true", "issue", *names)
