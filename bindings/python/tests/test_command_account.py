"""The command acme-micro account."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

import acme_micro as acme
from command_runs import Person
from conftest import env
from small_ca import small_ca
from outside import another_pebble


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "acme")


def standalone() -> list[str]:
    return ["--standalone", f"127.0.0.1:{env('PEBBLE_HTTP_PORT')}"]


def at_ca(key: Path) -> str:
    """Returns the URL of this key's account at the CA."""
    with acme.Client(
        env("ACME_DIRECTORY"), acme.PrivateKey.load(key), ca_file=env("ACME_CA_FILE")
    ) as client:
        return client.find_account()


def test_the_life_of_an_account(person):
    refused = person.runs("account", "create", *person.ca, "--json", status=9).json["error"]
    assert refused["kind"] == "terms" and "--agree-terms" in refused["hint"]
    creating = ["account", "create", *person.ca, "--agree-terms", "--contact", "ops@one.test"]
    created = person.runs(*creating, "--json").json["account"]
    key = person.path("account.pem")
    assert created["url"] == at_ca(key) and created["key_file"] == str(key)
    assert created["thumbprint"] == acme.PrivateKey.load(key).thumbprint
    # A second run is no error. From now on the folder has one CA, so --directory is optional.
    assert person.runs(*creating, "--json").json["account"] == created
    (shown,) = person.runs("account", "show", "--json").json["accounts"]
    assert shown["is_valid"] and {**shown, **created} == shown
    assert created["url"] in person.runs("account", "show").out

    done = person.runs("account", "contacts", "a@two.test", "mailto:b@two.test")
    assert "now mailto:a@two.test, mailto:b@two.test" in done.out
    assert "now empty" in person.runs("account", "contacts").out

    old = key.read_text()
    rolled = person.runs("account", "rollover", "--key-type", "p384", "--json").json["account"]
    assert rolled["url"] == created["url"] == at_ca(key) and rolled["key_type"] == "p384"
    (person.folder / "old.pem").write_text(old)
    with pytest.raises(acme.AccountError):
        at_ca(person.folder / "old.pem")
    assert not person.path("account.next.pem").exists()

    assert "--yes" in person.runs("account", "deactivate", status=2).err
    person.runs("account", "deactivate", "--yes")
    with pytest.raises(acme.AccountError):
        at_ca(person.path("account.pem.deactivated"))
    assert person.runs("account", "show", "--json").json["accounts"] == []
    assert person.runs(*creating, "--json").json["account"]["url"] != created["url"]


def test_a_new_account_after_a_deactivation_is_reported(person):
    person.obtains("-d", "again.test", *standalone())
    person.runs("account", "deactivate", "--yes")
    # If no new account was registered, the output mentions none.
    assert "deactivated" not in person.runs("renew", "--force", status=9).err
    done = person.obtains("-d", "again.test", *standalone(), "--force")
    told = f"the old account is deactivated, so a new one was registered: {at_ca(person.path('account.pem'))}"
    assert done.err.count(told) == 1
    assert "deactivated" not in person.runs("renew", "--force").err


def test_renew_reports_a_new_account_too(person, tmp_path):
    """A CA without terms of service lets renew register an account."""
    with small_ca(of_order={"type": "rejectedIdentifier"}) as ca:
        at = ["--directory", f"{ca.url}/dir", "--ca-file", env("ACME_CA_FILE")]
        person.runs("obtain", "-d", "x.test", "--webroot", str(tmp_path), *at, status=4)
        person.has_certificate("x.test")
        person.runs("account", "deactivate", "--yes")
        assert person.runs("renew", "--force", status=4).err.count("so a new one was registered") == 1
        assert "registered" not in person.runs("renew", "--force", status=4).err
    assert ca.accounts == 2


# --- keys that a CA refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Pebble", "badPublicKey", "badSignatureAlgorithm"])
def test_a_key_that_the_ca_refuses_is_not_kept(person, how):
    """Pebble accepts no Ed25519 keys; Boulder accepts no P-521 keys either."""
    with small_ca() as ca:
        creating = ["account", "create", *person.ca, "--agree-terms"]
        if how != "Pebble":
            ca.of_account = {"type": how, "detail": "ECDSA curve P-521 not allowed", "status": 400}
            creating[2:4] = ["--directory", f"{ca.url}/dir"]
        done = person.runs(*creating, "--key-type", "ed25519", "--json", status=4)
        assert "account create --key-type p256" in done.json["error"]["hint"]
        (unused,) = person.folder.glob("*/account.pem.unused")
        assert f"{unused}".removesuffix(".unused") in done.err and "refuses this key" in done.err
        assert not unused.with_name("account.pem").exists()
        ca.of_account = None
        created = person.runs(*creating, "--key-type", "p384", "--json")
    assert created.json["account"]["key_type"] == "p384" and created.err == ""


def test_obtain_succeeds_after_a_key_that_the_ca_refuses(person, tmp_path):
    with small_ca(of_account={"type": "badPublicKey"}) as ca:
        at = ["--directory", f"{ca.url}/dir", "--ca-file", env("ACME_CA_FILE")]
        obtaining = ["obtain", "-d", "x.test", "--webroot", str(tmp_path), *at, "--json"]
        hint = person.runs(*obtaining, status=4).json["error"]["hint"]
        assert hint.startswith("run acme-micro account create --key-type")
        ca.of_account = None
        person.runs("account", "create", *at, "--key-type", "rsa2048")
        # The key may have an account by now, so it stays.
        ca.of_account = ca.of_order = {"type": "badPublicKey"}
        key = person.path("account.pem").read_text()
        person.runs(*obtaining, status=4)
        done = person.runs("account", "create", *at, "--json", status=4)
        assert "hint" not in done.json["error"]
    assert person.path("account.pem").read_text() == key


def test_a_key_whose_registration_was_not_refused_stays(person):
    creating = ["account", "create", "--ca-file", env("ACME_CA_FILE"), "--key-type", "p521", "--directory"]
    with small_ca(of_account={"type": "malformed"}) as ca:
        person.runs(*creating, f"{ca.url}/dir", status=4)
    person.runs(*creating, "https://localhost:9/dir", status=3)
    keys = list(person.folder.glob("*/account.pem"))
    assert [acme.PrivateKey.load(key).type for key in keys] == [acme.KeyType.P521] * 2


def test_another_key_type_than_the_accounts_is_reported(person):
    creating = ["account", "create", *person.ca, "--agree-terms", "--key-type"]
    person.runs(*creating, "p384")
    done = person.runs(*creating, "p256", "--json")
    assert done.json["account"]["key_type"] == "p384"
    how = "to replace it, run acme-micro account rollover --key-type p256"
    assert f"the account's key stays p384; {how}" in done.err
    assert person.runs(*creating, "p384").err == ""


def test_a_rollover_to_a_refused_key_changes_nothing(person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    done = person.runs("account", "rollover", "--key-type", "ed25519", "--json", status=4)
    assert "account rollover --key-type p256" in done.json["error"]["hint"]
    assert not person.path("account.next.pem").exists()
    rolled = person.runs("account", "rollover", "--key-type", "p384", "--json")
    assert rolled.json["account"]["key_type"] == "p384"
    # The earlier change is finished, and the output says that its key has another type.
    acme.PrivateKey.load_or_generate(person.path("account.next.pem"))
    done = person.runs("account", "rollover", "--key-type", "rsa2048", "--json")
    assert done.json["account"]["key_type"] == "p256" and "same command again for a rsa2048 key" in done.err


def test_a_rollover_that_was_killed_is_finished(person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    new = acme.PrivateKey.load_or_generate(person.path("account.next.pem"))
    with acme.Client(
        env("ACME_DIRECTORY"),
        acme.PrivateKey.load(person.path("account.pem")),
        ca_file=env("ACME_CA_FILE"),
    ) as client:
        url = client.find_account()
        client.change_key(new)  # the run is killed here
    done = person.runs("account", "show", "--json")
    (shown,) = done.json["accounts"]
    assert shown["is_valid"] is False and shown["error"]["kind"] == "account"
    assert shown["error"]["hint"].startswith("run acme-micro account rollover: ")
    assert shown["error"]["hint"] in done.err and "account show" not in done.err
    person.runs("account", "rollover")
    assert acme.PrivateKey.load(person.path("account.pem")).thumbprint == new.thumbprint
    assert at_ca(person.path("account.pem")) == url


def test_without_a_response_of_the_ca_an_account_is_not_called_invalid(person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    (known,) = person.runs("account", "show", "--json").json["accounts"]
    settings = person.path("ca.json")
    settings.write_text(settings.read_text().replace(env("ACME_DIRECTORY"), "https://127.0.0.1:9/dir"))
    person.path("directory.url").write_text("https://127.0.0.1:9/dir\n")
    done = person.runs("account", "show", "--json", status=3).json
    (shown,) = done["accounts"]
    assert done["ok"] is False and shown["is_valid"] is None and shown["error"]["kind"] == "network"
    assert (shown["url"], shown["thumbprint"]) == (known["url"], known["thumbprint"])
    assert "unknown whether usable: " in person.runs("account", "show", status=3).out
    # The same for an account whose key cannot be read, and for one whose ca.json is damaged.
    person.path("account.pem").chmod(0o644)
    (shown,) = person.runs("account", "show", "--json", status=7).json["accounts"]
    assert shown["is_valid"] is None and "chmod 600" in shown["error"]["message"]
    settings.write_text("{")
    (shown,) = person.runs("account", "show", "--json", status=7).json["accounts"]
    assert shown["is_valid"] is None and "ca.json" in shown["error"]["message"]
    person.runs("account", "show", status=7)


def test_waiting_for_another_program_is_shown(person):
    person.runs("account", "create", *person.ca, "--agree-terms")
    with open(person.path(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = person.start("account", "rollover", "-v")
        said = ""
        while "waiting for another program" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_key_of_an_external_account_binding_stays_secret(person, tmp_path):
    secret = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    key_file = tmp_path / "eab"
    key_file.write_text(f"{secret}\n")
    with another_pebble("--eab", f"kid-1:{secret}") as pebble:
        ca = ["--directory", pebble["ACME_DIRECTORY"], "--ca-file", pebble["ACME_CA_FILE"]]
        creating = ["account", "create", *ca, "--agree-terms"]
        refused = person.runs(*creating, "--json", status=9)
        assert refused.json["error"]["kind"] == "external-account"
        assert "--eab-kid" in refused.err
        half = person.runs(*creating, "--eab-kid", "kid-1", status=2)
        assert "--eab-key-file" in half.err
        done = person.runs(*creating, "--eab-kid", "kid-1", "--eab-key-file", str(key_file), "-v", "--json")
        assert done.json["account"]["url"]
        assert secret not in done.out + done.err
        for file in person.folder.rglob("*.json"):
            assert secret not in file.read_text()
    assert json.loads(person.path("ca.json").read_text())["directory"] == pebble["ACME_DIRECTORY"]
