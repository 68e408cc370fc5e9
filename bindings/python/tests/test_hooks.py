"""The command's hooks, whatever they print and whatever the command's parent has left."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from command_runs import Person
from test_command import HOOK, check, person, webroot
from test_command_errors import fails

__all__ = ["person", "webroot"]


@pytest.fixture
def dns(tmp_path: Path) -> list[str]:
    """Options for hooks that change the DNS. Their log has the output of the first for the second."""
    program, log = tmp_path / "hook.py", tmp_path / "log"
    program.write_text("\n".join(line[4:] for line in HOOK.splitlines()))
    command = f"{shlex.quote(sys.executable)} {program}"
    cleanup = f"""{command} unpublish {log}; printf '%s|' "$CERTBOT_AUTH_OUTPUT" >>{log}.outputs"""
    return ["--hook", f"{command} publish {log}; %s", "--cleanup-hook", cleanup]


def cleaned_up(log: Path) -> list[bytes]:
    """Returns what the cleanup hooks got of the output."""
    lines = [line.split() for line in log.read_text().splitlines()]
    published = sorted(line[1] for line in lines if line[0] == "publish")
    assert published and published == sorted(line[1] for line in lines if line[0] == "unpublish")
    outputs = Path(f"{log}.outputs").read_bytes().split(b"|")[:-1]
    return [text.removeprefix(b"zone-7").strip() for text in outputs]


@pytest.mark.parametrize(
    ("prints", "gets"),
    [
        pytest.param("head -c 140000 /dev/zero | tr '\\0' y", b"y" * (65536 - 7), id="large"),
        ("printf 'a\\0b'; exit 0", b"ab"),
        ("head -c 3000000 /dev/zero", b""),
        ("printf '\\377\\n'", b"\xef\xbf\xbd"),
    ],
)
def test_e07_the_cleanup_hook_runs_whatever_the_hook_prints_r07(person, dns, tmp_path, prints, gets):
    names = ["-d", f"x{len(prints)}.print.test,*.x{len(prints)}.print.test"]
    hook = dns[1] % prints
    done = person.obtains(*names, dns[0], hook, *dns[2:], "--json")
    assert cleaned_up(tmp_path / "log") == [gets] * 2
    assert done.json["ok"] and done.err.count("cleanup hook gets only a part") == (0 if "377" in prints else 1)
    assert "Traceback" not in done.err


def test_e07_hooks_run_with_standard_error_closed_r07(person, dns, tmp_path):
    person.under = ["sh", "-c", '"$@" 2>/dev/full', "sh"]
    person.obtains("-d", "full.print.test", dns[0], dns[1] % "echo said", *dns[2:])
    assert cleaned_up(tmp_path / "log")


def namespace(person: Person, *mounts: str) -> None:
    """Lets the command run where only its folder can be written to."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("NOT RUN: this needs the right to mount file systems")
    person.folder.mkdir(exist_ok=True, mode=0o700)
    own = f"mount --bind {person.folder} {person.folder}"
    script = "\n".join(["set -e", *mounts, 'cd /proc; exec "$@"'])
    person.under = ["unshare", "-m", "sh", "-c", script.replace("OWN", own), "sh"]


def read_only(folder: str) -> str:
    return f"mount --bind {folder} {folder}; OWN; mount -o remount,bind,ro {folder}"


FULL = "mount -t tmpfs -o size=4k tmpfs {0}; head -c 9999 /dev/zero >{0}/full || true"


def test_e08_hooks_run_without_a_temporary_folder_r08(person, webroot, dns, tmp_path):
    options = ["--deploy-hook", "echo deployed $ACME_NAME >&2"]
    person.obtains("-d", "tmp.test", *webroot, *options)
    for mounts in ([read_only("/tmp"), read_only("/var/tmp")], [FULL.format("/var/tmp")]):
        namespace(person, *mounts)
        person.environment["TMPDIR"] = "/var/tmp"
        assert "deployed tmp.test" in person.runs("renew", "--force").err
        check(person, "tmp.test", ["tmp.test"])


def test_e08_a_deploy_hook_that_cannot_start_keeps_its_status_r08(person, webroot, tmp_path):
    """The system refuses it because the environment is too large."""
    person.obtains("-d", "big.test", *webroot, "--deploy-hook", "true")
    file = person.path("big.test.renewal.json")
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "deploy_hook": "true " + "x" * 200_000}))
    done = person.runs("renew", "--force", "--json", status=10)
    error = done.json["certificates"][0]["error"]
    assert error["kind"] == "deploy" and "Argument list too long" in error["message"]
    assert str(person.path("big.test.chain.pem")) in error["hint"]


PARENT = """
import os, signal, sys
what = sys.argv[1]
if what == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
elif what == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
else:
    for number in map(int, what):
        os.close(number)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("left", ["ignored", "blocked", "0", "1", "2", "02", "012"])
def test_e09_hooks_do_not_depend_on_what_a_parent_leaves_r09(person, dns, tmp_path, left):
    person.under = [sys.executable, "-c", PARENT, left]
    state = "cat /proc/self/status | grep -E 'Sig(Blk|Ign)' >STATE; echo out; echo err >&2 || exit 9"
    hook = dns[1] % state.replace("STATE", str(tmp_path / "state"))
    status = 11 if "1" in left else 0  # the result cannot be written
    done = person.obtains("-d", f"{left}.parent.test", dns[0], hook, *dns[2:], status=status)
    assert "returncode" not in done.err and cleaned_up(tmp_path / "log") == [b"out"]
    blocked, ignored = (int(line.split()[1], 16) for line in (tmp_path / "state").read_text().splitlines())
    assert not blocked and not ignored & 1 << 16
    failed = person.obtains("-d", f"{left}.failed.test", "--hook", "exit 3", "--json", status=8)
    assert "2" in left or "the hook ended with status 3" in failed.err


@pytest.mark.parametrize(
    "command",
    [
        "'my hooks/deploy' a",
        "./my\\ hooks/deploy a",
        "D=/etc/nginx; 'my hooks/deploy' $D",
        "A=1 B='x y' 'my hooks/deploy' a",
        "sh 'my hooks/deploy'",
        "exec 'my hooks/deploy'",
        "('my hooks/deploy')",
        "cd 'my hooks' && ./deploy",
        "true;'my hooks/deploy'",
        "\"$PWD/my hooks/deploy\"",
        ">>out 'my hooks/deploy'",
    ],
)
def test_e26_a_renewal_elsewhere_runs_the_same_hook_r26(person, webroot, tmp_path, monkeypatch, command):
    (tmp_path / "my hooks").mkdir()
    hook = tmp_path / "my hooks" / "deploy"
    hook.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/log\n")
    hook.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    person.obtains("-d", "relative.test", *webroot, "--deploy-hook", command)
    monkeypatch.chdir("/")
    person.runs("renew", "--force")
    person.obtains("-d", "relative.test", "--force", *webroot)  # it remembers the deploy hook
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1 and ("nginx" not in command or lines[0] == "/etc/nginx")


def test_e26_a_hook_runs_although_its_folder_is_gone_r26(person, webroot, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    person.obtains("-d", "gone.test", *webroot, "--deploy-hook", f"echo >>{tmp_path}/log")
    monkeypatch.chdir("/")
    (tmp_path / "gone").rmdir()
    person.runs("renew", "--force")
    assert (tmp_path / "log").read_text() == "\n\n"


def test_e26_a_hook_that_cannot_be_executed_gets_a_hint_r26(person, tmp_path):
    hooks = {"mode": "#!/bin/sh\n", "crlf": "#!/bin/sh\r\n", "none": "#!/nowhere/sh\n"}
    for name, text in hooks.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "mode" else 0o755)
    for hook in (*hooks, "not here", "missing"):
        done = person.obtains("-d", "x.test", "--hook", str(tmp_path / hook), "--json", status=8)
        assert ("chmod +x" if hook == "mode" else "CRLF") in done.json["error"]["hint"]


@pytest.mark.parametrize("option", ["--hook", "--cleanup-hook", "--deploy-hook"])
def test_e26_a_blank_hook_is_refused_r26(person, option):
    hooks = {"--hook": "true", option: " \t"}
    options = [word for hook in hooks.items() for word in hook]
    error = fails(person, 2, "usage", "obtain", *person.ca, "-d", "x.test", *options)
    assert "blank" in error["message"] and not person.folder.exists()
