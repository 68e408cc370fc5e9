"""Converts arguments for the library; each error has the caller's name of the argument."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ctypes import POINTER, c_char_p, cast
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar, Union

from .errors import InvalidArgument

if TYPE_CHECKING:
    from ctypes import _Pointer

PathLike = Union[str, "os.PathLike[str]"]


Enum = TypeVar("Enum", bound=IntEnum)


def to_text(value: str, name: str) -> bytes:
    """Converts text; ``name`` is the caller's name of the argument."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name} cannot be written as UTF-8: {error.reason}") from None
    if b"\0" in text:
        raise InvalidArgument(f"{name} contains a NUL character")
    return text


def to_optional_text(value: str | None, name: str) -> bytes | None:
    return None if value is None else to_text(value, name)


def to_list(values: Iterable[str], name: str) -> list[str]:
    """Returns a list of texts. A single text is refused: it would be a list of letters."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        one = "one " if isinstance(values, (str, bytes)) else ""
        raise TypeError(f"{name} must be a list of str, not {one}{type(values).__name__}")
    return list(values)


def to_texts(values: Iterable[str], name: str) -> tuple[_Pointer[c_char_p], int]:
    """Converts a list of texts for the library; returns it with its length."""
    listed = enumerate(to_list(values, name))
    texts = [to_text(value, f"{name}[{index}]") for index, value in listed]
    return cast((c_char_p * len(texts))(*texts), POINTER(c_char_p)), len(texts)


def to_optional_path(value: PathLike | None, name: str) -> bytes | None:
    if value is None:
        return None
    path = to_path(value, name)
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # the locale does not have these characters
        return to_text(path, name)


def to_path(value: PathLike, name: str) -> str:
    """Checks a path for the system's own functions. It may have bytes that are not text (PEP 383)."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{name} must be str, not {type(path).__name__}")
    if "\0" in path:
        raise InvalidArgument(f"{name} contains a NUL character")
    return path


def to_bytes(data: str | bytes | bytearray | memoryview, name: str) -> bytes:
    """Returns bytes: PEM as str or bytes, DER as bytes."""
    if isinstance(data, str):
        return to_text(data, name)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"{name} must be str or bytes, not {type(data).__name__}")


def to_enum(value: int, kind: type[Enum], name: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise InvalidArgument(f"{name} is {value!r}, which is not a {kind.__name__}") from None
