"""Values of the library's for Python."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def from_text(text: bytes | None) -> str | None:
    """Text; NULL is None."""
    return None if text is None else text.decode()


def moment(milliseconds: int) -> datetime | None:
    """A moment; 0 is none."""
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


def milliseconds(moment: datetime | None) -> int:
    """The other way; None is 0."""
    return (moment - EPOCH) // timedelta(milliseconds=1) if moment else 0
