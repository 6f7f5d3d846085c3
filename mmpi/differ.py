"""Differ: from the working orders and the wanted ladder to the fewest cancels and places.

Invariant: applied, a plan never leaves two own orders crossed, puts nothing into a slot whose order is UNKNOWN, and
keeps the queue position of every order whose price is unchanged. It must not know risk limits or venues.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from mmpi.instrument import BUY, SELL, Side, Ticks
from mmpi.orders import Order, OrdStatus
from mmpi.ports import Quote, QuoteLevel, Tolerance


class Plan(msgspec.Struct):
    """Cancels go first; `deferred` targets wait for a cancel's answer, an order in doubt, or a crossing to clear."""

    cancels: "list[Order]"
    places: "list[tuple[Side, QuoteLevel]]"
    deferred: int
    exact: bool = True
    """Every order that is kept stands at its target's price; False = some are within the tolerance only."""


class Settled:
    """The last ladder that the orders served as they were: with the same rungs and orders another look would too."""

    def __init__(self) -> None:
        self._quote: Quote | None = None
        self._version = 0
        self._exact = False

    def note(self, quote: Quote, plan: Plan, version: int) -> None:
        """Remember what a look at the orders of `version` (OrderStore.version) found."""
        self._quote = None if plan.cancels or plan.places or plan.deferred else quote
        self._version, self._exact = version, plan.exact

    def holds(self, quote: Quote, version: int) -> bool:
        """Return True if a plan for this quote must be empty."""
        last = self._quote
        return (
            last is not None
            and quote.bids is last.bids
            and quote.asks is last.asks
            and version == self._version
            and (self._exact or quote.fair == last.fair)
        )


PER_RUNG: Final = 2
"""An order on its way out, and its successor."""
WORKING: Final = frozenset({OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED})


def diff(live: Iterable[Order], quote: Quote, tolerance: Tolerance) -> Plan:
    """Return the plan that turns the live orders into the quote's ladder; kept orders take their target's level."""
    buys: list[Order] = []
    sells: list[Order] = []
    for order in live:
        (buys if order.side == BUY else sells).append(order)
    plan = Plan(cancels=[], places=[], deferred=0)
    bids = _unserved(buys, quote.bids, quote.fair, tolerance, plan)
    asks = _unserved(sells, quote.asks, quote.fair, tolerance, plan)
    if bids or asks:
        _place(buys, sells, bids, asks, quote, plan)
    return plan


def _unserved(
    own: list[Order], targets: Sequence[QuoteLevel], fair: float, tolerance: Tolerance, plan: Plan
) -> Sequence[QuoteLevel]:
    """Return one side's targets that no order serves; put its unwanted orders into the plan's cancels."""
    if not own:
        return targets
    if len(own) == len(targets) and _serve(own, targets, fair, tolerance, plan):
        return ()
    at_price: dict[Ticks, Order] = {}
    twins: list[Order] = []
    for order in own:
        if order.status in WORKING:
            # Of two at one price the earlier is ahead in the queue.
            if order.price in at_price:
                twins.append(order)
            else:
                at_price[order.price] = order
    missing: list[QuoteLevel] = []
    for target in targets:
        kept = at_price.get(target.price)
        if kept is not None and twins and not _size_fits(kept, target, tolerance):
            kept = _twin(kept, twins, target, tolerance)
        if kept is not None and _size_fits(kept, target, tolerance):
            kept.level = target.level
            del at_price[target.price]
        else:
            missing.append(target)
    if not at_price:
        plan.cancels += twins
        return missing
    at_level = {order.level: order for order in at_price.values()}
    unserved: list[QuoteLevel] = []
    for target in missing:
        near = at_level.get(target.level)
        if near is not None and _near(near, target, fair, tolerance):
            del at_price[near.price]
            plan.exact = False
        else:
            unserved.append(target)
    plan.cancels += at_price.values()
    plan.cancels += twins
    return unserved


def _serve(
    own: list[Order], targets: Sequence[QuoteLevel], fair: float, tolerance: Tolerance, plan: Plan
) -> bool:
    """Return True if each target's own order works at its price or near enough: most books end here.

    One loop without calls, because the rest of a round costs less than this look at ten orders would with them.
    """
    slots = {order.level: order for order in own}
    ticks, offset, relative = tolerance.ticks, tolerance.offset_fraction, tolerance.price_fraction
    exact = True
    for target in targets:
        order = slots.get(target.level)
        if order is None or order.status not in WORKING:
            return False
        size, placed = target.size, order.size
        if placed != size:
            slack = tolerance.size_fraction * size
            if placed < size - slack or placed - order.filled > size + slack:
                return False
        price = target.price
        off = order.price - price
        if off:
            if off < 0:
                off = -off
            distance = price - fair
            if off > ticks and off > offset * (distance if distance > 0.0 else -distance) and off > relative * price:
                return False
            exact = False
    plan.exact = plan.exact and exact
    return True


def _twin(first: Order, twins: list[Order], target: QuoteLevel, tolerance: Tolerance) -> Order:
    """Return the order at the target's price that fits it, if one does, and leave `first` in its place to be ended."""
    for i, order in enumerate(twins):
        if order.price == target.price and _size_fits(order, target, tolerance):
            twins[i] = first
            return order
    return first


def _size_fits(order: Order, target: QuoteLevel, tolerance: Tolerance) -> bool:
    """Return False for an order too large, or placed too small; one made small by fills keeps its queue position."""
    size = target.size
    if order.size == size:
        return True
    slack = tolerance.size_fraction * size
    return order.size - order.filled <= size + slack and order.size >= size - slack


def _near(order: Order, target: QuoteLevel, fair: float, tolerance: Tolerance) -> bool:
    """Return True if the order is so close to the target that its queue position is worth more."""
    price = target.price
    off = abs(order.price - price)
    return (
        off <= tolerance.ticks
        or off <= tolerance.offset_fraction * abs(price - fair)
        or off <= tolerance.price_fraction * price
    ) and _size_fits(order, target, tolerance)


def _place(
    buys: list[Order],
    sells: list[Order],
    bids: Sequence[QuoteLevel],
    asks: Sequence[QuoteLevel],
    quote: Quote,
    plan: Plan,
) -> None:
    """Add to the plan the places that nothing forbids now; count the others as deferred.

    A side never gets more than two orders for each rung: so many there are after cancels that were refused or got lost,
    and a ladder that moves gives the orders it keeps other slots than those they were put into.
    """
    leaving = {order.cl_ord_id for order in plan.cancels}
    if bids:
        _make_way(sells, bids[0].price, quote.asks, leaving, plan)
    if asks:
        _make_way(buys, asks[0].price, quote.bids, leaving, plan)
    highest_bid: Ticks = max([order.price for order in buys], default=0)
    lowest_ask: Ticks = min([order.price for order in sells], default=0)
    taken, room = _taken(buys, leaving), PER_RUNG * len(quote.bids) - len(buys)
    for target in bids:
        if room <= 0 or (lowest_ask and target.price >= lowest_ask) or target.level in taken:
            plan.deferred += 1
            continue
        plan.places.append((BUY, target))
        highest_bid = max(highest_bid, target.price)
        room -= 1
    taken, room = _taken(sells, leaving), PER_RUNG * len(quote.asks) - len(sells)
    for target in asks:
        if room <= 0 or (highest_bid and target.price <= highest_bid) or target.level in taken:
            plan.deferred += 1
            continue
        plan.places.append((SELL, target))
        room -= 1


def _make_way(
    own: list[Order], price: Ticks, targets: Sequence[QuoteLevel], leaving: set[str], plan: Plan
) -> None:
    """Cancel orders of one side that only tolerance keeps and that stand in the way of the other's target at a price.

    One at the very price of a target stays: there it is the ladder that crosses itself.
    """
    wanted = {target.price for target in targets}
    for order in own:
        crosses = order.price <= price if order.side == SELL else order.price >= price
        if crosses and order.status in WORKING and order.price not in wanted and order.cl_ord_id not in leaving:
            plan.cancels.append(order)
            leaving.add(order.cl_ord_id)


def _taken(own: list[Order], leaving: set[str]) -> set[int]:
    """Return the levels that take no order now: one on its way out may share its slot with its successor, two may not.

    Two are in a slot when a cancel was refused or got lost: the order that was to go lives on beside its successor.
    """
    taken: set[int] = set()
    seen: set[int] = set()
    for order in own:
        if order.cl_ord_id not in leaving or order.level in seen:
            taken.add(order.level)
        seen.add(order.level)
    return taken
