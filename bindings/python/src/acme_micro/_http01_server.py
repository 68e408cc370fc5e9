"""The web server of :class:`acme_micro.Standalone`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import Any, Optional

from ._listen import listen
from ._threads import thread_limit_in_words

Answer = Callable[[str], Optional[bytes]]


class _Server(ThreadingHTTPServer):
    """A server on a socket that listens."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, answer: Answer):
        BaseServer.__init__(self, listener.getsockname(), _handler(answer))
        self.socket = listener

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system refuses a new thread
            self.process_request_thread(request, client_address)


class Http01Server:
    """Servers for each address of a host, on a thread each."""

    def __init__(self, host: str, port: int, answer: Answer):
        """Starts to serve."""
        self._servers = [_Server(listener, answer) for listener in listen(host, port)]
        self._running: list[_Server] = []
        try:
            with thread_limit_in_words():
                for server in self._servers:
                    threading.Thread(target=server.serve_forever, daemon=True).start()
                    self._running.append(server)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for server in self._running:
            server.shutdown()
        for server in self._servers:
            server.server_close()


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
