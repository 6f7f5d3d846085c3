"""Play: a plan of troubles on a rig: begin with quotes, let it all happen, put it right as an owner would, and judge.

Invariant: what is told of a play is what was seen; a box that does not quote again, a position that is not the venue's,
an order that is left or a fill that is missing are broken promises whatever the plan was. A rig that breaks down is
none of these. It must not know campaigns.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from hil.judgement import Span, Verdict, due, judge
from hil.plans import Plan, Step
from hil.rig import ARM, KILL, SECOND, SUPPLY
from hil.rigs.opening import Opened
from hil.stage import QUOTES, PromiseBrokenError, Stage, config
from hil.timeline import Timeline
from hil.troubles import ALL, Site
from hil.venue import Venue
from image.debian import UnavailableError

RIGHT_S: Final = 100.0
"""Within which a box that was put right quotes: its quoter is begun anew after 30 s at most."""
ANSWER_S: Final = 40.0
SETTLE_S: Final = 4.0
"""Afterwards an order that is alive is a living quoter's: the last trouble may just have killed it."""
JUDGED_S: Final = 0.5
"""Beyond the last deadline the venue is looked at for so long."""
LATEST_S: Final = 25.0
"""A deadline is later than that after all was put right only if this file is wrong."""
LOOK_S: Final = 0.3
LOG_LINES: Final = 400
LOG: Final = f"journalctl -o short-monotonic --no-pager -n {LOG_LINES} -u 'mmpi-*'; mmpi status --json"
BROKER: Final = {"mqtt.password": "a word for the broker"}


class Outcome(msgspec.Struct):
    """What became of a plan."""

    words: str = ""
    """What was broken beside the promises of single troubles, "" = nothing."""
    seconds: float = 0.0
    verdicts: list[Verdict] = []
    timeline: dict[str, Any] = {}
    log: str = ""
    """What the box's services said, of a plan that failed."""
    lost: str = ""
    """How the rig itself broke down, "" = it did not. What was broken until then counts."""

    @property
    def why(self) -> str:
        """Return what was broken, "" = every promise was kept that could be judged."""
        return "; ".join(filter(None, [*(each.broken for each in self.verdicts), self.words]))

    @property
    def kinds(self) -> frozenset[str]:
        """Return which promises were broken, without figures, so that those of two plays can be compared."""
        said = re.sub(r"-?\d[\d.]*(e[-+]?\d+)?", "#", re.split("[;:]", self.words)[0])
        return frozenset(filter(None, [*(each.trouble for each in self.verdicts if each.broken), said]))


class Player:
    """Plays plans on one rig, which is opened when it is first needed, and anew after it broke down."""

    def __init__(self, open_it: Callable[[Path], Any], port: int) -> None:
        """`open_it` returns a context manager that gives (rig, address); `port` is the venue's."""
        self._open, self._port = open_it, port
        self._opened: Opened | None = None
        self._owned = ExitStack()

    def close(self) -> None:
        """Clear the rig away; what goes wrong with that is told, and changes nothing of what was found."""
        self._opened = None
        owned, self._owned = self._owned, ExitStack()
        try:
            owned.close()
        except Exception as error:
            print(f"the rig was not cleared away cleanly: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def rig(self) -> Opened:
        """Return the rig and where it sees the venue; UnavailableError if it cannot be had."""
        if self._opened is None:
            place = tempfile.TemporaryDirectory(prefix="mmpi-hil-", ignore_cleanup_errors=True)
            folder = Path(self._owned.enter_context(place))
            try:
                self._opened = self._owned.enter_context(self._open(folder))
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                self.close()
                raise UnavailableError(f"the rig does not open: {str(error) or type(error).__name__}") from error
            except BaseException:
                self.close()
                raise
        assert self._opened is not None
        return self._opened

    def play(self, plan: Plan, seed: int) -> Outcome:
        """Return what becomes of a plan."""
        opened = self.rig()
        outcome, began = Outcome(), time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="mmpi-hil-plan-", ignore_cleanup_errors=True) as folder:
                _play(opened, self._port, Path(folder), plan, seed, outcome)
        except PromiseBrokenError as error:
            outcome.words = str(error)
        except Exception as error:
            outcome.lost = f"the rig broke down: {type(error).__name__}: {error}"
        if outcome.why or outcome.lost:
            with suppress(Exception):
                outcome.log = opened[0].shell(LOG)[1]
        outcome.seconds = round(time.monotonic() - began, 1)
        if outcome.lost:
            self.close()
        return outcome


def _play(opened: Opened, port: int, folder: Path, plan: Plan, seed: int, outcome: Outcome) -> None:
    venue = Venue(folder, opened[1], seed)
    venue.port = port
    with venue, Timeline(venue) as timeline:
        try:
            _story(Stage(opened[0], venue, timeline, seed), plan, folder, outcome)
        finally:
            outcome.timeline = timeline.told()


def _story(stage: Stage, plan: Plan, folder: Path, outcome: Outcome) -> None:
    rig, venue = stage.rig, stage.venue
    rig.mend(config(rig), venue.secrets | BROKER, venue.authority, stage.seed)
    stage.wait(lambda: rig.status().get("guardian"), ANSWER_S, "a guardian")
    stage.arm()
    stage.quoting()
    site = Site(stage)
    spans: list[Span] = []
    happen(site, plan, spans)
    put_right_at = stage.timeline.note("all is put right")
    end_all(site, spans)
    judged_at = settle(stage, min(due(spans), put_right_at + LATEST_S))
    outcome.verdicts = judge(spans, stage.timeline.samples, judged_at)
    quote_again(stage)
    stage.positions_agree()
    stage.finish(folder)


def settle(stage: Stage, due_s: float) -> float:
    """Wait until every promise is due, and the venue was seen after that; return how far what was seen can be judged.

    A venue that is not seen any more is waited for no longer than that takes: then it is not quoting, either.
    """
    time.sleep(SETTLE_S * stage.rig.patience)
    timeline, until = stage.timeline, due_s + JUDGED_S
    while (seen := max((at for at, _ in timeline.samples), default=0.0)) <= until and timeline.now <= until + SETTLE_S:
        time.sleep(LOOK_S)
    return seen


def happen(site: Site, plan: Plan, spans: list[Span]) -> None:
    """Have each trouble begin and end at its time; what was done is in `spans`, as it comes."""
    timeline, running = site.stage.timeline, dict[Step, Span]()
    zero = timeline.now
    for at, begins, step in _moments(plan):
        time.sleep(max(zero + at - timeline.now, 0))
        trouble = ALL[step.trouble]
        if begins:
            began = timeline.trouble(f"{trouble.name}: {trouble.what}")
            if trouble.begin(site):
                running[step] = Span(trouble.name, began, timeline.now, float("inf"), float("inf"))
                spans.append(running[step])
            else:
                timeline.note(f"{trouble.name}: nothing to do")
        elif step in running:
            _end(site, running.pop(step))


def _moments(plan: Plan) -> Iterator[tuple[float, bool, Step]]:
    """Yield when which step begins or ends; one that lasts no time ends after it began."""
    both = [(each.at_s, 0, each) for each in plan] + [(each.until_s, 1, each) for each in plan]
    for at, ends, step in sorted(both, key=lambda each: (each[0], each[1])):
        yield at, not ends, step


def _end(site: Site, span: Span) -> None:
    timeline = site.stage.timeline
    span.ending = timeline.note(f"{span.trouble} ends")
    ALL[span.trouble].end(site)
    span.ended = timeline.now


def end_all(site: Site, spans: list[Span]) -> None:
    """Do what an owner does who finds the box so: venue and power first, then plugs, buttons and the rest."""
    site.hang(on=False)
    site.power(on=True)
    for span in reversed(spans):
        if span.ended == float("inf"):
            _end(site, span)
    for contact, level in ((KILL, 0), (SECOND, None), (ARM, None), (SUPPLY, 1)):
        site.drive(contact, level)
    site.stage.venue.faults()


def quote_again(stage: Stage) -> None:
    """Arm if it is latched, resume if it is paused, until it quotes; PromiseBrokenError if it does not."""
    within_s = RIGHT_S * stage.rig.patience
    deadline = time.monotonic() + within_s
    while stage.live() < QUOTES:
        if time.monotonic() > deadline:
            raise PromiseBrokenError(f"put right, no quotes within {within_s:g} s; the box says: {stage.told()}")
        if stage.latched():
            stage.arm()
        elif "by_hand" in stage.causes():
            stage.rig.shell("mmpi resume")
        time.sleep(LOOK_S)
    stage.timeline.note("quoting")
