"""Improve: the ladder cases of source text 000 by hand, its symmetries, and valid quotes on any book."""

import math
from pathlib import Path

import msgspec
import pytest
from engine_builders import PATIENCE, PREFIX
from hypothesis import given
from hypothesis import strategies as st

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.errors import ConfigError
from mmpi.instrument import BUY, SECOND, Instrument, Ticks, make_instrument
from mmpi.ports import FAILED_LEGS, OWN_ORDERS, MarketView, Quote
from mmpi.quoting import QUOTERS, make_quoter
from mmpi.quoting.improve import PAIR_POLICIES, SIDES, Improve, ImproveConfig
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.risk import RiskConfig
from mmpi.runtime.step import NoJournal
from mmpi.sim.exchange import SimConfig

A = make_instrument("A", "1", "1")
FIVE = make_instrument("BTC", "0.1", "0.00001", significant_figures=5)
"""Hyperliquid's BTC: from 10000 on only whole dollars are valid, ten ticks a step."""
Levels = tuple[tuple[int, int], ...]
CASE = ImproveConfig(
    size="3", notional="", improvement_ticks=1, reference_size="5", reference_notional="", spread_bps=20.0,
    min_spread_bps=0.0,
)  # fmt: skip
"""At a mid of 10000 a basis point is one tick: the spread of the fallback is 20 ticks."""


def view(bids: Levels, asks: Levels, instrument: Instrument = A, **fields: object) -> MarketView:
    """Return a book's view; with a side empty or a crossed book its mid is the mark, as the desk's is."""
    bid, ask = bids[0][0] if bids else 0, asks[0][0] if asks else 0
    mark = fields.get("mark", 0.0)
    mid = (bid + ask) / 2 if 0 < bid <= ask else mark
    plain = MarketView(instrument, 1, bid, ask, mid, mid, 0.0, 0, bids=bids, asks=asks)  # type: ignore[arg-type]
    return msgspec.structs.replace(plain, **fields)


def prices(quote: Quote) -> tuple[Ticks, Ticks]:
    """Return bid and ask; 0 = none."""
    assert len(quote.bids) <= 1 and len(quote.asks) <= 1
    return (quote.bids[0].price if quote.bids else 0, quote.asks[0].price if quote.asks else 0)


def quoted(bids: Levels, asks: Levels, mark: float = 0.0, instrument: Instrument = A, **changes: object):  # type: ignore[no-untyped-def]
    """Return the prices that CASE, changed, quotes in a book."""
    config = msgspec.structs.replace(CASE, **changes)
    return prices(Improve(config, instrument).quote(view(bids, asks, instrument, mark=mark)))


@pytest.mark.parametrize(
    ("bids", "asks", "mark", "bid", "ask"),
    [
        # The touch has the size: 9995 + 1 and 10005 - 1.
        (((9995, 5), (9990, 9)), ((10005, 6), (10010, 9)), 0.0, 9996, 10004),
        # A thin best level is skipped: 9990 + 1; two of them: 10010 - 1.
        (((9995, 4), (9990, 5)), ((10005, 4), (10008, 3), (10010, 7)), 0.0, 9991, 10009),
        # No level has the size: 10000 -/+ 10000 * 20 bp / 2 = 9990 and 10010, improved by one.
        (((9995, 4),), ((10005, 4), (10006, 4)), 0.0, 9991, 10009),
        # Only the bids lack it: 9990 + 1; the asks' 10005 - 1.
        (((9995, 4), (9990, 4)), ((10005, 5),), 0.0, 9991, 10004),
        # No bids, a mark of 10000: 10000 - 10 + 1; the ask stands in the book.
        ((), ((10005, 5),), 10000.0, 9991, 10004),
        # No asks, the mirror.
        (((9995, 5),), (), 10000.0, 9996, 10009),
        # Only the mark: 10000 -/+ 10, improved by one.
        ((), (), 10000.0, 9991, 10009),
        # A mark between ticks: 10000.5 -/+ 10.0005 = 9990.4995 and 10010.5005, improved and rounded outwards.
        ((), (), 10000.5, 9991, 10010),
        # The mark is far below the only bid: 10050 + 1 and 10000 + 10 - 1 have crossed, so 10000 -/+ 0.5; and the ask
        # may not be at or through the bid.
        (((10050, 5),), (), 10000.0, 9999, 10051),
        # A crossed book is no price; around the mark of 10000 the quote stays behind both of its touches.
        (((10002, 5),), ((9998, 5),), 10000.0, 9997, 10003),
    ],
)
def test_the_cases_of_the_source(bids: Levels, asks: Levels, mark: float, bid: Ticks, ask: Ticks) -> None:
    """Source text 000, calculateQuotes and adjustPricesForReferenceSize: each branch, computed by hand."""
    assert quoted(bids, asks, mark) == (bid, ask)


def test_without_a_price_there_is_no_quote() -> None:
    """Correction 1: no book and no mark is no mid of 1.0 but nothing, with the reason."""
    quote = Improve(CASE, A).quote(view((), ()))
    assert (quote.bids, quote.asks, quote.reason) == ((), (), "no_price")


@pytest.mark.parametrize(
    ("bid", "ask", "minimum", "expected"),
    [
        # 9999 and 10001 are 2 ticks apart, 10 bp are 10: 10000 -/+ 5.
        (9998, 10002, 10.0, (9995, 10005)),
        # 9991 and 10009 are 18 apart: far enough.
        (9990, 10010, 10.0, (9991, 10009)),
        # Exactly the minimum is enough: 9995 and 10005.
        (9994, 10006, 10.0, (9995, 10005)),
        # 9996 and 10005 are 9 apart: 10000.5 -/+ 5.00025, rounded outwards.
        (9995, 10006, 10.0, (9995, 10006)),
    ],
)
def test_the_minimum_spread_is_kept_around_the_mid(
    bid: Ticks, ask: Ticks, minimum: float, expected: tuple[Ticks, Ticks]
) -> None:
    """A quote that the improvement makes narrower than the minimum is put symmetrically around the mid."""
    assert quoted(((bid, 5),), ((ask, 5),), min_spread_bps=minimum) == expected


@pytest.mark.parametrize(
    ("bid", "ask", "improvement", "expected"),
    [
        (10000, 10001, 1, (10000, 10001)),  # One tick: no room inside, join. 10001 / 10000 -> 10000.5 -/+ 0.5.
        (10000, 10002, 1, (10000, 10002)),  # Both would stand at 10001: 10001 -/+ 0.5, rounded outwards.
        (10000, 10003, 1, (10001, 10002)),  # Room for both.
        (10000, 10003, 2, (10001, 10002)),  # 10002 / 10001 -> 10001.5 -/+ 0.5.
        (10000, 10001, 50, (10000, 10001)),
        (10000, 10000, 1, (9999, 10001)),  # Locked: outside.
        (10000, 10001, 0, (10000, 10001)),  # Join.
    ],
)
def test_an_improvement_never_crosses(
    bid: Ticks, ask: Ticks, improvement: int, expected: tuple[Ticks, Ticks]
) -> None:
    """In a market too narrow for it the improvement gives way: at the touch, neither crossed nor through the other."""
    assert quoted(((bid, 5),), ((ask, 5),), improvement_ticks=improvement) == expected


def test_one_side_only() -> None:
    """bid_only and ask_only quote exactly the two-sided quote's one side."""
    book = ((9995, 5),), ((10005, 5),)
    assert quoted(*book) == (9996, 10004)
    assert quoted(*book, sides="bid_only") == (9996, 0)
    assert quoted(*book, sides="ask_only") == (0, 10004)
    narrow = ((9999, 5),), ((10001, 5),)
    assert quoted(*narrow, sides="bid_only", min_spread_bps=10.0) == (9995, 0)


def test_the_reference_by_worth() -> None:
    """5 x 9995 = 49975 is short of 50000, 6 x 9990 = 59940 is not; 5 x 10005 = 50025 is enough."""
    by_worth = {"reference_size": "", "reference_notional": "50000"}
    book = ((9995, 5), (9990, 6)), ((10005, 5),)
    assert quoted(*book, **by_worth) == (9991, 10004)
    assert quoted(((5, 9999), (4, 12500)), ((7, 9999),), **by_worth | {"spread_bps": 1.0}) == (5, 6)


def test_no_reference_means_the_touch() -> None:
    """With neither reference every level counts, however small, and an empty side has none."""
    anything = {"reference_size": "", "reference_notional": ""}
    assert quoted(((9995, 1),), ((10005, 1),), **anything) == (9996, 10004)
    assert quoted((), ((10005, 1),), 10000.0, **anything) == (9991, 10004)


def test_best_prices_without_depth_are_the_reference() -> None:
    """Where a venue shows no levels its best prices have to do (000: "using ticker data")."""
    touch = msgspec.structs.replace(view((), (), mark=10000.0), best_bid=9995, best_ask=10005)
    assert prices(Improve(CASE, A).quote(touch)) == (9996, 10004)


def test_levels_that_a_bbo_overtook_do_not_count() -> None:
    """A Bbo may move the touch behind levels of the last book, or say that a side is empty: those are gone."""
    bids, asks = ((9998, 9), (9995, 9)), ((10002, 9), (10005, 9))
    overtaken = msgspec.structs.replace(view(bids, asks), best_bid=9996, best_ask=10004)
    assert prices(Improve(CASE, A).quote(overtaken)) == (9996, 10004)
    emptied = msgspec.structs.replace(view(bids, asks), best_bid=0, best_ask=0)
    assert prices(Improve(CASE, A).quote(emptied)) == (9991, 10009)


def test_a_tick_is_the_increment_at_the_price() -> None:
    """With five figures a dollar above 10000 and a dime below: the ask at 10000 steps down by the finer one."""
    # In ticks of 0.1: 10000.0 + 1 x 1.0; 10010.0 - 1 x 1.0.
    book = ((100_000, 500_000),), ((100_100, 500_000),)
    assert quoted(*book, instrument=FIVE, size="0.01") == (100_010, 100_090)
    # 9998.0 + 0.1; 10000.0 - 0.1.
    book = ((99_980, 500_000),), ((100_000, 500_000),)
    assert quoted(*book, instrument=FIVE, size="0.01") == (99_981, 99_999)


def test_size_is_fixed_or_by_worth() -> None:
    """Notional over the mid, rounded down to the lot; below one lot nothing is quoted, with the reason."""
    book = view(((9995, 5),), ((10005, 5),))
    by_worth = msgspec.structs.replace(CASE, size="", notional="29999")
    assert Improve(by_worth, A).quote(book).bids[0].size == 2
    assert Improve(CASE, A).quote(book).asks[0].size == 3
    short = Improve(msgspec.structs.replace(by_worth, notional="9999"), A).quote(book)
    assert (short.bids, short.asks, short.reason) == ((), (), "size_below_lot")


def test_what_the_engine_reads() -> None:
    """Interval, refresh, tolerance and wishes are the configuration's; it is registered under its name."""
    quoter = make_quoter(ImproveConfig(cancel_threshold_bps=2.0, use_mark=False), A)
    assert (quoter.interval, quoter.refresh) == (2 * SECOND, 30 * SECOND)
    tolerance = quoter.tolerance
    assert (tolerance.ticks, tolerance.offset_fraction, tolerance.size_fraction) == (0, 0.0, 0.2)
    assert tolerance.price_fraction == pytest.approx(2e-4)
    assert (quoter.uses_mark, quoter.signals) == (False, {OWN_ORDERS})
    paired = ImproveConfig(pair_policy="cancel")
    assert make_quoter(paired, A).signals == {OWN_ORDERS, FAILED_LEGS}
    alone = msgspec.structs.replace(paired, sides="bid_only")
    assert make_quoter(alone, A).signals == {OWN_ORDERS}
    assert QUOTERS[ImproveConfig] is Improve
    assert msgspec.json.decode(msgspec.json.encode(paired))["type"] == "improve"


def test_bad_amounts_are_named() -> None:
    """A reference off the lot grid and one that is no number are a person's errors."""
    with pytest.raises(ConfigError, match="0.5 of A is not a multiple of 1"):
        Improve(ImproveConfig(reference_size="0.5"), A)
    with pytest.raises(ConfigError, match="lots of it"):
        Improve(ImproveConfig(reference_notional="lots of it"), A)


LEGS = [
    # position, bid failed, ask failed -> what is left
    (0, True, False, (0, 0)),
    (0, False, True, (0, 0)),
    (0, True, True, (0, 0)),
    (7, True, False, (0, 10004)),
    (7, False, True, (0, 0)),
    (-7, False, True, (9996, 0)),
    (-7, True, False, (0, 0)),
    (7, True, True, (0, 0)),
]


@pytest.mark.parametrize(("position", "bid_failed", "ask_failed", "left"), LEGS)
def test_a_pair_stands_or_falls_together(
    position: int, bid_failed: bool, ask_failed: bool, left: tuple[Ticks, Ticks]
) -> None:
    """Under "cancel" a leg whose partner was refused is withdrawn, except one that reduces; under "keep" none is."""
    market = view(
        ((9995, 5),), ((10005, 5),), position=position, bid_failed=bid_failed, ask_failed=ask_failed
    )  # fmt: skip
    paired = Improve(msgspec.structs.replace(CASE, pair_policy="cancel"), A)
    quote = paired.quote(market)
    assert (prices(quote), quote.reason) == (left, "leg_refused")
    again = paired.quote(msgspec.structs.replace(market, bid_failed=False, ask_failed=False))
    assert (prices(again), again.reason) == ((9996, 10004), "")
    assert prices(Improve(CASE, A).quote(market)) == (9996, 10004)


# Any book, any configuration -----------------------------------------------------------------------------------------


CONFIGS = st.builds(
    ImproveConfig,
    size=st.just("1"),
    notional=st.just(""),
    improvement_ticks=st.sampled_from([0, 1, 2, 7, 1000]),
    reference_size=st.sampled_from(["", "3", "20"]),
    reference_notional=st.sampled_from(["", "20000"]),
    spread_bps=st.floats(0.01, 1000.0),
    min_spread_bps=st.floats(0.0, 1000.0),
    sides=st.sampled_from(SIDES),
    pair_policy=st.sampled_from(PAIR_POLICIES),
)


@st.composite
def books(draw: st.DrawFn, instrument: Instrument = A) -> MarketView:
    """Return a view of a book with or without its sides and depth, locked, crossed or neither, and a mark."""
    centre = draw(st.integers(2, 30_000))
    gap = draw(st.integers(-3, 60))
    steps = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), max_size=6)
    bids: list[tuple[int, int]] = []
    asks: list[tuple[int, int]] = []
    price = centre + 1
    for down, size in draw(steps):
        price -= down
        if price > 0:
            bids.append((price, size))
    price = centre + gap
    for up, size in draw(steps):
        price += up
        if price > 0:
            asks.append((price, size))
    mark = draw(st.one_of(st.just(0.0), st.floats(0.5, 40_000.0)))
    made = view(tuple(bids), tuple(asks), instrument, mark=mark)
    if draw(st.integers(0, 4)) == 0:
        made = msgspec.structs.replace(made, bids=(), asks=())
    failed = {"bid_failed": draw(st.booleans()), "ask_failed": draw(st.booleans())}
    return msgspec.structs.replace(made, position=draw(st.integers(-9, 9)), **failed)


@given(CONFIGS, st.lists(books(), min_size=1, max_size=4))
def test_any_book_gives_a_sound_quote(config: ImproveConfig, views: list[MarketView]) -> None:
    """Valid prices above zero, the bid below the ask, neither at or through the opposite touch; and no memory."""
    quoter = Improve(config, A)
    for each in views:
        quote = quoter.quote(each)
        assert quote is quoter.quote(each)
        assert quote == Improve(config, A).quote(each)
        assert math.isfinite(quote.fair)
        bid, ask = prices(quote)
        assert bid >= 0 and ask >= 0
        if bid:
            assert not each.best_ask or bid < each.best_ask
        if ask:
            assert ask > each.best_bid
        if bid and ask:
            assert bid < ask
            assert ask - bid >= config.min_spread_bps * 1e-4 * each.mid - 1e-6
        assert config.sides != "bid_only" or not ask
        assert config.sides != "ask_only" or not bid
        if each.mid == 0:
            assert (bid, ask, quote.reason) == (0, 0, "no_price")


FINE = make_instrument("COIN", "0.01", "1", significant_figures=5)


@given(CONFIGS.filter(lambda config: not config.reference_notional), books(FINE))
def test_prices_are_on_the_venues_grid(config: ImproveConfig, market: MarketView) -> None:
    """Five significant figures, too: every price is a valid one, and the touch is still respected."""
    bid, ask = prices(Improve(config, FINE).quote(market))
    for price in (bid, ask):
        assert price % FINE.step_at(price) == 0
    assert not (bid and ask) or bid < ask
    assert not (bid and market.best_ask) or bid < market.best_ask


@given(CONFIGS.filter(lambda config: not config.reference_notional), books())
def test_a_mirrored_market_gives_the_mirrored_quote(config: ImproveConfig, market: MarketView) -> None:
    """Reflected at its mid, a market's bids become its asks; so do the quote's."""
    about = round(2 * market.mid)
    if not market.best_bid or not market.best_ask or about != 2 * market.mid:
        return
    deepest = max((price for price, _ in market.asks), default=0)
    if about - max(deepest, market.best_ask) <= config.improvement_ticks or about <= 2 * market.best_bid - about:
        return
    bids = tuple((about - price, size) for price, size in market.asks)
    asks = tuple((about - price, size) for price, size in market.bids)
    mirrored = msgspec.structs.replace(
        market, bids=bids, asks=asks, best_bid=about - market.best_ask, best_ask=about - market.best_bid,
        position=-market.position, bid_failed=market.ask_failed, ask_failed=market.bid_failed,
    )  # fmt: skip
    turned = {"both": "both", "bid_only": "ask_only", "ask_only": "bid_only"}[config.sides]
    bid, ask = prices(Improve(config, A).quote(market))
    far_bid, far_ask = prices(Improve(msgspec.structs.replace(config, sides=turned), A).quote(mirrored))
    assert (far_bid, far_ask) == (about - ask if ask else 0, about - bid if bid else 0)


@given(CONFIGS.filter(lambda config: not config.reference_notional), books())
def test_scaling_tick_and_price_changes_nothing_in_ticks(config: ImproveConfig, market: MarketView) -> None:
    """The same book on a grid a thousand times finer, at a thousandth of the price, gives the same ticks."""
    fine = make_instrument("A", "0.001", "1")
    scaled = msgspec.structs.replace(market, instrument=fine)
    assert Improve(config, fine).quote(scaled) == Improve(config, A).quote(market)


# Recorded markets ----------------------------------------------------------------------------------------------------


class Crossed:
    """Counts events after which own orders are crossed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, engine: Engine, event: object) -> None:  # noqa: ARG002 (an observer's signature)
        for desk in engine.desks.values():
            bids = [order.price for order in desk.orders.live.values() if order.side == BUY]
            asks = [order.price for order in desk.orders.live.values() if order.side != BUY]
            self.times += bool(bids and asks and max(bids) >= min(asks))


@pytest.mark.slow
@pytest.mark.parametrize("pair_policy", PAIR_POLICIES)
@pytest.mark.parametrize("name", ["hyperliquid_btc_20250904", "binance_spot_nexousdt_20240724"])
def test_recorded_markets(data: Path, name: str, pair_policy: str) -> None:
    """A deep book and a thin one with a wide spread: fills, the exact identity (I11), no crossed own orders."""
    instrument = instrument_for(name)
    desk = DeskParams(instrument, ImproveConfig(pair_policy=pair_policy))
    engine = Engine(EngineParams(PREFIX, (desk,), RiskConfig(), PATIENCE))
    crossed = Crossed()
    Backtest(engine, NoJournal(), SimConfig(), crossed).run(open_dataset(str(data / "market" / name), instrument))
    assert (engine.stopped, engine.live_orders(), engine.violations, crossed.times) == (True, 0, 0, 0)
    assert engine.session.fills > 0
    position = engine.desks[instrument.name].position
    assert position.equity == position.spread + position.inventory + position.funding - position.fees
