"""The generated market: books and trades that behave enough like a real one to make, and mostly lose, money in.

Invariant: the same seed gives the same events, and every book is on the instrument's grid, uncrossed and not locked.
It must not know who trades in it: our own orders leave no trace here.

The figures below are chosen, not fitted: they give the demo a fill every few seconds at 1 bp from the mid, and fills
that are followed by adverse moves (tests/test_sim_market.py states and checks both).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Level, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks, make_instrument
from mmpi.structs import Config, Leaf

if TYPE_CHECKING:
    import random

GENERATED: Final[dict[str, Instrument]] = {
    "BTC": make_instrument("BTC", "0.1", "0.00001", significant_figures=5, min_notional="10"),
    "ETH": make_instrument("ETH", "0.01", "0.0001", significant_figures=5, min_notional="10"),
}
START_PRICE: Final[dict[str, float]] = {"BTC": 100_000.0, "ETH": 3_500.0}
DEPTH: Final = 20
"""Levels a side, as Hyperliquid's l2Book gives."""
FIRST_STALL_S: Final = 60.0
"""No stall before: a demo of seconds shows a market that moves."""

LEVEL_NOTIONAL: Final = 40_000.0
"""Typical size of one level, in the quote currency; it grows with the distance from the touch."""
TRADE_NOTIONAL: Final = 1_500.0
"""Smallest typical trade; sizes above it are Pareto with TAIL."""
TAIL: Final = 1.1
REFRESH: Final = 0.3
"""Chance that a level's size is redrawn between two books."""
BRANCHING: Final = 0.6
"""Trades that one trade sets off on average (self-excitation)."""
EXCITE_DECAY: Final = 2.0
"""Decay of that excitation, per second."""
IMPACT: Final = 0.35
"""Part of the way a trade goes through the book that the price keeps."""
TREND_TAU_S: Final = 20.0
TREND_SHARE: Final = 0.15
"""The trend's standard deviation per second, as a part of the volatility per square root of a second."""


class MarketConfig(Config, frozen=True):
    """How lively the generated market is; rates and volatility are those of the normal regime."""

    seed: int = 7
    book_interval_ms: float = 250
    trades_per_s: float = 2
    volatility_bps: float = 1.2
    """Basis points per square root of a second (1.2 is about 67% a year)."""
    stall_every_s: float = 600
    """Mean time between feed stalls; 0 = none."""
    stall_s: float = 8


class _Regime(Leaf, frozen=True):
    """Multiples of the configured volatility and trade rate, and how long the regime lasts on average."""

    volatility: float
    trades: float
    mean_s: float


CALM, NORMAL, WILD = 0, 1, 2
REGIMES: Final = (_Regime(0.75, 0.7, 60), _Regime(1.0, 1.0, 60), _Regime(2.0, 3.0, 30))
TO_CALM: Final = 0.5
"""Chance that the normal regime is followed by the calm one; calm and wild are followed by normal."""


class _Tape:
    """One instrument: its latent price, what drives it, and the book and trades around it."""

    def __init__(self, instrument: Instrument, config: MarketConfig, rng: random.Random, start: Nanos) -> None:
        self._instrument = instrument
        self._config = config
        self._rng = rng
        self._price = START_PRICE[instrument.name] * instrument.ticks_per_quote
        self._now = start
        self._trend = 0.0
        """Expected move in basis points per second."""
        self._regime = NORMAL
        self._regime_left = rng.expovariate(1 / REGIMES[NORMAL].mean_s)
        self._excitement = 0.0
        self._bids: list[Level] = []
        self._asks: list[Level] = []
        self._seq = 0
        self._trade_id = 0
        self._requote()
        self.next_book: Nanos = start
        self.next_trade: Nanos = start + self._wait()

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
            self._excitement += BRANCHING * EXCITE_DECAY
        self.next_trade += self._wait()
        return trades

    def _rate(self) -> float:
        base = self._config.trades_per_s * (1 - BRANCHING)
        return base * REGIMES[self._regime].trades + self._excitement

    def _wait(self) -> Nanos:
        return max(1, round(self._rng.expovariate(self._rate()) * SECOND))

    def _advance(self, ts: Nanos) -> None:
        """Move regime, trend, price and excitement to `ts`."""
        dt = (ts - self._now) / SECOND
        self._now = ts
        if dt <= 0:
            return
        self._excitement *= math.exp(-EXCITE_DECAY * dt)
        self._regime_left -= dt
        if self._regime_left <= 0:
            calm = self._rng.random() < TO_CALM
            self._regime = (CALM if calm else WILD) if self._regime == NORMAL else NORMAL
            self._regime_left = self._rng.expovariate(1 / REGIMES[self._regime].mean_s)
        sigma = self._config.volatility_bps * REGIMES[self._regime].volatility
        keep = math.exp(-dt / TREND_TAU_S)
        self._trend = self._trend * keep + self._rng.gauss(0, sigma * TREND_SHARE) * math.sqrt(1 - keep * keep)
        move = self._trend * dt + self._rng.gauss(0, sigma) * math.sqrt(dt)
        self._price *= math.exp(move / 10_000)

    def _requote(self) -> None:
        """Put the book around the price; levels that stay keep their size unless it is redrawn."""
        instrument, rng = self._instrument, self._rng
        wide = rng.expovariate(1.0) * (REGIMES[self._regime].volatility - 0.7)
        extra = int(wide) * instrument.step_at(round(self._price))
        bid = instrument.round_bid(self._price - extra)
        ask = max(instrument.round_ask(self._price + extra), bid + instrument.step_at(bid))
        self._bids = self._ladder(bid, SELL, dict(self._bids))
        self._asks = self._ladder(ask, BUY, dict(self._asks))

    def _ladder(self, best: Ticks, away: Side, old: dict[Ticks, Lots]) -> list[Level]:
        rng, instrument, price = self._rng, self._instrument, best
        levels: list[Level] = []
        typical = LEVEL_NOTIONAL * instrument.ticks_per_quote * instrument.lots_per_base / self._price
        for i in range(DEPTH):
            size = old.get(price, 0)
            if size == 0 or rng.random() < REFRESH:
                size = max(1, int(typical * (0.5 + 0.1 * i) * rng.lognormvariate(-0.3, 0.8)))
            levels.append((price, size))
            price += instrument.step_at(price) if away == BUY else -instrument.step_at(price - 1)
        return levels

    def _take(self, ts: Nanos) -> list[Trade]:
        """Let a taker eat displayed size; takers tend to the side to which the price is going."""
        rng, instrument = self._rng, self._instrument
        mid = (self._bids[0][0] + self._asks[0][0]) / 2
        lead = (self._price - mid) / instrument.step_at(self._asks[0][0])
        drift = self._trend / (self._config.volatility_bps * TREND_SHARE) if self._config.volatility_bps else 0.0
        side = BUY if rng.random() < 0.5 + 0.45 * math.tanh(0.3 * lead + 0.5 * drift) else SELL
        scale = instrument.ticks_per_quote * instrument.lots_per_base / self._price
        left = max(1, int(TRADE_NOTIONAL * scale * rng.paretovariate(TAIL) * rng.random()))
        levels = self._asks if side == BUY else self._bids
        first, trades = levels[0][0], []
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
        self._price += IMPACT * (levels[0][0] - first)
        return trades


class Market:
    """An endless market in some of the GENERATED instruments; ConfigError for any other."""

    def __init__(self, instruments: Sequence[Instrument], config: MarketConfig, rng: random.Random) -> None:
        for instrument in instruments:
            if instrument.name not in START_PRICE:
                allowed = ", ".join(START_PRICE)
                raise ConfigError(f"instrument {instrument.name}: no generated market; allowed: {allowed}")
        self._instruments = tuple(instruments)
        self._config = config
        self._rng = rng

    def events(self, start: Nanos) -> Iterator[BookSnapshot | Trade]:
        """Return the events from `start` on, in the order of `recv_ts`; during a stall the market goes on unseen.

        The random numbers go on from call to call: for the same events again, make a new Market.
        """
        tapes = [_Tape(instrument, self._config, self._rng, start) for instrument in self._instruments]
        stall = start + self._until_stall(FIRST_STALL_S)
        stall_length = round(self._config.stall_s * SECOND)
        while tapes:
            tape = min(tapes, key=_next_ts)
            ts = _next_ts(tape)
            happened: Sequence[BookSnapshot | Trade] = [tape.book()] if ts == tape.next_book else tape.trade()
            if self._config.stall_every_s and ts >= stall + stall_length:
                stall = ts + self._until_stall(0.0)
            if not (self._config.stall_every_s and stall <= ts):
                yield from happened

    def _until_stall(self, at_least_s: float) -> Nanos:
        spread = 0.5 + self._rng.random()
        return round(max(at_least_s, self._config.stall_every_s * spread) * SECOND)


def _next_ts(tape: _Tape) -> Nanos:
    return min(tape.next_book, tape.next_trade)
