"""The command's folder: below it one for each CA, which is a :class:`acme_micro.Store`.

Besides what the store keeps, there is in it:

===================== ============================================================
``ca.json``           which CA it is, and how it is reached
``NAME.renewal.json`` how a certificate is obtained, for renewals, and how they went
===================== ============================================================

No NAME makes the one of the other.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from .._folder import PUBLIC, Folder, StoreError
from ..aio import AsyncClient
from ..certificates import Certificate
from ..errors import AcmeError
from ..keys import PrivateKey
from ..store import ACCOUNT_KEY, ACCOUNT_URL, UNUSED, Store
from .cas import DEFAULT, name_of
from .failure import CommandError, UsageError
from .settings import CaSettings, CertificateSettings, read, updated, write

CA_FILE, CHAIN, RENEWAL, DEACTIVATED = "ca.json", ".chain.pem", ".renewal.json", ".deactivated"


class Ca:
    """One CA's folder."""

    def __init__(self, path: Path, settings: CaSettings):
        self.path, self.settings = path, settings
        self.name = name_of(settings.directory)
        self.store = Store(path)
        self._folder = Folder(path)

    @asynccontextmanager
    async def client(self, arguments: argparse.Namespace | None = None) -> AsyncIterator[AsyncClient]:
        """The account here; the arguments may have what is needed to make one."""
        options: dict[str, Any] = {}
        if arguments is not None:
            options.update(
                terms_agreed=arguments.agree_terms,
                contacts=arguments.contact or (),
                eab=_eab(arguments.eab_kid, arguments.eab_key_file),
                eab_algorithm=arguments.eab_algorithm,
            )
        is_first = read(self._folder, CA_FILE, CaSettings) is None
        async with self.store.async_client(
            self.settings.directory,
            ca_file=self.settings.ca_file,
            allowed_hosts=self.settings.allow_host,
            proxy=_proxy(self.settings),
            **options,
        ) as client:
            may_work = True
            if is_first:  # at once: what a run that is killed has obtained is to be renewed
                write(self._folder, CA_FILE, self.settings)
            try:
                yield client
            except BaseException as error:
                may_work = isinstance(error, CommandError)
                raise
            finally:
                if not is_first:
                    await self._keep(client, may_work)
                elif self.store.account_url is None:
                    self._folder.remove(CA_FILE)

    @property
    def has_account(self) -> bool:
        return (self.path / ACCOUNT_KEY).exists()

    @property
    def has_deactivated_account(self) -> bool:
        return (self.path / f"{ACCOUNT_KEY}{DEACTIVATED}").exists()

    async def _keep(self, client: AsyncClient, may_work: bool) -> None:
        """Writes down another way to the CA than the one that is known, if it leads to the account: what
        has never worked is not kept."""
        if not may_work or read(self._folder, CA_FILE, CaSettings) == self.settings:
            return
        try:
            await client.find_account()
        except AcmeError:
            return
        write(self._folder, CA_FILE, self.settings)

    def keep_account_url(self, url: str) -> None:
        if self.store.account_url != url:
            self._folder.write(ACCOUNT_URL, f"{url}\n".encode(), PUBLIC)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Nobody else obtains anything here meanwhile."""
        async with self.store._locked_async(CA_FILE):
            yield

    def names(self) -> tuple[str, ...]:
        """What there is a certificate for."""
        return self.store.names()

    def stored_name(self, name: str) -> str:
        """What :meth:`names` has for it: of a name that is too long for a file, less."""
        return self.store._stored_name(name)

    def certificate_settings(self, name: str) -> CertificateSettings | None:
        """None: a program without this command has obtained it."""
        return read(self._folder, self._file_of(name), CertificateSettings)

    def keep_certificate_settings(self, name: str, settings: CertificateSettings) -> None:
        if self.certificate_settings(name) != settings:
            write(self._folder, self._file_of(name), settings)

    def set_aside(self, name: str) -> None:
        """Renames a certificate's files, so that nothing uses them any more, nor its key."""
        self._folder.remove(self._file_of(name))
        for path in self.store.chain_file(name), self.store.key_file(name):
            self._rename(path, f"{path}.revoked")

    def key_type(self, name: str) -> str | None:
        """Of the key that is there for a certificate."""
        if not os.path.exists(self.store.key_file(name)):
            return None
        return PrivateKey.load(self.store.key_file(name)).type.name.lower()

    def has_chain(self, name: str) -> bool:
        return os.path.exists(self.store.chain_file(name))

    def set_key_aside(self, name: str) -> None:
        """Renames a key for which no CA has given a certificate, to make one of another type."""
        path = self.store.key_file(name)
        self._rename(path, f"{path}{UNUSED}")

    def set_account_aside(self) -> None:
        """Renames the account's key: it is of no use, but what was made with it may need it."""
        self._folder.remove(ACCOUNT_URL)
        path = str(self.path / ACCOUNT_KEY)
        self._rename(path, f"{path}{DEACTIVATED}")

    def set_next_account_key_aside(self, path: Path) -> None:
        """Renames what was to be the account's key, and is refused."""
        self._rename(str(path), f"{path}{UNUSED}")

    def replace_account_key(self, path: Path) -> None:
        """Makes this file the account's key."""
        self._rename(str(path), str(self.path / ACCOUNT_KEY))

    def paths(self, name: str) -> dict[str, str]:
        """Where servers find a certificate."""
        return {"chain_file": self.store.chain_file(name), "key_file": self.store.key_file(name)}

    def _rename(self, old: str, new: str) -> None:
        try:
            os.replace(old, new)
        except OSError as error:
            raise StoreError.of(old, error) from None

    def _file_of(self, name: str) -> str:
        return os.path.basename(self.store.chain_file(name))[: -len(CHAIN)] + RENEWAL


class Layout:
    """All of them."""

    def __init__(self, path: Path | None):
        self.path = (path or default_folder()).absolute()
        #: What keeps a CA's folder from being used, by the folder's name.
        self.unusable: dict[str, Exception] = {}

    def cas(self, arguments: argparse.Namespace) -> list[Ca]:
        """Those of the arguments' CA, or all that can be used; the others are :attr:`unusable`."""
        if arguments.directory:
            there = os.path.isdir(self.path / name_of(arguments.directory))
            return [self.ca(arguments)] if there else []  # who only looks makes no folder
        return [Ca(path, updated(settings, arguments)) for path, settings in self._known().items()]

    def ca(self, arguments: argparse.Namespace, default: str | None = None) -> Ca:
        """The arguments' CA, or the only one that there is; where there is none, the default."""
        known = self._known()
        directory = arguments.directory
        for name, error in self.unusable.items():
            if directory is None or name == name_of(directory):
                raise error
        self.unusable.clear()  # it is another's
        if directory is None and not known:
            directory = default
        if directory is None and len(known) == 1:
            directory = next(iter(known.values())).directory
        if directory is None:
            names = ", ".join(name_of(settings.directory) for settings in known.values())
            raise UsageError("which CA?", f"add --directory; {self.path} has {names or 'none yet'}")
        path = self.path / name_of(directory)
        settings = known.get(path, CaSettings(directory))
        if settings.directory != directory:
            raise UsageError(f"{path} is for {settings.directory}", "use another --folder")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from None
        return Ca(path, updated(settings, arguments))

    def wanted(self, arguments: argparse.Namespace) -> list[tuple[Ca, list[str]]]:
        """The certificates that the arguments name, or all, by CA."""
        cas = self.cas(arguments)
        wanted = {ca.stored_name(name) for ca in cas for name in arguments.name}
        known = {name for ca in cas for name in ca.names()}
        for name in arguments.name:
            if not any(ca.stored_name(name) in known for ca in cas):
                raise self._no_such(name)
        if wanted:
            self.unusable.clear()  # what is wanted is elsewhere
        chosen = ((ca, [name for name in ca.names() if not wanted or name in wanted]) for ca in cas)
        return [(ca, names) for ca, names in chosen if names]

    def find(self, arguments: argparse.Namespace, name: str) -> Ca:
        """The CA whose certificate this is."""
        found = [ca for ca in self.cas(arguments) if ca.stored_name(name) in ca.names()]
        if not found:
            raise self._no_such(name)
        if len(found) > 1:
            cas = ", ".join(ca.name for ca in found)
            raise UsageError(f"{name}: from which CA?", f"add --directory: there are {cas}")
        return found[0]

    def _no_such(self, name: str) -> Exception:
        for error in self.unusable.values():
            return error  # who knows what is there?
        why = f"there is no certificate {name} in {self.path}"
        return UsageError(why, "acme-micro show lists what there is")

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError.of(str(self.path), error)

    def _known(self) -> dict[Path, CaSettings]:
        """What can be used of each CA's folder, and why the others cannot."""
        try:
            if os.stat(self.path).st_mode & stat.S_IWOTH:
                why = "anybody can write to this folder; chmod o-w it"
                raise PermissionError(errno.EPERM, why)
            paths = sorted(path for path in self.path.iterdir() if (path / CA_FILE).is_file())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        known = {}
        for path in paths:
            try:
                settings = read(Folder(path), CA_FILE, CaSettings)
            except (StoreError, CommandError) as error:
                self.unusable[path.name] = error
            else:
                if settings is not None:
                    known[path] = settings
        return known


def default_folder() -> Path:
    """The system's for root, else the user's own."""
    if os.geteuid() == 0:
        return Path("/var/lib/acme-micro")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "acme-micro"


def describe(ca: Ca, name: str, certificate: Certificate) -> dict[str, Any]:
    """A certificate, for programs."""
    return {
        "name": name,
        "ca": ca.name,
        "directory": ca.settings.directory,
        "names": certificate.names,
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
        "key_type": certificate.key_type.name.lower() if certificate.key_type else None,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": certificate.days_left,
        **ca.paths(name),
    }


def _proxy(settings: CaSettings) -> str | None:
    return _secret(settings.proxy_file, "--proxy-file") if settings.proxy_file else settings.proxy


def _eab(key_id: str | None, file: str | None) -> tuple[str, str] | None:
    if (key_id is None) != (file is None):
        raise UsageError("--eab-kid and --eab-key-file belong together")
    return (key_id, _secret(file, "--eab-key-file")) if key_id and file else None


def _secret(path: str, option: str) -> str:
    """A secret's only line, from a file: whoever lists processes sees arguments."""
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path} cannot be read: {error}") from None
    if not text:
        raise UsageError(f"{option} {path} is empty")
    return text
