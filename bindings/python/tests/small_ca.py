"""A small CA for responses that Pebble does not give. It issues nothing."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import env

ACME_ERROR = "urn:ietf:params:acme:error:"
JSON, PROBLEM = "application/json", "application/problem+json"


class SmallCa:
    """The responses of the CA. A problem has ``type`` (without the prefix) and ``detail``."""

    def __init__(self) -> None:
        self.url = ""
        #: The types of challenge that it offers.
        self.types = ["http-01"]
        #: Problems in response to each request, to newAccount, newOrder and keyChange, and of a challenge.
        self.at_all: dict[str, Any] | None = None
        self.of_account: dict[str, Any] | None = None
        self.of_order: dict[str, Any] | None = None
        self.of_new_key: dict[str, Any] | None = None
        self.of_challenge: dict[str, Any] | None = None
        #: Additional headers of responses with a problem.
        self.header: dict[str, str] = {}
        self.accounts = self.orders = 0
        self._names: list[dict[str, str]] = []
        self._answered = False

    def answer(self, path: str, payload: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Returns status, body and headers of a response."""
        at = self.url
        refusals = {"/account": self.of_account, "/order": self.of_order, "/key": self.of_new_key}
        refusal = self.at_all or refusals.get(path)
        if refusal:
            return refusal.get("status", 403), _problem(refusal), self.header
        if path == "/dir":
            urls = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "keyChange": "key"}
            return 200, {name: f"{at}/{where}" for name, where in urls.items()}, {}
        if path == "/nonce":
            return 204, None, {}
        if path == "/account":
            self.accounts += 1
            return 201, {"status": "valid"}, {"Location": f"{at}/account/1"}
        if path == "/order":
            self.orders += 1
            self._names, self._answered = payload["identifiers"], False
            return 201, self._order("pending"), {"Location": f"{at}/order/1"}
        if path == "/order/1":
            return 200, self._order("invalid" if self._answered else "pending"), {}
        if path.startswith("/authz/"):
            return 200, self._authorization(int(path[7:])), {}
        if path.startswith("/challenge/"):
            self._answered = True
            return 200, self._challenge("http-01", 0, "processing"), {}
        return 200, {"status": "valid"}, {}

    def _order(self, status: str) -> dict[str, Any]:
        authorizations = [f"{self.url}/authz/{index}" for index in range(len(self._names))]
        order = {"status": status, "identifiers": self._names, "authorizations": authorizations}
        return {**order, "finalize": f"{self.url}/finalize/1"}

    def _authorization(self, index: int) -> dict[str, Any]:
        status = "invalid" if self._answered else "pending"
        challenges = [self._challenge(type, index, status) for type in self.types]
        return {"status": status, "identifier": self._names[index], "challenges": challenges}

    def _challenge(self, type: str, index: int, status: str) -> dict[str, Any]:
        found = {"type": type, "url": f"{self.url}/challenge/{index}", "status": status, "token": "t" * 43}
        return {**found, "error": _problem(self.of_challenge or {})} if status == "invalid" else found


def _problem(told: dict[str, Any]) -> dict[str, Any]:
    return {"detail": "it is so", **told, "type": ACME_ERROR + told.get("type", "malformed")}


@contextmanager
def small_ca(**answers: Any) -> Iterator[SmallCa]:
    """Runs a CA with these attributes of :class:`SmallCa`."""
    ca = SmallCa()
    for name, value in answers.items():
        assert hasattr(ca, name), name
        setattr(ca, name, value)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        nonce = 0

        def do_GET(self) -> None:
            self.reply({})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            jws = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            payload = urlsafe_b64decode(jws["payload"] + "==")
            self.reply(json.loads(payload) if payload else {})

        def reply(self, payload: dict[str, Any]) -> None:
            status, found, header = ca.answer(self.path, payload)
            body = b"" if found is None else json.dumps(found).encode()
            Handler.nonce += 1
            self.send_response(status)
            self.send_header("Content-Type", PROBLEM if status >= 400 else JSON)
            self.send_header("Replay-Nonce", f"nonce-{Handler.nonce:08}")
            for name, value in header.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = Path(env("ACME_CA_FILE")).parent
    context.load_cert_chain(folder / "https.pem", folder / "https.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        ca.url = f"https://localhost:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield ca
        finally:
            server.shutdown()
            thread.join()
