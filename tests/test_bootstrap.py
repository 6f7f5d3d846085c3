"""Bootstrap: block lengths, resampled sums, and intervals that cover what they say they cover."""

import pytest

pytestmark = pytest.mark.slow

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

from mmpi.research.bootstrap import (  # noqa: E402
    Floats,
    block_length,
    mean_estimate,
    ratio_estimate,
    resampled_sums,
)


def autoregressive(count: int, phi: float, seed: int, start: int = 100) -> Floats:
    """Return x[t] = phi x[t-1] + noise of variance 1, the first `start` values dropped."""
    noise = np.random.default_rng(seed).normal(size=count + start)
    series = np.zeros(count + start)
    for t in range(1, count + start):
        series[t] = phi * series[t - 1] + noise[t]
    return series[start:]


def test_the_same_seed_gives_the_same_interval() -> None:
    """Two calls agree to the last digit; another seed does not."""
    series = autoregressive(300, 0.3, 1)
    assert mean_estimate(series) == mean_estimate(series)
    assert mean_estimate(series) != mean_estimate(series, seed=2)


def test_resampled_sums_are_sums_over_blocks_on_the_circle() -> None:
    """Every draw is n values in runs that follow each other, the last after the first; written out index by index."""
    column = np.arange(1.0, 38.0) ** 2
    sums = resampled_sums(np.column_stack((column, np.ones(37))), 4.0, 50, np.random.default_rng(9))
    assert (sums[:, 1] == 37).all()
    rng = np.random.default_rng(9)
    drawn_lengths = rng.geometric(1 / 4.0, (50, 20))
    assert (drawn_lengths.sum(axis=1) >= 37).all()
    drawn_starts = rng.integers(0, 37, (50, 20))
    for drawn, lengths, starts in zip(sums[:, 0], drawn_lengths.tolist(), drawn_starts.tolist(), strict=True):
        picked = [(start + k) % 37 for start, length in zip(starts, lengths, strict=True) for k in range(length)]
        assert drawn == column[picked[:37]].sum()


def test_many_short_blocks_and_a_draw_that_needs_more_of_them() -> None:
    """Draws are made in parts that fit in memory, and one with too few blocks gets more: all have n values."""
    for count, block in ((30_000, 1.0), (40, 13.0), (7, 1.0)):
        sums = resampled_sums(np.ones((count, 1)), block, 3_000 if count == 40 else 20, np.random.default_rng(0))
        assert (sums == count).all()


def test_block_length_of_an_autoregression() -> None:
    """Politis & White for AR(1): (2 phi / (1 - phi^2))^(2/3) n^(1/3), here 24.2; for noise about 1."""
    lengths = [block_length(autoregressive(8_000, 0.5, seed)) for seed in range(10)]
    assert sorted(lengths)[5] == pytest.approx((1 / 0.75) ** (2 / 3) * 20, rel=0.25)
    noise = [block_length(autoregressive(8_000, 0.0, seed)) for seed in range(10)]
    assert sorted(noise)[5] < 6
    assert block_length(np.ones(100)) == 1.0


def test_the_interval_of_independent_values_is_the_normal_one() -> None:
    """For 2000 independent values it is the mean -/+ 1.96 standard errors, within a tenth."""
    series = autoregressive(2_000, 0.0, 4)
    estimate = mean_estimate(series)
    error = series.std() / np.sqrt(2_000)
    assert estimate.value == pytest.approx(series.mean())
    assert estimate.low == pytest.approx(series.mean() - 1.96 * error, abs=0.2 * error)
    assert estimate.high == pytest.approx(series.mean() + 1.96 * error, abs=0.2 * error)


def test_dependent_values_get_a_wider_interval() -> None:
    """AR(1) with 0.8: the true standard error is three times the naive one; blocks find at least twice."""
    series = autoregressive(2_000, 0.8, 5)
    estimate = mean_estimate(series)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low > 2 * 2 * 1.96 * series.std() / np.sqrt(2_000)


def test_a_ratio_that_never_varies_has_no_width() -> None:
    """Both are resampled in the same blocks: three times the volume over the volume is three, whatever is drawn."""
    volume = np.abs(autoregressive(200, 0.5, 6))
    estimate = ratio_estimate(3 * volume, volume, scale=10.0)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((30.0, 30.0, 30.0))


def test_blocks_are_as_long_as_the_ratio_remembers() -> None:
    """Volume that lasts makes profit last, but not their ratio: its blocks are short."""
    volume = 10 + autoregressive(1_000, 0.95, 7)
    profit = 3 * volume + autoregressive(1_000, 0.0, 8)
    assert block_length(profit) > 30
    assert ratio_estimate(profit, volume).block < 10


@pytest.mark.parametrize(
    ("count", "value", "note"),
    [(0, None, "nothing to divide by"), (9, 1.0, "no interval from 9 observations"), (60, 1.0, "")],
)
def test_too_few_observations_give_no_interval(count: int, value: float | None, note: str) -> None:
    """No data is no figure, little data is a figure without an interval."""
    estimate = mean_estimate(np.ones(count))
    assert (estimate.value, estimate.note, estimate.low is None) == (value, note, count < 10)


def test_few_blocks_are_called_rough() -> None:
    """A trend over fifty values has blocks so long that fewer than ten make up the series."""
    assert mean_estimate(np.arange(50.0)).note == "rough: fewer than 10 blocks"


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_intervals_cover_the_mean(phi: float) -> None:
    """Of 400 AR(1) series of 500 values, the 95 % interval holds the true mean for 90 to 98 %; blocks cost a little."""
    covered = 0
    for seed in range(400):
        estimate = mean_estimate(autoregressive(500, phi, 1_000 + seed), draws=400)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
    assert 0.90 <= covered / 400 <= 0.98
