"""mmpi.practice.hyperliquid.playback: a recording over and over, its silences, its times now."""

from collections.abc import Iterator
from itertools import islice, pairwise

import pytest
from practice_builders import book, trade

from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookSnapshot, Mark, MarketEvent
from mmpi.instrument import SECOND
from mmpi.practice.hyperliquid.playback import BETWEEN, LONGEST, endless, play, stamped

START = 1_700_000_000 * SECOND
HOUR = 3600 * SECOND


class Recording:
    """Events that are read again each time, and a count of the passes."""

    def __init__(self, *events: MarketEvent) -> None:
        self.events = events
        self.passes = 1

    def __call__(self) -> Iterator[MarketEvent]:
        return iter(self.events)

    def again(self) -> None:
        """Count one more pass."""
        self.passes += 1


def test_a_recording_begins_again() -> None:
    """After its last event and a pause the first one comes again, times running on, and that is told."""
    recording = Recording(book(ts=10 * SECOND), book(ts=12 * SECOND))
    found = list(islice(endless(recording, recording.again, START), 5))
    seconds = [(event.recv_ts - START) / SECOND for event in found]
    pause = BETWEEN / SECOND
    assert seconds == [0, 2, 2 + pause, 4 + pause, 4 + 2 * pause]
    assert recording.passes == 3


def test_long_silences_are_shortened_and_none_is_negative() -> None:
    """A hole of an hour takes five seconds; an event that was written down too late comes at once."""
    stamps = (0, HOUR, HOUR + SECOND, HOUR, HOUR + 2 * SECOND)
    recording = Recording(*(book(ts=10 * SECOND + ts) for ts in stamps))
    found = [event.recv_ts for event in islice(endless(recording, recording.again, START), 5)]
    assert [b - a for a, b in pairwise(found)] == [LONGEST, SECOND, 0, 2 * SECOND]


def test_the_exchange_stays_as_much_earlier() -> None:
    """What the venue had stamped 300 ms before it arrived is 300 ms old again, now and in the endless market."""
    event = BookSnapshot(10 * SECOND, "BTC", 10 * SECOND - 300_000_000, 1, (), ())
    (first,) = islice(endless(Recording(event), lambda: None, START), 1)
    assert (first.recv_ts, first.exch_ts) == (START, START - 300_000_000)
    now = stamped(first, START + HOUR, START + HOUR + 5 * SECOND)
    assert (now.recv_ts, now.exch_ts) == (START + HOUR + 5 * SECOND, START + HOUR - 300_000_000)
    untold = stamped(BookSnapshot(10, "BTC", 0, 1, (), ()), START, START)
    assert untold.exch_ts == START


def test_best_prices_stand_for_a_book() -> None:
    """A set of best prices alone gives books of one level, an empty side included."""
    whole = stamped(Bbo(1, "BTC", 1, 9, 100, 5, 101, 6), START, START)
    assert whole == BookSnapshot(START, "BTC", START, 9, ((100, 5),), ((101, 6),))
    half = stamped(Bbo(1, "BTC", 1, 9, 0, 0, 101, 6), START, START)
    assert isinstance(half, BookSnapshot)
    assert (half.bids, half.asks) == ((), ((101, 6),))


def test_funding_is_due_at_the_next_full_hour() -> None:
    """A mark tells the coming hour of the venue's clock, and no time where it had told none."""
    now = START - START % HOUR + HOUR // 3
    due = stamped(Mark(1, "BTC", 1, 1.0, 1.0, 0.001, 12_345), now, now)
    assert isinstance(due, Mark)
    assert due.next_ts == now - now % HOUR + HOUR
    never = stamped(Mark(1, "BTC", 1, 1.0), now, now)
    assert isinstance(never, Mark)
    assert never.next_ts == 0


def test_an_empty_recording_is_an_error() -> None:
    """Nothing to play is said, not waited for."""
    with pytest.raises(ConfigError, match="^--data: no market event in it"):
        next(endless(Recording(), lambda: None, START))


async def test_events_are_shown_at_their_pace() -> None:
    """The first ones at once, the next after the time between them, each with both clocks."""
    seen: list[MarketEvent] = []
    ticks = iter(range(100))
    events = [trade("100000", ts=SECOND), trade("100000", ts=SECOND), trade("100000", ts=SECOND + 20_000_000)]
    await play(events, seen.append, lambda: START + next(ticks), lambda: START + HOUR)
    assert [event.recv_ts for event in seen] == [START + HOUR] * 3
    assert [event.exch_ts for event in seen] == [START, START + 1, START + 2]
