"""Tests the benchmark's own arithmetic on known figures, and its relay. The measurements are not tests."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from markdown import roots_table, work_table
from peers import PEERS, Ca, Missing
from peers.libraries import Library
from plot import write_plot
from relay import Relay
from report import OURS, print_report
from results import Results, ratio, summary
from work import BENCH, read_requests, requests_needed, summaries


def a_work() -> dict[str, object]:
    def row(cpu: float) -> dict[str, object]:
        names = ("wall_ms", "cpu_ms", "user_ms", "system_ms", "peak_kib", "requests")
        runs = [dict.fromkeys(names, cpu * factor) for factor in (1.0, 3.0, 2.0)]
        return {"kind": "", "version": "1.2", "runs": 3, "repeated": 1, **summaries(runs)}

    floor = {**summaries([{"wall_ms": 4.0, "cpu_ms": 4.0, "peak_kib": 4.0}]), "requests": {"median": 9.0}}
    return {
        "title": "a work",
        "peers": {OURS: row(10), "other <&>": {**row(20), "connections": 3, "bytes_sent": 2500, "bytes_received": 4000}},
        "floor": floor,
        "missing": {"gone": "it is not installed"},
    }


def test_an_order_in_flight_is_sixteen_kib_at_most() -> None:
    output = subprocess.run([BENCH / "in_flight", "200"], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    heap = [float(line[2]) for line in lines if line[0] not in ("poll", "each")]
    assert len(heap) > 10 and 10_000 < max(heap) <= 16 * 1024


def test_a_figure_is_the_middle_with_its_spread() -> None:
    assert summary([5.0, 1.0, 3.0]) == {"median": 3.0, "low": 1.0, "high": 5.0}
    assert summary([4.0, 1.0]) == {"median": 2.5, "low": 1.0, "high": 4.0}
    assert ratio(6.0, 4.0) == 1.5
    assert ratio(None, 4.0) is None and ratio(4.0, 0.0) is None


def test_the_fewest_requests_are_those_of_the_protocol() -> None:
    assert [requests_needed(work, 20) for work in "abcdefr"] == [10, 9, 27, 207, 7.1, 7.1, 9]


def test_a_part_is_kept_until_it_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path).add("b", 5, a_work())
    Results(path).add("c", 3, a_work())
    parts = json.loads(path.read_text())["parts"]
    assert (parts["b"]["rounds"], parts["c"]["rounds"]) == (5, 3)
    Results(path).add("b", 7, a_work())
    assert Results(path).parts["b"]["rounds"] == 7


def test_the_table_has_medians_ratios_and_who_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(tmp_path / "results.json")
    results.add("b", 3, a_work())
    print_report(results.parts)
    lines = capsys.readouterr().out.splitlines()
    other = next(line for line in lines if "other <&>" in line).split()
    assert {"40.0", "20.0-60.0", "2.00", "2.5", "3"} <= set(other)
    assert "  gone: MISSING: it is not installed" in lines


def test_so_have_the_tables_of_the_page() -> None:
    lines = work_table({**a_work(), "rounds": 5}).splitlines()
    other = "| other <&> 1.2 † | 40.0 (20.0 to 60.0) | 2.00 | 40.0 (20.0 to 60.0) | 2.00 | 0.0 | 40.0 | 3 |"
    assert len(lines) == 2 + 3 and lines[-1].startswith(other)
    assert lines[2].startswith("| *OpenSSL alone* | 4.0 (4.0 to 4.0) | 0.20 |")


def test_the_table_of_a_real_user_tells_how_each_was_told_the_roots() -> None:
    work = a_work()
    work["peers"]["other <&>"].update(told_root_by="a file", rss_kib=2048, pss_kib=1024)  # type: ignore[index]
    lines = roots_table({**work, "rounds": 3}).splitlines()
    assert lines[-1] == "| other <&> 1.2 | a file | 40.0 (20.0 to 60.0) | 40.0 (20.0 to 60.0) | 2.00 | 0.0 | 2.0 | 1.0 |"
    assert lines[2].startswith("| *OpenSSL alone* | one root only |")


def test_the_plot_has_a_bar_for_each(tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    assert not write_plot({}, path)
    assert not write_plot({"r": a_work()}, path)
    assert write_plot({"r": a_work(), "e": a_work()}, path)
    bars = ElementTree.parse(path).getroot().findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 5 * 3
    assert all(float(bar.get("width", "0")) > 0 for bar in bars)


def test_the_relay_counts_connections_and_bytes_each_way() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while len(connection.recv(100, socket.MSG_WAITALL)) == 100:
                    connection.sendall(b"y" * 7)

    threading.Thread(target=answer, daemon=True).start()
    relay = Relay(listener.getsockname())
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as client:
            for _ in range(3):
                client.sendall(b"x" * 100)
                assert client.recv(100)
            client.shutdown(socket.SHUT_WR)
            while client.recv(100):
                pass
    assert (relay.connections, relay.sent, relay.received) == (2, 600, 42)


def test_requests_are_read_from_the_log_of_pebble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "pebble.log"
    old = "Pebble 2026/11/26 02:32:40 GET /dir -> calling handler()\n"
    log.write_text(old + "Pebble 2026/11/26 02:32:41 POST /order-plz -> calling handler()\nPebble: else\n")
    monkeypatch.setenv("PEBBLE_LOG", str(log))
    assert read_requests(len(old)) == ["order-plz"]


def test_every_peer_says_what_it_runs_or_that_it_is_missing(tmp_path: Path) -> None:
    ca = Ca("https://127.0.0.1:1/dir", "/ca.pem")
    for peer in PEERS:
        try:
            assert peer.version()
        except Missing as missing:
            assert str(missing)
            continue
        folder = tmp_path / peer.name
        folder.mkdir()
        assert any("b.test" in "\t".join(words) for words in peer.known(ca, folder, ["b.test"]).commands)
        assert len(peer.in_a_row(ca, folder, "p", 3).commands) in (1, 3, 6)
    with pytest.raises(Missing, match="nowhere has not been built"):
        Library("x", "library", "1", Path(__file__).resolve().parents[2] / "target/nowhere").version()
