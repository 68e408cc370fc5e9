"""Manager: certificates that stay fresh by themselves."""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time

import pytest

import acme_micro as acme
from acme_micro import EventType
from conftest import env, verify
from test_store import solver

__all__ = ["solver"]


class Events:
    """Collects events, and waits for one of a type."""

    def __init__(self):
        self.seen = []
        self._queue = queue.Queue()

    def __call__(self, event):
        self.seen.append(event)
        self._queue.put(event)

    def until(self, *types):
        """Waits; a failure that the test does not wait for ends it."""
        while True:
            event = self._queue.get(timeout=120)
            if event.type in types:
                return event
            assert event.error is None, event


def client_of(store, url=None):
    return store.client(url or env("ACME_DIRECTORY"), terms_agreed=True, ca_file=env("ACME_CA_FILE"))


@pytest.fixture
def events():
    return Events()


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    return acme.Store(tmp_path / "state") if request.param == "folder" else acme.MemoryStore()


def stored(store, name):
    if isinstance(store, acme.Store):
        return store.certificate(name)
    return store.certificate(env("ACME_DIRECTORY"), name)


def test_a_certificate_is_obtained_renewed_and_there_after_a_restart(store, tmp_path, solver, events):
    with client_of(store) as ca:
        with acme.Manager(ca, solver, on_event=events) as manager:
            manager.add(["one.manager.test", "www.one.manager.test"], timeout=120)
            assert len(manager) == 1 and manager.certificate("one.manager.test") is None
            assert manager.status("one.manager.test")["state"] == "loading"
            manager.start()
            with pytest.raises(acme.Misuse, match="already"):
                manager.start()
            event = events.until(EventType.OBTAINED)
            assert event.name == "one.manager.test" and event.error is None
            assert event.next_try < event.not_after == event.certificate.not_after
            verify(event.certificate, ["one.manager.test", "www.one.manager.test"], tmp_path)
            found = manager.certificate("WWW.one.manager.test")
            assert found.serial == event.certificate.serial and found.key is not None
            assert [one["state"] for one in manager.status()] == ["valid"]
            assert 'acme_certificates{state="valid"} 1\n' in manager.metrics()
            manager.renew("one.manager.test")
            renewed = events.until(EventType.RENEWED).certificate
            assert renewed.serial != event.certificate.serial
        assert stored(store, "one.manager.test").serial == renewed.serial
        assert manager.closed

        with acme.Manager(ca, solver, on_event=events) as manager:
            manager.add(["one.manager.test", "www.one.manager.test"])
            manager.start()
            assert events.until(EventType.LOADED).certificate.serial == renewed.serial
            manager.remove("one.manager.test")
            manager.remove("one.manager.test")
            assert len(manager) == 0 and manager.certificate("one.manager.test") is None
    assert EventType.FAILED not in [event.type for event in events.seen]


def test_a_failure_has_its_reason_and_the_next_attempt_has_its_time(solver, events):
    class Full:
        challenge_types = ("http-01",)

        def publish(self, challenges):
            raise OSError(28, "No space left on device")

        def unpublish(self, challenges):
            pass

    store = acme.MemoryStore()
    with client_of(store) as ca, acme.Manager(ca, Full(), on_event=events) as manager:
        manager.add(["full.manager.test"])
        manager.start()
        event = events.until(EventType.FAILED)
        assert "No space left on device" in str(event.error) and event.certificate is None
        assert isinstance(event.error, acme.PublishFailed)
        assert 30 < event.next_try.timestamp() - time.time() < 100
        assert manager.status("full.manager.test")["failures"] == 1


def test_run_ends_when_an_event_stops_it(solver, caplog):
    def on_event(event):
        manager.stop()
        raise RuntimeError("of the program")

    store = acme.MemoryStore()
    with client_of(store) as ca, acme.Manager(ca, solver, on_event=on_event) as manager:
        manager.add(["run.manager.test"])
        with caplog.at_level(logging.ERROR, "acme_micro"):
            manager.run()
        assert manager.certificate("run.manager.test") is not None
        begin = time.monotonic()
        threading.Timer(1, manager.stop).start()
        manager.run()  # again, until it is stopped
        assert time.monotonic() - begin > 0.9
    assert "of the program" in caplog.text


def test_arguments_that_cannot_work_are_refused(tmp_path):
    store = acme.MemoryStore()
    key = acme.PrivateKey.generate()
    with acme.Client("https://ca.test/", key) as other, pytest.raises(acme.InvalidArgument, match="a store"):
        acme.Manager(other)
    with client_of(store, "https://ca.test/") as ca:
        with pytest.raises(TypeError, match="client must be Client"):
            acme.Manager(store)
        for wrong in ({"max_attempts": 0}, {"max_loaded": "x"}):
            with pytest.raises(acme.InvalidArgument, match=next(iter(wrong))):
                acme.Manager(ca, **wrong)
        with acme.Manager(ca) as manager:
            for names, options, why in (
                ([], {}, "names|empty"),
                (["127.1"], {}, "127.1"),
                (["a.test"], {"key_type": "RSA"}, "key_type"),
                (["a.test"], {"replaces": None, "order_url": "https://ca.test/order/1"}, "order_url"),
                (["a.test"], {"challenge_types": ["dns-02"]}, "dns-02"),
            ):
                with pytest.raises((acme.InvalidArgument, TypeError), match=why):
                    manager.add(names, **options)
            assert len(manager) == 0 and manager
            for call in (manager.renew, manager.status):
                with pytest.raises(acme.InvalidArgument, match="no certificate of this name"):
                    call("a.test")
            with pytest.raises(TypeError, match="server_name"):
                manager.certificate(None)
        with pytest.raises(ValueError, match="Manager is closed"):
            manager.add(["a.test"])


def test_a_forgotten_manager_is_freed():
    store = acme.MemoryStore()
    with client_of(store, "https://ca.test/") as ca:
        manager = acme.Manager(ca)
        manager.add(["a.test"])
        del manager
        gc.collect()
