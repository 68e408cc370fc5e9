from __future__ import annotations

from pathlib import Path

from .adapter import Ca, Command, Program, Run, fresh


class Dehydrated(Program):
    name = program = "dehydrated"
    told_root_by = "`CURL_CA_BUNDLE`"
    many = 20

    def _command(self, ca: Ca, folder: Path, *words: str) -> Command:
        config = folder / "config"
        if not config.exists():
            (folder / "webroot").mkdir()
            config.write_text(
                f'BASEDIR="{folder}"\nWELLKNOWN="{folder}/webroot"\nCA="{ca.directory}"\n'
                "KEY_ALGO=prime256v1\nCHALLENGETYPE=http-01\nHOOK=\n"
            )
        return [self.path(), *words, "--config", str(config)]

    def prepare(self, ca: Ca, folder: Path) -> Run:
        return Run([self._command(ca, folder, "--register", "--accept-terms")])

    def new(self, ca: Ca, folder: Path, name: str) -> Run:
        own = fresh(folder / "new")
        register = self._command(ca, own, "--register", "--accept-terms")
        return Run([register, *self.known(ca, own, [name]).commands])

    def known(self, ca: Ca, folder: Path, names: list[str]) -> Run:
        # Without its lock, because processes at once would wait for each other.
        return Run([self._command(ca, folder, "--cron", "--no-lock", "--domain", " ".join(names))])
