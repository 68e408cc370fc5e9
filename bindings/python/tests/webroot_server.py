"""The web server on port 80 of each name in the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextmanager
def serving(webroots: Path, port: int) -> Iterator[None]:
    """Runs a web server for each file that is in one of the folders in ``webroots``."""

    def body(host: str, path: str) -> bytes:
        for folder in webroots.iterdir():
            with suppress(OSError):
                return (folder / path.lstrip("/")).read_bytes()
        return b""

    with answering(body, port):
        yield


@contextmanager
def answering(body_of: Callable[[str, str], bytes], port: int) -> Iterator[None]:
    """Runs a web server for what the function returns for a host and a path; nothing: 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = body_of(self.headers["Host"].split(":")[0], self.path)
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
