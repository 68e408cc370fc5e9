"""Hooks: commands of the user, which publish and remove challenges or deploy certificates."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from .failure import HookFailed
from .system_text import to_bytes

# Delay in seconds between SIGTERM and SIGKILL.
GRACE = 5
# Interval in seconds between two checks whether a hook has ended.
POLL_INTERVAL = 0.02
# Maximum number of bytes of a hook's output that another hook gets: the system allows 128 KiB in a variable.
MAX_OUTPUT = 64 << 10
# Hints for the statuses of a shell that could not run a command.
HINTS = {
    126: "the hook cannot be executed: chmod +x its file, and check that the program of its #! line exists "
    "and that the line ends with LF, not CRLF",
    127: "the hook, or the program of its #! line, does not exist: check the path, quote spaces in it, "
    "and end the lines of a script with LF, not CRLF",
}

_running: set[subprocess.Popen[bytes]] = set()


async def run_hook(
    command: str, variables: Mapping[str, str], timeout: int, folder: str | None
) -> str:
    """Runs a hook; writes its output to standard error, and returns the output: not much more than
    :data:`MAX_OUTPUT` of it.

    It runs in the folder, if that can still be entered, so that relative paths mean the same in each run.
    The hook is in a session of its own: Ctrl-C does not reach it, and its processes end with it. Its
    output goes to a file: a pipe would stay open as long as a process that it leaves running.
    """
    name = variables["ACME_NAME"]
    try:
        with _output_file() as output:
            process = _start(command, variables, output, folder)
            _running.add(process)
            try:
                in_time = await _has_ended(process, timeout)
            finally:
                await _end(process)
                _running.discard(process)
            _show(output.fileno())
            text = os.pread(output.fileno(), MAX_OUTPUT + 1, 0).decode(errors="replace")
    except OSError as error:
        raise HookFailed(f"{name}: the hook did not run: {error.strerror or error}: {command}") from None
    if not in_time:
        raise HookFailed(f"{name}: the hook took more than {timeout} seconds: {command}")
    status = process.returncode
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise HookFailed(f"{name}: the hook ended with {how}: {command}", HINTS.get(status))
    return text.strip()


def kill_hooks() -> None:
    """Kills the running hooks, after a second signal from the user."""
    for process in _running:
        _signal(process, signal.SIGKILL)


def _output_file() -> IO[bytes]:
    """Opens a file in memory, because the folders for temporary files may be full or read-only."""
    try:
        return open(os.memfd_create("hook"), "w+b")
    except (AttributeError, OSError):  # an old system
        return tempfile.TemporaryFile()


def _start(
    command: str, variables: Mapping[str, str], output: IO[bytes], folder: str | None
) -> subprocess.Popen[bytes]:
    place = None if folder is None else to_bytes(folder)
    if place is not None and not (os.path.isdir(place) and os.access(place, os.X_OK)):
        place = None
    given = {name.encode(): to_bytes(value) for name, value in variables.items()}
    return subprocess.Popen(
        ["/bin/sh", "-c", to_bytes(command)],
        env={**os.environb, **given},
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=output,
        start_new_session=True,
    )


async def _has_ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Waits until the hook has ended; False if it takes longer. asyncio's own processes would need a thread
    each."""
    end = time.monotonic() + timeout
    while process.poll() is None:
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(POLL_INTERVAL)
    return True


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a hook that is still running: by SIGTERM and, after a delay, by SIGKILL."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        await _has_ended(process, GRACE)
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _show(output: int) -> None:
    """Writes a hook's output to standard error. The offset stays: the hook may have left a process running."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at = 0
    with suppress(OSError):  # standard error is closed
        while data := os.pread(output, MAX_OUTPUT, at):
            at += len(data)
            sys.stderr.write(decoder.decode(data))
        sys.stderr.write(decoder.decode(b"", True))
        sys.stderr.flush()
