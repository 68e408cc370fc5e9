"""Text for terminals."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from .._values import EPOCH

# Maximum distance of a time that is shown with hours and minutes.
NEAR = timedelta(days=2)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def plain(text: str) -> str:
    """Replaces characters that could control the terminal, in names of files and in a CA's texts."""
    return "".join(c if c.isprintable() else "?" for c in text)


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def day_and_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def not_before(moment: datetime, step: timedelta = MINUTE) -> datetime:
    """Rounds up to a whole minute, or to another step, so that the result is not too early."""
    return moment + (EPOCH - moment) % step


def is_near(*moments: datetime) -> bool:
    """Whether to show the time of day as well."""
    now = datetime.now(timezone.utc)
    return any(abs(moment - now) < NEAR for moment in moments)


def until(moment: datetime) -> str:
    """Returns the end of a certificate's validity as text."""
    return day_and_time(moment) if is_near(moment) else day(moment)


def time_left(moment: datetime) -> str:
    """Returns the whole days until then; hours and minutes if they are less than two days."""
    left = moment - datetime.now(timezone.utc)
    if left < timedelta(0):
        return "expired"
    if left >= NEAR:
        return f"{left.days} days"
    hours, minutes = divmod(left // MINUTE, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(rows: list[tuple[str, ...]]) -> str:
    """Formats a table with columns of the necessary width; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
