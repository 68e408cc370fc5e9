"""How challenges are published: in a web server's folder, by a standalone server, or by hooks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..aio import AnySolver, call
from ..async_standalone import AsyncStandalone
from ..solvers import AsyncSolver, Webroot
from ..steps import Challenge
from .failure import HookFailed
from .output import Output
from .settings import CertificateSettings


def make_solver(
    settings: CertificateSettings, output: Output, variables: Mapping[str, str]
) -> AsyncSolver:
    """Makes the solver of the settings; it reports its progress. Hooks get the variables, too."""
    if settings.webroot:
        return Reporting(Webroot(settings.webroot), output)
    if settings.standalone:
        host, port = settings.standalone
        return Reporting(AsyncStandalone(port, host), output)
    return Reporting(Hook(settings, variables), output)


class Reporting:
    """A solver that reports its progress."""

    def __init__(self, solver: AnySolver, output: Output):
        self._solver, self._output = solver, output
        self.challenge_types: Sequence[str] = getattr(solver, "challenge_types")

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"publishing {_kinds(challenges)} for {_names(challenges)}")
        await call(self._solver.publish, challenges)
        self._output.step("published; the CA validates now")

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"removing {_kinds(challenges)} for {_names(challenges)}")
        await call(self._solver.unpublish, challenges)


class Hook:
    """Commands that publish and remove challenges, one at a time.

    They get the challenge in their environment. The variables that begin with ``CERTBOT_`` are those
    of certbot's ``--manual-auth-hook`` and ``--manual-cleanup-hook``.
    """

    def __init__(self, settings: CertificateSettings, variables: Mapping[str, str]):
        self._variables = variables
        self.challenge_types = (settings.challenge_type or "dns-01",)
        self._names = settings.names
        self._publish = settings.hook or ""
        self._unpublish = settings.cleanup_hook or self._publish
        self._timeout = settings.hook_timeout
        self._outputs: dict[tuple[str, str], str] = {}

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            text = await self._run(self._publish, self._environment("publish", challenge, left))
            self._outputs[challenge.identifier, challenge.token] = text

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: HookFailed | None = None
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            text = self._outputs.pop((challenge.identifier, challenge.token), "")
            variables = self._environment("unpublish", challenge, left)
            try:
                await self._run(self._unpublish, {**variables, "CERTBOT_AUTH_OUTPUT": text})
            except HookFailed as error:  # remove the others nevertheless
                failure = error
        if failure is not None:
            raise failure

    async def _run(self, command: str, variables: Mapping[str, str]) -> str:
        return await run_hook(command, variables, self._timeout)

    def _environment(self, action: str, challenge: Challenge, left: int) -> dict[str, str]:
        value = challenge.dns_value or challenge.key_authorization
        return {
            **self._variables,
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


# Delay in seconds between SIGTERM and SIGKILL.
GRACE = 5
_running: set[asyncio.subprocess.Process] = set()


def kill_hooks() -> None:
    """Kills the running hooks, after a second signal from the user."""
    for process in _running:
        _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends a hook that is still running: by SIGTERM and, after a delay, by SIGKILL."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), GRACE)
    except asyncio.TimeoutError:
        pass
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()


async def run_hook(command: str, variables: Mapping[str, str], timeout: int) -> str:
    """Runs a hook; returns its output, and writes it to standard error.

    The hook is in a session of its own: Ctrl-C does not reach it, and its processes end with it. Its
    output goes to a file: a pipe would stay open as long as a process that it leaves running.
    """
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            start_new_session=True,
        )
        _running.add(process)
        in_time = True
        try:
            await asyncio.wait_for(process.wait(), timeout)
        except asyncio.TimeoutError:
            in_time = False
        finally:
            await _end(process)
            _running.discard(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    sys.stderr.write(text)
    sys.stderr.flush()
    if not in_time:
        raise HookFailed(f"{variables['ACME_NAME']}: the hook took more than {timeout} seconds: {command}")
    status = process.returncode
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        raise HookFailed(f"{variables['ACME_NAME']}: the hook ended with {how}: {command}")
    return text.strip()


def _kinds(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(sorted({challenge.type for challenge in challenges}))


def _names(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(challenge.identifier for challenge in challenges)
