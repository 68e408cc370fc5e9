"""A manager with several CAs, and with certificates on demand."""

from __future__ import annotations

import pytest

import acme_micro as acme
from acme_micro import EventType
from conftest import env, verify
from test_manager import Events, client_of, events
from test_store import solver

__all__ = ["events", "solver"]

# Nothing listens there.
NOT_A_CA = "https://127.0.0.1:1/directory"


def until(events: Events, *types):
    """Waits for an event of a type, past failures."""
    while True:
        event = events._queue.get(timeout=120)
        if event.type in types:
            return event


def test_another_ca_takes_over(tmp_path, solver, events):
    store = acme.Store(tmp_path / "first")
    other_store = acme.Store(tmp_path / "second")
    with client_of(store, NOT_A_CA) as first, client_of(other_store) as second:
        with acme.Manager(first, solver, on_event=events) as manager:
            with pytest.raises(TypeError, match="client must be Client"):
                manager.add_ca(other_store)
            with pytest.raises(acme.InvalidArgument, match="this CA already"):
                manager.add_ca(first)
            manager.add_ca(second)
            manager.add(["one.cas-python.test"])
            with pytest.raises(acme.Misuse, match="before the certificates"):
                manager.add_ca(second)
            manager.start()
            paused = until(events, EventType.CA_PAUSED)
            assert (paused.name, paused.ca) == ("", NOT_A_CA) and isinstance(paused.error, acme.AcmeError)
            moved = until(events, EventType.OTHER_CA)
            assert (moved.name, moved.ca) == ("one.cas-python.test", NOT_A_CA) and moved.error is not None
            event = until(events, EventType.OBTAINED)
            assert event.ca == env("ACME_DIRECTORY")
            verify(event.certificate, ["one.cas-python.test"], tmp_path)
            assert 'acme_ca_paused{ca="127.0.0.1"} ' in manager.metrics()
        assert other_store.certificate("one.cas-python.test").serial == event.certificate.serial
        assert store.certificate("one.cas-python.test") is None

        # The next start uses it.
        with acme.Manager(first, solver, on_event=events) as manager:
            manager.add_ca(second)
            manager.add(["one.cas-python.test"])
            manager.start()
            loaded = until(events, EventType.LOADED)
            assert loaded.certificate.serial == event.certificate.serial
            assert loaded.ca == env("ACME_DIRECTORY")


def test_any_program_that_shares_the_store_responds_to_http01(tmp_path, events):
    path = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    with client_of(acme.Store(tmp_path / "state")) as ca, client_of(acme.Store(tmp_path / "state")) as other:
        with acme.Manager(ca, on_event=events) as manager:
            assert manager.http01_answer(path) is None
            ca.register()
            answer = acme.http01_answer(ca.account_thumbprint, path)
            assert manager.http01_answer(path) == answer is not None
            assert manager.http01_answer("/") is None
        with acme.Manager(other, on_event=events) as manager:
            manager.add(["nobody-asks.cas-python.test"])
            manager.start()
            until(events, EventType.FAILED)  # this program has read the account by then
            assert manager.http01_answer(path) == answer


def test_a_certificate_on_demand_is_obtained_if_the_program_allows_it(tmp_path, solver, events, caplog):
    asked = []

    def ask(name):
        asked.append(name)
        if name == "bug.cas-python.test":
            raise RuntimeError("of the program")
        return name == "shop.cas-python.test"

    with client_of(acme.MemoryStore()) as ca, acme.Manager(ca, solver, on_event=events) as manager:
        with pytest.raises(TypeError, match="ask must be callable"):
            manager.on_demand(None)
        manager.on_demand(ask, timeout=120)
        manager.start()
        for name in "stranger.cas-python.test", "bug.cas-python.test", "localhost", "shop.cas-python.test":
            assert manager.certificate(name) is None
        event = until(events, EventType.OBTAINED)
        verify(event.certificate, ["shop.cas-python.test"], tmp_path)
        assert manager.certificate("shop.cas-python.test").serial == event.certificate.serial
        assert sorted(asked) == ["bug.cas-python.test", "shop.cas-python.test", "stranger.cas-python.test"]
        assert [one["name"] for one in manager.status()] == ["shop.cas-python.test"]
    assert "of the program" in caplog.text
