"""The library's log lines, for Python's ``logging``."""

from __future__ import annotations

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
    except BaseException as error:  # a handler's, or Ctrl-C: not for C to see
        deferred.exception = error


# The library calls it for as long as it is loaded.
_callback = _native.acme_log_fn(_log)


def install(level: LogLevel = LogLevel.INFO) -> None:
    """Sends the library's lines up to ``level`` to ``logging.getLogger("acme_micro")``.

    Those of ``LogLevel.TRACE`` go to ``"acme_micro.transcript"``: what operations ask for and are
    answered, a JSON object a line, with which a run can be repeated (docs/testing.md).

    No line has a key, a token or a key authorization in it.
    """
    _native.acme_set_log_callback(_callback, None, int(level))


def uninstall() -> None:
    """Turns the library's log off, which is the default."""
    _native.acme_set_log_callback(_native.acme_log_fn(), None, 0)
