"""Boulder's rate limits, which limits.py makes low: the messages, and the time of the next attempt."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import limits
import names
from addresses import WEB_WITHOUT_SERVER
from conftest import env
from people import Person, domains
from server_log import ServerLog


def is_refused(run, why: str) -> datetime:
    """Checks that a rate limit refused the run; the error has the end of the limit for programs and people."""
    error = run.json["error"]
    assert error["kind"] == "rate-limited"
    assert error["problem"]["type"].endswith(":rateLimited")
    assert why in error["message"]
    assert not error["permanent"]
    assert error["help_url"].startswith("https://letsencrypt.org/docs/rate-limits")
    assert error["help_url"] in error["message"] + error["hint"]
    retry_at = datetime.fromisoformat(error["retry_at"])
    assert retry_at > datetime.now(timezone.utc)
    return retry_at


def test_duplicate_certificates(person, web):
    obtaining = person.obtaining(*domains("duplicate.example.com"), *web.options, "--force", "--json")
    for _ in range(limits.DUPLICATE_CERTIFICATES):
        person.runs(*obtaining)

    retry_at = is_refused(person.runs(*obtaining, status=6), "too many certificates (2) already issued")

    assert timedelta(days=3) < retry_at - datetime.now(timezone.utc) < timedelta(days=4)


def test_who_tries_at_the_time_that_is_told_is_not_refused_again(person, web):
    obtaining = person.obtaining(*domains("minute.example.com"), *web.options, "--force", "--json")
    for _ in range(limits.DUPLICATE_CERTIFICATES):
        person.runs(*obtaining)

    error = person.runs(*obtaining, status=6).json["error"]

    told = re.search(r"try again after (\S+ \d\d:\d\d) UTC", error["hint"]).group(1)
    told_at = datetime.strptime(told, "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc)
    assert datetime.fromisoformat(error["retry_at"]) <= told_at


def test_a_renewal_that_is_limited_is_tried_when_the_ca_says(person, web):
    obtaining = person.obtaining(*domains("limited.example.com"), *web.options, "--force")
    for _ in range(limits.DUPLICATE_CERTIFICATES):
        person.runs(*obtaining)
    person.obtains(*domains("unlimited.example.com"), *web.options)
    # A renewal before the CA's window counts against the limits as any other order.
    run = person.tries("renew", "--force", "--json")

    assert run.status == 6, run
    by_name = {one["name"]: one for one in run.json["certificates"]}
    assert by_name["unlimited.example.com"]["ok"]
    retry_at = datetime.fromisoformat(by_name["limited.example.com"]["error"]["retry_at"])
    record = person.renewal_record("limited.example.com")
    assert record["failures"] == 1
    assert abs(record["next_try"] - retry_at.timestamp()) < 5

    log = ServerLog()
    person.runs("renew")
    assert not log.requests("/acme/new-order")


def test_failed_authorizations(person, web):
    names.set_address("failed.example.com", WEB_WITHOUT_SERVER)
    obtaining = person.obtaining(*domains("failed.example.com"), *web.options, "--json")
    for _ in range(limits.FAILED_AUTHORIZATIONS):
        person.runs(*obtaining, status=5)
    log = ServerLog()

    is_refused(person.runs(*obtaining, status=6), "too many failed authorizations (3)")

    assert not log.requests("/acme/chall/")


def test_new_orders(person, web):
    for number in range(limits.NEW_ORDERS):
        person.obtains(*domains(f"{number}.orders.example.com"), *web.options)

    run = person.obtains(*domains("more.orders.example.com"), *web.options, "--json", status=6)

    is_refused(run, "too many new orders (8) from this account")


def test_new_accounts(tmp_path):
    people = [Person(tmp_path / str(number)) for number in range(limits.NEW_ACCOUNTS + 1)]
    for one in people:
        one.ca[one.ca.index("--directory") + 1] = env("BOULDER_FEW_ACCOUNTS")
    creating = ["account", "create", *people[0].ca, "--agree-terms", "--json"]
    for one in people[:-1]:
        one.runs(*creating)

    is_refused(people[-1].runs(*creating, status=6), "too many new registrations (3) from this IP address")
