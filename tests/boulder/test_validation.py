"""Slow and failing validations by Boulder: the messages that the person gets."""

from __future__ import annotations

import pytest

import names
from addresses import WEB_WITHOUT_SERVER
from people import dns, domains, hook
from server_log import ServerLog

FALSE_HINTS = ("firewall", "--webroot")


def test_a_web_server_that_is_slow_is_waited_for(person, web):
    """Validation takes more than 8 s: first the primary perspective validates, then the remote ones."""
    web.answers_after_s = 4
    log = ServerLog()

    person.obtains(*domains("slow.example.com"), *web.options)

    person.check("slow.example.com", dns("slow.example.com"))
    answered = [status for method, _, status in log.requests("/acme/chall/") if method == "POST"]
    assert answered == [200]  # a second response is a conflict


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        ("refused.example.com", "Connection refused", "firewall"),
        ("servfail.example.com", "SERVFAIL", "A and AAAA records"),
        ("not-found.example.com", "404", "its web server serves"),
    ],
)
def test_what_boulder_has_seen_is_said(person, web, tmp_path, name, why, hint):
    names.set_address("refused.example.com", WEB_WITHOUT_SERVER)
    names.fail("servfail.example.com")
    options = web.options
    if name.startswith("not-found"):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        options = ["--webroot", str(elsewhere)]

    run = person.obtains(*domains(name), *options, status=5)

    assert why in run.err and name in run.err
    assert hint in run.err


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://{name}/again", "Redirect loop detected"),
        ("http://{name}:8443/", "Only ports 80 and 443 are supported, not 8443"),
        ("https://{name}/", "Connection refused"),
    ],
)
def test_what_boulder_thinks_of_a_redirection(person, web, target, why):
    name = "redirected.example.com"
    web.redirects_to = target.format(name=name)

    run = person.obtains(*domains(name), *web.options, status=5)

    assert why in run.err


def test_of_several_names_all_that_failed_are_told(person, web):
    bad = ("refused.three.example.com", "servfail.three.example.com")
    names.set_address(bad[0], WEB_WITHOUT_SERVER)
    names.fail(bad[1])

    run = person.obtains(*domains("good.three.example.com", *bad), *web.options, status=5)

    assert all(name in run.err for name in bad), run.err


def test_a_caa_record_is_no_matter_of_challenges(person, web):
    names.allow_only("caa.example.com", "another-ca.example.net")

    run = person.tries(*person.obtaining(*domains("caa.example.com"), *web.options))

    assert run.status in (4, 5)
    assert "CAA record for caa.example.com prevents issuance" in run.err
    assert not any(hint in run.err for hint in FALSE_HINTS), run.err


def test_the_hint_names_nothing_that_was_not_used(person, tmp_path):
    names.fail("_acme-challenge.hint.example.com")

    run = person.obtains(*domains("hint.example.com"), *hook("dns-01", tmp_path), status=5)

    assert "--webroot" not in run.err


@pytest.mark.parametrize("name", ["bad_name.example.com", "foo.local", "com", "10.0.0.1", "*.*.example.com"])
def test_names_that_are_none(person, web, name):
    run = person.tries(*person.obtaining(*domains(name), *web.options))

    assert run.status in (2, 4)
    assert name.removeprefix("*.") in run.err
