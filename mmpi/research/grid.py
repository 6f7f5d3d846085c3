"""Grid: recorded decimal numbers to integer ticks and lots, and the tally of all that did not fit.

Invariant: whatever is rounded or left out is counted in `Tally`, so that no data set is repaired in silence.
It must not know files or their formats.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from mmpi.events import Level
from mmpi.instrument import BUY, GRID_GUARD, SECOND, Instrument, Lots, Nanos, Side, Ticks

LOT_GUARD = 1e-6
"""Lots of float error that flooring forgives, beside `FLOAT_ERROR`."""
FLOAT_ERROR = 1e-15
"""Relative error of a decimal read as a double and scaled once: two roundings of 2^-53 each, with room to spare."""
EXACT = 2.0**53
"""Above this a double holds no integer exactly; such a number is no price and no size."""
LATEST: Final[Nanos] = 2**63 - 86_400 * SECOND
"""The end of signed 64-bit nanoseconds, which journals count in, less a day for what follows the data."""


class Tally(msgspec.Struct):
    """How far the reading is, and what could not be taken as it was recorded."""

    done: int = 0
    """Progress, in the unit of `Dataset.total`."""
    off_tick: int = 0
    """Prices between two ticks: bids and buyer's trades moved down, asks and seller's trades up."""
    off_lot: int = 0
    """Sizes between two lots, moved down."""
    missing_levels: int = 0
    """Book levels recorded as NaN, or as numbers that are no price and size."""
    empty_levels: int = 0
    """Book levels of less than one lot, left out."""
    empty_trades: int = 0
    """Trades of less than one lot, or without a usable price, left out."""
    non_market_trades: int = 0
    """Trades of side X (insurance fund and the like), left out."""
    backlog_trades: int = 0
    """Trades older than the first book by exchange time, left out: no book was there to trade against."""
    missing_marks: int = 0
    """Mark prices, index prices and funding rates that a message did not tell, or not as a usable number."""
    ignored: int = 0
    """Messages of other channels and other coins."""
    out_of_order: int = 0
    """Order messages that came after the order's deletion, or of a second creation, left out."""
    unknown_orders: int = 0
    """Messages of orders older than the recording."""
    older_levels: int = 0
    """Levels with size older than the recording, learnt from recorded snapshots and messages."""
    lost_orders: int = 0
    """Orders whose end was not recorded: taken away since others went through them."""
    unmatched_trades: int = 0
    """Recorded trades that no order message explains, left out."""


def price_ticks(price: float, instrument: Instrument, side: Side, tally: Tally) -> Ticks:
    """Return the price in ticks, a buy side's rounded down and a sell side's up if it lies between two."""
    scaled = price * instrument.ticks_per_quote
    nearest = round(scaled)
    if abs(scaled - nearest) <= GRID_GUARD + scaled * FLOAT_ERROR:
        return nearest
    tally.off_tick += 1
    return int(scaled) if side == BUY else int(scaled) + 1


def size_lots(size: float, instrument: Instrument, tally: Tally) -> Lots:
    """Return the size in lots, rounded down if it lies between two."""
    scaled = size * instrument.lots_per_base
    nearest = round(scaled)
    if abs(scaled - nearest) <= LOT_GUARD + scaled * FLOAT_ERROR:
        return nearest
    tally.off_lot += 1
    return int(scaled)


def usable(price: float, size: float, instrument: Instrument) -> bool:
    """Return whether both are finite, positive, and small enough to be exact integers."""
    return 0 < price * instrument.ticks_per_quote < EXACT and 0 < size * instrument.lots_per_base < EXACT


def merge_levels(levels: Iterable[Level]) -> tuple[Level, ...]:
    """Return the levels without empty ones, neighbours that rounding put on one tick added together."""
    merged: list[Level] = []
    for price, size in levels:
        if size <= 0:
            continue
        if merged and merged[-1][0] == price:
            size += merged.pop()[1]
        merged.append((price, size))
    return tuple(merged)
