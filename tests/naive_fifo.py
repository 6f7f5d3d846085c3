"""A matching engine of plain lists, as slow and as simple as can be: the yardstick of queues and their data."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mmpi.instrument import BUY, SELL, Lots, Side, Ticks
from mmpi.sim.l3 import ADD, EXECUTE, REDUCE


@dataclass
class Resting:
    """One order in the list of its side."""

    order_id: int
    side: Side
    price: Ticks
    left: Lots


@dataclass
class NaiveFifo:
    """Price-time priority; `told` is the feed: (action, order id, side, price, size) of everything but `hidden` ids."""

    hidden: frozenset[int] = frozenset()
    orders: list[Resting] = field(default_factory=list)
    told: list[tuple[int, int, Side, Ticks, Lots]] = field(default_factory=list)
    filled: dict[int, Lots] = field(default_factory=dict)

    def add(self, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        """Match a limit order, then let its rest join the back of its queue."""
        for maker in self._makers(side, price):
            traded = min(size, maker.left)
            if traded == 0:
                break
            size -= traded
            maker.left -= traded
            self.filled[maker.order_id] = self.filled.get(maker.order_id, 0) + traded
            self.filled[order_id] = self.filled.get(order_id, 0) + traded
            self._tell(EXECUTE, maker, traded)
        self.orders = [order for order in self.orders if order.left]
        if size:
            self.orders.append(Resting(order_id, side, price, size))
            self._tell(ADD, self.orders[-1], size)

    def reduce(self, order_id: int, left: Lots) -> None:
        """Cut an order to `left`; nothing if it is gone or smaller already."""
        for order in self.orders:
            if order.order_id == order_id and left < order.left:
                order.left = left
                self._tell(REDUCE, order, left)
        self.orders = [order for order in self.orders if order.left]

    def size(self, side: Side, price: Ticks) -> Lots:
        """Return the size of a level."""
        return sum(order.left for order in self.orders if (order.side, order.price) == (side, price))

    def ahead(self, order_id: int) -> Lots:
        """Return what stands before an order at its price."""
        (place,) = [i for i, order in enumerate(self.orders) if order.order_id == order_id]
        own = self.orders[place]
        return sum(o.left for o in self.orders[:place] if (o.side, o.price) == (own.side, own.price))

    def _makers(self, side: Side, price: Ticks) -> Iterator[Resting]:
        opposite = [o for o in self.orders if o.side != side and side * (price - o.price) >= 0]
        return iter(sorted(opposite, key=lambda o: side * o.price))

    def _tell(self, action: int, order: Resting, size: Lots) -> None:
        if order.order_id not in self.hidden:
            self.told.append((action, order.order_id, order.side, order.price, size))


SIDES: tuple[Side, Side] = (BUY, SELL)
