"""A quoter's journal as evidence: what it was told, what it sent, and whether it might send that when it did.

Invariant: the rules are read from the events alone, by code that shares nothing with the engine's. Only `Course` asks
the engine, by replaying it, which orders it took for live at a moment.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from mmpi import events
from mmpi.actions import AmendOrder, Approved, NewOrder, RequestLatch, RequestReconcile, TimeInForce
from mmpi.engine import Engine
from mmpi.engines import rebuild
from mmpi.events import Event, ExecReport, ExecType
from mmpi.instrument import Instrument, Nanos
from mmpi.journal.entries import Checkpoint
from mmpi.journal.reader import Damage, Segment, read
from mmpi.journal.record import ACTION, CHECKPOINT, EVENT, GAP, Record, decode

Item: TypeAlias = Event | Approved | Checkpoint
Step: TypeAlias = tuple[Event, list[Approved]]
"""An event, and the actions that it caused."""
MARKET = (events.BookSnapshot, events.BookDelta, events.Bbo, events.Trade, events.Mark)
MAX_TOLD = 20
"""Breaches of one rule that are told one by one."""


def items(folder: Path) -> Iterator[Item]:
    """Return the events, actions and checkpoints of a journal; ValueError if any of it is missing."""
    first = True
    for item in read(folder):
        if isinstance(item, Damage):
            raise ValueError(f"the journal is damaged: {item}")
        if isinstance(item, Segment) and first and item.header.first_record:
            raise ValueError(f"the journal's beginning is gone: {item.path.name} starts at {item.header.first_record}")
        first = False
        if isinstance(item, Record) and item.kind == GAP:
            raise ValueError(f"the journal has a gap: {decode(item)}")
        if isinstance(item, Record) and item.kind in (EVENT, ACTION, CHECKPOINT):
            value = decode(item)
            assert not isinstance(value, str)
            yield value


def steps(journal: Iterable[Item]) -> Iterator[Step]:
    """Return each event with its actions."""
    event: Event | None = None
    caused: list[Approved] = []
    for item in journal:
        if isinstance(item, Approved):
            caused.append(item)
        elif not isinstance(item, Checkpoint):
            if event is not None:
                yield event, caused
            event, caused = item, []
    if event is not None:
        yield event, caused


class Permission:
    """Whether an order may be placed, by what the quoter was told."""

    def __init__(self) -> None:
        self.connected = self.reconciled = self.stopping = False
        self.halt = self.clock = self.fault = self.latch = self.storage = ""
        self.covered_until: Nanos = 0
        self.refused = False

    def take(self, event: Event, caused: Iterable[Approved] = ()) -> None:
        """Take an event and what it caused: asking about the position once more means that it did not agree."""
        match event:
            case events.Connected():
                self.connected, self.reconciled = True, False
            case events.Disconnected():
                self.connected = self.reconciled = self.refused = False
            case events.Reconciled():
                asked = [each.action.reason for each in caused if isinstance(each.action, RequestReconcile)]
                self.reconciled = self.connected and "position" not in asked
            case events.Halted():
                self.halt, self.reconciled = event.reason or "halted", False
            case events.Resumed():
                self.halt = self.latch = ""
                self.reconciled = False
            case events.Stopping():
                self.stopping = True
            case events.ClockTrust():
                self.clock = "" if event.trusted else event.reason or "not trusted"
            case events.StorageTrust():
                self.storage = event.fault
            case events.VenueFault() if not event.instrument:
                self.fault = event.reason
            case events.DeadManReport(outcome=ExecType.NEW):
                self.covered_until, self.refused = event.until, False
            case events.DeadManReport(outcome=ExecType.REJECTED):
                self.refused = True
        for each in caused:
            if isinstance(each.action, RequestLatch):
                self.latch = each.action.reason

    def why_not(self, now: Nanos) -> str:
        """Return what forbids placing at a time, "" = nothing."""
        reasons = {
            "stopping": self.stopping,
            f"halted ({self.halt})": bool(self.halt),
            f"a latch was asked for ({self.latch})": bool(self.latch),
            f"the venue refuses everything ({self.fault})": bool(self.fault),
            f"the clock is not trusted ({self.clock})": bool(self.clock),
            f"what must be kept cannot be ({self.storage})": bool(self.storage),
            "disconnected": not self.connected,
            "not reconciled": not self.reconciled,
            "no dead-man switch is set": not (self.refused or now < self.covered_until),
        }
        return next((reason for reason, forbids in reasons.items() if forbids), "")


class Story(msgspec.Struct):
    """What a journal tells; times are the quoter's."""

    placed: dict[str, Nanos] = {}
    """When the order of each id was sent, new or by an amend."""
    again: list[str] = []
    """Ids that were sent more than once."""
    forbidden: list[str] = []
    """What was placed when nothing might be, and why it might not."""
    trades: dict[str, ExecReport] = {}
    """By the venue's number of the fill."""
    retold: list[str] = []
    """Numbers of fills that the engine was told more than once."""
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Events and actions by the names of their types."""
    lost: int = 0
    """Orders whose fate became unknown."""
    begin: Nanos = 0
    end: Nanos = 0
    heard: Nanos = 0
    """When the market was last heard."""
    reconciled: Nanos = 0
    """When the account was last reconciled."""
    waited_ms: float = 0.0
    """The longest time for which placing was forbidden, the start and the stop apart."""
    allowed_ms: float = 0.0
    """For how long placing was allowed, all in all."""
    instruments: dict[str, Instrument] = {}


def tell(journal: Iterable[Item]) -> Story:
    """Return the story of one run's journal."""
    story, permission = Story(), Permission()
    shut_since: Nanos = -1
    """Since when placing is forbidden; -1 = it was never allowed yet."""
    before: Nanos = 0
    was_allowed = False
    for event, caused in steps(_with_grids(journal, story)):
        now = event.recv_ts
        story.begin, story.end = story.begin or now, now
        permission.take(event, caused)
        _count(story, event, caused)
        for each in caused:
            if isinstance(each.action, NewOrder | AmendOrder):
                _placed(story, permission, each.action, each.ts)
        story.allowed_ms += (now - before) / 1e6 if was_allowed else 0.0
        before, was_allowed = now, not permission.why_not(now)
        if was_allowed and shut_since > 0:
            story.waited_ms = max(story.waited_ms, (now - shut_since) / 1e6)
        if was_allowed:
            shut_since = 0
        elif shut_since == 0:
            shut_since = now
    if shut_since > 0 and not permission.stopping:
        story.waited_ms = max(story.waited_ms, (story.end - shut_since) / 1e6)
    return story


def _with_grids(journal: Iterable[Item], story: Story) -> Iterator[Item]:
    """Return the items, having noted the instruments of the first checkpoint."""
    for item in journal:
        if isinstance(item, Checkpoint) and not story.instruments:
            desks = rebuild(item).desks
            story.instruments = {name: desk.instrument for name, desk in desks.items()}
        yield item


def _count(story: Story, event: Event, caused: Iterable[Approved]) -> None:
    story.counts[type(event).__name__] += 1
    story.counts.update(type(each.action).__name__ for each in caused)
    if isinstance(event, MARKET):
        story.heard = event.recv_ts
    elif isinstance(event, events.Reconciled):
        story.reconciled = event.recv_ts
    elif isinstance(event, ExecReport):
        story.lost += event.exec_type is ExecType.LOST
        if event.exec_type is ExecType.TRADE:
            if event.exec_id in story.trades:
                story.retold.append(event.exec_id)
            story.trades[event.exec_id] = event


def _placed(story: Story, permission: Permission, action: NewOrder | AmendOrder, ts: Nanos) -> None:
    name = action.cl_ord_id
    if name in story.placed:
        story.again.append(name)
    story.placed.setdefault(name, ts)
    if why := permission.why_not(ts):
        story.forbidden.append(f"{name} at {ts}: {why}")
    if action.time_in_force is not TimeInForce.POST_ONLY:
        story.forbidden.append(f"{name} at {ts}: {action.time_in_force.value} instead of post only")
    if isinstance(action, AmendOrder) and action.orig_cl_ord_id not in story.placed:
        story.forbidden.append(f"{name} at {ts}: replaces {action.orig_cl_ord_id}, which was never placed")


# What the engine took for live ----------------------------------------------------------------------------------------


class Course:
    """The life of every order as the engine saw it: `changes` are (since, its level, or None once it had ended)."""

    def __init__(self) -> None:
        self.changes: dict[str, list[tuple[Nanos, int | None]]] = {}
        self.doubt_ms = 0.0
        """The longest time for which an order's fate was unknown."""
        self.crowds: dict[str, int] = {}
        """How many orders its slot held when each order was put there, itself included."""

    def note(self, name: str, since: Nanos, level: int | None) -> None:
        """Take that an order has a level from now on, None = that it has ended."""
        self.changes.setdefault(name, []).append((since, level))

    def placed_at(self, name: str) -> int | None:
        """Return the level that an order was placed at if it never had another, else None.

        A ladder that moves may give an order another level: it was there before the slot was.
        """
        levels = {level for _, level in self.changes.get(name, []) if level is not None}
        return levels.pop() if len(levels) == 1 else None

    def at(self, name: str, when: Nanos) -> tuple[bool, int | None]:
        """Return whether the order was known at a time, and its level then; None = it had ended."""
        known = self.changes.get(name, [])
        place = bisect_right(known, when, key=lambda change: change[0]) - 1
        return (False, None) if place < 0 else (True, known[place][1])


def follow(journal: Iterable[Item]) -> Course:
    """Return the course of a run's orders; ValueError if the journal has no checkpoint to start from."""
    course, engine = Course(), None
    live: dict[str, int] = {}
    doubted: dict[str, Nanos] = {}
    for item in journal:
        if isinstance(item, Checkpoint):
            engine = engine or rebuild(item)
        elif not isinstance(item, Approved):
            if engine is None:
                raise ValueError("the journal starts without a checkpoint")
            engine.handle(item)
            _look(engine, item.recv_ts, course, live, doubted)
    return course


def _look(
    engine: Engine, now: Nanos, course: Course, live: dict[str, int], doubted: dict[str, Nanos]
) -> None:
    """Note what of the engine's orders has changed."""
    orders = [(name, order) for name, desk in engine.desks.items() for order in desk.orders.live.values()]
    levels = {order.cl_ord_id: order.level for _, order in orders}
    if levels != live:
        for name in live.keys() - levels.keys():
            course.note(name, now, None)
        for name, level in levels.items():
            if live.get(name, "none") != level:
                course.note(name, now, level)
        crowd = Counter((coin, order.side, order.level) for coin, order in orders)
        for coin, order in orders:
            if order.cl_ord_id not in live and order.level >= 0:
                course.crowds[order.cl_ord_id] = crowd[coin, order.side, order.level]
        live.clear()
        live.update(levels)
    unknown = {order.cl_ord_id for _, order in orders if order.status.value == "unknown"}
    for name in doubted.keys() - unknown:
        course.doubt_ms = max(course.doubt_ms, (now - doubted.pop(name)) / 1e6)
    for name in unknown:
        course.doubt_ms = max(course.doubt_ms, (now - doubted.setdefault(name, now)) / 1e6)
