"""Volatility regime: the bands of the source text, hysteresis, dwell, and nothing without history."""

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError
from mmpi.instrument import SECOND
from mmpi.signals.regime import EXTREME, HIGH, LOW, NORMAL, Regime, RegimeConfig, next_regime

CONFIG = RegimeConfig()
STEADY = RegimeConfig(baseline_tau_s=1e9, min_history_s=1800.0)
"""A baseline that does not follow, so that a ratio is what the test says."""


def seasoned(config: RegimeConfig = STEADY, seconds: int = 7200, volatility: float = 2.0) -> tuple[Regime, int]:
    """Return a regime that has seen a steady market for some time, and the time."""
    regime = Regime(config)
    for second in range(seconds + 1):
        regime.update(second * SECOND, volatility)
    return regime, seconds * SECOND


def after(regime: Regime, now: int, ratio: float, seconds: int) -> tuple[int, int]:
    """Return the regime and the time after some seconds at `ratio` to the volatility of `seasoned`."""
    for _ in range(seconds):
        now += SECOND
        regime.update(now, 2.0 * ratio)
    return regime.value, now


def by_the_text(regime: int, ratio: float, c: RegimeConfig) -> int:
    """Return source text 004's decision, case by case."""
    up = EXTREME if ratio > c.extreme_enter else HIGH if ratio > c.high_enter else NORMAL
    down = LOW if ratio < c.low_enter else NORMAL
    if regime == LOW:
        return up if ratio > c.low_exit else LOW
    if regime == NORMAL:
        return LOW if ratio < c.low_enter else up
    if regime == HIGH:
        return down if ratio < c.high_exit else EXTREME if ratio > c.extreme_enter else HIGH
    if ratio < c.extreme_exit:
        return down if ratio < c.high_exit else HIGH
    return EXTREME


@given(st.sampled_from([LOW, NORMAL, HIGH, EXTREME]), st.one_of(
    st.floats(0.0, 6.0), st.sampled_from([0.5, 0.6, 1.2, 1.5, 2.4, 3.0])))  # fmt: skip
def test_follows_the_source_text(regime: int, ratio: float) -> None:
    """Each band is entered at its enter and left at its exit, from every other band."""
    assert next_regime(regime, ratio, CONFIG) == by_the_text(regime, ratio, CONFIG)


@pytest.mark.parametrize(("ratio", "found"), [(0.4, LOW), (1.0, NORMAL), (2.0, HIGH), (4.0, EXTREME)])
def test_bands(ratio: float, found: int) -> None:
    """A market that turns calm, stays, turns wild or very wild is found so."""
    regime, now = seasoned()
    assert after(regime, now, ratio, 120)[0] == found


def test_hysteresis() -> None:
    """A ratio between exit and enter keeps the band that it came from."""
    regime, now = seasoned()
    found, now = after(regime, now, 1.4, 120)
    assert found == NORMAL
    _, now = after(regime, now, 1.6, 120)
    assert after(regime, now, 1.4, 120)[0] == HIGH


def test_dwell() -> None:
    """No two changes are nearer than the dwell, whatever the volatility does."""
    regime, now = seasoned(msgspec.structs.replace(STEADY, min_dwell_s=60.0))
    chance = random.Random(1)
    changes, before = [], regime.value
    for _ in range(5000):
        found, now = after(regime, now, chance.choice((0.1, 1.0, 2.0, 5.0)), 1)
        if found != before:
            changes.append(now)
            before = found
    assert len(changes) > 50
    assert min(later - earlier for earlier, later in pairwise(changes)) >= 60 * SECOND


def test_without_history_it_is_normal() -> None:
    """Before half an hour has been seen nothing counts as unusual, holes of the feed not being seen."""
    regime, now = seasoned(STEADY, seconds=600)
    assert after(regime, now, 9.0, 600)[0] == NORMAL
    holes = Regime(STEADY)
    for hour in range(20):
        holes.update(hour * 3600 * SECOND, 2.0)
    holes.update(20 * 3600 * SECOND, 20.0)
    assert holes.value == NORMAL


def test_unknown_volatility_is_no_history() -> None:
    """Zeros before the first volatility are none yet; zeros after it are a market that stands still: LOW."""
    regime = Regime(CONFIG)
    for second in range(7200):
        regime.update(second * SECOND, 0.0)
    assert (regime.value, regime.checkpoint()) == (NORMAL, Regime(CONFIG).checkpoint())
    regime, now = seasoned()
    assert after(regime, now, 0.0, 120)[0] == LOW


def test_the_baseline_follows_slowly() -> None:
    """Twice the volatility is HIGH for hours, and the new normal after days."""
    regime, now = seasoned(CONFIG, seconds=8 * 3600)
    _, now = after(regime, now, 2.0, 1200)
    assert regime.value == HIGH
    for _ in range(3 * 1440):
        now += 60 * SECOND
        regime.update(now, 4.0)
    assert regime.value == NORMAL


@given(st.lists(st.tuples(st.integers(0, 90 * SECOND), st.floats(0.0, 20.0)), max_size=120), st.integers(0, 10**18),
       st.sampled_from([0.25, 2.0, 1024.0]))  # fmt: skip
def test_time_and_unit_do_not_matter(steps: list[tuple[int, float]], start: int, unit: float) -> None:
    """Moved in time, or measured in other ticks, it is the same."""
    config = RegimeConfig(min_history_s=600.0)
    plain, moved, ts = Regime(config), Regime(config), 0
    for gap, volatility in steps:
        ts += gap
        plain.update(ts, volatility)
        moved.update(ts + start, volatility * unit)
        assert moved.value == plain.value


@given(st.lists(st.tuples(st.integers(0, 90 * SECOND), st.floats(0.0, 20.0)), max_size=80), st.integers(0, 80))
def test_restored_goes_on_exactly(steps: list[tuple[int, float]], split: int) -> None:
    """A checkpoint is the whole state, to the last bit."""
    config = RegimeConfig(min_history_s=300.0)
    first, second, ts = Regime(config), Regime(config), 0
    for number, (gap, volatility) in enumerate(steps):
        if number == split:
            second.restore(list(first.checkpoint()))
        ts += gap
        first.update(ts, volatility)
        if number >= split:
            second.update(ts, volatility)
    if split < len(steps):
        assert second.checkpoint() == first.checkpoint()


@pytest.mark.parametrize(
    "flaw",
    [
        {"low_enter": -0.1}, {"low_enter": 0.7}, {"low_exit": 1.3}, {"high_exit": 1.6}, {"high_enter": 2.5},
        {"extreme_exit": 3.1}, {"extreme_enter": float("nan")}, {"extreme_enter": float("inf")}, {"min_dwell_s": -1.0},
        {"baseline_tau_s": 0.0}, {"min_history_s": float("nan")},
    ],
)  # fmt: skip
def test_thresholds_out_of_order_are_refused(flaw: dict[str, float]) -> None:
    """Enter and exit must be ordered, times usable; the error names the key."""
    with pytest.raises(ConfigError, match=r"regime\.\w+ "):
        Regime(msgspec.structs.replace(CONFIG, **flaw))
