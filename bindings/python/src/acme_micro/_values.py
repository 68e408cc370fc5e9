"""Converts values of the library."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def from_text(text: bytes | None) -> str | None:
    """Converts text; None for NULL."""
    return None if text is None else text.decode()


def moment(milliseconds: int) -> datetime | None:
    """Converts milliseconds since 1970; None for 0."""
    return EPOCH + timedelta(milliseconds=milliseconds) if milliseconds else None


def milliseconds(moment: datetime | None) -> int:
    """Converts a time to milliseconds since 1970; 0 for None."""
    return (moment - EPOCH) // timedelta(milliseconds=1) if moment else 0
