"""Waiting times: how long orders at each depth would have waited for a taker, from a recording's books and trades.

Invariant: an imagined order is placed at a mid that was known by then, and seen no longer than the holding time; memory
does not grow with the recording. It must not know what is fitted to the counts.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mmpi.book import OrderBook
from mmpi.events import Bbo, BookDelta, BookSnapshot, MarketEvent, Trade
from mmpi.instrument import SECOND, SELL, Instrument, Nanos, Side, Ticks
from mmpi.research.fit_micro_price import HOLE

Ints: TypeAlias = npt.NDArray[np.int64]

DEEPEST_BPS: Final = 100.0
"""The default `max_depth_bps` of glft: nothing is quoted beyond."""
FINEST_BPS: Final = 0.05
"""Width of a bin of depths, at least: a tenth of avellaneda_stoikov's default `min_half_spread_bps`."""
LEAST_BINS: Final = 20
"""Where a step of the price is so large that DEEPEST_BPS holds few."""
BLOCK: Final[Nanos] = 10 * SECOND
"""First length of the stretches, doubled whenever there are twice MOST_BLOCKS of them."""
MOST_BLOCKS: Final = 20


class Waiting:
    """The waiting times of the imagined orders, event by event; memory does not grow.

    Depths are counted in bins of `width` half ticks, bin b standing for the depth b * width: a mid has half ticks, and
    so every depth is exact. Row 0 of each array is the bids', row 1 the asks'.
    """

    def __init__(self, instrument: Instrument, hold: Nanos) -> None:
        self.events = 0
        self.sweeps = 0
        self.width = 0
        """0 = no mid yet."""
        self.narrow = True
        """A bin is half a step of the price, no more."""
        self.spreads: list[int] = []
        """Instants by the bin of their half spread."""
        self.instants = 0
        self.mid2_sum = 0
        self.spread_sum = 0
        self.waited: Nanos = 0
        self.blocks: list[Ints] = []
        """Of each stretch: hits and nanoseconds, by side, by bin."""
        self._instrument = instrument
        self._hold = hold
        self._book = OrderBook(instrument.name)
        self._book_ts: Nanos = 0
        self._book_exch: Nanos = 0
        self._seen: Nanos = 0
        self._start: Nanos = -1
        """The instant of the imagined orders; -1 = there are none."""
        self._mid2 = 0
        self._mid_exch: Nanos = 0
        self._reached = [0, 0]
        """Bins that were hit since the instant."""
        self._sweep: list[tuple[Nanos, Nanos]] = [(-1, -1), (-1, -1)]
        """Time of the last sweep, and the instant it came after."""
        self._block = BLOCK
        self._in_block: Nanos = 0
        self._counts: list[list[list[int]]] = []
        """This stretch's hits and nanoseconds, by side, as differences from bin to bin."""

    def take(self, event: MarketEvent) -> None:
        """Take the next event; one of another instrument is no event here."""
        if event.instrument != self._instrument.name:
            return
        ts = event.recv_ts
        self.events += 1
        if self._start >= 0:
            self._advance(ts)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, BookSnapshot | BookDelta | Bbo):
            self._book.apply(event)
            self._book_ts, self._book_exch = ts, event.exch_ts
            if self._start < 0 and self._book.mid2:
                self._place(ts)
        self._seen = ts

    def finish(self) -> None:
        """End with the last event: orders that still wait have waited until then."""
        if self._start >= 0:
            self._close(self._seen - self._start)
            self._start = -1
        if self._in_block:
            self._end_block()

    def _advance(self, now: Nanos) -> None:
        """End the orders whose time is over, and place those of the instants since."""
        start, hold = self._start, self._hold
        if now - self._book_ts > HOLE:
            self._close(self._seen - start)
            self._start = -1
            return
        passed = (now - start) // hold
        if not passed:
            return
        self._close(hold)
        self._start = -1
        if self._book.mid2:
            self._place(start + passed * hold, passed - 1)

    def _place(self, instant: Nanos, quiet: int = 0) -> None:
        """Start at an instant, after so many at which the book was the same and nothing came."""
        book = self._book
        if not self.width:
            self._choose_bins(book.mid2)
        self._reached = [0, 0]
        self._close(quiet * self._hold)
        if self._in_block >= self._block:
            self._end_block()
        self._start, self._mid2, self._mid_exch = instant, book.mid2, self._book_exch
        spread = book.best_ask - book.best_bid  # in ticks, which is half of it in half ticks
        self.instants += quiet + 1
        self.mid2_sum += (quiet + 1) * book.mid2
        self.spread_sum += (quiet + 1) * spread
        self.spreads[min(spread // self.width, len(self.spreads) - 1)] += quiet + 1

    def _trade(self, trade: Trade) -> None:
        row = 0 if trade.side == SELL else 1
        when = trade.exch_ts or trade.recv_ts
        if self._sweep[row][0] != when:
            self._sweep[row] = (when, self._start)
            self.sweeps += 1
        # What began before the instant, or was executed before the book of the mid, could not fill an order of then.
        if self._start < 0 or self._sweep[row][1] != self._start or 0 < trade.exch_ts < self._mid_exch:
            return
        beyond = depth2(self._mid2, trade.side, trade.price)
        reached = min(beyond // self.width + 1, len(self.spreads)) if beyond >= 0 else 0
        before = self._reached[row]
        if reached > before:
            hits, nanos = self._counts[0][row], self._counts[1][row]
            waited = trade.recv_ts - self._start
            hits[before] += 1
            hits[reached] -= 1
            nanos[before] += waited
            nanos[reached] -= waited
            self._reached[row] = reached

    def _close(self, waited: Nanos) -> None:
        """Add the time of the orders that were not hit."""
        for row in (0, 1):
            self._counts[1][row][self._reached[row]] += waited
        self._in_block += waited
        self.waited += waited

    def _choose_bins(self, mid2: int) -> None:
        step: Ticks = self._instrument.step_at(mid2 // 2)
        bp2 = mid2 * 1e-4  # a basis point, in half ticks
        self.width = step * max(1, round(FINEST_BPS * bp2 / step))  # the narrowest is half a step
        self.narrow = self.width == step
        self.spreads = [0] * max(LEAST_BINS, int(DEEPEST_BPS * bp2) // self.width + 1)
        self._counts = self._zeros()

    def _zeros(self) -> list[list[list[int]]]:
        return [[[0] * (len(self.spreads) + 1) for _ in range(2)] for _ in range(2)]

    def _end_block(self) -> None:
        self.blocks.append(np.cumsum(np.array(self._counts, dtype=np.int64), axis=2)[:, :, :-1])
        self._counts, self._in_block = self._zeros(), 0
        if len(self.blocks) == 2 * MOST_BLOCKS:
            self.blocks = [first + second for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True)]
            self._block *= 2


def depth2(mid2: int, side: Side, price: Ticks) -> int:
    """Return how far a taker of that side came beyond the mid, in half ticks; below 0 = not to the mid."""
    return side * (2 * price - mid2)
