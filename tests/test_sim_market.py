"""The generated market's promises: on the grid, never crossed, deterministic, stalling, and no easy money.

What each scenario adds is tested in test_sim_market_scenarios.py, how near it is to a recording in test_fit_market.py.
"""

import random
from itertools import islice, pairwise, takewhile
from typing import TypeAlias

import msgspec
import pytest

from mmpi.actions import Action, Approved, CancelOrder, NewOrder
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, ExecReport, ExecType, Mark, Trade
from mmpi.instrument import BUY, SECOND, SELL, Lots, Nanos, Side, Ticks, make_instrument
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.market import GENERATED, SCENARIOS, Market, MarketConfig
from mmpi.sim.venue import SimVenue

Events: TypeAlias = list[BookSnapshot | Trade | Mark]

START: Nanos = 1_700_000_000 * SECOND
BTC, ETH = GENERATED["BTC"], GENERATED["ETH"]
SIZE: Lots = 100
"""0.001 BTC"""


def market(seed: int, config: MarketConfig | None = None, *names: str) -> Market:
    instruments = [GENERATED[name] for name in names or ("BTC",)]
    return Market(instruments, config or MarketConfig(), random.Random(seed))


def span(seed: int, seconds: float, config: MarketConfig | None = None, *names: str) -> Events:
    end = START + round(seconds * SECOND)
    return list(takewhile(lambda e: e.recv_ts < end, market(seed, config, *names).events(START)))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    """Two markets of one seed and scenario are equal byte by byte, another seed's is not."""
    first, again, other = (
        msgspec.json.encode(list(islice(market(seed, SCENARIOS[name], "BTC", "ETH").events(START), 500)))
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_events_are_in_order_and_numbered() -> None:
    """Receive times never go back, and each instrument's books and trades are numbered without a gap."""
    events = span(1, 120, None, "BTC", "ETH")
    assert all(a.recv_ts <= b.recv_ts for a, b in pairwise(events))
    for name in ("BTC", "ETH"):
        books = [e.seq for e in events if isinstance(e, BookSnapshot) and e.instrument == name]
        trades = [e.trade_id for e in events if isinstance(e, Trade) and e.instrument == name]
        assert books == list(range(1, len(books) + 1))
        assert trades == list(range(1, len(trades) + 1))
        assert len(books) == pytest.approx(480, rel=0.05)
        assert len(trades) > 50


@pytest.mark.parametrize("name", ["BTC", "ETH"])
def test_books_are_valid_and_on_the_grid(name: str) -> None:
    """Every book has 20 levels a side, prices on the effective grid and strictly ordered, spread of a step or more."""
    instrument = GENERATED[name]
    wild = MarketConfig(volatility_bps=20)
    for event in span(2, 120, wild, name):
        if isinstance(event, Trade):
            assert event.price % instrument.step_at(event.price) == 0
            assert event.size >= 1
        if not isinstance(event, BookSnapshot):
            continue
        prices = [p for p, _ in reversed(event.bids)] + [p for p, _ in event.asks]
        assert len(event.bids) == len(event.asks) == 20
        assert all(a < b for a, b in pairwise(prices))
        assert all(p % instrument.step_at(p) == 0 for p in prices)
        assert event.asks[0][0] - event.bids[0][0] >= instrument.step_at(event.bids[0][0])
        assert min(size for _, size in (*event.bids, *event.asks)) >= 1


def test_trades_eat_what_is_displayed() -> None:
    """Between two books trades take no more than a level displays, at its price, and best levels first."""
    shown: dict[tuple[Side, Ticks], Lots] = {}
    for event in span(5, 300):
        if isinstance(event, BookSnapshot):
            shown = {(SELL, p): q for p, q in event.bids} | {(BUY, p): q for p, q in event.asks}
        if not isinstance(event, Trade):
            continue
        better = [p for side, p in shown if side == event.side and event.side * (event.price - p) > 0]
        assert better == []
        left = shown[event.side, event.price] = shown[event.side, event.price] - event.size
        assert left >= 0
        if left == 0:
            del shown[event.side, event.price]


def test_trades_come_in_clusters() -> None:
    """Counts of taker orders in 30 s vary far more than a Poisson process's (variance over mean of 1)."""
    counts = [0] * 60
    for ts in {event.recv_ts for event in span(1, 1800, MarketConfig(stall_every_s=0)) if isinstance(event, Trade)}:
        counts[(ts - START) // (30 * SECOND)] += 1
    mean = sum(counts) / len(counts)
    variance = sum((n - mean) ** 2 for n in counts) / len(counts)
    assert mean == pytest.approx(30 * MarketConfig().trades_per_s, rel=0.3)
    assert variance > 3 * mean


def test_the_feed_stalls_now_and_then() -> None:
    """Stalls last as configured, return about as often as configured, and none comes in the first minute."""
    events = span(1, 600, MarketConfig(stall_every_s=60, stall_s=8))
    gaps = [(a.recv_ts, b.recv_ts - a.recv_ts) for a, b in pairwise(events) if b.recv_ts - a.recv_ts > 5 * SECOND]
    assert 4 <= len(gaps) <= 12
    assert gaps[0][0] >= START + 59 * SECOND
    assert all(8 * SECOND <= gap < 9 * SECOND for _, gap in gaps)


def test_no_stall_when_none_is_wanted() -> None:
    """With stall_every_s = 0 events never pause for a second."""
    events = span(1, 200, MarketConfig(stall_every_s=0))
    assert max(b.recv_ts - a.recv_ts for a, b in pairwise(events)) < SECOND


def test_only_known_instruments() -> None:
    """An instrument without a generated market is refused with the allowed names."""
    with pytest.raises(ConfigError, match="DOGE: no generated market; allowed: BTC, ETH"):
        Market([make_instrument("DOGE", "0.1", "1")], MarketConfig(), random.Random(1))


def make_markets(seed: int, seconds: float) -> tuple[list[ExecReport], list[tuple[Nanos, float]]]:
    """Return the fills and mids of a crude maker: 0.001 BTC a side at 1 bp from the mid, renewed each second."""
    venue = SimVenue(Matching({"BTC": BTC}, SimConfig()), SimConfig(), random.Random(seed))
    fills, mids, working, renew = list[ExecReport](), list[tuple[Nanos, float]](), list[str](), START
    for event in span(seed, seconds):
        venue.market(event)
        for told in venue.due(event.recv_ts):
            if isinstance(told, ExecReport) and told.exec_type is ExecType.TRADE:
                fills.append(told)
        if isinstance(event, BookSnapshot):
            mid = (event.bids[0][0] + event.asks[0][0]) / 2
            mids.append((event.recv_ts, mid))
            if event.recv_ts >= renew:
                renew = event.recv_ts + SECOND
                ids = [f"{event.seq}bid", f"{event.seq}ask"]
                prices = BTC.round_bid(mid * 0.9999), BTC.round_ask(mid * 1.0001)
                actions: list[Action] = [
                    *(CancelOrder("BTC", name, "") for name in working),
                    NewOrder("BTC", ids[0], BUY, prices[0], SIZE, 0),
                    NewOrder("BTC", ids[1], SELL, prices[1], SIZE, 0),
                ]
                venue.send([Approved(event.recv_ts, action) for action in actions], event.recv_ts)
                working = ids
    return fills, mids


def test_a_demo_gets_fills() -> None:
    """In 49 of 50 seeds a maker at 1 bp from the mid of one instrument is filled within 15 seconds."""
    assert len([seed for seed in range(50) if not make_markets(seed, 15)[0]]) <= 1


def markout_bps(fills: list[ExecReport], mids: list[tuple[Nanos, float]], after_s: int) -> list[float]:
    """Return each fill's gain against the first mid `after_s` later."""
    out, i = [], 0
    for fill in fills:
        while i < len(mids) and mids[i][0] < fill.exch_ts + after_s * SECOND:
            i += 1
        if i < len(mids):
            out.append(fill.side * (mids[i][1] - fill.price) / fill.price * 10_000)
    return out


@pytest.mark.slow
def test_there_is_no_easy_money() -> None:
    """Fills come every few seconds, and 5 seconds later the market has on average moved past their price."""
    markouts: list[float] = []
    for seed in range(8):
        fills, mids = make_markets(seed, 300)
        assert len(fills) > 5 * 8
        markouts += markout_bps(fills, mids, 5)
    assert -3 < sum(markouts) / len(markouts) < 0
