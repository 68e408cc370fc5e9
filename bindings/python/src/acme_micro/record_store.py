"""Stores other than a folder: in memory, or of a program's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from . import _native
from ._keeping import Keeping
from ._native_store import CustomStore, NativeStore
from .certificates import Certificate

__all__ = ["MemoryStore", "RecordStore"]


class RecordKeeping(Keeping):
    """The methods of all stores other than a folder."""

    def certificate(self, directory_url: str, name: str) -> Certificate | None:
        """Returns a stored certificate with its key, or None if it does not exist or is not usable.

        Sends no request. ``name`` is the name in the store, usually the first of the certificate's names.
        """
        return self._native().certificate(directory_url, name)

    def check(self) -> None:
        """Checks that the store keeps its promises: versions, comparison, removal, lists.

        Writes and removes records whose names begin with ``check/``. Raises :class:`Misuse` with the broken
        promise, or :class:`StoreError`.
        """
        store = self._native()
        store.check(_native.acme_store_check(store.pointer))


class MemoryStore(RecordKeeping):
    """Keeps accounts and certificates in memory, for tests and for programs that keep what they need elsewhere.

    ::

        store = MemoryStore()
        with store.client(LETSENCRYPT_STAGING, terms_agreed=True) as ca:
            cert = store.obtain(ca, ["example.org"], solver)

    Its content lasts as long as the object, or a client of it. Threads may share it, also for several CAs.
    """

    def __init__(self) -> None:
        self._store = NativeStore.in_memory()

    def _native(self) -> NativeStore:
        return self._store


class RecordStore(RecordKeeping):
    """The base class of a store of your own, for instance in a database: derive from it, and write
    :meth:`get`, :meth:`put` and :meth:`list`.

    A record has a name (text without control characters, at most 512 bytes), a value (at most 262144
    bytes) and a version, a number from 1. The values contain keys: protect them. Each write compares the
    version, so that several programs and machines may share the store without locks. If two of them write
    the same record, one gets :class:`ConflictError`.

    The library calls the methods on any thread, several at a time, and they may block. An exception of a
    method becomes the ``__cause__`` of a :class:`StoreError`. :meth:`check` shows whether the methods keep
    their promises.
    """

    @abstractmethod
    def get(self, name: str) -> tuple[int, bytes] | None:
        """Returns version and value of a record; None if there is no record of this name."""

    @abstractmethod
    def put(self, name: str, expected: int, value: bytes | None) -> int:
        """Writes a record if its version is still ``expected``, and returns its new version.

        ``expected`` is 0 if there must be no record of this name. The new version differs from every
        earlier one. A ``value`` of None removes the record; then the result does not matter. If the record
        has another version, the method changes nothing and raises :class:`ConflictError`. When it
        returns, the value survives a power failure.
        """

    @abstractmethod
    def list(self, prefix: str, after: str, limit: int) -> Iterable[str]:
        """Returns the names that begin with ``prefix`` and come after the name ``after``, in the order of
        their UTF-8 bytes, at most ``limit`` of them."""

    def revision(self) -> int | None:
        """Returns a number that changes whenever a record changes; None: not known.

        A manager calls this once a minute, to notice certificates that another program has renewed.
        """
        return None

    def _native(self) -> NativeStore:
        return CustomStore(self)
