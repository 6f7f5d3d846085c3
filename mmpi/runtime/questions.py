"""Questions: what the guardian asks the venue over its link, within its allowance, and what an answer that fails costs.

Invariant: an error is an answer, and no reason to leave a connection; silence is. Cancels never wait.
It must not know orders, or why something is asked.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from mmpi.errors import RemoteError
from mmpi.runtime.allowance import Allowance
from mmpi.runtime.posts import Posts, info_data, info_frame
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid.messages import PostResponse
from mmpi.venues.hyperliquid.reports import error_text

MAX_UNANSWERED: Final = 2
"""Questions in a row without an answer after which a connection is left although something is heard on it."""
TOO_MANY: Final = "429"
"""Begins the error that a question too many is answered with."""

T = TypeVar("T")


class Questions:
    """Over one link; `failures` counts what was not answered as it should have been."""

    def __init__(self, link: Link, allowance: Allowance, timeout_s: float) -> None:
        """`timeout_s` is for every answer that nobody gives another time."""
        self.failures = 0
        self.allowance = allowance
        self._link = link
        self._posts = Posts(link.send, timeout_s)
        self._unanswered = 0

    async def post(
        self,
        frame: Callable[[int], bytes],
        weight: int,
        at_once: Callable[[PostResponse], None] | None = None,
        timeout_s: float = 0.0,
    ) -> PostResponse:
        """Return the answer to what is sent now, whatever it weighs; RemoteError if it is an error, or there is none.

        `at_once` is called with the answer before any later frame is looked at.
        """
        asked = time.monotonic()
        if self._link.open:
            self.allowance.charge(weight, asked)
        try:
            answer = await self._posts.ask(frame, at_once, timeout_s)
        except RemoteError:
            self._suspect(asked)
            raise
        self._unanswered = 0
        if answer.type != "error":
            self.allowance.answered()
            return answer
        self.failures += 1
        why = error_text(answer)
        if why.startswith(TOO_MANY):
            self.allowance.too_many(time.monotonic())
        raise RemoteError(f"hyperliquid: {why}")

    async def info(
        self, kind: str, form: type[T], weight: int, user: str = "", *, timeout_s: float, waits: bool = True
    ) -> T:
        """Return the answer to an info question, which waits for its weight unless it must not."""
        if waits:
            await self.afford(weight)
        return info_data(await self.post(info_frame(kind, user), weight, timeout_s=timeout_s), form, kind)

    def must_wait(self, weight: int) -> bool:
        """Return whether a question of this weight is too early."""
        return self.allowance.wait_s(weight, time.monotonic()) > 0

    async def afford(self, weight: int) -> None:
        """Wait until a question of this weight is within the guardian's part of what the address may ask."""
        while (wait := self.allowance.wait_s(weight, time.monotonic())) > 0:
            await asyncio.sleep(wait)

    def take(self, frame: bytes) -> bool:
        """Return True if the frame answered a question."""
        return self._posts.take(frame)

    def fail(self, why: str) -> None:
        """End every open question: the connection is gone."""
        self._posts.fail(why)
        self._unanswered = 0

    def _suspect(self, asked: float) -> None:
        """Note a question without an answer: if nothing was heard since, a fresh connection is the quickest way."""
        self.failures += 1
        self._unanswered += 1
        if self._link.open and (self._link.last_rx < asked or self._unanswered >= MAX_UNANSWERED):
            self._link.abort("no answer in time")
