"""The web server for all names, on port 80 of their address."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import env


class WebServer:
    """Serves the files of one folder, and records the clients' user agents."""

    def __init__(self, root: Path):
        self.root = root
        self.answers_after_s = 0.0
        self.redirects_to = ""
        self.user_agents: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.user_agents.append(self.headers["User-Agent"])
                time.sleep(web.answers_after_s)
                if web.redirects_to:
                    self.send_response(302)
                    self.send_header("Location", web.redirects_to)
                    self.end_headers()
                    return
                try:
                    body = (web.root / self.path.lstrip("/")).read_bytes()
                except OSError:
                    body = b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((env("BOULDER_WEB"), 80), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    @property
    def options(self) -> list[str]:
        """Options of the command for this server."""
        return ["--webroot", str(self.root)]

    def __enter__(self) -> WebServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
