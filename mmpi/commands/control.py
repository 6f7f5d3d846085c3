"""mmpi kill, arm, status: short conversations with the guardian, and what can be done without one.

Invariant: kill does all that can be done from here, and says plainly what it could not do.
It must not import anything heavy: a person is waiting for the orders to be gone.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmpi.commands.client import NoGuardianError, call
from mmpi.errors import ConfigError, DeviceError, RefusedError, RemoteError
from mmpi.folders import path_setting

if TYPE_CHECKING:
    from mmpi.runtime.watch import QuoterWatch

KILL_S: Final = 30.0
"""Time given to a stop before the command says that it is not verified; the guardian goes on after that."""
ACCEPT_S: Final = 2.0
"""A guardian that has not accepted a press within this hangs: a hundred of its looks."""
ACK_S: Final = 0.5
"""As the guardian: a quoter that does not obey within this is killed."""
CANCEL_S: Final = 3.0
"""Without a guardian: time for the quoter's own cancels."""
ANSWER_S: Final = 5.0
ARM_S: Final = 15.0
"""Longer than the guardian waits for a stop to be verified."""


def run(args: argparse.Namespace) -> int:
    """Return the exit code."""
    runtime = path_setting("runtime_dir", args.config, os.environ)
    state = path_setting("state_dir", args.config, os.environ)
    if args.command == "kill":
        return _kill(args, runtime, state)
    return _arm(args, runtime, state) if args.command == "arm" else _status(args, runtime, state)


def _kill(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    request = {"cmd": "kill", "by": _person(), "reason": args.reason}
    pressed = False
    try:
        for answer in call(runtime / "guardian.sock", request, KILL_S, ACCEPT_S):
            if answer.get("error"):
                raise RemoteError(str(answer["error"]))
            if answer.get("accepted"):
                pressed = True
                _say(args, "pressed: nothing is placed any more; cancelling")
    except NoGuardianError:
        return _kill_alone(args, runtime, state)
    except RemoteError as error:
        _print(args, {"verified": False, "latched": pressed}, "")
        if not pressed:
            raise
        raise RemoteError(
            f"latched, nothing is placed any more, but zero orders are not verified: {error}; the guardian goes on "
            "trying (mmpi status)"
        ) from None
    text = "latched; zero orders: first seen after {first_zero_ms:.0f} ms, verified after {verified_ms:.0f} ms"
    _print(args, answer, text)
    return 0


def _kill_alone(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    """Latch by our own hand, and have the quoter cancel what it can; only a guardian could verify it at the venue."""
    from mmpi.device.latch import Latch
    from mmpi.runtime.board import LATCHED, HaltWord
    from mmpi.runtime.watch import QuoterWatch

    try:
        latched = Latch(state / "latch.json").trip(_person(), args.reason, time.time_ns()).latched
        said = "latched"
    except DeviceError as error:
        # Whatever the disk says, the quoter is stopped.
        latched, said = False, f"NOT latched ({error})"
    watch = QuoterWatch(runtime / "status")
    watch.poll(time.monotonic_ns(), 0)
    done, killed = "no quoter is running", False
    if watch.alive:
        try:
            generation = HaltWord.create(runtime / "halt").set(LATCHED, args.reason)
        except ConfigError:
            # It cannot be told to stop, so it will not obey and is killed.
            generation = sys.maxsize
        done, killed = _end_quoter(watch, runtime, generation)
    _print(args, {"verified": False, "latched": latched, "quoter_killed": killed, "quoter": done}, "")
    raise RemoteError(
        f"no guardian answers: {said}; {done}. Nobody verified that no order rests at a venue: start the guardian "
        "(mmpi guardian), it cancels and verifies"
    )


def _end_quoter(watch: "QuoterWatch", runtime: Path, generation: int) -> tuple[str, bool]:
    """Return what became of the quoter, and whether it was killed: one that obeys cancels its own orders."""
    from mmpi.runtime.board import StatusBoard

    end = time.monotonic() + ACK_S
    while watch.alive and not watch.acknowledged(generation) and time.monotonic() < end:
        time.sleep(0.01)
        watch.poll(time.monotonic_ns(), 0)
    if not watch.acknowledged(generation):
        return f"the quoter (pid {watch.pid}) did not obey within {ACK_S:g} s and was killed", watch.kill()
    board, left, end = StatusBoard.open(runtime / "status"), -1, time.monotonic() + CANCEL_S
    while board is not None and left and time.monotonic() < end:
        time.sleep(0.05)
        left = sum(each["orders"] for each in json.loads(board.read() or b"{}").get("instruments", {}).values())
    return f"the quoter (pid {watch.pid}) obeyed and cancelled; it knows of {max(left, 0)} live orders", False


def _arm(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    try:
        answers = list(call(runtime / "guardian.sock", {"cmd": "arm", "by": _person()}, ARM_S))
    except NoGuardianError:
        return _arm_alone(args, state)
    answer = answers[-1]
    if answer.get("error"):
        raise RefusedError(str(answer["error"]))
    _print(args, answer, f"armed ({answer['note']})" if "note" in answer else "armed")
    return 0


def _arm_alone(args: argparse.Namespace, state: Path) -> int:
    """Without a guardian the latch file is ours to write."""
    from mmpi.device.latch import Latch

    stored = Latch(state / "latch.json").arm(_person(), "armed by hand", time.time_ns())
    _print(args, {"final": True, "armed": True, "generation": stored.generation}, "armed (no guardian is running)")
    return 0


def _status(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    from mmpi.device.latch import Latch
    from mmpi.runtime.board import StatusBoard, process_start

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
    print(f"orders    {summary['orders']} fills {summary['fills']} refusals {summary['refusals']}")


def _person() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(f"mmpi {args.command}: {text}", file=sys.stderr, flush=True)


def _print(args: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    answer = {key: value for key, value in answer.items() if key != "final"}
    if args.json:
        print(json.dumps(answer), flush=True)
    elif text:
        print(text.format(**answer))


