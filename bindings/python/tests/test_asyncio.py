"""The asyncio client and solvers on one event loop."""

from __future__ import annotations

import asyncio
import os
import selectors
import ssl
import threading

import pytest
from conftest import PebbleDns, env, verify

import acme_micro as acme
from small_ca import small_ca


def client(**options) -> acme.AsyncClient:
    options.setdefault("terms_agreed", True)
    key = options.pop("key", None) or acme.PrivateKey.generate()
    return acme.AsyncClient(
        env("ACME_DIRECTORY"), key, ca_file=env("ACME_CA_FILE"), **options
    )


def standalone() -> acme.AsyncStandalone:
    return acme.AsyncStandalone(int(env("PEBBLE_HTTP_PORT")))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_several_at_once(tmp_path):
    async def main():
        solver = standalone()
        async with client() as ca:
            names = [[f"{n}.gather.test", f"www.{n}.gather.test"] for n in range(10)]
            return names, await asyncio.gather(*(ca.obtain(two, solver) for two in names))

    for names, cert in zip(*asyncio.run(main())):
        verify(cert, names, tmp_path)


@pytest.mark.parametrize(
    ("limits", "most"),
    [({}, 4), ({"max_requests_per_ca": 1}, 1), ({"max_requests_per_ca": 6}, 6), ({"max_threads": 2}, 2)],
)
def test_a_client_has_no_more_requests_at_once_than_its_limits_allow(limits, most):
    seen, running, changed = 0, 0, threading.Condition()

    def answer(path, payload):
        nonlocal seen, running
        with changed:
            running += 1
            seen = max(seen, running)
            changed.notify_all()
            if path == "/order":
                changed.wait_for(lambda: seen >= most, 10)
                changed.wait_for(lambda: seen > most, 0.1)  # time for one too many to arrive
            running -= 1
        return plain_answer(path, payload)

    async def main():
        key = acme.PrivateKey.generate()
        async with acme.AsyncClient(f"{ca.url}/dir", key, ca_file=env("ACME_CA_FILE"), **limits) as client:
            await client.register()
            orders = (client.obtain([f"{n}.test"], acme.MemoryHttp01()) for n in range(8))
            return await asyncio.gather(*orders, return_exceptions=True)

    with small_ca(of_order={"type": "rejectedIdentifier"}) as ca:
        plain_answer, ca.answer = ca.answer, answer
        errors = asyncio.run(main())
    assert {type(error) for error in errors} == {acme.OrderRejected}
    assert seen == most


def test_limits_out_of_range_are_refused():
    key = acme.PrivateKey.generate()
    for options in {"max_threads": 0}, {"max_threads": 257}, {"max_requests_per_ca": -1}:
        (name,) = options
        with pytest.raises(acme.InvalidArgument, match=f"{name} is .*, which is not in 1 to 256"):
            acme.AsyncClient("https://ca.test/dir", key, **options)
        with pytest.raises(acme.InvalidArgument, match=f"{name} is an option of AsyncClient only"):
            acme.Client("https://ca.test/dir", key, **options)


def test_the_loop_is_not_blocked_and_no_descriptor_is_left():
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        async with client() as ca:
            await ca.obtain(["ticks.test"], standalone())
        ticking.cancel()
        return ticks

    files = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(main()) > 20
    assert len(os.listdir("/proc/self/fd")) == files
    assert not [one for one in threading.enumerate() if one.name.startswith("acme")]


def test_a_solver_of_ordinary_functions_runs_on_a_thread(tmp_path):
    class Dns(PebbleDns):
        def publish(self, challenges):
            self.thread = threading.current_thread()
            super().publish(challenges)

    async def main():
        dns = Dns()
        async with client() as ca:
            cert = await ca.obtain(["*.thread.test"], dns)
        assert dns.thread is not threading.main_thread()
        return cert

    verify(asyncio.run(main()), ["*.thread.test"], tmp_path)


class Recording(acme.MemoryHttp01):
    """A solver that records its calls, and publishes nothing that the CA could find."""

    def __init__(self, publishing=None):
        super().__init__()
        self.seen = []
        self.published = asyncio.Event()
        self._publishing = publishing

    async def publish(self, challenges):
        self.seen.append(("up", [c.identifier for c in challenges]))
        self.published.set()
        if self._publishing is not None:
            await self._publishing

    async def unpublish(self, challenges):
        self.seen.append(("down", [c.identifier for c in challenges]))


def test_y09_cancelling_the_task_removes_the_challenges():
    async def main():
        async with client() as ca:
            solver = Recording(asyncio.sleep(3600))
            task = asyncio.create_task(ca.obtain(["cancel.test"], solver))
            await solver.published.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert solver.seen == [("up", ["cancel.test"]), ("down", ["cancel.test"])]
            # The client is still usable.
            assert await ca.find_account() == ca.account_url

    asyncio.run(main())


def test_cancelling_before_anything_has_happened():
    async def main():
        async with client() as ca:
            for wait in (0, 0.001, 0.01, 0.05):
                task = asyncio.create_task(ca.obtain(["early.test"], Recording()))
                await asyncio.sleep(wait)
                task.cancel()
                with pytest.raises((asyncio.CancelledError, acme.ChallengeFailed)):
                    await task

    asyncio.run(main())


class Slow(Recording):
    """A solver that takes a while to remove challenges, as the API of a DNS zone does."""

    def __init__(self, seconds):
        super().__init__(asyncio.sleep(3600))
        self._seconds = seconds

    async def unpublish(self, challenges):
        self.seen.append(("going down", []))
        await asyncio.sleep(self._seconds)
        await super().unpublish(challenges)


def test_the_end_of_the_loop_removes_the_challenges():
    async def main():
        ca, solver = client(), Slow(0.2)
        task = asyncio.create_task(ca.obtain(["ending.test"], solver))
        await solver.published.wait()
        task.cancel()
        while len(solver.seen) < 2:
            await asyncio.sleep(0.01)
        return solver, task, ca  # asyncio.run() cancels the other tasks

    solver, _, _ = asyncio.run(main())
    assert [what for what, _ in solver.seen] == ["up", "going down", "going down", "down"]


def test_closing_waits_without_spinning():
    class Counting(selectors.DefaultSelector):
        turns = 0

        def select(self, timeout=None):
            self.turns += 1
            return super().select(timeout)

    async def main():
        ca, solver = client(), Slow(1)
        task = asyncio.create_task(ca.obtain(["idle.test"], solver))
        await solver.published.wait()
        before = selector.turns
        await ca.aclose()
        turns = selector.turns - before
        with pytest.raises(acme.Canceled):
            await task
        return turns

    selector = Counting()
    loop = asyncio.SelectorEventLoop(selector)
    try:
        assert loop.run_until_complete(main()) < 100, "turns of the loop, in a second of waiting"
    finally:
        loop.close()


def test_a_cancelled_operation_has_its_orders_url():
    async def main():
        async with client() as ca:
            solver = Recording(asyncio.sleep(3600))
            op = ca.begin_order(["told.test"])
            task = asyncio.create_task(ca.run(op, solver))
            await solver.published.wait()
            assert op.state == "publish" and op.order_url
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert op.order_url
            return op.state

    assert asyncio.run(main()) != "new"


def test_a_certificate_that_was_issued_outlives_the_cancellation():
    class Last(acme.AsyncStandalone):
        async def unpublish(self, challenges):
            await super().unpublish(challenges)
            going.set()
            await asyncio.sleep(2)

    async def main():
        nonlocal going
        going = asyncio.Event()
        solver = Last(int(env("PEBBLE_HTTP_PORT")))
        async with client() as ca:
            op = ca.begin_order(["late.test"])
            task = asyncio.create_task(ca.run(op, solver))
            await going.wait()
            while op.state != "certificate":
                op._refresh()
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return op.certificate

    going = None
    assert asyncio.run(main()).names == ("late.test",)


def test_an_ordinary_function_around_a_coroutine():
    class Around:
        challenge_types = ("http-01",)

        def __init__(self):
            self.inner = standalone()

        def publish(self, challenges):
            return self.inner.publish(challenges)

        def unpublish(self, challenges):
            return self.inner.unpublish(challenges)

    async def main():
        async with client() as ca:
            return await ca.obtain(["around.test"], Around())

    assert asyncio.run(main()).names == ("around.test",)


def test_a_timeout_of_asyncio_removes_the_challenges():
    async def main():
        async with client() as ca:
            solver = Recording(asyncio.sleep(3600))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ca.obtain(["timeout.test"], solver), 1)
            assert [what for what, _ in solver.seen] in ([], ["up", "down"])

    asyncio.run(main())


def test_closing_cancels_running_operations():
    async def main():
        ca = client()
        solver = Recording(asyncio.sleep(3600))
        task = asyncio.create_task(ca.obtain(["closing.test"], solver))
        await solver.published.wait()
        await ca.aclose()
        with pytest.raises(acme.Canceled):
            await task
        assert [what for what, _ in solver.seen] == ["up", "down"]
        assert ca.closed
        await ca.aclose()
        with pytest.raises(ValueError, match="closed"):
            await ca.register()

    asyncio.run(main())


def test_y08_a_solvers_own_exception_comes_back():
    class Broken(Recording):
        async def publish(self, challenges):
            await super().publish(challenges)
            raise KeyError("no such zone")

    async def main():
        async with client() as ca:
            solver = Broken()
            with pytest.raises(KeyError, match="no such zone"):
                await ca.obtain(["broken.test"], solver)
            assert [what for what, _ in solver.seen] == ["up", "down"]

    asyncio.run(main())


def test_errors_are_those_of_the_blocking_client():
    async def main():
        async with client() as ca:
            with pytest.raises(acme.ChallengeFailed) as caught:
                await ca.obtain(["nobody.test"], acme.MemoryHttp01())
            assert caught.value.identifier == "nobody.test" and caught.value.problem
            with pytest.raises(acme.InvalidArgument):
                await ca.obtain(["*.wild.test"], standalone())
            with pytest.raises(acme.AcmeError, match="no solver"):
                await ca.run(ca.begin_order(["nobody.test"]))
        async with client(terms_agreed=False) as ca:
            with pytest.raises(acme.TermsNotAgreed):
                await ca.register()

    asyncio.run(main())


def test_the_other_operations_of_acme(new_pebble, tmp_path):
    async def main():
        async with client() as ca:
            url = await ca.register()
            assert await ca.find_account() == url
            await ca.update_contacts(["mailto:ops@example.org"])
            cert = await ca.obtain(["rest.test"], standalone())
            assert (await ca.renewal_info(cert)).from_ca
            operation = ca.begin_order(["rest.test"], replaces=cert, only_if_due=True)
            await ca.run(operation)
            assert operation.renewal_info is not None
            assert await ca.orders()
            with pytest.raises(acme.Unsupported):
                await ca.authorize(["ahead.test"], standalone())
            await ca.revoke(cert, acme.RevocationReason.SUPERSEDED)
            await ca.change_key(acme.PrivateKey.generate())
            await ca.deactivate()
            with pytest.raises(acme.AccountError):
                await ca.find_account()

    asyncio.run(main())


def test_keys_outside_the_process_sign_on_a_thread(tmp_path):
    from conftest import openssl

    private = tmp_path / "account.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private))
    key = acme.PrivateKey.from_public(openssl("pkey", "-in", str(private), "-pubout"))

    def sign(step):
        (tmp_path / "input").write_bytes(step.input)
        out = tmp_path / "signature"
        openssl("dgst", "-sha256", "-sign", str(private), "-out", str(out), str(tmp_path / "input"))
        return out.read_bytes()

    async def main():
        async with client(key=key) as ca:
            cert = await ca.obtain(["hsm.async.test"], standalone(), sign=sign)
            with pytest.raises(ZeroDivisionError):
                await ca.obtain(["hsm.async.test"], standalone(), sign=lambda step: 1 / 0)
            return cert

    verify(asyncio.run(main()), ["hsm.async.test"], tmp_path)


def test_one_client_on_one_loop_after_another():
    ca = client()

    async def once():
        return await ca.find_account() if ca.account_url else await ca.register()

    assert asyncio.run(once()) == asyncio.run(once())
    asyncio.run(ca.aclose())


def test_asgi_and_wsgi_serve_challenges_and_pass_on_other_requests():
    token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    path = f"/.well-known/acme-challenge/{token}"
    solver = acme.MemoryHttp01()
    solver.publish((acme.Challenge("http-01", "x.test", token, f"{token}.thumb", path),))

    async def application(scope, receive, send):
        await send({"type": "theirs"})

    def ask(scope):
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(solver.asgi(application)(scope, None, send))
        return sent

    start, body = ask({"type": "http", "path": path})
    assert start["status"] == 200 and body["body"] == f"{token}.thumb".encode()
    for other in ({"type": "http", "path": "/"}, {"type": "lifespan"}, {"type": "websocket", "path": path}):
        assert ask(other) == [{"type": "theirs"}]

    statuses = []
    wsgi = solver.wsgi(lambda environ, start: [b"theirs"])
    assert wsgi({"PATH_INFO": path}, lambda status, headers: statuses.append(status)) == [
        f"{token}.thumb".encode()
    ]
    assert statuses == ["200 OK"] and wsgi({"PATH_INFO": "/"}, None) == [b"theirs"]
