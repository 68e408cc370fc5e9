"""The sockets of the standalone servers."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Any

# Ports below this number need a right.
UNPRIVILEGED = 1024
# The machine does not have the address, or no IPv6.
MISSING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
QUEUE = 100


def listen(host: str, port: int) -> list[socket.socket]:
    """Listens on each address of a host; without a host, on all addresses of the machine.

    There is at least one socket; otherwise an OSError says in words why not.
    """
    sockets: list[socket.socket] = []
    try:
        if host:
            _listen_on_each(_addresses(host, port), sockets)
        else:
            sockets.append(_listen_on_all(port))
    except OSError as error:
        for one in sockets:
            one.close()
        raise _in_words(error, host, port) from None
    return sockets


def _listen_on_all(port: int) -> socket.socket:
    """An IPv6 socket on all addresses accepts IPv4, too, but not every machine has IPv6."""
    try:
        return _listen(socket.AF_INET6, ("::", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # a CA that uses IPv6 would find the other program
            raise
        with suppress(OSError):
            return _listen(socket.AF_INET, ("0.0.0.0", port))
        raise


def _listen_on_each(addresses: list[tuple[int, Any]], sockets: list[socket.socket]) -> None:
    missing: OSError | None = None
    for family, address in addresses:
        try:
            sockets.append(_listen(family, address, only_ipv6=len(addresses) > 1))
        except OSError as error:
            if error.errno not in MISSING:
                raise
            missing = error
    if missing is not None and not sockets:
        raise missing


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # a label that is empty or too long
        raise OSError(errno.EINVAL, "this is not the name of a host") from None
    except socket.gaierror as error:  # its number is not an errno of the system
        raise OSError(errno.EINVAL, error.strerror) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listen(family: int, address: Any, *, only_ipv6: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        listener.bind(address)
        listener.listen(QUEUE)
    except BaseException:
        listener.close()
        raise
    return listener


def _in_words(error: OSError, host: str, port: int) -> OSError:
    where = f"port {port} of {host}" if host else f"port {port}"
    what = f"listening on {where}"
    if error.errno == errno.EADDRINUSE:
        what = f"{where} is taken by another program"
    elif error.errno == errno.EACCES and port < UNPRIVILEGED:
        what = f"{where} needs a right that this program does not have (CAP_NET_BIND_SERVICE)"
    elif error.errno == errno.EADDRNOTAVAIL and host:
        what = f"{host} is not an address of this machine"
    return OSError(error.errno, f"{what}: {error.strerror}")
