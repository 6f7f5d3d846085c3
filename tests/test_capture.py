"""mmpi.runtime.capture against real servers on loopback: what is taken, marked and said, and when it ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from recording_builders import HOUR, START, bbo_frame, book_frame, context_frame, message, trade_frame
from runtime_builders import until
from websockets.asyncio.server import ServerConnection, serve

from mmpi.errors import ConfigError
from mmpi.instrument import SECOND
from mmpi.runtime import capture, websocket
from mmpi.runtime.capture import CHANNELS, MAX_COMPLAINTS, Capture, ReceiveClock
from mmpi.runtime.recording import Gap
from mmpi.runtime.spool import Spool

Talk = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often and reconnect at once: how long is the claim of other tests."""
    monkeypatch.setattr(capture, "TICK_S", 0.005)
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(websocket, "BACKOFF_LAST_S", 0.02)


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    """Give the address of a WebSocket server that runs `talk` for each connection."""
    async with serve(talk, "127.0.0.1", 0) as running:
        yield f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/ws"


class Sheet(Spool):
    """A spool that keeps what it is given, as a list in the order of its coming."""

    def __init__(self) -> None:
        self.given: list[tuple[int, bytes | Gap]] = []
        super().__init__(Nowhere())

    def put(self, recv_ts: int, message: bytes) -> None:
        """Keep."""
        self.given.append((recv_ts, message))
        super().put(recv_ts, message)

    def mark(self, now: int, gap: Gap) -> None:
        """Keep."""
        self.given.append((now, gap))
        super().mark(now, gap)

    def frames(self) -> list[bytes]:
        """Return the messages."""
        return [item for _, item in self.given if isinstance(item, bytes)]

    def gaps(self) -> list[Gap]:
        """Return the marks."""
        return [item for _, item in self.given if isinstance(item, Gap)]


class Nowhere:
    """Files that keep nothing."""

    def write(self, batch: object) -> None:
        """Pass over."""

    def flush(self) -> None:
        """Pass over."""

    def close(self) -> None:
        """Pass over."""


class Bench:
    """A capture with all that it is given."""

    def __init__(self, url: str, clock: ReceiveClock | None = None) -> None:
        self.sheet, self.said, self.stop = Sheet(), list[str](), asyncio.Event()
        self.capture = Capture(url, self.said.append, clock or ReceiveClock())

    async def record(self, *coins: str, enough: Callable[[], object] = lambda: False, seconds: float = 0.0) -> str:
        """Record until there is enough; fail if that takes too long."""
        try:
            async with asyncio.timeout(5):
                return await self.capture.record(
                    coins or ("BTC",), self.sheet, self.stop, seconds, lambda: "enough" if enough() else ""
                )
        finally:
            self.sheet.close()


def saying(*frames: bytes | str) -> Talk:
    """Return a server that says these once everything is subscribed to, and then listens."""

    async def talk(peer: ServerConnection) -> None:
        for _ in CHANNELS:
            await peer.recv()
        for frame in frames:
            await peer.send(frame)
        await peer.wait_closed()

    return talk


async def test_each_coin_is_subscribed_to() -> None:
    """Four streams a coin, and nothing else is asked."""
    heard: list[object] = []

    async def talk(peer: ServerConnection) -> None:
        async for frame in peer:
            heard.append(json.loads(frame))

    async with server(talk) as url:
        await Bench(url).record("BTC", "ETH", enough=lambda: len(heard) == 8)
    assert heard == [
        {"method": "subscribe", "subscription": {"type": channel, "coin": coin}}
        for coin in ("BTC", "ETH")
        for channel in ("l2Book", "trades", "bbo", "activeAssetCtx")
    ]


async def test_streams_are_taken_as_they_come() -> None:
    """Every message of a stream, byte for byte and in order, with its time; the venue's housekeeping is left out."""
    spot = message("activeSpotAssetCtx", {"coin": "@1"})
    frames = [book_frame(1), trade_frame(1, 2), bbo_frame(3), context_frame(), spot]
    others = [
        "Websocket connection established.",
        message("subscriptionResponse", {"method": "subscribe"}),
        message("pong", None),
        b'{"channel":"pong"}',
        message("post", {"id": 1}),
    ]
    before = time.time_ns()
    async with server(saying(*others, *frames)) as url:
        bench = Bench(url)
        why = await bench.record(enough=lambda: len(bench.sheet.frames()) == len(frames))
    assert why == "enough"
    assert bench.sheet.frames() == frames
    assert bench.sheet.gaps() == [Gap("start")]
    times = [ts for ts, _ in bench.sheet.given]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time_ns()
    assert (bench.capture.gaps, bench.capture.complaints, bench.said) == (0, 0, [])


async def test_a_lost_connection_is_a_marked_gap() -> None:
    """The mark stands between the last message before and the first after, and says why and since when."""
    talks = iter(range(100))

    async def talk(peer: ServerConnection) -> None:
        number = next(talks)
        for _ in CHANNELS:
            await peer.recv()
        await peer.send(book_frame(number))
        if number < 2:
            await peer.close(1001, f"maintenance {number}")
        await peer.wait_closed()

    async with server(talk) as url:
        bench = Bench(url)
        await bench.record(enough=lambda: len(bench.sheet.frames()) == 3)
    items = [item for _, item in bench.sheet.given]
    times = [ts for ts, _ in bench.sheet.given]
    ended = "closed by the venue: 1001 (going away) maintenance"
    assert items == [
        Gap("start"),
        book_frame(0), Gap(f"{ended} 0", since=times[1]),
        book_frame(1), Gap(f"{ended} 1", since=times[3]),
        book_frame(2),
    ]  # fmt: skip
    assert bench.capture.gaps == 2
    assert bench.said[:2] == [
        f"the connection was lost ({ended} 0); connecting again",
        f"connected again after: {ended} 0",
    ]


async def test_a_venue_that_is_away_is_said_once() -> None:
    """Every attempt fails in the same way: that is one line, not one an attempt; it is no gap yet."""
    attempts: list[str] = []
    async with server(saying()) as url:
        pass
    bench = Bench(url)
    told = bench.capture._link._on_close
    bench.capture._link._on_close = lambda why: (attempts.append(why), told(why))[1]  # type: ignore[method-assign]
    await bench.record(enough=lambda: len(attempts) > 3)
    assert len(bench.said) == 1
    assert "no connection: " in bench.said[0]
    assert (bench.capture.gaps, bench.sheet.gaps()) == (0, [Gap("start")])


async def test_a_half_open_connection_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that answers no ping is left; one that answers is kept."""
    monkeypatch.setattr(capture, "PING_S", 0.01)
    monkeypatch.setattr(capture, "SILENCE_S", 0.6)
    pings: list[object] = []

    async def talk(peer: ServerConnection) -> None:
        async for frame in peer:
            if json.loads(frame) == {"method": "ping"}:
                pings.append(frame)
                if len(pings) < 20:
                    await peer.send('{"channel":"pong"}')

    async with server(talk) as url:
        bench = Bench(url)
        await bench.record(enough=lambda: bench.capture.gaps)
    assert len(pings) >= 20
    assert bench.said[0] == "the connection was lost (no answer to pings); connecting again"


async def test_a_silent_coin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coin without a message for a while is named once, and again when it is back; other coins do not hide it."""
    monkeypatch.setattr(capture, "IDLE_S", 0.05)
    speak = asyncio.Event()

    async def talk(peer: ServerConnection) -> None:
        while not speak.is_set():
            await peer.send(book_frame(1))
            await asyncio.sleep(0.005)
        await peer.send(trade_frame(1, coin="ETH"))
        await peer.wait_closed()

    async with server(talk) as url:
        bench = Bench(url)

        def enough() -> bool:
            if bench.said:
                speak.set()
            return len(bench.said) > 1

        await bench.record("BTC", "ETH", enough=enough)
    assert bench.said == ["no message of ETH for 0.05 s", "messages of ETH again"]


async def test_complaints_are_said_but_not_for_ever() -> None:
    """The venue's errors and messages that are no JSON are said and left out; beyond a number they are counted."""
    bad = [message("error", "Invalid subscription"), "no json", b"\xff\xfe", '{"channel":"x","data":' + "[" * 20_000]
    many = [message("error", "again")] * (MAX_COMPLAINTS + 5)
    async with server(saying(*bad, *many, book_frame(1))) as url:
        bench = Bench(url)
        await bench.record(enough=bench.sheet.frames)
    assert bench.sheet.frames() == [book_frame(1)]
    assert bench.capture.complaints == len(bad) + len(many)
    assert len(bench.said) == MAX_COMPLAINTS
    assert bench.said[0] == 'the venue says: "Invalid subscription"'
    assert all("not as the venue documents it" in text for text in bench.said[1:3])


async def test_a_message_of_another_shape_is_kept_and_said() -> None:
    """What a stream says in a form that nobody expects is recorded: it may be wanted later."""
    strange = message("l2Book", {"kind": "BTC"})
    async with server(saying(strange, book_frame(1))) as url:
        bench = Bench(url)
        await bench.record(enough=lambda: len(bench.sheet.frames()) == 2)
    assert bench.sheet.frames() == [strange, book_frame(1)]
    assert "not as the venue documents it" in bench.said[0]


async def test_names_of_others_do_not_pile_up() -> None:
    """Coins that were not asked for leave nothing behind."""
    frames = [book_frame(1, coin=f"X{number}") for number in range(200)]
    async with server(saying(*frames)) as url:
        bench = Bench(url)
        await bench.record(enough=lambda: len(bench.sheet.frames()) == 200)
    assert list(bench.capture._heard) == ["BTC"]


async def test_it_ends_when_it_is_told_to() -> None:
    """A request to stop ends it at once, and the end of the connection is no gap."""
    async with server(saying(book_frame(1))) as url:
        bench = Bench(url)
        asyncio.get_running_loop().call_later(0.05, bench.stop.set)
        assert await bench.record() == "asked to stop"
        await asyncio.sleep(0.02)
    assert (bench.capture.gaps, bench.said, bench.sheet.gaps()) == (0, [], [Gap("start")])


async def test_it_ends_by_itself() -> None:
    """After `seconds` it is over, connected or not."""
    async with server(saying()) as url:
        began = time.monotonic()
        assert await Bench(url).record(seconds=0.1) == "seconds"
    assert 0.1 <= time.monotonic() - began < 2


async def test_nothing_is_left_behind() -> None:
    """After the end no task is left, and the server has no connection."""
    peers: list[ServerConnection] = []

    async def talk(peer: ServerConnection) -> None:
        peers.append(peer)
        await peer.wait_closed()

    async with server(talk) as url:
        before = asyncio.all_tasks()
        await Bench(url).record(enough=lambda: peers)
        await until(lambda: peers[0].state.name == "CLOSED")
        left = {repr(task) for task in asyncio.all_tasks() - before}
        assert [each for each in left if "capture" in each or "Link" in each] == []


@pytest.mark.parametrize(
    ("url", "ca_file", "said"), [("http://x/ws", "", "not a WebSocket"), ("wss://x", "/no", "/no: no certificates")]
)
def test_an_address_that_cannot_be(url: str, ca_file: str, said: str) -> None:
    """A bad address or a bad file of authorities is an error before anything is done."""
    with pytest.raises(ConfigError, match=said):
        Capture(url, print, ReceiveClock(), ca_file)


class Hands:
    """Two clocks that are moved by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 500 * SECOND
        self.clock = ReceiveClock(lambda: self.wall, lambda: self.steady)

    def pass_by(self, wall: int, steady: int) -> int:
        """Let time pass, and return what the clock says."""
        self.wall += wall
        self.steady += steady
        return self.clock.now()


def test_the_clock_follows_the_wall_clock() -> None:
    """At first both say the same; a correction of less than a second is not followed."""
    hands = Hands()
    assert hands.pass_by(0, 0) == START
    assert hands.pass_by(SECOND + 10**8, SECOND) == START + SECOND
    assert (hands.clock.jumped, hands.clock.is_ahead) == (0, False)


def test_a_clock_that_is_set_ahead_is_followed() -> None:
    """A box that learns the time after it has begun goes on with the right one."""
    hands = Hands()
    assert hands.pass_by(HOUR + SECOND, SECOND) == START + HOUR + SECOND
    assert hands.clock.jumped == HOUR
    assert hands.pass_by(SECOND, SECOND) == START + HOUR + 2 * SECOND


def test_a_clock_that_is_set_back_is_not_followed() -> None:
    """Time goes on at its pace, ahead of the wall clock, until that has caught up."""
    hands = Hands()
    assert hands.pass_by(-HOUR, SECOND) == START + SECOND
    assert hands.clock.is_ahead
    assert hands.pass_by(SECOND, SECOND) == START + 2 * SECOND
    assert hands.pass_by(2 * HOUR, SECOND) == START + HOUR + SECOND
    assert not hands.clock.is_ahead


async def test_a_clock_that_is_set_is_said() -> None:
    """Setting the clock either way is said, once."""
    hands = Hands()
    async with server(saying()) as url:
        bench = Bench(url, hands.clock)
        looks = 0

        def enough() -> bool:
            nonlocal looks
            looks += 1
            if looks == 2:
                hands.pass_by(90 * SECOND, 0)
            elif looks == 4:
                hands.pass_by(-HOUR, 0)
            return looks == 8

        await bench.record(enough=enough)
    assert bench.said == [
        "the clock was set ahead by 90.0 s",
        "the clock was set back: receive times go on as before, ahead of it",
    ]
