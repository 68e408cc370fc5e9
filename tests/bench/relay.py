"""A relay between a client and the CA, which counts connections and bytes."""

from __future__ import annotations

import socket
import threading


class Relay:
    """Forwards connections to Pebble. Pebble's URLs follow the Host header, so all requests of a client go through
    the relay. The time of these runs is not measured."""

    def __init__(self, place: tuple[str, int]):
        self.connections = self.sent = self.received = 0
        self._lock = threading.Lock()
        self._place = place
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        self.connections = self.sent = self.received = 0

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.connections += 1
            server = socket.create_connection(self._place)
            for one, other, counter in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=self._pass, args=(one, other, counter), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, counter: str) -> None:
        try:
            while data := one.recv(65536):
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + len(data))
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass
