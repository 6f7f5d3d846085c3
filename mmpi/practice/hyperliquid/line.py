"""The way to one client: messages leave after the network's delay, in order, unless a fault says otherwise.

Invariant: messages never overtake each other but for `reorder`, and no client can make the server's memory grow: one
too slow for its queue is dropped. It must not know what a message says, only its channel.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web

from mmpi.practice.hyperliquid.fault_plan import SocketFaults

MAX_QUEUED: Final = 1000
"""Messages waiting for one connection, either way: over a minute of what one listener of everything gets."""
IDLE_S: Final = 60.0
"""The venue closes a connection to which it has sent nothing for so long ("Timeouts and heartbeats")."""
SWAP_S: Final = 1.0
"""A message that is to change places with the next one waits for it no longer."""
_CHANNEL: Final = b'{"channel":"'


def channel_of(message: bytes) -> str:
    """Return the channel of a message to a client, "" for the greeting."""
    if not message.startswith(_CHANNEL):
        return ""
    return message[len(_CHANNEL) : message.index(b'"', len(_CHANNEL))].decode()


class Line:
    """One client's outgoing messages; `faults` may be replaced at any time."""

    def __init__(self, delay_s: float, faults: SocketFaults, drop: Callable[[], None]) -> None:
        self.faults = faults
        self.passable = asyncio.Event()
        """Not set while nothing passes, in either direction."""
        self.passable.set()
        self._delay_s = delay_s
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_QUEUED)
        self._swapped: tuple[float, bytes] | None = None
        self._open = True

    def send(self, message: bytes) -> None:
        """Queue a message; never blocks."""
        if not self._open:
            return
        now = self._loop.time()
        fate = self.faults.fate(channel_of(message), now)
        if fate.lost:
            return
        frame = (now + self._delay_s + fate.late_s, message)
        held, self._swapped = self._swapped, None
        if fate.swapped and held is None:
            self._swapped = frame
            self._loop.call_later(SWAP_S, self._release, frame)
        else:
            self._put(frame)
        if fate.twice:
            self._put(frame)
        if held is not None:
            self._put(held)

    async def pump(self, socket: web.WebSocketResponse) -> None:
        """Send what is due until the client is gone or nothing was sent for IDLE_S."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                due, message = await asyncio.wait_for(self._queue.get(), IDLE_S)
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self.passable.wait()
                await socket.send_frame(message, WSMsgType.TEXT)
        self._open = False
        with contextlib.suppress(ConnectionError):
            await socket.close()

    def _release(self, frame: tuple[float, bytes]) -> None:
        if self._swapped is frame:
            self._swapped = None
            self._put(frame)

    def _put(self, frame: tuple[float, bytes]) -> None:
        if not self._open:
            return
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self._open = False
            self._drop()
