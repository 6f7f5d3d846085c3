"""One client's WebSocket: what it sends reaches the venue after the network's delay, in order, and as faults let it.

Invariant: what a client sent before it left still arrives. It must not know what the venue answers.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import WSMsgType, web

from mmpi.instrument import Nanos
from mmpi.practice.hyperliquid.fault_plan import ActionFate
from mmpi.practice.hyperliquid.line import MAX_QUEUED, Line
from mmpi.practice.hyperliquid.messages import Json, PostRequest, SocketRequest, UnprocessableError, convert, parse
from mmpi.practice.hyperliquid.reception import Reception
from mmpi.practice.hyperliquid.streams import GREETING, Client, Hub, channel_message

MAX_LATE: Final = 1000
"""Actions of one connection that a fault holds back; one more is not held."""
GOODBYE_S: Final = 1.0
"""For the client's own goodbye, when the server ends."""
TOO_MANY_POSTS: Final = "too many pending post requests id={id}"
"""Seen (nktkas/hyperliquid, issue 78, 2025-11), on the channel `error`."""


class Frame(msgspec.Struct):
    """One message of a client: when it is due (loop time), what it says, and what it asks if that can be read."""

    due: float
    data: bytes | str
    request: SocketRequest | None
    waits: bool
    """It is a post that counts as not answered yet."""


class _Silence:
    """A listener whose messages nobody gets."""

    def send(self, message: bytes) -> None:
        """Forget it."""


class Connection:
    """One socket that was accepted; `number` tells it from all others since the server's start."""

    def __init__(
        self,
        reception: Reception,
        hub: Hub,
        request: web.Request,
        socket: web.WebSocketResponse,
        one_way_s: float,
        number: int,
        too_slow: Callable[["Connection"], None],
    ) -> None:
        self.number = number
        self.peer = request.remote or ""
        self._reception = reception
        self._socket = socket
        self._one_way_s = one_way_s
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        faults = reception.plan.socket(number, self._loop.time())
        self._line = Line(one_way_s, faults, lambda: too_slow(self))
        self._client = Client(hub, self._line, self._answer, reception.snapshot)
        self._mute = Client(hub, _Silence(), self._answer, reception.snapshot)
        self._inbox: asyncio.Queue[Frame | None] = asyncio.Queue(MAX_QUEUED)
        self._late = 0

    async def converse(self) -> None:
        """Read until the client leaves; what it sent before that still arrives, as it would at the venue."""
        self._line.send(GREETING)
        pump = asyncio.create_task(self._line.pump(self._socket))
        worker = asyncio.create_task(self._work())
        try:
            async for message in self._socket:
                if worker.done():
                    break
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._inbox.put(self._frame(message.data))
            self._line.passable.set()
            if not worker.done():
                await self._inbox.put(None)
            await worker
        finally:
            self._client.close()
            for task in (pump, worker):
                task.cancel()
            await asyncio.gather(pump, worker, return_exceptions=True)
            self._forget_inbox()

    def look(self, now: float) -> None:
        """Do what the faults of the socket itself say is due."""
        faults, passable = self._line.faults, self._line.passable
        if self._transport is None or self._transport.is_closing():
            return
        deaf = faults.deaf(now)
        if deaf and passable.is_set():
            passable.clear()
            self._transport.pause_reading()
        elif not deaf and not passable.is_set():
            passable.set()
            self._transport.resume_reading()
        if faults.cut(now):
            self.cut()

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def leave(self) -> None:
        """Say goodbye and end the connection, whether or not the client listens."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        try:
            await asyncio.wait_for(self._socket.close(), GOODBYE_S)
        except (TimeoutError, ConnectionError):
            self.cut()

    def take_plan(self, now: float) -> None:
        """Take the faults of the plan that is in force from now on."""
        self._line.faults = self._reception.plan.socket(self.number, now)

    async def _work(self) -> None:
        while (frame := await self._inbox.get()) is not None:
            # Even a wait of zero lets the other connections have their turn.
            await asyncio.sleep(max(0.0, frame.due - self._loop.time()))
            await self._line.passable.wait()
            self._take(frame)

    def _frame(self, data: bytes | str) -> Frame:
        try:
            request = convert(parse(data), SocketRequest)
        except UnprocessableError:
            request = None
        waits = _post(request) is not None and self._reception.limits.post(self.peer)
        return Frame(self._loop.time() + self._one_way_s, data, request, waits)

    def _forget_inbox(self) -> None:
        """Count the posts no more that nobody will do, because the server ends."""
        while not self._inbox.empty():
            frame = self._inbox.get_nowait()
            if frame is not None and frame.waits:
                self._reception.limits.posted(self.peer)

    def _take(self, frame: Frame) -> None:
        """Do what a frame asks, within the limits and as faults let it."""
        late = 0.0
        try:
            post = _post(frame.request)
            if why := self._reception.message(self.peer):
                self._refuse(frame, why)
            elif post is None:
                self._client.receive(frame.data, self._reception.now())
            elif not frame.waits:
                self._refuse(frame, TOO_MANY_POSTS.format(id=frame.request.id if frame.request else None))
            else:
                late = self._do_post(frame, post)
        finally:
            if frame.waits and not late:
                self._reception.limits.posted(self.peer)

    def _do_post(self, frame: Frame, post: PostRequest) -> float:
        """Return how much later the post is done, 0 having done what is to be done of it."""
        verdict = self._reception.judge(post.type, post.payload)
        if verdict.status:
            if verdict.executed:
                self._mute.receive(frame.data, self._reception.now())
            self._error(frame, verdict.status)
        elif verdict.fate.lost:
            pass
        elif verdict.fate.late_s and self._late < MAX_LATE:
            self._late += 1
            self._loop.call_later(verdict.fate.late_s, self._do_late, frame, verdict.fate)
            return verdict.fate.late_s
        else:
            self._do(frame, verdict.fate)
        return 0.0

    def _do_late(self, frame: Frame, fate: ActionFate) -> None:
        self._late -= 1
        self._reception.limits.posted(self.peer)
        self._do(frame, fate)

    def _do(self, frame: Frame, fate: ActionFate) -> None:
        client = self._mute if fate.unanswered else self._client
        client.receive(frame.data, self._reception.now())

    def _answer(self, request: PostRequest, now: Nanos) -> Json:
        answer = self._reception.answer(request.type, request.payload, now)
        if request.type == "action":
            return answer  # type: ignore[no-any-return]
        return {"type": request.payload.get("type"), "data": answer}

    def _refuse(self, frame: Frame, why: str) -> None:
        """Say that a message was one too many: of a post as its answer, or else on the channel `error`."""
        if frame.waits:
            self._error(frame, HTTPStatus.TOO_MANY_REQUESTS, f": {why}")
        else:
            self._line.send(channel_message("error", why))

    def _error(self, frame: Frame, status: int, more: str = "") -> None:
        """Answer a post with an HTTP error ("429 Too Many Requests" is seen in the tests of public clients)."""
        assert frame.request is not None
        text = f"{status} {_phrase(status)}{more}"
        response = {"type": "error", "payload": text}
        self._line.send(channel_message("post", {"id": frame.request.id, "response": response}))


def _post(request: SocketRequest | None) -> PostRequest | None:
    """Return what a post asks, None for any other message and for one that lacks its parts."""
    whole = request is not None and request.method == "post" and request.id is not None
    return request.request if whole and request is not None else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
