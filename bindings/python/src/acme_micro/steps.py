"""The steps of an operation: send a request, wait, publish or remove challenges, sign.

Steps are plain frozen dataclasses, made for ``match``::

    for step in operation:
        match step:
            case Request():               # then .respond(), .fail() or .send()
            case Wait(seconds):           # sleep
            case Publish(challenges):     # publish them
            case Unpublish(challenges):   # remove them
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ctypes import string_at
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union

from ._values import from_text
from .errors import Misuse

if TYPE_CHECKING:
    from . import _native

__all__ = ["Challenge", "Publish", "Request", "Sign", "Step", "Unpublish", "Wait"]


class Responses(Protocol):
    """The operation that a step belongs to; it takes the responses to its steps."""

    def _respond(
        self, id: int, status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None: ...

    def _fail(self, id: int, why: bytes) -> None: ...

    def _send(self, id: int) -> None: ...

    def _respond_with(self, step: Publish, index: int, payload: bytes) -> None: ...

    def _publish_failed(self, step: Publish, why: bytes) -> None: ...

    def _signed(self, id: int, signature: bytes) -> None: ...

    def _sign_failed(self, id: int, why: bytes) -> None: ...


@dataclass(frozen=True)
class Challenge:
    """A challenge to publish, to show the CA who controls ``identifier`` (RFC 8555 section 8).

    Its ``repr`` contains only what may be public.
    """

    #: ``"http-01"``, ``"dns-01"``, ``"tls-alpn-01"``, ``"dns-account-01"``, ``"dns-persist-01"``,
    #: ``"onion-csr-01"`` or ``"device-attest-01"``.
    type: str
    #: DNS name (without ``*.``) or IP address to validate.
    identifier: str
    #: The CA's token, in base64url. Empty for dns-persist-01 and onion-csr-01, which have no token.
    token: str = field(repr=False)
    #: http-01 (RFC 8555 section 8.3): the body to serve at :attr:`http_path`.
    key_authorization: str = field(repr=False)
    #: http-01: ``"/.well-known/acme-challenge/"`` and the token, on port 80 of the identifier.
    http_path: str | None = field(default=None, repr=False)
    #: dns-01 (RFC 8555 section 8.4), dns-account-01, dns-persist-01: name of the TXT record, without
    #: a final dot. The record of dns-persist-01 names the account and stays: no :class:`Unpublish`
    #: step contains it.
    dns_name: str | None = None
    #: Content of the TXT record. With dns-persist-01 it may have more than 255 bytes.
    dns_value: str | None = field(default=None, repr=False)
    #: tls-alpn-01 (RFC 8737): the digest, 32 bytes, for :meth:`Certificate.tls_alpn`.
    tls_alpn_digest: bytes | None = field(default=None, repr=False)
    #: tls-alpn-01: the server name of the CA's handshake: the identifier, or the reverse name of an IP
    #: address (RFC 8738 section 6).
    tls_alpn_name: str | None = None
    #: onion-csr-01 (RFC 9799) and device-attest-01: the challenge object, from which to make the
    #: payload for :meth:`Publish.respond_with`.
    object: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    #: Whether the record stays published after the validation, for later orders (dns-persist-01).
    persistent: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Request:
    """An HTTP request to send. Call one of its three methods once.

    Send the URL and the body byte for byte, with the headers and with ``Host`` and
    ``Content-Length``; do not follow redirects. The next steps may contain more requests before this
    one has its response; respond in any order, from any thread.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ("method", "url", "headers", "body", "id")

    #: ``"GET"`` or ``"POST"``.
    method: str
    url: str
    #: Headers to send.
    headers: Mapping[str, str] = field(hash=False)
    #: Empty for GET.
    body: bytes = field(repr=False)
    #: Identifies the request within its operation.
    id: int
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def respond(
        self,
        status: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        body: bytes | bytearray | memoryview,
    ) -> None:
        """Passes on the response: HTTP status, all headers (a mapping or pairs) and the whole body.

        A response with a status of 4xx or 5xx is passed on like any other.
        """
        pairs = headers.items() if hasattr(headers, "items") else headers
        fields = [(_header(name), _header(value)) for name, value in pairs]
        _of(self)._respond(self.id, status, fields, bytes(body))

    def fail(self, why: str | BaseException) -> None:
        """Reports that there is no complete response, and why. The operation decides whether to retry."""
        _of(self)._fail(self.id, _reason(why))

    def send(self) -> None:
        """Sends the request with the library's own HTTPS client, and passes on the response.

        Blocks until the request's timeout (30 seconds unless ``request_timeout`` is given): for scripts
        and worker threads (``await asyncio.to_thread(step.send)``). A request without a response is
        reported to the operation, and raises nothing here.
        """
        _of(self)._send(self.id)


@dataclass(frozen=True)
class Wait:
    """A delay. To ask for the next step earlier does no harm."""

    #: Seconds to wait; None: wait for the response to a request in progress. A program that
    #: finishes each request before it asks for the next step never gets None.
    seconds: float | None


@dataclass(frozen=True)
class Publish:
    """Publish all of these challenges; this may take any time.

    Ask for the next step after they are published.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ("challenges",)

    challenges: tuple[Challenge, ...]
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def respond_with(self, challenge: Challenge, payload: Mapping[str, Any]) -> None:
        """Sets the payload with which to respond to a challenge whose :attr:`Challenge.object` is not None:
        ``{"csr": ...}`` or ``{"attObj": ...}``."""
        index = self.challenges.index(challenge)
        _of(self)._respond_with(self, index, json.dumps(dict(payload)).encode())

    def fail(self, why: str | BaseException) -> None:
        """Reports that the challenges cannot be published, and why.

        Then continue: the operation asks to :class:`Unpublish`, and ends with :class:`PublishFailed`.
        """
        _of(self)._publish_failed(self, _reason(why))


@dataclass(frozen=True)
class Unpublish:
    """Remove these challenges, even if not all of them were published.

    This step comes after a success and after a failure.
    """

    challenges: tuple[Challenge, ...]


@dataclass(frozen=True)
class Sign:
    """Data to sign with a key outside the process (:meth:`PrivateKey.from_public`)."""

    __match_args__: ClassVar[tuple[str, ...]] = ("algorithm", "input")

    #: Algorithm (RFC 7518 section 3.1): ``"ES256"`` is ECDSA on P-256 with SHA-256, ``"RS256"`` is
    #: RSASSA-PKCS1-v1_5 with SHA-256.
    algorithm: str
    #: The bytes to sign. They are not hashed.
    input: bytes = field(repr=False)
    #: :attr:`PrivateKey.thumbprint` of the key.
    key_thumbprint: str
    #: Identifies the data within its operation.
    id: int
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def signed(self, signature: bytes) -> None:
        """Passes on the signature; for ECDSA in DER, or the two integers in full width."""
        _of(self)._signed(self.id, signature)

    def fail(self, why: str | BaseException) -> None:
        """Reports that there is no signature, and why. The operation ends."""
        _of(self)._sign_failed(self.id, _reason(why))


Step = Union[Request, Wait, Publish, Unpublish, Sign]
"""A step of an operation."""


def _of(step: Request | Publish | Sign) -> Responses:
    if step._operation is None:
        raise Misuse(f"this {type(step).__name__} does not belong to an operation")
    return step._operation


def _header(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _reason(why: str | BaseException) -> bytes:
    """Encodes any text or exception, so that an odd character does not hide the failure."""
    text = f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else str(why)
    return text[:1000].encode("utf-8", "replace").replace(b"\0", b" ")


def challenge_from_c(struct: _native.acme_challenge_t) -> Challenge:
    digest = struct.tls_alpn_digest
    return Challenge(
        type=from_text(struct.type) or "",
        identifier=from_text(struct.identifier) or "",
        token=from_text(struct.token) or "",
        key_authorization=from_text(struct.key_authorization) or "",
        http_path=from_text(struct.http_path),
        dns_name=from_text(struct.dns_name),
        dns_value=from_text(struct.dns_value),
        tls_alpn_digest=string_at(digest, 32) if digest else None,
        tls_alpn_name=from_text(struct.tls_alpn_name),
        object=json.loads(struct.json) if struct.json else None,
        persistent=bool(struct.persistent),
    )


def request_from_c(struct: _native.acme_http_request_t, operation: Responses) -> Request:
    fields = (struct.headers[index] for index in range(struct.header_count))
    return Request(
        method=from_text(struct.method) or "",
        url=from_text(struct.url) or "",
        headers={from_text(f.name) or "": from_text(f.value) or "" for f in fields},
        body=string_at(struct.body, struct.body_size) if struct.body_size else b"",
        id=struct.id,
        _operation=operation,
    )


def sign_from_c(struct: _native.acme_sign_request_t, operation: Responses) -> Sign:
    return Sign(
        algorithm=from_text(struct.algorithm) or "",
        input=string_at(struct.input, struct.input_size),
        key_thumbprint=from_text(struct.key_thumbprint) or "",
        id=struct.id,
        _operation=operation,
    )
