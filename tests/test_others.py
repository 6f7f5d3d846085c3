"""Others: the book without our own orders; a quoter never improves upon itself, nor makes a price of itself."""

import msgspec
import pytest
from engine_builders import PATIENCE, PREFIX, WIDE, A, Bench, cancels, places
from hypothesis import given
from hypothesis import strategies as st

from mmpi.book import OrderBook
from mmpi.config import load_config
from mmpi.desk import Desk, DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.engines import engine_params
from mmpi.events import Bbo, BookSnapshot, Disconnected, Level, Mark
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.others import NOBODY, others, without
from mmpi.ports import MarketView
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig

Levels = tuple[Level, ...]
IMPROVE = ImproveConfig(
    size="10", notional="", improvement_ticks=1, reference_size="5", reference_notional="", spread_bps=100.0,
    min_spread_bps=0.0, cancel_threshold_bps=0.0,
)  # fmt: skip


def venue(*, shows_us: bool, config: ImproveConfig | LayeredConfig = IMPROVE) -> Bench:
    """Return a bench whose venue shows our orders in its book, or is told so wrongly."""
    made = Bench((A,))
    made.engine = Engine(EngineParams(PREFIX, (DeskParams(A, config, shows_us),), WIDE, PATIENCE))
    return made


def shown(made: Bench, bids: Levels, asks: Levels) -> BookSnapshot:
    """Return the venue's book: these orders of others and, merged in, every live one of ours."""
    sides: tuple[dict[int, int], dict[int, int]] = (dict(bids), dict(asks))
    for order in made.orders():
        side = sides[0] if order.side == BUY else sides[1]
        side[order.price] = side.get(order.price, 0) + order.leaves
    return BookSnapshot(
        made.now, "A", made.now, 0, tuple(sorted(sides[0].items(), reverse=True)), tuple(sorted(sides[1].items()))
    )


BIDS, ASKS = ((990, 20),), ((1010, 20),)


def run(made: Bench, rounds: int, bids: Levels = BIDS, asks: Levels = ASKS) -> list[list[int]]:
    """Return our prices, highest first, after each round of a book and the venue's answers."""
    made.connect()
    made.feed(shown(made, bids, asks))
    made.reconcile()
    seen = []
    for _ in range(rounds):
        made.acknowledge()
        made.after(2.0).feed(shown(made, bids, asks))
        made.acknowledge()
        seen.append(made.prices())
    return seen


def test_it_does_not_improve_upon_itself() -> None:
    """Others at 990 and 1010: ours stay at 991 and 1009; not knowing ourselves we would walk to the mid."""
    assert run(venue(shows_us=True), 6) == [[1009, 991]] * 6
    assert run(venue(shows_us=False), 6)[-1] == [1003, 997]


def test_size_of_ours_makes_no_reference() -> None:
    """3 of others and 10 of ours at one price are short of the reference of 5; 6 of others are not."""
    assert run(venue(shows_us=True), 3, ((991, 3), (990, 20)), ((1009, 3), (1010, 20)))[-1] == [1009, 991]
    assert run(venue(shows_us=True), 3, ((991, 6), (990, 20)), ((1009, 6), (1010, 20)))[-1] == [1008, 992]


@pytest.mark.parametrize("side", [BUY, SELL])
def test_an_order_that_ended_since_the_book_is_not_somebody_elses(side: int) -> None:
    """Filled after the last book, our order is still in that book: its successor goes to the same price."""
    made = venue(shows_us=True)
    run(made, 2)
    (order,) = [order for order in made.orders() if order.side == side]
    made.after(2.0)
    made.fill(order, 10)
    made.now = max(made.now, made.engine.wake_at)
    assert [(new.side, new.price) for new in places(made.timer())] == [(side, order.price)]


def test_a_checkpoint_remembers_whose_orders_the_book_shows() -> None:
    """Restored between the book and the fill, the engine acts the same."""
    made = venue(shows_us=True)
    run(made, 2)
    order = made.orders()[1]
    twin = venue(shows_us=True)
    twin.engine.restore(made.engine.checkpoint())
    twin.now = made.now
    for each in (made, twin):
        each.after(2.0).fill(order, 10)
        each.now = max(each.now, each.engine.wake_at)
    assert made.timer() == twin.timer()
    assert made.engine.checkpoint() == twin.engine.checkpoint()


def test_a_mid_between_ourselves_is_none() -> None:
    """Others leave one side: what our own order would make is no price, so all is pulled, with the reason."""
    made = venue(shows_us=True)
    run(made, 2)
    made.after(2.0)
    assert len(cancels(made.feed(shown(made, BIDS, ())))) == 2
    assert made.engine.desks["A"].reason == "no_price"


def test_alone_in_the_book_it_follows_the_mark() -> None:
    """Nobody else at all: 1000 -/+ 5 bp improved; when the mark moves, the quote moves, whatever the book's mid is."""
    made = venue(shows_us=True)
    made.connect()
    made.feed(shown(made, (), ()))
    made.reconcile()
    for mark, expected in ((1000.0, [1004, 996]), (1000.0, [1004, 996]), (1020.0, [1025, 1015])):
        made.after(1.0).feed(Mark(made.now, "A", made.now, mark))
        for _ in range(2):
            made.after(1.0).feed(shown(made, (), ()))
            made.acknowledge()
        # 1020 - 5.1 + 1 = 1015.9 and 1020 + 5.1 - 1 = 1024.1
        assert made.prices() == expected
    made.after(5.0).feed(shown(made, (), ()))
    assert made.engine.desks["A"].reason == "stale_data"
    assert made.engine.wake_at == 0 or made.engine.wake_at > made.now


def test_a_book_of_ours_alone_must_be_fresh_too() -> None:
    """Fresh marks do not make up for a feed that fell silent: pulled once, without a timer after the other."""
    made = venue(shows_us=True)
    made.connect()
    made.feed(shown(made, (), ()))
    made.reconcile()
    made.after(1.0).feed(Mark(made.now, "A", made.now, 1000.0))
    made.acknowledge()
    made.feed(shown(made, (), ()))
    silent, rounds = made.now, 0
    for second in range(1, 8):
        made.now = silent + second * SECOND
        made.feed(Mark(made.now, "A", made.now, 1000.0))
        while made.engine.wake_at and made.engine.wake_at <= made.now and rounds < 20:
            made.timer()
            made.acknowledge()
            rounds += 1
    assert (made.orders(), made.engine.desks["A"].reason) == ([], "stale_data")
    assert rounds < 20


def test_alone_in_the_book_a_stale_mark_pulls_by_timer() -> None:
    """Books of our orders alone go on; the ladder made around the mark goes with it, however long the interval."""
    made = venue(shows_us=True, config=msgspec.structs.replace(IMPROVE, update_interval_s=60.0))
    made.connect()
    made.reconcile()
    made.after(1.0).feed(Mark(made.now, "A", made.now, 1000.0))
    made.acknowledge()
    # The first service on the book itself is a minute later, and beside it a fresh mark.
    made.after(60.0).feed(Mark(made.now, "A", made.now, 1000.0))
    stale = made.now + 5 * SECOND + 1
    made.feed(shown(made, (), ()))
    made.acknowledge()
    assert (len(made.orders()), made.engine.wake_at) == (2, stale)
    made.now = stale
    made.feed(shown(made, (), ()))
    assert len(cancels(made.timer())) == 2
    assert made.engine.desks["A"].reason == "stale_data"


def test_a_lost_book_is_nothing_beside_a_mark() -> None:
    """After a cut the old touch is of another time: around the mark there is no book at all until a snapshot."""
    made = venue(shows_us=False)
    made.start()
    made.feed(Disconnected(made.now, "sim", "gone"))
    made.after(1.0).connect()
    made.feed(Mark(made.now, "A", made.now, 1020.0))
    made.confirm()
    made.acknowledge()
    made.after(2.0).feed(Mark(made.now, "A", made.now, 1020.0))
    made.acknowledge()
    assert made.prices() == [1025, 1015]


def test_only_who_asks_is_told() -> None:
    """A quoter that does not ask for the market without us gets the book as it is."""
    ladder = LayeredConfig(levels=1, spread_percent=0.2, size="10", notional="")
    made = venue(shows_us=True, config=ladder)
    made.start()
    made.after(2.0).feed(shown(made, ((990, 20),), ((1010, 20),)))
    desk: Desk = made.engine.desks["A"]
    assert (desk.book.best_bid, desk.checkpoint().own) == (999, ((), ()))


def test_the_modes_know_whether_the_book_shows_us() -> None:
    """Nobody's word but the composition root's: a backtest's books, as recorded, do not."""
    settings = load_config(None, {}).settings
    grids = {each.name: A for each in settings.instruments}
    for truth in (False, True):
        params = engine_params(settings, grids, PREFIX, at_venue=truth)
        assert {desk.book_has_own for desk in params.desks} == {truth}
    assert not any(desk.book_has_own for desk in engine_params(settings, grids, PREFIX).desks)


def test_the_touch_of_a_bbo_is_netted_too() -> None:
    """Ours alone at the Bbo's price: the next level of others is the touch; with more there, the rest of it."""
    book = OrderBook("A")
    book.apply(BookSnapshot(1, "A", 1, 0, ((990, 20), (980, 9)), ((1010, 20),)))
    book.apply(Bbo(2, "A", 2, 0, 995, 10, 1005, 12))
    rest = others(book, (((995, 10),), ((1005, 10),)))
    assert (rest.best_bid, rest.best_ask, rest.mid2) == ((990, 20), (1005, 2), 1995)
    rest = others(book, (((995, 10), (990, 20), (980, 9)), ()))
    assert (rest.best_bid, rest.bids, rest.mid2) == ((0, 0), (), 0)
    # A level better than the touch is one that the Bbo has overtaken.
    book.apply(Bbo(3, "A", 3, 0, 985, 10, 1005, 12))
    assert others(book, (((985, 10),), ())).best_bid == (980, 9)


def test_a_view_of_nobody_is_empty() -> None:
    """Neither levels nor touch, and the mids that there were."""
    seen = NOBODY.seen(MarketView(A, 1, 99, 101, 100.0, 100.0, 0.0, 0, bids=((99, 1),), asks=((101, 1),)))
    assert (seen.best_bid, seen.best_ask, seen.bids, seen.asks, seen.weighted_mid) == (0, 0, (), (), 100.0)


def test_the_weighted_mid_is_of_others() -> None:
    """990 x 20 and 1010 x 5 left: (990 * 5 + 1010 * 20) / 25 = 1006."""
    book = OrderBook("A")
    book.apply(BookSnapshot(1, "A", 1, 0, ((990, 20),), ((1010, 15),)))
    rest = others(book, ((), ((1010, 10),)))
    seen = rest.seen(MarketView(A, 1, 990, 1010, 1000.0, 0.0, 0.0, 0))
    assert seen.weighted_mid == 1006.0


SIDE = st.dictionaries(st.integers(1, 30), st.integers(1, 20), max_size=8)


@given(SIDE, SIDE)
def test_what_is_merged_in_is_taken_out(others_orders: dict[int, int], ours: dict[int, int]) -> None:
    """Merging our orders into a side and taking them out gives the side back."""
    merged = {price: others_orders.get(price, 0) + ours.get(price, 0) for price in others_orders | ours}
    side = tuple(sorted(others_orders.items()))
    assert without(tuple(sorted(merged.items())), tuple(ours.items())) == side
    assert without(side, ()) is side


def test_own_orders_are_summed_by_price() -> None:
    """Two of ours at one price are one level, less what has filled."""
    made = venue(shows_us=True)
    run(made, 1)
    desk = made.engine.desks["A"]
    bid = made.orders()[1]
    made.fill(bid, 4)
    assert desk.orders.levels() == (((991, 6),), ((1009, 10),))
    state = msgspec.to_builtins(desk.orders.checkpoint())
    twice = [state[0][0], [*state[0][0][:0], "0xother", *state[0][0][1:]]]
    desk.orders.restore(msgspec.convert([twice, *state[1:]], type(desk.orders.checkpoint())))
    ((price, size),) = desk.orders.levels()[0]
    assert (price, size) == (991, 12)
