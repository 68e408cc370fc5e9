"""Threads that the system refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def thread_limit_in_words() -> Iterator[None]:
    """Raises OSError if the system refuses a new thread; Python raises a bare RuntimeError.

    If that happens while another error is handled, the other error is raised: it came first.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        why = f"the system refuses a new thread: {os.strerror(errno.EAGAIN)}; raise the limit of threads"
        raise error.__context__ or OSError(errno.EAGAIN, why) from None
