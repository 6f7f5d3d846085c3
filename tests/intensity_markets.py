"""Markets whose takers come by a known law, for the tests of the fill intensity."""

import random
from collections.abc import Iterator
from math import exp

import msgspec

from mmpi.events import BookSnapshot, MarketEvent, Trade
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Ticks, make_instrument

XY = make_instrument("XY", "1", "1")
MID: Ticks = 100_000
"""A basis point is ten ticks."""


def book(ts: int, bid: Ticks = MID - 1, ask: Ticks = MID + 1, exch: int = 0) -> BookSnapshot:
    return BookSnapshot(ts, "XY", exch, 0, ((bid, 5),), ((ask, 5),))


def takers(
    seed: int, seconds: float, bids: tuple[float, float], asks: tuple[float, float], scale: int = 1
) -> Iterator[MarketEvent]:
    """Yield books four times a second, and sweeps whose rate at depth d is A*exp(-k*d), by side (A, k) per tick.

    A sweep is two trades of one time, the best price first. `scale` is how much finer the grid of prices is; A and k
    stay per tick of scale 1.
    """
    rng, mid = random.Random(seed), MID * scale
    (buys_at, buys_k), (sells_at, sells_k) = asks, bids
    now, quarters, count = 0.0, 0, 0
    while True:
        now += rng.expovariate(buys_at + sells_at)
        while quarters * 0.25 < min(now, seconds):
            ts = quarters * SECOND // 4
            yield book(ts, mid - scale, mid + scale, exch=ts + 1)
            quarters += 1
        if now >= seconds:
            return
        buys = rng.random() * (buys_at + sells_at) < buys_at
        side, k = (BUY, buys_k) if buys else (SELL, sells_k)
        reach, ts = int(rng.expovariate(k) * scale), int(now * SECOND)
        count += 1
        for depth in sorted({min(reach, scale), reach}):
            yield Trade(ts, "XY", ts + 1, count, side, mid + side * depth, 1)


def mirrored(events: Iterator[MarketEvent]) -> Iterator[MarketEvent]:
    """Yield the market upside down."""
    for each in events:
        if isinstance(each, Trade):
            side = SELL if each.side == BUY else BUY
            yield msgspec.structs.replace(each, side=side, price=2 * MID - each.price)
        elif isinstance(each, BookSnapshot):
            bids, asks = (tuple((2 * MID - price, size) for price, size in levels) for levels in (each.asks, each.bids))
            yield msgspec.structs.replace(each, bids=bids, asks=asks)


def as_line(event: MarketEvent) -> str:
    """Return an event as a recorded Hyperliquid message."""
    if isinstance(event, Trade):
        one = {"coin": event.instrument, "side": "B" if event.side == BUY else "A", "px": str(event.price),
               "sz": str(event.size), "time": event.exch_ts // 10**6, "tid": event.trade_id, "hash": "0x0"}  # fmt: skip
        content: object = {"channel": "trades", "data": [one]}
    else:
        assert isinstance(event, BookSnapshot)
        levels = [[{"px": str(p), "sz": str(q), "n": 1} for p, q in side] for side in (event.bids, event.asks)]
        data = {"coin": event.instrument, "time": event.exch_ts // 10**6, "levels": levels}
        content = {"channel": "l2Book", "data": data}
    return f"{event.recv_ts} {msgspec.json.encode(content).decode()}"


def law(level: float, decay: float, depth: float) -> float:
    return level * exp(-decay * depth)


def grid(scale: int) -> Instrument:
    """Return XY on a grid of prices that is finer by a power of ten."""
    return make_instrument("XY", f"{1 / scale:g}", "1")
