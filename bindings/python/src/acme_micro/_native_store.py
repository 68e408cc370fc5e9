"""Stores of the library: in a folder, in memory, and of methods in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from ctypes import POINTER, pointer, sizeof, string_at
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, Protocol
from weakref import WeakSet, WeakValueDictionary

from . import _native
from ._arguments import to_optional_path, to_text
from ._handle import create, own
from ._names import CHAIN, KEY, file_of
from .certificates import Certificate
from .errors import AcmeError, ConflictError, Status, StoreError, check, deferred, error_of

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["CustomStore", "FolderStore", "NativeStore", "Records"]

# The end of a message that has an error of the system.
# Start of the message about a certificate's key or chain that cannot be read.
UNREADABLE = re.compile(r"certificate/[^/]*/(.*): its (key|chain): ")
SYSTEM_ERROR = re.compile(r" \(os error (\d+)\)$")


class Records(Protocol):
    """Keeps records; :class:`RecordStore` describes the methods."""

    def get(self, name: str) -> tuple[int, bytes] | None: ...

    def put(self, name: str, expected: int, value: bytes | None) -> int: ...

    def list(self, prefix: str, after: str, limit: int) -> Iterable[str]: ...


class NativeStore:
    """A store for a client of the library."""

    def __init__(self, pointer: _Pointer[_native.acme_store_t]):
        self.pointer = pointer

    @classmethod
    def in_memory(cls) -> NativeStore:
        return cls(create(_native.acme_store_t, _native.acme_store_free, _native.acme_store_memory))

    def exception_of(self, error: StoreError) -> BaseException | None:
        """Returns the exception of a method that is the reason for an error."""
        return None

    def explained(self, error: AcmeError) -> AcmeError:
        """Returns the error with its reason: a StoreError that a method has raised takes its place."""
        reason = self.exception_of(error) if isinstance(error, StoreError) else None
        if isinstance(reason, StoreError):
            return reason
        if reason is not None:
            error.__cause__ = reason
        return error

    def certificate(self, directory_url: str, name: str) -> Certificate | None:
        """Returns a stored certificate with its key, or None if it does not exist or is not usable."""
        made = POINTER(_native.acme_cert_t)()
        url, text = to_text(directory_url, "directory_url"), to_text(name, "name")
        self.check(_native.acme_store_cert(self.pointer, url, text, pointer(made)))
        return Certificate._wrap(own(made, _native.acme_cert_free)) if made else None

    def check(self, status: int) -> None:
        """Raises the error of a call about this store."""
        try:
            check(status)
        except AcmeError as error:
            raise self.explained(error) from error.__cause__


class FolderStore(NativeStore):
    """A folder, which the library reads, writes and locks."""

    def __init__(self, folder: str):
        self.folder = folder
        self._held: set[str] = set()
        path = to_optional_path(folder, "folder")
        make, free = _native.acme_store_directory, _native.acme_store_free
        try:
            super().__init__(create(_native.acme_store_t, free, lambda s: make(path, s)))
        except AcmeError as error:
            raise self.explained(error) from None
        _folders.add(self)

    def acquire(self, what: str) -> bool:
        """Begins work on ``what``; returns False if another thread or program is working on it.

        The folder is locked against other programs as long as any work is in progress. End it with
        :meth:`release`.
        """
        status = _native.acme_store_claim(self.pointer, _claimed(what))
        if status == Status.ERR_CONFLICT:
            return False
        self.check(status)
        self._held.add(what)
        return True

    def release(self, what: str) -> None:
        self._held.discard(what)
        check(_native.acme_store_release(self.pointer, _claimed(what)))

    def explained(self, error: AcmeError) -> AcmeError:
        """Returns the error with the file's path and the number of the system's error."""
        if isinstance(error, StoreError) and (found := UNREADABLE.match(error.message)):
            ending = KEY if found[2] == "key" else CHAIN
            path = os.path.join(self.folder, file_of(found[1]) + ending)
            error.message = f"{path}: {error.message[found.end() :]}"
        if isinstance(error, StoreError) and error.message.startswith(self.folder) and not error.path:
            error.path = self.folder + error.message[len(self.folder) :].partition(": ")[0]
            found = SYSTEM_ERROR.search(error.message)
            if found:
                error.errno, error.message = int(found[1]), error.message[: found.start()]
        return error

    def _after_fork(self) -> None:
        """Leaves the lock to the parent: it lasts as long as any process has its file open."""
        for what in tuple(self._held):
            self.release(what)


def _claimed(what: str) -> bytes:
    return what.encode("utf-8", "replace")


_folders: WeakSet[FolderStore] = WeakSet()


def _after_fork() -> None:
    for folder in list(_folders):
        folder._after_fork()


os.register_at_fork(after_in_child=_after_fork)


class CustomStore(NativeStore):
    """A store of methods in Python. The library calls them on any thread."""

    def __init__(self, records: Records):
        self.records = records
        self._calls = _Calls(records)
        functions = _native.acme_store_functions_t()
        functions.size = sizeof(functions)
        functions.get, functions.put, functions.list = _on_get, _on_put, _on_list
        functions.revision = _on_revision
        functions.user = number = next(_numbers)
        _stores[number] = self._calls
        make, free = _native.acme_store_custom, _native.acme_store_free
        super().__init__(create(_native.acme_store_t, free, lambda s: make(pointer(functions), s)))

    def exception_of(self, error: StoreError) -> BaseException | None:
        return next((one for start, one in self._calls.failures.items() if start in error.message), None)


class _Calls:
    """The calls of a store's methods."""

    def __init__(self, records: Records):
        self.records = records
        # The exception of the last call of a method for a record, if it failed, by a part of the library's
        # message about it.
        self.failures: dict[str, BaseException] = {}

    def call(self, method: str, name: bytes, act: Callable[[str], None]) -> int:
        """Calls a method; returns the status for the library, through which no exception passes."""
        record = name.decode()
        failed, changed = f"{record}: the store's {method} ", f"{record}: another program"
        try:
            act(record)
        except ConflictError as error:
            self.failures[changed] = error
            return Status.ERR_CONFLICT
        except BaseException as error:
            self.failures[failed] = error
            if not isinstance(error, Exception):
                deferred.exception = error  # Ctrl-C: raised after the call into C
            return Status.ERR_STORE
        for one in failed, changed:
            self.failures.pop(one, None)
        return 0


# C callbacks must outlive every call, so they are global, and find their store by its number. A client and its
# operations keep the store alive.
_numbers = count(1)
_stores: WeakValueDictionary[int, _Calls] = WeakValueDictionary()


def _get(name: bytes, found: _Pointer[_native.acme_record_t], user: int) -> int:
    calls = _stores.get(user)
    if calls is None:  # its clients are gone
        return Status.ERR_STORE
    records = calls.records

    def get(name: str) -> None:
        record = records.get(name)
        if record is not None:
            version, value = record
            if not isinstance(value, bytes):
                raise TypeError(f"a value must be bytes, not {type(value).__name__}")
            _expect(_native.acme_record_set(found, _version(version), value, len(value)))

    return calls.call("get", name, get)


def _put(name: bytes, expected: int, value: int | None, size: int, version: Any, user: int) -> int:
    calls = _stores.get(user)
    if calls is None:  # its clients are gone
        return Status.ERR_STORE
    records = calls.records

    def put(name: str) -> None:
        data = None if value is None else string_at(value, size)
        new = records.put(name, expected, data)
        if data is not None:
            version[0] = _version(new)

    return calls.call("put", name, put)


def _list(
    prefix: bytes, after: bytes, limit: int, found: _Pointer[_native.acme_names_t], user: int
) -> int:
    calls = _stores.get(user)
    if calls is None:  # its clients are gone
        return Status.ERR_STORE
    records = calls.records

    def add(prefix: str) -> None:
        for name in records.list(prefix, after.decode(), limit):
            _expect(_native.acme_names_add(found, to_text(name, "a name")))

    return calls.call("list", prefix, add)


def _revision(revision: Any, user: int) -> int:
    calls = _stores.get(user)
    if calls is None:  # its clients are gone
        return Status.ERR_STORE
    find = getattr(calls.records, "revision", lambda: None)

    def note(_: str) -> None:
        revision[0] = find() or 0

    return calls.call("revision", b"the store", note)


def _expect(status: int) -> None:
    """Raises the error of a call within a call. Unlike check(), no exception that is raised after both."""
    if status < 0:
        raise error_of(_native.acme_last_error())


def _version(version: int) -> int:
    if not isinstance(version, int):
        raise TypeError(f"a version must be int, not {type(version).__name__}")
    if not 0 < version < 1 << 64:
        raise ValueError(f"the version {version} is not in 1 to 2**64-1")
    return version


_on_get, _on_put = _native.acme_store_get_fn(_get), _native.acme_store_put_fn(_put)
_on_list, _on_revision = _native.acme_store_list_fn(_list), _native.acme_store_revision_fn(_revision)
