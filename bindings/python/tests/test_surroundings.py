"""The package and the command in odd surroundings: umask, locale, home folder, limits, ports."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import acme_micro as acme
from acme_micro.command import main, renew
from acme_micro.command.default_folder import default_folder
from acme_micro.command.parser import make_parser
from command_runs import Person
from conftest import env
from outside import another_pebble
from test_command import check, person, status_of, webroot
from test_command_errors import fails
from webroot_server import answering, serving

__all__ = ["person", "webroot"]

NOBODY = 65534
CHALLENGE = acme.Challenge("http-01", "x.test", "t" * 30, "t" * 30 + ".k", "/.well-known/acme-challenge/x")
WHERE = Path(".well-known", "acme-challenge")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read_by_nobody(root: Path) -> bytes:
    """Reads a challenge's file as a web server of another user does."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    file = str(WHERE / CHALLENGE.token)
    return subprocess.run(["cat", file], cwd=root, check=True, stdout=subprocess.PIPE, **user).stdout


# --- umask --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o027, 0o077, 0o177, 0o777])
def test_e05_a_web_server_can_read_challenges_whatever_the_umask_r05(tmp_path, mask):
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    solver = acme.Webroot(root)
    with umask(mask):
        solver.publish((CHALLENGE,))
    assert read_by_nobody(root) == CHALLENGE.key_authorization.encode()
    assert mode(root / WHERE) == mode(root / WHERE.parent) == 0o755
    solver.unpublish((CHALLENGE,))


def test_e05_folders_of_an_earlier_run_are_opened_if_they_are_ours_r05(tmp_path, caplog):
    root, foreign = tmp_path / "root", tmp_path / "foreign"
    for folder in root, foreign:
        folder.mkdir(mode=0o2755)
        (folder / WHERE).mkdir(parents=True)
        (folder / WHERE / "0123456789-abcdefghijk_").touch()
        (folder / WHERE / ".tmp-0123456789abcdef").touch()
        (folder / WHERE.parent / "security.txt").touch()
    foreign.joinpath(WHERE, "private.txt").touch()
    for path in (root / WHERE, root / WHERE.parent, foreign / WHERE, foreign / WHERE.parent):
        path.chmod(0o700)
    for folder in root, foreign:
        acme.Webroot(folder).publish((CHALLENGE,))
    assert read_by_nobody(root) == CHALLENGE.key_authorization.encode()
    assert mode(foreign / WHERE) == 0o700 and mode(foreign / WHERE.parent) & 0o777 == 0o755
    why = "a web server of another user cannot enter this folder; chmod 755 it"
    assert caplog.messages == [f"{foreign / WHERE}: {why}"]
    if os.geteuid() == 0:  # an administrator has chosen this
        os.chown(root / WHERE, 0, NOBODY)
        (root / WHERE).chmod(0o750)
        acme.Webroot(root).publish((CHALLENGE,))
        assert mode(root / WHERE) == 0o750


SERVER_OF_NOBODY = f"""
import functools, http.server, os, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=".")
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
server.serve_forever()
"""


def test_e05_the_command_publishes_for_a_web_server_of_another_user_r05(person, tmp_path):
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    port = int(env("PEBBLE_HTTP_PORT"))
    server = [sys.executable, "-c", SERVER_OF_NOBODY, str(port)]
    with subprocess.Popen(server, cwd=root, stderr=subprocess.DEVNULL) as running:
        try:
            with umask(0o077):
                wait_for(port)
                person.obtains("-d", "umask.test", "--webroot", str(root))
        finally:
            running.kill()
    check(person, "umask.test", ["umask.test"])


@pytest.mark.parametrize("mask", [0o177, 0o777])
def test_e05_the_folders_of_the_command_are_usable_whatever_the_umask_r05(tmp_path, mask):
    person = Person(tmp_path / "outer" / "inner")
    with umask(mask):
        person.runs("account", "create", *person.ca, "--agree-terms")
    assert mode(person.folder) == mode(person.path("")) == 0o700
    assert mode(tmp_path / "outer") & 0o700 == 0o700


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


# --- locale -------------------------------------------------------------------------------------------


@pytest.fixture(params=["KOI8-R", "ASCII", "EUC-JP"])
def locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a locale that cannot encode each text."""
    if request.param == "ASCII":
        return {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    of = {"KOI8-R": "ru_RU", "EUC-JP": "ja_JP"}[request.param]
    where = tmp_path / f"{of}.{request.param}"
    subprocess.run(["localedef", "-c", "-i", of, "-f", request.param, where], capture_output=True)
    return {"LC_ALL": where.name, "LOCPATH": str(tmp_path)}


def test_e06_a_renewal_in_another_locale_does_the_same_r06(tmp_path, locale):
    person = Person(tmp_path / "m\u00fcller-\u65e5")
    roots, log = tmp_path / "roots", tmp_path / "log"
    (roots / "w\u00fcrz").mkdir(parents=True)
    deploy = f'echo "\u00fc\u65e5 $ACME_CHAIN_FILE" >>{log}; test -r "$ACME_CHAIN_FILE"; echo "\u65e5"'
    options = ["--webroot", str(roots / "w\u00fcrz"), "--deploy-hook", deploy]
    with serving(roots, int(env("PEBBLE_HTTP_PORT"))):
        for name in "a.locale.test", "m\u00fcller.locale.test":
            person.obtains("-d", name, *options)
        person.environment.update(locale)
        person.under = ["env"]  # its arguments are bytes
        done = person.runs("renew", "--force", "--json")
        # The arguments of this terminal are UTF-8, too.
        person.obtains("-d", "\u00fc.locale.test", *options, "--name", "n")
    assert [found["is_new"] for found in done.json["certificates"]] == [True, True]
    assert done.json["certificates"][0]["chain_file"].startswith(str(person.folder))
    chains = [line.split()[1] for line in log.read_text("utf-8").splitlines() if line.startswith("\u00fc\u65e5 ")]
    assert len(chains) == 5 and all(chain.startswith(str(person.folder)) for chain in chains)
    check(person, "n", ["xn--tda.locale.test"])
    assert "Traceback" not in done.err
    assert person.runs("show", "--json").json["folder"] == str(person.folder)
    (account,) = person.runs("account", "show", "--json").json["accounts"]
    deleted = person.runs("delete", "n", "--json").json["files"]
    missing = person.runs("delete", "n", "--json", status=2).json["error"]["message"]
    assert missing.endswith(f" {person.folder}")
    paths = [account["key_file"], *deleted]
    assert len(paths) == 3 and all(path.startswith(str(person.folder)) for path in paths)


def test_e06_arguments_that_are_no_text_are_refused_in_words_r06(person, locale):
    person.environment.update(locale)
    for arguments in (["-d", b"\xff.test"], ["-d", "x.test", "--contact", b"\xe4@x.test"]):
        command = ["obtain", *person.ca, "--agree-terms", "--hook", "true", *arguments]
        done = subprocess.run(
            [sys.executable, "-m", "acme_micro", *command, "--folder", str(person.folder)],
            env=person.environment, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode in (2, 4, 5) and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), UnicodeEncodeError("ascii", "\u00fc", 0, 1, "no")])
def test_e06_a_bug_at_one_certificate_does_not_stop_the_others_r06(person, webroot, monkeypatch, capfd, error):
    names = ["bad.bug.test", "good.bug.test"]
    for name in names:
        person.obtains("-d", name, *webroot)
    serials = [check(person, name, [name]) for name in names]
    obtain_one = renew.obtain_one

    async def buggy(ca, client, name, *arguments, **options):
        if name == names[0]:
            raise error
        return await obtain_one(ca, client, name, *arguments, **options)

    monkeypatch.setattr(renew, "obtain_one", buggy)
    assert main(["renew", "--force", "--json", "--folder", str(person.folder)]) == 1
    out, err = capfd.readouterr()
    bad, good = json.loads(out)["certificates"]
    assert bad["error"]["kind"] == "bug" and type(error).__name__ in err and good["is_new"]
    assert check(person, names[0], [names[0]]) == serials[0]
    assert check(person, names[1], [names[1]]) != serials[1]


# --- the folder without --folder ----------------------------------------------------------------------

AS_USER = """
import os, sys
import acme_micro.command.run
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
sys.exit(acme_micro.command.main(sys.argv[1:]))
"""


def as_stranger(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user without an entry in passwd, with nothing but these variables."""
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: this needs root")
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "ACME_MICRO_LIBRARY")}
    folder.chmod(0o777)
    return subprocess.run(
        [sys.executable, "-c", AS_USER, *arguments], cwd=folder, env={**keep, **variables},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "status", "says"),
    [
        ({}, 2, "add --folder"),
        ({"HOME": "~"}, 2, "add --folder"),
        ({"HOME": "home"}, 2, "add --folder"),
        ({"XDG_DATA_HOME": "data"}, 2, "add --folder"),
        ({"HOME": ""}, 7, "add --folder"),
        ({"HOME": "/"}, 7, "add --folder"),
        ({"HOME": "/nonexistent"}, 7, "add --folder"),
        ({"HOME": "/", "XDG_DATA_HOME": "/nonexistent/data"}, 7, "add --folder"),
    ],
)
def test_e10_without_a_home_nothing_is_written_elsewhere_r10(tmp_path, variables, status, says):
    create = ["account", "create", "--directory", "https://localhost:9/dir"]
    done = as_stranger(tmp_path, *create, **variables)
    assert done.returncode == status and says in done.stderr and "Traceback" not in done.stderr
    if status == 2:
        assert as_stranger(tmp_path, "renew", **variables).returncode == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"HOME": "/home/me"}, "/home/me/.local/share/acme-micro"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "data"}, "/home/me/.local/share/acme-micro"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/acme-micro"),
        ({"HOME": "/home/me", "STATE_DIRECTORY": "/var/lib/x"}, "/home/me/.local/share/acme-micro"),
        ({"HOME": "/", "STATE_DIRECTORY": "/var/lib/x:/var/lib/y"}, "/var/lib/x"),
        ({"HOME": "~", "STATE_DIRECTORY": "/var/lib/x"}, "/var/lib/x"),
    ],
)
def test_e10_the_default_folder_r10(monkeypatch, variables, folder):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in "HOME", "XDG_DATA_HOME", "STATE_DIRECTORY":
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(default_folder()) == folder


@pytest.mark.parametrize("option", ["--folder", "--webroot", "--eab-key-file"])
@pytest.mark.parametrize(("path", "says"), [("~/x", "no shell has"), ("~", "no shell has"), ("~me/x", "no shell has"), ("", "empty")])
def test_e10_a_path_that_is_none_is_refused_r10(tmp_path, monkeypatch, option, path, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=says):
        make_parser().parse_args(["obtain", "-d", "x.test", option, path])
    assert list(tmp_path.iterdir()) == []


# --- options ------------------------------------------------------------------------------------------


def test_e13_names_may_have_different_webroots_r13(person, tmp_path, new_pebble):
    """As certbot has it. The web server serves the folder of each name alone."""
    roots = {name: tmp_path / name for name in ("a.roots.test", "b.roots.test", "c.roots.test")}
    options = []
    for name, root in roots.items():
        root.mkdir()
        options += ["--webroot", str(root), "-d", name]
    seen: list[str] = []

    def body(host: str, path: str) -> bytes:
        seen.append(host)
        return (roots[host] / path.lstrip("/")).read_bytes()

    with answering(body, int(env("PEBBLE_HTTP_PORT"))):
        person.obtains(*options)
        first = check(person, "a.roots.test", list(roots))
        assert json.loads(person.path("a.roots.test.renewal.json").read_text())["more_webroots"]
        # Pebble has valid authorizations of these names: another one is published at the renewal.
        settings = person.path("a.roots.test.renewal.json")
        settings.write_text(settings.read_text().replace('"c.roots.test"', '"c.roots.test", "d.roots.test"'))
        roots["d.roots.test"] = tmp_path / "c.roots.test"
        person.runs("renew", "--force")
    assert check(person, "a.roots.test", list(roots)) != first and set(seen) == set(roots)
    assert not [file for root in roots.values() for file in root.rglob("*") if file.is_file()]


def options_with_one_value() -> list[list[str]]:
    """Returns a command line for each option of each command that is not meant to be repeated."""
    found = []
    parser = make_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    (actions,) = (action for action in commands.choices["account"]._actions if action.dest == "action")
    words = {(word,): below for word, below in commands.choices.items() if word != "account"}
    words.update({("account", word): below for word, below in actions.choices.items()})
    for command, below in words.items():
        for action in below._actions:
            if action.option_strings and action.nargs != 0 and "Append" not in type(action).__name__:
                found.append([*command, action.option_strings[-1]])
    return found


VALUES = {
    "--standalone": "80", "--directory": "letsencrypt", "--hook-timeout": "1", "--key-type": "p256",
    "--challenge-type": "dns-01", "--reason": "superseded", "--eab-algorithm": "HS256",
}  # fmt: skip


@pytest.mark.parametrize("command", options_with_one_value(), ids=" ".join)
def test_e13_an_option_with_one_value_is_refused_twice_r13(person, command):
    *words, option = command
    value = VALUES.get(option, "/etc/passwd" if "file" in option or option in ("--cert", "--key") else "x")
    more = ["-d", "x.test"] if words == ["obtain"] else []
    assert main([*words, *more, option, value, f"{option}={value}", "--json"]) == 2
    with pytest.raises(Exception, match=f"{option}.*only once"):
        make_parser().parse_args([*words, *more, option, value, option, value])


# --- limits -------------------------------------------------------------------------------------------

LIMITED = """
import os, resource, sys
import acme_micro.command.run, concurrent.futures.thread
what, number = sys.argv[1], int(sys.argv[2])
if what == "NPROC":
    os.setgroups([])
    os.setgid(54322)
    os.setuid(54322)
resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (number, number))
sys.exit(acme_micro.command.main(sys.argv[3:]))
"""


@pytest.mark.parametrize("way", [["--standalone", "PORT"], ["--webroot", "/"], ["--hook", "true"]])
@pytest.mark.parametrize("limit", [("NPROC", 1), ("NPROC", 2), *(("NOFILE", n) for n in (7, 9, 11, 12, 13, 16))])
def test_e24_a_limit_of_the_system_is_named_r24(person, tmp_path, way, limit):
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: this needs root")
    folder = Path("/var/tmp") / f"limits-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    root = folder / "ca.pem"
    root.write_bytes(Path(env("ACME_CA_FILE")).read_bytes())
    root.chmod(0o644)
    try:
        way = [word.replace("PORT", f"127.0.0.1:{env('PEBBLE_HTTP_PORT')}") for word in way]
        done = subprocess.run(
            [
                sys.executable, "-c", LIMITED, limit[0], str(limit[1]), "obtain", "--json", "--agree-terms",
                "-d", f"limit{limit[1]}.test", *way, "--directory", env("ACME_DIRECTORY"),
                "--ca-file", str(root), "--folder", str(folder / "acme"),
            ],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
    assert "Traceback" not in done.stderr and done.returncode in (0, 3, 5, 7, 8), done.stderr
    # Too few descriptors are found before there is an order.
    assert "cannot be resumed" not in done.stderr and (limit[0] == "NPROC" or done.returncode)
    if done.returncode:
        assert re.search("Too many open files|Resource temporarily unavailable|port 80|validate", done.stderr)


# --- symbolic links, proxies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "hint"),
    [
        (".well-known", "shared/.well-known", "--webroot {}/shared"),
        (".well-known/acme-challenge", "shared/.well-known/acme-challenge", "--webroot {}/shared"),
        (".well-known/acme-challenge", "challenges", "writes to {}/challenges"),
        (".well-known", "other", "writes to {}/other/acme-challenge"),
    ],
)
def test_e18_a_link_in_place_of_the_folder_is_named_r18(person, tmp_path, link, target, hint):
    root = tmp_path / "root"
    (tmp_path / target).mkdir(parents=True)
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(tmp_path / target)
    done = person.obtains("-d", "link.test", "--webroot", str(root), "--json", status=8)
    error = done.json["error"]
    assert f"{Path(link).name} is a symbolic link to {tmp_path / target}" in error["message"]
    assert hint.format(tmp_path) in error["hint"] and done.err.count("symbolic link") == 1
    assert not [path for path in (tmp_path / target).rglob("*") if path.is_file()]


def test_e18_a_webroot_that_is_a_link_is_followed_r18(person, tmp_path):
    (tmp_path / "roots" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "roots" / "real")
    with serving(tmp_path / "roots", int(env("PEBBLE_HTTP_PORT"))):
        person.obtains("-d", "rootlink.test", "--webroot", str(tmp_path / "link"))
    check(person, "rootlink.test", ["rootlink.test"])


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy"])
def test_e19_a_proxy_of_the_environment_is_named_if_the_ca_does_not_respond_r19(person, name):
    nobody = ["--directory", "https://localhost:9/dir"]
    for variable in "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY":
        person.environment.pop(variable, None)
    assert "hint" not in fails(person, 3, "network", "account", "create", *nobody)
    person.environment[name] = "http://proxy.test:3128"
    for command in (["account", "create"], ["obtain", "-d", "x.test", "--hook", "true"]):
        assert fails(person, 3, "network", *command, *nobody)["hint"] == f"${name} is not used: add --proxy URL"
    error = fails(person, 3, "network", "account", "create", *nobody, "--proxy", "http://localhost:9")
    assert "hint" not in error


# --- files that people have made ----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_e29_a_byte_order_mark_is_no_part_of_a_secret_r29(person, tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    proxy, eab = tmp_path / "proxy", tmp_path / "eab"
    proxy.write_bytes(f"{mark}http://me:secret@localhost:9\r\n".encode(encoding))
    error = fails(person, 3, "network", "account", "create", *person.ca, "--proxy-file", str(proxy))
    assert "localhost:9" in error["message"]
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    eab.write_bytes(f"{mark}{key}\r\n".encode(encoding))
    with another_pebble("--eab", f"kid-1:{key}") as pebble:
        other = Person(tmp_path / "eab-acme", pebble["ACME_DIRECTORY"], pebble["ACME_CA_FILE"])
        other.runs(
            "account", "create", *other.ca, "--agree-terms", "--eab-kid", "kid-1", "--eab-key-file", str(eab)
        )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_e29_a_byte_order_mark_is_no_part_of_the_accounts_url_r29(person, webroot, encoding):
    person.obtains("-d", f"mark.{encoding}.test", *webroot)
    file = person.path("account.url")
    url = file.read_text()
    file.write_bytes(url.replace("\n", "\r\n").encode(encoding))
    (account,) = person.runs("account", "show", "--json").json["accounts"]
    assert account["url"] == url.strip() and account["is_valid"]
    person.runs("renew", "--force")


@pytest.mark.parametrize("kind", ["key+chain", "chain+key", "text", "bom", "crlf", "der", "notes"])
def test_e27_revoke_takes_a_certificate_from_whatever_file_has_it_r27(person, webroot, tmp_path, kind):
    person.obtains("-d", f"{kind[-3:]}.file.test", *webroot)
    chain = person.path(f"{kind[-3:]}.file.test.chain.pem").read_bytes()
    key = person.path(f"{kind[-3:]}.file.test.key.pem").read_bytes()
    x509 = ["openssl", "x509"]
    data = {
        "key+chain": key + chain,
        "chain+key": chain + key,
        "text": subprocess.run([*x509, "-text"], input=chain, capture_output=True, check=True).stdout,
        "bom": b"\xef\xbb\xbf" + chain,
        "crlf": chain.replace(b"\n", b"\r\n"),
        "der": subprocess.run([*x509, "-outform", "DER"], input=chain, capture_output=True, check=True).stdout,
        "notes": b"Bag Attributes: \xff\nsubject=x\n" + chain.replace(b"\n\n", b"\n") + b"the end\n",
    }[kind]
    file = tmp_path / "combined"
    file.write_bytes(data)
    serial = check(person, f"{kind[-3:]}.file.test", [f"{kind[-3:]}.file.test"])
    done = person.runs("revoke", *person.ca, "--cert", str(file), "--json")
    assert done.json["serial"] == serial and status_of(serial)[0] == "Revoked"


def test_e27_a_file_without_a_certificate_is_named_r27(person, tmp_path):
    file = tmp_path / "key.pem"
    acme.PrivateKey.generate().save(file)
    error = fails(person, 2, "usage", "revoke", *person.ca, "--cert", str(file))
    assert str(file) in error["message"] and "certificate" in error["message"]
