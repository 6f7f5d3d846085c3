"""Others: the market as it would be without our own orders, for a venue whose book shows them.

Invariant: a level keeps what our orders at its price leave of it, and one of which nothing is left is not there.
It must not know orders' states, strategies or whether a venue's book shows us.
"""

from typing import Final, TypeAlias

import msgspec

from mmpi.book import OrderBook
from mmpi.events import Level
from mmpi.instrument import BUY, SELL, Lots, Side, Ticks
from mmpi.ports import MarketView
from mmpi.signals.weighted_mid import weighted_mid
from mmpi.structs import Leaf

Own: TypeAlias = tuple[tuple[Level, ...], tuple[Level, ...]]
"""Our bids and asks, one level a price."""
NONE: Final[Own] = ((), ())


class Others(Leaf, frozen=True):
    """Everybody else's orders."""

    bids: "tuple[Level, ...]" = ()
    asks: "tuple[Level, ...]" = ()
    best_bid: "Level" = (0, 0)
    best_ask: "Level" = (0, 0)

    @property
    def mid2(self) -> int:
        """Return twice the mid; 0 where it is not valid, as the book's own."""
        bid, ask = self.best_bid[0], self.best_ask[0]
        return bid + ask if 0 < bid <= ask else 0

    def seen(self, view: MarketView) -> MarketView:
        """Return a view with these levels, touch and weighted mid in it."""
        (bid, bid_size), (ask, ask_size) = self.best_bid, self.best_ask
        fair = weighted_mid(bid, bid_size, ask, ask_size) if self.mid2 else view.mid
        return msgspec.structs.replace(
            view, bids=self.bids, asks=self.asks, best_bid=bid, best_ask=ask, weighted_mid=fair
        )


NOBODY: Final = Others()


def others(book: OrderBook, own: Own) -> Others:
    """Return the book without our own orders."""
    bids, asks = without(book.bids, own[0]), without(book.asks, own[1])
    return Others(
        bids,
        asks,
        _touch(BUY, (book.best_bid, book.best_bid_size), bids, own[0]),
        _touch(SELL, (book.best_ask, book.best_ask_size), asks, own[1]),
    )


def without(levels: "tuple[Level, ...]", own: "tuple[Level, ...]") -> "tuple[Level, ...]":
    """Return one side's levels, best first, without our own orders there."""
    if not own:
        return levels
    sizes = dict(own)
    kept: list[Level] = []
    for price, size in levels:
        left = size - sizes.get(price, 0)
        if left > 0:
            kept.append((price, left))
    return tuple(kept)


def _touch(side: Side, best: Level, levels: "tuple[Level, ...]", own: "tuple[Level, ...]") -> Level:
    """Return the best price and size; after a Bbo the touch need not be the first of the levels."""
    price, size = best
    left: Lots = size - dict(own).get(price, 0)
    if left > 0:
        return price, left
    worse: Ticks = side * price
    for level in levels:
        if side * level[0] < worse:
            return level
    return (0, 0)
