"""Improve: one bid and one ask that join, or improve by some ticks, the best price with enough size behind it.

Source: source text 000 (`calculateQuotes`, `adjustPricesForReferenceSize`, `placeQuotes`), with corrections 1, 2, 4, 5
and 6. Where the text computes in decimal prices, this computes in ticks and rounds once, bids down and asks up.

    reference bid = the best level of others with the reference size; mid - mid*spread/2 where there is none
    bid           = reference bid + improvement             (the ask is its mirror)
    where ask - bid < the minimum spread, or the two would meet: mid -/+ half of the minimum spread

Invariant: the bid is below the ask, and neither is at or through the opposite touch.
It must not know orders, limits or time beyond its view.
"""

from typing import Final

from mmpi.events import Level
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Money, Nanos, Side, Ticks, money
from mmpi.ladder import OrderSize
from mmpi.ports import FAILED_LEGS, OWN_ORDERS, MarketView, Quote, QuoteLevel, Tolerance
from mmpi.structs import QuoterConfig

SIDES: Final = ("both", "bid_only", "ask_only")
PAIR_POLICIES: Final = ("keep", "cancel")
CLOSEST: Final = 1.0
"""Ticks between bid and ask before rounding, at least: rounded outwards, they then never meet."""
_BP: Final = 1e-4
_BOTH, _BID, _ASK, _NEITHER = range(4)


class ImproveConfig(QuoterConfig, frozen=True):
    """One order a side. Exactly one of size and notional is set, and at most one of the two references."""

    size: str = ""
    """Base currency per order, decimal text; "" = use `notional`."""
    notional: str = "100"
    """Quote currency per order, decimal text; "" = use `size`."""
    improvement_ticks: int = 1
    """How far inside the reference price to stand (0 to 1000); 0 = join it. A tick is the venue's price increment at
    that price: on Hyperliquid, with its five significant figures, it grows with the price."""
    reference_size: str = ""
    """Size that makes a level count, base currency, decimal text; "" = use `reference_notional`."""
    reference_notional: str = "1000"
    """The same as a worth in the quote currency, decimal text; "" = use `reference_size`. With both "" every level
    counts, so the touch is the reference."""
    spread_bps: float = 10.0
    """Basis points of the mid between bid and ask where no level has the reference size (0.01 to 1000)."""
    min_spread_bps: float = 1.0
    """Basis points of the mid between bid and ask, at least (0 to 1000, not above spread_bps)."""
    sides: str = "both"
    """both, bid_only or ask_only; the side that is quoted stands where it would stand with both."""
    pair_policy: str = "keep"
    """What becomes of one leg when the venue or a limit refuses the other: "keep" leaves it, "cancel" withdraws it
    until both are tried again, unless it reduces the position."""
    use_mark: bool = True
    """Quote around the venue's mark price while the book has no valid mid; without a mark nothing is quoted."""
    cancel_threshold_bps: float = 0.5
    """A working order is kept while its price is within this of the wanted one, in basis points of the price (0 to
    1000); 0 = it always follows."""
    refresh_interval_s: float = 30.0
    """So often orders are moved to exactly the wanted price (0 to 3600); one that is there keeps its place in the
    queue. 0 = never."""
    update_interval_s: float = 2.0
    """The minimum between two re-quotes (0.05 to 3600); the source's is 2 s."""
    size_tolerance_percent: float = 20.0
    """A working order is kept while its size is within this of the wanted one (0 to 100)."""


class Improve:
    """The quoter of ImproveConfig."""

    def __init__(self, config: ImproveConfig, instrument: Instrument) -> None:
        self.config = config
        self.instrument = instrument
        self.interval: Nanos = round(config.update_interval_s * SECOND)
        self.refresh: Nanos = round(config.refresh_interval_s * SECOND)
        self.tolerance = Tolerance(
            ticks=0,
            offset_fraction=0.0,
            size_fraction=config.size_tolerance_percent / 100.0,
            price_fraction=config.cancel_threshold_bps * _BP,
        )
        self._pair: bool = config.pair_policy == "cancel" and config.sides == "both"
        self.signals: frozenset[str] = frozenset({OWN_ORDERS, FAILED_LEGS} if self._pair else {OWN_ORDERS})
        self.uses_mark: bool = config.use_mark
        self.prices_only = False
        self._size = OrderSize(config.size, config.notional, instrument, "improve")
        self._enough: Lots = instrument.lots(config.reference_size) if config.reference_size else 0
        self._worth: Money = money(config.reference_notional) if config.reference_notional else 0
        """Of a level that counts, where its size is not what says so."""
        self._inputs: tuple[float, Ticks, Ticks, tuple[Level, ...], tuple[Level, ...], int] | None = None
        self._quote = Quote(fair=0.0, bids=(), asks=())
        """The quote of `_inputs`."""

    def quote(self, view: MarketView) -> Quote:
        """Return one order a side at most; `reason` says why a side that could be quoted is not."""
        legs = self._left(view) if self._pair and (view.bid_failed or view.ask_failed) else _BOTH
        inputs = (view.mid, view.best_bid, view.best_ask, view.bids, view.asks, legs)
        # Order reports and timers ask again while the book stands still: the same quote then.
        if inputs != self._inputs:
            self._quote = self._made(view, legs)
            self._inputs = inputs
        return self._quote

    def prices(self, view: MarketView) -> tuple[Ticks, Ticks]:
        """Return bid and ask on the venue's grid, each as if both sides were quoted; the mid must be valid."""
        grid, mid, half_spread = self.instrument, view.mid, 0.5 * self.config.spread_bps * _BP * view.mid
        found_bid = self._reference(BUY, view.bids, view.best_bid)
        found_ask = self._reference(SELL, view.asks, view.best_ask)
        bid = float(found_bid) if found_bid else mid - half_spread
        ask = float(found_ask) if found_ask else mid + half_spread
        improvement = self.config.improvement_ticks
        if improvement:
            bid += improvement * grid.step_at(int(bid))
            # The first price below one where the increment changes is the finer increment away.
            ask -= improvement * grid.step_at(int(ask) - 1)
        least = max(self.config.min_spread_bps * _BP * mid, CLOSEST)
        if ask - bid < least:
            bid, ask = mid - 0.5 * least, mid + 0.5 * least
        # Both bounds only widen, so bid and ask stay apart; rounding widens too.
        if view.best_ask:
            bid = min(bid, view.best_ask - 1.0)
        return grid.round_bid(bid), grid.round_ask(max(ask, view.best_bid + 1.0))

    def _made(self, view: MarketView, legs: int) -> Quote:
        mid = view.mid
        if mid <= 0.0:
            return Quote(fair=0.0, bids=(), asks=(), reason="no_price")
        size = self._size.lots(mid)
        if size <= 0:
            return Quote(fair=mid, bids=(), asks=(), reason="size_below_lot")
        bid, ask = self.prices(view)
        sides = self.config.sides
        wants_bid = sides != "ask_only" and bid > 0 and legs in (_BOTH, _BID)
        wants_ask = sides != "bid_only" and legs in (_BOTH, _ASK)
        return Quote(
            fair=mid,
            bids=(QuoteLevel(0, bid, size),) if wants_bid else (),
            asks=(QuoteLevel(0, ask, size),) if wants_ask else (),
            reason="" if legs == _BOTH else "leg_refused",
        )

    def _reference(self, side: Side, levels: "tuple[Level, ...]", touch: Ticks) -> Ticks:
        """Return the best price with the reference size behind it, 0 if there is none."""
        enough, worth = self._enough, self._worth
        # Where a venue shows no depth, its best price has to do.
        if touch == 0 or not levels or (enough == 0 and worth == 0):
            return touch
        unit = self.instrument.unit
        for price, size in levels:
            # Levels better than the touch are those that a Bbo has overtaken.
            if size >= enough and price * size * unit >= worth and (touch - price) * side >= 0:
                return price
        return 0

    def _left(self, view: MarketView) -> int:
        """Return what is left of a pair until a refused leg is tried again: the other, if it reduces the position."""
        if view.position < 0 and not view.bid_failed:
            return _BID
        return _ASK if view.position > 0 and not view.ask_failed else _NEITHER
