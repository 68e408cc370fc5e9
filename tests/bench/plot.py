"""One picture of what a certificate costs, for the README: SVG, by hand, for it is some bars."""

from __future__ import annotations

from html import escape
from math import log
from pathlib import Path
from typing import Any

from report import OURS

FLOOR = "OpenSSL alone"
PANELS = (
    ("cpu_ms", 1.0, "CPU time, ms"),
    ("wall_ms", 1.0, "wall time, ms"),
    ("peak_kib", 1024.0, "peak memory, MB"),
    ("requests", 1.0, "requests"),
)
LABELS, PANEL, BAR, ROW, TOP = 190, 190, 110, 22, 64
# Colors that are told apart on white and on black.
COLORS = {OURS: "#d9480f", FLOOR: "#868e96"}
OTHERS = "#4c8bf5"


def write_plot(parts: dict[str, Any], path: Path) -> bool:
    """Whether there was something to draw: one name for a known account (b)."""
    if OURS not in parts.get("b", {}).get("peers", {}):
        return False
    rows = {name: row for name, row in parts["b"]["peers"].items() if row["runs"]}
    rows[FLOOR] = parts["b"]["floor"]
    names = sorted(rows, key=lambda name: rows[name]["cpu_ms"]["median"])
    width, height = LABELS + PANEL * len(PANELS), TOP + ROW * len(names) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(10, 22, "One certificate for a known account, a process of its own, from one Pebble", 15),
        text(10, height - 10, "Medians; each bar is as long as its logarithm. Less is better.", 11),
    ]
    for column, (key, unit, title) in enumerate(PANELS):
        left = LABELS + column * PANEL
        lines.append(text(left, TOP - 12, title, 12))
        values = {name: rows[name][key]["median"] / unit for name in names}
        least, most = min(values.values()) / 2, max(values.values())
        for row, name in enumerate(names):
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


def label(name: str, row: dict[str, Any]) -> str:
    version = row.get("version", "")
    return name if not version or version in name else f"{name} {version}"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#212529"{weight}>{escape(words)}</text>'
