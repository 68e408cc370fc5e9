"""A folder whose files are complete at any time, even if a program is killed or the disk is full.

A descriptor holds the folder, so that no other folder can take its place. No symbolic link in it is
followed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from . import _atomic_write
from ._arguments import PathLike, to_path
from .errors import StoreError

SECRET, PUBLIC = 0o600, 0o644
# A file that only its owner can open. The folder itself is unsuitable as a lock: each user who can
# read it could lock it.
LOCK = ".lock"
PREFIX = "tmp-"
TEMPORARY = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
# Maximum size of a file that is read; the files of a store are smaller.
LIMIT = 1 << 20
# Number of bytes that :meth:`Folder.check_room` writes: as many as a certificate's chain may have.
ROOM = 1 << 16
# Number of descriptors that it opens: as many as an order needs for sockets and files.
DESCRIPTORS = 12

logger = logging.getLogger("acme_micro")


class Folder:
    """A folder; created with mode 0700 if it does not exist."""

    def __init__(self, path: PathLike):
        self._fd = self._lock = -1
        self.path = to_path(path, "folder")
        self._mutex = threading.Lock()
        self._held: set[str] = set()
        _folders.add(self)
        with self._named(""):
            with suppress(FileExistsError):
                make_folder(self.path)
                _sync(os.path.join(self.path, os.pardir))
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.fstat(self._fd).st_mode & stat.S_IWOTH:
                self.close()
                raise PermissionError(errno.EPERM, "anybody can write to this folder; chmod o-w it")

    def close(self) -> None:
        for fd in self._fd, self._lock:
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock = -1

    def __del__(self) -> None:
        self.close()

    @property
    def _dir(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the store is closed")
        return self._fd

    def path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        with self._named(""):
            return sorted(os.listdir(self._dir))

    def has(self, name: str) -> bool:
        """Whether a file exists, of whatever kind."""
        with self._named(name):
            try:
                os.stat(name, dir_fd=self._dir, follow_symlinks=False)
            except FileNotFoundError:
                return False
            return True

    def read(self, name: str, *, secret: bool = False, shared: bool = False) -> bytes | None:
        """Returns the content of a file, or None if it does not exist.

        A ``secret`` that others can read is refused; the group may read it if it is ``shared``.
        """
        # O_NONBLOCK: do not wait for a writer if it is a FIFO.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._named(name):
            try:
                file = os.open(name, flags, dir_fd=self._dir)
            except FileNotFoundError:
                return None
            with open(file, "rb") as stream:
                _check(os.fstat(file))
                if secret:
                    self._check_secret(os.fstat(file), "key" if name.endswith(".pem") else "file", shared)
                data = stream.read(LIMIT + 1)
            if len(data) > LIMIT:
                raise OSError(errno.EFBIG, f"the file has more than {LIMIT} bytes")
            return data

    def write(self, name: str, data: bytes, mode: int) -> None:
        """Writes a file atomically and durably; replaces a regular file of that name."""
        with self._named(name):
            with suppress(FileNotFoundError):
                _check(os.stat(name, dir_fd=self._dir, follow_symlinks=False))
            _atomic_write.write(self._dir, name, data, mode, prefix=PREFIX, owner=self._owner())

    def remove(self, name: str) -> None:
        """Removes a file, if it exists."""
        with self._named(name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._dir)
                os.fsync(self._dir)

    def set_aside(self, name: str, ending: str) -> None:
        """Renames a file, if it exists, that is not usable and that a user may still want."""
        with self._named(name), suppress(FileNotFoundError):
            os.rename(name, f"{name}{ending}", src_dir_fd=self._dir, dst_dir_fd=self._dir)

    def retire(self, name: str, ending: str) -> str:
        """Renames a file, if it exists; returns its new path. A file that was retired before stays.

        If the file does not exist, the path is the one of the last file that was retired.
        """
        new, number = f"{name}{ending}", 1
        last = new
        while self.has(new):
            number += 1
            last, new = new, f"{name}{ending}.{number}"
        if not self.has(name):
            return self.path_of(last)
        self.set_aside(name, new[len(name) :])
        with self._named(name):
            os.fsync(self._dir)
        return self.path_of(new)

    def make_private(self, name: str) -> None:
        """Takes a file of this user away from its group, which can use it because of an ACL or a volume's
        settings. A file that everybody can use stays as it is, and is refused."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with suppress(OSError):
            file = os.open(name, flags, dir_fd=self._dir)
            try:
                info = os.fstat(file)
                if stat.S_ISREG(info.st_mode) and info.st_mode & 0o070 and not info.st_mode & 0o007:
                    os.fchmod(file, SECRET)
                    text = "%s: the group could use this file; its mode is now 600"
                    logger.warning(text, self.path_of(name))
            finally:
                os.close(file)

    def check_room(self) -> None:
        """Fails if there is no room for the next files, or there are too few descriptors, before the CA gets a
        request."""
        with self._named(""), ExitStack() as opened:
            folder, zeros = self._dir, bytes(ROOM)
            for _ in range(DESCRIPTORS):
                opened.callback(os.close, os.dup(folder))
            opened.close()
            with _atomic_write.temporary(folder, zeros, SECRET, prefix=PREFIX, durable=False) as name:
                os.unlink(name, dir_fd=folder)

    def acquire(self, name: str) -> bool:
        """Begins work on ``name``; returns False if another thread or program is working on it.

        The folder is locked against other programs as long as any work is in progress. End it with
        :meth:`release`.
        """
        with self._mutex, self._named(""):
            if name in self._held:
                return False
            if not self._held:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                lock = os.open(LOCK, flags, SECRET, dir_fd=self._dir)
                try:
                    _atomic_write.give(lock, self._owner())
                    if os.fstat(lock).st_mode & SECRET != SECRET:  # the umask has cleared some bits
                        os.fchmod(lock, SECRET)
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._recover()
                except BlockingIOError:
                    os.close(lock)
                    return False
                except BaseException:
                    os.close(lock)
                    raise
                self._lock = lock
            self._held.add(name)
            return True

    def release(self, name: str) -> None:
        with self._mutex:
            self._held.discard(name)
            if not self._held and self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _owner(self) -> tuple[int, int] | None:
        """Returns the owner of new files: root leaves the folder of another user usable for that user."""
        info = os.fstat(self._dir)
        return (info.st_uid, info.st_gid) if os.geteuid() == 0 != info.st_uid else None

    def _check_secret(self, info: os.stat_result, what: str, shared: bool) -> None:
        owner = self._owner()
        if info.st_uid not in (0, os.geteuid(), owner and owner[0]):
            raise PermissionError(errno.EPERM, f"this {what} belongs to another user")
        if info.st_mode & (0o007 if shared else 0o077):
            raise PermissionError(errno.EPERM, f"others can read this {what}; chmod 600 it")

    def _after_fork(self) -> None:
        """Forgets the parent's work and lock. A lock lasts as long as any process has its file open."""
        self._mutex = threading.Lock()
        self._held = set()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _recover(self) -> None:
        """Removes the temporary files of killed programs."""
        os.fsync(self._dir)  # the rename of a killed program may not be on the disk
        for name in os.listdir(self._dir):
            if TEMPORARY.fullmatch(name):
                _atomic_write.remove_left_over(self._dir, name)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Converts errors of the system to StoreError, with the file's path."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise StoreError.of(self.path_of(name) if name else self.path, error) from error


_folders: weakref.WeakSet[Folder] = weakref.WeakSet()


def _after_fork() -> None:
    for folder in list(_folders):
        folder._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _check(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "this is not a regular file")


def make_folder(path: str, mode: int = 0o700) -> None:
    """Creates a folder that its owner can use, whatever the umask."""
    os.mkdir(path, mode)
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o700)


def make_folders(path: str, mode: int = 0o700) -> None:
    """Creates a folder if it does not exist, and its parents with the usual mode."""
    if not os.path.isdir(os.path.dirname(path)):
        make_folders(os.path.dirname(path), 0o777)
    try:
        make_folder(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
