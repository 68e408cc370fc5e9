"""The exceptions.

The library raises an :class:`AcmeError` for each failure. Its subclasses are the failures that a
program treats in different ways; most are also the builtin exception that they resemble::

    AcmeError                             any failure; .status is its kind
        InvalidArgument (ValueError)      an argument is wrong; nothing was sent
        Misuse (RuntimeError)             the call does not fit the object's state
        Unsupported (NotImplementedError) not compiled in, or not offered by this CA
        TransportError (ConnectionError)  no response: DNS, TCP, TLS or a timeout
        ProtocolError                     the CA's response violates RFC 8555
        PolicyError                       a URL was refused: not https, or a host not allowed
        OperationTimeout (TimeoutError)   the operation's own timeout expired
        ProblemError                      the CA refused; .problem has the reason
            ServerError                   ... because of a fault of the CA; a retry may help
            RateLimited                   ... for now; .retry_at is the end of that
            TermsNotAgreed                ... until its terms of service are agreed to
            ExternalAccountRequired       ... without an external account binding
            AccountError                  the account is unknown, deactivated or revoked
            ChallengeFailed               the validation of .identifier failed
            OrderRejected                 the order became invalid, or a name in it is refused
        CertificateError                  the CA issued another certificate than the order's
        CryptoError                       OpenSSL refuses a key, or its configuration is wrong
        PublishFailed                     reported by Publish.fail()
        Canceled                          Operation.cancel() was called
        StoreError (OSError)              a store failed: .path, .errno, .certificate
            ConflictError                 ... because another program has changed the same record
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from . import _native
from ._native import Status
from ._values import from_text, moment

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = [
    "AccountError",
    "AcmeError",
    "Canceled",
    "CertificateError",
    "ConflictError",
    "ChallengeFailed",
    "CryptoError",
    "ExternalAccountRequired",
    "InvalidArgument",
    "Misuse",
    "OperationTimeout",
    "OrderRejected",
    "PolicyError",
    "ProblemError",
    "ProtocolError",
    "PublishFailed",
    "RateLimited",
    "ServerError",
    "Status",
    "StoreError",
    "TermsNotAgreed",
    "TransportError",
    "Unsupported",
]


class AcmeError(Exception):
    """A failure. ``str(error)`` describes what was tried, at which URL or for which name, and the reason."""

    #: The kind of failure: a :class:`Status`, or a number that only a newer library knows.
    status: int
    #: The same as ``str(error)``: one line, for a log or a person.
    message: str
    #: The DNS name or IP address concerned, or None.
    identifier: str | None
    #: The URL of the request, or None.
    url: str | None
    #: Whether the same request will fail again until its input changes. If not, a retry may help.
    permanent: bool
    #: Earliest time for a retry, if the CA named one.
    retry_at: datetime | None
    #: The CA's problem document (RFC 9457, RFC 8555 section 6.7), if it sent one.
    problem: dict[str, Any] | None
    #: URL of a page that helps the user: the CA's terms, a form that unpauses the account, or an
    #: explanation of limits. The URL is https, but untrusted: show it, do not fetch it.
    help_url: str | None
    #: An error for each identifier that the CA complained about (RFC 8555 section 6.7.1).
    subproblems: tuple[AcmeError, ...]

    _status: ClassVar[int] = Status.ERR_PROBLEM
    _permanent: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        identifier: str | None = None,
        url: str | None = None,
        permanent: bool | None = None,
        retry_at: datetime | None = None,
        problem: dict[str, Any] | None = None,
        help_url: str | None = None,
        subproblems: Sequence[AcmeError] = (),
    ):
        super().__init__(message)
        self.status = self._status if status is None else status
        self.message = message
        self.identifier = identifier
        self.url = url
        self.permanent = self._permanent if permanent is None else permanent
        self.retry_at = retry_at
        self.problem = problem
        self.help_url = help_url
        self.subproblems = tuple(subproblems)

    @property
    def problem_type(self) -> str | None:
        """Type of the problem, such as ``"urn:ietf:params:acme:error:caa"``; None without a problem."""
        if self.problem is None:
            return None
        # RFC 9457 section 3.1.1: a problem without a type is "about:blank".
        return str(self.problem.get("type", "about:blank"))

    def __reduce__(self) -> Any:
        # BaseException's own would lose the keyword arguments; see pickle.
        return unpickle, (type(self), self.message, self.__dict__)


def unpickle(kind: type[AcmeError], message: str, attributes: dict[str, Any]) -> AcmeError:
    error = kind(message)
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class InvalidArgument(AcmeError, ValueError):
    """An argument is missing, malformed or out of range. Nothing was sent."""

    _status = Status.ERR_INVALID_ARGUMENT
    _permanent = True


class Misuse(AcmeError, RuntimeError):
    """The call does not fit the state of its object, or the library has a bug."""

    _status = Status.ERR_MISUSE
    _permanent = True


class Unsupported(AcmeError, NotImplementedError):
    """A feature is not compiled in, or this CA does not offer it."""

    _status = Status.ERR_UNSUPPORTED
    _permanent = True


class TransportError(AcmeError, ConnectionError):
    """The CA did not respond: name resolution, TCP, TLS, or the timeout of one request."""

    _status = Status.ERR_TRANSPORT


class ProtocolError(AcmeError):
    """The CA's response violates RFC 8555, or exceeds a limit."""

    _status = Status.ERR_PROTOCOL


class PolicyError(AcmeError):
    """A URL from the CA was refused: it is not https, or on a host that is not allowed."""

    _status = Status.ERR_POLICY
    _permanent = True


class OperationTimeout(AcmeError, TimeoutError):
    """The operation's own timeout expired, or the CA takes longer; see ``retry_at``."""

    _status = Status.ERR_TIMEOUT


class ProblemError(AcmeError):
    """The CA refused; ``problem`` is its problem document."""

    _status = Status.ERR_PROBLEM


class ServerError(ProblemError):
    """The CA failed: ``serverInternal`` or HTTP status 5xx, in a response, a challenge or an order. A
    retry may help."""

    _status = Status.ERR_SERVER


class RateLimited(ProblemError):
    """The CA refused for now; ``retry_at`` is the earliest time for a retry, if the CA named one."""

    _status = Status.ERR_RATE_LIMITED


class TermsNotAgreed(ProblemError):
    """The CA's terms of service have to be agreed to; see ``Client.terms_url``."""

    _status = Status.ERR_TERMS
    _permanent = True


class ExternalAccountRequired(ProblemError):
    """The CA requires an external account binding: ``Client(..., eab=(key_id, hmac_key))``."""

    _status = Status.ERR_EAB_REQUIRED
    _permanent = True


class AccountError(ProblemError):
    """The account is unknown to the CA, deactivated or revoked."""

    _status = Status.ERR_ACCOUNT
    _permanent = True


class ChallengeFailed(ProblemError):
    """The CA could not validate a name; ``identifier`` is the name."""

    _status = Status.ERR_CHALLENGE


class OrderRejected(ProblemError):
    """The order became invalid, or the CA refuses something in it."""

    _status = Status.ERR_ORDER


class CertificateError(AcmeError):
    """The CA issued a certificate that is not the ordered one."""

    _status = Status.ERR_CERTIFICATE


class CryptoError(AcmeError):
    """OpenSSL refuses: the parts of a key do not belong together, a passphrase or a signature is wrong, or
    OpenSSL's configuration leaves it without a provider."""

    _status = Status.ERR_CRYPTO


class PublishFailed(AcmeError):
    """A challenge could not be published; the message is the argument of :meth:`Publish.fail`."""

    _status = Status.ERR_HOST


class Canceled(AcmeError):
    """:meth:`Operation.cancel` was called."""

    _status = Status.ERR_CANCELED


class StoreError(AcmeError, OSError):
    """A store could not be read, written or trusted. The old content is unchanged.

    If a method of a :class:`RecordStore` has raised an exception, that is the ``__cause__``.
    """

    _status = Status.ERR_STORE
    #: The file or folder of a :class:`Store`; empty for other stores.
    path: str = ""
    #: A :class:`Certificate` that was issued and could not be stored, or None: use it. The next run
    #: downloads it again, without another order.
    certificate: Any = None

    @classmethod
    def of(cls, path: str, error: OSError) -> StoreError:
        """Converts an error of the system about the file at ``path``."""
        self = cls(f"{path}: {error.strerror or error}")
        self.path, self.errno = path, error.errno
        return self

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        # A certificate is a handle, which cannot be pickled; errno is not among the attributes.
        attributes = {**self.__dict__, "certificate": None, "errno": self.errno}
        return unpickle, (type(self), self.message, attributes)


class ConflictError(StoreError):
    """Another program or thread has changed the same record of a store meanwhile."""

    _status = Status.ERR_CONFLICT


_CLASSES: dict[int, type[AcmeError]] = {
    Status.ERR_INVALID_ARGUMENT: InvalidArgument,
    Status.ERR_MISUSE: Misuse,
    Status.ERR_UNSUPPORTED: Unsupported,
    Status.ERR_PANIC: Misuse,
    Status.ERR_PARSE: InvalidArgument,
    Status.ERR_CRYPTO: CryptoError,
    Status.ERR_TRANSPORT: TransportError,
    Status.ERR_PROTOCOL: ProtocolError,
    Status.ERR_TIMEOUT: OperationTimeout,
    Status.ERR_POLICY: PolicyError,
    Status.ERR_SERVER: ServerError,
    Status.ERR_PROBLEM: ProblemError,
    Status.ERR_RATE_LIMITED: RateLimited,
    Status.ERR_TERMS: TermsNotAgreed,
    Status.ERR_EAB_REQUIRED: ExternalAccountRequired,
    Status.ERR_ACCOUNT: AccountError,
    Status.ERR_CHALLENGE: ChallengeFailed,
    Status.ERR_ORDER: OrderRejected,
    Status.ERR_CERTIFICATE: CertificateError,
    Status.ERR_HOST: PublishFailed,
    Status.ERR_CANCELED: Canceled,
    Status.ERR_STORE: StoreError,
    Status.ERR_CONFLICT: ConflictError,
}


class _Deferred(threading.local):
    """An exception of a log handler inside a call of the library; raised after the call."""

    exception: BaseException | None = None


deferred = _Deferred()


def check(status: int) -> int:
    """Returns the status of a fallible call; raises the thread's last error if it is negative."""
    if deferred.exception is not None:
        exception, deferred.exception = deferred.exception, None
        raise exception
    if status < 0:
        raise error_of(_native.acme_last_error())
    return status


def error_of(error: _Pointer[_native.acme_error_t]) -> AcmeError:
    """Converts an error of the library."""
    status = _native.acme_error_status(error)
    count = _native.acme_error_subproblem_count(error)
    subproblems = [_native.acme_error_subproblem(error, index) for index in range(count)]
    return _CLASSES.get(status, AcmeError)(
        from_text(_native.acme_error_message(error)) or "unknown error",
        status=_known(status),
        identifier=from_text(_native.acme_error_identifier(error)),
        url=from_text(_native.acme_error_url(error)),
        permanent=bool(_native.acme_error_is_permanent(error)),
        retry_at=moment(_native.acme_error_retry_at(error)),
        problem=_document(_native.acme_error_problem_json(error)),
        help_url=from_text(_native.acme_error_help_url(error)),
        subproblems=[error_of(subproblem) for subproblem in subproblems],
    )


def _known(status: int) -> int:
    try:
        return Status(status)
    except ValueError:
        return status


def _document(text: bytes | None) -> dict[str, Any] | None:
    document = None if text is None else json.loads(text)
    return document if isinstance(document, dict) else None
