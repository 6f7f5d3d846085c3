"""SimVenue: latency, order of messages and races between them, and determinism."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import Action, Approved, CancelOrder, NewOrder, QueryOrder, RequestLatch, RequestReconcile
from mmpi.errors import LocalError
from mmpi.events import BookSnapshot, Event, ExecReport, ExecType, OpenOrder, Reconciled, Trade
from mmpi.instrument import BUY, MILLISECOND, SELL, Lots, Nanos, Side, Ticks, make_instrument
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.venue import MAX_IN_FLIGHT, SimVenue

X = make_instrument("X", "1", "1")
STEADY = SimConfig(latency_in_ms=10, latency_out_ms=20, jitter_ms=0)
JITTERY = SimConfig(latency_in_ms=10, latency_out_ms=20, jitter_ms=30)


def ms(value: float) -> Nanos:
    return round(value * MILLISECOND)


def snapshot(at: Nanos = 0) -> BookSnapshot:
    return BookSnapshot(at, "X", at, 0, ((100, 10),), ((102, 10),))


def trade(at: Nanos, size: Lots, price: Ticks = 101, side: Side = SELL) -> Trade:
    return Trade(at, "X", at, 1, side, price, size)


def new(name: str = "a", price: Ticks = 101, size: Lots = 5) -> NewOrder:
    return NewOrder("X", name, BUY, price, size, 0)


def venue(config: SimConfig = STEADY, seed: int = 1) -> SimVenue:
    made = SimVenue(Matching({"X": X}, config), config, random.Random(seed))
    made.market(snapshot())
    return made


def send(to: SimVenue, at: Nanos, *actions: Action) -> None:
    to.send([Approved(at, action) for action in actions], at)


def told(events: list[Event]) -> list[tuple[ExecType, Nanos]]:
    return [(event.exec_type, event.recv_ts) for event in events if isinstance(event, ExecReport)]


def test_an_order_takes_its_time_both_ways() -> None:
    """The order acts at the exchange after the way in, and its report is told after the way back."""
    v = venue()
    send(v, ms(100), new())
    assert v.next_ts == ms(110)
    assert v.due(ms(110)) == []
    assert v.next_ts == ms(130)
    (report,) = v.due(ms(200))
    assert isinstance(report, ExecReport)
    assert (report.exec_type, report.exch_ts, report.recv_ts) == (ExecType.NEW, ms(110), ms(130))
    assert v.next_ts == 0


def test_the_market_before_the_arrival_does_not_reach_the_order() -> None:
    """A trade before the order arrives fills nothing, one after it does."""
    v = venue()
    send(v, ms(100), new())
    v.market(trade(ms(109), 5))
    v.market(trade(ms(111), 5))
    assert told(v.due(ms(500))) == [(ExecType.NEW, ms(130)), (ExecType.TRADE, ms(131))]


def test_a_fill_can_beat_our_cancel() -> None:
    """A fill while the cancel is on its way comes first, then the cancel's rejection."""
    v = venue()
    send(v, 0, new())
    v.due(ms(50))
    send(v, ms(100), CancelOrder("X", "a", "1"))
    v.market(trade(ms(105), 5))
    events = v.due(ms(500))
    assert told(events) == [(ExecType.TRADE, ms(125)), (ExecType.CANCEL_REJECTED, ms(130))]
    assert isinstance(events[1], ExecReport)
    assert (events[1].cl_ord_id, events[1].reason) == ("a", "Order was never placed, already canceled, or filled.")


def test_cancel_by_our_own_name() -> None:
    """A cancel without the venue's id finds the order by ours; one of an order never placed is rejected."""
    v = venue()
    send(v, 0, new(), CancelOrder("X", "a", ""), CancelOrder("X", "b", ""))
    assert [kind for kind, _ in told(v.due(ms(500)))] == [ExecType.NEW, ExecType.CANCELED, ExecType.CANCEL_REJECTED]


def test_a_query_tells_what_became_of_an_order() -> None:
    """A live order is NEW, an ended one says how it ended, an unheard one is NOT_FOUND."""
    v = venue()
    send(v, 0, new("live", 99), new("filled"), new("canceled", 99), CancelOrder("X", "canceled", ""))
    v.due(ms(50))
    v.market(trade(ms(60), 5))
    v.due(ms(90))
    send(v, ms(100), *(QueryOrder("X", name, "") for name in ("live", "filled", "canceled", "never")))
    assert [kind for kind, _ in told(v.due(ms(500)))] == [
        ExecType.NEW, ExecType.FILLED, ExecType.CANCELED, ExecType.NOT_FOUND
    ]  # fmt: skip


def test_reconciliation_answers_after_the_fills() -> None:
    """Reconciled holds what is live and the position, and earlier fills have been told before it."""
    v = venue()
    send(v, 0, new("a"), new("b", 99))
    v.market(trade(ms(20), 2))
    send(v, ms(30), RequestReconcile("test"), RequestLatch("not a venue's business"))
    events = v.due(ms(500))
    assert told(events)[-1][0] is ExecType.TRADE
    assert events[-1] == Reconciled(
        ms(60), "sim", (OpenOrder("X", "a", "1", BUY, 101, 3), OpenOrder("X", "b", "2", BUY, 99, 5)), (("X", 2),)
    )


def test_traffic_that_nobody_collects_is_an_error() -> None:
    """I12: more messages under way than the bound is a caller's bug, told as LocalError."""
    v = venue()
    with pytest.raises(LocalError, match="call market"):
        send(v, 0, *[QueryOrder("X", "a", "")] * (MAX_IN_FLIGHT + 1))


def ways(seed: int, count: int = 200) -> tuple[list[Nanos], list[Nanos]]:
    """Return how long each of some messages took in, and each of their answers back; none waits for another."""
    v, ways_in, ways_out = venue(JITTERY, seed), list[Nanos](), list[Nanos]()
    for i in range(count):
        sent = ms(1000 * i)
        send(v, sent, QueryOrder("X", "a", ""))
        (report,) = v.due(sent + ms(500))
        assert isinstance(report, ExecReport)
        ways_in.append(report.exch_ts - sent)
        ways_out.append(report.recv_ts - report.exch_ts)
    return ways_in, ways_out


def test_jitter_lengthens_each_way_by_itself() -> None:
    """Each way takes its latency and up to the jitter more, spread over that range, the two unlike each other."""
    ways_in, ways_out = ways(1)
    for taken, least in ((ways_in, ms(10)), (ways_out, ms(20))):
        assert least <= min(taken) < least + ms(3)
        assert least + ms(27) < max(taken) <= least + ms(30)
        assert abs(sum(taken) / len(taken) - least - ms(15)) < ms(2)
    extra_in, extra_out = [t - ms(10) for t in ways_in], [t - ms(20) for t in ways_out]
    assert sum(abs(a - b) > ms(1) for a, b in zip(extra_in, extra_out, strict=True)) > 150


def test_another_seed_gives_other_delays() -> None:
    """The delays follow from the seed alone: the same for one seed, different for two."""
    assert ways(1) == ways(1)
    assert ways(1) != ways(2)


def test_an_order_sent_later_never_arrives_earlier() -> None:
    """Messages of one direction keep their order though each draws its own delay: a later one waits for an earlier."""
    v = venue(JITTERY)
    for i in range(100):
        send(v, ms(i), QueryOrder("X", str(i), ""))
    reports = [event for event in v.due(ms(1000)) if isinstance(event, ExecReport)]
    assert [report.cl_ord_id for report in reports] == [str(i) for i in range(100)]
    assert [report.exch_ts for report in reports] == sorted(report.exch_ts for report in reports)
    assert len({report.exch_ts for report in reports}) < 100


STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(("new", "cancel", "query", "trade"))), max_size=50)


def run(seed: int, steps: list[tuple[int, str]]) -> list[Event]:
    v, now, events = venue(JITTERY, seed), 0, list[Event]()
    for i, (wait, what) in enumerate(steps):
        now += ms(wait)
        if what == "trade":
            v.market(trade(now, 3))
        elif what == "new":
            send(v, now, new(str(i), 101 - i % 3))
        elif what == "cancel":
            send(v, now, CancelOrder("X", str(i - 1), ""))
        else:
            send(v, now, QueryOrder("X", str(i - 2), ""))
        events += v.due(now)
    return events + v.due(now + ms(1000))


@given(st.integers(0, 9), STEPS)
def test_no_message_overtakes_another(seed: int, steps: list[tuple[int, str]]) -> None:
    """Reports come in time order, in the order in which they happened, each after the way back; all of them come."""
    events = [event for event in run(seed, steps) if isinstance(event, ExecReport)]
    assert [e.recv_ts for e in events] == sorted(e.recv_ts for e in events)
    assert [e.exch_ts for e in events] == sorted(e.exch_ts for e in events)
    assert all(e.recv_ts - e.exch_ts >= ms(20) for e in events)
    first = [e.cl_ord_id for e in events if e.exec_type in (ExecType.NEW, ExecType.REJECTED)]
    sent = [str(i) for i, (_, what) in enumerate(steps) if what == "new"]
    assert [name for name in dict.fromkeys(first) if name in sent] == sent


@given(st.integers(0, 9), STEPS)
def test_the_same_seed_gives_the_same_reports(seed: int, steps: list[tuple[int, str]]) -> None:
    """Two runs with one seed tell the same, to the nanosecond."""
    assert run(seed, steps) == run(seed, steps)
