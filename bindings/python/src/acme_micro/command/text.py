"""Text for terminals."""

from __future__ import annotations

from datetime import datetime


def plain(text: str) -> str:
    """Without what would do something to a terminal: names of files and a CA's words are anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text)


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def day_and_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
