"""The web server on port 80 of each name in the tests of stores; it serves the files of many webroots."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextmanager
def serving(webroots: Path, port: int) -> Iterator[None]:
    """Runs a web server for each file that is in one of the folders in ``webroots``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b""
            for folder in webroots.iterdir():
                try:
                    body = (folder / self.path.lstrip("/")).read_bytes()
                except OSError:
                    pass
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
