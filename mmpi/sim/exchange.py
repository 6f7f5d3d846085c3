"""The simulated exchange: matches orders of any owners against a recorded or generated market.

Invariant: no displayed or traded size is used twice, and a resting order fills at its own price, never earlier in the
queue than the market's messages prove. It must not know latency, clocks or where events come from.
"""

from collections.abc import Mapping
from typing import Final

from mmpi.actions import NewOrder, TimeInForce
from mmpi.events import ExecReport, ExecType, Level, OpenOrder, Trade
from mmpi.instrument import BUY, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.sim.l3 import ADD, EXECUTE, OrdersBook, OrderUpdate, SimEvent, reaches
from mmpi.sim.model import CANCEL_MAKER, CANCEL_TAKER, REPLACE, fee_of, fee_rate
from mmpi.sim.model import SimConfig as SimConfig
from mmpi.sim.queue import BookSide, RestingOrder
from mmpi.sim.queue_models import FIFO, exponent
from mmpi.sim.sides import Sides

NO_BOOK: Final = "no book yet"
NO_MATCH: Final = "immediate or cancel, nothing to match"
"""Hyperliquid answers such an order with an error; here, as in FIX, it is accepted and expires."""
IOC_REST: Final = "immediate or cancel"
MAX_ORDERS: Final = 5000
"""Live orders held: the most that Hyperliquid lets one account have (documentation, "Rate limits and user limits")."""
MAX_FINISHED: Final = 10_000
"""Finished orders remembered for questions about them: twice what can be live."""
GONE: Final = "Order was never placed, already canceled, or filled."
"""Hyperliquid's words for a cancel that comes too late."""
NOT_AMENDABLE: Final = "Cannot modify canceled or filled order"
"""Its words for an amend that comes too late."""
WOULD_INCREASE: Final = "reduce only order would increase position"
SELF_TRADE: Final = "self trade prevention"
"""The reason of an order that went because it met one of the same owner."""


class Matching:
    """The exchange's side of the simulation: no latency and no clock; every report is returned to the caller."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        config: SimConfig,
        first_id: int = 1,
        *,
        by_order: bool = False,
        held: "Mapping[str, Lots] | None" = None,
    ) -> None:
        """`by_order` says that the market comes as OrderUpdates too; ConfigError if the queue model needs them.

        `held`: what the owner without a name has from the start.
        """
        power, exact = exponent(config.queue, config.queue_power, by_order), config.queue == FIFO
        self._markets = {name: Sides(instrument, power, exact) for name, instrument in instruments.items()}
        self.instruments = instruments
        self._maker_rate = fee_rate(config.maker_fee_bps)
        self._taker_rate = fee_rate(config.taker_fee_bps)
        self._amend = config.amend
        self._self_trade = config.self_trade
        self._next_order = first_id
        self._next_exec = first_id
        self._live: dict[str, RestingOrder] = {}
        self._by_cl_ord_id: dict[tuple[str, str], RestingOrder] = {}
        self._finished: dict[str, RestingOrder] = {}
        self._positions: dict[tuple[str, str], Lots] = {
            ("", name): lots for name, lots in (held or {}).items() if lots
        }
        self._reports: list[ExecReport] = []

    def on_market(self, event: SimEvent) -> list[ExecReport]:
        """Return the fills that a market event brings to resting orders; an unknown instrument brings none.

        A FIFO queue is kept by OrderUpdates alone: books and trades only sum them up. The other models see only those.
        """
        market = self._markets.get(event.instrument)
        if market is None:
            return []
        if market.orders is not None:
            if isinstance(event, OrderUpdate):
                self._update(market, market.orders, event)
        elif isinstance(event, Trade):
            self._trade(market.bids if event.side == SELL else market.asks, event)
        elif market.apply(event):
            self._uncross(market, event.recv_ts)
        return self._flush() if self._reports else []

    def place(self, order: NewOrder, owner: str, now: Nanos) -> list[ExecReport]:
        """Return NEW and the fills of an order that crosses, then EXPIRED for an IOC's rest; or one REJECTED.

        Between them may stand the CANCELED of own orders that it met, or its own, as `SimConfig.self_trade` says.
        """
        reason = self._refusal(order, owner)
        if reason:
            return [_report(now, order, "", ExecType.REJECTED, order.size, reason)]
        market = self._markets[order.instrument]
        resting = RestingOrder(
            str(self._next_order), owner, order.cl_ord_id, order.instrument,
            order.side, order.price, order.size, order.reduce_only,
        )  # fmt: skip
        self._next_order += 1
        resting.post_only = order.time_in_force is TimeInForce.POST_ONLY
        self._live[resting.order_id] = self._by_cl_ord_id[owner, order.cl_ord_id] = resting
        market.side(order.side).join(resting, market.exch_ts)
        self._reports.append(_report(now, order, resting.order_id, ExecType.NEW, order.size))
        self._take(market, resting, now)
        if order.time_in_force is TimeInForce.IOC and resting.done is None:
            self._end(resting, ExecType.EXPIRED, now, NO_MATCH if resting.left == resting.size else IOC_REST)
        return self._flush()

    def amend(self, order_id: str, price: Ticks, size: Lots, now: Nanos) -> list[ExecReport]:
        """Return what a new price and size bring; CANCEL_REJECTED, and nothing changed, where they are refused.

        "replace" (Hyperliquid `modify`): CANCELED of the old order, then NEW under another id, same name, `size` its
        whole size, post-only from then on; or REJECTED if it would match at once: then both are gone.
        "keep_on_decrease": NEW again under the same id, as the order now stands, then fills if it crosses; its place
        in the queue stays unless its price changes or its size grows. `size` counts what is filled already: not above
        that, or post-only and matching at once, it is CANCELED. Sources (read 2026-11-21): Binance Spot "Order Amend
        Keep Priority", Bybit "Amend Order", Gate "FuturesOrderAmendment"; what cancels, Binance Futures "Modify Order".
        """
        order = self._live.get(order_id)
        if order is None:
            return self._too_late(order_id, NOT_AMENDABLE, now)
        market = self._markets[order.instrument]
        reason = _form_refusal(market.instrument, price, size, order.reduce_only)
        if reason or not market.known:
            return [_refused(order, reason or NO_BOOK, now)]
        if self._amend != REPLACE:
            self._change(market, order, price, size, now)
            return self._flush()
        self._end(order, ExecType.CANCELED, now, "replaced")
        cancelled = self._flush()
        tif = TimeInForce.POST_ONLY
        new = NewOrder(order.instrument, order.cl_ord_id, order.side, price, size, 0, tif, order.reduce_only)
        return cancelled + self.place(new, order.owner, now)

    def cancel(self, order_id: str, now: Nanos) -> list[ExecReport]:
        """Return CANCELED with the size that was left, or CANCEL_REJECTED (of no instrument when never heard of)."""
        order = self._live.get(order_id)
        if order is not None:
            self._end(order, ExecType.CANCELED, now)
            return self._flush()
        return self._too_late(order_id, GONE, now)

    def find(self, owner: str, cl_ord_id: str) -> RestingOrder | None:
        """Return the owner's live order of that name."""
        return self._by_cl_ord_id.get((owner, cl_ord_id))

    def order(self, order_id: str) -> RestingOrder | None:
        """Return the live order with that id."""
        return self._live.get(order_id)

    def finished(self, owner: str, cl_ord_id: str) -> RestingOrder | None:
        """Return the owner's latest ended order of that name, while it is remembered; `done` says how it ended."""
        for order in reversed(self._finished.values()):
            if order.cl_ord_id == cl_ord_id and order.owner == owner:
                return order
        return None

    def owner(self, order_id: str) -> str:
        """Return whose order it is or was, "" when it is not remembered."""
        order = self._live.get(order_id) or self._finished.get(order_id)
        return order.owner if order else ""

    def open_orders(self, owner: str | None = None) -> tuple[OpenOrder, ...]:
        """Return the live orders of one owner, or of all."""
        return tuple(
            OpenOrder(o.instrument, o.cl_ord_id, o.order_id, o.side, o.price, o.left)
            for o in self._live.values()
            if owner is None or o.owner == owner
        )

    def position(self, owner: str, instrument: str) -> Lots:
        """Return the owner's position, the signed sum of its fills."""
        return self._positions.get((owner, instrument), 0)

    def positions(self, owner: str) -> tuple[tuple[str, Lots], ...]:
        """Return the owner's positions that are not zero, by instrument."""
        return tuple((name, lots) for (who, name), lots in self._positions.items() if who == owner)

    def book(self, instrument: str, depth: int = 20) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return (bids, asks): the recorded book less what our orders took, with all resting orders merged in."""
        return self._markets[instrument].published(depth)

    def _refusal(self, order: NewOrder, owner: str) -> str:
        """Return why the exchange does not take the order, "" if it does."""
        market = self._markets.get(order.instrument)
        if market is None:
            return f"unknown instrument {order.instrument}"
        if reason := _form_refusal(market.instrument, order.price, order.size, order.reduce_only):
            return reason
        if (owner, order.cl_ord_id) in self._by_cl_ord_id:
            return "duplicate client order id"
        if not market.known:
            return NO_BOOK
        if len(self._live) >= MAX_ORDERS:
            return "too many open orders"
        if order.reduce_only and self._reducible(owner, order.instrument, order.side) == 0:
            return WOULD_INCREASE
        if order.time_in_force is TimeInForce.POST_ONLY:
            return market.post_only_refusal(order.side, order.price, owner)
        return ""

    def _too_late(self, order_id: str, reason: str, now: Nanos) -> list[ExecReport]:
        past = self._finished.get(order_id)
        instrument, cl_ord_id = (past.instrument, past.cl_ord_id) if past else ("", "")
        return [ExecReport(now, instrument, now, cl_ord_id, order_id, ExecType.CANCEL_REJECTED, reason=reason)]

    def _change(self, market: Sides, order: RestingOrder, price: Ticks, size: Lots, now: Nanos) -> None:
        """Amend an order under its id."""
        filled = order.size - order.left
        crosses = market.post_only_refusal(order.side, price, order.owner) if order.post_only else ""
        if size <= filled or crosses:
            self._end(order, ExecType.CANCELED, now, crosses or "amended to no more than is filled")
            return
        moved = price != order.price or size > order.size
        side = market.side(order.side)
        if moved:
            side.leave(order)
        order.price, order.size, order.left = price, size, size - filled
        if moved:
            side.join(order, market.exch_ts)
        self._reports.append(_report_on(order, ExecType.NEW, order.size, now))
        if moved:
            self._take(market, order, now)

    def _trade(self, side: BookSide, trade: Trade) -> None:
        """Let a trade hit our orders: those it went through first, then the queue at its price."""
        volume = trade.size
        for order in tuple(side.orders) if side.orders else ():
            better = side.side * (order.price - trade.price)
            if better < 0 or volume <= 0:
                return
            if 0 < trade.exch_ts <= order.since_exch_ts:
                continue
            if better > 0:
                order.ahead = 0
            elif order.ahead < 0 or 0 < trade.exch_ts <= order.seen_exch_ts:
                continue
            reaching = side.pass_by(order, volume, trade) if better == 0 else volume
            volume -= self._fill(order, reaching, order.price, True, trade.recv_ts)

    def _update(self, market: Sides, book: OrdersBook, update: OrderUpdate) -> None:
        """Fill those of ours whom a recorded order's message would have met first, and keep the true queues."""
        change = book.apply(update)
        side, other = (market.bids, market.asks) if update.side == BUY else (market.asks, market.bids)
        volume = update.size
        for order in tuple(side.orders if update.action == EXECUTE else other.orders):
            if reaches(update, change.rank, order.side, order.price, order.rank):
                owed = min(order.owed, volume)
                order.owed -= owed
                volume -= self._fill(order, volume - owed, order.price, True, update.recv_ts)
            elif update.action == EXECUTE:
                order.owed += update.size - volume
        market.known = True
        market.bids.arrivals = market.asks.arrivals = book.arrivals
        side.change([(update.price, change.total)])
        side.depart(update.price, change.left, change.rank)
        if update.action == ADD and volume < update.size:
            side.use((update.price, change.total), update.size - volume)

    def _uncross(self, market: Sides, now: Nanos) -> None:
        """Fill resting orders that the market's book went strictly through; a locked book fills nothing."""
        for side, other in ((market.bids, market.asks), (market.asks, market.bids)):
            if side.orders and other.levels and side.side * (side.orders[0].price - other.levels[0][0]) > 0:
                for order in tuple(side.orders):
                    self._sweep(market, order, maker=True, now=now)

    def _take(self, market: Sides, order: RestingOrder, now: Nanos) -> None:
        """Let an order take what it crosses; where it meets one of its owner, the policy decides who goes."""
        for own in market.own_in_the_way(order.side, order.price, order.owner):
            self._sweep(market, order, False, now, own)
            if order.done is not None:
                return
            if self._self_trade != CANCEL_TAKER:
                self._end(own, ExecType.CANCELED, now, SELF_TRADE)
            if self._self_trade != CANCEL_MAKER:
                self._end(order, ExecType.CANCELED, now, SELF_TRADE)
                return
        self._sweep(market, order, False, now)

    def _sweep(
        self, market: Sides, order: RestingOrder, maker: bool, now: Nanos, before: RestingOrder | None = None
    ) -> None:
        """Fill an order from the opposite displayed size: a taker at each level's price, a maker at its own.

        With `before`, from what stands ahead of that order alone.
        """
        other = market.other(order.side)
        for level in other.levels:
            better = order.side * (order.price - level[0])
            if better < 0 or (maker and better == 0) or order.done is not None:
                return
            price = order.price if maker else level[0]
            size = other.available(level)
            if before is not None:
                size = _ahead_of(before, level, size)
            filled = self._fill(order, size, price, maker, now)
            if filled:
                other.use(level, filled)

    def _fill(self, order: RestingOrder, size: Lots, price: Ticks, maker: bool, now: Nanos) -> Lots:
        """Fill up to `size`, within what is left and what reduce-only allows; return what was filled."""
        if order.reduce_only and size > 0:
            reducible = self._reducible(order.owner, order.instrument, order.side)
            if reducible == 0:
                self._end(order, ExecType.CANCELED, now, WOULD_INCREASE)
                return 0
            size = min(size, reducible)
        size = min(size, order.left)
        if size <= 0:
            return 0
        order.left -= size
        key = (order.owner, order.instrument)
        position = self._positions.get(key, 0) + order.side * size
        self._positions[key] = position
        if position == 0:
            del self._positions[key]
        notional = self._markets[order.instrument].instrument.notional(price, size)
        fee = fee_of(notional, self._maker_rate if maker else self._taker_rate)
        self._reports.append(
            ExecReport(
                now, order.instrument, now, order.cl_ord_id, order.order_id, ExecType.TRADE,
                order.side, price, size, fee, maker, str(self._next_exec),
            )  # fmt: skip
        )
        self._next_exec += 1
        if order.left == 0:
            self._forget(order, ExecType.FILLED)
        return size

    def _reducible(self, owner: str, instrument: str, side: Side) -> Lots:
        return max(0, -side * self._positions.get((owner, instrument), 0))

    def _end(self, order: RestingOrder, how: ExecType, now: Nanos, reason: str = "") -> None:
        self._forget(order, how)
        self._reports.append(_report_on(order, how, order.left, now, reason))

    def _forget(self, order: RestingOrder, how: ExecType) -> None:
        """Move an order from the live ones to the remembered ones."""
        order.done = how
        self._markets[order.instrument].side(order.side).leave(order)
        del self._live[order.order_id]
        del self._by_cl_ord_id[order.owner, order.cl_ord_id]
        self._finished[order.order_id] = order
        if len(self._finished) > MAX_FINISHED:
            del self._finished[next(iter(self._finished))]

    def _flush(self) -> list[ExecReport]:
        reports, self._reports = self._reports, []
        return reports


def _form_refusal(instrument: Instrument, price: Ticks, size: Lots, reduce_only: bool) -> str:
    """Return what is wrong with an order in any market, "" if nothing is."""
    if size <= 0:
        return "size must be greater than 0"
    if price <= 0:
        return "price must be greater than 0"
    if price % instrument.step_at(price):
        return "price is not on the grid"
    if not reduce_only and instrument.notional(price, size) < instrument.min_notional:
        return "order value is below the minimum"
    return ""


def _ahead_of(order: RestingOrder, level: Level, left: Lots) -> Lots:
    """Return how much of the `left` of a displayed level a taker meets before a resting order."""
    better = order.side * (order.price - level[0])
    if better == 0:
        return min(left, max(0, order.ahead - (level[1] - left)))
    return 0 if better > 0 else left


def _refused(order: RestingOrder, reason: str, now: Nanos) -> ExecReport:
    return _report_on(order, ExecType.CANCEL_REJECTED, order.left, now, reason)


def _report_on(order: RestingOrder, what: ExecType, size: Lots, now: Nanos, reason: str = "") -> ExecReport:
    return ExecReport(
        now, order.instrument, now, order.cl_ord_id, order.order_id, what, order.side, order.price, size, reason=reason
    )


def _report(now: Nanos, order: NewOrder, order_id: str, what: ExecType, size: Lots, reason: str = "") -> ExecReport:
    return ExecReport(
        now, order.instrument, now, order.cl_ord_id, order_id, what, order.side, order.price, size, reason=reason
    )
