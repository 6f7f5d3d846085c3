"""Campaign: random interleavings of troubles on a rig, for hours: `make hil-campaign HOURS=2`.

    python -m hil.campaign --hours 2                     # goes on where the last one of this folder was ended
    python -m hil.campaign --list                        # the troubles
    python -m hil.campaign --repeat campaign/hil/failures/003.json

Exit 0 = every promise was kept, 1 = one was broken, whatever else befell, 2 = wrong usage, 4 = nothing was played, or
not all, because this machine cannot do it or the rig broke down, 130 = Ctrl-C.

Invariant: what was found is on the disk before anything else is played, and whatever did not run is told as such.
"""

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import msgspec

from hil.kept import (
    BROKE_DOWN,
    STATE,
    OtherError,
    Played,
    State,
    begin,
    held,
    in_lines,
    in_words,
    keep,
    keep_failure,
    key,
    summary,
)
from hil.plans import Plan, draw, inexpressible, read_plan, told
from hil.play import Outcome, Player
from hil.report import FAILED, PASSED
from hil.rigs.opening import BENCH, RIGS, free_port, open_rig
from hil.shrink import Shrunk, shrink
from hil.trixie import ROOT
from hil.troubles import ALL, Trouble
from image.debian import UnavailableError

FOLDER: Final = Path("campaign") / "hil"
RIG: Final = "nspawn"
REFUSED: Final = {
    "virt": "the campaign is not for the rig virt: with its cable pulled it has no shell, and while it boots, for"
    " minutes, nothing else can begin; allowed: --rig nspawn"
}
"""Rigs that there are, and why no plan can be played on them as it is drawn."""
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
        result, why = _judged(outcome)
        played = Played(number, plan, result, why, outcome.seconds, outcome.verdicts)
        self.state.played.append(played)
        self._say(f"plan {number}: {result} in {outcome.seconds:.0f} s" + f": {why}" * bool(why))
        if result == FAILED:
            self._failed(played, Shrunk(plan, outcome, ended="it was cut short by Ctrl-C"))
            found = shrink(plan, outcome, partial(self._again, number), lambda: time.monotonic() < self._until)
            self._failed(played, found)
            self._say(f"plan {number}: {played.shrunk}")
        keep(self._folder, self.state)

    def _failed(self, played: Played, found: Shrunk) -> None:
        played.repeated, played.shrunk = found.repeated, in_words(found)
        keep_failure(self._folder, self.state, played.number, played.plan, found)
        keep(self._folder, self.state)

    def _again(self, number: int, plan: Plan) -> Outcome:
        outcome = self._player.play(plan, self.state.seed + number)
        self._say(f"  {told(plan)}: {': '.join(filter(None, _judged(outcome)))}")
        return outcome


def _judged(outcome: Outcome) -> tuple[str, str]:
    """Return a result, and why: a promise that was broken before the rig broke down is broken."""
    result = FAILED if outcome.why else BROKE_DOWN if outcome.lost else PASSED
    return result, "; ".join(filter(None, [outcome.why, outcome.lost]))


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
    if text in (*RIGS, BENCH):
        return text
    raise argparse.ArgumentTypeError(f"{text}; allowed: {RIG}")


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = _Parser(prog="hil campaign", description="Random interleavings of troubles, played on a rig.")
    parser.add_argument("--hours", type=_hours, metavar="N", help="begin plans for so long")
    parser.add_argument("--rig", type=_rig, help=f"the machine: {RIG} (default); others say why they cannot")
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
    with held(args.folder):
        return _go_on(args)


def _go_on(args: argparse.Namespace) -> int:
    rig, seed = args.rig or RIG, args.seed if args.seed is not None else _seed_of(args.folder / STATE)
    wanted = key(seed, rig)
    state = begin(args.folder, wanted)
    port, code, not_run = free_port(), KEPT, list[str]()
    player = Player(partial(_opened, rig, port), port)
    say: Callable[[str], None] = _say if sys.stderr.isatty() and not args.json else lambda _: None
    try:
        say("the rig is made ready")
        can = player.rig()[0].can
        not_run = [f"trouble {name}: {why}" for name, why in inexpressible(can).items()]
        state = begin(args.folder, wanted | {"abilities": " ".join(sorted(can))})
        before = len(state.played)
        say(f"the rig is ready; plans are begun for {args.hours:g} h from now on")
        Campaign(player, args.folder, state, time.monotonic() + args.hours * 3600, say).run()
        if len(state.played) == before:
            code = UNABLE
            not_run.append(f"any plan: none could be begun within {args.hours:g} h")
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
    return _code(code, told_of["failed"], told_of["broke_down"])


def _code(code: int, failed: int, broke_down: int) -> int:
    """Return the exit code: a broken promise hides behind no rig that is not there."""
    if code == ENDED:
        return code
    return BROKEN if failed else UNABLE if broke_down else code


def _seed_of(path: Path) -> int:
    with suppress(OSError, msgspec.MsgspecError, KeyError, ValueError):
        return msgspec.json.decode(path.read_bytes(), type=State).seed
    return 1


def _opened(rig: str, port: int, folder: Path) -> Any:
    if rig in REFUSED:
        raise UnavailableError(REFUSED[rig])
    return open_rig(rig, folder, port, ROOT)


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
    port = free_port()
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
    result, why = _judged(outcome)
    said = {"plan": told(plan), "result": result, "why": why}
    exposures = [msgspec.to_builtins(each) for each in outcome.verdicts]
    print(json.dumps(said | {"verdicts": exposures}) if as_json else "\n".join(filter(None, said.values())))
    return _code(KEPT, result == FAILED, result == BROKE_DOWN)


if __name__ == "__main__":
    sys.exit(main())
