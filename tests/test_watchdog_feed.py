"""The watchdog is fed by progress alone (I6): an event handled, a timer answered, a look that was made."""

import asyncio
from pathlib import Path

import pytest
from engine_builders import engine_params
from guardian_builders import FakeHand, FakePanel, guarding, shorten
from runtime_builders import Door, HandClock, Shelf, until

from mmpi.engine import Engine
from mmpi.events import Connected, Event
from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime.board import HaltWord, StatusBoard
from mmpi.runtime.loop import HEARTBEAT, Loop

START = 1_700_000_000 * SECOND


class Fed:
    """A quoting loop, and how often it fed the watchdog."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self.clock = HandClock(START)
        self.engine = Engine(engine_params())
        HaltWord.create(folder / "halt")
        self.loop = Loop(
            self.engine, Shelf(), Door(), self.clock, None, StatusBoard.create(folder / "status"), bytes, self.feed
        )

    def feed(self) -> None:
        """Count."""
        self.count += 1

    def tick(self, after: int) -> int:
        """Tick once, this much later; return how often the watchdog was fed by it."""
        before = self.count
        self.clock.time += after
        self.loop.tick()
        return self.count - before


def test_a_tick_that_does_nothing_feeds_nothing(tmp_path: Path) -> None:
    """Between two timers a loop that merely turns has made no progress."""
    fed = Fed(tmp_path)
    assert fed.tick(HEARTBEAT) == 1
    assert [fed.tick(20 * MILLISECOND) for _ in range(5)] == [0] * 5
    fed.loop.feed([Connected(fed.loop.now(), "sim")])
    assert fed.count == 2


def test_a_broken_engine_feeds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot handle its events lets the watchdog bite, however well its loop turns."""
    fed = Fed(tmp_path)

    def broken(event: Event) -> None:
        raise RuntimeError(event)

    monkeypatch.setattr(fed.engine, "handle", broken)
    assert [fed.tick(HEARTBEAT) for _ in range(5)] == [0] * 5
    fed.loop.feed([Connected(fed.loop.now(), "sim")])
    assert fed.count == 0


async def test_the_quoter_feeds_nothing_while_no_event_is_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its real run, whose engine breaks: the loop ends, and nothing feeds the watchdog on the side."""
    fed = Fed(tmp_path)

    def broken(event: Event) -> None:
        raise RuntimeError(event)

    monkeypatch.setattr(fed.engine, "handle", broken)
    running = asyncio.create_task(fed.loop.run())
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await running
    assert fed.count == 0


async def test_a_guardian_that_cannot_look_feeds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its looks fail it neither beats nor feeds; once they succeed it does both again."""
    shorten(monkeypatch)
    fed: list[int] = []
    panel, sense = FakePanel(), FakePanel()
    async with guarding(tmp_path, FakeHand(), panel=panel, senses=(sense,), progress=lambda: fed.append(1)) as box:
        await until(lambda: len(fed) > 3)
        sense.broken = RuntimeError("bug")
        await asyncio.sleep(0.02)
        before, beat = len(fed), box.halt.beat_ns
        await asyncio.sleep(0.05)
        assert (len(fed), box.halt.beat_ns) == (before, beat)
        sense.broken = None
        await until(lambda: len(fed) > before)


async def test_buttons_work_while_the_rest_of_a_look_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sense that raises at every look cannot keep the kill button from latching."""
    shorten(monkeypatch)
    panel, sense = FakePanel(), FakePanel()
    async with guarding(tmp_path, FakeHand(), panel=panel, senses=(sense,)) as box:
        sense.broken = RuntimeError("bug")
        await asyncio.sleep(0.02)
        panel.causes = {"kill_button": "contact open"}
        await until(lambda: box.latch.load().latched)
        assert box.halt.reason == "kill_button: contact open"
