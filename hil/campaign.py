"""Campaign: random interleavings of troubles on a rig, for hours: `make hil-campaign HOURS=2`.

    python -m hil.campaign --hours 2                     # goes on where the last one of this folder was ended
    python -m hil.campaign --list                        # the troubles
    python -m hil.campaign --repeat campaign/hil/failures/003.json

Exit 0 = every promise was kept, 1 = one was broken, 2 = wrong usage, 4 = this machine cannot do it, 130 = Ctrl-C.

Invariant: what was found is on the disk before anything else is played, and whatever did not run is told as such.
"""

import argparse
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import msgspec

from hil.kept import STATE, OtherError, Played, State, begin, in_lines, in_words, keep, keep_failure, key, summary
from hil.plans import Plan, draw, inexpressible, read_plan, told
from hil.play import Outcome, Player
from hil.report import FAILED, PASSED
from hil.rigs.opening import RIGS, open_rig
from hil.shrink import Shrunk, shrink
from hil.trixie import ROOT
from hil.troubles import ALL, Trouble
from image.debian import UnavailableError

FOLDER: Final = Path("campaign") / "hil"
PORTS: Final = range(18444, 18500)
"""Of the venue: below those that the kernel gives to whoever asks, and not that of `make hil`."""
MOST_HOURS: Final = 1000.0
KEPT, BROKEN, USAGE, UNABLE, ENDED = 0, 1, 2, 4, 130


class Plays(Protocol):
    """What plays a plan."""

    def play(self, plan: Plan, seed: int) -> Outcome:
        """Return what becomes of it; UnavailableError if there is no rig any more."""


class Campaign:
    """Plays one plan after the other, until a time."""

    def __init__(
        self, player: Plays, folder: Path, state: State, until: float, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """`until` is of time.monotonic; `say` is told of every plan."""
        self.state: Final = state
        self._player, self._folder, self._until, self._say = player, folder, until, say

    def run(self) -> None:
        """Play as many whole plans as begin in time. KeyboardInterrupt leaves a state that can be gone on with."""
        self.state.cut_short = []
        keep(self._folder, self.state)
        while time.monotonic() < self._until:
            number = len(self.state.played) + 1
            try:
                self._one(number)
            except KeyboardInterrupt:
                if len(self.state.played) < number:
                    self.state.cut_short = [f"plan {number}: cut short by Ctrl-C"]
                keep(self._folder, self.state)
                raise

    def _one(self, number: int) -> None:
        seed = self.state.seed
        plan = draw(seed, number, self.state.key["abilities"].split())
        self._say(f"plan {number}: {told(plan)}")
        outcome = self._player.play(plan, seed + number)
        played = Played(number, plan, FAILED if outcome.why else PASSED, outcome.why, outcome.seconds, outcome.verdicts)
        self.state.played.append(played)
        if outcome.why:
            self._say(f"plan {number}: {FAILED}: {outcome.why}")
            self._failed(played, Shrunk(plan, outcome, ended="not shrunk: it was cut short by Ctrl-C"))
            found = shrink(plan, outcome, partial(self._again, number), lambda: time.monotonic() < self._until)
            self._failed(played, found)
            self._say(f"plan {number}: {played.shrunk}")
        else:
            self._say(f"plan {number}: {PASSED} in {outcome.seconds:.0f} s")
        keep(self._folder, self.state)

    def _failed(self, played: Played, found: Shrunk) -> None:
        played.repeated, played.shrunk = found.repeated, in_words(found)
        keep_failure(self._folder, self.state, played.number, played.plan, found)
        keep(self._folder, self.state)

    def _again(self, number: int, plan: Plan) -> Outcome:
        outcome = self._player.play(plan, self.state.seed + number)
        self._say(f"  {told(plan)}: {outcome.why or PASSED}")
        return outcome


# The command ----------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"hil campaign: {message}\n")


def _hours(text: str) -> float:
    with suppress(ValueError):
        if 0 < (hours := float(text)) <= MOST_HOURS and math.isfinite(hours):
            return hours
    raise argparse.ArgumentTypeError(f"{text}; allowed: a number above 0, at most {MOST_HOURS:g}")


def _seed(text: str) -> int:
    if text.isdecimal() and text.isascii() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}; allowed: a whole number from 0 to 999999999")


def _rig(text: str) -> str:
    if text in RIGS:
        return text
    raise argparse.ArgumentTypeError(f"{text}; allowed: {', '.join(RIGS)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = _Parser(prog="hil campaign", description="Random interleavings of troubles, played on a rig.")
    parser.add_argument("--hours", type=_hours, metavar="N", help="begin plans for so long")
    parser.add_argument("--rig", type=_rig, help=f"the machine: {', '.join(RIGS)} (default: nspawn)")
    parser.add_argument("--seed", type=_seed, help="of all plans (default: that of the folder's campaign, or 1)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of state and failures (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--list", action="store_true", help="list the troubles, and play nothing")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="play the plan of a failure's file again, once")
    args = parser.parse_args(argv)
    if args.list:
        return _list(as_json=args.json)
    try:
        with _Interrupts():
            if args.repeat is not None:
                return _repeat(args.repeat, args.rig, as_json=args.json)
            if args.hours is None:
                raise ValueError("--hours: missing; allowed: a number above 0 (or --list, or --repeat FILE)")
            return _run(args)
    except (ValueError, OtherError, OSError) as error:
        print(f"hil campaign: {error}", file=sys.stderr)
        return USAGE


class _Interrupts:
    """The first Ctrl-C, or SIGTERM, is KeyboardInterrupt; the rigs are then cleared away without another one."""

    def __enter__(self) -> None:
        self._before = {each: signal.signal(each, self._interrupt) for each in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, *_: object) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


def _run(args: argparse.Namespace) -> int:
    until = time.monotonic() + args.hours * 3600
    rig, path = args.rig or "nspawn", args.folder / STATE
    seed = args.seed if args.seed is not None else _seed_of(path)
    wanted = key(seed, rig)
    state = begin(args.folder, wanted)
    port, code, not_run = _port(), KEPT, list[str]()
    player = Player(partial(_opened, rig, port), port)
    try:
        can = player.rig()[0].can
        not_run = [f"trouble {name}: {why}" for name, why in inexpressible(can).items()]
        state = begin(args.folder, wanted | {"abilities": " ".join(sorted(can))})
        loud = sys.stderr.isatty() and not args.json
        Campaign(player, args.folder, state, until, _say if loud else lambda _: None).run()
    except UnavailableError as error:
        code = UNABLE
        not_run.append(f"everything: {error}" if not state.played else f"what was to follow: {error}")
    except KeyboardInterrupt:
        code = ENDED
        not_run.append("what was to follow: ended by Ctrl-C; run it again, and it goes on")
    finally:
        player.close()
    told_of = summary(state, not_run)
    print(json.dumps(told_of) if args.json else in_lines(told_of))
    return BROKEN if told_of["failed"] and code == KEPT else code


def _seed_of(path: Path) -> int:
    with suppress(OSError, msgspec.MsgspecError, KeyError, ValueError):
        return msgspec.json.decode(path.read_bytes(), type=State).seed
    return 1


def _opened(rig: str, port: int, folder: Path) -> Any:
    return open_rig(rig, folder, port, ROOT)


def _port() -> int:
    """Return a port that nobody has, and that another campaign which begins now is not likely to take."""
    for port in sorted(PORTS, key=lambda port: (port - os.getpid()) % len(PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"ports {PORTS.start} to {PORTS.stop - 1} of 127.0.0.1 are all taken; allowed: one that is free")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _list(*, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"troubles": [_row(each) for _, each in sorted(ALL.items())]}))
        return KEPT
    for _, each in sorted(ALL.items()):
        bound = "" if each.zero_s is None else f"; no order within {each.zero_s:g} s"
        lasts = f"up to {each.longest_s:g} s" if each.longest_s else "a moment"
        print(f"{each.name:<16} {each.what}: {lasts}{bound}; needs {', '.join(sorted(each.needs))}")
    return KEPT


def _row(trouble: Trouble) -> dict[str, Any]:
    return {
        "trouble": trouble.name, "what": trouble.what, "needs": sorted(trouble.needs), "longest_s": trouble.longest_s,
        "no_order_within_s": trouble.zero_s,
    }  # fmt: skip


def _repeat(path: Path, rig: str | None, *, as_json: bool) -> int:
    try:
        value = json.loads(path.read_bytes())
        plan, seed, number = read_plan(value["plan"]), int(value["seed"]), int(value["number"])
        rig = _rig(rig or value["rig"])
    except OSError as error:
        raise ValueError(f"--repeat {path}: {error.strerror}; allowed: a file of a campaign's failures") from None
    except (ValueError, KeyError, TypeError, argparse.ArgumentTypeError) as error:
        raise ValueError(f"--repeat {path}: {error}; allowed: a file of a campaign's failures") from None
    port = _port()
    player = Player(partial(_opened, rig, port), port)
    try:
        can = player.rig()[0].can
        if cannot := {step.trouble for step in plan} & inexpressible(can).keys():
            raise UnavailableError(f"{', '.join(sorted(cannot))}: this rig cannot")
        outcome = player.play(plan, seed + number)
    except UnavailableError as error:
        print(json.dumps({"not_run": [str(error)]}) if as_json else f"not run: {error}")
        return UNABLE
    except KeyboardInterrupt:
        print(json.dumps({"not_run": ["ended by Ctrl-C"]}) if as_json else "not run: ended by Ctrl-C")
        return ENDED
    finally:
        player.close()
    result = {"plan": told(plan), "result": FAILED if outcome.why else PASSED, "why": outcome.why}
    exposures = [msgspec.to_builtins(each) for each in outcome.verdicts]
    print(json.dumps(result | {"verdicts": exposures}) if as_json else "\n".join(filter(None, result.values())))
    return BROKEN if outcome.why else KEPT


if __name__ == "__main__":
    sys.exit(main())
