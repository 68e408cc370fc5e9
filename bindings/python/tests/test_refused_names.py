"""Names that no CA certifies: refused with a reason, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import acme_micro as acme
from command_runs import Person
from outside import env

BAD = [
    "", ".", "*", ".example.org", "..example.org", "a..b", "-a.test", "a_b.test", "*x.test", "*.*.x.test",
    "https://a.test", "a.test:80", "a.test/path", "user@a.test", "[::1]", "fe80::1%eth0", "192.0.2.0/24",
    "1.2.3", "127.1", "10.0.0.256", "1.2.3.4.5", "*.1.2.3", "0x7f.1", "2130706433", "a.0x1f",
    "::ffff:127.0.0.1", "::FFFF:c000:207", "::192.0.2.7", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255",
    "a\u200b.test", "a b.test", "x" * 64 + ".test", "\uff11.\uff12.test",
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> acme.Store:
    return acme.Store(tmp_path / "store")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize("name", BAD)
def test_o36_r17_the_store_and_the_client_refuse_the_name_and_leave_nothing(name, tmp_path, store):
    options = {"ca_file": env("ACME_CA_FILE"), "terms_agreed": True}
    webroot = acme.Webroot(tmp_path)
    with store.client(env("ACME_DIRECTORY"), **options) as client:
        before = files(tmp_path)
        for names in ([name], ["good.test", name]):
            for call in (
                lambda: store.obtain(client, names, webroot),
                lambda: client.obtain(names, webroot),
                lambda: client.begin_authorize(names),
            ):
                with pytest.raises(acme.InvalidArgument, match="the name "):
                    call()
        assert client.account_url is None, "a request was sent"
    with pytest.raises(acme.InvalidArgument, match="the name "):
        asyncio.run(obtain_async(store, name, options, webroot))
    assert files(tmp_path) == before


async def obtain_async(store: acme.Store, name: str, options: dict, webroot: acme.Webroot) -> None:
    async with store.async_client(env("ACME_DIRECTORY"), **options) as client:
        await store.obtain_async(client, [name], webroot)


@pytest.mark.parametrize("name", [name for name in BAD if name.strip(".") and name[0] != "-"])
def test_o36_r17_the_command_refuses_the_name_and_leaves_nothing(name, tmp_path):
    person = Person(tmp_path / "acme")
    for domains in (["-d", name], ["-d", "good.test", "-d", name]):
        for way in (["--webroot", str(tmp_path)], ["--hook", "true"]):
            run = person.obtains(*domains, *way, status=2)
            assert "the name " in run.err or "wildcard" in run.err, run.err
            assert "is no name for a file" not in run.err and "Traceback" not in run.err
    assert not person.folder.exists()


@pytest.mark.parametrize("name", ["*.1.2.3.4", "*.::1", "*.1", "*.*.a.test"])
def test_o36_r17_a_wildcard_that_no_ca_certifies_gets_no_advice_on_publishing(name, tmp_path):
    person = Person(tmp_path / "acme")
    for way in ["--webroot", str(tmp_path)], ["--hook", "true", "--challenge-type", "http-01"], []:
        err = person.obtains("-d", name, *way, status=2).err
        assert "the name " in err and "dns-01" not in err and "--webroot" not in err, err


def test_o36_r17_a_refused_name_does_not_touch_the_stored_certificate(tmp_path, store, standalone):
    with store.client(
        env("ACME_DIRECTORY"), ca_file=env("ACME_CA_FILE"), terms_agreed=True
    ) as client:
        store.obtain(client, ["r17.test"], standalone)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(acme.InvalidArgument, match="10.0.0.256"):
            store.obtain(client, ["r17.test", "10.0.0.256"], standalone)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
