"""Certificates, and certificate signing requests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ctypes import POINTER, c_size_t, c_uint8, cast, create_string_buffer, pointer, sizeof, string_at
from datetime import datetime
from typing import TYPE_CHECKING

from . import _native
from ._arguments import PathLike, to_bytes, to_optional_path, to_optional_text, to_text, to_texts
from ._handle import Handle, borrow, create, handle_of
from ._native import RevocationReason
from ._values import EPOCH, from_text, moment
from .errors import AcmeError, InvalidArgument, check
from .keys import KeyType, PrivateKey
from .steps import Challenge

if TYPE_CHECKING:
    from ctypes import _Pointer

__all__ = ["Certificate", "RevocationReason", "SigningRequest"]

DIGEST_SIZE = 32  # of SHA-256


class Certificate(Handle[_native.acme_cert_t]):
    """A certificate with its chain, leaf first, and with its private key if that is known."""

    # The key of a certificate that comes from a store.
    _stored_key: PrivateKey | None = None

    @classmethod
    def parse(cls, pem: str | bytes) -> Certificate:
        """Parses a PEM chain, leaf first. Raises :class:`InvalidArgument` if it contains anything else."""
        pem = to_bytes(pem, "pem")
        make, free = _native.acme_cert_parse, _native.acme_cert_free
        return cls._wrap(create(_native.acme_cert_t, free, lambda cert: make(pem, len(pem), cert)))

    @classmethod
    def load(cls, path: PathLike) -> Certificate:
        """Reads a PEM chain from a file, as :meth:`parse` does."""
        with open(path, "rb") as file:
            data = file.read()
        try:
            return cls.parse(data)
        except AcmeError as error:
            raise type(error)(f"{os.fsdecode(path)}: {error}", status=error.status) from None

    @classmethod
    def tls_alpn(cls, challenge: Challenge, key: PrivateKey | None = None) -> Certificate:
        """Makes the self-signed certificate for a tls-alpn-01 challenge (RFC 8737).

        Use it in handshakes for :attr:`Challenge.tls_alpn_name` that negotiate the protocol
        ``acme-tls/1``, and in no others. ``key`` is its key; the default is a new key.
        """
        digest = challenge.tls_alpn_digest
        if digest is None:
            raise InvalidArgument(f"challenge is {challenge.type}, not tls-alpn-01")
        if len(digest) != DIGEST_SIZE:
            raise InvalidArgument(f"challenge.tls_alpn_digest has {len(digest)} bytes, not 32")
        # A newer library's struct may be longer; its other members are then zero.
        space = create_string_buffer(sizeof(_native.acme_challenge_t) + 256)
        struct = _native.acme_challenge_t.from_buffer(space)
        struct.type = to_text(challenge.type, "challenge.type")
        struct.identifier = to_text(challenge.identifier, "challenge.identifier")
        struct.token = to_text(challenge.token, "challenge.token")
        authorization = to_text(challenge.key_authorization, "challenge.key_authorization")
        struct.key_authorization = authorization
        struct.tls_alpn_digest = cast((c_uint8 * DIGEST_SIZE)(*digest), POINTER(c_uint8))
        with_key = POINTER(_native.acme_key_t)()
        if key is not None:
            with_key = handle_of(key, PrivateKey, "key")
        make, free = _native.acme_cert_create_tls_alpn, _native.acme_cert_free
        made = create(_native.acme_cert_t, free, lambda c: make(pointer(struct), with_key, c))
        return cls._wrap(made)

    @property
    def chain_pem(self) -> str:
        """The whole chain as PEM, as web servers want it ("fullchain")."""
        return from_text(_native.acme_cert_chain_pem(self._handle)) or ""

    def der(self, index: int = 0) -> bytes:
        """Returns a certificate of the chain as DER; 0 is the leaf. Raises IndexError past the end."""
        size = c_size_t()
        handle = self._handle
        # A negative index would become a huge one.
        data = _native.acme_cert_der(handle, index, pointer(size)) if index >= 0 else None
        if not data:
            raise IndexError(f"the chain has no certificate {index}")
        return string_at(data, size.value)

    @property
    def key(self) -> PrivateKey | None:
        """The private key; None if the certificate was parsed alone, or ordered with a ``csr``."""
        handle = self._handle
        if self._stored_key is not None:
            return self._stored_key
        key = _native.acme_cert_key(handle)
        return PrivateKey._wrap(borrow(key, handle)) if key else None

    def is_for(self, key: PrivateKey) -> bool:
        """Whether this is the leaf's key. Raises :class:`CryptoError` if OpenSSL cannot compare keys."""
        if _native.acme_cert_is_for(self._handle, handle_of(key, PrivateKey, "key")):
            return True
        PrivateKey.generate()  # without a provider of its algorithms, OpenSSL finds any two keys different
        return False

    def write_files(
        self,
        *,
        combined: PathLike | None = None,
        folder: PathLike | None = None,
        chain: str | None = None,
        key: str | None = None,
        certificate: str | None = None,
        issuers: str | None = None,
        mode: int = 0o644,
        key_mode: int = 0o600,
        owner: int | None = None,
        group: int | None = None,
        private_key: PrivateKey | None = None,
    ) -> None:
        """Writes the certificate with its key into files for servers.

        ::

            cert.write_files(combined="/etc/haproxy/example.org.pem", key_mode=0o640, group=haproxy)
            cert.write_files(folder="/etc/nginx/example.org", chain="chain.pem", key="key.pem")

        If the program is killed or the power fails, a server finds all old files or all new ones, and a key
        always fits its certificate. Tell the server to read the files after this has returned: one that reads
        two files of the folder at the very moment of the change can get an old and a new one, but never with
        ``combined``. Raises :class:`StoreError` if a file cannot be written; the old ones stay.

        combined
            Path of one file with the key, the certificate and its issuers, for HAProxy, Postfix and nginx.
        folder
            Path of a folder for the files below. It is made: a symbolic link to a hidden folder beside it,
            which each call replaces. The folder above it must exist.
        chain, key, certificate, issuers
            Names of files in the folder: the certificate with its issuers, the key, the certificate alone,
            and the issuers alone.
        mode, key_mode
            Modes of the files without and with the key.
        owner, group
            Numbers of the user and group who get the files, other than those of the process.
        private_key
            The key of a certificate that has none, because it was parsed.
        """
        handle = self._handle
        with_key = private_key if private_key is not None else self._stored_key
        options = _native.acme_files_options_t()
        options.size = sizeof(options)
        options.combined = to_optional_path(combined, "combined")
        options.folder = to_optional_path(folder, "folder")
        options.chain = to_optional_text(chain, "chain")
        options.key = to_optional_text(key, "key")
        options.certificate = to_optional_text(certificate, "certificate")
        options.issuers = to_optional_text(issuers, "issuers")
        options.mode, options.key_mode = _number(mode, "mode"), _number(key_mode, "key_mode")
        options.owner, options.group = _number(owner or 0, "owner"), _number(group or 0, "group")
        if with_key is not None:
            options.private_key = handle_of(with_key, PrivateKey, "private_key")
        check(_native.acme_cert_write_files(handle, pointer(options)))

    @property
    def names(self) -> tuple[str, ...]:
        """The leaf's DNS names and IP addresses."""
        handle, names = self._handle, list[str]()
        while (name := _native.acme_cert_name(handle, len(names))) is not None:
            names.append(name.decode())
        return tuple(names)

    @property
    def serial(self) -> str:
        """The leaf's serial number, in hexadecimal digits."""
        return from_text(_native.acme_cert_serial(self._handle)) or ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 digest of the leaf, in hexadecimal digits."""
        return from_text(_native.acme_cert_fingerprint(self._handle)) or ""

    @property
    def key_type(self) -> KeyType | None:
        """Type of the leaf's key; None if :class:`KeyType` does not have it."""
        kind = _native.acme_cert_key_type(self._handle)
        return KeyType(kind) if kind else None

    @property
    def ari_id(self) -> str | None:
        """The certificate's identifier in renewal information (RFC 9773 section 4.1); None without an
        authority key identifier."""
        return from_text(_native.acme_cert_ari_id(self._handle))

    @property
    def not_before(self) -> datetime:
        """Start of the leaf's validity (UTC)."""
        return moment(_native.acme_cert_not_before(self._handle)) or EPOCH

    @property
    def not_after(self) -> datetime:
        """End of the leaf's validity (UTC)."""
        return moment(_native.acme_cert_not_after(self._handle)) or EPOCH

    @property
    def days_left(self) -> int:
        """Whole days until the leaf expires; negative after that."""
        return _native.acme_cert_days_left(self._handle, 0)

    def _describe(self) -> str:
        return f"{', '.join(self.names)} until {self.not_after:%Y-%m-%d}"


class SigningRequest(Handle[_native.acme_csr_t]):
    """A certificate signing request (PKCS#10, RFC 2986)."""

    @classmethod
    def create(cls, key: PrivateKey, names: Iterable[str]) -> SigningRequest:
        """Makes a request for DNS names, wildcards and IP addresses, signed with the key."""
        signer = handle_of(key, PrivateKey, "key")
        texts, count = to_texts(names, "names")
        make, free = _native.acme_csr_create, _native.acme_csr_free

        def call(csr: _Pointer[_Pointer[_native.acme_csr_t]]) -> int:
            return make(signer, texts, count, csr)

        return cls._wrap(create(_native.acme_csr_t, free, call))

    @classmethod
    def parse(cls, data: str | bytes) -> SigningRequest:
        """Parses a PEM or DER request that was made elsewhere. Its private key is not needed.

        Raises :class:`Unsupported` if CAs refuse its key, such as RSA with 1024 bits.
        """
        data = to_bytes(data, "data")
        make, free = _native.acme_csr_parse, _native.acme_csr_free
        return cls._wrap(create(_native.acme_csr_t, free, lambda csr: make(data, len(data), csr)))

    @property
    def der(self) -> bytes:
        """The request as DER."""
        size = c_size_t()
        handle = self._handle
        data = _native.acme_csr_der(handle, pointer(size))
        return string_at(data, size.value)


def _number(value: int, name: str) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be int, not {type(value).__name__}")
    if not 0 <= value < 1 << 32:
        raise InvalidArgument(f"{name} is {value}, not 0 to 2**32-1")
    return value
