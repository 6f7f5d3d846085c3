"""mmpi health: wait until this boot is healthy, or the time is over, and tell the guardian which it is.

Healthy is a box that quotes, or of which it is known why it does not, and that this is no fault of its own: a person or
a limit stopped it, or venue, network or clock are not there. A box without a network is healthy, as an update must not
be taken back because the router is off. docs/host.md says it row by row.

Invariant: it only looks, and stops nothing. It must not import anything heavy.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.causes import CAUSES
from mmpi.commands.client import call
from mmpi.commands.control import person, say, show
from mmpi.errors import RemoteError
from mmpi.folders import path_setting
from mmpi.runtime.board import StatusBoard, process_start

STEADY_S: Final = 5.0
"""What is healthy counts once it was so for this long: both services are started again sooner than that (1 and 2 s)."""
POLL_S: Final = 0.5
"""Shorter than the guardian takes to be started again (1 s), so that its death is not overlooked."""
ANSWER_S: Final = 2.0
TELL_S: Final = 10.0
"""A disk may take seconds to keep it."""
SYSTEMCTL_S: Final = 5.0
UNIT: Final = "mmpi-quoter.service"
WAITS: Final = "waiting for the venue: "
"""How the status begins that a quoter gives systemd while it cannot know its markets yet (mmpi.app)."""

FAULTS: Final = ("hardware_watchdog", "pins", "quoter_died", "quoter_heartbeat")
"""Causes that are this box's own fault."""
PASSING: Final = ("guardian_starting", "armed")
"""Causes that say that a stop is not verified yet."""
OUTSIDE: Final = ("clock", "connecting")
"""States of a quoter that may quote and waits for what is not of this box."""


class Facts(msgspec.Struct, frozen=True):
    """What is seen of guardian and quoter at one moment."""

    silence: str = ""
    """Why the guardian does not answer, "" = it does."""
    state: str = ""
    """The halt word: run, paused, latched or reduce."""
    reason: str = ""
    causes: tuple[str, ...] = ()
    details: dict[str, str] = {}
    steady: bool = False
    """The quoter's signs of life have been fresh for a second."""
    pid: int = 0
    """The quoter's, 0 = none lives."""
    quoter: str = ""
    """The quoter's own state: quoting, or why it does not, in a word."""
    quoter_reason: str = ""
    waits: str = ""
    """What a quoter that has not begun yet tells systemd, "" = nothing."""


class Healthy(msgspec.Struct, frozen=True):
    """This boot is healthy, and what it does."""

    why: str


class Waiting(msgspec.Struct, frozen=True):
    """This boot is not healthy yet, and why, a sentence each."""

    why: tuple[str, ...]


def verdict(facts: Facts) -> Healthy | Waiting:
    """Return whether this moment is one of a healthy boot."""
    if facts.silence:
        return Waiting((f"guardian: {facts.silence}",))
    waits = facts.waits.startswith(WAITS)
    # One that waits for its venue is another one than that which died.
    own = [name for name in facts.causes if name in FAULTS and not (waits and name == "quoter_died")]
    problems = [_told(name, facts) for name in own]
    problems += [f"{_told(name, facts)}: not known to this version" for name in facts.causes if name not in CAUSES]
    problems += [f"{name}: a stop is not verified yet" for name in facts.causes if name in PASSING]
    if not facts.pid:
        problems.append("no quoter is running" + (f"; systemd says of it: {facts.waits}" if facts.waits else ""))
    elif facts.waits and not waits:
        problems.append(f"the quoter has not begun: {facts.waits}")
    elif not waits and not facts.steady and not own:
        problems.append(f"the quoter (pid {facts.pid}) gives no steady sign of life")
    if problems:
        return Waiting(tuple(problems))
    if waits:
        return Healthy(facts.waits)
    return _running(facts) if facts.state == "run" else _stopped(facts)


def _running(facts: Facts) -> Healthy | Waiting:
    """Return the verdict on a quoter that may quote."""
    if facts.quoter == "quoting":
        return Healthy("quoting")
    if facts.quoter in OUTSIDE:
        return Healthy(f"waiting: {facts.quoter_reason or facts.quoter}")
    return Waiting((f"the quoter does not quote: {facts.quoter_reason or facts.quoter or 'it has said nothing yet'}",))


def _stopped(facts: Facts) -> Healthy | Waiting:
    """Return the verdict on a quoter that is kept from quoting, and lives."""
    if facts.causes:
        return Healthy(f"{facts.state}: {'; '.join(_told(name, facts) for name in facts.causes)}")
    if facts.state == "latched":
        return Healthy(f"latched: {facts.reason}")
    return Waiting((f"{facts.state}, and about to go on: {facts.reason}",))


def _told(name: str, facts: Facts) -> str:
    detail = facts.details.get(name, "")
    return f"{name}: {detail}" if detail else name


def until_steady(
    look: Callable[[], Facts],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = lambda _: None,
) -> Healthy | Waiting:
    """Return Healthy once it was so for STEADY_S, with one quoter all the time; what is wrong when the time is over."""
    end, since, pid, said = clock() + timeout_s, -1.0, 0, ""
    quoters: set[int] = set()
    problems: tuple[str, ...] = ()
    while True:
        facts = look()
        found, now = verdict(facts), clock()
        quoters |= {facts.pid} - {0}
        if isinstance(found, Waiting):
            since, problems = -1.0, found.why
        elif since < 0 or facts.pid != pid:
            since, pid = now, facts.pid
        elif now - since >= STEADY_S:
            return found
        if now >= end:
            again = (f"the quoter began anew {len(quoters) - 1} times",) if len(quoters) > 1 else ()
            short = (f"it was well for {now - since:.1f} s only: {found.why}",) if isinstance(found, Healthy) else ()
            return Waiting((*short, *problems, *again))
        if (text := found.why if isinstance(found, Healthy) else "; ".join(found.why)) != said:
            said = text
            tell(text)
        sleep(POLL_S)


def run(args: argparse.Namespace) -> int:
    """Return 0; RemoteError, with a line for each reason, if this boot is not healthy."""
    runtime = path_setting("runtime_dir", args.config, os.environ)
    found = until_steady(lambda: look(runtime), args.timeout, tell=lambda text: _progress(args, text))
    healthy = isinstance(found, Healthy)
    why = (found.why,) if isinstance(found, Healthy) else found.why
    if problem := _tell(runtime, healthy, "; ".join(why)):
        print(f"mmpi health: the guardian keeps no record of it: {problem}", file=sys.stderr, flush=True)
    show(args, {"healthy": healthy, "why": list(why), "kept": not problem}, "")
    if not healthy:
        raise RemoteError("\n".join(("this boot is not healthy", *why)))
    if not args.json:
        print(f"healthy: {why[0]}", flush=True)
    return 0


def _progress(args: argparse.Namespace, text: str) -> None:
    if sys.stderr.isatty():
        say(args, text)


def _tell(runtime: Path, healthy: bool, why: str) -> str:
    """Have the guardian keep it; return why it does not, "" = it does."""
    request = {"cmd": "booted", "healthy": healthy, "why": why, "by": person()}
    try:
        return str(list(call(runtime / "guardian.sock", request, TELL_S))[-1].get("error") or "")
    except RemoteError as error:
        return str(error)


# Looking --------------------------------------------------------------------------------------------------------------


def look(runtime: Path, ask: Callable[[], str] | None = None) -> Facts:
    """Return what is seen now; `ask` has systemd tell of the quoter, if that is not there to tell by itself."""
    try:
        told = list(call(runtime / "guardian.sock", {"cmd": "status"}, ANSWER_S))[-1]
    except RemoteError as error:
        return Facts(silence=str(error))
    if told.get("error"):
        return Facts(silence=str(told["error"]))
    pid, summary = _quoter(runtime)
    # One that has ended leaves its last word on the board.
    waits = ""
    if not pid:
        pid, waits = _beginning(runtime, ask or ask_systemd)
    return Facts(
        state=told["state"], reason=told["reason"], causes=tuple(told["causes"]), details=told["details"],
        steady=told["quoter_steady"], pid=pid, quoter=summary.get("state", ""),
        quoter_reason=summary.get("reason", ""), waits=waits,
    )  # fmt: skip


def _quoter(runtime: Path) -> tuple[int, dict[str, Any]]:
    """Return (pid, summary) of the quoter on the status board, (0, {}) if it does not live."""
    board = StatusBoard.open(runtime / "status")
    if board is None or not board.pid or process_start(board.pid) != board.start_time:
        return 0, {}
    return board.pid, json.loads(board.read() or b"{}")


def _beginning(runtime: Path, ask: Callable[[], str]) -> tuple[int, str]:
    """Return (pid, status) of a quoter that lives, and is not on the board yet: (0, what systemd says) if none does.

    The lock names the quoter of this folder, and systemd what the one of its unit waits for.
    """
    try:
        pid = int((runtime / "quoter.lock").read_bytes() or b"0")
    except (OSError, ValueError):
        pid = 0
    told = dict(line.split("=", 1) for line in ask().splitlines() if "=" in line)
    if pid and told.get("MainPID") == str(pid):
        return pid, told.get("StatusText") or "it says nothing"
    if told.get("LoadState") != "loaded":
        return 0, ""
    return 0, f"{told.get('ActiveState')} ({told.get('SubState')}), {told.get('NRestarts')} restarts"


def ask_systemd() -> str:
    """Return what systemd knows of the quoter's unit, a property a line; "" where there is no systemd to ask."""
    import subprocess

    names = ("LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "StatusText")
    command = ["systemctl", "show", UNIT, *(f"--property={name}" for name in names)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
