"""Measures the engine against a CA in the same process, with in_flight.c."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from results import Figures, summary

BENCH = Path(__file__).resolve().parents[2] / "target" / "c" / "bench"
IN_FLIGHT = [(int(n), 1) for n in os.environ.get("BENCH_IN_FLIGHT", "1 100 10000 100000").split()]
NAMES = [(100, names) for names in (1, 10, 100)]


def measure_scale(rounds: int) -> Figures:
    """CPU time and memory per certificate, by number of operations in flight and of names."""
    found: dict[str, list[dict[str, float]]] = {}
    states: list[list[str]] = []
    for _ in range(rounds):
        for count, names in [*IN_FLIGHT, *NAMES]:
            command = [BENCH / "in_flight", str(count), str(names)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            *lines, poll, each = [line.split() for line in output.splitlines()]
            found.setdefault(f"{count} x {names}", []).append({
                "cpu_us": float(each[1]),
                "requests": float(each[2]),
                "heap": max(float(line[2]) for line in lines),
                "resident": max(float(line[3]) for line in lines),
                "poll_median_us": float(poll[2]),
                "poll_p999_us": float(poll[3]),
            })
            if (count, names) == (10000, 1):
                states = lines
    return {
        "title": "the engine against a CA in the same process",
        "cases": {
            case: {name: summary([run[name] for run in runs]) for name in runs[0]}
            for case, runs in found.items()
        },
        "states": [[*line[:2], float(line[2]), float(line[3])] for line in states],
    }
