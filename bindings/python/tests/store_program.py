"""A program that obtains a certificate with a Store, and kills itself at one of its steps.

    store_program.py FOLDER WEBROOT STEP [async] [renew] [new-key]

The steps are: before and after each request, before and after a challenge is published or removed, and
before each system call that stores the account's key. The library makes the others. The program writes the name of each step, with a number if it
comes again ("open", "open 2"), and at STEP it kills itself with SIGKILL. With exit status 0 it has the
certificate.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import Counter
from typing import Any

import acme_micro as acme
from acme_micro import _atomic_write, _folder
from acme_micro.operation import Operation

FOLDER, WEBROOT, STEP = sys.argv[1:4]
NAMES = ["store.test", "www.store.test"]
CALLS = ("close", "fchmod", "fsync", "mkdir", "open", "rename", "unlink", "write")
seen: Counter[str] = Counter()


def step(what: str) -> None:
    seen[what] += 1
    if seen[what] > 1:
        what += f" {seen[what]}"
    print(what, flush=True)
    if what == STEP:
        os.kill(os.getpid(), signal.SIGKILL)


class _Webroot(threading.local):
    """Whether this thread is writing files of the webroot. These system calls are not steps."""

    is_writing = False


webroot = _Webroot()


class Calls:
    """The module os, with a step before each call that changes a file."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        if name not in CALLS or webroot.is_writing:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            files = [os.path.basename(a) for a in arguments if isinstance(a, str)]
            step(" ".join([name, *(file for file in files if not file.startswith("tmp-"))]))
            return function(*arguments, **options)

        return call


class Webroot(acme.Webroot):
    def publish(self, challenges: Any) -> None:
        step("publish")
        webroot.is_writing = True
        super().publish(challenges)
        webroot.is_writing = False
        step("published")

    def unpublish(self, challenges: Any) -> None:
        step("unpublish")
        super().unpublish(challenges)
        step("unpublished")


def send(operation: Operation, id: int) -> None:
    state = operation.state
    step(f"send {state}")
    plain_send(operation, id)
    step(f"sent {state}")


plain_send, Operation._send = Operation._send, send  # type: ignore[method-assign]
_folder.os = _atomic_write.os = Calls()  # type: ignore[assignment]

store = acme.Store(FOLDER)
solver = Webroot(WEBROOT)
options = {"terms_agreed": True, "ca_file": os.environ["ACME_CA_FILE"]}
renew_now, new_key = "renew" in sys.argv[4:], "new-key" in sys.argv[4:]


async def obtain() -> acme.Certificate:
    async with store.async_client(os.environ["ACME_DIRECTORY"], **options) as ca:
        return await store.obtain_async(ca, NAMES, solver, renew_now=renew_now, new_key=new_key)


if "async" in sys.argv[4:]:
    certificate = asyncio.run(obtain())
else:
    with store.client(os.environ["ACME_DIRECTORY"], **options) as ca:
        certificate = store.obtain(ca, NAMES, solver, renew_now=renew_now, new_key=new_key)
assert certificate.key is not None
print(f"certificate {certificate.serial}", flush=True)
