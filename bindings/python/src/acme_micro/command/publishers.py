"""How the daemon publishes challenges: with the options of the certificates for the names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from .._names import canonical
from ..solvers import AsyncSolver
from ..steps import Challenge
from .failure import CommandError
from .output import Output
from .settings import CertificateSettings
from .solve import make_solver

logger = logging.getLogger("acme_micro")


class Publishers:
    """The solvers of all CAs. One works at a time, because hooks change the same zone or file."""

    def __init__(self, output: Output):
        self._output = output
        self._made: dict[tuple[Any, ...], AsyncSolver] = {}
        self.turn = asyncio.Lock()

    def of(self, settings: CertificateSettings, variables: Mapping[str, str]) -> AsyncSolver:
        """Returns the solver of a certificate. Certificates with the same port share one, also those of two CAs."""
        key = way_of(settings)
        if settings.hook:
            key = (*key, settings.names, *variables.items())
        if key not in self._made:
            self._made[key] = make_solver(settings, self._output, variables)
        return self._made[key]


class PublisherOfCa:
    """The solver for the certificates of one CA.

    A manager does not say for which certificate it publishes. If several have all names of the challenges, each
    way of publishing among their options is used.
    """

    def __init__(self, publishers: Publishers, variables: Mapping[str, str]):
        self._publishers, self._variables = publishers, variables
        #: The certificates by their names in the store.
        self.certificates: dict[str, CertificateSettings] = {}
        self._used: dict[tuple[str, str], list[AsyncSolver]] = {}

    def of(self, settings: CertificateSettings) -> AsyncSolver:
        return self._publishers.of(settings, self._variables)

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        solvers = self._for(challenges)
        failures: list[Exception] = []
        used = self._used[_key(challenges)] = list[AsyncSolver]()
        async with self._publishers.turn:
            for solver in solvers:
                used.append(solver)
                try:
                    await solver.publish(challenges)
                except Exception as error:
                    failures.append(error)
        if len(failures) == len(solvers):
            raise failures[0] if failures else CommandError("the certificate is not in the folder any more")
        for failure in failures:
            logger.warning("%s", failure)

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        failure: Optional[Exception] = None
        async with self._publishers.turn:
            # Without a publish, they are of a run that was killed.
            for solver in self._used.get(_key(challenges)) or self._for(challenges):
                try:
                    await solver.unpublish(challenges)
                except Exception as error:  # remove the others nevertheless
                    failure = error
            self._used.pop(_key(challenges), None)
        if failure is not None:
            raise failure

    def _for(self, challenges: tuple[Challenge, ...]) -> list[AsyncSolver]:
        """Returns the solvers of the certificates that have all these names, one for each way of publishing."""
        wanted = _set_of(challenge.identifier for challenge in challenges)
        types = {challenge.type for challenge in challenges}
        found: dict[tuple[Any, ...], AsyncSolver] = {}
        for settings in sorted(self.certificates.values(), key=lambda settings: len(settings.names)):
            solver = self.of(settings)
            if wanted <= _set_of(settings.names) and types <= set(getattr(solver, "challenge_types")):
                found.setdefault(way_of(settings), solver)
        return list(found.values())


def way_of(settings: CertificateSettings) -> tuple[Any, ...]:
    """Returns the options that say how challenges are published."""
    return (
        settings.webroots, settings.standalone, settings.hook, settings.cleanup_hook, settings.hook_folder,
        settings.challenge_type, settings.hook_timeout,
    )  # fmt: skip


def _set_of(names: Iterable[str]) -> frozenset[str]:
    return frozenset(canonical(name.removeprefix("*.")) for name in names)


def _key(challenges: tuple[Challenge, ...]) -> tuple[str, str]:
    return challenges[0].identifier, challenges[0].token
