"""Store: a folder belongs to one CA, and its account and keys have a way out."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import acme_micro as acme
from conftest import env, openssl
from outside import another_pebble
from small_ca import small_ca
from test_store import solver, store

__all__ = ["solver", "store"]

NAME = "moved.test"


@pytest.fixture(scope="module")
def other() -> Iterator[dict[str, str]]:
    """Another CA on this host, which validates nothing."""
    with another_pebble("--env", "PEBBLE_VA_ALWAYS_VALID=1") as pebble:
        yield pebble


def client(store: acme.Store, ca: Any = os.environ, **options: Any) -> acme.Client:
    options = {"terms_agreed": True, "ca_file": ca["ACME_CA_FILE"], **options}
    return store.client(ca["ACME_DIRECTORY"], **options)


def obtain(store: acme.Store, solver: Any, ca: Any = os.environ, name: str = NAME, **options: Any) -> Any:
    with client(store, ca) as at:
        return store.obtain(at, [name], solver, **options)


def obtain_on_a_loop(store: acme.Store, solver: Any, ca: Any = os.environ, name: str = NAME) -> Any:
    async def run() -> acme.Certificate:
        options = {"terms_agreed": True, "ca_file": ca["ACME_CA_FILE"]}
        async with store.async_client(ca["ACME_DIRECTORY"], **options) as at:
            return await store.obtain_async(at, [name], solver)

    return asyncio.run(run())


def path(store: acme.Store, name: str) -> Path:
    return Path(store.folder) / name


def issuer(store: acme.Store, name: str = NAME) -> str:
    return openssl("x509", "-in", store.chain_file(name), "-noout", "-issuer")


# --- one CA -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
@pytest.mark.parametrize("gone", [(), ("account.url",), ("account.pem", "account.url")])
def test_u01_another_ca_gets_another_folder_r01(store, solver, other, way, gone):
    way(store, solver)
    kept = Path(store.chain_file(NAME)).read_text()
    for file in gone:
        path(store, file).unlink()
    with pytest.raises(acme.StoreError, match="use another folder for"):
        way(store, solver, other)
    with acme.Client(other["ACME_DIRECTORY"], acme.PrivateKey.generate(), terms_agreed=True,
                     ca_file=other["ACME_CA_FILE"]) as own:  # fmt: skip
        with pytest.raises(acme.StoreError, match="use another folder for"):
            store.obtain(own, [NAME], solver)
    assert Path(store.chain_file(NAME)).read_text() == kept
    assert way(store, solver).chain_pem == kept


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
@pytest.mark.parametrize("gone", [(), ("account.url",), ("account.pem", "account.url")])
def test_u01_a_certificate_in_an_older_folder_is_not_taken_for_another_cas_r01(
    store, solver, other, way, gone
):
    way(store, solver)
    way(store, solver, name="second.test")
    before = issuer(store)
    path(store, "directory.url").unlink(missing_ok=True)  # an older version wrote none
    for file in gone:
        path(store, file).unlink()
    if not gone:  # the account is the other CA's, too
        with pytest.raises(acme.AccountError):
            way(store, solver, other)
        store.set_account_aside()
    way(store, solver, other)
    assert issuer(store) != before
    way(store, solver, other, "second.test")
    assert issuer(store, "second.test") == issuer(store) != before
    newest = Path(store.chain_file(NAME)).read_text()
    assert way(store, solver, other).chain_pem == newest, "once it is renewed, it stays"


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
def test_u01_an_older_folder_of_the_same_ca_keeps_its_certificates_r01(store, solver, way):
    first = way(store, solver)
    path(store, "directory.url").unlink()
    assert way(store, solver).serial == first.serial
    assert path(store, "directory.url").read_text() == f"{env('ACME_DIRECTORY')}\n"
    assert stat.S_IMODE(path(store, "directory.url").stat().st_mode) == 0o644


def test_u01_the_same_ca_may_be_written_otherwise_r01(store, solver):
    first = obtain(store, solver)
    directory = env("ACME_DIRECTORY").replace("https://localhost", "HTTPS://LOCALHOST")
    with store.client(directory, terms_agreed=True, ca_file=env("ACME_CA_FILE")) as ca:
        assert store.obtain(ca, [NAME], solver).serial == first.serial


@pytest.mark.parametrize("known", [False, True])
def test_an_account_from_elsewhere_is_not_kept(store, solver, known):
    own = store.account_key().pem
    key = acme.PrivateKey.generate()
    with client(store, account_key=key) as ca:
        url = ca.register()
    with client(store, account_key=key, account_url=url if known else None) as ca:
        assert store.obtain(ca, [NAME], solver).serial == store.certificate(NAME).serial
        assert (ca.account_url, ca.account_thumbprint) == (url, key.thumbprint)
    assert store.account_url is None and path(store, "account.pem").read_text() == own


# --- accounts that the CA does not have any more ---------------------------------------------------------


def deactivate_elsewhere(store: acme.Store) -> None:
    with client(store) as copy:
        copy.deactivate()


def lose_key(store: acme.Store) -> None:
    path(store, "account.pem").unlink()


def restore_other_key(store: acme.Store) -> None:
    path(store, "account.pem").write_text(acme.PrivateKey.generate().pem)


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
@pytest.mark.parametrize("death", [deactivate_elsewhere, restore_other_key])
def test_u03_a_dead_account_is_set_aside_and_certificates_renew_again_r03(store, solver, way, death):
    first = obtain(store, solver)
    death(store)
    key, url = store.account_key().pem, store.account_url
    path(store, f"{NAME}.chain.pem").rename(path(store, "old.pem"))
    with pytest.raises(acme.AccountError, match=r"Store.set_account_aside\(\)"):
        way(store, solver)
    assert store.account_key().pem == key and store.account_url == url, "nothing is replaced by itself"
    store.set_account_aside()
    renewed = way(store, solver)
    assert renewed.serial != first.serial and store.account_url != url
    assert path(store, "account.pem.unused").read_text() == key
    assert path(store, "account.url.unused").read_text().strip() == url
    store.set_account_aside()
    assert path(store, "account.pem.unused").read_text() == key, "an earlier key is not overwritten"
    assert path(store, "account.pem.unused.2").exists()


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
def test_u03_without_its_key_the_url_of_an_account_is_not_used_r03(store, solver, way, caplog):
    first = way(store, solver)
    old = store.account_url
    lose_key(store)
    path(store, f"{NAME}.chain.pem").unlink()
    assert way(store, solver).serial != first.serial
    assert store.account_url != old and f"the account {old}" in caplog.text


def test_u03_an_account_with_some_of_its_files_is_set_aside_r03(store):
    key = store.account_key().pem
    store.set_account_aside()
    assert path(store, "account.pem.unused").read_text() == key
    store.set_account_aside()
    path(store, "account.url").write_text("https://localhost/1\n")
    store.set_account_aside()
    assert sorted(file.name for file in Path(store.folder).glob("account.*")) == [
        "account.pem.unused", "account.url.unused",
    ]  # fmt: skip


@pytest.mark.parametrize("way", [obtain, obtain_on_a_loop])
@pytest.mark.parametrize(("file", "text"), [("pem", ""), ("url", "hello\n"), ("url", "https://hello/1\n")])
def test_u03_a_damaged_file_of_the_account_is_named_r03(store, solver, way, file, text):
    way(store, solver)
    path(store, f"account.{file}").write_text(text)
    with pytest.raises(acme.StoreError, match=rf"account\.{file}: .*Store.set_account_aside\(\)") as caught:
        way(store, solver)
    assert caught.value.path == str(path(store, f"account.{file}"))
    store.set_account_aside()
    way(store, solver)


@pytest.mark.parametrize("problem", ["serverInternal", "unauthorized", "malformed"])
def test_u28_a_ca_that_lost_its_accounts_is_named_r28(store, tmp_path, problem):
    with small_ca(of_order={"type": problem, "status": 500 if problem == "serverInternal" else 403}) as ca:
        with store.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE")) as at:
            at.register()
            # The account is there: the error stays what it is.
            with pytest.raises(acme.ProblemError, match=problem) as caught:
                store.obtain(at, [NAME], acme.Webroot(tmp_path))
            assert not isinstance(caught.value, acme.AccountError)
            ca.of_account = {"type": "accountDoesNotExist", "status": 400}
            with pytest.raises(acme.AccountError, match="set_account_aside"):
                store.obtain(at, [NAME], acme.Webroot(tmp_path))


# --- revoked keys ---------------------------------------------------------------------------------------

COMPROMISED = acme.RevocationReason.KEY_COMPROMISE


def revoke(store: acme.Store, certificate: acme.Certificate, *reason: Any) -> None:
    with client(store) as ca:
        ca.revoke(certificate, *reason)


def revoke_on_a_loop(store: acme.Store, certificate: acme.Certificate, *reason: Any) -> None:
    async def run() -> None:
        options = {"terms_agreed": True, "ca_file": env("ACME_CA_FILE")}
        async with store.async_client(env("ACME_DIRECTORY"), **options) as ca:
            await ca.revoke(certificate, *reason)

    asyncio.run(run())


@pytest.mark.parametrize("way", [revoke, revoke_on_a_loop])
def test_u04_a_compromised_key_is_not_certified_again_r04(store, solver, way, tmp_path):
    first = obtain(store, solver)
    obtain(store, solver, name="kept.test")
    newer = obtain(store, solver, renew_now=True)
    key = Path(store.key_file(NAME)).read_text()
    # The older certificate is named by a copy; the newer one has the same key.
    (tmp_path / "copy.pem").write_text(first.chain_pem)
    way(store, acme.Certificate.load(tmp_path / "copy.pem"), COMPROMISED)
    assert path(store, f"{NAME}.key.pem.revoked").read_text() == key
    assert path(store, f"{NAME}.chain.pem.revoked").read_text() == newer.chain_pem
    assert store.certificate(NAME) is None and store.certificate("kept.test") is not None
    again = obtain(store, solver)
    assert again.key.pem != key and not again.is_for(newer.key)
    way(store, again, COMPROMISED)
    assert path(store, f"{NAME}.key.pem.revoked").read_text() == key, "it is not overwritten"
    assert path(store, f"{NAME}.key.pem.revoked.2").read_text() == again.key.pem


def test_u04_for_other_reasons_only_the_certificate_itself_is_set_aside_r04(store, solver):
    first = obtain(store, solver)
    newer = obtain(store, solver, renew_now=True)
    revoke(store, first, acme.RevocationReason.SUPERSEDED)
    assert obtain(store, solver).serial == newer.serial
    revoke(store, newer)
    assert obtain(store, solver).serial != newer.serial


def test_u04_a_killed_revocation_retires_the_key_r04(store, solver, caplog):
    first = obtain(store, solver)
    with client(store) as ca:
        ca.begin_revoke(first, COMPROMISED)  # the program is killed: nothing else follows
    again = obtain(store, solver)
    assert again.key.pem != first.key.pem
    assert path(store, f"{NAME}.key.pem.revoked").read_text() == first.key.pem
    assert "a revocation was begun and has not ended" in caplog.text
    assert f"{NAME}.chain.pem.revoked" in caplog.text and not path(store, f"{NAME}.revoking").exists()


@pytest.mark.parametrize("moved", [("chain",), ("key",), ("chain", "key")])
@pytest.mark.parametrize("kept", [True, False])
def test_u04_a_killed_revocation_ends_whatever_files_are_left_r04(store, solver, moved, kept, caplog):
    first = obtain(store, solver)
    path(store, f"{NAME}.revoking").write_text("KEY_COMPROMISE\n")
    for file in moved:
        old = path(store, f"{NAME}.{file}.pem")
        old.rename(f"{old}.revoked") if kept else old.unlink()
    again = obtain(store, solver)
    assert again.key.pem != first.key.pem and not path(store, f"{NAME}.revoking").exists()
    assert f"revoke {path(store, NAME)}.chain.pem.revoked" in caplog.text
    assert ".revoked.2" not in caplog.text


def test_u04_a_compromised_key_without_its_chain_is_retired_r04(store, solver):
    first = obtain(store, solver)
    path(store, f"{NAME}.chain.pem").unlink()
    revoke(store, first, COMPROMISED)
    assert path(store, f"{NAME}.key.pem.revoked").read_text() == first.key.pem
    assert obtain(store, solver).key.pem != first.key.pem


def test_u04_a_refused_revocation_retires_a_compromised_key_only_r04(store, solver):
    first = obtain(store, solver)
    with client(store, account_key=acme.PrivateKey.generate(), account_url=None) as stranger:
        with pytest.raises(acme.AcmeError):
            stranger.revoke(first)
        assert obtain(store, solver).serial == first.serial
        with pytest.raises(acme.AcmeError):
            stranger.revoke(first, COMPROMISED)
    assert obtain(store, solver).key.pem != first.key.pem


def test_u04_a_folder_that_cannot_be_written_is_found_before_the_ca_is_asked_r04(store, solver, monkeypatch):
    first = obtain(store, solver)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with client(store) as ca, monkeypatch.context() as patch:
        patch.setattr("acme_micro._atomic_write.write", full)
        with pytest.raises(acme.StoreError, match="No space left"):
            ca.revoke(first)
    with client(store) as ca, monkeypatch.context() as patch:
        patch.setattr("acme_micro._folder.Folder.retire", lambda *_: full())
        with pytest.raises(OSError):
            ca.revoke(first)
    assert obtain(store, solver).key.pem != first.key.pem


def test_u04_the_error_says_first_that_the_ca_has_revoked_r04(store, solver, monkeypatch):
    first = obtain(store, solver)

    def read_only(folder: Any, name: str, ending: str) -> str:
        raise acme.StoreError.of(folder.path_of(name), OSError(30, "Read-only file system"))

    with client(store) as ca, monkeypatch.context() as patch:
        patch.setattr("acme_micro._folder.Folder.retire", read_only)
        with pytest.raises(acme.StoreError, match="the CA has revoked it, but .*Read-only"):
            ca.revoke(first)


# --- keys for a group ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o440])
def test_u15_a_certificates_key_may_be_for_a_group_r15(store, solver, mode):
    first = obtain(store, solver)
    key = Path(store.key_file(NAME))
    key.chmod(mode)
    assert obtain(store, solver, renew_now=True).key.pem == first.key.pem
    assert stat.S_IMODE(key.stat().st_mode) == mode
    key.chmod(mode | 0o004)
    with pytest.raises(acme.StoreError, match="others can read this key"):
        obtain(store, solver)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can give a folder away")
def test_u15_root_may_use_the_folder_of_another_user_r15(store, solver):
    first = obtain(store, solver)
    for one in Path(store.folder), *Path(store.folder).iterdir():
        os.chown(one, 12345, 12345)
    assert obtain(store, solver, renew_now=True).key.pem == first.key.pem
    assert {one.stat().st_uid for one in Path(store.folder).iterdir()} == {12345}
    os.chown(store.key_file(NAME), 23456, -1)  # of a third user
    with pytest.raises(acme.StoreError, match="belongs to another user"):
        obtain(store, solver)


# --- spellings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "file"),
    [
        (["müller.test", "xn--mller-kva.test", "MÜLLER.test.", "XN--MLLER-kva.TEST"], "xn--mller-kva.test"),
        (["*.straße.test", "*.xn--strae-oqa.test"], "_.xn--strae-oqa.test"),
        (["::1", "0:0:0:0:0:0:0:1", "0::0:1"], "::1"),
        (["2001:DB8:0::00A", "2001:db8::a"], "2001:db8::a"),
        (["plain.test", "Plain.Test."], "plain.test"),
    ],
)
def test_u16_each_spelling_of_a_name_is_one_certificate_r16(store, spellings, file):
    for name in spellings:
        assert store.key_file(name) == f"{store.folder}/{file}.key.pem"
    path(store, f"{file}.chain.pem").write_text("")
    (listed,) = store.names()
    assert store.chain_file(listed) == str(path(store, f"{file}.chain.pem"))


def test_u16_another_spelling_is_no_reason_to_order_r16(store, solver, tmp_path):
    first = obtain(store, solver, name="müller.test")
    assert obtain(store, solver, name="xn--mller-kva.test").serial == first.serial
    assert obtain(store, solver, name="Müller.test.").serial == first.serial
    shown = openssl("x509", "-in", store.chain_file("müller.test"), "-noout", "-ext", "subjectAltName")
    assert "DNS:xn--mller-kva.test" in shown
    with small_ca() as ca, acme.Store(tmp_path / "two") as two:
        with two.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE")) as at:
            for name in "müller.test", "xn--mller-kva.test":
                with pytest.raises(FileNotFoundError):
                    two.obtain(at, [name], acme.Webroot(tmp_path / "nowhere"))
        assert ca.orders == 1, "the order is resumed"


def test_u16_files_of_an_older_version_are_found_r16(store, solver):
    first = obtain(store, solver, name="müller.test")
    for ending in "key.pem", "chain.pem":
        path(store, f"xn--mller-kva.test.{ending}").rename(path(store, f"m%C3%BCller.test.{ending}"))
    assert store.names() == ("müller.test",)
    for name in "müller.test", "MÜLLER.test", "xn--mller-kva.test":
        assert store.certificate(name).key.pem == first.key.pem
        assert obtain(store, solver, name=name, renew_now=True).key.pem == first.key.pem
    assert store.names() == ("müller.test",)


def test_u16_two_certificates_of_an_older_version_both_stay_in_use_r16(store):
    """An older version kept one for each spelling, and servers may use both."""
    for file in "m%C3%BCller.test", "xn--mller-kva.test", "0:0:0:0:0:0:0:1", "::1":
        path(store, f"{file}.chain.pem").write_text("")
    for name in store.names():
        assert store._stored_name(name) == name
    assert len({store.chain_file(name) for name in store.names()}) == 4


@pytest.mark.parametrize("name", ["50% off", "a b", "süß und 3", "x=41", "1;2", "$HOME", "a/b"])
def test_u16_names_of_files_are_usable_in_units_and_crontabs_r16(store, name):
    file = os.path.basename(store.key_file(name))
    assert set(file) <= set("abcdefghijklmnopqrstuvwxyzABCDEF0123456789.-_=")
    path(store, file.replace(".key.pem", ".chain.pem")).write_text("")
    assert store.names() == (name.lower(),)
