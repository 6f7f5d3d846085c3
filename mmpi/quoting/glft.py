"""Gueant-Lehalle-Fernandez-Tapia: the optimal quotes of a market maker without a closing time and with a largest
inventory.

Source: Gueant, Lehalle & Fernandez-Tapia, "Dealing with the inventory risk: a solution to the market making problem",
Mathematics and Financial Economics 7, 2013 (arXiv 1105.3115v5): theorem 1 (quotes), theorem 2 (asymptotics), the closed
form after it. Of one unit q more or less:

    bid depth(q) = ln(f[q] / f[q+1]) / k + ln(1 + gamma/k) / gamma        ask depth(q) = bid depth(-q)

with f the eigenvector of the smallest eigenvalue of the tridiagonal matrix that has alpha*q^2 on its diagonal and -eta
beside it, -Q <= q <= Q; alpha = k*gamma*sigma^2/2 and eta = A*(1 + gamma/k)^-(1 + k/gamma). At Q there is no bid, at -Q
no ask. The rungs beyond the first stand where it will stand once the inner ones are filled.

Units: inside ticks, lots and seconds. A person writes gamma and k per basis point of the price (per tick they are that
over the ticks in a basis point of the mid); inventory counts orders. f depends on gamma, k, A and sigma only by
alpha/eta, which has no unit.

Invariant: more inventory never brings a bid nearer or makes it larger. It must not know orders or time beyond its view.
"""

from itertools import pairwise
from math import exp, log, sqrt
from typing import Final

from mmpi.instrument import SECOND, Instrument, Lots, Nanos
from mmpi.inventory import CRITICAL
from mmpi.ladder import NO_SPREAD, REFERENCES, OrderSize, Side, apart, centre, smallest_order, tolerance_of
from mmpi.ports import MarketView, Quote, QuoteLevel
from mmpi.quoting.avellaneda_stoikov import MOST_VOLATILITY, intensity_term
from mmpi.structs import QuoterConfig

GRID: Final = 0.02
"""Step of the grid in ln(sigma) on which the eigenvector is solved; between its points depths are interpolated, which
errs by less than GRID^2 / 4k."""
TABLES: Final = 256
"""Solved points of the grid that are kept, at most: a volatility's range of 1 to 150."""
ITERATIONS: Final = 200
"""More than a bisection to a double's precision takes; Newton's steps need about eight."""
_EPSILON: Final = 1e-15
_PER_GRID: Final = 1.0 / GRID
_BP: Final = 1e-4


class GlftConfig(QuoterConfig, frozen=True):
    """The model's ladder. Exactly one of size and notional is set: one order's size, the model's unit of inventory."""

    levels: int = 3
    """Orders a side (1 to 20)."""
    size: str = ""
    """Base currency per order, decimal text; "" = use `notional`."""
    notional: str = "100"
    """Quote currency per order, decimal text; "" = use `size`."""
    max_inventory: int = 10
    """Largest inventory, in orders, either way (1 to 50)."""
    gamma_per_bp: float = 0.02
    """Risk aversion, per basis point of the price and unit of inventory (0 to 10); 0 = no skew but at the bounds."""
    k_per_bp: float = 0.5
    """Decay of the fill intensity A*exp(-k*depth), per basis point (0.001 to 100). Fitted to how far beyond the mid
    takers' sweeps reached on Hyperliquid's ETH, 2025-09-03: 0.55."""
    arrivals_per_s: float = 0.1
    """A, the fills a second of an order at the mid (0.000001 to 10000). From the same fit: 0.085."""
    approximate: bool = False
    """Use the paper's closed form, linear in inventory and volatility, in place of the exact solution."""
    reference: str = "mid"
    """mid, weighted_mid or micro_price."""
    min_volatility_bps: float = 0.1
    """Basis points per sqrt(second), a floor under what is measured (0.001 to 100)."""
    max_depth_bps: float = 100.0
    """No order is farther than this from the reference, in basis points (above 0, to 1000)."""
    update_interval_s: float = 1.0
    tolerance_ticks: int = 0
    tolerance_percent: float = 10.0
    """A working order is kept while its price is within the larger of tolerance_ticks and this percent of its
    distance from the fair value."""
    size_tolerance_percent: float = 20.0


def eta(gamma: float, k: float, arrivals: float) -> float:
    """Return A*(1 + gamma/k)^-(1 + k/gamma), in 1/s; its limit A/e at gamma 0."""
    return arrivals * exp(-(gamma + k) * intensity_term(gamma, k))


def stiffness(gamma: float, k: float, arrivals: float, sigma: float) -> float:
    """Return alpha/eta, the one number that the shape of the solution depends on."""
    return 0.5 * k * gamma * sigma * sigma / eta(gamma, k, arrivals)


def ratios(a: float, bound: int) -> list[float]:
    """Return f[q] / f[q+1] for q = 0 ... bound-1; `a` is alpha/eta >= 0, `bound` is Q >= 1.

    With mu = -eigenvalue/eta the rows of the matrix give the ratios one after the other, from the bound inwards, where
    f grows and rounding errors die out:

        g[Q-1] = a*Q^2 + mu        g[q-1] = a*q^2 + mu - 1/g[q]        and, since f[1] = f[-1],  mu = 2/g[0]

    The largest root mu is the smallest eigenvalue, and the only one for which all ratios are positive.
    """
    low, high = 0.0, 2.0
    mu = high
    best = _inwards(a, mu, bound)
    for _ in range(ITERATIONS):
        solution = _inwards(a, mu, bound)
        error = mu - 2.0 / solution[0] if solution else -1.0
        if solution:
            best = solution
        if error < 0.0:
            low = mu
        else:
            high = mu
        step = error / (1.0 + 2.0 * _slope(best) / (best[0] * best[0])) if solution else 0.0
        following = mu - step
        if not solution or not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - mu) <= _EPSILON * mu or high - low <= _EPSILON * high:
            break
        mu = following
    return best


def depths(gamma: float, k: float, arrivals: float, sigma: float, bound: int) -> list[float]:
    """Return the exact depth of the bid for q = -Q ... Q-1; that of the ask at q is the one of the bid at -q.

    Any unit of price will do: gamma and k are per that unit, sigma is in it per sqrt(second).
    """
    base = intensity_term(gamma, k)
    outwards = [log(ratio) / k for ratio in ratios(stiffness(gamma, k, arrivals, sigma), bound)]
    return [base - depth for depth in reversed(outwards)] + [base + depth for depth in outwards]


def never_narrower(exact: list[float], calm: list[float]) -> list[float]:
    """Return depths of the bid for q = -Q ... Q whose spread is at no q below that of `calm`, volatility zero's.

    Beyond 3/5 of Q the exact spread first narrows a little as volatility grows from zero (by up to 0.25/k): inventory
    risk begins to count as the bound alone did. Quotes shall not come nearer for that, so there the bid stays out. At Q
    itself, where no whole bid fits, it goes on as the ask goes in: the spread of Q-1.
    """
    bound = len(exact) // 2
    table = list(exact)
    for q in range(1, bound):
        table[bound + q] = max(exact[bound + q], calm[bound + q] + calm[bound - q] - exact[bound - q])
    table.append(table[-1] + exact[1] - exact[0])
    return table


def closed_form(q: float, gamma: float, k: float, arrivals: float, sigma: float) -> tuple[float, float]:
    """Return the depths of bid and ask in the paper's approximation: base +- (2q +- 1)/2 * sqrt(alpha/eta)/k."""
    base = intensity_term(gamma, k)
    skew = sqrt(stiffness(gamma, k, arrivals, sigma)) / k
    return base + (q + 0.5) * skew, base - (q - 0.5) * skew


class Glft:
    """The quoter of GlftConfig."""

    def __init__(self, config: GlftConfig, instrument: Instrument) -> None:
        self.config = config
        self.instrument = instrument
        self.interval: Nanos = round(config.update_interval_s * SECOND)
        self.refresh: Nanos = 0
        self.tolerance = tolerance_of(config.tolerance_ticks, config.tolerance_percent, config.size_tolerance_percent)
        self.signals: frozenset[str] = frozenset(("micro_price",) if config.reference == "micro_price" else ())
        self.uses_mark = False
        self.prices_only: bool = config.reference == "mid" and not self.signals
        self._size = OrderSize(config.size, config.notional, instrument, "glft")
        self._reference: int = REFERENCES.index(config.reference)
        self._levels: int = config.levels
        self._approximate: bool = config.approximate
        self._bound: int = config.max_inventory
        self._base: float = intensity_term(config.gamma_per_bp, config.k_per_bp)
        self._slope: float = (
            sqrt(stiffness(config.gamma_per_bp, config.k_per_bp, config.arrivals_per_s, 1.0)) / config.k_per_bp
        )
        """Skew of the closed form, per unit of inventory and of sigma."""
        self._floor: float = config.min_volatility_bps
        self._deepest: float = config.max_depth_bps
        self._calm: list[float] = depths(
            config.gamma_per_bp, config.k_per_bp, config.arrivals_per_s, 0.0, config.max_inventory
        )
        self._bids, self._asks = Side(instrument), Side(instrument)
        self._tables: dict[int, list[float]] = {}
        self._inputs: tuple[float, float, float, Lots, int, int, int] | None = None
        self._quote = Quote(fair=0.0, bids=(), asks=())
        """The ladder of `_inputs`."""

    def quote(self, view: MarketView) -> Quote:
        """Return the ladder around the reference; a side ends where the inventory would leave its bounds."""
        mid = view.mid
        reference = mid if self._reference == 0 else centre(view, self._reference)
        inputs = (mid, view.volatility, reference, view.position, view.band, view.best_bid, view.best_ask)
        # Order reports and timers ask again while the book stands still: the same ladder then.
        if inputs != self._inputs:
            self._quote = self._made(view, mid, reference)
            self._inputs = inputs
        return self._quote

    def _made(self, view: MarketView, mid: float, reference: float) -> Quote:
        bp, position = mid * _BP, view.position
        unit = self._size.lots(mid)
        least = smallest_order(self.instrument, mid - abs(reference - mid) - self._deepest * bp, self._levels)
        if unit < least:
            return Quote(fair=reference, bids=(), asks=(), reason="size_below_lot")
        sigma = view.volatility / bp
        if sigma < self._floor:
            sigma = self._floor
        elif sigma > MOST_VOLATILITY:
            sigma = MOST_VOLATILITY
        room = self._bound * unit
        away, near = self._depths(position / unit, sigma, bp)
        bids: tuple[QuoteLevel, ...] = ()
        asks: tuple[QuoteLevel, ...] = ()
        if position <= 0 or view.band < CRITICAL:
            bids = self._bids.bids(reference, away, self._lots(room - position, unit, least), view.best_ask)
        if position >= 0 or view.band < CRITICAL:
            asks = self._asks.asks(reference, near, self._lots(room + position, unit, least), view.best_bid)
        bids, asks = apart(bids, asks, position)
        return Quote(reference, bids, asks, "" if bids or asks or position else NO_SPREAD)

    def _lots(self, room: Lots, unit: Lots, least: Lots) -> list[Lots]:
        """Return the sizes of orders that together fit in `room`: units, and what is left of it at the end."""
        whole = room // unit
        if whole >= self._levels:
            return [unit] * self._levels
        if whole < 0:
            return []
        rest = room - whole * unit
        return [unit] * whole + [rest] if rest >= least else [unit] * whole

    def _depths(self, held: float, sigma: float, bp: float) -> tuple[list[float], list[float]]:
        """Return the depths of bids and asks at an inventory of `held` units, in ticks."""
        if self._approximate:
            skew = self._slope * sigma * bp
            first = self._base * bp + 0.5 * skew
            away = [first + (held + level) * skew for level in range(self._levels)]
            near = [first + (level - held) * skew for level in range(self._levels)] if held else away
        else:
            place = log(sigma) * _PER_GRID
            point = int(place // 1)
            low, high, share = self._table(point), self._table(point + 1), (place - point) * bp
            away = near = self._exact(held, low, high, share, bp - share)
            if held:
                near = self._exact(-held, low, high, share, bp - share)
        deepest = self._deepest * bp
        return _bounded(away, deepest), _bounded(near, deepest)

    def _exact(self, held: float, low: list[float], high: list[float], share: float, rest: float) -> list[float]:
        """Return the depths at `held`, held+1 ...: between whole inventories, and between two volatilities, linear.

        `rest` and `share` weigh the tables of the two.
        """
        spot = held + self._bound
        index = int(spot) if spot > 0.0 else 0
        between = spot - index
        end = index + self._levels
        if between > 0.0:
            end += 1
        whole = [rest * a + share * b for a, b in zip(low[index:end], high[index:end])]  # noqa: B905 - equally long
        if between <= 0.0:
            return whole
        return [depth + between * (following - depth) for depth, following in pairwise(whole)]

    def _table(self, point: int) -> list[float]:
        """Return the depths at a point of the grid of volatility, solved once while it is remembered."""
        table = self._tables.get(point)
        if table is None:
            config = self.config
            if len(self._tables) >= TABLES:
                del self._tables[next(iter(self._tables))]
            sigma = exp(point * GRID)
            exact = depths(config.gamma_per_bp, config.k_per_bp, config.arrivals_per_s, sigma, self._bound)
            table = self._tables[point] = never_narrower(exact, self._calm)
        return table


def _inwards(a: float, mu: float, bound: int) -> list[float]:
    """Return g[0] ... g[Q-1] of `ratios`, or nothing where one of them is not positive."""
    ratio = a * bound * bound + mu
    found = [ratio]
    for q in range(bound - 1, 0, -1):
        if ratio <= 0.0:
            return []
        ratio = a * q * q + mu - 1.0 / ratio
        found.append(ratio)
    if ratio <= 0.0:
        return []
    found.reverse()
    return found


def _slope(found: list[float]) -> float:
    """Return dg[0]/dmu."""
    slope = 1.0
    for ratio in reversed(found[1:]):
        slope = 1.0 + slope / (ratio * ratio)
    return slope


def _bounded(depths_out: list[float], deepest: float) -> list[float]:
    """Return depths, which grow, none of them farther than `deepest` either way."""
    if depths_out and (depths_out[-1] > deepest or depths_out[0] < -deepest):
        return [min(max(depth, -deepest), deepest) for depth in depths_out]
    return depths_out
