"""How challenges are published: in a web server's folder, by a standalone server, or by hooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from .._publishing import AnySolver, call
from ..async_standalone import AsyncStandalone
from ..solvers import AsyncSolver, Webroot
from ..steps import Challenge
from .hook import MAX_OUTPUT, run_hook
from .output import Output
from .settings import CertificateSettings
from .system_text import to_system

logger = logging.getLogger("acme_micro")


def make_solver(
    settings: CertificateSettings, output: Output, variables: Mapping[str, str]
) -> AsyncSolver:
    """Makes the solver of the settings; it reports its progress. Hooks get the variables, too."""
    if settings.webroot:
        return Reporting(Webroots(settings.webroots), output)
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


class Webroots:
    """Publishes challenges in each of these folders: each name may have its own."""

    challenge_types = Webroot.challenge_types

    def __init__(self, folders: Sequence[str]):
        self._webroots = [Webroot(to_system(folder)) for folder in folders]

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        for webroot in self._webroots:
            webroot.publish(challenges)

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: OSError | None = None
        for webroot in self._webroots:
            try:
                webroot.unpublish(challenges)
            except OSError as error:  # remove the others nevertheless
                failure = error
        if failure is not None:
            raise failure


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
        self._timeout, self._folder = settings.hook_timeout, settings.hook_folder
        self._outputs: dict[tuple[str, str], str] = {}

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            text = await self._run(self._publish, self._environment("publish", challenge, left))
            self._outputs[challenge.identifier, challenge.token] = self._for_cleanup(text)

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: Exception | None = None
        for left, challenge in zip(reversed(range(len(challenges))), challenges):
            text = self._outputs.pop((challenge.identifier, challenge.token), "")
            variables = self._environment("unpublish", challenge, left)
            try:
                await self._run(self._unpublish, {**variables, "CERTBOT_AUTH_OUTPUT": text})
            except Exception as error:  # remove the others nevertheless
                failure = error
        if failure is not None:
            raise failure

    async def _run(self, command: str, variables: Mapping[str, str]) -> str:
        return await run_hook(command, variables, self._timeout, self._folder)

    def _for_cleanup(self, output: str) -> str:
        """Returns the output as a variable can have it: without NUL, and not too long."""
        text = output.replace("\0", "").encode()[:MAX_OUTPUT].decode(errors="ignore")
        if text != output:
            why = "its output has a NUL, or more than 64 KiB; the cleanup hook gets only a part of it"
            logger.warning("%s: %s", self._publish, why)
        return text.strip()

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


def _kinds(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(sorted({challenge.type for challenge in challenges}))


def _names(challenges: tuple[Challenge, ...]) -> str:
    return ", ".join(challenge.identifier for challenge in challenges)
