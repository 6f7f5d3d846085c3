"""Caution: what post-only refusals teach about one side: to wait, and to stand further off, for a while.

Each refusal in a row doubles the pause before that side is placed again, up to a cap, and moves its orders further out;
orders that are taken undo it: the streak halves with each, three in a row end it.

Invariant: bounded, and an order already resting is never touched for the pause's sake.
It must not know strategies or venues.

Source: source text 001, section 1.4: exponential pause with a cap, safety ticks that widen and decay.
"""

from typing import Final

from mmpi.events import POST_ONLY, ExecReport, ExecType
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Nanos, Side, Ticks
from mmpi.ports import Quote, QuoteLevel
from mmpi.structs import State

PAUSE_FIRST: Final[Nanos] = 100 * MILLISECOND
PAUSE_LAST: Final[Nanos] = 120 * SECOND
STEPS_MOST: Final = 10
"""Increments of price that a side is moved out at most."""
FREE: Final = 1
"""Refusals in a row that move nothing yet: one is the price of quoting at a touch that moves."""
WINS: Final = 3
"""Orders taken in a row that end all caution."""


class CautionState(State, frozen=True):
    """A Caution as plain values."""

    streak: int
    wins: int
    until: Nanos


class Caution:
    """One side of one instrument."""

    def __init__(self) -> None:
        self.streak = 0
        """Refusals in a row, less what orders taken since have undone."""
        self.until: Nanos = 0
        """Until then nothing new is placed on this side."""
        self._wins = 0

    @property
    def steps(self) -> int:
        """Return how many increments of price to stand further off."""
        return min(max(self.streak - FREE, 0), STEPS_MOST)

    def refused(self, now: Nanos) -> None:
        """Take a post-only refusal; those that come during the pause are of the same move of the market."""
        if now < self.until:
            return
        self.streak += 1
        self._wins = 0
        # 2**20 first pauses are more than a day: the cap is long reached, and the number stays small.
        self.until = now + min(PAUSE_FIRST << min(self.streak - 1, 20), PAUSE_LAST)

    def taken(self) -> None:
        """Take the venue's word that an order rests."""
        if self.streak:
            self._wins += 1
            self.streak = 0 if self._wins >= WINS else max(min(self.streak // 2, self.streak - 2), 0)

    def checkpoint(self) -> CautionState:
        """Return the state as plain values."""
        return CautionState(self.streak, self._wins, self.until)

    def restore(self, state: CautionState) -> None:
        """Take the state that `checkpoint` returned."""
        self.streak, self._wins, self.until = state.streak, state.wins, state.until


class Cautions:
    """Both sides of one instrument."""

    def __init__(self) -> None:
        self._sides = {BUY: Caution(), SELL: Caution()}
        self.stand_off = False
        """Whether `moved` would move anything."""

    def heed(self, side: Side, report: ExecReport, level: int = 0) -> None:
        """Take the venue's first word on an order of a side: it rests, or would have taken; others tell nothing.

        That an outer rung rests (`level` above 0) says nothing about the touch.
        """
        if report.exec_type is ExecType.NEW:
            if level == 0:
                self._sides[side].taken()
        elif report.exec_type is ExecType.REJECTED and report.reason.startswith(POST_ONLY):
            self._sides[side].refused(report.recv_ts)
        self._look()

    def is_pausing(self, side: Side, now: Nanos) -> bool:
        """Return True while nothing new is placed on a side."""
        return now < self._sides[side].until

    def moved(self, quote: Quote, grid: Instrument) -> Quote:
        """Return the quote with each side moved out by as many increments of price as its refusals have taught."""
        bids = _moved(quote.bids, -self._sides[BUY].steps, grid)
        asks = _moved(quote.asks, self._sides[SELL].steps, grid)
        return Quote(quote.fair, bids, asks, quote.reason)

    def checkpoint(self) -> "tuple[CautionState, CautionState]":
        """Return the state as plain values."""
        return self._sides[BUY].checkpoint(), self._sides[SELL].checkpoint()

    def restore(self, state: "tuple[CautionState, CautionState]") -> None:
        """Take the state that `checkpoint` returned."""
        self._sides[BUY].restore(state[0])
        self._sides[SELL].restore(state[1])
        self._look()

    def _look(self) -> None:
        self.stand_off = self._sides[BUY].steps > 0 or self._sides[SELL].steps > 0


def _moved(rungs: "tuple[QuoteLevel, ...]", steps: int, grid: Instrument) -> "tuple[QuoteLevel, ...]":
    """Return a side's rungs moved by so many valid prices (down if negative); those that stay above zero.

    They stay strictly monotone, because each is moved by as many, however wide the increments are where it is.
    """
    if steps == 0:
        return rungs
    prices = [(rung, _valid_price(rung.price, steps, grid)) for rung in rungs]
    return tuple([QuoteLevel(rung.level, price, rung.size) for rung, price in prices if price > 0])


def _valid_price(price: Ticks, steps: int, grid: Instrument) -> Ticks:
    """Return the valid price that is so many of them from `price`, or one that is not above zero."""
    increment = grid.step_at(price)
    moved = price + steps * increment
    if moved <= 0 or grid.step_at(moved) == increment:
        return moved
    for _ in range(abs(steps)):
        price = grid.round_bid(price - 1) if steps < 0 else grid.round_ask(price + 1)
    return price
