"""Engine: events in, approved actions out, for many instruments of one account.

Invariant: `handle` is a pure function of the state and the event: no clock, no randomness, no IO; so a journal replayed
gives the same actions byte for byte (I10). It must not know venues, sockets or the mode it runs in.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mmpi import events
from mmpi.actions import Approved, RequestLatch
from mmpi.desk import Desk
from mmpi.engine_state import EngineParams as EngineParams
from mmpi.engine_state import EngineState
from mmpi.events import Event, ExecReport, ExecType
from mmpi.flatten import FLATTEN_LEVEL, Flattening
from mmpi.instrument import Money, Nanos
from mmpi.orders import UNHEARD
from mmpi.placement import Placement
from mmpi.reconciling import Reconciling
from mmpi.risk import RiskGate
from mmpi.session import Session
from mmpi.standing import Standing
from mmpi.upkeep import Upkeep

_EXPECTED: Final = (ExecType.NEW, ExecType.CANCELED)
"""Answers to what was asked for; they alone are no reason to look at the ladder before the next book."""


class Engine:
    """The account: routing, limits on equity, and the states in which nothing may be placed."""

    def __init__(self, params: EngineParams) -> None:
        self.params = params
        self.desks: dict[str, Desk] = {desk.instrument.name: Desk(desk, params.patience) for desk in params.desks}
        self.gate = RiskGate(params.risk)
        self.session = Session(self.desks, self.gate, params.risk.session_start_s)
        self.standing = Standing()
        self.upkeep = Upkeep(params.upkeep)
        self.reconciling = Reconciling(self.gate, self.standing, self.upkeep.governor, params.patience)
        self.flattening = Flattening(params.risk)
        self.placement = Placement(params.cl_ord_prefix, self.gate, self.upkeep)
        self._others = {
            name: tuple(desk for desk in self.desks.values() if desk.instrument.name != name) for name in self.desks
        }
        self.wake_at: Nanos = 0
        """When the engine wants a Timer event; 0 = never."""
        self.blocked = "connecting"  # why nothing may be placed, "" = quoting
        self.events = self.violations = 0
        """Times the P&L identity (I11) did not hold; anything but 0 is a bug."""
        self._latch_asked = False
        self._untold = False
        """The standing changed, and not every desk has acted on it; never so between two events."""
        self._handlers: dict[type[Event], Callable[..., list[Approved]]] = {
            events.BookSnapshot: self._book,
            events.BookDelta: self._book,
            events.Bbo: self._book,
            events.Trade: self._trade,
            events.Mark: self._mark,
            ExecReport: self._report,
            events.Timer: self._timer,
            events.Funding: self._funding,
            events.Connected: self._on_connected,
            events.Disconnected: self._on_disconnected,
            events.Reconciled: self._on_reconciled,
            events.Halted: self._on_halted,
            events.Resumed: self._on_resumed,
            events.Flatten: self._on_flatten,
            events.Stopping: self._on_stopping,
            events.DeadManReport: self._on_dead_man,
            events.Budget: self._on_budget,
            events.VenueFault: self._on_fault,
            events.ClockTrust: self._on_clock,
            events.StorageTrust: self._on_storage,
        }

    def handle(self, event: Event) -> list[Approved]:
        """Return the approved actions that the event causes, in the order to send them; set `wake_at`."""
        self.events += 1
        now = event.recv_ts
        if 0 < self.upkeep.wake <= now:
            # A dead-man switch that has run out must be known before the event places anything.
            self._look(now)
        actions = self._handlers[type(event)](event)
        if now >= self.session.ends and self.session.clock_trusted:
            self.session.roll(now)
        if self.gate.breach and not self._latch_asked:
            actions = [*actions, *self._breached(now)]
        if self.flattening.active:
            actions = [*actions, *self._sell(now)]
        if self._untold or 0 < self.upkeep.wake <= now:
            actions = [*actions, *self._keep_up(now)]
        self._set_wake()
        return actions

    @property
    def quoting(self) -> bool:
        """Return True if orders may be placed."""
        return not self.blocked

    @property
    def stopped(self) -> bool:
        """Return True once stopping is over: the venue itself said that no order of ours is live."""
        return self.standing.stopped

    @property
    def equity(self) -> Money:
        """Return the session's profit and loss over all instruments."""
        return self.session.equity

    def live_orders(self) -> int:
        """Return how many orders of ours may be live, those of unknown fate included."""
        return sum(len(desk.orders.live) for desk in self.desks.values())

    def checkpoint(self) -> bytes:
        """Return the whole state; an engine built from the same params and restored from it acts the same."""
        state = EngineState(
            desks={name: desk.checkpoint() for name, desk in self.desks.items()},
            gate=self.gate.checkpoint(),
            standing=self.standing.checkpoint(),
            upkeep=self.upkeep.checkpoint(),
            reconciling=self.reconciling.checkpoint(),
            flattening=self.flattening.checkpoint(),
            wake_at=self.wake_at, blocked=self.blocked, latch_asked=self._latch_asked,
            placement=self.placement.counts(), counts=(self.events, self.violations),
            session=self.session.checkpoint(),
        )  # fmt: skip
        # JSON, whose integers have no bound: money beyond 2^63 units is nine million of the quote currency.
        return msgspec.json.encode(state)

    def restore(self, data: bytes) -> None:
        """Take a state that `checkpoint` returned; msgspec's errors if it is none."""
        state = msgspec.json.decode(data, type=EngineState)
        for name, desk in self.desks.items():
            desk.restore(state.desks[name])
        self.gate.restore(state.gate)
        self.standing.restore(state.standing)
        self.upkeep.restore(state.upkeep)
        self.reconciling.restore(state.reconciling)
        self.flattening.restore(state.flattening)
        self.wake_at, self.blocked, self._latch_asked = state.wake_at, state.blocked, state.latch_asked
        self.placement.counter, self.placement.amended = state.placement
        self.events, self.violations = state.counts
        self.session.restore(state.session)

    def _book(self, event: events.BookSnapshot | events.BookDelta | events.Bbo) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None:
            return []
        now = event.recv_ts
        actions: list[Approved] = []
        if desk.apply(event):
            if desk.marked and desk.position.lots:
                self.violations += desk.position.identity_error() != 0
                if self.session.touches_limit(desk, now):
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

    def _trade(self, event: events.Trade) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is not None:
            desk.on_trade(event)
        return []

    def _mark(self, event: events.Mark) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None:
            return []
        desk.on_mark(event)
        if desk.book.mid2:
            return []
        actions = self._without_mid(desk, event.recv_ts)
        desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _report(self, report: ExecReport) -> list[Approved]:
        desk = self.desks.get(report.instrument)
        if desk is None:
            return []
        if report.exec_type is ExecType.TRADE and (report.price <= 0 or report.size <= 0):
            desk.orders.illegal += 1
            return []
        live = len(desk.orders.live)
        order = desk.orders.live.get(report.cl_ord_id)
        unheard = order is not None and order.status in UNHEARD
        desk.dirty = desk.dirty or report.exec_type not in _EXPECTED
        actions: list[Approved] = []
        failed = False
        if desk.orders.apply(report):
            self._fill(desk, report)
            if self.session.touches_limit(desk, report.recv_ts):
                actions = self._breached(report.recv_ts)
        elif order is not None:
            if order.level == FLATTEN_LEVEL:
                self.flattening.heed(desk, order, report)
            else:
                failed = desk.answered(order.side, order.status, report.recv_ts)
            if unheard:
                desk.cautions.heed(order.side, report, order.level)
            if self.upkeep.heed(report):
                self._look(report.recv_ts)
        ended = len(desk.orders.live) < live
        if ended and self.blocked:
            # With the last order gone the dead-man switch is to be cleared.
            self.upkeep.wake = report.recv_ts
        waited = desk.deferred and ended and report.exec_type is not ExecType.REJECTED
        if desk.reason or self.blocked or waited or failed or self.placement.must_pull(desk):
            # Pulling, or a target waited for this answer: do not wait for the next interval. (Not after a reject: where
            # everything is refused, asking again at once would spend the order rate.)
            actions += self._service(desk, report.recv_ts)
        desk.schedule(self.gate.stale_after, self.quoting)
        return [*actions, *self._finish(report.recv_ts)]

    def _fill(self, desk: Desk, report: ExecReport) -> None:
        self.session.fill(desk, report)
        if not self.standing.flatten:
            self.gate.breach = self.gate.breach or self.gate.wires.filled(report.recv_ts)
        self.upkeep.governor.traded_for(desk.instrument.notional(report.price, report.size))
        self.violations += desk.position.identity_error() != 0

    def _funding(self, event: events.Funding) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is None or not desk.fund(event):
            return []
        self.violations += desk.position.identity_error() != 0
        return self._breached(event.recv_ts) if self.session.loses(event.recv_ts) else []

    def _timer(self, event: events.Timer) -> list[Approved]:
        now = event.recv_ts
        actions: list[Approved] = []
        if 0 < self.reconciling.due() <= now:
            actions.append(self.reconciling.ask("no answer", now))
        for desk in self.desks.values():
            if desk.deadline and now >= desk.deadline:
                actions += self._service(desk, now)
                desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _on_connected(self, event: events.Connected) -> list[Approved]:
        self.standing.on_connected()
        self.reconciling.asked_last = False
        return [*self._update(event.recv_ts), self.reconciling.ask("connected", event.recv_ts)]

    def _on_disconnected(self, event: events.Disconnected) -> list[Approved]:
        self.standing.on_disconnected()
        self.upkeep.lost()
        self.gate.wires.lost()
        for desk in self.desks.values():
            desk.orders.lost()
            desk.book.invalidate()
        return self._update(event.recv_ts)

    def _on_reconciled(self, event: events.Reconciled) -> list[Approved]:
        standing, now = self.standing, event.recv_ts
        if not standing.connected:  # It is of a connection that is gone.
            return []
        for name, desk in self.desks.items():
            desk.orders.reconcile([order for order in event.open_orders if order.instrument == name])
        settled = self.reconciling.settle(self.desks.values(), dict(event.positions), self.placement.counter == 0)
        over = [desk for desk in self.desks.values() if desk.position.mid2 and self.session.touches_limit(desk, now)]
        actions = self._breached(now) if over else []
        if not settled:
            return [*actions, *self._update(now), self.reconciling.ask("position", now)]
        standing.stopped = bool(standing.stop) and self.live_orders() == 0
        return [*actions, *self._update(now), *self._finish(now)]

    def _on_halted(self, event: events.Halted) -> list[Approved]:
        self.standing.on_halted(event)
        self.flattening.end()
        return self._update(event.recv_ts)

    def _on_flatten(self, event: events.Flatten) -> list[Approved]:
        self.standing.on_flatten(event)
        self.flattening.begin(event.recv_ts)
        return self._reconcile_first("flatten", event.recv_ts)

    def _sell(self, now: Nanos) -> list[Approved]:
        if not self.gate.reducing:
            self.flattening.wait(self.standing, self.desks.values(), now)
            return []
        if not self.flattening.must_check(self.desks.values(), now):
            return self.placement.sell_all(self.flattening, self.desks.values(), now)
        self.standing.reconciled = self.gate.reducing = False
        return [self.reconciling.ask("flatten", now)]

    def _on_resumed(self, event: events.Resumed) -> list[Approved]:
        self.flattening.end()
        if self.standing.on_resumed():
            self.gate.rearmed(self.equity, {name: desk.exposure(0).position for name, desk in self.desks.items()})
            self._latch_asked = False
        return self._reconcile_first("resumed", event.recv_ts)

    def _reconcile_first(self, reason: str, now: Nanos) -> list[Approved]:
        actions = self._update(now)
        return [*actions, self.reconciling.ask(reason, now)] if self.standing.connected else actions

    def _on_stopping(self, event: events.Stopping) -> list[Approved]:
        self.standing.stop = event.reason or "stopping"
        return [*self._update(event.recv_ts), *self._finish(event.recv_ts)]

    def _on_dead_man(self, event: events.DeadManReport) -> list[Approved]:
        self.upkeep.dead_man.answered(event)
        return self._keep_up(event.recv_ts)

    def _on_budget(self, event: events.Budget) -> list[Approved]:
        self.upkeep.governor.told(event)
        return []

    def _on_fault(self, event: events.VenueFault) -> list[Approved]:
        desk = self.desks.get(event.instrument)
        if desk is not None:
            desk.fault = event.reason
            return self._update(event.recv_ts)
        if event.instrument or self.standing.fault:
            return []
        self.standing.fault = event.reason
        # Our key may be worth nothing any more; the guardian has its own, and only a person can mend this.
        latch = self.gate.pass_through(RequestLatch(f"venue: {event.reason}"), event.recv_ts)
        return [latch, *self._update(event.recv_ts)]

    def _on_clock(self, event: events.ClockTrust) -> list[Approved]:
        self.standing.on_clock(event)
        self.session.clock_trusted = event.trusted
        return self._update(event.recv_ts)

    def _on_storage(self, event: events.StorageTrust) -> list[Approved]:
        self.standing.storage = event.fault
        return self._update(event.recv_ts)

    def _finish(self, now: Nanos) -> list[Approved]:
        """Return the last question of a stop: once we know of no live order, does the venue know one?"""
        standing, asking = self.standing, self.reconciling
        if not standing.stop or standing.stopped or asking.asked_last or self.live_orders() or not standing.connected:
            return []
        asking.asked_last = True
        return [*self._keep_up(now), self.reconciling.ask("stopping", now)]

    def _breached(self, now: Nanos) -> list[Approved]:
        if self._latch_asked or (self.standing.flatten and not self.standing.is_ending):
            # A latch would end what leads out of it; it is asked for when that is over.
            return []
        self._latch_asked = True
        return [self.gate.pass_through(RequestLatch(self.gate.breach), now), *self._update(now)]

    def _update(self, now: Nanos) -> list[Approved]:
        """Return what every desk must do after the account's standing changed."""
        self._look(now)
        self._untold = False
        actions = self._upkeep(now)
        for desk in self.desks.values():
            actions += self._service(desk, now)
            desk.schedule(self.gate.stale_after, self.quoting)
        return actions

    def _look(self, now: Nanos) -> None:
        """Take the account's standing: may anything be placed, and within which limits?"""
        blocked, unarmed = self.standing.why(self.gate.breach, self.upkeep.waits(now)), self.upkeep.unarmed(now)
        self._untold = self._untold or (blocked, unarmed) != (self.blocked, self.gate.unarmed)
        self.blocked, self.gate.open = blocked, not blocked
        self.gate.reducing = self.standing.flatten and not self.standing.holds_up()
        self.gate.set_unarmed(unarmed)

    def _keep_up(self, now: Nanos) -> list[Approved]:
        """Return what is due at the venue beside quoting, and what every desk must do if the standing changed."""
        self._look(now)
        return self._update(now) if self._untold else self._upkeep(now)

    def _upkeep(self, now: Nanos) -> list[Approved]:
        wanted = self.standing.may_trade(self.gate.breach)
        asked = self.upkeep.step(now, self.standing.connected, wanted, self.live_orders() == 0)
        return [self.gate.pass_through(action, now) for action in asked]

    def _service(self, desk: Desk, now: Nanos) -> list[Approved]:
        """Return what the desk must do now; nothing while there is no connection."""
        if not self.standing.connected:
            return []
        return self.placement.service(desk, self._others[desk.instrument.name], self.blocked, now)

    def _set_wake(self) -> None:
        soonest = self.reconciling.due()
        for wake in (self.upkeep.wake, self.flattening.wake):
            if wake and (soonest == 0 or wake < soonest):
                soonest = wake
        for desk in self.desks.values():
            if desk.deadline and self.standing.connected and (soonest == 0 or desk.deadline < soonest):
                soonest = desk.deadline
        self.wake_at = soonest
