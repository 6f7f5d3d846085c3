"""Tripwires: what latches because of how things go over time: a day's loss, fills in a minute, fates that stay unknown.

Invariant: memory is bounded whatever comes, and a step is O(1) but for what runs out of the window.
It must not know orders, markets or what a touched wire leads to.
"""

from typing import Final

from mmpi.instrument import SECOND, Money, Nanos
from mmpi.structs import State

DAILY_LOSS: Final = "daily_loss"
FILLS_PER_MINUTE: Final = "fills_per_minute"
UNKNOWN_FATES: Final = "unknown_fates"
DAY: Final[Nanos] = 86_400 * SECOND
"""From one midnight UTC to the next (Unix time has no leap seconds)."""
MINUTE: Final[Nanos] = 60 * SECOND
ASKED_AGAIN: Final[Nanos] = 30 * SECOND
"""An order in doubt is asked about every few seconds; after such a pause it is another doubt."""
MAX_DOUBTS: Final = 1024
"""Orders in doubt that are remembered: far more than may be live."""


class TripwireState(State, frozen=True):
    """Tripwires as plain values."""

    day: int
    base: Money
    last: Money
    fills: "tuple[Nanos, ...]"
    doubts: "dict[str, tuple[Nanos, Nanos]]"


class Tripwires:
    """One account's; 0 = that wire is not there."""

    def __init__(self, daily_loss: Money, fills_per_minute: int, unknown_after_s: float) -> None:
        self._daily_loss, self._most_fills = daily_loss, fills_per_minute
        self._unknown_after: Nanos = round(unknown_after_s * SECOND)
        self._day = 0
        """Days since 1970 by the last event; 0 = there was none."""
        self._base: Money = 0
        """Equity at the midnight that began the day, or when a person re-armed after that."""
        self._last: Money = 0
        self._fills: list[Nanos] = []
        """Times of the last fills, at most one more than may be in a minute."""
        self._doubts: dict[str, tuple[Nanos, Nanos]] = {}
        """Orders in doubt -> since when they are asked about, and when they were last."""

    def equity(self, equity: Money, now: Nanos) -> bool:
        """Return True if the day has lost what it may; what equity was last before midnight is where it began."""
        day = now // DAY
        # Never back: a clock that is behind at a start must not begin a day anew.
        if day > self._day:
            self._base = self._last if self._day else 0
            self._day = day
        self._last = equity
        return 0 < self._daily_loss <= self._base - equity

    def filled(self, now: Nanos) -> str:
        """Return the wire's name if there were more fills in the last minute than there may be; take one more."""
        if not self._most_fills:
            return ""
        fills = self._fills
        fills.append(now)
        # More than one only where a restart brought more than there may be now.
        del fills[: -(self._most_fills + 1)]
        return FILLS_PER_MINUTE if len(fills) > self._most_fills and now - fills[0] < MINUTE else ""

    def doubted(self, cl_ord_id: str, now: Nanos) -> str:
        """Return the wire's name if the venue has not said for too long what became of an order; it is asked again."""
        if not self._unknown_after:
            return ""
        since, last = self._doubts.pop(cl_ord_id, (now, now))
        if now - last > ASKED_AGAIN:
            since = now
        self._doubts[cl_ord_id] = (since, now)
        if len(self._doubts) > MAX_DOUBTS:
            del self._doubts[next(iter(self._doubts))]
        return UNKNOWN_FATES if now - since >= self._unknown_after else ""

    def shift(self, equity: Money) -> None:
        """What was `equity` is 0 from now on; what the day has lost stays what it is."""
        self._base -= equity
        self._last -= equity

    def lost(self) -> None:
        """The connection is gone: nobody could have answered."""
        self._doubts.clear()

    def rearmed(self, equity: Money) -> None:
        """A person re-armed: everything is measured from here."""
        self._base = self._last = equity
        self._fills.clear()
        self._doubts.clear()

    def checkpoint(self) -> TripwireState:
        """Return the state as plain values."""
        return TripwireState(self._day, self._base, self._last, tuple(self._fills), dict(self._doubts))

    def restore(self, state: TripwireState) -> None:
        """Take the state that `checkpoint` returned."""
        self._day, self._base, self._last = state.day, state.base, state.last
        self._fills, self._doubts = list(state.fills), dict(state.doubts)
