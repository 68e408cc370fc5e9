"""A CA that stops in the middle of an issuance and starts again: no certificate is lost."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import published
from outside import judge

import acme_micro as acme

OUTAGE_S = 5
PATIENCE_S = 120

# Publishes http-01 in a folder, and waits for the test before it removes the challenge: at that time the CA
# has validated the names, and the order is not finalized yet.
HOOK = """\
file={webroot}$ACME_HTTP_PATH
if [ "$ACME_ACTION" = publish ]; then
    mkdir -p "${{file%/*}}" && printf %s "$ACME_HTTP_BODY" >"$file"
else
    rm "$file"
    : >{folder}/proven
    until [ -e {folder}/go-on ]; do sleep 0.05; done
fi
"""


def await_file(file: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not file.exists():
        assert time.monotonic() < deadline, f"there is no {file.name}"
        time.sleep(0.05)


def test_stopped_for_five_seconds_after_publishing(up, client, webroot, tmp_path):
    is_published, go_on = threading.Event(), threading.Event()

    class Solver(acme.Webroot):
        def publish(self, challenges):
            super().publish(challenges)
            is_published.set()
            assert go_on.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as thread:
        obtaining = thread.submit(client.obtain, ["stopped.test"], Solver(webroot))
        try:
            assert is_published.wait(PATIENCE_S)
            up.stop()
        finally:
            go_on.set()
        time.sleep(OUTAGE_S)
        up.start()
        cert = obtaining.result(PATIENCE_S)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(cert.chain_pem)
    cert.key.save(key)
    judge(chain, key, ["stopped.test"], up.root)


def test_killed_before_finalize(up, people, webroot, tmp_path):
    (tmp_path / "hook.sh").write_text(HOOK.format(webroot=webroot, folder=tmp_path))
    person = people.at("day")
    process = person.start(
        "obtain", *person.ca, "-d", "killed.test", "--hook", f"sh {tmp_path}/hook.sh",
        "--challenge-type", "http-01",
    )  # fmt: skip
    try:
        await_file(tmp_path / "proven")
        up.kill()
        (tmp_path / "go-on").touch()
        up.start()
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        (tmp_path / "go-on").touch()  # otherwise the hook would wait without end
        process.kill()
    assert process.returncode == 0, (out, err)
    judge(person.path("killed.test.chain.pem"), person.path("killed.test.key.pem"), ["killed.test"], up.root)
    assert published(webroot) == []
