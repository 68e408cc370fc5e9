"""The example of a server that replaces its certificate while clients download."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

from conftest import env

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "https_server.py"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_renewal_drops_no_connection(tmp_path):
    port = free_port()
    command = [
        sys.executable, str(EXAMPLE), "--directory", env("ACME_DIRECTORY"),
        "--ca-file", env("ACME_CA_FILE"), "--agree-terms", "--folder", str(tmp_path),
        "--http-port", env("PEBBLE_HTTP_PORT"), "--https-port", str(port),
        "localhost", "www.server.test",
    ]  # fmt: skip
    trust = ssl.create_default_context(cafile=env("PEBBLE_ROOT"))
    failures: list[BaseException] = []
    serials: set[str] = set()
    stop, changed = threading.Event(), threading.Condition()

    def download() -> None:
        while not stop.is_set():
            try:
                raw = socket.create_connection(("127.0.0.1", port), 10)
                with trust.wrap_socket(raw, server_hostname="localhost") as connection:
                    with changed:
                        serials.add(connection.getpeercert()["serialNumber"])
                        changed.notify_all()
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = b"".join(iter(lambda: connection.recv(65536), b""))
                    assert answer.count(b"hello over TLS\n") == 10, answer
            except BaseException as error:  # noqa: BLE001
                with changed:
                    failures.append(error)
                    changed.notify_all()
                return

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        clients = [threading.Thread(target=download) for _ in range(6)]
        lines: list[str] = []
        try:
            for line in server.stdout:
                lines.append(line)
                count = sum(one.startswith("certificate") for one in lines)
                if not line.startswith("certificate"):
                    continue
                if count == 1:
                    for client in clients:
                        client.start()
                with changed:  # until a download has used the newest certificate
                    assert changed.wait_for(lambda: failures or len(serials) >= count, 60)  # noqa: B023
                if failures or count == 4:
                    break
                server.send_signal(signal.SIGHUP)
        finally:
            stop.set()
            for client in clients:
                if client.ident is not None:
                    client.join(30)
            server.send_signal(signal.SIGINT)
            rest = server.stdout.read()
            assert server.wait(30) == 0, "".join(lines) + rest
    assert not failures, failures[0]
    assert len(serials) == 4, "".join(lines)
    assert (os.stat(tmp_path / "localhost.key.pem").st_mode & 0o777) == 0o600
