"""TLS certificates from Let's Encrypt or any other ACME CA (RFC 8555), inside your program.

A certificate, blocking::

    from pathlib import Path
    import acme_micro as acme

    key = acme.PrivateKey.load_or_generate("account.pem")
    with acme.Client(acme.LETSENCRYPT_STAGING, key, terms_agreed=True) as ca:
        cert = ca.obtain(["example.org", "www.example.org"], acme.Webroot("/var/www/html"))
    Path("example.org.pem").write_text(cert.chain_pem)
    cert.key.save("example.org.key")

The same, kept in a folder: run it every day, and it renews when it is time. Killed at any moment, it goes
on with the same order::

    store = acme.Store("/var/lib/acme")
    with store.client(acme.LETSENCRYPT_STAGING, terms_agreed=True) as ca:
        store.obtain(ca, ["example.org", "www.example.org"], acme.Webroot("/var/www/html"))

On an event loop an operation is an iterator of things to do; the same ``for`` serves synchronous and
asynchronous code::

    operation = ca.begin_order(names)
    for step in operation:
        match step:
            case acme.Request():
                step.respond(...)         # send it, feed the answer
            case acme.Wait(seconds):
                await asyncio.sleep(seconds)
            case acme.Publish(challenges):
                site.update({c.http_path: c.key_authorization for c in challenges})
            case acme.Unpublish(challenges):
                for c in challenges: site.pop(c.http_path, None)
    operation.certificate

Whatever fails raises an :class:`AcmeError`: its text says what was tried, on what, and why it failed;
``.problem`` is what the CA said, ``.identifier`` whom it is about, ``.retry_at`` when to try again.
"""

from typing import TYPE_CHECKING, Any

from . import logging
from ._folder import StoreError
from ._native import acme_version
from .certificates import Certificate, RevocationReason, SigningRequest
from .client import LETSENCRYPT, LETSENCRYPT_STAGING, ChainBy, Client, Profile
from .errors import (
    AccountError,
    AcmeError,
    Canceled,
    CertificateError,
    ChallengeFailed,
    ExternalAccountRequired,
    InvalidArgument,
    Misuse,
    OperationTimeout,
    OrderRejected,
    PolicyError,
    ProblemError,
    ProtocolError,
    PublishFailed,
    RateLimited,
    ServerError,
    Status,
    TermsNotAgreed,
    TransportError,
    Unsupported,
)
from .keys import KeyType, PrivateKey
from .operation import Operation, RenewalInfo, Signer
from .schedule import next_try
from .solvers import (
    AsyncSolver,
    MemoryHttp01,
    Solver,
    Webroot,
    http01_answer,
)
from .standalone import Standalone
from .steps import Challenge, Publish, Request, Sign, Step, Unpublish, Wait

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .async_standalone import AsyncStandalone
    from .store import Store

__all__ = [
    "LETSENCRYPT",
    "LETSENCRYPT_STAGING",
    "AccountError",
    "AcmeError",
    "AsyncClient",
    "AsyncSolver",
    "AsyncStandalone",
    "Canceled",
    "Certificate",
    "CertificateError",
    "ChainBy",
    "Challenge",
    "ChallengeFailed",
    "Client",
    "ExternalAccountRequired",
    "InvalidArgument",
    "KeyType",
    "MemoryHttp01",
    "Misuse",
    "Operation",
    "OperationTimeout",
    "OrderRejected",
    "PolicyError",
    "PrivateKey",
    "ProblemError",
    "Profile",
    "ProtocolError",
    "Publish",
    "PublishFailed",
    "RateLimited",
    "RenewalInfo",
    "Request",
    "RevocationReason",
    "ServerError",
    "Sign",
    "Signer",
    "SigningRequest",
    "Solver",
    "Standalone",
    "Status",
    "Step",
    "Store",
    "StoreError",
    "TermsNotAgreed",
    "TransportError",
    "Unpublish",
    "Unsupported",
    "Wait",
    "Webroot",
    "http01_answer",
    "library_version",
    "logging",
    "next_try",
]

__version__ = "0.14.1"


def library_version() -> str:
    """Version of the shared library that is loaded, such as ``"0.14.1"``."""
    return (acme_version() or b"").decode()


def __getattr__(name: str) -> Any:
    # Importing asyncio takes longer than all the rest: only those who want it pay for it.
    if name == "AsyncClient":
        from .aio import AsyncClient

        return AsyncClient
    if name == "AsyncStandalone":
        from .async_standalone import AsyncStandalone

        return AsyncStandalone
    if name == "Store":
        from .store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
