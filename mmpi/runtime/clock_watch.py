"""Clock watch: may the clock be trusted, and how far is it from the venue's? (I8)

The venue stamps each book. By a clock that is right no book arrives before its stamp, so the smallest difference of the
last seconds tells how far our clock is ahead, give or take the way and the venue's own delay; when it is behind, the
difference is negative at once.

Two clocks of ours count. The loop's never jumps, and is only ever measured: what is signed bears the venue's time. The
wall clock is what the machine believes; while that is wrong, or nobody keeps it, nothing is trusted.

Invariant: without any word of the venue's time the clock is not trusted. It must not know who is told.
"""

from collections.abc import Callable
from typing import Final

from mmpi.events import ClockTrust
from mmpi.instrument import MILLISECOND, SECOND, Nanos

WINDOW: Final[Nanos] = 10 * SECOND
"""Of the smallest difference: twenty books at the venue's half second."""
DELAY: Final[Nanos] = SECOND
"""How old the freshest of these may be on arrival (recorded books: 0.44 s, wire and venue together)."""

LATE: Final[Nanos] = 3 * SECOND
"""Stamps that are all too old for this long are no hiccup: the offset is measured anew without waiting for WINDOW."""


class ClockWatch:
    """Follows one venue's time."""

    def __init__(
        self, max_offset_ms: int, wall: Callable[[], Nanos], synchronised: Callable[[], bool | None] | None
    ) -> None:
        """`synchronised` None = nobody has to keep the clock."""
        self.offset: Nanos = 0
        """How far the loop's clock is ahead of the venue's, delay included."""
        self._limit = max_offset_ms * MILLISECOND
        self._wall, self._synchronised = wall, synchronised
        self._known = False
        self._since: Nanos = 0
        self._least: Nanos = 0
        self._before: Nanos = 0
        """The smallest differences of this window and of the one before it."""
        self._late_since: Nanos = 0
        """Since when every stamp has been older than it can be; 0 = it has not."""
        self._said: str | None = None

    def seed(self, offset: Nanos, now: Nanos) -> None:
        """Take a first measurement of the offset."""
        self._known, self._since, self._late_since = True, now, 0
        self._least = self._before = self.offset = offset

    def heard(self, exch_ts: Nanos, recv_ts: Nanos) -> None:
        """Take the venue's stamp on something that arrived at `recv_ts` by the loop's clock."""
        difference = recv_ts - exch_ts
        if not self._known:
            self.seed(difference, recv_ts)
            return
        if difference <= self.offset + DELAY:
            self._late_since = 0
        elif not self._late_since:
            self._late_since = recv_ts
        elif recv_ts - self._late_since > LATE:
            # Nothing in time for so long: the venue's clock, or ours, has moved.
            self.seed(difference, recv_ts)
            return
        if recv_ts - self._since > WINDOW:
            self._before, self._least, self._since = self._least, difference, recv_ts
        elif difference < self._least:
            self._least = difference
        self.offset = min(self._least, self._before)

    def check(self, now: Nanos) -> ClockTrust | None:
        """Return the verdict if it changed, or is there for another reason; `now` by the loop's clock."""
        fault = self.fault(now)
        if self._said is not None and _kind(fault) == _kind(self._said):
            return None
        self._said = fault
        return ClockTrust(now, not fault, fault)

    def fault(self, now: Nanos) -> str:
        """Return why the clock is not trusted, "" = it is."""
        if not self._known:
            return "the venue's time is not known yet"
        ahead = self.offset + self._wall() - now
        if ahead < -self._limit or ahead > self._limit + DELAY:
            way = "ahead of" if ahead > 0 else "behind"
            return f"{abs(ahead) / SECOND:.1f} s {way} the venue's (allowed: {self._limit / SECOND:g} s)"
        if self._synchronised is not None and not self._synchronised():
            return "not synchronised"
        return ""


def _kind(fault: str) -> tuple[int, str]:
    """Return a fault with how large its figure is, to a factor of a hundred: the figure itself changes all the time."""
    digits = len(fault.partition(".")[0]) if fault[:1].isdigit() else 0
    return (digits + 1) // 2, fault.lstrip("0123456789.")
