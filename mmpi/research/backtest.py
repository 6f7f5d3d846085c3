"""Backtest: a recorded or generated market through the very step() that trades live, against the simulated exchange.

Invariant: time only moves forward, and every event reaches the engine in the order of its time; no look ahead.
It must not know files or formats.
"""

import random
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from mmpi.engine import Engine
from mmpi.events import Connected, Event, Stopping, Timer
from mmpi.instrument import SECOND, Nanos
from mmpi.ports import Sink
from mmpi.runtime.step import step
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.l3 import OrderUpdate, SimEvent
from mmpi.sim.venue import SimVenue

PROGRESS_EVERY: Final = 2048
"""Market events between two calls of `progress`."""
DRAIN: Final[Nanos] = 600 * SECOND
"""Simulated time allowed for the last cancels: many times the longest latency (20 s) and patience (60 s)."""
Observer: TypeAlias = Callable[[Engine, Event], None]
"""Called after each step; it looks and changes nothing."""


class Backtest:
    """One engine against one simulated exchange, driven by a plain loop."""

    def __init__(
        self, engine: Engine, sink: Sink, sim: SimConfig, observer: Observer | None = None, *, by_order: bool = False
    ) -> None:
        """`by_order` says that the market has OrderUpdates too; only the exchange sees those."""
        self.engine = engine
        self._sink = sink
        self._observer = observer
        instruments = {name: desk.instrument for name, desk in engine.desks.items()}
        self._venue = SimVenue(Matching(instruments, sim, by_order=by_order), sim, random.Random(sim.seed))
        self._now: Nanos = 0

    def run(self, market: Iterable[SimEvent], progress: Callable[[Nanos], None] | None = None) -> int:
        """Return how many market events there were. It ends as a live run does: everything cancelled and confirmed."""
        count = 0
        for count, event in enumerate(market, start=1):
            if count == 1:
                self._begin(event.recv_ts)
            self._until(event.recv_ts)
            self._now = event.recv_ts
            self._venue.market(event)
            if not isinstance(event, OrderUpdate):
                self._step(event)
            if progress is not None and count % PROGRESS_EVERY == 1:
                progress(self._now)
        self._step(Stopping(self._now, "end of data"))
        self._until(self._now + DRAIN)
        return count

    def _begin(self, now: Nanos) -> None:
        self._now = now
        self._step(Connected(now, "sim"))

    def _step(self, event: Event) -> None:
        step(self.engine, self._sink, self._venue, event)
        if self._observer is not None:
            self._observer(self.engine, event)

    def _until(self, end: Nanos) -> None:
        """Deliver what is due before `end`: reports at their time, timers at theirs, reports first."""
        while not self.engine.stopped:
            report_ts, wake = self._venue.next_ts, self.engine.wake_at
            timer_ts = max(wake, self._now) if wake else 0
            if report_ts and report_ts <= end and (not timer_ts or report_ts <= timer_ts):
                self._now = max(self._now, report_ts)
                for event in self._venue.due(self._now):
                    self._step(event)
            elif timer_ts and timer_ts <= end:
                self._now = timer_ts
                self._step(Timer(timer_ts))
            else:
                return
