"""Session: what the account has won and lost since the session began, and the limits on that.

A session ends at a time of the day (`risk.session_start`), never with a process: its state is kept and taken up again.
When one ends its positions go on at their mark, as if the next one had bought them there.

Invariant: a restart changes no loss that a limit is compared with, whatever instruments it leaves out. It must not know
files, orders' ways or why quoting stops.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from mmpi.desk import Desk
from mmpi.events import ExecReport, Funding
from mmpi.instrument import SECOND, Instrument, Lots, Money, Nanos
from mmpi.orders import MAX_EXEC_IDS, STRAY_LEVEL, Order, OrderRow, OrdStatus, order_from_row
from mmpi.risk import RiskGate
from mmpi.structs import Frozen, State
from mmpi.tripwires import DAY, MINUTE, TripwireState

NEVER: Final = -1
"""Of `session_start_s`: a session that only a person ends."""
FOR_EVER: Final[Nanos] = 2**62
MAX_FUNDING_IDS: Final = 16
"""Payments that are told again after a restart are those of the last hours."""


class InstrumentState(Frozen, frozen=True):
    """One instrument's part of a session; the grid tells whether its integers still mean the same."""

    tick_size: str
    lot_size: str
    unit: Money
    position: "tuple[int, ...]"
    placed: int = 0
    ended: "dict[str, int]" = {}
    funding_ids: "tuple[str, ...]" = ()

    @property
    def equity(self) -> Money:
        """Return what it had won or lost at its last mark."""
        return self.equity_with(())

    def equity_with(self, later: "Iterable[ExecReport | Funding]") -> Money:
        """Return the same, with what came after."""
        lots, mid2, cash = self.position[:3]
        for event in later:
            if isinstance(event, Funding):
                cash += event.amount
            else:
                lots += event.side * event.size
                cash -= event.side * event.size * event.price * self.unit + event.fee
        return cash + lots * mid2 * (self.unit // 2)


class SessionState(Frozen, frozen=True):
    """A session as plain values, by name: it is kept for years."""

    ts: Nanos
    """Of the event after which it was taken."""
    began: Nanos
    ends: Nanos
    instruments: "dict[str, InstrumentState]"
    base: Money
    peak: Money
    breach: str
    accepted: "dict[str, Lots]"
    wires: TripwireState
    """Its times of fills are ages here: of those of the last minute, before `ts`."""
    fills: int = 0
    foreign_fills: int = 0
    violations: int = 0
    requests: int = 0
    quotes: int = 0


class Counted(Frozen, frozen=True):
    """What of a venue's past is counted, by its clock; -1 = from the first connection."""

    fills_from_ms: int = -1
    """Fills from then on are ours to count."""
    funded_ms: int = -1
    """Funding is ours to count after the payment of then."""


NOTHING: Final = Counted()


class Resumption(Frozen, frozen=True):
    """What a new run takes up."""

    state: SessionState
    later: "tuple[ExecReport | Funding, ...]" = ()
    """Fills that count, and funding, after the state, in their order."""
    exec_ids: "tuple[str, ...]" = ()
    """Fills that are counted already."""
    doubtful: "dict[str, tuple[OrderRow, ...]]" = {}
    """Orders by instrument that may still be live."""
    rearmed: bool = False
    """A person armed since the state was taken."""


class SessionPart(State, frozen=True):
    """A Session's own part of a checkpoint."""

    began: Nanos
    ends: Nanos
    fills: int
    foreign_fills: int
    clock_trusted: bool
    trusted_ts: Nanos


class Session:
    """The account's session."""

    def __init__(self, desks: dict[str, Desk], gate: RiskGate, start_s: int) -> None:
        """`start_s`: when it begins, in seconds after midnight UTC; NEVER = the first one goes on for ever."""
        self.began: Nanos = 0
        """0 = no event yet."""
        self.ends: Nanos = 0
        self.fills = 0
        self.foreign_fills = 0
        self.clock_trusted = True
        """Otherwise neither a session nor a day ends."""
        self._trusted_ts: Nanos = 0
        """The last time that was trusted."""
        self._desks: dict[str, Desk] = desks
        self._gate: RiskGate = gate
        self._start: Nanos = start_s * SECOND

    @property
    def equity(self) -> Money:
        """Return profit and loss over all instruments."""
        return sum([desk.position.equity for desk in self._desks.values()])

    def touches_limit(self, desk: Desk, now: Nanos) -> bool:
        """Return True if equity or the desk's position touches a limit that latches."""
        position, held = desk.position, desk.position.lots + desk.carry
        return bool(self.loses(now) or self._gate.inventory(held, position.mid2, desk.instrument))

    def loses(self, now: Nanos) -> str:
        """Return the limit that equity touches, "" = none."""
        if self.clock_trusted or not self._trusted_ts:
            self._trusted_ts = now
        return self._gate.equity(self.equity, self._trusted_ts)

    def fill(self, desk: Desk, report: ExecReport) -> None:
        """Book a fill."""
        desk.position.fill(report.side, report.price, report.size, report.fee)
        self.fills += 1
        self.foreign_fills += not report.cl_ord_id

    def roll(self, now: Nanos) -> None:
        """Begin the session that `now` is in; the first one takes over what there is."""
        if self.began:
            # A breach stays a person's to lift.
            self._gate.base = self._gate.peak = 0
            self._gate.wires.shift(self.equity)
            for desk in self._desks.values():
                desk.position.begin_anew()
                desk.orders.placed = 0
                desk.orders.ended.clear()
            self.fills = self.foreign_fills = 0
        self.began, self.ends = now, self._end_of(now)

    def state(self, now: Nanos, violations: int, requests: int, quotes: int) -> SessionState:
        """Return the state to keep."""
        gate = self._gate
        wires = gate.wires.checkpoint()
        return SessionState(
            now, self.began, self.ends, {name: _kept(desk) for name, desk in self._desks.items()},
            gate.base, gate.peak, gate.breach, dict(gate.accepted),
            # Of the fills their ages, and no more than can still matter.
            TripwireState(
                wires.day, wires.base, wires.last, tuple([now - at for at in wires.fills if now - at < MINUTE]), {}
            ),
            self.fills, self.foreign_fills, violations, requests, quotes,
        )  # fmt: skip

    def resume(self, kept: Resumption) -> None:
        """Take up a session; before the first event. What is no longer quoted leaves its loss with the limits."""
        state, gate = kept.state, self._gate
        gone: Money = 0
        left: list[str] = []
        for name, part in state.instruments.items():
            desk = self._desks.get(name)
            if desk is None or not _is_alike(desk.instrument, part):
                gone += part.equity_with([event for event in kept.later if event.instrument == name])
                left.append(name)
                continue
            desk.position.restore(part.position)
            desk.orders.placed, desk.orders.ended = part.placed, dict(part.ended)
            desk.funding_ids = dict.fromkeys(part.funding_ids)
        # By the time of day that is set now.
        self.began, self.ends = state.began, self._end_of(state.began) if state.began else 0
        self._trusted_ts = state.ts
        self.fills, self.foreign_fills = state.fills, state.foreign_fills
        gate.base, gate.peak, gate.breach = state.base - gone, state.peak - gone, state.breach
        gate.accepted = dict(state.accepted)
        ages = state.wires.fills
        gate.wires.restore(msgspec.structs.replace(state.wires, fills=tuple([state.ts - age for age in ages])))
        gate.wires.shift(gone)
        for name, rows in kept.doubtful.items():
            if name in self._desks:
                orders = self._desks[name].orders
                for order in map(_doubted, rows):
                    orders.live[order.cl_ord_id] = orders.doubtful[order.cl_ord_id] = order
        for desk in self._desks.values():
            desk.orders.exec_ids = dict.fromkeys(kept.exec_ids[-MAX_EXEC_IDS:])
        self._take([event for event in kept.later if event.instrument not in left])
        if kept.rearmed:
            positions = {name: desk.position.lots for name, desk in self._desks.items()}
            gate.rearmed(self.equity, positions)

    def checkpoint(self) -> SessionPart:
        """Return the state as plain values."""
        return SessionPart(
            self.began, self.ends, self.fills, self.foreign_fills, self.clock_trusted, self._trusted_ts
        )

    def restore(self, state: SessionPart) -> None:
        """Take the state that `checkpoint` returned."""
        self.began, self.ends = state.began, state.ends
        self.fills, self.foreign_fills = state.fills, state.foreign_fills
        self.clock_trusted, self._trusted_ts = state.clock_trusted, state.trusted_ts

    def _end_of(self, began: Nanos) -> Nanos:
        start = self._start
        return FOR_EVER if start < 0 else ((began - start) // DAY + 1) * DAY + start

    def _take(self, later: Iterable[ExecReport | Funding]) -> None:
        """Count what came after the state was taken."""
        for event in later:
            desk = self._desks.get(event.instrument)
            if desk is None:
                continue
            if isinstance(event, Funding):
                desk.fund(event)
            else:
                desk.orders.exec_ids[event.exec_id] = None
                self.fill(desk, event)


def _kept(desk: Desk) -> InstrumentState:
    grid, orders = desk.instrument, desk.orders
    ids = list(desk.funding_ids)[-MAX_FUNDING_IDS:]
    return InstrumentState(
        grid.tick_size, grid.lot_size, grid.unit, desk.position.checkpoint(), orders.placed, dict(orders.ended),
        tuple(ids),
    )  # fmt: skip


def _is_alike(instrument: Instrument, part: InstrumentState) -> bool:
    return (instrument.tick_size, instrument.lot_size, instrument.unit) == (part.tick_size, part.lot_size, part.unit)


def _doubted(row: OrderRow) -> Order:
    """Return an order of another run as one of unknown fate, which no slot of the ladder wants."""
    order = order_from_row(row)
    # Sent long ago: whatever its clock was, nothing of another run is under way any more by the time of an answer.
    order.status, order.level, order.queried, order.sent = OrdStatus.UNKNOWN, STRAY_LEVEL, 0, 0
    return order
