"""The network namespace in which Boulder and the tests run."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

from addresses import CA, CA_OF_FEW_ACCOUNTS, WEB, WEB_WITHOUT_SERVER
from with_pebble import StartError

def enter() -> None:
    """Moves this process, and so its children, into a network namespace of its own.

    The kernel removes the namespace when the last of these processes ends.
    """
    if os.geteuid() != 0:
        raise StartError("this needs root, for a network namespace of its own")
    if shutil.which("ip") is None:
        raise StartError("ip is not installed; run tests/setup boulder")
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newnet) != 0:
        why = os.strerror(ctypes.get_errno())
        raise StartError(f"the kernel makes no network namespace for this process: {why}")
    ip("link", "set", "lo", "up")
    for address in (CA, CA_OF_FEW_ACCOUNTS, WEB, WEB_WITHOUT_SERVER):
        ip("address", "add", f"{address}/32", "dev", "lo")


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise StartError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
