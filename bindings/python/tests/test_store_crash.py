"""Programs that obtain a certificate with a Store are killed at each step, and started again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import acme_micro as acme
from conftest import env, verify
from webroot_server import serving

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="NOT RUN: this needs strace")

PROGRAM = Path(__file__).with_name("store_program.py")
NAMES = ["store.test", "www.store.test"]
STORED = {".lock", "account.pem", "account.url", "directory.url", "store.test.key.pem", "store.test.chain.pem"}
WEIGHTY = ("sent account", "sent order", "published", "sent finalize", "rename")
# The system calls with which the library changes files of the folder, and locks it.
CALLS = "flock", "fsync", "renameat", "unlinkat"
# All with which it makes, writes and renames them.
CHANGES = *CALLS, "write", "fchmod", "openat"
# The same, and all that only look at them.
TOUCHES = *CHANGES, "newfstatat", "fstat", "read", "close", "fcntl", "getdents64", "lseek", "mkdirat", "mkdir"
# Number of programs at the same time; most of them are waiting for the CA.
AT_ONCE = 10


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Path]:
    """A web server for each name."""
    (tmp_path / "webroots").mkdir()
    with serving(tmp_path / "webroots", int(env("PEBBLE_HTTP_PORT"))):
        yield tmp_path / "webroots"


class Scene:
    """The folders of a program, and the checks of their files."""

    def __init__(self, tmp_path: Path, web: Path, name: str):
        self.folder, self.webroot, self.check = tmp_path / name, web / name, tmp_path / f"{name}-check"
        self.webroot.mkdir()
        self.check.mkdir()

    def run(self, step: str, *options: str, under: Sequence[str] = ()) -> tuple[bool, list[str]]:
        """Returns whether the program ran to its end, and its steps; if not, it was killed at the last step."""
        command = [*under, sys.executable, str(PROGRAM), str(self.folder), str(self.webroot)]
        command += [step, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        # strace ends in the same way as the program.
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        return done.returncode == 0, done.stdout.splitlines()

    def keys(self) -> dict[str, str]:
        files = [*self.folder.glob("account.pem"), *self.folder.glob("*.key.pem")]
        return {file.name: file.read_text() for file in files}

    def text(self, ending: str) -> str:
        file = self.folder / f"store.test{ending}"
        return file.read_text() if file.exists() else ""

    def check_whole(self) -> None:
        """Checks that each file is usable."""
        for file in self.folder.iterdir() if self.folder.exists() else ():
            text = file.read_text()
            if file.name == "account.pem" or file.name.endswith((".key.pem", ".order")):
                assert file.stat().st_mode & 0o777 == 0o600
            if file.name == "account.pem" or file.name.endswith(".key.pem"):
                acme.PrivateKey.parse(text)
            elif file.name.endswith(".chain.pem"):
                assert set(acme.Certificate.parse(text).names) == set(NAMES)
            elif file.name != ".lock" and not file.name.startswith("tmp-"):
                assert text.endswith("\n")

    def check_pair(self) -> None:
        """Checks with OpenSSL's command that the files of key and chain fit, or that the store has a pair that fits:
        between the rename of the chain and that of the key, the new key still has its other name."""
        key, chain = (str(self.folder / f"store.test{ending}") for ending in (".key.pem", ".chain.pem"))
        if public_key("pkey", "-in", key, "-pubout") == public_key("x509", "-in", chain, "-noout", "-pubkey"):
            return
        certificate = acme.Store(self.folder).certificate(NAMES[0])
        assert certificate is not None and certificate.key is not None
        new_key, new_chain = self.check / "key.pem", self.check / "chain.pem"
        new_key.write_text(certificate.key.pem)
        new_chain.write_text(certificate.chain_pem)
        assert public_key("pkey", "-in", str(new_key), "-pubout") == public_key(
            "x509", "-in", str(new_chain), "-noout", "-pubkey"
        )

    def check_finished(self) -> None:
        """Checks that the certificate is stored, and that no other file is left."""
        self.check_whole()
        assert {path.name for path in self.folder.iterdir()} == STORED
        certificate = acme.Store(self.folder).certificate(NAMES[0])
        assert certificate is not None and certificate.key is not None
        verify(certificate, NAMES, self.check)
        assert list((self.webroot / ".well-known" / "acme-challenge").iterdir()) == []

    def records(self) -> tuple[int, int]:
        """Returns the CA's numbers of this account's orders and certificates."""
        store = acme.Store(self.folder)
        with store.client(env("ACME_DIRECTORY"), ca_file=env("ACME_CA_FILE")) as ca:
            placed = {url.rsplit("/", 1)[1] for url in ca.orders()}
        issued = re.findall(r"Issued certificate serial \w+ for order ([\w-]+)", log())
        return len(placed), sum(order in placed for order in issued)


def public_key(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def log() -> str:
    return Path(env("PEBBLE_LOG")).read_text(encoding="utf-8", errors="replace")


def accounts() -> int:
    return log().count(" accounts in memory")


def killed(scene: Scene, step: str, *options: str, under: Sequence[str] = ()) -> bool:
    """Kills the program at a step and runs it again. Returns False if it did not reach the step."""
    is_renewal = "renew" in options
    if is_renewal:
        assert scene.run("")[0]
    before = scene.text(".chain.pem")
    ended, steps = scene.run(step, *options, under=under)
    if ended:
        return False
    scene.check_whole()
    has_new_key = "new-key" in options
    if has_new_key:
        scene.check_pair()
    order = scene.text(".order")
    has_ended = scene.text(".chain.pem") != before and not order
    keys, next_key = scene.keys(), scene.text(".next.key.pem")
    assert scene.run("", *options)[0]
    if has_new_key:
        # The order goes on with its key. Without an order, the key can be that of an order that is not known.
        assert not next_key or has_ended or scene.text(".key.pem") == next_key
        assert scene.text(".key.pem") != keys["store.test.key.pem"] or scene.text(".chain.pem") != before
        assert scene.keys()["account.pem"] == keys["account.pem"]
    else:
        assert keys.items() <= scene.keys().items()
    scene.check_finished()

    done = steps if under else steps[:-1]
    # A stored certificate is not obtained again, except by a program that always renews, after the whole run. A run
    # with a new key ends when that key has no other name any more.
    wanted = 1 + is_renewal + (is_renewal and has_ended and not (has_new_key and next_key != ""))
    # The CA may have created the order before its URL was on the disk.
    sent = "async" in options or any(step.startswith("send order") for step in done)
    lost = sent and "\norder " not in order and not has_ended
    placed, issued = scene.records()
    assert issued == wanted, (step, steps[-1:], under, issued)
    assert wanted <= placed <= wanted + lost, (step, steps[-1:], under, placed)
    return True


def file_calls(
    scene: Scene, log: Path, *options: str, names: Sequence[str] = CALLS
) -> list[tuple[str, int]]:
    """Runs the program; returns the system calls of its first thread in the folder, each with its number among
    those of this name."""
    if "renew" in options:
        assert scene.run("")[0]
    under = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(names)}"]
    assert scene.run("", *options, under=under)[0]
    lines = [line.split(None, 1) for line in log.read_text().splitlines()]
    calls = [call for pid, call in lines if pid == lines[0][0]]
    found = [call.partition("(")[0] for call in calls]
    counted: Counter[str] = Counter()
    numbered = []
    for name in found:
        counted[name] += 1
        numbered.append((name, counted[name]))
    # Of the calls that open a file, those change the folder that make one.
    changes = [name != "openat" or names is TOUCHES or "O_CREAT" in call for name, call in zip(found, calls)]
    in_folder = [str(scene.folder) in call for call in calls]
    return [one for one, here, is_change in zip(numbered, in_folder, changes) if here and is_change]


def killed_by_strace(tmp_path: Path, web: Path, call: tuple[str, int], *options: str) -> bool:
    name, nth = call
    under = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={name}"]
    under += ["-e", f"inject={name}:signal=KILL:when={nth}"]
    return killed(Scene(tmp_path, web, f"{name}{nth}"), "", *options, under=under)


def killed_at_every_step(tmp_path: Path, web: Path, *options: str, every: int = 1) -> list[str]:
    """``every``: kills at every n-th step and at the most important ones; with ACME_SOAK, at all."""
    every = 1 if "ACME_SOAK" in os.environ else every
    before = accounts()
    scene = Scene(tmp_path, web, "whole")
    if "renew" in options:
        scene.run("")
    steps = scene.run("", *options)[1][:-1]  # the last line is the certificate
    steps = [step for n, step in enumerate(steps) if n % every == 0 or step.startswith(WEIGHTY)]

    def kill(number: int) -> bool:
        return killed(Scene(tmp_path, web, f"step{number}"), steps[number], *options)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        was_killed = list(pool.map(kill, range(len(steps))))
    # Each program has one account, even if it was killed.
    assert accounts() - before == len(list((tmp_path / "webroots").iterdir()))
    return [step for step, was in zip(steps, was_killed) if was]


def test_x01_x03_x04_x05_x06_x10_t13_killed_at_every_step(tmp_path, web):
    steps = killed_at_every_step(tmp_path, web, every=2)
    assert len(steps) > 20


@needs_strace
def test_x01_x06_killed_when_the_library_changes_files(tmp_path, web):
    calls = file_calls(Scene(tmp_path, web, "traced"), tmp_path / "strace")
    assert {name for name, _ in calls} == set(CALLS) and len(calls) > 30
    chosen = calls if "ACME_SOAK" in os.environ else calls[::2]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert all(pool.map(lambda call: killed_by_strace(tmp_path, web, call), chosen))


@needs_strace
def test_x02_x06_a_renewal_with_a_new_key_killed_at_every_change_of_files(tmp_path, web):
    """With ACME_SOAK: at every system call on files of the folder."""
    names = TOUCHES if "ACME_SOAK" in os.environ else CHANGES
    options = "renew", "new-key"
    calls = file_calls(Scene(tmp_path, web, "traced"), tmp_path / "strace", *options, names=names)
    assert {"flock", "fsync", "renameat", "unlinkat", "write"} <= {name for name, _ in calls}
    assert len(calls) > (200 if names is TOUCHES else 35)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        was_killed = pool.map(lambda call: killed_by_strace(tmp_path, web, call, *options), calls)
        assert sum(was_killed) >= len(calls) * 0.95


def test_x01_a_renewal_killed_at_every_step(tmp_path, web):
    assert len(killed_at_every_step(tmp_path, web, "renew", every=2)) > 5


def test_x01_coroutines_killed_at_every_step(tmp_path, web):
    assert len(killed_at_every_step(tmp_path, web, "async", every=3)) > 7
