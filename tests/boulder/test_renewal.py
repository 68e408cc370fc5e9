"""Renewals at Boulder: renewal information, replaced certificates, a changed account key."""

from __future__ import annotations

import pytest

import acme_micro as acme
from people import dns, domains
from server_log import ServerLog
from solvers import Dns, new_client


def test_renewal_information_is_the_cas():
    with new_client() as client:
        info = client.renewal_info(client.obtain(["ari.example.com"], Dns()))

    assert info.from_ca
    assert info.window_start < info.window_end


def test_a_certificate_is_replaced_once_and_each_time_there_is_a_new_one():
    names = ["replaced.example.com", "www.replaced.example.com"]
    with new_client() as client:
        first = client.obtain(names, Dns())
        second = client.obtain(names, Dns(), replaces=first)
        third = client.obtain(["api.replaced.example.com"] + names, Dns(), replaces=second)
        again = client.obtain(["again.replaced.example.com"] + names, Dns(), replaces=first)
        other = client.obtain(["other.example.com"], Dns(), replaces=third)
        with new_client() as another:
            others = another.obtain(["another.replaced.example.com"], Dns(), replaces=again)

    assert len({one.serial for one in (first, second, third, again, other, others)}) == 6


def test_what_is_due_is_renewed_and_nothing_else(person, web):
    person.obtains(*domains("due.example.com"), *web.options)
    log = ServerLog()
    assert person.runs("renew").out == ""
    assert not log.requests("/acme/new-order")

    assert person.runs("renew", "--force").out.startswith("due.example.com: renewed")
    person.check("due.example.com", dns("due.example.com"))


# For five seconds after a change, Boulder knows only an account's old key.


def test_certificates_are_renewed_at_once_after_a_change_of_the_accounts_key(person, web):
    names = [f"{number}.rollover.example.com" for number in range(3)]
    for name in names:
        person.obtains(*domains(name), *web.options)
    person.runs("account", "rollover", *person.ca)
    log = ServerLog()

    run = person.tries("renew", "--force", "--json")

    assert run.status == 0, run
    for name in names:
        person.check(name, dns(name))
    # A refused signature is no reason to order without `replaces`.
    refused = [status for _, _, status in log.requests("/acme/new-order") if status >= 400]
    assert len(refused) <= 2 * len(names)


def test_the_accounts_key_is_changed_twice_and_its_contacts_too(person, web):
    person.obtains(*domains("twice.example.com"), *web.options)

    person.runs("account", "rollover", *person.ca)
    person.runs("account", "rollover", *person.ca)
    person.runs("account", "contacts", *person.ca, "mailto:me@example.com")


def test_a_certificate_is_obtained_at_once_after_a_change_of_the_accounts_key():
    with new_client() as client:
        client.obtain(["before.change.example.com"], Dns())
        client.change_key(acme.PrivateKey.generate())
        client.obtain(["after.change.example.com"], Dns())


def test_a_change_to_the_key_that_it_has_already_sends_nothing():
    key = acme.PrivateKey.generate()
    with new_client(key) as client:
        client.register()
        log = ServerLog()
        with pytest.raises(acme.InvalidArgument, match="the new key is the account's key already"):
            client.change_key(key)
    assert not log.requests()


def test_a_change_to_another_accounts_key():
    key = acme.PrivateKey.generate()
    with new_client(key) as other, new_client() as client:
        url = other.register()
        client.register()
        with pytest.raises(acme.AcmeError, match="New key is already in use") as caught:
            client.change_key(key)
    assert url in str(caught.value)
