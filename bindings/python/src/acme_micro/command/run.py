"""A run of a subcommand: from arguments to an exit status."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from .._threads import thread_limit_in_words
from . import usage
from .account import account
from .daemon import daemon
from .delete import delete
from .failure import Interrupted, UsageError, kind_of
from .hook import kill_hooks
from .layout import Layout
from .move import move
from .obtain import obtain
from .output import Output
from .parser import make_parser
from .renew import renew
from .revoke import revoke
from .show import show
from .streams import write

Command = Callable[[argparse.Namespace, Layout, Output], Coroutine[Any, Any, int]]
COMMANDS: dict[str, Command] = {
    "obtain": obtain,
    "renew": renew,
    "daemon": daemon,
    "move": move,
    "revoke": revoke,
    "delete": delete,
    "show": show,
    "account": account,
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(given: list[str]) -> int:
    """Runs the command with these arguments; returns its exit status."""
    _reset_signals()
    # For errors in the arguments, before they are parsed.
    output = Output(as_json="--json" in given, quiet=False, verbose=False)
    command = None
    try:
        parsed = make_parser().parse_args(given)
        command = parsed.command
        if parsed.version:
            write(usage.versions())
            return 0
        if command is None:
            raise UsageError("the command is missing", f"add one of {', '.join(COMMANDS)}; or see --help")
        output = Output(as_json=parsed.json, quiet=parsed.quiet, verbose=parsed.verbose)
        running = COMMANDS[command](parsed, Layout(parsed.folder), output)
        with thread_limit_in_words():
            return asyncio.run(_run_until_signal(running))
    except (Exception, KeyboardInterrupt) as error:
        return report(error, output, command)


def _reset_signals() -> None:
    """Undoes what a parent may have left, which hooks would inherit, too. If SIGCHLD is ignored, the system
    does not report the status of a hook."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def report(error: BaseException, output: Output, command: str | None) -> int:
    """Writes why the command failed; returns its exit status."""
    if isinstance(error, BrokenPipeError):
        # The reader of standard output has closed it.
        return 128 + signal.SIGPIPE
    output.failure(error, command)
    return kind_of(error)[1]


async def _run_until_signal(running: Coroutine[Any, Any, int]) -> int:
    """Runs a subcommand. The first signal cancels it, and its challenges are removed; further signals kill
    the hooks that this waits for."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(running)
    came: list[int] = []

    def end(number: int) -> None:
        if not came:
            task.cancel()
        else:
            kill_hooks()
        came.append(number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted(*came[:1]) from None
