"""Allowance: what the guardian may still ask the venue in this minute, and how long it leaves the venue alone.

Invariant: a question waits until it can be paid for; a cancel is only ever charged. Nothing here gives up.
It must not know clocks (a time is an argument, in monotonic seconds) or what is asked.

Source: Hyperliquid documentation, "Rate limits and user limits" (read 2026-11-28).
"""

from typing import Final

PER_MINUTE: Final = 200
"""Of the 1200 a minute of one network address; the quoter has the other 1000 (venue.weight_per_minute)."""
WHOLE: Final = 1200
"""What the address may in all: while the quoter is halted nobody else asks for anything."""
BURST: Final = 200
"""Eight questions for the open orders, two of a reconnection, and some cancels."""
DEBT: Final = 200
"""What cancels may run up beyond that: after the last of them a question waits a minute at most."""
LIST: Final = 20
"""Weight of frontendOpenOrders, meta, spotMeta and most other questions."""
LIGHT: Final = 2
"""Weight of clearinghouseState."""
ROLE: Final = 60
"""Weight of userRole."""
BATCH: Final = 40
"""An action weighs 1, and 1 more for every so many orders in it."""
BACK_OFF_FIRST_S: Final = 0.5
BACK_OFF_LAST_S: Final = 5.0


def cancel_weight(orders: int) -> int:
    """Return what a cancel of so many orders weighs."""
    return 1 + orders // BATCH


class Allowance:
    """A bucket of request weight that refills, and a pause that doubles with every refusal for too many requests."""

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        """It begins full, with BURST; `per_minute` 0 = weight is not counted."""
        self.alone = False
        """The quoter is halted: its part is the guardian's for that long."""
        self.refused = 0
        """How often the venue refused something for the number of requests."""
        self._per_minute = per_minute
        self._left = float(BURST)
        self._at = 0.0
        self._not_before = 0.0
        self._back_off_s = 0.0

    def wait_s(self, weight: int, now: float) -> float:
        """Return how long a question of this weight has to wait, 0 = not at all."""
        self._refill(now)
        missing = max(0.0, weight - self._left) * 60 / self._pace if self._per_minute else 0.0
        return max(missing, self._not_before - now, 0.0)

    def charge(self, weight: int, now: float) -> None:
        """Count what is sent now."""
        self._refill(now)
        self._left = max(-float(DEBT), self._left - weight)

    def too_many(self, now: float) -> None:
        """Leave the venue alone for a while: it said that there were too many requests."""
        self.refused += 1
        self._back_off_s = min(2 * self._back_off_s or BACK_OFF_FIRST_S, BACK_OFF_LAST_S)
        self._not_before = now + self._back_off_s

    def answered(self) -> None:
        """Forget the refusals: the venue answers again."""
        self._back_off_s = 0.0

    @property
    def _pace(self) -> int:
        return WHOLE if self.alone and self._per_minute else self._per_minute

    def _refill(self, now: float) -> None:
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) * self._pace / 60)
        self._at = max(self._at, now)
