"""Tape: one generated instrument: its latent price, what drives it, and the book and trades around it.

Invariant: every book is on the instrument's grid, sorted, with sizes above 0 and never crossed; it is locked only where
the configuration asks for that. It must not know who trades in it: our own orders leave no trace here.

The price is a random walk with a drift that dies away, jumps, the impact of takers' orders (a power of their size), and
on request the pull of an anchor and liquidation cascades. Takers come as a Hawkes process and lean to the side to which
the price is going, which is what a maker loses to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from mmpi.events import BookSnapshot, Level, Mark, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.sim.market_fit import FITTED, FittedMarket
from mmpi.sim.scenario import MarketConfig
from mmpi.structs import Leaf

if TYPE_CHECKING:
    import random

DEPTH: Final = 20
"""Levels a side, as Hyperliquid's l2Book gives."""
NEAR, DEEP = 1, 5
"""First level of the near and of the deep group (FittedMarket.level_sizes)."""
RANGE: Final = 10.0
"""The price stays within this factor of where it began: beyond, the grid itself would be another."""
IMPACT: Final = FITTED["BTC"]
"""The recording with the most orders; its impact grows in proportion to the configured volatility."""
INFORMED: Final = 0.5
"""Part of the price's response to an order that the taker knew of, not caused; with 0.5 the generated market's response
measures as the recorded one's (tests/test_fit_market.py)."""
KNOWING: Final = math.pow(20_000.0, IMPACT.impact_exponent)
"""Effect of the order of a taker who knows all that is to be known; chosen with INFORMED, for the same reason."""
LEAST_WALK: Final = 0.05
"""Part of the variance that is left to the random walk, however much the rest takes."""
NEVER: Final[Nanos] = 2**62

# Chosen; scenario.py says which numbers are and why.
ANCHOR: Final = 20.0
"""The anchor follows the price this many times slower than the price returns to it."""
FORCED_PER_S: Final = 10.0
"""Liquidation orders in a cascade."""
THIN, TORN = 0.3, 4.0
"""Sizes of the levels, and steps of spread, in a cascade: multiples of the usual."""
REBOUND_SHARE, REBOUND_S = 0.4, 30.0
"""Part of a cascade's move that comes back, and in what time."""
MARK_EVERY: Final[Nanos] = 3 * SECOND
PREMIUM_BPS, PREMIUM_TAU_S = 4.0, 600.0
"""Standard deviation and time constant of the price's distance from the index."""
INTEREST, INTEREST_CLAMP, FUNDING_S = 0.0001, 0.0005, 8 * 3600.0
"""Hyperliquid docs, "Funding" (read 2026-11-21): premium + clamp(interest - premium, -0.05%, 0.05%) per 8 hours."""


class _Regime(Leaf, frozen=True):
    """Multiples of the configured volatility and trade rate, and how long the regime lasts on average."""

    volatility: float
    trades: float
    mean_s: float


CALM, USUAL, WILD = 0, 1, 2
REGIMES: Final = (_Regime(0.66, 0.58, 60), _Regime(0.88, 0.83, 60), _Regime(1.75, 2.5, 30))
"""Averaged over time (2/7, 4/7 and 1/7 of it), variance and trade rate are the configured ones."""
TO_CALM: Final = 0.5
"""Chance that the usual regime is followed by the calm one; calm and wild are followed by the usual one."""


class _Orders:
    """Sizes of takers' orders in the quote currency: a table of the recorded ones with a Pareto tail."""

    def __init__(self, fitted: FittedMarket) -> None:
        self._table = [math.log(size) for size in fitted.order_sizes]
        self._fitted = fitted

    def draw(self, rng: random.Random) -> float:
        """Return one order's size."""
        fitted = self._fitted
        if rng.random() < fitted.tail_share:
            return min(fitted.order_max, fitted.tail_from * rng.paretovariate(fitted.tail))
        return math.exp(_between(self._table, rng.random()))


def _between(table: list[float], probability: float) -> float:
    """Return the table's value at a probability below 1, on the line between its neighbours."""
    at = probability * (len(table) - 1)
    below = int(at)
    low = table[below]
    return low + (table[below + 1] - low) * (at - below)


class Tape:
    """An endless tape from `start` on; ask for what comes at the least of `next_book`, `next_trade`, `next_mark`."""

    def __init__(
        self, instrument: Instrument, price: float, config: MarketConfig, rng: random.Random, start: Nanos
    ) -> None:
        fitted = FITTED[instrument.name]
        self._instrument = instrument
        self._config = config
        self._rng = rng
        self._orders = _Orders(fitted)
        self._levels = [[math.log(size) for size in table] for table in fitted.level_sizes]
        self._wide_share = fitted.wide_share
        self._wide_rate = 1 / max(0.5, fitted.wide_steps - 0.5)
        self._refresh = 1 - math.exp(-fitted.refresh_per_s * config.book_interval_ms / 1000)
        self._lots = instrument.ticks_per_quote * instrument.lots_per_base
        """Lots times ticks in one quote unit of notional."""
        self._lowest, self._price, self._highest = price / RANGE, price, price * RANGE
        self._anchor = price
        variance = config.volatility_bps * config.volatility_bps
        caused = IMPACT.impact_share * (1 - INFORMED) ** 2
        self._walk = math.sqrt(variance * max(LEAST_WALK, 1 - config.trend_share - caused))
        self._drift = math.sqrt(variance * config.trend_share / (2 * config.trend_tau_s))
        """Standard deviation of the trend."""
        self._impact = (1 - INFORMED) * IMPACT.impact_bps / IMPACT.volatility_bps * config.volatility_bps / 10_000
        self._now = start
        self._trend = 0.0
        """Expected move in basis points per second."""
        self._regime = USUAL
        self._regime_left = rng.expovariate(1 / REGIMES[USUAL].mean_s)
        self._set_regime(USUAL)
        self._excitement = 0.0
        self._jump_in = self._until(config.jump_every_s)
        self._cascade_in = self._until(config.cascade_every_s)
        self._cascade_left = 0.0
        self._cascade_side: Side = SELL
        self._overshoot = 0.0
        """Basis points of the price that a cascade made and that will come back."""
        self._premium = 0.0
        self._bids: list[Level] = []
        self._asks: list[Level] = []
        self._seq = 0
        self._trade_id = 0
        self._requote()
        self.next_book: Nanos = start
        self.next_trade: Nanos = start + self._wait()
        self.next_mark: Nanos = start + MARK_EVERY if config.funding_interval_s else NEVER

    def book(self) -> BookSnapshot:
        """Return the book at `next_book`, requoted around the price, and set the time of the next one."""
        self._advance(self.next_book)
        self._requote()
        self._seq += 1
        name, ts = self._instrument.name, self.next_book
        interval = self._config.book_interval_ms * (0.9 + 0.2 * self._rng.random())
        self.next_book += max(1, round(interval * MILLISECOND))
        return BookSnapshot(ts, name, ts, self._seq, tuple(self._bids), tuple(self._asks))

    def trade(self) -> list[Trade]:
        """Return what a taker does at `next_trade` (one trade a level), and set the time of the next one.

        Candidate times come at the rate of the moment before; a candidate is kept in proportion to what is left of
        that rate (Ogata 1981, thinning), so there may be no trade.
        """
        ts = self.next_trade
        before = self._rate()
        self._advance(ts)
        kept = self._rng.random() * before < self._rate()
        trades = self._take(ts) if kept else []
        if kept:
            self._excitement += self._config.branching * self._config.excite_decay_per_s
        self.next_trade += self._wait()
        return trades

    def mark(self) -> Mark:
        """Return the mark price at `next_mark` with the coming funding, and set the time of the next one."""
        ts = self.next_mark
        self._advance(ts)
        self.next_mark += MARK_EVERY
        keep = math.exp(-MARK_EVERY / SECOND / PREMIUM_TAU_S)
        self._premium = self._premium * keep + self._rng.gauss(0, PREMIUM_BPS / 10_000) * math.sqrt(1 - keep * keep)
        interval = self._config.funding_interval_s
        part = min(INTEREST_CLAMP, max(-INTEREST_CLAMP, INTEREST - self._premium))
        rate = (self._premium + part) * interval / FUNDING_S
        period = max(1, round(interval * SECOND))
        index = self._price / (1 + self._premium)
        return Mark(ts, self._instrument.name, ts, self._price, index, rate, (ts // period + 1) * period)

    def _rate(self) -> float:
        """Return the takers' orders per second that are expected now."""
        base = self._config.trades_per_s * (1 - self._config.branching) * self._trade_multiple
        return base + self._excitement + (FORCED_PER_S if self._cascade_left > 0 else 0.0)

    def _wait(self) -> Nanos:
        return max(1, round(self._rng.expovariate(self._rate()) * SECOND))

    def _until(self, every_s: float) -> float:
        """Return the seconds until the next of what comes at random times."""
        return self._rng.expovariate(1 / every_s) if every_s else math.inf

    def _set_regime(self, regime: int) -> None:
        self._regime = regime
        strength = self._config.regime_strength
        self._volatility_multiple = math.pow(REGIMES[regime].volatility, strength)
        self._trade_multiple = math.pow(REGIMES[regime].trades, strength)

    def _advance(self, ts: Nanos) -> None:
        """Move regime, trend, price and excitement to `ts`."""
        dt = (ts - self._now) / SECOND
        self._now = ts
        if dt <= 0:
            return
        config, rng = self._config, self._rng
        self._excitement *= math.exp(-config.excite_decay_per_s * dt)
        self._regime_left -= dt
        if self._regime_left <= 0:
            calm = rng.random() < TO_CALM
            self._set_regime((CALM if calm else WILD) if self._regime == USUAL else USUAL)
            self._regime_left = rng.expovariate(1 / REGIMES[self._regime].mean_s)
        keep = math.exp(-dt / config.trend_tau_s)
        multiple = self._volatility_multiple
        self._trend = self._trend * keep + rng.gauss(0, self._drift * multiple) * math.sqrt(1 - keep * keep)
        move = self._trend * dt + rng.gauss(0, self._walk * multiple) * math.sqrt(dt)
        self._jump_in -= dt
        if self._jump_in <= 0:
            size = config.jump_bps * (0.5 + 0.5 * rng.expovariate(1.0))
            move += size if rng.random() < 0.5 else -size
            self._jump_in = self._until(config.jump_every_s)
        if config.cascade_every_s:
            move += self._cascade(dt)
        if config.reversion_tau_s:
            move += self._reversion(dt)
        self._price = min(self._highest, max(self._lowest, self._price * math.exp(move / 10_000)))

    def _cascade(self, dt: float) -> float:
        """Return the move in basis points that liquidations make, and what of earlier ones comes back."""
        keep = math.exp(-dt / REBOUND_S)
        move = -self._overshoot * (1 - keep)
        self._overshoot *= keep
        if self._cascade_left > 0:
            part = self._cascade_side * self._config.cascade_bps * min(dt, self._cascade_left) / self._config.cascade_s
            self._cascade_left -= dt
            self._overshoot += REBOUND_SHARE * part
            return move + part
        self._cascade_in -= dt
        if self._cascade_in <= 0:
            self._cascade_left = self._config.cascade_s
            self._cascade_side = BUY if self._rng.random() < 0.5 else SELL
            self._cascade_in = self._until(self._config.cascade_every_s)
        return move

    def _reversion(self, dt: float) -> float:
        """Return the move in basis points towards the anchor, and let the anchor follow slowly."""
        tau = self._config.reversion_tau_s
        stretch = 10_000 * math.log(self._price / self._anchor)
        self._anchor *= math.exp(stretch / 10_000 * (1 - math.exp(-dt / (ANCHOR * tau))))
        return -stretch * (1 - math.exp(-dt / tau))

    def _requote(self) -> None:
        """Put the book around the price; levels that stay keep their size unless it is redrawn."""
        instrument, rng = self._instrument, self._rng
        cascade = self._cascade_left > 0
        low = high = self._price
        if cascade or rng.random() < self._wide_share * self._volatility_multiple:
            steps = 1 + int(rng.expovariate(self._wide_rate / (TORN if cascade else 1.0)))
            wide = min(steps * instrument.step_at(round(self._price)), self._price / 100)
            if rng.random() < 0.5:
                low -= wide
            else:
                high += wide
        bid = instrument.round_bid(low)
        ask = max(instrument.round_ask(high), bid + instrument.step_at(bid))
        if self._config.locked_share and rng.random() < self._config.locked_share:
            ask = bid
        self._bids = self._ladder(bid, SELL, dict(self._bids), cascade)
        self._asks = self._ladder(ask, BUY, dict(self._asks), cascade)

    def _ladder(self, best: Ticks, away: Side, old: dict[Ticks, Lots], cascade: bool) -> list[Level]:
        rng, instrument, price = self._rng, self._instrument, best
        scale = self._lots / self._price * (THIN if cascade else 1.0)
        refresh = 1.0 if cascade else self._refresh
        step = instrument.step_at(best)
        even = step == instrument.step_at(best + away * DEPTH * step)
        """No change of the grid's step inside the ladder."""
        levels: list[Level] = []
        for i in range(DEPTH):
            size = old.get(price, 0)
            if size == 0 or rng.random() < refresh:
                table = self._levels[0 if i < NEAR else 1 if i < DEEP else 2]
                size = max(1, int(scale * math.exp(_between(table, rng.random()))))
            levels.append((price, size))
            if not even:
                step = instrument.step_at(price if away == BUY else price - 1)
            price += away * step
        return levels

    def _take(self, ts: Nanos) -> list[Trade]:
        """Let a taker eat displayed size; takers tend to the side to which the price is going."""
        rng, instrument = self._rng, self._instrument
        forced = self._cascade_left > 0
        worth = self._orders.draw(rng)
        effect = math.pow(worth, IMPACT.impact_exponent)
        side = self._cascade_side if forced else self._leaning(effect)
        left = max(1, int(worth * self._lots / self._price))
        levels = self._asks if side == BUY else self._bids
        trades: list[Trade] = []
        while left > 0 and (len(levels) > 1 or levels[0][1] > 1):
            price, shown = levels[0]
            size = min(left, shown if len(levels) > 1 else shown - 1)
            left -= size
            self._trade_id += 1
            trades.append(Trade(ts, instrument.name, ts, self._trade_id, side, price, size))
            if size == shown:
                del levels[0]
            else:
                levels[0] = (price, shown - size)
        if not forced:  # a cascade's own move is the impact of its orders
            self._price *= 1 + side * min(0.01, self._impact * effect)
        return trades

    def _leaning(self, effect: float) -> Side:
        """Return the side of an order; the larger its effect, the more its taker knows of where the price is going."""
        mid = (self._bids[0][0] + self._asks[0][0]) / 2
        lead = (self._price - mid) / self._instrument.step_at(self._asks[0][0])
        drift = self._trend / self._drift if self._drift else 0.0
        known = 0.45 * min(1.0, effect / KNOWING)
        return BUY if self._rng.random() < 0.5 + known * math.tanh(0.3 * lead + 0.5 * drift) else SELL
