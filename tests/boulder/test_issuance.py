"""Certificates from Boulder, in each of the ways to get one."""

from __future__ import annotations

from people import dns, domains


def test_http_01_from_a_webroot_with_a_new_account(person, web):
    run = person.obtains(*domains("www.example.com"), *web.options)

    assert run.out.startswith("www.example.com: new certificate, good until 20")
    person.check("www.example.com", dns("www.example.com"))
