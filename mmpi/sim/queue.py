"""One side of a simulated book: the recorded levels, our orders resting on it, and what we already took from it.

Invariant: a queue is never assumed shorter than what was shown; an order whose queue cannot be seen has UNSEEN ahead.
It must not know money, owners' positions or reports.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from mmpi.events import ExecType, Level
from mmpi.instrument import Lots, Side, Ticks

UNSEEN: Final[Lots] = -1
"""The queue at a price that the visible depth does not reach."""
MAX_LEVELS: Final = 5000
"""Levels kept a side: the deepest snapshot that a venue gives (Binance spot, REST depth, largest `limit`)."""


class RestingOrder:
    """One order at the exchange: `left` of its size, `ahead` of it in the queue; `done` tells how it ended."""

    __slots__ = (
        "ahead", "cl_ord_id", "done", "instrument", "left", "order_id", "owner", "price", "reduce_only", "side", "size"
    )  # fmt: skip

    def __init__(
        self, order_id: str, owner: str, cl_ord_id: str, instrument: str,
        side: Side, price: Ticks, size: Lots, reduce_only: bool,
    ) -> None:  # fmt: skip
        self.order_id = order_id
        self.owner = owner
        self.cl_ord_id = cl_ord_id
        self.instrument = instrument
        self.side: Side = side
        self.price = price
        self.size = size
        self.left = size
        self.ahead: Lots = UNSEEN
        self.reduce_only = reduce_only
        self.done: ExecType | None = None


class BookSide:
    """The bids (`side` +1) or the asks (-1) of one instrument, best first."""

    def __init__(self, side: Side) -> None:
        self.side: Side = side
        self.levels: list[Level] = []
        self.orders: list[RestingOrder] = []
        """Best price first, earlier before later at one price."""
        self._used: dict[Ticks, tuple[Lots, Lots]] = {}
        """Price -> (what we took, the size displayed then): remembered until the displayed size changes."""

    def replace(self, levels: Sequence[Level]) -> None:
        """Take a snapshot's levels."""
        self.levels = list(levels)
        self._settle()

    def change(self, levels: Sequence[Level]) -> None:
        """Take a delta: absolute sizes, 0 removes."""
        side, book = self.side, self.levels
        for price, size in levels:
            i = bisect_left(book, -side * price, key=lambda level: -side * level[0])
            found = i < len(book) and book[i][0] == price
            if size <= 0:
                if found:
                    del book[i]
            elif found:
                book[i] = (price, size)
            else:
                book.insert(i, (price, size))
        del book[MAX_LEVELS:]
        self._settle()

    def top(self, price: Ticks, size: Lots, keep_deeper: bool) -> None:
        """Take the best level alone; deeper levels of an earlier message stay only where there was one."""
        deeper = [level for level in self.levels if self.side * (price - level[0]) > 0] if keep_deeper and size else []
        self.levels = [(price, size), *deeper][:MAX_LEVELS] if size else []
        self._settle()

    def displayed(self, price: Ticks) -> Lots:
        """Return the recorded size at `price`, 0 if none is shown there, UNSEEN beyond the visible depth."""
        for level_price, size in self.levels:
            if level_price == price:
                return size
            if self.side * (price - level_price) > 0:
                return 0
        return UNSEEN

    def available(self, level: Level) -> Lots:
        """Return what is left of a displayed level after what we took from it."""
        return level[1] - self._used[level[0]][0] if level[0] in self._used else level[1]

    def use(self, level: Level, size: Lots) -> None:
        """Remember that we took `size` from a displayed level."""
        self._used[level[0]] = (level[1] - self.available(level) + size, level[1])

    def join(self, order: RestingOrder) -> None:
        """Put an order at the back of the queue at its price."""
        order.ahead = self.displayed(order.price)
        i = len(self.orders)
        while i and self.side * (order.price - self.orders[i - 1].price) > 0:
            i -= 1
        self.orders.insert(i, order)

    def leave(self, order: RestingOrder) -> None:
        """Take an order off the book."""
        self.orders.remove(order)

    def _settle(self) -> None:
        """Bring queues and memory in line with new levels: nobody ahead of us is assumed gone while size is shown."""
        if self._used:
            self._used = {p: used for p, used in self._used.items() if self.displayed(p) == used[1]}
        levels, side, i, count = self.levels, self.side, 0, len(self.levels)
        for order in self.orders:
            price = order.price
            while i < count and side * (levels[i][0] - price) > 0:
                i += 1
            if i == count:
                return
            shown = levels[i][1] if levels[i][0] == price else 0
            if order.ahead > shown or order.ahead == UNSEEN:
                order.ahead = shown
