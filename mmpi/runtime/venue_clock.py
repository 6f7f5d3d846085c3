"""Venue clock: the venue's time by what it told, and whether that clock went back while orders were under way.

Orders expire by the venue's clock. If it goes back by a minute, an order that was signed before is valid for a minute
longer: until the venue's clock has passed the latest expiry that can have been signed, no empty list proves anything.

Invariant: setting this machine's clock changes nothing here. It must not know orders or connections.
"""

from typing import Final

from mmpi.instrument import MILLISECOND, Nanos

OFF_MS: Final = 1000
"""A difference to the venue's time below this is its own delay as much as our clock's fault."""
NONCE_AHEAD_MS: Final = 86_400_000
"""The venue takes no nonce that is more than a day ahead of its time ("Nonces and API wallets")."""
SIGNED_AHEAD_MS: Final = 12_000
"""The quoter believes the venue's latest stamp for 10 s, and an order of it is valid for 2 s more."""


class VenueClock:
    """Our time is the wall clock's of the beginning, moved on by the monotonic clock, which is every argument here.

    Setting the wall clock right later on, as a box without a clock of its own does, must not make a cancel bear a time
    that nobody means.
    """

    def __init__(self, wall: Nanos, steady: Nanos) -> None:
        """Take both clocks of one moment."""
        self.ahead_ms = 0
        """How far our time is ahead of the venue's: cancels bear the venue's time, whatever ours says (I8)."""
        self._base: Nanos = wall - steady
        self._nonce = 0
        self._told_ms = 0
        self._told_at: Nanos = 0
        self._valid_until_ms = 0
        """In the venue's time: until then an order from before its clock went back may be valid; 0 = it never did."""

    def now_ms(self, steady: Nanos) -> int:
        """Return the venue's time."""
        return (steady + self._base) // MILLISECOND - self.ahead_ms

    def nonce(self, steady: Nanos) -> int:
        """Return a nonce that is later than all before, unless those were of a clock that was wrong."""
        now_ms = self.now_ms(steady)
        if self._nonce > now_ms + NONCE_AHEAD_MS:
            # The venue refused it, and would refuse all that follow it.
            self._nonce = 0
        self._nonce = max(self._nonce + 1, now_ms)
        return self._nonce

    def told(self, time_ms: int, sent: Nanos, received: Nanos) -> None:
        """Take the venue's time from an answer to a question that was sent and answered then; 0 = it did not tell."""
        if not time_ms:
            return
        ahead_ms = ((sent + received) // 2 + self._base) // MILLISECOND - time_ms
        self.ahead_ms = ahead_ms if abs(ahead_ms) > OFF_MS else 0
        due_ms = self._told_ms + (sent - self._told_at) // MILLISECOND
        if self._told_ms and due_ms - time_ms > OFF_MS:
            self._valid_until_ms = max(self._valid_until_ms, due_ms + SIGNED_AHEAD_MS)
        self._told_ms, self._told_at = time_ms, received

    def unsettled_s(self, steady: Nanos) -> float:
        """Return for how long orders from before the venue's clock went back may still be valid; 0 = they are not."""
        now_ms = self._told_ms + (steady - self._told_at) // MILLISECOND
        return max(0, self._valid_until_ms - now_ms) / 1000
