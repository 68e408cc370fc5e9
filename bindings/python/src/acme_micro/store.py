"""Keys, certificates and what is under way, kept in a folder."""

from __future__ import annotations

import asyncio
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
    from collections.abc import AsyncIterator

    from .aio import AnySolver, AsyncClient

__all__ = ["Store"]

ACCOUNT_KEY, ACCOUNT_URL = "account.pem", "account.url"
# How the file of a key ends that no CA has taken.
UNUSED = ".unused"
KEY, CHAIN, ORDER = ".key.pem", ".chain.pem", ".order"
# An order that this many runs in a row did not survive is given up for a new one.
MAX_RUNS = 3
# How often one looks whether another program has finished.
POLL_INTERVAL = 0.05
# After these an order brings no certificate any more. What else fails may be mended meanwhile.
FINAL = (
    AccountError,
    CertificateError,
    ChallengeFailed,
    OrderRejected,
    PolicyError,
    ProtocolError,
)

# RFC 8555 sections 6.2 and 6.7: the algorithm, or the key itself.
KEY_REFUSALS = (
    "urn:ietf:params:acme:error:badSignatureAlgorithm",
    "urn:ietf:params:acme:error:badPublicKey",
)

logger = logging.getLogger("acme_micro")

AnyClient = TypeVar("AnyClient", bound=ClientBase)


class Store:
    """A folder for one account at one CA, and for its certificates.

    ::

        store = Store("/var/lib/acme")
        with store.client(LETSENCRYPT, terms_agreed=True) as ca:
            cert = store.obtain(ca, ["example.org", "www.example.org"], Webroot("/var/www/html"))

    What is in it:

    =================== ===================================================================
    ``account.pem``     the account's key: whoever has it is the account
    ``account.url``     what the CA calls the account
    ``NAME.key.pem``    a certificate's key, made once; NAME is the first one of its names
    ``NAME.chain.pem``  the certificate and its issuers, in the order that servers want
    ``NAME.order``      an order that is under way, and what is published for it
    =================== ===================================================================

    Keys have mode 0600, and are on the disk before the CA hears of them. Whatever happens, a file
    holds its old text or its new one, and no symbolic link is followed. A program that was killed
    goes on where it was: with the same account and the same order.

    An account's key that the CA refuses, such as one on a curve that it does not take, is renamed to
    ``account.pem.unused``; the next client has another one.

    Programs, threads, tasks and forked processes may share a folder: who obtains has it locked
    (``flock`` of its file ``.lock``), others wait for ``lock_timeout`` seconds. Reading needs no lock. A
    file that cannot be read, written or trusted raises :class:`StoreError`.
    """

    def __init__(self, folder: PathLike, *, lock_timeout: float = 600):
        """The folder is made, with mode 0700, when there is none."""
        if not isinstance(lock_timeout, (int, float)):
            raise TypeError(f"lock_timeout must be a number, not {type(lock_timeout).__name__}")
        if not lock_timeout >= 0:
            raise InvalidArgument("lock_timeout is less than 0, or no number")
        self._lock_timeout = lock_timeout
        self._folder = Folder(folder)

    @property
    def folder(self) -> str:
        """The folder's path."""
        return self._folder.path

    def client(self, directory_url: str, **options: Any) -> Client:
        """The account that is kept here; its key is made when there is none.

        The other options are :class:`Client`'s.
        """
        return self._with_failure_handler(Client(directory_url, **self._account(options)))

    def async_client(self, directory_url: str, **options: Any) -> AsyncClient:
        """The same for asyncio."""
        from .aio import AsyncClient

        return self._with_failure_handler(AsyncClient(directory_url, **self._account(options)))

    def account_key(self, type: KeyType = KeyType.P256) -> PrivateKey:
        """The account's key, made as a key of this type when there is none."""
        key = self._key(ACCOUNT_KEY)
        if key is None:
            with self._locked(ACCOUNT_KEY):
                key = self._key(ACCOUNT_KEY) or self._new_key(ACCOUNT_KEY, type)
        return key

    @property
    def account_url(self) -> str | None:
        """What the CA calls the account; None while it has not been needed."""
        text = (self._folder.read(ACCOUNT_URL) or b"").decode("ascii", "replace").split("\n")[0]
        return text or None

    def names(self) -> tuple[str, ...]:
        """The names by which :meth:`certificate` finds the certificates that are here."""
        chains = (file for file in self._folder.names() if file.endswith(CHAIN))
        return tuple(_name_of(file[: -len(CHAIN)]) for file in chains)

    @staticmethod
    def _stored_name(name: str) -> str:
        """What :meth:`names` has for it."""
        return _name_of(_file_of(name))

    def certificate(self, name: str) -> Certificate | None:
        """A certificate that is here, with its key; None when there is none that can be used."""
        key = self._key(_file_of(name) + KEY)
        return None if key is None else self._certificate(_file_of(name) + CHAIN, key)

    def key_file(self, name: str) -> str:
        """Path of a certificate's key, for servers that read files."""
        return self._folder.path_of(_file_of(name) + KEY)

    def chain_file(self, name: str) -> str:
        """Path of a certificate with its issuers, likewise."""
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
        """The certificate for these names: the one that is here, or a new one when there is none,
        when it is time to renew it (RFC 9773), or when it is for other names.

        client
            From :meth:`client`.
        name
            What the files are called by, instead of the first one of ``names``.
        key_type
            Of a key that is made because there is none.
        renew_now
            Renew, whether or not it is time.

        The others are as for :meth:`Client.obtain`, and so is what is raised. An order that may
        still succeed is kept, and the next call goes on with it.
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
        """As :meth:`obtain`, for asyncio; ``client`` is from :meth:`async_client`.

        Files are written on threads. Several certificates may be under way at once.
        """
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
        """Lets go of the folder. Closing twice is fine."""
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
        """The CA refuses keys such as the account's, and so has no account of it: the next client gets
        another one. Not a key that may have an account, and not while somebody else is at work."""
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
                    logger.warning("%s: the CA refuses this key; it is in %s%s now", path, path, UNUSED)
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
        why = f"somebody else has been at work here for {self._lock_timeout:g} seconds"
        return StoreError.of(self._folder.path_of(file), OSError(errno.EWOULDBLOCK, why))

    def _wait_for_lock(self, file: str) -> Iterator[None]:
        """Begins work, after a nap of the caller's each time that somebody else is still at it."""
        deadline, told = time.monotonic() + self._lock_timeout, False
        while not self._folder.acquire(file):
            if time.monotonic() >= deadline:
                raise self._busy(file)
            if not told:
                logger.info("%s: waiting, for somebody else is at work here", self._folder.path)
                told = True
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
        for _ in self._wait_for_lock(file):
            await asyncio.sleep(POLL_INTERVAL)
        try:
            yield
        finally:
            self._folder.release(file)


class _Issuance:
    """One call of :meth:`Store.obtain`: what there is, what is ordered, what is kept of it."""

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
        self.file = _file_of(self._names[0] if name is None else name)
        # What a program that was killed has left published.
        self._leftover: tuple[Challenge, ...] = ()
        self._published: set[tuple[str, str, str]] = set()
        self._store = store
        self._folder = store._folder
        self._client = client
        self._options = with_types_of(solver, options)
        self._renew_now = False
        self._current: Certificate | None = None
        self._resumed: str | None = None
        self._mutex = threading.Lock()

    def prepare(self, key_type: KeyType, renew_now: bool) -> None:
        """Finds what there is. Afterwards the key is on the disk, and there is room for the rest."""
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
        """Finds what a run that did not come to its end has left."""
        file = self.file + ORDER
        text = (self._folder.read(file) or b"").decode("utf-8", "replace")
        if is_newer(text):
            why = "written by a newer version of this program"
            raise StoreError.of(self._folder.path_of(file), OSError(errno.EINVAL, why))
        journal = Journal.parse(text, self._journal.purpose) if text else self._journal
        if journal is None:
            logger.warning("%s: not readable; set aside", self._folder.path_of(file))
            self._folder.set_aside(file, ".bad")
            return
        self._leftover = journal.published
        if journal.order_url and journal.runs >= MAX_RUNS:
            logger.warning("%s: given up, after %d runs", journal.order_url, journal.runs)
        elif journal.order_url:
            self._resumed = journal.order_url
            self._journal = replace(journal, runs=journal.runs + 1)
            self._write_journal()

    def order(self) -> Operation:
        """Begins the order, or goes on with the one that is under way."""
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
        """The CA has an order of ours."""
        with self._mutex:
            if url != self._journal.order_url:
                self._journal = replace(self._journal, order_url=url, runs=1)
                self._write_journal()

    def record_published(self, challenges: tuple[Challenge, ...]) -> None:
        """These are going to be published for it."""
        with self._mutex:
            self._published.update(identity(challenge) for challenge in challenges)
            self._journal = self._journal.with_published(challenges)
            self._write_journal()

    def leftover_challenges(self) -> tuple[Challenge, ...]:
        """What is to be taken down at a run's end, besides what the run does: not before, for the CA
        may be reading it."""
        left, self._leftover = self._leftover, ()
        return tuple(c for c in left if identity(c) not in self._published)

    def keep(self, operation: Operation) -> Certificate | None:
        """Stores what has come of it; None: it has to be ordered once more."""
        self._keep_account()
        if operation.renewal_info is not None:
            self._forget_order()
            return self._current
        certificate = operation.certificate
        if self._resumed and self._current and certificate.fingerprint == self._current.fingerprint:
            # Killed after it was stored; this time another one is wanted.
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
        """Is it worth another order, at once? When that of an earlier run had come to nothing."""
        with suppress(StoreError):
            self._keep_account()
        if self._journal.order_url:  # this run has come to its end
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
        """Without it the next run would order once more: a pity, but no reason to stop this one."""
        try:
            self._folder.write(self.file + ORDER, self._journal.text().encode(), SECRET)
            self._keep_account()
        except StoreError as error:
            logger.warning("the order cannot be resumed after a crash: %s", error)


class _Recording:
    """A solver that writes what is published before it is."""

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
    """Waits until all of them are written, also when the task is cancelled meanwhile."""
    canceled: asyncio.CancelledError | None = None
    while any(not write.done() for write in writes):
        try:
            await asyncio.wait(writes)
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is not None:
        raise canceled


def refuses_key(error: AcmeError) -> bool:
    """Does the CA take no such key, whatever it is asked for?"""
    return error.problem_type in KEY_REFUSALS


def _without_dot(name: str) -> str:
    """``example.org.`` is ``example.org``."""
    return name.removesuffix(".") if isinstance(name, str) else name


def _file_of(name: str) -> str:
    """What the files of a certificate are called, before their endings.

    A name is never a path: what could be more than a name is percent-encoded, and what is too long
    for a file's name is cut, with a digest of the whole.
    """
    to_text(name, "name")
    if not name or name[0] == ".":
        raise InvalidArgument(f"{name!r} is no name for a file")
    characters = [quote(c, safe=":") for c in name.lower().rstrip(".").replace("*", "_")]
    file = "".join(characters)
    if len(file) > 200:
        while sum(map(len, characters)) > 150:
            characters.pop()
        file = f"{''.join(characters)}~{hashlib.sha256(file.encode()).hexdigest()[:32]}"
    return file


def _name_of(file: str) -> str:
    return unquote(file.replace("_", "*", 1) if file.startswith("_.") else file)
