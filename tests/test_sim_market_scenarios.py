"""Scenarios: each shows its behaviour by a statistic that the others do not, and whatever is accepted is a market."""

import math
import random
from functools import cache
from itertools import islice, pairwise, takewhile
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.config import load_config
from mmpi.config.load import effective
from mmpi.config.models import Market as MarketSection
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Mark, Trade
from mmpi.instrument import SECOND, Nanos
from mmpi.sim.market import GENERATED, SCENARIOS, Market, MarketConfig, scenario
from mmpi.sim.tape import Tape

pytestmark = pytest.mark.slow

Events: TypeAlias = list[BookSnapshot | Trade | Mark]
START: Nanos = 1_700_000_000 * SECOND
QUIET = MarketConfig(volatility_bps=0.0, jump_every_s=0.0, stall_every_s=0.0)
"""A price that moves only by what a test adds."""


def span(config: MarketConfig, seconds: float, seed: int = 1, name: str = "BTC") -> Events:
    market = Market([GENERATED[name]], config, random.Random(seed)).events(START)
    return list(takewhile(lambda event: event.recv_ts < START + seconds * SECOND, market))


def mids(events: Events) -> list[float]:
    """Return the mid at each whole second, as a logarithm in basis points."""
    out: list[float] = []
    for event in events:
        if isinstance(event, BookSnapshot):
            mid = 10_000 * math.log((event.bids[0][0] + event.asks[0][0]) / 2)
            out += [out[-1] if out else mid] * ((event.recv_ts - START) // SECOND - len(out))
            if len(out) <= (event.recv_ts - START) // SECOND:
                out.append(mid)
    return out


def variance(values: list[float], seconds: int) -> float:
    """Return the mean squared move over so many seconds, a second."""
    moves = [(b - a) ** 2 for a, b in zip(values, values[seconds:], strict=False)]
    return sum(moves) / len(moves) / seconds


class Statistics(msgspec.Struct):
    """What 40 minutes of a scenario show."""

    variance_ratio: float
    """Variance a second over 60 s moves against 5 s ones: 1 for a random walk."""
    longest_run: int
    """Taker orders on one side in a row."""
    fano: float
    """Variance over mean of the orders in a second."""
    jumps: int
    """Moves of more than 12 bps between two books in a row."""
    missing: float
    locked: float


@cache
def statistics(name: str) -> Statistics:
    events = span(msgspec.structs.replace(SCENARIOS[name], book_interval_ms=800.0), 2400)
    books = [event for event in events if isinstance(event, BookSnapshot)]
    sides = {event.recv_ts: event.side for event in events if isinstance(event, Trade)}
    counts = [0] * 2400
    for ts in sides:
        counts[(ts - START) // SECOND] += 1
    mean = sum(counts) / len(counts)
    run = longest = 0
    for a, b in pairwise(sides.values()):
        run = run + 1 if a == b else 1
        longest = max(longest, run)
    near = [(a, b) for a, b in pairwise(books) if b.recv_ts - a.recv_ts < 5 * SECOND]
    path = mids(events)
    return Statistics(
        variance_ratio=variance(path, 60) / variance(path, 5),
        longest_run=longest,
        fano=sum((n - mean) ** 2 for n in counts) / len(counts) / mean,
        jumps=sum(abs(b.bids[0][0] - a.bids[0][0]) > 0.0012 * a.bids[0][0] for a, b in near),
        missing=sum(b.seq - a.seq > 1 for a, b in near) / len(near),
        locked=sum(book.bids[0][0] == book.asks[0][0] for book in books) / len(books),
    )


def showing(what: str) -> set[str]:
    """Return the scenarios whose statistics show a behaviour."""
    seen = {name: statistics(name) for name in SCENARIOS}
    tests = {
        "trend": lambda s: s.variance_ratio > 2 and s.longest_run < 100,
        "reversion": lambda s: s.variance_ratio < 0.6,
        "burst": lambda s: s.fano > 3 and s.longest_run < 100,
        "cascade": lambda s: s.longest_run > 100,
        "jumps": lambda s: s.jumps > 15,
        "missing": lambda s: s.missing > 0.05,
        "locked": lambda s: s.locked > 0,
    }
    return {name for name, each in seen.items() if tests[what](each)}


@pytest.mark.parametrize(
    ("what", "who"),
    [
        ("trend", {"trend"}),
        ("reversion", {"reversion"}),
        ("burst", {"burst"}),
        ("cascade", {"cascade"}),
        ("jumps", {"gap"}),
        ("missing", {"gap"}),
        ("locked", {"locked"}),
    ],
)
def test_each_scenario_shows_what_the_others_do_not(what: str, who: set[str]) -> None:
    """Variance ratios, one-sided runs, clustering, jumps, lost books, locked books: one scenario each."""
    assert showing(what) == who


def test_calm_and_normal_differ_in_pace() -> None:
    """The price of the normal market moves at least half as much again as that of the calm one."""
    calm, normal = (variance(mids(span(SCENARIOS[name], 1200)), 10) for name in ("calm", "normal"))
    assert normal > 1.5**2 * calm


@pytest.mark.parametrize("share", [0.1, 0.46, 1.0])
def test_the_share_of_locked_books_is_the_configured_one(share: float) -> None:
    """Within three standard errors over 2000 books; locked books are on the grid and sorted on each side."""
    events = span(MarketConfig(locked_share=share, stall_every_s=0.0, book_interval_ms=500.0), 1000)
    books = [event for event in events if isinstance(event, BookSnapshot)]
    locked = sum(book.bids[0][0] == book.asks[0][0] for book in books) / len(books)
    assert abs(locked - share) <= 3 * math.sqrt(share * (1 - share) / len(books))


def test_a_cascade_drives_the_price_and_part_of_it_comes_back() -> None:
    """With nothing else moving: 80 bps one way in 15 s, and then a good part of 40% of it back."""
    config = msgspec.structs.replace(QUIET, cascade_every_s=900.0, book_interval_ms=500.0)
    path = mids(span(config, 300, seed=4))
    start = next(i for i, mid in enumerate(path) if abs(mid - path[0]) > 3)
    way = math.copysign(1.0, path[start] - path[0])
    after = [way * (mid - path[0]) for mid in path[start : start + 150]]
    furthest = max(after[:20])
    assert 60 < furthest <= 85
    assert 0.5 * furthest < after[140] < 0.75 * furthest
    assert max(after[:140]) == furthest


def test_a_cascade_widens_spreads_and_thins_the_book() -> None:
    """While it lasts, the spread is several times the usual one and the depth less than half."""
    events = span(msgspec.structs.replace(QUIET, cascade_every_s=200.0), 1500)
    books = [event for event in events if isinstance(event, BookSnapshot)]
    moving = [b for a, b in pairwise(books) if abs(b.bids[0][0] - a.bids[0][0]) > 0.00008 * a.bids[0][0]]
    still = [b for a, b in pairwise(books) if b.bids[0][0] == a.bids[0][0]]
    spread, depth = [], []
    for some in (moving, still):
        spread.append(sum(book.asks[0][0] - book.bids[0][0] for book in some) / len(some))
        depth.append(sum(sum(size for _, size in book.bids) for book in some) / len(some))
    assert spread[0] > 3 * spread[1]
    assert depth[0] < 0.5 * depth[1]


def test_marks_tell_the_coming_funding() -> None:
    """Every few seconds a mark near the mid, with the next whole hour and a rate inside the venue's formula."""
    events = span(MarketConfig(stall_every_s=0.0, book_interval_ms=1000.0), 7200)
    marks = [event for event in events if isinstance(event, Mark)]
    assert len(marks) == 7200 // 3 - 1
    last: BookSnapshot | None = None
    for event in events:
        last = event if isinstance(event, BookSnapshot) else last
        if isinstance(event, Mark) and last is not None:
            assert event.mark == pytest.approx((last.bids[0][0] + last.asks[0][0]) / 2, rel=0.003)
            assert event.next_ts % (3600 * SECOND) == 0
            assert 0 < event.next_ts - event.recv_ts <= 3600 * SECOND
            premium = event.mark / event.index - 1
            expected = (premium + max(-0.0005, min(0.0005, 0.0001 - premium))) / 8
            assert event.rate == pytest.approx(expected, abs=1e-12)
    assert len({mark.rate for mark in marks}) > 10
    assert not any(isinstance(event, Mark) for event in span(MarketConfig(funding_interval_s=0.0), 60))


def test_what_is_written_wins_over_the_scenario_and_the_scenario_over_the_default() -> None:
    """A scenario by name, one key of it overridden; `check` tells where each value comes from."""
    written = {"MMPI_MARKET__SCENARIO": "gap", "MMPI_MARKET__JUMP_BPS": "7", "MMPI_MARKET__SEED": "3"}
    loaded = load_config(None, written)
    assert loaded.settings.market == scenario("gap", {"jump_bps": 7.0, "seed": 3})
    told = {key: (value, origin) for key, value, origin in effective(loaded)}
    assert told["market.jump_bps"] == ("7.0", "environment MMPI_MARKET__JUMP_BPS")
    assert told["market.missing_share"] == ("0.1", "scenario gap")
    assert told["market.volatility_bps"][1] == "default"
    assert load_config(None, {"MMPI_MARKET__SCENARIO": "normal"}).settings.market == MarketConfig()


def test_a_key_written_at_its_default_still_wins() -> None:
    """`missing_share = 0` in the scenario of gaps means none missing, not "as the scenario says"."""
    market = load_config(None, {"MMPI_MARKET__SCENARIO": "gap", "MMPI_MARKET__MISSING_SHARE": "0"}).settings.market
    assert market == scenario("gap", {"missing_share": 0.0})


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    """The message names the key and every scenario."""
    with pytest.raises(ConfigError, match=r'market.scenario: value "boom": allowed: one of "calm", .*"cascade"'):
        load_config(None, {"MMPI_MARKET__SCENARIO": "boom"})


def test_every_scenario_can_be_asked_for_and_lies_within_the_keys_bounds() -> None:
    """The names in the configuration are the scenarios, and each one written out in full is accepted."""
    assert MarketSection.model_json_schema()["properties"]["scenario"]["enum"] == list(SCENARIOS)
    for name, config in SCENARIOS.items():
        section = MarketSection.model_validate({"scenario": name, **msgspec.structs.asdict(config)})
        assert MarketConfig(**section.model_dump(exclude={"scenario"})) == config


def test_a_feed_that_stalls_all_the_time_is_seen_in_between() -> None:
    """However short the time between stalls, a second of the market shows before the next one."""
    events = span(MarketConfig(stall_every_s=1e-9, stall_s=30.0), 300)
    seen = {(event.recv_ts - START) // SECOND for event in events if event.recv_ts > START + 60 * SECOND}
    assert 7 <= len(seen) <= 18


@pytest.mark.parametrize("price", [99_990.0, 100_005.0, 999_950.0, 1_000_050.0])
def test_the_ladder_crosses_a_change_of_the_grid(price: float) -> None:
    """Around 1000 and 10000, where five significant figures change ETH's step, each level is the next valid price."""
    eth = GENERATED["ETH"]
    tape = Tape(eth, price, QUIET, random.Random(1), START)
    crossed = 0
    for book in (tape.book() for _ in range(20)):
        prices = [level for level, _ in reversed(book.bids)] + [level for level, _ in book.asks]
        assert all(each % eth.step_at(each) == 0 for each in prices)
        for side in (prices[:20], prices[20:]):
            assert all(b - a == eth.step_at(a) for a, b in pairwise(side))
            crossed += eth.step_at(side[0]) != eth.step_at(side[-1])
    assert crossed > 0


def test_the_price_stays_in_its_range() -> None:
    """However wild, within a factor of ten of the start: a price of nothing would be no market."""
    events = span(MarketConfig(jump_every_s=1e-6, jump_bps=1000.0, book_interval_ms=1000.0, stall_every_s=0.0), 4000)
    bids = [event.bids[0][0] / 1_000_000 for event in events if isinstance(event, BookSnapshot)]
    assert min(bids) > 0.098
    assert max(bids) < 10.2
    assert min(bids) < 0.12 or max(bids) > 8


def accepted() -> st.SearchStrategy[MarketConfig]:
    """Return any configuration that the keys' bounds allow, their ends often."""
    keys = {}
    for key, node in MarketSection.model_json_schema()["properties"].items():
        if key not in ("scenario", "seed"):
            low, high = float(node["minimum"]), float(node["maximum"])
            keys[key] = st.sampled_from([low, high]) | st.floats(low, high) | st.floats(low, low + (high - low) / 1000)
    keys["stall_s"] = st.floats(0, 5)  # a stall only hides events, and making hours of them to hide takes time
    return st.builds(MarketConfig, seed=st.integers(0, 1000), **keys)


@settings(max_examples=40)
@given(config=accepted(), name=st.sampled_from(["BTC", "ETH"]))
def test_whatever_is_accepted_gives_valid_events(config: MarketConfig, name: str) -> None:
    """On the grid, sorted, uncrossed, locked only where asked, sizes above 0, numbers rising, everything finite."""
    instrument = GENERATED[name]
    seq, now = 0, START
    for event in islice(Market([instrument], config, random.Random(config.seed)).events(START), 120):
        assert event.recv_ts >= now
        now = event.recv_ts
        if isinstance(event, Mark):
            assert all(map(math.isfinite, (event.mark, event.index, event.rate)))
            assert event.mark > 0 < event.index
            assert event.next_ts > event.recv_ts
        elif isinstance(event, Trade):
            assert event.price > 0 < event.size
            assert event.price % instrument.step_at(event.price) == 0
        else:
            assert event.seq > seq
            seq = event.seq
            bids, asks = [price for price, _ in event.bids], [price for price, _ in event.asks]
            assert len(bids) == len(asks) == 20
            assert all(a > b for a, b in pairwise(bids))
            assert all(a < b for a, b in pairwise(asks))
            assert all(price > 0 and price % instrument.step_at(price) == 0 for price in (*bids, *asks))
            assert min(size for _, size in (*event.bids, *event.asks)) >= 1
            assert bids[0] < asks[0] or (bids[0] == asks[0] and config.locked_share > 0)
