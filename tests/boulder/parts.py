"""The processes of one Boulder; each starts after the processes that it needs."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from configuration import PORTS
from with_pebble import StartError, die_with_parent, end

START_S = 60  # for a part to listen
BACK_AFTER_S = 5  # delay before a part that a test has ended starts again
LOOK_S = 0.05
LISTEN = "0A"  # in /proc/net/tcp


class Parts:
    """Processes that run until ``stack`` ends; a process that a test ends is started again.

    The file ``pids/PART`` has the number of each process, so that a test can end it.
    """

    def __init__(self, stack: ExitStack, logs: Path, pids: Path):
        self.logs, self.pids = logs, pids
        self.commands: dict[str, list[str]] = {}
        self.running: dict[str, subprocess.Popen] = {}
        self.over = threading.Event()
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        pids.mkdir()
        stack.callback(self.stop)

    def start(self, part: str, command: list[str], port: str = "") -> None:
        """Starts a part, and waits until it listens."""
        self.commands[part] = command
        self.spawn(part)
        deadline = time.monotonic() + START_S
        while not listens(PORTS[port or part]):
            if (status := self.running[part].poll()) is not None:
                raise StartError(f"{part} ended with status {status}")
            if time.monotonic() > deadline:
                raise StartError(f"{part} did not listen within {START_S} s")
            time.sleep(0.02)

    def spawn(self, part: str) -> None:
        with (self.logs / f"{part}.log").open("ab") as log:
            process = subprocess.Popen(
                self.commands[part],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # out of reach of Ctrl-C
                preexec_fn=die_with_parent,
            )
        self.running[part] = process
        new = self.pids / f".{part}"
        new.write_text(str(process.pid))
        new.rename(self.pids / part)

    def keep(self) -> None:
        """Restarts parts that a test ends."""
        ended: dict[str, float] = {}
        while not self.over.wait(LOOK_S):
            for part, process in self.running.copy().items():
                if process.poll() is None:
                    continue
                if time.monotonic() >= ended.setdefault(part, time.monotonic() + BACK_AFTER_S):
                    del ended[part]
                    self.spawn(part)

    def stop(self) -> None:
        self.over.set()
        if self.keeper.is_alive():
            self.keeper.join()
        for process in reversed(self.running.values()):
            end(process, signal.SIGKILL)  # its state is not needed again


def listens(port: int) -> bool:
    """Whether a process listens on this port, at any address."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if local.endswith(f":{port:04X}") and state == LISTEN:
                return True
    return False
