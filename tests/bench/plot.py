"""Draws the picture of a certificate's cost for the README, as SVG; a few bars need no library."""

from __future__ import annotations

from html import escape
from math import log
from pathlib import Path
from typing import Any

from report import OURS, label

FLOOR = "OpenSSL alone"
PANELS = (
    ("r", "cpu_ms", 1.0, "CPU time, ms"),
    ("e", "cpu_ms", 1.0, "CPU time, one of many, ms"),
    ("r", "wall_ms", 1.0, "wall time, ms"),
    ("r", "peak_kib", 1024.0, "peak memory, MB"),
    ("r", "requests", 1.0, "requests"),
)
LABELS, PANEL, BAR, ROW, TOP = 190, 190, 110, 22, 64
# Colors that can be distinguished on white and on black.
COLORS = {OURS: "#d9480f", FLOOR: "#868e96"}
OTHERS = "#4c8bf5"


def write_plot(parts: dict[str, Any], path: Path) -> bool:
    """Draws one name with a known account and the system's roots (r), and many in a row (e). Returns whether there were figures."""
    drawn = {part: rows_of(parts[part]) for part in {panel[0] for panel in PANELS} if part in parts}
    if any(OURS not in drawn.get(part, {}) for part, *_ in PANELS):
        return False
    rows = drawn["r"]
    names = sorted(rows, key=lambda name: rows[name]["cpu_ms"]["median"])
    width, height = LABELS + PANEL * len(PANELS), TOP + ROW * len(names) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(10, 22, "One certificate for a known account: a process of its own, and, where it says so, one of many in a row", 15),
        text(10, height - 10, "Medians; each bar is as long as its logarithm. Less is better.", 11),
    ]
    for column, (part, key, unit, title) in enumerate(PANELS):
        left = LABELS + column * PANEL
        lines.append(text(left, TOP - 12, title, 12))
        values = {name: row[key]["median"] / unit for name, row in drawn[part].items() if name in names}
        least, most = min(values.values()) / 2, max(values.values())
        for row, name in enumerate(names):
            if name not in values:  # not measured
                continue
            length = BAR * log(values[name] / least) / log(most / least)
            y = TOP + ROW * row
            lines.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{ROW - 6}" '
                f'fill="{COLORS.get(name, OTHERS)}"/>'
            )
            lines.append(text(left + length + 5, y + ROW - 10, number(values[name]), 11))
    lines += [
        text(10, TOP + ROW * row + ROW - 10, label(name, rows[name]), 12, bold=name == OURS)
        for row, name in enumerate(names)
    ]
    path.write_text("\n".join([*lines, "</svg>", ""]))
    return True


def rows_of(part: dict[str, Any]) -> dict[str, Any]:
    return {**{name: row for name, row in part["peers"].items() if row["runs"]}, FLOOR: part["floor"]}


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#212529"{weight}>{escape(words)}</text>'
