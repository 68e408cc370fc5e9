"""A folder for keys, certificates and orders in progress."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ._arguments import PathLike, to_list
from ._client import ClientBase
from ._folder import PUBLIC, SECRET, Folder, StoreError
from ._journal import Journal, Purpose, identity, is_newer
from ._names import CHAIN, KEY, ORDER, canonical, file_of, legacy_file_of, name_of
from ._native import RevocationReason
from ._origin import Origin
from ._revocation import Revocation, finish
from ._values import text_of
from .certificates import Certificate
from .client import Client
from .errors import (
    AccountError,
    AcmeError,
    CertificateError,
    ChallengeFailed,
    InvalidArgument,
    OrderRejected,
    PolicyError,
    ProblemError,
    ProtocolError,
    ServerError,
)
from .keys import KeyType, PrivateKey
from .operation import Operation, Signer, unpublish_quietly
from .solvers import Solver, with_types_of
from .steps import Challenge

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from .aio import AnySolver, AsyncClient

__all__ = ["Store"]

ACCOUNT_KEY, ACCOUNT_URL = "account.pem", "account.url"
# Ending of the file of a key that the CA has refused.
UNUSED = ".unused"
# Maximum number of killed runs in a row per order. Then a new order takes its place.
MAX_RUNS = 3
# Interval in seconds between two tries to lock the folder.
POLL_INTERVAL = 0.05
# Errors after which the order cannot succeed. After other errors it is kept, to be resumed.
FINAL = (
    AccountError,
    CertificateError,
    ChallengeFailed,
    OrderRejected,
    PolicyError,
    ProtocolError,
)

ACME_ERROR = "urn:ietf:params:acme:error:"
# The problems with which CAs refuse the requests of an account that they have lost or deactivated; None: a
# response that is not a problem document.
ACCOUNT_PROBLEMS = (
    None,
    f"{ACME_ERROR}unauthorized",
    f"{ACME_ERROR}malformed",
    f"{ACME_ERROR}serverInternal",
)

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
        text = text_of(self._folder.read(ACCOUNT_URL) or b"", "replace").split("\n")[0].strip()
        return text or None

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
        issuance = _Issuance(self, client, names, name, solver, options)
        with self._locked(issuance.file):
            issuance.prepare(key_type, renew_now)
            while True:
                operation = issuance.order()
                operation._on_order = issuance.record_order
                try:
                    try:
                        operation.run(_Recording(solver, issuance), sign)
                    finally:
                        unpublish_quietly(solver, issuance.leftover_challenges())
                except BaseException as error:
                    if not issuance.should_order_again(error):
                        if issuance.may_lack_account(error):
                            with issuance.account_checked(error):
                                client.find_account()
                        raise
                else:
                    certificate = issuance.keep(operation)
                    if certificate is not None:
                        return certificate

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
        import asyncio

        from .aio import on_thread, unpublish_quietly

        issuance = _Issuance(self, client, names, name, solver, options)
        loop = asyncio.get_running_loop()
        writes: list[asyncio.Future[None]] = []
        async with self._locked_async(issuance.file):
            await on_thread(issuance.prepare, key_type, renew_now)
            while True:
                operation = issuance.order()
                operation._on_order = lambda url: writes.append(
                    loop.run_in_executor(None, issuance.record_order, url)
                )
                try:
                    try:
                        await client.run(operation, _recording_async(solver, issuance), sign)
                    finally:
                        await unpublish_quietly(solver, issuance.leftover_challenges())
                except BaseException as error:
                    await _all(writes)
                    if not await on_thread(issuance.should_order_again, error):
                        if issuance.may_lack_account(error):
                            with issuance.account_checked(error):
                                await client.find_account()
                        raise
                else:
                    await _all(writes)
                    certificate = await on_thread(issuance.keep, operation)
                    if certificate is not None:
                        return certificate

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
        account: dict[str, Any] = {}
        if "account_key" not in options:
            account = {"account_key": self.account_key(), "account_url": self.account_url}
        try:
            client = type(directory_url, **{**account, **options})
        except InvalidArgument as error:
            why = str(error).removeprefix("account_url: ")
            if "account_url" in options or not account or why == str(error):
                raise
            raise self._damaged(ACCOUNT_URL, why) from None
        client._on_failure = self._set_refused_key_aside
        client._on_revoke = self._revocation
        return client

    def _keep_account(self, client: ClientBase) -> None:
        """Stores the account's URL, and the CA to which the folder now belongs."""
        url, known = client.account_url, self.account_url
        if url:
            self._origin.note(client.directory_url, self._files(CHAIN), known)
            if url != known:
                self._folder.write(ACCOUNT_URL, f"{url}\n".encode(), PUBLIC)

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

    def _set_refused_key_aside(self, client: ClientBase, error: AcmeError) -> None:
        """Renames the account's key if the CA refuses it, so that the next client generates another one.

        Does nothing if the key may have an account, or while other work in the folder is in progress.
        """
        if not refuses_key(error) or client._pointer is None or client.account_url or self.account_url:
            return
        with suppress(StoreError):
            if not self._folder.acquire(ACCOUNT_KEY):
                return
            try:
                key = self._key(ACCOUNT_KEY)
                if key is not None and key.thumbprint == client.account_thumbprint:
                    new, path = self._folder.retire(ACCOUNT_KEY, UNUSED), self._folder.path_of(ACCOUNT_KEY)
                    logger.warning("%s: the CA refuses this key; it is now in %s", path, new)
            finally:
                self._folder.release(ACCOUNT_KEY)

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


class _Issuance:
    """One call of :meth:`Store.obtain`: the stored files, the order, and its results."""

    def __init__(
        self,
        store: Store,
        client: ClientBase,
        names: Iterable[str],
        name: str | None,
        solver: AnySolver,
        options: dict[str, Any],
    ):
        self._names = [_without_dot(name) for name in to_list(names, "names")]
        if not self._names:
            raise InvalidArgument("names is empty")
        self._options = with_types_of(solver, options)
        # Names that no CA certifies are refused here, before a file is written.
        client.begin_order(self._names, **self._options).close()
        self.file = store._file_of(self._names[0] if name is None else name)
        # Challenges that a killed run has left published.
        self._leftover: tuple[Challenge, ...] = ()
        self._published: set[tuple[str, str, str]] = set()
        self._store = store
        self._folder = store._folder
        self._client = client
        self._renew_now = False
        self._current: Certificate | None = None
        self._resumed: str | None = None
        self._mutex = threading.Lock()

    def prepare(self, key_type: KeyType, renew_now: bool) -> None:
        """Reads the stored files. Afterwards the key is on the disk, and there is room for the others."""
        self._store._origin.check(self._client.directory_url)
        self._folder.check_room()
        finish(self._folder, self.file)
        file = self.file + KEY
        self._key = self._store._key(file) or self._store._new_key(file, key_type)
        stored = self._store._certificate(self.file + CHAIN, self._key)
        ca, account = self._client.directory_url, self._store.account_url
        self._current = stored if self._store._origin.has_issued(ca, self.file, account) else None
        self._renew_now = renew_now
        self._journal = Journal(
            Purpose(
                self._client.directory_url,
                self._client.account_thumbprint,
                self._key.thumbprint,
                tuple(map(canonical, self._names)),
            )
        )
        self._resume()

    def _resume(self) -> None:
        """Reads the journal of a run that did not end."""
        file = self.file + ORDER
        text = (self._folder.read(file) or b"").decode("utf-8", "replace")
        if is_newer(text):
            why = "written by a newer version of this program"
            raise StoreError.of(self._folder.path_of(file), OSError(errno.EINVAL, why))
        journal = Journal.parse(text, self._journal.purpose) if text else self._journal
        if journal is None:
            logger.warning("%s: not readable; renamed to end in .bad", self._folder.path_of(file))
            self._folder.set_aside(file, ".bad")
            return
        self._leftover = journal.published
        if journal.order_url and journal.runs >= MAX_RUNS:
            text = "%s: a new order takes its place, after %d runs that were killed"
            logger.warning(text, journal.order_url, journal.runs)
        elif journal.order_url:
            self._resumed = journal.order_url
            self._journal = replace(journal, runs=journal.runs + 1)
            self._write_journal()

    def order(self) -> Operation:
        """Begins the order, or resumes the one of an earlier run."""
        current = self._current
        return self._client.begin_order(
            self._names,
            key=self._key,
            order_url=self._resumed,
            replaces=current,
            only_if_due=current is not None and not self._renew_now,
            **self._options,
        )

    def record_order(self, url: str) -> None:
        """Records the order's URL."""
        with self._mutex:
            if url != self._journal.order_url:
                self._journal = replace(self._journal, order_url=url, runs=1)
                self._write_journal()

    def record_published(self, challenges: tuple[Challenge, ...]) -> None:
        """Records challenges before they are published."""
        with self._mutex:
            self._published.update(identity(challenge) for challenge in challenges)
            self._journal = self._journal.with_published(challenges)
            self._write_journal()

    def leftover_challenges(self) -> tuple[Challenge, ...]:
        """Returns the challenges of a killed run that this run did not publish itself.

        They are removed at the end of this run: until then the CA may still be validating them.
        """
        left, self._leftover = self._leftover, ()
        return tuple(c for c in left if identity(c) not in self._published)

    def keep(self, operation: Operation) -> Certificate | None:
        """Stores the result of the operation; returns None if another order is necessary."""
        self._store._keep_account(self._client)
        if operation.renewal_info is not None:
            self._forget_order()
            return self._current
        certificate = operation.certificate
        if self._resumed and self._current and certificate.fingerprint == self._current.fingerprint:
            # The killed run had stored it. This run is for another one.
            self._forget_order()
            return None
        try:
            self._folder.write(self.file + CHAIN, certificate.chain_pem.encode(), PUBLIC)
        except StoreError as error:
            error.certificate = certificate
            raise
        self._store._origin.note_issued(self.file)
        self._forget_order()
        return certificate

    def should_order_again(self, error: BaseException) -> bool:
        """Whether to order again immediately, because the order of an earlier run has failed."""
        with suppress(StoreError):
            self._store._keep_account(self._client)
        if self._journal.order_url:  # this run was not killed
            self._journal = replace(self._journal, runs=0)
            self._write_journal()
        if not (isinstance(error, FINAL) or (isinstance(error, AcmeError) and error.permanent)):
            return False
        again = self._resumed is not None and not self._published
        with suppress(StoreError):
            self._forget_order()
        self._resumed = None
        return again

    def may_lack_account(self, error: BaseException) -> bool:
        """Whether the reason for a refusal may be that the CA has lost or deactivated the account."""
        if isinstance(error, AccountError):
            return True
        return (
            isinstance(error, ProblemError)
            and type(error) in (ProblemError, ServerError)
            and error.problem_type in ACCOUNT_PROBLEMS
            and self._client.account_url is not None
        )

    @contextmanager
    def account_checked(self, error: BaseException) -> Iterator[None]:
        """The reason is an AccountError of the block, if it raises one; otherwise ``error``."""
        try:
            yield
        except AccountError as reason:
            reason.message += self._store._way_out
            reason.args = (reason.message,)
            raise reason from error
        except AcmeError:
            pass

    def _forget_order(self) -> None:
        self._resumed = None
        self._journal = Journal(self._journal.purpose)
        self._folder.remove(self.file + ORDER)

    def _write_journal(self) -> None:
        """Writes the journal. A failure does not stop the run: only after a kill, the next run orders again."""
        try:
            self._folder.write(self.file + ORDER, self._journal.text().encode(), SECRET)
            self._store._keep_account(self._client)
        except StoreError as error:
            logger.warning("the order cannot be resumed after a crash: %s", error)


class _Recording:
    """A solver that records challenges before it publishes them."""

    def __init__(self, solver: Any, issuance: _Issuance):
        self._solver = solver
        self._issuance = issuance

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        self._issuance.record_published(challenges)
        self._solver.publish(challenges)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)


def _recording_async(solver: AnySolver, issuance: _Issuance) -> Any:
    from .aio import call, on_thread

    class Recording(_Recording):
        async def publish(self, challenges: tuple[Challenge, ...]) -> None:  # type: ignore[override]
            await on_thread(issuance.record_published, challenges)
            await call(solver.publish, challenges)

    return Recording(solver, issuance)


async def _all(writes: list[asyncio.Future[None]]) -> None:
    """Waits until all files are written, even if the task is cancelled meanwhile."""
    import asyncio

    canceled: asyncio.CancelledError | None = None
    while any(not write.done() for write in writes):
        try:
            await asyncio.wait(writes)
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is not None:
        raise canceled


def refuses_key(error: AcmeError) -> bool:
    """Whether the error says that the CA refuses the key or its algorithm."""
    return error.problem_type in KEY_REFUSALS


def _without_dot(name: str) -> str:
    """Removes the final dot: ``example.org.`` is ``example.org``."""
    return name.removesuffix(".") if isinstance(name, str) else name
