"""Atomic writes: a file has its old content or its new content, whatever interrupts the write.

The content goes to a temporary file in the same folder, which is then renamed. The folder is given by
a descriptor, and no symbolic link in it is followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Default prefix of the names of temporary files.
HIDDEN = ".tmp-"
# Maximum number of names tried for a temporary file.
MAX_NAMES = 20


def write(
    folder: int,
    name: str,
    data: bytes,
    mode: int,
    *,
    prefix: str = HIDDEN,
    replace: bool = True,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> None:
    """Writes a file with exactly this mode in the open folder.

    If a file of that name exists, it is replaced if ``replace``; otherwise: FileExistsError. With
    ``durable`` the file and its name are on the disk when this returns. ``owner`` is a user and a group.
    """
    with temporary(folder, data, mode, prefix=prefix, durable=durable, owner=owner) as source:
        if replace:
            os.rename(source, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            _rename_to_free_name(folder, source, name)
    if durable:
        os.fsync(folder)


@contextmanager
def temporary(
    folder: int,
    data: bytes,
    mode: int,
    *,
    prefix: str = HIDDEN,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> Iterator[str]:
    """Creates a temporary file with this content, for the caller to rename or remove.

    After an exception, here or in the caller's block, the file is removed.
    """
    name, file = _create(folder, mode, prefix)
    lock = -1
    try:
        try:
            lock = os.dup(file)  # keeps the lock of the file until it has its other name
            give(file, owner)
            os.fchmod(file, mode)  # the umask may have cleared some bits
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        yield name
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise
    finally:
        if lock >= 0:
            with suppress(OSError):
                os.close(lock)


def give(file: int, owner: tuple[int, int] | None) -> None:
    """Gives an open file to this user and group."""
    if owner is not None:
        os.fchown(file, *owner)


def remove_left_over(folder: int, name: str) -> None:
    """Removes a temporary file of a killed program; one that is being written stays."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        try:
            file = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a symbolic link is no file of ours
                os.unlink(name, dir_fd=folder)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(file)


def _create(folder: int, mode: int, prefix: str) -> tuple[str, int]:
    """Creates a file with a random name. O_EXCL: a file that another user has put there is not used."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(MAX_NAMES):
        name = f"{prefix}{os.urandom(8).hex()}"
        with suppress(FileExistsError):
            file = os.open(name, flags, mode, dir_fd=folder)
            if _is_locked(folder, name, file):
                return name, file
            os.close(file)
    raise OSError(errno.EEXIST, f"{MAX_NAMES} random names for a temporary file are all taken")


def _is_locked(folder: int, name: str, file: int) -> bool:
    """Locks a new file; False if another program took it for a left-over file before that."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    try:
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _rename_to_free_name(folder: int, source: str, name: str) -> None:
    """Renames a file; FileExistsError if a file of that name exists."""
    try:
        os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(source, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(source, dir_fd=folder)
