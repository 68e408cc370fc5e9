"""Progress and results. Standard output has the result and nothing else."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

from .. import logging as library_log
from .._native import LogLevel
from .failure import OutputFailed, document, hint_for, message_of
from .text import plain


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
        handler = logging.StreamHandler(sys.stderr)
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
        with suppress(OSError):  # nobody listens
            print(f"acme-micro: {plain(text)}", file=sys.stderr, flush=True)


class _Line(logging.Formatter):
    """A log line without a traceback: an exception is a sentence to whom it does not belong."""

    def formatException(self, info: Any) -> str:
        return f"acme-micro:   {plain(str(info[1]))}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value)
