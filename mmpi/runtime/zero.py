"""Zero: cancel and ask until the venue has none of our orders, and nothing that was sent can still come alive.

Invariant: the proof needs two empty answers, the second asked later than the expiry of all that the quoter sent.
It must not know why a stop is made, or who asked for it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from mmpi.errors import ConfigError, RemoteError
from mmpi.events import OpenOrder
from mmpi.instrument import SECOND, Nanos

EXPIRY: Final[Nanos] = 2 * SECOND
"""The longest that a trading action of the quoter stays valid once signed (settings: expires_after_ms <= 2000)."""
POLL_S: Final = 0.02
RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 2.0


class Canceller(Protocol):
    """The guardian's own session with a venue; `live` follows the venue's order stream without being asked."""

    ready: bool
    alone: bool
    """The quoter is halted: its part of what may be asked of the venue is ours meanwhile."""
    news: asyncio.Event
    """Set when an order of ours comes alive."""

    @property
    def live(self) -> dict[str, OpenOrder]:
        """Return our live orders by the venue's id."""
        ...

    async def maintain(self) -> None:
        """Keep the session up for ever; ConfigError if the venue will never let us cancel."""
        ...

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return the venue's answer; RemoteError if there is none."""
        ...

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """Ask the venue to cancel; RemoteError if it could not be sent or was not answered."""
        ...


async def keep_up(session: Canceller, failed: Callable[[Exception], None]) -> None:
    """Keep a session up whatever happens to it; ConfigError ends it: such a key could not stop anything."""
    while True:
        try:
            await session.maintain()
        except ConfigError:
            raise
        except Exception as error:
            failed(error)
        await asyncio.sleep(RETRY_LAST_S)


class Zero:
    """The way to a verified zero at one venue; None = paper, where the quoter's obedience is all there is."""

    def __init__(self, canceller: Canceller | None, silent_since: Callable[[], Nanos]) -> None:
        """`silent_since` tells since when the quoter cannot have sent anything; 0 = it still may."""
        self.errors = 0
        """Answers that the venue owed us and did not give; each was followed by another try."""
        self._canceller, self._silent_since = canceller, silent_since

    async def reach(self) -> Nanos:
        """Return when zero was first seen, once it is proven."""
        if self._canceller is None:
            while not self._silent_since():
                await asyncio.sleep(POLL_S)
            return _now()
        return await self._empty_book(self._canceller)

    async def _empty_book(self, venue: Canceller) -> Nanos:
        """Cancel and ask until two empty answers, the second after all expiries; return when the first was given."""
        first_zero: Nanos = 0
        delay = RETRY_FIRST_S
        await self._cancel(venue, list(venue.live.values()))
        while True:
            asked = _now()
            try:
                live = await venue.live_orders()
            except RemoteError:
                self.errors += 1
                # Whoever does not answer questions may still take orders: what the stream shows is cancelled again.
                await self._cancel(venue, list(venue.live.values()))
                await _pause_for(venue, delay)
                delay = min(2 * delay, RETRY_LAST_S)
                continue
            if live:
                first_zero = 0
                await self._cancel(venue, live)
                await _pause_for(venue, delay / 4)
                delay = min(2 * delay, RETRY_LAST_S)
                continue
            silent = self._silent_since()
            if first_zero and silent and asked > silent + EXPIRY:
                return first_zero
            first_zero = first_zero or _now()
            await self._expire(venue)

    async def _expire(self, venue: Canceller) -> None:
        """Wait until all that was sent has expired, or until an order of ours comes alive; cancel that at once."""
        while not venue.live:
            left = POLL_S
            if silent := self._silent_since():
                left = (silent + EXPIRY - _now()) / SECOND
            if left < 0:
                return
            await _pause_for(venue, min(left + 0.001, POLL_S))
        await self._cancel(venue, list(venue.live.values()))

    async def _cancel(self, venue: Canceller, orders: Sequence[OpenOrder]) -> None:
        if not orders:
            return
        try:
            await venue.cancel(orders)
        except RemoteError:
            self.errors += 1


async def _pause_for(venue: Canceller, seconds: float) -> None:
    """Wait, but wake as soon as the venue tells of an order."""
    venue.news.clear()
    try:
        async with asyncio.timeout(seconds):
            await venue.news.wait()
    except TimeoutError:
        return


def _now() -> Nanos:
    return time.monotonic_ns()
