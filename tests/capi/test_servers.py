#!/usr/bin/env python3
"""The complete servers of bindings/c-examples: renewals of certificates disturb no client that connects and
downloads without pause."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("www.servers.test", "servers.test")
PORT = int(os.environ["PEBBLE_TLS_PORT"])
RENEWALS = 20
SIZE = 300_000
MEMCHECK = [
    "valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99",
]  # fmt: skip


def connect(name=NAMES[0]):
    """Returns a connection, and checks that the chain ends at Pebble's root and is for the name."""
    tls = ssl.create_default_context(cafile=os.environ["PEBBLE_ROOT"])
    raw = socket.create_connection(("127.0.0.1", PORT), 20)
    try:
        return tls.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def serial_of(connection):
    return connection.getpeercert()["serialNumber"]


def served(name=NAMES[0]):
    with connect(name) as connection:
        return serial_of(connection)


def await_value(get, what):
    deadline = time.monotonic() + 120
    while not (value := get()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return value


class Client(threading.Thread):
    """A thread that repeats a task until it is stopped."""

    def __init__(self, failures):
        super().__init__()
        self.failures = failures
        self.stopped = threading.Event()
        self.rounds = 0

    def run(self):
        try:
            while not self.stopped.is_set():
                self.round()
                self.rounds += 1
        except Exception as error:
            self.failures.append(f"{type(self).__name__}, round {self.rounds}: {error!r}")

    def download(self, connection, size=SIZE):
        connection.request("GET", f"/download?{size}")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200 and len(body) == size, (response.status, len(body))


class Connecting(Client):
    """A client that makes a new connection for each download."""

    def __init__(self, failures, name):
        super().__init__(failures)
        self.name = name
        self.serials = []

    def round(self):
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.sock = connect(self.name)
        try:
            serial = serial_of(connection.sock)
            if serial not in self.serials[-1:]:
                self.serials.append(serial)
            self.download(connection)
        finally:
            connection.close()


class Staying(Client):
    """A client that keeps one connection until the server closes it."""

    def __init__(self, failures):
        super().__init__(failures)
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT)
        self.connection.sock = connect()

    def round(self):
        self.download(self.connection)
        assert self.connection.sock, "the server closed it"
        time.sleep(0.1)


class Dawdling(Client):
    """A client whose download lasts for several renewals."""

    size = 50_000_000  # more than fits into the buffers between server and client

    def __init__(self, failures):
        super().__init__(failures)
        self.sock = connect()
        self.serial = serial_of(self.sock)
        self.sock.sendall(f"GET /download?{self.size} HTTP/1.0\r\n\r\n".encode())
        self.received = b""

    def round(self):
        part = self.sock.recv(20_000)
        assert part, "the connection ended"
        self.received += part
        time.sleep(0.1)

    def finish(self):
        """Reads the rest; returns the size of the whole download."""
        self.stopped.set()
        self.join()
        head, _, body = self.received.partition(b"\r\n\r\n")
        assert b"200 OK" in head, head
        count = len(body)
        while part := self.sock.recv(1 << 20):
            count += len(part)
        return count


class Server:
    def __init__(self, test, program, state, before=(), names=NAMES):
        self.log = open(state.parent / "log", "a+", encoding="utf-8")  # noqa: SIM115
        test.addCleanup(self.log.close)
        self.process = subprocess.Popen(
            [*before, str(ROOT / "target/c" / program), "--directory", os.environ["ACME_DIRECTORY"],
             "--ca-file", os.environ["ACME_CA_FILE"], "--agree-terms", "--port", str(PORT),
             "--state", str(state), *names],
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def first(self):
        """Waits for the first certificate; returns its serial number."""

        def look():
            assert self.process.poll() is None, self.text()
            try:
                return served()
            except OSError:  # the server does not listen yet, or has no certificate
                return None

        return await_value(look, "no certificate came")

    def renew(self, before):
        self.process.send_signal(signal.SIGHUP)
        return await_value(lambda: (new := served()) != before and new, "it was not renewed")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


# The files of the certificate of each program.
FILES = dict.fromkeys(("https_server", "https_server-cpp"), f"{NAMES[0]}.")


class Servers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = Path(folder.name) / "state"

    def serve_and_renew(self, program):
        server = Server(self, program, self.state)
        serials = [server.first()]
        failures = []
        clients = [Connecting(failures, NAMES[i % 2]) for i in range(3)]
        staying, dawdling = Staying(failures), Dawdling(failures)
        self.addCleanup(staying.connection.close)
        self.addCleanup(dawdling.sock.close)
        for client in (*clients, staying, dawdling):
            client.start()
        try:
            for _ in range(RENEWALS):
                serials.append(server.renew(serials[-1]))
                self.assertEqual(failures, [], server.text())
            self.assertEqual(dawdling.finish(), dawdling.size)
        finally:
            for client in (*clients, staying, dawdling):
                client.stopped.set()
                client.join()
        self.assertEqual(failures, [])
        self.assertEqual(len(set(serials)), RENEWALS + 1)
        self.assertEqual(dawdling.serial, serials[0])
        self.assertGreater(staying.rounds, RENEWALS)
        for client in clients:
            self.assertGreater(client.rounds, RENEWALS)
            # Each certificate is used in its turn, and not again after the next one.
            self.assertEqual(client.serials, [s for s in serials if s in client.serials])
            self.assertGreater(len(client.serials), RENEWALS // 2)

        for name in NAMES:
            seen = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-servername", name,
                 "-verify_hostname", name, "-CAfile", os.environ["PEBBLE_ROOT"],
                 "-verify_return_error", "-showcerts"],
                input="", capture_output=True, text=True, check=False,
            )  # fmt: skip
            self.assertEqual(seen.returncode, 0, seen.stderr)
            self.assertIn("Verify return code: 0 (ok)", seen.stdout)
            self.assertEqual(seen.stdout.count("BEGIN CERTIFICATE"), 2)

        # The server uses the stored certificate again, and sends no request to the CA before that.
        self.assertEqual(server.stop(), 0)
        for secret in ("account.pem", f"{FILES[program]}key.pem"):
            self.assertEqual((self.state / secret).stat().st_mode & 0o777, 0o600)
        again = Server(self, program, self.state)
        self.assertEqual(again.first(), serials[-1])
        time.sleep(2)  # the server has asked the CA, and no renewal is due
        self.assertEqual(served(), serials[-1])
        self.assertEqual(again.stop(), 0)
        said = again.text()  # of both runs
        self.assertEqual(said.count("serving certificate"), RENEWALS + 2, said)

    def test_c(self):
        self.serve_and_renew("https_server")

    def test_cpp(self):
        self.serve_and_renew("https_server-cpp")

    def test_c_under_valgrind(self):
        server = Server(self, "https_server", self.state, MEMCHECK)
        server.renew(server.first())
        self.assertEqual(server.stop(), 0, server.text())

    def test_other_names_are_ordered_at_once_and_a_damaged_chain_is_no_end(self):
        for program in ("https_server", "https_server-cpp"):
            state = self.state.with_name(program)
            server = Server(self, program, state, names=NAMES[:1])
            first = server.first()
            self.assertEqual(server.stop(), 0)
            server = Server(self, program, state)
            second = await_value(lambda: (new := server.first()) != first and new, "no other came")
            with connect(NAMES[1]):  # connect() verifies the name
                pass
            self.assertEqual(server.stop(), 0)
            (state / f"{FILES[program]}chain.pem").write_text("damaged")
            server = Server(self, program, state)
            self.assertNotEqual(server.first(), second)
            self.assertEqual(server.stop(), 0)

    def test_a_key_that_cannot_be_read_is_not_replaced(self):
        for program, files in FILES.items():
            state = self.state.with_name(program)
            key = state / f"{files}key.pem"
            key.mkdir(parents=True)
            server = Server(self, program, state)
            await_value(lambda: "key.pem" in server.text(), "the program says nothing of the key")  # noqa: B023
            server.process.send_signal(signal.SIGTERM)
            self.assertNotIn(server.process.wait(60), (-signal.SIGSEGV, -signal.SIGABRT))
            self.assertTrue(key.is_dir())

    def test_it_ends_in_the_middle_of_an_order(self):
        for program in ("https_server", "https_server-cpp"):
            server = Server(self, program, self.state)
            server.first()
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
            self.assertEqual(server.stop(), 0, server.text())


if __name__ == "__main__":
    unittest.main()
