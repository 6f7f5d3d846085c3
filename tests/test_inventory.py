"""Inventory bands: thresholds, and what the gate and the engine do in each band."""

import msgspec
import pytest
from engine_builders import LADDER, A, Bench, cancels, places
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import RequestLatch
from mmpi.events import Mark
from mmpi.instrument import BUY, MONEY_SCALE, SELL
from mmpi.inventory import CRITICAL, HARD, NAMES, NORMAL, WARN, band
from mmpi.ports import Quote, QuoteLevel
from mmpi.quoting.improve import ImproveConfig
from mmpi.risk import HARD_INVENTORY, RiskConfig, RiskGate

LIMITS = RiskConfig(
    max_position=100_000 * MONEY_SCALE,
    max_order=10**9 * MONEY_SCALE,
    max_instrument=10**9 * MONEY_SCALE,
    max_total=10**9 * MONEY_SCALE,
    session_loss=10**9 * MONEY_SCALE,
    max_drawdown=10**9 * MONEY_SCALE,
)
"""At a mid of 1000 a hundred lots: WARN from 60, CRITICAL from 90, HARD from 125."""


def held(lots: int) -> Bench:
    """Return an engine that quotes, and bought (or sold) this much by a fill of an order not its own."""
    bench = Bench(risk=LIMITS).start()
    bench.fill("", abs(lots), price=1000, side=BUY if lots > 0 else SELL)
    bench.acknowledge()
    return bench


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, NORMAL), (59, NORMAL), (60, WARN), (89, WARN), (90, CRITICAL), (124, CRITICAL), (125, HARD), (10**9, HARD)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_each_band_begins_at_its_threshold(position: int, expected: int, sign: int) -> None:
    """A position that reaches a threshold is in the band, short or long."""
    assert band(sign * position, 60, 90, 125) == expected
    assert RiskGate(LIMITS).band_of(sign * position, 100) == expected


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.tuples(*[st.integers(0, 10**6)] * 3))
def test_a_larger_position_is_never_in_a_lower_band(a: int, b: int, thresholds: tuple[int, int, int]) -> None:
    """Monotone, whatever the thresholds; nothing held is NORMAL."""
    small, large = sorted((a, b))
    warn, critical, hard = sorted(thresholds)
    assert band(small, warn, critical, hard) <= band(large, warn, critical, hard) < len(NAMES)
    assert band(0, warn, critical, hard) == NORMAL


@pytest.mark.parametrize(("position", "bids", "asks"), [(89, [4, 4], [4, 4]), (90, [], [4, 4]), (-90, [4, 4], [])])
def test_critical_takes_the_increasing_side_away(position: int, bids: list[int], asks: list[int]) -> None:
    """Below the limit already, whatever the strategy wants; the side that reduces stays whole."""
    rungs = (QuoteLevel(0, 999, 4), QuoteLevel(1, 998, 4))
    shaped = RiskGate(LIMITS).shape(Quote(1000.0, rungs, rungs), A, position, 2000)
    assert ([rung.size for rung in shaped.bids], [rung.size for rung in shaped.asks]) == (bids, asks)


def test_at_critical_working_orders_that_increase_are_cancelled() -> None:
    """The next quoting round withdraws the bids of a long position and keeps the asks."""
    bench = held(95)
    bench.after(2).book()
    bench.acknowledge()
    assert {order.side for order in bench.orders()} == {SELL}


def test_hard_latches() -> None:
    """A position that no order of ours should have led to asks for the latch and stops quoting at once."""
    bench = Bench(risk=LIMITS).start()
    actions = bench.fill("", 125, price=1000)
    assert RequestLatch(HARD_INVENTORY) in actions
    bench.acknowledge()
    assert bench.orders() == [] and bench.engine.blocked == f"limit: {HARD_INVENTORY}"


def test_a_price_can_lead_to_hard() -> None:
    """The band is one of value: 113 lots are CRITICAL at 1000 and HARD at 1110."""
    bench = held(113)
    assert not bench.engine.gate.breach
    actions = bench.after(2).book(1109, 1111)
    assert RequestLatch(HARD_INVENTORY) in actions


def test_armed_with_it_a_position_does_not_latch_again() -> None:
    """A person who arms accepts what is held; more than that latches again, and below HARD the memory ends."""
    bench = held(130)
    bench.halt()
    bench.resume()
    bench.confirm()
    assert bench.engine.quoting and {order.side for order in bench.orders()} == {SELL}
    bench.after(2).book()
    assert not bench.engine.gate.breach
    assert RequestLatch(HARD_INVENTORY) in bench.fill("", 1, price=1000, exec_id="more")


def test_critical_does_not_wait_for_the_next_round() -> None:
    """The fill, or the price, that leads to CRITICAL pulls what would increase the position in the same step."""
    slow = msgspec.structs.replace(LADDER, update_interval_s=3600.0)
    bench = Bench(quoter=slow, risk=LIMITS).start()
    assert {order.side for order in bench.orders()} == {BUY, SELL}
    pulled = cancels(bench.fill("", 95, price=1000))
    sides = {order.cl_ord_id: order.side for order in bench.orders()}
    assert len(pulled) == 2 and {sides[action.cl_ord_id] for action in pulled} == {BUY}

    bench = Bench(quoter=slow, risk=LIMITS).start()
    assert cancels(bench.fill("", 85, price=1000)) == []
    assert len(cancels(bench.after(1).book(1065, 1067))) >= 2


def test_a_price_that_sinks_does_not_end_what_was_accepted() -> None:
    """The same position at the old price again is still the one that was armed with."""
    gate = RiskGate(LIMITS)
    gate.inventory(130, 2000, A)
    gate.rearmed(0, {"A": 130})
    assert gate.inventory(130, 1800, A) == "" == gate.inventory(130, 2000, A)


def test_the_memory_of_an_accepted_position_ends_below_hard() -> None:
    """Reduced and grown again, it latches like any other; the memory is in the checkpoint."""
    gate = RiskGate(LIMITS)
    gate.inventory(130, 2000, A)
    gate.rearmed(0, {"A": 130})
    again = RiskGate(LIMITS)
    again.restore(gate.checkpoint())
    for each in (gate, again):
        assert each.inventory(130, 2000, A) == ""
        assert each.inventory(100, 2000, A) == ""
        assert each.inventory(126, 2000, A) == HARD_INVENTORY


def test_a_position_found_at_the_start_does_not_latch() -> None:
    """The box was started with it: it is only reduced, as every position beyond CRITICAL."""
    bench = Bench(risk=LIMITS)
    bench.connect()
    bench.reconcile(A=500)
    placed = places(bench.after(1).book())
    assert placed and {order.side for order in placed} == {SELL} and not bench.engine.gate.breach


def test_a_found_position_counts_before_there_is_a_mid() -> None:
    """Around the mark, too, a found position beyond CRITICAL is only reduced, although no mid has taken it over yet."""
    bench = Bench(quoter=ImproveConfig(size="5", notional=""), risk=LIMITS)  # type: ignore[arg-type]
    bench.connect()
    bench.reconcile(A=91)
    placed = places(bench.after(1).feed(Mark(bench.now, "A", bench.now, 1000.0)))
    assert [order.side for order in placed] == [SELL]
    assert bench.engine.desks["A"].exposure(0).position == 91


def test_a_difference_that_is_hard_latches_when_it_is_adopted() -> None:
    """A position that only the venue knew of latches with the answer that repeats it, once, not with the next price."""
    bench = Bench(risk=LIMITS).start()
    assert RequestLatch(HARD_INVENTORY) not in bench.reconcile(A=500)
    assert bench.reconcile(A=500).count(RequestLatch(HARD_INVENTORY)) == 1
    assert RequestLatch(HARD_INVENTORY) not in bench.reconcile(A=500)


def test_a_fill_beside_a_found_position_counts_with_it() -> None:
    """Before the first book too: one lot more than the box was started with latches, and a smaller one does not."""
    bench = Bench(risk=LIMITS)
    bench.connect()
    bench.reconcile(A=500)
    assert not bench.fill("", 1, price=1000, side=SELL) and bench.engine.gate.accepted == {"A": 500}
    assert RequestLatch(HARD_INVENTORY) in bench.fill("", 2, price=1000)
