"""Feeds: where a quoter's events come from: a venue's WebSocket, or a paced market in front of the simulated exchange.

Invariant: what a feed receives is handled in the stack that received it; nothing is queued between wire and engine.
It must not know strategies or limits.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from mmpi.events import Bbo, BookDelta, BookSnapshot, Connected, Disconnected, Mark, MarketEvent, Trade
from mmpi.instrument import SECOND, Nanos
from mmpi.runtime.clock_watch import ClockWatch
from mmpi.runtime.loop import Loop, SteadyClock
from mmpi.runtime.websocket import Link
from mmpi.sim.venue import SimVenue
from mmpi.venues.hyperliquid.session import HyperliquidSession

CHECK_S: Final = 0.25
"""How often the connection and the clock are looked at."""
PING_S: Final = 5.0
SILENCE_S: Final = 12.0
"""Two pings without a byte in return: the connection is half open."""
DEAF_S: Final = 10.0
"""Orders and fills of ours are told by subscriptions: without the venue's word that it took them, begin anew."""
NO_MARKET_S: Final = 60.0
"""Answers to pings but nothing of any market for so long: the subscriptions are lost, a new connection renews them."""
SIM_TICK_S: Final = 0.01
"""How often the simulated exchange is asked for what is due: a tenth of its default round trip."""


class VenueFeed:
    """One venue session on one link."""

    def __init__(
        self,
        url: str,
        session: HyperliquidSession,
        clock: SteadyClock,
        watch: ClockWatch | None = None,
        ca_file: str = "",
    ) -> None:
        """`watch` None = the clock is nobody's business (paper: nothing is signed)."""
        self.link = Link(url, self._opened, self._frame, self._closed, clock.now, ca_file=ca_file)
        self._session, self._watch = session, watch
        self._since = self._pinged = self._market = 0.0
        self._loop: Loop | None = None
        self._venue: SimVenue | None = None
        self._up = False

    async def run(self, loop: Loop, venue: SimVenue | None) -> None:
        """Feed the loop until cancelled; a simulated exchange sees the market before the engine does (paper)."""
        self._loop, self._venue = loop, venue
        link = asyncio.create_task(self.link.maintain())
        sim = asyncio.create_task(self._deliver()) if self._venue is not None else None
        try:
            while True:
                self._trust()
                await asyncio.wait({link}, timeout=CHECK_S)
                if link.done():
                    link.result()
                if self.link.open:
                    self._keep_alive(time.monotonic())
        finally:
            link.cancel()
            if sim is not None:
                sim.cancel()
            # Whoever ends the feed has closed the journal: the end of the connection is no event any more.
            self._up = False
            self.link.abort("ending")

    def _keep_alive(self, now: float) -> None:
        """Ping when it is time; end a connection that is half open, or that has lost its subscriptions."""
        if now - self.link.last_rx > SILENCE_S:
            self.link.abort("no answer to pings")
        elif now - self._since > DEAF_S and self._session.is_deaf():
            self.link.abort("subscriptions not confirmed")
        elif now - self._market > NO_MARKET_S:
            self.link.abort(f"no market data for {NO_MARKET_S:g} s")
        elif now - self._pinged >= PING_S:
            self._pinged = now
            self.link.send(self._session.ping())

    def _trust(self) -> None:
        """Tell the engine when the clock is no longer to be trusted, or is again; have the venue's time signed (I8)."""
        if self._watch is None or self._loop is None:
            return
        verdict = self._watch.check(self._loop.now())
        self._session.set_offset(self._watch.offset)
        if verdict is not None:
            self._loop.feed([verdict])

    def _opened(self) -> None:
        assert self._loop is not None
        self._market = self._since = time.monotonic()
        for frame in self._session.connected(self._loop.now()):
            self.link.send(frame)
        self._up = True
        self._loop.feed([Connected(self._loop.now(), "hyperliquid")])

    def _frame(self, frame: bytes, recv_ts: Nanos) -> None:
        assert self._loop is not None
        events = self._session.receive(frame, recv_ts)
        if not events:
            return
        first = events[0]
        if isinstance(first, BookSnapshot | BookDelta | Bbo | Trade | Mark):
            self._market = time.monotonic()
            if self._watch is not None and isinstance(first, BookSnapshot):
                self._watch.heard(first.exch_ts, recv_ts)
        if self._venue is not None:
            for event in events:
                if isinstance(event, BookSnapshot | BookDelta | Bbo | Trade | Mark):
                    self._venue.market(event)
        self._loop.feed(events, since=recv_ts)

    def _closed(self, why: str) -> None:
        if not self._up or self._loop is None:
            return
        self._up = False
        now = self._loop.now()
        self._loop.feed([*self._session.disconnected(now), Disconnected(now, "hyperliquid", why[:200])])

    async def _deliver(self) -> None:
        assert self._loop is not None and self._venue is not None
        while True:
            deliver(self._venue, self._loop)
            await asyncio.sleep(SIM_TICK_S)


async def play(market: Iterator[MarketEvent], venue: SimVenue, loop: Loop) -> None:
    """Play a generated market in real time against the simulated exchange."""
    start = loop.now()
    loop.feed([Connected(start, "sim")])
    for event in market:
        while (wait := event.recv_ts - loop.now()) > 0:
            await asyncio.sleep(min(wait / SECOND, SIM_TICK_S))
            deliver(venue, loop)
        stamped = msgspec.structs.replace(event, recv_ts=loop.now())
        venue.market(stamped)
        loop.feed([stamped], since=stamped.recv_ts)


def deliver(venue: SimVenue, loop: Loop) -> None:
    """Hand over what the simulated exchange has for us by now."""
    now = loop.now()
    if venue.next_ts and venue.next_ts <= now:
        loop.feed([msgspec.structs.replace(event, recv_ts=now) for event in venue.due(now)])
