"""Desk: everything the engine keeps for one instrument, and what it wants there right now.

Invariant: a reason not to quote always yields an empty ladder, never a stale one.
It must not know other instruments or the account.
"""

from typing import Final

from mmpi.book import BookOutcome, BookState, OrderBook
from mmpi.caution import Cautions, CautionState
from mmpi.differ import Settled
from mmpi.events import Bbo, BookDelta, BookSnapshot, Funding, Mark, Trade
from mmpi.governor import STEPS
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.inventory import NORMAL
from mmpi.orders import OrderStore, OrdStatus, StoreState
from mmpi.others import NOBODY, NONE, Own, others
from mmpi.ports import FAILED_LEGS, NO_READINGS, OWN_ORDERS, MarketView, Quote, Tolerance
from mmpi.position import Position
from mmpi.quoting import QuoterSettings, make_quoter
from mmpi.risk import Exposure, Refusal, RiskGate
from mmpi.signals.board import BoardState, SignalBoard
from mmpi.signals.weighted_mid import weighted_mid
from mmpi.structs import Frozen, State

PULLED: Final[Nanos] = SECOND
"""The shortest pause between a pull and quoting again: a flapping feed must not flap the orders."""
MAX_FUNDING_IDS: Final = 1024
"""Funding payments remembered to drop duplicates: six weeks of hourly ones."""
_USABLE: Final = frozenset({BookOutcome.OK, BookOutcome.LOCKED})
EXACT: Final = Tolerance(0, 0.0, 0.0)
THIN: Final = 0.25e-4
"""Of the price: what the tolerance is widened by, beside its own doubling, at each step of thinning out."""
_BID, _ASK = 1, 2
_TAKEN: Final = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)
_APPLIED: Final = _USABLE | {BookOutcome.CROSSED, BookOutcome.ONE_SIDED}


class DeskParams(Frozen, frozen=True):
    """What a desk is built from."""

    instrument: Instrument
    quoter: "QuoterSettings"
    book_has_own: bool = False
    """The venue's book shows our own orders: true at a venue, false for recorded and generated books."""


class DeskState(State, frozen=True):
    """A Desk as plain values."""

    book: "BookState"
    position: "tuple[int, ...]"
    orders: StoreState
    signals: BoardState
    times: "tuple[Nanos, Nanos, Nanos, Nanos, Nanos]"
    mark: "tuple[Nanos, float]"
    flags: "tuple[bool, bool, int, bool]"
    reason: str
    carry: Lots
    drift: Lots
    funding_ids: "list[str]"
    own: "Own"
    fault: str
    cautions: "tuple[CautionState, CautionState]"


class Desk:
    """One instrument's book, position, orders, signals and quoter."""

    def __init__(self, params: DeskParams, patience: Nanos) -> None:
        self.instrument: Instrument = params.instrument
        self.book = OrderBook(params.instrument.name)
        self.position = Position(params.instrument)
        self.orders = OrderStore(patience)
        self.quoter = make_quoter(params.quoter, params.instrument)
        self.signals = SignalBoard(self.quoter.signals - {OWN_ORDERS, FAILED_LEGS}, params.instrument.name)
        self._nets_own = params.book_has_own and OWN_ORDERS in self.quoter.signals
        self._own: Own = NONE
        """Our orders when the book was last told: an order that ended since is still in that book."""
        self._pairs = FAILED_LEGS in self.quoter.signals
        self.market_ts: Nanos = 0
        self.next_quote: Nanos = 0
        self.deadline: Nanos = 0
        """When this desk wants to be looked at again; 0 = never."""
        self.next_refresh: Nanos = 0
        """When the ladder is renewed without tolerance; 0 = never."""
        self.retry_at: Nanos = 0
        """Until then a side whose last order was refused counts as failed."""
        self.mark: float = 0.0
        """The venue's mark price in ticks, 0.0 = UNAVAILABLE; `mark_ts` says since when."""
        self.mark_ts: Nanos = 0
        self.marked = False
        """The last book moved the mark."""
        self.dirty = False
        """Something other than the market changed: look again at `next_quote` without waiting for a book."""
        self.deferred = False
        self.settled = Settled()
        self._seen: tuple[int, Ticks, Ticks, float, Lots, bool] = (0, 0, 0, 0.0, 0, False)
        """What a quoter of `prices_only` was last shown, and its answer."""
        self._quote = Quote(fair=0.0, bids=(), asks=())
        self._failed = 0
        self._on_mark = False
        """The ladder was last made around the mark."""
        self.reason = "no_price"
        self.carry: Lots = 0
        """Position found at the venue, taken over at the first valid mid; until then at stake beside `position`."""
        self.drift: Lots = 0
        """Difference to the venue's position at the last reconciliation."""
        self.funding_ids: dict[str, None] = {}
        self.fault = ""
        """Why the venue lets nobody trade here any more."""
        self.cautions = Cautions()
        self._tolerances = [_widened(self.quoter.tolerance, step) for step in range(STEPS + 1)]

    def apply(self, event: BookSnapshot | BookDelta | Bbo) -> bool:
        """Return True if the valid mid may have moved; take a market message."""
        book = self.book
        outcome = book.apply(event)
        if outcome in _APPLIED:
            self.market_ts = event.recv_ts
            if self._nets_own:
                self._own = self.orders.levels()
        if outcome not in _USABLE:
            return False
        mid2 = book.mid2
        self.marked = self.position.mid2 != mid2
        if self.marked:
            self.position.mark(mid2)
        if self.carry:
            self.position.carry(self.carry)
            self.carry = 0
        self.signals.on_mid(event.recv_ts, mid2)
        return True

    def on_trade(self, event: Trade) -> None:
        """Take a public trade."""
        self.signals.on_trade(event.recv_ts, event.side)

    def on_mark(self, event: Mark) -> None:
        """Take the venue's mark price; one that is not above zero makes it UNAVAILABLE."""
        self.mark, self.mark_ts = (event.mark, event.recv_ts) if event.mark > 0.0 else (0.0, 0)

    def fund(self, event: Funding) -> bool:
        """Return True if the payment is new; book it."""
        if event.funding_id in self.funding_ids:
            return False
        self.funding_ids[event.funding_id] = None
        if len(self.funding_ids) > MAX_FUNDING_IDS:
            del self.funding_ids[next(iter(self.funding_ids))]
        self.position.fund(event.amount)
        return True

    def answered(self, side: Side, status: OrdStatus, now: Nanos) -> bool:
        """Return True if the quoter must be asked at once: a leg of its pair is gone.

        Note whether the last order of a side was refused, by the venue or by risk, or taken: `status` says. (Both are
        the order's own: a venue's answer need not name the side.)
        """
        which = _BID if side == BUY else _ASK
        if status is not OrdStatus.REJECTED:
            if status in _TAKEN:
                self._failed &= ~which
            return False
        self._failed |= which
        self.retry_at = now + max(self.quoter.refresh, self.quoter.interval)
        return self._pairs and not self.orders.open_size(side)

    def wanted(self, now: Nanos, gate: RiskGate, blocked: str) -> Quote:
        """Return the ladder wanted now; empty, with the reason, when `blocked` or without a valid price."""
        book, heard = self.book, self.market_ts
        mid2, rest = book.mid2, None
        if self._own[0] or self._own[1]:
            rest = others(book, self._own)
            mid2 = rest.mid2 if mid2 else 0
        self._on_mark = mid2 == 0 and self.quoter.uses_mark
        if self._on_mark:
            # A book that shows only our orders is a book all the same, and must be fresh too.
            mid2, heard = round(2 * self.mark), min(heard, self.mark_ts) if book.mid2 else self.mark_ts
            if not (book.valid or book.mid2) and book.best_bid and book.best_ask:
                # Not one-sided but lost: its prices are of another time.
                rest = NOBODY
        if blocked or self.fault:
            reason = blocked or f"venue: {self.fault}"
        elif mid2 == 0:
            reason = "no_price"
        elif now - heard > gate.stale_after:
            reason = "stale_data"
        else:
            # Around a mark there may be quotes before there was a mid: a position found counts all the same.
            position, sigma = self.position.lots + self.carry, self.signals.sigma()
            seen = (mid2, book.best_bid, book.best_ask, sigma, position, gate.unarmed)
            if seen == self._seen:
                quote = self._quote
            else:
                view = self._view(now, mid2, sigma, position, gate)
                quote = self.quoter.quote(view if rest is None else rest.seen(view))
                if self.quoter.prices_only:
                    self._seen, self._quote = seen, quote
            if quote.reason == "size_below_lot":
                gate.count(Refusal.SIZE_BELOW_LOT)
            if self.cautions.stand_off:
                quote = self.cautions.moved(quote, self.instrument)
            shaped = gate.shape(quote, self.instrument, position, mid2)
            self.reason = "" if shaped.bids or shaped.asks else (quote.reason or "position_limit")
            return shaped
        self.reason = reason
        return Quote(fair=0.0, bids=(), asks=(), reason=reason)

    def tolerance(self, now: Nanos, thinning: int = 0) -> Tolerance:
        """Return how far orders may be from their targets at `now`: nothing when a refresh is due.

        `thinning` is the governor's step: the more of it, the wider and the rarer.
        """
        if self.quoter.refresh and now >= self.next_refresh:
            self.next_refresh = now + (self.quoter.refresh << thinning)
            return EXACT
        return self._tolerances[thinning]

    def exposure(self, elsewhere: int) -> Exposure:
        """Return what is at stake here, orders of unknown fate included."""
        orders = self.orders
        return Exposure(
            position=self.position.lots + self.carry,
            open_buys=orders.open_size(BUY),
            open_sells=orders.open_size(SELL),
            open_orders=len(orders.live),
            mid2=self.book.last_mid2 or round(2 * self.mark),
            market_ts=self.mark_ts if self.book.mid2 == 0 and self.quoter.uses_mark else self.market_ts,
            elsewhere=elsewhere,
        )

    def schedule(self, stale_after: Nanos, quoting: bool) -> None:
        """Set `deadline` from what may need attention: a re-quote, a stale feed, an unanswered order."""
        deadline = self.orders.next_timeout()
        if self.orders.live and quoting and not self.reason:
            heard = self.mark_ts if self.book.mid2 == 0 and self.quoter.uses_mark else self.market_ts
            if self._on_mark and self.book.mid2:
                heard = min(heard, self.mark_ts)
            # One more nanosecond: the feed is stale once it is older than the limit, not when it reaches it.
            deadline = _sooner(deadline, heard + stale_after + 1)
            if self.quoter.refresh:
                deadline = _sooner(deadline, max(self.next_refresh, self.next_quote))
        if self.dirty and quoting:
            deadline = _sooner(deadline, self.next_quote)
        if self._failed and (self.quoter.refresh or self._pairs) and quoting:
            deadline = _sooner(deadline, max(self.retry_at, self.next_quote))
        self.deadline = deadline

    def requoted(self, now: Nanos, deferred: int, thinning: int = 0) -> None:
        """Note that a plan was made at `now`; a pulled ladder may come back sooner than a slow quoter moves one."""
        interval = self.quoter.interval << thinning
        self.next_quote = now + (min(interval, PULLED) if self.reason else interval)
        self.deferred = deferred > 0
        self.dirty = self.deferred

    def checkpoint(self) -> DeskState:
        """Return the state as plain values."""
        return DeskState(
            book=self.book.checkpoint(),
            position=self.position.checkpoint(),
            orders=self.orders.checkpoint(),
            signals=self.signals.checkpoint(),
            times=(self.market_ts, self.next_quote, self.deadline, self.next_refresh, self.retry_at),
            mark=(self.mark_ts, self.mark),
            flags=(self.dirty, self.deferred, self._failed, self._on_mark),
            reason=self.reason,
            carry=self.carry,
            drift=self.drift,
            funding_ids=list(self.funding_ids),
            own=self._own,
            fault=self.fault,
            cautions=self.cautions.checkpoint(),
        )

    def restore(self, state: DeskState) -> None:
        """Take the state that `checkpoint` returned."""
        self.book.restore(state.book)
        self.position.restore(state.position)
        self.orders.restore(state.orders)
        self.signals.restore(state.signals)
        self.market_ts, self.next_quote, self.deadline, self.next_refresh, self.retry_at = state.times
        self.mark_ts, self.mark = state.mark
        self.dirty, self.deferred, self._failed, self._on_mark = state.flags
        self.reason, self.carry, self.drift = state.reason, state.carry, state.drift
        self.funding_ids = dict.fromkeys(state.funding_ids)
        self._own = state.own
        self.fault = state.fault
        self.cautions.restore(state.cautions)

    def _view(self, now: Nanos, mid2: int, sigma: float, position: Lots, gate: RiskGate) -> MarketView:
        book, signals, instrument = self.book, self.signals, self.instrument
        limit = gate.limit(mid2, instrument)
        failed = self._failed if now < self.retry_at else 0
        bid, ask = book.best_bid, book.best_ask
        fair = weighted_mid(bid, book.best_bid_size, ask, book.best_ask_size) if book.mid2 else mid2 * 0.5
        return MarketView(
            instrument, now, bid, ask, mid2 * 0.5, fair, sigma, position, limit,
            gate.band_of(position, limit) if position else NORMAL,
            book.bids, book.asks, self.mark,
            signals.readings(book, now) if signals.names else NO_READINGS,
            bool(failed & _BID) and not self.orders.open_size(BUY),
            bool(failed & _ASK) and not self.orders.open_size(SELL),
        )  # fmt: skip


def _sooner(a: Nanos, b: Nanos) -> Nanos:
    return b if a == 0 else min(a, b)


def _widened(tolerance: Tolerance, step: int) -> Tolerance:
    """Return the tolerance at a step of thinning out."""
    if step == 0:
        return tolerance
    factor = 1 << step
    return Tolerance(
        tolerance.ticks * factor,
        tolerance.offset_fraction * factor,
        tolerance.size_fraction,
        tolerance.price_fraction * factor + (factor - 1) * THIN,
    )
