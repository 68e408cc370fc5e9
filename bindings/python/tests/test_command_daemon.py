"""acme-micro daemon: keeps all certificates of its folder fresh until it is stopped."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import acme_micro as acme
from acme_micro.command.events import WORDS
from command_runs import Person, described, fields
from conftest import env
from outside import another_pebble
from test_command import check, make_due, webroot
from test_command_cas import real

__all__ = ["real", "webroot"]

TIMEOUT = 180


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "acme")


def test_each_event_has_a_word():
    assert set(WORDS) == set(acme.EventType)


class Running:
    """A daemon that runs, and the lines that it writes."""

    def __init__(self, person: Person, *options: str):
        self.process = person.start("daemon", *options)
        self.lines: list[str] = []
        self._not_found: list[str] = []
        self._coming: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream,))
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream) -> None:
        for line in stream:
            self._coming.put(line)

    def until(self, *texts: str) -> str:
        """Waits for a line that has each of these texts, and that no earlier call has found."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            for line in self._not_found:
                if all(text in line for text in texts):
                    self._not_found.remove(line)
                    return line
            try:
                line = self._coming.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no line with {texts}: {''.join(self.lines)}")
            self.lines.append(line)
            self._not_found.append(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal; returns the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        for reader in self._readers:
            reader.join(60)
        with suppress(queue.Empty):
            while True:
                self.lines.append(self._coming.get_nowait())
        return status

    def read_again(self) -> str:
        """Sends SIGHUP; returns the line about the new state."""
        self.process.send_signal(signal.SIGHUP)
        return self.until("acme-micro: keeping")

    def __enter__(self) -> Running:
        self.until("acme-micro: keeping")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


def needs_another(person: Person, name: str) -> None:
    """Lets the next order be for a new key, and validate the name, at once."""
    person.runs("account", "deactivate", "--yes")
    person.runs("account", "create", "--agree-terms")
    person.path(f"{name}.revoking").write_text("KEY_COMPROMISE\n")  # all that a kill leaves


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_certificate_is_renewed_and_deployed_when_the_ca_says_so(person, webroot, new_pebble, tmp_path, number):
    log = tmp_path / "deployed"
    deploy = f'echo "$ACME_NAME" "$ACME_CHAIN_FILE" >>{log}'
    person.obtains("-d", "renew.daemon.test", *webroot, "--deploy-hook", deploy)
    serial = check(person, "renew.daemon.test", ["renew.daemon.test"])
    make_due(person, "renew.daemon.test")
    with Running(person) as daemon:
        daemon.until("renew.daemon.test: renewed, valid until 20")
        person.runs("renew")  # it waits for the hook, or finds that the renewal is not due any more
        assert daemon.end(number) == 0
    assert check(person, "renew.daemon.test", ["renew.daemon.test"]) != serial
    line = f"renew.daemon.test {person.path('renew.daemon.test.chain.pem')}\n"
    assert log.read_text() == 2 * line
    with Running(person) as daemon:  # a restart renews nothing
        daemon.until("renew.daemon.test: in use, valid until 20")
        assert daemon.end() == 0
    assert not [one for one in daemon.lines if ": renewed" in one] and log.read_text() == 2 * line


def test_it_notices_new_and_deleted_certificates(person, webroot):
    with Running(person) as daemon:
        assert "keeping 0 certificates" in "".join(daemon.lines)
        person.obtains("-d", "new.daemon.test", *webroot)
        daemon.until("new.daemon.test: in use")
        person.obtains("-d", "*.wild.daemon.test", "--hook", "false", status=8)  # it is not obtained
        person.obtains("-d", "also.new.daemon.test", *webroot, "--name", "other name")
        daemon.until("other name: in use")
        assert "keeping 2 certificates" in daemon.read_again()
        person.runs("delete", "new.daemon.test")
        assert "keeping 1 certificates" in daemon.read_again()
        assert daemon.end() == 0


def test_a_broken_entry_and_a_broken_ca_harm_nothing_else(person, webroot, real):
    for name in "broken", "sound":
        person.obtains("-d", f"{name}.daemon.test", *webroot)
    other = Person(person.folder, real["ACME_DIRECTORY"], real["ACME_CA_FILE"])
    other.obtains("-d", "other.daemon.test", "--hook", "true")
    folder, other_folder = (
        next(one for one in person.folder.iterdir() if (one / f"{name}.daemon.test.key.pem").exists())
        for name in ("sound", "other")
    )
    entry, ca, key = folder / "broken.daemon.test.renewal.json", other_folder / "ca.json", folder / "sound.daemon.test.key.pem"
    texts = {file: file.read_text() for file in (entry, ca)}
    entry.write_text("[]")
    ca.write_text("{")
    with Running(person) as daemon:
        daemon.until("sound.daemon.test: in use")
        said = "".join(daemon.lines)
        assert "broken.daemon.test.renewal.json was not written by this version" in said
        assert "ca.json was not written by this version" in said
        for file, text in texts.items():
            file.write_text(text)
            file.chmod(0o600)
        found = {daemon.until("daemon.test: in use").split(":")[0] for _ in texts}
        assert found == {"broken.daemon.test", "other.daemon.test"}
        key.write_text("no key")
        assert "keeping 3 certificates" in daemon.read_again()
        assert daemon.end() == 0
    with Running(person) as daemon:
        assert "sound.daemon.test.key.pem" in daemon.until("sound.daemon.test: failed")
        daemon.until("broken.daemon.test: in use")
        assert daemon.end() == 0


def test_a_second_daemon_is_refused_until_the_first_one_is_gone(person, webroot):
    person.obtains("-d", "two.daemon.test", *webroot)
    with Running(person) as first:
        refused = person.runs("daemon", "--json", status=12)
        assert json.loads(refused.out)["error"]["kind"] == "running"
        assert f"process {first.process.pid}" in refused.err
        first.until("two.daemon.test: in use")
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with Running(person) as second:
        second.until("two.daemon.test: in use")
        assert second.end() == 0


HOOK = """#!/bin/sh
echo "$ACME_ACTION $ACME_NAME $CERTBOT_ALL_DOMAINS" >>{log}
[ $ACME_ACTION = unpublish ] && exec rm -f "{root}$ACME_HTTP_PATH"
echo $ACME_HTTP_BODY >"{root}$ACME_HTTP_PATH"
echo published >{fifo}
while [ -e {block} ]; do sleep 0.05; done
"""


class Blocking:
    """A hook for http-01 that blocks while a file exists."""

    def __init__(self, folder: Path, webroot: list[str]):
        root = Path(webroot[1])
        (root / ".well-known/acme-challenge").mkdir(parents=True, exist_ok=True)
        self.log, self.fifo, self.block, file = (folder / one for one in ("log", "fifo", "block", "hook"))
        os.mkfifo(self.fifo)
        self._pipe = os.open(self.fifo, os.O_RDWR)  # neither side waits for the other one to open it
        file.write_text(HOOK.format(log=self.log, fifo=self.fifo, block=self.block, root=root))
        file.chmod(0o755)
        self.options = ["--hook", str(file), "--challenge-type", "http-01"]

    def wait(self) -> None:
        """Waits until a challenge is published."""
        assert select.select([self._pipe], [], [], TIMEOUT)[0], "no challenge is published"
        assert os.read(self._pipe, 100) == b"published\n"

    def close(self) -> None:
        self.block.unlink(missing_ok=True)
        os.close(self._pipe)


@pytest.fixture
def blocking(webroot: list[str], tmp_path: Path) -> Iterator[Blocking]:
    made = Blocking(tmp_path, webroot)
    yield made
    made.close()


def obtain_with(blocking: Blocking, person: Person, name: str) -> None:
    person.obtains("-d", name, *blocking.options)
    blocking.wait()
    blocking.log.unlink()
    blocking.block.touch()
    needs_another(person, name)


def test_after_kill_9_the_next_daemon_goes_on_with_the_order(person, blocking):
    name = "killed.daemon.test"
    obtain_with(blocking, person, name)
    with Running(person) as first:
        blocking.wait()
        order = person.path(f"{name}.order").read_text()
        assert "https://" in order
        first.process.kill()
        assert first.process.wait() == -signal.SIGKILL
        blocking.block.unlink()  # the hook lives on, and ends
    with Running(person) as second:
        second.until(f"{name}: new certificate")
        assert second.end() == 0
    check(person, name, [name])
    assert not person.path(f"{name}.order").exists()
    said = blocking.log.read_text().splitlines()
    assert said[0] == f"publish {name} {name}" and said[-1] == f"unpublish {name} {name}"


def test_a_stop_during_a_hook_removes_the_challenge(person, blocking):
    name = "stopped.daemon.test"
    obtain_with(blocking, person, name)
    with Running(person) as daemon:
        blocking.wait()
        assert daemon.end() == 0
    assert blocking.log.read_text() == f"publish {name} {name}\nunpublish {name} {name}\n"
    assert not [one for one in daemon.lines if "failed" in one]


def test_a_deploy_hook_that_failed_runs_again(person, webroot, tmp_path):
    log = tmp_path / "deployed"
    person.obtains("-d", "deploy.daemon.test", *webroot, "--deploy-hook", f"[ -e {log} ] && echo done >>{log}", status=10)
    with Running(person) as daemon:
        daemon.until("deploy.daemon.test: the hook ended with status 1")
        log.touch()
        daemon.read_again()
        daemon.until("deploy.daemon.test: deployed")
        assert daemon.end() == 0
    assert log.read_text() == "done\n"


def test_json_has_an_object_in_each_line(person, webroot):
    person.obtains("-d", "json.daemon.test", *webroot)
    with Running(person, "--json") as daemon:
        found = json.loads(daemon.until('"loaded"'))
        assert daemon.end() == 0
    assert found["ok"] and found["name"] == "json.daemon.test" and found["error"] is None
    assert set(fields(found)) <= described()


class Relay:
    """A port that leads to a CA, unless it is down."""

    def __init__(self, url: str):
        self._there = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.is_down = False
        self.refused = threading.Event()
        self.url = f"https://localhost:{self._listener.getsockname()[1]}{self._there.path}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self.is_down:
                    here.close()
                    self.refused.set()
                    continue
                there = socket.create_connection((self._there.hostname, self._there.port))
                for pair in (here, there), (there, here):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (data := source.recv(65536)) and not self.is_down:
                target.sendall(data)
        for one in source, target:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def test_it_survives_an_outage_of_the_ca(tmp_path, webroot):
    relay = Relay(env("ACME_DIRECTORY"))
    person = Person(tmp_path / "acme", relay.url)
    person.obtains("-d", "outage.daemon.test", *webroot)
    person.path("outage.daemon.test.revoking").write_text("KEY_COMPROMISE\n")
    relay.is_down = True
    with Running(person) as daemon:
        daemon.until("the CA does not work", "next attempt at 20")
        line = daemon.until("outage.daemon.test: failed", "next attempt at 20")
        assert daemon.process.poll() is None, line
        relay.is_down = False
        daemon.until("the CA works again")
        daemon.until("outage.daemon.test: new certificate")
        assert daemon.end() == 0
    relay.close()
    check(person, "outage.daemon.test", ["outage.daemon.test"])


def test_short_lived_certificates_are_renewed_in_their_windows(tmp_path, webroot):
    with another_pebble("--profile", "shortlived=60", "--env", "PEBBLE_VA_ALWAYS_VALID=1") as pebble:
        person = Person(tmp_path / "acme", pebble["ACME_DIRECTORY"], pebble["ACME_CA_FILE"])
        log = tmp_path / "deployed"
        deploy = f'openssl x509 -noout -serial -in "$ACME_CHAIN_FILE" >>{log}'
        person.obtains("-d", "short.daemon.test", "--hook", "true", "--deploy-hook", deploy)
        with Running(person) as daemon:
            for _ in range(2):
                daemon.until("short.daemon.test: renewed")
            assert daemon.end() == 0
    assert len(set(log.read_text().splitlines())) >= 2
