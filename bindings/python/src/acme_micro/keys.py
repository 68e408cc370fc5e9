"""Private keys, and their files."""

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
    """A private key of an account or a certificate.

    An account's key is the only access to the account: keep it. The library wipes a key's memory when
    no object uses it any more; the text of :attr:`pem` is Python's, and is not wiped.
    """

    @classmethod
    def generate(cls, type: KeyType = KeyType.P256) -> PrivateKey:
        """Generates a key. An RSA key takes up to seconds: do not do it on an event loop's thread."""
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
        """Returns a key whose private half is outside the process, in an HSM, a KMS or an agent.

        ``data`` is its public half, PEM or DER. Operations that use the key have :class:`Sign` steps.
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
        """Reads the key from a file; if the file does not exist, generates a key and writes it first.

        The file is complete and on the disk, with mode 0600, when this returns. Several processes that
        do it at the same time get the same key.
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
        """Writes the key to a file with mode 0600; replaces an existing file atomically."""
        _write_secret(os.fsdecode(path), self.pem, replace=True)

    @property
    def pem(self) -> str:
        """The key as PKCS#8 PEM. Secret."""
        pem = from_text(_native.acme_key_pem(self._handle))
        if pem is None:
            raise AcmeError("this key has no PEM form: its private half is outside the process")
        return pem

    @property
    def thumbprint(self) -> str:
        """RFC 7638 thumbprint of the key, in base64url. Not secret.

        It is all that an http-01 responder has to know: the body for
        ``/.well-known/acme-challenge/TOKEN`` is the token, a dot and the account key's thumbprint.
        """
        return from_text(_native.acme_key_thumbprint(self._handle)) or ""

    @property
    def type(self) -> KeyType:
        """The key's type."""
        return KeyType(_native.acme_key_type(self._handle))

    def _describe(self) -> str:
        return f"{self.type.name} {self.thumbprint}"


def _write_secret(path: str, text: str, *, replace: bool) -> None:
    """Writes a file that only its owner can read. If not ``replace`` and the file exists: FileExistsError."""
    directory, name = os.path.split(path)
    try:
        folder = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _atomic_write.write(folder, name, text.encode("ascii"), SECRET, replace=replace)
        finally:
            os.close(folder)
    except OSError as error:  # its own path is relative to the descriptor, or a temporary file's
        raise OSError(error.errno, error.strerror, path) from error
