"""Waiting on an event loop: for threads, and for tasks that have to end even if the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import copy_context
from functools import partial
from typing import Any, Callable, TypeVar

from ._threads import thread_limit_in_words

__all__ = ["on_thread", "until_done"]

T = TypeVar("T")


async def until_done(
    futures: Callable[[], Iterable[asyncio.Future[Any]]], on_cancel: Callable[[], object]
) -> None:
    """Waits until all of these are done, even if the task is cancelled meanwhile, and more than once."""
    canceled: asyncio.CancelledError | None = None
    while waiting := [one for one in futures() if not one.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            canceled = error
            on_cancel()
    if canceled is not None:
        raise canceled


async def on_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function that may block. A caller that is cancelled waits: a thread cannot be interrupted."""
    call = partial(copy_context().run, function, *arguments)
    with thread_limit_in_words():
        # Not a task: the end of asyncio.run() cancels all tasks.
        thread = asyncio.get_running_loop().run_in_executor(None, call)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            await until_done(lambda: [thread], lambda: None)
            raise
