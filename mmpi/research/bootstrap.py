"""Bootstrap: confidence intervals for means and ratios of a series whose neighbours depend on each other.

Invariant: the same series and seed give the same interval. It must not know what the numbers mean.

Sources: Kuensch (1989), "The jackknife and the bootstrap for general stationary observations"; Politis & Romano
(1994), "The stationary bootstrap": blocks of geometric length, laid on a circle to stay stationary.
Block length: Politis & White (2004), "Automatic block-length selection for the dependent bootstrap", as corrected by
Patton, Politis & White (2009).
"""

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mmpi.structs import Frozen

Floats: TypeAlias = npt.NDArray[np.float64]

LEVEL: Final = 0.95
DRAWS: Final = 2_000
"""Enough for a 95 % interval: Efron & Tibshirani (1993), section 12.5, ask for at least 1000."""
SEED: Final = 1
FEWEST: Final = 10
"""Observations below which no interval is given."""
MOST_BLOCKS: Final = 200_000
"""Blocks laid out at once, some 10 MB."""
FEW_BLOCKS: Final = 10
"""Blocks below which an interval is called rough: too few to show how the blocks differ."""


class Estimate(Frozen, frozen=True):
    """A figure with its 95 % interval; null where there is none, `note` says why or what to mind."""

    value: float | None
    low: float | None = None
    high: float | None = None
    observations: int = 0
    block: float = 0.0
    """Mean block length, in observations."""
    note: str = ""


def mean_estimate(series: Floats, *, seed: int = SEED, draws: int = DRAWS) -> Estimate:
    """Return the mean of a series (shape (n,)) with its interval."""
    return ratio_estimate(series, np.ones_like(series), seed=seed, draws=draws)


def ratio_estimate(
    top: Floats, bottom: Floats, *, scale: float = 1.0, seed: int = SEED, draws: int = DRAWS
) -> Estimate:
    """Return scale * sum(top) / sum(bottom) with its interval; both of shape (n,), resampled in the same blocks."""
    count = len(top)
    below = float(bottom.sum())
    if count == 0 or below == 0.0:
        return Estimate(None, observations=count, note="nothing to divide by")
    value = float(top.sum()) / below
    if count < FEWEST:
        return Estimate(scale * value, observations=count, note=f"no interval from {count} observations")
    # What makes the ratio move is the numerator against its share of the denominator.
    block = block_length(top - value * bottom)
    tops, bottoms = resampled_sums(np.column_stack((top, bottom)), block, draws, np.random.default_rng(seed)).T
    usable = bottoms != 0.0
    ratios = tops[usable] / bottoms[usable]
    low, high = np.quantile(ratios, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist() if len(ratios) else (None, None)
    few = count / block < FEW_BLOCKS
    return Estimate(
        scale * value,
        None if low is None else scale * low,
        None if high is None else scale * high,
        count,
        block,
        f"rough: fewer than {FEW_BLOCKS} blocks" if few else "",
    )


def block_length(series: Floats) -> float:
    """Return the mean block length, at least 1, that makes the stationary bootstrap's variance error smallest."""
    count = len(series)
    deviations = series - series.mean()
    variance = float(deviations @ deviations) / count
    if count < FEWEST or variance <= 0.0:
        return 1.0
    window = max(5, math.ceil(math.sqrt(math.log10(count))))
    lags = min(count - 1, math.ceil(math.sqrt(count)) + window)
    covariances = np.array([float(deviations[: count - k] @ deviations[k:]) / count for k in range(lags + 1)])
    reach = min(2 * _last_significant(covariances / variance, count, window), lags)
    if reach == 0:
        return 1.0
    k = np.arange(1, reach + 1)
    # The flat-top window of Politis & Romano (1995).
    weights = np.minimum(1.0, 2.0 * (1.0 - k / reach))
    spectrum = float(covariances[0]) + 2.0 * float(weights @ covariances[1 : reach + 1])
    slope = 2.0 * float((weights * k) @ covariances[1 : reach + 1])
    longest = math.ceil(min(3.0 * math.sqrt(count), count / 3.0))
    if spectrum <= 0.0:
        return float(longest)
    best = math.pow(slope * slope / (spectrum * spectrum) * count, 1 / 3)
    return min(max(best, 1.0), float(longest))


def resampled_sums(columns: Floats, block: float, draws: int, rng: np.random.Generator) -> Floats:
    """Return the column sums (shape (draws, k)) of resampled series of n rows, from columns of shape (n, k)."""
    count = len(columns)
    # Sums over blocks on the circle are differences of one running sum over two rounds of it.
    running = np.concatenate((np.zeros((1, columns.shape[1])), np.cumsum(np.concatenate((columns, columns)), axis=0)))
    sums = np.empty((draws, columns.shape[1]))
    blocks = math.ceil(count / block * 1.2) + 8  # nearly always enough for all draws
    at_once = max(1, MOST_BLOCKS // blocks)
    for first in range(0, draws, at_once):
        rows = min(at_once, draws - first)
        ends = np.cumsum(rng.geometric(1.0 / block, (rows, blocks)), axis=1)
        while (ends[:, -1] < count).any():
            ends = np.column_stack((ends, ends[:, -1:] + np.cumsum(rng.geometric(1.0 / block, (rows, 8)), axis=1)))
        # The block that reaches the end is cut there, and those behind it are empty.
        lengths = np.diff(np.minimum(ends, count), axis=1, prepend=0)
        starts = rng.integers(0, count, lengths.shape)
        sums[first : first + rows] = (running[starts + lengths] - running[starts]).sum(axis=1)
    return sums


def _last_significant(correlations: Floats, count: int, window: int) -> int:
    """Return the last lag before a window of insignificant autocorrelations; the last significant of all if none."""
    significant = np.abs(correlations[1:]) >= 2.0 * math.sqrt(math.log10(count) / count)
    for lag in range(len(significant) - window + 1):
        if not significant[lag : lag + window].any():
            return lag
    return int(np.flatnonzero(significant)[-1]) + 1 if significant.any() else 0
