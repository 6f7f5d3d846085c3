"""Placement: from what one desk wants to approved cancels, places and questions, in the order to send them.

Invariant: every order gets its ClOrdId here, and none leaves without the gate's approval (I1).
It must not know why quoting is blocked, sessions or other events.
"""

from collections.abc import Sequence

from mmpi.actions import Action, Approved, CancelOrder, NewOrder, QueryOrder
from mmpi.desk import EXACT, Desk
from mmpi.differ import WORKING, diff
from mmpi.instrument import BUY, SELL, Nanos, Side
from mmpi.inventory import CRITICAL
from mmpi.orders import Order, OrdStatus
from mmpi.ports import QuoteLevel
from mmpi.risk import Exposure, RiskGate, at_stake


class Placement:
    """One run's ClOrdIds, and the way of an order through the gate."""

    def __init__(self, cl_ord_prefix: str, gate: RiskGate) -> None:
        self.counter = 0
        """Orders of this run so far; the last part of a ClOrdId."""
        self._prefix = cl_ord_prefix
        self._gate = gate

    def service(self, desk: Desk, others: Sequence[Desk], blocked: str, now: Nanos) -> list[Approved]:
        """Return questions about orders in doubt, then the cancels and places that lead to the wanted ladder."""
        gate, name = self._gate, desk.instrument.name
        actions = [
            gate.pass_through(QueryOrder(name, order.cl_ord_id, order.order_id), now)
            for order in desk.orders.timed_out(now)
        ]
        quote = desk.wanted(now, gate, blocked)
        tolerance = desk.tolerance(now)
        if tolerance is not EXACT and desk.settled.holds(quote, desk.orders.version):
            desk.requoted(now, 0)
            return actions
        plan = diff(desk.orders.live.values(), quote, tolerance)
        desk.settled.note(quote, plan, desk.orders.version)
        for order in plan.cancels:
            cancel = CancelOrder(name, order.cl_ord_id, order.order_id)
            desk.orders.cancel_sent(order, now)
            actions.append(gate.pass_through(cancel, now))
        if plan.places:
            exposure = desk.exposure(sum([at_stake(other.exposure(0), other.instrument) for other in others]))
            for side, target in plan.places:
                approved = self._place(desk, side, target, exposure, now)
                if approved is not None:
                    actions.append(approved)
                    exposure = exposure.with_order(side, target.size)
                elif desk.orders.leaving():
                    # What is being cancelled still counts against the limits; its answer may make room.
                    plan.deferred += 1
                elif desk.answered(side, OrdStatus.REJECTED, now):
                    # A leg of a pair: what becomes of the other is the quoter's to say, and now.
                    return [*actions, *self.service(desk, others, blocked, now)]
        desk.requoted(now, plan.deferred)
        return actions

    def must_pull(self, desk: Desk) -> bool:
        """Return True if an order works that would increase a position which has reached CRITICAL: no time to wait."""
        held, mid2, gate = desk.position.lots + desk.carry, desk.position.mid2, self._gate
        if not held or not mid2 or gate.band_of(held, gate.limit(mid2, desk.instrument)) < CRITICAL:
            return False
        adding = BUY if held > 0 else SELL
        return any(order.side == adding and order.status in WORKING for order in desk.orders.live.values())

    def _place(self, desk: Desk, side: Side, target: QuoteLevel, exposure: Exposure, now: Nanos) -> Approved | None:
        cl_ord_id = f"{self._prefix}{self.counter + 1:016x}"
        action: Action = NewOrder(desk.instrument.name, cl_ord_id, side, target.price, target.size, target.level)
        approved = self._gate.approve(action, desk.instrument, exposure, now)
        if not isinstance(approved, Approved):
            return None
        self.counter += 1
        desk.orders.sent(Order(cl_ord_id, side, target.price, target.size, target.level, now))
        return approved
