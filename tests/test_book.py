"""OrderBook against a slow reference, and each outcome by name."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.book import MAX_LEVELS, BookOutcome, BookState, OrderBook
from mmpi.events import Bbo, BookDelta, BookSnapshot, Level

BookEvent = BookSnapshot | BookDelta | Bbo
Levels = tuple[Level, ...]

BIDS: Levels = ((100, 5), (99, 6), (97, 7))
ASKS: Levels = ((101, 4), (103, 3))


def snapshot(bids: Levels = BIDS, asks: Levels = ASKS, seq: int = 0, ts: int = 1) -> BookSnapshot:
    return BookSnapshot(recv_ts=ts, instrument="X", exch_ts=0, seq=seq, bids=bids, asks=asks)


def delta(bids: Levels = (), asks: Levels = (), prev_seq: int = 0, seq: int = 0, ts: int = 2) -> BookDelta:
    return BookDelta(recv_ts=ts, instrument="X", exch_ts=0, seq=seq, prev_seq=prev_seq, bids=bids, asks=asks)


def bbo(bid: int = 100, ask: int = 101, bid_size: int = 1, ask_size: int = 1, seq: int = 0, ts: int = 3) -> Bbo:
    return Bbo(ts, "X", 0, seq, bid, bid_size, ask, ask_size)


def book(*events: BookEvent) -> OrderBook:
    made = OrderBook("X")
    for event in events:
        made.apply(event)
    return made


def content(made: OrderBook) -> tuple[object, ...]:
    """Everything a refused message must leave alone."""
    touch = (made.best_bid, made.best_bid_size, made.best_ask, made.best_ask_size)
    return made.bids, made.asks, touch, made.last_mid2, made.seq, made.recv_ts


class SlowBook:
    """The documented rules once more, with dicts and full scans."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.seq = self.bbo_seq = self.mid2 = self.last_mid2 = self.recv_ts = 0
        self.valid = False
        self.touch = (0, 0, 0, 0)

    def apply(self, event: BookEvent) -> BookOutcome:
        refusals = self.refusals(event)
        if BookOutcome.STALE in refusals:
            return BookOutcome.STALE
        if refusals:
            self.mid2 = 0
            self.valid = self.valid and isinstance(event, Bbo)
            return next(outcome for outcome in reversed(BookOutcome) if outcome in refusals)
        self.recv_ts = event.recv_ts
        if isinstance(event, Bbo):
            self.bbo_seq = event.seq
            bid = (event.bid, event.bid_size) if event.bid_size else (0, 0)
            ask = (event.ask, event.ask_size) if event.ask_size else (0, 0)
        else:
            self.seq, self.valid = event.seq, True
            kept = isinstance(event, BookDelta)
            self.bids = self.merged(self.bids if kept else {}, event.bids)
            self.asks = self.merged(self.asks if kept else {}, event.asks)
            bid = max(self.bids.items(), default=(0, 0))
            ask = min(self.asks.items(), default=(0, 0))
        self.touch = (*bid, *ask)
        return self.judged(bid[0], ask[0])

    def refusals(self, event: BookEvent) -> set[BookOutcome]:
        found = set()
        if isinstance(event, Bbo):
            last, fresh, least = max(self.seq, self.bbo_seq), True, 0
            sides: tuple[Levels, ...] = (((event.bid, event.bid_size),), ((event.ask, event.ask_size),))
            if any(size != 0 and price <= 0 for ((price, size),) in sides):
                found.add(BookOutcome.BAD_PRICE)
        else:
            last, fresh, least = self.seq, self.valid, 0 if isinstance(event, BookDelta) else 1
            sides = (event.bids, event.asks)
            if any(price <= 0 for side in sides for price, _ in side):
                found.add(BookOutcome.BAD_PRICE)
        if any(size < least for side in sides for _, size in side):
            found.add(BookOutcome.BAD_SIZE)
        if any(len(set(prices)) < len(prices) for prices in ([price for price, _ in side] for side in sides)):
            found.add(BookOutcome.BAD_ORDER)
        if isinstance(event, BookSnapshot):
            bids, asks = [price for price, _ in event.bids], [price for price, _ in event.asks]
            if bids != sorted(bids, reverse=True) or asks != sorted(asks):
                found.add(BookOutcome.BAD_ORDER)
        if isinstance(event, BookDelta) and (not self.valid or event.prev_seq > self.seq):
            found.add(BookOutcome.GAP)
        if fresh and event.seq != 0 and event.seq <= last:
            found.add(BookOutcome.STALE)
        return found

    @staticmethod
    def merged(side: dict[int, int], levels: Iterable[Level]) -> dict[int, int]:
        return {price: size for price, size in {**side, **dict(levels)}.items() if size}

    def judged(self, bid: int, ask: int) -> BookOutcome:
        self.mid2 = bid + ask if 0 < bid <= ask else 0
        self.last_mid2 = self.mid2 or self.last_mid2
        if not bid or not ask:
            return BookOutcome.ONE_SIDED if bid or ask else BookOutcome.EMPTY
        if bid == ask:
            return BookOutcome.LOCKED
        return BookOutcome.OK if bid < ask else BookOutcome.CROSSED


def mostly(good: st.SearchStrategy[int], rare: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return st.integers(0, 29).flatmap(lambda n: rare if n == 0 else good)


numbers = st.integers(0, 12)
prices = mostly(st.integers(1, 14), st.integers(-1, 0))
levels = st.lists(st.tuples(prices, mostly(st.integers(1, 4), st.integers(-1, 0))), max_size=5).map(tuple)
changes = st.lists(st.tuples(prices, mostly(st.integers(0, 4), st.just(-1))), max_size=4).map(tuple)
bid_sides = st.dictionaries(st.integers(1, 8), st.integers(1, 4), max_size=5).map(
    lambda side: tuple(sorted(side.items(), reverse=True))
)
ask_sides = st.dictionaries(st.integers(7, 14), st.integers(1, 4), max_size=5).map(
    lambda side: tuple(sorted(side.items()))
)
change_sides = st.dictionaries(st.integers(1, 14), st.integers(0, 4), max_size=4).map(lambda side: tuple(side.items()))
messages = st.one_of(
    st.builds(snapshot, bid_sides, ask_sides, seq=numbers, ts=numbers),
    st.builds(delta, change_sides, change_sides, prev_seq=numbers, seq=numbers, ts=numbers),
    st.builds(delta, change_sides, change_sides, ts=numbers),
    st.builds(delta, changes, changes, ts=numbers),
    st.builds(snapshot, levels, levels, seq=numbers, ts=numbers),
    st.builds(bbo, prices, prices, st.integers(-1, 3), st.integers(0, 3), seq=numbers, ts=numbers),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=20))
def test_book_equals_the_slow_reference(events: list[BookEvent]) -> None:
    """Outcome, levels, touch, mids and validity equal the reference after every message, whatever comes."""
    fast, slow = OrderBook("X"), SlowBook()
    counts = dict.fromkeys(BookOutcome, 0)
    for event in events:
        outcome = fast.apply(event)
        note(f"{type(event).__name__} {outcome.name}")
        assert outcome is slow.apply(event)
        counts[outcome] += 1
        assert dict(fast.bids) == slow.bids and list(fast.bids) == sorted(fast.bids, reverse=True)
        assert dict(fast.asks) == slow.asks and list(fast.asks) == sorted(fast.asks)
        assert (fast.best_bid, fast.best_bid_size, fast.best_ask, fast.best_ask_size) == slow.touch
        assert (fast.mid2, fast.last_mid2, fast.valid) == (slow.mid2, slow.last_mid2, slow.valid)
        assert (fast.seq, fast.recv_ts) == (slow.seq, slow.recv_ts)
    assert fast.counts == counts


@settings(max_examples=100, deadline=None)
@given(bid_sides, ask_sides, st.lists(st.tuples(change_sides, change_sides), max_size=30))
def test_unbroken_deltas_equal_the_slow_reference(
    bids: Levels, asks: Levels, stream: list[tuple[Levels, Levels]]
) -> None:
    """A long run of numbered deltas without a gap is applied in full and leaves the reference's levels."""
    fast, slow = book(snapshot(bids, asks, seq=1)), SlowBook()
    slow.apply(snapshot(bids, asks, seq=1))
    for seq, (bid_changes, ask_changes) in enumerate(stream, start=2):
        event = delta(bid_changes, ask_changes, prev_seq=seq - 1, seq=seq)
        assert fast.apply(event) is slow.apply(event)
        assert fast.seq == seq
    assert fast.bids == tuple(sorted(slow.bids.items(), reverse=True))
    assert fast.asks == tuple(sorted(slow.asks.items()))


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, max_size=12), st.lists(messages, max_size=8))
def test_restored_book_behaves_as_the_first(before: list[BookEvent], after: list[BookEvent]) -> None:
    """A checkpoint that went through JSON gives a book that answers everything later in the same way."""
    first, second = book(*before), OrderBook("X")
    second.restore(msgspec.json.decode(msgspec.json.encode(first.checkpoint()), type=BookState))
    assert second.checkpoint() == first.checkpoint()
    assert [first.apply(event) for event in after] == [second.apply(event) for event in after]
    assert second.checkpoint() == first.checkpoint()


def test_book_shows_a_snapshot_as_it_came() -> None:
    """A good snapshot is OK: its levels, touch and mid are the book's."""
    made = book()
    assert made.apply(snapshot(seq=5, ts=9)) is BookOutcome.OK
    assert (made.bids, made.asks, made.seq, made.recv_ts, made.valid) == (BIDS, ASKS, 5, 9, True)
    assert (made.best_bid, made.best_bid_size, made.best_ask, made.best_ask_size) == (100, 5, 101, 4)
    assert (made.mid2, made.last_mid2) == (201, 201)


@pytest.mark.parametrize(
    ("bids", "asks", "outcome", "mid2"),
    [
        (((100, 1),), ((100, 1),), BookOutcome.LOCKED, 200),
        (((101, 1),), ((100, 1),), BookOutcome.CROSSED, 0),
        (((101, 1),), (), BookOutcome.ONE_SIDED, 0),
        ((), ((101, 1),), BookOutcome.ONE_SIDED, 0),
        ((), (), BookOutcome.EMPTY, 0),
    ],
)
def test_odd_books_are_shown(bids: Levels, asks: Levels, outcome: BookOutcome, mid2: int) -> None:
    """A locked book's mid is its price; crossed, one-sided and empty books are shown, but have no mid."""
    made = book(snapshot())
    assert made.apply(snapshot(bids, asks)) is outcome
    assert (made.bids, made.asks, made.valid, made.mid2, made.last_mid2) == (bids, asks, True, mid2, mid2 or 201)


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (snapshot(bids=((100, 0),)), BookOutcome.BAD_SIZE),
        (snapshot(asks=((101, 1), (102, -1))), BookOutcome.BAD_SIZE),
        (delta(bids=((100, -1),)), BookOutcome.BAD_SIZE),
        (snapshot(bids=((99, 1), (100, 1))), BookOutcome.BAD_ORDER),
        (snapshot(asks=((102, 1), (101, 1))), BookOutcome.BAD_ORDER),
        (snapshot(asks=((101, 1), (101, 1))), BookOutcome.BAD_ORDER),
        (delta(asks=((101, 1), (101, 0))), BookOutcome.BAD_ORDER),
        (snapshot(bids=((1, 1), (0, 1))), BookOutcome.BAD_PRICE),
        (delta(asks=((-5, 0),)), BookOutcome.BAD_PRICE),
        (delta(bids=((100, 1),), prev_seq=8, seq=9), BookOutcome.GAP),
    ],
)
def test_refused_messages_change_nothing(event: BookEvent, outcome: BookOutcome) -> None:
    """A flawed message leaves levels, touch and numbers alone, but takes the mid and the trust until a snapshot."""
    made = book(snapshot(seq=7))
    before = content(made)
    assert made.apply(event) is outcome
    assert (content(made), made.valid, made.mid2) == (before, False, 0)
    assert made.apply(delta(prev_seq=7, seq=8)) is BookOutcome.GAP
    assert made.apply(snapshot(seq=3)) is BookOutcome.OK
    assert (made.valid, made.mid2, made.seq) == (True, 201, 3)


def test_delta_before_any_snapshot_is_a_gap() -> None:
    """Without a snapshot there is nothing that a delta could follow, numbered or not."""
    assert book().apply(delta(bids=BIDS)) is BookOutcome.GAP


@pytest.mark.parametrize("event", [snapshot((), (), seq=7), delta(seq=7, prev_seq=6), snapshot(seq=6), bbo(seq=7)])
def test_stale_messages_are_ignored(event: BookEvent) -> None:
    """A repeated or older number changes nothing, not even trust in the book."""
    made = book(snapshot(seq=7))
    before = content(made)
    assert made.apply(event) is BookOutcome.STALE
    assert (content(made), made.valid, made.mid2) == (before, True, 201)


def test_delta_sets_absolute_sizes() -> None:
    """A delta adds, resizes and removes levels on both sides; removing an absent level is nothing."""
    made = book(snapshot(seq=1))
    event = delta(((98, 2), (100, 0), (99, 9), (50, 0)), ((102, 1), (101, 0)), prev_seq=1, seq=2)
    assert made.apply(event) is BookOutcome.OK
    assert made.bids == ((99, 9), (98, 2), (97, 7))
    assert made.asks == ((102, 1), (103, 3))
    assert made.mid2 == 99 + 102


def test_delta_may_overlap_the_snapshot() -> None:
    """A delta that starts before the book's number and ends after it follows, for its sizes are absolute."""
    made = book(snapshot(seq=10))
    assert made.apply(delta(bids=((100, 8),), prev_seq=8, seq=12)) is BookOutcome.OK
    assert (made.best_bid_size, made.seq) == (8, 12)


def test_bbo_replaces_the_touch_only() -> None:
    """A Bbo moves touch and mid, leaves the levels, and yields to the next delta."""
    made = book(snapshot(seq=1), bbo(102, 104, 2, 3, seq=2, ts=8))
    assert (made.best_bid, made.best_bid_size, made.best_ask, made.best_ask_size) == (102, 2, 104, 3)
    assert (made.mid2, made.recv_ts, made.bids, made.asks, made.seq) == (206, 8, BIDS, ASKS, 1)
    made.apply(delta(prev_seq=1, seq=3))
    assert (made.best_bid, made.best_ask, made.mid2) == (100, 101, 201)


def test_bbo_alone_gives_a_mid() -> None:
    """A venue that sends nothing but Bbo has a mid, while its levels stay invalid."""
    made = book(bbo(100, 102))
    assert (made.mid2, made.valid, made.bids) == (202, False, ())


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (bbo(bid_size=-1), BookOutcome.BAD_SIZE),
        (bbo(bid=0), BookOutcome.BAD_PRICE),
    ],
)
def test_refused_bbo_leaves_the_levels_valid(event: Bbo, outcome: BookOutcome) -> None:
    """A flawed Bbo takes the mid, not the trust in levels that do not depend on it."""
    made = book(snapshot())
    assert made.apply(event) is outcome
    assert (made.mid2, made.best_bid, made.valid) == (0, 100, True)


def test_bbo_with_an_empty_side_is_one_sided() -> None:
    """Size 0 means an empty side, whatever price stands beside it."""
    made = book()
    assert made.apply(bbo(ask=101, ask_size=0)) is BookOutcome.ONE_SIDED
    assert (made.best_bid, made.best_ask, made.best_ask_size, made.mid2) == (100, 0, 0, 0)


def test_invalidate_waits_for_a_new_beginning() -> None:
    """After an interrupted feed there is no mid, deltas are gaps, and a snapshot counts whatever its number."""
    made = book(snapshot(seq=900), bbo(seq=901))
    made.invalidate()
    assert (made.mid2, made.valid, made.last_mid2) == (0, False, 201)
    assert made.apply(delta(prev_seq=900, seq=901)) is BookOutcome.GAP
    assert made.apply(snapshot(seq=1)) is BookOutcome.OK
    assert made.apply(bbo(seq=2)) is BookOutcome.OK


def test_levels_are_bounded() -> None:
    """Deltas never grow a side beyond MAX_LEVELS; the farthest levels go."""
    full = tuple((price, 1) for price in range(MAX_LEVELS + 10, 10, -1))
    made = book(snapshot(bids=full, asks=((9_000, 1),)))
    assert made.apply(delta(bids=((7_000, 1), (7_001, 1)))) is BookOutcome.OK
    assert (len(made.bids), made.bids[0], made.bids[-1]) == (MAX_LEVELS, (7_001, 1), (13, 1))
