"""Bitstamp's order messages, turned into what each did to the book: added, cut, executed.

Invariant: an order that would cross the book is not in it until all it meets is gone, so the book is never crossed by
an order on its way through; what cannot be understood is counted, never guessed. It must not know files or their forms.

The feed tells three things of an order: created, changed, deleted, each with the size that is left of it then. The
rules, after the description of these recordings in the documents of the R package ob-analytics (phil8192; "event
matching" and "order types": a fill is a decrease of volume, and pairs of equal ones on both sides make a trade):

- `changed` to a smaller size is a fill. `deleted` with size 0 is the last fill; with a size left, a cancel.
- a changed price is a market order on its way: it takes the price of the level it is about to hit.
- an order that crosses the best opposite price when it comes is a taker: its decreases are half of a trade, the other
  half are those of the orders it meets. These resting orders' decreases are the executions; a taker that is done
  crossing rests at the back of its level with what is left.
- messages of one instant can come out of order (a change after the deletion; the taker's word before or after the
  maker's); ids that were deleted stay known for a while, and a taker's size follows whichever word comes first.

An order from before the recording is unknown until it is named. Where snapshots are recorded too (`snapshot`), what
their levels hold more than the known orders is taken for one older order at the front of that level.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from mmpi.events import Level
from mmpi.instrument import BUY, SECOND, SELL, Lots, Nanos, Side, Ticks
from mmpi.research.grid import Tally
from mmpi.sim.l3 import ADD, EXECUTE, REDUCE, OrdersBook, OrderUpdate

REMEMBERED: Final = 10_000
"""Deleted ids kept for messages that come after the deletion: minutes of this feed, where milliseconds are seen."""
STUCK: Final[Nanos] = 30 * SECOND
"""A taker that still crosses after this long shows that what it crosses is gone: a level takes it 0.17 s, and the
longest way through the book in the recording takes 2 s."""
TAKEN: Final[Nanos] = SECOND
"""Within this, equal decreases on both sides are one trade: the recording has them at most a few ms apart."""


class Taker(msgspec.Struct):
    """An order on its way through the book."""

    side: Side
    price: Ticks
    left: Lots
    """By the word that came first, its own or a resting order's."""
    since: Nanos
    owed: Lots = 0
    """Fills told by its own messages and not yet by the resting orders'."""


class BitstampOrders:
    """Takes messages in the order received; `updates` collects what they did until the caller takes it away."""

    def __init__(self, instrument: str, tally: Tally) -> None:
        self.book = OrdersBook()
        self.updates: list[OrderUpdate] = []
        self._instrument = instrument
        self._tally = tally
        self._now: Nanos = 0
        self._resting: dict[int, tuple[Side, Ticks, Lots]] = {}
        self._takers: dict[int, Taker] = {}
        self._deleted: OrderedDict[int, None] = OrderedDict()
        self._older: dict[tuple[Side, Ticks], int] = {}
        """Side and price -> the (negative) id of the older orders there."""
        self._covered: dict[Side, Ticks] = {}
        """The farthest price of each side that a snapshot has shown."""
        self._unsized: tuple[int, Side, Ticks, Nanos] | None = None
        """An unknown order that was filled by an amount that only its taker's message will tell."""

    def created(self, now: Nanos, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        """Take a new order."""
        self._now = now
        if order_id in self._deleted or order_id in self._resting or order_id in self._takers or size <= 0:
            self._tally.out_of_order += 1
        elif self._crosses(side, price):
            self._takers[order_id] = Taker(side, price, size, now)
        else:
            self._add(order_id, side, price, size)
        self._settle()

    def changed(self, now: Nanos, order_id: int, side: Side, price: Ticks, left: Lots) -> None:
        """Take the size that is left of an order."""
        self._now = now
        taker, known = self._takers.get(order_id), self._resting.get(order_id)
        if order_id in self._deleted:
            self._tally.out_of_order += 1
        elif taker is not None:
            taker.price = price
            self._taken(taker, left)
        elif known is None:
            self._tally.unknown_orders += 1
            self._unknown(order_id, side, price)
            self._grow_older(side, price, left - self._older_size(side, price))
        elif known[1] != price or left > known[2]:
            self._reduce(order_id, 0)
            self._takers[order_id] = Taker(side, price, left, now)
        elif left < known[2]:
            self._execute(order_id, known[2] - left)
        self._settle()

    def deleted(self, now: Nanos, order_id: int, side: Side, price: Ticks, left: Lots) -> None:
        """Take the end of an order, with what was left of it: nothing = filled."""
        self._now = now
        taker, known = self._takers.get(order_id), self._resting.get(order_id)
        if order_id in self._deleted:
            self._tally.out_of_order += 1
        elif taker is not None:
            self._taken(taker, left)
            taker.left = 0
        elif known is None:
            self._tally.unknown_orders += 1
            if left == 0:
                self._unknown(order_id, side, price)
            else:
                self._shrink_older(side, price, left)
        else:
            if left < known[2]:
                self._execute(order_id, known[2] - left)
            if left:
                self._reduce(order_id, 0)
        self._deleted[order_id] = None
        if len(self._deleted) > REMEMBERED:
            self._deleted.popitem(last=False)
        self._settle()

    def snapshot(self, now: Nanos, side: Side, levels: Sequence[Level]) -> None:
        """Take one side of a recorded snapshot, best first: it shows what older orders there are, and are not."""
        self._now = now
        reach = self._covered.get(side)
        for price, size in levels:
            known = self.book.size(side, price)
            if reach is None or side * (reach - price) > 0:
                self._grow_older(side, price, size - known)
            elif size < known and (side, price) in self._older:
                self._shrink_older(side, price, known - size)
        if levels and (reach is None or side * (reach - levels[-1][0]) > 0):
            self._covered[side] = levels[-1][0]

    def best(self, side: Side) -> Ticks | None:
        """Return the best resting price, None on an empty side."""
        prices = self.book.levels(side)
        return (max(prices) if side == BUY else min(prices)) if prices else None

    def _crosses(self, side: Side, price: Ticks) -> bool:
        opposite = self.best(SELL if side == BUY else BUY)
        return opposite is not None and side * (price - opposite) >= 0

    def _add(self, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        self._resting[order_id] = (side, price, size)
        self._tell(ADD, order_id, side, price, size)

    def _reduce(self, order_id: int, left: Lots) -> None:
        side, price, _ = self._resting.pop(order_id)
        if left:
            self._resting[order_id] = (side, price, left)
        self._tell(REDUCE, order_id, side, price, left)

    def _execute(self, order_id: int, size: Lots) -> None:
        """A resting order was filled: so was, by as much, the first taker that crosses it."""
        side, price, left = self._resting.pop(order_id)
        if left > size:
            self._resting[order_id] = (side, price, left - size)
        self._tell(EXECUTE, order_id, side, price, size)
        self._met(side, price, size)

    def _met(self, side: Side, price: Ticks, size: Lots) -> None:
        for taker in self._takers.values():
            if taker.side != side and side * (price - taker.price) >= 0:
                owed = min(taker.owed, size)
                taker.owed -= owed
                taker.left = max(0, taker.left - (size - owed))
                return

    def _taken(self, taker: Taker, left: Lots) -> None:
        """A taker told what is left of it: less than its left means fills that no resting order has told yet."""
        size = taker.left - left
        if size <= 0:
            return
        taker.left = left
        if self._unsized is not None and self._now - self._unsized[3] <= TAKEN and self._unsized[1] != taker.side:
            order_id, side, price, _ = self._unsized
            self._unsized = None
            self._hit_older(order_id, side, price, size)
        else:
            taker.owed += size

    def _unknown(self, order_id: int, side: Side, price: Ticks) -> None:
        """An order older than the recording was filled; how much, its taker's message tells or has told."""
        for taker in self._takers.values():
            if taker.side != side and taker.owed:
                size, taker.owed = taker.owed, 0
                self._hit_older(order_id, side, price, size)
                return
        self._unsized = (order_id, side, price, self._now)

    def _hit_older(self, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        older = self._older.get((side, price))
        self._tell(EXECUTE, order_id if older is None else older, side, price, size)
        if older is not None:
            left = self._resting.pop(older)[2] - size
            if left > 0:
                self._resting[older] = (side, price, left)
            else:
                del self._older[side, price]

    def _older_size(self, side: Side, price: Ticks) -> Lots:
        older = self._older.get((side, price))
        return self._resting[older][2] if older is not None else 0

    def _grow_older(self, side: Side, price: Ticks, more: Lots) -> None:
        if more <= 0:
            return
        if (side, price) not in self._older:
            self._tally.older_levels += 1
            self._older[side, price] = -self._tally.older_levels
        older = self._older[side, price]
        self._add(older, side, price, self._older_size(side, price) + more if older in self._resting else more)

    def _shrink_older(self, side: Side, price: Ticks, less: Lots) -> None:
        older = self._older.get((side, price))
        if older is not None:
            left = max(0, self._resting[older][2] - less)
            self._reduce(older, left)
            if not left:
                del self._older[side, price]

    def _settle(self) -> None:
        """Let takers that meet nobody any more rest; take away what a taker has crossed for too long."""
        for order_id, taker in tuple(self._takers.items()):
            stuck = self._now - taker.since > STUCK
            if taker.left == 0:
                if stuck or (taker.owed == 0 and order_id in self._deleted):
                    del self._takers[order_id]
                continue
            if stuck:
                self._drop_crossed(taker)
            if (stuck or taker.owed == 0) and not self._crosses(taker.side, taker.price):
                del self._takers[order_id]
                self._add(order_id, taker.side, taker.price, taker.left)

    def _drop_crossed(self, taker: Taker) -> None:
        """Take away the resting orders that an order has crossed for too long: their end was not recorded."""
        for order_id, (side, price, _) in tuple(self._resting.items()):
            if side != taker.side and side * (price - taker.price) >= 0:
                self._tally.lost_orders += 1
                self._older.pop((side, price), None)
                self._reduce(order_id, 0)

    def _tell(self, action: int, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        update = OrderUpdate(self._now, self._instrument, self._now, order_id, side, price, size, action)
        self.book.apply(update)
        self.updates.append(update)
