"""How names are proven: a web server's folder, a server of our own, or hooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ..solvers import Solver, Standalone, Webroot
from ..steps import Challenge
from .failure import HookFailed
from .home import CertificateSettings
from .output import Output
from .text import plain


def make_solver(settings: CertificateSettings, output: Output) -> Solver:
    """What the settings ask for; it tells what it does."""
    solver: Solver
    if settings.webroot:
        solver = Webroot(settings.webroot)
    elif settings.standalone:
        host, port = settings.standalone
        solver = Standalone(port, host)
    else:
        solver = Hook(settings)
    return Telling(solver, output)


class Telling:
    """A solver that tells what it does."""

    def __init__(self, solver: Solver, output: Output):
        self._solver, self._output = solver, output
        self.challenge_types: Sequence[str] = getattr(solver, "challenge_types")

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"publishing {_kinds(challenges)} for {_names(challenges)}")
        self._solver.publish(challenges)
        self._output.step("published; the CA looks at it")

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        self._output.step(f"taking down {_kinds(challenges)} for {_names(challenges)}")
        self._solver.unpublish(challenges)


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

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            said = run_hook(self._publish, self._environment("publish", challenge, left))
            self._said[challenge.identifier, challenge.token] = said

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: HookFailed | None = None
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            said = self._said.pop((challenge.identifier, challenge.token), "")
            variables = self._environment("unpublish", challenge, left)
            try:
                run_hook(self._unpublish, {**variables, "CERTBOT_AUTH_OUTPUT": said})
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


def run_hook(command: str, variables: Mapping[str, str]) -> str:
    """Runs a hook; gives what it says. People see that on standard error: results are elsewhere.

    It is in a session of its own: a Ctrl-C is ours, and whatever it has started ends with it.
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    sys.stderr.write(said)
    sys.stderr.flush()
    status = process.returncode
    if status != 0:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        about = variables.get("ACME_NAME", "")
        raise HookFailed(f"{plain(about)}: the hook ended with {how}: {command}")
    return said.strip()


def _kinds(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(sorted({challenge.type for challenge in challenges}))


def _names(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(challenge.identifier for challenge in challenges)
