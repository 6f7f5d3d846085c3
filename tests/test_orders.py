"""Orders: the whole state table, and the store under every order of reports."""

from pathlib import Path

import pytest
from engine_builders import PATIENCE, report
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.events import ExecReport, ExecType, OpenOrder
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.orders import (
    ENDED,
    MAX_EXEC_IDS,
    MAX_FINISHED,
    STRAY_LEVEL,
    TRANSITIONS,
    Order,
    OrderEvent,
    OrderStore,
    OrdStatus,
    diagram,
)

E, S = OrderEvent, OrdStatus
T0 = 100 * SECOND
LIVE = [status for status in OrdStatus if status not in ENDED]

TABLE = """
                 ack    partial full   cancel_s replace_s canceled cancel_r rejected expired done   lost   not_found
pending_new      new    partia  filled -        -         cancel   -        reject   expire  filled unknow -
new              new    partia  filled pend_c   pend_r    cancel   unknow   -        expire  filled unknow -
partially_filled partia partia  filled pend_c   pend_r    cancel   unknow   -        expire  filled unknow -
pending_cancel   pend_c pend_c  filled -        -         cancel   unknow   -        expire  filled unknow -
pending_replace  pend_r pend_r  filled -        -         cancel   unknow   -        expire  filled unknow -
unknown          new    unknow  filled -        -         cancel   unknow   reject   expire  filled unknow reject
filled           filled filled  filled -        -         filled   filled   -        filled  filled filled filled
canceled         cancel cancel  cancel -        -         cancel   cancel   -        cancel  cancel cancel cancel
rejected         reject -       -      -        -         reject   reject   reject   reject  -      reject reject
expired          expire expire  expire -        -         expire   expire   -        expire  -      expire expire
"""
"""The whole table once more, in its own words: the state that follows (abbreviated), or - for illegal."""


def short(status: OrdStatus) -> str:
    """Return a state's name as the table abbreviates it."""
    return status.value.replace("pending_c", "pend_c").replace("pending_r", "pend_r")


def order(cl_ord_id: str = "1", size: int = 10, level: int = 0, status: OrdStatus = S.PENDING_NEW) -> Order:
    """Return a buy order sent at T0."""
    made = Order(cl_ord_id, BUY, 100, size, level, T0)
    made.status = status
    return made


def store(*orders: Order) -> OrderStore:
    """Return a store that holds these orders as live."""
    made = OrderStore(PATIENCE)
    for each in orders:
        made.sent(each)
    return made


def fill(exec_id: str, size: int, cl_ord_id: str = "1", ts: int = T0) -> ExecReport:
    return report(ts, cl_ord_id, ExecType.TRADE, size=size, price=100, exec_id=exec_id)


def listed(cl_ord_id: str = "1", size: int = 10) -> OpenOrder:
    return OpenOrder("A", cl_ord_id, "77", BUY, 100, size)


# The table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE.strip().splitlines()[1:], ids=lambda row: row.split()[0])
def test_the_table_is_complete(row: str) -> None:
    """Every pair of state and event leads to the state written above, or is absent and so illegal."""
    name, *cells = row.split()
    state = OrdStatus(name)
    assert len(cells) == len(OrderEvent)
    for event, cell in zip(OrderEvent, cells, strict=True):
        following = TRANSITIONS.get((state, event))
        assert (following is None) if cell == "-" else (following and short(following).startswith(cell)), (state, event)


def test_only_the_venue_ends_an_order() -> None:
    """I4: nothing that we do or miss (cancel sent, lost, cancel refused) leads from a live state to an ended one."""
    for (state, event), following in TRANSITIONS.items():
        if event in (E.CANCEL_SENT, E.LOST, E.CANCEL_REJECTED) and state not in ENDED:
            assert following not in ENDED


def test_an_ended_order_stays_as_it_ended() -> None:
    """No event leads out of an ended state."""
    assert all(following is state for (state, _), following in TRANSITIONS.items() if state in ENDED)


@pytest.mark.parametrize("status", LIVE)
@pytest.mark.parametrize("what", [what for what in ExecType if what is not ExecType.TRADE])
def test_an_illegal_report_is_counted_and_changes_nothing(status: OrdStatus, what: ExecType) -> None:
    """A report moves a live order as the table says, or is counted as illegal and leaves it."""
    orders = store(order(status=status))
    orders.live["1"].queried = T0 + PATIENCE
    event = {ExecType.NEW: E.ACK, ExecType.FILLED: E.DONE}.get(what) or E(what.value)
    orders.apply(report(T0 + 2 * PATIENCE, "1", what))
    following = TRANSITIONS.get((status, event))
    assert orders.illegal == (following is None)
    now = orders.live.get("1") or orders.finished["1"]
    assert now.status is (following or status)
    assert ("1" in orders.finished) == (now.status in ENDED)


def test_the_document_shows_the_table() -> None:
    """docs/order-states.md holds the diagram of the table as it is, every edge once."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "order-states.md").read_text()
    assert f"```mermaid\n{diagram()}\n```\n" in text
    for (state, event), following in TRANSITIONS.items():
        edges = [line for line in diagram().splitlines() if f"    {state.name} --> {following.name}: " in line]
        assert len(edges) == (state is not following)
        assert all(event.value in line.split(": ")[1].split(", ") for line in edges)


# The store --------------------------------------------------------------------------------------------------------


def test_a_fill_after_the_cancel_is_booked() -> None:
    """A TRADE that comes after CANCELED is new to the position and counts on the order, which stays canceled."""
    orders = store(order(status=S.PENDING_CANCEL))
    orders.apply(report(T0, "1", ExecType.CANCELED))
    assert orders.open_size(BUY) == 0
    assert orders.apply(fill("a", 4))
    assert (orders.finished["1"].filled, orders.finished["1"].status) == (4, S.CANCELED)
    assert (orders.illegal, orders.overfilled, orders.ended) == (0, 0, {"canceled": 1})


def test_a_fill_is_booked_once() -> None:
    """A repeated exec_id is no fill, for a live order, an ended one, and one that is not ours."""
    orders = store(order())
    for cl_ord_id in ("1", ""):
        assert orders.apply(fill(f"x{cl_ord_id}", 10, cl_ord_id))
        assert not orders.apply(fill(f"x{cl_ord_id}", 10, cl_ord_id))
    assert orders.finished["1"].filled == 10
    assert orders.overfilled == 0


def test_an_order_told_to_be_filled_stays_at_stake_until_its_fills_come() -> None:
    """DONE before TRADE: the order is no longer live, and what its fills will add is still counted."""
    orders = store(order(status=S.NEW))
    orders.apply(report(T0, "1", ExecType.FILLED))
    assert (len(orders.live), orders.open_size(BUY), orders.open_size(SELL)) == (0, 10, 0)
    orders.apply(fill("a", 4))
    assert orders.open_size(BUY) == 6
    copy = OrderStore(PATIENCE)
    copy.restore(orders.checkpoint())
    assert copy.open_size(BUY) == 6
    for each in (orders, copy):
        assert each.apply(fill("b", 6))
        assert (each.open_size(BUY), each.overfilled, each.owed) == (0, 0, {})


def test_a_reconciliation_settles_what_is_owed() -> None:
    """Fills are delivered before a reconciliation, so those that did not come are in its positions or nowhere."""
    orders = store(order(status=S.NEW))
    orders.apply(report(T0, "1", ExecType.FILLED))
    orders.reconcile([])
    assert orders.open_size(BUY) == 0
    copy = OrderStore(PATIENCE)
    copy.restore(orders.checkpoint())
    assert copy.open_size(BUY) == 0


def test_more_fills_than_size_are_counted() -> None:
    """An order filled beyond its size is full, counted, and what is left of it is never negative."""
    orders = store(order())
    orders.apply(fill("a", 11))
    assert (orders.finished["1"].leaves, orders.overfilled) == (0, 1)


@pytest.mark.parametrize("status", [S.PENDING_NEW, S.PENDING_CANCEL])
def test_silence_makes_an_order_unknown_and_it_is_asked_about(status: OrdStatus) -> None:
    """I4: unanswered for `patience` it is UNKNOWN, counts as live, and is asked about again and again."""
    orders = store(order(status=status))
    assert orders.next_timeout() == T0 + PATIENCE
    assert orders.timed_out(T0 + PATIENCE - 1) == []
    for round_ in (1, 2, 3):
        now = T0 + round_ * PATIENCE
        assert [each.cl_ord_id for each in orders.timed_out(now)] == ["1"]
        assert orders.timed_out(now + PATIENCE - 1) == []
        assert orders.next_timeout() == now + PATIENCE
        assert (orders.live["1"].status, orders.open_size(BUY)) == (S.UNKNOWN, 10)


def test_not_found_counts_only_if_asked_late_enough() -> None:
    """Asked before the request must have arrived, "not found" proves nothing, however late the answer comes."""
    orders = store(order())
    orders.lost()
    assert orders.timed_out(T0 + SECOND) != []
    orders.apply(report(T0 + 3 * PATIENCE, "1", ExecType.NOT_FOUND))
    assert orders.live["1"].status is S.UNKNOWN
    assert orders.timed_out(T0 + SECOND + PATIENCE) != []
    orders.apply(report(T0 + 3 * PATIENCE, "1", ExecType.NOT_FOUND))
    assert (orders.finished["1"].status, orders.illegal) == (S.REJECTED, 0)


def test_a_lost_connection_leaves_resting_orders_alone() -> None:
    """Only requests in flight are in doubt; an order that rests still rests, as far as anybody knows."""
    orders = store(*(order(str(n), status=status) for n, status in enumerate(LIVE)))
    orders.lost()
    assert [each.status for each in orders.live.values()] == [
        S.UNKNOWN, S.NEW, S.PARTIALLY_FILLED, S.UNKNOWN, S.UNKNOWN, S.UNKNOWN,
    ]  # fmt: skip


@pytest.mark.parametrize("status", LIVE)
def test_a_listed_order_lives_and_an_unlisted_one_is_in_doubt(status: OrdStatus) -> None:
    """I4: the venue's list revives what it names and ends nothing."""
    orders = store(order("1", status=status), order("2", status=status))
    orders.reconcile([listed("1", 7)])
    found = orders.live["1"]
    assert (found.status, found.filled, found.order_id) == (S.PARTIALLY_FILLED, 3, "77")
    assert orders.live["2"].status is S.UNKNOWN
    assert orders.open_size(BUY) == 17


def test_a_list_never_takes_back_a_fill() -> None:
    """A list older than a fill that was booked leaves the order as small as the fill made it."""
    orders = store(order(status=S.NEW))
    orders.apply(fill("a", 4))
    orders.reconcile([listed("1", 10)])
    assert (orders.live["1"].filled, orders.live["1"].status) == (4, S.PARTIALLY_FILLED)


def test_a_stray_order_is_taken_in() -> None:
    """An order that we do not know, or had given up, is live, with a level that no slot wants."""
    orders = store(order("old", status=S.NEW))
    orders.apply(report(T0, "old", ExecType.CANCELED))
    orders.reconcile([listed("old", 6), listed("new", 5)])
    assert [(each.cl_ord_id, each.level, each.leaves, each.status) for each in orders.live.values()] == [
        ("old", STRAY_LEVEL, 6, S.NEW), ("new", STRAY_LEVEL, 5, S.NEW),
    ]  # fmt: skip
    assert orders.finished == {}


def test_memory_is_bounded() -> None:
    """I12: ended orders, fills owed and fill ids are kept up to their bounds, the newest."""
    orders = store()
    for n in range(MAX_FINISHED + 50):
        orders.sent(order(str(n), status=S.NEW))
        orders.apply(report(T0, str(n), ExecType.FILLED))
    assert (len(orders.live), len(orders.finished), len(orders.owed)) == (0, MAX_FINISHED, MAX_FINISHED)
    assert str(MAX_FINISHED + 49) in orders.finished
    for n in range(MAX_EXEC_IDS + 50):
        orders.apply(fill(str(n), 1, ""))
    assert len(orders.exec_ids) == MAX_EXEC_IDS
    assert not orders.apply(fill(str(MAX_EXEC_IDS + 49), 1, ""))


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "cancel", "fill", "fill", "tell", "tell", "lost", "time", "list", "restore"]  # fmt: skip
        ),
        st.integers(0, 5),
        st.integers(0, 7),
    ),
    max_size=60,
)
TELL = [what for what in ExecType if what is not ExecType.TRADE]


def take(orders: OrderStore, step: Step, now: int, booked: dict[str, int]) -> OrderStore:
    """Do one step; `booked` collects the size that each new fill adds to an order of ours."""
    what, which, how = step
    known = orders.live.get(str(which))
    if what == "send" and known is None and str(which) not in orders.finished:
        orders.sent(Order(str(which), BUY if which % 2 else SELL, 100, 10, which, now))
    elif what == "cancel" and known is not None and known.status in (S.NEW, S.PARTIALLY_FILLED):
        orders.cancel_sent(known, now)
    elif what == "fill":
        exec_id = f"{which}-{how}"
        ours = str(which) in orders.live or str(which) in orders.finished
        assert orders.apply(fill(exec_id, how % 4 + 1, str(which), now)) == (exec_id not in booked)
        booked.setdefault(exec_id, how % 4 + 1 if ours else 0)
    elif what == "tell":
        assert not orders.apply(report(now, str(which), TELL[how]))
    elif what == "lost":
        orders.lost()
    elif what == "time":
        orders.timed_out(now)
    elif what == "list":
        orders.reconcile([listed(each.cl_ord_id, each.leaves) for each in list(orders.live.values())[:which]])
    elif what == "restore":
        copy = OrderStore(PATIENCE)
        copy.restore(orders.checkpoint())
        assert copy.checkpoint() == orders.checkpoint()
        return copy
    return orders


@settings(max_examples=150)
@given(steps)
def test_any_order_of_reports_leaves_the_books_straight(script: list[Step]) -> None:
    """I4: whatever comes in whatever order, no fill is lost or doubled, only a told end ends, doubt counts."""
    orders, booked, now = store(), dict[str, int](), T0
    for step in script:
        now += 2 * SECOND
        before = {name: each.status for name, each in orders.live.items()}
        filled = {name: each.filled for name, each in [*orders.live.items(), *orders.finished.items()]}
        orders = take(orders, step, now, booked)
        everything = {**orders.live, **orders.finished}
        assert not orders.live.keys() & orders.finished.keys()
        assert all(each.status not in ENDED for each in orders.live.values())
        assert all(each.status in ENDED for each in orders.finished.values())
        assert all(0 <= each.filled <= each.size for each in everything.values())
        assert all(each.filled >= filled.get(name, 0) for name, each in everything.items())
        for side in (BUY, SELL):
            at_stake = [*orders.live.values(), *orders.owed.values()]
            assert orders.open_size(side) == sum(each.leaves for each in at_stake if each.side == side)
        assert sum(orders.ended.values()) == len(orders.finished)
        assert orders.placed == len(everything)
        if before.keys() - orders.live.keys():
            assert step[0] in ("fill", "tell")
        due = orders.next_timeout()
        doubtful = [each for each in orders.live.values() if each.status not in (S.NEW, S.PARTIALLY_FILLED)]
        assert (due > 0) == bool(doubtful)
    for name, each in {**orders.live, **orders.finished}.items():
        told = sum(size for exec_id, size in booked.items() if exec_id.startswith(f"{name}-"))
        assert each.filled == told
