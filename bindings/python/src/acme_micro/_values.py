"""Converts values of the library."""

from __future__ import annotations

import codecs
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def from_text(text: bytes | None) -> str | None:
    """Converts text; None for NULL."""
    return None if text is None else text.decode()


def text_of(data: bytes, errors: str = "strict") -> str:
    """Decodes the content of a text file; an editor may have put a byte order mark in front."""
    is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf_16 else "utf-8-sig", errors)


def moment(milliseconds: int) -> datetime | None:
    """Converts milliseconds since 1970; None for 0."""
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


def milliseconds(moment: datetime | None) -> int:
    """Converts a time to milliseconds since 1970; 0 for None."""
    return (moment - EPOCH) // timedelta(milliseconds=1) if moment else 0


def reason_of(error: BaseException) -> bytes:
    """Returns an exception of the program as a reason for the library."""
    return f"{type(error).__name__}: {error}".encode("utf-8", "replace").replace(b"\0", b" ")
