"""Funding: when a payment falls due, and what a position gets or pays then, from the venue's Marks alone.

Invariant: each due time is paid once, at what the last Mark before it told; what no Mark told is UNAVAILABLE and pays
nothing. It must not know owners, positions or latency.

A position in lots pays lots x price x rate, longs to shorts while the rate is above zero. The price is the mark
(Binance: nominal value = mark price x size) or the index, which Hyperliquid calls its oracle price (documentation,
"Funding": the oracle price, not the mark price, makes the notional; read 2026-11-21).
"""

from typing import Final

from mmpi.events import Mark
from mmpi.instrument import Instrument, Lots, Money, Nanos
from mmpi.sim.model import FundingPrice
from mmpi.structs import Leaf

PRICE_SCALE: Final = 10**8
"""A price counts in 10^-8 ticks: venues tell marks in at most eight decimals of the quote currency."""
RATE_SCALE: Final = 10**12
"""A rate counts in 10^-12: the finest that venues tell (Hyperliquid) has ten decimals."""
MAX_PRICE: Final = 1e15
"""Ticks; beyond 2^53 a double holds no whole tick any more."""


class Payment(Leaf, frozen=True):
    """One due payment of an instrument; `price` in float ticks."""

    instrument: str
    ts: Nanos
    price: float
    rate: float

    @property
    def name(self) -> str:
        """Return what tells this payment from all others."""
        return f"{self.instrument}-{self.ts}"

    def amount(self, instrument: Instrument, lots: Lots) -> Money:
        """Return what a position receives, rounded down: received is never too much, paid never too little."""
        notional = lots * instrument.unit * round(self.price * PRICE_SCALE)
        return -notional * round(self.rate * RATE_SCALE) // (PRICE_SCALE * RATE_SCALE)


class FundingSchedule:
    """The next payment of each instrument; `next_ts` is the earliest's time, 0 = none is known."""

    def __init__(self, price: FundingPrice) -> None:
        self.next_ts: Nanos = 0
        self._by_index = price == "index"
        self._next: dict[str, Payment] = {}
        self._last: dict[str, Nanos] = {}
        """When each instrument was paid last: a venue may go on telling a time that has passed."""

    def on_mark(self, mark: Mark) -> None:
        """Take what a Mark tells of the coming payment; one that does not tell all of it changes nothing."""
        name, price = mark.instrument, mark.index if self._by_index else mark.mark
        told = 0.0 < price < MAX_PRICE and -1.0 < mark.rate < 1.0
        if told and mark.next_ts > mark.recv_ts and mark.next_ts > self._last.get(name, 0):
            self._next[name] = Payment(name, mark.next_ts, price, mark.rate)
            self._reset()

    def due(self, now: Nanos) -> list[Payment]:
        """Return the payments due up to `now`, earliest first, and forget them."""
        payments = sorted((each for each in self._next.values() if each.ts <= now), key=_order)
        for payment in payments:
            del self._next[payment.instrument]
            self._last[payment.instrument] = payment.ts
        self._reset()
        return payments

    def _reset(self) -> None:
        self.next_ts = min((each.ts for each in self._next.values()), default=0)


def _order(payment: Payment) -> tuple[Nanos, str]:
    return payment.ts, payment.instrument
