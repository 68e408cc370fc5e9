"""A folder whose files are complete at any time, even if a program is killed or the disk is full.

The library writes the files of certificates, and locks the folder. A descriptor holds the folder, so that no other folder can take its place. No symbolic link in it is
followed.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import _atomic_write
from ._arguments import PathLike, to_path
from .errors import StoreError

SECRET, PUBLIC = 0o600, 0o644
# Prefix of temporary files. The library removes those of killed programs.
PREFIX = "tmp-"
# Maximum size of a file that is read; the files of a store are smaller.
LIMIT = 1 << 20

logger = logging.getLogger("acme_micro")


class Folder:
    """A folder; created with mode 0700 if it does not exist."""

    def __init__(self, path: PathLike):
        self._fd = -1
        self.path = to_path(path, "folder")
        with self._named(""):
            with suppress(FileExistsError):
                make_folder(self.path)
                _sync(os.path.join(self.path, os.pardir))
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.fstat(self._fd).st_mode & stat.S_IWOTH:
                self.close()
                raise PermissionError(errno.EPERM, "anybody can write to this folder; chmod o-w it")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

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

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Converts errors of the system to StoreError, with the file's path."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise StoreError.of(self.path_of(name) if name else self.path, error) from error


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
