"""Flattening: what is held is sold by orders that can only reduce, at three tiers of price, attempt by attempt."""

import random

import msgspec
import pytest
from engine_builders import VENUE, WIDE, A, B, Bench, CarelessVenue, book, cancels, listing, places, report

from mmpi.actions import CancelOrder, NewOrder, RequestLatch, RequestReconcile, TimeInForce
from mmpi.events import (
    RATE_LIMIT,
    BookSnapshot,
    Connected,
    Disconnected,
    Event,
    ExecType,
    Flatten,
    Mark,
    Reconciled,
    Timer,
)
from mmpi.flatten import DOUBT, FLATTEN_LEVEL, GIVE_UP, PAUSE
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, make_instrument
from mmpi.risk import Refusal, RiskConfig
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.venue import SimVenue


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
    assert bench.acknowledge()[-1] == RequestReconcile("flatten"), "what they filled may still be on its way"
    sold = places(bench.confirm())
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


@pytest.mark.parametrize(
    ("lots", "bid", "ask", "price"), [(5, 900, 0, 950), (5, 1200, 0, 1050), (-5, 0, 1200, 1050), (-5, 0, 900, 950)]
)
def test_no_touch_leads_out_of_the_price_band(lots: int, bid: int, ask: int, price: int) -> None:
    """A side that jumped away from the last valid mid is followed as far as the gate lets any order go."""
    bench = holding(lots, msgspec.structs.replace(WIDE, price_band_bps=500.0))
    bench.feed(Flatten(bench.now, "flatten"))
    bench.acknowledge()
    bench.book(bid, ask)
    assert [each.price for each in places(bench.reconcile(A=lots))] == [price]


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
    assert bench.engine.flattening.text == "failed: A 5 left: immediate or cancel (6 attempts)"
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


def test_a_fill_that_comes_late_is_waited_for() -> None:
    """An answer may overtake the fills it speaks of: the next order is for what the venue says is held, not more."""
    bench = holding(9)
    (first,) = flatten(bench)
    assert bench.after(1).tell(first.cl_ord_id, ExecType.CANCELED) == [RequestReconcile("flatten")]
    assert bench.engine.wake_at > bench.now
    assert places(bench.after(1).book()) == []
    assert places(bench.fill(bench.engine.desks["A"].orders.finished[first.cl_ord_id], 6)) == []
    assert [each.size for each in places(bench.reconcile(A=3))] == [3]


def test_a_fill_that_never_comes_is_no_reason_to_sell_twice() -> None:
    """The venue holds nothing any more, though no fill was told: told twice it is believed, and that is flat."""
    bench = holding(9)
    (first,) = flatten(bench)
    bench.tell(first.cl_ord_id, ExecType.FILLED)
    assert bench.reconcile() == [RequestReconcile("position")]
    assert bench.reconcile() == []
    assert bench.engine.flattening.text == "flat"


def test_an_order_that_does_not_end_by_itself_is_cancelled() -> None:
    """Taken, and then no word: a sale that is over its time is cancelled like any order, halted or not."""
    for halted in (False, True):
        bench = holding(9)
        (first,) = flatten(bench)
        bench.tell(first.cl_ord_id, ExecType.NEW)
        if halted:
            bench.halt()
        assert cancels(bench.after(4).book()) == []
        assert [each.cl_ord_id for each in cancels(bench.after(1).book())] == [first.cl_ord_id]


def test_what_is_too_little_for_the_venue_is_named() -> None:
    """Dust: worth less than the venue's least order and refused once, it is not tried again; all else is sold."""
    dusty = make_instrument("A", "1", "1", min_notional="10000")
    bench = Bench((dusty, B))
    bench.connect()
    for name in ("A", "B"):
        bench.book(name=name)
    bench.feed(Flatten(bench.now, "flatten"))
    a, b = places(bench.reconcile(A=5, B=7))
    assert (a.size, b.size) == (5, 7), "a venue may take what only reduces, however little it is"
    bench.tell(a.cl_ord_id, ExecType.REJECTED, reason="Order must have minimum value of $10.")
    bench.tell(b.cl_ord_id, ExecType.EXPIRED, "B")
    bench.after(1)
    (again,) = places(bench.reconcile(A=5, B=7))
    assert again.instrument == "B"
    bench.feed(report(bench.now, again.cl_ord_id, ExecType.TRADE, name="B", size=7, price=999, side=SELL, exec_id="x"))
    assert places(bench.reconcile(A=5) + bench.after(5).book()) == []
    least = "A 5 left: too little for the venue: Order must have minimum value of $10."
    assert bench.engine.flattening.text == f"failed: {least}"


def test_a_price_is_waited_for() -> None:
    """A quoter that begins with this has no book yet: no attempt is spent, and with the first book it sells."""
    bench = Bench()
    bench.feed(Flatten(bench.now, "flatten"))
    assert bench.engine.flattening.text == "working: connecting"
    bench.connect()
    assert bench.engine.flattening.text == "working: reconciling"
    assert places(bench.reconcile(A=5)) == []
    for _ in range(30):
        assert places(bench.after(1).timer()) == []
    assert [each.price for each in places(bench.book())] == [999]


def test_it_gives_up_in_time() -> None:
    """Without any price, or any word on an order, it ends before the guardian's patience does, and says why."""
    bench = Bench()
    bench.connect()
    bench.feed(Flatten(bench.now, "flatten"))
    bench.reconcile(A=5)
    bench.after(GIVE_UP / SECOND).timer()
    assert bench.engine.flattening.text == "failed: A 5 left: there is no price"
    assert places(bench.after(1).book()) == []
    bench = holding(5)
    flatten(bench)
    for _ in range(50):
        asked = bench.after(1).timer()
        assert places(asked) == []
        if any(isinstance(each, RequestReconcile) for each in asked):
            bench.reconcile(A=5)
    assert bench.engine.flattening.text == "failed: A 5 left: no answer"
    bench = holding(5)
    flatten(bench)
    assert bench.engine.flattening.text == "working: A 5 left, attempt 1"
    bench.disconnect()
    assert bench.engine.flattening.text == "working: connecting"
    bench.after(GIVE_UP / SECOND).timer()
    assert bench.engine.flattening.text == "failed: A 5 left: connecting"


@pytest.mark.parametrize("why", ["stopping", "venue: no such agent"])
def test_what_will_never_be_placed_is_said_at_once(why: str) -> None:
    """I14: from a request to stop on nothing is placed, nor at a venue that takes nothing from us."""
    bench = holding(5)
    flatten(bench)
    actions = bench.stop() if why == "stopping" else bench.fault()
    assert places(actions) == []
    assert bench.engine.flattening.text == f"failed: A 5 left: {why}"
    assert places(bench.after(1).book() + bench.confirm()) == []


def test_an_untrusted_clock_is_waited_for() -> None:
    """I8: nothing is signed meanwhile."""
    bench = holding(5)
    bench.clock("off")
    bench.feed(Flatten(bench.now, "flatten"))
    bench.acknowledge()
    assert places(bench.confirm() + bench.after(1).book()) == []
    assert bench.engine.flattening.text == "working: clock: off"
    assert [each.size for each in places(bench.clock())] == [5]


def test_a_limit_touched_meanwhile_latches_afterwards() -> None:
    """What leads out of the loss is not ended by it: the guardian is asked to latch once the halt word says so."""
    bench = holding(9, msgspec.structs.replace(WIDE, session_loss=1000 * MONEY_SCALE))
    (first,) = flatten(bench)
    assert RequestLatch("session_loss") not in bench.book(799, 801)
    assert bench.engine.gate.breach == "session_loss"
    (second,) = end(bench, first, 4)
    assert (second.side, second.size) == (SELL, 5)
    assert bench.halt("flattened", latched=False)[0] == RequestLatch("session_loss")
    assert RequestLatch("session_loss") not in bench.halt("session_loss")
    bench = holding(9, msgspec.structs.replace(WIDE, session_loss=1000 * MONEY_SCALE))
    flatten(bench)
    bench.book(799, 801)
    assert RequestLatch("session_loss") in bench.stop(), "an end is no time to wait for another"


def test_selling_is_no_flood_of_fills() -> None:
    """An order that sweeps many levels has many fills; they are asked for."""
    bench = holding(20, msgspec.structs.replace(WIDE, max_fills_per_minute=3))
    (first,) = flatten(bench)
    order = bench.engine.desks["A"].orders.live[first.cl_ord_id]
    for _ in range(20):
        bench.fill(order, 1)
    bench.confirm()
    assert (bench.engine.flattening.text, bench.engine.gate.breach) == ("flat", "")


def test_spent_requests_spend_no_attempts() -> None:
    """While the venue takes no more requests nothing is sent, and the slippage does not grow."""
    bench = Bench(upkeep=VENUE).start()
    bench.fill("0x" + "77" * 16, 5, 1000, BUY)
    bench.halt(latched=False)
    bench.acknowledge()
    bench.feed(Flatten(bench.now, "flatten"))
    (first,) = places(bench.confirm())
    bench.tell(first.cl_ord_id, ExecType.REJECTED, reason=f"{RATE_LIMIT}: Too many cumulative requests sent")
    bench.confirm()
    for _ in range(9):
        assert places(bench.after(1).book()) == []
    assert bench.engine.flattening.text == "working: A 5 left, attempt 1"
    (second,) = places(bench.after(2).book())
    assert (first.price, second.price) == (999, 998), "20 bp below the bid, the second attempt's"


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


@pytest.mark.parametrize("seed", range(40))
def test_a_careless_venue_is_sold_out_at(seed: int) -> None:
    """Requests and answers lost, jumbled and late, the line cut: the venue's own position only ever shrinks, an order
    never is larger than it was, and in the end it is flat, by the venue's word, or said to have failed."""
    chance = random.Random(seed)
    bench, venue = Bench((A, B)), CarelessVenue((A, B), seed, loss=chance.choice([0.0, 0.1, 0.3]))
    owned = {"A": chance.choice([-40, 25]), "B": chance.choice([0, 7])}
    venue.matching._positions = {("", name): lots for name, lots in owned.items() if lots}
    for name in owned:
        venue.market(book(bench.now, name=name, size=9))
    bench.connect()
    feed_all(bench, venue, [Flatten(bench.now, "flatten"), Reconciled(bench.now, "sim", (), tuple(owned.items()))])
    for _ in range(600):
        bench.now += chance.randrange(SECOND // 5)
        spread, name = chance.randrange(1, 4), chance.choice("AB")
        shown = book(bench.now, 1000 - spread, 1000 + spread, name, chance.randrange(1, 12))
        if venue.connected and chance.random() < 0.01:
            venue.cut()
            feed_all(bench, venue, [Disconnected(bench.now, "sim", "cut")])
        elif not venue.connected:
            venue.connected = True
            feed_all(bench, venue, [Connected(bench.now, "sim")])
        venue.market(shown)
        feed_all(bench, venue, [shown, Timer(bench.now), *venue.deliver(bench.now, 0.7)])
        positions = dict(venue.matching.positions(""))
        assert all(0 <= abs(positions.get(name, 0)) <= abs(lots) for name, lots in owned.items())
        assert all(positions.get(name, 0) * lots >= 0 for name, lots in owned.items()), "it was turned"
    text = bench.engine.flattening.text
    assert text == "flat" or text.startswith("failed: ")
    if text == "flat":
        assert venue.matching.positions("") == venue.matching.open_orders("") == ()


@pytest.mark.parametrize("seed", range(5))
def test_on_paper_too(seed: int) -> None:
    """The simulated exchange, with latency on both ways: the ladder goes, the position is sold, and that is all."""
    chance = random.Random(seed)
    bench, config = Bench(), SimConfig(latency_in_ms=40.0, latency_out_ms=60.0, jitter_ms=30.0)
    sim = SimVenue(Matching({"A": A}, config), config, chance)

    def live_through(seconds: float, size: int) -> None:
        end = bench.now + round(seconds * SECOND)
        while bench.now < end:
            bench.now += SECOND // 10
            shown = book(bench.now, chance.randrange(990, 1000), chance.randrange(1001, 1010), size=size)
            sim.market(shown)
            for event in (*sim.due(bench.now), shown, Timer(bench.now)):
                sim.send(bench.engine.handle(event), bench.now)

    sim.send(bench.engine.handle(Connected(bench.now, "sim")), bench.now)
    live_through(30, 3)
    position = bench.engine.desks["A"].position
    bench.fill("0x" + "77" * 16, 25, 1000, BUY)
    sim._matching._positions["", "A"] = position.lots
    held = position.lots
    sim.send(bench.engine.handle(Flatten(bench.now, "flatten")), bench.now)
    live_through(20, 9)
    assert held and bench.engine.flattening.text == "flat"
    assert (position.lots, sim._matching.positions(""), sim._matching.open_orders("")) == (0, (), ())
    assert (bench.engine.violations, bench.engine.reconciling.taken) == (0, 0)


def feed_all(bench: Bench, venue: CarelessVenue, events: list[Event]) -> None:
    """Feed events, and send what they cause; what sells is no larger than what the engine believes is held."""
    for event in events:
        if isinstance(event, BookSnapshot) and not venue.connected:
            continue
        actions = bench.feed(event)
        for order in places(actions):
            held = bench.engine.desks[order.instrument].position.lots + bench.engine.desks[order.instrument].carry
            assert order.reduce_only and order.size <= abs(held) and order.side == (SELL if held > 0 else BUY)
        venue.send(actions, bench.now)


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
