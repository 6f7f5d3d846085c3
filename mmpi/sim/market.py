"""The generated market: books and trades that behave enough like a real one to make, and mostly lose, money in.

Invariant: the same seed gives the same events, in the order of their times; what a stall or a lost message hides went
on all the same. It must not know who trades in it: our own orders leave no trace here.

A tape (tape.py) makes each instrument's events from fitted numbers (market_fit.py) and a scenario (scenario.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Mark, Trade
from mmpi.instrument import SECOND, Instrument, Nanos, make_instrument
from mmpi.sim.scenario import SCENARIOS, MarketConfig, scenario
from mmpi.sim.tape import Tape

if TYPE_CHECKING:
    import random

__all__ = ["GENERATED", "SCENARIOS", "Market", "MarketConfig", "scenario"]

Generated: TypeAlias = BookSnapshot | Trade | Mark

GENERATED: Final[dict[str, Instrument]] = {
    "BTC": make_instrument("BTC", "0.1", "0.00001", significant_figures=5, min_notional="10"),
    "ETH": make_instrument("ETH", "0.01", "0.0001", significant_figures=5, min_notional="10"),
}
START_PRICE: Final[dict[str, float]] = {"BTC": 100_000.0, "ETH": 3_500.0}
FIRST_STALL_S: Final = 60.0
"""No stall before: a demo of seconds shows a market that moves."""
BETWEEN_STALLS_S: Final = 1.0
"""At least this much is seen between two stalls, however often they are wanted: a market that is never seen is none."""


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

    def events(self, start: Nanos) -> Iterator[Generated]:
        """Return the events from `start` on, in the order of `recv_ts`; during a stall the market goes on unseen.

        The random numbers go on from call to call: for the same events again, make a new Market.
        """
        config, rng = self._config, self._rng
        tapes = [Tape(each, _first_price(each), config, rng, start) for each in self._instruments]
        stall = start + self._until_stall(FIRST_STALL_S)
        stall_length = round(config.stall_s * SECOND)
        while tapes:
            tape = min(tapes, key=_next_ts)
            ts = _next_ts(tape)
            happened: Sequence[Generated]
            if ts == tape.next_book:
                book = tape.book()
                happened = () if config.missing_share and rng.random() < config.missing_share else (book,)
            else:
                happened = tape.trade() if ts == tape.next_trade else (tape.mark(),)
            if config.stall_every_s and ts >= stall + stall_length:
                stall = ts + self._until_stall(BETWEEN_STALLS_S)
            if not (config.stall_every_s and stall <= ts):
                yield from happened

    def _until_stall(self, at_least_s: float) -> Nanos:
        spread = 0.5 + self._rng.random()
        return round(max(at_least_s, self._config.stall_every_s * spread) * SECOND)


def _first_price(instrument: Instrument) -> float:
    return START_PRICE[instrument.name] * instrument.ticks_per_quote


def _next_ts(tape: Tape) -> Nanos:
    return min(tape.next_book, tape.next_trade, tape.next_mark)
