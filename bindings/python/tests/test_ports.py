"""The standalone servers on ports and machines where listening fails."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import acme_micro as acme
from command_runs import Person
from conftest import env
from test_command import check, person
from test_command_errors import fails

__all__ = ["person"]

CHALLENGE = acme.Challenge("http-01", "x.test", "t" * 30, "t" * 30 + ".k", "/.well-known/acme-challenge/x")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    library = tmp_path_factory.mktemp("shim") / "bind_fails.so"
    source = Path(__file__).with_name("bind_fails.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


@pytest.fixture(params=[("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("0.0.0.0", socket.AF_INET)])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A port that another program has on one address."""
    host, family = request.param
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        yield host, other.getsockname()[1]


def publish(solver: acme.Standalone | acme.AsyncStandalone) -> None:
    """Publishes a challenge by either kind of server, fetches it, and removes it."""
    if isinstance(solver, acme.Standalone):
        solver.publish((CHALLENGE,))
        solver.unpublish((CHALLENGE,))
        return

    async def both() -> None:
        await solver.publish((CHALLENGE,))
        await solver.unpublish((CHALLENGE,))

    asyncio.run(both())


SOLVERS = pytest.mark.parametrize("kind", [acme.Standalone, acme.AsyncStandalone])


@SOLVERS
def test_e25_a_port_that_is_taken_is_named_r25(kind, taken):
    host, port = taken
    for where in "", host:
        with pytest.raises(OSError, match=f"port {port}.* is taken by another program") as caught:
            publish(kind(port, where))
        assert caught.value.errno == errno.EADDRINUSE
        assert where in str(caught.value)


@SOLVERS
def test_e25_an_address_of_another_machine_is_named_r25(kind):
    with pytest.raises(OSError, match="192.0.2.7 is not an address of this machine"):
        publish(kind(8080, "192.0.2.7"))
    for host in "no.such.host.invalid", "..", "x" * 70:
        with pytest.raises(OSError, match=f"port 8080 of {host}"):
            publish(kind(8080, host))


def test_e25_the_command_says_what_to_do_about_a_port_r25(person, taken):
    host, port = taken
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for where in str(port), at:
        error = fails(person, 8, "publish", "obtain", *person.ca, "--agree-terms", "-d", "x.test", "--standalone", where)
        assert f"port {port}" in error["message"] and "is taken by another program" in error["message"]
        assert "Errno" not in error["message"] and "--webroot" in error["hint"]


@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.7", ".."])
def test_e25_a_host_that_is_not_this_machine_gets_a_hint_r25(person, host):
    error = fails(
        person, 8, "publish", "obtain", *person.ca, "--agree-terms", "-d", "x.test", "--standalone", f"{host}:8080"
    )
    assert host in error["message"] and "leave it out of --standalone" in error["hint"]


def test_e25_a_missing_right_is_named_r25(person, shim):
    person.environment.update(LD_PRELOAD=shim, BIND4_ERRNO=str(errno.EACCES), BIND6_ERRNO=str(errno.EACCES))
    error = fails(person, 8, "publish", "obtain", *person.ca, "--agree-terms", "-d", "x.test", "--standalone")
    assert "port 80 needs a right" in error["message"] and "CAP_NET_BIND_SERVICE" in error["message"]
    assert "root" in error["hint"] and "--webroot" in error["hint"]


@pytest.mark.parametrize("why", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EACCES])
def test_e33_without_ipv6_the_servers_use_ipv4_r33(person, shim, why):
    port = int(env("PEBBLE_HTTP_PORT"))
    person.environment.update(LD_PRELOAD=shim, BIND6_ERRNO=str(why))
    for host in "", "localhost:":
        name = f"{host.rstrip(':') or 'all'}{why}.ipv4.test"
        if host and why == errno.EACCES:
            continue
        person.obtains("-d", name, "--standalone", f"{host}{port}")
        check(person, name, [name])
    code = f"""
import acme_micro as acme, urllib.request
solver = acme.Standalone({port})
solver.publish((acme.Challenge("http-01", "x.test", "t", "t.k", "/x"),))
assert urllib.request.urlopen("http://127.0.0.1:{port}/x").read() == b"t.k"
solver.unpublish((acme.Challenge("http-01", "x.test", "t", "t.k", "/x"),))
"""
    subprocess.run([sys.executable, "-c", code], env=person.environment, check=True, timeout=30)


@SOLVERS
def test_e24_a_server_without_a_socket_is_an_error_r24(kind, monkeypatch):
    def no_socket(*arguments, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("acme_micro._listen.socket.socket", no_socket)
        for host in "", "127.0.0.1":
            solver = kind(8080, host)
            with pytest.raises(OSError, match="port 8080.*Too many open files"):
                solver.publish((CHALLENGE,)) if kind is acme.Standalone else drive(solver.publish((CHALLENGE,)))


def drive(coroutine) -> None:
    """Runs a coroutine that does not wait, without the sockets of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        pass


def test_e24_the_blocking_server_needs_no_new_thread_to_respond_r24(monkeypatch):
    """Without a thread for itself it says so; without a thread for a request it responds nevertheless."""
    port = int(env("PEBBLE_HTTP_PORT"))
    solver = acme.Standalone(port, "127.0.0.1")
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="the system refuses a new thread"):
        solver.publish((CHALLENGE,))
    monkeypatch.setattr(threading.Thread, "start", start)
    solver.unpublish((CHALLENGE,))
    solver.publish((CHALLENGE,))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{CHALLENGE.http_path}", timeout=10) as found:
        assert found.read() == CHALLENGE.key_authorization.encode()
    solver.unpublish((CHALLENGE,))


def is_served(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


OTHER = acme.Challenge("http-01", "y.test", "u" * 30, "u" * 30 + ".k", "/.well-known/acme-challenge/y")


def test_the_server_runs_while_challenges_are_published_also_after_a_killed_run(free_port):
    async def main() -> None:
        solver = acme.AsyncStandalone(free_port, "127.0.0.1")
        await solver.unpublish((CHALLENGE,))  # of a run that was killed
        await asyncio.gather(solver.publish((CHALLENGE,)), solver.publish((OTHER,)))
        await solver.unpublish((CHALLENGE,))
        assert is_served(free_port)
        await solver.unpublish((OTHER,))
        assert not is_served(free_port)

    asyncio.run(main())


def test_threads_may_publish_by_one_standalone_server(free_port):
    solver = acme.Standalone(free_port, "127.0.0.1")
    gate = threading.Barrier(8)

    def publish(number: int) -> None:
        gate.wait()
        try:
            solver.publish((acme.Challenge("http-01", "z.test", f"{number}", "k", f"/{number}"),))
        except OSError as error:
            failures.append(error)

    failures: list[OSError] = []
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == [] and is_served(free_port)
    for number in range(8):
        solver.unpublish((acme.Challenge("http-01", "z.test", f"{number}", "k", f"/{number}"),))
    assert not is_served(free_port)
