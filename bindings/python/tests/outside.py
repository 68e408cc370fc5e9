"""Helpers for programs that are not part of this project: Pebble, its DNS server, openssl."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def env(name: str) -> str:
    if name not in os.environ:
        pytest.fail(f"{name} is not set: run these tests with `make`, beside a CA")
    return os.environ[name]


WITH_PEBBLE = Path(__file__).resolve().parents[3] / "tests" / "pebble" / "with_pebble.py"


@contextlib.contextmanager
def another_pebble(*options: str) -> Iterator[dict[str, str]]:
    """Starts a CA with other settings; yields its environment, which with_pebble.py describes."""
    show = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
    command = [sys.executable, str(WITH_PEBBLE), *options, "--", sys.executable, "-c", show]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(30)


class PebbleDns:
    """A solver for dns-01 with Pebble's challenge test server."""

    challenge_types = ("dns-01",)

    def publish(self, challenges):
        for c in challenges:
            self.post("/set-txt", host=c.dns_name + ".", value=c.dns_value)

    def unpublish(self, challenges):
        for c in challenges:
            self.post("/clear-txt", host=c.dns_name + ".")

    @staticmethod
    def post(path: str, **body: str) -> None:
        url = env("PEBBLE_CHALLTESTSRV").rstrip("/") + path
        request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


def openssl(*arguments: str, input: str = "") -> str:
    done = subprocess.run(
        ["openssl", *arguments], input=input, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def serial(chain: str | Path) -> str:
    """Returns a certificate's serial number, by the openssl command, as the bytes of its DER integer: a number whose
    first bit is set has a zero byte before it, which openssl does not print."""
    number = openssl("x509", "-in", str(chain), "-noout", "-serial").split("=")[1].strip().lower()
    return f"00{number}" if number[0] in "89abcdef" else number


def judge(chain: str | Path, key: str | Path, names: list[str], root: str) -> str:
    """Checks a certificate's files with the openssl command; returns the serial number."""
    openssl("verify", "-CAfile", root, "-untrusted", str(chain), str(chain))
    shown = openssl("x509", "-in", str(chain), "-noout", "-ext", "subjectAltName")
    assert sorted(shown.split("\n")[1].replace(",", "").split()) == sorted(f"DNS:{n}" for n in names)
    public = openssl("pkey", "-in", str(key), "-pubout")
    assert public == openssl("x509", "-in", str(chain), "-noout", "-pubkey")
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    return serial(chain)
