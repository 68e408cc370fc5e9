"""Text for the system, which is bytes there: UTF-8, whatever the locale of this run.

A certificate may be obtained in a terminal and renewed by cron, in another locale. The command reads its
arguments as UTF-8 and keeps them so. Bytes that are not UTF-8 stay what they are (PEP 383). Python's own
functions take a text in the locale's encoding: :func:`to_system`.
"""

from __future__ import annotations

import os
import sys

UTF_8 = "utf-8", "surrogateescape"


def arguments() -> list[str]:
    """Returns the arguments of this process."""
    try:
        return list(map(from_system, sys.argv[1:]))
    except UnicodeEncodeError:  # in EUC-JP, for example, Python cannot encode again all that it has decoded
        with open("/proc/self/cmdline", "rb") as file:
            given = file.read().split(b"\0")[:-1]
        return [argument.decode(*UTF_8) for argument in given[1 - len(sys.argv) :]]


def from_system(text: str) -> str:
    """Converts a path of this run."""
    return os.fsencode(text).decode(*UTF_8)


def current_folder() -> str | None:
    """Returns the current folder; None if it is gone."""
    try:
        return from_system(os.getcwd())
    except OSError:
        return None


def to_system(text: str) -> str:
    """Converts a text for Python's functions, which encode it for the system."""
    return os.fsdecode(to_bytes(text))


def to_bytes(text: str) -> bytes:
    """Returns the bytes that the system gets."""
    return text.encode(*UTF_8)
