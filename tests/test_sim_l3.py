"""The recorded orders one by one: the queue against plain lists, and our fills against an engine that had our order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import NewOrder, TimeInForce
from mmpi.errors import LocalError
from mmpi.events import BookSnapshot, ExecReport, ExecType, Trade
from mmpi.instrument import BUY, SELL, Lots, Side, Ticks, make_instrument
from mmpi.sim import l3
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.l3 import ADD, EXECUTE, REDUCE, OrdersBook, OrderUpdate
from tests.naive_fifo import SIDES, NaiveFifo

X = make_instrument("X", "1", "1")
OURS = 10**6
Step = tuple[bool, int, Side, Ticks, Lots]

STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.sampled_from(SIDES), st.integers(96, 104), st.integers(1, 9)),
    max_size=60,
)
"""(a new order?, which order to cut, side, price, size)"""


def update(action: int, order_id: int, side: Side, price: Ticks, size: Lots) -> OrderUpdate:
    return OrderUpdate(1000, "X", 1000, order_id, side, price, size, action)


def fifo() -> Matching:
    return Matching({"X": X}, SimConfig(queue="fifo"), by_order=True)


def place(matching: Matching, side: Side, price: Ticks, size: Lots, name: str = "a") -> list[ExecReport]:
    return matching.place(NewOrder("X", name, side, price, size, 0, TimeInForce.POST_ONLY, False), "", 1000)


def feed(matching: Matching, *updates: OrderUpdate) -> list[tuple[str, Lots]]:
    """Return whose fills of what size the updates brought."""
    reports = [report for each in updates for report in matching.on_market(each)]
    return [(r.cl_ord_id, r.size) for r in reports if r.exec_type is ExecType.TRADE]


def run(engine: NaiveFifo, steps: list[Step], first_id: int) -> None:
    for i, (new, which, side, price, size) in enumerate(steps):
        if new:
            engine.add(first_id + i, side, price, size)
        else:
            engine.reduce(which, size)


@given(STEPS)
def test_levels_are_those_of_plain_lists(steps: list[Step]) -> None:
    """Sizes at all prices agree with an engine of lists after any feed, whatever it names."""
    engine, book = NaiveFifo(), OrdersBook()
    run(engine, steps, 0)
    for told in engine.told:
        book.apply(update(*told))
    for side in SIDES:
        sizes = {o.price: engine.size(side, o.price) for o in engine.orders if o.side == side}
        assert book.levels(side) == sizes


@given(STEPS, STEPS, st.sampled_from(SIDES), st.integers(96, 104))
def test_our_order_fills_when_it_would_have(before: list[Step], after: list[Step], side: Side, price: Ticks) -> None:
    """An engine of lists with our one lot in it fills it at the very message at which the recording without it does."""
    recorded, real = NaiveFifo(), NaiveFifo()
    run(recorded, before, 0)
    run(real, before, 0)
    matching = fifo()
    feed(matching, *(update(*told) for told in recorded.told))
    recorded.told.clear()
    if place(matching, side, price, 1)[0].exec_type is not ExecType.NEW:
        return
    real.add(OURS, side, price, 1)
    for i, step in enumerate(after):
        run(recorded, [step], 100 + i)
        run(real, [step], 100 + i)
        filled = feed(matching, *(update(*told) for told in recorded.told))
        recorded.told.clear()
        assert bool(filled) == (OURS in real.filled)
        if filled:
            return
        own = matching.find("", "a")
        assert own is not None
        assert max(0, own.ahead) == real.ahead(OURS)


def test_only_what_is_behind_us_fills_us() -> None:
    """Executions of orders ahead pass; those of one behind, or of a worse price, are ours up to their size."""
    m = fifo()
    feed(m, update(ADD, 1, BUY, 100, 5))
    place(m, BUY, 100, 9)
    feed(m, update(ADD, 2, BUY, 100, 5), update(ADD, 3, BUY, 99, 5))
    assert feed(m, update(EXECUTE, 1, BUY, 100, 5)) == []
    assert feed(m, update(EXECUTE, 2, BUY, 100, 4)) == [("a", 4)]
    assert feed(m, update(EXECUTE, 3, BUY, 99, 2)) == [("a", 2)]
    assert feed(m, update(ADD, 4, SELL, 100, 9)) == [("a", 3)]


def test_a_cancel_ahead_moves_us_up_and_one_behind_does_not() -> None:
    """What is ahead is known to the lot."""
    m = fifo()
    feed(m, update(ADD, 1, BUY, 100, 5))
    place(m, BUY, 100, 1)
    feed(m, update(ADD, 2, BUY, 100, 5), update(REDUCE, 2, BUY, 100, 1), update(REDUCE, 1, BUY, 100, 3))
    own = m.find("", "a")
    assert own is not None and own.ahead == 3


def test_two_of_ours_do_not_share_an_execution() -> None:
    """What the first took from an order ahead of the second is still ahead of the second."""
    m = fifo()
    place_first = update(ADD, 1, BUY, 99, 5)
    feed(m, place_first)
    place(m, BUY, 100, 3, "first")
    place(m, BUY, 99, 3, "second")
    feed(m, update(ADD, 2, BUY, 99, 9))
    assert feed(m, update(EXECUTE, 1, BUY, 99, 5)) == [("first", 3)]
    assert feed(m, update(EXECUTE, 2, BUY, 99, 2)) == []
    assert feed(m, update(EXECUTE, 2, BUY, 99, 2)) == [("second", 1)]


def test_an_order_older_than_the_recording_is_ahead() -> None:
    """An execution of an order that nobody has named yet fills only better prices."""
    m = fifo()
    feed(m, update(ADD, 1, BUY, 100, 5))
    place(m, BUY, 101, 1, "better")
    place(m, BUY, 100, 1, "same")
    assert feed(m, update(EXECUTE, 77, BUY, 100, 3)) == [("better", 1)]


def test_sums_of_the_orders_are_not_used_again() -> None:
    """A FIFO market ignores the trades and books that the updates make; the other models ignore the updates."""
    m = fifo()
    feed(m, update(ADD, 1, SELL, 110, 5))
    place(m, BUY, 100, 5)
    assert m.on_market(Trade(1000, "X", 1000, 1, SELL, 99, 5)) == []
    assert m.on_market(BookSnapshot(1000, "X", 1000, 0, ((90, 1),), ((99, 5),))) == []
    other = Matching({"X": X}, SimConfig(), by_order=True)
    other.on_market(BookSnapshot(1000, "X", 1000, 0, ((90, 1),), ((110, 5),)))
    place(other, BUY, 100, 5)
    assert feed(other, update(ADD, 4, SELL, 99, 9)) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More recorded orders than any book has are an error, not a leak."""
    monkeypatch.setattr(l3, "MAX_ORDERS", 3)
    book = OrdersBook()
    for order_id in range(3):
        book.apply(update(ADD, order_id, BUY, 100, 1))
    with pytest.raises(LocalError, match="3"):
        book.apply(update(ADD, 9, BUY, 100, 1))
