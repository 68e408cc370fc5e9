"""Stores whose values are encrypted."""

from __future__ import annotations

import os
from ctypes import POINTER, c_uint8, cast
from typing import TYPE_CHECKING

from . import _native
from ._arguments import PathLike, to_optional_path
from ._handle import create
from ._native_store import NativeStore
from .errors import InvalidArgument, StoreError
from .record_store import RecordKeeping

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["SealedStore"]

KEY_SIZE = 32


class SealedStore(RecordKeeping):
    """Encrypts the values of another store with a key of the program's (AES-256-GCM).

    ::

        store = SealedStore(Table("certificates.db"), key)
        with store.client(LETSENCRYPT_STAGING, terms_agreed=True) as ca:
            cert = store.obtain(ca, ["example.org"], solver)

    The other store sees names, sizes and versions of records only, and no record passes for another one. A
    record that cannot be opened is never overwritten: a :class:`StoreError` has the id of the key that is
    missing, or says that the value is damaged.

    store
        A :class:`MemoryStore`, a :class:`RecordStore`, another :class:`SealedStore`, or the path of a folder,
        in which each record becomes a file ``NAME.record``. No server can read these files; neither can a
        :class:`Store` nor the command.
    key
        32 random bytes (``secrets.token_bytes(32)``). Without them the records are lost: keep them elsewhere.
    old_key
        An earlier key. RecordKeeping that it has sealed can be read; each is sealed with ``key`` by its next write,
        or by :meth:`reseal`.
    accept_plain
        Whether values that are not sealed are read, and sealed by their next write or :meth:`reseal`. For
        the change to a sealed store only: a person who can write the store could plant a value.
    """

    def __init__(
        self,
        store: RecordKeeping | PathLike,
        key: bytes,
        old_key: bytes | None = None,
        *,
        accept_plain: bool = False,
    ) -> None:
        inner = _inner(store)
        secret = _to_key(key, "key")
        old = POINTER(c_uint8)() if old_key is None else _to_key(old_key, "old_key")

        def make(made: _Pointer[_Pointer[_native.acme_store_t]]) -> int:
            return _native.acme_store_sealed(inner.pointer, secret, old, bool(accept_plain), made)

        self._store = _Sealed(create(_native.acme_store_t, _native.acme_store_free, make), inner)

    def _native(self) -> NativeStore:
        return self._store

    def reseal(self) -> None:
        """Seals each record with the key that is sealed with ``old_key``, or plain and accepted.

        Afterwards neither ``old_key`` nor ``accept_plain`` is needed any more. Other programs may use the
        store meanwhile.
        """
        self._store.check(_native.acme_store_reseal(self._store.pointer))


class _Sealed(NativeStore):
    def __init__(self, pointer: _Pointer[_native.acme_store_t], inner: NativeStore):
        super().__init__(pointer)
        self._inner = inner

    def exception_of(self, error: StoreError) -> BaseException | None:
        return self._inner.exception_of(error)


def _inner(store: RecordKeeping | PathLike) -> NativeStore:
    if isinstance(store, RecordKeeping):
        return store._native()
    if not isinstance(store, (str, os.PathLike)):
        raise TypeError(
            f"store must be a MemoryStore, RecordStore, SealedStore or the path of a folder, "
            f"not {type(store).__name__}"
        )
    path = to_optional_path(store, "store")
    make, free = _native.acme_store_directory, _native.acme_store_free
    return NativeStore(create(_native.acme_store_t, free, lambda made: make(path, made)))


def _to_key(key: bytes, name: str) -> _Pointer[c_uint8]:
    if not isinstance(key, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name} must be bytes, not {type(key).__name__}")
    data = bytes(key)
    if len(data) != KEY_SIZE:
        raise InvalidArgument(f"{name} has {len(data)} bytes, not {KEY_SIZE}")
    return cast((c_uint8 * KEY_SIZE).from_buffer_copy(data), POINTER(c_uint8))
