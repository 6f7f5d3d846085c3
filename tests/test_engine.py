"""Engine: what it does in every state, and what no sequence of events can make it do."""

import random

import msgspec
import pytest
from engine_builders import (
    PATIENCE,
    VENUE,
    WIDE,
    A,
    B,
    Bench,
    CarelessVenue,
    Wild,
    amends,
    book,
    cancels,
    entries,
    listing,
    places,
    queries,
    report,
    schedules,
    wild_event,
    wild_events,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.actions import (
    Action,
    AmendOrder,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestLatch,
    RequestReconcile,
    TimeInForce,
)
from mmpi.config.models import MOST_INSTRUMENTS
from mmpi.deadman import AHEAD
from mmpi.desk import MAX_FUNDING_IDS
from mmpi.differ import WORKING
from mmpi.engine import Engine, EngineParams
from mmpi.events import Event, ExecType, OpenOrder, Stopping, Timer
from mmpi.flatten import FLATTEN_LEVEL
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Side, make_instrument
from mmpi.journal.entries import Checkpoint
from mmpi.journal.record import MAX_PAYLOAD, encode_payload
from mmpi.orders import MAX_EXEC_IDS, MAX_FINISHED, Order, OrdStatus
from mmpi.position import Position
from mmpi.upkeep import UpkeepConfig

S = OrdStatus
TWO = (A, B)
VENUES = st.sampled_from([None, VENUE])
"""Orders go to a simulated exchange, or to a venue with a dead-man switch, limits and amends."""


def limited(**limits: int) -> Bench:
    """Return a bench whose limits, in the quote currency, are tight."""
    scaled = {name: value * MONEY_SCALE for name, value in limits.items()}
    return Bench(risk=msgspec.structs.replace(WIDE, **scaled))


# Quoting ----------------------------------------------------------------------------------------------------------


def test_it_quotes_after_connecting_reconciling_and_a_book() -> None:
    """I13: each step alone brings no quote; all three bring the whole ladder."""
    bench = Bench()
    assert bench.connect() == [RequestReconcile("connected")]
    assert bench.book() == []
    actions = bench.reconcile()
    assert [(each.side, each.price, each.size, each.level) for each in places(actions)] == [
        (BUY, 999, 10, 0), (BUY, 998, 10, 1), (SELL, 1001, 10, 0), (SELL, 1002, 10, 1),
    ]  # fmt: skip
    assert len({each.cl_ord_id for each in places(actions)}) == 4
    assert bench.engine.quoting


def test_it_follows_the_market_at_its_interval() -> None:
    """A moved market is followed once per interval; cancels go before places."""
    bench = Bench().start()
    assert bench.after(0.5).book(1099, 1101) == []
    actions = bench.after(0.5).book(1099, 1101)
    assert [type(each) for each in actions] == [CancelOrder] * 4 + [NewOrder] * 2
    # The asks go at once. The bids stand above the old asks, and wait for both of those to be gone.
    assert [(each.side, each.price) for each in places(actions)] == [(SELL, 1102), (SELL, 1103)]
    old = {each.price: each for each in bench.orders() if each.status is S.PENDING_CANCEL}
    assert [places(bench.tell(old[price].cl_ord_id, ExecType.CANCELED)) for price in (998, 999, 1001)] == [[], [], []]
    actions = bench.tell(old[1002].cl_ord_id, ExecType.CANCELED)
    assert [(each.side, each.price) for each in places(actions)] == [(BUY, 1098), (BUY, 1097)]


def test_an_unmoved_market_moves_nothing() -> None:
    """Correction 5: a well-priced order is kept however old it is."""
    bench = Bench().start()
    for _ in range(20):
        assert bench.after(3).book() == []


@pytest.mark.parametrize(("bid", "ask"), [(1001, 999), (999, 0), (0, 1001), (0, 0)])
def test_no_valid_price_pulls_at_once(bid: int, ask: int) -> None:
    """Correction 1: crossed, one-sided or empty: everything is cancelled without waiting for the interval."""
    bench = Bench().start()
    actions = bench.after(0.001).book(bid, ask)
    assert (len(cancels(actions)), len(actions)) == (4, 4)
    assert bench.engine.desks["A"].reason == "no_price"
    bench.acknowledge()
    assert bench.orders() == []
    assert bench.after(0.1).book(bid, ask) == []
    assert len(places(bench.after(2).book())) == 4


def test_a_stale_feed_pulls_by_timer_and_resumes() -> None:
    """The engine asks to be woken when the feed would be stale, pulls then, and quotes again with the next book."""
    bench = Bench().start()
    stale = bench.now + 5 * SECOND + 1
    assert bench.engine.wake_at == stale
    bench.now = stale - 1
    assert bench.timer() == []
    bench.now = stale
    assert len(cancels(bench.timer())) == 4
    assert bench.engine.desks["A"].reason == "stale_data"
    bench.acknowledge()
    assert bench.engine.wake_at == 0
    assert len(places(bench.after(60).book())) == 4


def test_instruments_are_quoted_side_by_side() -> None:
    """Each instrument has its own book, orders and reasons; a broken one does not disturb the other."""
    bench = Bench(TWO).start("A")
    assert (len(bench.orders("A")), bench.orders("B")) == (4, [])
    bench.after(1).book(1999, 2001, "B")
    assert bench.prices("B") == [2004, 2002, 1998, 1996]
    bench.acknowledge()
    assert [each.instrument for each in cancels(bench.after(1).book(0, 501, "B"))] == ["B"] * 4
    assert len(bench.orders("A")) == 4
    assert bench.book(1, 2, "UNKNOWN") == []


def test_exposure_elsewhere_limits_here() -> None:
    """What rests and is held in one instrument leaves less for the other."""
    risk = msgspec.structs.replace(WIDE, max_total=60_000 * MONEY_SCALE)
    bench = Bench(TWO, risk=risk).start("A")
    assert len(bench.orders("A")) == 4
    # 40 lots of 1000 rest in A; 20 lots of 1000 are left for B.
    assert [(each.side, each.price) for each in places(bench.after(1).book(name="B"))] == [(BUY, 999), (BUY, 998)]
    assert bench.engine.gate.refusals == {"total_exposure": 2}


# Orders in doubt --------------------------------------------------------------------------------------------------


def test_silence_is_asked_about_until_the_venue_answers() -> None:
    """Correction 2, I4: UNKNOWN: asked about again and again, its slot empty, its size counted; the answer frees it."""
    bench = Bench()
    bench.quote()
    silent, *others = bench.orders()
    for order in others:
        bench.tell(order.cl_ord_id, ExecType.NEW)
    for _ in range(3):
        assert bench.after(PATIENCE / SECOND - 1).book() == []
        actions = bench.after(1).timer()
        assert [each.cl_ord_id for each in queries(actions)] == [silent.cl_ord_id]
        assert len(actions) == 1
        assert (silent.status, bench.engine.desks["A"].exposure(0).open_sells) == (S.UNKNOWN, 20)
    freed = places(bench.tell(silent.cl_ord_id, ExecType.NOT_FOUND))
    assert [(each.price, each.level) for each in freed] == [(1002, 1)]


def test_a_refused_cancel_is_a_question() -> None:
    """The venue will not cancel and does not say why: asked at once, and the slot waits."""
    bench = Bench().start()
    order = cancels(bench.after(1).book(1019, 1021))[0]
    bench.tell(order.cl_ord_id, ExecType.CANCEL_REJECTED)
    assert 0 < bench.engine.wake_at <= bench.now
    assert [each.cl_ord_id for each in queries(bench.timer())] == [order.cl_ord_id]


def test_a_lost_connection_stops_everything_until_reconciled() -> None:
    """I13, I4: from Disconnected to Reconciled nothing is placed or even sent, and what was in flight is unknown."""
    bench = Bench()
    bench.quote()
    in_flight = bench.orders()
    assert bench.disconnect() == []
    assert {each.status for each in in_flight} == {S.UNKNOWN}
    assert bench.engine.wake_at == 0
    for _ in range(5):
        assert bench.after(10).book() == []
        assert bench.timer() == []
    actions = bench.connect()
    assert (len(queries(actions)), actions[-1], len(actions)) == (4, RequestReconcile("connected"), 5)
    assert places(bench.after(1).book()) == []
    actions = bench.reconcile([listing(each) for each in in_flight[:3]])
    assert (places(actions), [each.status for each in in_flight]) == ([], [S.NEW, S.NEW, S.NEW, S.UNKNOWN])
    freed = places(bench.tell(in_flight[3].cl_ord_id, ExecType.NOT_FOUND))
    assert [each.price for each in freed] == [998]


def test_a_book_from_before_the_cut_is_no_price() -> None:
    """Correction 1: reconnected and reconciled within a moment, it still waits for a book of this connection."""
    bench = Bench().start()
    bench.disconnect()
    bench.connect()
    assert len(cancels(bench.confirm())) == 4
    assert bench.engine.quoting
    bench.acknowledge()
    assert bench.after(1).timer() == []
    assert len(places(bench.book())) == 4


def test_an_unanswered_reconciliation_is_asked_for_again() -> None:
    """The engine wakes by itself to repeat the question, and not while it is not connected."""
    bench = Bench()
    bench.connect()
    for _ in range(3):
        assert bench.engine.wake_at == bench.now + PATIENCE
        bench.now = bench.engine.wake_at
        assert bench.timer() == [RequestReconcile("no answer")]
    bench.disconnect()
    assert bench.engine.wake_at == 0


def test_stray_orders_of_ours_are_cancelled() -> None:
    """An order that only the venue knows is cancelled by its id as soon as it is listed, and counts until gone."""
    bench = Bench()
    bench.connect()
    bench.book()
    stray = OpenOrder("A", "0xearlier", "77", SELL, 1005, 7)
    actions = bench.reconcile([stray])
    assert cancels(actions) == [CancelOrder("A", "0xearlier", "77")]
    assert len(places(actions)) == 4
    assert bench.engine.desks["A"].exposure(0).open_sells == 27


def test_strays_are_cancelled_even_while_the_position_is_in_question() -> None:
    """A difference of position holds back quotes, not the cancelling of what should not be there."""
    bench = Bench().start()
    bench.fill("", 1, price=1000, side=BUY)
    stray = OpenOrder("A", "0xearlier", "77", SELL, 1005, 7)
    bench.resume()
    known = [listing(each) for each in bench.orders()]
    actions = bench.reconcile([*known, stray], A=99)
    assert "0xearlier" in [each.cl_ord_id for each in cancels(actions)]
    assert (places(actions), bench.engine.quoting) == ([], False)


# Positions found at the venue -------------------------------------------------------------------------------------


def test_the_first_position_is_taken_over() -> None:
    """Before any order of this run, what the venue says we hold is the truth: no question, no profit or loss."""
    bench = Bench()
    bench.connect()
    bench.reconcile(A=-30)
    bench.book()
    desk = bench.engine.desks["A"]
    engine = bench.engine
    assert (desk.position.lots, engine.equity, engine.reconciling.taken, engine.violations) == (-30, 0, 0, 0)
    assert bench.engine.quoting


def test_a_difference_is_adopted_only_when_it_repeats() -> None:
    """Fills on their way look like a drift: one is asked about again; the same one twice is taken over and counted."""
    bench = Bench().start()
    bench.disconnect()
    bench.connect()
    bench.after(1).book()
    engine, desk = bench.engine, bench.engine.desks["A"]
    orders = [listing(each) for each in bench.orders()]
    for position in (3, 4):
        assert bench.reconcile(orders, A=position)[-1:] == [RequestReconcile("position")]
        assert (desk.position.lots, engine.reconciling.taken, engine.quoting) == (0, 0, False)
    bench.reconcile(orders, A=4)
    assert (desk.position.lots, engine.reconciling.taken, engine.quoting, engine.violations) == (4, 1, True, 0)
    assert engine.equity == 0


def test_a_fill_on_its_way_is_no_drift() -> None:
    """The position runs ahead of the fill, which then explains it: nothing is adopted, nothing counted twice."""
    bench = Bench().start()
    order = bench.orders()[0]
    bench.disconnect()
    bench.connect()
    bench.reconcile([listing(each) for each in bench.orders() if each is not order], A=-10)
    bench.fill(order, 10)
    bench.reconcile([listing(each) for each in bench.orders()], A=-10)
    engine = bench.engine
    assert (engine.desks["A"].position.lots, engine.reconciling.taken, engine.quoting) == (-10, 0, True)


# Halts, limits, stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latched", [True, False])
def test_a_halt_pulls_and_a_resume_reconciles_first(latched: bool) -> None:
    """I13: halted: everything cancelled, nothing placed; resumed: nothing before a fresh Reconciled."""
    bench = Bench().start()
    assert len(cancels(bench.halt(latched=latched))) == 4
    bench.acknowledge()
    assert (bench.after(2).book(), bench.orders()) == ([], [])
    assert bench.engine.blocked == ("latched: pressed" if latched else "paused: pressed")
    bench.confirm()
    assert bench.after(2).book() == []
    assert bench.resume() == [RequestReconcile("resumed")]
    assert bench.after(2).book() == []
    assert len(places(bench.confirm())) == 4


def test_an_order_on_its_way_at_a_halt_is_cancelled_when_it_shows() -> None:
    """What could not be cancelled yet is cancelled the moment the venue names it."""
    bench = Bench()
    bench.quote()
    assert cancels(bench.halt()) == []
    for order in bench.orders():
        assert [each.cl_ord_id for each in cancels(bench.tell(order.cl_ord_id, ExecType.NEW))] == [order.cl_ord_id]


def breach(bench: Bench) -> list[Action]:
    """Buy ten lots at 999 and let the market fall by 100."""
    bench.fill(bench.orders()[-2], 10)
    assert bench.engine.gate.breach == ""
    return bench.after(0.1).book(899, 901)


def test_a_loss_latches_once_and_pulls_everything() -> None:
    """The limit touched asks for the latch exactly once, cancels everywhere, and blocks until a person re-armed."""
    bench = limited(session_loss=900).start()
    actions = breach(bench)
    assert actions[0] == RequestLatch("session_loss")
    assert len(cancels(actions)) == 3
    assert bench.engine.blocked == "limit: session_loss"
    bench.acknowledge()
    for price in (899, 700, 999):
        assert bench.after(2).book(price, price + 2) == []
    assert bench.orders() == []


@pytest.mark.parametrize("between", [(), ("armed",), ("armed", "guardian_starting")])
def test_after_arming_limits_count_from_there(between: tuple[str, ...]) -> None:
    """Latched, armed, perhaps paused in between, resumed: quoting again, and a new loss latches again."""
    bench = limited(session_loss=900).start()
    breach(bench)
    bench.acknowledge()
    bench.halt("session_loss")
    for reason in between:
        bench.halt(reason, latched=False)
    bench.resume()
    bench.after(2).book(899, 901)
    assert bench.engine.gate.breach == ""
    assert places(bench.confirm()) != []
    bench.acknowledge()
    actions = bench.after(2).book(799, 801)
    assert actions[0] == RequestLatch("session_loss")


def test_a_pause_alone_does_not_rearm() -> None:
    """A limit that was touched stays touched through a pause and its end, until the latch was seen and lifted."""
    bench = limited(session_loss=900).start()
    breach(bench)
    bench.acknowledge()
    bench.halt("network", latched=False)
    bench.resume()
    bench.confirm()
    assert bench.after(2).book(899, 901) == []
    assert bench.engine.blocked == "limit: session_loss"


def test_losses_add_up_over_instruments() -> None:
    """Session loss and drawdown are of the account: two halves make a whole."""
    bench = Bench(TWO, risk=msgspec.structs.replace(WIDE, max_drawdown=900 * MONEY_SCALE)).start("A", "B")
    for name in ("A", "B"):
        bench.feed(report(bench.now, "", ExecType.TRADE, name=name, size=5, price=1000, exec_id=name))
    assert RequestLatch("drawdown") not in bench.after(0.1).book(909, 911, "A")
    assert RequestLatch("drawdown") in bench.after(0.1).book(909, 911, "B")


def test_funding_can_break_a_limit_and_is_booked_once() -> None:
    """A payment counts in equity, and the same one again does not."""
    bench = limited(session_loss=100).start()
    bench.fund(-60 * MONEY_SCALE, "1")
    assert bench.fund(-60 * MONEY_SCALE, "1") == []
    assert bench.engine.equity == -60 * MONEY_SCALE
    assert bench.fund(-60 * MONEY_SCALE, "2")[0] == RequestLatch("session_loss")
    assert bench.fund(1, name="UNKNOWN") == []


def test_a_reducing_quote_passes_the_limits_when_the_other_side_may_not() -> None:
    """Correction 4: over the limit by a position found at the venue, only the side that leads back is quoted."""
    bench = limited(max_position=5_000, max_order=5_000, max_instrument=5_000)
    bench.connect()
    bench.reconcile(A=50)
    placed = places(bench.after(1).book())
    assert [(each.side, each.price, each.size) for each in placed] == [(SELL, 1001, 10), (SELL, 1002, 10)]


def test_stopping_cancels_asks_and_ends() -> None:
    """I14: everything is cancelled; only the venue's own word that nothing is left ends it."""
    bench = Bench().start()
    assert len(cancels(bench.stop())) == 4
    last: list[Action] = []
    for order in bench.orders():
        assert not bench.engine.stopped
        last = bench.tell(order.cl_ord_id, ExecType.CANCELED)
    assert last == [RequestReconcile("stopping")]
    assert not bench.engine.stopped
    bench.reconcile()
    assert bench.engine.stopped
    assert bench.engine.wake_at == 0


def test_stopping_repeats_its_last_question() -> None:
    """I14: an answer that never comes is asked for again, and an order that it shows is cancelled first."""
    bench = Bench().start()
    bench.stop()
    bench.acknowledge()
    assert bench.engine.wake_at == bench.now + PATIENCE
    bench.now = bench.engine.wake_at
    assert bench.timer() == [RequestReconcile("no answer")]
    left = OpenOrder("A", "0xleft", "9", BUY, 990, 1)
    assert cancels(bench.reconcile([left])) == [CancelOrder("A", "0xleft", "9")]
    assert not bench.engine.stopped
    assert bench.tell("0xleft", ExecType.CANCELED) == [RequestReconcile("stopping")]
    bench.reconcile()
    assert bench.engine.stopped


def test_an_order_in_doubt_keeps_a_stop_from_ending() -> None:
    """I14, I4: while an order's fate is unknown stopping goes on, asking."""
    bench = Bench()
    bench.quote()
    bench.stop()
    for _ in range(3):
        bench.now = bench.engine.wake_at
        assert len(queries(bench.timer())) == 4
    assert not bench.engine.stopped
    for order in bench.orders():
        bench.tell(order.cl_ord_id, ExecType.NOT_FOUND)
    bench.reconcile()
    assert bench.engine.stopped


# Fills ------------------------------------------------------------------------------------------------------------


def test_a_late_fill_is_booked() -> None:
    """A fill after the cancel's acknowledgement, and one of an order long forgotten, still change the position."""
    bench = Bench().start()
    order = bench.orders()[0]
    bench.after(1).book(0, 0)
    bench.acknowledge()
    bench.fill(order, 4)
    bench.fill("0xforgotten", 3, price=1000, side=SELL)
    assert (bench.engine.desks["A"].position.lots, bench.engine.session.fills, bench.engine.violations) == (-7, 2, 0)


def test_a_fill_counts_once() -> None:
    """The same exec_id again changes nothing."""
    bench = Bench().start()
    order = bench.orders()[0]
    for _ in range(3):
        bench.fill(order, 4, exec_id="same")
    assert (bench.engine.desks["A"].position.lots, bench.engine.session.fills, order.leaves) == (-4, 1, 6)


def test_a_foreign_fill_is_booked_and_counted() -> None:
    """A fill that the venue names no order of ours for is ours all the same: it is our account."""
    bench = Bench().start()
    bench.fill("", 4, price=1000, side=BUY, fee=5)
    desk = bench.engine.desks["A"]
    assert (desk.position.lots, desk.position.fees, bench.engine.session.foreign_fills) == (4, 5, 1)


def test_a_fill_without_size_or_price_is_refused() -> None:
    """A TRADE that cannot be true is counted as illegal and not booked."""
    bench = Bench().start()
    order = bench.orders()[0].cl_ord_id
    for price, size in ((0, 1), (1000, 0), (-1, 1)):
        bench.feed(report(bench.now, order, ExecType.TRADE, size=size, price=price, exec_id=f"{price}"))
    assert (bench.engine.session.fills, bench.engine.desks["A"].orders.illegal) == (0, 3)


def test_reports_of_other_instruments_are_not_ours() -> None:
    """A report of an instrument that is not traded here causes nothing."""
    assert Bench().start().tell("x", ExecType.NEW, "UNKNOWN") == []


class WrongSign(Position):
    """Inventory with the wrong sign: the mutant that must be seen."""

    def mark(self, mid2: int) -> None:
        self.inventory -= 2 * self.lots * (mid2 - self.mid2) * self._half
        super().mark(mid2)


def test_a_broken_identity_is_counted() -> None:
    """I11: the engine itself sees that profit and its parts differ, with the first move of the mid."""
    bench = Bench().start()
    bench.engine.desks["A"].position = WrongSign(A)
    bench.book()
    bench.fill(bench.orders()[0], 4)
    assert bench.engine.violations == 0
    bench.after(0.1).book(999, 1003)
    assert bench.engine.violations == 1


# Whatever happens ------------------------------------------------------------------------------------------------


def wild_bench(upkeep: UpkeepConfig | None) -> Bench:
    """Return two instruments under limits that matter."""
    amounts = {"max_position": 25, "max_order": 11, "max_instrument": 60, "max_total": 90, "session_loss": 3,
               "max_drawdown": 4}  # fmt: skip
    scaled = {name: value * 1000 * MONEY_SCALE for name, value in amounts.items()}
    risk = msgspec.structs.replace(WIDE, orders_per_s=3.0, order_burst=12, max_open_orders=6, **scaled)
    return Bench(TWO, risk=risk, upkeep=upkeep)


def busy(bench: Bench) -> None:
    """Bring the bench to quoting in both instruments."""
    bench.start("A", "B")


def one_step(bench: Bench, event: Event) -> list[Action]:
    """Handle an event and check all that must hold after any."""
    engine, now = bench.engine, event.recv_ts
    before = {
        (name, order.side, order.level, order.cl_ord_id): order.status
        for name, desk in engine.desks.items()
        for order in desk.orders.live.values()
    }
    actions = bench.feed(event)
    assert engine.violations == 0
    new = entries(actions)
    assert len({each.cl_ord_id for each in new}) == len(new)
    if engine.standing.flatten:
        assert all(each.reduce_only and each.time_in_force is TimeInForce.IOC for each in new)
        assert not new or (engine.gate.reducing and engine.standing.holds_up() == "" and not engine.quoting)
    elif new:
        assert engine.quoting
        assert engine.standing.connected
        assert engine.standing.reconciled
        assert engine.standing.may_trade(engine.gate.breach)
        assert engine.upkeep.dead_man.permits(now), "I5: placed without the switch"
        assert engine.gate.unarmed == engine.upkeep.unarmed(now)
    for name, desk in engine.desks.items():
        own = [
            each
            for each in actions
            if isinstance(each, NewOrder | CancelOrder | AmendOrder) and each.instrument == name
        ]
        kinds = [not isinstance(each, CancelOrder) for each in own]
        assert kinds == sorted(kinds), "cancels go before places"
        leaving = {each.cl_ord_id for each in cancels(own)} | {each.orig_cl_ord_id for each in amends(own)}
        assert len(leaving) == len(cancels(own)) + len(amends(own)), "no order leaves twice"
        check_places(bench, name, entries(own), leaving, before)
        if engine.standing.connected and (engine.blocked or desk.fault):
            working = [each for each in desk.orders.live.values() if each.status in WORKING]
            assert all(each.level == FLATTEN_LEVEL for each in working), "blocked, not pulled"
            assert engine.standing.flatten or not entries(own)
    assert all(time in (0, now + AHEAD) for time in schedules(actions))
    assert len(schedules(actions)) <= 1
    if isinstance(event, Timer):
        assert engine.wake_at == 0 or engine.wake_at > now, "a timer answered is not asked for again"
    if not engine.standing.connected:
        assert engine.wake_at == 0 or engine.flattening.active
        assert not actions or isinstance(actions[0], RequestLatch)
    return actions


def check_places(
    bench: Bench,
    name: str,
    placed: list[NewOrder | AmendOrder],
    leaving: set[str],
    before: dict[tuple[str, Side, int, str], OrdStatus],
) -> None:
    """New orders: valid, in free slots, through no own order, within the limits."""
    desk, config = bench.engine.desks[name], bench.engine.gate.config
    for new in placed:
        for _, _, _, other in [key for key in before if key[:3] == (name, new.side, new.level)]:
            assert other in leaving or other not in desk.orders.live or desk.orders.live[other].level != new.level
        for other_order in desk.orders.live.values():
            if other_order.side != new.side and new.level != FLATTEN_LEVEL:
                assert new.side * (other_order.price - new.price) > 0, "two own orders crossed"
    if placed:
        at = desk.exposure(0)
        assert at.open_orders <= config.max_open_orders
        for side, open_size in ((BUY, at.open_buys), (SELL, at.open_sells)):
            mine = [each for each in placed if each.side == side]
            held = side * at.position
            if not mine or (held < 0 and open_size <= -held):
                continue
            assert (held + open_size) * at.mid2 * desk.instrument.unit <= 2 * config.max_position


@settings(max_examples=120)
@given(VENUES, wild_events(upkeep=True))
def test_no_sequence_of_events_breaks_an_invariant(upkeep: UpkeepConfig | None, script: list[Wild]) -> None:
    """I1, I4, I5, I8, I11, I13: limits, slots, crossing, order of actions, switch, identity, bounds after any event."""
    bench = wild_bench(upkeep)
    busy(bench)
    for wild in script:
        for event in wild_event(wild, bench):
            one_step(bench, event)
    for desk in bench.engine.desks.values():
        assert len(desk.orders.live) <= 6 + len(script)
        assert desk.position.equity == desk.position.total


@settings(max_examples=80)
@given(VENUES, wild_events(min_size=0, max_size=12), wild_events(stopping=True, upkeep=True, max_size=25))
def test_nothing_is_placed_once_stopping(
    upkeep: UpkeepConfig | None, before: list[Wild], after: list[Wild]
) -> None:
    """I14: from Stopping on no event sequence makes it place, and only reconciling with zero orders ends it."""
    bench = wild_bench(upkeep)
    busy(bench)
    for wild in before:
        for event in wild_event(wild, bench):
            one_step(bench, event)
    assert entries(bench.stop()) == []
    for wild in after:
        for event in wild_event(wild, bench):
            stopped = bench.engine.stopped
            actions = one_step(bench, event)
            assert entries(actions) == []
            assert set(schedules(actions)) <= {0}, "I5: the switch is refreshed by quoting alone"
            if bench.engine.stopped and not stopped:
                assert bench.engine.live_orders() == 0


@settings(max_examples=60)
@given(VENUES, wild_events(stopping=True, upkeep=True), st.integers(0, 60))
def test_a_restored_engine_acts_the_same(upkeep: UpkeepConfig | None, script: list[Wild], cut: int) -> None:
    """I10: restored from a checkpoint at any point, it gives the same actions and checkpoints, byte for byte."""
    bench = wild_bench(upkeep)
    busy(bench)
    twin: Engine | None = None
    number = 0
    for wild in script:
        for event in wild_event(wild, bench):
            if number == cut:
                twin = Engine(msgspec.json.decode(msgspec.json.encode(bench.engine.params), type=EngineParams))
                twin.restore(bench.engine.checkpoint())
                assert twin.checkpoint() == bench.engine.checkpoint()
            number += 1
            expected = bench.engine.handle(event)
            if twin is not None:
                assert [encode_payload(each) for each in twin.handle(event)] == [encode_payload(e) for e in expected]
                assert twin.wake_at == bench.engine.wake_at
                assert twin.checkpoint() == bench.engine.checkpoint()


@settings(max_examples=40)
@given(VENUES, st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
def test_it_keeps_straight_books_with_a_careless_venue(
    upkeep: UpkeepConfig | None, seed: int, loss: float
) -> None:
    """I4, I11, I14: requests and answers lost, late and jumbled, connections cut: in the end the books agree."""
    bench = Bench(TWO, upkeep=upkeep)
    venue, chance = CarelessVenue(TWO, seed, loss), random.Random(seed)

    def give(events: list[Event]) -> None:
        for event in events:
            venue.send(one_step(bench, event), bench.now)

    def tick(share: float) -> None:
        bench.after(0.25)
        give(venue.deliver(bench.now, share))
        if bench.engine.wake_at and bench.now >= bench.engine.wake_at:
            give([Timer(bench.now)])

    venue.send(bench.connect(), bench.now)
    mid = 1000
    for _ in range(120):
        tick(chance.random())
        mid += chance.choice((-2, -1, 0, 0, 1, 2))
        for name in ("A", "B"):
            event = book(bench.now, mid - 1 - chance.randrange(3), mid + 1 + chance.randrange(3), name, 3)
            venue.market(event)
            give([event])
        if venue.connected and chance.random() < 0.02:
            venue.cut()
            bench.disconnect()
        elif not venue.connected and chance.random() < 0.3:
            venue.connected = True
            venue.send(bench.connect(), bench.now)
    venue.loss = 0.0
    if not venue.connected:
        venue.connected = True
        venue.send(bench.connect(), bench.now)
    give([Stopping(bench.now, "asked")])
    for _ in range(400):
        if bench.engine.stopped:
            break
        tick(1.0)
    assert bench.engine.stopped
    assert venue.matching.open_orders("") == ()
    for name, desk in bench.engine.desks.items():
        assert desk.position.lots == venue.matching.position("", name)
    assert (bench.engine.reconciling.taken, bench.engine.violations) == (0, 0)
    assert all(desk.orders.overfilled == 0 for desk in bench.engine.desks.values())
    assert bench.engine.upkeep.dead_man.firings <= venue.firings


# Bounds -----------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_uptime() -> None:
    """I12: two days of a busy market in a nutshell: no collection passes its bound."""
    bench = Bench().start()
    for n in range(MAX_FINISHED + 200):
        bench.after(1).book(999 + n % 2 * 10, 1001 + n % 2 * 10)
        bench.acknowledge()
        bench.fill("", 1, price=1000, side=BUY if n % 2 else SELL)
        bench.fund(1, str(n))
    desk = bench.engine.desks["A"]
    assert desk.orders.placed > MAX_FINISHED
    assert len(desk.orders.live) <= 8
    assert len(desk.orders.finished) <= MAX_FINISHED
    assert len(desk.orders.owed) == 0
    assert len(desk.orders.exec_ids) <= MAX_EXEC_IDS
    assert len(desk.funding_ids) <= MAX_FUNDING_IDS


def test_a_checkpoint_with_full_memories_fits_the_journal() -> None:
    """I12, I10: as many instruments as are allowed, all memories full, books of 20 levels: one record holds it."""
    names = [make_instrument(f"COIN{n}", "0.1", "0.00001") for n in range(MOST_INSTRUMENTS)]
    bench = Bench(names)
    for desk in bench.engine.desks.values():
        for n in range(MAX_FINISHED):
            order = Order(f"0x{n:032x}", SELL, 1_234_567, 1_234_567, 19, bench.now)
            order.order_id, order.queried, order.status = str(10**12 + n), bench.now, S.CANCELED
            desk.orders.finished[order.cl_ord_id] = order
        desk.orders.exec_ids = dict.fromkeys(str(10**15 + n) for n in range(MAX_EXEC_IDS))
        payments = (f"{desk.instrument.name}-{bench.now // 10**6 + n}" for n in range(MAX_FUNDING_IDS))
        desk.funding_ids = dict.fromkeys(payments)
        levels = tuple((1_234_567 - n, 1_234_567) for n in range(20))
        desk.apply(msgspec.structs.replace(book(bench.now, name=desk.instrument.name), bids=levels, asks=()))
    state = bench.engine.checkpoint()
    saved = Checkpoint("d" * 64, "0x" + "0" * 16, "0.1.0", msgspec.json.encode(bench.engine.params), state)
    assert MAX_PAYLOAD / 2 < len(encode_payload(saved)) < MAX_PAYLOAD


def test_queries_carry_what_the_venue_calls_the_order() -> None:
    """A question names our id and, where it is known, the venue's."""
    bench = Bench()
    bench.connect()
    bench.book()
    bench.reconcile([OpenOrder("A", "0xmine", "42", BUY, 990, 1)])
    asked = bench.after(PATIENCE / SECOND).timer()
    assert QueryOrder("A", "0xmine", "42") in asked
    assert len(queries(asked)) == 5
    assert all(each.order_id == "" for each in queries(asked) if each.cl_ord_id != "0xmine")


def test_what_is_being_cancelled_makes_room_when_it_is_gone() -> None:
    """Orders on their way out count against the limits (I4); their successors follow the answers, not the interval."""
    bench = Bench(risk=msgspec.structs.replace(WIDE, max_position=25_000 * MONEY_SCALE)).start()
    assert bench.prices() == [1002, 1001, 999, 998]
    moved = bench.after(1).book(1000, 1002)
    # 20 lots of 1001 leave; with 10 new ones the side could reach 30.
    assert (len(cancels(moved)), places(moved)) == (2, [])
    bench.acknowledge()
    assert bench.prices() == [1004, 1003, 999, 998]
