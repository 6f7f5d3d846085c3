"""Caution: what post-only refusals teach about one side: to wait, and to stand further off, for a while.

Each refusal in a row doubles the pause before that side is placed again, up to a cap, and moves its orders further out;
orders that are taken undo it: the streak halves with each, three in a row end it.

Invariant: bounded, and an order already resting is never touched for the pause's sake.
It must not know prices or venues.

Source: source text 001, section 1.4: exponential pause with a cap, safety ticks that widen and decay.
"""

from typing import Final

from mmpi.instrument import MILLISECOND, SECOND, Nanos
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
        """Take a post-only refusal."""
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
