"""The simulated exchange's rules one by one on tiny books, then its promises under random input."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import NewOrder, TimeInForce
from mmpi.events import Bbo, BookDelta, BookSnapshot, ExecReport, ExecType, Level, MarketEvent, Trade
from mmpi.instrument import BUY, SELL, Lots, Side, Ticks, make_instrument
from mmpi.sim import exchange
from mmpi.sim.exchange import Matching
from mmpi.sim.model import AmendRule, SelfTradeRule, SimConfig, fee_of, fee_rate
from mmpi.sim.queue import UNSEEN, BookSide

X = make_instrument("X", "1", "1")
BIDS: tuple[Level, ...] = ((100, 10), (99, 20), (97, 30))
ASKS: tuple[Level, ...] = ((102, 10), (103, 20), (105, 30))
IOC, GTC, POST_ONLY = TimeInForce.IOC, TimeInForce.GTC, TimeInForce.POST_ONLY


def snapshot(bids: Sequence[Level] = BIDS, asks: Sequence[Level] = ASKS, seq: int = 1) -> BookSnapshot:
    return BookSnapshot(1000 + seq, "X", 1000 + seq, seq, tuple(bids), tuple(asks))


def delta(seq: int, prev_seq: int, bids: Sequence[Level] = (), asks: Sequence[Level] = ()) -> BookDelta:
    return BookDelta(1000 + seq, "X", 1000 + seq, seq, prev_seq, tuple(bids), tuple(asks))


def trade(side: Side, price: Ticks, size: Lots) -> Trade:
    return Trade(5000, "X", 5000, 1, side, price, size)


def order(
    side: Side, price: Ticks, size: Lots, name: str = "a", tif: TimeInForce = POST_ONLY, reduce_only: bool = False
) -> NewOrder:
    return NewOrder("X", name, side, price, size, 0, tif, reduce_only)


def exchange_with(*events: MarketEvent, config: SimConfig | None = None) -> Matching:
    matching = Matching({"X": X}, config or SimConfig())
    for event in events or (snapshot(),):
        matching.on_market(event)
    return matching


def place(matching: Matching, new: NewOrder, owner: str = "") -> list[ExecReport]:
    return matching.place(new, owner, 2000)


def kinds(reports: Sequence[ExecReport]) -> list[ExecType]:
    return [report.exec_type for report in reports]


def fills(reports: Sequence[ExecReport]) -> list[tuple[str, Ticks, Lots]]:
    return [(r.cl_ord_id, r.price, r.size) for r in reports if r.exec_type is ExecType.TRADE]


def ahead(matching: Matching, name: str = "a") -> Lots:
    resting = matching.find("", name)
    assert resting is not None
    return resting.ahead


def reason(reports: Sequence[ExecReport]) -> str:
    assert kinds(reports) == [ExecType.REJECTED]
    return reports[0].reason


def test_joins_the_back_of_the_displayed_size() -> None:
    """Trades at the price eat the displayed queue first, and only the excess fills, partially too."""
    m = exchange_with()
    place(m, order(BUY, 100, 5))
    assert fills(m.on_market(trade(SELL, 100, 7))) == []
    assert fills(m.on_market(trade(SELL, 100, 5))) == [("a", 100, 2)]
    assert fills(m.on_market(trade(SELL, 100, 9))) == [("a", 100, 3)]
    assert m.open_orders() == ()
    assert m.position("", "X") == 5


def test_nothing_is_ahead_at_a_better_price() -> None:
    """An order that improves the best price is first in its queue."""
    m = exchange_with()
    place(m, order(SELL, 101, 5))
    assert fills(m.on_market(trade(BUY, 101, 3))) == [("a", 101, 3)]


def test_nothing_is_ahead_in_a_hole_of_the_book() -> None:
    """A price inside the visible depth that shows no size has no queue."""
    m = exchange_with()
    place(m, order(BUY, 98, 5))
    assert ahead(m) == 0


def test_the_queue_beyond_the_visible_depth_is_unknown() -> None:
    """Below the last visible level no trade at the price fills; the queue is what is shown there first."""
    m = exchange_with()
    place(m, order(BUY, 90, 5))
    assert ahead(m) == UNSEEN
    assert fills(m.on_market(trade(SELL, 90, 50))) == []
    m.on_market(snapshot(bids=((92, 1), (90, 40))))
    assert ahead(m) == 40


def test_an_unknown_queue_is_empty_once_the_book_reaches_past_it() -> None:
    """When the visible depth spans the price and shows nothing there, nothing is ahead."""
    m = exchange_with()
    place(m, order(BUY, 90, 5))
    m.on_market(snapshot(bids=((92, 1), (89, 40))))
    assert ahead(m) == 0


def test_an_empty_side_shows_no_queue() -> None:
    """On a side without any level the queue is unknown, never empty."""
    m = exchange_with(snapshot(bids=()))
    place(m, order(BUY, 90, 5))
    assert ahead(m) == UNSEEN


def test_a_trade_through_the_price_fills_first() -> None:
    """A trade strictly below our bid would have hit us first: it fills up to its size whatever was ahead."""
    m = exchange_with()
    place(m, order(BUY, 90, 5, "far"))
    place(m, order(BUY, 100, 5, "near"))
    reports = m.on_market(trade(SELL, 89, 7))
    assert fills(reports) == [("near", 100, 5), ("far", 90, 2)]


def test_a_trade_on_the_other_side_does_not_reach_us() -> None:
    """Buyers never fill a bid, nor a trade above it."""
    m = exchange_with()
    place(m, order(BUY, 101, 5))
    assert m.on_market(trade(BUY, 101, 99)) == []
    assert m.on_market(trade(SELL, 102, 99)) == []


def test_the_queue_ahead_shrinks_with_the_displayed_size_only() -> None:
    """Displayed size below our estimate cuts the queue; growth joins behind us."""
    m = exchange_with()
    place(m, order(BUY, 99, 5))
    m.on_market(snapshot(bids=((100, 10), (99, 8)), seq=2))
    m.on_market(snapshot(bids=((100, 10), (99, 50)), seq=3))
    assert ahead(m) == 8


def test_own_orders_at_one_price_fill_in_time_order() -> None:
    """The earlier order fills first, and the volume it used is not used again for the later one."""
    m = exchange_with()
    place(m, order(BUY, 101, 4, "first"))
    place(m, order(BUY, 101, 4, "second"), owner="other")
    assert fills(m.on_market(trade(SELL, 101, 6))) == [("first", 101, 4), ("second", 101, 2)]


def test_an_order_behind_own_and_market_queue() -> None:
    """A later order waits for the market volume ahead of it as well as for the own order before it."""
    m = exchange_with(snapshot(bids=((100, 5),)))
    place(m, order(BUY, 100, 1, "first"))
    m.on_market(snapshot(bids=((100, 8),), seq=2))
    place(m, order(BUY, 100, 1, "second"))
    assert fills(m.on_market(trade(SELL, 100, 7))) == [("first", 100, 1)]
    assert ahead(m, "second") == 2


def test_a_crossed_book_fills_at_our_price_up_to_the_size_beyond_it() -> None:
    """Asks displayed strictly below our bid fill it, at its own price; the ask at our price does not."""
    m = exchange_with()
    place(m, order(BUY, 101, 50))
    reports = m.on_market(snapshot(asks=((99, 3), (100, 4), (101, 90)), seq=2))
    assert fills(reports) == [("a", 101, 3), ("a", 101, 4)]
    assert all(report.maker for report in reports)


def test_a_locked_book_fills_nothing() -> None:
    """An ask displayed at our bid's price is no trade."""
    m = exchange_with()
    place(m, order(BUY, 101, 50))
    assert m.on_market(snapshot(asks=((101, 90),), seq=2)) == []


def test_displayed_size_is_taken_once_while_it_is_repeated() -> None:
    """A crossed snapshot that repeats fills nothing more until the displayed size changes."""
    m = exchange_with()
    place(m, order(BUY, 101, 50))
    assert fills(m.on_market(snapshot(asks=((100, 4),), seq=2))) == [("a", 101, 4)]
    assert m.on_market(snapshot(asks=((100, 4),), seq=3)) == []
    assert fills(m.on_market(snapshot(asks=((100, 6),), seq=4))) == [("a", 101, 6)]


def test_a_crossing_gtc_takes_and_rests() -> None:
    """A GTC order takes each displayed level at its price for the taker fee, and its rest rests."""
    m = exchange_with()
    reports = place(m, order(BUY, 103, 40, tif=GTC))
    assert kinds(reports) == [ExecType.NEW, ExecType.TRADE, ExecType.TRADE]
    assert fills(reports) == [("a", 102, 10), ("a", 103, 20)]
    assert not any(report.maker for report in reports[1:])
    assert [o.size for o in m.open_orders()] == [10]
    assert ahead(m) == 0


def test_an_ioc_takes_and_expires() -> None:
    """An IOC order fills what is displayed within its price and the rest expires; nothing rests."""
    m = exchange_with()
    reports = place(m, order(SELL, 100, 12, tif=IOC))
    assert kinds(reports) == [ExecType.NEW, ExecType.TRADE, ExecType.EXPIRED]
    assert (fills(reports), reports[-1].size) == ([("a", 100, 10)], 2)
    assert m.open_orders() == ()
    assert m.position("", "X") == -10


def test_taken_size_stays_taken() -> None:
    """A second taker finds only what the first one left."""
    m = exchange_with()
    place(m, order(SELL, 100, 7, "a", IOC))
    assert fills(place(m, order(SELL, 100, 7, "b", IOC))) == [("b", 100, 3)]
    assert fills(place(m, order(SELL, 100, 7, "c", IOC))) == []
    m.on_market(snapshot(bids=((100, 6),), seq=2))
    assert fills(place(m, order(SELL, 100, 7, "d", IOC))) == [("d", 100, 6)]


def test_post_only_never_takes() -> None:
    """A post-only order at or through the opposite best is rejected, one tick before it is not."""
    m = exchange_with()
    assert reason(place(m, order(BUY, 102, 1))).startswith("post only")
    assert reason(place(m, order(SELL, 99, 1))).startswith("post only")
    assert kinds(place(m, order(BUY, 101, 1))) == [ExecType.NEW]


def test_post_only_may_not_cross_an_own_order() -> None:
    """A post-only order that meets an order of the same owner is rejected; another owner's order does not matter."""
    m = exchange_with()
    place(m, order(SELL, 101, 1, "ask"))
    assert "would cross own order" in reason(place(m, order(BUY, 101, 1, "bid")))
    assert kinds(place(m, order(BUY, 101, 1, "bid"), owner="other")) == [ExecType.NEW]


def test_what_the_exchange_refuses() -> None:
    """Each order that cannot be taken is rejected with its own reason and leaves nothing behind."""
    dear = make_instrument("D", "0.1", "0.001", significant_figures=5, min_notional="10")
    m = Matching({"X": X, "D": dear}, SimConfig())
    assert reason(place(m, order(BUY, 100, 1))) == "no book yet"
    m.on_market(snapshot())
    m.on_market(BookSnapshot(1, "D", 1, 1, ((1_000_000, 5),), ((1_000_010, 5),)))
    assert reason(place(m, order(BUY, 100, 0))) == "size must be greater than 0"
    assert reason(place(m, order(BUY, 0, 1))) == "price must be greater than 0"
    assert reason(place(m, NewOrder("Y", "a", BUY, 1, 1, 0))) == "unknown instrument Y"
    assert reason(place(m, NewOrder("D", "a", BUY, 999_995, 5, 0))) == "price is not on the grid"
    assert reason(place(m, NewOrder("D", "a", BUY, 99_990, 1, 0))) == "order value is below the minimum"
    assert reason(place(m, order(BUY, 100, 1, reduce_only=True))) == "reduce only order would increase position"
    place(m, order(BUY, 100, 1))
    assert reason(place(m, order(BUY, 99, 1))) == "duplicate client order id"
    assert kinds(place(m, order(BUY, 99, 1), owner="other")) == [ExecType.NEW]
    assert len(m.open_orders()) == 2


def test_reduce_only_never_turns_the_position() -> None:
    """Two reduce-only orders together larger than the position close it and end, whatever volume comes."""
    m = exchange_with()
    place(m, order(BUY, 102, 5, "open", GTC))
    place(m, order(SELL, 102, 4, "x", reduce_only=True))
    place(m, order(SELL, 102, 4, "y", reduce_only=True))
    reports = m.on_market(trade(BUY, 110, 99))
    assert fills(reports) == [("x", 102, 4), ("y", 102, 1)]
    assert m.position("", "X") == 0
    assert kinds(m.on_market(trade(BUY, 110, 99))) == [ExecType.CANCELED]
    assert m.open_orders() == ()


def test_cancel_tells_what_was_left() -> None:
    """CANCELED carries the unfilled size; a second cancel and an unknown id are CANCEL_REJECTED."""
    m = exchange_with()
    place(m, order(BUY, 101, 5))
    m.on_market(trade(SELL, 101, 2))
    (report,) = m.cancel("1", 3000)
    assert (report.exec_type, report.size, report.cl_ord_id) == (ExecType.CANCELED, 3, "a")
    assert [kinds(m.cancel(order_id, 3000)) for order_id in ("1", "77")] == [[ExecType.CANCEL_REJECTED]] * 2
    assert m.on_market(trade(SELL, 101, 9)) == []


def test_orders_are_found_by_their_names() -> None:
    """Live orders are found by owner and name or by id; ended ones by `finished`, and their owner is remembered."""
    m = Matching({"X": X}, SimConfig(), first_id=700)
    m.on_market(snapshot())
    (new,) = place(m, order(BUY, 101, 5), owner="me")
    assert new.order_id == "700"
    assert m.find("me", "a") is m.order("700") is not None
    assert (m.find("you", "a"), m.owner("700"), len(m.open_orders("me")), m.open_orders("you")) == (None, "me", 1, ())
    m.on_market(trade(SELL, 101, 5))
    ended = m.finished("me", "a")
    assert m.order("700") is None
    assert ended is not None
    assert (ended.done, m.owner("700"), m.owner("1"), m.positions("me")) == (ExecType.FILLED, "me", "", (("X", 5),))


def test_published_book_holds_all_resting_orders() -> None:
    """The merged book shows recorded size less what was taken, plus every owner's resting size, best first."""
    m = exchange_with()
    place(m, order(BUY, 101, 5), owner="me")
    place(m, order(BUY, 100, 2), owner="you")
    place(m, order(BUY, 102, 4, "taker", IOC), owner="you")
    bids, asks = m.book("X", depth=2)
    assert bids == ((101, 5), (100, 12))
    assert asks == ((102, 6), (103, 20))


def test_deltas_build_the_same_book_as_a_snapshot() -> None:
    """Absolute sizes insert, change and remove levels in place; a message already contained changes nothing."""
    m = exchange_with(
        snapshot(), delta(2, 1, bids=((101, 3), (99, 0), (97, 5)), asks=((104, 1),)), delta(2, 1, bids=((101, 0),))
    )
    assert m.book("X") == (((101, 3), (100, 10), (97, 5)), ((102, 10), (103, 20), (104, 1), (105, 30)))


def test_a_gap_makes_the_book_unknown_until_the_next_snapshot() -> None:
    """After a missing delta nothing is placed and the book fills nothing; trades still do."""
    m = exchange_with()
    place(m, order(BUY, 101, 5))
    assert m.on_market(delta(9, 8, asks=((90, 5),))) == []
    assert reason(place(m, order(BUY, 99, 1, "b"))) == "no book yet"
    assert fills(m.on_market(trade(SELL, 101, 2))) == [("a", 101, 2)]
    m.on_market(snapshot(seq=10))
    assert kinds(place(m, order(BUY, 99, 1, "b"))) == [ExecType.NEW]


def test_best_prices_move_the_top_of_the_book() -> None:
    """A Bbo replaces what is better than it and keeps deeper levels of a snapshot; alone it is a book of one level."""
    bbo = Bbo(2000, "X", 2000, 1, 99, 7, 103, 8)
    assert exchange_with(snapshot(), bbo).book("X") == (((99, 7), (97, 30)), ((103, 8), (105, 30)))
    assert exchange_with(Bbo(1, "X", 1, 1, 90, 1, 91, 1), bbo).book("X") == (((99, 7),), ((103, 8),))
    stale = Bbo(2000, "X", 3, 1, 1, 1, 2, 1)
    assert exchange_with(snapshot(), stale).book("X") == (BIDS, ASKS)


def test_events_of_unknown_instruments_are_nothing() -> None:
    """A market event of an instrument that is not traded here is ignored."""
    assert exchange_with().on_market(Trade(1, "Y", 1, 1, BUY, 1, 1)) == []


def test_fees_are_exact_and_rounded_against_us() -> None:
    """The fee is notional times rate in integers, rounded up, for rebates too."""
    assert fee_rate(1.5) == 15_000
    assert fee_of(100_000_000, fee_rate(1.5)) == 15_000
    assert fee_of(100_000_001, fee_rate(1.5)) == 15_001
    assert fee_of(100_000_001, fee_rate(-1.5)) == -15_000
    m = exchange_with(config=SimConfig(maker_fee_bps=1.5, taker_fee_bps=4.5))
    taken = place(m, order(BUY, 102, 3, "t", GTC))[1]
    place(m, order(BUY, 101, 2, "m"))
    made = m.on_market(trade(SELL, 101, 2))[0]
    assert taken.fee == 102 * 3 * 10**12 * 45 // 10**5
    assert made.fee == 101 * 2 * 10**12 * 15 // 10**5


def test_memory_is_bounded() -> None:
    """I12: live orders are refused beyond the limit and the memory of ended ones forgets the oldest."""
    m = exchange_with()
    for i in range(exchange.MAX_FINISHED + 5):
        m.place(order(BUY, 101, 1, str(i)), "", 1)
        m.cancel(str(i + 1), 1)
    assert m.owner("1") == ""
    assert m.finished("", "4") is None
    assert m.finished("", "5") is not None
    for i in range(exchange.MAX_ORDERS):
        m.place(order(BUY, 101, 1, str(i)), "", 1)
    assert reason(place(m, order(BUY, 101, 1, "more"))) == "too many open orders"


SIDES = st.sampled_from((BUY, SELL))
PRICES = st.integers(95, 105)
SIZES = st.integers(1, 12)
ORDERS = st.builds(
    NewOrder,
    st.just("X"),
    st.text("abcdefgh", min_size=1, max_size=2),
    SIDES,
    PRICES,
    SIZES,
    st.just(0),
    st.sampled_from((IOC, GTC, POST_ONLY, POST_ONLY)),
    st.booleans(),
)
LEVELS = st.dictionaries(PRICES, SIZES, max_size=6)


def book_of(bids: dict[Ticks, Lots], asks: dict[Ticks, Lots]) -> BookSnapshot:
    return snapshot(sorted(bids.items(), reverse=True), sorted(asks.items()))


BOOKS = st.builds(book_of, LEVELS, LEVELS)
STEPS = st.lists(st.one_of(ORDERS, BOOKS, st.builds(trade, SIDES, PRICES, SIZES), st.integers(1, 20)), max_size=60)


def play(matching: Matching, step: NewOrder | MarketEvent | int) -> list[ExecReport]:
    if isinstance(step, int):
        return matching.cancel(str(step), 1)
    return matching.place(step, "", 1) if isinstance(step, NewOrder) else matching.on_market(step)


@given(STEPS)
def test_reports_account_for_everything(steps: list[NewOrder | MarketEvent | int]) -> None:
    """Position is the signed sum of fills, each fill costs its exact fee, no order fills beyond its size or limit."""
    m = exchange_with()
    position, left, limit, seen = 0, dict[str, Lots](), dict[str, Ticks](), set[str]()
    for step in steps:
        for r in play(m, step):
            if r.exec_type is ExecType.NEW:
                left[r.order_id], limit[r.order_id] = r.size, r.price
            elif r.exec_type is ExecType.TRADE:
                position += r.side * r.size
                left[r.order_id] -= r.size
                assert r.size > 0
                assert r.exec_id not in seen
                seen.add(r.exec_id)
                assert r.fee == fee_of(X.notional(r.price, r.size), 15_000 if r.maker else 45_000)
                assert r.price == limit[r.order_id] if r.maker else r.side * (limit[r.order_id] - r.price) >= 0
            elif r.exec_type in (ExecType.CANCELED, ExecType.EXPIRED):
                assert left.pop(r.order_id) == r.size
        assert m.position("", "X") == position
        assert {o.order_id: o.size for o in m.open_orders()} == {k: v for k, v in left.items() if v}


@given(STEPS)
def test_volume_is_never_used_twice(steps: list[NewOrder | MarketEvent | int]) -> None:
    """A trade fills at most its size, and the fills between two changes of a level never exceed what it displays."""
    m = exchange_with()
    budget = {(side, price): size for side, levels in ((BUY, ASKS), (SELL, BIDS)) for price, size in levels}
    shown = dict(budget)
    for step in steps:
        if isinstance(step, BookSnapshot):
            new = {(side, p): q for side, levels in ((BUY, step.asks), (SELL, step.bids)) for p, q in levels}
            budget = {key: budget[key] if shown.get(key) == q else q for key, q in new.items()}
            shown = new
        before = {o.order_id: o for o in m.open_orders()}
        reports = [r for r in play(m, step) if r.exec_type is ExecType.TRADE]
        total = sum(r.size for r in reports)
        if isinstance(step, Trade):
            assert total <= step.size
            assert all(r.side == -step.side and r.side * (r.price - step.price) >= 0 for r in reports)
            continue
        for r in reports:
            strict = 1 if r.order_id in before else 0
            reachable = sorted(k for k in budget if k[0] == r.side and r.side * (r.price - k[1]) >= strict)
            for key in reachable if r.side == BUY else reversed(reachable):
                used = min(budget[key], r.size)
                if used:
                    budget[key] -= used
                    r = ExecReport(r.recv_ts, "X", 0, "", r.order_id, r.exec_type, r.side, r.price, r.size - used)
            assert r.size == 0


@given(LEVELS, st.lists(st.tuples(PRICES, st.integers(0, 9)), max_size=30), SIDES)
def test_a_side_follows_deltas(levels: dict[Ticks, Lots], changes: list[Level], side: Side) -> None:
    """After any deltas a side holds what a dictionary of absolute sizes holds, best first."""
    book = BookSide(side)
    book.replace(sorted(levels.items(), reverse=side == BUY))
    book.change(changes)
    expected = {p: q for p, q in {**levels, **dict(changes)}.items() if q}
    assert book.levels == sorted(expected.items(), reverse=side == BUY)


def ended(reports: Sequence[ExecReport], kind: ExecType) -> list[tuple[str, Lots, str]]:
    return [(r.order_id, r.size, r.reason) for r in reports if r.exec_type is kind]


def test_an_ioc_gets_the_better_prices_first() -> None:
    """An IOC through several levels pays each level's own price, never its limit where that is worse."""
    reports = place(exchange_with(), order(BUY, 104, 35, tif=IOC))
    assert fills(reports) == [("a", 102, 10), ("a", 103, 20)]
    assert ended(reports, ExecType.EXPIRED) == [("1", 5, exchange.IOC_REST)]


def test_an_ioc_without_a_match_says_so() -> None:
    """An IOC that finds nothing within its price expires whole, with a reason of its own, and rests nowhere."""
    m = exchange_with()
    reports = place(m, order(BUY, 101, 5, tif=IOC))
    assert kinds(reports) == [ExecType.NEW, ExecType.EXPIRED]
    assert ended(reports, ExecType.EXPIRED) == [("1", 5, exchange.NO_MATCH)]
    assert m.open_orders() == ()


def test_an_ioc_filled_whole_does_not_expire() -> None:
    """Nothing is left of an order that was filled, so nothing expires."""
    assert kinds(place(exchange_with(), order(SELL, 100, 10, tif=IOC))) == [ExecType.NEW, ExecType.TRADE]


def with_own_ask(policy: SelfTradeRule, price: Ticks = 103) -> Matching:
    """Return an exchange where our ask of 7 rests behind what is displayed at its price."""
    m = exchange_with(config=SimConfig(self_trade=policy))
    place(m, order(SELL, price, 7, "ask"))
    return m


def test_the_taker_goes_on_where_the_maker_is_cancelled() -> None:
    """cancel_maker (Hyperliquid): our resting order is cancelled unfilled where the taker meets it; the rest fills."""
    m = with_own_ask("cancel_maker")
    reports = place(m, order(BUY, 105, 50, "t", IOC))
    assert fills(reports) == [("t", 102, 10), ("t", 103, 20), ("t", 105, 20)]
    assert ended(reports, ExecType.CANCELED) == [("1", 7, exchange.SELF_TRADE)]
    assert kinds(reports)[3] is ExecType.CANCELED
    assert (m.open_orders(), m.position("", "X")) == ((), 50)


def test_the_maker_stays_where_the_taker_is_cancelled() -> None:
    """cancel_taker: the taker keeps what it got before it met our resting order, and its rest goes."""
    m = with_own_ask("cancel_taker")
    reports = place(m, order(BUY, 105, 50, "t", GTC))
    assert fills(reports) == [("t", 102, 10), ("t", 103, 20)]
    assert ended(reports, ExecType.CANCELED) == [("2", 20, exchange.SELF_TRADE)]
    assert [(o.order_id, o.size) for o in m.open_orders()] == [("1", 7)]


def test_both_may_go() -> None:
    """cancel_both: the resting order goes, and what the taker has not got before."""
    m = with_own_ask("cancel_both")
    reports = place(m, order(BUY, 105, 50, "t", IOC))
    assert ended(reports, ExecType.CANCELED) == [("1", 7, exchange.SELF_TRADE), ("2", 20, exchange.SELF_TRADE)]
    assert (m.open_orders(), m.position("", "X")) == ((), 30)


def test_an_order_filled_before_it_meets_our_own_disturbs_nothing() -> None:
    """A taker that is done with what stands ahead of our resting order leaves that order alone, under each policy."""
    for policy in POLICIES:
        m = with_own_ask(policy)
        assert kinds(place(m, order(BUY, 103, 30, "t", IOC))) == [ExecType.NEW, ExecType.TRADE, ExecType.TRADE]
        assert len(m.open_orders()) == 1


def test_what_was_taken_is_not_ahead_of_our_own_any_more() -> None:
    """A second taker meets our resting order after what the first has left ahead of it, not after the whole level."""
    m = with_own_ask("cancel_taker")
    m.on_market(snapshot(asks=((102, 10), (103, 30), (105, 30)), seq=2))
    assert fills(place(m, order(BUY, 103, 25, "first", IOC))) == [("first", 102, 10), ("first", 103, 15)]
    assert fills(place(m, order(BUY, 105, 25, "second", IOC))) == [("second", 103, 5)]


def test_an_own_order_inside_the_spread_is_met_first() -> None:
    """A taker meets our better-priced resting order before the displayed market behind it."""
    m = with_own_ask("cancel_taker", price=101)
    assert kinds(place(m, order(BUY, 105, 5, "t", IOC))) == [ExecType.NEW, ExecType.CANCELED]
    assert m.position("", "X") == 0


def test_another_owners_order_is_none_of_the_policys_business() -> None:
    """Orders of two owners that would meet are left alone."""
    m = with_own_ask("cancel_both", price=101)
    reports = place(m, order(BUY, 105, 5, "t", IOC), owner="other")
    assert fills(reports) == [("t", 102, 5)]
    assert len(m.open_orders()) == 1


REPLACING, KEEPING = SimConfig(amend="replace"), SimConfig(amend="keep_on_decrease")


def amend(m: Matching, price: Ticks, size: Lots, order_id: str = "1") -> list[ExecReport]:
    return m.amend(order_id, price, size, 3000)


def test_a_replaced_order_is_a_new_one_at_the_back() -> None:
    """replace (Hyperliquid modify): CANCELED of the old, then NEW under another id, same name, at the back."""
    m = exchange_with(config=REPLACING)
    place(m, order(BUY, 100, 5))
    m.on_market(trade(SELL, 100, 12))
    assert ahead(m) == 0
    reports = amend(m, 100, 4)
    assert [(r.exec_type, r.order_id, r.cl_ord_id, r.size) for r in reports] == [
        (ExecType.CANCELED, "1", "a", 3), (ExecType.NEW, "2", "a", 4)
    ]  # fmt: skip
    assert ahead(m) == 10
    assert kinds(m.cancel("1", 4000)) == [ExecType.CANCEL_REJECTED]


def test_a_replacement_that_would_match_leaves_nothing() -> None:
    """replace: a new leg that would take is rejected, though the order was not post-only, and the old one is gone."""
    m = exchange_with(config=REPLACING)
    place(m, order(BUY, 100, 5, tif=GTC))
    reports = amend(m, 102, 5)
    assert kinds(reports) == [ExecType.CANCELED, ExecType.REJECTED]
    assert reports[1].reason == "post only order would match immediately"
    assert m.open_orders() == ()


def test_less_keeps_its_place() -> None:
    """keep_on_decrease: with the same price and less size the id and the queue stay; `size` counts what is filled."""
    m = exchange_with(config=KEEPING)
    place(m, order(BUY, 100, 9))
    m.on_market(trade(SELL, 100, 12))
    reports = amend(m, 100, 5)
    assert [(r.exec_type, r.order_id, r.price, r.size) for r in reports] == [(ExecType.NEW, "1", 100, 5)]
    assert ([o.size for o in m.open_orders()], ahead(m)) == ([3], 0)
    assert fills(m.on_market(trade(SELL, 100, 9))) == [("a", 100, 3)]


def test_unchanged_keeps_its_place() -> None:
    """keep_on_decrease: an amend to what the order already is costs nothing."""
    m = exchange_with(config=KEEPING)
    place(m, order(BUY, 100, 5))
    m.on_market(trade(SELL, 100, 4))
    amend(m, 100, 5)
    assert ahead(m) == 6


def test_more_or_another_price_goes_to_the_back() -> None:
    """keep_on_decrease: a larger size, or another price, keeps the id and loses the place."""
    for price, size, queue in ((100, 6, 10), (99, 5, 20), (99, 4, 20)):
        m = exchange_with(config=KEEPING)
        place(m, order(BUY, 100, 5))
        m.on_market(trade(SELL, 100, 4))
        (report,) = amend(m, price, size)
        assert (report.order_id, ahead(m)) == ("1", queue)
        assert [(o.price, o.size) for o in m.open_orders()] == [(price, size)]


def test_an_amended_order_stands_behind_our_own_at_its_new_price() -> None:
    """keep_on_decrease: at the price it moves to, an order is later than those of ours that were there."""
    m = exchange_with(config=KEEPING)
    place(m, order(BUY, 98, 2, "mover"))
    place(m, order(BUY, 101, 2, "stayer"))
    amend(m, 101, 2)
    assert fills(m.on_market(trade(SELL, 101, 3))) == [("stayer", 101, 2), ("mover", 101, 1)]


def test_an_amend_that_crosses() -> None:
    """keep_on_decrease: a post-only order that would take is cancelled; a GTC order takes, and its rest rests."""
    m = exchange_with(config=KEEPING)
    place(m, order(BUY, 100, 5))
    reports = amend(m, 102, 5)
    assert ended(reports, ExecType.CANCELED) == [("1", 5, "post only order would match immediately")]
    place(m, order(BUY, 100, 5, "b", GTC))
    reports = amend(m, 102, 12, "2")
    assert fills(reports) == [("b", 102, 10)]
    assert [(o.order_id, o.price, o.size) for o in m.open_orders()] == [("2", 102, 2)]


def test_an_amend_that_meets_an_own_order_obeys_the_self_trade_policy() -> None:
    """keep_on_decrease: an order moved into one of our own is a taker like any other."""
    m = exchange_with(config=SimConfig(amend="keep_on_decrease", self_trade="cancel_maker"))
    place(m, order(SELL, 101, 5, "ask"))
    place(m, order(BUY, 99, 5, "bid", GTC))
    reports = amend(m, 101, 5, "2")
    assert ended(reports, ExecType.CANCELED) == [("1", 5, exchange.SELF_TRADE)]
    assert [o.order_id for o in m.open_orders()] == ["2"]


def test_an_amend_to_no_more_than_is_filled_ends_the_order() -> None:
    """keep_on_decrease: at or below the filled size nothing is left to rest, so the order is cancelled."""
    for size in (2, 1):
        m = exchange_with(config=KEEPING)
        place(m, order(BUY, 101, 5))
        m.on_market(trade(SELL, 101, 2))
        assert ended(amend(m, 101, size), ExecType.CANCELED) == [("1", 3, "amended to no more than is filled")]


def test_refused_amends_change_nothing() -> None:
    """Under either rule a size or price of 0, a gap in the book or an ended order refuse the amend whole."""
    for config in (REPLACING, KEEPING):
        m = exchange_with(config=config)
        place(m, order(BUY, 100, 5))
        before = m.open_orders()
        assert [amend(m, price, size)[0].reason for price, size in ((100, 0), (0, 5), (-3, 5))] == [
            "size must be greater than 0", "price must be greater than 0", "price must be greater than 0"
        ]  # fmt: skip
        m.on_market(delta(9, 8))
        (report,) = amend(m, 99, 5)
        assert (report.exec_type, report.order_id, report.reason) == (ExecType.CANCEL_REJECTED, "1", "no book yet")
        assert m.open_orders() == before
        m.cancel("1", 3000)
        for gone in ("1", "77"):
            (report,) = amend(m, 99, 5, gone)
            assert (report.exec_type, report.reason) == (ExecType.CANCEL_REJECTED, exchange.NOT_AMENDABLE)


POLICIES: tuple[SelfTradeRule, ...] = ("cancel_maker", "cancel_taker", "cancel_both")
AMENDS = st.tuples(st.integers(1, 15), PRICES, st.integers(0, 12))
ANY_STEP = st.lists(st.one_of(ORDERS, ORDERS, AMENDS, BOOKS, st.builds(trade, SIDES, PRICES, SIZES)), max_size=40)
RULES: st.SearchStrategy[tuple[AmendRule, SelfTradeRule]] = st.tuples(
    st.sampled_from(("replace", "keep_on_decrease")), st.sampled_from(POLICIES)
)


@given(ANY_STEP, RULES)
def test_nobody_trades_with_oneself(
    steps: list[NewOrder | MarketEvent | tuple[int, int, int]], rules: tuple[AmendRule, SelfTradeRule]
) -> None:
    """Whatever comes, own bids stay below own asks, no fill passes over a better-priced own order, sizes add up."""
    m = exchange_with(config=SimConfig(amend=rules[0], self_trade=rules[1]))
    position = 0
    for step in steps:
        before = {o.order_id: o for o in m.open_orders("")}
        reports = m.amend(str(step[0]), step[1], step[2], 1) if isinstance(step, tuple) else play(m, step)
        gone = {r.order_id for r in reports if r.exec_type is ExecType.CANCELED}
        for r in reports:
            if r.exec_type is ExecType.TRADE:
                position += r.side * r.size
                if not r.maker:
                    stayed = [o for o in before.values() if o.side == -r.side and o.order_id not in gone]
                    assert all(r.side * (o.price - r.price) >= 0 for o in stayed)
        assert m.position("", "X") == position
        live = m.open_orders("")
        bids, asks = [o.price for o in live if o.side == BUY], [o.price for o in live if o.side == SELL]
        assert not bids or not asks or max(bids) < min(asks)
        assert all(o.size > 0 for o in live)
        assert all(m.find("", o.cl_ord_id) is m.order(o.order_id) for o in live)
