"""Engine: events in, approved actions out, for many instruments of one account.

Invariant: `handle` is a pure function of the state and the event: no clock, no randomness, no IO; so a journal replayed
gives the same actions byte for byte (I10). It must not know venues, sockets or the mode it runs in.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mmpi.actions import Approved, RequestLatch, RequestReconcile
from mmpi.desk import Desk, DeskParams, DeskState
from mmpi.events import (
    Bbo,
    BookDelta,
    BookSnapshot,
    Connected,
    Disconnected,
    Event,
    ExecReport,
    ExecType,
    Funding,
    Halted,
    Mark,
    Reconciled,
    Resumed,
    Stopping,
    Timer,
    Trade,
)
from mmpi.instrument import Money, Nanos
from mmpi.placement import Placement
from mmpi.risk import GateState, RiskConfig, RiskGate
from mmpi.structs import Frozen, State

_EXPECTED: Final = (ExecType.NEW, ExecType.CANCELED)
"""Answers to what was asked for; they alone are no reason to look at the ladder before the next book."""


class EngineParams(Frozen, frozen=True):
    """What an engine is built from; the journal's checkpoint carries it."""

    cl_ord_prefix: str
    """"0x" + 4-byte instance id + 4-byte run epoch, in hex (I2)."""
    desks: "tuple[DeskParams, ...]"
    risk: RiskConfig
    patience: Nanos
    """An order unanswered for this long has an unknown fate; longer than any request can stay valid."""


class EngineState(State, frozen=True):
    """An Engine as plain values; what the journal's checkpoint holds."""

    desks: "dict[str, DeskState]"
    gate: GateState
    wake_at: Nanos
    texts: "tuple[str, str, str]"
    flags: "tuple[bool, bool, bool, bool, bool, bool, bool]"
    counts: "tuple[int, int, int, int, int, int, int, Nanos]"


class Engine:
    """The account: routing, limits on equity, and the states in which nothing may be placed."""

    def __init__(self, params: EngineParams) -> None:
        self.params = params
        self.desks: dict[str, Desk] = {
            desk.instrument.name: Desk(desk, params.patience) for desk in params.desks
        }
        self.gate = RiskGate(params.risk)
        self.placement = Placement(params.cl_ord_prefix, self.gate)
        self._others = {
            name: tuple(desk for desk in self.desks.values() if desk.instrument.name != name) for name in self.desks
        }
        self.wake_at: Nanos = 0
        """When the engine wants a Timer event; 0 = never."""
        self.blocked = "connecting"
        """Why nothing may be placed, "" = quoting."""
        self.connected = False
        self.reconciled = False
        self.halt = ""
        self.latched = False
        self.stop = ""
        self.stopped = False
        """Stopping is over: the venue itself said that no order of ours is live."""
        self.events = 0
        self.fills = 0
        self.foreign_fills = 0
        self.drifts = 0
        self.violations = 0
        """Times the P&L identity (I11) did not hold; anything but 0 is a bug."""
        self._drift_rounds = 0
        self._asked: Nanos = 0
        """When the venue was last asked to reconcile."""
        self._latch_asked = False
        self._asked_last = False
        self._rearm = False
        self._handlers: dict[type[Event], Callable[..., list[Approved]]] = {
            BookSnapshot: self._book,
            BookDelta: self._book,
            Bbo: self._book,
            Trade: self._trade,
            Mark: self._mark,
            ExecReport: self._report,
            Timer: self._timer,
            Funding: self._funding,
            Connected: self._on_connected,
            Disconnected: self._on_disconnected,
            Reconciled: self._on_reconciled,
            Halted: self._on_halted,
            Resumed: self._on_resumed,
            Stopping: self._on_stopping,
        }

    def handle(self, event: Event) -> list[Approved]:
        """Return the approved actions that the event causes, in the order to send them; set `wake_at`."""
        self.events += 1
        actions = self._handlers[type(event)](event)
        self._set_wake()
        return actions

    @property
    def quoting(self) -> bool:
        """Return True if orders may be placed."""
        return not self.blocked

    @property
    def equity(self) -> Money:
        """Return the session's profit and loss over all instruments."""
        return sum([desk.position.equity for desk in self.desks.values()])

    def live_orders(self) -> int:
        """Return how many orders of ours may be live, those of unknown fate included."""
        return sum(len(desk.orders.live) for desk in self.desks.values())

    def checkpoint(self) -> bytes:
        """Return the whole state; an engine built from the same params and restored from it acts the same."""
        state = EngineState(
            desks={name: desk.checkpoint() for name, desk in self.desks.items()},
            gate=self.gate.checkpoint(),
            wake_at=self.wake_at,
            texts=(self.blocked, self.halt, self.stop),
            flags=(
                self.connected, self.reconciled, self.latched, self.stopped, self._latch_asked, self._asked_last,
                self._rearm,
            ),
            counts=(
                self.placement.counter, self.events, self.fills, self.foreign_fills, self.drifts, self.violations,
                self._drift_rounds, self._asked,
            ),
        )  # fmt: skip
        # JSON, whose integers have no bound: money beyond 2^63 units is nine million of the quote currency.
        return msgspec.json.encode(state)

    def restore(self, data: bytes) -> None:
        """Take a state that `checkpoint` returned; msgspec's errors if it is none."""
        state = msgspec.json.decode(data, type=EngineState)
        for name, desk in self.desks.items():
            desk.restore(state.desks[name])
        self.gate.restore(state.gate)
        self.wake_at = state.wake_at
        self.blocked, self.halt, self.stop = state.texts
        (
            self.connected, self.reconciled, self.latched, self.stopped, self._latch_asked, self._asked_last,
            self._rearm,
        ) = state.flags  # fmt: skip
        (
            self.placement.counter, self.events, self.fills, self.foreign_fills, self.drifts, self.violations,
            self._drift_rounds, self._asked,
        ) = state.counts  # fmt: skip

    def _book(self, event: BookSnapshot | BookDelta | Bbo) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None:
            return []
        now = event.recv_ts
        actions: list[Approved] = []
        if desk.apply(event):
            if desk.marked and desk.position.lots:
                self.violations += desk.position.identity_error() != 0
                if self._touches_limit(desk):
                    actions = self._breached(now)
            if now >= desk.next_quote or (desk.marked and self.placement.must_pull(desk)):
                actions += self._service(desk, now)
        elif desk.book.mid2 == 0:
            actions = self._without_mid(desk, now)
        desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _without_mid(self, desk: Desk, now: Nanos) -> list[Approved]:
        """Return what to do on a book without a valid mid: pull at once, or go on around the mark."""
        if desk.quoter.uses_mark and desk.mark:
            return self._service(desk, now) if now >= desk.next_quote else []
        return self._service(desk, now) if desk.orders.live else []

    def _trade(self, event: Trade) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is not None:
            desk.on_trade(event)
        return []

    def _mark(self, event: Mark) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None:
            return []
        desk.on_mark(event)
        if desk.book.mid2:
            return []
        actions = self._without_mid(desk, event.recv_ts)
        desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _touches_limit(self, desk: Desk) -> bool:
        """Return True if the session's equity or the desk's position touches a limit that latches."""
        position, held = desk.position, desk.position.lots + desk.carry
        return bool(self.gate.equity(self.equity) or self.gate.inventory(held, position.mid2, desk.instrument))

    def _report(self, report: ExecReport) -> list[Approved]:
        desk = self.desks.get(report.instrument)
        if desk is None:
            return []
        if report.exec_type is ExecType.TRADE and (report.price <= 0 or report.size <= 0):
            desk.orders.illegal += 1
            return []
        live = len(desk.orders.live)
        order = desk.orders.live.get(report.cl_ord_id)
        desk.dirty = desk.dirty or report.exec_type not in _EXPECTED
        actions: list[Approved] = []
        failed = False
        if desk.orders.apply(report):
            self._fill(desk, report)
            if self._touches_limit(desk):
                actions = self._breached(report.recv_ts)
        elif order is not None:
            failed = desk.answered(order.side, order.status, report.recv_ts)
        ended = len(desk.orders.live) < live
        waited = desk.deferred and ended and report.exec_type is not ExecType.REJECTED
        if desk.reason or self.blocked or waited or failed or self.placement.must_pull(desk):
            # Pulling, or a target waited for this answer: do not wait for the next interval. (A reject is no answer to
            # wait for: where everything is refused, asking again at once would spend the order rate.)
            actions += self._service(desk, report.recv_ts)
        desk.schedule(self.gate.stale_after, self.quoting)
        return [*actions, *self._finish(report.recv_ts)]

    def _fill(self, desk: Desk, report: ExecReport) -> None:
        desk.position.fill(report.side, report.price, report.size, report.fee)
        self.fills += 1
        if not report.cl_ord_id:
            self.foreign_fills += 1
        self.violations += desk.position.identity_error() != 0

    def _funding(self, event: Funding) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None or not desk.fund(event):
            return []
        self.violations += desk.position.identity_error() != 0
        return self._breached(event.recv_ts) if self.gate.equity(self.equity) else []

    def _timer(self, event: Timer) -> list[Approved]:
        now = event.recv_ts
        actions: list[Approved] = []
        if self._unanswered and now >= self._asked + self.params.patience:
            actions.append(self._ask_reconcile("no answer", now))
        for desk in self.desks.values():
            if desk.deadline and now >= desk.deadline:
                actions += self._service(desk, now)
                desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _on_connected(self, event: Connected) -> list[Approved]:
        self.connected, self.reconciled, self._asked_last = True, False, False
        return [*self._update(event.recv_ts), self._ask_reconcile("connected", event.recv_ts)]

    def _on_disconnected(self, event: Disconnected) -> list[Approved]:
        self.connected = self.reconciled = False
        for desk in self.desks.values():
            desk.orders.lost()
            desk.book.invalidate()
        return self._update(event.recv_ts)

    def _on_reconciled(self, event: Reconciled) -> list[Approved]:
        if not self.connected:  # It is of a connection that is gone.
            return []
        positions, drifted = dict(event.positions), False
        for name, desk in self.desks.items():
            desk.orders.reconcile([order for order in event.open_orders if order.instrument == name])
            drift = positions.get(name, 0) - desk.position.lots - desk.carry
            if drift and not self._adopt(desk, drift):
                drifted = True
            desk.drift = drift
            desk.dirty = True
        over = [desk for desk in self.desks.values() if desk.position.mid2 and self._touches_limit(desk)]
        actions = self._breached(event.recv_ts) if over else []
        if drifted:
            # Fills still on their way look like a drift; only one that a second answer repeats is taken over.
            self._drift_rounds += 1
            self.reconciled = False
            return [*actions, *self._update(event.recv_ts), self._ask_reconcile("position", event.recv_ts)]
        self._drift_rounds = 0
        self.reconciled = True
        self._asked_last = False
        self.stopped = bool(self.stop) and self.live_orders() == 0
        return [*actions, *self._update(event.recv_ts), *self._finish(event.recv_ts)]

    def _adopt(self, desk: Desk, drift: int) -> bool:
        """Return True if the venue's position was taken over: the session's first, or a difference that repeats."""
        # Before any order of this run no fill of ours can be on its way.
        first = self.placement.counter == 0 and desk.position.lots == 0 and desk.carry == 0
        if not first and (self._drift_rounds == 0 or desk.drift != drift):
            return False
        if first:
            # The box was started with it, so it does not latch by itself.
            self.gate.accepted[desk.instrument.name] = abs(drift)
        else:
            self.drifts += 1
        if desk.position.mid2:
            desk.position.carry(drift)
        else:
            desk.carry += drift
        return True

    def _on_halted(self, event: Halted) -> list[Approved]:
        self.halt, self.latched = event.reason or "halted", event.latched
        self._rearm = self._rearm or event.latched
        self.reconciled = False
        return self._update(event.recv_ts)

    def _on_resumed(self, event: Resumed) -> list[Approved]:
        if self._rearm:
            # Only a person's arming leads here from a latch, whatever pauses came between.
            self.gate.rearmed(self.equity, {name: desk.exposure(0).position for name, desk in self.desks.items()})
            self._latch_asked = self._rearm = False
        self.halt, self.latched = "", False
        self.reconciled = False
        actions = self._update(event.recv_ts)
        if self.connected:
            actions.append(self._ask_reconcile("resumed", event.recv_ts))
        return actions

    def _on_stopping(self, event: Stopping) -> list[Approved]:
        self.stop = event.reason or "stopping"
        return [*self._update(event.recv_ts), *self._finish(event.recv_ts)]

    def _finish(self, now: Nanos) -> list[Approved]:
        """Return the last question of a stop: once we know of no live order, does the venue know one?"""
        if not self.stop or self.stopped or self._asked_last or self.live_orders() or not self.connected:
            return []
        self._asked_last = True
        return [self._ask_reconcile("stopping", now)]

    def _breached(self, now: Nanos) -> list[Approved]:
        if self._latch_asked:
            return []
        self._latch_asked = True
        return [self.gate.pass_through(RequestLatch(self.gate.breach), now), *self._update(now)]

    def _update(self, now: Nanos) -> list[Approved]:
        """Return what every desk must do after the session's state changed."""
        self.blocked = self._why_blocked()
        self.gate.open = not self.blocked
        actions: list[Approved] = []
        for desk in self.desks.values():
            actions += self._service(desk, now)
            desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _why_blocked(self) -> str:
        if self.stop:
            return "stopping"
        if self.halt:
            return f"{'latched' if self.latched else 'paused'}: {self.halt}"
        if self.gate.breach:
            return f"limit: {self.gate.breach}"
        if not self.connected:
            return "connecting"
        return "" if self.reconciled else "reconciling"

    def _service(self, desk: Desk, now: Nanos) -> list[Approved]:
        """Return what the desk must do now; nothing while there is no connection."""
        if not self.connected:
            return []
        return self.placement.service(desk, self._others[desk.instrument.name], self.blocked, now)

    def _ask_reconcile(self, reason: str, now: Nanos) -> Approved:
        self._asked = now
        return self.gate.pass_through(RequestReconcile(reason), now)

    @property
    def _unanswered(self) -> bool:
        """Return True while the venue owes the answer to a reconciliation."""
        owed = self._asked_last or not (self.reconciled or self.halt)
        return owed and self.connected and not self.stopped

    def _set_wake(self) -> None:
        soonest = self._asked + self.params.patience if self._unanswered else 0
        for desk in self.desks.values():
            if desk.deadline and self.connected and (soonest == 0 or desk.deadline < soonest):
                soonest = desk.deadline
        self.wake_at = soonest
