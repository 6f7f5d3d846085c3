"""Order by order: a recording that names every order, as one stream: order updates, the trades and books they make.

Invariant: one message is in memory at a time; a book and a trade follow only from messages up to their own, and a line
that cannot be read stops the reading with its file and number. It must not know how orders become executions.

Two forms of Bitstamp's recordings are read: `*.l3orders.csv`, the rows of the R package ob-analytics (id, times in ms,
price, volume in 1e-8, action, direction), and `*.wslog`, its untouched messages (`<ms> <event> <json>`), which have
snapshots and trades as well. Both may be compressed (.gz, .xz, .zst). The order updates are for the simulated exchange;
the engine sees the trades and the books (DEPTH levels, whenever one of them changed), which say no more than a venue's
aggregated feed would. The receive time, in ms, is the only time of these messages, so it stands for both times. A trade
is made of an execution, in either form: the recorded trades come some 10 ms later, and only check it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import Final, Literal

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Level, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.research.bitstamp_orders import BitstampOrders
from mmpi.research.grid import LATEST, Tally, merge_levels, price_ticks, size_lots, usable
from mmpi.research.jsonl import SHOWN, numbered_lines
from mmpi.sim.l3 import EXECUTE, OrderUpdate, SimEvent

_PACKED: Final = ("", ".gz", ".xz", ".zst")
SUFFIXES: Final = tuple(form + packed for form in (".l3orders.csv", ".wslog") for packed in _PACKED)
HEADER: Final = "id,timestamp,exchange.timestamp,price,volume,action,direction"
DEPTH: Final = 20
"""Levels a side, as in the recorded snapshots."""
VOLUME: Final = 1e8
"""The csv's volumes in 1.0 of size."""
MOST_DIGITS: Final = 18
"""Of a whole number: Bitstamp's ids and volumes have 16 at most, and 64 bits hold any number of 18."""
EXPLAINED: Final[Nanos] = 5 * SECOND
"""A recorded trade is looked for among the executions of this long before it (ob-analytics' cut-off)."""


class _Order(msgspec.Struct, gc=False):
    id: int
    price: float
    amount: float
    order_type: Literal[0, 1]


class _Trade(msgspec.Struct, gc=False):
    price: float
    amount: float


class _Book(msgspec.Struct, gc=False):
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


_ORDER: Final = msgspec.json.Decoder(_Order, strict=False)
_TRADE: Final = msgspec.json.Decoder(_Trade, strict=False)
_BOOK: Final = msgspec.json.Decoder(_Book, strict=False)
Snapshot = tuple[Nanos, tuple[Level, ...], tuple[Level, ...]]


class OrderReader:
    """Turns lines into events; `on_snapshot` is told each recorded snapshot and the book, before it learns from it."""

    def __init__(
        self,
        instrument: Instrument,
        tally: Tally,
        on_snapshot: Callable[[Snapshot, BitstampOrders], None] | None = None,
    ) -> None:
        self.orders = BitstampOrders(instrument.name, tally)
        self._instrument = instrument
        self._tally = tally
        self._on_snapshot = on_snapshot
        self._recv_ts: Nanos = 0
        self._seq = 0
        self._top: dict[Side, tuple[Level, ...]] = {BUY: (), SELL: ()}
        self._recent: deque[tuple[Nanos, Ticks, Lots]] = deque()

    def csv(self, line: bytes) -> list[SimEvent]:
        """Return the events of one row; ValueError says what is wrong with it."""
        cells = line.decode().rstrip("\r\n").split(",")
        if len(cells) != 7:
            raise ValueError(f"{len(cells)} cells; allowed: {HEADER}")
        number, stamp, _, price, volume, action, direction = cells
        if action not in ("created", "changed", "deleted"):
            raise ValueError(f"action {action!r}; allowed: created, changed, deleted")
        if direction not in ("bid", "ask"):
            raise ValueError(f"direction {direction!r}; allowed: bid, ask")
        now = self._receive(stamp)
        side: Side = BUY if direction == "bid" else SELL
        self._order(now, action, _whole(number, "id"), side, float(price), _whole(volume, "volume") / VOLUME)
        return self._events(now)

    def wslog(self, line: bytes) -> list[SimEvent]:
        """Return the events of one message; ValueError (msgspec's too) says what is wrong with it."""
        stamp, _, rest = line.partition(b" ")
        kind, _, body = rest.partition(b" ")
        now, name = self._receive(stamp.decode()), kind.decode()
        if name in ("order_created", "order_changed", "order_deleted"):
            order = _ORDER.decode(body)
            side: Side = BUY if order.order_type == 0 else SELL
            self._order(now, name.removeprefix("order_"), order.id, side, order.price, order.amount)
        elif name == "trade":
            self._check(now, _TRADE.decode(body))
        elif name == "order_book":
            self._snapshot(now, _BOOK.decode(body))
        else:
            raise ValueError(f"event {name!r}; allowed: order_created, order_changed, order_deleted, trade, order_book")
        return self._events(now)

    def _receive(self, text: str) -> Nanos:
        recv_ts = _whole(text, "time") * MILLISECOND
        if recv_ts > LATEST:
            raise ValueError(f"time {text}; allowed: up to {LATEST // MILLISECOND} ms")
        if recv_ts < self._recv_ts:
            raise ValueError(f"time {text} is earlier than the line before ({self._recv_ts // MILLISECOND})")
        self._recv_ts = recv_ts
        return recv_ts

    def _order(self, now: Nanos, action: str, order_id: int, side: Side, price: float, size: float) -> None:
        if order_id < 0 or not usable(price, size or 1.0, self._instrument):
            raise ValueError(f"id {order_id}, price {price}, size {size}; allowed: not below 0, a price above 0")
        ticks = price_ticks(price, self._instrument, side, self._tally)
        lots = size_lots(size, self._instrument, self._tally)
        if action == "created":
            self.orders.created(now, order_id, side, ticks, lots)
        elif action == "changed":
            self.orders.changed(now, order_id, side, ticks, lots)
        else:
            self.orders.deleted(now, order_id, side, ticks, lots)

    def _snapshot(self, now: Nanos, book: _Book) -> None:
        bids, asks = self._levels(book.bids, BUY), self._levels(book.asks, SELL)
        if self._on_snapshot is not None:
            self._on_snapshot((now, bids, asks), self.orders)
        self.orders.snapshot(now, BUY, bids)
        self.orders.snapshot(now, SELL, asks)

    def _levels(self, levels: list[tuple[float, float]], side: Side) -> tuple[Level, ...]:
        kept = [(p, q) for p, q in levels if usable(p, q, self._instrument)]
        self._tally.missing_levels += len(levels) - len(kept)
        return merge_levels(
            (price_ticks(p, self._instrument, side, self._tally), size_lots(q, self._instrument, self._tally))
            for p, q in kept
        )

    def _check(self, now: Nanos, trade: _Trade) -> None:
        """Look for the executions that a recorded trade tells of."""
        if not usable(trade.price, trade.amount, self._instrument):
            raise ValueError(f"price {trade.price}, amount {trade.amount}; allowed: above 0")
        wanted = (
            round(trade.price * self._instrument.ticks_per_quote),
            round(trade.amount * self._instrument.lots_per_base),
        )
        while self._recent and now - self._recent[0][0] > EXPLAINED:
            self._recent.popleft()
        for recent in self._recent:
            if recent[1:] == wanted:
                self._recent.remove(recent)
                return
        self._tally.unmatched_trades += 1

    def _events(self, now: Nanos) -> list[SimEvent]:
        """Return what the last message did: updates, then trades, then the book if it is another one."""
        updates, self.orders.updates = self.orders.updates, []
        events: list[SimEvent] = list(updates)
        if not updates:
            return events
        for update in updates:
            if update.action == EXECUTE:
                events.append(self._execution(update))
        name, changed = self._instrument.name, False
        for side in (BUY, SELL):
            if any(update.side == side for update in updates):
                top = self._best(side)
                changed = changed or top != self._top[side]
                self._top[side] = top
        if changed:
            self._seq += 1
            events.append(BookSnapshot(now, name, now, self._seq, self._top[BUY], self._top[SELL]))
        return events

    def _execution(self, update: OrderUpdate) -> Trade:
        self._seq += 1
        self._recent.append((update.recv_ts, update.price, update.size))
        taker: Side = SELL if update.side == BUY else BUY
        return Trade(update.recv_ts, update.instrument, update.exch_ts, self._seq, taker, update.price, update.size)

    def _best(self, side: Side) -> tuple[Level, ...]:
        levels = self.orders.book.levels(side)
        prices = nlargest(DEPTH, levels) if side == BUY else nsmallest(DEPTH, levels)
        return tuple((price, levels[price]) for price in prices)


def updates(
    path: Path,
    instrument: Instrument,
    tally: Tally,
    on_snapshot: Callable[[Snapshot, BitstampOrders], None] | None = None,
) -> Iterator[SimEvent]:
    """Yield the events of a recording; `tally.done` is bytes of the file. ConfigError names file and line."""
    reader = OrderReader(instrument, tally, on_snapshot)
    rows = ".l3orders.csv" in path.name
    for number, line in numbered_lines(path, tally):
        if rows and number == 1 and line.decode(errors="replace").strip() == HEADER:
            continue
        try:
            events = reader.csv(line) if rows else reader.wslog(line)
        except (ValueError, RecursionError) as error:
            shown = line[:SHOWN].decode(errors="replace").rstrip()
            raise ConfigError(f"{path}:{number}: not a Bitstamp order message ({error}): {shown!r}") from None
        yield from events


def _whole(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{what} {text!r}; allowed: a whole number")
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{what} {text[:MOST_DIGITS]}...; allowed: at most {MOST_DIGITS} digits")
    return int(text)
