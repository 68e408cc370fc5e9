"""At most one daemon for each folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .._folder import SECRET, make_folders
from ..errors import StoreError
from .failure import CommandError
from .system_text import from_system

FILE = ".daemon"


class AnotherDaemon(CommandError):
    """Another daemon keeps the certificates of the folder fresh."""

    kind, status = "running", 12


@contextmanager
def only_daemon(folder: str) -> Iterator[None]:
    """Refuses a second daemon. The system frees the lock when the process ends, however it ends."""
    path = os.path.join(folder, FILE)
    try:
        make_folders(folder)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET)
    except OSError as error:
        raise StoreError.of(path, error) from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(file, 20, 0).decode("ascii", "replace").strip()
            why = f"another daemon keeps the certificates in {from_system(folder)} fresh: process {process}"
            raise AnotherDaemon(why, "end that one first, or leave it running") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)
