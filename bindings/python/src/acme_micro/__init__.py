"""TLS certificates from Let's Encrypt or any other ACME CA (RFC 8555), inside your program.

A certificate, blocking::

    from pathlib import Path
    import acme_micro as acme

    key = acme.PrivateKey.load_or_generate("account.pem")
    with acme.Client(acme.LETSENCRYPT_STAGING, key, terms_agreed=True) as ca:
        cert = ca.obtain(["example.org", "www.example.org"], acme.Webroot("/var/www/html"))
    Path("example.org.pem").write_text(cert.chain_pem)
    cert.key.save("example.org.key")

The same with a folder for keys and certificates. Run it every day: it renews the certificate if its
renewal is due. After the program was killed, its next run continues with the same order::

    store = acme.Store("/var/lib/acme")
    with store.client(acme.LETSENCRYPT_STAGING, terms_agreed=True) as ca:
        store.obtain(ca, ["example.org", "www.example.org"], acme.Webroot("/var/www/html"))

For an HTTP client of your own, an operation is an iterator of steps. The same ``for`` works in
synchronous and asynchronous code::

    operation = ca.begin_order(names)
    for step in operation:
        match step:
            case acme.Request():
                step.respond(...)         # send it, then pass the response on
            case acme.Wait(seconds):
                await asyncio.sleep(seconds)
            case acme.Publish(challenges):
                site.update({c.http_path: c.key_authorization for c in challenges})
            case acme.Unpublish(challenges):
                for c in challenges: site.pop(c.http_path, None)
    operation.certificate

Each failure raises an :class:`AcmeError`. Its text describes what was tried, at which URL or for which name,
and why it failed; ``.problem`` is the CA's problem document, ``.identifier`` the name concerned,
``.retry_at`` the earliest time for another attempt.
"""

from __future__ import annotations

from . import _native

TYPE_CHECKING = False  # without typing, which takes long to import
if TYPE_CHECKING:
    from typing import Any

    from . import logging
    from .aio import AsyncClient
    from .async_manager import AsyncManager
    from .async_standalone import AsyncStandalone
    from .certificates import Certificate, RevocationReason, SigningRequest
    from .client import LETSENCRYPT, LETSENCRYPT_STAGING, ChainBy, Client, Profile
    from .errors import (
        AccountError,
        AcmeError,
        Canceled,
        CertificateError,
        ChallengeFailed,
        ConflictError,
        CryptoError,
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
        StoreError,
        TermsNotAgreed,
        TransportError,
        Unsupported,
    )
    from .keys import KeyType, PrivateKey
    from .manager import EventType, Manager, ManagerEvent
    from .operation import Operation, RenewalInfo, Signer
    from .record_store import MemoryStore, RecordStore
    from .schedule import next_try
    from .sealed_store import SealedStore
    from .solvers import AsyncSolver, MemoryHttp01, Solver, Webroot, http01_answer
    from .standalone import Standalone
    from .steps import Challenge, Publish, Request, Sign, Step, Unpublish, Wait
    from .store import Store

__all__ = [
    "LETSENCRYPT",
    "LETSENCRYPT_STAGING",
    "AccountError",
    "AcmeError",
    "AsyncClient",
    "AsyncManager",
    "AsyncSolver",
    "AsyncStandalone",
    "Canceled",
    "Certificate",
    "CertificateError",
    "ChainBy",
    "Challenge",
    "ChallengeFailed",
    "Client",
    "ConflictError",
    "CryptoError",
    "EventType",
    "ExternalAccountRequired",
    "InvalidArgument",
    "KeyType",
    "Manager",
    "ManagerEvent",
    "MemoryHttp01",
    "MemoryStore",
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
    "RecordStore",
    "RenewalInfo",
    "Request",
    "RevocationReason",
    "SealedStore",
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

# The module of each name of __all__. It is imported when the name is first used: few programs need all of
# them.
_HOMES = {
    name: module
    for module, names in {
        "aio": ("AsyncClient",),
        "async_manager": ("AsyncManager",),
        "async_standalone": ("AsyncStandalone",),
        "certificates": ("Certificate", "RevocationReason", "SigningRequest"),
        "client": ("LETSENCRYPT", "LETSENCRYPT_STAGING", "ChainBy", "Client", "Profile"),
        "errors": (
            "AccountError", "AcmeError", "Canceled", "CertificateError", "ChallengeFailed", "ConflictError",
            "CryptoError", "ExternalAccountRequired", "InvalidArgument", "Misuse", "OperationTimeout",
            "OrderRejected", "PolicyError", "ProblemError", "ProtocolError", "PublishFailed", "RateLimited",
            "ServerError", "Status", "StoreError", "TermsNotAgreed", "TransportError", "Unsupported",
        ),
        "keys": ("KeyType", "PrivateKey"),
        "manager": ("EventType", "Manager", "ManagerEvent"),
        "operation": ("Operation", "RenewalInfo", "Signer"),
        "record_store": ("MemoryStore", "RecordStore"),
        "schedule": ("next_try",),
        "sealed_store": ("SealedStore",),
        "solvers": ("AsyncSolver", "MemoryHttp01", "Solver", "Webroot", "http01_answer"),
        "standalone": ("Standalone",),
        "steps": ("Challenge", "Publish", "Request", "Sign", "Step", "Unpublish", "Wait"),
        "store": ("Store",),
    }.items()
    for name in names
}  # fmt: skip
# The modules that programs use without an import of their own.
_MODULES = {module for module in _HOMES.values() if not module.startswith("_")} | {"logging"}


def library_version() -> str:
    """Returns the version of the loaded shared library, such as ``"0.14.1"``."""
    return (_native.acme_version() or b"").decode()


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
