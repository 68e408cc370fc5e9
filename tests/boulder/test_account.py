"""Accounts at Boulder: refusals, and operations after a refusal."""

from __future__ import annotations

import pytest

import acme_micro as acme
from conftest import env
from people import domains
from solvers import Dns, new_client


def test_what_boulder_has_not_is_said():
    with new_client() as client:
        client.register()
        with pytest.raises(acme.Unsupported, match="does not list an account's orders"):
            client.orders()
        with pytest.raises(acme.Unsupported, match="newAuthz"):
            client.authorize(["ahead.example.com"], Dns())


def test_without_the_terms_there_is_no_account():
    with (
        acme.Client(
            env("ACME_DIRECTORY"), acme.PrivateKey.generate(), ca_file=env("ACME_CA_FILE")
        ) as client,
        pytest.raises(acme.TermsNotAgreed) as caught,
    ):
        client.register()
    assert caught.value.help_url.endswith("/terms/v1")


def test_a_deactivated_account_stays_so():
    with new_client() as client:
        client.register()
        client.deactivate()
        for refused in (
            lambda: client.obtain(["deactivated.example.com"], Dns()),
            client.register,
            client.find_account,
            client.deactivate,
            lambda: client.update_contacts(["mailto:me@example.com"]),
            lambda: client.change_key(acme.PrivateKey.generate()),
        ):
            with pytest.raises(acme.AccountError, match="deactivated") as caught:
                refused()
            assert caught.value.permanent


@pytest.mark.parametrize("key_type", ["p521", "ed25519"])
def test_an_account_key_that_boulder_refuses_is_not_in_the_way(person, web, key_type):
    refused = person.tries(
        "account", "create", *person.ca, "--agree-terms", "--key-type", key_type
    )
    assert refused.status != 0

    after = person.tries("account", "create", *person.ca, "--agree-terms", "--key-type", "p256")

    # Either the key is not kept, or the message names its file.
    assert after.status == 0 or "account.pem" in after.err, after
    if after.status == 0:
        person.obtains(*domains(f"{key_type}.account.example.com"), *web.options)
