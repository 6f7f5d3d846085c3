"""The dead-man switch of one account: `scheduleCancel`.

Invariant: it fires at most `fire_cap` times in a UTC day, and setting it anew is no fire.
It must not know orders, or who looks at the clock.

Source: hyperliquid-python-sdk, exchange.py (schedule_cancel): at least five seconds ahead, at most ten triggers a day,
reset at 00:00 UTC. That an account without volume can neither set nor clear it is in no document (words.py).
"""

from typing import Final

from mmpi.instrument import Money, money_text
from mmpi.practice.hyperliquid.rules import Rules
from mmpi.practice.hyperliquid.words import TOO_EARLY, TOO_MANY_FIRES, VOLUME_GATE

LEAST_AHEAD_MS: Final = 5_000
DAY_MS: Final = 86_400_000


class DeadManSwitch:
    """When all orders of the account will be cancelled; times in milliseconds, `time` None while it is not set."""

    def __init__(self, rules: Rules) -> None:
        self.time: int | None = None
        self._rules = rules
        self._day = 0
        self._fires = 0

    def schedule(self, time: int | None, volume: Money, now: int) -> str:
        """Return why it cannot be set (None: cleared) by an account of that volume, or "" having done so."""
        gate = self._rules.volume_gate
        if volume < gate:
            return VOLUME_GATE.format(required=money_text(gate), traded=money_text(volume))
        if time is not None and time < now + LEAST_AHEAD_MS:
            return TOO_EARLY
        if time is not None and self.fires(now) >= self._rules.fire_cap:
            return TOO_MANY_FIRES.format(count=self.fires(now))
        self.time = time
        return ""

    def fire(self, now: int) -> bool:
        """Return whether its time has come; it is then spent and counted, whether there are orders or not."""
        if self.time is None or now < self.time:
            return False
        self.time = None
        self._fires = self.fires(now) + 1
        self._day = now // DAY_MS
        return True

    def fires(self, now: int) -> int:
        """Return how often it has fired on the UTC day of `now`."""
        return self._fires if now // DAY_MS == self._day else 0
