"""The TLS context of a manager: each handshake uses the certificate for the client's name."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager

import pytest

import acme_micro as acme
from acme_micro import EventType
from conftest import PebbleDns, env
from test_manager import Events, client_of


@contextmanager
def managed(*names):
    """A manager with a certificate for each of these names."""
    events = Events()
    with client_of(acme.MemoryStore()) as ca, acme.Manager(ca, PebbleDns(), on_event=events) as manager:
        for name in names:
            manager.add([name])
        manager.start()
        for _ in names:
            events.until(EventType.OBTAINED)
        yield manager, events


def handshake(server_context, name):
    """Returns the client's end of a handshake, without a network."""
    trust = ssl.create_default_context(cafile=env("PEBBLE_ROOT"))
    trust.check_hostname = name is not None
    trust.set_alpn_protocols(["h2"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    while len(done) < 2:
        for end in client, server:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                if end is client:
                    raise
    return client


def serial_of(connection):
    return int(connection.getpeercert()["serialNumber"], 16)


def test_each_handshake_uses_the_certificate_in_use_for_its_name(monkeypatch):
    with managed("one.context.test", "*.two.context.test") as (manager, events):
        serial = lambda name: int(manager.certificate(name).serial, 16)  # noqa: E731
        context = manager.ssl_context()
        for name in "one.context.test", "a.two.context.test":
            assert serial_of(handshake(context, name)) == serial(name)
        for unknown in "three.context.test", None:
            with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
                handshake(context, unknown)
        old = serial("one.context.test")
        manager.renew("one.context.test")
        events.until(EventType.RENEWED)
        assert serial_of(handshake(context, "one.context.test")) == serial("one.context.test") != old
        # A system without files in memory.
        monkeypatch.delattr(os, "memfd_create")
        other = manager.ssl_context("one.context.test", lambda one: one.set_alpn_protocols(["h2"]))
        connection = handshake(other, None)
        assert serial_of(connection) == serial("one.context.test")
        assert connection.selected_alpn_protocol() == "h2"


def test_more_certificates_than_contexts_are_kept():
    with managed("one.many.test", "two.many.test") as (manager, _):
        manager._max_loaded = 1
        context = manager.ssl_context()
        serials = [serial_of(handshake(context, f"{name}.many.test")) for name in ("one", "two", "one")]
        assert serials[0] == serials[2] != serials[1]
