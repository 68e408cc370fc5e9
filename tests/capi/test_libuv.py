#!/usr/bin/env python3
"""bindings/c-examples/libuv.c beside Pebble: many certificates at once, a failure among them, and
a signal in the middle; plain and under valgrind."""

import os
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VALGRIND = [
    "valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99",
]  # fmt: skip


def start(folder, names, *, under=(), directory=os.environ["ACME_DIRECTORY"]):
    command = [
        *under, str(ROOT / "target/c/libuv"), "--directory", directory, "--agree-terms",
        "--ca-file", os.environ["ACME_CA_FILE"], "--port", os.environ["PEBBLE_HTTP_PORT"],
        "--out", folder, *names,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Libuv(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def verify(self, name):
        chain, key = (f"{self.folder}/{name}.{what}.pem" for what in ("chain", "key"))
        verdict = subprocess.run(
            ["openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-verify_hostname", name,
             "-untrusted", chain, chain],
            capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(verdict.returncode, 0, verdict.stderr)
        keys = [
            subprocess.run(["openssl", *what], capture_output=True, check=True).stdout
            for what in (["x509", "-noout", "-pubkey", "-in", chain], ["pkey", "-pubout", "-in", key])
        ]
        self.assertEqual(*keys)
        self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)

    def test_many_at_once_and_again(self):
        names = [f"uv{n}.capi.test" for n in range(20)]
        for under in ([], VALGRIND):
            program = start(self.folder, names, under=under)
            out, errors = program.communicate(timeout=120)
            self.assertEqual((program.returncode, errors), (0, ""))
            self.assertEqual(sorted(line.split(":")[0] for line in out.splitlines()), sorted(names))
            for name in names:
                self.verify(name)

    def test_a_failure_does_not_touch_the_others(self):
        program = start(self.folder, ["good.capi.test", "blocked-domain.example"])
        _, errors = program.communicate(timeout=120)
        self.assertEqual(program.returncode, 1)
        self.assertRegex(errors, r"\Alibuv: blocked-domain.example: .*rejectedIdentifier.*\n\Z")
        self.verify("good.capi.test")
        self.assertFalse(Path(self.folder, "blocked-domain.example.chain.pem").exists())

    def test_a_signal_ends_it_in_good_order(self):
        names = [f"never{n}.capi.test" for n in range(20)]
        for number in (signal.SIGINT, signal.SIGTERM):
            for under in ([], VALGRIND):
                # A folder belongs to one CA.
                with socket.create_server(("127.0.0.1", 0)) as silent, tempfile.TemporaryDirectory() as folder:
                    silent.settimeout(60)
                    directory = f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
                    program = start(folder, names, under=under, directory=directory)
                    with silent.accept()[0]:
                        program.send_signal(number)
                        _, errors = program.communicate(timeout=25)  # a single request may take 30 seconds
                self.assertEqual(program.returncode, 1, errors)
                lines = errors.splitlines()
                self.assertEqual(len(lines), len(names))
                self.assertTrue(all(line.endswith("was canceled") for line in lines), errors)


if __name__ == "__main__":
    unittest.main()
