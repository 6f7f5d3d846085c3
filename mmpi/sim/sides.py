"""Sides: one instrument at the simulated exchange: both sides of its book, and how far that book is known.

Invariant: after a gap the book is unknown until the next snapshot; what is older than the book changes nothing.
It must not know accounts, money or reports.
"""

from mmpi.events import Bbo, BookDelta, BookSnapshot, Level
from mmpi.instrument import BUY, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.sim.l3 import OrdersBook, SimEvent
from mmpi.sim.queue import BookSide, RestingOrder


class Sides:
    """Bids and asks, `known` once there is a book, `deep` from a snapshot on (not from best prices alone)."""

    def __init__(self, instrument: Instrument, power: float, exact: bool) -> None:
        self.instrument = instrument
        self.bids = BookSide(BUY, power, exact)
        self.asks = BookSide(SELL, power, exact)
        self.orders = OrdersBook() if exact else None
        self.known = False
        self.deep = False
        self.seq = 0
        self.exch_ts: Nanos = 0

    def side(self, side: Side) -> BookSide:
        """Return the side on which an order of `side` rests."""
        return self.bids if side == BUY else self.asks

    def other(self, side: Side) -> BookSide:
        """Return the side that an order of `side` takes from."""
        return self.asks if side == BUY else self.bids

    def apply(self, event: SimEvent) -> bool:
        """Return False if the message cannot be used; bring the recorded book up to date."""
        if isinstance(event, BookSnapshot):
            self.known = self.deep = True
            self.seq, self.exch_ts = event.seq, event.exch_ts
            self.bids.replace(event.bids, event.exch_ts, event.recv_ts)
            self.asks.replace(event.asks, event.exch_ts, event.recv_ts)
        elif isinstance(event, BookDelta):
            if not self.deep or (event.seq and event.seq <= self.seq):
                return False
            if event.prev_seq > self.seq:
                self.known = self.deep = False
                return False
            self.seq, self.exch_ts = event.seq, event.exch_ts
            self.bids.change(event.bids, event.exch_ts, event.recv_ts)
            self.asks.change(event.asks, event.exch_ts, event.recv_ts)
        elif isinstance(event, Bbo):
            if event.exch_ts and event.exch_ts < self.exch_ts:
                return False
            self.known = True
            self.exch_ts = event.exch_ts
            self.bids.top(event.bid, event.bid_size, self.deep, event.exch_ts, event.recv_ts)
            self.asks.top(event.ask, event.ask_size, self.deep, event.exch_ts, event.recv_ts)
        else:
            return False
        return True

    def post_only_refusal(self, side: Side, price: Ticks, owner: str) -> str:
        """Return why a post-only order cannot rest at `price`, "" if it can."""
        other = self.other(side)
        if other.levels and side * (price - other.levels[0][0]) >= 0:
            return "post only order would match immediately"
        return "post only order would cross own order" if self.own_in_the_way(side, price, owner) else ""

    def own_in_the_way(self, side: Side, price: Ticks, owner: str) -> list[RestingOrder]:
        """Return the owner's resting orders that an order of theirs at `price` would meet, in that order."""
        met: list[RestingOrder] = []
        for resting in self.other(side).orders:
            if side * (price - resting.price) < 0:
                break
            if resting.owner == owner:
                met.append(resting)
        return met

    def published(self, depth: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return (bids, asks): the recorded book less what our orders took, with all resting orders merged in."""
        return _merged(self.bids, depth), _merged(self.asks, depth)


def _merged(side: BookSide, depth: int) -> tuple[Level, ...]:
    sizes: dict[Ticks, Lots] = {level[0]: side.available(level) for level in side.levels}
    for order in side.orders:
        sizes[order.price] = sizes.get(order.price, 0) + order.left
    prices = sorted((price for price, size in sizes.items() if size > 0), reverse=side.side == BUY)
    return tuple((price, sizes[price]) for price in prices[:depth])
