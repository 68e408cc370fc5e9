"""Certificates that stay fresh by themselves."""

from __future__ import annotations

import json
import logging
import threading
from abc import abstractmethod
from collections.abc import Iterable
from ctypes import pointer, sizeof, string_at
from dataclasses import dataclass
from datetime import datetime
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar
from weakref import WeakValueDictionary

from . import _native
from ._arguments import to_text
from ._client import ClientBase
from ._handle import Handle, create, own
from ._native import EventType
from ._threads import thread_limit_in_words
from ._values import from_text, moment, reason_of
from .certificates import Certificate
from .client import Client
from .errors import AcmeError, InvalidArgument, Misuse, check, error_of
from .keys import KeyType, PrivateKey
from .solvers import answer_from, with_types_of
from .steps import Challenge, challenge_from_c

if TYPE_CHECKING:
    from ctypes import _Pointer
    from ssl import SSLContext

    from .solvers import Solver

__all__ = ["EventType", "Manager", "ManagerBase", "ManagerEvent"]

# Interval in seconds in which run() notices Ctrl-C.
POLL_INTERVAL = 0.25

logger = logging.getLogger("acme_micro")

AnyClient = TypeVar("AnyClient", bound=ClientBase)
AnySolver = TypeVar("AnySolver")


@dataclass(frozen=True)
class ManagerEvent:
    """An event of a certificate, or of a CA."""

    #: Its kind.
    type: EventType
    #: The name of the certificate in the store; empty: the event is of a CA.
    name: str
    #: The certificate with its key, for the types that have one: use it from now on.
    certificate: Certificate | None
    #: Why the attempt failed; for a new certificate: why it is not in the store.
    error: AcmeError | None
    #: When the CA is asked again, or the next attempt begins.
    next_try: datetime | None
    #: End of the validity of the certificate in use.
    not_after: datetime | None
    #: The CA: the URL of its directory.
    ca: str


class ManagerBase(Handle[_native.acme_manager_t], Generic[AnyClient, AnySolver]):
    """The methods that :class:`Manager` and :class:`AsyncManager` share."""

    _client_type: type[AnyClient]

    def __init__(
        self,
        client: AnyClient,
        solver: AnySolver | None = None,
        *,
        on_event: Callable[[ManagerEvent], object] | None = None,
        max_attempts: int = 10,
        max_loaded: int = 1000,
    ):
        """Creates a manager without certificates.

        client
            A client from the method ``client`` of a store; for :class:`AsyncManager`, from its method
            ``async_client``.
        solver
            Publishes challenges. None: the program responds to http-01 with :meth:`http01_answer`.
        on_event
            Called with each :class:`ManagerEvent`. Its exceptions are logged.
        max_attempts
            Maximum number of attempts at the same time, 1 or more.
        max_loaded
            Maximum number of certificates in memory, 1 or more.
        """
        if not isinstance(client, self._client_type):
            raise TypeError(f"client must be {self._client_type.__name__}, not {type(client).__name__}")
        if client._store is None:
            raise InvalidArgument("client is not from the method client() of a store")
        for name, limit in ("max_attempts", max_attempts), ("max_loaded", max_loaded):
            if not isinstance(limit, int) or limit < 1:
                raise InvalidArgument(f"{name} is {limit!r}, which is not a number of at least 1")
        self._client, self._solver, self._on_event = client, solver, on_event
        self._store, self._max_loaded = client._store, max_loaded
        self._others = list[AnyClient]()
        self._ask: Callable[[str], bool] | None = None
        options = _native.acme_manager_options_t()
        options.size = sizeof(options)
        options.client = client._handle
        options.event, options.publish, options.unpublish = _on_event, _on_publish, _on_unpublish
        options.user = options.serve_user = self._number = next(_numbers)
        options.max_attempts, options.max_loaded = max_attempts, max_loaded
        _managers[self._number] = self
        make, free = _native.acme_manager_new, _native.acme_manager_free
        self._pointer = create(_native.acme_manager_t, free, lambda m: make(pointer(options), m))

    def add(
        self,
        names: Iterable[str],
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        new_key: bool = False,
        **options: Any,
    ) -> None:
        """Adds a certificate, or changes the options of the one of this name.

        name
            The name of the certificate in the store, instead of the first one of ``names``.
        key_type
            Type of the certificate's key, if the store has no key yet, or with ``new_key``.
        new_key
            Whether each renewal has a new key.

        The other options are those of :meth:`Client.begin_order`, without the ones that come from the store.
        Raises :class:`InvalidArgument` for options that cannot work.
        """
        stored = self._client._stored(name, key_type, new_key)
        handle = self._handle

        def add(order: Any) -> None:
            check(_native.acme_manager_add(handle, order))

        self._client._with_order(add, names, with_types_of(self._solver, options), stored)

    def add_ca(self, client: AnyClient) -> None:
        """Adds a CA, to which the manager goes if the CAs before it fail.

        It goes there at once with a certificate that is missing or about to expire, and with others after six
        hours. The CA has an account and a store of its own: ``client`` is from the method ``client`` of
        another store. The next renewal begins with the first CA again. Add it before the first certificate.
        """
        if not isinstance(client, self._client_type):
            raise TypeError(f"client must be {self._client_type.__name__}, not {type(client).__name__}")
        check(_native.acme_manager_add_ca(self._handle, client._handle))
        self._others.append(client)

    def on_demand(
        self,
        ask: Callable[[str], bool],
        *,
        key_type: KeyType = KeyType.P256,
        new_key: bool = False,
        **options: Any,
    ) -> None:
        """Obtains certificates on demand, for names that :meth:`certificate` does not find.

        ``ask`` is called with each name, and decides: True obtains and keeps a certificate for it. Before each
        renewal it is called again; False then ends that, with the event ``EventType.STOPPED``. A client may
        send any name: allow only names that you serve. ``ask`` is called as ``on_event`` is; an exception
        is logged, and counts as False. The manager asks about at most 600 names a minute, adds at most 100 an
        hour, and does not ask again about a refused name for ten minutes. The other options are those of
        :meth:`add`, for each of these certificates.
        """
        if not callable(ask):
            raise TypeError(f"ask must be callable, not {type(ask).__name__}")
        stored = self._client._stored(None, key_type, new_key)
        handle, self._ask = self._handle, ask

        def add(order: Any) -> None:
            check(_native.acme_manager_on_demand(handle, order, _on_ask, self._number))

        self._client._with_order(add, (), with_types_of(self._solver, options), stored)

    def http01_answer(self, path: str) -> bytes | None:
        """Returns the body of the response to a CA's http-01 request for this path (RFC 8555 section 8.3).

        For any CA of the manager, also if another program that shares the store has the order. None: this is
        not the path of a challenge.
        """
        return answer_from(_native.acme_manager_http01_answer, self._handle, path)

    def remove(self, name: str) -> None:
        """Removes a certificate, if there is one of this name. It stays in the store."""
        check(_native.acme_manager_remove(self._handle, to_text(name, "name")))

    def renew(self, name: str) -> None:
        """Renews a certificate now, although that is not due; begins anew after ``EventType.STOPPED``."""
        check(_native.acme_manager_renew(self._handle, to_text(name, "name")))

    def __len__(self) -> int:
        """The number of certificates."""
        return _native.acme_manager_count(self._handle)

    def __bool__(self) -> bool:
        return True

    def certificate(self, server_name: str) -> Certificate | None:
        """Returns the certificate for a client's server name: by exact name, then by wildcard.

        None: no certificate is for this name, or it is being read from the store, and an event follows.
        """
        found = _native.acme_manager_cert(self._handle, to_text(server_name, "server_name"))
        return Certificate._wrap(own(found, _native.acme_cert_free)) if found else None

    def ssl_context(
        self, default: str | None = None, configure: Callable[[SSLContext], object] | None = None
    ) -> SSLContext:
        """Returns a context for a TLS server: each handshake uses the certificate in use for the client's name.

        A handshake fails while there is no certificate for the name. Open connections keep their certificate.

        default
            The server name of a client that sends none.
        configure
            Called with the context, and later with the one of each certificate, for instance to set their ALPN
            protocols.
        """
        from ._server_context import server_context

        return server_context(self.certificate, default, configure, self._max_loaded)

    def status(self, name: str | None = None) -> Any:
        """Returns a dict about the certificate of this name; without a name, a list about all.

        Its keys: ``name``, ``state`` (``"valid"``, ``"expired"``, ``"missing"``, ``"stopped"`` or
        ``"loading"``), ``names``, ``ca``, ``not_after``, ``renew_at`` and ``next_try`` (RFC 3339, if known),
        ``failures`` (in a row), ``error`` (if the last attempt failed).
        """
        text = None if name is None else to_text(name, "name")
        return json.loads(self._text(_native.acme_manager_status, text))

    def metrics(self) -> str:
        """Returns metrics as OpenMetrics 1.0 text.

        Certificates by state, attempts and their results, failures by kind, requests and a pause of each CA,
        the times of the next attempt and of the first expiry.
        """
        return self._text(_native.acme_manager_metrics)

    def _describe(self) -> str:
        return f"{len(self)} certificates"

    def _text(self, function: Any, *arguments: Any) -> str:
        texts = list[bytes]()

        def write(text: int, size: int, user: Any) -> int:
            texts.append(string_at(text, size))
            return 0

        check(function(self._handle, *arguments, _native.acme_write_fn(write), None))
        return b"".join(texts).decode()

    def _event(self, event: _native.acme_event_t) -> ManagerEvent:
        certificate = None
        if event.cert:  # borrowed, and the program may keep it
            certificate = Certificate.parse(_native.acme_cert_chain_pem(event.cert) or b"")
            key = _native.acme_cert_key(event.cert)
            certificate._stored_key = PrivateKey.parse(_native.acme_key_pem(key) or b"") if key else None
        return ManagerEvent(
            type=EventType(event.type),
            name=from_text(event.name) or "",
            certificate=certificate,
            error=self._store.explained(error_of(event.error)) if event.error else None,
            next_try=moment(event.next_try),
            not_after=moment(event.not_after),
            ca=from_text(event.ca) or "",
        )

    # The library calls these methods.

    @abstractmethod
    def _tell(self, event: _native.acme_event_t) -> None:
        """Passes an event on to the program."""

    @abstractmethod
    def _publish(self, op: _Pointer[_native.acme_op_t]) -> None:
        """Publishes the challenges of an attempt, and calls ``acme_op_published``."""

    @abstractmethod
    def _unpublish(self, op: _Pointer[_native.acme_op_t]) -> None:
        """Removes the challenges of an attempt."""


class Manager(ManagerBase[Client, "Solver"]):
    """Keeps any number of certificates fresh: obtains them, asks the CA when to renew them (RFC 9773), renews
    them, and stores them.

    ::

        with acme.Store("/var/lib/acme") as store, store.client(acme.LETSENCRYPT, terms_agreed=True) as ca:
            with acme.Manager(ca, acme.Webroot("/var/www/html"), on_event=print) as manager:
                manager.add(["example.org", "www.example.org"])
                manager.run()

    The certificates, the failures in a row and the next moment of each are in the store, so that a restart
    orders nothing that is not due, and forgets no pause. A CA that does not answer costs one attempt, not one
    for each certificate.

    One thread does the work: the one of :meth:`run` or :meth:`start`. It calls ``on_event`` and the solver;
    while a solver publishes, other attempts wait. All methods may be called on any thread, and by
    ``on_event``, except that it must not call :meth:`close`.
    """

    _client_type = Client
    _thread: threading.Thread | None = None
    _failure: BaseException | None = None

    def run(self) -> None:
        """Works until :meth:`stop` is called, or Ctrl-C is pressed."""
        self.start()
        try:
            while self._thread is not None and self._thread.is_alive():
                self._thread.join(POLL_INTERVAL)
        finally:
            self.stop()
        if self._failure is not None:
            raise self._failure

    def start(self) -> None:
        """Works on a thread of its own, until :meth:`stop` is called."""
        if self._thread is not None and self._thread.is_alive():
            raise Misuse("the manager runs already")
        handle, self._failure = self._handle, None
        thread = threading.Thread(target=self._work, args=(handle,), name="acme-manager", daemon=True)
        with thread_limit_in_words():
            thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Ends :meth:`run` or the thread of :meth:`start`, and waits for the end.

        Challenges are removed. The next run resumes orders in progress.
        """
        thread = self._thread
        if self._pointer is None or thread is None or not thread.is_alive():
            return
        _native.acme_manager_stop(self._pointer)
        if thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """Stops, and closes the manager. A second call has no effect."""
        self.stop()
        super().close()

    def _work(self, handle: Any) -> None:
        try:
            check(_native.acme_manager_run(handle))
        except BaseException as error:
            self._failure = error

    def _tell(self, event: _native.acme_event_t) -> None:
        if self._on_event is not None:
            self._on_event(self._event(event))

    def _publish(self, op: _Pointer[_native.acme_op_t]) -> None:
        why: bytes | None = None
        try:
            if self._solver is not None:
                self._solver.publish(challenges_of(op))
        except BaseException as error:
            why = reason_of(error)
        _native.acme_op_published(op, why)

    def _unpublish(self, op: _Pointer[_native.acme_op_t]) -> None:
        if self._solver is not None:
            self._solver.unpublish(challenges_of(op))


def challenges_of(op: _Pointer[_native.acme_op_t]) -> tuple[Challenge, ...]:
    """Returns the challenges of an attempt."""
    structs = (_native.acme_op_challenge(op, index) for index in count())
    return tuple(challenge_from_c(struct.contents) for struct in takewhile(bool, structs))


# C callbacks must outlive every call, so they are global, and find their manager by its number. No exception
# passes through the library.
_numbers = count(1)
_managers: WeakValueDictionary[int, ManagerBase[Any, Any]] = WeakValueDictionary()


def _event(event: _Pointer[_native.acme_event_t], user: int) -> None:
    try:
        if (manager := _managers.get(user)) is not None:
            manager._tell(event.contents)
    except BaseException:
        logger.exception("on_event of a manager")


def _ask(name: bytes, user: int) -> int:
    try:
        manager = _managers.get(user)
        if manager is not None and manager._ask is not None:
            return int(bool(manager._ask(from_text(name) or "")))
    except BaseException:
        logger.exception("ask of a manager")
    return 0


def _publish(op: _Pointer[_native.acme_op_t], user: int) -> None:
    manager = _managers.get(user)
    if manager is None:  # it is being freed
        _native.acme_op_published(op, None)
    else:
        manager._publish(op)


def _unpublish(op: _Pointer[_native.acme_op_t], user: int) -> None:
    try:
        if (manager := _managers.get(user)) is not None:
            manager._unpublish(op)
    except BaseException:
        logger.exception("a solver could not remove challenges")


_on_event, _on_ask = _native.acme_event_fn(_event), _native.acme_ask_fn(_ask)
_on_publish, _on_unpublish = _native.acme_op_fn(_publish), _native.acme_op_fn(_unpublish)
