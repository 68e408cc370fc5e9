#!/usr/bin/env python3
"""Prints the tables of docs/performance.md from target/bench/results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report import OURS, label, middle
from work import FLOOR, WORKS

RESULTS = Path(__file__).resolve().parents[2] / "target/bench/results.json"
HEAD = (
    "| | wall, ms | × | CPU, ms | × | peak, MB | requests | connections | KB sent, received |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def work_table(figures: dict[str, Any]) -> str:
    ours = figures["peers"][OURS]
    rows = {**figures["peers"], FLOOR: figures["floor"]}
    lines = [HEAD]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["cpu_ms"]["median"]):
        times = [
            f"{spread(row[key])} | {ratio(row[key]['median'] / ours[key]['median'])}" for key in ("wall_ms", "cpu_ms")
        ]
        connections = f"{row['connections']:.3g}" if "connections" in row else ""
        kb = f"{row['bytes_sent'] / 1000:.1f}, {row['bytes_received'] / 1000:.1f}" if "bytes_sent" in row else ""
        cells = [
            named(name, row, figures["rounds"]), *times, f"{row['peak_kib']['median'] / 1024:.1f}",
            number(middle(row, "requests")), connections, kb,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def roots_table(figures: dict[str, Any]) -> str:
    """The table of r: what each peer was told, and its memory counted in two ways."""
    ours = figures["peers"][OURS]
    rows = {**figures["peers"], FLOOR: figures["floor"]}
    lines = [
        "| | told the roots by | wall, ms | CPU, ms | × | peak, MB | at its end, MB | proportional, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["cpu_ms"]["median"]):
        sizes = [f"{row[key] / 1024:.1f}" if key in row else "" for key in ("rss_kib", "pss_kib")]
        cells = [
            named(name, row, figures["rounds"]), row.get("told_root_by", "one root only"), spread(row["wall_ms"]),
            spread(row["cpu_ms"]), ratio(row["cpu_ms"]["median"] / ours["cpu_ms"]["median"]),
            f"{row['peak_kib']['median'] / 1024:.1f}", *sizes,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scale_table(figures: dict[str, Any]) -> str:
    lines = [
        "| in flight × names | CPU for each, µs | certificates a second and core | heap for each, bytes, at most |",
        "|---|---|---|---|",
    ]
    for case, row in figures["cases"].items():
        cells = [
            case.replace(" x ", " × "), spread(row["cpu_us"]), f"{1e6 / row['cpu_us']['median']:,.0f}",
            f"{row['heap']['median']:,.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def named(name: str, row: dict[str, Any], rounds: int) -> str:
    mark = {OURS: "**", FLOOR: "*"}.get(name, "")
    return f"{mark}{label(name, row)}{mark}" + " †" * (row.get("runs", rounds) < rounds)


def spread(found: dict[str, float]) -> str:
    return f"{number(found['median'])} ({number(found['low'])} to {number(found['high'])})"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 10_000 else f"{value:,.0f}"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 20 else f"{value:.0f}"


def main() -> None:
    parts = json.loads(RESULTS.read_text())["parts"]
    for part, figures in parts.items():
        head = f"{figures['rounds']} rounds, {figures['measured']} UTC, load {figures['load']}"
        if part == "r":
            print(f"({part}), {figures['title']}: {head}\n\n{roots_table(figures)}\n")
        elif part in WORKS:
            print(f"({part}), {figures['title']}: {head}\n\n{work_table(figures)}\n")
        if part == "scale":
            print(f"{figures['title']}: {head}\n\n{scale_table(figures)}\n")


if __name__ == "__main__":
    main()
