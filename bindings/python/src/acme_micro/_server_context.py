"""The TLS context of a server whose certificates change while it serves."""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from .certificates import Certificate

__all__ = ["server_context"]


def server_context(
    find: Callable[[str], Certificate | None],
    default: str | None,
    configure: Callable[[ssl.SSLContext], object] | None,
    max_contexts: int,
) -> ssl.SSLContext:
    """Makes a context that takes the certificate of each handshake from ``find``."""

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if configure is not None:
            configure(context)
        return context

    contexts = _Contexts(make, max_contexts)

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        name = name or default
        certificate = find(name) if name else None
        if certificate is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = contexts.of(certificate)
        return None

    context = make()
    context.sni_callback = choose
    return context


class _Contexts:
    """A context for each certificate: those that handshakes have used last."""

    def __init__(self, make: Callable[[], ssl.SSLContext], limit: int):
        self._make, self._limit = make, limit
        self._lock = threading.Lock()
        self._known: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    def of(self, certificate: Certificate) -> ssl.SSLContext:
        fingerprint = certificate.fingerprint
        with self._lock:
            context = self._known.get(fingerprint)
            if context is None:
                context = self._make()
                _load(context, certificate)
                self._known[fingerprint] = context
                while len(self._known) > self._limit:
                    self._known.popitem(last=False)
            self._known.move_to_end(fingerprint)
        return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Loads certificate and key, which Python's ssl reads only from a file."""
    assert certificate.key is not None
    with _private_file((certificate.key.pem + certificate.chain_pem).encode()) as path:
        context.load_cert_chain(path)


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Makes a file in memory or, on a system without that, a temporary file that only its owner can read."""
    with _memory() or tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}" if isinstance(file.name, int) else file.name


def _memory() -> IO[bytes] | None:
    """Opens a file in memory, if it can be opened by a path, too."""
    try:
        fd = os.memfd_create("certificate")
    except (AttributeError, OSError):
        return None
    if os.path.exists(f"/proc/self/fd/{fd}"):
        return open(fd, "wb")
    os.close(fd)
    return None
