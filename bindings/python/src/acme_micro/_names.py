"""The names of a store's files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from ._arguments import to_text
from .errors import InvalidArgument

__all__ = [
    "ACCOUNT_KEY",
    "ACCOUNT_URL",
    "CHAIN",
    "DIRECTORY_URL",
    "KEY",
    "UNUSED",
    "canonical",
    "file_of",
    "legacy_file_of",
    "name_of",
]

ACCOUNT_KEY, ACCOUNT_URL, DIRECTORY_URL = "account.pem", "account.url", "directory.url"
# Ending of the file of a key that is not used any more.
UNUSED = ".unused"
KEY, CHAIN = ".key.pem", ".chain.pem"
PLAIN = re.compile(r"[A-Za-z0-9._~:-]")
# The characters of ASCII that a label of a name does not have.
SPECIAL = re.compile(r"[\x00-\x7f](?<![a-z0-9-])")
ESCAPED = re.compile("=([0-9A-F]{2})")


def canonical(name: str) -> str:
    """Returns the one spelling of a name: small letters, A-labels, the short form of an IPv6 address, and
    no final dot."""
    text = "".join(c.lower() for c in name).rstrip(".")  # each on its own, as the library does
    if ":" in text:
        from ipaddress import IPv6Address

        try:
            return IPv6Address(text).compressed
        except ValueError:
            return text
    return ".".join(map(_a_label, text.split(".")))


def file_of(name: str) -> str:
    """Returns the name of a certificate's files, without their endings.

    A name cannot lead to another folder: each special character becomes ``=`` and its bytes in
    hexadecimal. (``%`` is special in systemd's units and in crontabs.) A name that is too long for a file
    is cut, and a digest of the whole name follows.
    """
    return _encoded(name, canonical, lambda c: c if PLAIN.match(c) else _escape(c))


def legacy_file_of(name: str) -> str:
    """Returns the name that version 0.14.1 gave the files."""
    return _encoded(name, lambda name: name.lower().rstrip("."), lambda c: quote(c, safe=":"))


def name_of(file: str) -> str:
    """Returns the name whose files these are."""
    name = file.replace("_", "*", 1) if file.startswith("_.") else file
    return unquote(ESCAPED.sub(r"%\1", name))


def _encoded(name: str, spelling: Callable[[str], str], encode: Callable[[str], str]) -> str:
    to_text(name, "name")
    if not name or name[0] == ".":
        raise InvalidArgument(f"{name!r} cannot be the name of a file")
    characters = [encode(c) for c in spelling(name).replace("*", "_")]
    file = "".join(characters)
    if len(file) > 200:
        while sum(map(len, characters)) > 150:
            characters.pop()
        file = f"{''.join(characters)}~{hashlib.sha256(file.encode()).hexdigest()[:32]}"
    return file


def _a_label(label: str) -> str:
    if label.isascii() or not label.isprintable() or SPECIAL.search(label):
        return label
    return f"xn--{label.encode('punycode').decode()}"


def _escape(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode())
