"""What an operation asks of you: send this, wait so long, publish these, take them down.

Steps are plain frozen dataclasses, made for ``match``::

    for step in operation:
        match step:
            case Request():               # answer with .respond(), .fail() or .send()
            case Wait(seconds):           # sleep
            case Publish(challenges):     # put them in place
            case Unpublish(challenges):   # take them down
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
    """The operation that a step belongs to: takes the responses to its steps."""

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
    """Something to publish, so that the CA sees who controls ``identifier``.

    Not more of it is shown in logs and debuggers than is anybody's to know.
    """

    #: ``"http-01"``, ``"dns-01"``, ``"tls-alpn-01"``, ``"dns-account-01"``, ``"dns-persist-01"``,
    #: ``"onion-csr-01"`` or ``"device-attest-01"``.
    type: str
    #: DNS name (without ``*.``) or IP address to be proven.
    identifier: str
    #: The CA's token: base64url. Empty for the types that have none: dns-persist-01, onion-csr-01.
    token: str = field(repr=False)
    #: http-01 (RFC 8555 section 8.3): what to serve as the body of :attr:`http_path`.
    key_authorization: str = field(repr=False)
    #: http-01: ``"/.well-known/acme-challenge/"`` and the token, on port 80 of the identifier.
    http_path: str | None = field(default=None, repr=False)
    #: dns-01 (RFC 8555 section 8.4), dns-account-01 and dns-persist-01: name of the TXT record,
    #: without a dot at the end. That of dns-persist-01 names the account and stays: it is not among
    #: what is to be taken down.
    dns_name: str | None = None
    #: Content of that record. That of dns-persist-01 may have more than 255 bytes.
    dns_value: str | None = field(default=None, repr=False)
    #: tls-alpn-01 (RFC 8737): 32 bytes; see :meth:`Certificate.tls_alpn`.
    tls_alpn_digest: bytes | None = field(default=None, repr=False)
    #: tls-alpn-01: the server name that the CA's handshake asks for: the identifier, or the reverse
    #: name of an IP address (RFC 8738 section 6).
    tls_alpn_name: str | None = None
    #: onion-csr-01 (RFC 9799) and device-attest-01: the challenge object, to make the answer's
    #: payload from; see :meth:`Publish.respond_with`.
    object: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)

    @property
    def is_persistent(self) -> bool:
        """Does it stay published after it has done its work?"""
        return self.type == "dns-persist-01"


@dataclass(frozen=True)
class Request:
    """An HTTP request to send, to be answered once: with one of its three methods.

    Send URL and body byte for byte, ``Host`` and ``Content-Length`` besides the headers, and do not
    follow redirects. More requests may come before this one is answered; answer them in any order,
    from any thread.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ("method", "url", "headers", "body", "id")

    #: ``"GET"`` or ``"POST"``.
    method: str
    url: str
    #: Headers to send.
    headers: Mapping[str, str] = field(hash=False)
    #: Empty for GET.
    body: bytes = field(repr=False)
    #: Names the request within its operation.
    id: int
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def respond(
        self,
        status: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        body: bytes | bytearray | memoryview,
    ) -> None:
        """The answer: HTTP status, all headers (a mapping or pairs) and the whole body.

        4xx and 5xx are answers like any other.
        """
        pairs = headers.items() if hasattr(headers, "items") else headers
        fields = [(_header(name), _header(value)) for name, value in pairs]
        _of(self)._respond(self.id, status, fields, bytes(body))

    def fail(self, why: str | BaseException) -> None:
        """No complete answer came, and why. The operation tries again as it sees fit."""
        _of(self)._fail(self.id, _reason(why))

    def send(self) -> None:
        """Sends the request and answers it, with the library's own HTTPS client.

        Blocks, for 30 seconds at most: made for scripts and for worker threads
        (``await asyncio.to_thread(step.send)``). When no answer comes, that is the answer.
        """
        _of(self)._send(self.id)


@dataclass(frozen=True)
class Wait:
    """Nothing to do for so long. Asking for the next step earlier does no harm."""

    #: None: until a request that you have not answered yet is. Who answers each request before
    #: asking for the next step never sees it.
    seconds: float | None


@dataclass(frozen=True)
class Publish:
    """Put all of these in place; take as long as it needs.

    Asking for the next step means that they are.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ("challenges",)

    challenges: tuple[Challenge, ...]
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def respond_with(self, challenge: Challenge, payload: Mapping[str, Any]) -> None:
        """What the answer to this challenge holds, for the types whose :attr:`Challenge.object` is
        not None: ``{"csr": ...}`` or ``{"attObj": ...}``.
        """
        index = self.challenges.index(challenge)
        _of(self)._respond_with(self, index, json.dumps(dict(payload)).encode())

    def fail(self, why: str | BaseException) -> None:
        """They cannot be put in place, and why.

        Then go on: the operation asks to :class:`Unpublish`, and ends with :class:`PublishFailed`.
        """
        _of(self)._publish_failed(self, _reason(why))


@dataclass(frozen=True)
class Unpublish:
    """Take the same challenges down, also when not all of them were put in place.

    Comes before success and failure alike.
    """

    challenges: tuple[Challenge, ...]


@dataclass(frozen=True)
class Sign:
    """Something to sign with a key that is outside the process (:meth:`PrivateKey.from_public`)."""

    __match_args__: ClassVar[tuple[str, ...]] = ("algorithm", "input")

    #: How (RFC 7518 section 3.1): ``"ES256"`` is ECDSA on P-256 with SHA-256, ``"RS256"`` is
    #: RSASSA-PKCS1-v1_5 with SHA-256.
    algorithm: str
    #: The bytes to sign, not hashed yet.
    input: bytes = field(repr=False)
    #: The key, by its :attr:`PrivateKey.thumbprint`.
    key_thumbprint: str
    #: Names it within its operation.
    id: int
    _operation: Responses | None = field(default=None, repr=False, compare=False)

    def signed(self, signature: bytes) -> None:
        """The signature; ECDSA in DER, or the two integers in full width."""
        _of(self)._signed(self.id, signature)

    def fail(self, why: str | BaseException) -> None:
        """There is none, and why: the operation ends."""
        _of(self)._sign_failed(self.id, _reason(why))


Step = Union[Request, Wait, Publish, Unpublish, Sign]
"""What iterating over an operation gives."""


def _of(step: Request | Publish | Sign) -> Responses:
    if step._operation is None:
        raise Misuse(f"this {type(step).__name__} is of no operation")
    return step._operation


def _header(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _reason(why: str | BaseException) -> bytes:
    """Whatever the text has in it, it must not get in the way of the failure."""
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
