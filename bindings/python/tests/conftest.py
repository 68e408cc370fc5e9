"""The CA of the tests: Pebble, which tests/pebble/with_pebble.py starts and names in the environment."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import PebbleDns, another_pebble, env, openssl

import acme_micro as acme

__all__ = ["PebbleDns", "env", "openssl", "verify"]

# A shell lets its background jobs ignore SIGINT, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


own_pebble = contextlib.ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Gives each worker of pytest-xdist a CA of its own: tests listen on the ports that a CA validates on."""
    if hasattr(config, "workerinput"):
        os.environ.update(own_pebble.enter_context(another_pebble()))


def pytest_unconfigure() -> None:
    own_pebble.close()


@pytest.fixture
def client():
    key = acme.PrivateKey.generate()
    with acme.Client(
        env("ACME_DIRECTORY"), key, terms_agreed=True, ca_file=env("ACME_CA_FILE")
    ) as client:
        yield client


@pytest.fixture
def new_pebble() -> None:
    """For features that Debian's older Pebble lacks: renewal information, profiles, newer challenges."""
    version = tuple(map(int, env("PEBBLE_VERSION").split(".")))
    if version < (2, 10):
        pytest.skip(f"NOT RUN: this needs Pebble 2.10, here is {env('PEBBLE_VERSION')}")


@pytest.fixture
def two_profiles(new_pebble: None) -> Iterator[dict[str, str]]:
    """A CA with two profiles, for tests that name one in each order."""
    ninety_days, six_days = f"default={90 * 86400}", f"shortlived={6 * 86400}"
    with another_pebble("--profile", ninety_days, "--profile", six_days) as pebble:
        yield pebble


@pytest.fixture
def standalone() -> acme.Standalone:
    return acme.Standalone(int(env("PEBBLE_HTTP_PORT")))


def verify(cert: acme.Certificate, names: list[str], folder: Path) -> None:
    """Checks a certificate with the openssl command, which does not depend on this library."""
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
