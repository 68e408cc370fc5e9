"""The network namespace in which Boulder and the tests run, and the addresses in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

from with_pebble import StartError

INTERNAL = "127.0.0.1"  # where Boulder's parts meet

# Boulder validates no address that IANA has reserved, and has no limit of its own for one. So these
# are from Let's Encrypt's network, as in Boulder's own tests. The namespace has no way out.
CA = "64.112.117.1"
WEB = "64.112.117.2"  # the names' web server
WEB_WITHOUT_SERVER = "64.112.117.3"

# The same CA. A client that connects to an address of this machine has that address itself, so
# here another client is seen, to which the general limits apply.
CA_OF_FEW_ACCOUNTS = "10.77.0.2"


def enter() -> None:
    """Moves this process, and so all that it starts, to a network namespace of its own.

    It is gone with the last of them, whatever ends them.
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
