"""A part of Boulder ends when the challenge has been published, and restarts five seconds later."""

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

WHOLE_S = 120  # until Boulder's parts are connected again


@pytest.fixture(autouse=True)
def whole_again() -> Iterator[None]:
    """Waits until Boulder is complete again for the next test."""
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
    """A run of the command while parts are down, with any exit status."""
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
    """Boulder makes the authorization or the order invalid; another order can succeed."""
    name = f"{part}.stops.example.com"

    run = obtains_while_gone(person, web, name, part)

    if run.status == 0:
        person.check(name, dns(name))
        return
    error = run.json["error"]
    assert error["problem"]["type"].endswith(":serverInternal")
    assert error["permanent"] is False
    assert run.status not in (4, 5)  # the CA refused no name
    assert "firewall" not in error.get("hint", "")


def test_a_renewal_that_met_such_a_fault_is_tried_again_in_minutes(person, web):
    name = "renewal.stops.example.com"
    person.obtains(*domains(name), *web.options)
    os.kill(int((Path(env("BOULDER_PIDS")) / "ca").read_text()), signal.SIGKILL)

    run = person.tries("renew", "--force", "--json")

    if run.status == 0:
        return  # the operation waited for the part
    (renewal,) = run.json["certificates"]
    assert renewal["error"]["permanent"] is False
    record = person.renewal_record(name)
    assert record["failures"] == 1
    assert record["next_try"] < time.time() + 10 * 60
