"""Counts instructions, so that a change that costs much is noticed. Each figure is a ratio to the same work by
OpenSSL alone, in the same run: the counts themselves depend on the machine's OpenSSL and processor.

A change that lowers a ratio lowers the constant here, too; docs/performance.md has the figures.
"""

from __future__ import annotations

import os
import re
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from work import BENCH, SYSTEM_BUNDLE

# Measured on 2026-11-29 with OpenSSL 3.0.
CERTIFICATE_TO_FLOOR = 1.29
ORDER_TO_FLOOR = 1.34
# A ratio may grow by a tenth before a test fails.
GROWTH = 1.1
# The most that the system's roots may cost, as a ratio to one root.
BUNDLE_TO_ONE_ROOT = 1.15


def instructions(*command: object, **environment: str) -> int:
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *map(str, command)],
        capture_output=True, text=True, timeout=600, env={**os.environ, **environment},
    )  # fmt: skip
    found = re.search(r"Collected *: *(\d+)", done.stderr)
    assert done.returncode == 0 and found, done.stderr
    return int(found.group(1))


class Costs:
    """The instructions of the C example `obtain`, for one name and a known account."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = os.environ["ACME_CA_FILE"]
        self.folder = folder
        self.bundle = folder / "bundle.pem"
        self.bundle.write_text(SYSTEM_BUNDLE.read_text() + Path(self.ca_file).read_text())
        self._names = 0
        subprocess.run(self._obtain(), check=True, capture_output=True)

    def _obtain(self) -> list[str]:
        self._names += 1
        name = f"costs{self._names}-{os.getpid()}.test"
        port = os.environ["PEBBLE_HTTP_PORT"]
        words = ["--directory", os.environ["ACME_DIRECTORY"], "--agree-terms", "--port", port]
        return [str(BENCH.parent / "obtain"), *words, "--out", str(self.folder / "ca"), name]

    def obtain(self, roots: object) -> int:
        """Obtains certificates with the roots in a file, which replaces that of the system. Returns the fewest
        instructions: while the CA is slow, the program polls more often."""
        runs = (self._obtain() for _ in range(5))
        return min(instructions(*run, SSL_CERT_FILE=str(roots)) for run in runs)

    def floor(self) -> int:
        url = urllib.parse.urlsplit(os.environ["ACME_DIRECTORY"])
        return instructions(BENCH / "floor", url.hostname, url.port, url.path, self.ca_file, 1, 1, self.folder / "ca/account.pem")


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    return Costs(tmp_path_factory.mktemp("costs"))


def test_the_system_s_roots_cost_little_more_than_one(costs: Costs) -> None:
    assert costs.obtain(costs.bundle) <= BUNDLE_TO_ONE_ROOT * costs.obtain(costs.ca_file)


def test_a_certificate_with_the_system_s_roots_costs_no_more_than_before(costs: Costs) -> None:
    ratio = costs.obtain(costs.bundle) / costs.floor()
    assert ratio <= CERTIFICATE_TO_FLOOR * GROWTH


def test_an_order_in_flight_costs_no_more_than_before() -> None:
    few, many = 20, 60

    def each(program: str) -> float:
        counts = [instructions(BENCH / program, orders) for orders in (few, many)]
        return (counts[1] - counts[0]) / (many - few)

    ratio = each("in_flight") / each("in_flight_floor")
    assert ratio <= ORDER_TO_FLOOR * GROWTH
