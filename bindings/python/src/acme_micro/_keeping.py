"""The common part of all stores: their clients, and their certificates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ._client import ClientBase
from ._native_store import NativeStore
from .certificates import Certificate
from .client import Client
from .errors import InvalidArgument
from .keys import KeyType
from .operation import Operation, Signer
from .solvers import Solver, with_types_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .aio import AnySolver, AsyncClient

__all__ = ["Keeping", "Order"]

AnyClient = TypeVar("AnyClient", bound=ClientBase)


class Order(NamedTuple):
    """An order that has not begun."""

    #: The name of the certificate in the store.
    name: str | None
    begin: Callable[[], Operation]


class Keeping(ABC):
    """The methods of all stores."""

    @abstractmethod
    def _native(self) -> NativeStore:
        """Returns the store for the library."""

    def client(self, directory_url: str, **options: Any) -> Client:
        """Returns a client for the account of this store at a CA.

        If the store has no key of an account, a new one is stored before the CA gets a request. The other
        options are those of :class:`Client`; only a :class:`Store` takes ``account_key`` and
        ``account_url``, of an account that it does not keep.
        """
        return self._open(Client, directory_url, options)

    def async_client(self, directory_url: str, **options: Any) -> AsyncClient:
        """Returns a client for asyncio; otherwise as :meth:`client`."""
        from .aio import AsyncClient

        return self._open(AsyncClient, directory_url, options)

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
        order = self._order(client, names, solver, name, key_type, new_key, renew_now, options)
        with self._begun(client, order) as operation:
            operation.run(solver, sign)
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

        The store is read and written on threads. Several certificates may be obtained at the same time.
        """
        order = self._order(client, names, solver, name, key_type, new_key, renew_now, options)
        async with self._begun_async(client, order) as operation:
            await client.run(operation, solver, sign)
        return operation.certificate

    def _open(
        self, type: Callable[..., AnyClient], directory_url: str, options: dict[str, Any]
    ) -> AnyClient:
        for name in "account_key", "account_url":
            if name in options:
                raise InvalidArgument(f"{name} comes from the store: leave it out")
        return type(directory_url, _store=self._native(), **options)

    def _order(
        self,
        client: ClientBase,
        names: Iterable[str],
        solver: AnySolver,
        name: str | None,
        key_type: KeyType,
        new_key: bool,
        renew_now: bool,
        options: dict[str, Any],
    ) -> Order:
        stored = client._stored(name, key_type, new_key)
        options = with_types_of(solver, options)

        def begin() -> Operation:
            return client.begin_order(names, only_if_due=not renew_now, _stored=stored, **options)

        return Order(name, begin)

    @contextmanager
    def _begun(self, client: Client, order: Order) -> Iterator[Operation]:
        """Begins an order; its operation is closed at the end."""
        operation = order.begin()
        try:
            yield operation
        finally:
            operation.close()

    @asynccontextmanager
    async def _begun_async(self, client: AsyncClient, order: Order) -> AsyncIterator[Operation]:
        operation = order.begin()
        try:
            yield operation
        finally:
            operation.close()
