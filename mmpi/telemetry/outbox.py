"""Outbox: what waits to be published to one broker: of a state the newest text, of events the last ones.

Invariant: it is bounded whatever the broker does, putting never waits, and what was dropped is counted.
It must not know brokers.
"""

import asyncio
from collections import deque
from typing import Final

import msgspec

EVENTS: Final = 256
STATES: Final = 64
"""Topics with a state; more is our own bug."""


class Message(msgspec.Struct, frozen=True):
    """One publication."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Outbox:
    """The messages for one broker. States are retained and sent anew after each connect."""

    def __init__(self) -> None:
        self.dropped = 0
        """Events that made room for newer ones."""
        self._events: deque[Message] = deque()
        self._states: dict[str, Message] = {}
        self._fresh: dict[str, None] = {}
        """Topics whose newest state has not been sent, in the order in which they changed."""
        self._wake = asyncio.Event()

    def state(self, topic: str, payload: bytes, qos: int = 0) -> None:
        """Replace the state of a topic."""
        assert topic in self._states or len(self._states) < STATES, topic
        self._states[topic] = Message(topic, payload, qos, True)
        self._fresh[topic] = None
        self._wake.set()

    def event(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Add what happened once; the oldest makes room."""
        if len(self._events) >= EVENTS:
            self._events.popleft()
            self.dropped += 1
        self._events.append(Message(topic, payload, qos, False))
        self._wake.set()

    def renew(self) -> None:
        """Have all states sent again: the broker may have lost them."""
        self._fresh = dict.fromkeys(self._states)
        self._wake.set()

    async def next(self) -> Message:
        """Return the next message, which waits here until `sent`: events first, then states; wait for one."""
        while True:
            if self._events:
                return self._events[0]
            if self._fresh:
                return self._states[next(iter(self._fresh))]
            self._wake.clear()
            await self._wake.wait()

    def sent(self, message: Message) -> None:
        """Forget a message, unless it made room or was replaced meanwhile."""
        if message.retain:
            if self._states.get(message.topic) is message:
                self._fresh.pop(message.topic, None)
        elif self._events and self._events[0] is message:
            self._events.popleft()

    def __len__(self) -> int:
        return len(self._events) + len(self._fresh)
