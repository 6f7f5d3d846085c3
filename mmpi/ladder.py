"""Ladder: from wanted prices (float ticks) and sizes to rungs on the venue's grid, and what size an order has.

Invariant: bids are rounded down and asks up, each side is strictly monotone and never at or through the opposite
touch, and the same wishes make the same rungs. It must not know why a strategy wants them.
"""

from typing import Final

from mmpi.instrument import GRID_GUARD, Instrument, Lots, Ticks, positive_decimal
from mmpi.ports import MarketView, QuoteLevel, Tolerance

REFERENCES: Final = ("mid", "weighted_mid", "micro_price")
"""What a ladder may be centred on."""
NO_SPREAD: Final = "no_spread"
"""Why nothing is quoted: bids and asks would be at one price."""
SIZE_GUARD: Final = 1e-9
"""Lots of float error that rounding a size down forgives."""
_FAR: Final = 1 << 62
"""Beyond any price in ticks."""


class OrderSize:
    """One order's size: fixed, or by its worth in the quote currency."""

    def __init__(self, size: str, notional: str, instrument: Instrument, strategy: str) -> None:
        """Make one from decimal texts; `size` "" = by `notional`. ConfigError if the one that counts is unusable."""
        self.fixed: Lots = 0
        self.notional_ticks = 0.0
        """Lots are this over the price in ticks."""
        if size:
            self.fixed = instrument.lots(size)
        else:
            worth = float(positive_decimal(notional, f"instrument {instrument.name}: {strategy}.notional"))
            self.notional_ticks = worth * instrument.ticks_per_quote * instrument.lots_per_base

    def lots(self, price: float) -> Lots:
        """Return the size at a price, rounded down."""
        return self.fixed or int(self.notional_ticks / price)


class Side:
    """The rungs of one side; it remembers its last ones, because most books change none of them."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._prices: list[Ticks] = []
        self._sizes: list[Lots] = []
        self._rungs: tuple[QuoteLevel, ...] = ()
        self._low: Ticks = 1
        self._high: Ticks = 1
        """From `_low` to below `_high` prices have one number of digits, and so the one increment `_step`."""
        self._step: Ticks = 1

    def bids(
        self, fair: float, depths: "list[float]", sizes: "list[Lots]", best_ask: Ticks
    ) -> "tuple[QuoteLevel, ...]":
        """Return bids at least `depths` ticks (growing) below `fair`, as many as there are sizes and as are above zero.

        The shorter of the two lists decides.
        """
        prices: list[Ticks] = []
        low, high, step = self._low, self._high, self._step
        bound = best_ask - 1 if best_ask > 0 else _FAR
        fair += GRID_GUARD
        for depth in depths:
            price = fair - depth
            # Rounding never reverses two prices, so the bound may be taken before it.
            tick = int(price) if price < bound else bound
            if tick <= 0:
                break
            if not low <= tick < high:
                low, high, step = self._recentre(tick)
            tick -= tick % step
            if tick <= 0:
                break
            prices.append(tick)
            bound = tick - 1
        return self._made(prices, sizes)

    def asks(
        self, fair: float, depths: "list[float]", sizes: "list[Lots]", best_bid: Ticks
    ) -> "tuple[QuoteLevel, ...]":
        """Return asks at least `depths` ticks (growing) above `fair`, as many as there are sizes."""
        prices: list[Ticks] = []
        low, high, step = self._low, self._high, self._step
        bound = best_bid + 1
        fair -= GRID_GUARD
        for depth in depths:
            price = fair + depth
            tick = -int(-price // 1) if price > bound else bound
            if not low <= tick < high:
                low, high, step = self._recentre(tick)
            tick += -tick % step
            prices.append(tick)
            bound = tick + 1
        return self._made(prices, sizes)

    def _made(self, prices: "list[Ticks]", sizes: "list[Lots]") -> "tuple[QuoteLevel, ...]":
        if prices != self._prices or sizes != self._sizes:
            self._prices, self._sizes = prices, sizes
            pairs = zip(prices, sizes)  # noqa: B905 - which of them is shorter varies
            self._rungs = tuple([QuoteLevel(level, price, size) for level, (price, size) in enumerate(pairs)])
        return self._rungs

    def _recentre(self, tick: Ticks) -> "tuple[Ticks, Ticks, Ticks]":
        """Return the range around `tick` in which the increment is the same, and that increment; remember them."""
        grid = self.instrument
        if grid.significant_figures == 0:
            self._low, self._high = 1, _FAR
        else:
            digits = len(str(tick * grid.tick_mantissa))
            self._low = -(-(10 ** (digits - 1)) // grid.tick_mantissa)
            self._high = -(-(10**digits) // grid.tick_mantissa)
        self._step = grid.step_at(tick)
        return self._low, self._high, self._step


def apart(
    bids: "tuple[QuoteLevel, ...]", asks: "tuple[QuoteLevel, ...]", position: Lots
) -> "tuple[tuple[QuoteLevel, ...], tuple[QuoteLevel, ...]]":
    """Return the sides without what would meet: of the side that adds to the position, when flat of both.

    Only a spread of nothing, or a bound that cuts both sides off on the same side of the market, leads there.
    """
    while bids and asks and bids[0].price >= asks[0].price:
        if position >= 0:
            bids = bids[1:]
        if position <= 0:
            asks = asks[1:]
    return bids, asks


def centre(view: MarketView, reference: int) -> float:
    """Return the price that REFERENCES[reference] names; the mid where it is UNAVAILABLE."""
    if reference == 1:
        return view.weighted_mid
    return (view.readings.micro_price or view.mid) if reference == 2 else view.mid


def smallest_order(instrument: Instrument, price: float, rungs: int) -> Lots:
    """Return the least size that the venue's minimum notional allows at every price that rungs may be rounded to.

    `price` is the lowest that is wanted, in float ticks.
    """
    worth = instrument.min_notional
    if worth == 0:
        return 1
    # Rounded to one price, rungs are one increment apart; that is at most one digit of the figures that count.
    figures = instrument.significant_figures
    whole = int(price - (rungs + 1) * (1.0 + (abs(price) * 10.0 ** (1 - figures) if figures else 0.0)))
    return -(-worth // ((whole if whole > 1 else 1) * instrument.unit))


def tolerance_of(ticks: Ticks, percent: float, size_percent: float) -> Tolerance:
    """Return the tolerance that the three settings of a strategy mean."""
    return Tolerance(ticks=ticks, offset_fraction=percent / 100.0, size_fraction=size_percent / 100.0)
