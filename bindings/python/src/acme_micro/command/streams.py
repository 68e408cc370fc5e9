"""Standard output and standard error."""

from __future__ import annotations

import errno
import io
import os
import sys


def open_streams() -> None:
    """Opens /dev/null in the place of closed streams, so that no other file takes their descriptors and hooks
    have them, too; and writes characters that a stream cannot encode in ASCII."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


def write(text: str) -> None:
    """Writes a result to standard output, without delay."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(text, flush=True)
    except OSError as error:
        if sys.stdout is not None:  # so that Python's last flush does not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        from .failure import OutputFailed

        raise OutputFailed(f"standard output cannot be written: {error.strerror}") from None
