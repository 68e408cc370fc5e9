"""A real CA for the tests: Pebble, which tests/pebble/with_pebble.py starts and names in the environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

import acme_micro as acme

# A shell may have what it starts in the background ignore SIGINT, and whatever that starts inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def env(name: str) -> str:
    if name not in os.environ:
        pytest.fail(f"{name} is not set: run these tests with `make test-python`, beside Pebble")
    return os.environ[name]


@pytest.fixture
def client():
    key = acme.PrivateKey.generate()
    with acme.Client(
        env("ACME_DIRECTORY"), key, terms_agreed=True, ca_file=env("ACME_CA_FILE")
    ) as client:
        yield client


@pytest.fixture
def new_pebble() -> None:
    """For what Debian's older Pebble lacks: renewal information, profiles, newer challenges."""
    version = tuple(map(int, env("PEBBLE_VERSION").split(".")))
    if version < (2, 10):
        pytest.skip(f"NOT RUN: this needs Pebble 2.10, here is {env('PEBBLE_VERSION')}")


@pytest.fixture
def standalone() -> acme.Standalone:
    return acme.Standalone(int(env("PEBBLE_HTTP_PORT")))


class PebbleDns:
    """dns-01 at Pebble's challenge test server."""

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


def verify(cert: acme.Certificate, names: list[str], folder: Path) -> None:
    """What the openssl command line says of a certificate: an independent judge."""
    file = folder / "chain.pem"
    file.write_text(cert.chain_pem)
    openssl("verify", "-CAfile", env("PEBBLE_ROOT"), "-untrusted", str(file), str(file))
    text = openssl("x509", "-noout", "-ext", "subjectAltName", input=cert.chain_pem)
    for name in names:
        assert f"DNS:{name}" in text
    assert set(cert.names) == set(names)
    if cert.key is not None:
        public = openssl("x509", "-noout", "-pubkey", input=cert.chain_pem)
        assert openssl("pkey", "-pubout", input=cert.key.pem) == public
