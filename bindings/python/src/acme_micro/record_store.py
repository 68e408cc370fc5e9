"""Stores other than a folder: in memory, or of a program's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from ctypes import POINTER, pointer
from typing import TYPE_CHECKING, Any

from . import _native
from ._arguments import to_text
from ._handle import own
from ._native_store import CustomStore, NativeStore
from .certificates import Certificate
from .client import Client
from .errors import AcmeError, InvalidArgument, check
from .keys import KeyType
from .operation import Operation, Signer
from .solvers import Solver, with_types_of

if TYPE_CHECKING:
    from ._client import ClientBase
    from .aio import AnySolver, AsyncClient

__all__ = ["MemoryStore", "RecordStore"]


class _Keeping(ABC):
    """The methods of all stores other than a folder."""

    @abstractmethod
    def _native(self) -> NativeStore:
        """Returns the store for the library."""

    def client(self, directory_url: str, **options: Any) -> Client:
        """Returns a client for the account of this store at a CA.

        The other options are those of :class:`Client`, without ``account_key`` and ``account_url``. The
        first operation reads the account's key; if the store has none, a new key is stored before the CA
        gets a request.
        """
        return Client(directory_url, _store=self._native(), **_without_account(options))

    def async_client(self, directory_url: str, **options: Any) -> AsyncClient:
        """Returns a client for asyncio; otherwise as :meth:`client`."""
        from .aio import AsyncClient

        return AsyncClient(directory_url, _store=self._native(), **_without_account(options))

    def obtain(
        self,
        client: Client,
        names: Iterable[str],
        solver: Solver,
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        new_key: bool = False,
        renew_now: bool = False,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """Returns the stored certificate for these names, or obtains a new one, and stores it.

        A new one is obtained if no certificate is stored or usable, if its renewal is due (RFC 9773), or
        if it has other names.

        client
            A client from :meth:`client`.
        name
            The name of the certificate in the store, instead of the first one of ``names``.
        key_type
            Type of the certificate's key, if the store has no key yet, or with ``new_key``.
        new_key
            Whether each renewal has a new key.
        renew_now
            Whether to renew the certificate even if the renewal is not due.

        The other options, and the exceptions, are those of :meth:`Client.obtain`; besides, the store can
        raise :class:`StoreError`. An order that may still succeed is kept, and the next call resumes it.
        """
        operation = _begin(client, names, solver, name, key_type, new_key, renew_now, options)
        try:
            operation.run(solver, sign)
        finally:
            operation.close()
        return operation.certificate

    async def obtain_async(
        self,
        client: AsyncClient,
        names: Iterable[str],
        solver: AnySolver,
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        new_key: bool = False,
        renew_now: bool = False,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """As :meth:`obtain`, for asyncio; ``client`` is a client from :meth:`async_client`.

        The store is read and written on threads.
        """
        operation = _begin(client, names, solver, name, key_type, new_key, renew_now, options)
        try:
            await client.run(operation, solver, sign)
        finally:
            operation.close()
        return operation.certificate

    def certificate(self, directory_url: str, name: str) -> Certificate | None:
        """Returns a stored certificate with its key, or None if it does not exist or is not usable.

        Sends no request. ``name`` is the name in the store, usually the first of the certificate's names.
        """
        store = self._native()
        made = POINTER(_native.acme_cert_t)()
        url, text = to_text(directory_url, "directory_url"), to_text(name, "name")
        _check(store, _native.acme_store_cert(store.pointer, url, text, pointer(made)))
        return Certificate._wrap(own(made, _native.acme_cert_free)) if made else None


class MemoryStore(_Keeping):
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

    def check(self) -> None:
        """Checks that the store keeps its promises, as :meth:`RecordStore.check` does."""
        _check(self._store, _native.acme_store_check(self._store.pointer))


class RecordStore(_Keeping):
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

    def check(self) -> None:
        """Checks that the methods keep their promises: versions, comparison, removal, lists.

        Writes and removes records whose names begin with ``check/``. Raises :class:`Misuse` with the broken
        promise, or :class:`StoreError`.
        """
        store = self._native()
        _check(store, _native.acme_store_check(store.pointer))


def _begin(
    client: ClientBase,
    names: Iterable[str],
    solver: AnySolver,
    name: str | None,
    key_type: KeyType,
    new_key: bool,
    renew_now: bool,
    options: dict[str, Any],
) -> Operation:
    stored = client._stored(name, key_type, new_key)
    return client.begin_order(
        names, only_if_due=not renew_now, _stored=stored, **with_types_of(solver, options)
    )


def _without_account(options: dict[str, Any]) -> dict[str, Any]:
    for name in "account_key", "account_url":
        if name in options:
            raise InvalidArgument(f"{name} comes from the store: leave it out")
    return options


def _check(store: NativeStore, status: int) -> None:
    try:
        check(status)
    except AcmeError as error:
        raise store.explained(error) from error.__cause__
