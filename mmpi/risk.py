"""RiskGate: the one place that turns an action into an Approved action, or into a counted refusal.

Invariant (I1): no order passes that could break a limit if everything open on its side were filled; an order that only
reduces the position is never stopped by position or notional limits. It must not know strategies or venues.
"""

from enum import Enum
from typing import Final, TypeAlias

from mmpi.actions import Action, AmendOrder, Approved, NewOrder
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, Instrument, Lots, Money, Nanos, Side
from mmpi.inventory import CRITICAL, band
from mmpi.ports import Quote, QuoteLevel
from mmpi.structs import Config, Frozen, Leaf, State
from mmpi.tripwires import DAILY_LOSS, Tripwires, TripwireState

Entry: TypeAlias = NewOrder | AmendOrder
"""What puts an order on the book."""
HARD_INVENTORY: Final = "hard_inventory"
"""The breach of the HARD inventory band."""
_WHOLE: Final = 100_000_000
"""100 percent."""
_TOKEN: Final = SECOND
"""One order of the rate limit, in token units, so that the bucket is exact in integers of nanoseconds."""


class RiskConfig(Config, frozen=True):
    """Limits, in Money (10^-12 of the quote currency) unless the name says otherwise."""

    capital: Money = 10_000 * MONEY_SCALE
    max_position: Money = 1_000 * MONEY_SCALE
    """Per instrument and side: position plus open orders of that side, at the mid."""
    warn_percent: float = 60.0
    """Of max_position: from here on quoters lean harder against the position."""
    critical_percent: float = 90.0
    """From here on orders that increase the position are withdrawn."""
    hard_percent: float = 125.0
    """From here on the box latches: no order of ours can have led here."""
    max_order: Money = 500 * MONEY_SCALE
    max_instrument: Money = 3_000 * MONEY_SCALE
    """Per instrument: absolute position plus all open orders."""
    max_total: Money = 6_000 * MONEY_SCALE
    """Over all instruments: the sum of what `max_instrument` bounds."""
    session_loss: Money = 500 * MONEY_SCALE
    max_drawdown: Money = 500 * MONEY_SCALE
    daily_loss: Money = 0
    """Since the last midnight UTC; 0 = as much as `session_loss`."""
    max_fills_per_minute: int = 600
    """0 = any number."""
    unknown_fate_s: float = 120.0
    """How long the venue may not say what became of an order, though it is asked; 0 = for ever."""
    price_band_bps: float = 500.0
    """Fat finger: the farthest an order may be from the mid."""
    orders_per_s: float = 20.0
    order_burst: int = 40
    max_open_orders: int = 40
    """Per instrument, orders of unknown fate included."""
    stale_after_s: float = 5.0
    session_start_s: int = 0
    """When a session begins, in seconds after midnight UTC; -1 = only the first one ever does."""
    unarmed_percent: float = 25.0
    """Of max_order, max_position, max_instrument and max_total, while no dead-man switch at the venue is set."""
    flatten_base_bps: float = 10.0
    """Slippage of the first order that flattens; each further one has `flatten_step_bps` more, up to the most."""
    flatten_step_bps: float = 10.0
    flatten_max_bps: float = 100.0
    flatten_attempts: int = 10


class Refusal(Enum):
    """Why an order was not let through; counted under these names in every summary."""

    NOT_QUOTING = "not_quoting"
    NOT_REDUCING = "not_reducing"
    STALE_DATA = "stale_data"
    NO_MID = "no_mid"
    PRICE_BAND = "price_band"
    MIN_NOTIONAL = "min_notional"
    ORDER_NOTIONAL = "order_notional"
    OPEN_ORDERS = "open_orders"
    ORDER_RATE = "order_rate"
    POSITION = "position"
    INSTRUMENT_NOTIONAL = "instrument_notional"
    TOTAL_EXPOSURE = "total_exposure"
    SIZE_BELOW_LOT = "size_below_lot"
    REQUEST_BUDGET = "request_budget"
    REQUEST_WEIGHT = "request_weight"


class Exposure(Leaf, frozen=True):
    """What is at stake in one instrument, orders of unknown fate included; `mid2` 0 = there never was a valid mid."""

    position: Lots
    open_buys: Lots
    open_sells: Lots
    open_orders: int
    mid2: int
    market_ts: Nanos
    """When the book was last heard."""
    elsewhere: Money
    """Absolute position plus open orders of all other instruments."""

    def with_order(self, side: Side, size: Lots) -> "Exposure":
        """Return the exposure with one more open order."""
        buys, sells = self.open_buys, self.open_sells
        buys, sells = (buys + size, sells) if side == BUY else (buys, sells + size)
        return Exposure(self.position, buys, sells, self.open_orders + 1, self.mid2, self.market_ts, self.elsewhere)


class GateState(State, frozen=True):
    """A RiskGate as plain values."""

    open: bool
    refusals: "dict[str, int]"
    base: Money
    peak: Money
    breach: str
    tokens: int
    tokens_ts: Nanos
    accepted: "dict[str, Lots]"
    unarmed: bool
    reducing: bool
    wires: TripwireState


class _Cut(Frozen, frozen=True):
    """The rungs that were wanted, at which position and mid, and the rungs that were left."""

    wanted_bids: "tuple[QuoteLevel, ...]"
    wanted_asks: "tuple[QuoteLevel, ...]"
    position: Lots
    mid2: int
    bids: "tuple[QuoteLevel, ...]"
    asks: "tuple[QuoteLevel, ...]"
    refused: "tuple[tuple[Refusal, int], ...]"


class RiskGate:
    """Limits of one account: per order, per instrument, over all, and on equity."""

    def __init__(self, config: RiskConfig) -> None:
        self.config = config
        self.open = False
        """Whether orders may pass at all; the engine closes it when halted, stopping or not reconciled."""
        self.reducing = False
        """Only orders pass that reduce a position and tell the venue so, open or not."""
        daily_loss = config.daily_loss or config.session_loss
        self.wires = Tripwires(daily_loss, config.max_fills_per_minute, config.unknown_fate_s)
        self.refusals: dict[str, int] = {}
        self.base: Money = 0
        """Equity that session loss is measured from: 0 at the start, then the equity at which a person re-armed."""
        self.peak: Money = 0
        self.breach = ""
        """The equity limit that was touched; only a person clears it."""
        self.accepted: dict[str, Lots] = {}
        """Positions beyond HARD that a person armed the box with: what is not larger does not latch again."""
        self._shaped: dict[str, _Cut] = {}
        """What the last quote of each instrument was cut to: most rounds ask for the same again."""
        self._warn = round(config.warn_percent * 1_000_000)
        self._critical = round(config.critical_percent * 1_000_000)
        self._hard = round(config.hard_percent * 1_000_000)
        self.stale_after: Nanos = round(config.stale_after_s * SECOND)
        self._rate = round(config.orders_per_s * 1_000_000)
        self._tokens = config.order_burst * _TOKEN
        self._tokens_ts: Nanos = 0
        self.unarmed = False
        """The smaller limits on amounts apply."""
        self._max_position, self._max_order = config.max_position, config.max_order
        self._max_instrument, self._max_total = config.max_instrument, config.max_total

    def set_unarmed(self, unarmed: bool) -> None:
        """Apply the smaller limits on amounts, or the full ones. The HARD band, which latches, stays where it is."""
        if unarmed == self.unarmed:
            return
        self.unarmed = unarmed
        config, share = self.config, round(self.config.unarmed_percent * 1_000_000) if unarmed else _WHOLE
        self._max_position, self._max_order = (
            config.max_position * share // _WHOLE, config.max_order * share // _WHOLE,
        )  # fmt: skip
        self._max_instrument, self._max_total = (
            config.max_instrument * share // _WHOLE, config.max_total * share // _WHOLE,
        )  # fmt: skip
        self._shaped.clear()

    def approve(self, action: Action, instrument: Instrument, exposure: Exposure, now: Nanos) -> Approved | Refusal:
        """Return the action approved, or the reason why not (counted). Only orders, new or amended, can be refused."""
        if isinstance(action, NewOrder | AmendOrder):
            refusal = self._refuse(action, instrument, exposure, now)
            if refusal is not None:
                self.count(refusal)
                return refusal
        return Approved(now, action)

    def pass_through(self, action: Action, now: Nanos) -> Approved:
        """Return an action that places nothing, approved; an order here is our bug."""
        assert not isinstance(action, NewOrder | AmendOrder)
        return Approved(now, action)

    def count(self, refusal: Refusal, number: int = 1) -> None:
        """Count a refusal, or several for one reason."""
        self.refusals[refusal.value] = self.refusals.get(refusal.value, 0) + number

    def equity(self, equity: Money, now: Nanos = 0) -> str:
        """Return the limit that session equity touches now, or ""; drawdown is from the session's peak."""
        daily = self.wires.equity(equity, now)
        self.peak = max(self.peak, equity)
        if not self.breach:
            if self.base - equity >= self.config.session_loss:
                self.breach = "session_loss"
            elif self.peak - equity >= self.config.max_drawdown:
                self.breach = "drawdown"
            elif daily:
                self.breach = DAILY_LOSS
        return self.breach

    def inventory(self, position: Lots, mid2: int, instrument: Instrument) -> str:
        """Return the breach that a position at a mid is, or "": HARD, and more than was armed with."""
        # The same comparison as in `band_of`, without the division: it runs at every book that finds a position.
        held = position if position > 0 else -position
        if held * mid2 * instrument.unit * 50_000_000 < self._hard * self.config.max_position:
            # A price that lets its worth sink does not end what was accepted; less of it does.
            if self.accepted and held < self.accepted.get(instrument.name, 0):
                del self.accepted[instrument.name]
        elif not self.breach and held > self.accepted.get(instrument.name, 0):
            self.breach = HARD_INVENTORY
        return self.breach

    def rearmed(self, equity: Money, positions: "dict[str, Lots]") -> None:
        """A person re-armed after a breach: limits on equity and inventory are measured from here."""
        if self.breach:
            self.breach, self.base, self.peak = "", equity, equity
            self.wires.rearmed(equity)
            self.accepted = {name: abs(lots) for name, lots in positions.items() if lots}

    def limit(self, mid2: int, instrument: Instrument) -> Lots:
        """Return the largest position, either way, that orders may lead to at a mid."""
        return 2 * self._max_position // (mid2 * instrument.unit)

    def band_of(self, position: Lots, limit: Lots) -> int:
        """Return the inventory band of a position (mmpi.inventory)."""
        scaled = 100_000_000 * position
        return band(scaled, limit * self._warn, limit * self._critical, limit * self._hard)

    def shape(self, quote: Quote, instrument: Instrument, position: Lots, mid2: int) -> Quote:
        """Return the quote with sizes cut so that a side, if filled whole, stays inside the position limit."""
        if mid2 <= 0:
            return quote
        last = self._shaped.get(instrument.name)
        if (
            last is None
            or last.wanted_bids is not quote.bids
            or last.wanted_asks is not quote.asks
            or last.position != position
            or last.mid2 != mid2
        ):
            last = self._cut(quote, instrument, position, mid2)
            self._shaped[instrument.name] = last
        for refusal, number in last.refused:
            self.count(refusal, number)
        if last.bids is quote.bids and last.asks is quote.asks:
            return quote
        return Quote(fair=quote.fair, bids=last.bids, asks=last.asks, reason=quote.reason)

    def checkpoint(self) -> "GateState":
        """Return the state as plain values."""
        return GateState(
            self.open, dict(self.refusals), self.base, self.peak, self.breach, self._tokens, self._tokens_ts,
            dict(self.accepted), self.unarmed, self.reducing, self.wires.checkpoint(),
        )  # fmt: skip

    def restore(self, state: "GateState") -> None:
        """Take the state that `checkpoint` returned."""
        self.open, self.refusals = state.open, dict(state.refusals)
        self.base, self.peak, self.breach = state.base, state.peak, state.breach
        self._tokens, self._tokens_ts = state.tokens, state.tokens_ts
        self.accepted, self.reducing = dict(state.accepted), state.reducing
        self.wires.restore(state.wires)
        self.set_unarmed(state.unarmed)

    def _cut(self, quote: Quote, instrument: Instrument, position: Lots, mid2: int) -> _Cut:
        bids, asks = quote.bids, quote.asks
        limit = self.limit(mid2, instrument)
        buys, sells = max(limit - position, -position, 0), max(limit + position, position, 0)
        if position and self.band_of(position, limit) >= CRITICAL:
            buys, sells = (0, sells) if position > 0 else (buys, 0)
        if self.unarmed:
            # Smaller orders, rather than none.
            bids, asks = _capped(bids, self._max_order, instrument), _capped(asks, self._max_order, instrument)
        if _fits(bids, buys, instrument) and _fits(asks, sells, instrument):
            return _Cut(quote.bids, quote.asks, position, mid2, bids, asks, ())
        refused = [0, 0]
        kept_bids, kept_asks = _kept(bids, buys, instrument, refused), _kept(asks, sells, instrument, refused)
        reasons = zip((Refusal.POSITION, Refusal.MIN_NOTIONAL), refused, strict=True)
        counts = tuple([(reason, number) for reason, number in reasons if number])
        return _Cut(quote.bids, quote.asks, position, mid2, kept_bids, kept_asks, counts)

    def _refuse(self, order: Entry, instrument: Instrument, exposure: Exposure, now: Nanos) -> Refusal | None:
        if self.reducing:
            if not (order.reduce_only and reduces(order, exposure)):
                return Refusal.NOT_REDUCING
        elif not self.open or self.breach:
            return Refusal.NOT_QUOTING
        mid2 = exposure.mid2
        if mid2 <= 0:
            return Refusal.NO_MID
        if now - exposure.market_ts > self.stale_after and not self.reducing:
            return Refusal.STALE_DATA
        if abs(2 * order.price - mid2) * 10_000 > self.config.price_band_bps * mid2:
            return Refusal.PRICE_BAND
        if exposure.open_orders >= self.config.max_open_orders:
            return Refusal.OPEN_ORDERS
        limit = None if reduces(order, exposure) else self._broken(order, instrument, exposure)
        return limit or (None if self._take_token(now) else Refusal.ORDER_RATE)

    def _broken(self, order: Entry, instrument: Instrument, exposure: Exposure) -> Refusal | None:
        """Return the position or notional limit that the order could break, all its side's open orders filled first."""
        half_mid, size = exposure.mid2 * instrument.unit, order.size
        if instrument.notional(order.price, size) > self._max_order:
            return Refusal.ORDER_NOTIONAL
        if order.side == BUY:
            worst = exposure.position + exposure.open_buys + size
        else:
            worst = exposure.open_sells - exposure.position + size
        if worst * half_mid > 2 * self._max_position:
            return Refusal.POSITION
        here = at_stake(exposure, instrument) + size * half_mid // 2
        if here > self._max_instrument:
            return Refusal.INSTRUMENT_NOTIONAL
        if here + exposure.elsewhere > self._max_total:
            return Refusal.TOTAL_EXPOSURE
        return None

    def _take_token(self, now: Nanos) -> bool:
        """Return False when the order rate is spent; the bucket refills continuously up to the burst."""
        full = self.config.order_burst * _TOKEN
        gained = (now - self._tokens_ts) * self._rate // 1_000_000 if self._tokens_ts else full
        self._tokens = min(full, self._tokens + max(gained, 0))
        self._tokens_ts = max(self._tokens_ts, now)
        if self._tokens < _TOKEN:
            return False
        self._tokens -= _TOKEN
        return True


def _capped(rungs: tuple[QuoteLevel, ...], most: Money, instrument: Instrument) -> tuple[QuoteLevel, ...]:
    """Return the rungs, none of them worth more than `most`; the same tuple if none was."""
    if all(instrument.notional(rung.price, rung.size) <= most for rung in rungs):
        return rungs
    sizes = [min(rung.size, most // instrument.notional(rung.price, 1)) for rung in rungs]
    return tuple([QuoteLevel(rung.level, rung.price, size) for rung, size in zip(rungs, sizes, strict=True)])


def _fits(rungs: tuple[QuoteLevel, ...], room: Lots, instrument: Instrument) -> bool:
    """Return True if nothing is to be cut or dropped."""
    least, unit = instrument.min_notional, instrument.unit
    for rung in rungs:
        size = rung.size
        room -= size
        if size <= 0 or rung.price * size * unit < least:
            return False
    return room >= 0


def _kept(
    rungs: tuple[QuoteLevel, ...], room: Lots, instrument: Instrument, refused: list[int]
) -> tuple[QuoteLevel, ...]:
    """Return the rungs that fit in `room`, nearest first, the last one cut; count those without room, or too small."""
    kept: list[QuoteLevel] = []
    for rung in rungs:
        size = min(rung.size, room)
        if size <= 0:
            refused[0] += 1
        elif instrument.notional(rung.price, size) < instrument.min_notional:
            refused[1] += 1
        else:
            room -= size
            kept.append(rung if size == rung.size else QuoteLevel(rung.level, rung.price, size))
    return tuple(kept)


def reduces(order: Entry, exposure: Exposure) -> bool:
    """Return True if the order, all open orders of its side filled first, can only bring the position nearer zero."""
    side: Side = order.side
    if side == BUY:
        return exposure.position < 0 and exposure.open_buys + order.size <= -exposure.position
    return exposure.position > 0 and exposure.open_sells + order.size <= exposure.position


def at_stake(exposure: Exposure, instrument: Instrument) -> Money:
    """Return absolute position plus open orders of both sides, at the mid."""
    lots = abs(exposure.position) + exposure.open_buys + exposure.open_sells
    return lots * exposure.mid2 * instrument.unit // 2
