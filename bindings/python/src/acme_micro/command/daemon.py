"""``acme-micro daemon``: keeps all certificates of the folder fresh, until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from .._revocation import REVOKED, REVOKING
from .daemon_lock import only_daemon
from .in_use import AnyCa, in_use_instead, pass_over
from .keeper import Keeper
from .layout import CA_FILE, CHAIN, KEY, RENEWAL, Ca, Layout
from .output import Output
from .publishers import Publishers
from .settings import CertificateSettings

# Interval in seconds in which the daemon notices changes of the folder.
POLL_INTERVAL = 3
# Delay in seconds until it reads the folder again after a failure.
RETRY_INTERVAL = 60
# Endings of the files whose content matters, and of those whose existence does.
CONTENT = (RENEWAL, CA_FILE)
EXISTENCE = (CHAIN, REVOKING, CHAIN + REVOKED, KEY + REVOKED)

Snapshot = frozenset[tuple[object, ...]]
Wanted = list[tuple[Ca, dict[str, CertificateSettings]]]


async def daemon(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Works until SIGTERM or Ctrl-C, which are its usual end."""
    layout.everywhere()  # a folder that cannot be read is an error now; later, it is read again
    with only_daemon(str(layout.path)):
        work = Daemon(arguments.folder, output)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, work.read_again)
        try:
            await work.run()
        except asyncio.CancelledError:  # by a signal
            pass
        finally:
            await work.close()
    return 0


class Daemon:
    """The keepers of all CAs of a folder."""

    def __init__(self, folder: Path | None, output: Output):
        self._folder, self._output = folder, output
        self._publishers = Publishers(output)
        self._keepers: dict[Path, Keeper] = {}
        self._is_asked = asyncio.Event()
        #: The errors of the last reading, by the names of certificates and CAs.
        self._failures: dict[str, Exception] = {}

    def read_again(self) -> None:
        """Reads the folder again soon, and begins anew with certificates that were given up."""
        self._is_asked.set()

    async def run(self) -> None:
        seen: Snapshot | None = None
        read_at = 0.0
        while True:
            asked = self._is_asked.is_set()
            self._is_asked.clear()
            now = snapshot(Layout(self._folder).path)
            is_retry = bool(self._failures) and time.monotonic() >= read_at + RETRY_INTERVAL
            if asked or is_retry or now != seen:
                await self._read()
                if asked or seen is None:
                    self._say_what_is_kept()
                seen, read_at = now, time.monotonic()
            for keeper in self._keepers.values():
                if asked:
                    keeper.begin_anew()
                await keeper.deploy_again()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_asked.wait(), POLL_INTERVAL)

    async def close(self) -> None:
        keepers, self._keepers = self._keepers, {}
        await asyncio.gather(*(keeper.close() for keeper in keepers.values()))

    def _say_what_is_kept(self) -> None:
        count = sum(map(len, self._keepers.values()))
        self._output.note(f"keeping {count} certificates in {Layout(self._folder).shown} fresh")

    async def _read(self) -> None:
        """Reads the folder. A file that cannot be used is reported; its certificate stays as it was."""
        failures: dict[str, Exception] = {}
        try:
            layout = Layout(self._folder)
            wanted = self._wanted(layout, failures)
        except Exception as error:  # the whole folder cannot be read
            failures[""] = error
        else:
            failures.update(layout.unusable)
            await self._close_others(wanted, set(layout.unusable))
            for ca, certificates in wanted:
                await self._keep(ca, certificates, failures)
        for about, failure in failures.items():
            if str(self._failures.get(about)) != str(failure):
                self._output.error(failure, about=about)
        self._failures = failures

    def _wanted(self, layout: Layout, failures: dict[str, Exception]) -> Wanted:
        """Returns the certificates to keep fresh: those that ``renew`` renews."""
        cas = layout.everywhere()
        all_cas: list[AnyCa] = [*cas, *layout.unusable_cas()]
        found: Wanted = []
        for ca in cas:
            certificates: dict[str, CertificateSettings] = {}
            for name in ca.names():
                try:
                    settings = ca.certificate_settings(name)
                    if settings is None:
                        continue  # another program obtained it
                    other = in_use_instead(ca, name, all_cas)
                    if other is None:
                        certificates[name] = settings
                    else:
                        pass_over(ca, name, other, self._output)
                except Exception as error:  # a bug, too: it must not stop the others
                    failures[name] = error
            found.append((ca, certificates))
        return found

    async def _close_others(self, wanted: Wanted, unusable: set[str]) -> None:
        """Ends the work for CAs that are gone, or are reached in another way now."""
        now = {ca.path: ca.settings for ca, certificates in wanted if certificates}
        for path, keeper in tuple(self._keepers.items()):
            if path.name not in unusable and now.get(path) != keeper.ca.settings:
                await self._keepers.pop(path).close()

    async def _keep(
        self, ca: Ca, certificates: dict[str, CertificateSettings], failures: dict[str, Exception]
    ) -> None:
        try:
            keeper = self._keepers.get(ca.path)
            if keeper is None:
                if not certificates:
                    return
                keeper = await self._opened(ca)
            keeper.remove_others({*certificates, *failures})
        except Exception as error:  # a file that the client needs, or no descriptor is left
            failures[ca.name] = error
            return
        for name, settings in certificates.items():
            try:
                await keeper.keep(name, settings)
            except Exception as error:
                failures[name] = error

    async def _opened(self, ca: Ca) -> Keeper:
        keeper = Keeper(ca, self._publishers, self._output)
        try:
            await keeper.start()
        except BaseException:
            await keeper.close()
            raise
        self._keepers[ca.path] = keeper
        return keeper


def snapshot(folder: Path) -> Snapshot:
    """Returns a value that is different after a change of the folder that matters to the daemon."""
    found: list[tuple[object, ...]] = []
    with suppress(OSError):
        for ca in os.scandir(folder):
            with suppress(OSError):
                for file in os.scandir(ca.path) if ca.is_dir() else ():
                    if file.name.endswith(CONTENT):
                        at = file.stat()
                        found.append((file.path, at.st_ino, at.st_mtime_ns, at.st_size))
                    elif file.name.endswith(EXISTENCE):
                        found.append((file.path,))
    return frozenset(found)
