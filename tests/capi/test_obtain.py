#!/usr/bin/env python3
"""bindings/c-examples/obtain.c with the requests and failures that a program on port 80 meets."""

import datetime
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A CA that validates slowly: the tests do something meanwhile.
SLOW_CA = [
    sys.executable, str(ROOT / "tests/pebble/with_pebble.py"),
    "--env", "PEBBLE_VA_NOSLEEP=0", "--env", "PEBBLE_VA_SLEEPTIME=4", "--",
]  # fmt: skip
INSIDE = "PEBBLE_IS_SLOW"


def obtain(folder, *options, names=("slow.test",), directory=os.environ["ACME_DIRECTORY"]):
    command = [
        str(ROOT / "target/c/obtain"), "--directory", directory,
        "--ca-file", os.environ["ACME_CA_FILE"], "--agree-terms", "--out", str(folder / "out"),
        *options, *names,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_true(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


class Obtain(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_clients_that_dawdle_hold_nobody_up(self):
        port = int(os.environ["PEBBLE_HTTP_PORT"])
        program = obtain(self.folder, "--port", str(port))
        stop = threading.Event()

        def dawdle():
            while not stop.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), 1) as connection:
                        while not stop.wait(0.3):
                            connection.sendall(b"G")
                except OSError:
                    stop.wait(0.1)

        threads = [threading.Thread(target=dawdle) for _ in range(10)]
        for thread in threads:
            thread.start()
        try:
            _, errors = program.communicate(timeout=60)
        finally:
            stop.set()
            program.kill()
            for thread in threads:
                thread.join()
        self.assertEqual((program.returncode, errors), (0, ""))

    def test_x15_a_signal_takes_the_challenge_down(self):
        root = self.folder / "root"
        root.mkdir()
        challenges = root / ".well-known" / "acme-challenge"
        # A web server that accepts the CA's connection and does not respond: the CA waits for it.
        port = int(os.environ["PEBBLE_HTTP_PORT"])
        self.addCleanup(socket.create_server(("127.0.0.1", port)).close)
        for signum in (signal.SIGINT, signal.SIGTERM):
            program = obtain(self.folder, "--webroot", str(root))
            await_true(lambda: challenges.is_dir() and list(challenges.iterdir()))
            program.send_signal(signum)
            _, errors = program.communicate(timeout=60)
            self.assertEqual(program.returncode, 4)
            self.assertIn("canceled", errors)
            self.assertEqual(list(challenges.iterdir()), [])
            # The run has ended, and the next run resumes the order.
            journal = (self.folder / "out" / "slow.test.order").read_text()
            self.assertRegex(journal, r"\nruns 0\norder https://")

    def test_what_an_operator_left_behind(self):
        port = os.environ["PEBBLE_HTTP_PORT"]
        program = obtain(self.folder, "--port", port)
        self.assertEqual((program.communicate(timeout=60)[1], program.returncode), ("", 0))
        out = self.folder / "out"
        (out / "account.url").write_text((out / "account.url").read_text() + "\n")
        program = obtain(self.folder, "--port", port)
        self.assertEqual((program.communicate(timeout=60)[1], program.returncode), ("", 0))

    def test_s02_a_key_that_others_can_read_is_not_used(self):
        port = os.environ["PEBBLE_HTTP_PORT"]
        program = obtain(self.folder, "--port", port)
        self.assertEqual((program.communicate(timeout=60)[1], program.returncode), ("", 0))
        out = self.folder / "out"
        for name, modes in (("account.pem", (0o644, 0o640, 0o604)), ("slow.test.key.pem", (0o644, 0o604))):
            for mode in modes:
                (out / name).chmod(mode)
                program = obtain(self.folder, "--port", port)
                _, errors = program.communicate(timeout=60)
                self.assertEqual(program.returncode, 1)
                self.assertIn(f"{name}: others can read this key; chmod 600 it", errors)
            (out / name).chmod(0o600)
        if os.geteuid() == 0:
            os.chown(out / "account.pem", 12345, -1)
            program = obtain(self.folder, "--port", port)
            self.assertIn("belongs to another user", program.communicate(timeout=60)[1])
            self.assertEqual(program.returncode, 1)

    def test_a_final_dot_is_not_part_of_a_name(self):
        port = os.environ["PEBBLE_HTTP_PORT"]
        program = obtain(self.folder, "--port", port, names=("dot.test.", "www.dot.test"))
        said, errors = program.communicate(timeout=60)
        self.assertEqual((program.returncode, errors), (0, ""))
        self.assertIn("dot.test: valid until", said)
        files = {path.name for path in (self.folder / "out").iterdir()}
        self.assertLessEqual({"dot.test.key.pem", "dot.test.chain.pem"}, files)
        # An order in progress is for the same name, with the final dot and without. In this webroot no challenge
        # can be published.
        root = self.folder / "root"
        root.mkdir()
        (root / ".well-known").touch()
        for name in ("dot.test", "dot.test."):
            program = obtain(self.folder, "--webroot", str(root), names=(name, "fresh.dot.test"))
            _, errors = program.communicate(timeout=60)
            self.assertNotIn("its order is not resumed", errors)
        self.assertIn("\nname dot.test\n", (self.folder / "out" / "dot.test.order").read_text())

    def test_a_limit_is_told_with_its_end_and_once(self):
        url, after = "https://ca.test/limits", 86400

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": f"see {url}"}
                body = json.dumps(problem).encode()
                self.send_response(429)
                self.send_header("Content-Type", "application/problem+json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", str(after))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *args):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = Path(os.environ["ACME_CA_FILE"]).parent / "https.pem"
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            directory = f"https://localhost:{server.server_address[1]}/dir"
            before = time.time()
            program = obtain(self.folder, directory=directory)
            _, errors = program.communicate(timeout=60)
            server.shutdown()
        self.assertEqual((program.returncode, errors.count(url)), (4, 1), errors)
        told = re.search(r"\[try again after (.*) UTC\]", errors)[1]
        told = datetime.datetime.strptime(f"{told} +0000", "%Y-%m-%d %H:%M:%S %z").timestamp()
        # To the second, and not too early.
        self.assertGreaterEqual(told, before + after)

    def test_wrong_usage(self):
        for bad in ["80x", "0", "-1", "65536", ""]:
            program = obtain(self.folder, "--port", bad)
            self.assertIn("usage:", program.communicate(timeout=60)[1])
            self.assertEqual(program.returncode, 2)
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    if INSIDE in os.environ:
        unittest.main()
    os.execve(sys.executable, [*SLOW_CA, sys.executable, __file__], {**os.environ, INSIDE: "1"})
