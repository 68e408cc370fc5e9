#!/usr/bin/env python3
"""Measures the time for a hundred names at a CA that takes about a second to validate each.

Such a CA is not the bottleneck: it validates all names at the same time if it gets all responses at the same
time. Two Pebbles would disturb each other, so this one runs only during the measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import OURS, Ca
from results import Figures, summary
from work import call

ROOT = Path(__file__).resolve().parents[2]
# Up to a second for each of three validations from different places.
PEBBLE = [
    "--tools", str(ROOT / "target/tools/bench"), "--env", "PEBBLE_VA_ALWAYS_VALID=1",
    "--env", "PEBBLE_WFE_NONCEREJECT=0", "--env", "PEBBLE_VA_NOSLEEP=0", "--env", "PEBBLE_VA_SLEEPTIME=2",
]  # fmt: skip
NAMES = (1, 10, 100)


def measure_slow(rounds: int) -> Figures:
    with_pebble = [sys.executable, str(ROOT / "tests/pebble/with_pebble.py"), *PEBBLE, "--"]
    command = [*with_pebble, sys.executable, __file__, str(rounds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    walls: dict[str, list[float]] = json.loads(output)
    return {
        "title": "at a CA that takes up to a second to look at a name, and asks for a look each second",
        "wall_ms": {names: summary(values) for names, values in walls.items()},
    }


def main() -> None:
    ca = Ca(os.environ["ACME_DIRECTORY"], os.environ["ACME_CA_FILE"])
    walls: dict[int, list[float]] = {names: [] for names in NAMES}
    with tempfile.TemporaryDirectory() as kept:
        call(OURS.prepare(ca, Path(kept)), [])
        for round_ in range(int(sys.argv[1])):
            for count in NAMES:
                names = [f"slow{round_}-{count}-{i}.test" for i in range(count)]
                walls[count].append(call(OURS.known(ca, Path(kept), names), [])["wall_ms"])
    print(json.dumps(walls))


if __name__ == "__main__":
    main()
