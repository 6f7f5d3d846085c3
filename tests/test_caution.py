"""Caution: pauses that double up to a cap, safety ticks that widen and decay, and rungs that stay a ladder."""

import msgspec
import pytest
from engine_builders import LADDER, VENUE, A, Bench, amends, cancels, entries
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.caution import FREE, PAUSE_FIRST, PAUSE_LAST, STEPS_MOST, WINS, Caution, Cautions, CautionState
from mmpi.events import POST_ONLY, ExecReport, ExecType
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Side, make_instrument
from mmpi.ports import Quote, QuoteLevel
from mmpi.upkeep import UpkeepConfig

NOW = 1_700_000_000 * SECOND
FINE = make_instrument("F", "0.0001", "1", significant_figures=5)
"""Increments of 1 tick below 10 (100,000 ticks), 10 below 100, and so on up to whole units."""
WHY = f"{POST_ONLY}: it would have matched"


def word(what: ExecType, reason: str = "", now: int = NOW) -> ExecReport:
    return ExecReport(now, "A", 0, "1", "", what, reason=reason)


def refuse(caution: Caution, count: int = 1) -> int:
    """Refuse so many orders of a side in a row, each sent when the pause before it was over; return the last time."""
    now = NOW
    for _ in range(count):
        now = max(now, caution.until)
        caution.refused(now)
    return now


def refused_times(count: int, side: Side = BUY) -> tuple[Cautions, int]:
    """Return cautions after so many post-only refusals on a side, and the time of the last."""
    made, alike = Cautions(), Caution()
    for _ in range(count):
        now = refuse(alike)
        made.heed(side, word(ExecType.REJECTED, WHY, now))
    return made, now


# One side ---------------------------------------------------------------------------------------------------------


def test_each_refusal_in_a_row_doubles_the_pause_up_to_the_cap() -> None:
    """100 ms, 200 ms, ... 102.4 s, then 120 s however long it goes on."""
    caution, pauses = Caution(), []
    for _ in range(60):
        now = max(NOW, caution.until)
        caution.refused(now)
        pauses.append(caution.until - now)
    assert pauses[:4] == [100 * MILLISECOND, 200 * MILLISECOND, 400 * MILLISECOND, 800 * MILLISECOND]
    assert pauses[:11] == [PAUSE_FIRST << n for n in range(11)]
    assert set(pauses[11:]) == {PAUSE_LAST} == {120 * SECOND}


def test_the_first_refusal_moves_nothing_and_ten_increments_are_the_most() -> None:
    """A single refusal is the price of quoting at a touch that moves; from the second on one increment each."""
    caution, steps = Caution(), []
    for _ in range(15):
        refuse(caution)
        steps.append(caution.steps)
    assert (FREE, STEPS_MOST) == (1, 10)
    assert steps == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10]


@pytest.mark.parametrize(("streak", "after"), [(1, [0]), (2, [0]), (3, [1, 0]), (8, [4, 2, 0]), (1000, [500, 250, 0])])
def test_orders_taken_undo_it(streak: int, after: list[int]) -> None:
    """The streak halves with each order taken, and three in a row end it, however long it was."""
    caution = Caution()
    refuse(caution, streak)
    seen = []
    while caution.streak:
        caution.taken()
        seen.append(caution.streak)
    assert seen == after
    assert len(seen) <= WINS


def test_a_refusal_between_begins_the_row_of_wins_anew() -> None:
    """Two taken, one refused, two taken: not yet three in a row."""
    caution = Caution()
    refuse(caution, 100)
    for _ in range(2):
        caution.taken()
    refuse(caution)
    assert caution.streak == 26
    for expected in (13, 6, 0):
        caution.taken()
        assert caution.streak == expected


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10 * SECOND)), max_size=40))
def test_caution_is_bounded_and_restores(script: list[tuple[bool, int]]) -> None:
    """I10, I12: pause and steps within their caps after any history; restored, the same follows."""
    made, now = Caution(), NOW
    for taken, wait in script:
        now += wait
        twin = Caution()
        twin.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=CautionState))
        for each in (made, twin):
            if taken:
                each.taken()
            else:
                each.refused(now)
        assert made.checkpoint() == twin.checkpoint()
        assert 0 <= made.steps <= STEPS_MOST
        assert made.until <= now + PAUSE_LAST
        assert made.streak >= 0


# Both sides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [BUY, SELL])
def test_only_the_refused_side_is_cautious(side: Side) -> None:
    """The other side neither pauses nor moves."""
    (cautions, now), other = refused_times(4, side), SELL if side == BUY else BUY
    assert cautions.is_pausing(side, now + PAUSE_FIRST * 8 - 1)
    assert not cautions.is_pausing(side, now + PAUSE_FIRST * 8)
    assert not cautions.is_pausing(other, now)
    bids, asks = ladder(100, 101), ladder(103, 102)
    moved = cautions.moved(Quote(101.5, bids, asks, "x"), A)
    expected = ([97, 98], [103, 102]) if side == BUY else ([100, 101], [106, 105])
    assert ([rung.price for rung in moved.bids], [rung.price for rung in moved.asks]) == expected
    assert (moved.fair, moved.reason) == (101.5, "x")
    assert (moved.asks if side == BUY else moved.bids) is (asks if side == BUY else bids)


def test_what_is_neither_refused_nor_taken_teaches_nothing() -> None:
    """Other refusals, cancels, an order in doubt, and the leg of an amend that its refusal names as well."""
    cautions = Cautions()
    for what, reason in [(ExecType.REJECTED, "too little margin"), (ExecType.CANCEL_REJECTED, WHY),
                         (ExecType.LOST, WHY), (ExecType.CANCELED, WHY), (ExecType.FILLED, "")]:  # fmt: skip
        cautions.heed(BUY, word(what, reason))
    assert cautions.checkpoint() == Cautions().checkpoint()
    assert not cautions.stand_off


def test_both_sides_come_back_from_a_checkpoint() -> None:
    """I10: what to stand off by and until when, each side its own."""
    (made, now), again = refused_times(3, SELL), Cautions()
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=tuple[CautionState, CautionState]))
    assert again.checkpoint() == made.checkpoint()
    assert (again.stand_off, again.is_pausing(SELL, now), again.is_pausing(BUY, now)) == (True, True, False)


def ladder(*prices: int) -> tuple[QuoteLevel, ...]:
    """Return rungs of growing size."""
    return tuple(QuoteLevel(level, price, 1 + level) for level, price in enumerate(prices))


def valid_prices(start: int, count: int, side: Side, grid: Instrument) -> list[int]:
    """Return valid prices outwards from `start`, found by trying every one: what `moved` must agree with."""
    found, price, finest = [], start, grid.step_at(start // 2)
    while len(found) < count and price > 0:
        if price % grid.step_at(price) == 0:
            found.append(price)
        price -= side * finest
    return found


@settings(max_examples=20)
@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("power", [1_000, 100_000, 1_000_000, 10_000_000])
@given(offset=st.integers(-30, 30), gaps=st.lists(st.integers(1, 3), min_size=1, max_size=6), count=st.integers(2, 14))
def test_a_moved_ladder_is_the_ladder_so_many_prices_further_out(
    side: Side, power: int, offset: int, gaps: list[int], count: int
) -> None:
    """Near powers of ten, where increments change: every rung valid, strictly monotone, none lost, at most ten out."""
    start = power + offset * FINE.step_at(power)
    prices = valid_prices(start, sum(gaps) + STEPS_MOST + 1, side, FINE)
    places_in_row, row = [], 0
    for gap in gaps:
        places_in_row.append(row)
        row += gap
    rungs = ladder(*[prices[index] for index in places_in_row])
    quote = Quote(float(power), rungs, ()) if side == BUY else Quote(float(power), (), rungs)
    moved = refused_times(count, side)[0].moved(quote, FINE)
    steps = min(count - FREE, STEPS_MOST)
    outcome = moved.bids if side == BUY else moved.asks
    assert [rung.price for rung in outcome] == [prices[index + steps] for index in places_in_row]
    assert [(rung.level, rung.size) for rung in outcome] == [(rung.level, rung.size) for rung in rungs]


def test_a_bid_that_would_fall_to_zero_is_left_out() -> None:
    """What stays above zero keeps its level."""
    moved = refused_times(4)[0].moved(Quote(5.0, ladder(5, 4, 3, 2), ()), A)
    assert [(rung.level, rung.price) for rung in moved.bids] == [(0, 2), (1, 1)]


# At the engine ----------------------------------------------------------------------------------------------------


def refuse_one(bench: Bench, side: Side) -> None:
    """Refuse the order of a side that is on its way."""
    flying = [order for order in bench.orders() if order.status.value == "pending_new" and order.side == side]
    bench.tell(flying[0].cl_ord_id, ExecType.REJECTED, reason=WHY)


@pytest.mark.parametrize("upkeep", [None, VENUE])
def test_a_refused_side_waits_and_comes_back_further_out(upkeep: UpkeepConfig | None) -> None:
    """Backtest or venue: two refusals: the other side is placed as ever, this one after the pause, one tick lower."""
    one = msgspec.structs.replace(LADDER, levels=1, update_interval_s=0.05)
    bench = Bench(upkeep=upkeep, quoter=one)
    bench.quote()
    refuse_one(bench, BUY)
    bench.acknowledge()
    assert bench.prices() == [1001]
    assert entries(bench.after(0.049).timer()) == entries(bench.after(0.050).timer()) == []
    # It looks again at its interval by itself, whatever the market does.
    bench.now = bench.engine.desks["A"].deadline
    assert [(each.side, each.price) for each in entries(bench.timer())] == [(BUY, 999)]
    refuse_one(bench, BUY)
    assert entries(bench.after(0.199).book()) == []
    assert [(each.side, each.price) for each in entries(bench.after(0.051).book())] == [(BUY, 998)]
    bench.acknowledge()
    assert not bench.engine.desks["A"].cautions.stand_off
    assert [(each.side, each.price) for each in entries(bench.after(0.1).book())] == [(BUY, 999)]


def test_a_pause_leaves_resting_orders_alone() -> None:
    """The invariant: while a side pauses, what rests at its target is not cancelled, for hours if need be."""
    bench = Bench(upkeep=VENUE)
    bench.quote()
    top = next(order for order in bench.orders() if order.price == 999)
    bench.tell(top.cl_ord_id, ExecType.REJECTED, reason=WHY)
    bench.acknowledge()
    assert bench.prices() == [1002, 1001, 998]
    bench.engine.desks["A"].cautions._sides[BUY].until = bench.now + PAUSE_LAST
    actions = bench.pass_time(100)
    assert (cancels(actions), entries(actions), bench.prices()) == ([], [], [1002, 1001, 998])


def test_the_venue_saying_twice_that_an_order_rests_is_one_order_taken() -> None:
    """Hyperliquid tells it in the answer and on the order stream: caution must not decay at twice the pace."""
    bench = Bench(upkeep=VENUE)
    bench.quote()
    caution = bench.engine.desks["A"].cautions._sides[BUY]
    caution.streak = 40
    first = next(order for order in bench.orders() if order.side == BUY)
    for _ in range(3):
        bench.tell(first.cl_ord_id, ExecType.NEW)
        assert caution.streak == 20


def test_a_refused_amend_is_one_refusal() -> None:
    """Both legs bear the venue's words; only the new order was refused."""
    bench = Bench(upkeep=VENUE).start()
    moved = amends(bench.after(1).book(1001, 1003))
    caution = bench.engine.desks["A"].cautions._sides[moved[0].side]
    bench.tell(moved[0].orig_cl_ord_id, ExecType.CANCEL_REJECTED, reason=WHY)
    bench.tell(moved[0].cl_ord_id, ExecType.REJECTED, reason=WHY)
    bench.tell(moved[0].cl_ord_id, ExecType.REJECTED, reason=WHY)
    assert caution.streak == 1


def test_a_market_that_refuses_everything_costs_few_requests() -> None:
    """Every order refused for ten minutes: each side tries some dozen times, not at every interval."""
    bench = Bench(upkeep=VENUE)
    bench.quote()
    end = bench.now + 600 * SECOND
    while bench.now < end:
        for order in bench.orders():
            if order.status.value == "pending_new":
                bench.tell(order.cl_ord_id, ExecType.REJECTED, reason=WHY)
        bench.after(0.5).switch()
        bench.book()
    assert 20 < bench.engine.desks["A"].orders.placed < 80
    assert len(bench.orders()) == 0


def test_outer_rungs_do_not_excuse_a_touch_that_is_refused() -> None:
    """Five rungs in a moving market, the nearest bid refused each time, the others taken: it must become careful."""
    bench = Bench(upkeep=VENUE, quoter=msgspec.structs.replace(LADDER, levels=5))
    bench.quote()
    refusals = 0
    for n in range(120):
        for order in bench.orders():
            touch = order.side == BUY and order.level == 0
            if order.status.value == "pending_new" and touch:
                bench.tell(order.cl_ord_id, ExecType.REJECTED, reason=WHY)
                refusals += 1
        bench.acknowledge()
        bench.after(1).switch()
        bench.book(999 + n % 2 * 2, 1001 + n % 2 * 2)
    assert 3 < refusals < 20


def test_rungs_refused_together_are_one_refusal() -> None:
    """One move of the market refuses a whole side: one pause of 100 ms, and nobody stands off for it."""
    bench = Bench(upkeep=VENUE, quoter=msgspec.structs.replace(LADDER, levels=5))
    bench.quote()
    for order in bench.orders():
        if order.side == BUY:
            bench.tell(order.cl_ord_id, ExecType.REJECTED, reason=WHY)
    cautions = bench.engine.desks["A"].cautions
    assert cautions.is_pausing(BUY, bench.now + PAUSE_FIRST - 1)
    assert not cautions.is_pausing(BUY, bench.now + PAUSE_FIRST)
    assert not cautions.stand_off
