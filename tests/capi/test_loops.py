#!/usr/bin/env python3
"""The examples that drive operations by themselves, bindings/c-examples/libevent-curl.c and
epoll-openssl.c, beside Pebble: certificates of 1, 2 and 10 names at once, a failure among them, and a
signal in the middle; under valgrind; and without a thread, as strace sees it."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = sys.argv.pop(1)
VALGRIND = [
    "valgrind", "-q", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible",
    "--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99",
]  # fmt: skip
CERTIFICATES = [[f"n{n}.of{size}.loops.test" for n in range(size)] for size in (1, 2, 10)]


def start(folder, certificates, *, under=(), directory=os.environ["ACME_DIRECTORY"]):
    command = [
        *under, str(ROOT / "target/c" / PROGRAM), "--directory", directory, "--agree-terms",
        "--ca-file", os.environ["ACME_CA_FILE"], "--port", os.environ["PEBBLE_HTTP_PORT"],
        "--out", folder, *(",".join(names) for names in certificates),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Loop(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def verify(self, names):
        chain, key = (f"{self.folder}/{names[0]}.{what}.pem" for what in ("chain", "key"))
        for name in names:
            verdict = subprocess.run(
                ["openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-verify_hostname", name,
                 "-untrusted", chain, chain],
                capture_output=True, text=True,
            )  # fmt: skip
            self.assertEqual(verdict.returncode, 0, verdict.stderr)
        keys = [
            subprocess.run(["openssl", *what], capture_output=True, check=True).stdout
            for what in (
                ["x509", "-noout", "-pubkey", "-in", chain],
                ["pkey", "-pubout", "-in", key],
            )
        ]
        self.assertEqual(*keys)
        self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)

    def obtain(self, **how):
        program = start(self.folder, CERTIFICATES, **how)
        out, errors = program.communicate(timeout=180)
        self.assertEqual((program.returncode, errors), (0, ""))
        self.assertEqual(
            sorted(out.splitlines()), sorted(f"{names[0]}: obtained" for names in CERTIFICATES)
        )
        for names in CERTIFICATES:
            self.verify(names)

    def test_three_at_once_and_again(self):
        self.obtain()
        account = Path(self.folder, "account.pem").read_text()
        self.obtain()
        self.assertEqual(Path(self.folder, "account.pem").read_text(), account)

    def test_o36_r17_refused_names_leave_no_key(self):
        for bad in [".example.org"], ["127.1"], ["10.0.0.256"], ["::ffff:127.0.0.1"], ["good.test", "1.2.3"]:
            program = start(self.folder, [bad])
            _, errors = program.communicate(timeout=180)
            self.assertNotEqual(program.returncode, 0)
            self.assertIn(f'the name "{bad[-1]}" is ', errors)
        self.assertEqual(os.listdir(self.folder), [])

    def test_no_memory_is_lost(self):
        self.obtain(under=VALGRIND)

    def test_no_thread_and_no_process_is_made(self):
        trace = f"{self.folder}/trace"
        self.obtain(under=["strace", "-f", "-e", "trace=process,bind", "-o", trace])
        calls = set(re.findall(r"^\d+ +(\w+)\(", Path(trace).read_text(), re.M))
        self.assertIn("execve", calls)  # the start of the program itself
        self.assertIn("bind", calls)
        self.assertEqual(calls & {"clone", "clone3", "fork", "vfork"}, set())

    def test_the_host_name_of_the_ca_is_resolved(self):
        directory = os.environ["ACME_DIRECTORY"].replace("127.0.0.1", "localhost")
        self.assertIn("//localhost:", directory)
        self.obtain(directory=directory)

    def test_a_failure_does_not_touch_the_others(self):
        program = start(self.folder, [["blocked-domain.example"], ["good.loops.test"]])
        _, errors = program.communicate(timeout=120)
        self.assertEqual(program.returncode, 1)
        self.assertRegex(errors, r"\Ablocked-domain.example: .*rejectedIdentifier.*\n\Z")
        self.verify(["good.loops.test"])
        self.assertFalse(Path(self.folder, "blocked-domain.example.chain.pem").exists())

    def test_a_final_dot_is_not_part_of_a_name(self):
        program = start(self.folder, [["dot.loops.test."]])
        out, errors = program.communicate(timeout=120)
        self.assertEqual((program.returncode, errors), (0, ""))
        self.verify(["dot.loops.test"])

    def test_a_ca_that_hangs_up_is_asked_again(self):
        with socket.create_server(("127.0.0.1", 0)) as rude:
            directory = f"https://127.0.0.1:{rude.getsockname()[1]}/dir"
            program = start(self.folder, CERTIFICATES[:1], directory=directory, under=VALGRIND)
            for _ in range(2):
                rude.accept()[0].close()
            with rude.accept()[0]:
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=25)
        self.assertEqual(program.returncode, 1, errors)
        self.assertRegex(errors, r"\A\S+: .*was canceled\n\Z")

    def test_a_signal_ends_it_in_good_order(self):
        for under in ([], VALGRIND):
            with socket.create_server(("127.0.0.1", 0)) as silent:
                directory = f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
                program = start(self.folder, CERTIFICATES, under=under, directory=directory)
                with silent.accept()[0]:
                    program.send_signal(signal.SIGINT)
                    _, errors = program.communicate(timeout=25)  # a single request may take 30 seconds
            lines = errors.splitlines()
            self.assertEqual((program.returncode, len(lines)), (1, 3), errors)
            self.assertTrue(all(line.endswith("was canceled") for line in lines), errors)


if __name__ == "__main__":
    unittest.main()
