"""A driver of the library, which an event loop watches."""

from __future__ import annotations

import asyncio
from ctypes import pointer, sizeof
from typing import TYPE_CHECKING, Any

from . import _native
from ._handle import create
from ._waiting import on_thread
from .errors import check

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["Driver"]


class Driver:
    """A driver. Callbacks are called on the loop's thread, except during :meth:`aclose`."""

    #: An object that lives as long as the loop watches the driver.
    owner: object = None

    def __init__(self, loop: asyncio.AbstractEventLoop, max_threads: int, max_requests_per_ca: int):
        self.loop = loop
        options = _native.acme_driver_options_t()
        options.size = sizeof(options)
        options.max_threads = max_threads
        options.max_requests_per_ca = max_requests_per_ca
        make, free = _native.acme_driver_new, _native.acme_driver_free
        made = create(_native.acme_driver_t, free, lambda driver: make(pointer(options), driver))
        self._handles = [made]
        self._fd = _native.acme_driver_fd(made)
        loop.add_reader(self._fd, self._dispatch)

    @property
    def handle(self) -> _Pointer[Any]:
        return self._handles[0]

    def _dispatch(self) -> None:
        check(_native.acme_driver_dispatch(self.handle))

    async def aclose(self) -> None:
        """Ends the operations that are still running, and frees the driver, which waits for its threads."""
        self.loop.remove_reader(self._fd)
        # The last reference frees the driver.
        try:
            await on_thread(self._handles.clear)
        except OSError:  # the system refuses a new thread
            self._handles.clear()

    def close(self) -> None:
        """Frees a driver that has not worked yet. After :meth:`aclose`, it has no effect."""
        if self._handles:
            self.loop.remove_reader(self._fd)
            self._handles.clear()
