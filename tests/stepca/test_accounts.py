"""Account key types that few CAs accept, and external account bindings."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import published
from outside import judge, openssl


def kind(key: Path) -> str:
    """The type of a private key, as openssl prints it."""
    return openssl("pkey", "-in", str(key), "-noout", "-text").split("\n")[0]


@pytest.mark.parametrize(
    ("account", "certificate", "called"),
    [
        ("ed25519", "ed25519", "ED25519 Private-Key:"),
        ("p521", "p521", "Private-Key: (521 bit)"),
        ("rsa2048", "rsa2048", "Private-Key: (2048 bit, 2 primes)"),
    ],
)
def test_kinds_of_keys(stepca, people, webroot, account, certificate, called):
    person = people.at("day")
    person.runs("account", "create", *person.ca, "--key-type", account)
    person.runs(
        "obtain", "-d", "key.test", "--key-type", certificate, "--webroot", str(webroot)
    )
    chain, key = person.path("key.test.chain.pem"), person.path("key.test.key.pem")
    judge(chain, key, ["key.test"], stepca.root)
    assert kind(person.path("account.pem")) == kind(key) == called
    # The CA finds the account by its key.
    assert person.runs("account", "show", "--json").json["accounts"][0]["is_valid"]


# --- external account binding ---------------------------------------------------------------------


def test_without_a_binding_the_ca_is_asked_for_nothing(people, webroot):
    done = people.at("eab").obtains("-d", "eab.test", "--webroot", str(webroot), status=9)
    assert "this CA requires --eab-kid and --eab-key-file" in done.err
    assert published(webroot) == []


def test_a_binding_that_the_ca_knows_and_those_that_it_refuses(stepca, people, webroot, tmp_path):
    def obtain(name: str, kid: str, key: str, status: int = 0):
        file = tmp_path / "eab.key"
        file.write_text(key)
        person = people.at("eab", name)
        done = person.obtains(
            "-d", "eab.test", "--webroot", str(webroot), "--eab-kid", kid, "--eab-key-file", str(file),
            status=status,
        )  # fmt: skip
        return person, done

    def serial(person) -> str:
        files = (person.path(f"eab.test.{what}.pem") for what in ("chain", "key"))
        return judge(*files, ["eab.test"], stepca.root)

    person, _ = obtain("first", stepca.eab_kid, stepca.eab_key)
    first = serial(person)
    # The account works without the binding.
    person.runs("renew", "--force")
    assert serial(person) != first

    # A used binding and an unknown one: step-ca responds to both with 500, as if the fault were its own.
    for kid in stepca.eab_kid, "unknown":
        _, done = obtain("refused", kid, stepca.eab_key, 3)
        assert "serverInternal" in done.err
