"""mmpi.runtime.feeds: a venue's WebSocket (a practice server) and a paced market, into a real loop."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from engine_builders import PATIENCE, WIDE
from practice_builders import BTC, book
from runtime_builders import ACCOUNT, INSTANCE, Practice, Shelf, practice, quoter_signer, until

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import BookSnapshot, Connected, Disconnected, ExecReport, ExecType, Reconciled
from mmpi.instrument import MILLISECOND
from mmpi.quoting.layered import LayeredConfig
from mmpi.runtime import feeds, websocket
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.feeds import VenueFeed, play
from mmpi.runtime.gateway import PaperGateway, VenueGateway
from mmpi.runtime.loop import Loop, SteadyClock
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.venue import SimVenue
from mmpi.venues.hyperliquid.session import HyperliquidSession

LADDER = LayeredConfig(levels=2, spread_percent=0.02, step_percent=0.01, size="0.001", notional="")
_runs = itertools.count(1)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once."""
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)


def sim(latency_ms: float = 0.0) -> SimVenue:
    """Return a simulated exchange for BTC."""
    config = SimConfig(latency_in_ms=latency_ms, latency_out_ms=latency_ms)
    return SimVenue(Matching({"BTC": BTC}, config), config, random.Random(1))


class Rig:
    """A loop over an engine for BTC, its journal and its board; `trade` and `paper` plug a venue in."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"{INSTANCE}{next(_runs):08x}"
        self.engine = Engine(EngineParams(self.prefix, (DeskParams(BTC, LADDER),), WIDE, PATIENCE))
        self.sink, self.clock = Shelf(), SteadyClock()
        self.board = StatusBoard.create(folder / "status")
        self.latches: list[str] = []

    def loop(self, outlet: VenueGateway | PaperGateway) -> Loop:
        """Return a loop without a halt word."""
        return Loop(self.engine, self.sink, outlet, self.clock, None, self.board, lambda: b"")

    def session(self, *, trading: bool) -> HyperliquidSession:
        """Return a session for BTC."""
        signer = quoter_signer() if trading else None
        return HyperliquidSession({"BTC": (BTC, 0)}, ACCOUNT if trading else "", signer, self.prefix, 2000)

    @asynccontextmanager
    async def trading(self, venue: Practice) -> AsyncIterator[VenueFeed]:
        """Feed from a venue, with orders to it, meanwhile."""
        session = self.session(trading=True)
        feed = VenueFeed(venue.url, session, self.clock)
        loop = self.loop(VenueGateway(session, feed.link, None, self.latches.append))
        async with running(feed.run(loop, None)):
            yield feed


@asynccontextmanager
async def running(feed: object) -> AsyncIterator[None]:
    """Run a coroutine meanwhile."""
    task = asyncio.create_task(feed)  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)


async def test_from_the_first_byte_to_the_first_order(tmp_path: Path) -> None:
    """Connected, reconciled, a book: the orders are at the venue, and its words on them come back as events."""
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue, rig.trading(venue):
        await until(lambda: rig.engine.quoting)
        venue.venue.on_market(book())
        await until(lambda: len(venue.venue.live_orders()) == 4 or venue.venue.on_market(book()))
        await until(lambda: {"new"} == {order.status.value for order in rig.engine.desks["BTC"].orders.live.values()})
        kinds = rig.sink.kinds()
    assert kinds[0] == "Connected"
    assert {"BookSnapshot", "Reconciled", "ExecReport"} <= set(kinds)
    assert {each["cloid"][: len(rig.prefix)] for each in venue.venue.live_orders()} == {rig.prefix}


async def test_a_lost_connection(tmp_path: Path) -> None:
    """The end of a connection is one event with its reason; the next one starts with Connected and reconciles."""
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue, rig.trading(venue) as feed:
        await until(lambda: rig.engine.standing.reconciled)
        feed.link.abort("cable pulled")
        await until(lambda: "Disconnected" in rig.sink.kinds())
        await until(lambda: rig.sink.kinds().count("Reconciled") == 2)
    lost = next(event for event in rig.sink.events if isinstance(event, Disconnected))
    assert lost.reason == "cable pulled"
    rest = rig.sink.kinds()[rig.sink.events.index(lost) :]
    assert rest[:2] == ["Disconnected", "Connected"]
    assert "Reconciled" in rest


async def test_a_venue_that_confirms_no_private_stream_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the venue's word that it will tell us of our fills, the connection begins anew; with it, it stays."""
    monkeypatch.setattr(feeds, "DEAF_S", 0.2)
    monkeypatch.setattr(feeds, "CHECK_S", 0.05)
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue, rig.trading(venue) as feed:
        await until(lambda: rig.engine.standing.reconciled)
        await asyncio.sleep(0.4)
        assert feed.link.connects == 1
        feed._session._unconfirmed.add("userFills")
        await until(lambda: "Disconnected" in rig.sink.kinds())
    lost = next(event for event in rig.sink.events if isinstance(event, Disconnected))
    assert lost.reason == "subscriptions not confirmed"


async def test_what_was_in_flight_is_in_doubt(tmp_path: Path) -> None:
    """Orders without an answer when the connection ends are reported LOST before the end is."""
    rig = Rig(tmp_path)
    async with practice(tmp_path, latency_ms=400) as venue, rig.trading(venue) as feed:
        await until(lambda: rig.engine.live_orders() == 4)
        feed.link.abort("cable pulled")
        await until(lambda: "Disconnected" in rig.sink.kinds())
    reports = [event for event in rig.sink.events if isinstance(event, ExecReport)]
    assert [(each.exec_type, each.reason) for each in reports[:4]] == [(ExecType.LOST, "disconnected")] * 4
    assert rig.sink.kinds().index("Disconnected") > rig.sink.events.index(reports[3])


async def test_the_end_is_no_event(tmp_path: Path) -> None:
    """Nothing is handled after a feed was ended: the journal may be closed by then."""
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue:
        async with rig.trading(venue):
            await until(lambda: rig.engine.standing.reconciled)
        assert "Disconnected" not in rig.sink.kinds()


async def test_a_venue_that_is_away_is_no_event(tmp_path: Path) -> None:
    """Attempts to connect that fail do not fill the journal."""
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue:
        url = venue.url
    feed = VenueFeed(url, rig.session(trading=False), rig.clock)
    venue_sim = sim()
    async with running(feed.run(rig.loop(PaperGateway(venue_sim, None, rig.latches.append)), venue_sim)):
        await asyncio.sleep(0.05)
    assert rig.sink.events == []


async def test_a_half_open_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue that answers its pings is kept; one that falls silent is left, and that is an event."""
    monkeypatch.setattr(feeds, "PING_S", 0.02)
    monkeypatch.setattr(feeds, "SILENCE_S", 0.1)
    rig = Rig(tmp_path)
    async with practice(tmp_path) as venue, rig.trading(venue) as feed:
        await until(lambda: rig.engine.standing.reconciled)
        await asyncio.sleep(0.15)
        assert feed.link.connects == 1
        venue.delay(0.25)
        await until(lambda: "Disconnected" in rig.sink.kinds())
    lost = next(event for event in rig.sink.events if isinstance(event, Disconnected))
    assert lost.reason == "no answer to pings"


async def test_paper_on_a_venues_market(tmp_path: Path) -> None:
    """On paper the market is the venue's, the orders rest in the simulated exchange, and nothing reaches the venue."""
    rig, paper = Rig(tmp_path), sim()
    async with practice(tmp_path) as venue:
        feed = VenueFeed(venue.url, rig.session(trading=False), rig.clock)
        async with running(feed.run(rig.loop(PaperGateway(paper, None, rig.latches.append)), paper)):
            await until(lambda: rig.engine.quoting)
            await until(lambda: rig.engine.live_orders() == 4 or venue.venue.on_market(book()))
            await until(lambda: sum(isinstance(event, ExecReport) for event in rig.sink.events) >= 4)
        assert venue.venue.live_orders() == []


async def test_a_market_in_real_time(tmp_path: Path) -> None:
    """Events of a generated market come at their time, stamped with it, and the exchange's reports between them."""
    rig, paper = Rig(tmp_path), sim()
    loop = rig.loop(PaperGateway(paper, None, rig.latches.append))
    start = loop.now()
    market = [msgspec.structs.replace(book(), recv_ts=start + each * 40 * MILLISECOND) for each in (0, 1, 2)]
    async with asyncio.timeout(5):
        await play(iter(market), paper, loop)
    books = [event for event in rig.sink.events if isinstance(event, BookSnapshot)]
    late = [(each.recv_ts - start) / MILLISECOND - 40 * number for number, each in enumerate(books)]
    assert len(books) == 3
    assert all(0 <= each < 30 for each in late)
    assert [type(event) for event in rig.sink.events[:2]] == [Connected, BookSnapshot]
    assert isinstance(rig.sink.events[2], Reconciled)
    assert all(a.recv_ts <= b.recv_ts for a, b in zip(rig.sink.events, rig.sink.events[1:], strict=False))


async def test_a_market_that_is_behind_catches_up(tmp_path: Path) -> None:
    """After a pause of the process old events are played at once, with the present time."""
    rig, paper = Rig(tmp_path), sim()
    loop = rig.loop(PaperGateway(paper, None, rig.latches.append))
    start = loop.now()
    old = [msgspec.structs.replace(book(), recv_ts=start - each * 1000 * MILLISECOND) for each in (3, 2, 1)]
    async with asyncio.timeout(0.5):
        await play(iter(old), paper, loop)
    assert all(event.recv_ts >= start for event in rig.sink.events)
    assert len(rig.sink.events) == 4
