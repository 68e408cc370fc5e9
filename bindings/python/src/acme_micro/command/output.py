"""Progress and results. Standard output has the result and nothing else."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Any

from .. import logging as library_log
from .._native import LogLevel
from .failure import document, hint_for, message_of
from .text import plain


class Output:
    """One run's."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool):
        self._json = as_json
        self._quiet = quiet
        #: Do people watch? For a cron job or a timer no news is good news.
        self.watched = not quiet and (verbose or sys.stderr.isatty())
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Line("acme-micro: %(message)s"))
        level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
        logging.basicConfig(handlers=[handler], level=level, force=True)
        if verbose:
            library_log.install(LogLevel.DEBUG)

    def step(self, text: str) -> None:
        """What is being done."""
        if self.watched:
            self._say(text)

    def note(self, text: str) -> None:
        """What a person should know, and a program's log, too."""
        if not self._quiet:
            self._say(text)

    def error(self, error: BaseException, about: str = "") -> None:
        """What went wrong, and what to do."""
        message, prefix = message_of(error), about and f"{plain(about)}: "
        self._say(message if message.startswith(prefix) else prefix + message)
        hint = hint_for(error)
        if hint:
            self._say(f"  {hint}")

    def result(self, text: str, found: dict[str, Any]) -> None:
        """What has come of it: the text or, with --json, the object."""
        if self._json:
            print(json.dumps({"ok": True, **found}, default=_to_json, indent=2))
        elif text and not self._quiet:
            print(text)
        sys.stdout.flush()

    def failure(self, error: BaseException, command: str | None) -> None:
        """That there is no result."""
        self.error(error)
        if self._json:
            found = {"ok": False, "command": command, "error": document(error)}
            print(json.dumps(found, default=_to_json, indent=2), flush=True)

    def _say(self, text: str) -> None:
        print(f"acme-micro: {plain(text)}", file=sys.stderr, flush=True)


class _Line(logging.Formatter):
    """A log line without a traceback: an exception is a sentence to whom it does not belong."""

    def formatException(self, info: Any) -> str:
        return f"acme-micro:   {plain(str(info[1]))}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value)
