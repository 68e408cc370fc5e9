#!/usr/bin/env python3
"""The examples of the C reference are programs: gcc and clang compile them without a warning, and each works
beside Pebble."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs/reference/examples").glob("*.c"))
ARGUMENTS = [os.environ[name] for name in ("ACME_DIRECTORY", "ACME_CA_FILE", "PEBBLE_HTTP_PORT")]
OFFLINE = {"keys", "library", "server"}

# The output of each program after success.
SAYS = {
    "account": "account https://",
    "errors": "urn:ietf:params:acme:error:rejectedIdentifier",
    "keys": "P-256 key, thumbprint ",
    "library": "running with 0.",
    "loop": "site: ",
    "obtain": " days left, serial ",
    "manager": "acme_certificates{state=\"valid\"} 2\n",
    "polled": "obtained polled.example.org",
    "order": "lists: success",
    "server": "acme-tls/1:\n-----BEGIN CERTIFICATE-----",
    "store": " days left",
    "signer": "ES256 with the key ",
}


class Examples(unittest.TestCase):
    def test_compiled_and_run(self):
        self.assertGreater(len(EXAMPLES), 10)
        with tempfile.TemporaryDirectory() as folder:
            for source in EXAMPLES:
                with self.subTest(source.name):
                    for compiler in ("clang", "gcc"):
                        program = self.compiled(compiler, source, Path(folder) / compiler)
                    self.does_its_work(source.stem, program)

    def compiled(self, compiler, source, program):
        ended = subprocess.run(
            [compiler, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1",
             "-I", ROOT / "include", "-I", ROOT / "bindings/c-examples", source, "-o", program,
             "-L", ROOT / "target/c/lib", f"-Wl,-rpath,{ROOT}/target/c/lib", "-lacme-micro",
             "-pthread", "-lcurl", "-lssl", "-lcrypto"],
            capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return program

    def does_its_work(self, name, program):
        ended = subprocess.run(
            [program, *([] if name in OFFLINE else ARGUMENTS)], capture_output=True, timeout=120
        )
        said = ended.stdout.decode(errors="replace") + ended.stderr.decode()
        self.assertEqual(ended.returncode, 0, said)
        self.assertIn(SAYS.get(name, ""), said)


if __name__ == "__main__":
    unittest.main()
