"""Layered symmetric quoting: a ladder of equal orders around a reference price (source text 003, correction 25).

Invariant: level i (1-based) stands at P -/+ (P*spread%/200 + (i-1)*P*step%/100), bids rounded down, asks up, and never
at or through the opposite touch. It must not know orders, limits or time beyond its view.
"""

import math

from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.ladder import NO_SPREAD, OrderSize, apart, tolerance_of
from mmpi.ports import MarketView, Quote, QuoteLevel
from mmpi.structs import QuoterConfig


class LayeredConfig(QuoterConfig, frozen=True):
    """Symmetric ladder. Percent are of the reference price; exactly one of size and notional is set."""

    levels: int = 3
    spread_percent: float = 0.02
    step_percent: float = 0.01
    size: str = ""
    """Base currency per order, decimal text; "" = use `notional`."""
    notional: str = "100"
    """Quote currency per order, decimal text; "" = use `size`."""
    update_interval_s: float = 1.0
    reference: str = "mid"
    """mid or weighted_mid."""
    volatility_multiple: float = 0.0
    """Half spread is at least this many standard deviations of the price over one update interval; 0 = off."""
    tolerance_ticks: int = 0
    tolerance_percent: float = 10.0
    """A working order is kept while its price is within the larger of tolerance_ticks and this percent of its
    distance from the fair value."""
    size_tolerance_percent: float = 20.0


class Layered:
    """The quoter of LayeredConfig."""

    def __init__(self, config: LayeredConfig, instrument: Instrument) -> None:
        self.config = config
        self.instrument = instrument
        self.interval: Nanos = round(config.update_interval_s * SECOND)
        self.refresh: Nanos = 0
        self.tolerance = tolerance_of(config.tolerance_ticks, config.tolerance_percent, config.size_tolerance_percent)
        self.signals: frozenset[str] = frozenset()
        self.uses_mark = False
        self.prices_only: bool = config.reference == "mid"
        self._size = OrderSize(config.size, config.notional, instrument, "layered")
        self._inputs: tuple[float, float, Lots, Ticks, Ticks] = (0.0, 0.0, 0, 0, 0)
        self._quote = Quote(fair=0.0, bids=(), asks=())
        """The ladder of `_inputs`."""

    def quote(self, view: MarketView) -> Quote:
        """Return the ladder around the reference price; both sides empty where the size is below one lot."""
        config = self.config
        fair = view.weighted_mid if config.reference == "weighted_mid" else view.mid
        size = self._size.lots(fair)
        if size <= 0:
            return Quote(fair=fair, bids=(), asks=(), reason="size_below_lot")
        half_spread = fair * config.spread_percent / 200.0
        if config.volatility_multiple > 0.0:
            drift = view.volatility * math.sqrt(config.update_interval_s)
            half_spread = max(half_spread, config.volatility_multiple * drift)
        # Order reports and timers ask again while the book stands still: the same ladder then.
        inputs = (fair, half_spread, size, view.best_bid, view.best_ask)
        if inputs != self._inputs:
            step = fair * config.step_percent / 100.0
            bids = self._side(BUY, fair, half_spread, step, size, view.best_ask)
            asks = self._side(SELL, fair, half_spread, step, size, view.best_bid)
            bids, asks = apart(bids, asks, 0)
            reason = "" if bids or asks else NO_SPREAD
            self._inputs, self._quote = inputs, Quote(fair=fair, bids=bids, asks=asks, reason=reason)
        return self._quote

    def _side(
        self, side: Side, fair: float, half_spread: float, step: float, size: Lots, opposite: Ticks
    ) -> tuple[QuoteLevel, ...]:
        """Return one side's rungs; rungs that rounding brings to one price are one order's width apart at least."""
        grid = self.instrument
        rungs: list[QuoteLevel] = []
        bound = opposite
        for level in range(self.config.levels):
            offset = half_spread + level * step
            # Rounding never reverses two prices, so the bound may be taken before it: half the roundings.
            if side == BUY:
                price = grid.round_bid(min(fair - offset, bound - 1))
            else:
                price = grid.round_ask(max(fair + offset, bound + 1))
            if price <= 0:
                break
            rungs.append(QuoteLevel(level, price, size))
            bound = price
        return tuple(rungs)
