"""Stores the measured figures in a file, and computes medians and ranges."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

Figures = dict[str, Any]


class Results:
    """Results by part. A part is measured completely in one run or not at all, so that its figures are comparable."""

    def __init__(self, path: Path):
        self.path = path
        self.parts: dict[str, Any] = json.loads(path.read_text())["parts"] if path.exists() else {}

    def add(self, part: str, rounds: int, figures: Figures) -> None:
        self.parts[part] = {
            "measured": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            # A load above the number of cores means that the machine was doing something else, too.
            "load": round(os.getloadavg()[1], 1),
            "rounds": rounds,
            "machine": machine(),
            **figures,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"parts": dict(sorted(self.parts.items()))}, indent=1)
        self.path.write_text(text + "\n")


def machine() -> dict[str, Any]:
    def said_by(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    return {
        "system": said_by("sh", "-c", '. /etc/os-release && echo "$PRETTY_NAME"') or platform.system(),
        "processors": os.cpu_count(),
        "openssl": said_by("openssl", "version"),
        "rust": said_by("rustc", "--version"),
        "pebble": os.environ.get("PEBBLE_VERSION"),
        "commit": said_by("git", "describe", "--always", "--dirty"),
    }


def summary(values: list[float]) -> dict[str, float]:
    """The median, and the lowest and highest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None
