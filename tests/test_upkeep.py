"""Upkeep: the dead-man switch and the count of requests, as the engine keeps them beside quoting (I5)."""

from itertools import pairwise

import msgspec
import pytest
from engine_builders import (
    VENUE,
    WIDE,
    A,
    B,
    Bench,
    amends,
    cancels,
    engine_params,
    entries,
    listing,
    places,
    queries,
    report,
    schedules,
)
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import RequestBudget, RequestReconcile, ScheduleCancel
from mmpi.deadman import AHEAD, DAY, NEAREST, PATIENCE, PAUSE, REFRESH, RETRY, STRETCHED
from mmpi.engine import Engine
from mmpi.events import DEAD_MAN, Bbo, Event, ExecType
from mmpi.governor import ASK_EVERY, BACK_OFF, HEAVY
from mmpi.instrument import MONEY_SCALE, SECOND
from mmpi.orders import OrdStatus
from mmpi.upkeep import Upkeep, UpkeepConfig, UpkeepState

GATE = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000.00"
NOT_SET = "dead-man switch: not set yet"


def connected() -> Bench:
    """Return a bench that waits for the switch alone."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    bench.book()
    assert entries(bench.reconcile()) == []
    assert bench.engine.blocked == NOT_SET
    return bench


def text(bench: Bench) -> str:
    return bench.engine.upkeep.dead_man.text(bench.now)


def capped(**limits: float) -> Bench:
    """Return a bench at a venue, with these limits in the quote currency."""
    scaled = {name: round(value * MONEY_SCALE) for name, value in limits.items()}
    return Bench(upkeep=VENUE, risk=msgspec.structs.replace(WIDE, **scaled))


# Before the first quote -------------------------------------------------------------------------------------------


def test_the_switch_comes_before_the_first_order() -> None:
    """I5: asked for when the session is up; however ready all else is, no order goes before the venue has set it."""
    bench = Bench(upkeep=VENUE)
    first = bench.connect()
    assert first == [ScheduleCancel(bench.now + AHEAD), RequestBudget(), RequestReconcile("connected")]
    assert bench.book() == []
    assert entries(bench.reconcile()) == []
    assert (bench.engine.blocked, text(bench)) == (NOT_SET, "UNARMED")
    for _ in range(5):
        assert entries(bench.after(0.2).book()) == []
    assert len(places(bench.switch())) == 4
    assert (bench.engine.blocked, text(bench)) == ("", "ARMED")


def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    """LOST: again after half a second; silence: after the patience; nothing is quoted meanwhile."""
    bench = connected()
    assert schedules(bench.switch(ExecType.LOST)) == []
    assert bench.engine.wake_at == bench.now + PAUSE
    bench.now = bench.engine.wake_at
    assert schedules(bench.timer()) == [bench.now + AHEAD]
    asked = bench.now
    assert bench.engine.wake_at == asked + PATIENCE
    bench.now = bench.engine.wake_at
    actions = bench.timer()
    assert (schedules(actions), entries(actions)) == ([bench.now + AHEAD], [])


def test_a_venue_without_a_switch_is_quoted_with_the_smaller_limits() -> None:
    """UNSUPPORTED: nothing to ask, nothing to wait for, but the caps of an account that nobody cancels for."""
    bench = Bench(upkeep=msgspec.structs.replace(VENUE, dead_man=False))
    assert schedules(bench.connect()) == []
    bench.book()
    assert len(places(bench.reconcile())) == 4
    assert (text(bench), bench.engine.gate.unarmed) == ("UNSUPPORTED", True)


def test_a_simulated_exchange_has_no_upkeep() -> None:
    """Backtest and paper ask for nothing and know no smaller limits: what is simulated ends with us."""
    bench = Bench()
    assert bench.connect() == [RequestReconcile("connected")]
    bench.book()
    assert len(places(bench.reconcile())) == 4
    assert (text(bench), bench.engine.gate.unarmed, bench.engine.upkeep.wake) == ("UNSUPPORTED", False, 0)
    bench.acknowledge()
    assert bench.pass_time(30) == []


# While quoting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "interval"), [(0, REFRESH), (5_001, STRETCHED), (9_999, STRETCHED)])
def test_it_is_refreshed_by_the_loops_progress(used: int, interval: int) -> None:
    """Every 2 s, 8 s ahead; every 4 s, never more, when the budget runs low; and it never lapses."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(used)
    bench.pass_time(4)
    times = schedules(bench.pass_time(60))
    assert len(times) == 60 * SECOND // interval
    assert {later - earlier for earlier, later in pairwise(times)} == {interval}
    assert (bench.engine.blocked, text(bench)) == ("", "ARMED")


def test_without_an_event_nothing_refreshes_it() -> None:
    """I5: time alone does nothing: a loop that handles no event lets it run out, and the venue cancels."""
    bench = Bench(upkeep=VENUE).start()
    before = bench.engine.checkpoint()
    bench.after(3600)
    assert bench.engine.checkpoint() == before
    assert not bench.engine.upkeep.dead_man.covers(bench.now)


@pytest.mark.parametrize("what", ["book", "bbo", "timer", "report", "switch_lost"])
def test_the_first_event_after_a_freeze_places_nothing(what: str) -> None:
    """I5: frozen past its time: the very event that wakes the loop pulls and asks; no order slips out before."""
    bench = Bench((A, B), upkeep=VENUE).start("A", "B")
    bench.after(1).book(1009, 1011)
    waiting = next(order for order in bench.orders() if order.status is OrdStatus.PENDING_REPLACE)
    bench.after(AHEAD / SECOND)
    actions = {
        "book": lambda: bench.book(1019, 1021),
        "bbo": lambda: bench.feed(Bbo(bench.now, "A", bench.now, 0, 1019, 5, 1021, 5)),
        "timer": bench.timer,
        "report": lambda: bench.tell(waiting.cl_ord_id, ExecType.CANCELED),
        "switch_lost": lambda: bench.switch(ExecType.LOST),
    }[what]()
    assert entries(actions) == []
    assert bench.engine.blocked == NOT_SET
    assert [each.instrument for each in cancels(actions)] == ["B"] * 4, "every desk pulls, not this one alone"
    assert what == "switch_lost" or schedules(actions) == [bench.now + AHEAD]
    bench.acknowledge()
    bench.switch()
    assert bench.engine.blocked == ""


@pytest.mark.parametrize("upkeep", [VENUE, UpkeepConfig(VENUE.governor)])
def test_a_market_that_moved_during_a_freeze_is_not_followed_uncovered(upkeep: UpkeepConfig) -> None:
    """Resting orders that are far off now are withdrawn by the first book, not replaced, nor amended."""
    bench = Bench(upkeep=upkeep).start()
    actions = bench.after(AHEAD / SECOND).book(1009, 1011)
    assert (len(cancels(actions)), entries(actions), schedules(actions)) == (4, [], [bench.now + AHEAD])


def test_a_switch_that_the_venue_does_not_confirm_blocks_in_time() -> None:
    """Armed, then silence: asked again and again; at the confirmed time everything is pulled, by the wake asked for."""
    bench = Bench(upkeep=VENUE).start()
    until = bench.now + AHEAD
    asked = 0
    actions = []
    while bench.now < until:
        bench.now = bench.engine.wake_at
        actions = bench.timer()
        asked += len(schedules(actions))
        if bench.now < until:
            bench.book()
            assert bench.engine.blocked == ""
    assert bench.now == until
    assert asked >= 4
    assert (len(cancels(actions)), entries(actions), bench.engine.blocked) == (4, [], NOT_SET)


# Refused ----------------------------------------------------------------------------------------------------------


def test_a_refusal_is_shown_and_the_smaller_limits_apply() -> None:
    """REFUSED(the venue's own words): quoting in a quarter of the size, until the hourly request is granted."""
    bench = capped(max_order=20_000)
    bench.connect()
    bench.book()
    bench.reconcile()
    small = places(bench.switch(ExecType.REJECTED, reason=GATE))
    assert text(bench) == f"REFUSED({GATE})"
    # A quarter of 20,000 buys five lots at 999, four at 1001.
    assert [(each.price, each.size) for each in small] == [(999, 5), (998, 5), (1001, 4), (1002, 4)]
    bench.acknowledge()
    retried: list[int] = []
    start = bench.now
    while not retried and bench.now < start + 2 * RETRY:
        retried = schedules(bench.after(4.9).book())
    assert start + RETRY <= bench.now < start + RETRY + 5 * SECOND
    granted = bench.switch()
    bench.acknowledge()
    granted += bench.after(1).book()
    assert (text(bench), bench.engine.gate.unarmed) == ("ARMED", False)
    assert {each.size for each in entries(granted)} == {10}


def test_each_limit_shrinks_while_it_is_not_set() -> None:
    """unarmed_percent is of orders, positions, instruments and the total; an order that fits in one and not in the
    other is cut or left out."""
    for name, lots in (("max_position", 40), ("max_instrument", 80), ("max_total", 80)):
        bench = capped(**{name: lots * 1001.0})
        bench.connect()
        bench.book()
        bench.reconcile()
        placed = places(bench.switch(ExecType.REJECTED, reason=GATE))
        assert sum(each.size for each in placed) == lots // 4 * (2 if name == "max_position" else 1), name
        again = Bench(upkeep=VENUE, risk=bench.engine.gate.config).start()
        assert sum(order.size for order in again.orders()) == 40


def test_orders_too_large_are_withdrawn_when_it_is_lost() -> None:
    """Armed, then refused: at the end of the confirmed time the large orders go, and small ones come."""
    bench = capped(max_order=20_000).start()
    bench.after(2)
    assert schedules(bench.timer())
    bench.switch(ExecType.REJECTED, reason=GATE)
    bench.after(2).book()
    assert [order.size for order in bench.orders()] == [10] * 4
    bench.after(4.001)
    actions = bench.book()
    assert bench.engine.gate.unarmed
    leaving = [each.cl_ord_id for each in cancels(actions)] + [each.orig_cl_ord_id for each in amends(actions)]
    assert len(leaving) == 4
    assert {each.size for each in entries(actions)} == {4, 5}
    assert bench.engine.quoting


def test_a_refusal_is_asked_about_once_an_hour_and_costs_nothing_between() -> None:
    """Not set at all, refused: no wake-up is asked for in between for its sake, even after its old time has passed."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(0)
    bench.after(2).timer()
    bench.switch(ExecType.REJECTED, reason=GATE)
    refused = bench.now
    actions = bench.pass_time(1000)
    assert schedules(actions) == []
    assert bench.engine.upkeep.dead_man.wake(bench.now, True, False) == refused + RETRY


def test_after_a_reconnect_a_refusal_is_tried_again_before_quoting() -> None:
    """A new connection, a new try: not quoted on the strength of an old refusal."""
    bench = connected()
    assert places(bench.switch(ExecType.REJECTED, reason=GATE))
    bench.disconnect()
    assert schedules(bench.connect()) == [bench.now + AHEAD]
    bench.after(2).book()
    bench.confirm()
    assert bench.engine.blocked == NOT_SET
    bench.switch(ExecType.REJECTED, reason=GATE)
    assert bench.engine.blocked == ""


# Not wanted any more ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["pause", "latch", "clock", "fault", "breach"])
def test_a_halt_lets_it_be_and_clears_it_once_nothing_is_live(cause: str) -> None:
    """Not refreshed any more; left to fire while an order may live; cleared, in the very event that ends the last."""
    bench = capped(session_loss=50).start()
    {
        "pause": lambda: bench.halt(latched=False),
        "latch": bench.halt,
        "clock": lambda: bench.clock("off"),
        "fault": bench.fault,
        "breach": lambda: bench.fund(-60 * MONEY_SCALE),
    }[cause]()
    assert bench.engine.blocked
    asked = []
    for order in bench.orders():
        assert asked == []
        asked = schedules(bench.after(0.1).tell(order.cl_ord_id, ExecType.CANCELED))
    assert asked == [0]
    assert bench.switch(until=0) == []
    assert (text(bench), schedules(bench.pass_time(60))) == ("UNARMED", [])


@pytest.mark.parametrize("what", [ExecType.LOST, ExecType.REJECTED])
def test_a_clearing_that_fails_is_not_repeated_at_once(what: ExecType) -> None:
    """A dead connection fails every request in the same instant: the loop must not go round and round for it."""
    bench = Bench(upkeep=VENUE).start()
    bench.halt()
    assert schedules(bench.acknowledge()) == [0]
    asked = 0
    while bench.engine.upkeep.dead_man.covers(bench.now):
        assert schedules(bench.switch(what, until=0)) == []
        assert bench.engine.wake_at > bench.now
        bench.now = bench.engine.wake_at
        asked += len(schedules(bench.timer()))
    assert 5 < asked <= AHEAD // PAUSE
    bench.after(60)
    assert schedules(bench.timer()) == []


def test_a_halt_that_finds_no_order_clears_it_at_once() -> None:
    """Nothing live: one request, with the halt itself."""
    bench = connected()
    bench.switch()
    bench.book(0, 0)
    for order in bench.orders():
        bench.tell(order.cl_ord_id, ExecType.REJECTED)
    assert schedules(bench.halt()) == [0]


def test_an_order_in_doubt_keeps_it_set() -> None:
    """I4: while the fate of one order is unknown the switch is left to take it."""
    bench = Bench(upkeep=VENUE).start()
    bench.halt()
    doubtful, *others = bench.orders()
    assert queries(bench.tell(doubtful.cl_ord_id, ExecType.LOST))
    for order in others:
        assert schedules(bench.tell(order.cl_ord_id, ExecType.CANCELED)) == []
    bench.after(PATIENCE / SECOND)
    assert schedules(bench.timer()) == []
    assert schedules(bench.tell(doubtful.cl_ord_id, ExecType.CANCELED)) == [0]


def test_a_stop_clears_it_before_its_last_question() -> None:
    """I14: cleared when the last order is gone, in the event that asks the venue whether that is so."""
    bench = Bench(upkeep=VENUE).start()
    assert schedules(bench.stop()) == []
    last = bench.acknowledge()
    assert last == [ScheduleCancel(0), RequestReconcile("stopping")]
    bench.switch(until=0)
    bench.reconcile()
    assert (bench.engine.stopped, text(bench)) == (True, "UNARMED")


def test_a_resume_sets_it_anew_before_quoting() -> None:
    """Cleared by the halt: after the resume it is asked for at once and waited for."""
    bench = Bench(upkeep=VENUE).start()
    bench.halt(latched=False)
    bench.acknowledge()
    bench.switch(until=0)
    assert schedules(bench.after(1).resume()) == [bench.now + AHEAD]
    bench.book()
    bench.confirm()
    assert bench.engine.blocked == NOT_SET
    assert len(entries(bench.switch())) == 4


def test_a_resume_after_a_refused_refresh_does_not_wait_an_hour() -> None:
    """Armed, refused, halted and cleared, resumed: it is still known as refused, so quoting goes on, in small."""
    bench = Bench(upkeep=VENUE).start()
    bench.after(2).timer()
    bench.switch(ExecType.REJECTED, reason=GATE)
    bench.halt(latched=False)
    bench.acknowledge()
    bench.switch(until=0)
    bench.after(1).resume()
    bench.book()
    bench.confirm()
    assert (bench.engine.blocked, text(bench), bench.engine.gate.unarmed) == ("", f"REFUSED({GATE})", True)


# It fires ---------------------------------------------------------------------------------------------------------


def test_a_firing_counts_once_and_rearms_before_quoting() -> None:
    """The venue cancelled all four: one firing; asked for anew at once; nothing is placed before it is set again."""
    bench = Bench(upkeep=VENUE).start()
    bench.after(AHEAD / SECOND)
    asked: list[int] = []
    for order in bench.orders():
        actions = bench.after(0.01).tell(order.cl_ord_id, ExecType.CANCELED, reason=DEAD_MAN)
        assert entries(actions) == []
        asked += schedules(actions)
    assert (asked, bench.engine.upkeep.dead_man.firings) == ([bench.now - SECOND * 3 // 100 + AHEAD], 1)
    assert entries(bench.after(1).book()) == []
    assert bench.engine.blocked == NOT_SET
    assert len(entries(bench.switch())) == 4


def test_a_firing_before_its_time_is_believed() -> None:
    """The venue's clock runs a second ahead of what we think: the report alone takes our word of cover away."""
    bench = Bench((A, B), upkeep=VENUE).start("A", "B")
    bench.after(AHEAD / SECOND - 1)
    assert bench.engine.quoting
    bench.book()
    actions = bench.tell(bench.orders()[0].cl_ord_id, ExecType.CANCELED, reason=DEAD_MAN)
    assert (entries(actions), bench.engine.blocked) == ([], NOT_SET)
    assert {each.instrument for each in cancels(actions)} == {"A", "B"}


def test_an_order_that_waits_for_one_the_switch_took_is_not_placed() -> None:
    """Bids wait for the old asks to be out of their way; that the switch took these is no leave to place."""
    bench = Bench(upkeep=VENUE).start()
    bench.after(6).book(1099, 1101)
    old = [order for order in bench.orders() if order.price < 1098]
    assert {order.status for order in old} == {OrdStatus.PENDING_CANCEL, OrdStatus.PENDING_REPLACE}
    *others, last = old
    for order in others:
        bench.tell(order.cl_ord_id, ExecType.CANCELED)
    assert bench.engine.desks["A"].deferred
    assert entries(bench.tell(last.cl_ord_id, ExecType.CANCELED, reason=DEAD_MAN)) == []
    assert bench.engine.blocked == NOT_SET


def test_a_firing_learnt_late_counts_for_its_own_time() -> None:
    """While we were cut off: told by question after question, long after: still one, and the new switch stands."""
    bench = Bench(upkeep=VENUE).start()
    fired = bench.now + AHEAD
    orders = bench.orders()
    bench.disconnect()
    bench.after(100).connect()
    bench.switch()
    for order in orders:
        bench.after(6).switch()
        told = report(bench.now, order.cl_ord_id, ExecType.CANCELED, reason=DEAD_MAN)
        bench.feed(msgspec.structs.replace(told, exch_ts=fired))
    assert (bench.engine.upkeep.dead_man.firings, text(bench)) == (1, "ARMED")


def test_firings_of_a_day_add_up_and_the_next_day_begins_at_none() -> None:
    """What status shows against the venue's ten a day."""
    bench = Bench(upkeep=VENUE)
    bench.now = bench.now // DAY * DAY
    bench.start()
    for n in range(3):
        bench.after(AHEAD / SECOND)
        for order in bench.orders():
            bench.tell(order.cl_ord_id, ExecType.CANCELED, reason=DEAD_MAN)
        assert bench.engine.upkeep.dead_man.firings_on(bench.now) == n + 1
        bench.after(1).book()
        bench.switch()
        bench.acknowledge()
        assert len(bench.orders()) == 4
    assert bench.engine.upkeep.dead_man.firings_on(bench.now + DAY) == 0
    assert NEAREST < AHEAD


def test_a_cancel_of_ours_is_no_firing() -> None:
    """Only the venue's own word for it counts."""
    bench = Bench(upkeep=VENUE).start()
    bench.tell(bench.orders()[0].cl_ord_id, ExecType.CANCELED, reason="canceled by the venue")
    assert (bench.engine.upkeep.dead_man.firings, bench.engine.blocked) == (0, "")


# The count of requests --------------------------------------------------------------------------------------------


def test_the_count_is_asked_for_beside_quoting() -> None:
    """At the start, every ten seconds without an answer, then every ten minutes; each question weighs twenty."""
    bench = Bench(upkeep=VENUE).start()
    asked = [bench.now]
    for _ in range(2):
        start = bench.now
        while RequestBudget() not in bench.pass_time(0.5):
            assert bench.now - start < 20 * SECOND
        asked.append(bench.now)
    assert [later - earlier for earlier, later in pairwise(asked)] == [BACK_OFF] * 2
    bench.budget(100)
    assert RequestBudget() not in bench.pass_time((ASK_EVERY - SECOND) / SECOND)
    assert RequestBudget() in bench.pass_time(2)


def test_the_switch_is_counted_as_a_request() -> None:
    """Each refresh spends one of the budget, and is shown among what this run has sent."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(0)
    before = bench.engine.upkeep.governor.requests
    times = schedules(bench.pass_time(60))
    governor = bench.engine.upkeep.governor
    assert governor.requests - before == governor.used == len(times) == 30


def test_the_switch_and_questions_go_out_of_an_empty_budget() -> None:
    """Nothing left, and the weight spent: the switch is still kept up, an order in doubt still asked about."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(20_000)
    bench.engine.upkeep.governor.spend(0, 100 * HEAVY, bench.now)
    bench.tell(bench.orders()[0].cl_ord_id, ExecType.LOST)
    assert queries(bench.timer())
    bench.pass_time(3)
    assert schedules(bench.pass_time(8))
    assert text(bench) == "ARMED"


# Restoring --------------------------------------------------------------------------------------------------------


def test_a_restored_upkeep_wakes_when_the_first_would() -> None:
    """I10: between two wakes a restored engine must not ask what the first one does not."""
    made = Upkeep(VENUE)
    made.step(SECOND, True, True, True)
    assert made.wake == SECOND + PATIENCE
    again = Upkeep(VENUE)
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=UpkeepState))
    assert (again.wake, again.checkpoint()) == (made.wake, made.checkpoint())


@pytest.mark.parametrize("spent", [0, 2000])
def test_an_engine_restored_between_two_wakes_acts_the_same(spent: int) -> None:
    """I10: also where so much was spent since the last wake that the count is due: both notice at the same event."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(0)
    bench.pass_time(20)
    bench.engine.upkeep.governor.spend(spent, 0, bench.now)
    twin = Engine(engine_params(upkeep=VENUE))
    twin.restore(bench.engine.checkpoint())
    for _ in range(8):
        bench.after(0.4)
        event: Event = Bbo(bench.now, "A", bench.now, 0, 999, 5, 1001, 5)
        assert twin.handle(event) == bench.engine.handle(event)
        assert twin.wake_at == bench.engine.wake_at
        assert twin.checkpoint() == bench.engine.checkpoint()


@given(st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0, 9.0]), min_size=1, max_size=30), st.integers(0, 12_000))
def test_no_wake_is_past_and_no_refresh_late(waits: list[float], used: int) -> None:
    """However long the loop sleeps: after each event the next wake is ahead, and the switch asked for if it is due."""
    bench = Bench(upkeep=VENUE).start()
    bench.budget(used)
    for wait in waits:
        bench.after(wait)
        lapsed = not bench.engine.upkeep.dead_man.covers(bench.now)
        actions = bench.book()
        assert lapsed <= (not entries(actions))
        if bench.engine.wake_at <= bench.now:
            actions += bench.timer()
        assert bench.engine.wake_at > bench.now
        assert bench.engine.wake_at <= bench.now + STRETCHED
        for time in schedules(actions):
            assert time == bench.now + AHEAD
            bench.switch(until=time)
        bench.acknowledge()


def test_the_default_is_a_venue_without_amends() -> None:
    """What is not said is not assumed: amends are off, the switch is there, which fails safe where it is not."""
    assert (UpkeepConfig(VENUE.governor).amends, UpkeepConfig(VENUE.governor).dead_man) == (False, True)
    assert not Upkeep(None).amends
    bench = Bench(upkeep=UpkeepConfig(VENUE.governor)).start()
    assert amends(bench.after(1).book(1001, 1003)) == []


def test_reconnecting_leaves_live_orders_covered() -> None:
    """A short cut: what the venue confirmed still stands, so the orders that rest are covered till then; anew at once.
    """
    bench = Bench(upkeep=VENUE).start()
    bench.disconnect()
    assert schedules(bench.after(0.5).connect()) == [bench.now + AHEAD]
    bench.book()
    assert bench.reconcile([listing(order) for order in bench.orders()]) == []
    assert (text(bench), bench.engine.blocked) == ("ARMED", "")
