"""Fills: our own executions of one instrument, what the market did after each, and the round trips they made.

Invariant: every sum is over all fills; only the list that plots are drawn from is bounded, thinned evenly where it is
too long. It must not know equity, limits or reports.

Markout of a fill, in basis points of its price (source text 001, section 1.3): BUY (mid - price) / price, SELL
(price - mid) / price; > 0 is in our favour, and the sign is kept, per side and horizon. The mid is that of the first
book at or after the horizon. Time starts when the report of the fill arrives, as it does live.
"""

from array import array
from collections import deque
from typing import Final

from mmpi.instrument import BUY, SECOND, Instrument, Lots, Money, Nanos, Side, Ticks
from mmpi.structs import Leaf

HORIZONS_S: Final = (1, 5, 30, 60)
"""Seconds after a fill, as the issue asks."""
MAX_KEPT: Final = 200_000
"""Fills that are listed: about 20 MB."""


class Fill(Leaf, frozen=True):
    """One execution; `number` counts from 0, `mid2` is twice the mid at that moment."""

    number: int
    ts: Nanos
    side: Side
    price: Ticks
    size: Lots
    fee: Money
    mid2: int


class MarkoutSum:
    """Of one side and horizon."""

    __slots__ = ("adverse", "bps", "fills", "late", "notional", "worth")

    def __init__(self) -> None:
        self.fills = 0
        """Fills whose horizon the data reached."""
        self.late = 0
        """Of these, mids that came later than the horizon's length after they were due: holes in the data."""
        self.bps = 0.0
        self.worth: Money = 0
        """The same in money: size times what the later mid is better than the fill's price."""
        self.adverse: Money = 0
        """Size times the mid's move since the fill, < 0 against us: a part of the inventory term, never to be added."""
        self.notional: Money = 0


class FillLog:
    """One instrument's fills: sums over all of them, and columns of at most `keep`."""

    def __init__(self, instrument: Instrument, keep: int = MAX_KEPT) -> None:
        self.instrument = instrument
        self.stride = 1
        """Every so many fills one is listed."""
        self.counts = {1: 0, -1: 0}
        self.ts, self.price, self.size, self.mid2 = (array("q") for _ in range(4))
        self.side = array("b")
        self.fee: list[Money] = []
        self.markouts = tuple(array("d") for _ in HORIZONS_S)
        """One column a horizon, basis points; NaN = the data ended first."""
        self.sums = {(horizon, side): MarkoutSum() for horizon in HORIZONS_S for side in (1, -1)}
        self._keep = keep
        self._pending: tuple[deque[Fill], ...] = tuple(deque() for _ in HORIZONS_S)

    @property
    def number(self) -> int:
        """Return how many fills there were."""
        return self.counts[1] + self.counts[-1]

    def add(self, ts: Nanos, side: Side, price: Ticks, size: Lots, fee: Money, mid2: int) -> None:
        """Take a fill."""
        fill = Fill(self.number, ts, side, price, size, fee, mid2)
        self.counts[side] += 1
        for queue in self._pending:
            queue.append(fill)
        if fill.number % self.stride:
            return
        self.ts.append(ts)
        self.side.append(side)
        self.price.append(price)
        self.size.append(size)
        self.fee.append(fee)
        self.mid2.append(mid2)
        for column in self.markouts:
            column.append(float("nan"))
        if len(self.ts) > self._keep:
            self._thin()

    def on_mid(self, now: Nanos, mid2: int) -> None:
        """Take the valid mid of a book at `now`: the markout of every fill whose horizon it has reached."""
        for index, queue in enumerate(self._pending):
            horizon: Nanos = HORIZONS_S[index] * SECOND
            while queue and queue[0].ts + horizon <= now:
                self._mark(index, queue.popleft(), now, mid2)

    def _mark(self, index: int, fill: Fill, now: Nanos, mid2: int) -> None:
        seconds = HORIZONS_S[index]
        bps = fill.side * (mid2 - 2 * fill.price) * 5_000 / fill.price
        total, half = self.sums[seconds, fill.side], self.instrument.unit // 2
        total.fills += 1
        total.late += now - fill.ts > 2 * seconds * SECOND
        total.bps += bps
        total.worth += fill.side * fill.size * (mid2 - 2 * fill.price) * half
        total.adverse += fill.side * fill.size * (mid2 - fill.mid2) * half
        total.notional += self.instrument.notional(fill.price, fill.size)
        if fill.number % self.stride == 0:
            self.markouts[index][fill.number // self.stride] = bps

    def _thin(self) -> None:
        """List every second fill of those listed so far."""
        self.stride *= 2
        for whole in (self.ts, self.side, self.price, self.size, self.mid2):
            whole[:] = whole[::2]
        for column in self.markouts:
            column[:] = column[::2]
        self.fee = self.fee[::2]


class RoundTrips:
    """Profit of each fill that reduced the position, at average entry, after the fees of both ends.

    Entry fees are spread over the lots they opened, as the entry price is; what is still open keeps its share.
    """

    __slots__ = ("gained", "lost", "losses", "open_fees", "trips", "wins")

    def __init__(self) -> None:
        self.trips = 0
        self.wins = 0
        self.losses = 0
        self.gained: Money = 0
        self.lost: Money = 0
        """> 0."""
        self.open_fees: Money = 0
        """Fees paid on the lots that are still open."""

    def book(self, before: Lots, side: Side, size: Lots, realised: Money, fee: Money) -> None:
        """Take a fill: the position before it, and the profit that it realised before fees."""
        held = abs(before)
        closed = min(held, size) if before * side < 0 else 0
        if closed == 0:
            self.open_fees += fee
            return
        entry, leaving = self.open_fees * closed // held, fee * closed // size
        self.open_fees += fee - leaving - entry
        profit = realised - entry - leaving
        self.trips += 1
        if profit > 0:
            self.wins += 1
            self.gained += profit
        elif profit < 0:
            self.losses += 1
            self.lost -= profit


def side_name(side: int) -> str:
    """Return buy or sell."""
    return "buy" if side == BUY else "sell"
