"""The requests that one address may send: a budget that trading fills up.

Invariant: a refused request costs nothing. It must not know what a request asks for.

Source: Hyperliquid "Rate limits and user limits" (read 2026-11-21): one request per USDC traded since the address
began, after the first 10,000; then one every ten seconds; cancels up to min(limit + 100000, 2 * limit); a batch of n
counts n; an action that its expiresAfter stopped costs five times as much. That a refusal costs nothing was measured
on the testnet (public notes, read 2026-11-28).
"""

from typing import Final

from mmpi.instrument import MONEY_SCALE, SECOND, Money, Nanos, money_text
from mmpi.practice.hyperliquid.rules import Rules
from mmpi.practice.hyperliquid.words import TOO_MANY_REQUESTS

SLOT: Final[Nanos] = 10 * SECOND
"""Between two requests of an address that has none left."""
EXTRA_CANCELS: Final = 100_000
STALE_COST: Final = 5
UNLIMITED: Final = 10**9
"""Shown as the cap of an address that is never refused, so that nobody saves requests for nothing."""
CENT: Final[Money] = MONEY_SCALE // 100


class Budget:
    """How many requests an address has `used`."""

    def __init__(self, rules: Rules) -> None:
        self.used = 0
        self._rules = rules
        self._last: Nanos = 0

    def cap(self, volume: Money) -> int:
        """Return how many requests an address of that volume may send in all; where none is refused, very many."""
        return (self._rules.requests_free or UNLIMITED) + volume // MONEY_SCALE

    def spend(self, count: int, volume: Money, now: Nanos, *, cancels: bool) -> str:
        """Return why `count` requests are too many, or "" having counted them.

        The ten seconds let a single request pass, no batch; whether the venue would let one is not in our sources.
        The cap in its refusals is one below the one that `userRateLimit` shows; here they are the same.
        """
        cap = self.cap(volume)
        limit = min(cap + EXTRA_CANCELS, 2 * cap) if cancels else cap
        spent = bool(self._rules.requests_free) and self.used + count > limit
        if spent and (count > 1 or now < self._last + SLOT):
            traded = money_text(volume - volume % CENT)
            return TOO_MANY_REQUESTS.format(used=self.used + count, cap=limit, volume=traded)
        self.used += count
        self._last = now
        return ""

    def stale(self, count: int) -> None:
        """Count `count` requests that came after their expiry."""
        self.used += STALE_COST * count
