"""Ladder: rungs round exactly as the instrument does, on every grid, and sizes respect the venue's minimum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.instrument import Instrument, make_instrument
from mmpi.ladder import NO_SPREAD, OrderSize, Side, apart, smallest_order
from mmpi.ports import MarketView, QuoteLevel
from mmpi.quoting import QuoterSettings, make_quoter
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.layered import LayeredConfig

CENTS = make_instrument("BTC", "0.01", "0.001")
FIVE = make_instrument("BTC", "0.1", "0.00001", significant_figures=5, min_notional="10")
COIN = make_instrument("COIN", "0.000001", "1", significant_figures=5)
HALVES = make_instrument("HALF", "0.5", "1", significant_figures=5)
GRIDS = st.sampled_from([CENTS, FIVE, COIN, HALVES])


def plainly(
    instrument: Instrument, fair: float, depths: list[float], bid: int, ask: int
) -> tuple[list[int], list[int]]:
    """Return both sides' prices by the instrument's own rounding, one after the other."""
    bids: list[int] = []
    asks: list[int] = []
    for depth in depths:
        price = instrument.round_bid(min(fair - depth, (bids[-1] if bids else ask) - 1))
        if price <= 0:
            break
        bids.append(price)
    for depth in depths:
        asks.append(instrument.round_ask(max(fair + depth, (asks[-1] if asks else bid) + 1)))
    return bids, asks


@given(
    GRIDS,
    st.lists(st.tuples(st.one_of(st.floats(1.0, 10.0**7), st.sampled_from([99_999.5, 100_000.0, 1e6])),
                       st.integers(0, 300), st.lists(st.floats(-500.0, 2e5), min_size=1, max_size=6)), max_size=4),
)  # fmt: skip
def test_rungs_round_as_the_instrument_does(
    instrument: Instrument, wishes: list[tuple[float, int, list[float]]]
) -> None:
    """Across changes of the increment too, and whatever was asked before: the instrument's own roundings."""
    bids_side, asks_side = Side(instrument), Side(instrument)
    for fair, spread, depths in wishes:
        depths.sort()
        bid, ask = instrument.round_bid(fair), instrument.round_ask(fair + spread)
        sizes = list(range(1, len(depths) + 1))
        bids = bids_side.bids(fair, depths, sizes, ask)
        asks = asks_side.asks(fair, depths, sizes, bid)
        found = ([rung.price for rung in bids], [rung.price for rung in asks])
        assert found == plainly(instrument, fair, depths, bid, ask)
        assert [(rung.level, rung.size) for rung in asks] == list(enumerate(sizes))


def test_the_same_wishes_are_the_same_rungs() -> None:
    """Rungs that do not change are not made again; a size that changes makes them again."""
    side = Side(CENTS)
    first = side.bids(1000.0, [10.0, 20.0], [5, 5], 1001)
    assert side.bids(1000.4, [10.0, 20.0], [5, 5], 1001) is first
    assert [rung.size for rung in side.bids(1000.0, [10.0, 20.0], [5, 4], 1001)] == [5, 4]
    assert len(side.bids(1000.0, [10.0, 20.0], [5], 1001)) == 1


def test_without_an_opposite_side() -> None:
    """An empty other side bounds nothing."""
    assert [rung.price for rung in Side(CENTS).bids(1000.0, [-10.0], [1], 0)] == [1010]
    assert [rung.price for rung in Side(CENTS).asks(1000.0, [-10.0], [1], 0)] == [990]


@given(st.floats(10.0, 1e7), st.integers(1, 20))
def test_the_smallest_order(price: float, rungs: int) -> None:
    """It is worth the minimum at every price within that many increments below, and not much more."""
    least = smallest_order(FIVE, price, rungs)
    lowest = FIVE.round_bid(max(1.0, price))
    for _ in range(rungs - 1):
        lowest = FIVE.round_bid(max(1, lowest - 1))
    assert least * lowest * FIVE.unit >= FIVE.min_notional
    if price > 1e5:
        assert (least - 1) * price * FIVE.unit < 1.01 * FIVE.min_notional
    assert smallest_order(CENTS, price, rungs) == 1


@pytest.mark.parametrize(("price", "lots"), [(1_000_000.0, 10), (1_000_001.0, 9)])
def test_size_by_worth(price: float, lots: int) -> None:
    """A hundred of the quote currency at 10000: 10 lots of 0.001, rounded down beyond; a fixed size stays."""
    assert OrderSize("", "100", CENTS, "layered").lots(price) == lots
    assert OrderSize("0.5", "", CENTS, "layered").lots(price) == 500


def test_sides_that_meet_give_way() -> None:
    """What adds to the position goes first, both when flat, and only as far as they meet."""
    bids = (QuoteLevel(0, 100, 1), QuoteLevel(1, 98, 1))
    asks = (QuoteLevel(0, 99, 1), QuoteLevel(1, 101, 1))
    assert apart(bids, asks, 5) == (bids[1:], asks)
    assert apart(bids, asks, -5) == (bids, asks[1:])
    assert apart(bids, asks, 0) == (bids[1:], asks[1:])
    assert apart(bids[1:], asks, 0) == (bids[1:], asks)
    assert apart(bids[:1], asks[:1], 0) == ((), ())


@pytest.mark.parametrize(
    "config",
    [
        LayeredConfig(levels=1, spread_percent=1e-11),
        GlftConfig(levels=1, max_depth_bps=1e-10),
        AvellanedaStoikovConfig(levels=1, min_half_spread_bps=0.0, max_half_spread_bps=1e-10),
    ],
)
def test_a_spread_of_nothing_is_not_quoted(config: QuoterSettings) -> None:
    """On a mid that is a tick, bid and ask would be at one price: nothing is quoted, and it says why."""
    quote = make_quoter(config, CENTS).quote(MarketView(CENTS, 1, 999_900, 1_000_100, 1e6, 1e6, 1.0, 0, 10**6))
    assert (quote.bids, quote.asks, quote.reason) == ((), (), NO_SPREAD)
