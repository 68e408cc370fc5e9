"""AsyncManager: certificates that stay fresh by themselves, on an event loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from contextlib import asynccontextmanager

import pytest

import acme_micro as acme
from acme_micro import EventType
from conftest import PebbleDns, env, verify

TIMEOUT = 120


def client_of(store, url=None):
    options = {"terms_agreed": True, "ca_file": env("ACME_CA_FILE")}
    return store.async_client(url or env("ACME_DIRECTORY"), **options)


def standalone():
    return acme.AsyncStandalone(int(env("PEBBLE_HTTP_PORT")))


class Events:
    """Collects events on a loop, and waits for one of a type."""

    def __init__(self):
        self.seen = []
        self._queue = asyncio.Queue()

    async def __call__(self, event):
        self.seen.append(event)
        self._queue.put_nowait(event)

    async def until(self, *types):
        """Waits; a failure that the test does not wait for ends it."""
        while True:
            event = await asyncio.wait_for(self._queue.get(), TIMEOUT)
            if event.type in types:
                return event
            assert event.error is None, event


@asynccontextmanager
async def managed(solver, store=None, **options):
    async with client_of(store or acme.MemoryStore()) as ca:
        async with acme.AsyncManager(ca, solver, **options) as manager:
            yield manager


class Recording:
    """A solver of coroutines that records its calls; what it publishes, the CA cannot find."""

    challenge_types = ("http-01",)

    def __init__(self, publishing=0):
        self.seen, self.published = [], threading.Event()
        self._publishing = publishing

    async def publish(self, challenges):
        self.seen.append("up")
        self.published.set()
        await asyncio.sleep(self._publishing)

    async def unpublish(self, challenges):
        self.seen.append("going down")
        await asyncio.sleep(0)
        self.seen.append("down")


class Blocking(PebbleDns):
    """A solver of ordinary functions, which notes its threads."""

    def __init__(self, blocks=False):
        self.threads, self.seen, self.published = set(), [], threading.Event()
        self.may_go_on = threading.Event()
        if not blocks:
            self.may_go_on.set()

    def publish(self, challenges):
        self.threads.add(threading.current_thread())
        self.seen.append("up")
        self.published.set()
        assert self.may_go_on.wait(TIMEOUT)
        super().publish(challenges)

    def unpublish(self, challenges):
        super().unpublish(challenges)
        self.seen.append("down")


async def came(event):
    """Waits for an event of the module threading."""
    assert await asyncio.to_thread(event.wait, TIMEOUT)


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_certificate_is_obtained_renewed_and_there_after_a_restart(kind, tmp_path):
    store = acme.Store(tmp_path / "state") if kind == "folder" else acme.MemoryStore()
    names = ["one.async.test", "www.one.async.test"]

    async def main():
        events = Events()
        async with client_of(store) as ca:
            async with acme.AsyncManager(ca, standalone(), on_event=events) as manager:
                manager.add(names, timeout=120)
                assert len(manager) == 1 and manager.certificate("one.async.test") is None
                manager.start()
                with pytest.raises(acme.Misuse, match="already"):
                    manager.start()
                with pytest.raises(acme.Misuse, match="await aclose"):
                    manager.close()
                event = await events.until(EventType.OBTAINED)
                verify(event.certificate, names, tmp_path)
                found = manager.certificate("WWW.one.async.test")
                assert found.serial == event.certificate.serial and found.key is not None
                assert [one["state"] for one in manager.status()] == ["valid"]
                assert 'acme_certificates{state="valid"} 1\n' in manager.metrics()
                manager.renew("one.async.test")
                renewed = (await events.until(EventType.RENEWED)).certificate
                assert renewed.serial != event.certificate.serial
            assert manager.closed
            await manager.aclose()
            async with acme.AsyncManager(ca, standalone(), on_event=events) as manager:
                manager.add(names)
                manager.start()
                assert (await events.until(EventType.LOADED)).certificate.serial == renewed.serial
                manager.remove("one.async.test")
                assert len(manager) == 0 and manager.certificate("one.async.test") is None
        assert EventType.FAILED not in [event.type for event in events.seen]

    asyncio.run(main())


def test_a_solver_of_ordinary_functions_and_a_store_run_on_threads_while_the_loop_works():
    class Slow(acme.RecordStore):
        """A store that notes its threads; it has the records of a memory store."""

        def __init__(self):
            self.records, self.threads = {}, set()

        def get(self, name):
            self.threads.add(threading.current_thread())
            return self.records.get(name)

        def put(self, name, expected, value):
            self.threads.add(threading.current_thread())
            version, _ = self.records.get(name, (0, None))
            if version != expected:
                raise acme.ConflictError(name)
            self.records[name] = version + 1, value
            return version + 1

        def list(self, prefix, after, limit):
            raise NotImplementedError

    async def main():
        events, solver, store = Events(), Blocking(blocks=True), Slow()
        async with managed(solver, store, on_event=events) as manager:
            manager.add(["*.thread.async.test"])
            manager.start()
            await came(solver.published)
            for _ in range(100):  # the loop goes on while the solver blocks
                await asyncio.sleep(0)
            solver.may_go_on.set()
            await events.until(EventType.OBTAINED)
        assert solver.threads and store.threads
        assert threading.main_thread() not in solver.threads | store.threads

    asyncio.run(main())


def test_a_failure_has_its_reason_and_the_next_attempt_has_its_time():
    class Full(Recording):
        async def publish(self, challenges):
            raise OSError(28, "No space left on device")

    async def main():
        events = Events()
        async with managed(Full(), on_event=events) as manager:
            manager.add(["full.async.test"])
            manager.start()
            event = await events.until(EventType.FAILED)
            assert "No space left on device" in str(event.error) and event.certificate is None
            assert isinstance(event.error, acme.PublishFailed) and event.next_try is not None
            assert manager.status("full.async.test")["failures"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_an_exception_of_a_callback_is_logged_and_the_next_event_comes(is_coroutine, caplog):
    async def main():
        seen, all_came = [], asyncio.Event()

        def plain(event):
            seen.append(event.name)
            if len(seen) == 2:
                all_came.set()
            raise RuntimeError(f"of the program: {event.name}")

        async def coroutine(event):
            plain(event)

        async with managed(Blocking(), on_event=coroutine if is_coroutine else plain) as manager:
            for name in "one.raises.test", "two.raises.test":
                manager.add([name])
            manager.start()
            await asyncio.wait_for(all_came.wait(), TIMEOUT)
        assert sorted(seen) == ["one.raises.test", "two.raises.test"]

    with caplog.at_level(logging.ERROR, "acme_micro"):
        asyncio.run(main())
    assert "of the program: one.raises.test" in caplog.text and "two.raises.test" in caplog.text


def test_cancelling_run_removes_the_challenges_and_the_manager_can_run_again():
    async def main():
        solver, events = Recording(publishing=3600), Events()
        async with managed(solver, on_event=events) as manager:
            manager.add(["cancel.async.test"])
            for _ in range(2):
                solver.seen.clear()
                solver.published.clear()
                task = asyncio.create_task(manager.run())
                await came(solver.published)
                task.cancel()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert solver.seen == ["up", "going down", "down"]
        assert events.seen == []  # the end is not a failure of the certificate

    asyncio.run(main())


def test_stop_ends_run_at_once():
    async def main():
        async with managed(Recording()) as manager:
            for steps in range(3):
                task = asyncio.create_task(manager.run())
                for _ in range(steps):
                    await asyncio.sleep(0)
                await manager.stop()
                if steps == 0:
                    task.cancel()  # the work has not begun
                    continue
                assert await asyncio.wait_for(task, TIMEOUT) is None

    asyncio.run(main())


def test_cancelling_the_close_does_not_cut_it_short():
    async def main():
        solver = Recording(publishing=3600)
        async with client_of(acme.MemoryStore()) as ca:
            manager = acme.AsyncManager(ca, solver)
            manager.add(["close.async.test"])
            manager.start()
            await came(solver.published)
            closing = asyncio.create_task(manager.aclose())
            for _ in range(5):
                await asyncio.sleep(0)
                closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert solver.seen == ["up", "going down", "down"] and manager.closed

    asyncio.run(main())


def test_a_manager_can_be_closed_at_any_moment_and_leaves_no_thread_and_no_descriptor():
    async def main():
        for steps in (0, 1, 2, 5, 20, 100, 400, 1600):
            solver, events = Blocking(), Events()
            async with managed(solver, on_event=events) as manager:
                manager.add(["moment.async.test", f"{steps}.moment.async.test"])
                manager.start()
                for _ in range(steps):
                    if events.seen:
                        break
                    await asyncio.sleep(0.0005)
            assert solver.seen.count("up") == solver.seen.count("down")
            assert [one.error for one in events.seen if one.error] == []

    asyncio.run(main())  # imports what it needs
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == files
    assert not [one for one in os.listdir("/proc/self/task") if is_of_the_library(one)]


def is_of_the_library(thread):
    try:
        with open(f"/proc/self/task/{thread}/comm") as file:
            return file.read().startswith("acme")
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("make", [lambda: Recording(publishing=3600), lambda: Blocking(blocks=True)])
def test_the_end_of_the_loop_removes_the_challenges(make):
    solver = make()

    async def main():
        ca = client_of(acme.MemoryStore())
        manager = acme.AsyncManager(ca, solver)
        manager.add(["end.async.test"])
        manager.start()
        await came(solver.published)
        if isinstance(solver, Blocking):
            solver.may_go_on.set()
        return manager  # asyncio.run() cancels the manager's task

    manager = asyncio.run(main())
    assert solver.seen[0] == "up" and solver.seen[-1] == "down"
    assert manager.status("end.async.test")["failures"] == 0
    manager.close()


def test_a_loop_that_is_closed_without_an_end_of_its_tasks_leaves_the_challenge_to_the_next_run():
    store, solver, kept = acme.MemoryStore(), Blocking(), []

    async def begin():
        manager = acme.AsyncManager(client_of(store), solver)
        manager.add(["closed.async.test"])
        manager.start()
        kept.append(manager)
        await came(solver.published)
        gc.collect()

    async def go_on():
        events = Events()
        async with managed(solver, store, on_event=events) as manager:
            manager.add(["closed.async.test"])
            manager.start()
            await events.until(EventType.OBTAINED)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    kept.pop().close()
    gc.collect()
    assert not [one for one in os.listdir("/proc/self/task") if is_of_the_library(one)]
    asyncio.run(go_on())
    assert solver.seen[-1] == "down"


def test_a_manager_that_the_program_does_not_keep_works_on():
    async def main():
        async def on_event(event):
            obtained.set_result(event.type)

        obtained = asyncio.get_running_loop().create_future()
        manager = acme.AsyncManager(client_of(acme.MemoryStore()), Blocking(), on_event=on_event)
        manager.add(["kept.async.test"])
        manager.start()
        del manager
        gc.collect()
        assert await asyncio.wait_for(obtained, TIMEOUT) == EventType.OBTAINED

    asyncio.run(main())


def test_two_managers_share_a_loop_a_client_and_a_solver():
    async def main():
        solver, first, second = standalone(), Events(), Events()
        store = acme.MemoryStore()
        async with client_of(store) as ca, managed(solver, on_event=second) as other:
            async with acme.AsyncManager(ca, solver, on_event=first) as manager:
                for number in range(5):
                    manager.add([f"{number}.first.test"])
                    other.add([f"{number}.second.test"])
                manager.start()
                other.start()
                direct = await store.obtain_async(ca, ["direct.first.test"], solver)
                assert direct.names == ("direct.first.test",)
                for events, kind in (first, "first"), (second, "second"):
                    found = {(await events.until(EventType.OBTAINED)).name for _ in range(5)}
                    assert found == {f"{number}.{kind}.test" for number in range(5)}
            # The end of one does not disturb the other.
            other.renew("0.second.test")
            await second.until(EventType.RENEWED)

    asyncio.run(main())


@pytest.mark.parametrize("end", ["stop", "aclose"])
def test_a_callback_may_end_the_manager(end):
    async def main():
        async def on_event(event):
            seen.append(event.type)
            await getattr(manager, end)()
            await asyncio.sleep(0)
            seen.append("after")

        seen = []
        async with managed(Blocking(), on_event=on_event) as manager:
            manager.add(["ends.async.test"])
            await manager.run()
            assert seen == [EventType.OBTAINED, "after"]
            assert manager.closed == (end == "aclose")

    asyncio.run(main())


def test_a_callback_that_waits_is_cancelled_by_the_end():
    async def main():
        async def on_event(event):
            started.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                canceled.set()
                raise

        started, canceled = asyncio.Event(), asyncio.Event()
        async with managed(Blocking(), on_event=on_event) as manager:
            manager.add(["waits.async.test"])
            manager.start()
            await asyncio.wait_for(started.wait(), TIMEOUT)
        assert canceled.is_set()

    asyncio.run(main())


def test_an_event_that_came_before_the_end_comes_in_the_next_run_on_another_loop():
    store, ca, names = acme.MemoryStore(), [], ["first.later.test", "second.later.test"]
    seen = []

    async def first():
        async def on_event(event):
            if not managers[0].stopped:
                started.set()
                await asyncio.sleep(3600)
            seen.append(event.name)
            if len(seen) == 1:
                await managers[0].stop()

        started = asyncio.Event()
        ca.append(client_of(store))
        manager = acme.AsyncManager(ca[0], Blocking(), on_event=on_event)
        manager.stopped = False
        managers.append(manager)
        for name in names:
            manager.add([name])
        manager.start()
        await asyncio.wait_for(started.wait(), TIMEOUT)
        while len(manager._events) == 0:  # the second one waits for the first
            await asyncio.sleep(0.001)
        manager.stopped = True
        await manager.stop()

    async def second():
        await managers[0].run()
        await managers[0].aclose()
        await ca[0].aclose()

    managers = []
    asyncio.run(first())
    asyncio.run(second())
    assert len(seen) == 1 and seen[0] in names


def test_arguments_that_cannot_work_are_refused():
    async def main():
        store = acme.MemoryStore()
        with store.client("https://ca.test/") as ca, pytest.raises(TypeError, match="must be AsyncClient"):
            acme.AsyncManager(ca)
        async with client_of(store, "https://ca.test/") as ca:
            with pytest.raises(TypeError, match="client must be Client"):
                acme.Manager(ca)
            manager = acme.AsyncManager(ca)
            with pytest.raises(acme.InvalidArgument, match="empty|names"):
                manager.add([])
            manager.close()
            with pytest.raises(ValueError, match="AsyncManager is closed"):
                manager.start()
            await manager.stop()
            with pytest.raises(ValueError, match="AsyncManager is closed"):
                async with manager:
                    pass
        manager = acme.AsyncManager(client_of(store))
        manager.add(["forgotten.test"])
        del manager
        gc.collect()

    asyncio.run(main())
