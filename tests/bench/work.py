"""Certificates from Pebble with our library, the peers and the floor, by turns."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from peers import OURS, PEERS, Ca, Missing, Peer, Run
from relay import Relay
from results import Figures, summary

BENCH = Path(__file__).resolve().parents[2] / "target" / "c" / "bench"
FLOOR = "OpenSSL alone"
TRIES = 20
# Timeout of a run in seconds; a longer run hangs.
LONGEST_S = {"f": 60}
LONGEST_OTHERS_S = 1800
# Pebble sometimes deadlocks when many orders come at once: FindValidAuthorization() holds the store's lock
# while it waits for an authorization's lock, and the holder of that lock waits for the store's. So each run
# of f has a Pebble of its own, and is repeated with a new one after a deadlock.
HANGS = 5
HUNG_STATUS = 75
ROOT = BENCH.parents[2]
PEBBLE = [
    str(ROOT / "tests/pebble/with_pebble.py"), "--tools", str(ROOT / "target/tools/bench"),
    "--no-retry-after", "--env", "PEBBLE_VA_ALWAYS_VALID=1", "--env", "PEBBLE_WFE_NONCEREJECT=0", "--",
]  # fmt: skip

# Number of names in each certificate; e and f are many certificates with one name.
WORKS = {"a": 1, "b": 1, "c": 10, "d": 100, "e": 1, "f": 1, "r": 1}
TITLES = {
    "a": "new account, one name",
    "b": "known account, one name",
    "c": "known account, 10 names",
    "d": "known account, 100 names",
    "e": "many certificates in a row, for each",
    "f": "many certificates at once, for each",
    "r": "known account, one name, with the system's roots",
}
# The roots of a real user: the test CA's root is added to them.
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# Replaces the system's roots by the CA's, in a mount namespace; the cost of this is not measured.
SYSTEM_ROOTS = [
    "unshare", "--mount", "--map-root-user", "sh", "-c",
    'mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec "$@"',
]  # fmt: skip


class Failed(Exception):
    """A peer did not do its work; the text is its output."""


class Hung(Failed):
    """The peer or the CA did not finish."""


class Bench:
    def __init__(self, url: urllib.parse.SplitResult, ca: Ca, rounds: int):
        assert url.hostname and url.port
        self._url, self._ca, self._rounds = url, ca, rounds
        self._patience = float(os.environ.get("BENCH_PATIENCE", "0")) or float("inf")
        self._many = int(os.environ.get("BENCH_MANY", "200"))
        self._relay = Relay((url.hostname, url.port))
        self._relayed = Ca(f"https://{url.hostname}:{self._relay.port}{url.path}", ca.ca_file)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        bundle = Path(self._folder.name, "bundle.pem")
        bundle.write_text(SYSTEM_BUNDLE.read_text() + Path(ca.ca_file).read_text())
        self._with_bundle = Ca(ca.directory, str(bundle))
        self._prepared: set[Path] = set()
        self._missing: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        wanted = os.environ.get("BENCH_PEERS", "").split()
        self._peers: list[Peer] = []
        for peer in PEERS:
            try:
                self._versions[peer.name] = peer.version()
            except Missing as missing:
                self._missing[peer.name] = str(missing)
            else:
                if peer is OURS or not wanted or any(word in peer.name for word in wanted):
                    self._peers.append(peer)
                else:
                    self._missing[peer.name] = "not asked for in BENCH_PEERS"
        # Number of runs of f that had to be killed.
        self._hangs: dict[str, int] = {}
        # Each run of the benchmark uses new names.
        self._names = 0

    def measure(self, work: str) -> Figures:
        runs: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in self._peers}
        failures = dict.fromkeys(runs, 0)
        failed: dict[str, str] = {}
        floor: list[dict[str, float]] = []
        out_of_patience: set[str] = set()
        for number in range(self._rounds):
            floor.append(self._measure_floor(work))
            # In each round a peer follows a different one, so that after-effects of a peer affect all alike.
            first = number % len(self._peers)
            for peer in self._peers[first:] + self._peers[:first]:
                if peer.name in failed or peer.name in out_of_patience:
                    continue
                try:
                    figures, again = self._measure_apart(peer) if work == "f" else self.once(peer, work)
                except Failed as error:
                    failed[peer.name] = str(error)
                else:
                    runs[peer.name].append(figures)
                    failures[peer.name] += again
                    if figures["wall_ms"] * self._count(peer, work) / 1000 > self._patience:
                        out_of_patience.add(peer.name)
        peers: Figures = {}
        for peer in self._peers:
            if peer.name in failed:
                continue
            peers[peer.name] = {
                "kind": peer.kind,
                "version": self._versions[peer.name],
                "runs": len(runs[peer.name]),
                "repeated": failures[peer.name],
                "hung": self._hangs.get(peer.name, 0) if work == "f" else 0,
                **summaries(runs[peer.name]),
            }
            if work == "r":
                peers[peer.name].update(told_root_by=peer.told_root_by, **self._memory(peer))
            elif work != "f" and peer.name not in out_of_patience:
                peers[peer.name].update(self._traffic(peer, work))
        if OURS.name in peers and (found := self._instructions(work)):
            peers[OURS.name]["instructions"] = found
        return {
            "title": TITLES[work],
            "peers": peers,
            "floor": {**summaries(floor), "requests": {"median": requests_needed(work, self._many)}},
            "missing": {**self._missing, **{name: f"failed: {why}" for name, why in failed.items()}},
        }

    def once(self, peer: Peer, work: str) -> tuple[dict[str, float], int]:
        return self._measure(peer, work, self._ca_of(work))

    def _ca_of(self, work: str) -> Ca:
        return self._with_bundle if work == "r" else self._ca

    def _measure_apart(self, peer: Peer) -> tuple[dict[str, float], int]:
        """Measures f, with once.py beside another Pebble."""
        command = [sys.executable, *PEBBLE, sys.executable, str(Path(__file__).with_name("once.py"))]
        for _ in range(HANGS):
            done = subprocess.run([*command, peer.name], capture_output=True, text=True)
            if done.returncode == 0:
                figures, again = json.loads(done.stdout)
                return figures, again
            if done.returncode != HUNG_STATUS:
                raise Failed(done.stderr.strip().splitlines()[0])
            self._hangs[peer.name] = self._hangs.get(peer.name, 0) + 1
        raise Failed(f"hung {HANGS} times")

    def _measure(self, peer: Peer, work: str, ca: Ca) -> tuple[dict[str, float], int]:
        """The figures per certificate, and the number of repetitions."""
        for again in range(TRIES):
            run, count = self._run(peer, work, ca)
            seen = log_size()
            try:
                figures = self._call(peer, run, ca, work)
            except Hung:
                raise
            except Failed:
                if not peer.fails_at_times:
                    raise
                continue
            requests = len(read_requests(seen))
            # Processes at once share their libraries; the figure counts them for each process.
            figures["peak_kib"] *= run.jobs
            return {
                "wall_ms": figures["wall_ms"] / count,
                "cpu_ms": (figures["user_ms"] + figures["system_ms"]) / count,
                "user_ms": figures["user_ms"] / count,
                "system_ms": figures["system_ms"] / count,
                "peak_kib": figures["peak_kib"],
                "requests": requests / count,
            }, again
        raise Failed(f"{TRIES} tries failed")

    def _run(self, peer: Peer, work: str, ca: Ca) -> tuple[Run, int]:
        """The commands to run, and the number of certificates that they obtain."""
        folder = self._place(peer, ca)
        if folder not in self._prepared:
            folder.mkdir(parents=True)
            for again in range(TRIES):
                try:
                    self._call(peer, peer.prepare(ca, folder), ca)
                    break
                except Failed:
                    if not peer.fails_at_times or again == TRIES - 1:
                        raise
            self._prepared.add(folder)
        self._names += 1
        prefix = f"n{self._names}-{time.time_ns() % 10**9}"
        names = [f"{prefix}.{i}.test" for i in range(WORKS[work])]
        count = self._count(peer, work)
        if work == "a":
            return peer.new(ca, folder, names[0]), count
        if work == "e":
            return peer.in_a_row(ca, folder, f"{prefix}.", count), count
        if work == "f":
            return peer.at_once(ca, folder, f"{prefix}.", count), count
        return peer.known(ca, folder, names), count

    def _count(self, peer: Peer, work: str) -> int:
        """Number of certificates of one run."""
        return min(self._many, peer.many) if work in "ef" else 1

    def _place(self, peer: Peer, ca: Ca) -> Path:
        place = {id(self._relayed): "relayed", id(self._with_bundle): "bundle"}.get(id(ca), "direct")
        return Path(self._folder.name, re.sub(r"[^a-z0-9]+", "-", peer.name.lower()), place)

    def _call(self, peer: Peer, run: Run, ca: Ca, work: str = "") -> dict[str, float]:
        roots = [*SYSTEM_ROOTS, ca.ca_file] if peer.needs_system_roots else []
        return call(run, roots, LONGEST_S.get(work, LONGEST_OTHERS_S), trust(ca.ca_file))

    def _measure_floor(self, work: str) -> dict[str, float]:
        count = self._many if work in "ef" else 1
        # The floor uses the key of our own known account.
        self._run(OURS, work, self._ca)
        account = "-" if work == "a" else str(self._place(OURS, self._ca) / "account")
        command = [
            str(BENCH / "floor"), self._url.hostname, str(self._url.port), self._url.path,
            self._ca.ca_file, str(count), str(WORKS[work]), account,
        ]  # fmt: skip
        figures = call(Run([command]), [])
        return {
            "wall_ms": figures["wall_ms"] / count,
            "cpu_ms": (figures["user_ms"] + figures["system_ms"]) / count,
            "peak_kib": figures["peak_kib"],
        }

    def _traffic(self, peer: Peer, work: str) -> Figures:
        """Connections and bytes of one run through the relay."""
        relay = self._relay
        try:
            _, count = self._run(peer, work, self._relayed)  # creates the peer's account
            relay.reset()
            _, again = self._measure(peer, work, self._relayed)
        except Failed:
            return {}
        if again:
            return {}
        return {
            "connections": relay.connections / count,
            "bytes_sent": relay.sent / count,
            "bytes_received": relay.received / count,
        }

    def _memory(self, peer: Peer) -> Figures:
        """The resident and the proportional size of one process, in KiB, before it ends (at_exit.c)."""
        run, _ = self._run(peer, "r", self._with_bundle)
        if "library" not in peer.kind or len(run.commands) != 1:
            return {}
        output = subprocess.run(
            [BENCH / "at_exit", *run.commands[0]], capture_output=True, text=True,
            env={**os.environ, **trust(self._with_bundle.ca_file)},
        )  # fmt: skip
        if output.returncode:
            return {}
        rss, pss, _ = map(int, output.stdout.splitlines()[-1].split())
        return {"rss_kib": rss, "pss_kib": pss}

    def _instructions(self, work: str) -> float | None:
        if work in "ef" or not shutil.which("valgrind"):
            return None
        run, _ = self._run(OURS, work, self._ca_of(work))
        output = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *run.commands[0]],
            capture_output=True, text=True,
        )  # fmt: skip
        found = re.search(r"Collected *: *(\d+)", output.stderr)
        return float(found.group(1)) if found and output.returncode == 0 else None


def requests_needed(work: str, many: int) -> float:
    """Minimum number of requests per certificate. Once per process: directory and nonce; for each certificate:
    newOrder, authorizations, challenges, order, finalize, order, certificate."""
    count = many if work in "ef" else 1
    return 5 + 2 * WORKS[work] + (2 + (work == "a")) / count


def call(
    run: Run, prefix: list[str], longest: float = LONGEST_OTHERS_S, roots: dict[str, str] | None = None
) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".commands") as commands:
        commands.writelines("\t".join(command) + "\n" for command in run.commands)
        commands.flush()
        process = subprocess.Popen(
            [*prefix, str(BENCH / "measure"), str(run.jobs), commands.name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **(roots or trust(os.environ["ACME_CA_FILE"]))}, start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Hung(f"not done after {longest} s") from None
    # The output of the measured commands comes before this line.
    line = output.rstrip("\n").rpartition("\n")[2].split()
    if process.returncode or len(line) != 6 or line[0] != "0":
        said = (errors.strip() or output.strip()).splitlines()
        raise Failed(said[-1] if said else f"status {process.returncode}")
    names = ("user_ms", "system_ms", "wall_ms", "peak_kib", "processes")
    return dict(zip(names, map(float, line[1:])))


def trust(ca_file: str) -> dict[str, str]:
    """The environment variables from which the peers read root certificates."""
    names = ("CURL_CA_BUNDLE", "LEGO_CA_CERTIFICATES", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    return dict.fromkeys(names, ca_file)


def summaries(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: summary([run[name] for run in runs]) for name in runs[0]} if runs else {}


def log_size() -> int:
    return Path(os.environ["PEBBLE_LOG"]).stat().st_size


def read_requests(start: int) -> list[str]:
    """The requests to Pebble since its log had this size."""
    with open(os.environ["PEBBLE_LOG"], encoding="utf-8", errors="replace") as log:
        log.seek(start)
        lines = [line.split() for line in log if line.rstrip().endswith("-> calling handler()")]
    return [words[words.index("->") - 1].split("/")[1] for words in lines]
