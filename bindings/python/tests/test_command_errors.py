"""The command's messages, hints and exit statuses for errors."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import acme_micro as acme
from acme_micro.command.failure import ACME_ERROR, KINDS, document, hint_for
from acme_micro.command.hints import advise_of_challenges
from acme_micro.command.output import Output
from acme_micro.command.settings import CertificateSettings
from acme_micro.command.text import day_and_time, not_before
from command_runs import COMMAND, Person
from conftest import env
from small_ca import SmallCa, small_ca

SOLVER = ["--hook", "true"]
FIELDS = {
    "kind", "message", "exit_status", "identifier", "url", "permanent", "retry_at", "problem",
    "help_url", "subproblems",
}  # fmt: skip


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "acme")


def fails(person: Person, status: int, kind: str, *arguments: str) -> dict[str, Any]:
    """Runs the command, which must fail with one object on standard output and the same message in words."""
    done = person.runs(*arguments, "--json", status=status)
    found = done.json
    assert found["ok"] is False
    error: dict[str, Any] = found["error"]
    assert (error["kind"], error["exit_status"]) == (kind, status)
    assert error["message"] in done.err and "Traceback" not in done.err
    assert error.get("hint", "") in done.err
    return error


def test_each_kind_of_failure_has_its_status(person, tmp_path):
    obtain = ["obtain", *person.ca, *SOLVER]
    agreed = [*obtain, "--agree-terms"]

    error = fails(person, 9, "terms", *obtain, "-d", "x.test")
    assert "--agree-terms" in error["hint"] and set(error) == FIELDS | {"hint"}

    error = fails(person, 4, "order", *agreed, "-d", "x.blocked-domain.example")
    assert error["problem"]["type"] == "urn:ietf:params:acme:error:rejectedIdentifier"
    assert error["identifier"] == "x.blocked-domain.example"

    # The hook succeeds without publishing the challenge.
    error = fails(person, 5, "challenge", *agreed, "-d", "unpublished.test")
    assert error["identifier"] == "unpublished.test"
    assert error["problem"]["type"].startswith("urn:ietf:params:acme:error:")

    failing = ["--hook", "echo no such zone; exit 3"]
    error = fails(person, 8, "publish", "obtain", *person.ca, "-d", "x.test", *failing)
    assert "x.test: the hook ended with status 3" in error["message"]

    here = [*person.ca, "--standalone", "192.0.2.1:80"]
    error = fails(person, 8, "publish", "obtain", "-d", "x.test", *here)
    assert "assign requested address" in error["message"]

    nobody = ["--directory", "https://localhost:9/dir"]
    error = fails(person, 3, "network", "obtain", "-d", "x.test", *SOLVER, *nobody)
    assert error["url"] == "https://localhost:9/dir" and not error["permanent"]

    person.folder.joinpath("localhost:9_dir").chmod(0o777)
    error = fails(person, 7, "store", "obtain", "-d", "x.test", *SOLVER, *nobody)
    assert "anybody can write to this folder" in error["message"]


def test_errors_without_json_are_two_lines(person):
    done = person.runs("obtain", *person.ca, *SOLVER, "-d", "x.test", status=9)
    first, second = done.err.splitlines()
    assert done.out == "" and first.startswith("acme-micro: ") and second.startswith("acme-micro:   ")


def at(ca: SmallCa) -> list[str]:
    return ["--directory", f"{ca.url}/dir", "--ca-file", env("ACME_CA_FILE")]


def test_a_rate_limit_says_until_when(person):
    """The minute in the hint is not before the time that the CA names."""
    before = datetime.now(timezone.utc)
    limit = {"type": "rateLimited", "detail": "too many \x1b[31mcertificates", "status": 429}
    with small_ca(at_all=limit, header={"Retry-After": "864000"}) as ca:
        error = fails(person, 6, "rate-limited", "obtain", "-d", "x.test", *SOLVER, *at(ca))
    moment = datetime.fromisoformat(error["retry_at"])
    assert timedelta(days=10) <= moment - before < timedelta(days=11)
    hint = datetime.strptime(error["hint"], "try again after %Y-%m-%d %H:%M UTC")
    assert timedelta(0) <= hint.replace(tzinfo=timezone.utc) - moment < timedelta(minutes=1)
    assert error["problem"]["type"].endswith(":rateLimited")
    assert "\x1b" not in json.dumps(error["message"], ensure_ascii=False)


def test_the_time_of_the_next_try_is_rounded_up():
    exact = datetime(2026, 11, 29, 10, 0, tzinfo=timezone.utc)
    assert not_before(exact) == exact
    for late in (timedelta(microseconds=1), timedelta(seconds=44), timedelta(seconds=59.9)):
        assert day_and_time(not_before(exact + late)) == "2026-11-29 10:01 UTC"


# --- hints --------------------------------------------------------------------------------------------

WAYS = {
    "webroot": ["--webroot", "/"],
    "standalone": ["--standalone", "127.0.0.1:8080"],
    "dns": ["--hook", "true"],
    "http": ["--hook", "true", "--challenge-type", "http-01"],
}
PORT = "that its port 80 leads to port 8080 of this machine"


@pytest.mark.parametrize(
    ("way", "problem", "says"),
    [
        ("webroot", "connection", "cannot reach port 80 of x.test: check its A and AAAA records, the firewall"),
        ("webroot", "dns", "does not find the address of x.test"),
        ("webroot", "tls", "redirects the CA to a server whose TLS does not work"),
        ("webroot", "unauthorized", "does not serve the files of --webroot: check"),
        ("webroot", "incorrectResponse", "that its web server serves /webroot"),
        ("standalone", "connection", f"check its A and AAAA records, {PORT}, the firewall"),
        ("standalone", "unauthorized", "another server responds on port 80 of x.test: check"),
        ("dns", "unauthorized", "does not find the hook's TXT record _acme-challenge.x.test: when"),
        ("dns", "dns", "does not find the hook's TXT record _acme-challenge.x.test: when"),
        ("http", "unauthorized", "does not serve what the hook publishes"),
        ("http", "connection", "cannot reach port 80 of x.test"),
        ("webroot", "caa", "the CAA record for x.test does not allow this CA"),
        ("dns", "caa", "the CAA record for x.test does not allow this CA"),
        ("webroot", "serverInternal", "the CA had a fault: try again later"),
        ("dns", "rejectedIdentifier", None),
        ("webroot", "malformed", None),
    ],
)
def test_a_hint_depends_on_the_cas_problem_and_on_the_way_of_publishing(way, problem, says):
    settings = {
        "webroot": CertificateSettings(("x.test",), webroot="/webroot"),
        "standalone": CertificateSettings(("x.test",), standalone=("", 8080)),
        "dns": CertificateSettings(("x.test",), hook="true"),
        "http": CertificateSettings(("x.test",), hook="true", challenge_type="http-01"),
    }[way]
    error = acme.ChallengeFailed("", identifier="x.test", problem={"type": f"{ACME_ERROR}{problem}"})
    advise_of_challenges(error, settings)
    hint = hint_for(error)
    assert hint is None if says is None else says in (hint or "")
    assert way == "webroot" or "--webroot" not in (hint or "")
    others = ("caa", "serverInternal", "dns", "unauthorized")
    assert not (problem in others and "firewall" in (hint or ""))


def test_the_hint_for_an_ip_address_names_no_records():
    problem = {"type": f"{ACME_ERROR}connection"}
    error = acme.ChallengeFailed("", identifier="192.0.2.1", problem=problem)
    advise_of_challenges(error, CertificateSettings(("192.0.2.1",), webroot="/webroot"))
    assert hint_for(error) == "the CA cannot reach port 80 of 192.0.2.1: check the firewall"


@pytest.mark.parametrize(
    ("way", "offered", "says"),
    [
        ("webroot", ["tls-alpn-01"], "this command supports http-01, dns-01"),
        ("webroot", ["tls-alpn-01", "dns-01"], "the CA offers dns-01: use --hook CMD"),
        ("dns", ["dns-account-01"], "use --hook CMD --challenge-type dns-account-01"),
        ("dns", ["http-01", "tls-alpn-01"], "the CA offers http-01: use --webroot DIR or --standalone"),
    ],
)
def test_without_an_acceptable_challenge_the_hint_names_the_cas_types(person, way, offered, says):
    with small_ca(types=offered) as ca:
        error = fails(person, 5, "challenge", "obtain", "-d", "x.test", *WAYS[way], *at(ca))
    assert says in error["hint"] and "firewall" not in error["hint"]


@pytest.mark.parametrize("problem", ["caa", "connection"])
def test_obtain_and_renew_show_the_hint(person, tmp_path, problem):
    with small_ca(of_challenge={"type": problem}) as ca:
        done = person.runs(
            "obtain", "-d", "x.test", "--webroot", str(tmp_path), *at(ca), "--json", status=5
        )
        hint = done.json["error"]["hint"]
        assert ("firewall" in hint) == (problem == "connection")
        assert done.err.endswith(f"acme-micro:   {hint}\n")
        person.has_certificate("x.test")
        done = person.runs("renew", "--force", "--json", status=5)
        assert done.json["certificates"][0]["error"]["hint"] == hint and hint in done.err


def test_each_of_several_names_that_failed_has_its_hint():
    """In JSON, where the message has all names."""
    problems = {"a.test": "dns", "b.test": "caa"}
    failures = [
        acme.ChallengeFailed(name, identifier=name, problem={"type": f"{ACME_ERROR}{problem}"})
        for name, problem in problems.items()
    ]
    error = acme.ChallengeFailed("a.test: dns; b.test: caa", problem=failures[0].problem, subproblems=failures)
    advise_of_challenges(error, CertificateSettings(("a.test", "b.test"), webroot="/webroot"))
    told = document(error)
    assert [one["identifier"] for one in told["subproblems"]] == list(problems)
    assert "address of a.test" in told["subproblems"][0]["hint"]
    assert "CAA record for b.test" in told["subproblems"][1]["hint"]
    assert "a.test" in told["message"] and "b.test" in told["message"]


@pytest.mark.parametrize(("status", "ends"), [(429, 6), (403, 4)])
def test_a_hint_does_not_repeat_a_url_of_the_message(person, status, ends):
    url = "https://ca.test/unpause?jwt=x"
    kind = "rateLimited" if status == 429 else "rejectedIdentifier"
    with small_ca(of_order={"type": kind, "detail": f"please visit: {url}", "status": status}) as ca:
        done = person.runs("obtain", "-d", "x.test", *SOLVER, *at(ca), "--json", status=ends)
    assert done.json["error"]["help_url"] == url and done.err.count(url) == 1


# --- messages that appear once ------------------------------------------------------------------------


def test_an_error_appears_once_whatever_the_library_logs(person):
    with small_ca(of_order={"type": "rejectedIdentifier", "detail": "no such name"}) as ca:
        done = person.runs("obtain", "-d", "x.test", *SOLVER, *at(ca), "-v", status=4)
    assert done.err.count("no such name") == 1 and "/order: HTTP status 403" in done.err
    assert done.err.splitlines()[-1].startswith("acme-micro: creating the order at ")


def test_a_reason_that_is_in_no_error_appears(capsys):
    """The library has given up a request, and continues without its response."""
    output = Output(as_json=False, quiet=False, verbose=True)
    logger = logging.getLogger("acme_micro")
    logger.debug("giving up: one")
    logger.debug("giving up: two")
    logger.warning("without it: two")
    logger.debug("giving up: three")
    output.result("", {})
    said = ["giving up: one", "without it: two", "giving up: three"]
    assert capsys.readouterr().err.splitlines() == [f"acme-micro: {line}" for line in said]


def test_a_warning_appears_once(capsys):
    Output(as_json=False, quiet=False, verbose=False)
    for _ in range(2):
        logging.getLogger("acme_micro").warning("by the lifetime")
    assert capsys.readouterr().err == "acme-micro: by the lifetime\n"


# --- usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["obtian"], "obtian"),
        (["obtain"], "-d/--domain"),
        (["obtain", "-d", "x.test"], "--webroot DIR, --standalone or --hook CMD"),
        (["obtain", "-d", "x.test", "--webroot", "/", "--standalone"], "not allowed with argument"),
        (["obtain", "-d", "*.x.test", "--standalone"], "publishes the TXT record _acme-challenge.x.test (dns-01)"),
        (["obtain", "-d", "x.test,", "--standalone"], "contains an empty name"),
        (["obtain", "-d", "x y", "--hook", "true"], "x y"),
        (["obtain", "-d", "x.test", "--webroot", "/nowhere"], "/nowhere is not a folder"),
        (["obtain", "-d", "x.test", "--standalone", "web"], "PORT, HOST:PORT"),
        (["obtain", "-d", "x.test", "--standalone", "--cleanup-hook", "x"], "need --hook"),
        (["obtain", "-d", "x.test", "--standalone", "--key-type", "dsa"], "invalid choice: 'dsa'"),
        (["obtain", "-d", "x.test", "--standalone", "--dir", "letsencrypt"], "--dir"),
        (["obtain", "-d", "x.test", "--standalone", "--contact", "me"], "'me' is not a mail address"),
        (["show", "--directory", "letsencrpyt"], "one of letsencrypt, letsencrypt-staging"),
        (["show", "--directory", "http://ca.test/dir"], "neither an https URL nor one of"),
        (["show", "--ca-file", "/nowhere.pem"], "/nowhere.pem: No such file"),
        (["show", "--ca-file", "/dev/stdin"], "/dev/stdin is not a regular file: renewals need to read it"),
        (["show", "--proxy", "http://me:hunter2@proxy:1"], "use --proxy-file"),
        (["show", "nobody.test"], "acme-micro show lists the certificates"),
        (["renew", "nobody.test"], "there is no certificate nobody.test"),
        (["revoke"], "add its NAME, or --cert FILE"),
        (["revoke", "nobody.test"], "there is no certificate nobody.test"),
        (["revoke", "x.test", "--key", "/dev/null"], "--key needs --cert"),
        (["account"], "ACTION"),
        (["account", "contacts", "a@x.test"], "add --directory"),
    ],
)
def test_a_usage_error_says_what_to_do(person, arguments, says):
    error = fails(person, 2, "usage", *arguments)
    assert says in f"{error['message']}\n{error.get('hint')}"
    assert "hunter2" not in json.dumps(error)
    assert not list(person.folder.rglob("ca.json"))


def test_no_arguments_and_the_versions():
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "one of obtain, renew, daemon, move, revoke, delete, show, account" in done.stderr
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=30)
    assert done.stdout == f"acme-micro {acme.__version__} (library {acme.library_version()})\n"


def test_the_proxys_password_comes_from_a_file_and_stays_secret(person, tmp_path):
    file = tmp_path / "proxy"
    file.write_text("http://me:hunter2@localhost:9\n")
    done = person.runs("account", "create", "--proxy-file", str(file), "-v", "--json", status=3)
    assert "localhost:9" in done.err and "hunter2" not in done.err + done.out
    # In an empty folder the CA is one where failures have no cost.
    assert done.json["error"]["url"] == acme.LETSENCRYPT_STAGING


def test_with_two_cas_in_a_folder_the_directory_is_required(person):
    """A command that works with one CA needs --directory."""
    for name in ("one", "two"):
        folder = person.folder / f"{name}.test_dir"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "ca.json").touch(0o600)
        (folder / "ca.json").write_text(json.dumps({"directory": f"https://{name}.test/dir"}))
    for arguments in (["account", "rollover"], ["obtain", "-d", "x.test", *SOLVER]):
        error = fails(person, 2, "usage", *arguments)
        assert error["message"] == "which CA?" and "one.test_dir, two.test_dir" in error["hint"]
    assert person.runs("show", "--json").json["certificates"] == []
    for text in "{", "[]", '{"version": 2, "directory": "https://two.test/dir"}':
        (folder / "ca.json").write_text(text)
        error = fails(person, 7, "store", "account", "rollover")
        assert "ca.json was not written by this version of the command" in error["message"]
        assert "remove the file" in error["hint"]
    # The file may contain commands to run.
    (folder / "ca.json").chmod(0o666)
    assert "chmod 600" in fails(person, 7, "store", "account", "rollover")["message"]


def test_the_manual_has_each_exit_status_and_kind():
    manual = (Path(__file__).parents[1] / "acme-micro.1").read_text()
    for _, kind, status in KINDS:
        assert f".It {status}\n" in manual, status
        assert f".Ar {kind}" in manual or f"\n.Ql {kind}" in manual, kind


def test_a_closed_pipe_is_no_error(person):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "show", "--json", "--folder", str(person.folder)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30)
    os.close(writer)
    assert done.stderr == "" and done.returncode == 141


def in_shell(person: Person, line: str, status: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of a shell in which ``$@`` is the command."""
    line = line.replace("--folder", f"--folder '{person.folder}'")
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND], capture_output=True, text=True, timeout=30,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_result_that_cannot_be_written_is_an_error_of_its_own(person, options):
    for stream in (">/dev/full", ">&-"):
        done = in_shell(person, f'"$@" show {options} --folder {stream}', 11)
        assert done.stderr.startswith("acme-micro: standard output cannot be written: ")
        assert len(done.stderr.splitlines()) == 1
        # An error from before keeps its status.
        in_shell(person, f'"$@" renew nobody.test {options} --folder {stream}', 2)
    in_shell(person, '"$@" --version >/dev/full', 11)


def test_standard_error_may_be_closed(person):
    for stream in ("2>/dev/full", "2>&-"):
        done = in_shell(person, f'"$@" obtain --json --folder {stream}', 2)
        assert json.loads(done.stdout)["error"]["kind"] == "usage"
        in_shell(person, f'"$@" account create -v --directory https://localhost:9/dir --folder {stream}', 3)


def test_characters_that_a_stream_cannot_encode_are_written_in_ascii(tmp_path):
    person = Person(tmp_path / "k\u00e4se")
    done = in_shell(person, '"$@" show --folder', 0, PYTHONIOENCODING="ascii")
    assert done.stdout.endswith("/k\\xe4se\n")


def test_verbose_shows_no_log_lines_of_asyncio(person):
    nobody = ["--directory", "https://localhost:9/dir"]
    assert "selector" not in person.runs("account", "create", *nobody, "-v", status=3).err


def test_read_only_commands_create_no_folder(person):
    for command in (["show"], ["account", "show"], ["renew"]):
        person.runs(*command, "--directory", "https://localhost:9/dir")
    assert not person.folder.exists()


def test_a_folder_that_anybody_can_write_to_is_not_used(person):
    person.folder.mkdir()
    person.folder.chmod(0o777)
    for command in (["show"], ["account", "create"]):
        assert "chmod o-w" in fails(person, 7, "store", *command)["message"]
    assert list(person.folder.iterdir()) == []
