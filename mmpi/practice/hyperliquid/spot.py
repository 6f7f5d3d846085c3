"""The spot market of the practice venue: its tokens, its pair, and a generated market for it.

Invariant: spot assets are 10000 + the pair's index and leave the perpetuals' numbers alone.
It must not know accounts or orders.

The pair and its tokens are the venue's first (Hyperliquid "Info endpoint: Spot", read 2026-11-28). Prices have at most
8 - szDecimals decimals and five significant figures, integers are always valid ("Tick and lot size").
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Final

import msgspec

from mmpi.events import MarketEvent
from mmpi.instrument import Instrument, Nanos, make_instrument
from mmpi.sim.scenario import MarketConfig
from mmpi.sim.tape import Tape

FIRST_ASSET: Final = 10_000
PRICE_DECIMALS: Final = 8
START_PRICE: Final = "0.2"
FITTED_AS: Final = "ETH"
"""Whose fitted statistics the generated market has, sizes in USDC included."""
SEED_APART: Final = 1_000_003
"""Keeps its chances apart from those of the perpetuals' market with the same seed."""


class Token(msgspec.Struct, frozen=True):
    """A token of the venue; balances have `wei_decimals` decimals, orders `size_decimals`."""

    name: str
    index: int
    size_decimals: int
    wei_decimals: int
    token_id: str


class Pair(msgspec.Struct, frozen=True):
    """A spot market; on the wire its coin is the instrument's name."""

    index: int
    base: Token
    quote: Token
    instrument: Instrument

    @property
    def asset(self) -> int:
        """Return its number in orders."""
        return FIRST_ASSET + self.index


USDC: Final = Token("USDC", 0, 8, 8, "0x6d1e7cde53ba9467b783cb7c530ce054")
PURR: Final = Token("PURR", 1, 0, 5, "0xc1fb593aeffbeb02f85e0308e9956a90")
TOKENS: Final = (USDC, PURR)


def _pair(index: int, base: Token, quote: Token) -> Pair:
    name = f"{base.name}/{quote.name}"
    tick, lot = f"1e-{PRICE_DECIMALS - base.size_decimals}", f"1e-{base.size_decimals}"
    instrument = make_instrument(
        name, tick, lot, significant_figures=5, min_notional="10", base=base.name, quote=quote.name
    )
    return Pair(index, base, quote, instrument)


PAIRS: Final[Mapping[str, Pair]] = {pair.instrument.name: pair for pair in (_pair(0, PURR, USDC),)}
"""Every pair by its coin."""


def beside(events: Iterable[MarketEvent], seed: int, start: Nanos) -> Iterator[MarketEvent]:
    """Return events with those of every pair's generated market from `start` on between them, by `recv_ts`."""
    pairs = (_market(pair.instrument, seed + SEED_APART * (pair.index + 1), start) for pair in PAIRS.values())
    return heapq.merge(events, *pairs, key=lambda event: event.recv_ts)


def _market(instrument: Instrument, seed: int, start: Nanos) -> Iterator[MarketEvent]:
    """Return an endless market; its marks tell no funding and no index, which spot has not."""
    price = float(START_PRICE) * instrument.ticks_per_quote
    fitted = msgspec.structs.replace(instrument, name=FITTED_AS)
    tape = Tape(fitted, price, MarketConfig(seed=seed), Random(seed), start)
    while True:
        ts = min(tape.next_book, tape.next_trade, tape.next_mark)
        if ts == tape.next_book:
            yield msgspec.structs.replace(tape.book(), instrument=instrument.name)
        elif ts == tape.next_trade:
            for trade in tape.trade():
                yield msgspec.structs.replace(trade, instrument=instrument.name)
        else:
            mark = tape.mark()
            yield msgspec.structs.replace(mark, instrument=instrument.name, index=0.0, rate=0.0, next_ts=0)
