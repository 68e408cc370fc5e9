"""http-01 by a small web server on a thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .solvers import MemoryHttp01
from .steps import Challenge

if TYPE_CHECKING:
    from ._http01_server import Http01Server

__all__ = ["Standalone"]


class Standalone(MemoryHttp01):
    """http-01 by a small web server on a thread, which runs only while challenges are published."""

    def __init__(self, port: int = 80, host: str = ""):
        """``host`` is the address to listen on; empty: all addresses, IPv4 and IPv6."""
        super().__init__()
        self._address = (host, port)
        self._server: Http01Server | None = None
        self._lock = threading.Lock()  # AsyncManager and AsyncClient call it on several threads

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Serves these challenges; starts the server if it is not running."""
        from ._http01_server import Http01Server  # imports http.server, which few programs need

        with self._lock:
            super().publish(challenges)
            if self._server is None:
                self._server = Http01Server(*self._address, self.answer)

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Stops serving these challenges; stops the server after the last one."""
        with self._lock:
            super().unpublish(challenges)
            if self._server is not None and not self._answers:
                self._server.close()
                self._server = None
