"""Waiting times, counted: each order placed at a known mid, hit once or not, and seen for the holding time."""

import random

import pytest

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from mmpi.events import BookSnapshot, MarketEvent, Trade  # noqa: E402
from mmpi.instrument import BUY, SECOND, SELL, Side, make_instrument  # noqa: E402
from mmpi.research.waiting_times import HOLE, MOST_BLOCKS, Waiting, depth2  # noqa: E402
from tests.intensity_markets import MID, XY, book, takers  # noqa: E402

MS = SECOND // 1000


def sell(ms: int, depth: int, exch_ms: int = 0, side: Side = SELL) -> Trade:
    """Return a trade so many ticks beyond MID."""
    return Trade(ms * MS, "XY", exch_ms * MS, 1, side, MID + side * depth, 1)


def counted(events: list[MarketEvent], hold_ms: int = 1000) -> tuple[list[list[int]], list[list[float]], Waiting]:
    """Return hits and seconds, by side, of the depths 0, 1, 2, 3 and 4 ticks."""
    seen = Waiting(XY, hold_ms * MS)
    for event in events:
        seen.take(event)
    seen.finish()
    total = sum(seen.blocks)
    assert seen.width == 1
    return total[0, :, :10:2].tolist(), (total[1, :, :10:2] / SECOND).tolist(), seen


def test_an_order_waits_until_it_is_hit_and_no_longer_than_it_is_held() -> None:
    """A sweep of two ticks after 0.3 s: up to there 0.3 s and a hit, behind it a second and none."""
    hits, seconds, seen = counted([book(0), sell(300, 2), book(1000 * MS)])
    assert hits == [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert seconds == [[0.3, 0.3, 0.3, 1, 1], [1, 1, 1, 1, 1]]
    assert (seen.events, seen.sweeps, seen.waited) == (3, 1, SECOND)


def test_a_buyer_comes_to_asks_only() -> None:
    """The same, the other side."""
    hits, seconds, _ = counted([book(0), sell(300, 2, side=BUY), book(1000 * MS)])
    assert hits == [[0, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert seconds[1] == [0.3, 0.3, 0.3, 1, 1]


def test_a_depth_is_hit_once_between_two_instants() -> None:
    """A second sweep counts only where the first did not come; at the next instant all wait again."""
    hits, seconds, _ = counted([book(0), sell(300, 1), sell(500, 3), sell(1200, 1), book(2000 * MS)])
    assert hits[0] == [2, 2, 1, 1, 0]
    assert seconds[0] == [0.5, 0.5, 1.5, 1.5, 2]


def test_instants_are_regular_and_the_mid_is_that_of_before() -> None:
    """A book after the instant does not move the orders; one before it does."""
    early = [book(0), book(900 * MS, MID - 11, MID - 9), sell(1500, 12), book(2000 * MS)]
    assert counted(early)[0][0] == [1, 1, 1, 0, 0]
    late = [book(0), book(1100 * MS, MID - 11, MID - 9), sell(1500, 12), book(2000 * MS)]
    assert counted(late)[0][0] == [1, 1, 1, 1, 1]


def test_quiet_seconds_are_waited_too() -> None:
    """Nothing heard for 20 s within a live feed: 20 s without a hit, and as many instants."""
    hits, seconds, seen = counted([book(0), book(20_500 * MS)])
    assert hits == [[0] * 5] * 2
    assert seconds == [[20.5] * 5] * 2
    assert (seen.instants, seen.mid2_sum, seen.spread_sum) == (21, 21 * 2 * MID, 42)


def test_after_a_hole_waiting_starts_anew() -> None:
    """What happened while no book came for a minute was not seen; it counts until the last thing heard."""
    after = HOLE // MS + 800
    events = [book(0), book(700 * MS), sell(after, 3), book((after + 100) * MS), sell(after + 300, 1)]
    hits, seconds, _ = counted(events)
    assert hits[0] == [1, 1, 0, 0, 0]
    assert seconds[0] == pytest.approx([0.9] * 5)


def test_no_mid_no_orders() -> None:
    """A crossed or one-sided book at an instant: nothing waits until a book has a mid again."""
    crossed = [book(0), book(900 * MS, MID + 1, MID - 1), sell(1500, 3), book(2500 * MS), sell(2600, 0)]
    hits, seconds, _ = counted(crossed)
    assert hits[0] == [1, 0, 0, 0, 0]
    assert seconds[0] == pytest.approx([1.1] * 5)
    empty = BookSnapshot(900 * MS, "XY", 0, 0, (), ((MID + 1, 1),))
    assert counted([book(0), empty, sell(1500, 3), book(2500 * MS), sell(2600, 0)])[1] == [seconds[0], seconds[1]]


def test_the_parts_of_a_sweep_do_not_reach_over_an_instant() -> None:
    """Trades of one exchange time that arrive on both sides of an instant came before it."""
    split = [book(0), sell(999, 1, exch_ms=990), sell(1001, 3, exch_ms=990), book(2000 * MS)]
    hits, _, seen = counted(split)
    assert (hits[0], seen.sweeps) == ([1, 1, 0, 0, 0], 1)
    two = [book(0), sell(999, 1, exch_ms=990), sell(1001, 3, exch_ms=991), book(2000 * MS)]
    hits, _, seen = counted(two)
    assert (hits[0], seen.sweeps) == ([2, 2, 1, 1, 0], 2)


def test_a_trade_from_before_the_book_of_the_mid_fills_nothing() -> None:
    """It arrived late: an order placed at that mid was not there when it was made."""
    first = book(0, exch=50 * MS)
    assert counted([first, sell(300, 2, exch_ms=49)])[0][0] == [0] * 5
    assert counted([first, sell(300, 2, exch_ms=50)])[0][0] == [1, 1, 1, 0, 0]


def test_other_instruments_are_not_heard() -> None:
    """Neither their books nor their trades."""
    other = Trade(300 * MS, "ZZ", 0, 1, SELL, MID - 3, 1)
    assert counted([book(0), other, book(1000 * MS)])[0][0] == [0] * 5


def test_depth_is_in_half_ticks_and_signed() -> None:
    """A buyer above the mid and a seller below it are beyond; short of it, below 0."""
    assert (depth2(201, BUY, 102), depth2(201, SELL, 99), depth2(201, SELL, 101)) == (3, 3, -1)


def test_bins_are_no_finer_than_a_quoter_cares_for() -> None:
    """On a very fine grid a bin is a twentieth of a basis point, and bins reach 100 basis points."""
    seen = Waiting(make_instrument("XY", "0.001", "1"), SECOND)
    seen.take(BookSnapshot(0, "XY", 0, 0, ((99_999_999, 1),), ((100_000_001, 1),)))
    assert (seen.width, len(seen.spreads), seen.narrow) == (1000, 2001, False)


def test_stretches_are_few_and_lose_nothing() -> None:
    """However long the recording, fewer than 40 stretches; together they have every second."""
    seen = Waiting(XY, SECOND)
    for event in takers(1, 3000, (0.5, 0.5), (0.5, 0.5)):
        seen.take(event)
    seen.finish()
    assert MOST_BLOCKS <= len(seen.blocks) < 2 * MOST_BLOCKS
    assert sum(int(block[1, 0, -1]) for block in seen.blocks) == seen.waited == pytest.approx(2999.75 * SECOND)
    lengths = [int(block[1, 0, -1]) for block in seen.blocks[:-1]]
    assert max(lengths) <= 1.1 * min(lengths)


def naive(events: list[MarketEvent], hold_ms: int, depth: int, side: Side) -> tuple[int, int]:
    """Return hits and milliseconds of one side's orders at one depth, from the definition."""
    hits = waited = 0
    last = events[-1].recv_ts // MS
    for start in range(0, last + 1, hold_ms):
        books = [e for e in events if isinstance(e, BookSnapshot) and (e.recv_ts < start * MS or e.recv_ts == 0)]
        price = (books[-1].bids[0][0] + books[-1].asks[0][0]) / 2 - side * depth
        end = min(start + hold_ms, last)
        taken = [
            e.recv_ts // MS
            for e in events
            if isinstance(e, Trade) and e.side == -side and side * (price - e.price) >= 0
            and start * MS <= e.recv_ts and (e.recv_ts // MS < start + hold_ms)
        ]  # fmt: skip
        hits += bool(taken)
        waited += (taken[0] if taken else end) - start
    return hits, waited


@given(st.integers(0, 10**9), st.sampled_from([70, 200, 1000]))
def test_it_is_the_definition(seed: int, hold_ms: int) -> None:
    """Against a plain count, order by order, on random books and trades."""
    rng = random.Random(seed)
    events: list[MarketEvent] = [book(0)]
    for ms in sorted(rng.sample(range(1, 3000), 40)):
        if rng.random() < 0.4:
            move = rng.randrange(-2, 3)
            events.append(book(ms * MS, MID - 1 + move, MID + rng.randrange(1, 3) + move))
        else:
            events.append(sell(ms, rng.randrange(-1, 5), side=rng.choice((BUY, SELL))))
    hits, seconds, _ = counted(events, hold_ms)
    for row, side in ((0, BUY), (1, SELL)):
        for depth in range(5):
            assert (hits[row][depth], round(seconds[row][depth] * 1000)) == naive(events, hold_ms, depth, side)
