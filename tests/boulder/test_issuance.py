"""Certificates from Boulder, by each way to issue."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import acme_micro as acme
from conftest import env, openssl
from people import check, dns, domains, hook
from server_log import ServerLog
from solvers import Dns, new_client

PROGRAMS = Path(__file__).resolve().parents[2] / "target" / "c"
VALIDATORS = {"va", "remoteva-1", "remoteva-2", "remoteva-3"}


def until(lines: Iterable[str], start: str) -> Iterator[str]:
    """The lines up to the one that begins with ``start``."""
    for line in lines:
        yield line
        if line.startswith(start):
            return


def lifetime(chain: Path) -> timedelta:
    shown = openssl("x509", "-in", str(chain), "-noout", "-startdate", "-enddate").split("\n")
    start, end = (datetime.strptime(line.split("=")[1], "%b %d %H:%M:%S %Y GMT") for line in shown[:2])
    return end - start


def test_http_01_from_a_webroot_with_a_new_account(person, web):
    log = ServerLog()
    run = person.obtains(*domains("www.example.com"), *web.options)

    assert run.out.startswith("www.example.com: new certificate, valid until 20")
    person.check("www.example.com", dns("www.example.com"))
    assert len(log.requests()) <= 11
    assert set(web.user_agents) == VALIDATORS
    assert not list(web.root.rglob("*/*/*"))  # removed


def test_dns_01_for_a_name_and_its_wildcard(person, tmp_path):
    names = ("*.dns.example.com", "dns.example.com")
    person.obtains(*domains(*names), *hook("dns-01", tmp_path))

    person.check("_.dns.example.com", dns(*names))


@pytest.mark.parametrize(
    ("profile", "hours"), [("classic", 2160), ("tlsserver", 1080), ("shortlived", 160)]
)
def test_each_profile(person, web, profile, hours):
    name = f"{profile}.example.com"
    person.obtains(*domains(name), *web.options, "--profile", profile)

    text = person.check(name, dns(name))
    assert lifetime(person.path(f"{name}.chain.pem")) == timedelta(hours=hours, seconds=-1)
    assert (f"CN = {name}" in text) == (profile == "classic")


def test_a_profile_that_boulder_has_not_costs_no_order(person, web):
    log = ServerLog()
    run = person.obtains(*domains("absent.example.com"), *web.options, "--profile", "absent", status=4)

    assert 'the CA has no profile "absent"; it offers classic, shortlived, tlsserver' in run.err
    assert not log.requests("/acme/new-order")


def test_an_ip_address_with_the_profile_for_it(person, web):
    person.obtains(*domains(env("BOULDER_WEB")), *web.options, "--profile", "shortlived")

    person.check(env("BOULDER_WEB"), [f"IP:{env('BOULDER_WEB')}"])


def test_an_ip_address_with_a_profile_that_is_for_names(person, web):
    run = person.obtains(*domains(env("BOULDER_WEB")), *web.options, "--json", status=4)

    error = run.json["error"]
    assert error["problem"]["type"].endswith(":rejectedIdentifier")
    assert "does not permit" in error["message"]
    assert error["permanent"]


def test_tls_alpn_01_by_the_server_itself(tmp_path):
    names = ("tls.example.com", "www.tls.example.com")
    command = [
        str(PROGRAMS / "https_server"), "--directory", env("ACME_DIRECTORY"),
        "--ca-file", env("ACME_CA_FILE"), "--agree-terms", "--state", str(tmp_path), *names,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            lines = list(until(server.stdout, "serving certificate"))
            assert server.poll() is None, lines
            for name in names:
                seen = openssl(
                    "s_client", "-connect", f"{env('BOULDER_WEB')}:443", "-servername", name,
                    "-CAfile", env("BOULDER_ROOT"), "-verify_return_error", "-verify_hostname", name,
                )  # fmt: skip
                assert "Verify return code: 0 (ok)" in seen
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, server.stdout.read()
    check(tmp_path / "chain.pem", tmp_path / "key.pem", dns(*names))


def test_the_c_program(web, tmp_path):
    names = ("c.example.com", "www.c.example.com")
    command = [
        str(PROGRAMS / "obtain"), "--directory", env("ACME_DIRECTORY"),
        "--ca-file", env("ACME_CA_FILE"), "--agree-terms", "--webroot", str(web.root),
        "--out", str(tmp_path / "out"), *names,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    check(out / "c.example.com.chain.pem", out / "c.example.com.key.pem", dns(*names))


@pytest.mark.parametrize("key_type", ["p384", "rsa2048"])
def test_keys_of_certificates(person, web, key_type):
    name = f"{key_type}.example.com"
    person.obtains(*domains(name), *web.options, "--key-type", key_type)

    person.check(name, dns(name))


@pytest.mark.parametrize("key_type", ["p521", "ed25519"])
def test_keys_of_certificates_that_boulder_refuses(person, web, key_type):
    name = f"{key_type}.example.com"
    run = person.obtains(*domains(name), *web.options, "--key-type", key_type, status=4)

    assert "badCSR: " in run.err


@pytest.mark.parametrize("key_type", ["p256", "p384", "rsa2048", "rsa3072", "rsa4096"])
def test_keys_of_accounts(key_type):
    with new_client(acme.PrivateKey.generate(acme.KeyType[key_type.upper()])) as client:
        assert "/acme/acct/" in client.register()


def test_a_hundred_names(person, web):
    names = [f"host-{number:03}.hundred.example.com" for number in range(100)]
    log = ServerLog()
    person.obtains(*domains(*names), *web.options, "--name", "hundred")

    person.check("hundred", dns(*names))
    # Each challenge gets one response, however long the other validations take.
    assert [status for *_, status in log.requests("/acme/chall/")] == [200] * 100


def test_nonces_for_many_names_are_not_asked_for_in_a_moment(person, web):
    """Let's Encrypt allows ten concurrent newNonce requests per address."""
    names = [f"host-{number:03}.nonces.example.com" for number in range(100)]
    run = person.obtains(*domains(*names), *web.options, "--name", "nonces", "-v")

    # Boulder's log does not have newNonce requests.
    assert run.err.count("/acme/new-nonce: HTTP status") <= 10


@pytest.mark.parametrize(("profile", "most"), [("classic", 100), ("tlsserver", 25)])
def test_a_name_too_many(person, web, profile, most):
    names = [f"host-{number:03}.many.example.com" for number in range(most + 1)]
    run = person.obtains(*domains(*names), *web.options, "--profile", profile, status=4)

    assert f"Order cannot contain more than {most} identifiers" in run.err


def test_a_dot_at_the_end_is_not_of_the_name(person, web):
    person.obtains(*domains("dot.example.com."), *web.options)

    person.check("dot.example.com", dns("dot.example.com"))


def test_revocation_by_the_account_and_by_the_key(person, web):
    for name in ("account.revoked.example.com", "key.revoked.example.com"):
        person.obtains(*domains(name), *web.options)
    chain = person.path("key.revoked.example.com.chain.pem")
    key = person.path("key.revoked.example.com.key.pem")

    person.runs("revoke", "account.revoked.example.com", "--reason", "superseded")
    person.runs("revoke", *person.ca, "--cert", str(chain), "--key", str(key), "--reason", "key-compromise")

    # The certificate is already revoked, and Boulder no longer issues for the compromised key.
    with new_client() as client:
        certificate = acme.Certificate.load(chain)
        client.revoke(certificate, key=acme.PrivateKey.load(key))
        with pytest.raises(acme.ProblemError):
            client.obtain(["again.revoked.example.com"], Dns(), key=acme.PrivateKey.load(key))
