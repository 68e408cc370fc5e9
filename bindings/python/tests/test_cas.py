"""A manager with several CAs, and with certificates on demand."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

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


def metrics_of(manager):
    """Returns the metrics as an independent parser reads them: name and labels to value."""
    families = text_string_to_metric_families(manager.metrics())
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


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
            metrics = metrics_of(manager)
            first_name, second_name = (url.split("//")[1].replace("/", "_") for url in (first.directory_url, second.directory_url))
            assert metrics["acme_certificates", "valid"] == metrics["acme_results_total", "obtained"] == 1
            assert metrics["acme_ca_paused", first_name] in (0, 1) and metrics["acme_ca_paused", second_name] == 0
            assert metrics["acme_requests_total", first_name] >= 1
            assert 8 <= metrics["acme_requests_total", second_name] <= 20
            assert metrics["acme_failures_total", "Transport"] == 1 and metrics["acme_attempts_total",] == 2
            expiry = event.certificate.not_after.timestamp()
            assert metrics["acme_first_expiry_timestamp_seconds",] == int(expiry)
            assert metrics["acme_next_try_timestamp_seconds",] < expiry
            [status] = manager.status()
            assert (status["ca"], status["names"]) == (second.directory_url, ["one.cas-python.test"])
            assert "error" not in status and status["failures"] == 0
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


def test_the_status_has_the_last_error_until_an_attempt_succeeds(solver, events):
    class Full:
        challenge_types = ("http-01",)

        def publish(self, challenges):
            if full:
                raise OSError(28, "No space left on device")
            solver.publish(challenges)

        def unpublish(self, challenges):
            solver.unpublish(challenges)

    full = True
    with client_of(acme.MemoryStore()) as ca, acme.Manager(ca, Full(), on_event=events) as manager:
        manager.add(["full.cas-python.test"])
        manager.start()
        until(events, EventType.FAILED)
        status = manager.status("full.cas-python.test")
        assert status["state"] == "missing" and "No space left on device" in status["error"]
        assert metrics_of(manager)["acme_failures_total", "Host"] == 1
        full = False
        manager.renew("full.cas-python.test")
        until(events, EventType.OBTAINED)
        assert "error" not in manager.status("full.cas-python.test")
