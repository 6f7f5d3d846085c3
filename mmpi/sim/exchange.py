"""The simulated exchange: matches orders of any owners against a recorded or generated market.

Invariant: no displayed or traded size is used twice, and a resting order fills at its own price, never earlier in the
queue than the market's messages prove. It must not know latency, clocks or where events come from.
"""

from collections.abc import Mapping
from typing import Final

from mmpi.actions import NewOrder, TimeInForce
from mmpi.events import BookDelta, BookSnapshot, ExecReport, ExecType, Level, MarketEvent, OpenOrder, Trade
from mmpi.instrument import BUY, SELL, Instrument, Lots, Money, Nanos, Side, Ticks
from mmpi.sim.queue import BookSide, RestingOrder
from mmpi.structs import Config

FEE_SCALE: Final = 10**8
"""Fee rates are integers of 10^-8 of the notional, a ten-thousandth of a basis point."""
MAX_ORDERS: Final = 5000
"""Live orders held: the most that Hyperliquid lets one account have (documentation, "Rate limits and user limits")."""
MAX_FINISHED: Final = 10_000
"""Finished orders remembered for questions about them: twice what can be live."""
GONE: Final = "Order was never placed, already canceled, or filled."
"""Hyperliquid's words for a cancel that comes too late."""


class SimConfig(Config, frozen=True):
    """Costs and delays of the simulated exchange.

    Fees default to Hyperliquid's perpetuals at tier 0 (documentation, "Trading: Fees"); a negative one is a rebate.
    """

    maker_fee_bps: float = 1.5
    taker_fee_bps: float = 4.5
    latency_in_ms: float = 50
    """An order's way to the exchange."""
    latency_out_ms: float = 50
    """A report's way back."""
    jitter_ms: float = 10
    """Each message takes up to this much longer, uniformly."""
    seed: int = 1


class _Market:
    """One instrument: its two sides and how far its book is known."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.bids = BookSide(BUY)
        self.asks = BookSide(SELL)
        self.known = False
        self.deep = False
        """Known from a snapshot on, not from best prices alone."""
        self.seq = 0
        self.exch_ts: Nanos = 0

    def side(self, side: Side) -> BookSide:
        """Return the side on which an order of `side` rests."""
        return self.bids if side == BUY else self.asks


class Matching:
    """The exchange's side of the simulation: no latency and no clock; every report is returned to the caller."""

    def __init__(self, instruments: Mapping[str, Instrument], config: SimConfig, first_id: int = 1) -> None:
        self._markets = {name: _Market(instrument) for name, instrument in instruments.items()}
        self._maker_rate = fee_rate(config.maker_fee_bps)
        self._taker_rate = fee_rate(config.taker_fee_bps)
        self._next_order = first_id
        self._next_exec = first_id
        self._live: dict[str, RestingOrder] = {}
        self._by_cl_ord_id: dict[tuple[str, str], RestingOrder] = {}
        self._finished: dict[str, RestingOrder] = {}
        self._positions: dict[tuple[str, str], Lots] = {}
        self._reports: list[ExecReport] = []

    def on_market(self, event: MarketEvent) -> list[ExecReport]:
        """Return the fills that a market event brings to resting orders; an unknown instrument brings none."""
        market = self._markets.get(event.instrument)
        if market is None:
            return []
        if isinstance(event, Trade):
            self._trade(market.bids if event.side == SELL else market.asks, event)
        elif _apply(market, event):
            self._uncross(market, event.recv_ts)
        return self._flush() if self._reports else []

    def place(self, order: NewOrder, owner: str, now: Nanos) -> list[ExecReport]:
        """Return NEW and the fills of an order that crosses, then EXPIRED for an IOC's rest; or one REJECTED."""
        reason = self._refusal(order, owner)
        if reason:
            return [_report(now, order, "", ExecType.REJECTED, order.size, reason)]
        market = self._markets[order.instrument]
        resting = RestingOrder(
            str(self._next_order), owner, order.cl_ord_id, order.instrument,
            order.side, order.price, order.size, order.reduce_only,
        )  # fmt: skip
        self._next_order += 1
        self._live[resting.order_id] = self._by_cl_ord_id[owner, order.cl_ord_id] = resting
        market.side(order.side).join(resting)
        self._reports.append(_report(now, order, resting.order_id, ExecType.NEW, order.size))
        self._sweep(market, resting, maker=False, now=now)
        if order.time_in_force is TimeInForce.IOC and resting.done is None:
            self._end(resting, ExecType.EXPIRED, now, "immediate or cancel")
        return self._flush()

    def cancel(self, order_id: str, now: Nanos) -> list[ExecReport]:
        """Return CANCELED with the size that was left, or CANCEL_REJECTED (of no instrument when never heard of)."""
        order = self._live.get(order_id)
        if order is not None:
            self._end(order, ExecType.CANCELED, now)
            return self._flush()
        past = self._finished.get(order_id)
        instrument, cl_ord_id = (past.instrument, past.cl_ord_id) if past else ("", "")
        return [ExecReport(now, instrument, now, cl_ord_id, order_id, ExecType.CANCEL_REJECTED, reason=GONE)]

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
        market = self._markets[instrument]
        return _merged(market.bids, depth), _merged(market.asks, depth)

    def _refusal(self, order: NewOrder, owner: str) -> str:
        """Return why the exchange does not take the order, "" if it does."""
        market = self._markets.get(order.instrument)
        if market is None:
            return f"unknown instrument {order.instrument}"
        instrument = market.instrument
        if order.size <= 0:
            return "size must be greater than 0"
        if order.price <= 0:
            return "price must be greater than 0"
        if order.price % instrument.step_at(order.price):
            return "price is not on the grid"
        if not order.reduce_only and instrument.notional(order.price, order.size) < instrument.min_notional:
            return "order value is below the minimum"
        if (owner, order.cl_ord_id) in self._by_cl_ord_id:
            return "duplicate client order id"
        if not market.known:
            return "no book yet"
        if len(self._live) >= MAX_ORDERS:
            return "too many open orders"
        if order.reduce_only and self._reducible(owner, order.instrument, order.side) == 0:
            return "reduce only order would increase position"
        return _post_only_refusal(market, order, owner) if order.time_in_force is TimeInForce.POST_ONLY else ""

    def _trade(self, side: BookSide, trade: Trade) -> None:
        """Let a trade hit our orders: those it went through first, then the queue at its price."""
        volume = trade.size
        for order in tuple(side.orders) if side.orders else ():
            better = side.side * (order.price - trade.price)
            if better < 0 or volume <= 0:
                return
            if better > 0:
                order.ahead = 0
            elif order.ahead < 0:
                continue
            eaten = min(order.ahead, volume)
            order.ahead -= eaten
            volume -= self._fill(order, volume - eaten, order.price, True, trade.recv_ts)

    def _uncross(self, market: _Market, now: Nanos) -> None:
        """Fill resting orders that the market's book went strictly through; a locked book fills nothing."""
        for side, other in ((market.bids, market.asks), (market.asks, market.bids)):
            if side.orders and other.levels and side.side * (side.orders[0].price - other.levels[0][0]) > 0:
                for order in tuple(side.orders):
                    self._sweep(market, order, maker=True, now=now)

    def _sweep(self, market: _Market, order: RestingOrder, maker: bool, now: Nanos) -> None:
        """Fill an order from the opposite displayed size: a taker at each level's price, a maker at its own."""
        other = market.asks if order.side == BUY else market.bids
        for level in other.levels:
            better = order.side * (order.price - level[0])
            if better < 0 or (maker and better == 0) or order.done is not None:
                return
            price = order.price if maker else level[0]
            filled = self._fill(order, other.available(level), price, maker, now)
            if filled:
                other.use(level, filled)

    def _fill(self, order: RestingOrder, size: Lots, price: Ticks, maker: bool, now: Nanos) -> Lots:
        """Fill up to `size`, within what is left and what reduce-only allows; return what was filled."""
        if order.reduce_only and size > 0:
            reducible = self._reducible(order.owner, order.instrument, order.side)
            if reducible == 0:
                self._end(order, ExecType.CANCELED, now, "reduce only order would increase position")
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
        self._reports.append(
            ExecReport(
                now, order.instrument, now, order.cl_ord_id, order.order_id, how,
                order.side, order.price, order.left, reason=reason,
            )  # fmt: skip
        )

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


def fee_rate(bps: float) -> int:
    """Return basis points as an integer of 1/FEE_SCALE."""
    return round(bps * FEE_SCALE / 10_000)


def fee_of(notional: Money, rate: int) -> Money:
    """Return the fee on a fill, rounded up (against us, a rebate too)."""
    return -(-notional * rate // FEE_SCALE)


def _apply(market: _Market, event: MarketEvent) -> bool:
    """Bring the recorded book up to date; False if the message cannot be used. A gap makes the book unknown."""
    if isinstance(event, BookSnapshot):
        market.known = market.deep = True
        market.seq, market.exch_ts = event.seq, event.exch_ts
        market.bids.replace(event.bids)
        market.asks.replace(event.asks)
    elif isinstance(event, BookDelta):
        if not market.deep or (event.seq and event.seq <= market.seq):
            return False
        if event.prev_seq > market.seq:
            market.known = market.deep = False
            return False
        market.seq, market.exch_ts = event.seq, event.exch_ts
        market.bids.change(event.bids)
        market.asks.change(event.asks)
    elif not isinstance(event, Trade):
        if event.exch_ts and event.exch_ts < market.exch_ts:
            return False
        market.known = True
        market.exch_ts = event.exch_ts
        market.bids.top(event.bid, event.bid_size, market.deep)
        market.asks.top(event.ask, event.ask_size, market.deep)
    return True


def _post_only_refusal(market: _Market, order: NewOrder, owner: str) -> str:
    other = market.asks if order.side == BUY else market.bids
    if other.levels and order.side * (order.price - other.levels[0][0]) >= 0:
        return "post only order would match immediately"
    for resting in other.orders:
        if order.side * (order.price - resting.price) < 0:
            break
        if resting.owner == owner:
            return "post only order would cross own order"
    return ""


def _merged(side: BookSide, depth: int) -> tuple[Level, ...]:
    sizes: dict[Ticks, Lots] = {level[0]: side.available(level) for level in side.levels}
    for order in side.orders:
        sizes[order.price] = sizes.get(order.price, 0) + order.left
    prices = sorted((price for price, size in sizes.items() if size > 0), reverse=side.side == BUY)
    return tuple((price, sizes[price]) for price in prices[:depth])


def _report(now: Nanos, order: NewOrder, order_id: str, what: ExecType, size: Lots, reason: str = "") -> ExecReport:
    return ExecReport(
        now, order.instrument, now, order.cl_ord_id, order_id, what, order.side, order.price, size, reason=reason
    )
