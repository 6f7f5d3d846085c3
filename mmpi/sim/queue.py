"""One side of a simulated book: the recorded levels, our orders resting on it, and what we already took from it.

Invariant: a queue is never assumed shorter than the model says, and no lot leaves it twice, once as a trade and once as
a smaller displayed size; an order whose queue cannot be seen has UNSEEN ahead. Per model: conservative, ahead shrinks
by trades and where less is shown; proportional and power law, by trades and by a share, rounded down, of what left
without one; FIFO, only by what is known to have been ahead. It must not know money, owners' positions or reports.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from mmpi.events import ExecType, Level, Trade
from mmpi.instrument import SECOND, Lots, Nanos, Side, Ticks
from mmpi.sim.queue_models import gone_ahead

UNSEEN: Final[Lots] = -1
"""The queue at a price that the visible depth does not reach."""
MAX_LEVELS: Final = 5000
"""Levels kept a side: the deepest snapshot that a venue gives (Binance spot, REST depth, largest `limit`)."""
LATE: Final[Nanos] = SECOND
"""A trade may come this long after the book that already shows it: twice the half second by which Hyperliquid's
channels are apart. Within it, a trade that may be the reason of an earlier decrease is taken to be."""


class RestingOrder:
    """One order at the exchange: `left` of its size, `ahead` of it in the queue; `done` tells how it ended."""

    __slots__ = (
        "ahead", "cl_ord_id", "done", "gone", "instrument", "left", "lost", "lost_exch_ts", "lost_recv_ts", "order_id",
        "owed", "owner", "post_only", "price", "rank", "reduce_only", "seen_exch_ts", "shown", "side", "since_exch_ts",
        "size", "traded_ts",
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
        self.post_only = False
        self.done: ExecType | None = None
        self.shown: Lots = 0
        """The displayed size that `ahead` is a part of, less the trades since."""
        self.traded_ts: Nanos = 0
        """The exchange's time of the latest trade at the price."""
        self.lost: Lots = 0
        """What left the level of late without a trade, and `gone`, the part of it that we took for ahead of us."""
        self.gone: Lots = 0
        self.lost_exch_ts: Nanos = 0
        self.lost_recv_ts: Nanos = 0
        self.rank = 0
        """FIFO: place in the order of arrival among recorded orders."""
        self.owed: Lots = 0
        """FIFO: what our own earlier orders took from recorded ones ahead of us, which are therefore still there."""
        self.since_exch_ts: Nanos = 0
        """The exchange's time of the book that the order joined: trades up to then came before it, whenever told."""
        self.seen_exch_ts: Nanos = 0
        """The same of the book that `ahead` was read from first: trades up to then are out of it already."""


class BookSide:
    """The bids (`side` +1) or the asks (-1) of one instrument, best first.

    `power` is the queue model's exponent, 0.0 = conservative. With `exact` the owner of the book keeps `ahead` itself.
    """

    def __init__(self, side: Side, power: float = 0.0, exact: bool = False) -> None:
        self.side: Side = side
        self.levels: list[Level] = []
        self.orders: list[RestingOrder] = []
        """Best price first, earlier before later at one price."""
        self._used: dict[Ticks, tuple[Lots, Lots]] = {}
        """Price -> (what we took, the size displayed then): remembered until the displayed size changes."""
        self.arrivals = 0
        """Recorded orders that have joined either side so far, where the data names them."""
        self._power = power
        self._exact = exact

    def replace(self, levels: Sequence[Level], exch_ts: Nanos = 0, recv_ts: Nanos = 0) -> None:
        """Take a snapshot's levels."""
        self.levels = list(levels)
        self._settle(exch_ts, recv_ts)

    def change(self, levels: Sequence[Level], exch_ts: Nanos = 0, recv_ts: Nanos = 0) -> None:
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
        self._settle(exch_ts, recv_ts)

    def top(self, price: Ticks, size: Lots, keep_deeper: bool, exch_ts: Nanos = 0, recv_ts: Nanos = 0) -> None:
        """Take the best level alone; deeper levels of an earlier message stay only where there was one."""
        deeper = [level for level in self.levels if self.side * (price - level[0]) > 0] if keep_deeper and size else []
        self.levels = [(price, size), *deeper][:MAX_LEVELS] if size else []
        self._settle(exch_ts, recv_ts)

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

    def join(self, order: RestingOrder, exch_ts: Nanos = 0) -> None:
        """Put an order at the back of the queue at its price, in a book of `exch_ts`."""
        order.since_exch_ts = order.seen_exch_ts = exch_ts
        order.ahead = self.displayed(order.price)
        order.shown = max(0, order.ahead)
        order.traded_ts = order.lost = order.gone = order.owed = 0
        order.rank = self.arrivals
        i = len(self.orders)
        while i and self.side * (order.price - self.orders[i - 1].price) > 0:
            i -= 1
        self.orders.insert(i, order)

    def leave(self, order: RestingOrder) -> None:
        """Take an order off the book."""
        self.orders.remove(order)

    def pass_by(self, order: RestingOrder, volume: Lots, trade: Trade) -> Lots:
        """Return how much of a trade's `volume` at the order's price is left for it once those ahead had theirs."""
        explained = counted = 0
        if order.lost and _may_be_late(order, trade):
            explained = min(order.lost, volume)
            counted = -(-order.gone * explained // order.lost)
            order.lost -= explained
            order.gone -= counted
        if self._power:
            order.shown = max(0, order.shown - volume + explained)
            order.traded_ts = trade.exch_ts
        volume -= counted
        eaten = min(order.ahead, volume)
        order.ahead -= eaten
        return volume - eaten

    def depart(self, price: Ticks, size: Lots, rank: int) -> None:
        """Take what left of one recorded order off the queue ahead of those of ours that are behind it."""
        for order in self.orders:
            if order.price == price and order.rank >= rank and order.ahead > 0:
                order.ahead = max(0, order.ahead - size)

    def _settle(self, exch_ts: Nanos, recv_ts: Nanos) -> None:
        """Bring queues and memory in line with new levels."""
        if self._used:
            self._used = {p: used for p, used in self._used.items() if self.displayed(p) == used[1]}
        if not self.orders or self._exact:
            return
        levels, side, i, count, power = self.levels, self.side, 0, len(self.levels), self._power
        for order in self.orders:
            price = order.price
            while i < count and side * (levels[i][0] - price) > 0:
                i += 1
            if i == count:
                return
            shown = levels[i][1] if levels[i][0] == price else 0
            ahead = order.ahead
            if ahead == UNSEEN:
                order.ahead = order.shown = shown
                order.seen_exch_ts = exch_ts
            elif power:
                self._share(order, shown, exch_ts, recv_ts)
            elif ahead > shown:
                _note(order, ahead - shown, ahead - shown, exch_ts, recv_ts)
                order.ahead = shown

    def _share(self, order: RestingOrder, shown: Lots, exch_ts: Nanos, recv_ts: Nanos) -> None:
        """Take the model's share of what left without a trade from ahead of the order; newcomers are behind it."""
        if order.traded_ts > exch_ts > 0:  # a trade has come that this book is too old to show
            order.ahead = min(order.ahead, shown)
            return
        lost = order.shown - shown
        if lost > 0:
            gone = gone_ahead(order.ahead, order.shown - order.ahead, lost, self._power)
            _note(order, lost, gone, exch_ts, recv_ts)
            order.ahead -= gone
        order.shown = shown


def _note(order: RestingOrder, lost: Lots, gone: Lots, exch_ts: Nanos, recv_ts: Nanos) -> None:
    """Remember a decrease for as long as the trade that explains it may still come."""
    if recv_ts - order.lost_recv_ts > LATE:
        order.lost = order.gone = 0
    order.lost += lost
    order.gone += gone
    order.lost_exch_ts = exch_ts
    order.lost_recv_ts = recv_ts


def _may_be_late(order: RestingOrder, trade: Trade) -> bool:
    """Return whether the book that showed the decrease may have shown this trade's effect already."""
    if trade.exch_ts and order.lost_exch_ts:
        return trade.exch_ts <= order.lost_exch_ts
    return trade.recv_ts - order.lost_recv_ts <= LATE
