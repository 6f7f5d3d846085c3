"""Shrink: the smallest plan that still fails, found by playing smaller ones again.

First the whole is repeated; then troubles are left out one by one, then times are made shorter. What plays is given, so
that nothing here needs a rig.

Invariant: what is returned has broken, when it was last played, a promise that the first failure broke; a rig that
breaks down breaks none. No more was played than was allowed. It must not know what a plan is about.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from hil.plans import Plan, Step, clash, told
from hil.play import Outcome
from hil.troubles import ALL
from image.debian import UnavailableError

REPLAYS: Final = 12
REPEATS: Final = 3
"""How often a failure may fail to repeat before it is called one that does not."""
WORTH_S: Final = 0.4
"""A time is not made shorter by less."""


class Shrunk(msgspec.Struct):
    """The smallest plan found that fails, and its outcome."""

    plan: Plan
    outcome: Outcome
    replays: int = 0
    repeated: bool = False
    ended: str = ""
    """Why no smaller one was tried, "" = none fails."""
    aside: list[str] = []
    """What else befell on the way: a rig that broke down, a failure of another kind."""


class _EnoughError(Exception):
    """No more may be played; the text says why."""


class _Search:
    def __init__(self, found: Shrunk, play: Callable[[Plan], Outcome], may: Callable[[], bool], most: int) -> None:
        self.found, self._play, self._may, self._most = found, play, may, most
        self._kinds: Final = found.outcome.kinds
        self._kept: set[Plan] = set()

    def fails(self, plan: Plan) -> bool:
        """Play a plan, and keep it if it fails as the first one did."""
        if plan in self._kept:
            return False
        if self.found.replays >= self._most:
            raise _EnoughError(f"{self._most} replays are over")
        if not self._may():
            raise _EnoughError("the time is over")
        outcome = self._play(plan)
        self.found.replays += 1
        fails = not outcome.lost and bool(outcome.kinds & self._kinds)
        if fails:
            self.found.plan, self.found.outcome, self.found.repeated = plan, outcome, True
        else:
            if other := outcome.lost or outcome.why:
                self.found.aside.append(f"{told(plan)}: {other}")
            if self.found.repeated:
                self._kept.add(plan)
        return fails

    def repeats(self) -> bool:
        """Return whether the whole fails again."""
        return any(self.fails(self.found.plan) for _ in range(REPEATS))

    def smaller(self, candidates: Callable[[Plan], Iterator[Plan]]) -> None:
        """Go on with the first candidate that fails, until none does."""
        while any(self.fails(each) for each in candidates(self.found.plan)):
            pass


def shrink(
    plan: Plan, outcome: Outcome, play: Callable[[Plan], Outcome], may: Callable[[], bool], most: int = REPLAYS
) -> Shrunk:
    """Return the smallest plan that fails as far as `most` replays and `may` (is there time?) allow."""
    search = _Search(Shrunk(plan, outcome), play, may, most)
    try:
        if search.repeats():
            search.smaller(_without_one)
            search.smaller(_shorter)
    except _EnoughError as error:
        search.found.ended = str(error)
    except UnavailableError as error:
        search.found.ended = f"there is no rig any more: {error}"
    return search.found


def _without_one(plan: Plan) -> Iterator[Plan]:
    if len(plan) > 1:
        for number in range(len(plan)):
            yield plan[:number] + plan[number + 1 :]


def _shorter(plan: Plan) -> Iterator[Plan]:
    """Yield plans that begin at once, in which one trouble lasts half as long, or comes in half the time."""
    if plan[0].at_s > WORTH_S:
        yield _earlier(plan, 0, plan[0].at_s)
    for number, step in enumerate(plan):
        lasts = round(max(step.lasts_s / 2, ALL[step.trouble].shortest_s), 2)
        if step.lasts_s - lasts > WORTH_S:
            yield (*plan[:number], Step(step.at_s, step.trouble, lasts), *plan[number + 1 :])
    for number in range(1, len(plan)):
        gap = (plan[number].at_s - plan[number - 1].at_s) / 2
        if gap > WORTH_S and not clash(sooner := _earlier(plan, number, gap)):
            yield sooner


def _earlier(plan: Plan, number: int, seconds: float) -> Plan:
    """Return a plan whose steps from a number on come so much earlier."""
    moved = (Step(round(each.at_s - seconds, 2), each.trouble, each.lasts_s) for each in plan[number:])
    return (*plan[:number], *moved)
