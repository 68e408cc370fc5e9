"""Text for terminals."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from .._values import EPOCH

# What is nearer than this is told with its time of day.
NEAR = timedelta(days=2)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def plain(text: str) -> str:
    """Without what would do something to a terminal: names of files and a CA's words are anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text)


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def day_and_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def not_before(moment: datetime, step: timedelta = MINUTE) -> datetime:
    """The first whole minute, or other step, that is not too early."""
    return moment + (EPOCH - moment) % step


def is_near(*moments: datetime) -> bool:
    """Is the time of day of interest, besides the day?"""
    now = datetime.now(timezone.utc)
    return any(abs(moment - now) < NEAR for moment in moments)


def until(moment: datetime) -> str:
    """The end of a certificate."""
    return day_and_time(moment) if is_near(moment) else day(moment)


def time_left(moment: datetime) -> str:
    """Whole days until then; hours and minutes when there are less than two."""
    left = moment - datetime.now(timezone.utc)
    if left < timedelta(0):
        return "expired"
    if left >= NEAR:
        return f"{left.days} days"
    hours, minutes = divmod(left // MINUTE, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
