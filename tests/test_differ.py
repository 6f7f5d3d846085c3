"""Differ: from any working orders to any ladder, without a crossing, without losing a place in the queue."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.differ import Plan, Settled, Tolerance, diff
from mmpi.instrument import BUY, SELL, Side
from mmpi.orders import STRAY_LEVEL, Order, OrdStatus
from mmpi.ports import Quote, QuoteLevel

EXACT = Tolerance(ticks=0, offset_fraction=0.0, size_fraction=0.0)
S = OrdStatus
WORKING = (S.NEW, S.PARTIALLY_FILLED)


def order(
    price: int, *, side: Side = BUY, level: int = 0, size: int = 10, filled: int = 0, status: OrdStatus = S.NEW
) -> Order:
    """Return a live order."""
    made = Order(f"{side}@{price}/{level}/{status.value}", side, price, size, level, 1)
    made.filled, made.status = filled, status
    return made


def quote(bids: list[int], asks: list[int] | None = None, *, size: int = 10, fair: float = 100.0) -> Quote:
    """Return a ladder, nearest rungs first."""
    rungs = [tuple(QuoteLevel(i, price, size) for i, price in enumerate(side)) for side in (bids, asks or [])]
    return Quote(fair=fair, bids=rungs[0], asks=rungs[1])


def placed(plan: Plan) -> list[tuple[Side, int, int]]:
    return [(side, target.level, target.price) for side, target in plan.places]


def test_an_empty_book_gets_the_whole_ladder() -> None:
    """Without orders every rung is placed."""
    plan = diff([], quote([99, 98], [101, 102]), EXACT)
    assert placed(plan) == [(BUY, 0, 99), (BUY, 1, 98), (SELL, 0, 101), (SELL, 1, 102)]
    assert (plan.cancels, plan.deferred) == ([], 0)


def test_an_empty_ladder_cancels_everything_that_can_be() -> None:
    """Nothing wanted: what works is cancelled, what is in flight or in doubt is left to its answer."""
    orders = [order(99, status=status) for status in S if status.value in ("new", "partially_filled")]
    waiting = [order(98, status=status) for status in (S.PENDING_NEW, S.PENDING_CANCEL, S.UNKNOWN)]
    plan = diff([*orders, *waiting], quote([]), EXACT)
    assert (plan.cancels, plan.places, plan.deferred) == (orders, [], 0)


def test_an_unchanged_price_is_kept_although_fills_made_it_smaller() -> None:
    """Queue position is worth more than size: a nearly filled order at its price stays."""
    kept = order(99, filled=9, status=S.PARTIALLY_FILLED)
    plan = diff([kept], quote([99]), EXACT)
    assert (plan.cancels, plan.places, plan.deferred) == ([], [], 0)


def test_a_kept_price_takes_the_rung_that_wants_it() -> None:
    """When the ladder moves by one rung, only the ends change and the middle keeps its queue position."""
    kept, last = order(99, level=0), order(98, level=1)
    plan = diff([kept, last], quote([100, 99]), EXACT)
    assert (plan.cancels, placed(plan), kept.level) == ([last], [(BUY, 0, 100)], 1)


@pytest.mark.parametrize(("size", "wanted", "fits"), [(10, 10, True), (10, 9, False), (10, 11, False)])
def test_size_must_fit(size: int, wanted: int, fits: bool) -> None:
    """Placed too large or too small, an order is replaced even at its own price."""
    plan = diff([order(99, size=size)], quote([99], size=wanted), EXACT)
    assert (plan.cancels == []) == fits
    assert (placed(plan) == []) == fits


@pytest.mark.parametrize(("size", "fits"), [(7, False), (8, True), (12, True), (13, False)])
def test_size_tolerance_is_a_part_of_the_target(size: int, fits: bool) -> None:
    """20 percent of a target of 10 lots keeps 8 to 12."""
    plan = diff([order(99, size=size)], quote([99]), Tolerance(ticks=0, offset_fraction=0.0, size_fraction=0.2))
    assert (plan.cancels == []) == fits


@pytest.mark.parametrize(("price", "kept"), [(87, False), (88, True), (90, True), (92, True), (93, False)])
def test_tolerance_in_ticks(price: int, kept: bool) -> None:
    """Two ticks around the target, both ends included."""
    plan = diff([order(price)], quote([90]), Tolerance(ticks=2, offset_fraction=0.0, size_fraction=0.0))
    assert (plan.cancels == []) == kept


@pytest.mark.parametrize(("price", "kept"), [(77, False), (78, True), (82, True), (83, False)])
def test_tolerance_in_percent_of_the_offset(price: int, kept: bool) -> None:
    """Ten percent of a target 20 ticks from fair is two ticks, more than the one that is given in ticks."""
    plan = diff([order(price)], quote([80]), Tolerance(ticks=1, offset_fraction=0.1, size_fraction=0.0))
    assert (plan.cancels == []) == kept


def test_tolerance_is_for_an_orders_own_rung() -> None:
    """A near price serves its own rung only; the exact price serves any."""
    tolerance = Tolerance(ticks=5, offset_fraction=0.0, size_fraction=0.0)
    other = order(97, level=1)
    plan = diff([other], quote([98]), tolerance)
    assert (plan.cancels, placed(plan)) == ([other], [(BUY, 0, 98)])


@pytest.mark.parametrize("status", [S.UNKNOWN, S.PENDING_NEW, S.PENDING_CANCEL])
def test_a_slot_in_flight_or_in_doubt_stays_empty(status: OrdStatus) -> None:
    """I4: nothing goes into the slot of an order whose answer is out; its target is deferred, the others are placed."""
    plan = diff([order(99, level=1, status=status)], quote([100, 98]), EXACT)
    assert (placed(plan), plan.deferred, plan.cancels) == ([(BUY, 0, 100)], 1, [])


def test_a_slot_that_two_orders_leave_stays_empty_until_one_is_gone() -> None:
    """After a lost cancel an order lives on beside its successor: both go, and no third comes before one is gone."""
    old, successor = order(97, level=0), order(98, level=0)
    plan = diff([old, successor], quote([100, 99]), EXACT)
    assert (plan.cancels, placed(plan), plan.deferred) == ([old, successor], [(BUY, 1, 99)], 1)
    plan = diff([successor], quote([100, 99]), EXACT)
    assert (plan.cancels, placed(plan), plan.deferred) == ([successor], [(BUY, 0, 100), (BUY, 1, 99)], 0)


def test_a_side_never_has_more_than_two_orders_for_each_rung() -> None:
    """Two in each slot, and the ladder moves by a rung, which keeps one of them: no fifth for a ladder of two."""
    own = [order(98, level=0), order(99, level=0), order(96, level=1), order(97, level=1)]
    plan = diff(own, quote([100, 98]), EXACT)
    assert (plan.cancels, placed(plan), plan.deferred) == (own[1:], [], 1)
    plan = diff(own[:3], quote([100, 98]), EXACT)
    assert (plan.cancels, placed(plan), plan.deferred) == (own[1:3], [(BUY, 0, 100)], 0)


def test_a_stray_order_is_cancelled_or_put_to_use() -> None:
    """An order of ours without a rung goes, unless it stands exactly where a rung is wanted."""
    stray, useful = order(95, level=STRAY_LEVEL), order(99, level=STRAY_LEVEL)
    plan = diff([stray, useful], quote([99]), EXACT)
    assert (plan.cancels, plan.places, useful.level) == ([stray], [], 0)


@pytest.mark.parametrize("status", [S.NEW, S.PENDING_NEW, S.PENDING_CANCEL, S.UNKNOWN])
@pytest.mark.parametrize("bid", [101, 102])
def test_nothing_is_placed_through_an_own_order(status: OrdStatus, bid: int) -> None:
    """A bid at or above an own ask waits until that ask is gone, even if its cancel is being sent right now."""
    plan = diff([order(101, side=SELL, status=status)], quote([bid], [bid + 1]), EXACT)
    assert all(side == SELL for side, _, _ in placed(plan))
    assert plan.deferred >= 1


@pytest.mark.parametrize("status", [S.NEW, S.PARTIALLY_FILLED])
def test_an_order_that_only_tolerance_keeps_makes_way(status: OrdStatus) -> None:
    """Near enough to its own target but in the way of the other side's: cancelled, or that side waited for ever."""
    near = Tolerance(ticks=2, offset_fraction=0.0, size_fraction=0.0)
    ask, bid = order(110, side=SELL, status=status), order(112, status=status)
    plan = diff([ask], quote([110], [112]), near)
    assert (plan.cancels, placed(plan), plan.deferred) == ([ask], [], 1)
    plan = diff([bid], quote([110], [112]), near)
    assert (plan.cancels, placed(plan), plan.deferred) == ([bid], [], 1)
    plan = diff([order(111, side=SELL, status=status)], quote([110], [112]), near)
    assert (plan.cancels, placed(plan)) == ([], [(BUY, 0, 110)])


def test_an_order_at_its_targets_price_stays_though_the_ladder_crosses_itself() -> None:
    """Otherwise a quoter's mistake would have its orders placed and cancelled by turns."""
    plan = diff([order(100, side=SELL)], quote([100], [100]), Tolerance(2, offset_fraction=0.0, size_fraction=0.0))
    assert (plan.cancels, plan.places, plan.deferred) == ([], [], 1)


def test_a_crossed_ladder_is_never_placed_whole() -> None:
    """A quoter's mistake is not ours: of two rungs that cross only one is placed."""
    plan = diff([], quote([100], [100]), EXACT)
    assert (placed(plan), plan.deferred) == ([(BUY, 0, 100)], 1)


# Any orders, any ladders, answers in any order -------------------------------------------------------------------

prices = st.integers(80, 120)
statuses = st.sampled_from([S.NEW, S.NEW, S.PARTIALLY_FILLED, S.UNKNOWN, S.PENDING_NEW, S.PENDING_CANCEL])
tolerances = st.sampled_from(
    [EXACT, Tolerance(2, offset_fraction=0.0, size_fraction=0.3), Tolerance(0, offset_fraction=0.2, size_fraction=0.0)]
)


@st.composite
def working_sets(draw: st.DrawFn) -> list[Order]:
    """Return orders that do not cross: bids below a price, asks above."""
    split = draw(st.integers(85, 115))
    raw = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(-1, 3), statuses, st.integers(1, 12)), max_size=8))
    orders = []
    for index, (away, level, status, size) in enumerate(raw):
        side: Side = BUY if index % 2 else SELL
        filled = size // 2 if status is S.PARTIALLY_FILLED else 0
        orders.append(order(split - side * away, side=side, level=level, size=size, filled=filled, status=status))
        orders[-1].cl_ord_id = str(index)
    return orders


@st.composite
def ladders(draw: st.DrawFn) -> Quote:
    """Return a ladder around some price; possibly one-sided or empty."""
    fair = draw(prices)
    offsets = [sorted(draw(st.sets(st.integers(1, 8), max_size=4))) for _ in range(2)]
    size = draw(st.integers(1, 12))
    return quote([fair - o for o in offsets[0]], [fair + o for o in offsets[1]], size=size, fair=float(fair))


def crossed(orders: list[Order]) -> bool:
    bids = [each.price for each in orders if each.side == BUY]
    asks = [each.price for each in orders if each.side == SELL]
    return bool(bids and asks) and max(bids) >= min(asks)


def check(plan: Plan, orders: list[Order], wanted: Quote) -> None:
    """One plan, by itself: cancels what may be cancelled, keeps what must be kept, places where it may."""
    assert all(each.status in WORKING for each in plan.cancels)
    staying = [each for each in orders if each not in plan.cancels]
    for side, target in plan.places:
        assert target in (wanted.bids if side == BUY else wanted.asks)
        assert not any(each.side == side and each.level == target.level for each in staying)
        assert sum(each.side == side and each.level == target.level for each in orders) <= 1
    for side, rungs in ((BUY, wanted.bids), (SELL, wanted.asks)):
        own = sum(each.side == side for each in orders)
        assert own + sum(place == side for place, _ in plan.places) <= max(own, 2 * len(rungs))
    for side, rungs in ((BUY, wanted.bids), (SELL, wanted.asks)):
        for target in rungs:
            # An order at the price, of the very size: at least one such is kept.
            same = [o for o in orders if o.status in WORKING and (o.side, o.price) == (side, target.price)]
            exact = [o for o in same if o.size == o.leaves == target.size]
            assert not exact or any(each in staying for each in same)


@settings(max_examples=200)
@given(working_sets(), st.lists(ladders(), min_size=1, max_size=3), tolerances, st.randoms(use_true_random=False))
def test_plans_lead_to_the_ladder_without_ever_crossing(
    orders: list[Order], moving: list[Quote], tolerance: Tolerance, chance: random.Random
) -> None:
    """Applied until nothing is deferred, plans reach the last ladder; no two own orders are ever crossed on the way."""
    for round_ in range(200):
        wanted = moving[min(round_, len(moving) - 1)]
        before = [(each.cl_ord_id, each.price, each.size) for each in orders]
        plan = diff(orders, wanted, tolerance)
        assert [(each.cl_ord_id, each.price, each.size) for each in orders] == before
        check(plan, orders, wanted)
        for each in plan.cancels:
            each.status = S.PENDING_CANCEL
        for side, target in plan.places:
            orders.append(order(target.price, side=side, level=target.level, size=target.size, status=S.PENDING_NEW))
            orders[-1].cl_ord_id = f"{round_}:{side}:{target.level}"
        assert not crossed(orders)
        waiting = [each for each in orders if each.status not in WORKING]
        settled = not (plan.cancels or plan.places or plan.deferred or waiting)
        if settled and wanted is moving[-1]:
            break
        for each in waiting:
            # The venue answers some, in any order, and in the end all; one in doubt turns out to live or to be gone.
            if chance.random() < 0.6 or round_ >= 100:
                gone = each.status is S.PENDING_CANCEL or (each.status is S.UNKNOWN and chance.random() < 0.5)
                each.status = S.CANCELED if gone else S.NEW
        orders = [each for each in orders if each.status is not S.CANCELED]
    else:
        pytest.fail("the ladder was never reached")
    for side, rungs in ((BUY, moving[-1].bids), (SELL, moving[-1].asks)):
        own = {each.level: each for each in orders if each.side == side}
        assert sorted(own) == [target.level for target in rungs]
        assert len(own) == sum(each.side == side for each in orders)
        for target in rungs:
            slack = tolerance.size_fraction * target.size
            assert own[target.level].leaves <= target.size + slack
            assert own[target.level].size >= target.size - slack
            allowed = max(tolerance.ticks, tolerance.offset_fraction * abs(target.price - moving[-1].fair))
            assert abs(own[target.level].price - target.price) <= allowed


@pytest.mark.parametrize(("resting", "fair", "kept"), [(98, 100.0, True), (98, 100.5, True), (97, 100.0, True),
                                                       (97, 99.0, False)])  # fmt: skip
def test_a_settled_ladder_is_looked_at_again_when_it_could_matter(resting: int, fair: float, kept: bool) -> None:
    """Only an order that is near, not at, its price depends on the fair value: the next look may not keep it."""
    settled, own, tolerance = Settled(), [order(resting)], Tolerance(0, 0.5, 0.0)
    wanted = quote([98])
    settled.note(wanted, diff(own, wanted, tolerance), 7)
    moved = msgspec.structs.replace(wanted, fair=fair)
    assert settled.holds(moved, 7) is kept
    assert not settled.holds(moved, 8)
    assert not settled.holds(quote([98], fair=fair), 7)
    assert (diff(own, moved, tolerance).cancels == []) is kept
