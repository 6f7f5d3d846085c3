"""Placement: from what one desk wants to approved cancels, amends, places and questions, in the order to send them.

Invariant: every order gets its ClOrdId here, and none leaves without the gate's approval (I1).
It must not know why quoting is blocked, sessions or other events.
"""

from collections.abc import Iterable, Sequence

from mmpi.actions import AmendOrder, Approved, CancelOrder, NewOrder, QueryOrder, TimeInForce
from mmpi.desk import EXACT, Desk
from mmpi.differ import WORKING, Plan, diff
from mmpi.flatten import FLATTEN_LEVEL, Flattening, Sale
from mmpi.governor import LIGHT
from mmpi.instrument import BUY, SELL, Nanos, Side
from mmpi.inventory import CRITICAL
from mmpi.orders import Order, OrdStatus
from mmpi.ports import QuoteLevel
from mmpi.risk import Entry, Exposure, Refusal, RiskGate, at_stake, reduces
from mmpi.upkeep import Upkeep


class Placement:
    """One run's ClOrdIds, and the way of an order through the gate."""

    def __init__(self, cl_ord_prefix: str, gate: RiskGate, upkeep: Upkeep) -> None:
        self.counter = 0
        """Orders of this run so far; the last part of a ClOrdId."""
        self.amended = 0
        """Of these, how many replaced another in one step."""
        self._prefix = cl_ord_prefix
        self._gate = gate
        self._amends = upkeep.amends
        self._governor = upkeep.governor

    def counts(self) -> "tuple[int, int]":
        """Return `counter` and `amended`."""
        return self.counter, self.amended

    def service(self, desk: Desk, others: Sequence[Desk], blocked: str, now: Nanos) -> list[Approved]:
        """Return questions about orders in doubt, then the cancels and places that lead to the wanted ladder."""
        gate, name, thinning = self._gate, desk.instrument.name, self._governor.step
        actions = [
            gate.pass_through(QueryOrder(name, order.cl_ord_id, order.order_id), now)
            for order in desk.orders.timed_out(now)
        ]
        if actions:
            self._governor.spend(0, LIGHT * len(actions), now)
            for doubtful in actions:
                gate.breach = gate.breach or gate.wires.doubted(_asked(doubtful), now)
        quote = desk.wanted(now, gate, blocked)
        tolerance = desk.tolerance(now, thinning)
        if not blocked and tolerance is not EXACT and desk.settled.holds(quote, desk.orders.version):
            desk.requoted(now, 0, thinning)
            return actions
        plan = diff(_ladder(desk, now) if blocked else desk.orders.live.values(), quote, tolerance)
        desk.settled.note(quote, plan, desk.orders.version)
        entries: list[Approved] = []
        amended = self.amended
        failed = bool(plan.places) and self._enter(desk, others, plan, entries, now)
        for order in plan.cancels:
            cancel = CancelOrder(name, order.cl_ord_id, order.order_id)
            desk.orders.cancel_sent(order, now)
            actions.append(gate.pass_through(cancel, now))
        amends = self.amended - amended
        self._governor.sent(len(entries) - amends, amends, len(plan.cancels), now)
        actions += entries
        if failed:
            # A leg of a pair: what becomes of the other is the quoter's to say, and now.
            return [*actions, *self.service(desk, others, blocked, now)]
        desk.requoted(now, plan.deferred, thinning)
        return actions

    def sell_all(self, flattening: Flattening, desks: Iterable[Desk], now: Nanos) -> list[Approved]:
        """Return what sells what is held and may be placed now."""
        sold: list[Approved] = []
        desks = list(desks)
        for desk in desks:
            sale = flattening.sale(desk, self._gate.stale_after, now)
            if sale is None:
                continue
            order = self._sell(desk, sale, now)
            if isinstance(order, Approved):
                sold.append(order)
                flattening.sent(desk, now)
                desk.schedule(self._gate.stale_after, False)
            else:
                flattening.refused(desk, f"refused here: {order.value}")
        flattening.look(desks, now)
        return sold

    def _sell(self, desk: Desk, sale: Sale, now: Nanos) -> Approved | Refusal:
        """Return the order of a sale, approved, or why the gate did not let it pass."""
        cl_ord_id = f"{self._prefix}{self.counter + 1:016x}"
        order = NewOrder(
            desk.instrument.name, cl_ord_id, sale.side, sale.price, sale.size, FLATTEN_LEVEL, TimeInForce.IOC,
            reduce_only=True,
        )  # fmt: skip
        if spent := self._governor.may_place(now, True):
            return self._spent(spent)
        approved = self._gate.approve(order, desk.instrument, desk.exposure(0), now)
        if isinstance(approved, Approved):
            self.counter += 1
            self._governor.sent(1, 0, 0, now)
            desk.orders.sent(Order(cl_ord_id, sale.side, sale.price, sale.size, FLATTEN_LEVEL, now))
        return approved

    def _spent(self, what: str) -> Refusal:
        """Return the refusal, counted, of an order for which no requests are left: what the governor said is spent."""
        refusal = Refusal.REQUEST_BUDGET if what == "budget" else Refusal.REQUEST_WEIGHT
        self._gate.count(refusal)
        return refusal

    def must_pull(self, desk: Desk) -> bool:
        """Return True if an order works that would increase a position which has reached CRITICAL: no time to wait."""
        held, mid2, gate = desk.position.lots + desk.carry, desk.position.mid2, self._gate
        if not held or not mid2 or gate.band_of(held, gate.limit(mid2, desk.instrument)) < CRITICAL:
            return False
        adding = BUY if held > 0 else SELL
        return any(order.side == adding and order.status in WORKING for order in desk.orders.live.values())

    def _enter(
        self, desk: Desk, others: Sequence[Desk], plan: Plan, entries: list[Approved], now: Nanos
    ) -> bool:
        """Return True if the quoter must be asked again at once; add what may be placed now to `entries`.

        An order that is replaced in one step is taken out of the plan's cancels.
        """
        exposure = desk.exposure(sum([at_stake(other.exposure(0), other.instrument) for other in others]))
        leaving = bool(plan.cancels) or desk.orders.leaving()
        spent = self._governor.may_place(now, False)
        for side, target in plan.places:
            if desk.cautions.is_pausing(side, now):
                plan.deferred += 1
                continue
            replaced = self._replaced(plan, side)
            approved = self._approve(desk, side, target, exposure, replaced, spent, now)
            if approved is not None:
                entries.append(approved)
                exposure = exposure.with_order(side, target.size)
                if replaced is not None:
                    plan.cancels.remove(replaced)
                    desk.orders.cancel_sent(replaced, now, replaced=True)
            elif leaving:
                # What is being cancelled still counts against the limits; its answer may make room.
                plan.deferred += 1
            elif desk.answered(side, OrdStatus.REJECTED, now):
                return True
        return False

    def _replaced(self, plan: Plan, side: Side) -> Order | None:
        """Return the order that a new one of this side may replace in one step."""
        if not self._amends:
            return None
        return next((order for order in plan.cancels if order.side == side), None)

    def _approve(
        self,
        desk: Desk,
        side: Side,
        target: QuoteLevel,
        exposure: Exposure,
        replaced: Order | None,
        spent: str,
        now: Nanos,
    ) -> Approved | None:
        cl_ord_id, name = f"{self._prefix}{self.counter + 1:016x}", desk.instrument.name
        action: Entry
        if replaced is None:
            action = NewOrder(name, cl_ord_id, side, target.price, target.size, target.level)
        else:
            action = AmendOrder(
                name, replaced.cl_ord_id, replaced.order_id, cl_ord_id, side, target.price, target.size, target.level
            )
        if spent and (spent := self._governor.may_place(now, reduces(action, exposure))):
            self._spent(spent)
            return None
        approved = self._gate.approve(action, desk.instrument, exposure, now)
        if not isinstance(approved, Approved):
            return None
        self.counter += 1
        self.amended += replaced is not None
        desk.orders.sent(Order(cl_ord_id, side, target.price, target.size, target.level, now))
        return approved


def _ladder(desk: Desk, now: Nanos) -> list[Order]:
    """Return the live orders to be cancelled when nothing is quoted: one that sells what is held ends by itself."""
    live, late = desk.orders.live.values(), now - desk.orders.patience
    return [order for order in live if order.level != FLATTEN_LEVEL or order.sent <= late]


def _asked(question: Approved) -> str:
    action = question.action
    return action.cl_ord_id if isinstance(action, QueryOrder) else ""
