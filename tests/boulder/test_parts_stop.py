"""A part of Boulder ends when the challenge has been published, and is back five seconds later."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import acme_micro as acme
from conftest import env
from people import dns, domains, hook
from solvers import Dns, new_client

WHOLE_S = 120  # for Boulder's parts to have found each other again


@pytest.fixture(autouse=True)
def whole_again() -> Iterator[None]:
    """Another test finds Boulder as it was before."""
    yield
    deadline = time.monotonic() + WHOLE_S
    while True:
        try:
            with new_client() as client:
                client.obtain([f"{uuid.uuid4()}.probe.example.com"], Dns(), timeout=5)
            return
        except acme.AcmeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def obtains_while_gone(person, web, name: str, *parts: str):
    """A run of the command, that may end in whatever way."""
    options = hook("http-01", web.root, *parts)
    return person.tries(*person.obtaining(*domains(name), *options, "--json"))


@pytest.mark.parametrize("parts", [("nonce-1", "nonce-2"), ("wfe",), ("sa",), ("ra",)], ids=" ".join)
def test_what_can_be_waited_for_is(person, web, parts):
    name = f"{parts[0]}.stops.example.com"

    run = obtains_while_gone(person, web, name, *parts)

    assert run.status == 0, run.err
    person.check(name, dns(name))


@pytest.mark.parametrize("part", ["va", "ca"])
def test_what_boulder_gives_up_is_its_fault_and_not_ours(person, web, part):
    """It makes the authorization or the order invalid; another order can succeed."""
    name = f"{part}.stops.example.com"

    run = obtains_while_gone(person, web, name, part)

    if run.status == 0:
        person.check(name, dns(name))
        return
    error = run.json["error"]
    assert error["problem"]["type"].endswith(":serverInternal")
    assert error["permanent"] is False
    assert run.status not in (4, 5)  # nothing was refused
    assert "firewall" not in error.get("hint", "")


def test_a_renewal_that_met_such_a_fault_is_tried_again_in_minutes(person, web):
    name = "renewal.stops.example.com"
    person.obtains(*domains(name), *web.options)
    os.kill(int((Path(env("BOULDER_PIDS")) / "ca").read_text()), signal.SIGKILL)

    run = person.tries("renew", "--force", "--json")

    if run.status == 0:
        return  # it was waited for
    (renewal,) = run.json["certificates"]
    assert renewal["error"]["permanent"] is False
    record = person.renewal_record(name)
    assert record["failures"] == 1
    assert record["next_try"] < time.time() + 10 * 60
