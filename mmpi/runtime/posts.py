"""Posts: questions over a Hyperliquid WebSocket and the answers that belong to them.

Invariant: every question ends in an answer or a RemoteError, within its time. It must not know what is asked.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import msgspec

from mmpi.errors import RemoteError
from mmpi.venues.hyperliquid.cancelling import post_answer
from mmpi.venues.hyperliquid.messages import PostResponse
from mmpi.venues.hyperliquid.reports import error_text

MAX_WAITING: Final = 100
"""Posts in flight that the venue allows ("Rate limits and user limits", read 2026-11-21)."""

T = TypeVar("T")

_Waiting: TypeAlias = tuple[asyncio.Future[PostResponse], Callable[[PostResponse], None] | None]


class Posts:
    """Numbers questions and hands out answers."""

    def __init__(self, send: Callable[[bytes], bool], timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._waiting: dict[int, _Waiting] = {}
        self._last = 0

    async def ask(
        self,
        frame: Callable[[int], bytes],
        at_once: Callable[[PostResponse], None] | None = None,
        timeout_s: float = 0.0,
    ) -> PostResponse:
        """Return the answer to the frame built for a fresh number; RemoteError if it cannot be sent or is not answered.

        `at_once` is called with the answer before any later frame is looked at; `timeout_s` 0 = as for every question.
        """
        timeout_s = timeout_s or self._timeout_s
        self._last += 1
        number = self._last
        if len(self._waiting) >= MAX_WAITING:
            raise RemoteError(f"hyperliquid: {MAX_WAITING} questions are unanswered")
        if not self._send(frame(number)):
            raise RemoteError("hyperliquid: not connected")
        answer: asyncio.Future[PostResponse] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (answer, at_once)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise RemoteError(f"hyperliquid: no answer within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def take(self, frame: bytes) -> bool:
        """Return True if the frame answered a question."""
        answered = post_answer(frame)
        if answered is None:
            return False
        future, at_once = self._waiting.get(answered[0], (None, None))
        if future is not None and not future.done():
            if at_once is not None:
                at_once(answered[1])
            future.set_result(answered[1])
        return True

    def fail(self, why: str) -> None:
        """End every open question: the connection is gone."""
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(RemoteError(f"hyperliquid: {why}"))


def info_frame(kind: str, user: str = "") -> Callable[[int], bytes]:
    """Return the builder of an info question."""
    payload = {"type": kind, "user": user} if user else {"type": kind}
    return lambda number: msgspec.json.encode(
        {"method": "post", "id": number, "request": {"type": "info", "payload": payload}}
    )


class _Data(msgspec.Struct):
    data: msgspec.Raw


def info_data(response: PostResponse, kind: type[T], what: str) -> T:
    """Return the data of an info answer; RemoteError if it is an error or cannot be read."""
    if response.type != "info":
        raise RemoteError(f"hyperliquid: {what}: {error_text(response)}")
    try:
        return msgspec.json.decode(msgspec.json.decode(response.payload, type=_Data).data, type=kind)
    except msgspec.MsgspecError as error:
        raise RemoteError(f"hyperliquid: {what}: cannot be read: {error}") from None
