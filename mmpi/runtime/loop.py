"""The quoting loop: events through step(), the engine's timers, the halt word, the sign of life.

Invariant: the sign of life is given only after an event was handled or a timer answered (I6), and nothing here waits.
It must not know where events come from or where actions go.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from mmpi.actions import Approved
from mmpi.engine import Engine
from mmpi.events import DeadManReport, Event, ExecReport, Flatten, Halted, Resumed, Stopping, StorageTrust, Timer
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.ports import Sink
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN, HaltWord, StatusBoard
from mmpi.runtime.buckets import Buckets
from mmpi.runtime.service import say
from mmpi.runtime.step import step
from mmpi.status import Latency

TICK: Final[Nanos] = 20 * MILLISECOND
TICK_S: Final = TICK / SECOND
"""How often the halt word is looked at when nothing happens: a tenth of what the guardian's 500 ms leave."""
HEARTBEAT: Final[Nanos] = 200 * MILLISECOND
"""A Timer goes through the engine at least this often; the guardian's patience is 1 s."""
PUBLISH: Final[Nanos] = 250 * MILLISECOND
"""How often it is asked for a status; what there is to show is told by who gives it."""
SAMPLES: Final = 4096
"""Latency samples kept: the last ones."""
FRESH_SHARE: Final = 8
"""They are sorted anew once more than this share of them is new."""


class Outlet(Protocol):
    """A gateway that tells, through `unsent`, what did not leave."""

    @property
    def unsent(self) -> deque[ExecReport | DeadManReport]:
        """Return the reports of what did not leave."""
        ...

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Send."""
        ...

    def refuse(self, actions: Sequence[Approved], now: Nanos, why: str) -> None:
        """Report orders as rejected."""
        ...


class Keeping(Protocol):
    """What is told of every event that was handled, and knows whether what must be kept can be."""

    @property
    def fault(self) -> str:
        """Return why it cannot be, "" = it can."""
        ...

    def after(self, event: Event) -> None:
        """Keep what the event has changed."""
        ...


class SteadyClock:
    """Wall-clock time that never jumps: the wall clock at the start, moved on by the monotonic clock."""

    def __init__(self) -> None:
        self._base: Final = time.time_ns() - time.monotonic_ns()

    def now(self) -> Nanos:
        """Return nanoseconds since the Unix epoch."""
        return time.monotonic_ns() + self._base


class Loop:
    """Drives one engine."""

    def __init__(
        self,
        engine: Engine,
        sink: Sink,
        outlet: Outlet,
        clock: SteadyClock,
        halt: HaltWord | None,
        board: StatusBoard,
        publish: Callable[[], bytes],
        progress: Callable[[], None] = lambda: None,
        keeper: Keeping | None = None,
    ) -> None:
        """`publish` gives a status, or b"" if the last is still good; `progress` is told of each event handled and each
        timer answered, and of nothing else (I6)."""
        self.engine, self.clock = engine, clock
        self._sink, self._outlet, self._halt, self._board, self._publish = sink, outlet, halt, board, publish
        self._progress, self._keeper = progress, keeper
        self._fault = ""
        self._halt_seen = -1
        self._next_heartbeat: Nanos = 0
        self._next_publish: Nanos = 0
        self._latencies: deque[int] = deque(maxlen=SAMPLES)
        self._unsorted, self._latency = 0, Latency(0.0, 0.0, 0)
        self.tick_to_order, self.lateness = Buckets(), Buckets()
        self._last: Nanos = 0
        self._broken: Exception | None = None

    def feed(self, events: Iterable[Event], since: Nanos = 0) -> None:
        """Handle events now; `since` is when the first byte of their frame was seen, for tick_to_order_us."""
        if self._broken is not None:
            return
        acted = 0
        try:
            for event in events:
                acted += self._step(event)
                while self._outlet.unsent:
                    self._step(self._outlet.unsent.popleft())
        except Exception as error:
            # The engine may stand between two states now. It must not see another event: `run` ends the process,
            # and the guardian, which sees that at once, cancels everything.
            self._broken = error
            return
        if acted and since:
            took = self.clock.now() - since
            self._latencies.append(took)
            self._unsorted += 1
            self.tick_to_order.add(took)
        self._board.beat(time.monotonic_ns())
        self._progress()

    def _step(self, event: Event) -> int:
        acted = step(self.engine, self._sink, self._outlet, event, self._outlet.refuse)
        if self._keeper is not None:
            self._keeper.after(event)
        return acted

    def stop(self, reason: str) -> None:
        """Begin to stop (I14)."""
        if not self.engine.standing.stop:
            self.feed([Stopping(self.now(), reason)])

    def now(self) -> Nanos:
        """Return the loop's time, which never goes back."""
        self._last = max(self._last, self.clock.now())
        return self._last

    async def run(self) -> None:
        """Tick until the engine has stopped; raise what broke it."""
        while not self.engine.stopped:
            self.tick()
            if self._broken is not None:
                raise self._broken
            due = time.monotonic_ns() + TICK
            await asyncio.sleep(TICK_S)
            self.lateness.add(max(0, time.monotonic_ns() - due))
        self.tick()
        # Whoever looks from now on sees how it ended.
        self._show()

    def tick(self) -> None:
        """Look at the halt word, answer the engine's timer, show a sign of life, publish."""
        now = self.now()
        self._look_at_halt(now)
        if self._keeper is not None and (fault := self._keeper.fault) != self._fault:
            self._fault = fault
            say(f"mmpi run: journal: {fault or 'written again'}")
            self.feed([StorageTrust(now, fault)])
        wake = self.engine.wake_at
        if (wake and now >= wake) or now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT
            self.feed([Timer(now)])
        if now >= self._next_publish:
            self._next_publish = now + PUBLISH
            self._show()

    def _show(self) -> None:
        if status := self._publish():
            self._board.publish(status)

    def latency(self) -> Latency:
        """Return p50 and p99 of tick to order, over the last samples; one in eight of them may still be missing.

        To sort all of them for each status would cost the loop 2 ms of each second.
        """
        if not self._latencies:
            return Latency(0.0, 0.0, 0)
        if self._unsorted > len(self._latencies) // FRESH_SHARE:
            ordered, self._unsorted = sorted(self._latencies), 0
            last = len(ordered) - 1
            self._latency = Latency(ordered[last // 2] / 1000, ordered[last * 99 // 100] / 1000, len(ordered))
        return self._latency

    def _look_at_halt(self, now: Nanos) -> None:
        """Turn a change of the halt word into an event; acknowledge it once the engine obeys."""
        if self._halt is None:
            return
        if now >= self._next_heartbeat:
            self._halt.refresh()
        self._halt.waived = self._halt.waived and not self._halt.is_guarded(time.monotonic_ns())
        if self._halt.waived:
            return
        state, generation = self._halt.read()
        reason = self._halt.reason
        if state in (RUN, REDUCE) and not self._halt.is_guarded(time.monotonic_ns()):
            # The word of a guardian that is gone forbids nothing any more, so its absence must.
            state, generation, reason = PAUSED, -2, "no guardian"
        if generation == self._halt_seen:
            return
        self._halt_seen = generation
        if state == RUN:
            self.feed([Resumed(now)])
        elif state == REDUCE:
            self.feed([Flatten(now, reason)])
        else:
            self.feed([Halted(now, state == LATCHED, reason)])
        if generation >= 0:
            self._board.acknowledge(generation)
