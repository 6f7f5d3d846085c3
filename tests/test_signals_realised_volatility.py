"""Realised volatility: the O(1) step against direct sums, units, bounds and checkpoints."""

import math
import random
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.instrument import SECOND
from mmpi.signals.realised_volatility import BUCKETS, WINDOWS_S, RealisedVolatility

Observation = tuple[int, int]
START = 1_700_000_000 * SECOND + 123_456_789

gaps = st.one_of(st.just(0), st.integers(1, 1000), st.integers(10**6, 30 * SECOND), st.just(4000 * SECOND))
walks = st.lists(st.tuples(gaps, st.integers(-50, 50)), max_size=60)


def observed(walk: list[tuple[int, int]], start: int = START) -> list[Observation]:
    """Return (ts, mid2) from (nanoseconds since the one before, mid2 less 200000)."""
    return [(ts, 200_000 + step) for ts, (_, step) in zip(accumulate((gap for gap, _ in walk), initial=start),
                                                          [(0, 0), *walk], strict=True)][1:]  # fmt: skip


def measured(observations: list[Observation]) -> RealisedVolatility:
    signal = RealisedVolatility()
    for ts, mid2 in observations:
        signal.update(ts, mid2)
    return signal


def values(signal: RealisedVolatility) -> list[float]:
    return [signal.over(index) for index in range(len(WINDOWS_S))]


def direct(points: list[Observation], window_s: int, last: int) -> float:
    """Return the definition written out for the observations up to `last`, whose times are distinct and rise."""
    width = window_s * SECOND // BUCKETS
    origin, now = points[0][0], points[last][0]
    edge = origin + ((now - origin) // width - BUCKETS + 1) * width
    first = max(bisect_left(points, (edge, -1)), 1)
    elapsed = now - points[first - 1][0]
    if last == 0 or elapsed < width:
        return 0.0
    total = sum((points[i][1] - points[i - 1][1]) ** 2 for i in range(first, last + 1))
    return math.sqrt(total / 4 / (elapsed / SECOND))


def irregular(count: int, chance: random.Random) -> list[Observation]:
    """Return a walk whose gaps run from nanoseconds to minutes, in bursts and silences."""
    ts, mid2, points = START, 200_000, []
    for _ in range(count):
        pace = chance.choice((1e-7, 1e-3, 0.05, 0.3, 2.0)) if chance.random() < 0.9995 else 500.0
        ts += 1 + int(chance.expovariate(1 / pace) * SECOND)
        mid2 += int(chance.gauss(0.0, 3.0))
        points.append((ts, mid2))
    return points


@pytest.mark.slow
def test_equals_the_direct_sums_over_many_events() -> None:
    """After each of 10^5 irregular events (checked at random ones) each window equals its direct sum to 1e-9."""
    chance = random.Random(5)
    points = irregular(100_000, chance)
    checked = set(chance.sample(range(100_000), 120)) | {0, 1, 99_999}
    signal = RealisedVolatility()
    for last, (ts, mid2) in enumerate(points):
        signal.update(ts, mid2)
        if last in checked:
            expected = [direct(points, window, last) for window in WINDOWS_S]
            assert values(signal) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert max(values(signal)) > 0.0


@given(walks)
def test_equals_the_direct_sum_whatever_the_rhythm(walk: list[tuple[int, int]]) -> None:
    """Silences longer than a window and several updates of one nanosecond (the last counts) included."""
    observations = observed(walk)
    points = sorted(dict(observations).items())
    expected = [direct(points, window, len(points) - 1) for window in WINDOWS_S] if points else [0.0] * 3
    assert values(measured(observations)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_by_hand() -> None:
    """Six ticks up and two down in four seconds: sqrt(40 / 4) ticks per sqrt(second), in every window."""
    points = [(0, 200), (SECOND, 212), (4 * SECOND, 208)]
    assert values(measured(points))[:2] == pytest.approx([math.sqrt(10.0)] * 2)
    assert measured(points).value == measured(points).over(0)


def test_the_last_of_one_nanosecond_counts() -> None:
    """Of several updates at one instant, the first instant included, or with time running back, only the last does."""
    clean = [(0, 200), (SECOND, 206), (3 * SECOND, 208)]
    bursts = [(0, 190), (0, 230), (0, 200), (SECOND, 300), (SECOND, 100), (SECOND - 5, 206), (3 * SECOND, 208)]
    assert values(measured(bursts)) == values(measured(clean))
    assert measured(clean).value > 0.0


def test_silence_is_time() -> None:
    """A jump after a silence longer than the window is spread over the silence."""
    assert measured([(0, 200), (400 * SECOND, 220)]).over(0) == pytest.approx(10 / math.sqrt(400.0))


def test_the_window_forgets() -> None:
    """A jump counts until its window has passed, to one bucket, and then not at all."""
    jump = [(0, 200), (SECOND, 300)]
    quiet = [(n * SECOND, 300) for n in range(2, 400)]
    assert measured(jump + quiet[:57]).over(0) > 0.0
    assert measured(jump + quiet[:60]).over(0) == 0.0
    assert measured(jump + quiet[:297]).over(1) > 0.0
    assert measured(jump + quiet[:300]).over(1) == 0.0
    assert measured(jump + quiet).over(2) > 0.0


def test_too_little_time_is_no_value() -> None:
    """Before the updates have spanned a bucket, 0.0: a jump within a millisecond says nothing of a minute."""
    assert values(RealisedVolatility()) == [0.0] * 3
    assert values(measured([(0, 200), (10**6, 260)])) == [0.0] * 3


def test_a_random_walk_measures_its_own() -> None:
    """A walk of 20 ticks per sqrt(second), seen irregularly, measures 20 within 5% over an hour (n = 7200: 0.8%)."""
    chance = random.Random(3)
    signal, ts, x = RealisedVolatility(), 0, 100_000.0
    for _ in range(7_300):
        dt = chance.expovariate(2.0)
        ts += int(dt * SECOND) + 1
        x += chance.gauss(0.0, 20.0 * math.sqrt(dt))
        signal.update(ts, round(2 * x))
    assert signal.over(2) == pytest.approx(20.0, rel=0.05)


@given(walks, st.integers(0, 10**18), st.integers(-100_000, 100_000), st.integers(2, 9))
def test_shifts_and_units(walk: list[tuple[int, int]], later: int, shift: int, k: int) -> None:
    """Moved in time or price it is the same, mirrored too; prices times k give k times the value."""
    base = observed(walk)
    value = values(measured(base))
    assert values(measured([(ts - START + later, mid2 + shift) for ts, mid2 in base])) == value
    assert values(measured([(ts, -mid2) for ts, mid2 in base])) == value
    assert values(measured([(ts, mid2 * k) for ts, mid2 in base])) == pytest.approx([k * v for v in value], rel=1e-12)


def test_memory_is_bounded() -> None:
    """I12: however many updates, a window keeps BUCKETS marks of three numbers."""
    signal = RealisedVolatility()
    for n in range(50_000):
        signal.update(START + n * 240_000_000, 200_000 + n % 3)
    assert len(signal.checkpoint()) == 6 + len(WINDOWS_S) * (1 + 3 * BUCKETS) - 3 * 50  # 0.24 s skips 1 in 6 of 0.2 s
    assert signal.over(2) > 0.0


@given(walks, walks)
def test_restored_goes_on_exactly(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    """A checkpoint is the whole state."""
    events = observed(before + after)
    first, second = RealisedVolatility(), RealisedVolatility()
    for ts, mid2 in events[: len(before)]:
        first.update(ts, mid2)
    second.restore(list(first.checkpoint()))
    for ts, mid2 in events[len(before) :]:
        first.update(ts, mid2)
        second.update(ts, mid2)
    assert (values(second), second.checkpoint()) == (values(first), first.checkpoint())
