"""SealedStore: what another tool makes of its records, and records that cannot be opened."""

from __future__ import annotations

import gc
import hashlib
import json
import secrets
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import acme_micro as acme
from acme_micro import _native_store
from conftest import env, verify
from test_record_store import NAMES, Table, client, stored

FIRST_LINE = b"acme-sealed 1\n"
KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)


@pytest.fixture
def own(tmp_path: Path) -> Table:
    return Table(tmp_path / "records.db")


@pytest.fixture
def filled(own, standalone) -> Table:
    """A table with a sealed account and a sealed certificate."""
    store = acme.SealedStore(own, KEY)
    with client(store) as ca:
        store.obtain(ca, NAMES, standalone)
    return own


def key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"acme-micro key id" + key).digest()[:8]


def opened(name: str, envelope: bytes, key: bytes) -> bytes:
    """Opens an envelope without the library."""
    assert envelope.startswith(FIRST_LINE + key_id(key))
    rest = envelope[len(FIRST_LINE) + 8 :]
    return AESGCM(key).decrypt(rest[:12], rest[12:], name.encode())


def records(table: Table) -> dict[str, tuple[int, bytes]]:
    return {name: table.get(name) for name in table.list("", "", 100)}


def replace(table: Table, name: str, value: bytes) -> None:
    table.put(name, table.get(name)[0], value)


def refuses(store: acme.SealedStore, table: Table, why: str) -> None:
    """Checks that a store does not open the certificate, and that an order changes nothing."""
    before = records(table)
    with pytest.raises(acme.StoreError, match=why) as caught:
        stored(store)
    assert not caught.value.permanent
    with client(store) as ca:
        with pytest.raises(acme.StoreError, match=why):
            store.obtain(ca, NAMES, acme.MemoryHttp01(), renew_now=True)
    assert records(table) == before


def test_another_tool_opens_the_records(filled, tmp_path):
    for name, (_, envelope) in records(filled).items():
        record = json.loads(opened(name, envelope, KEY))
        assert record["format"] == 1 and record["ca"] == env("ACME_DIRECTORY")
    assert acme.PrivateKey.parse(record["key"]).pem == record["key"]
    database = (tmp_path / "records.db").read_bytes()
    assert FIRST_LINE in database and b"PRIVATE KEY" not in database and b"BEGIN CERT" not in database


def test_a_record_of_another_tool_is_opened(own):
    certificate, name = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=tool.test", "-addext", "subjectAltName=DNS:tool.test", "-keyout", "-"],
        capture_output=True, text=True, check=True,
    ).stdout, "certificate/127.0.0.1_dir/tool.test"  # fmt: skip
    key, _, chain = certificate.partition("-----BEGIN CERTIFICATE-----")
    record = {"format": 1, "key": key, "chain": f"-----BEGIN CERTIFICATE-----{chain}"}
    nonce = secrets.token_bytes(12)
    sealed = AESGCM(KEY).encrypt(nonce, json.dumps(record).encode(), name.encode())
    own.put(name, 0, FIRST_LINE + key_id(KEY) + nonce + sealed)
    found = acme.SealedStore(own, KEY).certificate("https://127.0.0.1/dir", "tool.test")
    assert found.names == ("tool.test",) and found.is_for(found.key)


def test_each_flipped_byte_is_refused(filled):
    store = acme.SealedStore(filled, KEY)
    (name,) = filled.list("certificate/", "", 10)
    envelope = filled.get(name)[1]
    for at in range(len(envelope)):
        bad = bytearray(envelope)
        bad[at] ^= 1 << at % 8
        replace(filled, name, bytes(bad))
        with pytest.raises(acme.StoreError, match="damaged|not sealed|newer version|needs the key"):
            stored(store)
        assert filled.get(name)[1] == bytes(bad)
    refuses(store, filled, "damaged")
    replace(filled, name, envelope)
    assert stored(store).key is not None


def test_exchanged_records_are_refused(filled):
    names = filled.list("", "", 10)
    one, two = (filled.get(name)[1] for name in names)
    replace(filled, names[0], two)
    replace(filled, names[1], one)
    refuses(acme.SealedStore(filled, KEY), filled, "another record's")


def test_a_wrong_key_names_the_right_one(filled):
    refuses(acme.SealedStore(filled, OTHER), filled, f"needs the key {key_id(KEY).hex()}.*{key_id(OTHER).hex()}")


def test_the_key_changes(filled, standalone, tmp_path):
    store = acme.SealedStore(filled, OTHER, KEY)
    first = stored(store)
    with client(store) as ca:
        renewed = store.obtain(ca, NAMES, standalone, renew_now=True)
    assert renewed.serial != first.serial and renewed.key.pem == first.key.pem
    verify(renewed, NAMES, tmp_path)
    ids = [value[len(FIRST_LINE) :][:8] for _, value in records(filled).values()]
    assert ids == [key_id(KEY), key_id(OTHER)]  # the account's record was only read
    store.reseal()
    before = records(filled)
    store.reseal()
    assert records(filled) == before
    store = acme.SealedStore(filled, OTHER)
    with client(store) as ca:
        assert store.obtain(ca, NAMES, standalone).serial == renewed.serial


def test_plain_records_become_sealed(own, standalone):
    with client(own) as ca:
        cert = own.obtain(ca, NAMES, standalone)
    refuses(acme.SealedStore(own, KEY), own, "is not sealed")
    accepting = acme.SealedStore(own, KEY, accept_plain=True)
    assert stored(accepting).serial == cert.serial
    accepting.reseal()
    assert all(value.startswith(FIRST_LINE) for _, value in records(own).values())
    assert stored(acme.SealedStore(own, KEY)).key.pem == cert.key.pem
    assert stored(acme.SealedStore(own, OTHER, KEY)).key.pem == cert.key.pem


def test_a_folder_becomes_sealed(tmp_path, standalone):
    with acme.Store(tmp_path / "state") as plain:
        with plain.client(env("ACME_DIRECTORY"), ca_file=env("ACME_CA_FILE"), terms_agreed=True) as ca:
            cert = plain.obtain(ca, NAMES, standalone)
    with pytest.raises(acme.StoreError, match="is not sealed"):
        stored(acme.SealedStore(tmp_path / "state", KEY))
    acme.SealedStore(tmp_path / "state", KEY, accept_plain=True).reseal()
    store = acme.SealedStore(tmp_path / "state", KEY)
    with client(store) as ca:
        assert store.obtain(ca, NAMES, standalone).serial == cert.serial
    files = {path.name for path in (tmp_path / "state").iterdir()} - {".lock", "directory.url"}
    assert len(files) == 2 and all(name.endswith(".record") for name in files)
    assert all((tmp_path / "state" / name).stat().st_mode & 0o777 == 0o600 for name in files)


def test_a_hundred_names_fit(own, standalone, tmp_path):
    names = [f"{'n' * 40}{number}.{'label' * 8}.records.test" for number in range(100)]
    store = acme.SealedStore(own, KEY)
    with client(store) as ca:
        cert = store.obtain(ca, names, standalone, name="many", key_type=acme.KeyType.RSA4096)
    assert stored(store, "many").serial == cert.serial


def test_wrong_arguments_are_named(tmp_path):
    inner = acme.MemoryStore()
    with pytest.raises(acme.InvalidArgument, match="^key has 31 bytes, not 32"):
        acme.SealedStore(inner, b"k" * 31)
    with pytest.raises(acme.InvalidArgument, match="^old_key has 0 bytes"):
        acme.SealedStore(inner, KEY, b"")
    with pytest.raises(TypeError, match="^key must be bytes, not str"):
        acme.SealedStore(inner, "k" * 32)
    with pytest.raises(acme.InvalidArgument, match="all bytes of the key are 0"):
        acme.SealedStore(inner, bytes(32))
    with pytest.raises(TypeError, match="^store must be a MemoryStore.*not Store"):
        acme.SealedStore(acme.Store(tmp_path / "state"), KEY)
    with pytest.raises(acme.StoreError, match="No such file"):
        acme.SealedStore(tmp_path / "none" / "state", KEY)


def test_an_exception_of_the_other_store_is_the_cause(filled):
    store = acme.SealedStore(filled, KEY)
    filled.failing["get"] = failure = OSError("the database is away")
    for act in (lambda: stored(store), store.check, lambda: store.certificate(env("ACME_DIRECTORY"), "x")):
        with pytest.raises(acme.StoreError, match="the store's get function") as caught:
            act()
        assert caught.value.__cause__ is failure


def test_no_text_has_the_key(filled):
    store = acme.SealedStore(filled, b"0123456789abcdef" * 2)
    with pytest.raises(acme.StoreError) as caught:
        stored(store)
    for text in repr(store), str(caught.value), repr(caught.value), repr(vars(store)):
        assert "0123456789abcdef" not in text


def test_a_store_is_freed_with_its_last_client(own):
    gc.collect()
    before = len(_native_store._stores)
    ca = client(acme.SealedStore(own, KEY))
    gc.collect()
    assert len(_native_store._stores) == before + 1
    ca.close()
    del ca
    gc.collect()
    assert len(_native_store._stores) == before
