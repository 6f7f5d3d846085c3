"""mmpi.runtime.summary: what observers see, exact to the last digit, and without touching the engine."""

from decimal import Decimal

import msgspec
from engine_builders import A, B, Bench, book
from hypothesis import given
from hypothesis import strategies as st

from mmpi.events import ExecType, Flatten
from mmpi.instrument import MONEY_SCALE
from mmpi.runtime.summary import SHOWN_LEVELS, rss_mb, summarise
from mmpi.status import Latency, PnlStatus, Summary


def summary(bench: Bench) -> Summary:
    """Return the summary of a bench's engine."""
    latency = Latency(1.0, 2.0, 3)
    return summarise(
        bench.engine, mode="paper", venue="sim", latency=latency, latch="armed"
    )  # fmt: skip


def test_the_shape() -> None:
    """The summary has exactly the keys that others build on, at every depth, and JSON keeps them."""
    shown = msgspec.json.decode(msgspec.json.encode(summary(Bench().start())))
    assert set(shown) >= {
        "mode", "venue", "instruments", "events", "orders", "fills", "pnl", "tick_to_order_us", "rss_mb", "deadman",
        "latch", "refusals", "invariant_violations",
    }  # fmt: skip
    assert set(shown["orders"]) == {"placed", "canceled", "rejected", "amended"}
    assert set(shown["pnl"]) == {"spread", "inventory", "funding", "fees", "total"}
    assert shown["tick_to_order_us"] == {"p50": 1.0, "p99": 2.0, "n": 3}
    assert set(shown["instruments"]["A"]) >= {"bid", "ask", "position", "orders"}
    assert all(isinstance(money, str) for money in shown["pnl"].values())


def test_a_quoting_engine() -> None:
    """State, touch, ladder and counts are those of the engine."""
    bench = Bench().start()
    shown = summary(bench)
    assert (shown.state, shown.reason, shown.events) == ("quoting", "", bench.engine.events)
    instrument = shown.instruments["A"]
    assert (instrument.bid, instrument.ask, instrument.orders, instrument.reason) == ("999", "1001", 4, "")
    assert [(each.side, each.price, each.size, each.status) for each in instrument.own] == [
        ("sell", "1002", "10", "new"), ("sell", "1001", "10", "new"),
        ("buy", "999", "10", "new"), ("buy", "998", "10", "new"),
    ]  # fmt: skip
    assert (instrument.bids, instrument.asks) == ([("999", "5")], [("1001", "5")])
    assert shown.orders.placed == 4


def test_flattening_is_told() -> None:
    """Nobody asked, working, done: in the words that the guardian acts on."""
    bench = Bench().start()
    assert (summary(Bench()).flatten, summary(bench).flatten) == ("", "")
    bench.feed(Flatten(bench.now, "by hand"))
    shown = summary(bench)
    assert (shown.state, shown.reason, shown.flatten) == ("flattening", "flattening: by hand", "working: reconciling")
    bench.acknowledge()
    bench.confirm()
    assert summary(bench).flatten == "flat"
    bench.halt("flattened", latched=False)
    assert summary(bench).flatten == ""


def test_a_blocked_engine() -> None:
    """The state is the short word, the reason the whole sentence."""
    bench = Bench().start()
    bench.halt("pressed", latched=True)
    shown = summary(bench)
    assert (shown.state, shown.reason) == ("latched", "latched: pressed")


def test_an_engine_that_knows_nothing() -> None:
    """Before the first event every number is zero and no price is made up."""
    shown = summary(Bench(instruments=(A, B)))
    assert (shown.state, shown.fills, shown.events) == ("connecting", 0, 0)
    assert [(each.bid, each.ask, each.position) for each in shown.instruments.values()] == [("", "", "0")] * 2
    assert shown.pnl == PnlStatus("0", "0", "0", "0", "0")


def test_orders_are_counted_by_their_end() -> None:
    """Each order that ended is counted once, by how it ended."""
    bench = Bench()
    bench.connect()
    bench.book()
    bench.reconcile()
    first, second, third, fourth = [order.cl_ord_id for order in bench.orders()]
    bench.tell(first, ExecType.REJECTED)
    for each in (second, third, fourth):
        bench.tell(each, ExecType.NEW)
    bench.tell(second, ExecType.CANCELED)
    bench.tell(second, ExecType.CANCELED)
    bench.tell(third, ExecType.CANCELED)
    bench.fill(bench.engine.desks["A"].orders.live[fourth], 10)
    shown = summary(bench)
    assert (shown.orders.canceled, shown.orders.rejected, shown.fills) == (2, 1, 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 10), st.integers(0, 10**13), st.integers(990, 1010)), max_size=12
    )
)
def test_money_is_exact(fills: list[tuple[int, int, int, int]]) -> None:
    """The parts, read back from their text, sum to the total, which is the engine's equity to the last unit."""
    bench = Bench().start()
    for index, size, fee, bid in fills:
        live = bench.orders()
        if live:
            order = live[index % len(live)]
            bench.fill(order, min(size, order.leaves), fee=fee)
        bench.after(2).book(bid, bid + 2)
        bench.acknowledge()
        bench.fund(fee // 7 - 1000, funding_id=str(bench.now))
    pnl = summary(bench).pnl
    parts = {name: Decimal(text) for name, text in msgspec.structs.asdict(pnl).items()}
    assert parts["total"] == parts["spread"] + parts["inventory"] + parts["funding"] - parts["fees"]
    assert parts["total"] * MONEY_SCALE == bench.engine.equity


def test_reading_changes_nothing() -> None:
    """An engine that was looked at is the engine that was not."""
    bench = Bench().start()
    before = bench.engine.checkpoint()
    assert summary(bench) == msgspec.structs.replace(summary(bench))
    assert bench.engine.checkpoint() == before


def test_only_the_near_levels_are_shown() -> None:
    """A deep book does not make a long status."""
    bench = Bench().start()
    deep = tuple((999 - each, 1) for each in range(50))
    bench.feed(msgspec.structs.replace(book(bench.now), bids=deep))
    assert len(summary(bench).instruments["A"].bids) == SHOWN_LEVELS


def test_memory_is_told() -> None:
    """Resident memory is what the kernel counts, in MB."""
    assert 5 < rss_mb() < 4000
