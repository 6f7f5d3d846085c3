"""Avellaneda-Stoikov: a ladder around the price at which one more unit would be worth neither buying nor selling.

Sources: Avellaneda & Stoikov, "High-frequency trading in a limit order book", Quantitative Finance 8(3), 2008, (29) and
(30); rungs, weights and skew of size from source text 004 section 5.1 with corrections 12, 13, 16 and 23; bands from
source text 001 section 1.7.

Units: inside ticks, lots and seconds; sigma in ticks per sqrt(second). A person writes gamma and k per basis point of
the price, so that one setting fits every tick size: per tick they are that over the ticks in a basis point of the mid.
Inventory q counts units of the order size (one side's whole ladder), because the paper's agent trades one unit.

Invariant: the more the position leans to a side, the farther and smaller the orders that would add to it.
It must not know orders or time beyond its view.
"""

from math import exp, log1p, sqrt
from typing import Final

from mmpi.instrument import SECOND, Instrument, Lots, Nanos
from mmpi.inventory import CRITICAL, WARN
from mmpi.ladder import NO_SPREAD, REFERENCES, SIZE_GUARD, OrderSize, Side, apart, centre, smallest_order, tolerance_of
from mmpi.ports import MarketView, Quote, QuoteLevel, Readings
from mmpi.structs import QuoterConfig

SPREAD_OF_REGIME: Final = (0.8, 1.0, 1.5, 3.0)
"""Multiples of the half spread: LOW, NORMAL, HIGH, EXTREME (source text 004 section 5.1)."""
SIZE_OF_REGIME: Final = (1.0, 1.0, 0.5, 0.1)
"""Multiples of the size, from the same place; its 1.3 for LOW is held at 1, so that the set size is the largest."""
EXTREME: Final = 3
AMPLIFIED: Final = 1.25
"""Of the skew, from the WARN band on (source text 001 section 1.7)."""
REACH_SIGMAS: Final = 3.0
"""The deepest rung: so many standard deviations of the price over the horizon (source text 004 section 5.1) ..."""
REACH_SPREADS: Final = 3.0
"""... and at least so many times the depth of the first."""
MOST_VOLATILITY: Final = 1e4
"""Basis points per sqrt(second): a whole price a second. No market, only a broken feed, shows more."""
_BP: Final = 1e-4
_TINY: Final = 1e-12
"""gamma / k below which the series of the logarithm ends after its first term, to a double's precision."""
_HALVINGS: Final = 60


class AvellanedaStoikovConfig(QuoterConfig, frozen=True):
    """The model's ladder. Exactly one of size and notional is set: one side's budget, shared among its rungs."""

    levels: int = 3
    """Rungs a side, at most (1 to 20): fewer where the budget does not reach for the smallest rung in each."""
    size: str = ""
    """Base currency per side, decimal text; "" = use `notional`."""
    notional: str = "300"
    """Quote currency per side, decimal text; "" = use `size`."""
    gamma_per_bp: float = 0.05
    """Risk aversion, per basis point of the price and unit of inventory (0 to 10); 0 = no skew."""
    k_per_bp: float = 0.5
    """Decay of the fill intensity A*exp(-k*depth), per basis point (0.001 to 100). Fitted to how far beyond the mid
    takers' sweeps reached on Hyperliquid's ETH, 2025-09-03: 0.55."""
    horizon_s: float = 60.0
    """Seconds that a unit of inventory is held (0.1 to 86400)."""
    reference: str = "mid"
    """mid, weighted_mid or micro_price."""
    min_volatility_bps: float = 0.1
    """Basis points per sqrt(second), a floor under what is measured (0 to 100); a quiet market is not a safe one."""
    min_half_spread_bps: float = 0.5
    """Bounds of the half spread, in basis points (0 to 1000; the upper one above 0, and not below the lower one)."""
    max_half_spread_bps: float = 50.0
    """It bounds the skew too, and three times it the deepest rung."""
    adverse_selection_bps: float = 0.0
    """Expected loss after a fill at the mid, in basis points (0 to 100); at a depth it is this times
    exp(-depth / adverse_decay_bps). 0 = UNAVAILABLE, the term is zero."""
    adverse_decay_bps: float = 2.0
    """0.01 to 1000."""
    min_rung_percent: float = 10.0
    """Each rung has at least this share of the side's budget (0 to 100), and the venue's minimum."""
    use_regime: bool = False
    """Widen and shrink with the regime of volatility: half spread x 0.8, 1, 1.5, 3; size x 1, 1, 0.5, 0.1."""
    pause_regime: bool = False
    """Withdraw what would increase the position in the regime EXTREME; both sides when flat."""
    pause_imbalance: float = 0.0
    """The same from this imbalance of the visible depth on, either way (0 to 1); 0 = off."""
    imbalance_shift: float = 0.0
    """Shift of the reservation price by full imbalance of the depth, in half spreads (0 to 1)."""
    flow_shift: float = 0.0
    """The same by takers' flow, (buys - sells) / (buys + sells) (0 to 1)."""
    update_interval_s: float = 1.0
    tolerance_ticks: int = 0
    tolerance_percent: float = 10.0
    """A working order is kept while its price is within the larger of tolerance_ticks and this percent of its
    distance from the fair value."""
    size_tolerance_percent: float = 20.0


def reservation_price(mid: float, q: float, gamma: float, sigma: float, horizon_s: float) -> float:
    """Return the indifference price of an agent who holds q units, (29): mid - q*gamma*sigma^2*T."""
    return mid - q * gamma * sigma * sigma * horizon_s


def half_spread(gamma: float, sigma: float, horizon_s: float, k: float) -> float:
    """Return half of the optimal spread, (30): gamma*sigma^2*T/2 + ln(1 + gamma/k)/gamma."""
    return 0.5 * gamma * sigma * sigma * horizon_s + intensity_term(gamma, k)


def intensity_term(gamma: float, k: float) -> float:
    """Return ln(1 + gamma/k)/gamma, the depth that best trades gain against the intensity exp(-k*depth); 1/k at 0."""
    return log1p(gamma / k) / gamma if gamma > _TINY * k else 1.0 / k


def break_even(adverse: float, decay: float) -> float:
    """Return the depth at which the expected loss adverse*exp(-depth/decay) equals the depth; 0 without a loss."""
    low, high = 0.0, adverse
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if adverse * exp(-middle / decay) > middle:
            low = middle
        else:
            high = middle
    return high


class AvellanedaStoikov:
    """The quoter of AvellanedaStoikovConfig."""

    def __init__(self, config: AvellanedaStoikovConfig, instrument: Instrument) -> None:
        self.config = config
        self.instrument = instrument
        self.interval: Nanos = round(config.update_interval_s * SECOND)
        self.refresh: Nanos = 0
        self.tolerance = tolerance_of(config.tolerance_ticks, config.tolerance_percent, config.size_tolerance_percent)
        self.signals = _signals(config)
        self.uses_mark = False
        self.prices_only: bool = config.reference == "mid" and not self.signals
        self._size = OrderSize(config.size, config.notional, instrument, "avellaneda_stoikov")
        self._reference: int = REFERENCES.index(config.reference)
        self._levels: int = config.levels
        self._risk: float = config.gamma_per_bp * config.horizon_s
        self._intensity: float = intensity_term(config.gamma_per_bp, config.k_per_bp)
        self._decay: float = -config.k_per_bp
        self._floor: float = config.min_volatility_bps
        self._narrowest: float = config.min_half_spread_bps
        self._widest: float = max(config.min_half_spread_bps, config.max_half_spread_bps)
        self._adverse: float = config.adverse_selection_bps
        self._adverse_decay: float = -1.0 / config.adverse_decay_bps
        self._break_even: float = break_even(config.adverse_selection_bps, config.adverse_decay_bps)
        self._reach: float = REACH_SIGMAS * sqrt(config.horizon_s)
        self._exponent: float = 1.0 / max(1, config.levels - 1)
        self._least_ratio: float = REACH_SPREADS**self._exponent
        self._more: tuple[int, ...] = tuple(range(1, config.levels))
        self._use_regime: bool = config.use_regime
        self._pauses: bool = config.pause_regime or config.pause_imbalance > 0.0
        self._share: float = config.min_rung_percent / 100.0
        self._bids, self._asks = Side(instrument), Side(instrument)
        self._inputs: tuple[float, float, float, Lots, Lots, int, int, int, Readings] | None = None
        self._quote = Quote(fair=0.0, bids=(), asks=())
        """The ladder of `_inputs`."""

    def quote(self, view: MarketView) -> Quote:
        """Return the ladder around the reservation price; `reason` says why there is none."""
        mid, position = view.mid, view.position
        reference = mid if self._reference == 0 else centre(view, self._reference)
        inputs = (
            mid, view.volatility, reference, position, view.limit, view.band, view.best_bid, view.best_ask,
            view.readings,
        )  # fmt: skip
        # Order reports and timers ask again while the book stands still: the same ladder then.
        if inputs != self._inputs:
            self._quote = self._made(view, mid, reference, position)
            self._inputs = inputs
        return self._quote

    def _made(self, view: MarketView, mid: float, reference: float, position: Lots) -> Quote:
        bp = mid * _BP
        unit = self._size.lots(mid)
        if unit <= 0:
            return Quote(fair=reference, bids=(), asks=(), reason="size_below_lot")
        sigma = view.volatility / bp
        if sigma < self._floor:
            sigma = self._floor
        elif sigma > MOST_VOLATILITY:
            sigma = MOST_VOLATILITY
        risk = self._risk * sigma * sigma
        half = 0.5 * risk + self._intensity
        budget = float(unit)
        if self._use_regime:
            half *= SPREAD_OF_REGIME[view.readings.regime]
            budget *= SIZE_OF_REGIME[view.readings.regime]
        widest = self._widest
        if half > widest:
            half = widest
        elif half < self._narrowest:
            half = self._narrowest
        skew = 0.0
        if position:
            skew = risk * position / unit * (AMPLIFIED if view.band >= WARN else 1.0)
            if skew > widest:
                skew = widest
            elif skew < -widest:
                skew = -widest
        if self.signals:
            reference += self._lean(view.readings) * half * bp
        fair = reference - skew * bp
        depths = self._depths((half + self._break_even) * bp, sigma * bp, widest * bp)
        # A rung's smallest size must not move with the position, so it is asked for at the farthest that skew can go.
        least = smallest_order(self.instrument, mid - abs(reference - mid) - depths[-1] - widest * bp, self._levels)
        sizes = self._sizes(depths, budget, least, bp)
        if not sizes:
            return Quote(fair=fair, bids=(), asks=(), reason="size_below_lot")
        return self._both(view, fair, depths, sizes, least)

    def _depths(self, near: float, sigma: float, widest: float) -> list[float]:
        """Return the rungs' distances from the reservation price, growing geometrically."""
        far = self._reach * sigma
        if far > REACH_SPREADS * widest:
            far = REACH_SPREADS * widest
        ratio = (far / near) ** self._exponent if far > REACH_SPREADS * near else self._least_ratio
        depths = [near]
        for _ in self._more:
            near *= ratio
            depths.append(near)
        return depths

    def _sizes(self, depths: list[float], budget: float, least: Lots, bp: float) -> list[float]:
        """Return float lots for as many rungs as the budget reaches: the smallest rung for each, the rest by weight.

        The weight is A*exp(-k*depth) times the expected capture, depth less adverse selection. A cancels, and so may
        any other factor: the first rung's intensity counts as 1, and none vanishes that should not.
        """
        smallest = self._share * budget
        if smallest < least:
            smallest = float(least)
        count = int(budget / smallest + SIZE_GUARD)
        if count <= 1:
            return [budget] if count else []
        weights: list[float] = []
        total = 0.0
        k, adverse, first = self._decay / bp, self._adverse * bp, depths[0]
        for depth in depths if count >= self._levels else depths[:count]:
            weight = exp(k * (depth - first)) * depth
            if adverse:
                weight *= 1.0 - adverse * exp(depth / bp * self._adverse_decay) / depth
            weights.append(weight)
            total += weight
        spare = (budget - len(weights) * smallest) / total
        return [smallest + spare * weight for weight in weights]

    def _both(self, view: MarketView, fair: float, depths: list[float], sizes: list[float], least: Lots) -> Quote:
        """Return the ladder: the side that adds to the position shrinks with it, and in the end is withdrawn."""
        position = view.position
        held = position / view.limit if view.limit else 0.0
        withdrawn = view.band >= CRITICAL or (self._pauses and self._paused(view.readings))
        whole = [int(size + SIZE_GUARD) for size in sizes]
        adding = _cut(sizes, 1.0 - abs(held), least) if held else whole
        bids: tuple[QuoteLevel, ...] = ()
        asks: tuple[QuoteLevel, ...] = ()
        if position < 0 or not withdrawn:
            bids = self._bids.bids(fair, depths, adding if position > 0 else whole, view.best_ask)
        if position > 0 or not withdrawn:
            asks = self._asks.asks(fair, depths, adding if position < 0 else whole, view.best_bid)
        bids, asks = apart(bids, asks, position)
        return Quote(fair, bids, asks, "" if bids or asks else "paused" if withdrawn else NO_SPREAD)

    def _paused(self, readings: Readings) -> bool:
        config = self.config
        if config.pause_regime and readings.regime >= EXTREME:
            return True
        return 0.0 < config.pause_imbalance <= abs(readings.imbalance)

    def _lean(self, readings: Readings) -> float:
        """Return the shift of the reservation price that the signals ask for, in half spreads."""
        config = self.config
        lean = config.imbalance_shift * readings.imbalance
        flow = readings.buy_intensity + readings.sell_intensity
        if flow > 0.0:
            lean += config.flow_shift * (readings.buy_intensity - readings.sell_intensity) / flow
        return lean


def _signals(config: AvellanedaStoikovConfig) -> frozenset[str]:
    names: set[str] = set()
    if config.reference == "micro_price":
        names.add("micro_price")
    if config.use_regime or config.pause_regime:
        names.add("regime")
    if config.imbalance_shift or config.pause_imbalance:
        names.add("imbalance")
    if config.flow_shift:
        names |= {"buy_intensity", "sell_intensity"}
    return frozenset(names)


def _cut(sizes: list[float], share: float, least: Lots) -> list[Lots]:
    """Return whole lots of a share of each size, up to the first that the venue would not take."""
    lots = [int(size * share + SIZE_GUARD) for size in sizes]
    if min(lots) < least:
        del lots[next(rank for rank, whole in enumerate(lots) if whole < least) :]
    return lots
