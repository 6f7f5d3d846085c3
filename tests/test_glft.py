"""GLFT: hand-computed and published values, two independent solutions, monotony, and the inventory's bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import eigh_tridiagonal, expm

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, make_instrument
from mmpi.inventory import CRITICAL
from mmpi.ports import NO_READINGS, MarketView, Quote, Readings
from mmpi.quoting import make_quoter
from mmpi.quoting.avellaneda_stoikov import intensity_term
from mmpi.quoting.glft import (
    GRID,
    TABLES,
    Glft,
    GlftConfig,
    closed_form,
    depths,
    eta,
    never_narrower,
    ratios,
    stiffness,
)

CENTS = make_instrument("BTC", "0.01", "0.001")
FIVE = make_instrument("BTC", "0.1", "0.00001", significant_figures=5, min_notional="10")
MID = 1_000_000
"""Ticks; a basis point is 100 of them."""
UNIT = 1000
EXAMPLE = GlftConfig(
    levels=3, size="1", notional="", max_inventory=5, gamma_per_bp=0.02, k_per_bp=0.5, arrivals_per_s=0.1
)
PAPER = (0.01, 0.3, 0.9, 0.3)
"""gamma, k, A, sigma of the paper's figures 1 to 3, in ticks and seconds; there Q = 30 and T = 600."""
CASES = [
    (*PAPER, 30),
    (0.01, 0.3, 0.9, 0.4, 30),  # figures 4 and 5, left
    (0.01, 0.3, 0.2, 1.0, 30),  # figures 4 and 5, right
    (0.02, 0.5, 0.1, 0.58, 10),
    (0.5, 2.0, 3.0, 1.0, 4),
    (1e-4, 1.0, 1.0, 0.1, 1),
    (0.05, 0.5, 0.1, 3.0, 50),
]


Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def matrix(gamma: float, k: float, arrivals: float, sigma: float, bound: int) -> Matrix:
    """Return the paper's M."""
    q = np.arange(-bound, bound + 1)
    beside = np.full(2 * bound, -eta(gamma, k, arrivals))
    return np.diag(0.5 * k * gamma * sigma**2 * q**2.0) + np.diag(beside, 1) + np.diag(beside, -1)


def from_values(v: Vector, gamma: float, k: float) -> list[float]:
    """Return the bid's depths for q = -Q ... Q-1 from the value function's v, by the paper's theorem 1."""
    return [math.log(v[i] / v[i + 1]) / k + intensity_term(gamma, k) for i in range(len(v) - 1)]


def view(
    *, position: int = 0, sigma: float = 58.0, band: int = 0, instrument: Instrument = CENTS,
    readings: Readings = NO_READINGS, spread: int = 2,
) -> MarketView:  # fmt: skip
    """Return a market of `spread` ticks around MID, at 0.58 basis points per sqrt(second)."""
    bid, ask = MID - spread // 2, MID + spread // 2
    return MarketView(
        instrument, 1, bid, ask, float(MID), MID + 0.5, sigma, position, 0, band, readings=readings
    )


def quoted(config: GlftConfig = EXAMPLE, **market: object) -> Quote:
    """Return the ladder of a new quoter in that market."""
    return Glft(config, CENTS).quote(view(**market))  # type: ignore[arg-type]


def changed(**fields: object) -> GlftConfig:
    """Return the example with some fields changed."""
    return GlftConfig(**({name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__} | fields))


def prices(quote: Quote) -> tuple[list[int], list[int]]:
    """Return both sides' distances from MID."""
    return [MID - rung.price for rung in quote.bids], [rung.price - MID for rung in quote.asks]


def test_hand_computed_values() -> None:
    """Q = 1: the matrix is 3 x 3, mu = (sqrt(a^2+8) - a)/2 and f0/f1 = a + mu. gamma = 0: f is a cosine."""
    for a in (0.0, 0.3, 1.0, 50.0):
        assert ratios(a, 1) == pytest.approx([(math.sqrt(a * a + 8) + a) / 2], abs=1e-12)
    for bound in (1, 2, 10, 50):
        angle = math.pi / (2 * bound + 2)
        wanted = [math.cos(angle * q) / math.cos(angle * (q + 1)) for q in range(bound)]
        assert ratios(0.0, bound) == pytest.approx(wanted, rel=1e-10)
    # A = 1, gamma = k = 0.5: eta = 2^-2; base depth = 2*ln 2; alpha = 0.125 at sigma 1.
    assert eta(0.5, 0.5, 1.0) == pytest.approx(0.25, abs=1e-15)
    assert stiffness(0.5, 0.5, 1.0, 1.0) == pytest.approx(0.5, abs=1e-15)
    bid, ask = closed_form(2.0, 0.5, 0.5, 1.0, 1.0)
    assert (bid, ask) == pytest.approx((2 * math.log(2) + 2.5 * math.sqrt(2), 2 * math.log(2) - 1.5 * math.sqrt(2)))


def test_the_published_example() -> None:
    """Figures 1 and 2 of the paper far from the end (sigma 0.3, A 0.9, k 0.3, gamma 0.01, Q 30, T 600).

    The paper shows curves, not digits; the digits are those of an independent implementation of it, quotesim
    (github.com/charlieyanhx/quotesim, tests of its GLFT quoter, read on 2026-11-21), which at T = 600 is within 1e-6.
    """
    found = depths(*PAPER, 30)
    bids = {q: found[q + 30] for q in (0, 5, 20, -5, -20)}
    asks = {q: found[30 - q] for q in (5, 20)}
    assert [bids[0], bids[5], bids[20]] == pytest.approx([3.313045, 3.653479, 4.665542], abs=2e-6)
    assert [asks[5], asks[20]] == pytest.approx([2.972522, 1.959200], abs=2e-6)


def test_the_published_approximation() -> None:
    """The closed form is "very good for small values of the inventory" on the paper's figures, and worse far out."""
    for case in CASES[:3]:
        exact = depths(*case)
        for q in range(-3, 4):
            bid, ask = closed_form(q, *case[:4])
            assert (bid, ask) == pytest.approx((exact[q + 30], exact[30 - q]), abs=0.03)
    right = CASES[2]
    assert abs(closed_form(29, *right[:4])[0] - depths(*right)[59]) > 3


@pytest.mark.parametrize("case", CASES)
def test_the_eigenvector_is_scipys(case: tuple[float, float, float, float, int]) -> None:
    """LAPACK's eigenvector of the smallest eigenvalue gives the same depths to 1e-6, wherever it still has digits."""
    gamma, k, _, _, bound = case
    m = matrix(*case)
    _, vectors = eigh_tridiagonal(np.diag(m), np.diag(m, 1), select="i", select_range=(0, 0))
    f = np.abs(vectors[:, 0])
    # An entry is exact to 1e-16 of the largest: below 1e-9 of it nothing can be compared to 1e-6.
    inside = [q for q in range(-bound, bound) if min(f[q + bound], f[q + bound + 1]) > 1e-9 * f.max()]
    assert len(inside) >= min(2 * bound, 10)
    wanted, found = from_values(f, gamma, k), depths(*case)
    for q in inside:
        assert found[q + bound] == pytest.approx(wanted[q + bound], abs=1e-6)


@pytest.mark.parametrize("case", [*CASES[:2], *CASES[3:6]])
def test_the_differential_equation_leads_to_it(case: tuple[float, float, float, float, int]) -> None:
    """v' = M v, v(T) = 1, solved by the matrix exponential until nothing moves, gives the depths to 1e-6."""
    gamma, k, _, _, bound = case
    m = matrix(*case)
    # The common growth says nothing about ratios; without it the exponential cannot overflow.
    gaps = np.linalg.eigvalsh(m)
    horizon = 40.0 / (gaps[1] - gaps[0])
    v = expm(-(m - gaps[0] * np.eye(2 * bound + 1)) * horizon) @ np.ones(2 * bound + 1)
    assert depths(*case) == pytest.approx(from_values(v, gamma, k), abs=1e-6)


def test_the_hamilton_jacobi_bellman_equation_leads_to_it() -> None:
    """The equation itself, nonlinear, with the best depth searched for at every inventory, ends at the same depths.

    With theta = ln(v)/k, the equation in time to go is d theta/dt = -gamma*sigma^2*q^2/2 + H(theta of q+1 less theta)
    + H(theta of q-1 less theta), H(p) = max over depth of A*exp(-k*depth)*(1 - exp(-gamma*(depth + p)))/gamma.
    """
    gamma, k, arrivals, sigma, bound = 0.2, 1.0, 1.0, 1.0, 3
    q = np.arange(-bound, bound + 1)
    grid = np.linspace(-6.0, 12.0, 901)

    def hamiltonian(p: Vector) -> object:
        """Return H by search: the best point of a grid, improved by a parabola through it and its neighbours."""
        value = arrivals * np.exp(-k * grid) * (1 - np.exp(-gamma * (grid + p[:, None]))) / gamma
        at = value.argmax(axis=1)
        rows = np.arange(len(p))
        left, top, right = value[rows, at - 1], value[rows, at], value[rows, at + 1]
        return top + (left - right) ** 2 / (8 * (2 * top - left - right))

    def slope(_: float, theta: Vector) -> object:
        change = -0.5 * gamma * sigma**2 * q**2.0
        change[:-1] += hamiltonian(theta[1:] - theta[:-1])
        change[1:] += hamiltonian(theta[:-1] - theta[1:])
        return change

    theta = solve_ivp(slope, (0.0, 60.0), np.zeros(2 * bound + 1), rtol=1e-9, atol=1e-10).y[:, -1]
    wanted = theta[:-1] - theta[1:] + intensity_term(gamma, k)
    assert depths(gamma, k, arrivals, sigma, bound) == pytest.approx(list(wanted), abs=1e-6)


settings_of_a_market = (st.floats(1e-6, 10.0), st.floats(0.001, 100.0), st.floats(1e-6, 1e4), st.floats(1e-3, 1e4))


@given(*settings_of_a_market, st.integers(1, 50))
def test_more_inventory_is_always_farther(gamma: float, k: float, arrivals: float, sigma: float, bound: int) -> None:
    """For every accepted setting: finite depths that grow with q, so bids move out and asks in."""
    found = depths(gamma, k, arrivals, sigma, bound)
    assert len(found) == 2 * bound and all(math.isfinite(depth) for depth in found)
    slack = 1e-9 * max(map(abs, found))
    assert all(near <= far + slack for near, far in zip(found, found[1:], strict=False))


@given(*settings_of_a_market, st.integers(1, 50), st.floats(1.0001, 100.0))
def test_more_volatility_is_farther_when_flat(
    gamma: float, k: float, arrivals: float, sigma: float, bound: int, factor: float
) -> None:
    """Flat, both depths grow with volatility: f falls faster from its top."""
    calm, wild = depths(gamma, k, arrivals, sigma, bound), depths(gamma, k, arrivals, sigma * factor, bound)
    assert wild[bound] >= calm[bound] - 1e-9 * abs(calm[bound])


def spreads(table: list[float], bound: int) -> list[float]:
    """Return bid depth plus ask depth for q = 0 ... Q-1."""
    return [table[bound + q] + table[bound - q] for q in range(bound)]


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 7, 10, 30, 50])
def test_a_higher_volatility_never_narrows_the_spread(bound: int) -> None:
    """The exact spread does not narrow within 3/5 of Q; nearer to the bound it does, by less than 0.25/k, and there
    the quoter's depths keep the bid where the spread stays; what they change is only that."""
    gamma, k = 0.02, 0.5
    calm = depths(gamma, k, 0.1, 0.0, bound)
    widest = exact_widest = spreads(calm, bound)
    for sigma in np.geomspace(1e-4, 1e3, 200):
        exact = depths(gamma, k, 0.1, float(sigma), bound)
        table = never_narrower(exact, calm)
        now, exact_now = spreads(table, bound), spreads(exact, bound)
        assert all(new >= old - 1e-9 for new, old in zip(now, widest, strict=True))
        exact_widest = [max(pair) for pair in zip(exact_widest, exact_now, strict=True)]
        for q in range(bound):
            assert exact_now[q] >= exact_widest[q] - (1e-9 if q <= 0.6 * bound else 0.25 / k)
        inner = bound + int(0.6 * bound) + 1
        assert table[:inner] == pytest.approx(exact[:inner], abs=1e-9)
        assert table[: bound + 1] == exact[: bound + 1]
        assert all(near <= far + 1e-9 for near, far in zip(table, table[1:], strict=False))
        widest = now


def test_the_ladder() -> None:
    """Rungs stand at the exact depths of q, q+1, q+2 for bids and of -q, 1-q, 2-q for asks, in basis points."""
    table = depths(0.02, 0.5, 0.1, 0.58, 10)
    for q in (0, 2, -1):
        bids, asks = prices(quoted(changed(max_inventory=10), position=q * UNIT))
        wanted = [[100 * table[10 + s * q + level] for level in range(3)] for s in (1, -1)]
        assert bids == pytest.approx(wanted[0], abs=1.001)
        assert asks == pytest.approx(wanted[1], abs=1.001)
        assert all(at >= exact - 0.01 for at, exact in zip(bids + asks, wanted[0] + wanted[1], strict=True))
    assert {rung.size for rung in quoted().bids} == {UNIT}


def test_interpolation_is_exact_enough() -> None:
    """Between the points of the volatility grid the depth is off by less than GRID^2/(4k) basis points."""
    fine = changed(levels=1)
    instrument = make_instrument("BTC", "0.0001", "0.001")
    for step in range(40):
        sigma = 0.3 * 1.03**step
        market = MarketView(instrument, 1, 10**8 - 1, 10**8 + 1, 1e8, 1e8, sigma * 1e4, 0)
        depth = (1e8 - Glft(fine, instrument).quote(market).bids[0].price) / 1e4
        assert depth == pytest.approx(depths(0.02, 0.5, 0.1, sigma, 5)[5], abs=GRID**2 / (4 * 0.5) + 1e-4)


def test_between_whole_inventories() -> None:
    """Half way between two inventories a rung is half way between their depths."""
    low, middle, high = (prices(quoted(position=q))[0] for q in (1000, 1500, 2000))
    assert middle == pytest.approx([(a + b) / 2 for a, b in zip(low, high, strict=True)], abs=1.001)


def test_the_bounds_of_the_inventory() -> None:
    """At Q there is no bid and at -Q no ask; within the last unit the order is cut to what is left."""
    assert [len(side) for side in prices(quoted(position=5000))] == [0, 3]
    assert [len(side) for side in prices(quoted(position=-5000))] == [3, 0]
    assert [rung.size for rung in quoted(position=3400).bids] == [1000, 600]
    assert [rung.size for rung in quoted(position=4400).bids] == [600]
    near, far = quoted(position=4000), quoted(position=4400)
    assert far.asks[0].price - far.bids[0].price == pytest.approx(near.asks[0].price - near.bids[0].price, abs=2)
    assert far.bids[0].price < near.bids[0].price
    assert [len(side) for side in prices(quoted(position=7300))] == [0, 3]
    assert prices(quoted(position=7300))[1][0] == prices(quoted(position=5000))[1][0]


def test_bands() -> None:
    """From CRITICAL on nothing adds to the position, and what reduces it stays."""
    long, short = quoted(position=100, band=CRITICAL), quoted(position=-100, band=CRITICAL)
    assert long.bids == () and long.asks == quoted(position=100).asks
    assert short.asks == () and short.bids == quoted(position=-100).bids


def test_the_closed_form_is_an_option() -> None:
    """`approximate` quotes the paper's closed form, rung i as if i more units were held."""
    bids, asks = prices(quoted(changed(approximate=True), position=1300))
    wanted = [
        [100 * closed_form(1.3 + s * i, 0.02, 0.5, 0.1, 0.58)[side] for i in range(3)]
        for side, s in ((0, 1), (1, -1))
    ]
    assert bids == pytest.approx(wanted[0], abs=1.001)
    assert asks == pytest.approx(wanted[1], abs=1.001)


def test_depths_are_bounded() -> None:
    """A jump of volatility moves no order farther than max_depth_bps; a floor holds where none was measured."""
    for config in (changed(max_depth_bps=30.0), changed(max_depth_bps=30.0, approximate=True)):
        bids, _ = prices(quoted(config, sigma=1e300))
        assert bids[-1] <= 3000 + 3
    assert quoted(sigma=0.0) == quoted(sigma=10.0)


def test_the_reference() -> None:
    """The ladder is centred on the mid, the weighted mid or the micro-price, and on the mid where that is missing."""
    assert quoted(changed(reference="weighted_mid")).fair == MID + 0.5
    micro = changed(reference="micro_price")
    assert quoted(micro, readings=Readings(micro_price=MID + 0.25)).fair == MID + 0.25
    assert quoted(micro).fair == MID
    assert Glft(micro, CENTS).signals == {"micro_price"} and Glft(EXAMPLE, CENTS).signals == set()


def test_it_never_touches_the_other_side() -> None:
    """Asks that the inventory pushes through the market stand one tick above the best bid, one apart."""
    quote = quoted(changed(gamma_per_bp=2.0), position=4000, spread=20)
    assert [rung.price for rung in quote.asks][0] == MID - 9


def test_amounts() -> None:
    """Currency becomes lots at the price; below a lot, or the venue's minimum, nothing is quoted; bad text is named."""
    assert quoted(changed(size="", notional="100")).bids[0].size == 10
    assert quoted(changed(size="", notional="9")).reason == "size_below_lot"
    assert Glft(GlftConfig(notional="9"), FIVE).quote(view(instrument=FIVE)).reason == "size_below_lot"
    with pytest.raises(ConfigError, match=r"instrument BTC: glft\.notional 'ten' is not a decimal number"):
        Glft(GlftConfig(notional="ten"), CENTS)


def test_the_registry_makes_it() -> None:
    """A config type belongs to one quoter class, and its interval is the configured one."""
    quoter = make_quoter(GlftConfig(update_interval_s=0.25), CENTS)
    assert isinstance(quoter, Glft)
    assert (quoter.interval, quoter.refresh, quoter.uses_mark) == (250_000_000, 0, False)


def test_a_ladder_does_not_depend_on_earlier_ones() -> None:
    """Whatever volatilities were seen before, more than are remembered included: the ladder of a new quoter."""
    quoter = Glft(EXAMPLE, CENTS)
    for step in range(TABLES + 50):
        quoter.quote(view(sigma=20.0 * math.exp(GRID * step)))
    for sigma in (20.0, 58.0, 500.0):
        assert quoter.quote(view(sigma=sigma, position=700)) == quoted(sigma=sigma, position=700)


accepted = st.builds(
    GlftConfig,
    levels=st.integers(1, 20),
    size=st.just("1"),
    notional=st.just(""),
    max_inventory=st.integers(1, 50),
    gamma_per_bp=st.floats(0.0, 10.0),
    k_per_bp=st.floats(0.001, 100.0),
    arrivals_per_s=st.floats(1e-6, 1e4),
    approximate=st.booleans(),
    reference=st.sampled_from(["mid", "weighted_mid", "micro_price"]),
    min_volatility_bps=st.floats(0.001, 100.0),
    max_depth_bps=st.floats(0.001, 1000.0),
)
"""Whatever the docstrings allow."""


@given(
    st.sampled_from([CENTS, FIVE]),
    accepted,
    st.integers(1, 10**8),
    st.integers(0, 1000),
    st.one_of(st.floats(0.0, 1e4), st.floats(0.0, 1e300)),
    st.one_of(st.integers(-60_000, 60_000), st.integers(-(10**9), 10**9)),
)
def test_any_accepted_setting_makes_a_valid_ladder(
    instrument: Instrument, config: GlftConfig, bid: int, spread: int, sigma: float, position: int
) -> None:
    """Finite values; valid prices, strictly outward, off the opposite touch; filled whole, a side stays in bounds."""
    bid = instrument.round_bid(bid)
    ask = instrument.round_ask(bid + spread)
    mid = (bid + ask) / 2
    quote = Glft(config, instrument).quote(MarketView(instrument, 1, bid, ask, mid, mid, sigma, position))
    bids, asks = [rung.price for rung in quote.bids], [rung.price for rung in quote.asks]
    assert all(price > 0 and price % instrument.step_at(price) == 0 for price in bids + asks)
    assert all(near > far for near, far in zip(bids, bids[1:], strict=False))
    assert all(near < far for near, far in zip(asks, asks[1:], strict=False))
    assert not bids or bids[0] < ask
    assert not asks or asks[0] > bid
    bound = config.max_inventory * instrument.lots("1")
    assert not bids or position + sum(rung.size for rung in quote.bids) <= bound
    assert not asks or position - sum(rung.size for rung in quote.asks) >= -bound
    assert all(rung.size > 0 for rung in (*quote.bids, *quote.asks))
