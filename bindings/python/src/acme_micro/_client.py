"""An account at a CA, and its operations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import POINTER, c_char_p, cast, pointer, sizeof
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from . import _native
from ._arguments import PathLike, to_enum, to_optional_path, to_optional_text, to_text, to_texts
from ._handle import Handle, create, handle_of
from ._native import ChainBy, RevocationReason
from ._values import from_text
from .certificates import Certificate, SigningRequest
from .errors import InvalidArgument, Misuse, Unsupported
from .keys import KeyType, PrivateKey
from .operation import Operation
from .solvers import answer_from

if TYPE_CHECKING:
    from ctypes import _Pointer

    from ._native_store import NativeStore
    from ._revocation import Revocation

__all__ = ["LETSENCRYPT", "LETSENCRYPT_STAGING", "ChainBy", "ClientBase", "Profile"]

#: URL of Let's Encrypt, whose certificates browsers trust.
LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
#: URL of Let's Encrypt's staging environment, for trials: browsers do not trust its certificates.
LETSENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


# The name of a certificate in a store, the type of its key, and whether a renewal has a new key.
Stored = tuple[Optional[bytes], int, bool]


@dataclass(frozen=True)
class Profile:
    """A kind of certificate that a CA offers (draft-ietf-acme-profiles)."""

    name: str
    #: The CA's description of the profile. Untrusted text.
    description: str


class ClientBase(Handle[_native.acme_client_t]):
    """The common part of :class:`Client` and :class:`AsyncClient`: an account at a CA, and a
    ``begin_...`` method for each operation, for programs that do the steps themselves."""

    # Called with a certificate and a reason before the certificate is revoked.
    _on_revoke: Callable[[Certificate, RevocationReason], Revocation] | None = None
    # Whether a driver of the library sends the requests.
    _has_driver: ClassVar[bool] = False
    # The account's URL and the key's thumbprint, if they are known before the store is read.
    _known_url: str | None = None
    _account_thumbprint: str | None = None

    def __init__(
        self,
        directory_url: str,
        account_key: PrivateKey | None = None,
        *,
        contacts: Iterable[str] = (),
        terms_agreed: bool = False,
        agreed_terms_url: str | None = None,
        account_url: str | None = None,
        eab: tuple[str, str] | None = None,
        eab_algorithm: str | None = None,
        user_agent: str | None = None,
        accept_language: str | None = None,
        ca_file: PathLike | None = None,
        allowed_hosts: Iterable[str] = (),
        allow_http_loopback: bool = False,
        ca_dir: PathLike | None = None,
        extra_ca_file: PathLike | None = None,
        proxy: str | None = None,
        client_cert_file: PathLike | None = None,
        client_key_file: PathLike | None = None,
        request_timeout: float | None = None,
        ip_version: int = 0,
        max_threads: int | None = None,
        max_requests_per_ca: int | None = None,
        _store: NativeStore | None = None,
    ):
        """Checks the options; sends nothing.

        directory_url
            The URL of the CA's directory, such as :data:`LETSENCRYPT`.
        account_key
            The account's key. Store the key before the account is registered: nothing else gives access
            to the account.
        contacts
            ``mailto:`` URLs for a new account.
        terms_agreed
            Whether the operator has agreed to the CA's terms of service. If not, an existing account is
            found, and no account is created.
        agreed_terms_url
            The URL of the terms that the operator has agreed to, from an earlier :attr:`terms_url`. If
            the CA's terms have another URL now, no account is created: :class:`TermsNotAgreed` is
            raised, and :attr:`terms_url` is the new URL. Excludes ``terms_agreed``.
        account_url
            An earlier value of :attr:`account_url`; saves a request.
        eab, eab_algorithm
            External account binding (RFC 8555 section 7.3.4): key identifier and HMAC key, as the CA
            shows them, and ``"HS256"`` (the default), ``"HS384"`` or ``"HS512"``.
        user_agent
            Your program's name and version, such as ``"exampled/1.2"``; sent before the library's own.
        accept_language
            Preferred languages of the CA's messages, such as ``"de, en;q=0.5"``.
        ca_file
            PEM file of the roots to trust for the CA's own HTTPS, instead of the system's. A new
            connection reads it again if it was replaced.
        allowed_hosts
            Hosts that the CA's URLs may be on, besides the directory's. A loopback or link-local
            address is allowed only if the directory is at such an address, too.
        allow_http_loopback
            Whether plain http is allowed on loopback addresses, for tests.

        The other options, and ``ca_file``, are for the library's own HTTPS client. They have no effect
        in a program that sends the requests itself.

        ca_dir
            Directory of the roots to trust instead of the system's, as ``openssl rehash`` makes it.
            With ``ca_file``, both are trusted.
        extra_ca_file
            PEM file of roots to trust in addition to the system's, or to ``ca_file`` and ``ca_dir``.
        proxy
            The proxy's URL: ``"http://user:password@host:port"``, or with ``https``, ``socks5``,
            ``socks5h`` or ``socks4a``. User and password are percent-encoded and optional. The proxy
            variables of the environment have no effect.
        client_cert_file, client_key_file
            PEM files for a CA that asks for a client certificate: the certificate with its chain, and
            its key without a passphrase.
        request_timeout
            Timeout of one request in seconds, 1 to 3600; default 30.
        ip_version
            4 or 6: connect to IPv4 or IPv6 addresses only. 0 (the default): both.
        max_threads
            Maximum number of threads that send requests, each one request at a time, 1 to 256;
            default 8. :class:`AsyncClient` only.
        max_requests_per_ca
            Maximum number of concurrent requests, and of connections, to one host and port, 1 to 256;
            default 4. :class:`AsyncClient` only.

        Raises :class:`InvalidArgument` for an option that is malformed or out of range.
        """
        self._driver_limits = self._check_limits(max_threads, max_requests_per_ca)
        options = _native.acme_client_options_t()
        options.size = sizeof(options)
        options.directory_url = to_text(directory_url, "directory_url")
        self._directory_url = directory_url
        self._store = _store
        if _store is not None:
            options.store = _store.pointer
        if _store is None or account_key is not None:
            options.account_key = handle_of(account_key, PrivateKey, "account_key")  # type: ignore[arg-type]
            self._account_thumbprint = account_key.thumbprint  # type: ignore[union-attr]
        options.account_url = to_optional_text(account_url, "account_url")
        options.contacts, options.contact_count = to_texts(contacts, "contacts")
        options.terms_agreed = bool(terms_agreed)
        if eab is not None:
            options.eab_key_id = to_text(eab[0], "eab[0]")
            options.eab_hmac_key = to_text(eab[1], "eab[1]")
        options.eab_algorithm = to_optional_text(eab_algorithm, "eab_algorithm")
        options.agreed_terms_url = to_optional_text(agreed_terms_url, "agreed_terms_url")
        options.user_agent = to_optional_text(user_agent, "user_agent")
        options.accept_language = to_optional_text(accept_language, "accept_language")
        options.ca_file = to_optional_path(ca_file, "ca_file")
        options.allowed_hosts, options.allowed_host_count = to_texts(
            allowed_hosts, "allowed_hosts"
        )
        options.allow_http_loopback = bool(allow_http_loopback)
        options.ca_dir = to_optional_path(ca_dir, "ca_dir")
        options.extra_ca_file = to_optional_path(extra_ca_file, "extra_ca_file")
        options.proxy = to_optional_text(proxy, "proxy")
        options.client_cert_file = to_optional_path(client_cert_file, "client_cert_file")
        options.client_key_file = to_optional_path(client_key_file, "client_key_file")
        options.request_timeout_s = _seconds(request_timeout, "request_timeout")
        if ip_version not in (0, 4, 6):
            raise InvalidArgument(f"ip_version is {ip_version!r}, which is not 0, 4 or 6")
        options.ip_version = ip_version
        make, free = _native.acme_client_new, _native.acme_client_free
        self._pointer = create(_native.acme_client_t, free, lambda c: make(pointer(options), c))

    @property
    def directory_url(self) -> str:
        """The URL of the CA's directory."""
        return self._directory_url

    @property
    def account_thumbprint(self) -> str:
        """RFC 7638 thumbprint of the account key that the client was made with, for :func:`http01_answer`.

        A client of a :class:`RecordStore` or a :class:`MemoryStore` raises :class:`Misuse`: use
        :meth:`http01_answer`.
        """
        if self._account_thumbprint is None:
            raise Misuse("the account's key is in a store: use the method http01_answer of the client")
        return self._account_thumbprint

    @property
    def account_url(self) -> str | None:
        """The account's URL, worth storing; None until an operation has needed the account."""
        return from_text(_native.acme_client_account_url(self._handle)) or self._known_url

    @property
    def terms_url(self) -> str | None:
        """URL of the CA's terms of service; None if it has no terms, or its directory is not known yet."""
        return from_text(_native.acme_client_terms_url(self._handle))

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles that the CA offers; empty until its directory is known."""
        found: list[Profile] = []
        for index in count():
            name = from_text(_native.acme_client_profile(self._handle, index))
            if name is None:
                return tuple(found)
            text = from_text(_native.acme_client_profile_text(self._handle, index))
            found.append(Profile(name, text or ""))
        raise AssertionError  # count() does not end

    def http01_answer(self, path: str) -> bytes | None:
        """Returns the body of the response to a CA's http-01 request for this path, or None.

        Only for challenges of this client's operations that are published now; see also
        :func:`acme_micro.http01_answer`. May be called from any thread.
        """
        return answer_from(_native.acme_client_http01_answer, self._handle, path)

    def begin_register(self) -> Operation:
        """Registers the account, or finds the existing account of the key (RFC 8555 section 7.3)."""
        return self._begin(_native.acme_begin_register)

    def begin_find_account(self) -> Operation:
        """Finds the account of the key; does not create one (RFC 8555 section 7.3.1).

        The operation raises :class:`AccountError` if the CA has no account with this key.
        """
        return self._begin(_native.acme_begin_find_account)

    def begin_update_contacts(self, contacts: Iterable[str]) -> Operation:
        """Replaces the account's contacts (RFC 8555 section 7.3.2); an empty list removes them."""
        return self._begin(_native.acme_begin_update_contacts, *to_texts(contacts, "contacts"))

    def begin_key_change(self, new_key: PrivateKey) -> Operation:
        """Replaces the account's key (RFC 8555 section 7.3.5).

        Store the new key before, and delete the old key after. If the program ends in between, repeat
        the operation with the old key: it finds out which of the two keys the CA knows.

        A client of a :class:`RecordStore` or a :class:`MemoryStore` raises :class:`Unsupported`: the store
        would keep the old key.
        """
        if self._account_thumbprint is None:
            raise Unsupported("the store would keep the account's old key, so the key cannot be replaced")
        key = handle_of(new_key, PrivateKey, "new_key")
        return self._begin(_native.acme_begin_key_change, key)

    def begin_deactivate(self) -> Operation:
        """Deactivates the account (RFC 8555 section 7.3.6). This cannot be undone."""
        return self._begin(_native.acme_begin_deactivate)

    def begin_renewal_info(self, certificate: Certificate) -> Operation:
        """Finds out when to renew a certificate (RFC 9773): see :attr:`Operation.renewal_info`.

        If the CA gives no renewal information, the time follows from the certificate's lifetime.
        """
        handle = handle_of(certificate, Certificate, "certificate")
        return self._begin(_native.acme_begin_renewal_info, handle)

    def begin_revoke(
        self,
        certificate: Certificate,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        *,
        key: PrivateKey | None = None,
    ) -> Operation:
        """Revokes a certificate (RFC 8555 section 7.6).

        Without ``key``, the account must have ordered the certificate. ``key`` is the certificate's own
        key, with which any account may revoke it. A certificate that is revoked already is no error.
        """
        operation = self._begin(
            _native.acme_begin_revoke,
            handle_of(certificate, Certificate, "certificate"),
            None if key is None else handle_of(key, PrivateKey, "key"),
            to_enum(reason, RevocationReason, "reason"),
        )
        if self._on_revoke:
            revocation = self._on_revoke(certificate, RevocationReason(reason))
            operation._on_success, operation._on_failure = revocation.succeeded, revocation.failed
        return operation

    def begin_authorize(
        self,
        names: Iterable[str],
        *,
        challenge_types: Sequence[str] = ("http-01",),
        subdomains: bool = False,
        timeout: float | None = None,
    ) -> Operation:
        """Begins to validate names before an order (RFC 8555 section 7.4.1); sends nothing yet.

        names
            DNS names and IP addresses. A wildcard can be validated for an order only.
        subdomains
            Whether each authorization is also for the names below (RFC 9444).

        The other options are as for :meth:`begin_order`. :attr:`Operation.urls` are the URLs of the
        authorizations. The operation raises :class:`Unsupported` if the CA does not offer this.
        """
        options = _native.acme_authorize_options_t()
        options.size = sizeof(options)
        options.names, options.name_count = to_texts(names, "names")
        types = to_texts(challenge_types, "challenge_types")
        options.challenge_types, options.challenge_type_count = types
        if not options.challenge_type_count:
            raise InvalidArgument("challenge_types is empty")
        options.subdomains = bool(subdomains)
        options.timeout_s = _seconds(timeout, "timeout")
        return self._begin(_native.acme_begin_authorize, pointer(options))

    def begin_deactivate_authorization(self, authorization_url: str) -> Operation:
        """Deactivates an authorization (RFC 8555 section 7.5.2). This cannot be undone."""
        url = to_text(authorization_url, "authorization_url")
        return self._begin(_native.acme_begin_deactivate_authorization, url)

    def begin_abandon_order(self, order_url: str) -> Operation:
        """Deactivates the pending authorizations of an order that is not going to be resumed.

        CAs limit the number of pending authorizations of an account.
        """
        return self._begin(_native.acme_begin_abandon_order, to_text(order_url, "order_url"))

    def begin_list_orders(self) -> Operation:
        """Lists the URLs of the account's orders (RFC 8555 section 7.1.2.1): :attr:`Operation.urls`.

        The operation raises :class:`Unsupported` if the CA has no such list.
        """
        return self._begin(_native.acme_begin_list_orders)

    def begin_order(
        self,
        names: Iterable[str] = (),
        *,
        challenge_types: Sequence[str] = ("http-01",),
        challenge_by_name: Mapping[str, str] | None = None,
        ancestor_domain: str | None = None,
        key: PrivateKey | None = None,
        csr: SigningRequest | None = None,
        order_url: str | None = None,
        abandon_on_failure: bool = False,
        timeout: float | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        profile: str | None = None,
        profile_optional: bool = False,
        replaces: Certificate | None = None,
        only_if_due: bool = False,
        preferred_chain: str | None = None,
        preferred_chain_by: ChainBy = ChainBy.BY_ROOT,
        must_staple: bool = False,
        _stored: Stored | None = None,
        _take: Callable[[Any], Any] | None = None,
    ) -> Operation:
        """Begins an order for a certificate; sends nothing yet.

        Raises :class:`InvalidArgument` if the options contradict each other or cannot succeed.

        names
            DNS names, wildcards (``*.``) and IP addresses. Optional with ``csr``.
        challenge_types
            Acceptable types of challenge, best first; see :attr:`Challenge.type`. A wildcard needs
            ``"dns-01"``, ``"dns-account-01"`` or ``"dns-persist-01"``.
        challenge_by_name
            The type of challenge for some of ``names``, instead of ``challenge_types``.
        ancestor_domain
            A domain above some of ``names``; its validation counts for them (RFC 9444).
        key
            The certificate's key, which you have stored. The default is a new key,
            :attr:`Operation.key`.
        csr
            A certificate signing request made elsewhere; excludes ``key``.
        order_url
            The URL of an order to resume (:attr:`Operation.order_url`). Keep the URL and the key until
            you have the certificate. If the order cannot be resumed, a new order takes its place.
        abandon_on_failure
            Whether to deactivate the order's other pending authorizations if a challenge fails or
            cannot be published. The order cannot be resumed then.
        timeout
            Timeout of the operation in seconds, 1 or more; default 600. Time spent publishing does not
            count.
        not_before, not_after
            The certificate's validity, with a time zone, for CAs that support it.
        profile, profile_optional
            One of :attr:`profiles`; whether to order without the profile if the CA does not offer or
            refuses it.
        replaces, only_if_due
            The certificate that is renewed (RFC 9773 section 5); whether to finish without a
            certificate if its renewal is not due and it has the names of this order. Then see
            :attr:`Operation.renewal_info`.
        preferred_chain, preferred_chain_by
            Which chain to choose if the CA offers several; without a match, the CA's default.
        must_staple
            Whether to ask for the TLS feature extension "must staple" (RFC 7633).
        """
        options = _native.acme_order_options_t()
        options.size = sizeof(options)
        options.names, options.name_count = to_texts(names, "names")
        types = to_texts(challenge_types, "challenge_types")
        options.challenge_types, options.challenge_type_count = types
        if not options.challenge_type_count:
            raise InvalidArgument("challenge_types is empty")
        if _stored is not None:
            options.stored_as, options.key_type, options.new_key = _stored
        elif key is None and csr is None and self._store is not None:
            key = PrivateKey.generate()  # this order is not the store's
        if key is not None:
            options.key = handle_of(key, PrivateKey, "key")
        if csr is not None:
            options.csr = handle_of(csr, SigningRequest, "csr")
        if challenge_by_name is not None:
            options.name_challenge_types = _types_of(
                options.names, options.name_count, challenge_by_name
            )
        options.ancestor_domain = to_optional_text(ancestor_domain, "ancestor_domain")
        options.abandon_on_failure = bool(abandon_on_failure)
        options.order_url = to_optional_text(order_url, "order_url")
        options.timeout_s = _seconds(timeout, "timeout")
        options.not_before = _date(not_before, "not_before")
        options.not_after = _date(not_after, "not_after")
        options.profile = to_optional_text(profile, "profile")
        options.profile_optional = bool(profile_optional)
        if replaces is not None:
            options.replaces = handle_of(replaces, Certificate, "replaces")
        options.only_if_due = bool(only_if_due)
        options.preferred_chain = to_optional_text(preferred_chain, "preferred_chain")
        options.preferred_chain_by = to_enum(preferred_chain_by, ChainBy, "preferred_chain_by")
        options.must_staple = bool(must_staple)
        # A manager begins the orders itself.
        operation: Operation = (_take or self._begin_order)(pointer(options))
        return operation

    def _begin_order(self, options: Any) -> Operation:
        return self._begin(_native.acme_begin_order, options)

    def _with_order(
        self, take: Callable[[Any], None], names: Iterable[str], options: dict[str, Any], stored: Stored
    ) -> None:
        """Calls ``take`` with the options of an order, for the duration of the call."""
        self.begin_order(names, **options, _stored=stored, _take=take)

    def _stored(self, name: str | None, key_type: KeyType, new_key: bool) -> Stored:
        """Returns the options of an order whose certificate is kept in the client's store."""
        if self._store is None:
            raise InvalidArgument("client is not from the method client() of a store")
        type = to_enum(key_type, KeyType, "key_type")
        return to_optional_text(name, "name"), type, bool(new_key)

    def _check_limits(self, *limits: int | None) -> tuple[int, ...]:
        """Returns the limits of the driver; 0, the library's default, for None."""
        for name, limit in zip(("max_threads", "max_requests_per_ca"), limits):
            if limit is not None and not self._has_driver:
                raise InvalidArgument(f"{name} is an option of AsyncClient only")
            if limit is not None and not 1 <= limit <= 256:
                raise InvalidArgument(f"{name} is {limit!r}, which is not in 1 to 256")
        return tuple(limit or 0 for limit in limits)

    def _begin(self, begin: Any, *arguments: Any) -> Operation:
        handle = self._handle

        def call(op: Any) -> int:
            status: int = begin(handle, *arguments, op)
            return status

        return Operation._begin(create(_native.acme_op_t, _native.acme_op_free, call), self._store)

    def _account_url(self) -> str:
        url = self.account_url
        assert url is not None
        return url

    def _describe(self) -> str:
        return self.account_url or ""


def _types_of(
    names: _Pointer[c_char_p], count: int, by_name: Mapping[str, str]
) -> _Pointer[c_char_p]:
    """Returns, for each name, its type from ``challenge_by_name``, or NULL."""
    known = [(names[index] or b"").decode() for index in range(count)]
    for name in by_name:
        if name not in known:
            raise InvalidArgument(f"challenge_by_name has {name!r}, which is not among the names")
    types = [
        to_text(by_name[name], f"challenge_by_name[{name!r}]") if name in by_name else None
        for name in known
    ]
    return cast((c_char_p * count)(*types), POINTER(c_char_p))


def _seconds(value: float | None, name: str) -> int:
    """Returns whole seconds; 0, the library's default, for None."""
    if value is None:
        return 0
    if not value >= 1:
        raise InvalidArgument(f"{name} is {value} seconds; the minimum is 1")
    return int(min(value, sys.maxsize))


def _date(value: datetime | None, name: str) -> bytes | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise InvalidArgument(f"{name} has no time zone")
    return value.isoformat(timespec="seconds").encode()


