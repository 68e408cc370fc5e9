"""Solvers on an event loop: their methods run on the loop if they are coroutines, and otherwise on a thread,
where they may block."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any, Callable, Union

from ._waiting import on_thread, until_done
from .errors import AcmeError
from .solvers import AsyncSolver, Solver
from .steps import Challenge

__all__ = ["AnySolver", "Publishing", "call"]

AnySolver = Union[Solver, AsyncSolver]
Challenges = tuple[Challenge, ...]

logger = logging.getLogger("acme_micro")


class Publishing:
    """The challenges of one operation: tasks publish and remove them.

    ``tasks`` has the tasks that have not ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        solver: AnySolver | None,
        tasks: set[asyncio.Task[None]],
    ):
        self._loop, self._solver, self._tasks = loop, solver, tasks
        self._publishing: asyncio.Task[None] | None = None

    def start(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def publish(
        self, challenges: Challenges, published: Callable[[Challenges, BaseException | None], None]
    ) -> None:
        """Publishes challenges, and then calls ``published`` with them, and with the error if there is one."""
        self._publishing = self.start(self._publish(challenges, published))

    async def _publish(
        self, challenges: Challenges, published: Callable[[Challenges, BaseException | None], None]
    ) -> None:
        failure: BaseException | None = None
        try:
            if self._solver is None:
                raise AcmeError("there are challenges to publish, and no solver was given")
            await call(self._solver.publish, challenges)
        except BaseException as error:
            failure = error
        published(challenges, failure)

    def unpublish(self, challenges: Challenges) -> None:
        self.start(self._unpublish(challenges))

    async def _unpublish(self, challenges: Challenges) -> None:
        try:
            await self._finish_publishing_and_unpublish(challenges)
        except asyncio.CancelledError:
            # asyncio.run() cancels all tasks at its end, also this one; remove the challenges
            # nevertheless.
            await self._finish_publishing_and_unpublish(challenges)

    async def _finish_publishing_and_unpublish(self, challenges: Challenges) -> None:
        # Cancelled during publishing: let that end first.
        if self._publishing is not None and not self._publishing.done():
            publishing = self._publishing
            publishing.cancel()
            await until_done(lambda: [publishing], lambda: None)
        await unpublish_quietly(self._solver, challenges)


async def call(method: Callable[..., Any], challenges: Challenges) -> None:
    """Calls a method of a solver: a coroutine here, an ordinary function on a thread."""
    if inspect.iscoroutinefunction(method):
        await method(challenges)
    else:
        result = await on_thread(method, challenges)
        if inspect.isawaitable(result):  # an ordinary function around a coroutine
            await result


async def unpublish_quietly(solver: AnySolver | None, challenges: Challenges) -> None:
    """Removes challenges. An exception of the solver is only logged: it must not end the operation."""
    if solver is None or not challenges:
        return
    try:
        await call(solver.unpublish, challenges)
    except Exception:
        names = ", ".join(challenge.identifier for challenge in challenges)
        logger.warning("removing the challenges for %s failed", names, exc_info=True)
