"""Each challenge type that step-ca validates, solved by each of our programs."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import published
from outside import PebbleDns, judge
from stepca import ROOT, StepCa

import acme_micro as acme

HOOK = """\
import os, types
from outside import PebbleDns

at = types.SimpleNamespace(dns_name=os.environ["ACME_DNS_NAME"], dns_value=os.environ["ACME_DNS_VALUE"])
getattr(PebbleDns(), os.environ["ACME_ACTION"])([at])
"""


# --- http-01 --------------------------------------------------------------------------------------


def test_http_01_by_the_c_program(stepca, tmp_path):
    names = ["c.test", "www.c.test"]
    command = [
        str(ROOT / "target/c/obtain"), "--directory", stepca.directory("day"),
        "--ca-file", stepca.root, "--port", str(stepca.ports["http"]), "--out", str(tmp_path), *names,
    ]  # fmt: skip
    serials = set()
    for _ in range(2):  # with a new account, and with the same one
        subprocess.run(command, check=True, timeout=120)
        serials.add(judge(tmp_path / "c.test.chain.pem", tmp_path / "c.test.key.pem", names, stepca.root))
    assert len(serials) == 2


def test_http_01_by_the_python_package(stepca, client, tmp_path):
    cert = client.obtain(["python.test"], acme.Standalone(stepca.ports["http"]))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(cert.chain_pem)
    cert.key.save(key)
    judge(chain, key, ["python.test"], stepca.root)


def test_http_01_by_the_command_and_renewed(stepca, people, webroot):
    person = people.at("day")
    person.obtains("-d", "command.test,www.command.test", "--webroot", str(webroot))

    def serial() -> str:
        files = (person.path(f"command.test.{what}.pem") for what in ("chain", "key"))
        return judge(*files, ["command.test", "www.command.test"], stepca.root)

    first = serial()
    person.runs("renew")
    assert serial() == first  # the certificate is not due
    person.runs("renew", "--force")
    assert serial() != first
    assert published(webroot) == []


# --- tls-alpn-01 ----------------------------------------------------------------------------------


@contextmanager
def https_server(
    stepca: StepCa, provisioner: str, state: Path, names: list[str]
) -> Iterator[subprocess.Popen]:
    """The C example, on the port on which step-ca validates tls-alpn-01."""
    command = [
        str(ROOT / "target/c/https_server"), "--directory", stepca.directory(provisioner),
        "--ca-file", stepca.root, "--agree-terms", "--port", str(stepca.ports["tls"]),
        "--state", str(state), *names,
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def served(stepca: StepCa, name: str) -> str | None:
    """The serial number of the served certificate, after its verification; None if none is served yet."""
    tls = ssl.create_default_context(cafile=stepca.root)
    try:
        with socket.create_connection(("127.0.0.1", stepca.ports["tls"]), 20) as raw:
            with tls.wrap_socket(raw, server_hostname=name) as connection:
                return connection.getpeercert()["serialNumber"]
    except ssl.SSLCertVerificationError:
        raise
    except OSError:  # the server does not listen yet, or has no certificate
        return None


def await_another(stepca: StepCa, name: str, process: subprocess.Popen, before: str | None) -> str:
    deadline = time.monotonic() + 120
    while (serial := served(stepca, name)) in (None, before):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return serial


def test_tls_alpn_01_by_the_c_server_and_renewed(stepca, tmp_path):
    names = ["alpn.test", "www.alpn.test"]
    # The second provisioner offers only tls-alpn-01.
    for provisioner in "day", "alpn":
        with https_server(stepca, provisioner, tmp_path / provisioner, names) as process:
            first = await_another(stepca, names[0], process, None)
            assert served(stepca, names[1]) == first
            process.send_signal(signal.SIGHUP)
            await_another(stepca, names[0], process, first)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_a_ca_that_offers_no_challenge_of_ours_is_told_of(people, webroot):
    done = people.at("alpn").obtains("-d", "no.test", "--webroot", str(webroot), status=5)
    assert "the CA offers tls-alpn-01, none of which is acceptable (http-01)" in done.err
    assert published(webroot) == []


# --- dns-01 ---------------------------------------------------------------------------------------


def test_a_wildcard_and_its_name_have_two_records_at_one_place(stepca, client, dns, tmp_path):
    """Solves dns-01 with the Python package."""
    seen = []

    class Dns(PebbleDns):
        def publish(self, challenges):
            super().publish(challenges)
            seen.extend(challenges)

    names = ["wild.test", "*.wild.test"]
    cert = client.obtain(names, Dns())
    assert [c.dns_name for c in seen] == ["_acme-challenge.wild.test"] * 2
    assert len({c.dns_value for c in seen}) == 2
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(cert.chain_pem)
    cert.key.save(key)
    judge(chain, key, names, stepca.root)


def test_a_wildcard_by_the_commands_hook(stepca, people, dns, tmp_path):
    """Solves dns-01 with the command."""
    (tmp_path / "hook.py").write_text(HOOK)
    person = people.at("day")
    tests = str(ROOT / "bindings/python/tests")
    person.environment["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), tests])
    person.environment["PEBBLE_CHALLTESTSRV"] = stepca.challtestsrv
    hook = shlex.join([sys.executable, str(tmp_path / "hook.py")])
    names = ["hook.test", "*.hook.test"]
    person.obtains("-d", ",".join(names), "--hook", hook)
    judge(person.path("hook.test.chain.pem"), person.path("hook.test.key.pem"), names, stepca.root)
