#!/usr/bin/env python3
"""The programs of bindings/c-examples in odd surroundings: umask, closed streams, ports, machines without IPv6."""

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/c"
CA = ["--directory", os.environ["ACME_DIRECTORY"], "--ca-file", os.environ["ACME_CA_FILE"], "--agree-terms"]
PORT = os.environ["PEBBLE_HTTP_PORT"]
NOBODY = 65534
WEB_SERVER = f"""
import functools, http.server, os, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=".")
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
server.serve_forever()
"""


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def web_server_of_nobody(root):
    command = [sys.executable, "-c", WEB_SERVER, PORT]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 30
        with socket.socket() as client:
            while client.connect_ex(("127.0.0.1", int(PORT))) != 0 and time.monotonic() < deadline:
                time.sleep(0.02)
        try:
            yield
        finally:
            server.kill()


class Surroundings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"

    def runs(self, program, *arguments, status=0, **options):
        done = subprocess.run(
            [str(PROGRAMS / program), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, timeout=60, **options,
        )  # fmt: skip
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr

    def obtains(self, *options, **more):
        return self.runs("obtain", *CA, "--out", self.out, *options, "x.test", **more)


    def without(self, family, why):
        """Returns an environment in which bind() fails for this kind of address."""
        shim = self.folder / "bind_fails.so"
        source = ROOT / "bindings/python/tests/bind_fails.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        return {**os.environ, "LD_PRELOAD": str(shim), **{f"BIND{one}_ERRNO": str(why) for one in family}}

    def test_e05_files_for_others_can_be_read_whatever_the_umask_r05(self):
        for mask in 0o027, 0o077:
            for program in "obtain", "obtain-cpp":
                root = self.folder / f"{program}{mask}"
                root.mkdir()
                root.chmod(0o755)
                if program == "obtain":
                    arguments = [*CA, "--webroot", root, "--out", root / "out", "x.test"]
                else:
                    arguments = [os.environ["ACME_DIRECTORY"], root, root / "out", "cpp.test"]
                # Each name is new to the CA, so that it is validated.
                arguments[-1] = f"{program}{mask}.umask.test"
                with web_server_of_nobody(root):
                    self.runs(program, *arguments, preexec_fn=lambda mask=mask: os.umask(mask))
                for folder in ".well-known", ".well-known/acme-challenge", "out":
                    self.assertEqual(mode(root / folder), 0o755, folder)
                for chain in (root / "out").glob("*chain.pem"):
                    self.assertEqual(mode(chain), 0o644)
                for key in (root / "out").glob("*key.pem"):
                    self.assertEqual(mode(key), 0o600)

    def test_e05_folders_of_an_earlier_run_are_opened_r05(self):
        for is_foreign in False, True:
            root = self.folder / f"root{is_foreign}"
            folders = root / ".well-known", root / ".well-known" / "acme-challenge"
            folders[1].mkdir(parents=True)
            root.chmod(0o755)
            (folders[1] / "0123456789-abcdefghijkl").touch()
            (folders[1] / ".tmp-0123456789abcdef").touch()
            (folders[0] / "security.txt").touch()
            if is_foreign:
                (folders[1] / "private.txt").touch()
            for folder in folders:
                folder.chmod(0o700)
            with web_server_of_nobody(root):
                name = f"earlier-{is_foreign}.test".lower()
                status = 4 if is_foreign and os.geteuid() == 0 else 0
                said = self.runs("obtain", *CA, "--webroot", root, "--out", root / "out", name, status=status)
            self.assertEqual(is_foreign, "acme-challenge: a web server of another user cannot enter" in said)
            self.assertEqual([mode(folder) for folder in folders], [0o755, 0o700 if is_foreign else 0o755])

    def test_e09_closed_streams_take_no_files_place_r09(self):
        for closed in ([0], [2], [0, 1, 2]):
            def close(closed=closed):
                for number in closed:
                    os.close(number)

            self.obtains("--port", PORT, preexec_fn=close)
            with socket.create_server(("127.0.0.1", 0)) as other:  # the message is written somewhere
                self.runs("obtain", *CA, "--out", self.out, "--port", other.getsockname()[1],
                          f"{len(closed)}.closed.test", status=4, preexec_fn=close)  # fmt: skip
        names = [path.name for path in self.out.iterdir()]
        self.assertEqual((self.out / ".lock").read_bytes(), b"")
        self.assertIn("x.test.chain.pem", names)
        subprocess.run(["openssl", "x509", "-in", self.out / "x.test.chain.pem", "-noout"], check=True)

    def test_e13_an_option_that_is_there_twice_is_refused_r13(self):
        for program in "obtain", "libuv", "libevent-curl", "epoll-openssl", "https_server", "pkcs11":
            options = ["--webroot"] if program == "obtain" else []
            for option in ["--directory", "--ca-file", "--port", *options]:
                error = self.runs(program, option, "1", "--agree-terms", option, "2", "x.test", status=2)
                self.assertIn(f"{option} is there twice", error)
        self.runs("https_server-cpp", "--port", "1", "--port", "2", "x.test", status=2)
        # Each of these counts.
        self.obtains("--port", PORT, "--contact", "mailto:a@x.test", "--contact", "mailto:b@x.test", "--agree-terms")

    def test_e18_a_link_in_place_of_a_folder_is_named_r18(self):
        root = self.folder / "root"
        (root / ".well-known").mkdir(parents=True)
        (root / ".well-known/acme-challenge").symlink_to(self.folder)
        error = self.obtains("--webroot", root, status=4)
        self.assertIn("a symbolic link, which is not followed", error)

    def test_e25_a_port_that_cannot_be_used_is_named_r25(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            error = self.obtains("--port", port, status=4)
            self.assertIn(f"port {port} is taken by another program", error)
        error = self.obtains(status=4, env=self.without("46", errno.EACCES))
        self.assertIn("port 80 needs a right", error)
        self.assertIn("CAP_NET_BIND_SERVICE", error)

    def test_e29_a_byte_order_mark_is_no_part_of_the_accounts_url_r29(self):
        self.obtains("--port", PORT)
        url = self.out / "account.url"
        url.write_bytes(b"\xef\xbb\xbf" + url.read_bytes() + b"\r\n")
        self.obtains("--port", PORT)

    def test_e33_without_ipv6_the_responder_uses_ipv4_r33(self):
        for why in errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT:
            name = f"ipv4-{why}.test"
            self.runs(
                "obtain", *CA, "--out", self.out, "--port", PORT, name, env=self.without("6", why)
            )
        for program in "libuv", "libevent-curl", "epoll-openssl":
            self.runs(
                program, *CA, "--out", self.out, "--port", PORT, f"{program}.ipv4.test",
                env=self.without("6", errno.EADDRNOTAVAIL),
            )  # fmt: skip


if __name__ == "__main__":
    unittest.main()
