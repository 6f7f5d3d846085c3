"""Desk: everything the engine keeps for one instrument, and what it wants there right now.

Invariant: a reason not to quote always yields an empty ladder, never a stale one.
It must not know other instruments or the account.
"""

from typing import Final

from mmpi.book import BookOutcome, BookState, OrderBook
from mmpi.differ import Tolerance
from mmpi.events import Bbo, BookDelta, BookSnapshot, Funding
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos
from mmpi.orders import OrderStore, StoreState
from mmpi.ports import MarketView, Quote
from mmpi.position import Position
from mmpi.quoting import make_quoter
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import Exposure, Refusal, RiskGate
from mmpi.signals.volatility import EwmaVolatility
from mmpi.signals.weighted_mid import weighted_mid
from mmpi.structs import Frozen, State

VOLATILITY_TAU_S: Final = 60.0
"""Memory of the volatility signal: one minute, the shortest horizon of source text 004 section 4.2."""
PULLED: Final[Nanos] = SECOND
"""The shortest pause between a pull and quoting again: a flapping feed must not flap the orders."""
MAX_FUNDING_IDS: Final = 1024
"""Funding payments remembered to drop duplicates: six weeks of hourly ones."""
_USABLE: Final = frozenset({BookOutcome.OK, BookOutcome.LOCKED})
_APPLIED: Final = _USABLE | {BookOutcome.CROSSED, BookOutcome.ONE_SIDED}


class DeskParams(Frozen, frozen=True):
    """What a desk is built from."""

    instrument: Instrument
    quoter: LayeredConfig


class DeskState(State, frozen=True):
    """A Desk as plain values."""

    book: "BookState"
    position: "tuple[int, ...]"
    orders: StoreState
    volatility: "tuple[float | int, ...]"
    times: "tuple[Nanos, Nanos, Nanos]"
    flags: "tuple[bool, bool]"
    reason: str
    carry: Lots
    drift: Lots
    funding_ids: "list[str]"


class Desk:
    """One instrument's book, position, orders, signals and quoter."""

    def __init__(self, params: DeskParams, patience: Nanos) -> None:
        self.instrument: Instrument = params.instrument
        self.book = OrderBook(params.instrument.name)
        self.position = Position(params.instrument)
        self.orders = OrderStore(patience)
        self.volatility = EwmaVolatility(VOLATILITY_TAU_S)
        self.quoter = make_quoter(params.quoter, params.instrument)
        config = params.quoter
        self.tolerance = Tolerance(
            ticks=config.tolerance_ticks,
            offset_fraction=config.tolerance_percent / 100.0,
            size_fraction=config.size_tolerance_percent / 100.0,
        )
        self.market_ts: Nanos = 0
        self.next_quote: Nanos = 0
        self.deadline: Nanos = 0
        """When this desk wants to be looked at again; 0 = never."""
        self.dirty = False
        """Something other than the market changed: look again at `next_quote` without waiting for a book."""
        self.deferred = False
        self.reason = "no_price"
        self.carry: Lots = 0
        """Position found at the venue, taken over at the first valid mid."""
        self.drift: Lots = 0
        """Difference to the venue's position at the last reconciliation."""
        self.funding_ids: dict[str, None] = {}

    def apply(self, event: BookSnapshot | BookDelta | Bbo) -> bool:
        """Return True if the valid mid may have moved; take a market message."""
        book = self.book
        outcome = book.apply(event)
        if outcome in _APPLIED:
            self.market_ts = event.recv_ts
        if outcome not in _USABLE:
            return False
        mid2 = book.mid2
        if self.position.mid2 != mid2:
            self.position.mark(mid2)
        if self.carry:
            self.position.carry(self.carry)
            self.carry = 0
        self.volatility.update(event.recv_ts, mid2 * 0.5)
        return True

    def fund(self, event: Funding) -> bool:
        """Return True if the payment is new; book it."""
        if event.funding_id in self.funding_ids:
            return False
        self.funding_ids[event.funding_id] = None
        if len(self.funding_ids) > MAX_FUNDING_IDS:
            del self.funding_ids[next(iter(self.funding_ids))]
        self.position.fund(event.amount)
        return True

    def wanted(self, now: Nanos, gate: RiskGate, blocked: str) -> Quote:
        """Return the ladder wanted now; empty, with the reason, when `blocked` or without a valid price."""
        book = self.book
        if blocked:
            reason = blocked
        elif book.mid2 == 0:
            reason = "no_price"
        elif now - self.market_ts > gate.stale_after:
            reason = "stale_data"
        else:
            quote = self.quoter.quote(self._view(now))
            if quote.reason:
                gate.count(Refusal.SIZE_BELOW_LOT)
            shaped = gate.shape(quote, self.instrument, self.position.lots, book.mid2)
            self.reason = "" if shaped.bids or shaped.asks else (quote.reason or "position_limit")
            return shaped
        self.reason = reason
        return Quote(fair=0.0, bids=(), asks=(), reason=reason)

    def exposure(self, elsewhere: int) -> Exposure:
        """Return what is at stake here, orders of unknown fate included."""
        orders = self.orders
        return Exposure(
            position=self.position.lots,
            open_buys=orders.open_size(BUY),
            open_sells=orders.open_size(SELL),
            open_orders=len(orders.live),
            mid2=self.book.last_mid2,
            market_ts=self.market_ts,
            elsewhere=elsewhere,
        )

    def schedule(self, stale_after: Nanos, quoting: bool) -> None:
        """Set `deadline` from what may need attention: a re-quote, a stale feed, an unanswered order."""
        deadline = self.orders.next_timeout()
        if self.orders.live and quoting and not self.reason:
            # One more nanosecond: the feed is stale once it is older than the limit, not when it reaches it.
            deadline = _sooner(deadline, self.market_ts + stale_after + 1)
        if self.dirty and quoting:
            deadline = _sooner(deadline, self.next_quote)
        self.deadline = deadline

    def requoted(self, now: Nanos, deferred: int) -> None:
        """Note that a plan was made at `now`; a pulled ladder may come back sooner than a slow quoter moves one."""
        self.next_quote = now + (min(self.quoter.interval, PULLED) if self.reason else self.quoter.interval)
        self.deferred = deferred > 0
        self.dirty = self.deferred

    def checkpoint(self) -> DeskState:
        """Return the state as plain values."""
        return DeskState(
            book=self.book.checkpoint(),
            position=self.position.checkpoint(),
            orders=self.orders.checkpoint(),
            volatility=self.volatility.checkpoint(),
            times=(self.market_ts, self.next_quote, self.deadline),
            flags=(self.dirty, self.deferred),
            reason=self.reason,
            carry=self.carry,
            drift=self.drift,
            funding_ids=list(self.funding_ids),
        )

    def restore(self, state: DeskState) -> None:
        """Take the state that `checkpoint` returned."""
        self.book.restore(state.book)
        self.position.restore(state.position)
        self.orders.restore(state.orders)
        self.volatility.restore(state.volatility)
        self.market_ts, self.next_quote, self.deadline = state.times
        self.dirty, self.deferred = state.flags
        self.reason, self.carry, self.drift = state.reason, state.carry, state.drift
        self.funding_ids = dict.fromkeys(state.funding_ids)

    def _view(self, now: Nanos) -> MarketView:
        book = self.book
        return MarketView(
            instrument=self.instrument,
            now=now,
            best_bid=book.best_bid,
            best_ask=book.best_ask,
            mid=book.mid2 * 0.5,
            weighted_mid=weighted_mid(book.best_bid, book.best_bid_size, book.best_ask, book.best_ask_size),
            volatility=self.volatility.value,
            position=self.position.lots,
        )


def _sooner(a: Nanos, b: Nanos) -> Nanos:
    return b if a == 0 else min(a, b)
