"""make bench: measure speed and memory. Prints a table, or with --json one object on one line.

Every figure of speed is taken beside a json + Decimal quoter on the same books in the same process; quote the ratios.
It takes about a minute on the machine that docs/speed.md names.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench import books, oracle, processes, speed

SETS = (
    "hyperliquid_btc_20250904",
    "binance_spot_nexousdt_20240724",
    "standx_btcusd_20260106",
    "binance_usdm_btcusdt_20240808",
)
ROWS = {
    "baseline": "the yardstick: on_raw alone",
    "backtest": "backtest as shipped (3 a side, once a second)",
    "backtest_journal": "backtest as shipped, with journal",
    "backtest_same_job": "backtest, the yardstick's job (5 a side, every book)",
}


def main() -> int:
    """Return 0 once everything is measured and printed."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line of stdout")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table into this file, too")
    args = parser.parse_args()
    result = {**_speed(), "signing": _signing(), "recorded_sets": _recorded_sets(), **_daemons()}
    table = _table(result)
    print(json.dumps(result) if args.json else table)
    if args.out is not None:
        args.out.write_text(table + "\n", encoding="utf-8")
        _say(f"written: {args.out}")
    return 0


def _speed() -> dict[str, Any]:
    _say("books against the yardstick ...")
    what, frames = books.load()
    runs = speed.measure(frames)
    events = speed.decode(frames)
    _say("bytes to actions ...")
    wire = speed.wire(frames)
    rows = {
        kind: {
            "us_per_book": round(speed.us_per_book(works), 2),
            "us_per_event": round(speed.us_per_event(works), 2),
            "events": works[0].events,
            "times_faster_per_book": round(speed.times_faster(runs, kind, lambda work: work.per_book), 2),
            "times_faster_per_event": round(speed.times_faster(runs, kind, lambda work: work.per_event), 2),
        }
        for kind, works in runs.items()
    }
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "books": {"what": what, "count": len(frames)},
        "yardstick": speed.baseline()[0],
        "speed": rows,
        "wire": msgspec.to_builtins(wire),
        "journal_us_per_book": {
            "buffered": round(speed.journal_us(events, buffered=True), 2),
            "write_each": round(speed.journal_us(events, buffered=False), 2),
        },
    }


def _signing() -> dict[str, Any]:
    """Return what `bench.signing` says, or why it cannot be asked."""
    if reason := oracle.absence():
        return {"skipped": reason}
    _say("signing beside the vendor's SDK ...")
    return oracle.ask("bench.signing")


def _recorded_sets() -> dict[str, dict[str, float]]:
    """Return, for each set on this machine, its events, how many of them a second, and its memory at the end."""
    found = {}
    for name in SETS:
        path = books.SHARED / "data" / "market" / name
        if not list(path.parent.glob(f"{name}.*")):
            continue
        _say(f"backtest of {name} ...")
        summary = processes.backtest(path)
        found[name] = {
            "events": summary["events"],
            "events_per_s": round(summary["events"] / summary["seconds"]),
            "fills": summary["fills"],
            "rss_mb": round(summary["rss_mb"], 1),
        }
    return found


def _daemons() -> dict[str, Any]:
    _say("mmpi run and mmpi guardian as processes ...")
    with TemporaryDirectory() as folder:
        started = processes.starts(processes.paper_box(Path(folder)))
    with TemporaryDirectory() as folder:
        traded = processes.practice(Path(folder))
    return {name: round(value) for name, value in started.items()} | {
        "run_rss_mb": round(traded["run_rss_mb"], 1),
        "guardian_rss_mb": round(traded["guardian_rss_mb"], 1),
        "tick_to_order_us": traded["tick_to_order_us"],
    }


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"CPython {result['python']} on {result['machine']}",
        f"books: {result['books']['what']}, {result['books']['count']} of 20 + 20 levels",
        f"yardstick: {result['yardstick']} (json + Decimal)",
        "",
        f"{'microseconds, medians':<54}{'a book':>9}{'an event':>10}{'x a book':>10}{'x an event':>12}",
    ]
    for kind, title in ROWS.items():
        row = result["speed"][kind]
        faster = f"{row['times_faster_per_book']:10.1f}{row['times_faster_per_event']:12.1f}"
        lines.append(f"{title:<54}{row['us_per_book']:9.1f}{row['us_per_event']:10.1f}{faster}")
    wire = result["wire"]
    lines += [
        "",
        f"bytes to actions, avellaneda_stoikov, 5 a side, every book: p50 {wire['bytes_to_actions_us']['p50']} us, "
        f"p99 {wire['bytes_to_actions_us']['p99']} us",
        f"the yardstick's p50 {wire['naive_us']['p50']} us; ratio {wire['ratio']}",
        "of it: " + ", ".join(f"{stage} {us}" for stage, us in wire["stages_us"].items()),
        "",
    ]
    blocks, each = result["journal_us_per_book"].values()
    lines += [
        "a book: all from one book to the next; an event: a book, an order report or a timer in the engine",
        "",
        f"journal         {blocks:.1f} us a book in blocks, {each:.1f} us by a write() each",
        "",
        *_signing_lines(result["signing"]),
        "",
    ]
    lines += [
        f"{name:<33} {row['events']:>7} events, {row['events_per_s']:>6}/s, {row['fills']} fills, {row['rss_mb']} MB"
        for name, row in result["recorded_sets"].items()
    ]
    ticks = result["tick_to_order_us"]
    lines += [
        "",
        f"mmpi run        first event after {result['run_first_event_ms']} ms (paper), "
        f"{result['run_rss_mb']} MB (practice)",
        f"mmpi guardian   first beat after {result['guardian_first_beat_ms']} ms (paper), "
        f"{result['guardian_rss_mb']} MB (practice)",
        f"tick to order   p50 {ticks['p50']:.0f} us, p99 {ticks['p99']:.0f} us of {ticks['n']} (practice, signed)",
    ]
    return "\n".join(lines)


def _signing_lines(signing: dict[str, Any]) -> list[str]:
    if "skipped" in signing:
        return [f"signing         not measured: {signing['skipped']}"]
    native = signing["native"]
    titles = {"sign_one": "sign one order", "sign_ten": "sign ten at once", "bytes_to_request": "bytes to request"}
    lines = [f"signing beside the vendor's SDK with {signing['sdk_backend']}; us, p50"]
    for name, title in titles.items():
        row = signing[name]
        figures = f"{row['ours_us']['p50']:7.1f}, the SDK {row['sdk_us']['p50']:7.1f}; times faster {row['ratio']:.1f}"
        lines.append(f"{title:<17}{figures} ({native['sdk_backend']}: {native[name]['ratio']:.0f})")
    return lines


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
