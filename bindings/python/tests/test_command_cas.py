"""The command over a long time: trials, several CAs, accounts that are gone, certificates that are ended."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import acme_micro as acme
from acme_micro._names import legacy_file_of
from acme_micro.command import in_use
from acme_micro.command.cas import name_of
from acme_micro.command.layout import Ca
from acme_micro.command.settings import CaSettings, CertificateSettings
from command_runs import COMMAND, Person
from conftest import env, openssl
from outside import another_pebble, serial
from small_ca import small_ca
from test_command import status_of, webroot

__all__ = ["webroot"]


@pytest.fixture(scope="module")
def real() -> Iterator[dict[str, str]]:
    """Another CA, which validates nothing; the first one is for the trial."""
    with another_pebble("--env", "PEBBLE_VA_ALWAYS_VALID=1") as pebble:
        yield pebble


class Two(Person):
    """A user with two CAs in one folder."""

    def __init__(self, folder: Path, real: dict[str, str]):
        super().__init__(folder)
        self.real = ["--directory", real["ACME_DIRECTORY"], "--ca-file", real["ACME_CA_FILE"]]
        self.live = folder.parent / "live"
        self.hook = ["--deploy-hook", f'cp "$ACME_CHAIN_FILE" {self.live}; echo $ACME_CA $ACME_DIRECTORY']

    def of(self, ca: list[str], name: str) -> Path:
        """Returns the path of a file in the folder of this CA."""
        (path,) = (
            path.parent for path in self.folder.glob("*/ca.json")
            if json.loads(path.read_text())["directory"] == ca[1]
        )  # fmt: skip
        return path / name

    def is_live(self, ca: list[str], name: str) -> bool:
        return self.live.read_text() == self.of(ca, f"{name}.chain.pem").read_text()


@pytest.fixture
def person(tmp_path: Path, real: dict[str, str]) -> Two:
    return Two(tmp_path / "acme", real)


# --- a trial beside a real certificate --------------------------------------------------------------------


def test_u02_the_last_obtain_decides_which_certificate_is_renewed_r02(person, webroot):
    name = "both.test"
    person.runs("obtain", *person.ca, "--agree-terms", "-d", name, *webroot, *person.hook)
    person.runs("obtain", *person.real, "--agree-terms", "-d", name, *webroot, *person.hook)
    trial = person.of(person.ca, f"{name}.chain.pem").read_text()
    for force in [], [name]:
        done = person.runs("renew", "--force", *force)
        assert person.is_live(person.real, name)
        assert person.of(person.ca, f"{name}.chain.pem").read_text() == trial
        told = f"acme-micro delete {name} --directory {person.ca[1]}"
        assert (told in done.err) == (force == []), "it is reported once"
    rows = {row["ca"]: row["in_use"] for row in person.runs("show", "--json").json["certificates"]}
    assert len(set(rows.values())) == 1 and len(rows) == 2
    # A command that names the CA asks for it, and an obtain makes it the one in use.
    person.runs("renew", "--force", "--directory", person.ca[1])
    assert person.is_live(person.ca, name)
    person.runs("obtain", *person.ca, "-d", name, *webroot)
    person.runs("renew", "--force")
    assert person.is_live(person.ca, name)


def test_u02_hooks_get_the_name_and_the_directory_of_the_ca_r02(person, webroot, tmp_path):
    done = person.runs("obtain", *person.ca, "--agree-terms", "-d", "hook.test", *webroot, *person.hook)
    folder = person.of(person.ca, "").name
    assert f"{folder} {person.ca[1]}" in done.err
    log = tmp_path / "log"
    publish = ["--hook", f'echo "$ACME_ACTION $ACME_CA $ACME_DIRECTORY" >> {log}', "--challenge-type", "dns-01"]
    person.runs("obtain", *person.real, "--agree-terms", "-d", "dns.test", *publish)
    (folder,) = {one.parent.name for one in person.folder.glob("*/dns.test.key.pem")}
    wanted = [f"{action} {folder} {person.real[1]}" for action in ("publish", "unpublish")]
    assert log.read_text().splitlines() == wanted


def test_u02_certificates_of_an_older_version_are_both_renewed_r02(person, webroot):
    """Nothing shows which one is in use."""
    for ca in person.ca, person.real:
        person.runs("obtain", *ca, "--agree-terms", "-d", "old.test", *webroot)
        settings = person.of(ca, "old.test.renewal.json")
        found = {k: v for k, v in json.loads(settings.read_text()).items() if k not in ("turn", "passed_over")}
        settings.write_text(json.dumps(found))
    before = [serial(person.of(ca, "old.test.chain.pem")) for ca in (person.ca, person.real)]
    person.runs("renew", "--force")
    after = [serial(person.of(ca, "old.test.chain.pem")) for ca in (person.ca, person.real)]
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize("turns", [(0, 0), (1, 2), (2, 1), (1, 0)])
def test_u02_a_real_certificate_comes_before_a_trial_whatever_was_last_r02(tmp_path, turns):
    cas = [
        Ca(tmp_path / name, CaSettings(directory))
        for name, directory in (
            ("letsencrypt-staging", acme.LETSENCRYPT_STAGING), ("letsencrypt", acme.LETSENCRYPT),
        )
    ]  # fmt: skip
    for ca, turn in zip(cas, turns):
        (ca.path / "x.test.chain.pem").write_text("")
        ca.keep_certificate_settings("x.test", CertificateSettings(("x.test",), turn=turn))
    staging, production = cas
    assert in_use.in_use_instead(staging, "x.test", cas) is production
    assert in_use.in_use_instead(production, "x.test", cas) is None
    assert in_use.in_use_instead(staging, "other.test", cas) is None
    (production.path / "x.test.renewal.json").write_text("{")  # damaged, and yet the certificate is in use
    assert in_use.in_use_instead(staging, "x.test", cas) is production


def test_u02_one_command_ends_the_trial_r02(person, webroot):
    name = "trial.test"
    person.runs("obtain", *person.ca, "--agree-terms", "-d", f"{name},www.{name}", *webroot, *person.hook,
                "--key-type", "p384")  # fmt: skip
    trial = person.of(person.ca, f"{name}.chain.pem").read_text()
    # After a failure, the trial is as before.
    person.runs("move", name, *person.real, status=9)
    assert person.of(person.ca, f"{name}.chain.pem").read_text() == trial
    done = person.runs("move", name, *person.real, "--agree-terms", "--json")
    moved = done.json["certificate"]
    assert moved["names"] == [name, f"www.{name}"] and moved["key_type"] == "p384" and moved["is_new"]
    assert person.is_live(person.real, name)
    assert person.of(person.ca, f"{name}.chain.pem.deleted").read_text() == trial
    (row,) = person.runs("show", "--json").json["certificates"]
    assert row["directory"] == person.real[1]
    done = person.runs("renew", "--force")
    assert done.err.count("not renewed") == 0 and person.is_live(person.real, name)
    assert "there is no certificate" in person.runs("move", name, *person.real, status=2).err
    assert "--directory" in person.runs("move", name, status=2).err


@pytest.mark.parametrize("fault", ["folder", "ca.json", "chain"])
def test_u02_a_trial_is_not_deployed_over_a_certificate_that_cannot_be_used_r02(person, webroot, fault):
    name = "fault.test"
    for ca in person.ca, person.real:
        person.runs("obtain", *ca, "--agree-terms", "-d", name, *webroot, *person.hook)
    live, chain = person.live.read_text(), person.of(person.real, f"{name}.chain.pem")
    if fault == "folder":
        chain.parent.chmod(0o707)
    elif fault == "ca.json":
        (chain.parent / "ca.json").write_text("{")
    else:
        chain.unlink()
    for arguments in [name], [], [name]:
        done = person.runs("renew", "--force", *arguments, status=7)
        assert person.live.read_text() == live and chain.parent.name in done.err
    # The trial's certificate of another name, which the unusable CA does not have, is renewed.
    person.runs("obtain", *person.ca, "-d", "another.test", *webroot)
    assert "renewed" in person.runs("renew", "--force", "another.test").out
    # An obtain makes the trial's certificate the live one.
    person.runs("obtain", *person.ca, "-d", name, *webroot, "--force")
    assert person.live.read_text() != live


def test_u02_a_first_obtain_that_failed_does_not_end_renewals_r02(person, webroot):
    person.runs("obtain", *person.ca, "--agree-terms", "-d", "first.test", *webroot, *person.hook)
    failing = ["--hook", "false", *person.hook]
    person.runs("obtain", *person.real, "--agree-terms", "-d", "first.test", *failing, status=8)
    assert "renewed" in person.runs("renew", "--force").out


@pytest.mark.parametrize("more", [[], ["--name", "live"]])
def test_u02_the_same_names_in_another_order_are_one_certificate_r02(person, webroot, more):
    options = ["--agree-terms", *webroot, *person.hook]
    person.runs("obtain", *person.ca, "-d", "n.test,www.n.test", *options)
    person.runs("obtain", *person.real, "-d", "WWW.n.test,n.test", *more, *options)
    (name,) = {path.name[:-10] for path in person.of(person.real, "").glob("*.chain.pem")}
    assert name != "n.test"
    found = person.runs("renew", "--force", "--json").json["certificates"]
    assert {one["name"]: one["is_new"] for one in found} == {"n.test": False, name: True}
    assert person.is_live(person.real, name)
    person.runs("obtain", *person.ca, "-d", "n.test,www.n.test", *webroot)
    person.runs("renew", "--force")
    assert person.is_live(person.ca, "n.test")


def test_u02_move_takes_the_options_of_the_trial_r02(person, webroot):
    person.runs("obtain", *person.real, "--agree-terms", "-d", "m.test", *webroot, *person.hook)
    person.runs("obtain", *person.ca, "--agree-terms", "-d", "m.test,www.m.test", *webroot)
    moved = person.runs("move", "m.test", *person.real, "--json").json["certificate"]
    assert moved["is_new"] and moved["names"] == ["m.test", "www.m.test"]
    assert person.is_live(person.real, "m.test")
    # The certificate is not due for renewal, and the live one is the trial's.
    person.runs("obtain", *person.ca, "-d", "m.test,www.m.test", *webroot, *person.hook)
    assert person.is_live(person.ca, "m.test")
    moved = person.runs("move", "m.test", *person.real, "--json").json["certificate"]
    assert not moved["is_new"] and person.is_live(person.real, "m.test")


# --- a certificate that is not wanted any more ----------------------------------------------------------


def test_u14_a_deleted_certificate_is_not_renewed_and_its_key_is_kept_r14(person, webroot):
    person.obtains("-d", "gone.test", *webroot)
    person.obtains("-d", "stays.test", *webroot)
    chain, key = person.path("gone.test.chain.pem"), person.path("gone.test.key.pem")
    kept = chain.read_text(), key.read_text()
    found = person.runs("delete", "GONE.test.", "--json").json
    assert found["files"] == [f"{chain}.deleted", f"{key}.deleted"] and found["name"] == "gone.test"
    assert (Path(found["files"][0]).read_text(), Path(found["files"][1]).read_text()) == kept
    assert status_of(serial(Path(found["files"][0])))[0] == "Valid"
    assert [path.name for path in person.path("").glob("gone.test*.json")] == []
    done = person.runs("renew", "--force", "--json")
    assert [one["name"] for one in done.json["certificates"]] == ["stays.test"] and done.err == ""
    assert "there is no certificate" in person.runs("delete", "gone.test", status=2).err
    # The next certificate of this name has another key, and a second deletion overwrites nothing.
    person.obtains("-d", "gone.test", *webroot)
    assert key.read_text() != kept[1]
    person.runs("delete", "gone.test")
    assert Path(f"{key}.deleted").read_text() == kept[1] and Path(f"{key}.deleted.2").exists()


@pytest.mark.parametrize("gone", ["renewal.json", "chain.pem", "key.pem", "chain.pem key.pem"])
def test_u14_leftovers_of_a_certificate_cause_no_mail_and_can_be_deleted_r14(person, webroot, gone):
    person.obtains("-d", "left.test", *webroot)
    for ending in gone.split():
        person.path(f"left.test.{ending}").unlink()
    if gone != "key.pem":  # without its key, the certificate is renewed with a new one
        done = person.runs("renew")
        assert done.out + done.err == ""
    person.runs("delete", "left.test")
    assert [path.name for path in person.path("").glob("left.test*") if path.suffix != ".deleted"] == []


# --- accounts that are gone -------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path) -> Person:
    return Person(tmp_path / "alone")


CREATE = "acme-micro account create --agree-terms"


def test_u03_an_account_that_was_deactivated_elsewhere_is_replaced_by_a_command_r03(alone, webroot, tmp_path):
    alone.obtains("-d", "dead.test", *webroot)
    shutil.copytree(alone.folder, tmp_path / "copy")
    Person(tmp_path / "copy").runs("account", "deactivate", "--yes")
    for command in ["renew", "--force"], ["obtain", *alone.ca, "-d", "dead.test", *webroot, "--force"]:
        done = alone.runs(*command, status=9)
        assert f"{CREATE} --directory {alone.ca[1]}" in done.err
    assert CREATE in alone.runs("account", "show").err
    assert CREATE in alone.runs("account", "create", status=9).err
    key = alone.path("account.pem").read_text()
    created = alone.runs("account", "create", "--agree-terms")
    assert "deactivated" in created.err and alone.path("account.pem.unused").read_text() == key
    before = alone.path("dead.test.chain.pem").read_text()
    alone.runs("renew", "--force")
    assert alone.path("dead.test.chain.pem").read_text() != before


def test_u03_deactivating_a_deactivated_account_sets_it_aside_r03(alone, webroot, tmp_path):
    alone.obtains("-d", "dead.test", *webroot)
    shutil.copytree(alone.folder, tmp_path / "copy")
    Person(tmp_path / "copy").runs("account", "deactivate", "--yes")
    assert "not usable any more" in alone.runs("account", "deactivate", "--yes").out
    assert alone.path("account.pem.deactivated").exists() and not alone.path("account.pem").exists()
    alone.obtains("-d", "dead.test", *webroot, "--force")
    alone.runs("renew", "--force")


@pytest.mark.parametrize("state", ["lost", "another key", "from before a rollover"])
def test_u03_a_url_without_its_key_has_a_way_out_r03(alone, webroot, state):
    alone.obtains("-d", "dead.test", *webroot)
    key = alone.path("account.pem")
    if state == "lost":
        key.unlink()
    elif state == "another key":  # a version that made one used it with the old URL
        key.write_text(acme.PrivateKey.generate().pem)
    else:
        old = key.read_text()
        alone.runs("account", "rollover")
        key.write_text(old)
    done = alone.runs("renew", "--force", status=9)
    assert "account create" in done.err
    alone.runs("account", "create", "--agree-terms")
    alone.runs("renew", "--force")
    (shown,) = alone.runs("account", "show", "--json").json["accounts"]
    assert shown["is_valid"]


def test_u03_a_ca_that_lost_all_accounts_gets_them_again_r03(alone, tmp_path, webroot):
    with another_pebble("--env", "PEBBLE_VA_ALWAYS_VALID=1") as first:
        alone.ca = ["--directory", first["ACME_DIRECTORY"], "--ca-file", first["ACME_CA_FILE"]]
        alone.obtains("-d", "dead.test", *webroot)
    with another_pebble("--env", "PEBBLE_VA_ALWAYS_VALID=1") as second:
        settings = alone.path("ca.json")
        found = {**json.loads(settings.read_text()), "ca_file": second["ACME_CA_FILE"]}
        directory = second["ACME_DIRECTORY"]
        settings.write_text(json.dumps({**found, "directory": directory}))
        # This is the same CA, but for its port.
        alone.path("directory.url").write_text(f"{directory}\n")
        alone.path("account.url").write_text(f"{directory.removesuffix('/dir')}/my-account/lost\n")
        settings.parent.rename(alone.folder / name_of(directory))
        done = alone.runs("renew", "--force", status=9)
        assert "account create" in done.err
        alone.runs("account", "create", "--agree-terms")
        alone.runs("renew", "--force")


def test_u03_a_change_of_the_key_that_has_not_ended_is_finished_first_r03(alone):
    alone.runs("account", "create", *alone.ca, "--agree-terms")
    acme.PrivateKey.load_or_generate(alone.path("account.next.pem"))
    assert "account rollover" in alone.runs("account", "create", "--agree-terms", status=2).err
    alone.runs("account", "rollover")
    alone.runs("account", "create", "--agree-terms")


def deactivated(alone: Person, tmp_path: Path) -> None:
    """Deactivates the account from a copy of the folder."""
    shutil.copytree(alone.folder, tmp_path / "copy")
    copy = Person(tmp_path / "copy")
    copy.path("account.next.pem").unlink(missing_ok=True)
    copy.runs("account", "deactivate", "--yes")


@pytest.mark.parametrize("way", [["create", "--agree-terms"], ["deactivate", "--yes"]])
@pytest.mark.parametrize("is_dead", [True, False])
def test_u03_an_account_without_its_url_has_a_way_out_r03(alone, tmp_path, way, is_dead):
    alone.runs("account", "create", *alone.ca, "--agree-terms")
    key = alone.path("account.pem").read_text()
    if is_dead:
        deactivated(alone, tmp_path)
    alone.path("account.url").unlink()
    alone.runs("account", *way)
    if way[0] == "deactivate":
        assert alone.path("account.pem.deactivated").read_text() == key
        alone.runs("account", "create", *alone.ca, "--agree-terms")
    (shown,) = alone.runs("account", "show", "--json").json["accounts"]
    assert shown["is_valid"] and (alone.path("account.pem").read_text() == key) == (
        way[0] == "create" and not is_dead
    )


@pytest.mark.parametrize("way", ["create", "deactivate"])
def test_u03_a_dead_account_with_two_keys_has_a_way_out_r03(alone, tmp_path, way):
    alone.runs("account", "create", *alone.ca, "--agree-terms")
    new = acme.PrivateKey.load_or_generate(alone.path("account.next.pem")).pem
    deactivated(alone, tmp_path)
    assert CREATE in alone.runs("account", "rollover", status=4).err
    ending = "unused"
    if way == "deactivate":
        alone.runs("account", "deactivate", "--yes")
        ending = "deactivated"
    alone.runs("account", "create", "--agree-terms")
    assert alone.path(f"account.next.pem.{ending}").read_text() == new
    (shown,) = alone.runs("account", "show", "--json").json["accounts"]
    assert shown["is_valid"]


@pytest.mark.parametrize("state", ["gone", "damaged", "there"])
def test_u03_the_new_key_of_an_account_is_not_set_aside_while_the_ca_knows_it_r03(alone, state):
    alone.runs("account", "create", *alone.ca, "--agree-terms")
    old, new = alone.path("account.pem"), alone.path("account.next.pem")
    before, url = old.read_text(), alone.path("account.url").read_text()
    alone.runs("account", "rollover")
    old.rename(new)  # as if the rollover was killed after the CA had accepted the key
    key = new.read_text()
    if state != "gone":
        old.touch(0o600)
        old.write_text("" if state == "damaged" else before)
    if state == "there":
        assert "account rollover" in alone.runs("account", "deactivate", "--yes", status=4).err
        assert "account rollover" in alone.runs("account", "create", "--agree-terms", status=2).err
        alone.runs("account", "rollover")
    alone.runs("account", "create", "--agree-terms")
    assert old.read_text() == key and alone.path("account.url").read_text() == url


@pytest.mark.parametrize(
    ("file", "text"),
    [("account.pem", ""), ("account.url", "hello\n"), ("account.url", "https://hello/1\n"), ("account.next.pem", "")],
)
def test_u03_a_damaged_file_of_the_account_is_named_and_has_a_way_out_r03(alone, file, text):
    alone.runs("account", "create", *alone.ca, "--agree-terms")
    key = alone.path("account.pem").read_text()
    damaged = alone.path("ca.json").with_name(file)
    damaged.touch(0o600)
    damaged.write_text(text)
    done = alone.runs("account", "rollover", status=7)
    assert f"{damaged}: " in done.err and f"{CREATE} --directory {alone.ca[1]}" in done.err
    assert f"{damaged}.unused" in alone.runs("account", "create", "--agree-terms").err
    assert Path(f"{damaged}.unused").read_text() == text
    assert (alone.path("account.pem").read_text() == key) == (file != "account.pem")
    alone.runs("account", "rollover")


def test_u03_without_the_key_of_an_account_commands_say_so_r03(alone, webroot):
    alone.obtains("-d", "dead.test", *webroot)
    url = alone.path("account.url").read_text().strip()
    alone.path("account.pem").unlink()
    for command in ["deactivate", "--yes"], ["rollover"], ["contacts"]:
        done = alone.runs("account", *command, status=9)
        assert f"account.pem is gone, the only access to the account {url}" in done.err and CREATE in done.err
    assert not alone.path("account.pem").exists() and alone.path("account.url").exists()
    done = alone.runs("account", "show", "--json")
    (shown,) = done.json["accounts"]
    assert shown["url"] == url and not shown["is_valid"] and CREATE in done.err
    assert url in alone.runs("account", "show").out
    assert "account show" in alone.runs("revoke", "dead.test", status=9).err
    assert CREATE in alone.runs("account", "show").err
    alone.runs("account", "create", "--agree-terms")
    files = [str(alone.path(f"dead.test.{file}.pem")) for file in ("chain", "key")]
    alone.runs("revoke", "--cert", files[0], "--key", files[1])


@pytest.mark.parametrize(("problem", "status"), [("serverInternal", 3), ("malformed", 4)])
def test_u28_a_fault_at_an_order_may_mean_that_the_account_is_lost_r28(alone, tmp_path, problem, status):
    refusal = {"type": problem, "status": 500 if problem == "serverInternal" else 404}
    with small_ca() as ca:
        at = ["--directory", f"{ca.url}/dir", "--ca-file", env("ACME_CA_FILE")]
        alone.runs("account", "create", *at)
        ca.of_order = refusal
        obtaining = ["obtain", *at, "-d", "x.test", "--webroot", str(tmp_path)]
        done = alone.runs(*obtaining, status=status)
        assert problem == "malformed" or "acme-micro account show" in done.err
        ca.of_account = {"type": "accountDoesNotExist", "status": 400}
        assert CREATE in alone.runs(*obtaining, status=9).err


# --- keys that others know -----------------------------------------------------------------------------


def test_u04_a_compromised_key_is_retired_however_it_is_named_r04(person, webroot, tmp_path):
    person.runs("obtain", *person.real, "--agree-terms", "-d", "twin.test", *webroot)
    person.obtains("-d", "leak.test", *webroot)
    person.obtains("-d", "safe.test", *webroot)
    first, key = person.of(person.ca, "leak.test.chain.pem"), person.of(person.ca, "leak.test.key.pem")
    shutil.copy(first, tmp_path / "earlier.pem")
    leaked = key.read_text()
    # A certificate of another CA has the same key.
    person.of(person.real, "twin.test.key.pem").write_text(leaked)
    openssl("req", "-x509", "-key", str(key), "-subj", "/CN=twin.test", "-days", "1",
            "-out", str(person.of(person.real, "twin.test.chain.pem")))  # fmt: skip
    person.runs("renew", "--force", "leak.test")
    assert key.read_text() == leaked
    revoking = ["revoke", "--directory", person.ca[1], "--cert", str(tmp_path / "earlier.pem")]
    done = person.runs(*revoking, "--reason", "key-compromise")
    assert done.out.count("renamed to end in .revoked") == 2
    assert status_of(serial(tmp_path / "earlier.pem")) == ("Revoked", 1)
    for ca, name in ((person.ca, "leak.test"), (person.real, "twin.test")):
        assert person.of(ca, f"{name}.key.pem.revoked").read_text() == leaked
        assert not person.of(ca, f"{name}.renewal.json").exists()
    done = person.runs("renew", "--force", "--json").json
    assert [one["name"] for one in done["certificates"]] == ["safe.test"]
    person.obtains("-d", "leak.test", *webroot)
    assert key.read_text() != leaked


def test_u04_the_ca_of_a_file_is_found_by_its_certificate_r04(person, webroot):
    person.runs("obtain", *person.real, "--agree-terms", "-d", "a.test", *webroot)
    person.obtains("-d", "b.test", *webroot)
    person.runs("revoke", "--cert", str(person.of(person.ca, "b.test.chain.pem")))
    assert person.of(person.ca, "b.test.chain.pem.revoked").exists()


@pytest.mark.skipif(not shutil.which("unshare"), reason="NOT RUN: this needs a mount namespace")
def test_u04_a_read_only_folder_is_found_before_the_ca_is_asked_r04(alone, webroot):
    alone.obtains("-d", "ro.test", *webroot)
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(alone.folder), *COMMAND, "revoke", "ro.test"]
    command += ["--folder", str(alone.folder), "--reason", "key-compromise"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 7 and "Read-only file system" in done.stderr
    number = serial(alone.path("ro.test.chain.pem"))
    assert status_of(number)[0] == "Valid", "the CA was not asked"
    alone.runs("revoke", "ro.test", "--reason", "key-compromise")
    assert status_of(number)[0] == "Revoked"


def test_u04_after_a_kill_the_key_is_not_used_r04(alone, webroot):
    alone.obtains("-d", "killed.test", *webroot)
    key = alone.path("killed.test.key.pem").read_text()
    alone.path("killed.test.revoking").write_text("KEY_COMPROMISE\n")  # all that a kill leaves
    done = alone.runs("renew", "--force")
    assert alone.path("killed.test.key.pem").read_text() != key
    assert alone.path("killed.test.key.pem.revoked").read_text() == key
    assert "killed.test.chain.pem.revoked" in done.err


@pytest.mark.parametrize("moved", [("chain",), ("key",), ("chain", "key")])
@pytest.mark.parametrize("ended", [True, False])
def test_u04_a_certificate_that_was_set_aside_is_obtained_again_r04(alone, webroot, moved, ended):
    """Also if the order that followed has failed: the settings are there."""
    alone.obtains("-d", "killed.test", *webroot)
    key = alone.path("killed.test.key.pem").read_text()
    if not ended:
        alone.path("killed.test.revoking").write_text("KEY_COMPROMISE\n")
    for file in moved:
        old = alone.path(f"killed.test.{file}.pem")
        old.rename(f"{old}.revoked")
    assert "killed.test: renewed" in alone.runs("renew", "--force").out
    assert alone.path("killed.test.chain.pem").exists()
    assert (alone.path("killed.test.key.pem").read_text() != key) or (ended and moved == ("chain",))


# --- files for a group, and spellings -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["chmod 640", "fsGroup", "ACL"])
def test_u15_a_group_that_may_read_files_does_not_end_renewals_r15(alone, webroot, how):
    alone.obtains("-d", "group.test", *webroot)
    key = alone.path("group.test.key.pem")
    if how == "fsGroup":
        subprocess.run(["chmod", "-R", "g+rwX", str(alone.folder)], check=True)
    elif how == "ACL":  # what setfacl -m g:1:r writes: the mask shows in the group's bits
        entries = "01000600ffffffff 04000000ffffffff 0800040001000000 10000400ffffffff 20000000ffffffff"
        os.setxattr(key, "system.posix_acl_access", bytes.fromhex(f"02000000 {entries}"))
    else:
        key.chmod(0o640)
    mode = stat.S_IMODE(key.stat().st_mode)
    assert mode & 0o040
    done = alone.runs("renew", "--force")
    assert "renewed" in done.out and stat.S_IMODE(key.stat().st_mode) == mode
    for secret in "account.pem", "group.test.renewal.json", "ca.json":
        assert stat.S_IMODE(alone.path(secret).stat().st_mode) == 0o600
        assert (f"{secret}: the group could use this file" in done.err) == (how == "fsGroup")
    assert "the group could use" not in alone.runs("renew", "--force").err
    alone.path("ca.json").chmod(0o644)
    assert "others can read this file; chmod 600 it" in alone.runs("renew", status=7).err


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can give a folder away")
def test_u15_root_may_renew_in_the_folder_of_another_user_r15(alone, webroot):
    alone.obtains("-d", "root.test", *webroot)
    subprocess.run(["chown", "-R", "12345:12345", str(alone.folder)], check=True)
    alone.runs("renew", "--force")
    assert {path.stat().st_uid for path in alone.folder.rglob("*")} == {12345}


@pytest.mark.parametrize(
    ("spellings", "file"),
    [
        (["müller.test", "xn--mller-kva.test", "MÜLLER.test."], "xn--mller-kva.test"),
        (["name.test", "Name.test."], "name.test"),
        (["0:0:0:0:0:0:0:1", "::1"], "::1"),
    ],
)
def test_u16_another_spelling_is_the_same_certificate_r16(alone, tmp_path, spellings, file):
    with another_pebble("--env", "PEBBLE_VA_ALWAYS_VALID=1") as ca:
        alone.ca = ["--directory", ca["ACME_DIRECTORY"], "--ca-file", ca["ACME_CA_FILE"]]
        options = ["--webroot", str(tmp_path), "--json"]
        news = [alone.obtains("-d", name, *options).json["certificate"] for name in spellings]
        assert [one["is_new"] for one in news] == [True, *[False for _ in spellings[1:]]]
        assert {one["name"] for one in news} == {file}
        assert [path.name for path in alone.path("").glob("*.key.pem")] == [f"{file}.key.pem"]
        assert {path.name for path in alone.path("").glob("*.json")} == {"ca.json", f"{file}.renewal.json"}
        for name in spellings:
            (one,) = alone.runs("renew", name, "--json").json["certificates"]
            assert one["name"] == file
            (one,) = alone.runs("show", name, "--offline", "--json").json["certificates"]
            assert one["name"] == file
        alone.runs("delete", spellings[-1])


def test_u16_files_of_an_older_version_are_renewed_where_they_are_r16(alone, webroot):
    alone.obtains("-d", "müller.test", *webroot)
    for ending in "key.pem", "chain.pem", "renewal.json":
        alone.path(f"xn--mller-kva.test.{ending}").rename(alone.path(f"m%C3%BCller.test.{ending}"))
    before = alone.path("m%C3%BCller.test.chain.pem").read_text()
    for name in "müller.test", "xn--mller-kva.test":
        (one,) = alone.runs("renew", name, "--force", "--json").json["certificates"]
        assert one["is_new"] and one["chain_file"] == str(alone.path("m%C3%BCller.test.chain.pem"))
    assert alone.path("m%C3%BCller.test.chain.pem").read_text() != before
    alone.runs("revoke", "xn--mller-kva.test")
    assert alone.path("m%C3%BCller.test.key.pem.revoked").exists()
    assert not alone.path("m%C3%BCller.test.renewal.json").exists()


def test_u16_a_long_name_of_an_older_version_is_the_same_certificate_r16(alone, webroot):
    name = "ü" * 20 + "x" * 170
    alone.obtains("-d", "long.test", *webroot)
    for ending in "key.pem", "chain.pem", "renewal.json":
        alone.path(f"long.test.{ending}").rename(alone.path(f"{legacy_file_of(name)}.{ending}"))
    for spelling in name, name.upper():
        found = alone.obtains("-d", "long.test", "--name", spelling, *webroot, "--json").json["certificate"]
        chain = alone.path(f"{legacy_file_of(name)}.chain.pem")
        assert not found["is_new"] and found["chain_file"] == str(chain)
    (one,) = alone.runs("renew", found["name"], "--force", "--json").json["certificates"]
    assert one["is_new"] and len(list(alone.path("").glob("*.key.pem"))) == 1
