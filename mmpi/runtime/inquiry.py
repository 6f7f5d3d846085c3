"""Inquiry: one conversation of questions with Hyperliquid, each asked again until it is answered or the time is over.

Invariant: nothing is signed. It must not know what an answer means.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from mmpi.errors import RemoteError
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.runtime.posts import Posts, info_data
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid.answers import VenueTime

QUESTION_S: Final = 3.0
"""For one answer; then the question is asked again on a fresh connection."""
RETRY_S: Final = 0.05

T = TypeVar("T")


class ClockReading(msgspec.Struct, frozen=True):
    """How far our wall clock is ahead of the venue's, as seen in the middle of a round trip; negative = behind."""

    offset: Nanos
    round_trip: Nanos


class Inquiry:
    """The conversation; it answers while `maintain` runs."""

    def __init__(self, url: str, ca_file: str, clock: Callable[[], Nanos]) -> None:
        self.why = "no answer"
        """What went wrong last."""
        self._clock = clock
        self._up = asyncio.Event()
        self._said: Nanos = 0
        self._heard: Nanos = 0
        self._link = Link(url, self._up.set, self._frame, self._closed, clock, ca_file=ca_file)
        self._posts = Posts(self._link.send, QUESTION_S)

    async def ask(self, form: type[T], kind: str, **about: str) -> T:
        """Return the answer to an info question; RemoteError if the venue refuses it or it cannot be read."""
        payload = {"type": kind, **about}
        while True:
            await self._up.wait()
            try:
                answer = await self._posts.ask(lambda number: self._question(number, payload))
            except RemoteError as error:
                self.why = str(error)
                if self._link.open:
                    self._link.abort(self.why)
                await asyncio.sleep(RETRY_S)
                continue
            return info_data(answer, form, kind)

    async def read_clock(self, coin: str) -> ClockReading | None:
        """Return our clock beside the venue's, by the time of a coin's book; None if there is no such time."""
        try:
            told = (await self.ask(VenueTime, "l2Book", coin=coin)).time * MILLISECOND
        except RemoteError:
            return None
        trip = self._heard - self._said
        return ClockReading((self._said + self._heard) // 2 - told, trip) if told > 0 and trip >= 0 else None

    async def maintain(self) -> None:
        """Keep the connection up until cancelled."""
        await self._link.maintain()

    def end(self) -> None:
        """End the connection."""
        self._link.abort("asked")

    def _question(self, number: int, payload: dict[str, str]) -> bytes:
        self._said = self._clock()
        return msgspec.json.encode({"method": "post", "id": number, "request": {"type": "info", "payload": payload}})

    def _frame(self, frame: bytes, recv_ts: Nanos) -> None:
        if self._posts.take(frame):
            self._heard = recv_ts

    def _closed(self, why: str) -> None:
        self._up.clear()
        self.why = why
        self._posts.fail(why)


@asynccontextmanager
async def inquiry(
    url: str, patience_s: float, *, ca_file: str = "", clock: Callable[[], Nanos] = time.time_ns
) -> AsyncIterator[Inquiry]:
    """Give a conversation; RemoteError if its questions are not all answered within `patience_s`.

    Afterwards its connection is closed.
    """
    talk = Inquiry(url, ca_file, clock)
    task = asyncio.create_task(talk.maintain())
    try:
        async with asyncio.timeout(patience_s):
            yield talk
    except TimeoutError:
        raise RemoteError(f"{url}: no answer within {patience_s:g} s ({talk.why})") from None
    finally:
        task.cancel()
        talk.end()
        await asyncio.wait({task})
