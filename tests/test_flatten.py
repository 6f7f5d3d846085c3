"""Flattening: what is held is sold by orders that can only reduce, at three tiers of price, attempt by attempt."""

import random

import msgspec
import pytest
from engine_builders import WIDE, A, B, Bench, book, listing, places

from mmpi.actions import CancelOrder, NewOrder, RequestReconcile, TimeInForce
from mmpi.events import ExecType, Flatten, Mark
from mmpi.flatten import DOUBT, FLATTEN_LEVEL, PAUSE
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.risk import Refusal, RiskConfig


def holding(lots: int, risk: RiskConfig = WIDE) -> Bench:
    """Return a quoting engine that holds so much of A."""
    bench = Bench(risk=risk).start()
    side = BUY if lots > 0 else SELL
    bench.fill("0x" + "77" * 16, abs(lots), 1000, side)
    bench.acknowledge()
    return bench


def flatten(bench: Bench) -> list[NewOrder]:
    """Let it reduce only, answer its cancels and its question; return what it then sells."""
    actions = bench.feed(Flatten(bench.now, "flatten"))
    assert places(actions) == []
    bench.acknowledge()
    return places(bench.reconcile(A=bench.engine.desks["A"].position.lots))


def end(bench: Bench, order: NewOrder, filled: int = 0) -> list[NewOrder]:
    """Answer an order: filled so far, the rest cancelled, as a venue does with IOC; return what follows in time."""
    actions = bench.tell(order.cl_ord_id, ExecType.NEW)
    if filled:
        actions += bench.fill(bench.engine.desks["A"].orders.live[order.cl_ord_id], filled)
    if filled < order.size:
        actions += bench.tell(order.cl_ord_id, ExecType.EXPIRED, reason="immediate or cancel")
    assert actions == [RequestReconcile("flatten")], "the venue says what is left before anything else is sold"
    bench.after(PAUSE / SECOND)
    return places(bench.confirm() + bench.book())


def test_ladder_first_then_the_position() -> None:
    """Quotes are cancelled, the account is reconciled, and only then one reduce-only IOC order sells all of it."""
    bench = holding(7)
    actions = bench.feed(Flatten(bench.now, "flatten"))
    assert {type(each) for each in actions} == {CancelOrder, RequestReconcile}
    assert bench.engine.blocked == "flattening: flatten"
    assert places(bench.reconcile([listing(each) for each in bench.orders()], A=7)) == [], "orders are still live"
    sold = places(bench.acknowledge())
    assert [(each.side, each.size, each.time_in_force, each.reduce_only, each.level) for each in sold] == [
        (SELL, 7, TimeInForce.IOC, True, FLATTEN_LEVEL)
    ]
    assert end(bench, sold[0], 7) == []
    assert bench.engine.flattening.text == "flat"
    assert bench.engine.desks["A"].position.lots == 0


@pytest.mark.parametrize(
    ("lots", "bid", "ask", "price"),
    [
        (5, 1499, 1501, 1498),  # 10 bp below the best bid, not more
        (-5, 1499, 1501, 1502),
        (5, 0, 1503, 1502),  # no bid: 10 bp below the ask
        (-5, 1497, 0, 1498),
        (5, 0, 0, 1493),  # nothing: 50 bp below the last valid mid, not more
        (-5, 0, 0, 1507),
        (5, 1501, 1499, 1493),  # crossed: no book to go by
    ],
)
def test_the_three_tiers(lots: int, bid: int, ask: int, price: int) -> None:
    """The opposite touch, else our own side's, else the last valid mid with more slippage."""
    bench = holding(lots)
    bench.feed(Flatten(bench.now, "flatten"))
    bench.acknowledge()
    bench.book(1499, 1501)
    bench.book(bid, ask)
    (sold,) = places(bench.reconcile(A=lots))
    assert (sold.price, sold.side, sold.size) == (price, SELL if lots > 0 else BUY, abs(lots))


def test_a_stale_book_is_no_touch() -> None:
    """Levels that nobody has confirmed for longer than a feed may be silent are not sold into; the last mid counts."""
    bench = holding(5)
    bench.after(60)
    assert flatten(bench)[0].price == 995


def test_the_mark_where_there_never_was_a_mid() -> None:
    """A position found at the venue before any book is sold around the venue's mark."""
    bench = Bench()
    bench.connect()
    bench.reconcile(A=5)
    bench.feed(Mark(bench.now, "A", bench.now, 1000.0, 0.0, 0.0))
    bench.feed(Flatten(bench.now, "flatten"))
    assert [each.price for each in places(bench.reconcile(A=5))] == [995]


def test_slippage_grows_up_to_its_limit() -> None:
    """Each attempt goes one step further through the book, never beyond the most, and never beyond the price band."""
    risk = msgspec.structs.replace(
        WIDE, flatten_base_bps=0.0, flatten_step_bps=100.0, flatten_max_bps=300.0, flatten_attempts=6
    )
    bench = holding(5, risk)
    sold = flatten(bench)
    prices = []
    while sold:
        prices.append(sold[0].price)
        sold = end(bench, sold[0])
    assert prices == [999, 990, 980, 970, 970, 970]
    assert bench.engine.flattening.text == "failed: A 5 left after 6 attempts: immediate or cancel"
    assert places(bench.after(60).book()) == []


def test_partial_fills_go_on_with_the_rest() -> None:
    """What an attempt has sold is not sold again."""
    bench = holding(9)
    (first,) = flatten(bench)
    (second,) = end(bench, first, 4)
    assert (first.size, second.size) == (9, 5)
    assert end(bench, second, 5) == []
    assert bench.engine.flattening.text == "flat"


def test_one_order_at_a_time() -> None:
    """While an attempt is unanswered there is no other, however many books come."""
    bench = holding(5)
    flatten(bench)
    for _ in range(5):
        assert places(bench.after(0.6).book()) == []


@pytest.mark.parametrize("latched", [True, False])
def test_a_halt_ends_it_at_once(latched: bool) -> None:
    """From a press on nothing more is placed, not even what reduces; resumed it quotes again."""
    bench = holding(9)
    (first,) = flatten(bench)
    bench.halt("pressed", latched=latched)
    bench.tell(first.cl_ord_id, ExecType.EXPIRED)
    for _ in range(5):
        assert places(bench.after(1).book()) == []
    assert (bench.engine.gate.reducing, bench.engine.flattening.text) == (False, "")
    bench.resume()
    bench.confirm()
    assert bench.engine.quoting


def test_it_works_while_latched_by_a_limit() -> None:
    """A touched limit forbids quoting, not selling what is held."""
    bench = holding(9)
    bench.engine.gate.breach = "drawdown"
    bench.halt("drawdown")
    assert [each.size for each in flatten(bench)] == [9]


def test_a_lost_connection_reconciles_first() -> None:
    """In the middle of it the session is lost: after that the venue's own word on the position is what is sold."""
    bench = holding(9)
    flatten(bench)
    bench.disconnect()
    bench.connect()
    assert places(bench.after(1).book()) == []
    (order,) = bench.orders()
    assert places(bench.reconcile(A=4)) == [], "a drift is believed when it is told twice"
    bench.after(6).timer()
    bench.tell(order.cl_ord_id, ExecType.NOT_FOUND)
    assert bench.reconcile(A=4) == [RequestReconcile("flatten")], "the order ended since the venue was asked"
    assert [each.size for each in places(bench.reconcile(A=4))] == [4]


def test_an_unknown_fate_is_not_waited_for_for_ever() -> None:
    """Orders in doubt count as live; after a while only what they cannot cover is sold."""
    bench = holding(9)
    (sell, *_) = [order for order in bench.orders() if order.side == SELL]
    bench.feed(Flatten(bench.now, "flatten"))
    for order in bench.orders():
        if order is not sell:
            bench.tell(order.cl_ord_id, ExecType.CANCELED)
    sell.size = 4
    bench.reconcile([], A=9)
    assert places(bench.book()) == []
    bench.now += DOUBT
    assert RequestReconcile("flatten") in bench.book()
    assert [each.size for each in places(bench.reconcile([], A=9))] == [5]


def test_two_instruments() -> None:
    """Each is sold by itself; it is flat when both are, and what fails is named."""
    bench = Bench((A, B))
    bench.start("A", "B")
    bench.feed(Flatten(bench.now, "flatten"))
    bench.acknowledge()
    bench.reconcile(A=3, B=-2)
    sold = places(bench.after(1).reconcile(A=3, B=-2))
    assert sorted((each.instrument, each.side, each.size) for each in sold) == [("A", SELL, 3), ("B", BUY, 2)]


def test_nothing_held_is_flat_at_once() -> None:
    """Without a position it only pulls the ladder."""
    bench = Bench().start()
    assert flatten(bench) == []
    assert bench.engine.flattening.text == "flat"


def test_the_gate_lets_nothing_else_pass() -> None:
    """Reducing, the gate refuses every order that is not reduce-only, or that would turn the position."""
    bench = holding(5)
    flatten(bench)
    gate, desk = bench.engine.gate, bench.engine.desks["A"]
    desk.orders.live.clear()
    cases = [
        NewOrder("A", "0x1", SELL, 998, 5, 0, TimeInForce.IOC),
        NewOrder("A", "0x1", SELL, 998, 6, 0, TimeInForce.IOC, reduce_only=True),
        NewOrder("A", "0x1", BUY, 1002, 1, 0, TimeInForce.IOC, reduce_only=True),
    ]
    for order in cases:
        assert gate.approve(order, A, desk.exposure(0), bench.now) is Refusal.NOT_REDUCING


@pytest.mark.parametrize("seed", range(30))
def test_it_never_increases_a_position(seed: int) -> None:
    """Random books, fills, rejects, silences and halts: no order ever leads further from zero than what is held."""
    chance = random.Random(seed)
    bench = holding(chance.choice([-9, -3, 4, 20]))
    desk = bench.engine.desks["A"]
    actions = bench.feed(Flatten(bench.now, "flatten"))
    held = abs(desk.position.lots)
    for _ in range(120):
        for order in places(actions):
            assert order.reduce_only and order.size <= abs(desk.position.lots)
            assert order.side == (SELL if desk.position.lots > 0 else BUY)
        bench.now += chance.randrange(2 * SECOND)
        live = list(desk.orders.live.values())
        what = chance.choice(["book", "book", "timer", "answer", "answer", "reconcile", "halt"])
        if what == "book":
            actions = bench.feed(book(bench.now, chance.choice([0, 990, 999]), chance.choice([0, 1001, 1010])))
        elif what == "answer" and live:
            order = chance.choice(live)
            size = chance.randint(0, min(order.leaves, abs(desk.position.lots))) if order.level == FLATTEN_LEVEL else 0
            actions = bench.fill(order, size) if size else bench.tell(
                order.cl_ord_id, chance.choice([ExecType.REJECTED, ExecType.EXPIRED, ExecType.CANCELED])
            )  # fmt: skip
        elif what == "reconcile":
            actions = bench.confirm()
        elif what == "halt" and chance.random() < 0.1:
            bench.halt()
            actions = bench.feed(Flatten(bench.now, "again"))
        else:
            actions = bench.timer()
        assert abs(desk.position.lots) <= held
        held = abs(desk.position.lots)
        assert not 0 < bench.engine.wake_at < bench.now - 10 * SECOND


def test_a_restored_engine_goes_on_with_it() -> None:
    """From a checkpoint in the middle both do the same for ever."""
    bench = holding(9)
    (first,) = flatten(bench)
    twin = Bench()
    twin.engine.restore(bench.engine.checkpoint())
    twin.now, twin._execs = bench.now, bench._execs
    assert end(bench, first, 4) == end(twin, first, 4) != []
    assert bench.engine.checkpoint() == twin.engine.checkpoint()
