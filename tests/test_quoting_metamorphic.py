"""What every strategy obeys, whatever it does: mirror, inventory, volatility, scale; over all that are registered."""

from typing import Any, Final

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmpi.instrument import Instrument, make_instrument
from mmpi.inventory import band
from mmpi.ports import MarketView, Quote, QuoteLevel, Readings
from mmpi.quoting import QUOTERS, make_quoter
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig

pytestmark = pytest.mark.slow

CENTS = make_instrument("BTC", "0.01", "0.001")
LIMIT: Final = 5000
"""Lots; five of the fixed size."""
SIZED: Final = {"size": st.just("1"), "notional": st.just("")}
REFERENCES: Final = st.sampled_from(["mid", "weighted_mid", "micro_price"])
# A layered ladder's steps are percent of its reference, so only around the mid can its mirror be exact. Depths that the
# model's own bound cuts off say nothing about volatility: hence GLFT's wide bound and tame settings.
CONFIGS: Final[dict[type, st.SearchStrategy[Any]]] = {
    LayeredConfig: st.builds(
        LayeredConfig,
        levels=st.integers(1, 6),
        spread_percent=st.floats(0.001, 0.5),
        step_percent=st.floats(0.001, 0.5),
        volatility_multiple=st.sampled_from([0.0, 1.0, 3.0]),
        **SIZED,
    ),
    AvellanedaStoikovConfig: st.builds(
        AvellanedaStoikovConfig,
        levels=st.integers(1, 6),
        gamma_per_bp=st.floats(0.0, 1.0),
        k_per_bp=st.floats(0.05, 5.0),
        horizon_s=st.floats(1.0, 600.0),
        reference=REFERENCES,
        min_half_spread_bps=st.floats(0.0, 5.0),
        max_half_spread_bps=st.floats(5.0, 200.0),
        adverse_selection_bps=st.sampled_from([0.0, 0.0, 0.5, 3.0]),
        min_rung_percent=st.floats(0.0, 100.0),
        use_regime=st.booleans(),
        pause_regime=st.booleans(),
        pause_imbalance=st.sampled_from([0.0, 0.5, 0.9]),
        imbalance_shift=st.floats(0.0, 1.0),
        flow_shift=st.floats(0.0, 1.0),
        **SIZED,
    ),
    GlftConfig: st.builds(
        GlftConfig,
        levels=st.integers(1, 6),
        max_inventory=st.integers(1, 12),
        gamma_per_bp=st.floats(0.0, 0.1),
        k_per_bp=st.floats(0.3, 3.0),
        arrivals_per_s=st.floats(0.05, 5.0),
        approximate=st.booleans(),
        reference=REFERENCES,
        max_depth_bps=st.just(1000.0),
        **SIZED,
    ),
    ImproveConfig: st.builds(
        ImproveConfig,
        improvement_ticks=st.integers(0, 5),
        reference_size=st.sampled_from(["", "0.1", "0.5"]),
        reference_notional=st.just(""),
        min_spread_bps=st.floats(0.0, 10.0),
        spread_bps=st.floats(10.0, 100.0),
        pair_policy=st.sampled_from(["keep", "cancel"]),
        **SIZED,
    ),
}


def setting(strategy: type) -> st.SearchStrategy[Any]:
    """Return settings of a strategy; its defaults, where this file does not know it."""
    return CONFIGS.get(strategy, st.builds(strategy))


@st.composite
def markets(draw: st.DrawFn) -> MarketView:
    """Return a book of up to six levels a side, with everything else that a quoter may look at."""
    bid = draw(st.integers(900_000, 1_100_000))
    ask = bid + draw(st.integers(1, 200))
    sizes = st.integers(1, 2000)
    gaps = st.lists(st.tuples(st.integers(1, 50), sizes), max_size=5)
    bids, asks = [(bid, draw(sizes))], [(ask, draw(sizes))]
    for gap, size in draw(gaps):
        bids.append((bids[-1][0] - gap, size))
    for gap, size in draw(gaps):
        asks.append((asks[-1][0] + gap, size))
    share = draw(st.integers(0, 16)) / 16
    readings = Readings(
        imbalance=draw(st.integers(-8, 8)) / 8,
        micro_price=draw(st.sampled_from([0.0, bid + 0.25 * (ask - bid), 0.5 * (bid + ask)])),
        regime=draw(st.integers(0, 3)),
        buy_intensity=float(draw(st.integers(0, 4))),
        sell_intensity=float(draw(st.integers(0, 4))),
    )
    view = MarketView(
        CENTS, 1, bid, ask, 0.5 * (bid + ask), bid + share * (ask - bid), draw(st.floats(0.0, 300.0)), 0, LIMIT,
        bids=tuple(bids), asks=tuple(asks), readings=readings,
        bid_failed=draw(st.booleans()), ask_failed=draw(st.booleans()),
    )  # fmt: skip
    return holding(view, draw(st.integers(-6000, 6000)))


def holding(view: MarketView, position: int) -> MarketView:
    """Return the market as seen with a position, in the band that the risk gate would tell."""
    reached = band(100 * position, 60 * LIMIT, 90 * LIMIT, 125 * LIMIT)
    return msgspec.structs.replace(view, position=position, band=reached)


def ladder(config: Any, view: MarketView, instrument: Instrument = CENTS) -> Quote:
    """Return a new quoter's ladder."""
    quote: Quote = make_quoter(config, instrument).quote(msgspec.structs.replace(view, instrument=instrument))
    return quote


def mirrored(view: MarketView) -> MarketView:
    """Return the market reflected about its mid: sides swapped, prices reflected, position and pressure negated."""
    both, readings = view.best_bid + view.best_ask, view.readings
    return msgspec.structs.replace(
        view,
        weighted_mid=both - view.weighted_mid,
        position=-view.position,
        bids=tuple((both - price, size) for price, size in view.asks),
        asks=tuple((both - price, size) for price, size in view.bids),
        readings=msgspec.structs.replace(
            readings,
            imbalance=-readings.imbalance,
            micro_price=both - readings.micro_price if readings.micro_price else 0.0,
            buy_intensity=readings.sell_intensity,
            sell_intensity=readings.buy_intensity,
        ),
        bid_failed=view.ask_failed,
        ask_failed=view.bid_failed,
    )


def aggressive(side: int, rungs: "tuple[QuoteLevel, ...]", others: "tuple[QuoteLevel, ...]") -> bool:
    """Return True if `rungs` are in any way more aggressive than `others`: more, larger or nearer the other side."""
    if len(rungs) > len(others):
        return True
    pairs = list(zip(rungs, others, strict=False))
    return any(a.size > b.size or side * a.price > side * b.price for a, b in pairs)


def test_every_registered_strategy_has_settings_here() -> None:
    """A strategy that is registered is exercised over its settings, not over its defaults alone."""
    assert set(CONFIGS) == set(QUOTERS)


few = settings(max_examples=40)
"""Twenty tests of it: the suite is to stay quick."""


@pytest.mark.parametrize("strategy", QUOTERS)
@few
@given(data=st.data(), view=markets())
def test_a_mirrored_market_has_the_mirrored_ladder(strategy: type, data: st.DataObject, view: MarketView) -> None:
    """Reflected about the mid, bids become asks: the same levels and sizes, prices reflected, the same reason."""
    config = data.draw(setting(strategy))
    quote, image = ladder(config, view), ladder(config, mirrored(view))
    both = view.best_bid + view.best_ask
    for rungs, others in ((quote.bids, image.asks), (quote.asks, image.bids)):
        reflected = [(rung.level, both - rung.price, rung.size) for rung in rungs]
        assert reflected == [(rung.level, rung.price, rung.size) for rung in others]
    assert image.reason == quote.reason
    assert image.fair == pytest.approx(both - quote.fair)


@pytest.mark.parametrize("strategy", QUOTERS)
@few
@given(data=st.data(), view=markets(), more=st.one_of(st.integers(1, 10), st.integers(1, 12_000)))
def test_more_inventory_never_makes_the_same_side_more_aggressive(
    strategy: type, data: st.DataObject, view: MarketView, more: int
) -> None:
    """The longer the position, the fewer, smaller and lower the bids; the shorter, the fewer and higher the asks."""
    config = data.draw(setting(strategy))
    less, longer = ladder(config, view), ladder(config, holding(view, view.position + more))
    assert not aggressive(1, longer.bids, less.bids)
    assert not aggressive(-1, less.asks, longer.asks)


@pytest.mark.parametrize("strategy", QUOTERS)
@few
@given(data=st.data(), view=markets(), factor=st.floats(1.0, 20.0))
def test_a_higher_volatility_never_narrows_the_ladder(
    strategy: type, data: st.DataObject, view: MarketView, factor: float
) -> None:
    """From best bid to best ask never a tick less; where inventory or a signal shifts the ladder with volatility, so
    that its sides round elsewhere, never less than that explains: one tick for each side."""
    config = data.draw(setting(strategy))
    wilder = msgspec.structs.replace(view, volatility=view.volatility * factor)
    calm, wild = ladder(config, view), ladder(config, wilder)
    assume(calm.bids and calm.asks and wild.bids and wild.asks)
    before = calm.asks[0].price - calm.bids[0].price
    after = wild.asks[0].price - wild.bids[0].price
    shifted = view.position or calm.fair != wild.fair
    assert after >= before - (2 if shifted else 0)


@pytest.mark.parametrize("strategy", QUOTERS)
@few
@given(data=st.data(), view=markets(), scale=st.sampled_from(["0.0001", "0.1", "10", "100"]))
def test_scaling_tick_and_price_changes_nothing_in_ticks(
    strategy: type, data: st.DataObject, view: MarketView, scale: str
) -> None:
    """The same market in another unit of money: the same integers."""
    config = data.draw(setting(strategy))
    assert ladder(config, view, make_instrument("BTC", scale, "0.001")) == ladder(config, view)


@pytest.mark.parametrize("strategy", QUOTERS)
@few
@given(data=st.data(), views=st.lists(markets(), min_size=2, max_size=5))
def test_the_same_view_makes_the_same_ladder(strategy: type, data: st.DataObject, views: list[MarketView]) -> None:
    """Whatever a quoter was asked before, and twice the same: as a new one answers."""
    config = data.draw(setting(strategy))
    quoter = make_quoter(config, CENTS)
    for view in (*views, *views, views[0]):
        assert quoter.quote(view) == ladder(config, view)


BY_PRICES: Final[dict[type, dict[str, object]]] = {
    LayeredConfig: {"reference": "mid"},
    AvellanedaStoikovConfig: {
        "reference": "mid", "use_regime": False, "pause_regime": False, "pause_imbalance": 0.0, "imbalance_shift": 0.0,
        "flow_shift": 0.0,
    },
    GlftConfig: {"reference": "mid"},
}  # fmt: skip
"""What makes a strategy one that looks at prices alone."""


@pytest.mark.parametrize("strategy", BY_PRICES)
@few
@given(data=st.data(), view=markets(), other=markets())
def test_a_quoter_of_prices_only_looks_at_nothing_else(
    strategy: type, data: st.DataObject, view: MarketView, other: MarketView
) -> None:
    """Sizes, levels, fair values of depth, signals and time may change: it says so, and the ladder stays the same."""
    config = msgspec.structs.replace(data.draw(setting(strategy)), **BY_PRICES[strategy])
    assert make_quoter(config, view.instrument).prices_only
    changed = msgspec.structs.replace(
        view, now=view.now + 5, weighted_mid=other.weighted_mid, bids=other.bids, asks=other.asks, mark=other.mark,
        readings=other.readings, bid_failed=True, ask_failed=True,
    )  # fmt: skip
    assert ladder(config, changed) == ladder(config, view)


def test_what_looks_at_more_than_prices_says_so() -> None:
    """A fair value from sizes, a signal, or the levels behind the touch."""
    for config in (
        LayeredConfig(reference="weighted_mid"), GlftConfig(reference="micro_price"), ImproveConfig(),
        AvellanedaStoikovConfig(use_regime=True), AvellanedaStoikovConfig(flow_shift=0.1),
    ):  # fmt: skip
        assert not make_quoter(config, CENTS).prices_only
