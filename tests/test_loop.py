"""mmpi.runtime.loop: the halt word, the engine's timers and the sign of life, with time moved by hand."""

import time
from pathlib import Path

import pytest
from engine_builders import book, engine_params
from runtime_builders import Door, HandClock, Shelf

from mmpi.actions import Approved, NewOrder, RequestReconcile
from mmpi.engine import Engine
from mmpi.errors import JournalError
from mmpi.events import (
    Connected,
    Event,
    ExecReport,
    ExecType,
    Flatten,
    Halted,
    Reconciled,
    Resumed,
    Stopping,
    StorageTrust,
    Timer,
)
from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime import loop as loop_module
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN, HaltWord, StatusBoard
from mmpi.runtime.loop import HEARTBEAT, PUBLISH, Loop

START = 1_700_000_000 * SECOND


class Stand:
    """A loop with all its parts, in a folder."""

    def __init__(self, folder: Path, *, guarded: bool = True) -> None:
        self.engine = Engine(engine_params())
        self.sink, self.door, self.clock = Shelf(), Door(), HandClock(START)
        self.guardian = HaltWord.create(folder / "halt") if guarded else None
        self.board = StatusBoard.create(folder / "status")
        self.published: list[int] = []
        self.beat()
        self.loop = Loop(
            self.engine, self.sink, self.door, self.clock, HaltWord.open(folder / "halt"), self.board, self._publish
        )

    def _publish(self) -> bytes:
        self.published.append(self.clock.time)
        return b"status"

    def beat(self, ago: int = 0) -> None:
        """Be a guardian that looked around this long ago."""
        if self.guardian is not None:
            self.guardian.beat(time.monotonic_ns() - ago)

    def tick(self, after: int = 20 * MILLISECOND) -> list[str]:
        """Tick once, this much later; return the events that this caused."""
        self.clock.time += after
        known = len(self.sink.events)
        self.loop.tick()
        return self.sink.kinds()[known:]

    def connect(self) -> None:
        """Bring the engine to where it quotes as soon as it may."""
        now = self.loop.now()
        self.loop.feed([Connected(now, "sim"), Reconciled(now, "sim", (), ())])


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """Give a guarded loop."""
    return Stand(tmp_path)


def test_the_word_becomes_events(stand: Stand) -> None:
    """Each change of the halt word is one event, with its reason, and is acknowledged once the engine obeys."""
    assert stand.guardian is not None
    assert stand.tick() == ["Halted", "Timer"]
    running = stand.guardian.set(RUN, "")
    assert (stand.tick(), stand.tick(), stand.board.acknowledged) == (["Resumed"], [], running)
    latched = stand.guardian.set(LATCHED, "pressed")
    assert stand.board.acknowledged == running
    assert (stand.tick(), stand.board.acknowledged) == (["Halted"], latched)
    assert stand.sink.events[-1] == Halted(stand.clock.time, True, "pressed")
    assert stand.engine.blocked == "latched: pressed"
    paused = stand.guardian.set(PAUSED, "stale")
    assert (stand.tick(), stand.board.acknowledged) == (["Halted"], paused)
    assert stand.sink.events[-1] == Halted(stand.clock.time, False, "stale")


@pytest.mark.parametrize(("state", "event"), [(LATCHED, "Halted"), (PAUSED, "Halted"), (RUN, "Resumed")])
def test_reduce_becomes_one_event_and_any_other_state_ends_it(stand: Stand, state: int, event: str) -> None:
    """REDUCE is told once, with its reason, and acknowledged; the next state of the word ends what it began."""
    assert stand.guardian is not None
    stand.tick()
    generation = stand.guardian.set(REDUCE, "flatten by hand")
    assert stand.tick() == ["Flatten"]
    assert stand.sink.events[-1] == Flatten(stand.clock.time, "flatten by hand")
    assert (stand.tick(), stand.board.acknowledged) == ([], generation)
    assert (stand.engine.blocked, stand.engine.flattening.active) == ("flattening: flatten by hand", True)
    generation = stand.guardian.set(state, "over")
    assert (stand.tick(), stand.board.acknowledged) == ([event], generation)
    assert (stand.engine.flattening.active, stand.engine.flattening.text) == (False, "")


def test_reduce_by_a_guardian_that_is_gone(stand: Stand) -> None:
    """It counts only with a live guardian; one that comes back with the same word begins it anew."""
    assert stand.guardian is not None
    stand.guardian.set(REDUCE, "flatten")
    assert stand.tick() == ["Flatten", "Timer"]
    stand.beat(1100 * MILLISECOND)
    assert stand.tick() == ["Halted"]
    assert stand.sink.events[-1] == Halted(stand.clock.time, False, "no guardian")
    assert not stand.engine.flattening.active
    stand.beat()
    assert stand.tick() == ["Flatten"]


@pytest.mark.parametrize("ago", [1100 * MILLISECOND, -3600 * SECOND], ids=["silent", "of another boot"])
def test_a_guardian_that_is_gone(stand: Stand, ago: int) -> None:
    """RUN counts only with a live guardian; one silent for a second, or with a beat from before a reboot, is none."""
    assert stand.guardian is not None
    stand.guardian.set(RUN, "")
    stand.tick()
    stand.beat(ago)
    assert stand.tick() == ["Halted"]
    assert stand.sink.events[-1] == Halted(stand.clock.time, False, "no guardian")
    assert stand.tick() == []
    stand.beat()
    assert (stand.tick(), stand.sink.events[-1]) == (["Resumed"], Resumed(stand.clock.time))


def test_no_guardian_ever(tmp_path: Path) -> None:
    """Without a halt file nothing may be placed; a guardian that comes is found within a heartbeat."""
    stand = Stand(tmp_path, guarded=False)
    assert stand.tick() == ["Halted", "Timer"]
    assert stand.engine.standing.halt == "no guardian"
    stand.guardian = HaltWord.create(tmp_path / "halt")
    stand.guardian.set(RUN, "")
    stand.beat()
    assert stand.tick(HEARTBEAT) == ["Resumed", "Timer"]


def test_unguarded_paper(tmp_path: Path) -> None:
    """Without a word to obey there is none to look at."""
    stand = Stand(tmp_path, guarded=False)
    stand.loop = Loop(stand.engine, stand.sink, stand.door, stand.clock, None, stand.board, lambda: b"")
    assert (stand.tick(), stand.engine.standing.halt) == (["Timer"], "")


def test_heartbeats_and_alarms(stand: Stand) -> None:
    """A timer is answered when the engine asked for it, and otherwise every heartbeat; status is shown four times a
    second."""
    ticks = [stand.tick().count("Timer") for _ in range(51)]
    assert [index for index, timers in enumerate(ticks) if timers] == [0, 10, 20, 30, 40, 50]
    assert [later - sooner for sooner, later in zip(stand.published, stand.published[1:], strict=False)] == [
        260 * MILLISECOND, 260 * MILLISECOND, 260 * MILLISECOND,
    ]  # fmt: skip
    assert PUBLISH <= 260 * MILLISECOND
    stand.engine.wake_at = stand.clock.time + 30 * MILLISECOND
    assert (stand.tick(), stand.tick()) == ([], ["Timer"])
    assert stand.board.read() == b"status"


def test_the_sign_of_life_is_progress(stand: Stand) -> None:
    """The board beats when an event was handled, and only then."""
    stand.tick()
    beat = stand.board.beat_ns
    assert beat > 0
    assert (stand.tick(), stand.board.beat_ns) == ([], beat)
    stand.loop.feed([book(stand.loop.now())])
    assert stand.board.beat_ns > beat


def test_actions_are_journalled_and_sent(stand: Stand) -> None:
    """What the engine wants is in the journal and goes out in the stack of the event that caused it; it is timed."""
    assert stand.guardian is not None
    stand.guardian.set(RUN, "")
    stand.tick()
    seen = stand.loop.now()
    stand.loop.feed([Connected(seen, "sim"), book(seen)])
    stand.door.sent.clear()
    stand.clock.time += 250_000
    stand.loop.feed([Reconciled(seen, "sim", (), ())], since=seen)
    assert len(stand.door.sent) == 4
    assert stand.sink.actions[-4:] == stand.door.sent
    latency = stand.loop.latency()
    assert (latency.p50, latency.p99, latency.n) == (250.0, 250.0, 1)


def test_latency_without_samples_and_with_many(stand: Stand) -> None:
    """No samples are said to be none; of many the median and the worst hundredth are told, of the last ones only."""
    assert stand.loop.latency().n == 0
    stand.loop._latencies.extend(us * 1000 for us in range(1, 10_001))
    stand.loop._unsorted = 10_000
    latency = stand.loop.latency()
    assert (latency.n, latency.p50, latency.p99) == (loop_module.SAMPLES, 7952.0, 9959.0)


def test_latency_is_sorted_once_enough_of_it_is_new(stand: Stand) -> None:
    """Up to an eighth of the samples may be missing in what is told: to sort all for each status costs too much."""
    stand.loop._latencies.extend([1000] * 80)
    stand.loop._unsorted = 80
    assert stand.loop.latency().p99 == 1.0
    stand.loop._latencies.extend([9000] * 10)
    stand.loop._unsorted = 10
    assert stand.loop.latency().p99 == 1.0
    stand.loop._latencies.extend([9000] * 2)
    stand.loop._unsorted += 2
    assert (stand.loop.latency().p99, stand.loop.latency().n) == (9.0, 92)


def test_what_did_not_leave_comes_back(stand: Stand) -> None:
    """A report of the outlet is handled right after the event that caused it, before the next one."""
    now = stand.loop.now()
    report = ExecReport(now, "A", now, "0x01", "", ExecType.REJECTED, reason="halted")
    stand.door.unsent.append(report)
    stand.loop.feed([Connected(now, "sim"), book(now)])
    assert stand.sink.kinds() == ["Connected", "ExecReport", "BookSnapshot"]


def test_time_never_goes_back(stand: Stand) -> None:
    """A clock that was set back shows the last time until it is past it."""
    first = stand.loop.now()
    stand.clock.time -= SECOND
    assert stand.loop.now() == first
    stand.clock.time += 2 * SECOND
    assert stand.loop.now() == first + SECOND


async def test_it_ends_when_the_engine_has_stopped(stand: Stand) -> None:
    """A request to stop is one event; the loop runs on until the venue says that nothing is left."""
    assert stand.guardian is not None
    stand.connect()
    stand.loop.stop("asked")
    stand.loop.stop("asked again")
    assert [event for event in stand.sink.events if isinstance(event, Stopping)] == [Stopping(START, "asked")]
    assert stand.engine.stopped is False
    stand.loop.feed([Reconciled(START, "sim", (), ())])
    await stand.loop.run()
    assert stand.published


class Broken(Shelf):
    """A journal on a full disk, from the first book on."""

    def event(self, event: Event) -> bool:
        """Fail at a book."""
        if type(event).__name__ == "BookSnapshot":
            raise JournalError("disk full")
        return super().event(event)


async def test_a_broken_engine_sees_nothing_more(tmp_path: Path) -> None:
    """After an exception no event is handled, no sign of life given, nothing sent: the loop ends with the exception."""
    stand = Stand(tmp_path)
    stand.sink = Broken()
    stand.loop._sink = stand.sink
    stand.connect()
    beat, sent = stand.board.beat_ns, list(stand.door.sent)
    stand.loop.feed([book(START), Connected(START, "sim")])
    stand.loop.feed([Connected(START, "sim")])
    assert (stand.sink.kinds(), stand.board.beat_ns, stand.door.sent) == (["Connected", "Reconciled"], beat, sent)
    with pytest.raises(JournalError, match="disk full"):
        await stand.loop.run()


def test_the_loop_does_what_the_engine_does(stand: Stand) -> None:
    """Events through the loop give the same actions as the engine alone: nothing is added and nothing lost."""
    alone = Engine(engine_params())
    events = [Connected(START, "sim"), book(START), Reconciled(START, "sim", (), ()), Timer(START + SECOND)]
    wanted = [approved for event in events for approved in alone.handle(event)]
    stand.loop.feed(events)
    assert stand.sink.actions == stand.door.sent == wanted
    assert stand.engine.checkpoint() == alone.checkpoint()
    assert len(wanted) > 4


class Full(Shelf):
    """A journal that takes nothing while it is full."""

    full = False

    def event(self, event: Event) -> bool:
        """Keep, or not."""
        return not self.full and super().event(event)

    def action(self, approved: Approved) -> bool:
        """Keep, or not."""
        return not self.full and super().action(approved)


class FakeKeeper:
    """Knows of a fault what it is told, and what was handled."""

    def __init__(self) -> None:
        self.fault = ""
        self.handled: list[Event] = []

    def after(self, event: Event) -> None:
        """Remember."""
        self.handled.append(event)


async def test_i2_nothing_leaves_that_is_not_in_the_journal(tmp_path: Path) -> None:
    """I2: where the journal cannot be written orders are refused before they leave; cancels and questions go out."""
    stand, sink = Stand(tmp_path), Full()
    stand.sink, stand.loop._sink = sink, sink
    sink.full = True
    stand.connect()
    stand.loop.feed([book(START + 2 * SECOND)])
    assert stand.engine.desks["A"].orders.ended == {"rejected": 4}
    assert not any(isinstance(each.action, NewOrder) for each in stand.door.sent)
    assert any(isinstance(each.action, RequestReconcile) for each in stand.door.sent)
    sink.full = False
    stand.loop.feed([book(START + 9 * SECOND)])
    assert sum(isinstance(each.action, NewOrder) for each in stand.door.sent) == 4


async def test_a_fault_becomes_an_event_and_its_end_too(tmp_path: Path) -> None:
    """What the keeper cannot keep pauses the engine at the next tick, once; every event that was handled is told it."""
    stand, keeper = Stand(tmp_path), FakeKeeper()
    stand.loop._keeper = keeper
    stand.connect()
    stand.loop.feed([book(START)])
    for fault in ("full", "full", "", ""):
        keeper.fault = fault
        stand.loop.tick()
    told = [(event.fault, type(event).__name__) for event in stand.sink.events if isinstance(event, StorageTrust)]
    assert told == [("full", "StorageTrust"), ("", "StorageTrust")]
    assert keeper.handled == stand.sink.events
