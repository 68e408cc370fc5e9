"""The command acme-micro, as users and cron jobs run it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import acme_micro as acme
from acme_micro.command.text import time_left
from command_runs import COMMAND, Person
from conftest import env, openssl
from outside import another_pebble, judge
from test_command_shell import generate
from test_pebble_all_of_acme import management
from webroot_server import serving

NAMES = ["shop.test", "www.shop.test"]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "acme")


@pytest.fixture
def webroot(tmp_path: Path) -> Iterator[list[str]]:
    """Options for a web server on port 80 of each name."""
    folder = tmp_path / "webroots" / "one"
    folder.mkdir(parents=True)
    with serving(tmp_path / "webroots", int(env("PEBBLE_HTTP_PORT"))):
        yield ["--webroot", str(folder)]


def names_of(options: list[str]) -> list[str]:
    return [option for name in options for option in ("-d", name)]


def check(person: Person, name: str, names: list[str], root: str | None = None) -> str:
    """Checks the files with openssl; returns the serial number."""
    chain, key = person.path(f"{name}.chain.pem"), person.path(f"{name}.key.pem")
    return judge(chain, key, names, root or env("PEBBLE_ROOT"))


def cells(row: str) -> list[str]:
    """Splits a row of the table."""
    return re.split("  +", row)


def make_due(person: Person, name: str) -> None:
    """Makes the CA say that the renewal is due."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    window = {"start": (now - timedelta(2)).isoformat(), "end": (now - timedelta(1)).isoformat()}
    chain = person.path(f"{name}.chain.pem").read_text()
    management(
        "/set-renewal-info/", certificate=chain, ARIResponse=json.dumps({"suggestedWindow": window})
    )


# --- obtain, renew, show ------------------------------------------------------------------------------


def test_a_certificate_is_obtained_shown_and_renewed_when_the_ca_says_so(person, webroot, new_pebble, tmp_path):
    log = tmp_path / "deployed"
    deploy = f'echo "$ACME_NAME" $ACME_NAMES "$ACME_CHAIN_FILE" "$ACME_KEY_FILE" >>{log}'
    # The profile is part of what a renewal repeats.
    obtaining = [*names_of(NAMES), *webroot, "--deploy-hook", deploy, "--profile", "default"]

    first = person.obtains(*obtaining)
    serial = check(person, "shop.test", NAMES)
    assert first.out.startswith("shop.test: new certificate, valid until 20")
    chain, key = str(person.path("shop.test.chain.pem")), str(person.path("shop.test.key.pem"))
    assert chain in first.out and key in first.out
    # There is no terminal, so there is no progress.
    assert first.err == ""
    again = person.obtains(*obtaining)
    assert "not due for renewal" in again.out and check(person, "shop.test", NAMES) == serial

    # Without a terminal, as in a cron job, renew writes nothing.
    quiet = person.runs("renew")
    assert (quiet.out, quiet.err) == ("", "")
    assert check(person, "shop.test", NAMES) == serial

    shown = person.runs("show")
    heading, row = shown.out.splitlines()
    assert heading.split()[:4] == ["NAME", "CA", "LEFT", "EXPIRES"]
    assert row.startswith("shop.test  127.0.0.1:") and row.endswith("shop.test www.shop.test")
    (one,) = person.runs("show", "--json", "shop.test").json["certificates"]
    days = openssl("x509", "-in", chain, "-noout", "-enddate", "-dateopt", "iso_8601")
    assert days.split("=")[1].strip() == one["not_after"].replace("T", " ").replace("+00:00", "Z")
    window = [one["renewal"][what][:10] for what in ("window_start", "window_end", "renew_at")]
    start, end, at = window
    assert cells(row)[2:6] == [f"{one['days_left']} days", one["not_after"][:10], f"{start} .. {end}", at]
    assert one["serial"] == serial and one["renewal"]["from_ca"] and not one["renewal"]["is_due"]

    # The command that the shell completions run to list the names.
    show = shlex.join([*COMMAND, "show", "--folder", str(person.folder)])
    listed = ["sh", "-c", generate.CERTIFICATES.replace("acme-micro show", show)]
    assert subprocess.check_output(listed, text=True) == "shop.test\n"

    make_due(person, "shop.test")
    assert cells(person.runs("show").out.splitlines()[1])[5] == "now"
    renewed = person.runs("renew")
    assert renewed.out.startswith("shop.test: renewed, valid until 20") and renewed.err == ""
    second = check(person, "shop.test", NAMES)
    assert second != serial
    # A CA that always asks for a renewal is asked for one certificate a day at most.
    make_due(person, "shop.test")
    assert person.runs("renew").out == "" and check(person, "shop.test", NAMES) == second

    forced = person.runs("renew", "--force", "--json").json
    assert forced["ok"] and forced["certificates"][0]["is_new"]
    third = check(person, "shop.test", NAMES)
    assert third == forced["certificates"][0]["serial"] not in (serial, second)
    # The deploy hook ran once for each certificate.
    assert log.read_text() == f"shop.test shop.test www.shop.test {chain} {key}\n" * 3


def test_each_of_several_failed_names_has_its_reason_and_its_hint(person, tmp_path):
    (tmp_path / "web").mkdir()
    names = ["a.fail.test", "b.fail.test"]
    options = [option for name in names for option in ("-d", name)]
    done = person.obtains(*options, "--webroot", str(tmp_path / "web"), "--json", status=5)
    assert "2 names failed" in done.err
    for name in names:
        assert f"{name}: http-01 failed" in done.err
        assert f"the CA cannot reach port 80 of {name}" in done.err
    found = {one["identifier"]: one for one in done.json["error"]["subproblems"]}
    assert sorted(found) == names and all("port 80" in one["hint"] for one in found.values())


def test_a_preferred_chain_that_the_ca_lacks_is_reported(person, webroot):
    done = person.obtains("-d", "alt.test", *webroot, "--preferred-chain", "No Such Root")
    assert "none of the CA's chains has Root(\"No Such Root\"): its own choice stays" in done.err
    check(person, "alt.test", ["alt.test"])


def test_standalone_with_all_options(two_profiles, tmp_path):
    person = Person(tmp_path / "acme", two_profiles["ACME_DIRECTORY"], two_profiles["ACME_CA_FILE"])
    root, port = two_profiles["PEBBLE_ROOT"], int(two_profiles["PEBBLE_HTTP_PORT"])
    done = person.obtains(
        "-d", "A.all.test,b.all.test", "--standalone", f"127.0.0.1:{port}", "--name", "all",
        "--key-type", "p384", "--profile", "shortlived", "--contact", "ops@all.test", "--json", "-v",
    )  # fmt: skip
    check(person, "all", ["a.all.test", "b.all.test"], root)
    assert done.json["ok"] and done.json["command"] == "obtain"
    one = done.json["certificate"]
    assert one["name"] == "all" and one["key_type"] == "p384" and one["days_left"] == 5
    assert one["chain_file"] == str(person.path("all.chain.pem")) and one["is_new"]
    # The output has the steps in their order, and no secret.
    told = ["asking 127", "publishing http-01 for ", "removing http-01", "all: new, valid until 20"]
    assert [one for one in told if one in done.err] == sorted(told, key=done.err.index) == told
    assert "HTTP status 201" in done.err
    for key in person.path("all.key.pem"), person.path("account.pem"):
        assert key.read_text().splitlines()[1] not in done.err + done.out
    # The file has the settings for renewals, and no others.
    kept = json.loads(person.path("all.renewal.json").read_text())
    assert kept["standalone"] == ["127.0.0.1", port]
    assert kept["profile"] == "shortlived" and kept["names"] == ["a.all.test", "b.all.test"]
    assert person.seen("renew", "all", "--force", "-q") == ""
    assert check(person, "all", ["a.all.test", "b.all.test"], root) != one["serial"]
    # On a terminal, each step is shown, also when nothing is renewed.
    assert "all: renewal not due yet; valid until 20" in person.seen("renew")


def test_the_times_of_a_short_certificate_have_minutes(new_pebble, tmp_path):
    minute = r"20\d\d-\d\d-\d\d \d\d:\d\d UTC"
    with another_pebble("--profile", "default=300") as pebble:
        person = Person(tmp_path / "acme", pebble["ACME_DIRECTORY"], pebble["ACME_CA_FILE"])
        listening = ["--standalone", f"127.0.0.1:{pebble['PEBBLE_HTTP_PORT']}"]
        done = person.obtains("-d", "short.test", *listening)
        assert re.match(rf"short.test: new certificate, valid until {minute} \([45] min\)\n", done.out)
        assert re.search(rf"renewal not due yet; valid until {minute}", person.runs("renew", "-v").err)
        # The start of the window is not shown too early, and its end not too late.
        (one,) = person.runs("show", "--json").json["certificates"]
        renews = datetime.fromisoformat(one["renewal"]["renew_at"])
        heading, row = map(cells, person.runs("show").out.splitlines())
        assert re.fullmatch("[34] min", row[2]) and re.fullmatch(rf"{minute} \.\. {minute}", row[4])
        assert row[3] == f"{one['not_after'][:16].replace('T', ' ')} UTC"
        rounded_up = renews + timedelta(seconds=-renews.second % 60)
        # A busy machine may take until the renewal is due.
        is_due = row[5] == "now" and datetime.now(timezone.utc) >= renews
        assert is_due or row[5] == f"{rounded_up:%Y-%m-%d %H:%M} UTC"
        assert one["days_left"] == 0
        done = person.runs("renew", "--force")
        assert re.fullmatch(rf"short.test: renewed, valid until {minute}\n", done.out)


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=89, hours=1), "89 days"),
        (timedelta(days=2, seconds=1), "2 days"),
        (timedelta(hours=47, minutes=59, seconds=30), "47 h 59 min"),
        (timedelta(seconds=90), "1 min"),
        (timedelta(seconds=-1), "expired"),
    ],
)
def test_less_than_two_days_are_shown_as_hours_and_minutes(left, told):
    assert time_left(datetime.now(timezone.utc) + left) == told


def test_a_time_at_which_renew_tries_again_is_rounded_up(person, webroot):
    person.obtains("-d", "again.test", *webroot)
    file = person.path("again.test.renewal.json")
    at = datetime.now(timezone.utc).replace(minute=0, second=44, microsecond=0) + timedelta(hours=2)
    file.write_text(json.dumps({**json.loads(file.read_text()), "tries": 1, "next_try": at.timestamp()}))
    assert f"not tried again before {at:%Y-%m-%d %H}:01 UTC" in person.runs("renew", "-v").err


def test_a_final_dot_is_not_part_of_a_name(person, webroot):
    done = person.obtains("-d", "Dot.test.,www.dot.test.", *webroot, "--json")
    one = done.json["certificate"]
    assert one["name"] == "dot.test" and one["names"] == ["dot.test", "www.dot.test"]
    serial = check(person, "dot.test", ["dot.test", "www.dot.test"])
    assert one["chain_file"] == str(person.path("dot.test.chain.pem"))
    assert person.path("dot.test.renewal.json").exists()
    # This is the same certificate.
    again = person.obtains("-d", "dot.test,www.dot.test", *webroot, "--json")
    assert not again.json["certificate"]["is_new"]
    assert [path.name for path in person.path("").glob("*.chain.pem")] == ["dot.test.chain.pem"]
    person.obtains("-d", "dot.test", "--name", "other.", *webroot)
    assert person.path("other.chain.pem").exists()
    (shown,) = person.runs("show", "dot.test.", "--json").json["certificates"]
    assert (shown["name"], shown["serial"]) == ("dot.test", serial)
    (renewed,) = person.runs("renew", "DOT.test.", "--force", "--json").json["certificates"]
    assert renewed["is_new"] and renewed["name"] == "dot.test"
    person.runs("revoke", "dot.test.")
    assert person.path("dot.test.chain.pem.revoked").exists()


HOOK = """
    import json, os, sys, urllib.request
    name, value = "_acme-challenge." + os.environ["CERTBOT_DOMAIN"], os.environ["CERTBOT_VALIDATION"]
    if os.environ["ACME_TYPE"] == "dns-01":
        assert (os.environ["ACME_DNS_NAME"], os.environ["ACME_DNS_VALUE"]) == (name, value)
    path, body = {"publish": ("set-txt", {"value": value}), "unpublish": ("clear-txt", {})}[sys.argv[1]]
    data = json.dumps({"host": name + ".", **body}).encode()
    urllib.request.urlopen(os.environ["PEBBLE_CHALLTESTSRV"] + "/" + path, data, timeout=10).close()
    with open(sys.argv[2], "a") as log:
        print(sys.argv[1], os.environ["ACME_NAME"], os.environ["CERTBOT_REMAINING_CHALLENGES"],
              os.environ["CERTBOT_ALL_DOMAINS"], os.environ.get("CERTBOT_AUTH_OUTPUT"), file=log)
    print("zone-7")
"""


def test_hooks_for_certbot_work_for_dns_01(person, tmp_path):
    program, log = tmp_path / "hook.py", tmp_path / "log"
    program.write_text(textwrap.dedent(HOOK))
    command = f"{shlex.quote(sys.executable)} {program}"
    for name, hooks in (
        ("two", ["--hook", f"{command} publish {log}", "--cleanup-hook", f"{command} unpublish {log}"]),
        ("one", ["--hook", f'{command} "$ACME_ACTION" {log}']),
    ):
        log.write_text("")
        names = [f"{name}.dns.test", f"*.{name}.dns.test", f"other.{name}.dns.test"]
        done = person.obtains(*names_of(names), *hooks, "--name", name, "--json")
        # The output of hooks is on standard error, so the result is complete.
        assert done.json["ok"] and done.err.count("zone-7") == len(log.read_text().splitlines())
        check(person, name, names)
        lines = [line.split() for line in log.read_text().splitlines()]
        published = [line for line in lines if line[0] == "publish"]
        taken_down = [line for line in lines if line[0] == "unpublish"]
        assert sorted(line[1] for line in published) == sorted(line[1] for line in taken_down)
        assert [line[2] for line in published][-1] == "0" and published[0][3] == ",".join(names)
        assert all(line[4] == "zone-7" for line in taken_down)
        assert all(line[4] == "None" for line in published)


def test_a_deploy_hook_that_fails_is_tried_again_without_another_order(person, webroot, tmp_path):
    flag = tmp_path / "ready"
    obtaining = [*names_of(["deploy.test"]), *webroot, "--deploy-hook", f"test -e {flag}"]
    failed = person.obtains(*obtaining, "--json", status=10)
    assert failed.json["error"]["kind"] == "deploy" and "the hook ended with status 1" in failed.err
    serial = check(person, "deploy.test", ["deploy.test"])
    assert person.runs("renew", status=10).err.startswith("acme-micro: deploy.test: ")
    flag.touch()
    person.runs("renew")
    flag.unlink()
    person.runs("renew")
    assert check(person, "deploy.test", ["deploy.test"]) == serial


def test_a_failed_renewal_does_not_stop_the_others(person, webroot, new_pebble, tmp_path):
    (tmp_path / "webroots" / "two").mkdir()
    for name, root in (("bad.test", "two"), ("good.test", "one")):
        person.obtains("-d", name, "--webroot", str(tmp_path / "webroots" / root))
    serials = {name: check(person, name, [name]) for name in ("bad.test", "good.test")}
    (tmp_path / "webroots" / "two").rename(tmp_path / "two")
    # Pebble reuses valid authorizations, and then nothing is published: so the order gets another name.
    settings = person.path("bad.test.renewal.json")
    settings.write_text(settings.read_text().replace('"bad.test"', '"bad.test", "more.bad.test"'))
    make_due(person, "good.test")

    failed = person.runs("renew", "--json", status=8)
    bad, good = failed.json["certificates"]
    assert not failed.json["ok"] and not bad["ok"] and good["ok"] and good["is_new"]
    assert bad["error"]["kind"] == "publish" and "two" in bad["error"]["message"]
    assert check(person, "good.test", ["good.test"]) != serials["good.test"]
    assert check(person, "bad.test", ["bad.test"]) == serials["bad.test"]

    later = person.runs("renew", "-v")
    assert "bad.test: not tried again before 20" in later.err
    (tmp_path / "two").rename(tmp_path / "webroots" / "two")
    assert "bad.test: renewed" in person.runs("renew", "bad.test").out
    check(person, "bad.test", ["bad.test", "more.bad.test"])


def kept(person: Person, name: str, **changed: object) -> tuple[int, int, float]:
    """Returns the recorded numbers of failures and renewals in a row, and the seconds until the next try.
    Values that are not None are changed first."""
    file = person.path(f"{name}.renewal.json")
    found = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({field: value for field, value in found.items() if value is not None}))
    found = json.loads(file.read_text())
    return found.get("failures", 0), found.get("renewals", 0), found["next_try"] - time.time()


def test_r15_a_success_resets_the_number_of_failures(person, webroot, new_pebble):
    person.obtains("-d", "after.test", *webroot)
    kept(person, "after.test", failures=3)
    make_due(person, "after.test")
    assert "after.test: renewed" in person.runs("renew").out
    failures, renewals, wait = kept(person, "after.test")
    assert (failures, renewals) == (0, 1) and 0 < wait <= 90
    # A run that finds the renewal not due sets the number of renewals to 0, too.
    kept(person, "after.test", next_try=0)
    person.runs("renew")
    assert kept(person, "after.test")[:2] == (0, 0)
    assert json.loads(person.path("after.test.renewal.json").read_text())["next_try"] == 0

    # In the end, a CA that always asks for a renewal is asked for one certificate a day.
    kept(person, "after.test", renewals=3)
    make_due(person, "after.test")
    assert "after.test: renewed" in person.runs("renew").out
    failures, renewals, wait = kept(person, "after.test")
    assert (failures, renewals) == (0, 4) and 86000 < wait <= 36 * 3600

    # Older versions had one number, and a success may have put off the next try for too long.
    make_due(person, "after.test")
    old = {"tries": 4, "failures": None, "renewals": None, "next_try": time.time() + 32 * 3600}
    kept(person, "after.test", **old)
    assert "after.test: renewed" in person.runs("renew").out
    assert kept(person, "after.test")[:2] == (0, 1)


def test_r15_a_short_certificate_is_renewed_before_it_expires(person, webroot, new_pebble, tmp_path):
    person.obtains("-d", "short.test", *webroot)
    until = datetime.now(timezone.utc) + timedelta(minutes=5)
    with acme.Store(person.path("")) as store:
        with store.client(env("ACME_DIRECTORY"), ca_file=env("ACME_CA_FILE")) as ca:
            solver = acme.Webroot(webroot[1])
            store.obtain(ca, ["short.test"], solver, renew_now=True, not_after=until)
    make_due(person, "short.test")
    # Pebble reuses valid authorizations, and then nothing is published: so the order gets another name.
    kept(person, "short.test", failures=3, names=["short.test", "more.short.test"])
    folder = tmp_path / "webroots"
    (folder / "one").rename(tmp_path / "elsewhere")
    person.runs("renew", status=8)
    failures, _, wait = kept(person, "short.test")
    assert failures == 4 and 0 < wait <= 160, "a day, for one that ends in five minutes"
    assert "not tried again before" in person.runs("renew", "-v").err
    (tmp_path / "elsewhere").rename(folder / "one")
    kept(person, "short.test", next_try=time.time() - 1)
    assert "short.test: renewed" in person.runs("renew").out
    failures, renewals, wait = kept(person, "short.test")
    assert (failures, renewals) == (0, 1) and 0 < wait <= 90


DAMAGE: list[tuple[str, object]] = [
    ("key_type", "foo"), ("next_try", "x"), ("next_try", 1e300), ("failures", True), ("names", 5),
    ("names", ["a.test", 5]), ("standalone", ["", 70000]), ("hook", ["true"]),
]  # fmt: skip


def test_a_damaged_file_does_not_stop_other_renewals(person, webroot, new_pebble):
    person.obtains("-d", "good.test", *webroot)
    written = json.loads(person.path("good.test.renewal.json").read_text())
    for number, (field, value) in enumerate(DAMAGE):
        file = person.path(f"bad{number}.test.renewal.json")
        file.touch(0o600)
        file.write_text(json.dumps({**written, field: value}))
        person.path(f"bad{number}.test.chain.pem").touch()
    done = person.runs("renew", "--json", status=7)
    *bad, good = done.json["certificates"]
    assert good["ok"] and not done.json["ok"] and "Traceback" not in done.err
    for (field, _), found in zip(DAMAGE, bad):
        assert found["error"]["kind"] == "store" and field in found["error"]["message"], field
    assert len(bad) == len(DAMAGE)
    for file in person.path("").glob("bad*"):
        file.unlink()

    # A CA whose ca.json is damaged.
    other = person.folder / "a.test_dir"
    other.mkdir(mode=0o700)
    (other / "ca.json").touch(0o600)
    for text in ("{", '{"directory": 5}', '{"directory": "x"}', "[" * 100_000):
        (other / "ca.json").write_text(text)
        for command, flag in (("renew", "ok"), ("show", "usable")):
            done = person.runs(command, "--json", status=7)
            damaged, *others = done.json["certificates"]
            assert (damaged["name"], damaged["ca"], damaged[flag]) == (None, "a.test_dir", False)
            assert damaged["error"]["message"] in done.err and not done.json["ok"]
            assert [(one["name"], one[flag]) for one in others] == [("good.test", True)]
    # A run for another certificate or CA does not read that file.
    person.runs("renew", "good.test")
    person.runs("renew", *person.ca)
    assert "a.test_dir" in person.runs("renew", "other.test", status=7).err


def test_an_unusable_file_affects_only_its_row(person, webroot):
    for name in ("bad.test", "good.test"):
        person.obtains("-d", name, *webroot)

    def damaged() -> None:
        done = person.runs("show", "--offline", "--json", status=7)
        bad, good = done.json["certificates"]
        assert good["usable"] and not bad["usable"] and not done.json["ok"]
        assert bad["error"]["kind"] == "store" and bad["error"]["message"] in done.err
        _, row, other = person.runs("show", "--offline", status=7).out.splitlines()
        assert bad["error"]["message"] in row and other.endswith(" good.test")

    chain, key = person.path("bad.test.chain.pem"), person.path("bad.test.key.pem")
    key.chmod(0o644)
    damaged()
    key.chmod(0o600)
    written = key.read_bytes()
    key.write_bytes(b"none")
    damaged()
    key.write_bytes(written)
    chain.unlink()
    for spoil in (lambda: chain.symlink_to(key), lambda: chain.mkdir(), lambda: os.mkfifo(chain)):
        spoil()
        damaged()
        chain.rmdir() if chain.is_dir() else chain.unlink()
    # A file that the client needs does not exist.
    settings = json.loads(person.path("ca.json").read_text())
    person.path("ca.json").write_text(json.dumps({**settings, "ca_file": "/nowhere.pem"}))
    done = person.runs("show", status=2)
    assert "/nowhere.pem" in done.err
    assert cells(done.out.splitlines()[1])[4:] == ["?", "?", "good.test"]


def test_a_certificate_may_have_the_name_of_the_cas_own_file(person):
    person.obtains("-d", "called.test", "--name", "ca", *standalone())
    assert "ca: renewed" in person.runs("renew", "ca", "--force").out
    person.runs("revoke", "ca")
    assert person.path("ca.json").exists()


def standalone() -> list[str]:
    return ["--standalone", f"127.0.0.1:{env('PEBBLE_HTTP_PORT')}"]


def test_a_way_to_the_ca_is_remembered_when_it_has_worked(person, tmp_path):
    person.obtains("-d", "way.test", *standalone())
    first = person.path("ca.json").read_text()
    nowhere = ["--proxy", "http://127.0.0.1:1"]
    other = ["--ca-file", env("PEBBLE_ROOT")]
    # A run that renews nothing does not fail.
    for way in ["--force", *other], nowhere:
        person.runs("renew", *way, status=3 if "--force" in way else 0)
        assert person.path("ca.json").read_text() == first
    good = tmp_path / "good.pem"
    good.write_text(Path(env("ACME_CA_FILE")).read_text())
    for arguments in (
        ["account", "contacts", "--ca-file", str(good)],
        ["renew", "--allow-host", "localhost"],
    ):
        person.runs(*arguments)
        assert arguments[-1] in person.path("ca.json").read_text()
    # An empty option removes a setting.
    settings = json.loads(person.path("ca.json").read_text())
    person.path("ca.json").write_text(json.dumps({**settings, "proxy": nowhere[1]}))
    person.runs("renew", "--force", status=3)
    person.runs("renew", "way.test", "--force", "--proxy", "", "--allow-host", "")
    kept = json.loads(person.path("ca.json").read_text())
    assert kept["proxy"] is None and kept["allow_host"] == [] and kept["ca_file"] == str(good)


def test_a_name_too_long_for_a_file_is_found_as_it_is_typed(person, webroot):
    name = "\u6f22" * 60
    person.obtains("-d", "long.test", "--name", name, *webroot)
    assert len(person.runs("show", name, "--json").json["certificates"]) == 1
    person.runs("renew", name, "--force")
    person.runs("revoke", name)


def test_show_works_without_a_response_of_the_ca(person, webroot):
    person.obtains("-d", "lonely.test", *webroot)
    settings = person.path("ca.json")
    settings.write_text(settings.read_text().replace(env("ACME_DIRECTORY"), "https://127.0.0.1:9/dir"))
    person.path("directory.url").write_text("https://127.0.0.1:9/dir\n")
    row = person.runs("show").out.splitlines()[1]
    assert "(estimated)" in row and row.endswith("lonely.test")
    row = person.runs("show", "--offline").out.splitlines()[1]
    assert cells(row)[4:] == ["?", "?", "lonely.test"]


def test_a_refused_key_does_not_stay(person, webroot):
    """As after a refusal: the folder has a key and no certificate."""
    obtaining = ["-d", "key.test", *webroot, "--key-type"]
    person.obtains("-d", "key.test", "--hook", "false", "--key-type", "ed25519", status=8)
    refused = person.path("key.test.key.pem").read_text()
    done = person.obtains(*obtaining, "p384", "--json")
    assert done.json["certificate"]["key_type"] == "p384"
    assert done.err.count("\n") == 1 and "another account, key or names: its order is not resumed" in done.err
    assert person.path("key.test.key.pem.unused").read_text() == refused
    # A key in use stays. obtain reports this, renew does not.
    done = person.obtains(*obtaining, "rsa2048", "--force", "--json")
    assert done.json["certificate"]["key_type"] == "p384" and "its key stays p384" in done.err
    assert "its key stays" not in person.runs("renew", "--force").err


@pytest.mark.skipif(not shutil.which("strace"), reason="NOT RUN: this needs strace")
def test_a_certificate_from_before_a_crash_is_renewed(person):
    """The run was killed after it had written the chain: the next one ends it, and uses its certificate."""
    arguments = ["obtain", *person.ca, "--agree-terms", "-d", "crash.test", *standalone()]
    at_the_end = ["-P", "crash.test.order", "-e", "inject=unlinkat:signal=KILL"]
    command = ["strace", "-f", "-o", "/dev/null", *at_the_end, sys.executable, "-m", "acme_micro"]
    assert subprocess.run([*command, *arguments, "--folder", str(person.folder)], timeout=60).returncode != 0
    assert person.path("crash.test.chain.pem").exists()
    for is_new in False, True:
        done = person.runs("renew", "--force", "--json").json["certificates"]
        assert [(one["name"], one["is_new"]) for one in done] == [("crash.test", is_new)]
        assert not person.path("crash.test.order").exists()


def test_a_deploy_hook_is_remembered_until_it_is_removed(person, webroot, tmp_path):
    log = tmp_path / "log"
    obtaining = ["-d", "hooked.test", *webroot, "--force"]
    for more, wanted in (["--deploy-hook", f"echo >>{log}"], 1), ([], 2), (["--deploy-hook", ""], 2), ([], 2):
        person.obtains(*obtaining, *more)
        assert log.read_text() == "\n" * wanted


def test_a_deploy_hook_does_not_wait_for_the_ca(person, webroot, tmp_path):
    """The hook has failed, and so has a renewal before it, which waits for its next try."""
    flag = tmp_path / "ready"
    obtaining = ["-d", "wait.test", *webroot, "--deploy-hook", f"test -e {flag}"]
    person.obtains(*obtaining, status=10)
    file = person.path("wait.test.renewal.json")
    waiting = json.dumps({**json.loads(file.read_text()), "failures": 3, "next_try": time.time() + 9999})
    file.write_text(waiting)
    person.runs("renew", status=10)
    flag.touch()
    person.runs("renew")
    assert json.loads(file.read_text())["deployed"] and "not tried" in person.runs("renew", "-v").err
    # A run by hand has succeeded, so no next try is planned.
    person.obtains(*obtaining)
    assert (json.loads(file.read_text())["failures"], json.loads(file.read_text())["next_try"]) == (0, 0)


def test_only_one_of_two_runs_at_once_obtains_and_deploys(person, webroot, tmp_path):
    log = tmp_path / "log"
    deploy = ["--deploy-hook", f"echo >>{log}; sleep 1"]
    arguments = ["obtain", *person.ca, "--agree-terms", "-d", "twice.test", *webroot, *deploy, "--json"]
    runs = [person.start(*arguments) for _ in range(2)]
    found = [json.loads(run.communicate(timeout=60)[0])["certificate"]["is_new"] for run in runs]
    assert sorted(found) == [False, True] and log.read_text() == "\n"


# --- signals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_removes_the_challenges(person, tmp_path, number):
    log = tmp_path / "log"
    hook = f"echo publish >>{log}; sleep 60"
    process = person.start(
        "obtain", *person.ca, "--agree-terms", "-d", "slow.test", "--json",
        "--hook", hook, "--cleanup-hook", f"echo unpublish >>{log}",
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert log.read_text() == "publish\nunpublish\n"
    error = json.loads(out)["error"]
    assert (error["kind"], error["exit_status"]) == ("interrupted", 128 + number)
    assert "Traceback" not in err
    # The next run can resume the order.
    assert "\norder https://" in person.path("slow.test.order").read_text()


def test_processes_that_a_hook_leaves_running_are_not_awaited(person, tmp_path):
    pid = tmp_path / "pid"
    hook = f"echo said; test $ACME_ACTION = unpublish || {{ sleep 600 2>/dev/null & echo $! >{pid}; }}; exit 3"
    try:
        done = person.obtains("-d", "left.test", "--hook", hook, status=8)
        assert "said" in done.err and "status 3" in done.err
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


DEAF = "trap '' TERM; echo >{log}; while :; do sleep 1; done"


@pytest.mark.parametrize("signals", [1, 2])
def test_a_hook_that_ignores_signals_is_killed(person, tmp_path, signals):
    log = tmp_path / "log"
    process = person.start(
        "obtain", *person.ca, "--agree-terms", "-d", "deaf.test",
        "--hook", DEAF.format(log=log), "--cleanup-hook", f"echo unpublish >>{log}",
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert log.read_text() == "\nunpublish\n"


def test_a_hook_has_a_time_limit(person, webroot, tmp_path):
    limit = ["--hook-timeout", "1"]
    hook = "test $ACME_ACTION = unpublish || sleep 600"
    failed = person.obtains("-d", "hung.test", "--hook", hook, *limit, "--json", status=8)
    assert "hung.test: the hook took more than 1 seconds" in failed.json["error"]["message"]
    deploy = ["--deploy-hook", "sleep 600", *limit]
    failed = person.obtains("-d", "hung.test", *webroot, *deploy, "--json", status=10)
    assert "the hook took more than 1 seconds" in failed.json["error"]["message"]
    # The timeout applies to renewals, too.
    person.runs("renew", status=10)


# --- revoke -------------------------------------------------------------------------------------------


def status_of(serial: str) -> tuple[str, int]:
    answer = json.loads(management(f"/cert-status-by-serial/{serial}"))
    return answer["Status"], answer.get("Reason", 0)


def test_a_revoked_certificate_is_revoked_at_the_ca_and_not_used_again(person, webroot, tmp_path):
    person.obtains("-d", "gone.test", *webroot)
    first = check(person, "gone.test", ["gone.test"])
    key = person.path("gone.test.key.pem").read_text()
    done = person.runs("revoke", "Gone.test", "--reason", "key-compromise", "--json").json
    assert done["ok"] and done["serial"] == first
    assert status_of(first) == ("Revoked", 1)
    assert person.path("gone.test.key.pem.revoked").read_text() == key
    assert person.runs("show", "--json").json["certificates"] == []
    person.obtains("-d", "gone.test", *webroot)
    second = check(person, "gone.test", ["gone.test"])
    assert second != first and person.path("gone.test.key.pem").read_text() != key

    # Another user has the certificate, and cannot revoke it without its key.
    files = ["--cert", str(person.path("gone.test.chain.pem"))]
    stranger = Person(tmp_path / "stranger")
    refused = stranger.runs("revoke", *stranger.ca, *files, "--json", status=9)
    assert refused.json["error"]["kind"] == "account" and status_of(second)[0] == "Valid"
    files += ["--key", str(person.path("gone.test.key.pem"))]
    assert stranger.runs("revoke", *stranger.ca, *files).out.startswith("gone.test: revoked")
    assert status_of(second)[0] == "Revoked"
