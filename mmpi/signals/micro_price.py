"""Micro-price: the mid that the touch leads one to expect, from a table fitted beforehand.

Invariant: a mirrored touch gives the mirrored price, and sizes in another unit the same one. It must not know how the
table was fitted (mmpi.research.fit_micro_price does that), nor deeper levels.

Source: S. Stoikov, "The micro-price: a high-frequency estimator of future prices", Quantitative Finance 18 (2018).
"""

from typing import Final

from mmpi.instrument import Lots, Ticks
from mmpi.structs import Leaf


class MicroPriceTable(Leaf, frozen=True):
    """What to add to the mid, in ticks, by spread (rows) and imbalance (columns, all asks to all bids)."""

    buckets: int
    """Columns: equal parts of bid size / (bid size + ask size), two or more. Each row is antisymmetric."""
    max_spread: int
    """Rows: the spread in steps, 1 first; the last holds for wider ones too."""
    adjust: "tuple[tuple[float, ...], ...]"
    step: Ticks = 1
    """The venue's price increment when it was fitted, in ticks."""


def micro_price(bid: Ticks, bid_size: Lots, ask: Ticks, ask_size: Lots, table: MicroPriceTable) -> float:
    """Return the micro-price in float ticks; both sizes must be positive. Of a locked touch it is the mid.

    A bucket's number holds at its middle and is interpolated between two, so that the price does not jump when a size
    crosses a bucket's edge. It is not confined to the spread. Spreads wider than the table's take its last row as it
    is: on the recorded sets the expected move does not grow with the spread, and scaling it does worse than the mid.
    """
    mid = (bid + ask) * 0.5
    spread = ask - bid
    if spread <= 0:
        return mid
    step = table.step
    steps = (spread + (step >> 1)) // step
    last_row = table.max_spread
    row = table.adjust[(steps if steps < last_row else last_row) - 1 if steps > 1 else 0]
    tilt = (bid_size - ask_size) / (bid_size + ask_size)
    # Only the upper half of a row is looked at, so that the mirrored touch gives the same number to the last bit.
    last = table.buckets - 1
    at = (abs(tilt) * table.buckets + last) * 0.5
    if at >= last:
        adjust = row[last]
    else:
        low = int(at)
        below = row[low]
        adjust = below + (at - low) * (row[low + 1] - below)
    return mid + adjust if tilt > 0.0 else mid - adjust


# Said to be of any length, because mypyc loses a constant whose type is a tuple of six floats.
_BTC: Final[tuple[float, ...]] = (-83.5962, -36.4502, -9.1826, 9.1826, 36.4502, 83.5962)
_SOL: Final[tuple[float, ...]] = (-298.0887, -89.4645, -35.7524, 35.7524, 89.4645, 298.0887)
_NEXO: Final[tuple[float, ...]] = (-0.2496, -0.1419, -0.008, 0.008, 0.1419, 0.2496)

FITTED: Final[dict[str, MicroPriceTable]] = {
    "BTC": MicroPriceTable(buckets=6, max_spread=1, adjust=(_BTC,), step=10),
    "SOL": MicroPriceTable(buckets=6, max_spread=1, adjust=(_SOL,), step=100),
    "NEXOUSDT": MicroPriceTable(buckets=6, max_spread=1, adjust=(_NEXO,)),
}
"""Fitted on 2026-11-21 with `mmpi calibrate micro_price --data SET`: Hyperliquid's perpetuals on the sets
hyperliquid_btc_20250904 and hyperliquid_sol_20250904 (35 minutes each), Binance's spot market on
binance_spot_nexousdt_20240723 (20 minutes). Wider spreads were too rare in them for rows of their own.

Such a number is what the mid comes to in the end, half a minute or so later; over a second or two the mid itself is
nearer. What a quoter earns on the set that its table was fitted on is no evidence."""


def table_for(name: str) -> MicroPriceTable | None:
    """Return the shipped table of an instrument by its listed name, such as "BTC", or None: no table, no micro-price.

    The name is the only key: another venue's instrument of the same name is another market, and needs its own fit.
    """
    return FITTED.get(name)
