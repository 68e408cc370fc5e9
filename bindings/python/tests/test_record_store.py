"""MemoryStore, stores of a program's own, and sealed ones."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import acme_micro as acme
from acme_micro import _native_store
from conftest import env, verify
from test_store import solver

__all__ = ["solver"]

NAMES = ["records.test", "www.records.test"]


class Table(acme.RecordStore):
    """A store in a database."""

    def __init__(self, path: Path):
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._lock = threading.Lock()
        self._database.execute("CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, version INT, value BLOB)")
        self._database.execute("CREATE TABLE IF NOT EXISTS versions (last INT)")
        self.threads: set[int] = set()
        self.failing: dict[str, BaseException] = {}

    def _begin(self, method: str) -> None:
        self.threads.add(threading.get_ident())
        if method in self.failing:
            raise self.failing[method]

    def get(self, name: str) -> tuple[int, bytes] | None:
        self._begin("get")
        with self._lock:
            found = self._database.execute("SELECT version, value FROM records WHERE name = ?", (name,))
            return found.fetchone()

    def put(self, name: str, expected: int, value: bytes | None) -> int:
        self._begin("put")
        with self._lock, self._database as changing:
            found = changing.execute("SELECT version FROM records WHERE name = ?", (name,)).fetchone()
            if (found[0] if found else 0) != expected:
                raise acme.ConflictError(f"{name} has changed")
            if value is None:
                changing.execute("DELETE FROM records WHERE name = ?", (name,))
                return 0
            changing.execute("INSERT INTO versions VALUES (1)")
            (version,) = changing.execute("SELECT count(*) FROM versions").fetchone()
            changing.execute("REPLACE INTO records VALUES (?, ?, ?)", (name, version, value))
            return version

    def list(self, prefix: str, after: str, limit: int) -> Iterable[str]:
        self._begin("list")
        with self._lock:
            names = [name for (name,) in self._database.execute("SELECT name FROM records")]
        chosen = (one for one in sorted(names, key=str.encode) if one.startswith(prefix) and one > after)
        return list(chosen)[:limit]


@pytest.fixture(params=["memory", "own", "sealed", "sealed folder"])
def store(request: Any, tmp_path: Path) -> Any:
    if request.param == "memory":
        return acme.MemoryStore()
    if request.param == "sealed folder":
        return acme.SealedStore(tmp_path / "sealed", b"k" * 32)
    own = Table(tmp_path / "records.db")
    return own if request.param == "own" else acme.SealedStore(own, b"k" * 32)


@pytest.fixture
def own(tmp_path: Path) -> Table:
    return Table(tmp_path / "records.db")


def options() -> dict[str, Any]:
    return {"terms_agreed": True, "ca_file": env("ACME_CA_FILE")}


def client(store: Any) -> acme.Client:
    return store.client(env("ACME_DIRECTORY"), **options())


def async_client(store: Any) -> acme.AsyncClient:
    return store.async_client(env("ACME_DIRECTORY"), **options())


def stored(store: Any, name: str = NAMES[0]) -> acme.Certificate | None:
    return store.certificate(env("ACME_DIRECTORY"), name)


def test_a_store_keeps_its_promises(store):
    store.check()


def test_a_certificate_is_kept_and_renewed_when_it_is_time(store, standalone, tmp_path, new_pebble):
    assert stored(store) is None
    with client(store) as ca:
        assert ca.account_url is None
        first = store.obtain(ca, NAMES, standalone)
        verify(first, NAMES, tmp_path)
        account = ca.account_url
    with client(store) as ca:
        assert store.obtain(ca, NAMES, standalone).serial == first.serial
        assert ca.account_url == account
        renewed = store.obtain(ca, NAMES, standalone, renew_now=True)
        assert renewed.serial != first.serial and renewed.key.pem == first.key.pem
        changed = store.obtain(
            ca, NAMES, standalone, renew_now=True, new_key=True, key_type=acme.KeyType.P384
        )
        assert changed.key.type == acme.KeyType.P384
        named = store.obtain(ca, NAMES, standalone, name="web server")
    assert stored(store).serial == changed.serial and stored(store).key.pem == changed.key.pem
    assert stored(store, "web server").serial == named.serial


def test_certificates_at_once_on_an_event_loop(store, solver, tmp_path):
    async def obtain() -> list[acme.Certificate]:
        async with async_client(store) as ca:
            return await asyncio.gather(
                *(store.obtain_async(ca, [f"{one}.records.test"], solver) for one in "ab")
            )

    asyncio.run(obtain())
    verify(stored(store, "b.records.test"), ["b.records.test"], tmp_path)


def test_an_order_of_the_client_itself_is_not_kept(store, standalone):
    with client(store) as ca:
        assert ca.obtain(NAMES, standalone).key is not None
        with pytest.raises(acme.Misuse, match="http01_answer"):
            ca.account_thumbprint
        with pytest.raises(acme.Unsupported, match="old key"):
            ca.change_key(acme.PrivateKey.generate())
    assert stored(store) is None


def test_wrong_arguments_are_named(store, client, standalone):
    for name in "account_key", "account_url":
        with pytest.raises(acme.InvalidArgument, match=f"^{name} comes from the store"):
            store.client(env("ACME_DIRECTORY"), **{name: None})
    with pytest.raises(acme.InvalidArgument, match="client is not from"):
        store.obtain(client, NAMES, standalone)
    with store.client(env("ACME_DIRECTORY")) as ca:
        with pytest.raises(acme.InvalidArgument, match="key"):
            store.obtain(ca, NAMES, standalone, key=acme.PrivateKey.generate())
        with pytest.raises(TypeError, match="^name must be str"):
            store.obtain(ca, NAMES, standalone, name=5)


def test_the_methods_of_an_own_store_may_run_on_other_threads(own, standalone):
    with client(own) as ca:
        own.obtain(ca, NAMES, standalone)
    assert own.threads == {threading.get_ident()}

    async def again() -> None:
        async with async_client(own) as ca:
            await own.obtain_async(ca, NAMES, standalone)

    asyncio.run(again())
    assert len(own.threads) > 1


def obtain(store: Table, solver: Any) -> acme.Certificate:
    with client(store) as ca:
        return store.obtain(ca, NAMES, solver)


def obtain_on_a_loop(store: Table, solver: Any) -> acme.Certificate:
    async def run() -> acme.Certificate:
        async with async_client(store) as ca:
            return await store.obtain_async(ca, NAMES, solver)

    return asyncio.run(run())


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
@pytest.mark.parametrize("method", ["get", "put"])
def test_an_exception_of_a_method_is_the_cause(own, standalone, way, method):
    own.failing[method] = failure = RuntimeError("the database is away")
    with pytest.raises(acme.StoreError, match=f"the store's {method} function") as caught:
        way(own, standalone)
    assert caught.value.__cause__ is failure and not caught.value.permanent
    with pytest.raises(acme.StoreError) as caught:
        own.check()
    assert caught.value.__cause__ is failure
    own.failing.clear()
    assert way(own, standalone).names


def test_an_exception_of_a_method_while_a_certificate_is_read(own):
    own.failing["get"] = failure = OSError("the database is away")
    with pytest.raises(acme.StoreError) as caught:
        stored(own)
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
def test_a_certificate_that_cannot_be_stored_is_in_the_error(own, standalone, way):
    class Failing(type(standalone)):
        def unpublish(self, challenges):
            super().unpublish(challenges)
            own.failing["put"] = RuntimeError("the disk is full")

    with pytest.raises(acme.StoreError) as caught:
        way(own, Failing(int(env("PEBBLE_HTTP_PORT"))))
    assert set(caught.value.certificate.names) == set(NAMES) and caught.value.certificate.key
    assert isinstance(caught.value.__cause__, RuntimeError)
    own.failing.clear()
    assert way(own, standalone).serial == caught.value.certificate.serial


def test_another_program_that_has_written_goes_on(own, standalone):
    class Overtaken(type(standalone)):
        def publish(self, challenges):
            super().publish(challenges)
            (name,) = own.list("certificate/", "", 10)
            version, value = own.get(name)
            own.put(name, version, value)

    with client(own) as ca:
        with pytest.raises(acme.ConflictError, match="has changed"):
            own.obtain(ca, NAMES, Overtaken(int(env("PEBBLE_HTTP_PORT"))))
        assert own.obtain(ca, NAMES, standalone).names


def test_ctrl_c_in_a_method_is_raised(own, standalone):
    own.failing["put"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        obtain(own, standalone)
    own.failing.clear()
    assert obtain(own, standalone).names


@pytest.mark.parametrize(
    ("broken", "error", "why"),
    [
        ({"get": lambda self, name: None}, acme.Misuse, ""),
        ({"put": lambda self, name, expected, value: 0}, acme.StoreError, "the version 0 is not in"),
        ({"put": lambda self, name, expected, value: "1"}, acme.StoreError, "a version must be int"),
        ({"get": lambda self, name: (1, "text")}, acme.StoreError, "a value must be bytes"),
        ({"list": lambda self, prefix, after, limit: [5]}, acme.StoreError, "a name must be str"),
        ({"revision": lambda self: 7}, acme.Misuse, "a record has changed, and the revision has not"),
    ],
)
def test_a_broken_promise_is_found(own, broken, error, why):
    store = type("Broken", (Table,), broken)(":memory:")
    with pytest.raises(error) as caught:
        store.check()
    assert why in f"{caught.value} {caught.value.__cause__}"


def test_methods_that_are_missing_are_named():
    class Half(acme.RecordStore):
        def get(self, name: str) -> None:
            return None

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_a_store_is_freed_with_its_last_client(own, standalone):
    gc.collect()
    before = len(_native_store._stores)
    ca = client(own)
    assert len(_native_store._stores) == before + 1
    ca.close()
    own.check()
    del ca
    gc.collect()
    assert len(_native_store._stores) == before
