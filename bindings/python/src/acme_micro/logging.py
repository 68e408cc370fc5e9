"""Passes the library's log to Python's ``logging``."""

from __future__ import annotations

import atexit
import logging
from typing import Any

from . import _native
from ._native import LogLevel
from .errors import deferred

__all__ = ["install", "uninstall"]

logger = logging.getLogger("acme_micro")
_transcript = logging.getLogger("acme_micro.transcript")

_LEVELS = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARN: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.DEBUG,
}


def _log(level: int, message: bytes | None, user: Any) -> None:
    try:
        if level == LogLevel.TRACE:
            _transcript.debug("%s", (message or b"").decode())
            return
        logger.log(_LEVELS.get(LogLevel(level), logging.DEBUG), "%s", (message or b"").decode())
    except BaseException as error:  # of a handler, or Ctrl-C: raised after the call into C
        deferred.exception = error


# Kept for the whole life of the process: the library may call it at any time.
_callback = _native.acme_log_fn(_log)


_is_installed = False


def install_warnings() -> None:
    """Passes on the library's warnings, unless the program has chosen a level."""
    if not _is_installed:
        install(LogLevel.WARN)


def install(level: LogLevel = LogLevel.INFO) -> None:
    """Passes the library's log lines up to ``level`` to ``logging.getLogger("acme_micro")``.

    Lines of ``LogLevel.TRACE`` go to ``"acme_micro.transcript"``: the requests of operations and
    their responses, one JSON object a line, from which a run can be repeated (docs/testing.md).

    No line contains a key, a token or a key authorization.
    """
    global _is_installed
    if not _is_installed:
        atexit.register(uninstall)  # a thread of the library must not call Python while it ends
    _is_installed = True
    _native.acme_set_log_callback(_callback, None, int(level))


def uninstall() -> None:
    """Turns the library's log off, which is the default until a :class:`Store` is opened."""
    global _is_installed
    _is_installed = False
    _native.acme_set_log_callback(_native.acme_log_fn(), None, 0)
