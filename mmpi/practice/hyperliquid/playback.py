"""A market played as if it happened now: its pace, its times, and a recording again and again.

Invariant: events keep their order and, up to a longest silence, the time between them; shown is the venue's clock.
It must not know where a market comes from or who sees it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookSnapshot, Mark, MarketEvent
from mmpi.instrument import SECOND, Nanos

MAX_LAG_S: Final = 1.0
"""After a pause of the machine the market goes on from there instead of catching up."""
LONGEST: Final[Nanos] = 5 * SECOND
"""A longer silence of a recording is shortened to this: a hole in it is no reason to stop practising."""
BETWEEN: Final[Nanos] = SECOND
"""From the last event of a recording to its first, when it is played again."""
FUNDING_EVERY: Final[Nanos] = 3600 * SECOND
"""Hyperliquid pays funding on every full hour ("Funding")."""


def endless(
    recording: Callable[[], Iterator[MarketEvent]], again: Callable[[], None], start: Nanos
) -> Iterator[MarketEvent]:
    """Yield a recording over and over, its times running on from `start`; `again` is called before each new pass.

    ConfigError if there is no event in it.
    """
    clock = start
    while True:
        previous: Nanos | None = None
        for event in recording():
            clock += 0 if previous is None else min(max(0, event.recv_ts - previous), LONGEST)
            previous = event.recv_ts
            told = clock - (event.recv_ts - event.exch_ts) if event.exch_ts else 0
            yield msgspec.structs.replace(event, recv_ts=clock, exch_ts=told)
        if previous is None:
            raise ConfigError("--data: no market event in it that the practice venue could play")
        clock += BETWEEN
        again()


async def play(
    events: Iterable[MarketEvent],
    show: Callable[[MarketEvent], None],
    wall: Callable[[], Nanos],
    shown: Callable[[], Nanos],
) -> None:
    """Show events at their pace until they end; `wall` is the true time, `shown` what the venue's clock says."""
    loop = asyncio.get_running_loop()
    due, previous = loop.time(), None
    for event in events:
        due += 0.0 if previous is None else (event.recv_ts - previous) / SECOND
        previous = event.recv_ts
        due = max(due, loop.time() - MAX_LAG_S)
        # What is due at once is handled at once: the first books are there before the port is.
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        show(stamped(event, wall(), shown()))


def stamped(event: MarketEvent, wall: Nanos, shown: Nanos) -> MarketEvent:
    """Return an event as it happens now: received now by the venue's clock, from the exchange as much earlier as then.

    The time of the exchange decides which trades a resting order has seen, so it stays true when the clock is wrong.
    Best prices alone stand for a book of one level a side.
    """
    told = wall - (event.recv_ts - event.exch_ts) if event.exch_ts else wall
    if isinstance(event, Mark) and event.next_ts:
        event = msgspec.structs.replace(event, next_ts=shown - shown % FUNDING_EVERY + FUNDING_EVERY)
    if isinstance(event, Bbo):
        bids = ((event.bid, event.bid_size),) if event.bid_size else ()
        asks = ((event.ask, event.ask_size),) if event.ask_size else ()
        return BookSnapshot(shown, event.instrument, told, event.seq, bids, asks)
    return msgspec.structs.replace(event, recv_ts=shown, exch_ts=told)
