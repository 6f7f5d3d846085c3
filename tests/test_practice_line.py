"""mmpi.practice.hyperliquid.line: channels, what a message's fate does to the queue, and the bound of the queue."""

import asyncio
from typing import Any, cast

import pytest

from mmpi.practice.hyperliquid import line as line_module
from mmpi.practice.hyperliquid.fault_plan import FaultPlan
from mmpi.practice.hyperliquid.faults import CHANNELS, read_faults
from mmpi.practice.hyperliquid.line import MAX_QUEUED, Line, channel_of
from mmpi.practice.hyperliquid.messages import encode
from mmpi.practice.hyperliquid.streams import GREETING, channel_message


class Wire:
    """What leaves a line."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    async def send_frame(self, message: bytes, _opcode: object) -> None:
        """Take a message."""
        self.sent.append(message)

    async def close(self) -> None:
        """End."""
        self.closed = True


def line(*faults: str, dropped: list[int] | None = None) -> Line:
    """Return a line without delay."""
    now = asyncio.get_running_loop().time()
    told = dropped if dropped is not None else []
    return Line(0.0, FaultPlan(read_faults(faults), 1, now).socket(1, now), lambda: told.append(1))


async def sent(made: Line, seconds: float = 0.02) -> list[bytes]:
    """Return what leaves within so long."""
    wire: Any = Wire()
    pump = asyncio.create_task(made.pump(wire))
    await asyncio.sleep(seconds)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    return list(wire.sent)


def message(number: int) -> bytes:
    """Return a message on the channel `post`."""
    return channel_message("post", number)


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_is_known_by_its_message(channel: str) -> None:
    """A message as the server writes it tells its channel, with data or without; the greeting has none."""
    assert channel_of(channel_message(channel, {"channel": "x"})) == channel
    assert channel_of(encode({"channel": channel})) == channel
    assert channel_of(GREETING) == ""


async def test_a_message_without_a_neighbour_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """reorder holds a message back for a moment, not for ever."""
    monkeypatch.setattr(line_module, "SWAP_S", 0.03)
    made = line("reorder:p=1")
    made.send(message(1))
    assert await sent(made, 0.01) == []
    assert await sent(made, 0.1) == [message(1)]


async def test_swapped_and_doubled() -> None:
    """Faults of one message combine: it is doubled, and one of the two changes places with the next."""
    made = line("reorder:p=1", "duplicate:p=1")
    for number in (1, 2):
        made.send(message(number))
    assert sorted(await sent(made)) == [message(1), message(1), message(2), message(2)]


async def test_nothing_leaves_while_nothing_passes() -> None:
    """What is sent meanwhile leaves afterwards, all of it, in its order."""
    made, wire = line(), Wire()
    made.passable.clear()
    pump = asyncio.create_task(made.pump(cast(Any, wire)))
    for number in range(3):
        made.send(message(number))
    await asyncio.sleep(0.02)
    assert wire.sent == []
    made.passable.set()
    await asyncio.sleep(0.02)
    assert wire.sent == [message(number) for number in range(3)]
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)


async def test_the_queue_is_bounded() -> None:
    """A client that hears nothing for too long is dropped once, and nothing is kept for it any more."""
    dropped: list[int] = []
    made = line("duplicate:p=1", dropped=dropped)
    for number in range(3 * MAX_QUEUED):
        made.send(message(number))
    assert dropped == [1]
    assert made._queue.qsize() == MAX_QUEUED
