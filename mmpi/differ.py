"""Differ: from the working orders and the wanted ladder to the fewest cancels and places.

Invariant: applied, a plan never leaves two own orders crossed, puts nothing into a slot whose order is UNKNOWN, and
keeps the queue position of every order whose price is unchanged. It must not know risk limits or venues.
"""

from collections.abc import Iterable, Sequence

import msgspec

from mmpi.instrument import BUY, SELL, Side
from mmpi.orders import Order, OrdStatus
from mmpi.ports import Quote, QuoteLevel, Tolerance


class Plan(msgspec.Struct):
    """Cancels go first; `deferred` targets wait for a cancel's answer, an order in doubt, or a crossing to clear."""

    cancels: "list[Order]"
    places: "list[tuple[Side, QuoteLevel]]"
    deferred: int


_WORKING = frozenset({OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED})


def diff(live: Iterable[Order], quote: Quote, tolerance: Tolerance) -> Plan:
    """Return the plan that turns the live orders into the quote's ladder; kept orders take their target's level."""
    orders = list(live)
    plan = Plan(cancels=[], places=[], deferred=0)
    wanted: list[tuple[Side, QuoteLevel]] = []
    for side, targets in ((BUY, quote.bids), (SELL, quote.asks)):
        own = [order for order in orders if order.side == side]
        if own:
            wanted += [(side, target) for target in _match(own, targets, quote.fair, tolerance, plan)]
        else:
            wanted += [(side, target) for target in targets]
    if wanted:
        _place(orders, wanted, plan)
    return plan


def _match(
    own: list[Order], targets: Sequence[QuoteLevel], fair: float, tolerance: Tolerance, plan: Plan
) -> list[QuoteLevel]:
    """Return one side's targets that no order serves; put its unwanted orders into the plan's cancels."""
    working = [order for order in own if order.status in _WORKING]
    missing: list[QuoteLevel] = []
    for target in targets:
        kept = _same_price(working, target, tolerance)
        if kept is None:
            missing.append(target)
        else:
            working.remove(kept)
            kept.level = target.level
    unserved: list[QuoteLevel] = []
    for target in missing:
        near = next((o for o in working if o.level == target.level and _near(o, target, fair, tolerance)), None)
        if near is None:
            unserved.append(target)
        else:
            working.remove(near)
    plan.cancels += working
    return unserved


def _same_price(working: list[Order], target: QuoteLevel, tolerance: Tolerance) -> Order | None:
    for order in working:
        if order.price == target.price and _size_fits(order, target, tolerance):
            return order
    return None


def _size_fits(order: Order, target: QuoteLevel, tolerance: Tolerance) -> bool:
    """Return False for an order too large, or placed too small; one made small by fills keeps its queue position."""
    slack = tolerance.size_fraction * target.size
    return order.leaves <= target.size + slack and order.size >= target.size - slack


def _near(order: Order, target: QuoteLevel, fair: float, tolerance: Tolerance) -> bool:
    allowed = max(
        float(tolerance.ticks),
        tolerance.offset_fraction * abs(target.price - fair),
        tolerance.price_fraction * target.price,
    )
    return abs(order.price - target.price) <= allowed and _size_fits(order, target, tolerance)


def _place(orders: list[Order], wanted: list[tuple[Side, QuoteLevel]], plan: Plan) -> None:
    """Add to the plan the places that nothing forbids now; count the others as deferred."""
    leaving = {order.cl_ord_id for order in plan.cancels}
    highest_bid = max((o.price for o in orders if o.side == BUY), default=None)
    lowest_ask = min((o.price for o in orders if o.side == SELL), default=None)
    blocked: set[tuple[Side, int]] = set()
    for order in orders:
        # One order on its way out may share a slot with its successor; a second must wait for the first to be gone.
        if order.cl_ord_id not in leaving:
            blocked.add((order.side, order.level))
    for side, target in wanted:
        crosses = (
            lowest_ask is not None and target.price >= lowest_ask
            if side == BUY
            else highest_bid is not None and target.price <= highest_bid
        )
        if crosses or (side, target.level) in blocked:
            plan.deferred += 1
            continue
        plan.places.append((side, target))
        if side == BUY:
            highest_bid = target.price if highest_bid is None else max(highest_bid, target.price)
        else:
            lowest_ask = target.price if lowest_ask is None else min(lowest_ask, target.price)
