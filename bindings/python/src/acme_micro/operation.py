"""Operations: requests to a CA in progress, as iterators of steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count, takewhile
from typing import TYPE_CHECKING, Callable

from . import _native
from ._handle import Handle, borrow, own
from ._values import EPOCH, from_text
from .certificates import Certificate
from .errors import AcmeError, Misuse, Status, StoreError, check
from .keys import PrivateKey
from .solvers import payloads
from .steps import (
    Challenge,
    Publish,
    Request,
    Sign,
    Step,
    Unpublish,
    Wait,
    challenge_from_c,
    request_from_c,
    sign_from_c,
)

if TYPE_CHECKING:
    from ctypes import _Pointer

    from ._native_store import NativeStore
    from .solvers import Solver

__all__ = ["Operation", "RenewalInfo", "Signer"]

Signer = Callable[[Sign], bytes]
"""A function that signs with a key outside the process: returns the signature over ``step.input``."""

# Interval in seconds in which a waiting operation notices a cancellation.
POLL_INTERVAL = 0.25

logger = logging.getLogger("acme_micro")


@dataclass(frozen=True)
class RenewalInfo:
    """When to renew a certificate (RFC 9773)."""

    #: Start and end of the window in which to renew. If it is in the past, renew now.
    window_start: datetime
    window_end: datetime
    #: This certificate's time in the window. It stays the same as long as the window does.
    renew_at: datetime
    #: When to fetch the renewal information again: the CA may move the window.
    check_again_at: datetime
    #: URL of a page that explains the window, or None. Untrusted text.
    explanation_url: str | None
    #: Whether the CA gave this window. If not, it follows from the certificate's lifetime.
    from_ca: bool

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew."""
        return datetime.now(timezone.utc) >= self.renew_at


class Operation(Handle[_native.acme_op_t], Iterator[Step]):
    """An operation at a CA, begun by :meth:`Client.begin_order` and similar methods.

    Either :meth:`run` it, or iterate over it and do each :class:`Step` yourself. An operation opens no
    socket, starts no thread and does not sleep. The loop ends when the operation has succeeded; if it
    fails, the loop raises an :class:`AcmeError`.

    An exception in the body of the loop does not change the operation. Then either remove the
    challenges that you have published and drop the operation, or continue it in another loop.

    Several requests may be in progress at a time, and other threads or tasks may pass on their
    responses: the calls on one operation take turns. While :meth:`Request.send` runs on one thread,
    the next step waits on the others; :meth:`cancel` and the properties never wait.
    """

    _lock: threading.RLock
    _publish: Publish | None
    _certificate: Certificate | None
    _renewal_info: RenewalInfo | None
    _urls: tuple[str, ...]
    _key: PrivateKey | None
    _state: str
    _order_url: str | None
    _store: NativeStore | None
    # Called with the operation's error.
    _on_failure: Callable[[AcmeError], None] | None
    # Called when the operation has succeeded.
    _on_success: Callable[[], None] | None

    @classmethod
    def _begin(
        cls, pointer: _Pointer[_native.acme_op_t], store: NativeStore | None = None
    ) -> Operation:
        self = cls._wrap(pointer)
        self._lock = threading.RLock()
        self._publish = None
        self._certificate = None
        self._renewal_info = None
        self._urls = ()
        self._order_url = self._on_failure = self._on_success = None
        self._store = store
        key = _native.acme_op_key(pointer)
        self._key = PrivateKey._wrap(borrow(key, pointer)) if key else None
        self._refresh()
        return self

    def __iter__(self) -> Operation:
        return self

    def __next__(self) -> Step:
        with self._lock:
            if self._publish is not None:
                self._publish = None
                check(_native.acme_op_published(self._handle, None))
            try:
                step = check(_native.acme_op_poll(self._handle, 0))
                while step == _native.Step.STORE:
                    check(_native.acme_op_access_store(self._handle))
                    step = check(_native.acme_op_poll(self._handle, 0))
            except AcmeError as error:
                failure = self._failure(error)
                if self._on_failure:
                    self._on_failure(failure)
                raise failure from failure.__cause__
            finally:
                self._refresh()
            if step == _native.Step.REQUEST:
                return request_from_c(_native.acme_op_request(self._handle).contents, self)
            if step == _native.Step.WAIT:
                milliseconds = _native.acme_op_wait_ms(self._handle)
                return Wait(None if milliseconds < 0 else milliseconds / 1000)
            if step == _native.Step.PUBLISH:
                self._publish = Publish(self._challenges(), self)
                return self._publish
            if step == _native.Step.UNPUBLISH:
                return Unpublish(self._challenges())
            if step == _native.Step.SIGN:
                return sign_from_c(_native.acme_op_sign_request(self._handle).contents, self)
            if step != _native.Step.DONE:
                raise AcmeError(f"step {step} is unknown to this version of acme_micro: update the package")
            self._finish()
            if self._on_success:
                self._on_success()
            raise StopIteration

    def run(self, solver: Solver | None = None, sign: Signer | None = None) -> None:
        """Does all steps, blocking: with the built-in HTTPS client, ``time.sleep`` and ``solver``.

        An exception of the solver's ``publish`` is raised here, unchanged, after the challenges have been
        removed; so is KeyboardInterrupt. An exception of its ``unpublish`` is logged.
        """
        failure: Exception | None = None
        published: tuple[Challenge, ...] = ()
        try:
            for step in self:
                if isinstance(step, Request):
                    step.send()
                elif isinstance(step, Wait):
                    time.sleep(POLL_INTERVAL if step.seconds is None else min(step.seconds, POLL_INTERVAL))
                elif isinstance(step, Publish):
                    # Persistent challenges stay published.
                    published = tuple(c for c in step.challenges if not c.persistent)
                    try:
                        _publish(self, _required(solver), step)
                    except Exception as error:
                        failure = error
                        step.fail(error)
                elif isinstance(step, Sign):
                    try:
                        step.signed(_required_signer(sign)(step))
                    except Exception as error:
                        failure = error
                        step.fail(error)
                else:
                    # Persistent challenges stay published.
                    published = ()
                    unpublish_quietly(solver, step.challenges)
        except AcmeError:
            if failure is None:
                raise
        finally:
            # Only if an exception ended the loop early; otherwise an Unpublish step has done it.
            if published:
                unpublish_quietly(solver, published)
        if failure is not None:
            raise failure

    def cancel(self) -> None:
        """Ends the operation at its next step, after an :class:`Unpublish` step if challenges are published.

        May be called at any time, from any thread or signal handler. The loop then raises
        :class:`Canceled`.
        """
        pointer = self._pointer
        if pointer is not None:
            _native.acme_op_cancel(pointer)

    @property
    def certificate(self) -> Certificate:
        """The certificate, after the loop has ended; raises :class:`Misuse` before, or without an order."""
        if self._certificate is None:
            raise Misuse(f'the operation has no certificate, or not yet: its state is "{self._state}"')
        return self._certificate

    @property
    def renewal_info(self) -> RenewalInfo | None:
        """When to renew: the result of :meth:`ClientBase.begin_renewal_info`, or of an order with
        ``only_if_due`` that ended without a certificate. None otherwise."""
        return self._renewal_info

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of authorizations or orders, after the loop of an operation that lists them has ended."""
        return self._urls

    @property
    def key(self) -> PrivateKey | None:
        """The certificate's key, known from the start: store it before the first step.

        None for an order with a ``csr``, and for other operations than orders.
        """
        return self._key

    @property
    def state(self) -> str:
        """One word about the progress, such as ``"authorization"`` or ``"finalize"``.

        The other words: ``new directory nonce account order publish challenge unpublish certificate
        revocation key-change renewal-info order-list``.
        """
        return self._state

    @property
    def order_url(self) -> str | None:
        """The order's URL, to resume it after a restart; None until the CA has created the order."""
        return self._order_url

    def _describe(self) -> str:
        return self._state

    def _refresh(self) -> None:
        """Copies the properties' values, which can then be read while another thread uses the handle."""
        if self._pointer is not None:
            self._state = from_text(_native.acme_op_state(self._pointer)) or "new"
            self._order_url = from_text(_native.acme_op_order_url(self._pointer))

    def _failure(self, error: AcmeError) -> AcmeError:
        """Returns the error of a failed operation with the exception of a store's method, and with the
        certificate that could not be stored."""
        if self._store is None or not isinstance(error, StoreError):
            return error
        failure = self._store.explained(error)
        if isinstance(failure, StoreError):
            failure.certificate = self._take_certificate()
        return failure

    def _take_certificate(self) -> Certificate | None:
        taken = _native.acme_op_take_cert(self._handle)
        return Certificate._wrap(own(taken, _native.acme_cert_free)) if taken else None

    def _finish(self) -> None:
        """Takes the results of a finished operation."""
        self._certificate = self._take_certificate() or self._certificate
        self._renewal_info = _renewal_info(_native.acme_op_renewal_info(self._handle))
        self._urls = _urls(self._handle)
        self._refresh()

    def _challenges(self) -> tuple[Challenge, ...]:
        structs = (_native.acme_op_challenge(self._handle, index) for index in count())
        return tuple(challenge_from_c(struct.contents) for struct in takewhile(bool, structs))

    def _respond(
        self, id: int, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        with self._lock:
            op = self._handle
            for name, value in fields:
                add = _native.acme_op_response_header
                if not _accepted(add(op, id, name, len(name), value, len(value))):
                    return
            if _accepted(_native.acme_op_response_body(op, id, body, len(body))):
                check(_native.acme_op_response_end(op, id, status))

    def _respond_with(self, step: Publish, index: int, payload: bytes) -> None:
        with self._lock:
            self._check_publishing(step)
            self._give_payload(index, payload)

    def _give_payload(self, index: int, payload: bytes) -> None:
        challenge = _native.acme_op_challenge(self._handle, index)
        check(_native.acme_op_respond_with(self._handle, challenge, payload, len(payload)))

    def _fail(self, id: int, why: bytes) -> None:
        with self._lock:
            check(_native.acme_op_response_failed(self._handle, id, why))

    def _send(self, id: int) -> None:
        with self._lock:
            _accepted(_native.acme_op_send(self._handle, id))

    def _signed(self, id: int, signature: bytes) -> None:
        with self._lock:
            check(_native.acme_op_signed(self._handle, id, signature, len(signature)))

    def _sign_failed(self, id: int, why: bytes) -> None:
        with self._lock:
            check(_native.acme_op_sign_failed(self._handle, id, why))

    def _check_publishing(self, step: Publish) -> None:
        if self._publish is not step:
            raise Misuse("these challenges are not waiting to be published")

    def _publish_failed(self, step: Publish, why: bytes) -> None:
        with self._lock:
            self._check_publishing(step)
            self._publish = None
            check(_native.acme_op_published(self._handle, why))


def _urls(pointer: _Pointer[_native.acme_op_t]) -> tuple[str, ...]:
    found = (from_text(_native.acme_op_url(pointer, index)) for index in count())
    return tuple(url for url in takewhile(lambda url: url is not None, found) if url)


def _publish(operation: Operation, solver: Solver, step: Publish) -> None:
    solver.publish(step.challenges)
    for index, payload in payloads(solver, step.challenges):
        operation._respond_with(step, index, payload)


def _accepted(status: int) -> bool:
    """Whether the library takes more of this response. A response that breaks a limit is complete; the next
    step raises its error."""
    if status == Status.ERR_PROTOCOL:
        return False
    check(status)
    return True


def _required(solver: Solver | None) -> Solver:
    if solver is None:
        raise Misuse("there are challenges to publish, and no solver was given")
    return solver


def _required_signer(sign: Signer | None) -> Signer:
    if sign is None:
        raise Misuse("a key is outside the process, and no sign function was given")
    return sign


def _renewal_info(struct: _Pointer[_native.acme_renewal_info_t]) -> RenewalInfo | None:
    if not struct:
        return None
    info = struct.contents
    return RenewalInfo(
        window_start=EPOCH + timedelta(milliseconds=info.window_start),
        window_end=EPOCH + timedelta(milliseconds=info.window_end),
        renew_at=EPOCH + timedelta(milliseconds=info.renew_at),
        check_again_at=EPOCH + timedelta(milliseconds=info.check_again_at),
        explanation_url=from_text(info.explanation_url),
        from_ca=bool(info.from_ca),
    )


def unpublish_quietly(solver: Solver | None, challenges: tuple[Challenge, ...]) -> None:
    """Removes challenges. An exception of the solver is only logged: it must not end the operation."""
    if solver is None or not challenges:
        return
    try:
        solver.unpublish(challenges)
    except Exception:
        names = ", ".join(challenge.identifier for challenge in challenges)
        logger.warning("removing the challenges for %s failed", names, exc_info=True)
