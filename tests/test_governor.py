"""Governor: what is left, how it thins out, what it never holds back, and that its counts are the venue's."""

import msgspec
import pytest
from engine_builders import VENUE, WIDE, A, Bench, amends, cancels, entries, queries
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import RequestBudget
from mmpi.desk import Desk, DeskParams
from mmpi.engine import Engine
from mmpi.events import RATE_LIMIT, Budget, ExecType
from mmpi.governor import (
    ASK_AFTER,
    ASK_EVERY,
    BACK_OFF,
    BATCH,
    HEAVY,
    LIGHT,
    STEPS,
    Governor,
    GovernorConfig,
    GovernorState,
)
from mmpi.instrument import BUY, MILLISECOND, MONEY_SCALE, SECOND
from mmpi.quoting.layered import LayeredConfig
from mmpi.upkeep import UpkeepConfig

NOW = 1_700_000_000 * SECOND
MINUTE = 60 * SECOND
SLACK = LayeredConfig(
    levels=1, spread_percent=0.2, step_percent=0.1, size="10", notional="", tolerance_ticks=3, tolerance_percent=10.0,
    size_tolerance_percent=20.0,
)  # fmt: skip


def governor(used: int = 0, cap: int = 0, **config: int) -> Governor:
    """Return one that was told `used` of `cap`; 0 of 0 = not told yet."""
    made = Governor(GovernorConfig(**config))
    if cap:
        made.told(Budget(NOW, "sim", used, cap))
    return made


# The budget -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "step"),
    [(9999, 0), (5000, 0), (4999, 1), (2500, 1), (2499, 2), (1250, 2), (1249, 3), (625, 3), (624, 4), (0, 4), (-9, 4)],
)
def test_each_half_of_the_budget_thins_out_once_more(left: int, step: int) -> None:
    """Below budget_low once, below a half of it twice, and so on, at most four times."""
    assert governor(10_000 - left, 10_000).step == step


@given(st.integers(0, 3000), st.integers(-100, 4000), st.integers(-100, 4000))
def test_less_left_never_thins_out_less(low: int, one: int, other: int) -> None:
    """Monotone, and bounded, whatever budget_low is."""
    steps = [governor(5000 - left, 5000, budget_low=low).step for left in sorted((one, other))]
    assert STEPS >= steps[0] >= steps[1] >= 0


@pytest.mark.parametrize("tolerance", [0.0, 10.0])
def test_thinning_out_widens_and_slows_in_every_step(tolerance: float) -> None:
    """Each step doubles the interval and widens the tolerance, of a strategy that asks for none, too."""
    desk = Desk(DeskParams(A, msgspec.structs.replace(SLACK, tolerance_percent=tolerance)), SECOND)
    widened = [desk.tolerance(NOW, step) for step in range(STEPS + 1)]
    assert widened[0] == desk.quoter.tolerance
    for narrow, wide in zip(widened, widened[1:], strict=False):
        assert wide.price_fraction > narrow.price_fraction
        assert wide.ticks == 2 * narrow.ticks
        assert wide.offset_fraction == 2 * narrow.offset_fraction
        assert wide.size_fraction == narrow.size_fraction, "orders may be no larger for it"
    assert widened[STEPS].price_fraction < 0.001
    desk.reason = ""
    for step in range(STEPS + 1):
        desk.requoted(NOW, 0, step)
        assert desk.next_quote - NOW == desk.quoter.interval << step


@pytest.mark.parametrize(("left", "more", "less"), [(501, "", ""), (500, "budget", ""), (1, "budget", ""),
                                                    (0, "budget", "budget")])  # fmt: skip
def test_the_reserve_is_for_cancels_and_for_what_reduces(left: int, more: str, less: str) -> None:
    """From budget_reserve down nothing new but what reduces; at nothing left, nothing at all."""
    made = governor(10_000 - left, 10_000)
    assert (made.may_place(NOW, False), made.may_place(NOW, True)) == (more, less)


def test_small_budgets_have_small_marks() -> None:
    """An account that may make 200 requests in all thins out below 100 and keeps 10, whatever is configured."""
    assert [governor(200 - left, 200).step for left in (100, 99, 49)] == [0, 1, 2]
    assert [governor(200 - left, 200).may_place(NOW, False) for left in (11, 10)] == ["", "budget"]
    made = governor(100, 200)
    again = Governor(GovernorConfig())
    again.restore(made.checkpoint())
    assert (again.step, again.may_place(NOW, False)) == (made.step, made.may_place(NOW, False))


@pytest.mark.parametrize("low", [0, 500, 5000])
def test_before_the_venue_has_told_nothing_is_held_back(low: int) -> None:
    """Not told is no shortage, whatever the settings: neither thinned out nor held back."""
    made = governor(budget_low=low, budget_reserve=low)
    made.sent(50, 0, 50, NOW)
    assert (made.step, made.may_place(NOW, False), made.used) == (0, "", 0)


def test_every_request_counts_until_the_venue_tells_anew() -> None:
    """Orders, amends, cancels and the dead-man switch spend one each, questions none; the venue's word replaces it."""
    made = governor(100, 10_000)
    made.sent(3, 2, 4, NOW)
    made.spend(1, 1, NOW)
    made.spend(0, HEAVY, NOW)
    assert (made.used, made.requests, made.quotes) == (110, 10, 5)
    made.told(Budget(NOW, "sim", 107, 10_000))
    assert (made.used, made.left, made.requests) == (107, 9893, 10)


def test_volume_earns_requests() -> None:
    """One more for each whole unit of the quote currency traded, however small the fills are."""
    made = governor(100, 10_000)
    for _ in range(10):
        made.traded_for(MONEY_SCALE * 4 // 10)
    assert (made.cap, made.left) == (10_004, 9_904)
    untold = governor()
    untold.traded_for(50 * MONEY_SCALE)
    assert (untold.cap, untold.traded) == (0, 50 * MONEY_SCALE)


@given(st.lists(st.integers(1, 3 * MONEY_SCALE), max_size=30))
def test_parts_of_a_unit_are_not_lost(fills: list[int]) -> None:
    """The cap grows by the whole units of the sum, not by the sum of whole units."""
    made = governor(0, 1000)
    for each in fills:
        made.traded_for(each)
    assert made.cap == 1000 + sum(fills) // MONEY_SCALE


# Refusals for the number of requests ------------------------------------------------------------------------------


def test_a_refusal_backs_off_and_asks_for_the_count() -> None:
    """For ten seconds nothing is placed, not even what reduces; the venue's count is asked for as soon as it may be."""
    made = governor(0, 10_000)
    assert made.wants_word(NOW)
    made.limited(NOW + SECOND)
    assert made.may_place(NOW + SECOND + BACK_OFF - 1, True) == "budget"
    assert made.may_place(NOW + SECOND + BACK_OFF, True) == ""
    assert not made.wants_word(NOW + BACK_OFF - 1)
    assert made.wants_word(NOW + BACK_OFF)


def test_a_rate_limit_silences_orders_not_cancels() -> None:
    """At the engine: after the venue's refusal orders that must go still go, and new ones wait ten seconds."""
    bench = Bench(upkeep=VENUE).start()
    moved = entries(bench.after(1).book(1009, 1011))
    assert moved
    bench.tell(moved[0].cl_ord_id, ExecType.REJECTED, reason=f"{RATE_LIMIT}: Too many cumulative requests sent")
    bench.acknowledge()
    actions = bench.after(1).book(999, 1001)
    assert (entries(actions), len(cancels(actions))) == ([], len(bench.orders()))
    bench.acknowledge()
    assert bench.orders() == []
    bench.switch()
    assert entries(bench.after(8).book()) == []
    bench.switch()
    assert entries(bench.after(1).book()) != []


def test_a_rate_limit_brings_the_question_soon_where_nothing_else_wakes() -> None:
    """The dead-man switch is refused, so no refresh comes along: the count is asked for ten seconds after the last."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    bench.switch(ExecType.REJECTED, reason="volume")
    bench.book()
    bench.reconcile()
    bench.acknowledge()
    bench.budget(0)
    bench.pass_time(60)
    moved = entries(bench.after(1).book(1009, 1011))
    asked = bench.tell(moved[0].cl_ord_id, ExecType.REJECTED, reason=f"{RATE_LIMIT}: 429")
    assert RequestBudget() in [*asked, *bench.pass_time(1)]


# The venue's word -------------------------------------------------------------------------------------------------


def test_the_count_is_asked_for_at_once_and_then_seldom() -> None:
    """At once in the beginning; every ten seconds until it is told; then after ten minutes, or a thousand requests."""
    made = governor()
    assert made.wants_word(NOW)
    assert not made.wants_word(NOW)
    assert not made.wants_word(NOW + BACK_OFF - 1)
    assert made.wants_word(NOW + BACK_OFF)
    made.told(Budget(NOW, "sim", 5, 10_000))
    asked = NOW + BACK_OFF
    assert not made.wants_word(asked + ASK_EVERY - 1)
    assert made.wants_word(asked + ASK_EVERY)
    asked += ASK_EVERY
    made.told(Budget(NOW, "sim", 5, 10_000))
    made.sent(ASK_AFTER - 1, 0, 0, asked)
    assert not made.wants_word(asked + BACK_OFF)
    made.sent(0, 0, 1, asked)
    assert made.wants_word(asked + BACK_OFF)
    made.told(Budget(NOW, "sim", 1005, 10_000))
    assert not made.wants_word(asked + 2 * BACK_OFF), "the thousand are counted from the venue's last word"


@pytest.mark.parametrize("refused", [False, True])
def test_the_engine_asks_after_a_thousand_requests(refused: bool) -> None:
    """Also where no dead-man switch wakes it every two seconds: it asks within the ten seconds, not the ten minutes."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    if refused:
        bench.switch(ExecType.REJECTED, reason="volume")
    else:
        bench.switch()
    bench.book()
    bench.reconcile()
    bench.acknowledge()
    bench.budget(0)
    assert RequestBudget() not in bench.pass_time(60)
    bench.engine.upkeep.governor.spend(ASK_AFTER, 0, bench.now)
    assert RequestBudget() in bench.pass_time(BACK_OFF / SECOND + 1)


# The weight -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("orders", "weight"), [(0, 0), (1, 1), (39, 1), (40, 2), (79, 2), (80, 3)])
def test_an_action_weighs_one_and_one_more_for_every_forty(orders: int, weight: int) -> None:
    """Orders, amends and cancels are an action each (Hyperliquid: 1 + floor(length / 40))."""
    assert BATCH == 40
    for kind in range(3):
        made = governor()
        counts = [0, 0, 0]
        counts[kind] = orders
        made.sent(*counts, NOW)
        assert spent(made) == weight
    made = governor()
    made.sent(orders, orders, orders, NOW)
    assert spent(made) == 3 * weight


def spent(made: Governor) -> int:
    """Return the whole weight missing from the bucket."""
    missing = made.config.weight_per_minute * SECOND - made.checkpoint().weight[0]
    assert missing % SECOND == 0
    return missing // SECOND


def test_the_weight_refills_with_time_alone() -> None:
    """A thousand a minute: used up it holds orders back; six seconds bring a hundred; never more than a thousand."""
    made = governor()
    made.spend(0, 1000, NOW)
    assert made.may_place(NOW, True) == "weight"
    assert made.may_place(NOW, False) == "weight"
    assert made.may_place(NOW + 60 * MILLISECOND, False) == ""
    made.spend(0, 100, NOW + 6 * SECOND)
    assert made.may_place(NOW + 6 * SECOND, False) == "weight"
    made.spend(0, 0, NOW + 3 * MINUTE)
    assert made.may_place(NOW + 3 * MINUTE, False) == ""
    assert spent(made) == 0
    assert made.may_place(NOW, False) == "", "time that goes back brings and takes nothing"
    assert spent(made) == 0


def test_no_more_than_a_minute_is_owed() -> None:
    """After however many questions it takes two minutes at the most until orders may go again."""
    made = governor()
    for _ in range(500):
        made.spend(0, HEAVY, NOW)
    assert made.may_place(NOW + MINUTE, False) == "weight"
    assert made.may_place(NOW + MINUTE + 60 * MILLISECOND, False) == ""


def test_weight_is_not_counted_where_it_is_set_to_nothing() -> None:
    """weight_per_minute = 0: never held back for it."""
    made = governor(weight_per_minute=0)
    made.spend(0, 10**6, NOW)
    assert made.may_place(NOW, False) == ""


@given(st.lists(st.tuples(st.integers(0, MINUTE), st.integers(0, 60), st.booleans()), max_size=40))
def test_placing_under_its_eye_stays_within_the_weight(script: list[tuple[int, int, bool]]) -> None:
    """In any sixty seconds at most two thousand is charged by what asks it first, for any traffic; the venue's bucket
    is as full as ours."""
    made, now = governor(), NOW
    charged: list[tuple[int, int]] = []
    for wait, count, places in script:
        now += wait
        if places and made.may_place(now, False) == "":
            made.sent(count, 0, 0, now)
            charged.append((now, 1 + count // BATCH if count else 0))
    for ts, _ in charged:
        assert sum(weight for at, weight in charged if ts <= at < ts + MINUTE) <= 2 * 1000 + 2


# At the engine ----------------------------------------------------------------------------------------------------


def test_cancels_go_out_of_an_empty_budget_and_weight() -> None:
    """Nothing left of either: an order far from its target is withdrawn and not replaced, and a halt ends the rest."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(10_000)
    bench.engine.upkeep.governor.spend(0, 5000, bench.now)
    actions = bench.after(1).book(1099, 1101)
    assert (len(cancels(actions)), entries(actions)) == (4, [])
    assert bench.engine.gate.refusals == {"request_budget": 2}
    again = Bench(upkeep=VENUE).start()
    again.budget(10_000)
    assert len(cancels(again.halt())) == 4


def test_what_reduces_is_placed_from_the_reserve() -> None:
    """Below the reserve a long position may still be sold, and nothing more is bought."""
    bench = Bench(upkeep=VENUE).start()
    for order in bench.orders():
        if order.side == BUY:
            bench.fill(order, 10)
    bench.budget(9_900)
    assert bench.engine.desks["A"].position.lots == 20
    bench.halt(latched=False)
    bench.acknowledge()
    bench.resume()
    bench.confirm()
    assert [(each.side, each.price) for each in entries(bench.book())] == []
    bench.switch()
    placed = entries(bench.confirm())
    assert {each.side for each in placed} <= {-1}
    assert placed or bench.prices() == [1002, 1001]


def test_a_thinned_out_order_is_left_where_it_is() -> None:
    """With the budget low a small move of the market, followed before, is not followed any more; a large one is."""

    def moves(used: int, mid: int) -> int:
        bench = Bench(upkeep=VENUE, quoter=LADDER_FINE).start()
        bench.after(1).book(99_999, 100_001)
        for _ in range(2):
            bench.acknowledge()
        assert bench.prices() == [100_010, 99_990]
        bench.budget(used)
        bench.after(2)
        return len(cancels(actions := bench.book(mid - 1, mid + 1))) + len(amends(actions))

    assert (moves(0, 100_020), moves(0, 100_200)) == (2, 2)
    assert (moves(9_900, 100_020), moves(9_900, 100_200)) == (0, 2)


LADDER_FINE = LayeredConfig(
    levels=1, spread_percent=0.02, step_percent=0.1, size="10", notional="", tolerance_percent=0.0,
    size_tolerance_percent=0.0,
)  # fmt: skip


@pytest.mark.parametrize(("used", "seconds"), [(0, 1), (5_001, 2), (9_400, 16)])
def test_the_market_is_looked_at_more_rarely(used: int, seconds: int) -> None:
    """The strategy's interval of a second is doubled with each step, however much the market moves."""
    bench = Bench(upkeep=VENUE, quoter=LADDER_FINE).start()
    bench.budget(used)
    bench.after(1).book(1099, 1101)
    bench.acknowledge()
    looked = bench.now
    for _ in range(seconds - 1):
        assert entries(bench.after(1).book(1299, 1301)) == []
        bench.switch()
    assert bench.engine.desks["A"].next_quote == looked + seconds * SECOND
    actions = bench.after(1).book(1299, 1301)
    assert cancels(actions) or amends(actions)


def test_questions_weigh_what_the_venue_says() -> None:
    """A reconciliation asks two heavy questions and a light one, a count of requests a heavy one, an order a light."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    assert spent(bench.engine.upkeep.governor) == 2 * HEAVY + LIGHT + HEAVY + 1
    bench.switch()
    bench.book()
    bench.reconcile()
    before = spent(bench.engine.upkeep.governor)
    assert [len(queries(bench.tell(order.cl_ord_id, ExecType.LOST))) for order in bench.orders()[:1]] == [0]
    assert len(queries(bench.timer())) == 1
    assert spent(bench.engine.upkeep.governor) - before == LIGHT


def test_fills_of_any_kind_earn_requests() -> None:
    """Ours and foreign ones: the account traded; a repeated report of one does not."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(0, 10_000)
    order = bench.orders()[0]
    for _ in range(2):
        bench.fill(order, 4, exec_id="once")
    bench.fill("", 1, price=1000)
    assert bench.engine.upkeep.governor.cap == 10_000 + 4 * order.price + 1000


def test_budget_events_cause_nothing_by_themselves() -> None:
    """The venue's word is taken, and heeded with the next look at a desk."""
    bench = Bench(upkeep=VENUE).start()
    assert bench.budget(9_999) == []
    assert bench.engine.upkeep.governor.step == STEPS


@given(st.lists(st.tuples(st.sampled_from(["sent", "told", "fill", "limited", "word", "spend"]),
                          st.integers(0, 3000), st.integers(0, 20 * SECOND)), max_size=25))  # fmt: skip
def test_a_restored_governor_counts_on(script: list[tuple[str, int, int]]) -> None:
    """I10, I12: restored at any point it decides the same, and it is a dozen numbers whatever happens."""
    made, now = governor(), NOW
    for what, number, wait in script:
        now += wait
        twin = Governor(made.config)
        twin.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=GovernorState))
        for each in (made, twin):
            if what == "sent":
                each.sent(number % 7, number % 3, number % 5, now)
            elif what == "told":
                each.told(Budget(now, "sim", number, 3 * number))
            elif what == "fill":
                each.traded_for(number * MONEY_SCALE // 7)
            elif what == "limited":
                each.limited(now)
            elif what == "spend":
                each.spend(1, number % 50, now)
        assert made.wants_word(now) == twin.wants_word(now)
        assert made.checkpoint() == twin.checkpoint()
        assert (made.step, made.may_place(now, False)) == (twin.step, twin.may_place(now, False))
        assert len(msgspec.json.encode(made.checkpoint())) < 300


def test_a_simulated_exchange_has_no_limits() -> None:
    """In a backtest nothing is asked, thinned out or held back, however many orders go."""
    bench = Bench().start()
    engine: Engine = bench.engine
    engine.upkeep.governor.sent(10**6, 0, 10**6, bench.now)
    assert (engine.upkeep.governor.step, engine.upkeep.wake) == (0, 0)
    assert entries(bench.after(1).book(1009, 1011))
    assert not any(isinstance(action, RequestBudget) for action in bench.after(700).timer())


def test_limits_in_force_by_default_leave_the_guardian_its_share() -> None:
    """1,000 of the 1,200 a minute that the venue allows one network address: 200 are the guardian's."""
    assert 1200 - UpkeepConfig(GovernorConfig()).governor.weight_per_minute == 200
    assert WIDE.unarmed_percent <= 25
