"""The client for asyncio.

A driver of the library sends the requests: it has a few threads, and one file descriptor that the event
loop watches. The methods of a solver run on the event loop if they are coroutines, and otherwise on a
thread, where they may block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ctypes import pointer, sizeof
from typing import TYPE_CHECKING, Any, Callable

from . import _native
from ._client import ClientBase
from ._driver import Driver
from ._native import RevocationReason
from ._publishing import AnySolver as AnySolver
from ._publishing import Publishing
from ._threads import thread_limit_in_words
from ._values import reason_of
from ._waiting import on_thread as on_thread
from ._waiting import until_done
from .certificates import Certificate
from .errors import AcmeError, check, error_of
from .keys import PrivateKey
from .operation import Operation, RenewalInfo, Signer
from .solvers import payloads, with_types_of
from .steps import Challenge, Publish, sign_from_c

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["AsyncClient"]


class AsyncClient(ClientBase):
    """An account at a CA, for asyncio: :class:`Client` with coroutines.

    ::

        async with AsyncClient(LETSENCRYPT_STAGING, key, terms_agreed=True) as ca:
            one, two = await asyncio.gather(
                ca.obtain(["a.example.org"], solver), ca.obtain(["b.example.org"], solver)
            )

    If a task is cancelled, its operation ends and its challenges are removed before the task ends.
    Use a client on one event loop at a time, and close it there, by ``async with`` or
    :meth:`aclose`.
    """

    _has_driver = True
    _driver: _Driver | None = None

    async def register(self) -> str:
        """Registers the account, or finds the existing one; returns its URL (RFC 8555 section 7.3)."""
        await self._run(self.begin_register())
        return self._account_url()

    async def find_account(self) -> str:
        """Finds the account of the key, and returns its URL; see :meth:`begin_find_account`."""
        await self._run(self.begin_find_account())
        return self._account_url()

    async def update_contacts(self, contacts: Iterable[str]) -> None:
        """Replaces the account's contacts (RFC 8555 section 7.3.2); an empty list removes them."""
        await self._run(self.begin_update_contacts(contacts))

    async def change_key(self, new_key: PrivateKey) -> None:
        """Replaces the account's key; :meth:`begin_key_change` says when to store which key."""
        await self._run(self.begin_key_change(new_key))

    async def deactivate(self) -> None:
        """Deactivates the account (RFC 8555 section 7.3.6). This cannot be undone."""
        await self._run(self.begin_deactivate())

    async def renewal_info(self, certificate: Certificate) -> RenewalInfo:
        """Finds out when to renew a certificate (RFC 9773); see :meth:`begin_renewal_info`."""
        operation = await self._run(self.begin_renewal_info(certificate))
        assert operation.renewal_info is not None
        return operation.renewal_info

    async def authorize(
        self, names: Iterable[str], solver: AnySolver, **options: Any
    ) -> tuple[str, ...]:
        """Validates names before an order; returns the URLs of their authorizations.

        The other options are those of :meth:`begin_authorize`.
        """
        operation = self.begin_authorize(names, **with_types_of(solver, options))
        return (await self._run(operation, solver)).urls

    async def deactivate_authorization(self, authorization_url: str) -> None:
        """Deactivates an authorization (RFC 8555 section 7.5.2). This cannot be undone."""
        await self._run(self.begin_deactivate_authorization(authorization_url))

    async def abandon_order(self, order_url: str) -> None:
        """Deactivates the pending authorizations of an order; see :meth:`begin_abandon_order`."""
        await self._run(self.begin_abandon_order(order_url))

    async def orders(self) -> tuple[str, ...]:
        """Returns the URLs of the account's orders (RFC 8555 section 7.1.2.1)."""
        return (await self._run(self.begin_list_orders())).urls

    async def revoke(
        self,
        certificate: Certificate,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        *,
        key: PrivateKey | None = None,
    ) -> None:
        """Revokes a certificate; see :meth:`begin_revoke`."""
        await self._run(self.begin_revoke(certificate, reason, key=key))

    async def obtain(
        self,
        names: Iterable[str],
        solver: AnySolver,
        *,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """Obtains a certificate: registers the account if necessary, orders, validates, downloads.

        ``solver`` publishes the challenges, such as :class:`Webroot` or :class:`AsyncStandalone`; an
        exception of its ``publish`` is raised here, unchanged. ``sign`` signs with keys outside the
        process; it runs on a thread. The other options are those of :meth:`begin_order`.
        """
        operation = self.begin_order(names, **with_types_of(solver, options))
        return (await self._run(operation, solver, sign)).certificate

    async def run(
        self, operation: Operation, solver: AnySolver | None = None, sign: Signer | None = None
    ) -> None:
        """Runs an operation that this client began, such as :meth:`begin_order`'s, to its end."""
        await self._run(operation, solver, sign)

    async def aclose(self) -> None:
        """Cancels the running operations, and closes the client. A second call has no effect."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.aclose()
        self.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _run(
        self, operation: Operation, solver: AnySolver | None = None, sign: Signer | None = None
    ) -> Operation:
        loop = asyncio.get_running_loop()
        if self._driver is None or self._driver.loop is not loop:
            self._driver = _Driver(loop, *self._driver_limits)
        await _Run(self._driver, operation, solver, sign).run()
        return operation


class _Driver(Driver):
    """The driver of a client, with its operations."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_threads: int, max_requests_per_ca: int):
        super().__init__(loop, max_threads, max_requests_per_ca)
        self.runs: set[_Run] = set()

    async def aclose(self) -> None:
        for run in tuple(self.runs):
            run.operation.cancel()
        while self.runs:
            await asyncio.wait([run.ended for run in self.runs])
        await super().aclose()


class _Run:
    """An operation in the driver. The library calls the methods inside its dispatch, so they only start
    tasks and set results."""

    def __init__(
        self,
        driver: _Driver,
        operation: Operation,
        solver: AnySolver | None,
        sign: Signer | None,
    ):
        self.operation = operation
        self.done: asyncio.Future[int] = driver.loop.create_future()
        self.ended: asyncio.Future[None] = driver.loop.create_future()
        self._driver = driver
        self._solver = solver
        self._sign = sign
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing = Publishing(driver.loop, solver, self._tasks)
        self._failure: BaseException | None = None

    async def run(self) -> None:
        number = id(self)
        callbacks = _native.acme_driver_callbacks_t()
        callbacks.size = sizeof(callbacks)
        callbacks.done, callbacks.user = _on_done, number
        callbacks.publish, callbacks.unpublish, callbacks.sign = _on_publish, _on_unpublish, _on_sign
        _runs[number] = self
        try:
            handle = self.operation._handle  # valid even if the object is closed meanwhile
            check(_native.acme_driver_add(self._driver.handle, handle, pointer(callbacks)))
            self._driver.runs.add(self)
            status = await self._outcome()
        except asyncio.CancelledError:
            # Keep a certificate that was issued before the cancellation.
            if self.done.done() and self.done.result() >= 0:
                self.operation._finish()
            raise
        finally:
            self._driver.runs.discard(self)
            del _runs[number]
            self.operation._refresh()
            self.ended.set_result(None)
        if self._failure is not None:
            raise self._failure
        if status < 0:
            error = self.operation._failure(error_of(_native.acme_op_error(handle)))
            if self.operation._on_failure:
                await on_thread(self.operation._on_failure, error)
            raise error from error.__cause__
        self.operation._finish()
        if self.operation._on_success:
            await on_thread(self.operation._on_success)

    async def _outcome(self) -> int:
        """Waits until the operation has left the driver and the solver has removed the challenges."""
        await until_done(lambda: [self.done, *self._tasks], self.operation.cancel)
        return self.done.result()

    def publish(self) -> None:
        self.operation._refresh()
        step = Publish(self.operation._challenges(), self.operation)
        self._publishing.publish(step.challenges, self._published)

    def _published(self, challenges: tuple[Challenge, ...], failure: BaseException | None) -> None:
        why: bytes | None = None
        try:
            if failure is not None:
                raise failure
            for index, payload in payloads(self._solver, challenges):
                self.operation._give_payload(index, payload)
        except BaseException as error:
            why = self._fail(error)
        _native.acme_op_published(self.operation._handle, why)

    def unpublish(self) -> None:
        self.operation._refresh()
        self._publishing.unpublish(self.operation._challenges())

    def sign(self) -> None:
        self.operation._refresh()
        struct = _native.acme_op_sign_request(self.operation._handle)
        self._publishing.start(self._sign_step(sign_from_c(struct.contents, self.operation)))

    async def _sign_step(self, step: Any) -> None:
        try:
            if self._sign is None:
                raise AcmeError("a key is outside the process, and no sign function was given")
            with thread_limit_in_words():
                step.signed(await asyncio.to_thread(self._sign, step))
        except BaseException as error:
            step.fail(self._fail(error).decode("utf-8", "replace"))

    def _fail(self, error: BaseException) -> bytes:
        if not isinstance(error, asyncio.CancelledError):
            self._failure = self._failure or error
        return reason_of(error)


# C callbacks must outlive every call, so they are global, and find their run by its number.
_runs: dict[int, _Run] = {}


def _callback(act: Callable[[_Run], None]) -> Any:
    def callback(op: _Pointer[_native.acme_op_t], user: int) -> None:
        act(_runs[user])

    return _native.acme_op_fn(callback)


def _done(op: _Pointer[_native.acme_op_t], status: int, user: int) -> None:
    _runs[user].done.set_result(status)


_on_publish = _callback(_Run.publish)
_on_unpublish = _callback(_Run.unpublish)
_on_sign = _callback(_Run.sign)
_on_done = _native.acme_op_done_fn(_done)
