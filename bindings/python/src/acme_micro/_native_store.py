"""Stores of the library: in memory, and of methods in Python."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import pointer, sizeof, string_at
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, Protocol
from weakref import WeakValueDictionary

from . import _native
from ._arguments import to_text
from ._handle import create
from .errors import AcmeError, ConflictError, Status, StoreError, deferred, error_of

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["CustomStore", "NativeStore", "Records"]


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
