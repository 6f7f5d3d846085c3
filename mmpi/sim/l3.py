"""L3: the recorded orders one by one, each at its place in the queue, and who of ours a message reaches.

Invariant: within a price the earlier order is ahead; a cut keeps the place, a newcomer takes the last one; nothing is
filled that a recorded execution or newcomer does not prove. It must not know our orders, money or feeds.

The order of arrival (`rank`) says all that a queue needs: what has a smaller rank at one price is ahead. Orders older
than the recording are unknown until a message names them; they were there first, so they are ahead of everyone. A fill
is not derived from what is known to be ahead: it needs an execution of an order *behind* ours, an execution at a worse
price, or a newcomer that would have met ours. Orders that are not known can therefore delay no conclusion.
"""

from typing import Final, TypeAlias

from mmpi.errors import LocalError
from mmpi.events import MarketEvent
from mmpi.instrument import BUY, Lots, Nanos, Side, Ticks
from mmpi.structs import Leaf

ADD: Final = 1
"""A new order joins the back of its queue; `size` is its size. An id below 0 is what was there before the recording."""
REDUCE: Final = 2
"""Cancelled down to `size`, 0 = altogether."""
EXECUTE: Final = 3
"""A resting order was hit for `size`."""
MAX_ORDERS: Final = 1_000_000
"""Recorded orders held: ten times what a busy venue's book of one instrument has."""


class OrderUpdate(Leaf, frozen=True):
    """What a venue's order-by-order feed says of one resting order. The simulated exchange alone sees it."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    order_id: int
    side: "Side"
    price: Ticks
    size: Lots
    action: int


SimEvent: TypeAlias = MarketEvent | OrderUpdate
"""What the simulated exchange can be fed with; all but OrderUpdate goes to the engine as well."""


class Change(Leaf, frozen=True):
    """What an update did: to an order of that rank (0 = older than the recording), and the level's size after it."""

    rank: int
    left: Lots
    """How much left the queue."""
    total: Lots


class OrdersBook:
    """Both sides of one instrument, order by order."""

    def __init__(self) -> None:
        self.arrivals = 0
        self._orders: dict[int, tuple[Side, Ticks, Lots, int]] = {}
        self._bids: dict[Ticks, Lots] = {}
        self._asks: dict[Ticks, Lots] = {}

    def size(self, side: Side, price: Ticks) -> Lots:
        """Return the recorded size at a price."""
        return (self._bids if side == BUY else self._asks).get(price, 0)

    def levels(self, side: Side) -> dict[Ticks, Lots]:
        """Return price -> size of one side, in no order; the caller changes nothing."""
        return self._bids if side == BUY else self._asks

    def apply(self, update: OrderUpdate) -> Change:
        """Take one update and return what it changed; of an unknown order, nothing but its being the first in line."""
        known = self._orders.pop(update.order_id, None)
        if update.action == ADD:
            if known is not None:
                self._resize(known[0], known[1], -known[2])
            return self._add(update)
        if known is None:
            return Change(0, 0, self.size(update.side, update.price))
        side, price, size, rank = known
        left = min(size, update.size if update.action == EXECUTE else max(0, size - update.size))
        if size > left:
            self._orders[update.order_id] = (side, price, size - left, rank)
        return Change(rank, left, self._resize(side, price, -left))

    def _add(self, update: OrderUpdate) -> Change:
        if len(self._orders) >= MAX_ORDERS:
            raise LocalError(f"more than {MAX_ORDERS} recorded orders of {update.instrument}")
        if update.order_id < 0:
            rank = 0
        else:
            self.arrivals += 1
            rank = self.arrivals
        self._orders[update.order_id] = (update.side, update.price, update.size, rank)
        return Change(rank, 0, self._resize(update.side, update.price, update.size))

    def _resize(self, side: Side, price: Ticks, change: Lots) -> Lots:
        sizes = self._bids if side == BUY else self._asks
        total = sizes.get(price, 0) + change
        if total > 0:
            sizes[price] = total
        else:
            sizes.pop(price, None)
        return max(0, total)


def reaches(update: OrderUpdate, rank: int, side: Side, price: Ticks, joined: int) -> bool:
    """Return whether an order of ours, which joined after `joined` arrivals, would have been hit before that happened.

    By an execution of a recorded order (of `rank`) that stands behind it, or by a newcomer that would have met it.
    """
    if update.action == EXECUTE:
        better = side * (price - update.price)
        return side == update.side and (better > 0 or (better == 0 and joined < rank))
    met = update.action == ADD and update.order_id >= 0 and side != update.side
    return met and side * (price - update.price) >= 0
