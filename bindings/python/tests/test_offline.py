"""Tests without a CA: arguments, lifetimes, files, the generated declarations, the package itself."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from conftest import openssl

import acme_micro as acme
from acme_micro import _atomic_write, _native

HERE = Path(__file__).resolve().parent.parent


def test_http01_answers_by_the_thumbprint_alone():
    token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    path = f"/.well-known/acme-challenge/{token}"
    thumb = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
    assert acme.http01_answer(thumb, path) == f"{token}.{thumb}".encode()
    assert acme.http01_answer("thumb", path) is None
    for bad in ["", "/", path + "/", path[:-30], path + "\udcff", path + "\0"]:
        assert acme.http01_answer(thumb, bad) is None


def test_versions():
    assert acme.library_version() == acme.__version__
    assert _native.acme_version_number() == (0 << 16) | (14 << 8) | 1


def test_the_declarations_are_what_the_header_says():
    subprocess.run([sys.executable, HERE / "gen_native.py", "--check"], check=True, timeout=60)


def test_f24_handles_of_different_kinds_do_not_mix():
    key = acme.PrivateKey.generate()
    with pytest.raises(ctypes.ArgumentError):
        _native.acme_cert_free(key._handle)
    with pytest.raises(TypeError, match="account_key must be PrivateKey"):
        acme.Client("https://ca.example/", "key")


def make(**options):
    key = acme.PrivateKey.generate()
    return acme.Client("https://ca.example/directory", key, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contacts": ["you@example.org"]}, "contact"),
        ({"contacts": ["mailto:\0"]}, "contacts"),
        ({"eab": ("kid", "not base64!")}, "EAB HMAC key"),
        ({"eab": ("", "AAAAAAAAAAAAAAAAAAAAAAAA")}, "EAB key id"),
        ({"account_url": "http://ca.example/1"}, "account_url"),
        ({"ca_file": "/nowhere"}, "ca_file"),
        ({"user_agent": "a\r\nb"}, "user_agent"),
    ],
)
def test_bad_options_of_a_client_are_named(options, message):
    with pytest.raises(acme.InvalidArgument, match=message) as caught:
        make(**options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "1 to 1000 names"),
        (["a_b.test"], {}, "a_b.test"),
        (["x.test", "X.test"], {}, "stands twice"),
        (["*.x.test"], {}, "dns-01"),
        (["x.test"], {"challenge_types": ["gopher-01"]}, "gopher-01"),
        (["a" * 300], {}, "the name"),
        (["x.test"], {"profile_optional": True, "timeout": 0}, "timeout"),
        (["x.test"], {"preferred_chain": "zz", "preferred_chain_by": 2}, "hexadecimal"),
        (["x.test"], {"only_if_due": True}, "replaces"),
    ],
)
def test_orders_that_cannot_succeed_are_refused_at_once(names, options, message):
    with pytest.raises(acme.InvalidArgument, match=message):
        make().begin_order(names, **options)


def test_a_text_is_not_a_list_of_names():
    with pytest.raises(TypeError, match="names"):
        make().begin_order("example.org")


def test_f24_lifetimes():
    client = make()
    op = client.begin_order(["x.test"])
    key = op.key
    client.close()
    client.close()
    with pytest.raises(ValueError, match="Client is closed"):
        client.begin_order(["x.test"])
    assert isinstance(next(op), acme.Request)
    op.close()
    del op, client
    gc.collect()
    assert "BEGIN PRIVATE KEY" in key.pem


def test_r14_when_to_try_again():
    now = datetime.now(timezone.utc)
    minute, day = timedelta(minutes=1), timedelta(days=1)
    for tries, least in (0, minute), (1, minute), (2, 10 * minute), (3, 100 * minute), (4, day):
        assert now + least <= acme.next_try(tries) <= now + 1.5 * least + minute
    assert acme.next_try(2**64 - 1) >= now + day and acme.next_try(-1) >= now + minute
    refused = acme.ProblemError("no", permanent=True)
    assert acme.next_try(1, refused) >= now + day
    limited = acme.RateLimited("later", retry_at=now + 10 * day)
    assert acme.next_try(1, limited) - limited.retry_at < timedelta(milliseconds=1)
    assert acme.next_try(1, OSError("disk full")) < now + 3 * minute


def test_r15_when_to_try_again_with_a_certificate():
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 1".split()
    certificate = acme.Certificate.parse(openssl("req", *options, "-keyout", os.devnull))
    now = datetime.now(timezone.utc)
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    # After a success the delay is the first step; a certificate for a day is due after half a day.
    assert now + minute <= acme.next_try(1, None, certificate) <= now + 3 * minute
    refused = acme.ProblemError("no", permanent=True)
    for tries, error in (4, None), (1, refused):
        assert now + 8 * hour <= acme.next_try(tries, error, certificate) <= now + 13 * hour
    limited = acme.RateLimited("later", retry_at=now + 240 * hour)
    assert acme.next_try(1, limited, certificate) > now + 239 * hour
    with pytest.raises(TypeError, match="certificate must be Certificate"):
        acme.next_try(1, None, "certificate")
    certificate.close()
    with pytest.raises(ValueError, match="certificate is closed"):
        acme.next_try(1, None, certificate)


def test_nothing_secret_is_shown():
    key = acme.PrivateKey.generate()
    secret = key.pem.split("\n")[1]
    assert secret not in repr(key) and key.thumbprint in repr(key)


def test_keys_in_files(tmp_path):
    path = tmp_path / "account.pem"
    old = os.umask(0)
    try:
        key = acme.PrivateKey.load_or_generate(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert acme.PrivateKey.load_or_generate(path).thumbprint == key.thumbprint
    assert os.listdir(tmp_path) == ["account.pem"]
    path.write_text("nonsense")
    with pytest.raises(acme.AcmeError, match="account.pem"):
        acme.PrivateKey.load_or_generate(path)
    assert path.read_text() == "nonsense", "a file that is not understood is left alone"


@pytest.mark.parametrize("has_links", [True, False])
def test_an_existing_file_is_not_replaced(tmp_path, monkeypatch, has_links):
    def no_link(*arguments, **options):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        _atomic_write.write(folder, "key", b"first", 0o600, replace=False)
        with pytest.raises(FileExistsError):
            _atomic_write.write(folder, "key", b"second", 0o600, replace=False)
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(FileExistsError):
            _atomic_write.write(folder, "link", b"second", 0o600, replace=False)
    finally:
        os.close(folder)
    assert (tmp_path / "key").read_bytes() == b"first"
    assert sorted(os.listdir(tmp_path)) == ["key", "link"]


def test_the_error_of_a_key_that_cannot_be_written_has_its_path(tmp_path):
    path = tmp_path / "none" / "account.pem"
    for write in (acme.PrivateKey.load_or_generate, acme.PrivateKey.generate().save):
        with pytest.raises(FileNotFoundError) as caught:
            write(path)
        assert caught.value.filename == str(path)


def test_encrypted_keys(tmp_path):
    from conftest import openssl

    key = acme.PrivateKey.generate()
    arguments = ("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:secret")
    encrypted = openssl(*arguments, input=key.pem)
    assert acme.PrivateKey.parse_encrypted(encrypted, "secret").thumbprint == key.thumbprint
    with pytest.raises(acme.Unsupported, match="passphrase"):
        acme.PrivateKey.parse(encrypted)
    with pytest.raises(acme.AcmeError, match="passphrase"):
        acme.PrivateKey.parse_encrypted(encrypted, "wrong")


def test_t08_the_webroot_follows_no_symbolic_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    challenge = acme.Challenge("http-01", "x.test", "t" * 30, "t.k", "/x")
    well_known, inner = (tmp_path / name for name in ("well-known", "inner"))
    well_known.mkdir()
    (inner / ".well-known").mkdir(parents=True)
    (well_known / ".well-known").symlink_to(outside)
    (inner / ".well-known" / "acme-challenge").symlink_to(outside)
    for root in (well_known, inner):
        with pytest.raises(OSError, match=str(root)):
            acme.Webroot(root).publish((challenge,))
    # A link in the place of the file is replaced, and its target is left alone.
    folder = tmp_path / "file" / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / challenge.token).symlink_to(outside / "target")
    solver = acme.Webroot(tmp_path / "file")
    solver.publish((challenge,))
    assert not (folder / challenge.token).is_symlink()
    solver.unpublish((challenge,))
    assert os.listdir(outside) == [] and os.listdir(folder) == []


def test_t09_an_error_of_the_webroot_has_its_path(tmp_path, file_system):
    challenge = acme.Challenge("http-01", "x.test", "t" * 30, "t" * 30 + ".k", "/x")
    mounts = [("size=4k", errno.ENOSPC), ("size=4k,ro", errno.EROFS)]
    for options, expected in mounts:
        root = file_system(options)
        if "ro" not in options:
            (root / ".well-known" / "acme-challenge").mkdir(parents=True)
            with pytest.raises(OSError), open(root / "full", "wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        solver = acme.Webroot(root)
        with pytest.raises(OSError, match=str(root)) as caught:
            solver.publish((challenge,))
        assert caught.value.errno == expected
        solver.unpublish((challenge,))
        if "ro" not in options:
            assert os.listdir(root / ".well-known" / "acme-challenge") == []
    (tmp_path / "file").touch()
    for root, expected in [(tmp_path / "none", errno.ENOENT), (tmp_path / "file", errno.ENOTDIR)]:
        with pytest.raises(OSError, match=str(root)) as caught:
            acme.Webroot(root).publish((challenge,))
        assert caught.value.errno == expected
        assert str(caught.value).endswith(f": '{root}/.well-known/acme-challenge'")


@pytest.fixture
def file_system(tmp_path):
    """Makes small file systems, which exist as long as the test runs."""
    mounted = []

    def mount(options):
        folder = tmp_path / f"mount{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("this needs the right to mount file systems")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_t07_a_token_of_two_names_stays_while_one_needs_it(tmp_path):
    one = acme.Challenge("http-01", "x.test", "t" * 30, "t.k", "/x")
    other = acme.Challenge("http-01", "y.test", "t" * 30, "t.k", "/x")
    solver = acme.Webroot(tmp_path)
    solver.publish((one, other))
    file = tmp_path / ".well-known" / "acme-challenge" / one.token
    solver.unpublish((one,))
    assert file.read_bytes() == b"t.k"
    solver.unpublish((other,))
    assert not file.exists()


def test_t10_the_webroot_writes_exactly_the_key_authorization(tmp_path):
    solver = acme.Webroot(tmp_path)
    challenge = acme.Challenge("http-01", "x.test", "t" * 30, "t.k", "/x")
    solver.publish((challenge,))
    file = tmp_path / ".well-known" / "acme-challenge" / challenge.token
    assert file.read_bytes() == b"t.k" and stat.S_IMODE(file.stat().st_mode) == 0o644
    solver.unpublish((challenge,))
    solver.unpublish((challenge,))
    assert not file.exists()


def test_wsgi():
    solver = acme.MemoryHttp01()
    solver.publish((acme.Challenge("http-01", "x.test", "t", "t.k", "/.well-known/x"),))
    app = solver.wsgi(lambda environ, start: [b"site"])
    said = []
    assert app({"PATH_INFO": "/.well-known/x"}, lambda *a: said.append(a)) == [b"t.k"]
    assert said[0][0] == "200 OK"
    assert app({"PATH_INFO": "/"}, None) == [b"site"]


def test_without_a_library_the_error_says_what_was_tried():
    code = "import acme_micro"
    env = {**os.environ, "ACME_MICRO_LIBRARY": "/nowhere/lib.so"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "/nowhere/lib.so" in done.stderr
