"""Signals: O(1) steps against direct sums, units, and the plug they fit."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.instrument import SECOND
from mmpi.ports import Signal
from mmpi.signals.volatility import EwmaVolatility
from mmpi.signals.weighted_mid import weighted_mid

Observation = tuple[int, float]

gaps = st.one_of(st.just(0), st.integers(1, 1000), st.integers(10**6, 300 * SECOND))
steps = st.integers(-2000, 2000).map(lambda half_ticks: half_ticks / 2)
walks = st.lists(st.tuples(gaps, steps), max_size=40)


def observed(walk: list[tuple[int, float]], start: int = 1_700_000_000 * SECOND) -> list[Observation]:
    """Return (ts, price) from (nanoseconds since the one before, price less 100000)."""
    seen, ts = [], start
    for gap, step in walk:
        ts += gap
        seen.append((ts, 100_000.0 + step))
    return seen


def volatility(observations: list[Observation], tau_s: float = 60.0) -> float:
    signal = EwmaVolatility(tau_s)
    for ts, x in observations:
        signal.update(ts, x)
    return signal.value


def direct(observations: list[Observation], tau_s: float) -> float:
    """Return the estimator written out: sums over all intervals, weighted by the decay to the last observation."""
    points = sorted(dict(observations).items())
    if len(points) < 2:
        return 0.0
    now = points[-1][0]
    weighted = weights = 0.0
    for (start, before), (end, after) in zip(points, points[1:], strict=False):
        dt = (end - start) / SECOND
        weight = math.exp(-(now - end) / SECOND / tau_s) * tau_s * -math.expm1(-dt / tau_s)
        weighted += weight * (after - before) ** 2 / dt
        weights += weight
    return math.sqrt(weighted / weights)


@settings(max_examples=300, deadline=None)
@given(walks, st.sampled_from([0.5, 60.0, 3600.0]))
def test_volatility_equals_the_direct_sum(walk: list[tuple[int, float]], tau_s: float) -> None:
    """The O(1) step gives the sum over all intervals to 1e-9, under irregular times and several updates at once."""
    observations = observed(walk)
    signal = EwmaVolatility(tau_s)
    for count, (ts, x) in enumerate(observations, start=1):
        signal.update(ts, x)
        assert signal.value == pytest.approx(direct(observations[:count], tau_s), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tau_s", [1.0, 60.0])
def test_volatility_equals_the_direct_sums_over_many_events(tau_s: float) -> None:
    """After each of a hundred of 10^5 irregular random events, the O(1) steps have come to the direct sum to 1e-9."""
    np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")
    chance = random.Random(11)
    pauses = [chance.choice((1_000, 10**6, 10**8, 5 * 10**9)) * chance.random() + 1 for _ in range(100_000)]
    ts = np.cumsum(np.array([int(pause) for pause in pauses], dtype=np.int64)) + 1_700_000_000 * SECOND
    x = 100_000.0 + np.cumsum([chance.choice((-3.5, -0.5, 0.0, 0.0, 0.5, 4.0)) for _ in pauses])
    dt = np.diff(ts) / SECOND
    rates, weights = np.diff(x) ** 2 / dt, -tau_s * np.expm1(-dt / tau_s)
    signal, looked = EwmaVolatility(tau_s), set(chance.sample(range(1, 100_000), 99)) | {99_999}
    for i, (at, price) in enumerate(zip(ts.tolist(), x.tolist(), strict=True)):
        signal.update(at, price)
        if i in looked:
            decayed = weights[:i] * np.exp((ts[1 : i + 1] - at) / SECOND / tau_s)
            assert signal.value == pytest.approx(math.sqrt((decayed * rates[:i]).sum() / decayed.sum()), rel=1e-9)


def test_volatility_is_unbiased_from_the_first_interval() -> None:
    """One move of 6 ticks in 4 seconds is 3 ticks per sqrt(second), whatever tau is."""
    assert volatility([(0, 10.0), (4 * SECOND, 16.0)], tau_s=0.1) == pytest.approx(3.0)
    assert volatility([(0, 10.0), (4 * SECOND, 16.0)], tau_s=1e6) == pytest.approx(3.0)


def test_volatility_of_a_random_walk_is_its_own() -> None:
    """A walk of 2 ticks per sqrt(second), seen at irregular times, measures 2 within 3% (20000 steps: 0.5%)."""
    chance = random.Random(7)
    ts, x = 0, 1000.0
    observations = [(ts, x)]
    for _ in range(20_000):
        dt = chance.expovariate(2.0)
        ts += int(dt * SECOND) + 1
        x += chance.gauss(0.0, 2.0 * math.sqrt(dt))
        observations.append((ts, x))
    assert volatility(observations, tau_s=1e6) == pytest.approx(2.0, rel=0.03)


@given(walks.filter(lambda walk: len(walk) > 1), st.integers(2, 9))
def test_volatility_has_its_units(walk: list[tuple[int, float]], k: int) -> None:
    """Prices times k give k times the value; all times (tau too) times k give it divided by sqrt(k)."""
    value = volatility(observed(walk, start=0))
    assert volatility([(ts, x * k) for ts, x in observed(walk, start=0)]) == pytest.approx(k * value, rel=1e-9)
    slow = volatility([(ts * k, x) for ts, x in observed(walk, start=0)], tau_s=60.0 * k)
    assert slow == pytest.approx(value / math.sqrt(k), rel=1e-9)


@given(st.lists(gaps, max_size=20))
def test_volatility_of_a_constant_price_is_zero(times: list[int]) -> None:
    """A price that does not move has none, at any rhythm."""
    assert volatility(observed([(gap, 5.0) for gap in times])) == 0.0


def test_volatility_forgets_by_time() -> None:
    """A jump counts e times less in the variance, tau later, with quiet updates however many in between."""
    jump = [(0, 0.0), (100 * SECOND, 0.0), (101 * SECOND, 10.0)]
    few = [*jump, (111 * SECOND, 10.0)]
    many = [*jump, *((101 * SECOND + n * SECOND // 10, 10.0) for n in range(1, 101))]
    assert volatility(few, tau_s=10.0) == pytest.approx(volatility(many, tau_s=10.0), rel=1e-9)
    fading = volatility(few, tau_s=10.0) ** 2 / volatility(jump, tau_s=10.0) ** 2
    assert fading == pytest.approx(math.exp(-1), rel=1e-4)


def test_volatility_takes_the_last_of_one_nanosecond() -> None:
    """Updates of one instant, and one whose time runs back, are one observation: the last."""
    clean = volatility([(0, 100.0), (SECOND, 103.0), (2 * SECOND, 104.0)])
    bursts = [(0, 99.0), (0, 100.0), (SECOND, 150.0), (SECOND, 90.0), (SECOND - 5, 103.0), (2 * SECOND, 104.0)]
    assert volatility(bursts) == pytest.approx(clean, rel=1e-12)


@given(walks, walks)
def test_volatility_restored_goes_on_exactly(before: list[tuple[int, float]], after: list[tuple[int, float]]) -> None:
    """A checkpoint is the whole state, to the last bit."""
    first: Signal = EwmaVolatility(60.0)
    second: Signal = EwmaVolatility(60.0)
    events = observed(before + after)
    for ts, x in events[: len(before)]:
        first.update(ts, x)
    second.restore(list(first.checkpoint()))
    for ts, x in events[len(before) :]:
        first.update(ts, x)
        second.update(ts, x)
    assert (second.value, second.checkpoint()) == (first.value, first.checkpoint())


sizes = st.integers(1, 10**9)


@given(st.integers(1, 10**7), st.integers(0, 1000), sizes, sizes)
def test_weighted_mid_lies_inside_and_leans_to_the_thin_side(bid: int, spread: int, buy: int, sell: int) -> None:
    """It is within the touch, the plain mid for equal sizes, and above it exactly when the bid is the larger."""
    ask = bid + spread
    mid = (bid + ask) / 2
    value = weighted_mid(bid, buy, ask, sell)
    assert bid <= value <= ask
    assert weighted_mid(bid, buy, ask, buy) == pytest.approx(mid, rel=1e-12)
    assert (value - mid) * (buy - sell) >= 0


def test_weighted_mid_by_hand() -> None:
    """Three on the bid against one on the offer: three quarters of the way up."""
    assert weighted_mid(100, 3, 104, 1) == 103.0
