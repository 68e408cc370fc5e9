"""The web server of :class:`acme_micro.Standalone`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any, Optional

Answer = Callable[[str], Optional[bytes]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Server6(_Server):
    address_family = socket.AF_INET6


def listen(address: tuple[str, int], answer: Answer) -> HTTPServer:
    """Starts to listen. An IPv6 socket on all addresses accepts IPv4, too, but not every machine has IPv6."""
    host, handler = address[0], _handler(answer)
    if host == "" and socket.has_dualstack_ipv6():
        return _Server6(("::", address[1]), handler)
    return (_Server6 if ":" in host else _Server)(address, handler)


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            body = answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
