"""Pair policy: what the engine does with one leg of a pair when the other is refused; refreshes and the mark."""

import msgspec
import pytest
from engine_builders import (
    WIDE,
    A,
    Bench,
    Wild,
    cancels,
    engine_params,
    places,
    report,
    wild_event,
    wild_events,
)
from hypothesis import given, settings

from mmpi.actions import Action
from mmpi.engine import Engine
from mmpi.events import BookSnapshot, Event, ExecType, Mark
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL
from mmpi.orders import Order
from mmpi.quoting.improve import ImproveConfig

KEEP = ImproveConfig(
    size="10", notional="", improvement_ticks=0, reference_size="5", reference_notional="", min_spread_bps=0.0,
    cancel_threshold_bps=0.0, refresh_interval_s=4.0,
)  # fmt: skip
"""It joins the touch of Bench's books: 999 and 1001."""
CANCEL = msgspec.structs.replace(KEEP, pair_policy="cancel")
RETRY_S = 4.0
TIGHT = msgspec.structs.replace(WIDE, price_band_bps=500.0)


def bench(config: ImproveConfig = CANCEL, risk: object = TIGHT) -> Bench:
    return Bench((A,), config, risk)  # type: ignore[arg-type]


def leg(made: Bench, side: int) -> Order:
    """Return the only live order of a side."""
    (order,) = [order for order in made.orders() if order.side == side]
    return order


def refuse(made: Bench, side: int) -> list[Action]:
    """Have the venue refuse the order of a side, in an answer that does not name the side."""
    return made.tell(leg(made, side).cl_ord_id, ExecType.REJECTED)


def deep(made: Bench, bids: tuple[tuple[int, int], ...], asks: tuple[tuple[int, int], ...]) -> BookSnapshot:
    return BookSnapshot(made.now, "A", made.now, 0, bids, asks)


@pytest.mark.parametrize(("side", "other"), [(BUY, SELL), (SELL, BUY)])
def test_the_partner_of_a_refused_leg_is_cancelled_at_once(side: int, other: int) -> None:
    """Under "cancel" the very report that refuses one leg withdraws the other, and nothing is placed."""
    made = bench()
    made.quote()
    made.tell(leg(made, other).cl_ord_id, ExecType.NEW)
    actions = refuse(made, side)
    assert [action.cl_ord_id for action in cancels(actions)] == [leg(made, other).cl_ord_id]
    assert not places(actions)
    assert made.engine.desks["A"].reason == "leg_refused"


def test_a_partner_on_its_way_is_cancelled_when_it_rests() -> None:
    """An order that the venue has not confirmed cannot be cancelled; its confirmation is when."""
    made = bench()
    made.quote()
    assert not cancels(refuse(made, BUY))
    ask = leg(made, SELL)
    assert [action.cl_ord_id for action in cancels(made.tell(ask.cl_ord_id, ExecType.NEW))] == [ask.cl_ord_id]


@pytest.mark.parametrize("refresh_s", [RETRY_S, 0.0, 0.5])
def test_both_legs_come_back_together(refresh_s: float) -> None:
    """By timers alone the pair is tried again after the longer of refresh and interval, and not sooner by a book."""
    made = bench(msgspec.structs.replace(CANCEL, refresh_interval_s=refresh_s))
    made.quote()
    made.tell(leg(made, SELL).cl_ord_id, ExecType.NEW)
    refuse(made, BUY)
    made.acknowledge()
    refused, retry = made.now, max(refresh_s, 2.0)
    assert not made.orders()
    saved = made.engine.checkpoint()
    made.now = refused + round(retry * SECOND) - 1
    assert not places(made.book())
    made.engine.restore(saved)
    for _ in range(5):
        if made.engine.wake_at < refused + round(retry * SECOND):
            made.now = max(made.now, made.engine.wake_at)
            assert not places(made.timer())
    assert made.engine.wake_at == refused + round(retry * SECOND)
    made.now = made.engine.wake_at
    assert [order.side for order in places(made.timer())] == [BUY, SELL]


def test_a_leg_that_reduces_is_never_withdrawn() -> None:
    """Long, and the bid refused: the ask stays, reducing orders override. Short, the mirror; flat again, it goes."""
    for position, side, other in ((30, BUY, SELL), (-30, SELL, BUY)):
        made = bench()
        made.connect()
        made.book()
        made.reconcile(A=position)
        made.tell(leg(made, other).cl_ord_id, ExecType.NEW)
        assert not refuse(made, side)
        made.after(1.0).book()
        assert leg(made, other).status.value == "new"
        made.after(RETRY_S).book()
        assert sorted(order.side for order in made.orders()) == [SELL, BUY]


def test_a_reducing_leg_that_is_refused_takes_its_partner_along() -> None:
    """Long, and the ask refused: the bid would only add."""
    made = bench()
    made.connect()
    made.book()
    made.reconcile(A=30)
    made.tell(leg(made, BUY).cl_ord_id, ExecType.NEW)
    assert [action.cl_ord_id for action in cancels(refuse(made, SELL))] == [leg(made, BUY).cl_ord_id]


def test_keep_leaves_the_partner() -> None:
    """Under "keep" nothing is cancelled, and the refused leg is tried again at the next re-quote."""
    made = bench(KEEP)
    made.quote()
    made.tell(leg(made, SELL).cl_ord_id, ExecType.NEW)
    assert not refuse(made, BUY)
    assert not made.after(1.0).book()
    made.after(1.0)
    assert [order.side for order in places(made.timer())] == [BUY]
    assert leg(made, SELL).status.value == "new"


def test_a_bid_that_risk_refuses_never_gets_a_partner() -> None:
    """The only bid with the size is 10 % away, beyond the price band: neither leg is sent; with "keep" the ask is."""
    for config, expected in ((CANCEL, []), (KEEP, [SELL])):
        made = bench(config)
        made.connect()
        made.feed(deep(made, ((999, 1), (900, 50)), ((1001, 50),)))
        assert [order.side for order in places(made.reconcile())] == expected
        assert made.engine.gate.refusals == {"price_band": 1}
    made = bench(CANCEL)
    made.connect()
    made.feed(deep(made, ((999, 1), (900, 50)), ((1001, 50),)))
    made.reconcile()
    made.after(RETRY_S)
    made.book()
    assert sorted(order.side for order in made.orders()) == [SELL, BUY]


def test_an_ask_that_risk_refuses_calls_the_bid_back() -> None:
    """Bids are sent first: the bid of a refused ask is cancelled as soon as it rests."""
    made = bench()
    made.connect()
    made.feed(deep(made, ((999, 50),), ((1001, 1), (1100, 50))))
    (bid,) = places(made.reconcile())
    assert [action.cl_ord_id for action in cancels(made.tell(bid.cl_ord_id, ExecType.NEW))] == [bid.cl_ord_id]


def test_a_resting_partner_goes_when_risk_refuses_the_other_leg() -> None:
    """The bid is filled and its successor beyond the price band: the ask is withdrawn in the same service, unplaced."""
    made = bench()
    made.start()
    made.fill(leg(made, SELL), 10)
    made.fill(leg(made, BUY), 10)
    made.after(2.0).book()
    made.acknowledge()
    made.fill(leg(made, BUY), 10)
    made.fill("", 10, price=1000, side=SELL)
    assert made.engine.desks["A"].position.lots == 0
    made.after(2.0)
    actions = made.feed(deep(made, ((999, 1), (900, 50)), ((1001, 50),)))
    assert made.engine.gate.refusals == {"price_band": 1}
    assert not places(actions)
    assert [action.cl_ord_id for action in cancels(actions)] == [leg(made, SELL).cl_ord_id]


def test_a_refusal_beside_a_leaving_order_is_not_answered_at_once() -> None:
    """While the refused bid's forerunner may still trade the side is not failed, and no new bid is sent in a loop."""
    made = bench()
    made.start()
    made.after(2.0)
    moved = made.book(998, 1001)
    assert (len(cancels(moved)), [order.price for order in places(moved)]) == (1, [998])
    assert not made.tell(places(moved)[0].cl_ord_id, ExecType.REJECTED)
    made.acknowledge()
    made.after(2.0)
    assert [action.cl_ord_id for action in cancels(made.book(998, 1001))] == [leg(made, SELL).cl_ord_id]


def test_a_leg_waiting_for_its_forerunners_cancel_is_not_refused() -> None:
    """Limits have room for one bid: its successor waits for the cancel's answer, and the pair stays."""
    made = bench(CANCEL, msgspec.structs.replace(TIGHT, max_position=15_000 * MONEY_SCALE))
    made.start()
    made.after(2.0)
    assert not places(made.book(998, 1001))
    made.acknowledge()
    made.acknowledge()
    assert made.prices() == [1001, 998]
    assert made.engine.gate.refusals == {"position": 1}


@pytest.mark.parametrize("refresh_s", [0.0, 0.5, 4.0])
def test_it_flaps_no_faster_than_the_interval(refresh_s: float) -> None:
    """A venue that refuses every bid for a minute: pairs follow each other at the retry's pace, and then rest."""
    made = bench(msgspec.structs.replace(CANCEL, refresh_interval_s=refresh_s))
    made.quote()
    sent: list[int] = []
    for _ in range(240):
        made.after(0.25)
        actions = made.book()
        while made.engine.wake_at and made.engine.wake_at <= made.now:
            actions += made.timer()
        sent += [made.now for order in places(actions) if order.side == SELL]
        for order in list(made.orders()):
            if order.status.value == "pending_new" and order.side == BUY:
                actions = made.tell(order.cl_ord_id, ExecType.REJECTED)
                assert not places(actions)
        made.acknowledge()
        made.acknowledge()
    gaps = [later - sooner for sooner, later in zip(sent, sent[1:], strict=False)]
    assert len(gaps) > 10
    assert min(gaps) >= round(max(refresh_s, 2.0) * SECOND)
    made.after(max(refresh_s, 2.0)).book()
    made.acknowledge()
    assert made.prices() == [1001, 999]


def test_a_restored_engine_goes_on_the_same() -> None:
    """A checkpoint at any moment of a refusal and its retry: the restored engine sends the same, at the same times."""
    made = bench()

    def both(event: Event) -> None:
        twin = Engine(engine_params((A,), CANCEL, TIGHT))  # type: ignore[arg-type]
        twin.restore(made.engine.checkpoint())
        expected = [approved.action for approved in twin.handle(event)]
        assert made.feed(event) == expected
        assert (twin.wake_at, twin.checkpoint()) == (made.engine.wake_at, made.engine.checkpoint())

    for wild in (Wild("connected"), Wild("book", 19, 2), Wild("recover")):
        for event in wild_event(wild, made):
            both(event)
    bid, ask = leg(made, BUY), leg(made, SELL)
    for cl_ord_id, what in ((ask.cl_ord_id, ExecType.NEW), (bid.cl_ord_id, ExecType.REJECTED)):
        both(report(made.now, cl_ord_id, what))
    both(report(made.now, ask.cl_ord_id, ExecType.CANCELED))
    assert not made.orders()
    for _ in range(8):
        for event in wild_event(Wild("book", 19, 2), made):
            both(event)
    assert len(made.orders()) == 2


@settings(max_examples=60)
@given(wild_events(max_size=40))
def test_no_deadlock(events: list[Wild]) -> None:
    """Whatever went before, a venue that answers again gets both legs back."""
    made = bench(CANCEL, WIDE)
    for wild in events:
        for event in wild_event(wild, made):
            made.feed(event)
    made.after(60.0)
    for event in wild_event(Wild("recover"), made):
        made.feed(event)
    for _ in range(6):
        made.after(RETRY_S)
        made.book()
        made.acknowledge()
        made.confirm()
    assert made.prices() == [1001, 999]


# Refresh, threshold, mark ---------------------------------------------------------------------------------------------


def test_a_well_priced_order_is_kept_whatever_its_age() -> None:
    """Correction 5: an hour of refreshes moves nothing that stands at its price."""
    made = bench(KEEP).start()
    first = {order.cl_ord_id for order in made.orders()}
    for _ in range(900):
        made.after(RETRY_S)
        assert not made.book()
        assert not made.timer()
    assert {order.cl_ord_id for order in made.orders()} == first


def test_the_threshold_holds_until_the_refresh() -> None:
    """Within 20 bp of its target an order stays; the refresh, without waiting for a book, moves it exactly there."""
    made = bench(msgspec.structs.replace(KEEP, cancel_threshold_bps=20.0)).start()
    started = made.now
    assert not made.after(2.0).book(998, 1001)
    made.now = made.engine.wake_at
    assert made.now - started == round(RETRY_S * SECOND)
    moved = made.timer()
    assert (len(cancels(moved)), [order.price for order in places(moved)]) == (1, [998])


def test_beyond_the_threshold_an_order_moves_with_the_next_requote() -> None:
    """2 of 997 is 20.06 bp."""
    made = bench(msgspec.structs.replace(KEEP, cancel_threshold_bps=20.0)).start()
    assert not made.after(1.9).book(997, 1001)
    assert [order.price for order in places(made.after(0.1).book(997, 1001))] == [997]


def test_it_quotes_around_a_fresh_mark_and_pulls_with_it() -> None:
    """No bids: 1000 -/+ 5 bp of the mark; five seconds without a mark, and the quote is gone, once and for all."""
    made = bench(msgspec.structs.replace(KEEP, spread_bps=100.0))
    made.connect()
    made.book(0, 1001)
    assert not places(made.reconcile())
    assert made.engine.desks["A"].reason == "no_price"
    made.after(1.0)
    # 1000 - 5 of the mark; the ask joins 1001.
    assert [order.price for order in places(made.feed(Mark(made.now, "A", made.now, 1000.0)))] == [995, 1001]
    made.acknowledge()
    marked = made.now
    for _ in range(4):
        made.after(2.0)
        assert not made.feed(Mark(made.now, "A", made.now, 1000.0))
    last, rounds, gone = made.now, 0, 0
    assert last - marked == 8 * SECOND
    while made.engine.wake_at and rounds < 20:
        made.now = max(made.now, made.engine.wake_at)
        gone += len(cancels(made.timer()))
        made.acknowledge()
        rounds += 1
    assert (gone, made.orders(), made.engine.desks["A"].reason) == (2, [], "stale_data")
    assert made.now == last + 5 * SECOND + 1
    assert rounds < 5


def test_without_use_mark_a_one_sided_book_is_no_price() -> None:
    """The mark is not used where the configuration says so."""
    made = bench(msgspec.structs.replace(KEEP, use_mark=False))
    made.connect()
    made.feed(Mark(made.now, "A", made.now, 1000.0))
    made.book(0, 1001)
    assert not places(made.reconcile())
