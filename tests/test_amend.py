"""Amends: two orders in one step; whatever becomes of either, both are at stake until the venue has told."""

import itertools
import random
from collections.abc import Iterable

import msgspec
import pytest
from engine_builders import (
    PATIENCE,
    VENUE,
    WIDE,
    A,
    Bench,
    CarelessVenue,
    amends,
    book,
    cancels,
    entries,
    listing,
    places,
    queries,
    report,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.actions import Action, AmendOrder, CancelOrder, NewOrder, QueryOrder
from mmpi.deadman import REFRESH
from mmpi.events import Event, ExecReport, ExecType, OpenOrder, Stopping, Timer
from mmpi.governor import GovernorConfig
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL
from mmpi.orders import MAX_FINISHED, Order, OrdStatus
from mmpi.quoting.layered import LayeredConfig
from mmpi.upkeep import UpkeepConfig

S = OrdStatus
ONE = LayeredConfig(
    levels=1, spread_percent=0.19, step_percent=0.1, size="10", notional="", tolerance_percent=0.0,
    size_tolerance_percent=0.0,
)  # fmt: skip
"""Around a mid of 1000: one bid at 999, one ask at 1001, ten lots each."""


def limited(**limits: int) -> Bench:
    """Return a bench of one order a side, with limits in the quote currency, quoting."""
    scaled = {name: value * MONEY_SCALE for name, value in limits.items()}
    return Bench(upkeep=VENUE, quoter=ONE, risk=msgspec.structs.replace(WIDE, **scaled)).start()


def in_flight() -> tuple[Bench, AmendOrder, Order, Order]:
    """Return a bench whose ask is being amended from 1001 to 1002, that amend, and the old and the new order."""
    bench = limited()
    actions = bench.after(1).book(1000, 1002)
    (amend,) = [each for each in amends(actions) if each.side == SELL]
    live = bench.engine.desks["A"].orders.live
    old, new = live[amend.orig_cl_ord_id], live[amend.cl_ord_id]
    for order in bench.orders():
        if order.side == BUY:
            bench.tell(order.cl_ord_id, ExecType.NEW if order.status is S.PENDING_NEW else ExecType.CANCELED)
    return bench, amend, old, new


# What goes out ----------------------------------------------------------------------------------------------------


def test_a_moved_order_goes_in_one_step() -> None:
    """One action names the old order by its id and the venue's, and the new one by an id of its own."""
    bench = limited()
    for order in bench.orders():
        bench.feed(report(bench.now, order.cl_ord_id, ExecType.NEW, order_id=f"venue-{order.price}"))
    old = {order.side: order.cl_ord_id for order in bench.orders()}
    actions = bench.after(1).book(1000, 1002)
    assert {type(each) for each in actions} == {AmendOrder}
    assert [(each.side, each.price, each.size, each.order_id) for each in amends(actions)] == [
        (BUY, 1000, 10, "venue-999"), (SELL, 1002, 10, "venue-1001"),
    ]  # fmt: skip
    assert {each.side: each.orig_cl_ord_id for each in amends(actions)} == old
    names = {each.cl_ord_id for each in amends(actions)}
    assert len(names | set(old.values())) == 4
    assert bench.engine.placement.counts() == (4, 2)
    assert sorted(order.status.value for order in bench.orders()) == ["pending_new"] * 2 + ["pending_replace"] * 2


def test_without_amends_two_actions_do_the_same() -> None:
    """`venue.amend = false`, and every simulated exchange: a cancel and a new order."""
    for upkeep in (None, UpkeepConfig(GovernorConfig())):
        bench = Bench(upkeep=upkeep, quoter=ONE).start()
        actions = bench.after(1).book(1000, 1002)
        assert {type(each) for each in actions} == {CancelOrder, NewOrder}
        assert bench.engine.placement.counts()[1] == 0


def test_what_has_no_successor_is_cancelled() -> None:
    """Three orders found at the venue for two targets: one is amended, by its own ids, and the rest goes first."""
    bench = Bench(upkeep=VENUE, quoter=msgspec.structs.replace(ONE, levels=2))
    bench.connect()
    bench.switch()
    bench.book()
    strays = [OpenOrder("A", f"0xearlier{n}", f"7{n}", SELL, 1005 + n, 7) for n in range(3)]
    actions = bench.reconcile(strays)
    assert [(each.orig_cl_ord_id, each.order_id, each.price, each.size) for each in amends(actions)] == [
        ("0xearlier0", "70", 1001, 10)
    ]
    assert {each.cl_ord_id for each in cancels(actions)} == {"0xearlier1", "0xearlier2"}
    assert [(each.side, each.price) for each in places(actions)] == [(BUY, 999), (BUY, 998)]
    assert actions.index(amends(actions)[0]) > max(actions.index(each) for each in cancels(actions))


def test_an_amend_of_one_side_waits_for_the_other_to_be_out_of_its_way() -> None:
    """Never two own orders crossed: the bid that would stand above the old ask waits until that has left."""
    bench = limited()
    actions = bench.after(1).book(1009, 1011)
    assert [(each.side, each.price) for each in entries(actions)] == [(SELL, 1011)]
    (bid,) = cancels(actions)
    bench.tell(bid.cl_ord_id, ExecType.CANCELED)
    (amend,) = amends(actions)
    assert entries(bench.tell(amend.cl_ord_id, ExecType.NEW)) == []
    assert [(each.side, each.price) for each in places(bench.tell(amend.orig_cl_ord_id, ExecType.CANCELED))] == [
        (BUY, 1009)
    ]


def test_both_orders_count_until_the_venue_has_told() -> None:
    """I1, I4: the old one may fill before it is replaced, the new one after: limits see both."""
    bench, _, old, new = in_flight()
    at = bench.engine.desks["A"].exposure(0)
    assert (old.status, new.status, at.open_sells) == (S.PENDING_REPLACE, S.PENDING_NEW, 20)
    bench.tell(new.cl_ord_id, ExecType.NEW)
    assert bench.engine.desks["A"].exposure(0).open_sells == 20
    bench.tell(old.cl_ord_id, ExecType.CANCELED)
    assert bench.engine.desks["A"].exposure(0).open_sells == 10


def test_where_both_would_be_too_much_the_old_one_goes_first() -> None:
    """A limit with room for one order a side: a cancel, and with its answer the new order; never stuck."""
    bench = limited(max_position=15_500)
    actions = bench.after(1).book(1000, 1002)
    assert (len(cancels(actions)), entries(actions)) == (2, [])
    for order in bench.orders():
        assert len(places(bench.tell(order.cl_ord_id, ExecType.CANCELED))) == 1
    bench.acknowledge()
    assert len(bench.orders()) == 2


def test_a_reducing_order_moves_though_the_limit_is_passed() -> None:
    """Correction 4: long far beyond the limit; the ask that leads back still follows the market."""
    bench = Bench(upkeep=VENUE, quoter=ONE, risk=msgspec.structs.replace(WIDE, max_position=5_000 * MONEY_SCALE))
    bench.connect()
    bench.switch()
    bench.reconcile(A=10)
    bench.engine.gate.accepted["A"] = 10
    assert [each.side for each in places(bench.after(1).book())] == [SELL]
    bench.acknowledge()
    for step in (1, 2, 3):
        bench.after(1).switch()
        bench.book(999 + step, 1001 + step)
        bench.acknowledge()
        bench.acknowledge()
        assert [(order.side, order.price) for order in bench.orders()] == [(SELL, 1001 + step)]


# What comes back --------------------------------------------------------------------------------------------------


def outcomes(old: Order, new: Order, old_filled: int, new_filled: int, accepted: bool) -> list[ExecReport]:
    """Return what a venue tells of an amend, in the order in which it happened; a fill of 0 is none."""
    told: list[ExecReport] = []
    for order, filled, exec_id in ((old, old_filled, "a"), (new, new_filled, "b")):
        if order is new:
            told.append(report(0, new.cl_ord_id, ExecType.NEW if accepted else ExecType.REJECTED, order_id="2"))
        if filled and (order is old or accepted):
            told.append(
                report(0, order.cl_ord_id, ExecType.TRADE, size=filled, price=order.price, side=SELL, exec_id=exec_id)
            )
        if order is old:
            told.append(report(0, old.cl_ord_id, ExecType.FILLED if old_filled == 10 else ExecType.CANCELED))
        elif filled == 10 and accepted:
            told.append(report(0, new.cl_ord_id, ExecType.FILLED))
    return told


@settings(max_examples=40)
@given(st.sampled_from([0, 4, 10]), st.sampled_from([0, 4, 10]), st.booleans(), st.randoms(use_true_random=False),
       st.lists(st.integers(0, 5), max_size=3))  # fmt: skip
def test_reports_in_any_order_lead_to_the_same_books(
    old_filled: int, new_filled: int, accepted: bool, rng: random.Random, again: list[int]
) -> None:
    """Fills of either leg, before or after any other report, some twice: position and orders are the venue's."""
    bench, _, old, new = in_flight()
    told = outcomes(old, new, old_filled, new_filled, accepted)
    told += [told[index] for index in again if index < len(told)]
    rng.shuffle(told)
    desk = bench.engine.desks["A"]
    most = 20
    for event in told:
        before = desk.position.lots
        bench.feed(msgspec.structs.replace(event, recv_ts=bench.now))
        at = desk.exposure(0)
        bought = sum(each.size - each.filled for each in desk.orders.live.values() if each.side == BUY)
        assert at.open_buys == bought
        assert -desk.position.lots <= most
        assert desk.position.lots <= before
    sold = old_filled + (new_filled if accepted else 0)
    assert desk.position.lots == -sold
    assert old.cl_ord_id not in desk.orders.live
    assert (new.cl_ord_id in desk.orders.live) is (accepted and new_filled < 10)
    assert (desk.orders.overfilled, bench.engine.violations, len(desk.orders.owed)) == (0, 0, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(["old", "new"])))
def test_a_refused_amend_leaves_a_question(order: tuple[str, ...]) -> None:
    """Nothing took the old order's place; whether it still rests is asked, and its slot waits for the answer."""
    bench, _, old, new = in_flight()
    asked: list[Action] = []
    words = {"old": (old, ExecType.CANCEL_REJECTED), "new": (new, ExecType.REJECTED)}
    for which in order:
        target, what = words[which]
        asked += bench.tell(target.cl_ord_id, what, reason="Cannot modify canceled or filled order")
    bench.now = max(bench.now, bench.engine.wake_at)
    asked += bench.timer()
    assert [each.cl_ord_id for each in queries(asked)] == [old.cl_ord_id]
    assert entries(asked) == []
    assert old.status is S.UNKNOWN
    assert bench.engine.desks["A"].exposure(0).open_sells == 10


@pytest.mark.parametrize("fate", [ExecType.NEW, ExecType.CANCELED, ExecType.FILLED, ExecType.NOT_FOUND])
def test_the_answer_about_the_old_order_goes_on_from_there(fate: ExecType) -> None:
    """Still live: moved once more. Gone, filled or unknown to the venue: a new order. One a side in the end."""
    bench, _, old, new = in_flight()
    bench.tell(new.cl_ord_id, ExecType.REJECTED)
    bench.tell(old.cl_ord_id, ExecType.CANCEL_REJECTED)
    bench.after(PATIENCE / SECOND).timer()
    if fate is ExecType.FILLED:
        bench.fill(old, 10, exec_id="last")
    bench.tell(old.cl_ord_id, fate)
    for _ in range(4):
        bench.after(1).switch()
        bench.book(1000, 1002)
        bench.acknowledge()
    asks = [order for order in bench.orders() if order.side == SELL]
    assert [(order.price, order.status) for order in asks] == [(1002, S.NEW)]
    assert bench.engine.desks["A"].position.lots == (-10 if fate is ExecType.FILLED else 0)


def test_an_amend_that_is_lost_leaves_two_questions() -> None:
    """LOST, both legs: nothing is put into the slot, both are asked about until the venue has answered on both."""
    bench, _, old, new = in_flight()
    bench.tell(old.cl_ord_id, ExecType.LOST)
    bench.tell(new.cl_ord_id, ExecType.LOST)
    asked: list[Action] = []
    for _ in range(12):
        bench.after(0.5).switch()
        asked += [*bench.book(1000, 1002), *bench.timer()]
    assert {each.cl_ord_id for each in queries(asked)} == {old.cl_ord_id, new.cl_ord_id}
    assert [each for each in entries(asked) if each.side == SELL] == []
    assert bench.engine.desks["A"].exposure(0).open_sells == 20
    bench.tell(new.cl_ord_id, ExecType.NEW)
    bench.tell(old.cl_ord_id, ExecType.CANCELED)
    assert bench.engine.desks["A"].exposure(0).open_sells == 10


def test_silence_about_an_amend_is_asked_about() -> None:
    """I4: after the patience both legs are UNKNOWN and asked about, by the wake that the engine itself asked for."""
    bench, _, old, new = in_flight()
    asked: list[QueryOrder] = []
    end = bench.now + PATIENCE
    while bench.now < end:
        bench.now = min(bench.engine.wake_at, end)
        actions = bench.timer()
        bench.switch()
        asked += queries(actions)
    assert {each.cl_ord_id for each in asked} == {old.cl_ord_id, new.cl_ord_id}
    assert (old.status, new.status) == (S.UNKNOWN, S.UNKNOWN)


@pytest.mark.parametrize("listed", ["old", "new", "both", "none"])
def test_a_cut_in_mid_amend_is_reconciled(listed: str) -> None:
    """I13: whichever of the two the venue lists is live, the other is asked about; nothing is doubled meanwhile."""
    bench, _, old, new = in_flight()
    bench.disconnect()
    assert (old.status, new.status) == (S.UNKNOWN, S.UNKNOWN)
    bench.connect()
    bench.switch()
    chosen = {"old": [old], "new": [new], "both": [old, new], "none": []}[listed]
    rest = [listing(order) for order in bench.orders() if order.side == BUY]
    actions = bench.reconcile([*rest, *[listing(order) for order in chosen]])
    assert bench.engine.desks["A"].exposure(0).open_sells == 20
    for order in (old, new):
        assert order.status in ((S.NEW, S.PENDING_CANCEL) if order in chosen else (S.UNKNOWN,))
    assert [each for each in entries(actions) if each.side == SELL] == []
    for order in (old, new):
        if order not in chosen:
            bench.tell(order.cl_ord_id, ExecType.CANCELED)
    for _ in range(4):
        bench.after(1).switch()
        bench.book(1000, 1002)
        bench.acknowledge()
    assert [order.price for order in bench.orders() if order.side == SELL] == [1002]


def test_a_halt_in_mid_amend_ends_whichever_lives() -> None:
    """Neither leg can be cancelled while it is in flight; each is, with the venue's first word that it lives."""
    for accepted in (True, False):
        bench, _, old, new = in_flight()
        assert {each.cl_ord_id for each in cancels(bench.halt())}.isdisjoint({old.cl_ord_id, new.cl_ord_id})
        if accepted:
            bench.tell(old.cl_ord_id, ExecType.CANCELED)
            ended = bench.tell(new.cl_ord_id, ExecType.NEW)
        else:
            bench.tell(new.cl_ord_id, ExecType.REJECTED)
            assert queries(bench.tell(old.cl_ord_id, ExecType.CANCEL_REJECTED))
            ended = bench.tell(old.cl_ord_id, ExecType.NEW)
        assert [each.cl_ord_id for each in cancels(ended)] == [(new if accepted else old).cl_ord_id]


def test_an_order_that_is_being_replaced_is_not_replaced_again() -> None:
    """The market runs on while an amend is in flight: the slot waits, and not a second request is made for it."""
    bench, _, old, new = in_flight()
    seen: list[Action] = []
    for step in range(1, 5):
        seen += bench.after(1).book(1000 + step, 1002 + step)
        bench.switch()
    assert [each for each in seen if getattr(each, "side", BUY) == SELL] == []
    named = [each.orig_cl_ord_id for each in amends(seen)] + [each.cl_ord_id for each in cancels(seen)]
    assert {old.cl_ord_id, new.cl_ord_id}.isdisjoint(named)


def test_a_part_of_it_filled_first_counts_on_the_old_one() -> None:
    """Four of ten sold before it was replaced: the new one is as large as was asked, and both are told apart."""
    bench, _, old, new = in_flight()
    bench.fill(old, 4)
    assert (old.status, bench.engine.desks["A"].exposure(0).open_sells) == (S.PENDING_REPLACE, 16)
    bench.tell(new.cl_ord_id, ExecType.NEW)
    bench.tell(old.cl_ord_id, ExecType.CANCELED)
    desk = bench.engine.desks["A"]
    assert (desk.position.lots, desk.exposure(0).open_sells, old.filled, new.filled) == (-4, 10, 4, 0)


def test_it_is_counted_as_one_request() -> None:
    """An amend costs one of the budget, and its weight is an action's, beside the cancels' and the orders'."""
    bench = limited()
    bench.budget(0)
    before = bench.engine.upkeep.governor.quotes
    actions = bench.after(1).book(1000, 1002)
    assert len(amends(actions)) == 2
    assert (bench.engine.upkeep.governor.used, bench.engine.upkeep.governor.quotes - before) == (2, 2)


# Whatever happens -------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
def test_the_position_at_the_venue_stays_within_its_limit(seed: int, loss: float) -> None:
    """I1, I4: amends lost, refused, late, crossing with fills: what the venue really holds never passes the limit."""
    risk = msgspec.structs.replace(WIDE, max_position=30_000 * MONEY_SCALE)
    bench = Bench((A,), risk=risk, upkeep=VENUE)
    venue, chance = CarelessVenue((A,), seed, loss), random.Random(seed)
    desk = bench.engine.desks["A"]
    mid, largest, amended = 1000, 0, 0

    def give(events: list[Event]) -> None:
        for event in events:
            actions = bench.feed(event)
            venue.send(actions, bench.now)
            check_own_orders(list(desk.orders.live.values()))

    give([])
    venue.send(bench.connect(), bench.now)
    for _ in range(100):
        bench.after(0.25)
        give(venue.deliver(bench.now, chance.random()))
        if bench.engine.wake_at and bench.now >= bench.engine.wake_at:
            give([Timer(bench.now)])
        mid = min(max(mid + chance.choice((-2, -1, 0, 1, 2)), 985), 1015)
        event = book(bench.now, mid - 1, mid + 1, "A", 30)
        venue.market(event)
        give([event])
        largest = max(largest, abs(venue.matching.position("", "A")))
        amended = bench.engine.placement.amended
    # 30,000 are 30 lots at 1000; the mid moves by 1.5 % at most.
    assert largest <= 30
    assert amended > 0 or loss > 0
    give([Stopping(bench.now, "asked")])
    venue.loss = 0.0
    for _ in range(200):
        bench.after(0.25)
        give(venue.deliver(bench.now, 1.0))
        if bench.engine.wake_at and bench.now >= bench.engine.wake_at:
            give([Timer(bench.now)])
        if bench.engine.stopped:
            break
    assert bench.engine.stopped
    assert desk.position.lots == venue.matching.position("", "A")


def check_own_orders(live: Iterable[Order]) -> None:
    """No bid of ours at or above an ask of ours, whatever state either is in."""
    sides = {side: [order.price for order in live if order.side == side] for side in (BUY, SELL)}
    assert not sides[BUY] or not sides[SELL] or max(sides[BUY]) < min(sides[SELL])


def test_memory_does_not_grow_with_amends() -> None:
    """I12: hundreds of moves of the market: live orders stay a few, ended ones within their bound."""
    bench = limited()
    for n in range(MAX_FINISHED + 100):
        bench.after(1).book(999 + n % 3, 1001 + n % 3)
        bench.acknowledge()
        bench.acknowledge()
        if n % (REFRESH // SECOND) == 0:
            bench.switch()
    desk = bench.engine.desks["A"]
    assert bench.engine.placement.amended > MAX_FINISHED
    assert len(desk.orders.live) <= 4
    assert len(desk.orders.doubtful) <= 4
    assert len(desk.orders.finished) <= MAX_FINISHED
    assert desk.orders.illegal == 0
