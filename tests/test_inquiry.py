"""mmpi.runtime.inquiry: questions asked until they are answered, and our clock beside the venue's."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from info_server import HANG_UP, SILENT, Answer, Payload, book, but, info_server
from runtime_builders import until

from mmpi.errors import RemoteError
from mmpi.instrument import SECOND
from mmpi.runtime import inquiry as inquiry_module
from mmpi.runtime import websocket
from mmpi.runtime.inquiry import inquiry
from mmpi.venues.hyperliquid.answers import Meta, RateLimit


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again, and connect again, at once."""
    monkeypatch.setattr(inquiry_module, "QUESTION_S", 0.1)
    monkeypatch.setattr(inquiry_module, "RETRY_S", 0.0)
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)


def after(*first: Answer) -> Callable[[Payload], Answer]:
    """Return what answers `first` in turn, and then soundly."""
    turns: Iterator[Answer] = iter(first)
    return lambda payload: next(turns, None) or but({})(payload)


async def test_a_question_is_answered() -> None:
    """The answer comes typed, and what it is about is in the question."""
    with info_server() as venue:
        async with inquiry(venue.url, 5.0) as talk:
            limit = await talk.ask(RateLimit, "userRateLimit", user="0xa")
    assert (limit.used, limit.cap, limit.volume) == (100, 2_010_000, "2000000.0")
    assert venue.asked == [{"type": "userRateLimit", "user": "0xa"}]


@pytest.mark.parametrize("fault", [HANG_UP, SILENT])
async def test_a_question_is_asked_again(fault: Answer) -> None:
    """A connection that ends, and an answer that does not come, only cost time."""
    with info_server(after(fault, fault)) as venue:
        async with inquiry(venue.url, 5.0) as talk:
            assert len((await talk.ask(Meta, "meta")).universe) == 2
    assert [payload["type"] for payload in venue.asked] == ["meta"] * 3


async def test_a_refusal_is_final() -> None:
    """What the venue refuses, or answers in another form, is told at once, with the question's name."""
    with info_server(but({"meta": None, "userRateLimit": {"nRequestsUsed": "many"}})) as venue:
        async with inquiry(venue.url, 5.0) as talk:
            with pytest.raises(RemoteError, match="meta: .*Failed to deserialize"):
                await talk.ask(Meta, "meta")
            with pytest.raises(RemoteError, match="userRateLimit: cannot be read"):
                await talk.ask(RateLimit, "userRateLimit")
    assert len(venue.asked) == 2


async def test_the_time_is_for_all_questions() -> None:
    """A venue that falls silent after its first answer is left in time, and the error says why."""

    async def talk_to(url: str) -> None:
        async with inquiry(url, 0.3) as talk:
            await talk.ask(RateLimit, "userRateLimit")
            await talk.ask(Meta, "meta")

    with info_server(but({"meta": SILENT})) as venue:
        with pytest.raises(RemoteError, match=rf"{venue.url}: no answer within 0\.3 s \(hyperliquid: no answer"):
            await talk_to(venue.url)
        assert len(venue.asked) > 2


@pytest.mark.parametrize("ahead_s", [0.0, 90.0, -90.0])
async def test_the_clock_is_read(ahead_s: float) -> None:
    """The offset is that between our clock and the time in the book, to within half the round trip."""
    with info_server() as venue:
        async with inquiry(venue.url, 5.0, clock=lambda: time.time_ns() + round(ahead_s * SECOND)) as talk:
            reading = await talk.read_clock("BTC")
    assert reading is not None
    assert 0 <= reading.round_trip < SECOND
    # The venue tells whole milliseconds.
    assert abs(reading.offset - ahead_s * SECOND) <= reading.round_trip / 2 + SECOND / 1000


@pytest.mark.parametrize("answer", [None, {"levels": []}, {"time": 0}, book() | {"time": "now"}])
async def test_no_time_is_no_reading(answer: Answer) -> None:
    """A refused question, and a book without a time, tell nothing."""
    with info_server(but({"l2Book": lambda _: answer})) as venue:
        async with inquiry(venue.url, 5.0) as talk:
            assert await talk.read_clock("BTC") is None


async def test_a_clock_set_back_meanwhile_tells_nothing() -> None:
    """By a clock on which the answer came before its question, there is no reading."""
    falling = itertools.count(time.time_ns(), -SECOND)
    with info_server() as venue:
        async with inquiry(venue.url, 5.0, clock=lambda: next(falling)) as talk:
            assert await talk.read_clock("BTC") is None


async def test_the_connection_ends_with_the_conversation() -> None:
    """When the conversation is over, no task of it is left, and the venue has seen the end of the connection."""
    with info_server() as venue:
        before = asyncio.all_tasks()
        async with inquiry(venue.url, 5.0) as talk:
            await talk.ask(Meta, "meta")
            assert venue.talking == 1
        assert asyncio.all_tasks() == before
        await until(lambda: venue.talking == 0)
