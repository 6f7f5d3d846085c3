"""Avellaneda-Stoikov: hand-computed, published and independently solved values; bands, pauses, signals and sizes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, make_instrument
from mmpi.inventory import CRITICAL, HARD, WARN
from mmpi.ports import NO_READINGS, MarketView, Quote, Readings
from mmpi.quoting import make_quoter
from mmpi.quoting.avellaneda_stoikov import (
    AvellanedaStoikov,
    AvellanedaStoikovConfig,
    break_even,
    half_spread,
    intensity_term,
    reservation_price,
)

CENTS = make_instrument("BTC", "0.01", "0.001")
FIVE = make_instrument("BTC", "0.1", "0.00001", significant_figures=5, min_notional="10")
"""Hyperliquid's BTC."""
MID = 1_000_000
"""Ticks; a basis point is 100 of them."""
EXAMPLE = AvellanedaStoikovConfig(
    levels=3, size="1", notional="", gamma_per_bp=0.5, k_per_bp=1.0, horizon_s=1.0, min_rung_percent=10.0
)
PAPER = {"sigma": 2.0, "k": 1.5}
"""Section 3.3 of the paper: s = 100, T = 1, sigma = 2, dt = 0.005, k = 1.5, A = 140."""


def view(
    *,
    position: int = 0,
    sigma: float = 200.0,
    limit: int = 0,
    band: int = 0,
    readings: Readings = NO_READINGS,
    instrument: Instrument = CENTS,
    weighted: float = MID,
    spread: int = 2,
) -> MarketView:
    """Return a market of `spread` ticks around MID, at 2 basis points per sqrt(second)."""
    bid, ask = MID - spread // 2, MID + spread // 2
    return MarketView(
        instrument, 1, bid, ask, float(MID), weighted, sigma, position, limit, band, readings=readings
    )


def quoted(config: AvellanedaStoikovConfig = EXAMPLE, **market: object) -> Quote:
    """Return the ladder of a new quoter in that market."""
    return AvellanedaStoikov(config, CENTS).quote(view(**market))  # type: ignore[arg-type]


def changed(**fields: object) -> AvellanedaStoikovConfig:
    """Return the example with some fields changed."""
    values = {name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__} | fields
    return AvellanedaStoikovConfig(**values)


def test_hand_computed_values() -> None:
    """s=100, q=2, gamma=0.1, sigma=2, T=1, k=1.5: 100 - 2*0.1*4 and 0.2 + 10*ln(1.0666...)."""
    assert reservation_price(100.0, 2.0, 0.1, 2.0, 1.0) == pytest.approx(99.2, abs=1e-12)
    assert half_spread(0.1, 2.0, 1.0, 1.5) == pytest.approx(0.8453852113757118, abs=1e-12)
    assert half_spread(0.0, 2.0, 1.0, 1.5) == pytest.approx(2 / 3, abs=1e-12)


def test_the_intensity_term_is_continuous_at_zero_risk_aversion() -> None:
    """As gamma goes to 0, ln(1 + gamma/k)/gamma goes to 1/k from below, without a jump where the formula changes."""
    values = [intensity_term(gamma, 1.5) for gamma in (0.0, 1e-13, 1e-12, 1.6e-12, 1e-9, 1e-6, 1e-3)]
    assert values == pytest.approx([2 / 3] * 7, rel=1e-3)
    assert all(near >= far - 1e-12 for near, far in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(("gamma", "published"), [(0.1, 1.49), (0.01, 1.35), (1.0, 3.02)])
def test_the_published_average_spreads(gamma: float, published: float) -> None:
    """Avellaneda & Stoikov 2008, Tables 1, 2, 3: the spread's average over the time from 0 to T."""
    average, _ = integrate.quad(lambda t: 2 * half_spread(gamma, PAPER["sigma"], 1 - t, PAPER["k"]), 0, 1)
    assert average == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(("gamma", "published"), [(0.1, 1.29), (0.01, 1.33), (0.5, 1.15)])
def test_the_spreads_of_the_preprint(gamma: float, published: float) -> None:
    """The draft of 5 October 2006, Tables 1, 2, 3: the spread is the intensity term alone."""
    assert 2 * intensity_term(gamma, PAPER["k"]) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(
    ("gamma", "profit", "deviation", "inventory"),
    [(0.1, 65.0, 6.6, 2.9), (0.01, 68.6, 8.7, 5.1), (1.0, 31.4, 5.0, 1.7)],
)
def test_the_published_simulation(gamma: float, profit: float, deviation: float, inventory: float) -> None:
    """The paper's experiment with these formulas gives Tables 1 to 3's profit and the two deviations (4000 paths)."""
    rng, paths, dt, rate = np.random.default_rng(8), 4000, 0.005, 140.0
    s, q, cash = np.full(paths, 100.0), np.zeros(paths), np.zeros(paths)
    for step in range(200):
        left = 1.0 - step * dt
        half = half_spread(gamma, PAPER["sigma"], left, PAPER["k"])
        fair = s - q * gamma * PAPER["sigma"] ** 2 * left
        assert fair[0] == reservation_price(s[0], q[0], gamma, PAPER["sigma"], left)
        bought = rng.random(paths) < rate * np.exp(-PAPER["k"] * (s - fair + half)) * dt
        sold = rng.random(paths) < rate * np.exp(-PAPER["k"] * (fair + half - s)) * dt
        cash += sold * (fair + half) - bought * (fair - half)
        q += bought.astype(float) - sold
        s += PAPER["sigma"] * math.sqrt(dt) * rng.choice((-1.0, 1.0), paths)
    wealth = cash + q * s
    assert wealth.mean() == pytest.approx(profit, rel=0.02)
    assert wealth.std() == pytest.approx(deviation, rel=0.06)
    assert q.std() == pytest.approx(inventory, rel=0.06)


def utility(cash: float, q: float, s: float, gamma: float, sigma: float, horizon: float) -> float:
    """Return E[-exp(-gamma*(cash + q*S_T))] by quadrature; S_T is normal around s."""

    def integrand(z: float) -> float:
        wealth = cash + q * (s + sigma * math.sqrt(horizon) * z)
        return -math.exp(-gamma * wealth - z * z / 2) / math.sqrt(2 * math.pi)

    value: float = integrate.quad(integrand, -14, 14, epsabs=0.0, epsrel=1e-12)[0]
    return value


@pytest.mark.parametrize("q", [-3, 0, 1, 2])
@pytest.mark.parametrize(("gamma", "sigma", "horizon"), [(0.1, 2.0, 1.0), (0.02, 0.7, 60.0), (0.5, 0.3, 5.0)])
def test_the_reservation_price_is_the_indifference_price(q: int, gamma: float, sigma: float, horizon: float) -> None:
    """The prices at which one more and one less unit leave the expected utility as it is average to it (to 1e-6)."""
    s = 1.0
    held = utility(0.0, q, s, gamma, sigma, horizon)

    def of_one_more(price: float) -> float:
        return utility(-price, q + 1, s, gamma, sigma, horizon) / held - 1.0

    def of_one_less(price: float) -> float:
        return utility(price, q - 1, s, gamma, sigma, horizon) / held - 1.0

    low, high = s - 20, s + 20
    bid = optimize.brentq(of_one_more, low, high, xtol=1e-12)
    ask = optimize.brentq(of_one_less, low, high, xtol=1e-12)
    assert 0.5 * (bid + ask) == pytest.approx(reservation_price(s, q, gamma, sigma, horizon), abs=1e-6)


@pytest.mark.parametrize("q", [-2, 0, 3])
@pytest.mark.parametrize(("gamma", "sigma", "horizon", "k"), [(0.1, 2.0, 1.0, 1.5), (0.05, 0.6, 60.0, 0.5)])
def test_the_half_spread_is_the_numerical_optimum(q: int, gamma: float, sigma: float, horizon: float, k: float) -> None:
    """Depths that maximise the Hamiltonian A*exp(-k*depth)*(gain in frozen-inventory utility) are half_spread's."""
    s = 1.0
    held = utility(0.0, q, s, gamma, sigma, horizon)

    def gain_of_bid(depth: float) -> float:
        return -math.exp(-k * depth) * (1.0 - utility(-(s - depth), q + 1, s, gamma, sigma, horizon) / held)

    def gain_of_ask(depth: float) -> float:
        return -math.exp(-k * depth) * (1.0 - utility(s + depth, q - 1, s, gamma, sigma, horizon) / held)

    guess = half_spread(gamma, sigma, horizon, k)
    shift = s - reservation_price(s, q, gamma, sigma, horizon)

    def best(gain: object, near: float) -> float:
        """Return the optimum, polished on the slope: values alone fix it only to the root of their precision."""
        found = optimize.minimize_scalar(gain, bounds=(near - 5, near + 5), method="bounded").x
        step = 1e-3

        def slope(x: float) -> float:
            at = [gain(x + i * step) for i in (-2, -1, 1, 2)]  # type: ignore[operator]
            return at[0] - 8 * at[1] + 8 * at[2] - at[3]

        root: float = optimize.brentq(slope, found - 0.05, found + 0.05, xtol=1e-12)
        return root

    assert best(gain_of_bid, guess + shift) == pytest.approx(guess + shift, abs=1e-6)
    assert best(gain_of_ask, guess - shift) == pytest.approx(guess - shift, abs=1e-6)


def test_the_ladder_by_hand() -> None:
    """sigma 2 bp, gamma 0.5, k 1, T 1, half a unit held: half spread 1 + 2*ln(1.5) bp, skew 1 bp, rungs to 3 sigma.

    The first depth is 1.8109 bp, the last 6, the one between their geometric mean 3.2963. Each rung has 100 of the
    1000 lots; the other 700 go by depth*exp(-depth): 0.2961, 0.1220, 0.0149.
    """
    quote = quoted(position=500)
    assert quote.fair == pytest.approx(999_900)
    assert [rung.price for rung in quote.bids] == [999_718, 999_570, 999_300]
    assert [rung.price for rung in quote.asks] == [1_000_082, 1_000_230, 1_000_500]
    assert [rung.size for rung in quote.bids] == [578, 297, 124]
    assert [rung.size for rung in quote.asks] == [578, 297, 124]
    assert [rung.level for rung in quote.asks] == [0, 1, 2]


def test_it_agrees_with_the_formulas() -> None:
    """The first bid and ask are the pure functions' values with gamma and k per tick, rounded away from the mid."""
    gamma, k, q = 0.5 / 100, 1.0 / 100, -0.7
    quote = quoted(position=-700, sigma=130.0)
    fair = reservation_price(MID, q, gamma, 130.0, 1.0)
    half = half_spread(gamma, 130.0, 1.0, k)
    assert quote.fair == pytest.approx(fair)
    assert (quote.bids[0].price, quote.asks[0].price) == (math.floor(fair - half), math.ceil(fair + half))


def test_quiet_is_not_safe_and_a_jump_is_no_overflow() -> None:
    """The volatility has a floor, the half spread two bounds, and the deepest rung is within three times the upper."""
    config = changed(min_volatility_bps=1.0, max_half_spread_bps=4.0)
    assert quoted(config, sigma=0.0) == quoted(config, sigma=100.0)
    wild = quoted(config, sigma=1e300)
    assert [MID - rung.price for rung in wild.bids] == [400, 693, 1200]
    assert [rung.price - MID for rung in quoted(changed(min_half_spread_bps=3.0), sigma=0.0).asks] == [300, 520, 900]


def test_size_shrinks_with_the_position() -> None:
    """At 40% of the limit the side that adds has 60% of its size, the side that reduces all of it."""
    quote = quoted(position=400, limit=1000)
    assert sum(rung.size for rung in quote.bids) == pytest.approx(600, abs=3)
    assert sum(rung.size for rung in quote.asks) == pytest.approx(1000, abs=3)
    short = quoted(position=-400, limit=1000)
    assert [rung.size for rung in short.asks] == [rung.size for rung in quote.bids]
    assert quoted(position=1200, limit=1000).bids == ()


def test_bands() -> None:
    """WARN: a quarter more skew. CRITICAL and HARD: that, and no order that adds to the position."""
    calm, warned = quoted(position=800), quoted(position=800, band=WARN)
    assert MID - warned.fair == pytest.approx(1.25 * (MID - calm.fair))
    for band in (CRITICAL, HARD):
        long, short = quoted(position=900, band=band), quoted(position=-900, band=band)
        assert long.bids == () and long.asks and long.reason == ""
        assert short.asks == () and short.bids
        assert MID - long.fair == pytest.approx(1.25 * (MID - quoted(position=900).fair))


@pytest.mark.parametrize(
    ("config", "readings"),
    [
        (changed(pause_regime=True), Readings(regime=3)),
        (changed(pause_imbalance=0.8), Readings(imbalance=0.8)),
        (changed(pause_imbalance=0.8), Readings(imbalance=-0.9)),
    ],
)
def test_pauses_never_stop_what_reduces(config: AvellanedaStoikovConfig, readings: Readings) -> None:
    """A pause withdraws both sides when flat, with the reason; with a position only the side that adds to it."""
    flat = quoted(config, readings=readings)
    assert (flat.bids, flat.asks, flat.reason) == ((), (), "paused")
    long, short = quoted(config, readings=readings, position=5), quoted(config, readings=readings, position=-5)
    assert long.bids == () and long.asks and long.reason == ""
    assert short.asks == () and short.bids
    assert quoted(config, readings=Readings(regime=2, imbalance=0.79)).bids


def test_regimes() -> None:
    """The half spread is multiplied by 0.8, 1, 1.5, 3, the size by 1, 1, 0.5, 0.1; unless asked for, by nothing."""
    config = changed(use_regime=True, min_half_spread_bps=0.0)
    ladders = [quoted(config, readings=Readings(regime=regime)) for regime in range(4)]
    depths = [rung.asks[0].price - MID for rung in ladders]
    assert depths == [math.ceil(181.093 * factor) for factor in (0.8, 1.0, 1.5, 3.0)]
    sizes = [sum(rung.size for rung in ladder.bids) for ladder in ladders]
    assert sizes == pytest.approx([1000, 1000, 500, 100], abs=3)
    assert quoted(readings=Readings(regime=3)) == quoted()


def test_signals_move_the_reservation_price() -> None:
    """Imbalance and flow towards the bids raise it, by their fractions of the half spread (181.093 ticks)."""
    both = changed(imbalance_shift=0.5, flow_shift=0.2)
    pushed = quoted(both, readings=Readings(imbalance=0.4, buy_intensity=3.0, sell_intensity=1.0))
    assert pushed.fair - MID == pytest.approx(181.093 * (0.5 * 0.4 + 0.2 * 0.5), abs=1e-3)
    assert quoted(both).fair == MID


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, set()),
        ({"use_regime": True}, {"regime"}),
        ({"pause_regime": True}, {"regime"}),
        ({"pause_imbalance": 0.5}, {"imbalance"}),
        ({"imbalance_shift": 0.1}, {"imbalance"}),
        ({"flow_shift": 0.1}, {"buy_intensity", "sell_intensity"}),
        ({"reference": "micro_price"}, {"micro_price"}),
    ],
)
def test_it_asks_for_the_signals_that_it_uses(fields: dict[str, object], names: set[str]) -> None:
    """`signals` names what the configuration needs, and fields of Readings only."""
    assert AvellanedaStoikov(changed(**fields), CENTS).signals == names
    assert names <= set(Readings.__struct_fields__)


def test_the_reference() -> None:
    """The ladder is centred on the mid, the weighted mid or the micro-price, and on the mid where that is missing."""
    assert quoted(changed(reference="weighted_mid"), weighted=MID + 0.5).fair == MID + 0.5
    micro = changed(reference="micro_price")
    assert quoted(micro, readings=Readings(micro_price=MID + 0.25)).fair == MID + 0.25
    assert quoted(micro).fair == MID


def test_adverse_selection_pushes_outwards() -> None:
    """With an expected loss of 2 bp at the mid, decaying over 3: no rung inside the depth that it eats up."""
    even = break_even(2.0, 3.0)
    assert 2.0 * math.exp(-even / 3.0) == pytest.approx(even, abs=1e-12)
    hurt = quoted(changed(adverse_selection_bps=2.0, adverse_decay_bps=3.0))
    assert hurt.asks[0].price - MID == math.ceil(181.093 + 100 * even)
    assert break_even(0.0, 3.0) == 0.0


def test_budgets() -> None:
    """Currency becomes lots at the price; a budget that is too small for every rung has fewer; below one, none."""
    by_worth = changed(size="", notional="100")
    # 100 / 10000 = 0.01 BTC = 10 lots.
    assert sum(rung.size for rung in quoted(by_worth).bids) in (8, 9, 10)
    few = quoted(changed(size="", notional="20", min_rung_percent=50.0))
    assert [rung.size for rung in few.bids] == [1, 1]
    none = quoted(changed(size="", notional="9"))
    assert (none.bids, none.asks, none.reason) == ((), (), "size_below_lot")


def test_no_rung_is_below_the_venues_minimum() -> None:
    """Ten dollars a rung: forty dollars make three rungs, twelve one, nine none; shrunk ones are left out."""

    def bids(notional: str, position: int = 0) -> list[int]:
        config = AvellanedaStoikovConfig(levels=5, notional=notional)
        market = view(instrument=FIVE, position=position, limit=100)
        return [rung.price * rung.size * FIVE.unit for rung in AvellanedaStoikov(config, FIVE).quote(market).bids]

    assert len(bids("500")) == 5
    assert len(bids("40")) == 3 and min(bids("40")) >= FIVE.min_notional
    assert len(bids("12")) == 1 and not bids("9")
    assert not bids("12", position=90)


def test_it_never_touches_the_other_side() -> None:
    """Far more inventory than the skew has room for: asks stand one tick above the best bid, one apart."""
    quote = quoted(position=10_000_000, spread=20)
    assert [rung.price for rung in quote.asks] == [MID - 9, MID - 8, MID - 7]


def test_bad_amounts_are_named() -> None:
    """A notional that is no number is a person's error, and says where it stands."""
    with pytest.raises(ConfigError, match=r"BTC: avellaneda_stoikov\.notional 'ten' is not a decimal number"):
        AvellanedaStoikov(AvellanedaStoikovConfig(notional="ten"), CENTS)


def test_the_registry_makes_it() -> None:
    """A config type belongs to one quoter class, and its interval is the configured one."""
    quoter = make_quoter(AvellanedaStoikovConfig(update_interval_s=0.25), CENTS)
    assert isinstance(quoter, AvellanedaStoikov)
    assert (quoter.interval, quoter.refresh, quoter.uses_mark) == (250_000_000, 0, False)
    assert quoter.tolerance.offset_fraction == 0.1


def test_a_ladder_does_not_depend_on_earlier_ones() -> None:
    """What it remembers is only what it would make again: any order of views gives the ladders of new quoters."""
    quoter = AvellanedaStoikov(EXAMPLE, CENTS)
    markets = [view(position=p, sigma=s) for p in (0, 300, -300) for s in (10.0, 200.0)]
    for market in (*markets, *reversed(markets), markets[0]):
        assert quoter.quote(market) == AvellanedaStoikov(EXAMPLE, CENTS).quote(market)


accepted = st.builds(
    AvellanedaStoikovConfig,
    levels=st.integers(1, 20),
    size=st.just("1"),
    notional=st.just(""),
    gamma_per_bp=st.floats(0.0, 10.0),
    k_per_bp=st.floats(0.001, 100.0),
    horizon_s=st.floats(0.1, 86_400.0),
    reference=st.sampled_from(["mid", "weighted_mid", "micro_price"]),
    min_volatility_bps=st.floats(0.0, 100.0),
    min_half_spread_bps=st.floats(0.0, 1000.0),
    max_half_spread_bps=st.floats(0.001, 1000.0),
    adverse_selection_bps=st.floats(0.0, 100.0),
    adverse_decay_bps=st.floats(0.01, 1000.0),
    min_rung_percent=st.floats(0.0, 100.0),
    use_regime=st.booleans(),
    pause_regime=st.booleans(),
    imbalance_shift=st.floats(0.0, 1.0),
    flow_shift=st.floats(0.0, 1.0),
)
"""Whatever the docstrings allow."""


@given(
    st.sampled_from([CENTS, FIVE]),
    accepted,
    st.integers(1, 10**8),
    st.integers(0, 1000),
    st.one_of(st.floats(0.0, 1e4), st.floats(0.0, 1e300)),
    st.integers(-(10**9), 10**9),
    st.integers(0, 10**9),
    st.builds(Readings, imbalance=st.floats(-1, 1), regime=st.integers(0, 3), buy_intensity=st.floats(0, 1e6)),
)
def test_any_accepted_setting_makes_a_valid_ladder(
    instrument: Instrument, config: AvellanedaStoikovConfig, bid: int, spread: int, sigma: float, position: int,
    limit: int, readings: Readings,
) -> None:  # fmt: skip
    """Finite values; valid prices, strictly outward, off the opposite touch; no more than the budget, no empty rung."""
    bid = instrument.round_bid(bid)
    ask = instrument.round_ask(bid + spread)
    mid = (bid + ask) / 2
    quoter = AvellanedaStoikov(config, instrument)
    quote = quoter.quote(MarketView(instrument, 1, bid, ask, mid, mid, sigma, position, limit, readings=readings))
    bids, asks = [rung.price for rung in quote.bids], [rung.price for rung in quote.asks]
    assert math.isfinite(quote.fair)
    assert all(price > 0 and price % instrument.step_at(price) == 0 for price in bids + asks)
    assert all(near > far for near, far in zip(bids, bids[1:], strict=False))
    assert all(near < far for near, far in zip(asks, asks[1:], strict=False))
    assert not bids or bids[0] < ask
    assert not asks or asks[0] > bid
    for side in (quote.bids, quote.asks):
        assert sum(rung.size for rung in side) <= instrument.lots("1")
        assert all(rung.price * rung.size * instrument.unit >= instrument.min_notional for rung in side)
        assert all(rung.size > 0 for rung in side)
