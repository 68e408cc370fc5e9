"""Progress and results. Standard output has the result and nothing else."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import threading
from contextlib import suppress
from datetime import datetime
from typing import Any

from .. import logging as library_log
from .._native import LogLevel
from .failure import OutputFailed, document, hint_for, message_of
from .text import SECOND, not_before, plain

# What the library logs, with the message of the error that it then raises.
GIVING_UP = "acme-micro: giving up: "


def open_streams() -> None:
    """What whoever has started us has closed leads nowhere: no file that is opened takes its place. What
    a stream cannot show is written in ASCII."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def write(text: str) -> None:
    """A result, to standard output, at once."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(text, flush=True)
    except OSError as error:
        if sys.stdout is not None:  # nothing is left for Python to flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None


class Output:
    """One run's."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool):
        self._json = as_json
        self._quiet = quiet
        #: Do people watch? For a cron job or a timer no news is good news.
        self.watched = not quiet and (verbose or sys.stderr.isatty())
        self._lock = threading.RLock()  # the library logs on its own threads
        #: A line that the next one may make needless.
        self._held = ""
        handler = _Lines(self)
        handler.setFormatter(_Line("acme-micro: %(message)s"))
        level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
        if self.watched and not verbose:
            level = logging.INFO  # that it waits for another program
        logging.basicConfig(handlers=[handler], level=level, force=True)
        logging.getLogger("asyncio").setLevel(logging.WARNING)  # its selector is no step of ours
        # Of the library, too, whoever asks for nothing hears only what may be wrong.
        library_log.install(LogLevel.DEBUG if verbose else LogLevel.ERROR if quiet else LogLevel.WARN)

    def step(self, text: str) -> None:
        """What is being done."""
        if self.watched:
            self._say(text)

    def note(self, text: str) -> None:
        """What a person should know, and a program's log, too."""
        if not self._quiet:
            self._say(text)

    def error(self, error: BaseException, about: str = "", hint: str | None = None) -> None:
        """What went wrong, and what to do: the hint, unless there is a better one."""
        message, prefix = message_of(error), about and f"{plain(about)}: "
        self._say(message if message.startswith(prefix) else prefix + message)
        hint = hint_for(error) if hint is None else hint
        if hint:
            self._say(f"  {hint}")

    def result(self, text: str, found: dict[str, Any]) -> None:
        """What has come of it: the text or, with --json, the object."""
        self._write("")
        if self._json:
            write(json.dumps({"ok": True, **found}, default=_to_json, indent=2))
        elif text and not self._quiet:
            write(text)

    def failure(self, error: BaseException, command: str | None) -> None:
        """That there is no result."""
        self.error(error)
        if self._json and not isinstance(error, OutputFailed):
            found = {"ok": False, "command": command, "error": document(error)}
            with suppress(OSError, OutputFailed):  # there is a status, too
                write(json.dumps(found, default=_to_json, indent=2))

    def _say(self, text: str) -> None:
        self._write(f"acme-micro: {plain(text)}")

    def log(self, line: str) -> None:
        """A line of the library's. The next line usually says again why it gives up."""
        if not line.startswith(GIVING_UP):
            return self._write(line)
        with self._lock:
            self._write("")
            self._held = line

    def _write(self, line: str) -> None:
        """Writes what was held, unless this line has it, and this line."""
        with self._lock:
            held, self._held = self._held, ""
            if plain(held.removeprefix(GIVING_UP)) in line:
                held = ""
            for one in filter(None, (held, line)):
                with suppress(OSError):  # nobody listens
                    print(one, file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Log lines, among what else is said."""

    def __init__(self, output: Output):
        super().__init__()
        self._output = output
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno >= logging.INFO and line in self._warned:
            return  # once is enough
        self._warned.add(line)
        self._output.log(line)


class _Line(logging.Formatter):
    """A log line without a traceback: an exception is a sentence to whom it does not belong."""

    def formatException(self, info: Any) -> str:
        return f"acme-micro:   {plain(str(info[1]))}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return not_before(value, SECOND).isoformat(timespec="seconds")
    return str(value)
