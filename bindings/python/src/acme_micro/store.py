"""A folder for keys, certificates and orders in progress."""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote

from ._arguments import PathLike, to_list, to_text
from ._client import ClientBase
from ._folder import PUBLIC, SECRET, Folder, StoreError
from ._journal import Journal, Purpose, identity, is_newer
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
    ProtocolError,
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
KEY, CHAIN, ORDER = ".key.pem", ".chain.pem", ".order"
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

# The problems with which a CA refuses a key or its algorithm (RFC 8555 sections 6.2 and 6.7).
KEY_REFUSALS = (
    "urn:ietf:params:acme:error:badSignatureAlgorithm",
    "urn:ietf:params:acme:error:badPublicKey",
)

logger = logging.getLogger("acme_micro")

AnyClient = TypeVar("AnyClient", bound=ClientBase)


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
    ``NAME.key.pem``    a certificate's key, generated once; NAME is the first of its names
    ``NAME.chain.pem``  the certificate and its issuers, in the order that servers want
    ``NAME.order``      an order in progress, and its published challenges
    =================== ===================================================================

    Keys have mode 0600, and are on the disk before the CA gets a request. Each file has its old or
    its new content, even if the program is killed, and no symbolic link is followed. After a program
    was killed, the next run continues with the same account and the same order.

    If the CA refuses the account's key, for instance because of its curve, the file is renamed to
    ``account.pem.unused``; the next client generates another key.

    Programs, threads, tasks and forked processes may share a folder. :meth:`obtain` locks it
    (``flock`` of its file ``.lock``); others wait up to ``lock_timeout`` seconds for the lock. Reading
    needs no lock. If a file cannot be read, written or trusted, a method raises :class:`StoreError`.
    """

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

    @property
    def folder(self) -> str:
        """The folder's path."""
        return self._folder.path

    def client(self, directory_url: str, **options: Any) -> Client:
        """Returns a client for the account of this folder; generates the account's key if necessary.

        The other options are those of :class:`Client`.
        """
        return self._with_failure_handler(Client(directory_url, **self._account(options)))

    def async_client(self, directory_url: str, **options: Any) -> AsyncClient:
        """Returns a client for asyncio; otherwise as :meth:`client`."""
        from .aio import AsyncClient

        return self._with_failure_handler(AsyncClient(directory_url, **self._account(options)))

    def account_key(self, type: KeyType = KeyType.P256) -> PrivateKey:
        """Returns the account's key; generates one of this type if the folder has no key."""
        key = self._key(ACCOUNT_KEY)
        if key is None:
            with self._locked(ACCOUNT_KEY):
                key = self._key(ACCOUNT_KEY) or self._new_key(ACCOUNT_KEY, type)
        return key

    @property
    def account_url(self) -> str | None:
        """The account's URL; None until an operation has needed the account."""
        text = (self._folder.read(ACCOUNT_URL) or b"").decode("ascii", "replace").split("\n")[0]
        return text or None

    def names(self) -> tuple[str, ...]:
        """Returns the names of the stored certificates, for :meth:`certificate`."""
        chains = (file for file in self._folder.names() if file.endswith(CHAIN))
        return tuple(_name_of(file[: -len(CHAIN)]) for file in chains)

    @staticmethod
    def _stored_name(name: str) -> str:
        """Returns the name under which :meth:`names` lists a certificate."""
        return _name_of(_file_of(name))

    def certificate(self, name: str) -> Certificate | None:
        """Returns a stored certificate with its key, or None if it does not exist or is not usable."""
        key = self._key(_file_of(name) + KEY)
        return None if key is None else self._certificate(_file_of(name) + CHAIN, key)

    def key_file(self, name: str) -> str:
        """Returns the path of a certificate's key, for servers that read files."""
        return self._folder.path_of(_file_of(name) + KEY)

    def chain_file(self, name: str) -> str:
        """Returns the path of a certificate with its issuers, for servers that read files."""
        return self._folder.path_of(_file_of(name) + CHAIN)

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

    def _account(self, options: dict[str, Any]) -> dict[str, Any]:
        if "account_key" in options:
            return options
        return {"account_key": self.account_key(), "account_url": self.account_url, **options}

    def _with_failure_handler(self, client: AnyClient) -> AnyClient:
        client._on_failure = self._set_refused_key_aside
        return client

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
                    self._folder.set_aside(ACCOUNT_KEY, UNUSED)
                    path = self._folder.path_of(ACCOUNT_KEY)
                    logger.warning("%s: the CA refuses this key; it is now in %s%s", path, path, UNUSED)
            finally:
                self._folder.release(ACCOUNT_KEY)

    def _key(self, file: str) -> PrivateKey | None:
        data = self._folder.read(file, secret=True)
        if data is None:
            return None
        try:
            return PrivateKey.parse(data)
        except AcmeError as error:
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
        self.file = _file_of(self._names[0] if name is None else name)
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
        self._folder.check_room()
        file = self.file + KEY
        self._key = self._store._key(file) or self._store._new_key(file, key_type)
        self._current = self._store._certificate(self.file + CHAIN, self._key)
        self._renew_now = renew_now
        self._journal = Journal(
            Purpose(
                self._client.directory_url,
                self._client.account_thumbprint,
                self._key.thumbprint,
                tuple(self._names),
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
        self._keep_account()
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
        self._forget_order()
        return certificate

    def should_order_again(self, error: BaseException) -> bool:
        """Whether to order again immediately, because the order of an earlier run has failed."""
        with suppress(StoreError):
            self._keep_account()
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

    def _keep_account(self) -> None:
        url = self._client.account_url
        if url and url != self._store.account_url:
            self._folder.write(ACCOUNT_URL, f"{url}\n".encode(), PUBLIC)

    def _forget_order(self) -> None:
        self._resumed = None
        self._journal = Journal(self._journal.purpose)
        self._folder.remove(self.file + ORDER)

    def _write_journal(self) -> None:
        """Writes the journal. A failure does not stop the run: only after a kill, the next run orders again."""
        try:
            self._folder.write(self.file + ORDER, self._journal.text().encode(), SECRET)
            self._keep_account()
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


def _file_of(name: str) -> str:
    """Returns the name of a certificate's files, without their endings.

    A name cannot lead to another folder: special characters are percent-encoded. A name that is too
    long for a file is cut, and a digest of the whole name follows.
    """
    to_text(name, "name")
    if not name or name[0] == ".":
        raise InvalidArgument(f"{name!r} cannot be the name of a file")
    characters = [quote(c, safe=":") for c in name.lower().rstrip(".").replace("*", "_")]
    file = "".join(characters)
    if len(file) > 200:
        while sum(map(len, characters)) > 150:
            characters.pop()
        file = f"{''.join(characters)}~{hashlib.sha256(file.encode()).hexdigest()[:32]}"
    return file


def _name_of(file: str) -> str:
    return unquote(file.replace("_", "*", 1) if file.startswith("_.") else file)
