"""mmpi status: what quoter, guardian, latch and machine are doing now.

Invariant: it only reads; it works without a quoter and without a guardian.
It must not import anything heavy.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from mmpi.causes import HELD
from mmpi.commands.client import NoGuardianError, call
from mmpi.device.latch import Latch
from mmpi.folders import path_setting
from mmpi.runtime.board import StatusBoard, process_start

ANSWER_S: Final = 5.0


def run(args: argparse.Namespace) -> int:
    """Return the exit code."""
    runtime = path_setting("runtime_dir", args.config, os.environ)
    state = path_setting("state_dir", args.config, os.environ)
    return _status(args, runtime, state)


def _status(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    board = StatusBoard.open(runtime / "status")
    text = board.read() if board is not None else None
    summary: dict[str, Any] = json.loads(text) if text else _nothing()
    if board is not None and process_start(board.pid) != board.start_time:
        summary["reason"] = f"not running; its last word: {summary['reason'] or 'quoting'}"
        summary["state"] = "no quoter"
    beat_age = (time.monotonic_ns() - board.beat_ns) / 1e9 if board is not None and board.beat_ns else None
    try:
        guardian = list(call(runtime / "guardian.sock", {"cmd": "status"}, ANSWER_S))[-1]
        del guardian["final"]
    except NoGuardianError:
        guardian = None
    stored = Latch(state / "latch.json").load()
    summary["latch"] = "latched" if stored.latched or (guardian or {}).get("latch") == "latched" else "armed"
    summary["latch_reason"] = stored.reason
    summary["age_s"] = round(beat_age, 3) if beat_age is not None else None
    summary["guardian"] = guardian
    if args.json:
        print(json.dumps(summary), flush=True)
    else:
        _show(summary)
    return 0


def _nothing() -> dict[str, Any]:
    """Return the summary of a box whose quoter has not run."""
    return {
        "mode": "", "venue": "", "state": "no quoter", "reason": "no quoter has run", "instruments": {}, "events": 0,
        "orders": {"placed": 0, "canceled": 0, "rejected": 0, "amended": 0}, "fills": 0,
        "pnl": {"spread": "0", "inventory": "0", "funding": "0", "fees": "0", "total": "0"},
        "tick_to_order_us": {"p50": 0.0, "p99": 0.0, "n": 0}, "rss_mb": 0.0, "deadman": "UNSUPPORTED",
        "start": None, "storage": None, "tick_to_order": None, "loop_lateness": None, "run_fills": 0,
        "last_fills": [], "flatten": "",
        "refusals": {}, "invariant_violations": 0, "anomalies": {},
        "requests": {
            "used": 0, "cap": 0, "sent": 0, "thinning": 1, "quote_to_trade": 0.0, "per_fill": 0.0,
            "dead_man_firings": 0,
        },
    }  # fmt: skip


def _show(summary: dict[str, Any]) -> None:
    guardian, age = summary["guardian"], summary["age_s"]
    stale = age is not None and age > 1.0 and summary["state"] != "no quoter"
    print(f"latch     {summary['latch']}{': ' + summary['latch_reason'] if summary['latch'] == 'latched' else ''}")
    silence = f"SILENT for {age:.1f} s; last: " if stale else ""
    print(f"quoter    {silence}{summary['reason'] or 'quoting'}")
    if guardian is None:
        print("guardian  not running")
    else:
        held = f": {guardian['reason']}" if guardian["state"] != "run" else ""
        session, live = guardian["venue_session"], guardian["live_orders"]
        print(f"guardian  {guardian['state']}{held}; venue session {session}; live orders {live}")
        print(f"lamps     {guardian.get('sign', 'unknown')}")
        for name in guardian.get("causes", ()):
            print(f"          {name}: {guardian.get('details', {}).get(name, '')}".rstrip(": "))
    for name, each in summary["instruments"].items():
        touch = f"bid {each['bid']} ask {each['ask']}"
        print(f"{name:<9} {touch} position {each['position']} orders {each['orders']} {each['reason']}")
    pnl = summary["pnl"]
    earned = f"spread {pnl['spread']} + inventory {pnl['inventory']} + funding {pnl['funding']}"
    print(f"p&l       {pnl['total']} = {earned} - fees {pnl['fees']}")
    print(f"dead man  {summary['deadman']}")
    requests = summary["requests"]
    if requests["cap"]:
        spent = f"{requests['used']} of {requests['cap']} used; {requests['per_fill']} a fill"
        print(f"requests  {spent}; quote to trade {requests['quote_to_trade']}; thinning {requests['thinning']}")
    counts = ", ".join(f"{name} {count}" for name, count in summary["orders"].items())
    refusals = ", ".join(f"{name} {count}" for name, count in summary["refusals"].items()) or "none"
    print(f"orders    {counts}; fills {summary['fills']}; refusals {refusals}")
    _show_kept(summary, guardian or {})
    _show_box(guardian or {})
    _show_next(summary, guardian or {})


def _show_kept(summary: dict[str, Any], guardian: dict[str, Any]) -> None:
    """Print how the runs before this one ended, and whether what must be kept is."""
    start, storage = summary.get("start"), summary.get("storage")
    if start:
        went = f"; its session goes on, {start['doubtful_orders']} orders in doubt" if start["resumed"] else ""
        print(f"before    {start['before']}: {start['reason']}{went}")
        for repaired in start["repaired"]:
            print(f"          {repaired}")
    if before := guardian.get("before"):
        print(f"machine   before: {before['ended']}: {before['reason']}")
    if boot := guardian.get("boot"):
        print(f"boot      {_judged(boot)}")
    if storage:
        late = f"; {storage['oldest_s']:.0f} s not on the disk" if storage["oldest_s"] > 1 else ""
        worst = f"{storage['commits']} commits, slowest {storage['worst_commit_ms']:.0f} ms"
        print(f"journal   {storage['fault'] or 'kept'}; {worst}{late}")


def _judged(boot: dict[str, Any]) -> str:
    """Return what is known of this boot: healthy or not, why, when it was judged, and of which version."""
    if boot["healthy"] is None:
        return str(boot["why"])
    after = f" {boot['uptime_s']:.0f} s after it" if boot["uptime_s"] is not None else ""
    slot = f", slot {boot['slot']}" if boot["slot"] else ""
    return f"{'healthy' if boot['healthy'] else 'NOT healthy'}{after}: {boot['why']}; mmpi {boot['version']}{slot}"


def _show_box(guardian: dict[str, Any]) -> None:
    """Print what the guardian knows of the machine."""
    box = guardian.get("box") or {}
    if host := box.get("host"):
        figures = " ".join(f"{name} {value}" for name, value in host.items() if name != "unavailable")
        print(f"machine   {figures}")
    for name, why in (host or {}).get("unavailable", {}).items():
        print(f"          {name}: {why}")
    if box:
        print(f"pins      {box['pins']}{': ' + '; '.join(box['panel']) if box['panel'] else ''}")
    if power := box.get("power"):
        print(f"power     mains {power['mains']} {power['why']} {power['saved']}".rstrip())


def _show_next(summary: dict[str, Any], guardian: dict[str, Any]) -> None:
    """Print what a person may do about it."""
    causes, pins = guardian.get("causes", ()), (guardian.get("box") or {}).get("pins", "none")
    if summary["latch"] == "latched":
        print(f"to arm    {'mmpi arm' if pins == 'none' else 'hold the arm button for 3 s'}")
    elif any(name in HELD for name in causes):
        print("to go on  mmpi resume")
