"""Certificates that stay fresh by themselves, on an event loop.

A driver of the library does the work: the event loop watches its file descriptor. The manager has one task, which
passes the events on to the program, and a task for each solver at work.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from ctypes import addressof
from functools import cached_property, partial
from typing import TYPE_CHECKING

from . import _native
from ._driver import Driver
from ._publishing import AnySolver, Publishing
from ._values import reason_of
from ._waiting import until_done
from .aio import AsyncClient
from .errors import Misuse, check
from .manager import ManagerBase, ManagerEvent, challenges_of
from .steps import Challenge

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["AsyncManager"]

logger = logging.getLogger("acme_micro")


class AsyncManager(ManagerBase[AsyncClient, AnySolver]):
    """Keeps any number of certificates fresh, for asyncio: :class:`Manager` on the program's event loop.

    ::

        async with store.async_client(acme.LETSENCRYPT, terms_agreed=True) as ca:
            async with acme.AsyncManager(ca, acme.AsyncStandalone(), on_event=print) as manager:
                manager.add(["example.org", "www.example.org"])
                await manager.run()

    The methods of the solver run on the loop if they are coroutines, and otherwise on a thread, where they may
    block; other attempts go on meanwhile. ``on_event`` may be a coroutine function, too. Otherwise it is called on
    the loop, and must not block. It gets one event after the other.

    No method blocks. Call :meth:`start`, :meth:`run`, :meth:`stop` and :meth:`aclose` on the loop's thread, and the
    others on any thread. When the loop ends, ``asyncio.run`` cancels the manager's task, which removes the
    challenges. If a program is killed, or closes its loop without that, the next run removes them.
    """

    _client_type = AsyncClient
    _work: _Work | None = None

    @cached_property
    def _events(self) -> deque[ManagerEvent]:
        """The events that the program does not know yet."""
        return deque()

    @property
    def _is_running(self) -> bool:
        return self._work is not None and not self._work.is_over

    async def run(self) -> None:
        """Works until :meth:`stop` is called, or the task is cancelled."""
        self.start()
        assert self._work is not None
        task = self._work.task
        try:
            await asyncio.wait([task])
        finally:
            await self.stop()
        if not task.cancelled():
            task.result()  # raises the exit of the program

    def start(self) -> None:
        """Works on the running event loop, until :meth:`stop` is called."""
        if self._is_running:
            raise Misuse("the manager runs already")
        handle = self._handle
        self._work = work = _Work(self, asyncio.get_running_loop())
        try:
            check(_native.acme_manager_start(handle, work.driver.handle))
        except BaseException:
            work.task.cancel()
            raise

    async def stop(self) -> None:
        """Ends the work, and waits for the end. A coroutine of ``on_event`` that is running is cancelled.

        Challenges are removed. The next run resumes orders in progress. If ``on_event`` calls this, the work
        ends when ``on_event`` has returned.
        """
        work = self._work
        if work is None or work.is_over:
            return
        if work.task is asyncio.current_task():
            work.is_last_event = True
            return
        work.task.cancel()
        await until_done(lambda: [work.task], work.task.cancel)

    async def aclose(self) -> None:
        """Stops, and closes the manager. A second call has no effect."""
        try:
            await self.stop()
        finally:
            super().close()  # after a call by on_event, the work ends later

    def close(self) -> None:
        """Closes a manager that does not run; :meth:`aclose` also stops it."""
        if self._pointer is not None and self._is_running:
            raise Misuse("the manager runs: await aclose()")
        self._work = None
        super().close()

    async def __aenter__(self) -> AsyncManager:
        self._handle  # noqa: B018 - raises when closed
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    # The library calls these methods on the loop's thread; while the work ends, on another one.

    def _tell(self, event: _native.acme_event_t) -> None:
        if self._work is not None and self._on_event is not None:
            self._events.append(self._event(event))
            self._work.came.set()

    def _publish(self, op: _Pointer[_native.acme_op_t]) -> None:
        if self._solver is None or self._work is None:
            _native.acme_op_published(op, None)
        else:
            self._work.publish(op)

    def _unpublish(self, op: _Pointer[_native.acme_op_t]) -> None:
        if self._solver is not None and self._work is not None:
            self._work.unpublish(op)


class _Work:
    """The work from a start to a stop."""

    def __init__(self, manager: AsyncManager, loop: asyncio.AbstractEventLoop):
        self._manager, self._loop = manager, loop
        self._handle = manager._handle  # is freed after the driver, even if the manager is closed before
        self._is_ending = self.is_last_event = False
        self._tasks: set[asyncio.Task[None]] = set()
        # The solvers at work, by the address of the operation.
        self._publishing: dict[int, Publishing] = {}
        # An event has come that the program does not know.
        self.came = asyncio.Event()
        if manager._events:
            self.came.set()
        self.driver = Driver(loop, *manager._client._driver_limits)
        self.driver.owner = self
        self.task = loop.create_task(self._run())
        # If the task is cancelled before its first step, it does not close the driver.
        self.task.add_done_callback(lambda _: self.driver.close())

    @property
    def is_over(self) -> bool:
        return self.task.done() or self._loop.is_closed()

    async def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while not self.is_last_event:
                await self.came.wait()
                await self._pass_on(self._manager._events.popleft())
                if not self._manager._events:
                    self.came.clear()
        except asyncio.CancelledError:
            pass
        except GeneratorExit:  # the loop was closed without an end of its tasks: nothing can be awaited
            raise
        except BaseException as error:  # Ctrl-C, or the exit of the program
            failure = error
        await self._end()
        if failure is not None:
            raise failure

    async def _pass_on(self, event: ManagerEvent) -> None:
        try:
            assert self._manager._on_event is not None
            result = self._manager._on_event(event)
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("on_event of a manager")

    async def _end(self) -> None:
        self._is_ending = True
        try:
            await self.driver.aclose()
        finally:
            await until_done(lambda: self._tasks, lambda: None)

    def publish(self, op: _Pointer[_native.acme_op_t]) -> None:
        if self._is_ending:
            _native.acme_op_published(op, b"the manager ends")
            return
        publishing = Publishing(self._loop, self._manager._solver, self._tasks)
        self._publishing[addressof(op.contents)] = publishing
        publishing.publish(challenges_of(op), partial(self._published, op))

    def _published(
        self, op: _Pointer[_native.acme_op_t], _: tuple[Challenge, ...], failure: BaseException | None
    ) -> None:
        if isinstance(failure, asyncio.CancelledError):
            # If asyncio.run() has cancelled all tasks, the work ends first: this is no failure.
            self._loop.call_soon(self._tell_published, op, failure)
        else:
            self._tell_published(op, failure)

    def _tell_published(self, op: _Pointer[_native.acme_op_t], failure: BaseException | None) -> None:
        # The operation is there until this: only the end of the work can cancel it.
        if not self._is_ending:
            self._publishing.pop(addressof(op.contents))
            _native.acme_op_published(op, None if failure is None else reason_of(failure))

    def unpublish(self, op: _Pointer[_native.acme_op_t]) -> None:
        """Removes the challenges. A solver that is still publishing them is cancelled first."""
        solver = self._manager._solver
        publishing = self._publishing.pop(addressof(op.contents), None)
        publishing = publishing or Publishing(self._loop, solver, self._tasks)
        challenges = challenges_of(op)
        if self._is_ending:
            self._loop.call_soon_threadsafe(publishing.unpublish, challenges)
        else:
            publishing.unpublish(challenges)
