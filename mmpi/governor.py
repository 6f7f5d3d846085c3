"""Governor: lives within the venue's request limits, and tells what requests are spent on.

Two limits count. The address budget: so many requests in all, more with volume; as it is spent, orders are left where
they are for longer and further from their targets, and its last part is kept for cancels. The weight a minute of this
network address: a bucket that refills; what is sent beside new orders is only ever charged to it.

Invariant: a cancel, a question or a refresh of the dead-man switch is never held back here.
It must not know wires or prices.

Source: Hyperliquid documentation, "Rate limits and user limits" (read 2026-11-28).
"""

from typing import Final

from mmpi.events import Budget
from mmpi.instrument import MONEY_SCALE, SECOND, Money, Nanos
from mmpi.structs import Config, State

STEPS: Final = 4
"""Tolerance and interval grow to 2**STEPS times what the quoter asks for."""
ASK_EVERY: Final[Nanos] = 600 * SECOND
ASK_AFTER: Final = 1000
"""Requests of ours after which the venue is asked for its own count."""
BACK_OFF: Final[Nanos] = 10 * SECOND
"""Between requests once the venue refuses for their number: it then takes one every ten seconds."""
BATCH: Final = 40
"""An action weighs 1, and 1 more for every so many orders in it."""
LIGHT: Final = 2
"""Weight of a question about one order, a book or the positions."""
HEAVY: Final = 20
"""Weight of most other questions."""
RECONCILE: Final = 2 * HEAVY + LIGHT
"""Weight of one reconciliation: open orders, fills, and the positions."""
_MINUTE: Final[Nanos] = 60 * SECOND


class GovernorConfig(Config, frozen=True):
    """How to spend what the venue allows."""

    weight_per_minute: int = 1000
    """Of the 1200 that the venue allows one network address; the guardian has the rest. 0 = do not count."""
    budget_low: int = 5000
    """Requests left below which tolerance and interval double; at a half again, and so on. At most half of all."""
    budget_reserve: int = 500
    """Requests left from which on nothing new is placed but what reduces the position. At most a twentieth of all."""


class GovernorState(State, frozen=True):
    """A Governor as plain values."""

    counts: "tuple[int, int, int, int, int]"
    money: Money
    weight: "tuple[int, Nanos]"
    times: "tuple[Nanos, Nanos]"


class Governor:
    """Counts the requests of one account."""

    def __init__(self, config: GovernorConfig) -> None:
        self.config = config
        self.used = 0
        """By the venue's last word, and ours since; 0 with `cap` 0 = not told yet."""
        self.cap = 0
        self.requests = 0
        """Of this run: orders, amends, cancels, refreshes of the dead-man switch."""
        self.quotes = 0
        """Of these, orders and amends."""
        self.traded: Money = 0
        """What our fills of this run were worth; each whole unit of the quote currency is one more request."""
        self._low = config.budget_low
        self.reserve = config.budget_reserve
        """Requests left from which on only what reduces is placed."""
        self._since = 0
        """Requests since the venue's last word."""
        self._full = config.weight_per_minute * SECOND
        """A minute's worth, in units of which one nanosecond brings `weight_per_minute` / 60."""
        self._weight = self._full
        self._weight_ts: Nanos = 0
        self._asked: Nanos = 0
        self._limited_until: Nanos = 0

    @property
    def left(self) -> int:
        """Return how many requests are left; without the venue's word, as many as do no harm."""
        return self.cap - self.used if self.cap else max(self._low, self.reserve + 1)

    @property
    def step(self) -> int:
        """Return how much to thin out: tolerance and interval times 2**step, 0 <= step <= STEPS."""
        left, bound, step = self.left, self._low, 0
        while step < STEPS and left < bound:
            bound //= 2
            step += 1
        return step

    def may_place(self, now: Nanos, reducing: bool) -> str:
        """Return "" if an order may be sent, else what is spent: budget or weight."""
        if now < self._limited_until or self.left <= (0 if reducing else self.reserve):
            return "budget"
        if self._full:
            self._refill(now)
            if self._weight <= 0:
                return "weight"
        return ""

    def sent(self, places: int, amends: int, cancels: int, now: Nanos) -> None:
        """Count an event's orders, its amends, and its cancels: one action each."""
        self.quotes += places + amends
        weight = sum([1 + number // BATCH for number in (places, amends, cancels) if number])
        self.spend(places + amends + cancels, weight, now)

    def spend(self, requests: int, weight: int, now: Nanos) -> None:
        """Count requests of the budget, and what they weigh; a question costs weight alone."""
        self.requests += requests
        self._since += requests
        if self.cap:
            self.used += requests
        if self._full and weight:
            self._refill(now)
            # No more than a minute's worth is owed, or a long reconnection would mute us for longer than the venue.
            self._weight = max(self._weight - weight * SECOND, -self._full)

    def traded_for(self, notional: Money) -> None:
        """Count a fill."""
        before = self.traded // MONEY_SCALE
        self.traded += notional
        if self.cap:
            self.cap += self.traded // MONEY_SCALE - before

    def wants_word(self, now: Nanos) -> bool:
        """Return True, once, when the venue is to be asked for its count."""
        if now < self.next_word():
            return False
        self._asked = now
        return True

    def next_word(self) -> Nanos:
        """Return when the venue is next to be asked: at once in the beginning, soon without an answer."""
        if not self._asked:
            return 1
        soon = not self.cap or self._since >= ASK_AFTER
        return self._asked + (BACK_OFF if soon else ASK_EVERY)

    def told(self, budget: Budget) -> None:
        """Take the venue's word."""
        self.used, self.cap, self._since = budget.used, budget.cap, 0
        self._scale()

    def limited(self, now: Nanos) -> None:
        """Take a refusal for the number of requests: place nothing for a while, and soon ask for the count anew."""
        self._limited_until = now + BACK_OFF
        self._since = max(self._since, ASK_AFTER)

    def checkpoint(self) -> GovernorState:
        """Return the state as plain values."""
        return GovernorState(
            (self.used, self.cap, self.requests, self.quotes, self._since),
            self.traded,
            (self._weight, self._weight_ts),
            (self._asked, self._limited_until),
        )

    def restore(self, state: GovernorState) -> None:
        """Take the state that `checkpoint` returned."""
        self.used, self.cap, self.requests, self.quotes, self._since = state.counts
        self.traded = state.money
        self._weight, self._weight_ts = state.weight
        self._asked, self._limited_until = state.times
        self._scale()

    def _scale(self) -> None:
        """Keep the two marks in proportion where the whole budget is small."""
        low, reserve = self.config.budget_low, self.config.budget_reserve
        self._low = min(low, self.cap // 2) if self.cap else low
        self.reserve = min(reserve, self.cap // 20) if self.cap else reserve

    def _refill(self, now: Nanos) -> None:
        if self._weight_ts:
            gained = max(now - self._weight_ts, 0) * self.config.weight_per_minute * SECOND // _MINUTE
            self._weight = min(self._full, self._weight + gained)
        self._weight_ts = max(self._weight_ts, now)
