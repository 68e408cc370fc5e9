"""A folder for keys, certificates and orders in progress."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ._arguments import PathLike, to_list
from ._client import ClientBase
from ._folder import SECRET, Folder
from ._keeping import AnyClient, Keeping, Order
from ._names import (
    ACCOUNT_KEY,
    ACCOUNT_URL,
    CHAIN,
    DIRECTORY_URL,
    KEY,
    UNUSED,
    canonical,
    file_of,
    legacy_file_of,
    name_of,
)
from ._native import RevocationReason
from ._native_store import FolderStore
from ._revocation import Revocation
from ._values import text_of
from .certificates import Certificate
from .client import Client
from .errors import AccountError, AcmeError, InvalidArgument, StoreError
from .keys import KeyType, PrivateKey
from .logging import install_warnings
from .operation import Operation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .aio import AnySolver, AsyncClient

__all__ = ["Store"]

# Interval in seconds between two tries to lock the folder.
POLL_INTERVAL = 0.05
ACME_ERROR = "urn:ietf:params:acme:error:"
# The problems with which a CA refuses a key or its algorithm (RFC 8555 sections 6.2 and 6.7).
KEY_REFUSALS = (
    f"{ACME_ERROR}badSignatureAlgorithm",
    f"{ACME_ERROR}badPublicKey",
)

logger = logging.getLogger("acme_micro")


class DamagedAccount(StoreError):
    """A file of the account has no key, or no URL of an account at the CA."""


class Store(Keeping):
    """A folder for an account at a CA and for its certificates.

    ::

        store = Store("/var/lib/acme")
        with store.client(LETSENCRYPT, terms_agreed=True) as ca:
            cert = store.obtain(ca, ["example.org", "www.example.org"], Webroot("/var/www/html"))

    Its files:

    =================== ===================================================================
    ``account.pem``     the account's key, the only access to the account
    ``account.url``     the account's URL
    ``directory.url``   the CA to which all files belong: the URL of its directory
    ``NAME.key.pem``    a certificate's key, generated once; NAME is the first of its names
    ``NAME.chain.pem``  the certificate and its issuers, in the order that servers want
    ``NAME.order``      an order in progress, and its published challenges
    =================== ===================================================================

    Keys have mode 0600, and are on the disk before the CA gets a request. The key of a certificate may be
    given to a group (mode 0640, an ACL), and stays so. Each file has its old or its new content, even
    if the program is killed, and no symbolic link is followed. After a program was killed, the next run
    continues with the same account and the same order.

    A folder belongs to one CA. With the directory of another CA, for instance because a trial has ended,
    use another folder: :meth:`client` and :meth:`obtain` raise :class:`StoreError`.

    If the CA refuses the account's key, for instance because of its curve, the file is renamed to
    ``account.pem.unused``; the next client generates another key. If the CA has deactivated or lost
    the account, :meth:`obtain` raises :class:`AccountError`, and :meth:`set_account_aside` makes way for a new
    account.

    If a client of this store revokes a certificate of the folder, its files are renamed to end in
    ``.revoked``, and the next :meth:`obtain` generates another key. For the reason ``KEY_COMPROMISE`` this is
    so for all certificates with this key, even if the CA does not respond.

    Programs, threads, tasks and forked processes may share a folder. :meth:`obtain` locks it
    (``flock`` of its file ``.lock``); others wait up to ``lock_timeout`` seconds for the lock. Reading
    needs no lock. If a file cannot be read, written or trusted, a method raises :class:`StoreError`.
    """

    # End of the message about an account that is not usable, and about a damaged file of it.
    _way_out = _repair = "; Store.set_account_aside() makes way for a new account"

    def __init__(self, folder: PathLike, *, lock_timeout: float = 600):
        """Opens the folder; creates it with mode 0700 if it does not exist.

        ``lock_timeout`` is the timeout in seconds of waiting for another program, 0 or more.
        """
        if not isinstance(lock_timeout, (int, float)):
            raise TypeError(f"lock_timeout must be a number, not {type(lock_timeout).__name__}")
        if not lock_timeout >= 0:
            raise InvalidArgument("lock_timeout is not a number of at least 0")
        self._lock_timeout = lock_timeout
        self._folder = Folder(folder)
        self._library = FolderStore(self._folder.path)
        install_warnings()

    @property
    def folder(self) -> str:
        """The folder's path."""
        return self._folder.path

    def account_key(self, type: KeyType = KeyType.P256) -> PrivateKey:
        """Returns the account's key; generates one of this type if the folder has no key."""
        key = self._key(ACCOUNT_KEY)
        if key is None:
            with self._locked(ACCOUNT_KEY):
                key = self._key(ACCOUNT_KEY)
                if key is None:
                    self._set_url_of_lost_key_aside()
                    key = self._new_key(ACCOUNT_KEY, type)
        return key

    def set_account_aside(self) -> None:
        """Renames the files of the account to end in ``.unused``: the next client registers another account.

        For an account that the CA has deactivated or lost. The certificates and their keys stay.
        """
        with self._locked(ACCOUNT_KEY):
            self._folder.retire(ACCOUNT_URL, UNUSED)
            self._folder.retire(ACCOUNT_KEY, UNUSED)

    @property
    def account_url(self) -> str | None:
        """The account's URL; None until an operation has needed the account."""
        return self._first_line(ACCOUNT_URL)

    def names(self) -> tuple[str, ...]:
        """Returns the names of the stored certificates, for :meth:`certificate`."""
        return tuple(map(name_of, self._files(CHAIN)))

    def _stored_name(self, name: str) -> str:
        """Returns the name under which :meth:`names` lists a certificate."""
        return name_of(self._file_of(name))

    def _files(self, *endings: str) -> list[str]:
        """Returns the files with these endings, without their endings."""
        names = self._folder.names()
        found = (name[: -len(end)] for name in names for end in endings if name.endswith(end))
        return list(dict.fromkeys(found))

    def _file_of(self, name: str) -> str:
        """Returns the name of a certificate's files, without their endings.

        The folder may have them from an earlier version, which gave each spelling files of its own.
        """
        file = file_of(name)
        for one in legacy_file_of(name), file:
            if self._folder.has(one + KEY) or self._folder.has(one + CHAIN):
                return one
        for one in self._files(KEY, CHAIN):
            if canonical(name_of(one)) == canonical(name):
                return one
        return file

    def certificate(self, name: str) -> Certificate | None:
        """Returns a stored certificate with its key, or None if it does not exist or is not usable."""
        return self._certificate(self._file_of(name))

    def key_file(self, name: str) -> str:
        """Returns the path of a certificate's key, for servers that read files."""
        return self._folder.path_of(self._file_of(name) + KEY)

    def chain_file(self, name: str) -> str:
        """Returns the path of a certificate with its issuers, for servers that read files."""
        return self._folder.path_of(self._file_of(name) + CHAIN)

    def close(self) -> None:
        """Closes the folder. A second call has no effect."""
        self._folder.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.folder}>"

    def _native(self) -> FolderStore:
        return self._library

    def _open(
        self, type: Callable[..., AnyClient], directory_url: str, options: dict[str, Any]
    ) -> AnyClient:
        self._check_ca(directory_url)
        given = {name: options.pop(name) for name in ("account_key", "account_url") if name in options}
        is_own = "account_key" in given or given.get("account_url") is not None
        key = given["account_key"] if "account_key" in given else self.account_key()
        url = given.get("account_url") if is_own else self.account_url
        try:  # wrong options and a damaged file are noticed before the first operation
            type(directory_url, key, account_url=url, **options).close()
        except InvalidArgument as error:
            why = str(error).removeprefix("account_url: ")
            if is_own or why == str(error):
                raise
            raise self._damaged(ACCOUNT_URL, why) from None
        own = {"account_key": key, "account_url": url} if is_own else {}
        client = type(directory_url, _store=self._library, **own, **options)
        client._known_url, client._account_thumbprint = url, key.thumbprint
        client._on_revoke = self._revocation
        return client

    def _order(
        self,
        client: ClientBase,
        names: Iterable[str],
        solver: AnySolver,
        name: str | None,
        key_type: KeyType,
        new_key: bool,
        renew_now: bool,
        options: dict[str, Any],
    ) -> Order:
        listed = [_without_dot(one) for one in to_list(names, "names")]
        if not listed:
            raise InvalidArgument("names is empty")
        self._check_ca(client.directory_url)
        if not isinstance(client._store, FolderStore) or client._store.folder != self.folder:
            raise InvalidArgument("client is not from the method client() of this store")
        file = self._file_of(listed[0] if name is None else name)
        name = _name_of_files(file)
        order = super()._order(client, listed, solver, name, key_type, new_key, renew_now, options)
        # Names that no CA certifies are refused here, before a file is written.
        order.begin().close()
        return order._replace(name=file)

    @contextmanager
    def _begun(self, client: Client, order: Order) -> Iterator[Operation]:
        with self._locked(str(order.name), client._store):
            self._key(f"{order.name}{KEY}")  # a damaged file is named
            with super()._begun(client, order) as operation:
                try:
                    yield operation
                except AccountError as error:
                    with self._account_checked(error):
                        client.find_account()
                    raise

    @asynccontextmanager
    async def _begun_async(self, client: AsyncClient, order: Order) -> AsyncIterator[Operation]:
        from .aio import on_thread

        async with self._locked_async(str(order.name), client._store):
            await on_thread(self._key, f"{order.name}{KEY}")
            async with super()._begun_async(client, order) as operation:
                try:
                    yield operation
                except AccountError as error:
                    with self._account_checked(error):
                        await client.find_account()
                    raise

    def _check_ca(self, directory_url: str) -> None:
        """Refuses another CA than the one to which the files belong."""
        url = self._first_line(DIRECTORY_URL)
        if url is None or _plain(url) == _plain(directory_url):
            return
        why = (
            f"the files in this folder are for the CA {url}: use another folder for {directory_url}; "
            "if this is the new URL of the same CA, remove this file"
        )
        raise StoreError.of(self._folder.path_of(DIRECTORY_URL), OSError(errno.EINVAL, why))

    def _first_line(self, file: str) -> str | None:
        text = text_of(self._folder.read(file) or b"", "replace").split("\n")[0].strip()
        return text or None

    @contextmanager
    def _account_checked(self, error: AccountError) -> Iterator[None]:
        """The reason is an AccountError of the block, if it raises one; otherwise ``error``."""
        try:
            yield
        except AccountError as reason:
            reason.message += self._way_out
            reason.args = (reason.message,)
            raise reason from error
        except AcmeError:
            pass

    def _set_url_of_lost_key_aside(self) -> None:
        if self.account_url:
            path = self._folder.path_of(ACCOUNT_KEY)
            logger.warning("%s is gone, and with it the account %s", path, self.account_url)
            self._folder.retire(ACCOUNT_URL, UNUSED)

    def _revocation(self, certificate: Certificate, reason: RevocationReason) -> Revocation:
        return Revocation(self._folder, self._concerned(certificate, reason), reason, self._locked)

    def _concerned(self, certificate: Certificate, reason: RevocationReason) -> list[str]:
        """Returns the files that a revocation concerns, without their endings: those of this certificate or,
        if its key is known to others, of all certificates with this key."""

        def is_concerned(file: str) -> bool:
            with suppress(StoreError):
                key = self._key(file + KEY)
                if key is None or not certificate.is_for(key):
                    return False
                if reason == RevocationReason.KEY_COMPROMISE:
                    return True
                stored = self._certificate(file)
                return stored is not None and stored.fingerprint == certificate.fingerprint
            return False

        return [file for file in self._files(KEY) if is_concerned(file)]

    def _key(self, file: str) -> PrivateKey | None:
        data = self._folder.read(file, secret=True, shared=file != ACCOUNT_KEY)
        if data is None:
            return None
        try:
            return PrivateKey.parse(data)
        except AcmeError as error:
            if isinstance(error, InvalidArgument) and not file.endswith(KEY):
                raise self._damaged(file, str(error)) from None
            raise self._unusable(file, error) from None

    def _new_key(self, file: str, type: KeyType) -> PrivateKey:
        key = PrivateKey.generate(type)
        self._folder.write(file, key.pem.encode(), SECRET)
        return key

    def _certificate(self, file: str) -> Certificate | None:
        if self._key(file + KEY) is None:  # a damaged file is named
            return None
        return self._library.certificate(self._first_line(DIRECTORY_URL) or "", _name_of_files(file))

    def _unusable(self, file: str, error: AcmeError) -> StoreError:
        return StoreError.of(self._folder.path_of(file), OSError(errno.EINVAL, str(error)))

    def _damaged(self, file: str, why: str) -> StoreError:
        return DamagedAccount.of(self._folder.path_of(file), OSError(errno.EINVAL, why + self._repair))

    def _busy(self, file: str) -> StoreError:
        why = f"another program or thread has been at work here for {self._lock_timeout:g} seconds"
        return StoreError.of(self._folder.path_of(file), OSError(errno.EWOULDBLOCK, why))

    def _wait_for_lock(self, file: str, library: FolderStore) -> Iterator[None]:
        """Locks the folder for work on a file; yields each time that the caller should wait a moment."""
        deadline, logged = time.monotonic() + self._lock_timeout, False
        while not library.acquire(file):
            if time.monotonic() >= deadline:
                raise self._busy(file)
            if not logged:
                text = "%s: waiting for another program or thread at work in this folder"
                logger.info(text, self._folder.path)
                logged = True
            yield

    @contextmanager
    def _locked(self, file: str, client_store: Any = None) -> Iterator[None]:
        """``client_store``: of a client that works here meanwhile, perhaps from another object of the folder."""
        library = client_store or self._library
        for _ in self._wait_for_lock(file, library):
            time.sleep(POLL_INTERVAL)
        try:
            yield
        finally:
            library.release(file)

    @asynccontextmanager
    async def _locked_async(self, file: str, client_store: Any = None) -> AsyncIterator[None]:
        import asyncio

        library = client_store or self._library
        for _ in self._wait_for_lock(file, library):
            await asyncio.sleep(POLL_INTERVAL)
        try:
            yield
        finally:
            library.release(file)


def refuses_key(error: AcmeError) -> bool:
    """Whether the error says that the CA refuses the key or its algorithm."""
    return error.problem_type in KEY_REFUSALS


def _name_of_files(file: str) -> str:
    """Returns the name by which the library finds these files: for those of an older version, the name of the
    chain's file."""
    name = name_of(file)
    return name if file_of(name) == file else file + CHAIN


def _plain(url: str) -> str:
    """Returns the one spelling of a directory's URL."""
    return url.replace(":443/", "/", 1).lower()


def _without_dot(name: str) -> str:
    """Removes the final dot: ``example.org.`` is ``example.org``."""
    return name.removesuffix(".") if isinstance(name, str) else name
