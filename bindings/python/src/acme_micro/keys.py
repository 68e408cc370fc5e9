"""Private keys, and keeping them in files."""

from __future__ import annotations

import os

from . import _atomic_write, _native
from ._arguments import PathLike, to_bytes, to_enum, to_text
from ._handle import Handle, create
from ._native import KeyType
from ._values import from_text
from .errors import AcmeError

__all__ = ["KeyType", "PrivateKey"]

SECRET = 0o600


class PrivateKey(Handle[_native.acme_key_t]):
    """A private key: an account's or a certificate's.

    An account's key *is* the account: keep it. Its text is wiped from the library's memory when
    nothing uses the object any more; what :attr:`pem` gave is Python's and is not.
    """

    @classmethod
    def generate(cls, type: KeyType = KeyType.P256) -> PrivateKey:
        """Makes a key. An RSA key takes up to seconds: not for an event loop's thread."""
        type = to_enum(type, KeyType, "type")
        make, free = _native.acme_key_generate, _native.acme_key_free
        return cls._wrap(create(_native.acme_key_t, free, lambda key: make(type, key)))

    @classmethod
    def parse(cls, data: str | bytes) -> PrivateKey:
        """Reads a PEM or DER key (PKCS#8, SEC 1, PKCS#1) that is not encrypted."""
        data = to_bytes(data, "data")
        make, free = _native.acme_key_parse, _native.acme_key_free
        return cls._wrap(create(_native.acme_key_t, free, lambda key: make(data, len(data), key)))

    @classmethod
    def parse_encrypted(cls, data: str | bytes, passphrase: str) -> PrivateKey:
        """Reads a PEM key that is encrypted with a passphrase."""
        data, phrase = to_bytes(data, "data"), to_text(passphrase, "passphrase")
        make, free = _native.acme_key_parse_encrypted, _native.acme_key_free
        made = create(_native.acme_key_t, free, lambda key: make(data, len(data), phrase, key))
        return cls._wrap(made)

    @classmethod
    def from_public(cls, data: str | bytes) -> PrivateKey:
        """A key whose private half is outside the process, in an HSM, a KMS or an agent.

        Given by its public half, PEM or DER. Operations that use it ask to :class:`Sign`.
        """
        data = to_bytes(data, "data")
        make, free = _native.acme_key_from_public, _native.acme_key_free
        return cls._wrap(create(_native.acme_key_t, free, lambda key: make(data, len(data), key)))

    @classmethod
    def load(cls, path: PathLike) -> PrivateKey:
        """Reads a key from a file, as :meth:`parse` does."""
        with open(path, "rb") as file:
            data = file.read()
        try:
            return cls.parse(data)
        except AcmeError as error:
            raise type(error)(f"{os.fsdecode(path)}: {error}", status=error.status) from None

    @classmethod
    def load_or_generate(cls, path: PathLike, type: KeyType = KeyType.P256) -> PrivateKey:
        """Reads the key from a file; when there is none, makes one and writes it there first.

        The file is complete and on the disk, with mode 0600, when this returns. When several
        processes do it at once, all get the same key.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            key = cls.generate(type)
        try:
            _write_secret(os.fsdecode(path), key.pem, replace=False)
        except FileExistsError:  # another process was faster
            return cls.load(path)
        return key

    def save(self, path: PathLike) -> None:
        """Writes the key to a file with mode 0600, replacing one that is there in one step."""
        _write_secret(os.fsdecode(path), self.pem, replace=True)

    @property
    def pem(self) -> str:
        """The key as PKCS#8 PEM. Secret."""
        pem = from_text(_native.acme_key_pem(self._handle))
        if pem is None:
            raise AcmeError("the key cannot be written as PEM")
        return pem

    @property
    def thumbprint(self) -> str:
        """RFC 7638 thumbprint, base64url. Not secret.

        An http-01 responder that knows it needs nothing else: the answer to
        ``/.well-known/acme-challenge/TOKEN`` is the token, a dot and the account key's thumbprint.
        """
        return from_text(_native.acme_key_thumbprint(self._handle)) or ""

    @property
    def type(self) -> KeyType:
        """Kind of key."""
        return KeyType(_native.acme_key_type(self._handle))

    def _describe(self) -> str:
        return f"{self.type.name} {self.thumbprint}"


def _write_secret(path: str, text: str, *, replace: bool) -> None:
    """Writes a file that only its owner can read; FileExistsError instead of replacing one."""
    directory, name = os.path.split(path)
    try:
        folder = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _atomic_write.write(folder, name, text.encode("ascii"), SECRET, replace=replace)
        finally:
            os.close(folder)
    except OSError as error:  # its own path is relative to the descriptor, or a temporary file's
        raise OSError(error.errno, error.strerror, path) from error
