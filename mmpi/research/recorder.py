"""Recorder: watches an engine through a backtest and keeps what a report is made of, in bounded memory.

Invariant: it changes nothing, it looks at what the engine knew after each event, and neither samples nor fills grow
without bound: a longer run is sampled at a longer interval. It must not know ratios, reports or files.

Samples lie on a grid of the interval from the run's first event; each is the state after the last event at or before
its time. The interval is the shortest of INTERVALS_S that needs at most MAX_SAMPLES, found while the run goes on.
"""

from array import array
from typing import Final

from mmpi.desk import Desk
from mmpi.engine import Engine
from mmpi.events import Bbo, BookDelta, BookSnapshot, Event, ExecReport, ExecType, Stopping, Trade
from mmpi.instrument import MONEY_SCALE, SECOND, Money, Nanos
from mmpi.orders import OrdStatus
from mmpi.research.fills import MAX_KEPT, FillLog, RoundTrips

INTERVALS_S: Final = (1, 5, 10, 60, 300, 600, 3600)
"""Each a multiple of the one before, so that samples can be thinned; after the last they double."""
MAX_SAMPLES: Final = 20_000
"""5.5 hours at one second, 27 at five."""
AT_LIMIT: Final = 0.9
"""Share of the gate's largest position from which on a position counts as at its limit."""
BINS: Final = 21
"""Of the position over its limit, to the nearest tenth from -1 to 1; what is beyond counts in the outermost."""
_RESTING: Final = frozenset({OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED, OrdStatus.PENDING_CANCEL})
"""Orders that the venue has confirmed and not ended."""
_BOOKS: Final = (BookSnapshot, BookDelta, Bbo)


class Trace:
    """One instrument: its fills, round trips, time shares, and the state after its last event."""

    def __init__(self, desk: Desk, max_position: Money, keep: int) -> None:
        self.desk = desk
        self.log = FillLog(desk.instrument, keep)
        self.trips = RoundTrips()
        self.time: Nanos = 0
        """Time watched so far, from the first event to the stop; the basis of all shares."""
        self.at_limit: Nanos = 0
        self.two_sided: Nanos = 0
        """With a confirmed order of ours on both sides."""
        self.bins: list[Nanos] = [0] * BINS
        self.crossed = 0
        """Events after which own orders were crossed; anything but 0 is a bug."""
        self.held = 0.0
        """Absolute position times seconds, quote currency."""
        self.spread_time = 0.0
        """Own spread in basis points of the mid, times nanoseconds with a two-sided quote."""
        self.state: tuple[Money, Money, Money, Money, Money] = (0, 0, 0, 0, 0)
        """Spread, inventory, funding, fees, volume."""
        self.lots = 0
        self.mid2 = 0
        self._realised: Money = 0
        self._limit2 = 2 * max_position
        self._unit = desk.instrument.unit
        self._since: Nanos = 0
        self._share = 0.0
        self._value = 0.0
        self._own_bps = -1.0
        """Own spread; < 0 = not two-sided."""

    @property
    def total(self) -> Money:
        """Return the profit after the last event."""
        spread, inventory, funding, fees, _ = self.state
        return spread + inventory + funding - fees

    def refresh(self, event: Event, counting: bool) -> None:
        """Take the state after an event."""
        desk, now = self.desk, event.recv_ts
        if counting:
            self.weigh(now)
        self._since = now
        position = desk.position
        if isinstance(event, ExecReport):
            if event.exec_type is ExecType.TRADE and position.fills > self.log.number:
                self.log.add(now, event.side, event.price, event.size, event.fee, position.mid2)
                realised = position.realised - self._realised
                self.trips.book(self.lots, event.side, event.size, realised, event.fee)
        elif isinstance(event, _BOOKS) and desk.book.mid2:
            self.log.on_mid(now, desk.book.mid2)
        if position.mid2 != self.mid2 or position.lots != self.lots:
            self.lots, self.mid2 = position.lots, position.mid2
            worth2 = self.lots * self.mid2 * self._unit
            self._share, self._value = worth2 / self._limit2, abs(worth2) / (2 * MONEY_SCALE)
        self._realised = position.realised
        self.state = (position.spread, position.inventory, position.funding, position.fees, position.volume)
        self._look_at_orders()

    def weigh(self, now: Nanos) -> None:
        """Count the time since the last event for the state that it left."""
        passed = now - self._since
        if not self._since or passed <= 0:
            return
        self._since = now
        self.time += passed
        if abs(self._share) >= AT_LIMIT:
            self.at_limit += passed
        self.bins[min(max(round(self._share * 10) + BINS // 2, 0), BINS - 1)] += passed
        self.held += self._value * passed / SECOND
        if self._own_bps >= 0:
            self.two_sided += passed
            self.spread_time += self._own_bps * passed

    def _look_at_orders(self) -> None:
        bid = ask = 0
        for order in self.desk.orders.live.values():
            if order.status in _RESTING:
                if order.side > 0:
                    bid = max(bid, order.price)
                elif not ask or order.price < ask:
                    ask = order.price
        self.crossed += 0 < ask <= bid
        self._own_bps = 20_000 * (ask - bid) / self.mid2 if bid and ask and self.mid2 else -1.0


class Recorder:
    """An observer of a Backtest; call `finish` when it is over."""

    def __init__(self, engine: Engine, *, max_samples: int = MAX_SAMPLES, max_fills: int = MAX_KEPT) -> None:
        limit = engine.gate.config.max_position
        self.engine = engine
        self.traces = {name: Trace(desk, limit, max_fills) for name, desk in engine.desks.items()}
        self.capital: Money = engine.gate.config.capital
        self.max_position: Money = limit
        self.interval: Nanos = INTERVALS_S[0] * SECOND
        self.start: Nanos = 0
        self.end: Nanos = 0
        """When the stop was asked for, or the last event; what follows a stop is not part of any share of time."""
        self.grid = 0
        """Samples on the grid; the last sample of all may lie beyond it, at the run's end."""
        self.ts = array("q")
        self.parts = tuple(array("d") for _ in range(5))
        """Spread, inventory, funding, fees, volume; over all instruments, in quote currency."""
        self.positions = {name: array("q") for name in self.traces}
        self.mids = {name: array("q") for name in self.traces}
        """Twice the last valid mid, ticks; 0 = none yet."""
        self.peak: Money = 0
        self.drawdown: Money = 0
        """Largest fall of equity from its peak (the start counts as one), looked at after every event."""
        self.drawdown_ts: Nanos = 0
        self._max = max_samples
        self._next: Nanos = 0
        self._now: Nanos = 0
        self._stopping = False

    def __call__(self, _engine: Engine, event: Event) -> None:
        """Take the state after an event."""
        now = event.recv_ts
        if not self.start:
            self.start = self._next = now
        while self._next < now:
            self._sample(self._next)
        self._now = now
        if isinstance(event, Trade):
            return
        trace = self.traces.get(getattr(event, "instrument", ""))
        for each in (trace,) if trace is not None else self.traces.values():
            each.refresh(event, not self._stopping)
        if not self._stopping:
            self.end = now
            self._stopping = isinstance(event, Stopping)
        total = sum(each.total for each in self.traces.values())
        self.peak = max(self.peak, total)
        if self.peak - total > self.drawdown:
            self.drawdown, self.drawdown_ts = self.peak - total, now

    def finish(self) -> None:
        """Take the last sample: the state at the run's end, on the grid or not."""
        if not self._stopping:
            self.end = self._now
            for trace in self.traces.values():
                trace.weigh(self._now)
        if self.start and self._next == self._now:
            self._sample(self._now)
        self.grid = len(self.ts)
        if self.start and self.ts[-1] < self._now:
            self._append(self._now)

    @property
    def span(self) -> Nanos:
        """Return the time from the first event to the stop."""
        return self.end - self.start

    def _sample(self, ts: Nanos) -> None:
        self._append(ts)
        self._next = ts + self.interval
        if len(self.ts) > self._max:
            self._thin()

    def _append(self, ts: Nanos) -> None:
        self.ts.append(ts)
        traces = self.traces.values()
        for index, column in enumerate(self.parts):
            column.append(sum(trace.state[index] for trace in traces) / MONEY_SCALE)
        for name, trace in self.traces.items():
            self.positions[name].append(trace.lots)
            self.mids[name].append(trace.mid2)

    def _thin(self) -> None:
        """Go to the next interval and keep the samples that lie on its grid."""
        interval = _longer(self.interval)
        factor = interval // self.interval
        for whole in (self.ts, *self.positions.values(), *self.mids.values()):
            whole[:] = whole[::factor]
        for column in self.parts:
            column[:] = column[::factor]
        self.interval = interval
        self._next = self.ts[-1] + interval


def _longer(interval: Nanos) -> Nanos:
    return next((seconds * SECOND for seconds in INTERVALS_S if seconds * SECOND > interval), 2 * interval)
