"""One practice account: its orders, fills, funding, positions, cash and spot balances.

Invariant: memory is bounded (MAX_OPEN, MAX_FILLS, MAX_FINISHED, MAX_FUNDINGS), money is exact.
It must not know the wire, signatures or other accounts.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from mmpi.actions import TimeInForce
from mmpi.events import ExecReport
from mmpi.instrument import BUY, MONEY_SCALE, Instrument, Lots, Money, Nanos, Side, Ticks
from mmpi.practice.hyperliquid.budget import Budget
from mmpi.practice.hyperliquid.dead_man import DeadManSwitch
from mmpi.practice.hyperliquid.rules import DEFAULT, Rules
from mmpi.practice.hyperliquid.spot import PAIRS, USDC, Pair, Token
from mmpi.practice.hyperliquid.wallet import Wallet, base_amount
from mmpi.sim.funding import Payment
from mmpi.sim.model import fee_rate

BALANCE: Final[Money] = 100_000 * MONEY_SCALE
"""What every practice account starts with: far more than the default capital of a configuration."""
MAX_OPEN: Final = 1000
"""Open orders of an account without volume (Hyperliquid "Rate limits and user limits")."""
MAX_FILLS: Final = 2000
"""The most that `userFills` ever returns (Hyperliquid "Info endpoint")."""
MAX_FINISHED: Final = 2000
"""Finished orders that `orderStatus` still knows: the venue's own number for `historicalOrders`."""
MAX_FUNDINGS: Final = 2000
"""Funding payments that `userFunding` still knows; the venue answers 500 at a time."""


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
    """One execution, with the position before it and what its closing part earned (fees apart).

    Of a spot fill, `start_balance` is what the account had of the base token, and the fee is in `fee_token`.
    """

    tid: int
    order: Order
    ts: Nanos
    price: Ticks
    size: Lots
    fee: Money
    maker: bool
    start_position: Lots
    closed_pnl: Money
    fee_token: str = USDC.name
    start_balance: Money = 0


class FundingPaid(msgspec.Struct, frozen=True):
    """One funding payment; `amount` > 0 was received."""

    instrument: Instrument
    ts: Nanos
    amount: Money
    lots: Lots
    rate: float


class Holding(msgspec.Struct):
    """A position and what it cost to enter, both signed; and the funding it paid, less what it received."""

    lots: Lots = 0
    cost: Money = 0
    funding: Money = 0
    funding_since_open: Money = 0
    funding_since_change: Money = 0

    def trade(self, instrument: Instrument, change: Lots, price: Ticks) -> Money:
        """Return what the closing part of a fill of signed size earned, having applied the fill."""
        closed = 0
        if self.lots * change < 0:
            closed = self.lots if abs(change) >= abs(self.lots) else -change
        entry = self.cost * closed // self.lots if closed else 0
        self.cost += instrument.notional(price, change + closed) - entry
        before, self.lots = self.lots, self.lots + change
        self.funding_since_change = 0
        if before * self.lots <= 0:
            self.funding_since_open = 0
        return instrument.notional(price, closed) - entry

    def pay(self, amount: Money) -> None:
        """Count a funding payment; below 0 it was received."""
        self.funding += amount
        self.funding_since_open += amount
        self.funding_since_change += amount


class Account:
    """One address's trading: open and finished orders, recent fills, positions, cash, spot balances."""

    def __init__(self, address: str, rules: Rules = DEFAULT) -> None:
        self.address = address
        self.cash: Money = BALANCE
        self.volume: Money = 0
        self.wallet = Wallet()
        self.budget = Budget(rules)
        self.dead_man = DeadManSwitch(rules)
        self.fills: deque[Fill] = deque(maxlen=MAX_FILLS)
        """Oldest first, as are the funding payments."""
        self.fundings: deque[FundingPaid] = deque(maxlen=MAX_FUNDINGS)
        self.holdings: dict[Instrument, Holding] = {}
        self.leverage: dict[Instrument, int] = {}
        """Where it was set."""
        self._spot_maker_rate = fee_rate(rules.spot_maker_fee_bps)
        self._spot_taker_rate = fee_rate(rules.spot_taker_fee_bps)
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
        pair = PAIRS.get(order.instrument.name)
        fill = self._perpetual_fill(order, report) if pair is None else self._spot_fill(pair, order, report)
        self.volume += order.instrument.notional(report.price, report.size)
        order.remaining -= report.size
        self.fills.append(fill)
        return fill

    def fund(self, instrument: Instrument, payment: Payment) -> FundingPaid | None:
        """Return what a funding payment brought, having booked it; None if there is no position."""
        holding = self.holdings.get(instrument)
        if holding is None or not holding.lots:
            return None
        amount = payment.amount(instrument, holding.lots)
        self.cash += amount
        holding.pay(-amount)
        paid = FundingPaid(instrument, payment.ts, amount, holding.lots, payment.rate)
        self.fundings.append(paid)
        return paid

    def order(self, name: int | str) -> Order | None:
        """Return an order, open or not, by its oid or cloid."""
        if isinstance(name, str):
            return self._by_cloid.get(name)
        return self._open.get(name) or self._finished.get(name)

    def open_orders(self) -> Iterator[Order]:
        """Return the live orders, oldest first."""
        return iter(self._open.values())

    def finished_orders(self) -> Iterator[Order]:
        """Return the orders that are over, latest first."""
        return reversed(self._finished.values())

    def held(self, token: Token) -> Money:
        """Return how much of a spot balance the open orders hold."""
        orders = ((PAIRS.get(order.instrument.name), order) for order in self._open.values())
        return sum(
            _hold(pair, order.side, order.price, order.remaining)
            for pair, order in orders
            if pair is not None and _paid_in(pair, order.side) == token
        )

    def affords(self, pair: Pair, side: Side, price: Ticks, size: Lots) -> bool:
        """Return whether a spot order finds what it would pay among what no other order holds."""
        token = _paid_in(pair, side)
        return _hold(pair, side, price, size) <= self.wallet.balances[token].total - self.held(token)

    def _perpetual_fill(self, order: Order, report: ExecReport) -> Fill:
        holding = self.holdings.setdefault(order.instrument, Holding())
        start, change = holding.lots, order.side * report.size
        earned = holding.trade(order.instrument, change, report.price)
        self.cash -= order.side * order.instrument.notional(report.price, report.size) + report.fee
        return Fill(
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

    def _spot_fill(self, pair: Pair, order: Order, report: ExecReport) -> Fill:
        rate = self._spot_maker_rate if report.maker else self._spot_taker_rate
        booked = self.wallet.trade(pair, order.side, report.price, report.size, rate)
        return Fill(
            tid=int(report.exec_id),
            order=order,
            ts=report.recv_ts,
            price=report.price,
            size=report.size,
            fee=booked.fee,
            maker=report.maker,
            start_position=0,
            closed_pnl=booked.closed_pnl,
            fee_token=booked.token.name,
            start_balance=booked.start,
        )


def _paid_in(pair: Pair, side: Side) -> Token:
    return pair.quote if side == BUY else pair.base


def _hold(pair: Pair, side: Side, price: Ticks, size: Lots) -> Money:
    return pair.instrument.notional(price, size) if side == BUY else base_amount(pair, size)
