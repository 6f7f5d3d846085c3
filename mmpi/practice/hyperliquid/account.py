"""One practice account: its orders, fills, positions and cash; and the nonces of one signer.

Invariant: memory is bounded (MAX_OPEN, MAX_FILLS, MAX_FINISHED, NONCES_KEPT), money is exact.
It must not know the wire, signatures or other accounts.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from mmpi.actions import TimeInForce
from mmpi.events import ExecReport
from mmpi.instrument import MONEY_SCALE, Instrument, Lots, Money, Nanos, Side, Ticks
from mmpi.practice.hyperliquid.messages import DUPLICATE_NONCE, NONCE_OUT_OF_RANGE, NONCE_TOO_LOW

BALANCE: Final[Money] = 100_000 * MONEY_SCALE
"""What every practice account starts with: far more than the default capital of a configuration."""
MAX_OPEN: Final = 1000
"""Open orders of an account without volume (Hyperliquid "Rate limits and user limits")."""
MAX_FILLS: Final = 2000
"""The most that `userFills` ever returns (Hyperliquid "Info endpoint")."""
MAX_FINISHED: Final = 2000
"""Finished orders that `orderStatus` still knows: the venue's own number for `historicalOrders`."""
NONCES_KEPT: Final = 100
"""Per signer; older ones are refused (Hyperliquid "Nonces and API wallets", as are the next two)."""
NONCE_PAST_MS: Final = 2 * 86_400_000
NONCE_FUTURE_MS: Final = 86_400_000


class Order(msgspec.Struct):
    """An order that the venue accepted; `status` is "open" until it is "filled", "canceled" or so."""

    oid: int
    account: str
    instrument: Instrument
    cloid: str | None
    side: Side
    price: Ticks
    size: Lots
    time_in_force: TimeInForce
    reduce_only: bool
    timestamp: Nanos
    remaining: Lots
    status: str = "open"
    status_timestamp: Nanos = 0


class Fill(msgspec.Struct, frozen=True):
    """One execution, with the position before it and what its closing part earned (fees apart)."""

    tid: int
    order: Order
    ts: Nanos
    price: Ticks
    size: Lots
    fee: Money
    maker: bool
    start_position: Lots
    closed_pnl: Money


class Holding(msgspec.Struct):
    """A position and what it cost to enter, both signed."""

    lots: Lots = 0
    cost: Money = 0

    def trade(self, instrument: Instrument, change: Lots, price: Ticks) -> Money:
        """Return what the closing part of a fill of signed size earned, having applied the fill."""
        closed = 0
        if self.lots * change < 0:
            closed = self.lots if abs(change) >= abs(self.lots) else -change
        entry = self.cost * closed // self.lots if closed else 0
        self.cost += instrument.notional(price, change + closed) - entry
        self.lots += change
        return instrument.notional(price, closed) - entry


class Account:
    """One address's trading: open and finished orders, recent fills, positions, cash."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cash: Money = BALANCE
        self.volume: Money = 0
        self.requests = 0
        self.fills: deque[Fill] = deque(maxlen=MAX_FILLS)
        """Oldest first."""
        self.holdings: dict[Instrument, Holding] = {}
        self._open: dict[int, Order] = {}
        self._finished: dict[int, Order] = {}
        self._by_cloid: dict[str, Order] = {}

    @property
    def full(self) -> bool:
        """Whether one more order would be too many."""
        return len(self._open) >= MAX_OPEN

    def add(self, order: Order) -> None:
        """Take an accepted order; a cloid names its latest order."""
        self._open[order.oid] = order
        if order.cloid is not None:
            self._by_cloid[order.cloid] = order

    def finish(self, order: Order, status: str, now: Nanos) -> None:
        """Record that an order is over."""
        order.status, order.status_timestamp = status, now
        self._finished[order.oid] = self._open.pop(order.oid)
        if len(self._finished) > MAX_FINISHED:
            oldest = self._finished.pop(next(iter(self._finished)))
            if oldest.cloid is not None and self._by_cloid.get(oldest.cloid) is oldest:
                del self._by_cloid[oldest.cloid]

    def fill(self, order: Order, report: ExecReport) -> Fill:
        """Return the Fill of a TRADE report, having booked it."""
        holding = self.holdings.setdefault(order.instrument, Holding())
        start, change = holding.lots, order.side * report.size
        earned = holding.trade(order.instrument, change, report.price)
        notional = order.instrument.notional(report.price, report.size)
        self.cash -= order.side * notional + report.fee
        self.volume += notional
        order.remaining -= report.size
        fill = Fill(
            tid=int(report.exec_id),
            order=order,
            ts=report.recv_ts,
            price=report.price,
            size=report.size,
            fee=report.fee,
            maker=report.maker,
            start_position=start,
            closed_pnl=earned,
        )
        self.fills.append(fill)
        return fill

    def order(self, name: int | str) -> Order | None:
        """Return an order, open or not, by its oid or cloid."""
        if isinstance(name, str):
            return self._by_cloid.get(name)
        return self._open.get(name) or self._finished.get(name)

    def open_orders(self) -> Iterator[Order]:
        """Return the live orders, oldest first."""
        return iter(self._open.values())


class Nonces:
    """The highest nonces that one signer has used."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        """A heap, the smallest first."""

    def refuse(self, nonce: int, now_ms: int) -> str:
        """Return why a nonce cannot be used, or "" having marked it as used."""
        if not now_ms - NONCE_PAST_MS < nonce < now_ms + NONCE_FUTURE_MS:
            return NONCE_OUT_OF_RANGE.format(nonce=nonce, now=now_ms)
        if nonce in self._kept:
            return DUPLICATE_NONCE.format(nonce=nonce)
        if len(self._kept) < NONCES_KEPT:
            heapq.heappush(self._kept, nonce)
        elif nonce < self._kept[0]:
            return NONCE_TOO_LOW.format(nonce=nonce)
        else:
            heapq.heapreplace(self._kept, nonce)
        return ""
