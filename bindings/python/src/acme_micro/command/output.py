"""Progress and results. Standard output has the result and nothing else."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Any

from .. import logging as library_log
from .._native import LogLevel
from .failure import OutputFailed, document, hint_for, kind_of, message_of
from .streams import write
from .text import SECOND, not_before, plain

# Beginning of the library's log line that has the message of the error that it then raises.
GIVING_UP = "acme-micro: giving up: "
# Maximum number of log lines that are not written again. A daemon logs lines for years.
MAX_WARNED = 1000


class Output:
    """The output of one run."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool):
        self._json = as_json
        self._quiet = quiet
        #: Whether to show progress. A cron job or a timer gets none.
        self.watched = not quiet and (verbose or sys.stderr.isatty())
        self._lock = threading.RLock()  # the library logs on its own threads
        #: A line that is left out if the next line repeats it.
        self._held = ""
        handler = _Lines(self)
        handler.setFormatter(_Line("acme-micro: %(message)s"))
        level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
        if self.watched and not verbose:
            level = logging.INFO  # for the line about waiting for another program
        logging.basicConfig(handlers=[handler], level=level, force=True)
        logging.getLogger("asyncio").setLevel(logging.WARNING)  # without its lines about selectors
        # Without an option, the library logs only what may be wrong.
        library_log.install(LogLevel.DEBUG if verbose else LogLevel.ERROR if quiet else LogLevel.WARN)

    def step(self, text: str) -> None:
        """Writes a step, as progress."""
        if self.watched:
            self._say(text)

    def note(self, text: str) -> None:
        """Writes something that users should know, also in a program's log."""
        if not self._quiet:
            self._say(text)

    def error(self, error: BaseException, about: str = "", hint: str | None = None) -> None:
        """Writes an error, and its hint unless there is a better one."""
        message, prefix = message_of(error), about and f"{plain(about)}: "
        self._say(message if message.startswith(prefix) else prefix + message)
        hint = hint_for(error) if hint is None else hint
        if hint:
            self._say(f"  {hint}")
        if kind_of(error)[0] == "bug":
            with suppress(OSError):  # standard error is closed
                traceback.print_exception(type(error), error, error.__traceback__)

    def result(self, text: str, found: dict[str, Any]) -> None:
        """Writes the result: the text or, with --json, the object."""
        self._write("")
        if self._json:
            write(json.dumps({"ok": True, **found}, default=_to_json, indent=2))
        elif text and not self._quiet:
            write(text)

    def event(self, text: str, found: dict[str, Any]) -> None:
        """Writes an event of the daemon: a failure to standard error, others to standard output; with --json, an
        object in one line to standard output."""
        with suppress(OSError, OutputFailed):  # the work goes on
            if self._json:
                write(json.dumps(found, default=_to_json))
            elif not found["ok"]:
                self._say(text)
            elif not self._quiet:
                write(text)

    def failure(self, error: BaseException, command: str | None) -> None:
        """Writes an error instead of a result."""
        self.error(error)
        if self._json and not isinstance(error, OutputFailed):
            found = {"ok": False, "command": command, "error": document(error)}
            with suppress(OSError, OutputFailed):  # the exit status remains
                write(json.dumps(found, default=_to_json, indent=2))

    def _say(self, text: str) -> None:
        self._write(f"acme-micro: {plain(text)}")

    def log(self, line: str) -> None:
        """Writes a log line of the library. Holds back the reason of a failure: the next line often repeats it."""
        if not line.startswith(GIVING_UP):
            return self._write(line)
        with self._lock:
            self._write("")
            self._held = line

    def _write(self, line: str) -> None:
        """Writes the line that was held back, unless this line contains it, and then this line."""
        with self._lock:
            held, self._held = self._held, ""
            if plain(held.removeprefix(GIVING_UP)) in line:
                held = ""
            for one in filter(None, (held, line)):
                with suppress(OSError):  # standard error is closed
                    print(one, file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Writes log lines in between the lines of the command."""

    def __init__(self, output: Output):
        super().__init__()
        self._output = output
        # The last lines.
        self._warned: deque[str] = deque(maxlen=MAX_WARNED)

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno >= logging.INFO:
            if line in self._warned:
                return  # it is written once
            self._warned.append(line)
        self._output.log(line)


class _Line(logging.Formatter):
    """Formats a log line without a traceback: for a user, an exception is a sentence."""

    def formatException(self, info: Any) -> str:
        return f"acme-micro:   {plain(str(info[1]))}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return not_before(value, SECOND).isoformat(timespec="seconds")
    return str(value)
