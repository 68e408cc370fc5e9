"""How names are proven: a web server's folder, a server of our own, or hooks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..aio import AnySolver, call
from ..async_standalone import AsyncStandalone
from ..solvers import AsyncSolver, Webroot
from ..steps import Challenge
from .failure import HookFailed
from .output import Output
from .settings import CertificateSettings


def make_solver(settings: CertificateSettings, output: Output) -> AsyncSolver:
    """What the settings ask for; it tells what it does."""
    if settings.webroot:
        return Telling(Webroot(settings.webroot), output)
    if settings.standalone:
        host, port = settings.standalone
        return Telling(AsyncStandalone(port, host), output)
    return Telling(Hook(settings), output)


class Telling:
    """A solver that tells what it does."""

    def __init__(self, solver: AnySolver, output: Output):
        self._solver, self._output = solver, output
        self.challenge_types: Sequence[str] = getattr(solver, "challenge_types")

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"publishing {_kinds(challenges)} for {_names(challenges)}")
        await call(self._solver.publish, challenges)
        self._output.step("published; the CA looks at it")

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"taking down {_kinds(challenges)} for {_names(challenges)}")
        await call(self._solver.unpublish, challenges)


class Hook:
    """Commands that publish challenges and take them down, one at a time.

    They find what to do in their environment; those variables that begin with ``CERTBOT_`` are as
    certbot's ``--manual-auth-hook`` and ``--manual-cleanup-hook`` have them.
    """

    def __init__(self, settings: CertificateSettings):
        self.challenge_types = (settings.challenge_type or "dns-01",)
        self._names = settings.names
        self._publish = settings.hook or ""
        self._unpublish = settings.cleanup_hook or self._publish
        self._said: dict[tuple[str, str], str] = {}

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            said = await run_hook(self._publish, self._environment("publish", challenge, left))
            self._said[challenge.identifier, challenge.token] = said

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: HookFailed | None = None
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            said = self._said.pop((challenge.identifier, challenge.token), "")
            variables = self._environment("unpublish", challenge, left)
            try:
                await run_hook(self._unpublish, {**variables, "CERTBOT_AUTH_OUTPUT": said})
            except HookFailed as error:  # no reason to leave the others
                failure = error
        if failure is not None:
            raise failure

    def _environment(self, action: str, challenge: Challenge, left: int) -> dict[str, str]:
        value = challenge.dns_value or challenge.key_authorization
        return {
            "ACME_ACTION": action,
            "ACME_TYPE": challenge.type,
            "ACME_NAME": challenge.identifier,
            "ACME_DNS_NAME": challenge.dns_name or "",
            "ACME_DNS_VALUE": challenge.dns_value or "",
            "ACME_HTTP_PATH": challenge.http_path or "",
            "ACME_HTTP_BODY": challenge.key_authorization if challenge.http_path else "",
            "CERTBOT_DOMAIN": challenge.identifier,
            "CERTBOT_VALIDATION": value,
            "CERTBOT_TOKEN": challenge.token if challenge.http_path else "",
            "CERTBOT_REMAINING_CHALLENGES": str(left),
            "CERTBOT_ALL_DOMAINS": ",".join(self._names),
        }


async def run_hook(command: str, variables: Mapping[str, str]) -> str:
    """Runs a hook; gives what it says. People see that on standard error: results are elsewhere.

    It is in a session of its own: a Ctrl-C is ours, and whatever it has started ends with it.
    """
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        command,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
        raise
    said = output.decode(errors="replace")
    sys.stderr.write(said)
    sys.stderr.flush()
    status = process.returncode
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise HookFailed(f"{variables['ACME_NAME']}: the hook ended with {how}: {command}")
    return said.strip()


def _kinds(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(sorted({challenge.type for challenge in challenges}))


def _names(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(challenge.identifier for challenge in challenges)
