"""Store: its files, and what can go wrong with them."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import pickle
import stat
import subprocess
import sys
import textwrap
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import acme_micro as acme
from acme_micro import _atomic_write, _folder
from acme_micro._folder import Folder
from conftest import env, verify
from small_ca import SmallCa, small_ca
from webroot_server import serving

NAMES = ["keeper.test", "www.keeper.test"]
# The token of a challenge that a killed run has left.
LEFT = "left-by-a-run-that-was-killed"


@pytest.fixture
def store(tmp_path: Path) -> acme.Store:
    return acme.Store(tmp_path / "store")


@pytest.fixture
def solver(tmp_path: Path) -> Iterator[acme.Webroot]:
    (tmp_path / "webroots" / "one").mkdir(parents=True)
    with serving(tmp_path / "webroots", int(env("PEBBLE_HTTP_PORT"))):
        yield acme.Webroot(tmp_path / "webroots" / "one")


def client(store: acme.Store) -> acme.Client:
    return store.client(env("ACME_DIRECTORY"), terms_agreed=True, ca_file=env("ACME_CA_FILE"))


def async_client(store: acme.Store) -> acme.AsyncClient:
    return store.async_client(env("ACME_DIRECTORY"), terms_agreed=True, ca_file=env("ACME_CA_FILE"))


def path(store: acme.Store, name: str) -> Path:
    return Path(store.folder) / name


def files(folder: str | Path) -> list[str]:
    """Returns the files in a folder, without the lock."""
    return sorted(set(os.listdir(folder)) - {".lock"})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- stored files -----------------------------------------------------------------------------------


def test_a_certificate_is_kept_and_renewed_when_it_is_time(store, solver, tmp_path, new_pebble):
    with client(store) as ca:
        first = store.obtain(ca, NAMES, solver)
        verify(first, NAMES, tmp_path)
        again = store.obtain(ca, NAMES, solver)
        assert again.serial == first.serial and again.key.pem == first.key.pem
        renewed = store.obtain(ca, NAMES, solver, renew_now=True)
        assert renewed.serial != first.serial and renewed.key.pem == first.key.pem
        other = store.obtain(ca, [*NAMES, "more.keeper.test"], solver)
        assert len(other.names) == 3
        assert store.account_url == ca.account_url
    assert store.names() == ("keeper.test",)
    assert store.certificate("keeper.test").serial == other.serial
    assert store.certificate("nobody.test") is None
    assert Path(store.chain_file("keeper.test")).read_text() == other.chain_pem
    assert Path(store.key_file("keeper.test")).read_text() == other.key.pem
    assert repr(store) == f"<Store {store.folder}>"
    with acme.Store(store.folder) as same, client(same) as ca:
        assert same.account_key().pem == store.account_key().pem
        assert ca.account_url == store.account_url


def test_a_final_dot_is_not_part_of_a_name(store, solver):
    async def again() -> acme.Certificate:
        async with async_client(store) as ca:
            return await store.obtain_async(ca, ["keeper.test", "www.keeper.test."], solver)

    with client(store) as ca:
        first = store.obtain(ca, ["keeper.test.", "www.keeper.test"], solver)
    assert asyncio.run(again()).serial == first.serial
    assert store.names() == ("keeper.test",)
    assert store.chain_file("keeper.test.") == store.chain_file("keeper.test")
    assert store.certificate("keeper.test.") is not None


def test_an_order_is_resumed_for_the_name_with_a_final_dot(store, tmp_path):
    nowhere = acme.Webroot(tmp_path / "nowhere")
    with small_ca() as ca, store.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE")) as client:
        for names in (NAMES, [f"{name}." for name in NAMES]):
            with pytest.raises(FileNotFoundError):
                store.obtain(client, names, nowhere)
        assert ca.orders == 1 and "keeper.test.order" in files(store.folder)


# --- keys that a CA refuses ---------------------------------------------------------------------------


def refused(store: acme.Store, how: str, solver: acme.Webroot, ca: SmallCa) -> None:
    """Uses a key for which the CA creates no account."""
    options = {"ca_file": env("ACME_CA_FILE")}

    async def on_a_loop() -> None:
        async with store.async_client(f"{ca.url}/dir", **options) as client:
            await (client.register() if how == "async" else store.obtain_async(client, NAMES, solver))

    if how.startswith("async"):
        return asyncio.run(on_a_loop())
    with store.client(f"{ca.url}/dir", **options) as client:
        if how == "register":
            client.register()
        elif how == "obtain":
            store.obtain(client, NAMES, solver)
        else:
            for step in client.begin_order(NAMES):
                step.send()


@pytest.mark.parametrize("problem", ["badPublicKey", "badSignatureAlgorithm"])
@pytest.mark.parametrize("how", ["register", "obtain", "steps", "async", "async obtain"])
def test_an_account_key_that_the_ca_refuses_is_set_aside(store, solver, caplog, how, problem):
    key = store.account_key(acme.KeyType.P521)
    with small_ca(of_account={"type": problem, "status": 400}) as ca:
        with pytest.raises(acme.ProblemError, match=problem):
            refused(store, how, solver, ca)
        assert "the CA refuses this key" in caplog.text
        assert acme.PrivateKey.load(path(store, "account.pem.unused")).thumbprint == key.thumbprint
        assert store.account_key().type == acme.KeyType.P256
        ca.of_account = None
        with store.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE")) as client:
            client.register()


def test_an_account_key_that_may_have_an_account_stays(store, solver, caplog):
    text = store.account_key().pem
    refusal = {"type": "badPublicKey", "status": 400}
    with small_ca(of_order=refusal, of_account=None) as ca:
        # The CA refuses the certificate's key, and the account is known.
        with pytest.raises(acme.ProblemError):
            refused(store, "obtain", solver, ca)
        ca.of_account = refusal
        with store.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE"), account_url=None) as client:
            with pytest.raises(acme.ProblemError):
                client.register()
        # Only a registration can set the key aside: without one, an account may exist.
        path(store, "account.url").unlink()
        with store.client(f"{ca.url}/dir", ca_file=env("ACME_CA_FILE")) as client:
            with pytest.raises(acme.ProblemError):
                client.find_account()
        # Another thread is working in the folder, perhaps with another key.
        with store._locked("x.test"):
            other = acme.Store(store.folder)
            with pytest.raises(acme.ProblemError):
                refused(other, "register", solver, ca)
    assert path(store, "account.pem").read_text() == text and "refuses this key" not in caplog.text


def test_certificates_at_once_on_an_event_loop(store, solver, tmp_path):
    async def obtain() -> list[acme.Certificate]:
        async with async_client(store) as ca:
            # The third is the first one again: it waits, and finds the certificate.
            lists = [["a.keeper.test"], ["b.keeper.test"], ["a.keeper.test"]]
            return await asyncio.gather(*(store.obtain_async(ca, names, solver) for names in lists))

    a, b, again = asyncio.run(obtain())
    assert a.serial == again.serial != b.serial
    assert store.names() == ("a.keeper.test", "b.keeper.test")
    verify(store.certificate("b.keeper.test"), ["b.keeper.test"], tmp_path)


def test_a_task_that_is_cancelled_leaves_an_order_to_resume(store, solver):
    class Slow:
        challenge_types = ("http-01",)

        async def publish(self, challenges):
            task.cancel()
            await asyncio.sleep(60)

        async def unpublish(self, challenges):
            pass

    task: Any = None

    async def twice() -> tuple[str, str]:
        nonlocal task
        async with async_client(store) as ca:
            task = asyncio.ensure_future(store.obtain_async(ca, NAMES, Slow()))
            with pytest.raises(asyncio.CancelledError):
                await task
            order = path(store, "keeper.test.order").read_text()
            await store.obtain_async(ca, NAMES, solver)
            return order.split("\norder ")[1].split()[0], await ca.orders()

    order, orders = asyncio.run(twice())
    assert order in orders and len(orders) == 1


def journal(store: acme.Store, ca: acme.Client, url: str, *names: str, directory: str = "") -> str:
    key = acme.PrivateKey.load(path(store, "keeper.test.key.pem")).thumbprint
    lines = ["acme-order 1", f"directory {directory or ca.directory_url}", f"account {ca.account_thumbprint}"]
    lines += [f"key {key}", *(f"name {name}" for name in names or NAMES), "runs 1"]
    return "".join(f"{line}\n" for line in [*lines, *([f"order {url}"] if url else [])])


def test_x11_x13_an_order_that_cannot_be_resumed_is_replaced(store, solver):
    with client(store) as ca:
        wanted = store.obtain(ca, NAMES, solver).serial
        url = ca.directory_url.replace("/dir", "/my-order/none")
        for text in (
            journal(store, ca, url),
            journal(store, ca, url, "x.test"),
            journal(store, ca, url, directory="https://other.test/dir"),
        ):
            path(store, "keeper.test.order").write_text(text)
            got = store.obtain(ca, NAMES, solver, renew_now=True).serial
            assert got != wanted
            wanted = got
            assert not path(store, "keeper.test.order").exists()


def test_x11_an_invalid_order_is_replaced(store, solver):
    nobody = acme.MemoryHttp01()
    with client(store) as ca:
        with pytest.raises(acme.ChallengeFailed):
            store.obtain(ca, NAMES, nobody)
        assert not path(store, "keeper.test.order").exists()
        # An order that failed without this store.
        operation = ca.begin_order(NAMES)
        with pytest.raises(acme.ChallengeFailed):
            operation.run(nobody)
        path(store, "keeper.test.order").write_text(journal(store, ca, operation.order_url))
        assert store.obtain(ca, NAMES, solver).names


def test_x14_an_order_is_replaced_after_three_killed_runs(store, solver):
    class Deadly(acme.Webroot):
        def publish(self, challenges):
            os._exit(1)

    with client(store) as ca:
        ca.register()
        for run in (1, 2, 3):
            if (child := os.fork()) == 0:
                with client(store) as again:
                    store.obtain(again, NAMES, Deadly(solver._path))
            assert os.waitpid(child, 0)[1] >> 8 == 1
            assert f"\nruns {run}\n" in path(store, "keeper.test.order").read_text()
        store.obtain(ca, NAMES, solver)
        assert len(ca.orders()) == 2


@pytest.mark.parametrize("text", ["order", "\0\1\2", "order https://x\n", "x" * 1000])
def test_x08_an_unreadable_journal_is_set_aside(store, solver, text, caplog):
    with client(store) as ca:
        path(store, "keeper.test.order").write_text(text)
        assert store.obtain(ca, NAMES, solver)
    assert "keeper.test.order: not readable" in caplog.text
    assert not path(store, "keeper.test.order").exists()
    assert path(store, "keeper.test.order.bad").read_text() == text


def test_x08_a_newer_journal_is_an_error_and_a_huge_one_is_set_aside(store, solver):
    with client(store) as ca:
        path(store, "keeper.test.order").write_text("acme-order 2\norder https://x\n")
        with pytest.raises(acme.StoreError, match="a newer version of this library wrote its order"):
            store.obtain(ca, NAMES, solver)
        with open(path(store, "keeper.test.order"), "w") as file:
            file.truncate(1 << 30)
        assert store.obtain(ca, NAMES, solver)
    assert path(store, "keeper.test.order.bad").stat().st_size == 1 << 30


def test_x12_a_journal_can_be_used_twice(store, solver):
    with client(store) as ca:
        first = store.obtain(ca, NAMES, solver)
        (url,) = ca.orders()
        text = journal(store, ca, url)
        chain = path(store, "keeper.test.chain.pem")
        for _ in range(2):  # a backup from before the certificate came
            path(store, "keeper.test.order").write_text(text)
            chain.unlink()
            assert store.obtain(ca, NAMES, solver).serial == first.serial
        assert ca.orders() == (url,)


def test_x09_x16_lost_and_old_files_are_replaced(store, solver, caplog):
    with client(store) as ca:
        first = store.obtain(ca, NAMES, solver)
        path(store, "keeper.test.key.pem").unlink()
        assert store.certificate("keeper.test") is None
        second = store.obtain(ca, NAMES, solver)
        assert second.serial != first.serial and second.is_for(second.key)
        path(store, "keeper.test.key.pem").write_text(first.key.pem)  # from an older backup
        assert store.certificate("keeper.test") is None
        assert "is for another key" in caplog.text
        third = store.obtain(ca, NAMES, solver)
        assert third.key.pem == first.key.pem and third.is_for(first.key)
        path(store, "keeper.test.chain.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
        assert store.certificate("keeper.test") is None
        assert store.obtain(ca, NAMES, solver).serial != third.serial


def test_x05_t13_challenges_of_a_killed_program_are_removed(store, solver, tmp_path):
    with client(store) as ca:
        class Killed(acme.Webroot):
            def publish(self, challenges):
                super().publish(challenges)
                raise KeyboardInterrupt

            def unpublish(self, challenges):
                pass

        root = tmp_path / "webroots" / "one"
        with pytest.raises(KeyboardInterrupt):
            store.obtain(ca, NAMES, Killed(root))
        left = list((root / ".well-known" / "acme-challenge").iterdir())
        assert len(left) == 2
        text = path(store, "keeper.test.order").read_text()
        assert all(f"\npublished {file.name} http-01 " in text for file in left)
        assert store.obtain(ca, NAMES, solver)
        assert list((root / ".well-known" / "acme-challenge").iterdir()) == []
        assert len(ca.orders()) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_x05_leftover_challenges_are_removed_at_the_end_and_a_failure_stops_nothing(store, solver, tmp_path, is_async):
    seen: list[str] = []

    class Watched(acme.Webroot):
        def publish(self, challenges):
            seen.append("publish")
            super().publish(challenges)

        def unpublish(self, challenges):
            tokens = [challenge.token for challenge in challenges]
            seen.append("left" if LEFT in tokens else "unpublish")
            if LEFT in tokens:
                raise OSError("it cannot be taken down")
            super().unpublish(challenges)

    watched = Watched(tmp_path / "webroots" / "one")
    with client(store) as ca:
        store.obtain(ca, NAMES, solver)
        left = journal(store, ca, "") + f"published {LEFT}\n"
    for more in ([], ["more.keeper.test"]):
        path(store, "keeper.test.order").write_text(left)
        if is_async:

            async def obtain():
                async with async_client(store) as ca:
                    await store.obtain_async(ca, [*NAMES, *more], watched, renew_now=True)

            asyncio.run(obtain())
        else:
            with client(store) as ca:
                store.obtain(ca, [*NAMES, *more], watched, renew_now=True)
        assert seen[-1] == "left" and seen.count("left") == 1
        assert not path(store, "keeper.test.order").exists()
        seen.clear()


def test_a_published_challenge_follows_from_its_token(store, solver, tmp_path):
    removed: list[acme.Challenge] = []

    class Watched(acme.Webroot):
        challenge_types = ("http-01", "dns-01")

        def unpublish(self, challenges):
            removed.extend(challenges)
            super().unpublish(challenge for challenge in challenges if challenge.type == "http-01")

    with client(store) as ca:
        store.obtain(ca, NAMES, solver)
        left = f"published {LEFT} dns-01 x.test _acme-challenge.x.test\n"
        path(store, "keeper.test.order").write_text(journal(store, ca, "") + left)
        store.obtain(ca, NAMES, Watched(solver._path), renew_now=True)
        authorization = f"{LEFT}.{ca.account_thumbprint}"
    (one,) = [challenge for challenge in removed if challenge.token == LEFT]
    digest = hashlib.sha256(authorization.encode()).digest()
    assert one.dns_value == urlsafe_b64encode(digest).decode().rstrip("=")
    assert (one.key_authorization, one.dns_name) == (authorization, "_acme-challenge.x.test")


# --- permissions, and other programs ----------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177, 0o777])
def test_s01_modes_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = acme.Store(tmp_path / "store")
        store.account_key()
        store._folder.write("x.chain.pem", b"x", _folder.PUBLIC)
        acme.PrivateKey.generate().save(tmp_path / "saved.pem")
        acme.PrivateKey.load_or_generate(tmp_path / "made.pem")
    finally:
        os.umask(before)
    assert mode(Path(store.folder)) == 0o700
    assert mode(path(store, "account.pem")) == mode(path(store, ".lock")) == 0o600
    assert mode(path(store, "x.chain.pem")) == 0o644
    assert mode(tmp_path / "saved.pem") == mode(tmp_path / "made.pem") == 0o600


@pytest.mark.parametrize("lax", [0o644, 0o640, 0o604, 0o660])
def test_s02_a_key_that_others_can_read_is_refused(store, lax):
    store.account_key()
    path(store, "account.pem").chmod(lax)
    with pytest.raises(acme.StoreError, match="others can read this key; chmod 600 it") as caught:
        store.account_key()
    assert caught.value.path == str(path(store, "account.pem"))
    assert caught.value.errno == errno.EPERM and isinstance(caught.value, OSError)
    path(store, "account.pem").chmod(0o600)
    store.account_key()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can give a file away")
def test_s02_a_key_of_another_user_is_refused(store, monkeypatch):
    store.account_key()
    os.chown(path(store, "account.pem"), 12345, -1)
    with pytest.raises(acme.StoreError, match="belongs to another user"):
        store.account_key()


def test_s02_a_folder_that_anybody_can_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(acme.StoreError, match="anybody can write to this folder"):
        acme.Store(tmp_path / "open")


def test_y13_programs_at_once_obtain_one_certificate(store, solver):
    program = f"""
        import os, acme_micro as acme
        store = acme.Store({store.folder!r})
        with store.client(os.environ["ACME_DIRECTORY"], terms_agreed=True,
                          ca_file=os.environ["ACME_CA_FILE"]) as ca:
            print(store.obtain(ca, {NAMES!r}, acme.Webroot({str(solver._path)!r})).serial)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    serials = {program.communicate(timeout=60)[0] for program in programs}
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert len(serials) == 1
    with client(store) as ca:
        assert len(ca.orders()) == 1


def at_work(store: acme.Store, publish: str) -> subprocess.Popen[str]:
    """Starts a program that obtains a certificate, and does this when it is to publish challenges."""
    program = f"""
        import os, signal, time, acme_micro as acme
        class Slow(acme.MemoryHttp01):
            def publish(self, challenges):
                {publish}
                time.sleep(600)
        store = acme.Store({store.folder!r})
        with store.client(os.environ["ACME_DIRECTORY"], terms_agreed=True,
                          ca_file=os.environ["ACME_CA_FILE"]) as ca:
            store.obtain(ca, {NAMES!r}, Slow())
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)


def test_y13_y14_the_lock_of_a_killed_program_is_released(store, solver):
    holder = at_work(store, "print('locked', flush=True)")
    assert holder.stdout.readline() == "locked\n"
    impatient = acme.Store(store.folder, lock_timeout=0.2)
    with client(impatient) as ca, pytest.raises(acme.StoreError) as caught:
        impatient.obtain(ca, NAMES, solver)
    assert "another program or thread has been at work here" in str(caught.value)
    assert caught.value.errno == errno.EWOULDBLOCK and not caught.value.permanent
    waiter = threading.Thread(target=store.set_account_aside)
    waiter.start()
    time.sleep(0.2)
    assert path(store, "account.pem").exists()
    holder.kill()
    holder.wait()
    waiter.join(30)
    assert path(store, "account.pem.unused").exists()


def test_y13_y14_stores_from_before_a_fork_obtain_one_certificate(store, solver):
    with client(store) as ca:
        ca.register()
        children = []
        for _ in range(3):
            if (child := os.fork()) == 0:
                status = 1
                try:
                    with client(store) as mine:
                        status = 0 if store.obtain(mine, NAMES, solver) else 2
                finally:
                    os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert len(ca.orders()) == 1


def test_y14_a_child_of_a_killed_program_keeps_no_lock(store):
    fork = "(child := os.fork()) and (print(child, flush=True), os.kill(os.getpid(), signal.SIGKILL))"
    holder = at_work(store, fork)
    child = int(holder.stdout.readline())
    try:
        holder.wait(30)
        os.kill(child, 0)  # it is running
        acme.Store(store.folder, lock_timeout=30).set_account_aside()
        assert path(store, "account.pem.unused").exists()
    finally:
        os.kill(child, 9)


def test_a_closed_store_raises_an_error(store, solver):
    with client(store) as ca:
        store.close()
        store.close()
        for what in (store.names, lambda: store.certificate("x.test"), store.account_key,
                     lambda: store.obtain(ca, NAMES, solver)):  # fmt: skip
            with pytest.raises(acme.StoreError, match="the store is closed"):
                what()


def test_wrong_arguments_are_named(store, tmp_path):
    for folder in (None, 5, b"folder"):
        with pytest.raises(TypeError, match="^folder must be"):
            acme.Store(folder)
    with pytest.raises(acme.InvalidArgument, match="folder"):
        acme.Store("a\0b")
    with pytest.raises(TypeError, match="^lock_timeout must be a number, not str"):
        acme.Store(tmp_path, lock_timeout="x")
    for number in (-1, float("nan")):
        with pytest.raises(acme.InvalidArgument, match="lock_timeout"):
            acme.Store(tmp_path, lock_timeout=number)
    with client(store) as ca:
        nobody = acme.MemoryHttp01()
        for names in ("x.test", b"x.test", 5, None):
            with pytest.raises(TypeError, match="^names must be a list of str, not"):
                store.obtain(ca, names, nobody)
        with pytest.raises(TypeError, match="^name must be str, not int"):
            store.obtain(ca, NAMES, nobody, name=5)


# --- failing system calls, and other files ----------------------------------------------------------

CALLS = ("open", "fchmod", "write", "fsync", "close", "rename")


class Failing:
    """The module os with a function whose n-th call fails; a close fails after it has closed."""

    def __init__(self, function: str, nth: int, error: int):
        self.function, self.left, self.error = function, nth, error

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name != self.function:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if name == "close":
                    os.close(*arguments)
                raise OSError(self.error, os.strerror(self.error))
            return function(*arguments, **options)

        return call


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Keeps the folder of an earlier test from being closed during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.ESTALE]
)
def test_w01_w02_w03_w14_each_system_call_fails(tmp_path, monkeypatch, function, error):
    folder = Folder(tmp_path)
    folder.write("file", b"old", 0o600)
    monkeypatch.setattr(_atomic_write, "os", Failing(function, 1, error))
    with pytest.raises(acme.StoreError, match=os.strerror(error)) as caught:
        folder.write("file", b"new", 0o600)
    assert (caught.value.errno, caught.value.path) == (error, str(tmp_path / "file"))
    assert str(caught.value) == f"{tmp_path}/file: {os.strerror(error)}"
    assert pickle.loads(pickle.dumps(caught.value)).errno == error
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    folder.write("file", b"new", 0o600)
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.usefixtures("no_garbage")
def test_w02_a_folder_that_cannot_be_synced_is_an_error(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    monkeypatch.setattr(_atomic_write, "os", Failing("fsync", 2, errno.EIO))
    with pytest.raises(acme.StoreError):
        folder.write("file", b"new", 0o600)
    assert (tmp_path / "file").read_bytes() == b"new"  # complete, but perhaps not durable


def test_w04_short_writes(tmp_path, monkeypatch):
    class Short:
        def __getattr__(self, name: str) -> Any:
            return (lambda file, data: os.write(file, data[:1])) if name == "write" else getattr(os, name)

    monkeypatch.setattr(_atomic_write, "os", Short())
    Folder(tmp_path).write("file", b"all of it", 0o600)
    assert (tmp_path / "file").read_bytes() == b"all of it"


def make(kind: str, at: Path, target: Path) -> None:
    if kind == "symlink":
        at.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(at)
    elif kind == "directory":
        at.mkdir()
    else:
        at.symlink_to(at)  # ELOOP


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "loop"])
@pytest.mark.parametrize("name", ["account.pem", "account.url", "x.test.key.pem", "x.test.chain.pem", "x.test.order"])
def test_w06_another_kind_of_file_is_refused(store, tmp_path, kind, name):
    account = acme.PrivateKey.generate()
    target = tmp_path / "target"
    target.write_text(account.pem)
    target.chmod(0o600)
    make(kind, path(store, name), target)
    with pytest.raises(acme.StoreError) as caught:
        # No server is listening: the file is noticed before any request.
        with store.client("https://localhost:9/dir", terms_agreed=True) as ca:
            store.obtain(ca, ["x.test"], acme.MemoryHttp01())
    assert caught.value.path == str(path(store, name))
    with pytest.raises(acme.StoreError):
        store._folder.write(name, b"new", 0o600)
    assert target.read_text() == account.pem
    assert os.path.lexists(path(store, name))


def test_w06_a_hard_link_is_not_written_through(store, tmp_path):
    store.account_key()
    os.link(path(store, "account.pem"), tmp_path / "other")
    before = (tmp_path / "other").read_text()
    store._folder.write("account.pem", b"new", 0o600)
    assert (tmp_path / "other").read_text() == before


def test_w07_a_link_in_place_of_the_folder_is_not_followed(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.rename(store.folder, tmp_path / "moved")
    os.symlink(elsewhere, store.folder)
    store.account_key()
    assert os.listdir(elsewhere) == []
    assert files(tmp_path / "moved") == ["account.pem"]


def test_w08_w09_x06_temporary_files_have_names_that_cannot_be_guessed(store, monkeypatch):
    path(store, "tmp-0123456789abcdef").write_text("left by a program that was killed")
    path(store, "tmp-mine").write_text("not ours")
    foreseen = iter([bytes(8), bytes(8), b"12345678"])
    path(store, "tmp-" + "0" * 16).symlink_to("account.pem")  # another user has guessed the name
    # Work in the folder begins with the removal of leftover files.
    store.account_key()
    assert files(store.folder) == ["account.pem", "tmp-mine"]
    path(store, "tmp-" + "0" * 16).symlink_to("account.pem")
    before = path(store, "account.pem").read_text()
    monkeypatch.setattr(os, "urandom", lambda size: next(foreseen))
    store._folder.write("file", b"new", 0o600)
    assert path(store, "account.pem").read_text() == before
    assert path(store, "file").read_text() == "new"


def test_a_temporary_file_that_is_being_written_is_not_a_leftover_file(store, tmp_path):
    folder = os.open(store.folder, os.O_RDONLY)
    with _atomic_write.temporary(folder, b"data", 0o600, prefix="tmp-") as name:
        store.account_key()  # begins with the removal of leftover files
        assert files(store.folder) == ["account.pem", name]
    os.close(folder)
    with store._locked("other"):
        assert files(store.folder) == ["account.pem"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Example.ORG", "example.org"),
        ("*.example.org", "_.example.org"),
        ("2001:db8::1", "2001:db8::1"),
        ("a/../../b", "a=2F..=2F..=2Fb"),
        ("bücher example", "b=C3=BCcher=20example"),
        ("a\nb", "a=0Ab"),
        ("CON", "con"),
    ],
)
def test_w12_names_are_not_paths(store, name, file):
    assert store.key_file(name) == f"{store.folder}/{file}.key.pem"
    store._folder.write(f"{file}.chain.pem", b"", 0o644)
    assert store.names() == (name.lower(),)


@pytest.mark.parametrize("name", ["\u0430\u0431.\u0432" * 30, "a" + "\u00e9" * 60, "x" * 300])
def test_w12_a_name_that_is_cut_finds_the_same_file(store, name):
    Path(store.chain_file(name)).write_text("")
    (shown,) = store.names()
    assert shown.isprintable()
    assert store.chain_file(shown) == store.chain_file(name)


def test_w12_impossible_names_are_refused(store):
    for name in ("", ".", "..", ".x", "a\0b"):
        with pytest.raises(acme.InvalidArgument):
            store.key_file(name)
    long = [f"{'x' * 60}.{'y' * 60}.{'z' * 60}.{'w' * 60}.{end}" for end in ("a", "b")]
    files = [os.path.basename(store.chain_file(name)) for name in long]
    assert files[0] != files[1] and max(map(len, files)) < 255


def in_small_folder(script: str, *, size: str = "256k", setup: str = "") -> str:
    """Runs a program in a mount namespace with a small file system in /mnt."""
    mount = f"mount -t tmpfs -o size={size} none /mnt && {setup or 'true'}"
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + textwrap.dedent(script)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, program],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "unshare" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("NOT RUN: this needs a mount namespace")
    assert done.returncode == 0, done.stderr
    return done.stdout


OBTAIN = """
    import errno, os, acme_micro as acme
    store = acme.Store("/mnt/store")
    solver = acme.Webroot(os.environ["WEBROOT"])
    def obtain():
        with store.client(os.environ["ACME_DIRECTORY"], terms_agreed=True,
                          ca_file=os.environ["ACME_CA_FILE"]) as ca:
            return store.obtain(ca, ["full.test"], solver, renew_now=True), ca.orders()
    def fill():
        with open("/mnt/filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    def refused(code):
        try:
            obtain()
        except acme.StoreError as error:
            assert error.errno == code and error.path.startswith("/mnt/store"), error
            return error
        raise AssertionError("it was not refused")
"""


def test_w01_w13_a_full_disk_loses_no_certificate(solver, monkeypatch):
    monkeypatch.setenv("WEBROOT", solver._path)
    in_small_folder(
        OBTAIN
        + """
    first, orders = obtain()
    old = open(store.chain_file("full.test")).read()
    # Full from the beginning: the CA gets no request.
    fill()
    assert refused(errno.ENOSPC).certificate is None
    assert open(store.chain_file("full.test")).read() == old
    os.unlink("/mnt/filler")
    assert len(store.client(os.environ["ACME_DIRECTORY"], ca_file=os.environ["ACME_CA_FILE"]).orders()) == 1
    # Full when the certificate arrives: it is in the error, and downloaded again later.
    class Filling(acme.Webroot):
        def unpublish(self, challenges):
            super().unpublish(challenges)
            fill()
    store.account_key()
    calm, solver = solver, Filling(os.environ["WEBROOT"])
    new_names = ["full.test", "more.full.test"]
    with store.client(os.environ["ACME_DIRECTORY"], terms_agreed=True,
                      ca_file=os.environ["ACME_CA_FILE"]) as ca:
        try:
            store.obtain(ca, new_names, solver)
            raise SystemExit("it was not refused")
        except acme.StoreError as error:
            assert error.errno == errno.ENOSPC, error
            assert set(error.certificate.names) == set(new_names) and error.certificate.key
            issued = error.certificate.serial
        assert open(store.chain_file("full.test")).read() == old
        assert store.certificate("full.test").serial == first.serial
        os.unlink("/mnt/filler")
        assert store.obtain(ca, new_names, calm).serial == issued
        assert len(ca.orders()) == 2
    assert sorted(os.listdir("/mnt/store")) == [
        ".lock", "account.pem", "account.url", "directory.url", "full.test.chain.pem", "full.test.key.pem"]
    """
    )


def test_w05_w15_a_read_only_folder_is_still_readable(solver, monkeypatch):
    monkeypatch.setenv("WEBROOT", solver._path)
    in_small_folder(
        OBTAIN
        + """
    first, orders = obtain()
    assert os.system("mount -o remount,ro /mnt") == 0
    refused(errno.EROFS)
    # The stored certificate is usable.
    assert store.certificate("full.test").serial == first.serial
    assert os.system("mount -o remount,rw /mnt") == 0
    assert len(obtain()[1]) == 2
    """
    )


def test_w14_a_disk_without_inodes_is_an_error(solver, monkeypatch):
    monkeypatch.setenv("WEBROOT", solver._path)
    in_small_folder(
        OBTAIN
        + """
    refused(errno.ENOSPC)
    """,
        size="256k,nr_inodes=2",
    )


def test_w05_impossible_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, code in [
        (tmp_path / "file", errno.ENOTDIR),
        (tmp_path / "file" / "below", errno.ENOTDIR),
        (tmp_path / "none" / "below", errno.ENOENT),
        (tmp_path / ("x" * 300), errno.ENAMETOOLONG),
    ]:
        with pytest.raises(acme.StoreError) as caught:
            acme.Store(folder)
        assert (caught.value.errno, caught.value.path) == (code, str(folder))


def test_w11_a_limit_on_the_size_of_files_is_an_error(store):
    program = f"""
        import resource, signal, acme_micro as acme
        store = acme.Store({store.folder!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            store.account_key()
        except acme.StoreError as error:
            print(error.errno)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    # Python ignores SIGXFSZ.
    assert done.stdout == f"{errno.EFBIG}\n", done.stderr
    assert files(store.folder) == []


def test_w10_a_reader_always_sees_a_key_with_its_certificate(store, solver):
    stop = threading.Event()
    mismatches: list[str] = []
    reads = 0

    def read() -> None:
        nonlocal reads
        reader = acme.Store(store.folder)
        while not stop.is_set():
            found = reader.certificate("keeper.test")
            reads += 1
            if found is None or not found.is_for(found.key):
                mismatches.append(repr(found))

    with client(store) as ca:
        serials = {store.obtain(ca, NAMES, solver).serial}
        thread = threading.Thread(target=read)
        thread.start()
        try:
            for _ in range(3):
                serials.add(store.obtain(ca, NAMES, solver, renew_now=True).serial)
            while reads <= 100 and thread.is_alive():
                time.sleep(0.01)
        finally:
            stop.set()
            thread.join()
    assert len(serials) == 4 and reads > 100 and not mismatches


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="NOT RUN: this needs strace")
def test_x07_files_are_on_the_disk_before_they_have_their_names(store, solver, tmp_path):
    log = tmp_path / "strace"
    program = f"""
        import os, acme_micro as acme
        store = acme.Store({store.folder!r})
        with store.client(os.environ["ACME_DIRECTORY"], terms_agreed=True,
                          ca_file=os.environ["ACME_CA_FILE"]) as ca:
            store.obtain(ca, {NAMES!r}, acme.Webroot({str(solver._path)!r}))
    """
    command = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=write,fsync,rename,renameat,renameat2"]
    subprocess.run([*command, sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
    lines = [line.split(None, 1)[1] for line in log.read_text().splitlines()]
    lines = [line for line in lines if store.folder in line]
    renamed = [n for n, line in enumerate(lines) if line.startswith("rename")]
    # Account, key, the run, the CA, the account's URL, order, order with what is published, chain.
    assert len(renamed) == 8
    for n in renamed:
        temporary = lines[n].split('"')[1]
        assert lines[n - 1].startswith("fsync(") and temporary in lines[n - 1]
        assert lines[n - 2].startswith("write(") and temporary in lines[n - 2]
        assert lines[n + 1].startswith("fsync(") and f"<{store.folder}>" in lines[n + 1]
