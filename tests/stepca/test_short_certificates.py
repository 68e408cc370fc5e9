"""An hour of five-minute certificates, shortened: the command renews them from a timer."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from command_runs import Person
from outside import judge, openssl
from stepca import SHORT_S, StepCa

FIVE_MINUTES_S = 300
SHORTENED = FIVE_MINUTES_S / SHORT_S
# Number of five-minute certificates in an hour.
RENEWALS = 12
FAILS = 4  # the CA is down when this renewal is due
TICK_S = 0.5  # between two runs of a timer


@dataclass
class Held:
    """The certificate in the folder, as openssl reads it."""

    serial: str
    not_before: float
    not_after: float

    @classmethod
    def read(cls, chain: Path) -> Held:
        shown = openssl("x509", "-in", str(chain), "-noout", "-serial", "-startdate", "-enddate")
        serial, start, end = (line.split("=")[1] for line in shown.splitlines())
        return cls(serial, ssl.cert_time_to_seconds(start), ssl.cert_time_to_seconds(end))

    # A short certificate is due at half of its lifetime, or up to a fiftieth of the lifetime later.

    @property
    def is_not_due_before(self) -> float:
        return self.not_before + (self.not_after - self.not_before) * 0.5

    @property
    def is_due_at(self) -> float:
        return self.not_before + (self.not_after - self.not_before) * 0.52


class Timer:
    """Runs `acme-micro renew` again and again."""

    def __init__(self, person: Person):
        self.person = person
        self.settings = person.path("short.test.renewal.json")
        self.held = Held.read(person.path("short.test.chain.pem"))

    def kept(self, name: str) -> float:
        """A value that the command has stored."""
        return json.loads(self.settings.read_text())[name]

    def shorten(self, now: float) -> None:
        """Shortens a stored delay by the same factor as the certificates' lifetime."""
        kept = json.loads(self.settings.read_text())
        kept["next_try"] = now + (kept["next_try"] - now) / SHORTENED
        self.settings.write_text(json.dumps(kept))

    def runs(self, *, held_back_until: float = 0) -> bool:
        """Runs the command once, which renews if that is due. Returns whether it renewed."""
        before, begun = self.held, time.time()
        done = self.person.runs("renew")
        ended = time.time()
        self.held = Held.read(self.person.path("short.test.chain.pem"))
        renewed = self.held.serial != before.serial
        if renewed:
            assert ended >= before.is_not_due_before, "it was not due"
            assert "short.test: renewed" in done.out
            # The count starts again, and earlier failures do not delay the new certificate.
            assert self.kept("failures") == 0
            assert self.kept("next_try") <= self.held.is_due_at
        else:
            assert begun < max(before.is_due_at, held_back_until), "it was due"
        return renewed

    def renews(self, *, held_back_until: float = 0) -> None:
        """Runs until there is a new certificate."""
        while not self.runs(held_back_until=held_back_until):
            time.sleep(TICK_S)

    def fails(self) -> None:
        """Runs the command when the renewal is due and the CA is down."""
        while time.time() < self.held.is_due_at:
            time.sleep(TICK_S)
        self.person.runs("renew", status=3)
        assert Held.read(self.person.path("short.test.chain.pem")) == self.held


def test_an_hour_with_a_failure_in_it(up: StepCa, people, webroot):
    person = people.at("short")
    person.obtains("-d", "short.test", "--webroot", str(webroot))
    timer = Timer(person)
    for number in range(1, RENEWALS + 1):
        if number != FAILS:
            timer.renews()
            continue
        timer.runs()  # a run that comes too early for a renewal
        up.stop()
        timer.fails()
        assert timer.kept("failures") == 1
        timer.shorten(time.time())
        up.start()
        timer.renews(held_back_until=timer.kept("next_try"))
    judge(
        person.path("short.test.chain.pem"), person.path("short.test.key.pem"), ["short.test"], up.root
    )
