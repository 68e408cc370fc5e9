"""The command's folder. Each CA has a folder in it, which is a :class:`acme_micro.Store`.

Besides the store's files it contains:

===================== ============================================================
``ca.json``           the CA's URL, and how to reach it
``NAME.renewal.json`` how to renew a certificate, and the results of past renewals
===================== ============================================================

A certificate cannot have a NAME that makes these two the same file.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from .._client import ClientBase
from .._folder import PUBLIC, Folder, make_folders
from .._names import ACCOUNT_KEY, ACCOUNT_URL, UNUSED, file_of, legacy_file_of
from .._names import name_of as name_of_file
from .._revocation import REVOKED, REVOKING, retire
from .._values import text_of
from ..aio import AsyncClient
from ..certificates import Certificate
from ..errors import AcmeError, StoreError
from ..keys import PrivateKey
from ..store import DamagedAccount, Store
from .cas import DEFAULT, DIRECTORIES, TRIALS, name_of
from .default_folder import default_folder
from .failure import CommandError, UsageError, advise
from .settings import CaSettings, CertificateSettings, read, updated, write
from .system_text import from_system, to_system

CA_FILE, CHAIN, RENEWAL, DEACTIVATED = "ca.json", ".chain.pem", ".renewal.json", ".deactivated"
KEY, DELETED = ".key.pem", ".deleted"
#: The files of a certificate that no longer serve a purpose without it.
PARTS = ".order", ".revoking", RENEWAL
#: The account's next key, until the CA has accepted it.
NEXT = "account.next.pem"


class Ca:
    """The folder of one CA."""

    def __init__(self, path: Path, settings: CaSettings):
        self.path, self.settings = path, settings
        self.name = name_of(settings.directory)
        self.store = Store(path)
        self.store._way_out = ""  # the hint has the command's own
        self.store._repair = f"; {self.another_account}"
        self._folder = Folder(path)
        for key in ACCOUNT_KEY, NEXT:
            self._folder.make_private(key)

    @property
    def argument(self) -> str:
        """The argument of ``--directory`` for this CA."""
        return self.name if self.name in DIRECTORIES else self.settings.directory

    @property
    def another_account(self) -> str:
        """The advice about an account that is not usable."""
        how = f"acme-micro account create --agree-terms --directory {self.argument}"
        return f"run {how} to register another account in its place"

    @property
    def trial_for(self) -> str | None:
        """The CA for which this one is for trials; None: its certificates are meant to be used."""
        return TRIALS.get(self.name)

    @property
    def variables(self) -> dict[str, str]:
        """The variables of hooks that name this CA."""
        return {"ACME_CA": self.name, "ACME_DIRECTORY": self.settings.directory}

    @asynccontextmanager
    async def client(
        self, arguments: argparse.Namespace | None = None, **options: Any
    ) -> AsyncIterator[AsyncClient]:
        """Opens a client for the account of this folder; the arguments may have options of a new account."""
        if arguments is not None:
            options.update(
                terms_agreed=arguments.agree_terms,
                contacts=arguments.contact or (),
                eab=_eab(arguments.eab_kid, arguments.eab_key_file),
                eab_algorithm=arguments.eab_algorithm,
            )
        is_first = read(self._folder, CA_FILE, CaSettings) is None
        async with self.open_client(**options) as client:
            may_work = True
            if is_first:  # now, so that a certificate is renewed even if this run is killed
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
                elif read(self._folder, CA_FILE, CaSettings) is None:
                    # Another first run removed it, because it had no account yet.
                    write(self._folder, CA_FILE, self.settings)

    def open_client(self, **options: Any) -> AsyncClient:
        """Opens a client for the account of this folder, and stores no settings."""
        return self.store.async_client(
            self.settings.directory,
            ca_file=self.settings.ca_file and to_system(self.settings.ca_file),
            allowed_hosts=self.settings.allow_host,
            proxy=_proxy(self.settings),
            **options,
        )

    @property
    def has_account(self) -> bool:
        return (self.path / ACCOUNT_KEY).exists()

    @property
    def has_deactivated_account(self) -> bool:
        return (self.path / f"{ACCOUNT_KEY}{DEACTIVATED}").exists()

    @property
    def has_next_account_key(self) -> bool:
        return (self.path / NEXT).exists()

    async def _keep(self, client: AsyncClient, may_work: bool) -> None:
        """Stores changed settings of the CA (proxy, roots, hosts), if the account is found with them."""
        if not may_work or read(self._folder, CA_FILE, CaSettings) == self.settings:
            return
        try:
            await client.find_account()
        except AcmeError:
            return
        write(self._folder, CA_FILE, self.settings)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Locks the folder: no other program obtains a certificate here meanwhile."""
        async with self.store._locked_async(CA_FILE):
            yield

    def names(self) -> tuple[str, ...]:
        """Returns the names of the certificates, also of those that a revocation has set aside and that are to
        be obtained again: they still have settings."""
        files = self.store._files(RENEWAL)
        again = [name_of_file(file) for file in files if self._is_set_aside(file)]
        return tuple(sorted({*self.store.names(), *again}))

    def _is_set_aside(self, file: str) -> bool:
        return any(self._folder.has(file + one) for one in (REVOKING, CHAIN + REVOKED, KEY + REVOKED))

    def has_revocation(self, name: str) -> bool:
        """Whether a revocation was begun, and has not ended."""
        return self._folder.has(self._file_of(name, REVOKING))

    def end_revocation(self, name: str, min_age: float) -> None:
        """Sets a certificate aside whose revocation was begun this many seconds ago, and has not ended."""
        with suppress(FileNotFoundError):
            begun = (self.path / self._file_of(name, REVOKING)).stat().st_mtime
            if min_age == 0 or time.time() - begun >= min_age:
                retire(self._folder, self._file_of(name, ""))

    def has(self, name: str, with_parts: bool = False) -> bool:
        """Whether there is such a certificate or, with ``with_parts``, any of its files."""
        endings = (CHAIN, KEY, *PARTS) if with_parts else (CHAIN,)
        return any(self._folder.has(self._file_of(name, ending)) for ending in endings)

    def stored_name(self, name: str) -> str:
        """Returns the name that :meth:`names` has for a certificate; a name too long for a file is cut."""
        return self.store._stored_name(name)

    def certificate_settings(self, name: str) -> CertificateSettings | None:
        """Returns the settings of a certificate; None if another program has obtained it."""
        return read(self._folder, self._file_of(name, RENEWAL), CertificateSettings)

    def keep_certificate_settings(self, name: str, settings: CertificateSettings) -> None:
        if self.certificate_settings(name) != settings:
            write(self._folder, self._file_of(name, RENEWAL), settings)

    def forget_settings(self, file: str) -> None:
        """Removes the settings of a certificate that is gone; ``file`` is the name of its files."""
        self._folder.remove(f"{file}{RENEWAL}")

    def delete(self, name: str) -> list[str]:
        """Renames key and certificate to end in ``.deleted``, and removes the other files; returns the new
        paths."""
        for ending in reversed(PARTS):  # the settings first: without them it is not renewed
            self._folder.remove(self._file_of(name, ending))
        files = [self._file_of(name, ending) for ending in (CHAIN, KEY)]
        kept = [self._folder.retire(file, DELETED) for file in files if self._folder.has(file)]
        return list(map(from_system, kept))

    def key_type(self, name: str) -> str | None:
        """Returns the type of a certificate's key, or None without a key."""
        if not os.path.exists(self.store.key_file(name)):
            return None
        return PrivateKey.load(self.store.key_file(name)).type.name.lower()

    def has_chain(self, name: str) -> bool:
        return os.path.exists(self.store.chain_file(name))

    def set_key_aside(self, name: str) -> None:
        """Renames a key without a certificate, so that a key of another type can take its place."""
        self._folder.retire(self._file_of(name, KEY), UNUSED)

    def set_account_aside(self, ending: str) -> None:
        """Renames the files of an account that is not usable, so that another one can take its place."""
        for file in ACCOUNT_URL, ACCOUNT_KEY, NEXT:
            self._folder.retire(file, ending)

    def set_damaged_files_aside(self) -> Iterator[str]:
        """Renames the damaged files of the account; yields their new paths."""
        hosts = {"allowed_hosts": self.settings.allow_host}
        while True:
            try:
                self.account_key(NEXT)
                if self.has_account:
                    self.store._open(ClientBase, self.settings.directory, hosts).close()
                return
            except DamagedAccount as error:
                yield self._folder.retire(os.path.basename(error.path), UNUSED)

    def account_key(self, file: str) -> PrivateKey | None:
        """Reads a key of the account."""
        return self.store._key(file)

    def set_next_account_key_aside(self, path: Path) -> None:
        """Renames an account's next key that the CA has refused."""
        self._rename(str(path), f"{path}{UNUSED}")

    def replace_account_key(self, path: Path) -> None:
        """Makes this file the account's key."""
        self._rename(str(path), str(self.path / ACCOUNT_KEY))

    def path_of(self, file: str) -> str:
        """Returns the path of a file for messages and programs."""
        return from_system(str(self.path / file))

    def paths(self, name: str) -> dict[str, str]:
        """Returns the paths of a certificate for servers."""
        files = {"chain_file": self.store.chain_file(name), "key_file": self.store.key_file(name)}
        return {which: from_system(path) for which, path in files.items()}

    def _rename(self, old: str, new: str) -> None:
        try:
            os.replace(old, new)
        except OSError as error:
            raise StoreError.of(old, error) from None

    def _file_of(self, name: str, ending: str) -> str:
        return os.path.basename(self.store.chain_file(name))[: -len(CHAIN)] + ending


class UnusableCa:
    """A CA's folder that cannot be used, because of its ``ca.json`` or because anybody can write to it."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        self.trial_for = TRIALS.get(self.name)

    def may_have(self, name: str) -> bool:
        """Whether there is a file of this certificate."""
        files = {file_of(name), legacy_file_of(name)}
        endings = (CHAIN, KEY, RENEWAL)
        return any(os.path.lexists(self.path / f"{file}{end}") for file in files for end in endings)


class Layout:
    """The folders of all CAs."""

    def __init__(self, path: Path | None):
        self._is_default = path is None
        self.path = (path or default_folder()).absolute()
        #: The path for messages and programs.
        self.shown = from_system(str(self.path))
        #: The error of each CA's folder that cannot be used, by the folder's name.
        self.unusable: dict[str, Exception] = {}

    def cas(self, arguments: argparse.Namespace) -> list[Ca]:
        """Returns the CA of the arguments, or all usable ones; the others are in :attr:`unusable`."""
        if arguments.directory:
            there = os.path.isdir(self.path / name_of(arguments.directory))
            return [self.ca(arguments)] if there else []  # read-only commands create no folder
        return [Ca(path, updated(settings, arguments)) for path, settings in self._known().items()]

    def everywhere(self) -> list[Ca]:
        """Returns all usable CAs, whatever the arguments."""
        return [Ca(path, settings) for path, settings in self._known().items()]

    def unusable_cas(self) -> list[UnusableCa]:
        """Returns the CAs that are in :attr:`unusable`."""
        return [UnusableCa(self.path / name) for name in self.unusable]

    def ca(self, arguments: argparse.Namespace, default: str | None = None) -> Ca:
        """Returns the CA of the arguments, or the only one of the folder; in an empty folder, the default."""
        known = self._known()
        directory = arguments.directory
        for name, error in self.unusable.items():
            if directory is None or name == name_of(directory):
                raise error
        self.unusable.clear()  # they are other CAs' folders
        if directory is None and not known:
            directory = default
        if directory is None and len(known) == 1:
            directory = next(iter(known.values())).directory
        if directory is None:
            names = ", ".join(name_of(settings.directory) for settings in known.values())
            raise UsageError("which CA?", f"add --directory; {self.shown} has {names or 'no CA yet'}")
        path = self.path / name_of(directory)
        settings = known.get(path, CaSettings(directory))
        if settings.directory != directory:
            raise UsageError(f"{from_system(str(path))} is for {settings.directory}", "use another --folder")
        try:
            make_folders(str(self.path))
        except OSError as error:
            raise self._unusable(error) from None
        return Ca(path, updated(settings, arguments))

    def wanted(self, arguments: argparse.Namespace) -> list[tuple[Ca, list[str]]]:
        """Returns the certificates of the arguments, or all, by CA."""
        cas = self.cas(arguments)
        wanted = {ca.stored_name(name) for ca in cas for name in arguments.name}
        known = {name for ca in cas for name in ca.names()}
        for name in arguments.name:
            if not any(ca.stored_name(name) in known for ca in cas):
                raise self._no_such(name)
        if wanted:  # an unusable CA is not needed, unless it may have one of them
            names = wanted.union(arguments.name)
            needed = [ca.name for ca in self.unusable_cas() if any(map(ca.may_have, names))]
            self.unusable = {name: self.unusable[name] for name in needed}
        chosen = ((ca, [name for name in ca.names() if not wanted or name in wanted]) for ca in cas)
        return [(ca, names) for ca, names in chosen if names]

    def find(self, arguments: argparse.Namespace, name: str, with_parts: bool = False) -> Ca:
        """Returns the CA of a certificate or, with ``with_parts``, of any of its files."""
        return self.only(name, [ca for ca in self.cas(arguments) if ca.has(name, with_parts)])

    def only(self, name: str, found: list[Ca]) -> Ca:
        """Returns the only CA that has a certificate."""
        if not found:
            raise self._no_such(name)
        if len(found) > 1:
            cas = ", ".join(ca.name for ca in found)
            raise UsageError(f"{name}: from which CA?", f"add --directory; {cas} have it")
        return found[0]

    def _no_such(self, name: str) -> Exception:
        for error in self.unusable.values():
            return error  # the certificate may be in this folder
        why = f"there is no certificate {name} in {self.shown}"
        return UsageError(why, "acme-micro show lists the certificates")

    def _unusable(self, error: OSError) -> StoreError:
        found = StoreError.of(str(self.path), error)
        if self._is_default:
            advise(found, "add --folder DIR for another folder")
        return found

    def _known(self) -> dict[Path, CaSettings]:
        """Returns the settings of each usable CA's folder; records the errors of the others."""
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


def describe(ca: Ca, name: str, certificate: Certificate) -> dict[str, Any]:
    """Describes a certificate for programs."""
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
    """Reads a secret from a file with one line. An argument would be visible in the list of processes."""
    try:
        text = text_of(Path(to_system(path)).read_bytes()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path} cannot be read: {error}") from None
    if not text:
        raise UsageError(f"{option} {path} is empty")
    return text
