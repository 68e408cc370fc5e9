"""The library's size on disk, and the cost of loading it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import Figures, summary

TARGET = Path(__file__).resolve().parents[2] / "target"
LIBRARY = TARGET / "c/lib/libacme-micro.so.1"
START = TARGET / "c/bench/start"
PYTHON = TARGET / "bench/venv/bin/python"


def measure_start(rounds: int) -> Figures:
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, LIBRARY], check=True)
        size = os.stat(stripped.name).st_size
    loaded = {Path(name).name: os.stat(name).st_size for name in libraries(LIBRARY)}
    openssl = next(name for name in libraries(LIBRARY) if "libssl" in name)
    python = PYTHON if PYTHON.exists() else sys.executable
    runs: dict[str, list[float]] = {}
    for _ in range(rounds * 5):
        for what, library in (("dlopen", str(LIBRARY)), ("dlopen of libssl alone", openssl)):
            output = subprocess.run([START, library], check=True, capture_output=True, text=True)
            us, kib = map(float, output.stdout.split())
            runs.setdefault(f"{what}, ms", []).append(us / 1000)
            runs.setdefault(f"{what}, KiB", []).append(kib)
        for what, code in (("python", "pass"), ("python -c 'import acme_micro'", "import acme_micro")):
            begun = time.perf_counter()
            subprocess.run([python, "-c", code], check=True)
            runs.setdefault(f"{what}, ms", []).append((time.perf_counter() - begun) * 1000)
    return {
        "title": "size and start",
        "stripped": size,
        "loaded": loaded,
        "figures": {name: summary(values) for name, values in runs.items()},
    }


def libraries(library: Path) -> list[str]:
    output = subprocess.run(["ldd", library], check=True, capture_output=True, text=True).stdout
    return re.findall(r"=> (/\S+)", output)
