"""The requests to Boulder's ACME server, from its log."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import env

LINE = re.compile(r" boulder-wfe2 \S+ (GET|HEAD|POST) (/\S*) \d+ (\d+) ")


class ServerLog:
    """The part of the log that is written from now on."""

    def __init__(self) -> None:
        self.file = Path(env("BOULDER_LOGS")) / "wfe.log"
        self.start = len(self.file.read_text())

    def requests(self, path: str = "/") -> list[tuple[str, str, int]]:
        """Method, path and status of the requests whose path begins with ``path``."""
        lines = LINE.findall(self.file.read_text()[self.start :])
        return [(method, at, int(status)) for method, at, status in lines if at.startswith(path)]
