"""http-01 by a web server on asyncio's event loop."""

from __future__ import annotations

import asyncio

from ._listen import listen
from .solvers import MemoryHttp01
from .steps import Challenge

__all__ = ["AsyncStandalone"]


class AsyncStandalone:
    """http-01 by a small web server on the event loop, which runs only while challenges are published."""

    challenge_types = ("http-01",)

    #: Timeout of a request in seconds, from the connection to the end of its headers.
    REQUEST_TIMEOUT = 5.0

    def __init__(self, port: int = 80, host: str | None = None):
        """``host`` is the address to listen on; None: all addresses, IPv4 and IPv6."""
        self._address = (host or "", port)
        self._answers = MemoryHttp01()
        self._servers: list[asyncio.Server] = []
        self._starting = asyncio.Lock()

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Serves these challenges; starts the server if it is not running."""
        self._answers.publish(challenges)
        async with self._starting:
            if not self._servers:
                for listener in listen(*self._address):
                    self._servers.append(await asyncio.start_server(self._serve, sock=listener))

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Stops serving these challenges; stops the server after the last one."""
        self._answers.unpublish(challenges)
        async with self._starting:  # if it is cancelled before, it is called again
            while self._servers and not self._answers._answers:
                self._servers.pop().close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.REQUEST_TIMEOUT)
            method, _, rest = head.decode("latin-1").partition(" ")
            body = self._answers.answer(rest.partition(" ")[0]) if method == "GET" else None
            status = "404 Not Found" if body is None else "200 OK"
            length = len(body or b"")
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n"
                f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
                + (body or b"")
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # the client is gone, too slow, or does not speak HTTP
        finally:
            writer.close()
