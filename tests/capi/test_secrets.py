#!/usr/bin/env python3
"""Keys, beside Pebble: in the memory of a program, with a broken random generator, and in a hostile
environment."""

import base64
import os
import re
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/c/secrets"
KEY_ID = "kid-of-the-tests"
PT_LOAD = 1
INSIDE = "PEBBLE_KNOWS_THE_EXTERNAL_ACCOUNT"


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=True).stdout


def new_key():
    """Returns a P-256 key as PEM, and its scalar."""
    pem = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    text = openssl("pkey", "-noout", "-text", data=pem).decode()
    scalar = bytes.fromhex(re.sub(r"[:\s]", "", text.split("priv:")[1].split("pub:")[0]))
    return pem, scalar.rjust(32, b"\0")[-32:]


def forms_of(secret):
    """Returns the forms of a secret in memory: halves, to find also a secret that free() half overwrote."""
    forms = {}
    for name, half in (("first half", secret[:16]), ("middle", secret[8:24]), ("second half", secret[16:])):
        forms[f"{name}"] = half
        forms[f"{name}, as a number of OpenSSL's"] = half[::-1]
        forms[f"{name} in hex"] = half.hex().encode()
    return forms


def lines_of(pem):
    """Returns the parts of a PEM text that contain the scalar: bytes 36 to 68 of the DER."""
    first, second = pem.splitlines()[1:3]
    return {"PEM": first[48:], "PEM, second line": second[:24]}


def memory(core):
    """Returns the memory in a core file, without the notes, which hold the processor's registers."""
    data = core.read_bytes()
    headers, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    segments = (struct.unpack_from("<IIQQQQ", data, headers + n * size) for n in range(count))
    return b"".join(data[at : at + size] for kind, _, at, _, _, size in segments if kind == PT_LOAD)


def found(core, forms):
    data = memory(core)
    return {form: count for form, what in forms.items() if (count := data.count(what))}


def without(*names):
    return {name: value for name, value in os.environ.items() if name not in names}


class Memory(unittest.TestCase):
    def look(self, mode, **more):
        """Returns the copies of each secret in memory while the program has it, and after it is freed."""
        if not shutil.which("gcore"):
            self.skipTest("NOT RUN: this needs gdb's gcore")
        account, account_scalar = new_key()
        certificate, certificate_scalar = new_key()
        mac_text = os.environ[INSIDE].encode()
        mac = base64.urlsafe_b64decode(mac_text + b"=" * (-len(mac_text) % 4))
        forms = {
            "account": {**forms_of(account_scalar), **lines_of(account)},
            "certificate": {**forms_of(certificate_scalar), **lines_of(certificate)},
            "EAB": {**forms_of(mac), "text": mac_text[:24], "text, further on": mac_text[20:]},
        }
        with tempfile.TemporaryDirectory() as folder:
            program = subprocess.Popen(
                [str(PROGRAM), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                # With lazy binding, the loader would save registers on the stack.
                env={**without(INSIDE), "EAB_KEY_ID": KEY_ID, "LD_BIND_NOW": "1", **more},
            )  # fmt: skip
            program.stdin.write(b"\0".join([account, certificate, mac_text, b""]))
            program.stdin.flush()
            looks = []
            for expected in (b"live\n", b"freed\n"):
                self.assertEqual(program.stdout.readline(), expected)
                subprocess.run(
                    ["gcore", "-o", f"{folder}/core", str(program.pid)], capture_output=True, check=True
                )
                core = Path(f"{folder}/core.{program.pid}")
                looks.append({name: found(core, some) for name, some in forms.items()})
                core.unlink()
                program.stdin.write(b"\n")
                program.stdin.flush()
            self.assertEqual(program.wait(30), 0)
            program.stdin.close()
            program.stdout.close()
        return looks

    def test_s04_s05_s14_nothing_is_left_of_keys_that_were_freed(self):
        live, freed = self.look("obtain-and-show")
        for name in ("account", "certificate"):
            self.assertGreaterEqual(live[name].get("PEM", 0), 1, "the search finds what is there")
            self.assertEqual(freed[name], {}, name)
        self.assertEqual(freed["EAB"], {})

    def test_s05_a_core_dump_of_the_living_program_has_one_copy(self):
        live, freed = self.look("obtain")
        for name, forms in live.items():
            if name == "EAB":
                self.assertEqual(forms, {"first half": 1, "middle": 1, "second half": 1})
                continue
            whole = "first half, as a number of OpenSSL's"
            self.assertEqual({form: count for form, count in forms.items() if count > 1}, {}, name)
            self.assertEqual(forms.get(whole), 1, name)
            self.assertNotIn("PEM", forms)
        self.assertEqual(freed, {"account": {}, "certificate": {}, "EAB": {}})

    def test_s05_a_core_dump_has_none_of_what_is_in_openssls_secure_heap(self):
        live, freed = self.look("obtain", SECURE_HEAP="1")
        for name in ("account", "certificate"):
            self.assertEqual((live[name], freed[name]), ({}, {}), name)


class Randomness(unittest.TestCase):
    """Keys of a program whose system returns no random bytes, or too few."""

    def keys(self, *inject):
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=getrandom,openat"]
        done = subprocess.run(
            [*strace, *(f"--inject={what}" for what in inject), str(PROGRAM), "keys"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout.splitlines(), done.stderr

    def test_s09_without_getrandom_keys_are_as_good_or_there_are_none(self):
        if not shutil.which("strace"):
            self.skipTest("NOT RUN: this needs strace")
        seen = set()
        for inject in ("getrandom:error=ENOSYS", "getrandom:error=EIO", "getrandom:error=EAGAIN"):
            with self.subTest(inject):
                status, lines, errors = self.keys(inject)
                self.assertEqual((status, errors), (0, ""))
                self.assertEqual(len(lines), 8)
                for line in lines:
                    what, value = line.split()[:2]
                    if what == "refused":
                        self.assertEqual(value, "-11", line)  # ACME_ERR_CRYPTO
                    else:
                        self.assertNotIn(value, seen, "the same key twice")
                        seen.add(value)


class Environment(unittest.TestCase):
    """A setuid program, started by a user who tries to make it trust a CA of their own."""

    @unittest.skipIf(os.geteuid() != 0, "NOT RUN: only root can make a setuid program")
    def test_s16_a_setuid_program_takes_no_roots_and_no_key_log_from_who_starts_it(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            program, log = Path(folder) / "program", Path(folder) / "keys.log"
            # In a setuid program, the loader does not use $ORIGIN to find a library.
            libraries = "-lssl -lcrypto -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc".split()
            subprocess.run(
                ["cc", "-std=c99", "-Iinclude", "tests/capi/secrets.c", "-o", str(program),
                 "target/release/libacme_micro.a", *libraries], cwd=ROOT, check=True,
            )  # fmt: skip
            roots = Path(folder) / "roots.pem"
            shutil.copy(os.environ["SSL_CERT_FILE"], roots)
            roots.chmod(0o644)
            environment = {
                **os.environ, "SSL_CERT_FILE": str(roots), "SSLKEYLOGFILE": str(log),
                "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9",
            }  # fmt: skip

            def run():
                nobody = 65534
                command = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
                done = subprocess.run(
                    [*command, str(program), "trust"], env=environment, capture_output=True, text=True,
                    timeout=60,
                )  # fmt: skip
                return done.stdout

            # The CA's response: it requires an external account.
            self.assertEqual(run().split()[0], "-33", "as who it is, it trusts whom SSL_CERT_FILE names")
            program.chmod(0o4755)
            status, message = run().split(" ", 1)
            self.assertEqual(status, "-20")
            self.assertIn("certificate", message)
            self.assertFalse(log.exists())


if __name__ == "__main__":
    if INSIDE in os.environ:
        unittest.main()
    mac = secrets.token_urlsafe(32)
    command = [sys.executable, str(ROOT / "tests/pebble/with_pebble.py"), "--eab", f"{KEY_ID}:{mac}", "--"]
    os.execve(
        sys.executable, [*command, sys.executable, *sys.argv], {**os.environ, INSIDE: mac}
    )
