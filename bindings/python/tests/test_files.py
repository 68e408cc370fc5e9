"""Certificate.write_files: files that servers read."""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path

import pytest

import acme_micro as acme
from conftest import env, verify

NAMES = ["files.test", "www.files.test"]
ALL = {"chain": "chain.pem", "key": "key.pem", "certificate": "cert.pem", "issuers": "ca.pem"}


@pytest.fixture
def cert(client, standalone) -> acme.Certificate:
    return client.obtain(NAMES, standalone)


def parsed(path: Path) -> acme.Certificate:
    return acme.Certificate.load(path)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def made(name: str) -> acme.Certificate:
    """A certificate without a CA."""
    challenge = acme.Challenge(
        type="tls-alpn-01", identifier=name, token="t", key_authorization="t.k", tls_alpn_digest=bytes(32)
    )
    return acme.Certificate.tls_alpn(challenge)


def test_servers_can_use_the_files(cert, tmp_path):
    folder, combined = tmp_path / "site", tmp_path / "both.pem"
    cert.write_files(folder=folder, combined=combined, key_mode=0o640, **ALL)
    assert (folder / "chain.pem").read_text() == cert.chain_pem
    assert (folder / "cert.pem").read_text() + (folder / "ca.pem").read_text() == cert.chain_pem
    assert (folder / "cert.pem").read_text().count("BEGIN") == 1 and parsed(folder / "ca.pem").names == ()
    assert (folder / "key.pem").read_text() == cert.key.pem
    assert combined.read_text() == cert.key.pem + cert.chain_pem
    assert (mode(combined), mode(folder / "key.pem"), mode(folder / "cert.pem")) == (0o640, 0o640, 0o644)
    for files in (folder / "chain.pem", folder / "key.pem"), (combined, None):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    verify(cert, NAMES, tmp_path)


def test_each_renewal_replaces_all_files(cert, client, standalone, tmp_path):
    cert.write_files(folder=tmp_path / "site", chain="chain.pem", key="key.pem")
    renewed = client.obtain(NAMES, standalone)
    renewed.write_files(folder=tmp_path / "site", chain="chain.pem", key="key.pem")
    assert parsed(tmp_path / "site/chain.pem").serial == renewed.serial
    assert (tmp_path / "site/key.pem").read_text() == renewed.key.pem != cert.key.pem
    assert len(os.listdir(tmp_path)) == 3, "the old folder is gone: the link, its folder and the lock stay"


def test_a_certificate_of_a_folder_has_its_key(standalone, tmp_path):
    with acme.Store(tmp_path / "state") as store:
        with store.client(env("ACME_DIRECTORY"), ca_file=env("ACME_CA_FILE"), terms_agreed=True) as ca:
            store.obtain(ca, NAMES, standalone)
        store.certificate(NAMES[0]).write_files(combined=tmp_path / "both.pem")
        key, chain = (Path(file(NAMES[0])).read_text() for file in (store.key_file, store.chain_file))
    assert (tmp_path / "both.pem").read_text() == key + chain


def test_a_reader_never_sees_an_old_and_a_new_file_together(tmp_path):
    certs = [made("one.test"), made("two.test")]
    pairs = {(one.chain_pem, one.key.pem) for one in certs}
    folder, combined = tmp_path / "site", tmp_path / "both.pem"
    ended, wrong = threading.Event(), list[object]()

    def read() -> None:
        while not ended.is_set():
            key, mark, chain = combined.read_text().partition("-----BEGIN CERTIFICATE-----")
            if (mark + chain, key) not in pairs:
                wrong.append(key)
            # A reader that holds the folder gets its files, unless they are removed meanwhile.
            try:
                held = os.open(folder, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                texts = []
                for name in "chain.pem", "key.pem":
                    with open(os.open(name, os.O_RDONLY, dir_fd=held)) as file:
                        texts.append(file.read())
                if tuple(texts) not in pairs:
                    wrong.append(texts)
            except FileNotFoundError:
                pass
            finally:
                os.close(held)

    def write(cert: acme.Certificate) -> None:
        cert.write_files(folder=folder, combined=combined, chain="chain.pem", key="key.pem")

    write(certs[0])
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(200):
        write(certs[number % 2])
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_the_key_of_a_parsed_certificate_comes_from_elsewhere(tmp_path):
    cert, other = made("parsed.test"), acme.PrivateKey.generate()
    alone = acme.Certificate.parse(cert.chain_pem)
    alone.write_files(folder=tmp_path / "site", chain="chain.pem")
    with pytest.raises(acme.InvalidArgument, match="has no key"):
        alone.write_files(combined=tmp_path / "both.pem")
    with pytest.raises(acme.InvalidArgument, match="not the certificate's"):
        alone.write_files(combined=tmp_path / "both.pem", private_key=other)
    assert not (tmp_path / "both.pem").exists()
    alone.write_files(combined=tmp_path / "both.pem", private_key=cert.key)
    assert (tmp_path / "both.pem").read_text() == cert.key.pem + cert.chain_pem


def test_wrong_arguments_are_named(tmp_path):
    cert, good = made("wrong.test"), {"combined": tmp_path / "both.pem"}
    for wrong, why in [
        ({}, "no file is named"),
        ({"folder": tmp_path / "site"}, "no file is named"),
        ({**good, "chain": "chain.pem"}, "without a folder"),
        ({"folder": tmp_path / "site", "chain": "../chain.pem"}, "a path"),
        ({"folder": tmp_path / "site", "chain": "a", "key": "a"}, "the same name"),
        ({**good, "key_mode": 0o644}, "lets others use the key"),
        ({**good, "mode": -1}, "^mode is -1"),
        ({**good, "group": 1 << 32}, "^group is 4294967296"),
        ({**good, "folder": "a\0b", "chain": "c"}, "^folder contains a NUL"),
    ]:
        with pytest.raises(acme.InvalidArgument, match=why):
            cert.write_files(**wrong)
    with pytest.raises(TypeError, match="^mode must be int"):
        cert.write_files(**good, mode="0644")
    with pytest.raises(TypeError, match="^private_key must be PrivateKey"):
        cert.write_files(**good, private_key="key")
    with pytest.raises(acme.StoreError, match="none.*No such file"):
        cert.write_files(combined=tmp_path / "none" / "both.pem")
    assert list(tmp_path.iterdir()) == []


def test_files_for_another_user_and_group(tmp_path):
    cert = made("owner.test")
    if os.geteuid() == 0:
        cert.write_files(combined=tmp_path / "both.pem", owner=1234, group=4321)
        found = (tmp_path / "both.pem").stat()
        assert (found.st_uid, found.st_gid) == (1234, 4321)
    else:
        with pytest.raises(acme.StoreError, match="not permitted"):
            cert.write_files(combined=tmp_path / "both.pem", owner=os.geteuid() + 1)
