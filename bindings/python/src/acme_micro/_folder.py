"""A folder whose files are whole at any moment, whatever kills the program or fills the disk.

The folder is held by a descriptor, so that nobody can swap it for another one; no symbolic link in it
is followed. A file is written under a name that nobody can foresee, put on the disk, and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from . import _atomic_write
from ._arguments import PathLike, to_path
from .errors import AcmeError, Status, unpickle

if TYPE_CHECKING:
    from .certificates import Certificate

SECRET, PUBLIC = 0o600, 0o644
# A file of its own, which nobody else can open: a folder can be locked by whoever can read it.
LOCK = ".lock"
PREFIX = "tmp-"
TEMPORARY = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
# More than any file that is kept here has.
LIMIT = 1 << 20
# What is tried before a CA is asked for anything: as much as a certificate's chain may need.
ROOM = 1 << 16


class StoreError(AcmeError, OSError):
    """A file of a :class:`Store` could not be read, written or trusted. What it held, it holds."""

    _status = Status.ERR_HOST
    #: The file or folder.
    path: str
    #: What was issued and could not be stored: use it. The next run gets it once more, without
    #: another order.
    certificate: Certificate | None = None

    @classmethod
    def of(cls, path: str, error: OSError) -> StoreError:
        """What the system said of the file at ``path``."""
        self = cls(f"{path}: {error.strerror or error}")
        self.path, self.errno = path, error.errno
        return self

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        # A certificate is a handle, and errno is not among the attributes.
        attributes = {**self.__dict__, "certificate": None, "errno": self.errno}
        return unpickle, (type(self), self.message, attributes)


class Folder:
    """One folder, made with mode 0700 when there is none."""

    def __init__(self, path: PathLike):
        self._fd = self._lock = -1
        self.path = to_path(path, "folder")
        self._mutex = threading.Lock()
        self._held: set[str] = set()
        _folders.add(self)
        with self._named(""):
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
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

    def read(self, name: str, *, secret: bool = False) -> bytes | None:
        """What is in the file; None when there is none."""
        # O_NONBLOCK: opening a FIFO would wait for whoever writes to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._named(name):
            try:
                file = os.open(name, flags, dir_fd=self._dir)
            except FileNotFoundError:
                return None
            with open(file, "rb") as stream:
                _check(os.fstat(file), secret)
                data = stream.read(LIMIT + 1)
            if len(data) > LIMIT:
                raise OSError(errno.EFBIG, f"it has more than {LIMIT} bytes")
            return data

    def write(self, name: str, data: bytes, mode: int) -> None:
        """Puts the file there and on the disk, in the place of one that there may be."""
        with self._named(name):
            with suppress(FileNotFoundError):
                _check(os.stat(name, dir_fd=self._dir, follow_symlinks=False), False)
            _atomic_write.write(self._dir, name, data, mode, prefix=PREFIX)

    def remove(self, name: str) -> None:
        """Removes a file that may be there."""
        with self._named(name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._dir)
                os.fsync(self._dir)

    def set_aside(self, name: str, ending: str) -> None:
        """Renames a file that is of no use, but not ours to throw away."""
        with self._named(name):
            os.rename(name, f"{name}{ending}", src_dir_fd=self._dir, dst_dir_fd=self._dir)

    def check_room(self) -> None:
        """Fails now where :meth:`write` would fail soon."""
        with self._named(""):
            folder, zeros = self._dir, bytes(ROOM)
            with _atomic_write.temporary(folder, zeros, SECRET, prefix=PREFIX, durable=False) as name:
                os.unlink(name, dir_fd=folder)

    def acquire(self, name: str) -> bool:
        """Begins work at ``name``; False: somebody else is at it, or another program in the folder.

        The folder is locked while any work is under way. Ends with :meth:`release`.
        """
        with self._mutex, self._named(""):
            if name in self._held:
                return False
            if not self._held:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                lock = os.open(LOCK, flags, SECRET, dir_fd=self._dir)
                try:
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

    def _after_fork(self) -> None:
        """The work under way is the parent's, and so is its lock, which lasts as long as anybody has it
        open."""
        self._mutex = threading.Lock()
        self._held = set()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _recover(self) -> None:
        """Finishes what programs that were killed have left: who writes has the lock."""
        os.fsync(self._dir)  # a file's new name may be in memory only
        for name in os.listdir(self._dir):
            if TEMPORARY.fullmatch(name):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._dir)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """The system's errors as ours, which name the file."""
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


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check(info: os.stat_result, secret: bool) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "this is no regular file")
    if secret and info.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "this key belongs to another user")
    if secret and info.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "others can read this key; chmod 600 it")
