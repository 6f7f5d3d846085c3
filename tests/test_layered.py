"""Layered: the worked example of its source to the cent, and valid, ordered prices on any grid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, make_instrument
from mmpi.ports import MarketView, Quote
from mmpi.quoting import QUOTERS, make_quoter
from mmpi.quoting.layered import Layered, LayeredConfig

CENTS = make_instrument("BTC", "0.01", "0.001")
FIVE = make_instrument("BTC", "0.1", "0.00001", significant_figures=5)
"""Hyperliquid's BTC: five significant figures, integers always valid."""
COIN = make_instrument("COIN", "0.000001", "1", significant_figures=5)
EXAMPLE = LayeredConfig(levels=3, spread_percent=0.1, step_percent=0.05, size="0.01", notional="")


def view(
    bid: int, ask: int, instrument: Instrument = CENTS, *, weighted: float = 0.0, sigma: float = 0.0
) -> MarketView:
    """Return a market around a touch, in ticks."""
    return MarketView(instrument, 1, bid, ask, (bid + ask) / 2, weighted or (bid + ask) / 2, sigma, 0)


def texts(quote: Quote, instrument: Instrument = CENTS) -> tuple[list[str], list[str]]:
    """Return the prices of both sides, as people write them."""
    return ([instrument.price_text(rung.price) for rung in quote.bids],
            [instrument.price_text(rung.price) for rung in quote.asks])  # fmt: skip


@pytest.mark.parametrize(
    ("price", "bids", "asks"),
    [
        (5_000_000, ["49975", "49950", "49925"], ["50025", "50050", "50075"]),
        (5_010_000, ["50074.95", "50049.9", "50024.85"], ["50125.05", "50150.1", "50175.15"]),
    ],
)
def test_the_worked_example(price: int, bids: list[str], asks: list[str]) -> None:
    """Source text 003, both cycles: P = 50000 and 50100, 0.1 and 0.05 percent, three levels of 0.01."""
    quote = Layered(EXAMPLE, CENTS).quote(view(price - 1, price + 1))
    assert texts(quote) == (bids, asks)
    assert quote.fair == price
    for side in (quote.bids, quote.asks):
        assert [(rung.level, rung.size) for rung in side] == [(0, 10), (1, 10), (2, 10)]


def test_prices_between_ticks_go_away_from_the_mid() -> None:
    """Bids are rounded down and asks up, so no rung is nearer than asked for."""
    quote = Layered(LayeredConfig(levels=1, spread_percent=0.1), CENTS).quote(view(1_000_501, 1_000_503))
    # 10005.02 -/+ 5.00251
    assert texts(quote) == (["10000.01"], ["10010.03"])


def test_it_never_touches_the_other_side() -> None:
    """In a market wider than the ladder, or with the reference beyond the touch, quotes stay off the opposite touch."""
    tight = LayeredConfig(levels=3, spread_percent=0.001, step_percent=0.001, reference="weighted_mid")
    quote = Layered(tight, CENTS).quote(view(999_900, 1_000_100, weighted=1_000_400.0))
    assert [rung.price for rung in quote.bids] == [1_000_099, 1_000_098, 1_000_097]
    assert all(rung.price >= 1_000_400 for rung in quote.asks)


@pytest.mark.parametrize("spread", [0.0002, 0.1])
def test_a_locked_book_is_quoted_outside(spread: float) -> None:
    """Bid and ask at one price: at least one tick below, one above."""
    quote = Layered(LayeredConfig(levels=2, spread_percent=spread, step_percent=0.0001), CENTS).quote(
        view(1_000_000, 1_000_000)
    )
    assert quote.bids[0].price < 1_000_000 < quote.asks[0].price


def test_rungs_that_round_to_one_price_are_spread() -> None:
    """With steps finer than the grid each rung is one effective tick farther out than the last."""
    fine = LayeredConfig(levels=3, spread_percent=0.001, step_percent=0.0001)
    quote = Layered(fine, FIVE).quote(view(1_000_010, 1_000_030, FIVE))
    # Above 99999 only whole units are valid: ten ticks a step.
    assert texts(quote, FIVE) == (["100001", "100000", "99999"], ["100003", "100004", "100005"])
    fine = LayeredConfig(levels=3, spread_percent=0.0002, step_percent=0.0001)
    quote = Layered(fine, FIVE).quote(view(100_005, 100_007, FIVE))
    assert texts(quote, FIVE) == (["10000", "9999.9", "9999.8"], ["10001", "10002", "10003"])


def test_size_by_notional() -> None:
    """Notional over the reference price, rounded down to the lot; below one lot nothing is quoted, with the reason."""
    by_notional = LayeredConfig(levels=1, notional="100")
    assert Layered(by_notional, CENTS).quote(view(999_999, 1_000_001)).bids[0].size == 10
    assert Layered(by_notional, CENTS).quote(view(1_000_099, 1_000_101)).bids[0].size == 9
    quote = Layered(LayeredConfig(notional="9.99"), CENTS).quote(view(999_999, 1_000_001))
    assert (quote.bids, quote.asks, quote.reason) == ((), (), "size_below_lot")


def test_the_reference_is_chosen() -> None:
    """weighted_mid moves the whole ladder."""
    market = view(999_000, 1_001_000, weighted=1_000_500.0)
    assert Layered(EXAMPLE, CENTS).quote(market).fair == 1_000_000
    leaning = LayeredConfig(levels=1, spread_percent=0.1, reference="weighted_mid")
    assert texts(Layered(leaning, CENTS).quote(market)) == (["9999.99"], ["10010.01"])


def test_volatility_is_a_floor_of_the_half_spread() -> None:
    """Two standard deviations over an interval of four seconds at 100 ticks per sqrt(second): 400 ticks; 0 = off."""
    floor = LayeredConfig(levels=1, spread_percent=0.01, volatility_multiple=2.0, update_interval_s=4.0)
    wild, calm = view(999_999, 1_000_001, sigma=100.0), view(999_999, 1_000_001, sigma=1.0)
    assert texts(Layered(floor, CENTS).quote(wild)) == (["9996"], ["10004"])
    assert texts(Layered(floor, CENTS).quote(calm)) == (["9999.5"], ["10000.5"])
    off = LayeredConfig(levels=1, spread_percent=0.01)
    assert texts(Layered(off, CENTS).quote(wild)) == (["9999.5"], ["10000.5"])


def test_the_ladder_ends_above_zero() -> None:
    """Rungs that would be at or below zero are left out."""
    deep = LayeredConfig(levels=20, spread_percent=20.0, step_percent=20.0, size="1", notional="")
    quote = Layered(deep, CENTS).quote(view(99, 101))
    assert [rung.price for rung in quote.bids] == [90, 70, 50, 30, 10]
    assert len(quote.asks) == 20


def test_bad_amounts_are_named() -> None:
    """A size off the lot grid and a notional that is no number are a person's errors."""
    with pytest.raises(ConfigError, match=r"size 0\.0001 of BTC is not a multiple of 0\.001"):
        Layered(LayeredConfig(size="0.0001", notional=""), CENTS)
    with pytest.raises(ConfigError, match=r"instrument BTC: layered\.notional 'ten' is not a decimal number"):
        Layered(LayeredConfig(notional="ten"), CENTS)


def test_the_registry_makes_it() -> None:
    """A config type belongs to one quoter class, and its interval is the configured one."""
    assert QUOTERS[LayeredConfig] is Layered
    quoter = make_quoter(LayeredConfig(update_interval_s=0.25), CENTS)
    assert isinstance(quoter, Layered)
    assert quoter.interval == 250_000_000


percent = st.floats(0.0001, 20.0)


@given(
    st.sampled_from([CENTS, FIVE, COIN]),
    st.integers(1, 10**7),
    st.integers(0, 1000),
    st.floats(0.0, 1.0),
    st.builds(
        LayeredConfig,
        levels=st.integers(1, 8),
        spread_percent=percent,
        step_percent=percent,
        size=st.just("1"),
        notional=st.just(""),
        reference=st.sampled_from(["mid", "weighted_mid"]),
        volatility_multiple=st.sampled_from([0.0, 1.0]),
    ),
    st.floats(0.0, 1e4),
)
def test_every_price_is_valid_and_the_ladder_is_monotone(
    instrument: Instrument, bid: int, spread: int, share: float, config: LayeredConfig, sigma: float
) -> None:
    """On any grid and market: valid prices, strictly outward, off the opposite touch, as wide as asked."""
    bid = instrument.round_bid(bid)
    ask = instrument.round_ask(bid + spread)
    market = view(bid, ask, instrument, weighted=bid + share * (ask - bid), sigma=sigma)
    quote = Layered(config, instrument).quote(market)
    bids, asks = [rung.price for rung in quote.bids], [rung.price for rung in quote.asks]
    assert all(price > 0 and price % instrument.step_at(price) == 0 for price in bids + asks)
    assert all(near > far for near, far in zip(bids, bids[1:], strict=False))
    assert all(near < far for near, far in zip(asks, asks[1:], strict=False))
    assert len(asks) == config.levels
    assert not bids or bids[0] < ask
    assert asks[0] > bid
    fair, guard = quote.fair, 1e-5
    for level, price in enumerate(bids):
        assert fair - price >= fair * (config.spread_percent / 200 + level * config.step_percent / 100) - guard
    for level, price in enumerate(asks):
        assert price - fair >= fair * (config.spread_percent / 200 + level * config.step_percent / 100) - guard
