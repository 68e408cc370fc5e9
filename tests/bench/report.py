"""Prints the tables on the terminal and draws the plot."""

from __future__ import annotations

from typing import Any

from results import ratio

OURS = "acme-micro (C)"

def print_report(parts: dict[str, Any]) -> None:
    for part, figures in sorted(parts.items()):
        head = f"{figures['title']} (median of {figures['rounds']} rounds; {figures['measured']} UTC, " \
               f"load {figures['load']})"
        print(f"\n{part}: {head}" if len(part) == 1 else f"\n{head}")
        if part == "scale":
            print_scale(figures)
        elif part == "start":
            print_start(figures)
        elif part == "slow":
            print_slow(figures)
        else:
            print_work(figures)


def label(name: str, row: dict[str, Any]) -> str:
    """The peer's name with its version, unless the name has the version."""
    version = row.get("version", "")
    return name if not version or version in name else f"{name} {version}"


def middle(figures: dict[str, Any], name: str) -> float | None:
    found = figures.get(name)
    return found["median"] if isinstance(found, dict) else found


def print_work(figures: dict[str, Any]) -> None:
    ours = figures["peers"].get(OURS, {})
    print(f"  {'':28} {'wall ms':>9} {'(low-high)':>17} {'ratio':>6} {'CPU ms':>8} {'(low-high)':>15} "
          f"{'ratio':>6} {'user':>7} {'system':>7} {'peak MB':>8} {'requests':>8} {'conn.':>6} "
          f"{'KB sent':>8} {'KB got':>7} {'runs':>5}")
    rows = {**figures["peers"], "OpenSSL alone (the floor)": figures["floor"]}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["cpu_ms"]["median"]):
        wall, cpu = row["wall_ms"], row["cpu_ms"]
        print(f"  {label(name, row)[:28]:28} {wall['median']:9.1f} {spread(wall):>17} "
              f"{shown(ratio(wall['median'], middle(ours, 'wall_ms')), 2):>6} {cpu['median']:8.1f} "
              f"{spread(cpu):>15} {shown(ratio(cpu['median'], middle(ours, 'cpu_ms')), 2):>6} "
              f"{shown(middle(row, 'user_ms')):>7} {shown(middle(row, 'system_ms')):>7} "
              f"{shown(row['peak_kib']['median'] / 1024):>8} {shown(middle(row, 'requests')):>8} "
              f"{shown(row.get('connections')):>6} {shown(kilo(row.get('bytes_sent'))):>8} "
              f"{shown(kilo(row.get('bytes_received'))):>7} {row.get('runs', figures['rounds']):5}"
              + (f"  {row['repeated']} more failed" if row.get("repeated") else "")
              + (f"  {row['hung']} more hung, it or the CA" if row.get("hung") else ""))
    if "instructions" in ours:
        print(f"  {OURS}: {ours['instructions'] / 1e6:.1f} million instructions")
    for name, why in figures["missing"].items():
        print(f"  {name}: MISSING: {why}")


def print_scale(figures: dict[str, Any]) -> None:
    print(f"  {'in flight x names':20} {'CPU us/cert':>12} {'cert/s/core':>12} {'requests':>9} "
          f"{'heap, bytes':>12} {'resident':>10} {'poll us':>8} {'99.9 %':>8}")
    for case, row in figures["cases"].items():
        values = {name: found["median"] for name, found in row.items()}
        print(f"  {case:20} {values['cpu_us']:12.0f} {1e6 / values['cpu_us']:12.0f} "
              f"{values['requests']:9.1f} {values['heap']:12.0f} {values['resident']:10.0f} "
              f"{values['poll_median_us']:8.1f} {values['poll_p999_us']:8.1f}")
    if figures["states"]:
        print("  by state, bytes for each of 10,000 (16384 is the limit): "
              + ", ".join(f"{state} {step} {heap:.0f}" for state, step, heap, _ in figures["states"]))


def print_start(figures: dict[str, Any]) -> None:
    print(f"  libacme-micro.so, stripped: {figures['stripped']} bytes")
    print(f"  it loads {sum(figures['loaded'].values())} bytes more: "
          + ", ".join(f"{name} {size}" for name, size in figures["loaded"].items()))
    for name, found in figures["figures"].items():
        print(f"  {name:40} {found['median']:9.2f}   {spread(found)}")


def print_slow(figures: dict[str, Any]) -> None:
    one = figures["wall_ms"]["1"]["median"]
    for names, found in figures["wall_ms"].items():
        print(f"  {names:>4} name(s): {found['median']:7.0f} ms ({spread(found)}), "
              f"{found['median'] / one:.2f} of one name's")


def spread(found: dict[str, float]) -> str:
    return f"{found['low']:.1f}-{found['high']:.1f}"


def shown(value: float | None, digits: int = 1) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def kilo(value: float | None) -> float | None:
    return None if value is None else value / 1000
