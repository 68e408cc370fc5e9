"""The certificates of one CA, which the daemon keeps fresh by a manager."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from .._names import canonical
from ..async_manager import AsyncManager
from ..manager import EventType, ManagerEvent
from ..schedule import next_try
from .events import deploy_failed, deployed, line_of, object_of
from .layout import Ca
from .obtain import advise_of, deploy_pending
from .output import Output
from .parser import KEY_TYPES
from .publishers import PublisherOfCa, Publishers
from .settings import CertificateSettings

# Minimum age in seconds of a revocation that counts as killed: the command that revokes may still be at work.
REVOCATION_AGE = 600


@dataclass
class Deploy:
    """A deploy hook that has failed."""

    failures: int
    next_try: float


class Keeper:
    """Keeps the certificates of one CA fresh, and deploys them."""

    def __init__(self, ca: Ca, publishers: Publishers, output: Output):
        self.ca, self._output = ca, output
        self._publisher = PublisherOfCa(publishers, ca.variables)
        self._stack = AsyncExitStack()
        self._manager: AsyncManager | None = None
        #: The names of the certificates by the names that the library gives them, and whether each has a file.
        self._names: dict[str, str] = {}
        self._has: dict[str, bool] = {}
        self._failed_deploys: dict[str, Deploy] = {}

    def __len__(self) -> int:
        """The number of certificates."""
        return len(self._has)

    async def start(self) -> None:
        """Opens the client, and starts the manager."""
        client = await self._stack.enter_async_context(self.ca.open_client())
        # One attempt at a time, as renew does: hooks may be written for that.
        manager = AsyncManager(client, self._publisher, on_event=self._on_event, max_attempts=1)
        self._manager = await self._stack.enter_async_context(manager)
        manager.start()

    async def close(self) -> None:
        """Ends the work. Challenges are removed, and a hook that runs is ended."""
        self._manager = None
        await self._stack.aclose()

    def remove_others(self, names: set[str]) -> None:
        """Removes the certificates that are not among these."""
        for name in set(self._has) - names:
            self._remove(name)

    def _remove(self, name: str) -> None:
        assert self._manager is not None
        self._manager.remove(name)
        self._names.pop(canonical(name), None)
        self._has.pop(name, None)
        self._publisher.certificates.pop(name, None)
        self._failed_deploys.pop(name, None)

    async def keep(self, name: str, settings: CertificateSettings) -> None:
        """Adds a certificate, or changes its options."""
        assert self._manager is not None
        is_new = name not in self._has
        if self.ca.has_revocation(name):
            async with self.ca.locked():
                self.ca.end_revocation(name, 0 if is_new else REVOCATION_AGE)
        has = self.ca.has(name)
        if self._has.get(name) and not has:
            self._remove(name)  # it was set aside, so that the manager must not go on with it
        solver = self._publisher.of(settings)
        self._manager.add(
            settings.names,
            name=name,
            key_type=KEY_TYPES[settings.key_type or "p256"],
            profile=settings.profile,
            preferred_chain=settings.preferred_chain,
            challenge_types=getattr(solver, "challenge_types"),
        )
        self._names[canonical(name)], self._has[name] = name, has
        self._publisher.certificates[name] = settings

    def begin_anew(self) -> None:
        """Begins anew with the certificates that were given up, and with deploy hooks that have failed."""
        assert self._manager is not None
        for one in self._manager.status():
            if one["state"] == "stopped":
                self._manager.renew(one["name"])
        for deploy in self._failed_deploys.values():
            deploy.next_try = 0

    async def deploy_again(self) -> None:
        """Runs deploy hooks that have failed, if it is time."""
        for name, deploy in tuple(self._failed_deploys.items()):
            if time.time() >= deploy.next_try:
                await self._deploy(name)

    async def _on_event(self, event: ManagerEvent) -> None:
        name = self._names.get(event.name, event.name)
        settings = self._publisher.certificates.get(name)
        if event.error is not None and settings is not None:
            advise_of(event.error, self.ca, settings)
        self._output.event(line_of(event, name or self.ca.name), object_of(event, self.ca, name))
        if event.type in (EventType.OBTAINED, EventType.RENEWED):
            self._has[name] = self.ca.has(name)
            self._failed_deploys.pop(name, None)
        if event.certificate is not None and settings is not None and name not in self._failed_deploys:
            await self._deploy(name)

    async def _deploy(self, name: str) -> None:
        """Runs the deploy hook, if it has not succeeded for the stored certificate."""
        try:
            await deploy_pending(self.ca, name, self._output)
        except Exception as error:  # a bug, too: the next certificate has its turn
            known = self._failed_deploys.setdefault(name, Deploy(0, 0))
            known.failures += 1
            at = next_try(known.failures)
            known.next_try = at.timestamp()
            self._output.event(*deploy_failed(self.ca, name, error, at))
        else:
            if self._failed_deploys.pop(name, None):
                self._output.event(*deployed(self.ca, name))
