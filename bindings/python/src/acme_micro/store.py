"""A folder for keys, certificates and orders in progress."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ._arguments import PathLike, to_list
from ._client import ClientBase
from ._folder import SECRET, Folder
from ._names import CHAIN, KEY, ORDER, canonical, file_of, legacy_file_of, name_of
from ._native import RevocationReason
from ._native_store import CustomStore
from ._origin import Origin
from ._revocation import Revocation, finish
from ._store_records import ACCOUNT_KEY, ACCOUNT_URL, UNUSED, StoreRecords, read_url
from .certificates import Certificate
from .client import Client
from .errors import AccountError, AcmeError, InvalidArgument, StoreError
from .keys import KeyType, PrivateKey
from .operation import Operation, Signer
from .solvers import Solver, with_types_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .aio import AnySolver, AsyncClient

__all__ = ["Store"]

# Start of the file of an order in progress, and the version of its format.
JOURNAL, JOURNAL_VERSION = "acme-order ", "1"
# Interval in seconds between two tries to lock the folder.
POLL_INTERVAL = 0.05
ACME_ERROR = "urn:ietf:params:acme:error:"
# The problems with which a CA refuses a key or its algorithm (RFC 8555 sections 6.2 and 6.7).
KEY_REFUSALS = (
    f"{ACME_ERROR}badSignatureAlgorithm",
    f"{ACME_ERROR}badPublicKey",
)

logger = logging.getLogger("acme_micro")

AnyClient = TypeVar("AnyClient", bound=ClientBase)


class DamagedAccount(StoreError):
    """A file of the account has no key, or no URL of an account at the CA."""


class Store:
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
        self._origin = Origin(self._folder)

    @property
    def folder(self) -> str:
        """The folder's path."""
        return self._folder.path

    def client(self, directory_url: str, **options: Any) -> Client:
        """Returns a client for the account of this folder; generates the account's key if necessary.

        The other options are those of :class:`Client`.
        """
        return self._open(Client, directory_url, options)

    def async_client(self, directory_url: str, **options: Any) -> AsyncClient:
        """Returns a client for asyncio; otherwise as :meth:`client`."""
        from .aio import AsyncClient

        return self._open(AsyncClient, directory_url, options)

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
        return read_url(self._folder)

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
        file = self._file_of(name)
        key = self._key(file + KEY)
        return None if key is None else self._certificate(file + CHAIN, key)

    def key_file(self, name: str) -> str:
        """Returns the path of a certificate's key, for servers that read files."""
        return self._folder.path_of(self._file_of(name) + KEY)

    def chain_file(self, name: str) -> str:
        """Returns the path of a certificate with its issuers, for servers that read files."""
        return self._folder.path_of(self._file_of(name) + CHAIN)

    def obtain(
        self,
        client: Client,
        names: Iterable[str],
        solver: Solver,
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        renew_now: bool = False,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """Returns the stored certificate for these names, or obtains a new one.

        A new one is obtained if no certificate is stored or usable, if its renewal is due (RFC 9773), or
        if it has other names.

        client
            A client from :meth:`client`.
        name
            The NAME of the files, instead of the first one of ``names``.
        key_type
            Type of the certificate's key, if the folder has no key yet.
        renew_now
            Whether to renew the certificate even if the renewal is not due.

        The other options, and the exceptions, are those of :meth:`Client.obtain`; besides, a file can
        raise :class:`StoreError`. An order that may still succeed is kept, and the next call resumes it.
        """
        file, begin = self._order(client, names, solver, name, key_type, renew_now, options)
        with self._locked(file):
            self._prepare(file)
            operation = begin()
            try:
                operation.run(solver, sign)
            except AccountError as error:
                with self._account_checked(error):
                    client.find_account()
                raise
            finally:
                operation.close()
        return operation.certificate

    async def obtain_async(
        self,
        client: AsyncClient,
        names: Iterable[str],
        solver: AnySolver,
        *,
        name: str | None = None,
        key_type: KeyType = KeyType.P256,
        renew_now: bool = False,
        sign: Signer | None = None,
        **options: Any,
    ) -> Certificate:
        """As :meth:`obtain`, for asyncio; ``client`` is a client from :meth:`async_client`.

        Files are written on threads. Several certificates may be obtained at the same time.
        """
        from .aio import on_thread

        file, begin = self._order(client, names, solver, name, key_type, renew_now, options)
        async with self._locked_async(file):
            await on_thread(self._prepare, file)
            operation = begin()
            try:
                await client.run(operation, solver, sign)
            except AccountError as error:
                with self._account_checked(error):
                    await client.find_account()
                raise
            finally:
                operation.close()
        return operation.certificate

    def close(self) -> None:
        """Closes the folder. A second call has no effect."""
        self._folder.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self.folder}>"

    def _open(
        self, type: Callable[..., AnyClient], directory_url: str, options: dict[str, Any]
    ) -> AnyClient:
        self._origin.check(directory_url)
        given = {name: options.pop(name) for name in ("account_key", "account_url") if name in options}
        key = given["account_key"] if "account_key" in given else self.account_key()
        url = given.get("account_url") if given else self.account_url
        try:  # wrong options and a damaged file are noticed before the first operation
            type(directory_url, key, account_url=url, **options).close()
        except InvalidArgument as error:
            why = str(error).removeprefix("account_url: ")
            if given or why == str(error):
                raise
            raise self._damaged(ACCOUNT_URL, why) from None
        own: dict[str, Any] = {"url": url} if given else {}
        if "account_key" in given:
            own["key"] = key.pem
        records = StoreRecords(
            self._folder, self._origin, directory_url, self._key, self._file_of, own
        )
        client = type(directory_url, _store=CustomStore(records), **options)
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
        renew_now: bool,
        options: dict[str, Any],
    ) -> tuple[str, Callable[[], Operation]]:
        """Returns the name of the certificate's files, and the function that begins the order."""
        listed = [_without_dot(one) for one in to_list(names, "names")]
        if not listed:
            raise InvalidArgument("names is empty")
        self._origin.check(client.directory_url)
        records = client._store.records if isinstance(client._store, CustomStore) else None
        if not isinstance(records, StoreRecords) or records.folder.path != self._folder.path:
            raise InvalidArgument("client is not from the method client() of this store")
        file = self._file_of(listed[0] if name is None else name)
        stored = client._stored(records.name_for(file), key_type, False)
        options = with_types_of(solver, options)

        def begin() -> Operation:
            return client.begin_order(listed, only_if_due=not renew_now, _stored=stored, **options)

        # Names that no CA certifies are refused here, before a file is written.
        begin().close()
        return file, begin

    def _prepare(self, file: str) -> None:
        """Checks the files before the CA gets a request."""
        self._folder.check_room()
        finish(self._folder, file)
        self._key(file + KEY)  # a damaged file is named
        order = (self._folder.read(file + ORDER) or b"").decode("utf-8", "replace")
        if order and not order.startswith(JOURNAL):
            logger.warning("%s: not readable; renamed to end in .bad", self._folder.path_of(file + ORDER))
            self._folder.set_aside(file + ORDER, ".bad")
        elif order and not order.startswith(f"{JOURNAL}{JOURNAL_VERSION}\n"):
            why = "written by a newer version of this program"
            raise StoreError.of(self._folder.path_of(file + ORDER), OSError(errno.EINVAL, why))

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
                stored = self._certificate(file + CHAIN, key)
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

    def _certificate(self, file: str, key: PrivateKey) -> Certificate | None:
        data = self._folder.read(file)
        if data is None:
            return None
        try:
            certificate = Certificate.parse(data)
        except AcmeError as error:
            logger.warning("%s: %s", self._folder.path_of(file), error)
            return None
        if not certificate.is_for(key):
            logger.warning("%s is for another key", self._folder.path_of(file))
            return None
        certificate._stored_key = key
        return certificate

    def _unusable(self, file: str, error: AcmeError) -> StoreError:
        return StoreError.of(self._folder.path_of(file), OSError(errno.EINVAL, str(error)))

    def _damaged(self, file: str, why: str) -> StoreError:
        return DamagedAccount.of(self._folder.path_of(file), OSError(errno.EINVAL, why + self._repair))

    def _busy(self, file: str) -> StoreError:
        why = f"another program or thread has been at work here for {self._lock_timeout:g} seconds"
        return StoreError.of(self._folder.path_of(file), OSError(errno.EWOULDBLOCK, why))

    def _wait_for_lock(self, file: str) -> Iterator[None]:
        """Locks the folder for work on a file; yields each time that the caller should wait a moment."""
        deadline, logged = time.monotonic() + self._lock_timeout, False
        while not self._folder.acquire(file):
            if time.monotonic() >= deadline:
                raise self._busy(file)
            if not logged:
                text = "%s: waiting for another program or thread at work in this folder"
                logger.info(text, self._folder.path)
                logged = True
            yield

    @contextmanager
    def _locked(self, file: str) -> Iterator[None]:
        for _ in self._wait_for_lock(file):
            time.sleep(POLL_INTERVAL)
        try:
            yield
        finally:
            self._folder.release(file)

    @asynccontextmanager
    async def _locked_async(self, file: str) -> AsyncIterator[None]:
        import asyncio

        for _ in self._wait_for_lock(file):
            await asyncio.sleep(POLL_INTERVAL)
        try:
            yield
        finally:
            self._folder.release(file)


def refuses_key(error: AcmeError) -> bool:
    """Whether the error says that the CA refuses the key or its algorithm."""
    return error.problem_type in KEY_REFUSALS


def _without_dot(name: str) -> str:
    """Removes the final dot: ``example.org.`` is ``example.org``."""
    return name.removesuffix(".") if isinstance(name, str) else name
