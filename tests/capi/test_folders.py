#!/usr/bin/env python3
"""The folder of bindings/c-examples/obtain.c over a long time: another CA, an account that is gone, keys for
a group, names written otherwise. Also the other examples that keep files."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOW = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"


def another_ca():
    """Starts a CA that validates nothing; returns its process and its environment."""
    with_pebble = str(ROOT / "tests/pebble/with_pebble.py")
    command = [sys.executable, with_pebble, "--env", "PEBBLE_VA_ALWAYS_VALID=1", "--", sys.executable, "-c"]
    process = subprocess.Popen([*command, SHOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, json.loads(process.stdout.readline())


class Folders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process, cls.other = another_ca()

    @classmethod
    def tearDownClass(cls):
        cls.process.communicate()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out"
        (self.folder / "webroot").mkdir()

    def run_with(self, ca, program, *names, status=0):
        """Runs a program that obtains a certificate; returns its messages."""
        webroot, url = str(self.folder / "webroot"), ca["ACME_DIRECTORY"]
        if program == "obtain-cpp":
            command = [program, url, webroot, str(self.out), *names]
        elif program == "obtain":
            command = [program, "--directory", url, "--ca-file", ca["ACME_CA_FILE"], "--agree-terms",
                       "--webroot", webroot, "--out", str(self.out), *names]  # fmt: skip
        else:
            command = [program, "--directory", url, "--ca-file", ca["ACME_CA_FILE"], "--agree-terms",
                       "--port", os.environ["PEBBLE_HTTP_PORT"], "--out", str(self.out), *names]  # fmt: skip
        command[0] = str(ROOT / "target/c" / program)
        environment = {**os.environ, "ACME_CA_FILE": ca["ACME_CA_FILE"]}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr

    def obtain(self, *names, status=0):
        return self.run_with(self.other, "obtain", *(names or ["folder.test"]), status=status)

    def files(self):
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def test_u01_a_folder_belongs_to_one_ca_r01(self):
        for program, refused in (("obtain", 1), ("obtain-cpp", 1), ("libuv", 1), ("libevent-curl", 1)):
            with self.subTest(program):
                self.out = self.folder / program
                self.run_with(self.other, program, "folder.test")
                noted = (self.out / "directory.url").read_text()
                self.assertEqual(noted, self.other["ACME_DIRECTORY"] + "\n")
                for gone in ("account.url", "account.pem"):
                    (self.out / gone).unlink(missing_ok=True)
                    before = self.files()
                    said = self.run_with(os.environ, program, "folder.test", status=refused)
                    self.assertIn("use another folder for", said)
                    self.assertEqual(self.files(), before)
                self.run_with(self.other, program, "folder.test")

    def test_u01_certificates_of_an_older_program_are_marked_r01(self):
        self.obtain("old.test")
        (self.out / "directory.url").unlink()
        self.obtain("new.test")
        noted = (self.out / "directory.url").read_text()
        # The account of the folder is at this CA, and so are its certificates.
        self.assertEqual(noted, self.other["ACME_DIRECTORY"] + "\n")
        for file in ("directory.url", "account.url", "new.test.chain.pem"):
            (self.out / file).unlink()
        self.obtain("new.test")
        noted = (self.out / "directory.url").read_text()
        self.assertEqual(noted, self.other["ACME_DIRECTORY"] + "\nother old.test\n")

    def test_u03_without_its_key_the_accounts_url_is_not_used_r03(self):
        self.obtain()
        url = (self.out / "account.url").read_text()
        (self.out / "account.pem").unlink()
        self.assertIn(f"the key is gone, and with it the account {url.strip()}", self.obtain())
        self.assertNotEqual((self.out / "account.url").read_text(), url)
        self.assertEqual((self.out / "account.url.unused").read_text(), url)
        self.assertEqual(self.obtain(), "")

    def test_u03_u28_the_message_names_the_way_out_of_a_dead_account_r03_r28(self):
        self.obtain()
        key = subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"],
                             capture_output=True, text=True, check=True).stdout  # fmt: skip
        (self.out / "account.pem").write_text(key)
        self.assertIn("rename account.pem and account.url", self.obtain(status=3))
        for file in ("account.pem", "account.url"):
            (self.out / file).rename(self.out / f"{file}.old")
        self.obtain()

    def test_u15_a_group_may_read_the_key_of_a_certificate_only_r15(self):
        self.obtain()
        key = self.out / "folder.test.key.pem"
        text = key.read_text()
        for mode in (0o640, 0o660):
            key.chmod(mode)
            self.obtain()
            self.assertEqual((key.read_text(), stat.S_IMODE(key.stat().st_mode)), (text, mode))
        for file, mode in ((key, 0o644), (self.out / "account.pem", 0o640)):
            file.chmod(mode)
            self.assertIn("others can read this key", self.obtain(status=1))
            file.chmod(0o600)

    @unittest.skipUnless(os.geteuid() == 0, "NOT RUN: only root can give a folder away")
    def test_u15_root_may_use_the_folder_of_another_user_r15(self):
        self.obtain()
        for path in (self.out, *self.out.iterdir()):
            os.chown(path, 12345, 12345)
        self.obtain()
        self.assertEqual({path.stat().st_uid for path in self.out.iterdir()}, {12345})

    def test_u16_the_forms_of_an_address_are_one_certificate_r16(self):
        for name in ("0:0:0:0:0:0:0:1", "::1", "0::0:1"):
            self.obtain(name)
        self.assertEqual([path.name for path in self.out.glob("*.key.pem")], ["::1.key.pem"])


if __name__ == "__main__":
    unittest.main()
