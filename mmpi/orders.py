"""Orders: one state table, and the store of one instrument's orders from intent to the venue's last word.

Invariant: only the venue's word ends an order; an order whose fate is unknown counts as live everywhere (I4).
It must not know prices' meaning, strategies or wires.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeAlias

from mmpi.events import ExecReport, ExecType, Level, OpenOrder
from mmpi.instrument import BUY, Lots, Nanos, Side, Ticks
from mmpi.structs import State

MAX_FINISHED: Final = 256
"""Ended orders kept for late reports: twelve seconds of re-quoting at the default rate limit."""
MAX_EXEC_IDS: Final = 2048
"""Fill ids kept to drop duplicates: more than a venue's fill snapshot repeats (Hyperliquid: 2000)."""
STRAY_LEVEL: Final = -1
"""Level of an order of ours that no slot wants: the differ cancels it."""


class OrdStatus(Enum):
    """FIX OrdStatus (tag 39), with UNKNOWN for an order whose fate the venue has not told."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"

    # Members are singletons; Enum's own __hash__ is Python code, and every look at an order's state would pay for it.
    __hash__ = object.__hash__


class OrderEvent(Enum):
    """What can happen to an order; the second half of the state table's key."""

    ACK = "ack"
    PARTIAL_FILL = "partial_fill"
    FULL_FILL = "full_fill"
    CANCEL_SENT = "cancel_sent"
    REPLACE_SENT = "replace_sent"
    CANCELED = "canceled"
    CANCEL_REJECTED = "cancel_rejected"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DONE = "done"
    LOST = "lost"
    NOT_FOUND = "not_found"

    __hash__ = object.__hash__


ENDED: Final = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED, OrdStatus.EXPIRED})


def _table() -> dict[tuple[OrdStatus, OrderEvent], OrdStatus]:
    """Return (state, event) -> state; a pair that is absent is illegal."""
    s, e = OrdStatus, OrderEvent
    table: dict[tuple[OrdStatus, OrderEvent], OrdStatus] = {}
    for live in (s.PENDING_NEW, s.NEW, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.PENDING_REPLACE, s.UNKNOWN):
        table[live, e.FULL_FILL] = s.FILLED
        table[live, e.DONE] = s.FILLED
        table[live, e.CANCELED] = s.CANCELED
        table[live, e.EXPIRED] = s.EXPIRED
        table[live, e.LOST] = s.UNKNOWN
        table[live, e.PARTIAL_FILL] = s.PARTIALLY_FILLED
    # A fill says nothing about whether a cancel in flight, or an order in doubt, still lives.
    table[s.PENDING_CANCEL, e.PARTIAL_FILL] = s.PENDING_CANCEL
    table[s.PENDING_REPLACE, e.PARTIAL_FILL] = s.PENDING_REPLACE
    table[s.UNKNOWN, e.PARTIAL_FILL] = s.UNKNOWN
    table[s.PENDING_NEW, e.ACK] = s.NEW
    table[s.PENDING_NEW, e.REJECTED] = s.REJECTED
    table[s.NEW, e.ACK] = s.NEW
    table[s.PARTIALLY_FILLED, e.ACK] = s.PARTIALLY_FILLED
    table[s.PENDING_CANCEL, e.ACK] = s.PENDING_CANCEL
    table[s.PENDING_REPLACE, e.ACK] = s.PENDING_REPLACE
    for working in (s.NEW, s.PARTIALLY_FILLED):
        table[working, e.CANCEL_SENT] = s.PENDING_CANCEL
        table[working, e.REPLACE_SENT] = s.PENDING_REPLACE
    # "Never placed, already canceled, or filled": the venue refuses the cancel without saying which.
    # It may come late, after a reconciliation or a question has shown the order live again.
    for live in (s.NEW, s.PARTIALLY_FILLED, s.PENDING_CANCEL, s.PENDING_REPLACE, s.UNKNOWN):
        table[live, e.CANCEL_REJECTED] = s.UNKNOWN
    table[s.UNKNOWN, e.ACK] = s.NEW
    table[s.UNKNOWN, e.REJECTED] = s.REJECTED
    table[s.UNKNOWN, e.NOT_FOUND] = s.REJECTED
    for ended in ENDED:
        for late in (e.ACK, e.CANCEL_REJECTED, e.LOST, e.NOT_FOUND, e.EXPIRED):
            table[ended, late] = ended
    # Fills may follow the cancel's acknowledgement, or the venue's "filled", on another stream.
    for ended in (s.FILLED, s.CANCELED, s.EXPIRED):
        for late in (e.PARTIAL_FILL, e.FULL_FILL, e.CANCELED):
            table[ended, late] = ended
    table[s.FILLED, e.DONE] = s.FILLED
    table[s.CANCELED, e.DONE] = s.CANCELED
    table[s.REJECTED, e.REJECTED] = s.REJECTED
    table[s.REJECTED, e.CANCELED] = s.REJECTED
    return table


TRANSITIONS: Final = _table()

_EVENT_OF: Final = {
    ExecType.NEW: OrderEvent.ACK,
    ExecType.CANCELED: OrderEvent.CANCELED,
    ExecType.REJECTED: OrderEvent.REJECTED,
    ExecType.EXPIRED: OrderEvent.EXPIRED,
    ExecType.CANCEL_REJECTED: OrderEvent.CANCEL_REJECTED,
    ExecType.FILLED: OrderEvent.DONE,
    ExecType.LOST: OrderEvent.LOST,
    ExecType.NOT_FOUND: OrderEvent.NOT_FOUND,
}

UNHEARD: Final = frozenset({OrdStatus.PENDING_NEW, OrdStatus.UNKNOWN})
_LEAVING: Final = frozenset({OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE})
_DOUBTFUL: Final = UNHEARD | _LEAVING


OrderRow: TypeAlias = tuple[str, str, Side, Ticks, Lots, Lots, int, str, Nanos, Nanos]
"""An order as plain values: ids, side, price, size, filled, level, status, sent, queried."""


class Order:
    """One order of ours; `leaves` is what can still fill. Times are those of events (Nanos)."""

    __slots__ = ("cl_ord_id", "filled", "level", "order_id", "price", "queried", "sent", "side", "size", "status")

    def __init__(self, cl_ord_id: str, side: Side, price: Ticks, size: Lots, level: int, sent: Nanos) -> None:
        self.cl_ord_id = cl_ord_id
        self.order_id = ""
        self.side: Side = side
        self.price = price
        self.size = size
        self.filled: Lots = 0
        self.level = level
        self.status = OrdStatus.PENDING_NEW
        self.sent = sent
        """When the last request about it (place or cancel) was sent."""
        self.queried: Nanos = 0

    @property
    def leaves(self) -> Lots:
        """Return the size that can still fill."""
        return self.size - self.filled

    def row(self) -> OrderRow:
        """Return the state as plain values."""
        return (
            self.cl_ord_id,
            self.order_id,
            self.side,
            self.price,
            self.size,
            self.filled,
            self.level,
            self.status.value,
            self.sent,
            self.queried,
        )


def order_from_row(row: OrderRow) -> Order:
    """Return the order whose `row` this is."""
    order = Order(row[0], row[2], row[3], row[4], row[6], row[8])
    order.order_id, order.filled, order.status, order.queried = row[1], row[5], OrdStatus(row[7]), row[9]
    return order


class StoreState(State, frozen=True):
    """An OrderStore as plain values."""

    live: "list[OrderRow]"
    finished: "list[OrderRow]"
    exec_ids: "list[str]"
    placed: int
    ended: "dict[str, int]"
    illegal: int
    overfilled: int


class OrderStore:
    """All live orders of one instrument, and a bounded memory of ended ones for late reports."""

    def __init__(self, patience: Nanos) -> None:
        self.patience = patience
        """A request unanswered for this long has an unknown fate; longer than any request can stay valid."""
        self.live: dict[str, Order] = {}
        self.version = 0
        """Changes with every order that is sent, ends, fills or changes its state."""
        self.doubtful: dict[str, Order] = {}
        """The live orders with a request in flight or of unknown fate: those that time will make us ask about."""
        self.finished: dict[str, Order] = {}
        self.owed: dict[str, Order] = {}
        """Ended orders that the venue calls filled before it has told all their fills: still at stake."""
        self.exec_ids: dict[str, None] = {}
        self.placed = 0
        self.ended: dict[str, int] = {}
        """How many orders ended in which state."""
        self.illegal = 0
        """Reports that the state table forbids; counted, shown, never fatal."""
        self.overfilled = 0

    def sent(self, order: Order) -> None:
        """Take an order whose NewOrder was just approved."""
        self.placed += 1
        self.version += 1
        self.live[order.cl_ord_id] = self.doubtful[order.cl_ord_id] = order

    def cancel_sent(self, order: Order, now: Nanos, *, replaced: bool = False) -> None:
        """Mark an order whose CancelOrder was just approved, or its AmendOrder; a successor is an order of its own."""
        order.sent = now
        self._move(order, OrderEvent.REPLACE_SENT if replaced else OrderEvent.CANCEL_SENT)

    def apply(self, report: ExecReport) -> bool:
        """Return True if the report is a fill to be booked (not seen before); move the order's state."""
        order = self.live.get(report.cl_ord_id) or self.finished.get(report.cl_ord_id)
        if report.exec_type is ExecType.TRADE:
            if report.exec_id in self.exec_ids:
                return False
            self.exec_ids[report.exec_id] = None
            if len(self.exec_ids) > MAX_EXEC_IDS:
                del self.exec_ids[next(iter(self.exec_ids))]
            if order is not None:
                self._fill(order, report.size)
            return True
        if order is None:
            return False
        if report.order_id:
            order.order_id = report.order_id
        if report.exec_type is ExecType.NOT_FOUND and order.queried - order.sent < self.patience:
            # Asked too soon: the request may still be on its way. It will be asked again.
            return False
        self._move(order, _EVENT_OF[report.exec_type])
        return False

    def lost(self) -> None:
        """Every request in flight has an unknown fate: the connection is gone."""
        for order in list(self.doubtful.values()):
            if order.status in _DOUBTFUL:
                self._move(order, OrderEvent.LOST)

    def timed_out(self, now: Nanos) -> list[Order]:
        """Return orders to ask the venue about: unanswered for `patience`, now UNKNOWN, and not asked within it."""
        patience = self.patience
        ask: list[Order] = []
        for order in self.doubtful.values():
            if order.status is not OrdStatus.UNKNOWN and now - order.sent >= patience:
                self._move(order, OrderEvent.LOST)
            if order.status is OrdStatus.UNKNOWN and now - order.queried >= patience:
                order.queried = now
                ask.append(order)
        # A store restored from a checkpoint came to doubt them in another order.
        ask.sort(key=_name_of)
        return ask

    def next_timeout(self) -> Nanos:
        """Return when `timed_out` will next have something to say; 0 = never."""
        patience = self.patience
        soonest = 0
        for order in self.doubtful.values():
            due = patience + (order.queried if order.status is OrdStatus.UNKNOWN else order.sent)
            if soonest == 0 or due < soonest:
                soonest = due
        return soonest

    def reconcile(self, open_orders: Sequence[OpenOrder]) -> None:
        """Bring the store in line with the venue's list: listed orders live, unlisted ones become UNKNOWN (ask)."""
        self.version += 1
        # The fills are delivered before the list: those still owed will not come, and the position tells the rest.
        for order in self.owed.values():
            order.size = order.filled
        self.owed.clear()
        listed = {listing.cl_ord_id: listing for listing in open_orders}
        for order in list(self.live.values()):
            if order.cl_ord_id not in listed:
                self._move(order, OrderEvent.LOST)
        for listing in open_orders:
            known = self.live.get(listing.cl_ord_id)
            if known is not None:
                order = known
            else:
                order = Order(listing.cl_ord_id, listing.side, listing.price, listing.size, STRAY_LEVEL, 0)
                self.live[order.cl_ord_id] = order
                self.finished.pop(order.cl_ord_id, None)
            order.order_id = listing.order_id
            order.filled = max(order.filled, order.size - listing.size)
            order.status = OrdStatus.NEW if order.filled == 0 else OrdStatus.PARTIALLY_FILLED
            self.doubtful.pop(order.cl_ord_id, None)

    def leaving(self) -> bool:
        """Return True if a cancel, or an amend, is on its way."""
        return any(order.status in _LEAVING for order in self.doubtful.values())

    def open_size(self, side: Side) -> Lots:
        """Return the total that can still fill on a side, orders of unknown fate and fills owed included."""
        size = 0
        for order in self.live.values():
            if order.side == side:
                size += order.size - order.filled
        for order in self.owed.values():
            if order.side == side:
                size += order.size - order.filled
        return size

    def levels(self) -> "tuple[tuple[Level, ...], tuple[Level, ...]]":
        """Return what can still fill, by price: bids and asks, in no order."""
        sides: tuple[dict[Ticks, Lots], dict[Ticks, Lots]] = ({}, {})
        for order in self.live.values():
            own = sides[0] if order.side == BUY else sides[1]
            own[order.price] = own.get(order.price, 0) + order.size - order.filled
        return tuple(sides[0].items()), tuple(sides[1].items())

    def checkpoint(self) -> "StoreState":
        """Return the state as plain values."""
        return StoreState(
            live=[order.row() for order in self.live.values()],
            finished=[order.row() for order in self.finished.values()],
            exec_ids=list(self.exec_ids),
            placed=self.placed,
            ended=dict(self.ended),
            illegal=self.illegal,
            overfilled=self.overfilled,
        )

    def restore(self, state: "StoreState") -> None:
        """Take the state that `checkpoint` returned."""
        self.version += 1
        self.live = {row[0]: order_from_row(row) for row in state.live}
        self.doubtful = {name: order for name, order in self.live.items() if order.status in _DOUBTFUL}
        self.finished = {row[0]: order_from_row(row) for row in state.finished}
        self.owed = {name: order for name, order in self.finished.items() if _is_owed(order)}
        self.exec_ids = dict.fromkeys(state.exec_ids)
        self.placed, self.ended = state.placed, dict(state.ended)
        self.illegal, self.overfilled = state.illegal, state.overfilled

    def _fill(self, order: Order, size: Lots) -> None:
        self.version += 1
        order.filled += size
        if order.filled > order.size:
            self.overfilled += 1
            order.size = order.filled
        if order.leaves == 0:
            self.owed.pop(order.cl_ord_id, None)
        self._move(order, OrderEvent.FULL_FILL if order.filled == order.size else OrderEvent.PARTIAL_FILL)

    def _move(self, order: Order, event: OrderEvent) -> None:
        state = TRANSITIONS.get((order.status, event))
        if state is None:
            self.illegal += 1
            return
        self.version += 1
        order.status = state
        if state in _DOUBTFUL:
            if order.cl_ord_id in self.live:
                self.doubtful[order.cl_ord_id] = order
        else:
            self.doubtful.pop(order.cl_ord_id, None)
        if state in ENDED and order.cl_ord_id in self.live:
            self.ended[state.value] = self.ended.get(state.value, 0) + 1
            del self.live[order.cl_ord_id]
            self.finished[order.cl_ord_id] = order
            if _is_owed(order):
                self.owed[order.cl_ord_id] = order
            if len(self.finished) > MAX_FINISHED:
                oldest = next(iter(self.finished))
                del self.finished[oldest]
                self.owed.pop(oldest, None)


def _name_of(order: Order) -> str:
    return order.cl_ord_id


def _is_owed(order: Order) -> bool:
    return order.status is OrdStatus.FILLED and order.leaves > 0


def diagram() -> str:
    """Return the state table as a Mermaid state diagram (docs/order-states.md is made of it)."""
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, event), target in TRANSITIONS.items():
        if state is not target:
            edges.setdefault((state.name, target.name), []).append(event.value)
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in edges.items()]
    start = f"    [*] --> {OrdStatus.PENDING_NEW.name}"
    ends = [f"    {status.name} --> [*]" for status in OrdStatus if status in ENDED]
    return "\n".join(["stateDiagram-v2", start, *lines, *ends])
