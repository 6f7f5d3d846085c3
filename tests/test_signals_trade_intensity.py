"""Trade intensities: the O(1) step against direct sums over all trades."""

import math
import random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError
from mmpi.instrument import BUY, SECOND, SELL, Side
from mmpi.signals.trade_intensity import HawkesIntensity, HawkesParameters, TradeIntensity

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

Trades = list[tuple[int, Side]]
START = 1_700_000_000 * SECOND
PARAMETERS = HawkesParameters(mu=0.2, alpha=0.5, cross=0.3, beta=1.25)
MANY = 100_000

trades = st.lists(
    st.tuples(st.one_of(st.just(0), st.integers(1, 10**6), st.integers(10**6, 100 * SECOND)), st.sampled_from([1, -1])),
    max_size=60,
).map(lambda steps: timed(cast("Trades", steps)))


def timed(steps: Trades, start: int = START) -> Trades:
    """Return (ts, side) from (nanoseconds since the one before, side)."""
    found, ts = [], start
    for gap, side in steps:
        ts += gap
        found.append((ts, side))
    return found


def irregular(count: int) -> Trades:
    """Return bursts and silences: gaps from nanoseconds to minutes."""
    chance = random.Random(11)
    paces = (1e-6, 1e-3, 0.05, 0.5, 20.0)
    steps = [(int(chance.expovariate(1 / chance.choice(paces)) * SECOND), chance.choice((BUY, SELL)))
             for _ in range(count)]  # fmt: skip
    return timed(steps)


def direct(seen: Trades, ts: int, tau_s: float) -> tuple[float, float]:
    """Return the sums of exp(-age / tau) over all buys and over all sells."""
    times = np.array([when for when, _ in seen], dtype=np.int64)
    sides = np.array([side for _, side in seen], dtype=np.int64)
    weights = np.exp(-(ts - times) / SECOND / tau_s)
    return float(weights[sides > 0].sum()), float(weights[sides < 0].sum())


@pytest.mark.slow
def test_equals_the_direct_sums_over_many_events() -> None:
    """At random moments among 10^5 irregular trades both intensities, and Hawkes's, equal the sums to 1e-9."""
    events = irregular(MANY)
    checked = set(random.Random(2).sample(range(MANY), 60)) | {0, MANY - 1}
    plain, hawkes = TradeIntensity(30.0), HawkesIntensity(PARAMETERS)
    p = PARAMETERS
    for number, (ts, side) in enumerate(events):
        plain.update(ts, side)
        hawkes.excite(side, ts)
        if number in checked:
            later = ts + number % 7 * 300_000_000
            buys, sells = direct(events[: number + 1], later, 30.0)
            assert plain.at(later) == pytest.approx((buys / 30.0, sells / 30.0), rel=1e-9)
            buys, sells = direct(events[: number + 1], later, 1 / p.beta)
            expected = (p.mu + p.alpha * buys + p.cross * sells, p.mu + p.alpha * sells + p.cross * buys)
            assert hawkes.at(later) == pytest.approx(expected, rel=1e-9)


@given(trades, st.sampled_from([0.5, 60.0, 3600.0]), st.integers(0, 300 * SECOND))
def test_equals_the_direct_sum_at_any_rhythm(events: Trades, tau_s: float, later: int) -> None:
    """Trades of one nanosecond, bursts and silences: the intensity is the sum, decayed to when it is asked for."""
    signal = TradeIntensity(tau_s)
    for ts, side in events:
        signal.update(ts, side)
    now = (events[-1][0] if events else START) + later
    buys, sells = direct(events, now, tau_s)
    assert signal.at(now) == pytest.approx((buys / tau_s, sells / tau_s), rel=1e-9, abs=1e-300)


def test_a_steady_rate_is_measured() -> None:
    """Two buys a second and one sell every two read 2.0 and 0.5, to the ripple of one trade."""
    signal = TradeIntensity(60.0)
    for half_second in range(1800):
        ts = START + half_second * SECOND // 2
        signal.update(ts, BUY)
        if half_second % 4 == 0:
            signal.update(ts, SELL)
    assert signal.at(START + 900 * SECOND) == pytest.approx((2.0, 0.5), rel=0.02)
    assert signal.value == pytest.approx(2.5, rel=0.02)


def test_hawkes_by_hand() -> None:
    """One buy lifts buys by alpha and sells by cross; ln 2 / beta later half of that is left."""
    signal = HawkesIntensity(PARAMETERS)
    assert signal.at(START) == (0.2, 0.2)
    signal.excite(BUY, START)
    assert signal.at(START) == pytest.approx((0.7, 0.5))
    assert signal.value == pytest.approx(1.2)
    assert signal.at(START + round(math.log(2) / 1.25 * SECOND)) == pytest.approx((0.45, 0.35), rel=1e-8)


@given(trades, st.integers(0, 10**18))
def test_mirrors_and_shifts(events: Trades, later: int) -> None:
    """Sides exchanged exchange the intensities; moved in time they are the same."""
    plain, mirrored, moved = (HawkesIntensity(PARAMETERS) for _ in range(3))
    rate, rate_mirrored, rate_moved = (TradeIntensity(60.0) for _ in range(3))
    for ts, side in events:
        other = SELL if side == BUY else BUY
        for signal, taker, when in ((plain, side, ts), (mirrored, other, ts), (moved, side, ts + later)):
            signal.excite(taker, when)
        for intensity, taker, when in ((rate, side, ts), (rate_mirrored, other, ts), (rate_moved, side, ts + later)):
            intensity.update(when, taker)
    now = (events[-1][0] if events else START) + SECOND
    assert mirrored.at(now) == plain.at(now)[::-1]
    assert moved.at(now + later) == plain.at(now)
    assert rate_mirrored.at(now) == rate.at(now)[::-1]
    assert rate_moved.at(now + later) == rate.at(now)


def test_time_that_runs_back_counts_as_now() -> None:
    """A trade stamped before the last one neither revives nor decays what is there."""
    signal, hawkes = TradeIntensity(10.0), HawkesIntensity(PARAMETERS)
    for ts in (START, START - 5 * SECOND):
        signal.update(ts, BUY)
        hawkes.excite(BUY, ts)
    assert signal.at(START) == signal.at(START - SECOND) == pytest.approx((0.2, 0.0))
    assert hawkes.at(START) == pytest.approx((1.2, 0.8))


@given(trades, trades)
def test_restored_goes_on_exactly(before: Trades, after: Trades) -> None:
    """A checkpoint is the whole state, to the last bit."""
    for make in (TradeIntensity, lambda _: HawkesIntensity(PARAMETERS)):
        first, second = make(60.0), make(60.0)
        for restored in (False, True):
            if restored:
                second.restore(list(first.checkpoint()))
            for ts, side in after if restored else before:
                for signal in (first, second) if restored else (first,):
                    if isinstance(signal, TradeIntensity):
                        signal.update(ts, side)
                    else:
                        signal.excite(side, ts)
        assert second.checkpoint() == first.checkpoint()


@pytest.mark.parametrize(
    ("mu", "alpha", "cross", "beta"),
    [(-0.1, 0.1, 0.1, 1.0), (0.1, 0.6, 0.4, 1.0), (0.1, -0.1, 0.1, 1.0), (0.1, 0.0, 0.0, 0.0),
     (float("nan"), 0.1, 0.1, 1.0)],
)  # fmt: skip
def test_parameters_that_explode_are_refused(mu: float, alpha: float, cross: float, beta: float) -> None:
    """The branching ratio is below one, and nothing is negative or not a number."""
    with pytest.raises(ConfigError, match="alpha \\+ cross less than beta"):
        HawkesIntensity(HawkesParameters(mu, alpha, cross, beta))
