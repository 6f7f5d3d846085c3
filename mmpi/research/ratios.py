"""Ratios: Sharpe and Sortino of a series of returns, annualised, with all that a reader must know to believe them.

Invariant: a ratio carries its interval, and one from too short a run says so. It must not know where returns come from.

Ratios are annualised with 365 days, as crypto trades every day (correction 20); the risk-free rate is 0.
"""

import math
from typing import Final

import numpy as np

from mmpi.research.bootstrap import Floats
from mmpi.structs import Frozen

DAY_S: Final = 86_400
YEAR_S: Final = 365 * DAY_S
FEWEST_RETURNS: Final = 30
"""Returns below which no ratio is given at all: the usual least for a normal approximation of a mean."""
ENOUGH_S: Final = 23 * 3600
"""A ratio from less than a day, whose recording may lack minutes, says nothing of a year; it is shown all the same."""


class Ratio(Frozen, frozen=True):
    """An annualised ratio; `meaningful` False means it is no basis for a verdict, and `note` says why."""

    value: float | None
    interval_s: int
    returns: int
    independent: float
    """Returns that are worth as much when independent: n (1 - r) / (1 + r) where their first autocorrelation r > 0."""
    error: float | None
    """Standard error of the annualised ratio for independent returns (Lo 2002); None for Sortino."""
    meaningful: bool
    note: str = ""


def sharpe(returns: Floats, interval_s: int, span_s: float) -> Ratio:
    """Return mean over standard deviation (n - 1), annualised; the risk-free rate is 0."""
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return _ratio(returns, deviation, interval_s, span_s, lo=True)


def sortino(returns: Floats, interval_s: int, span_s: float) -> Ratio:
    """Return mean over downside deviation from 0, sqrt(mean(min(r, 0)^2)), annualised."""
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2))) if len(returns) else 0.0
    return _ratio(returns, downside, interval_s, span_s, lo=False)


def _ratio(returns: Floats, risk: float, interval_s: int, span_s: float, *, lo: bool) -> Ratio:
    count, independent = len(returns), _independent(returns)
    if count < FEWEST_RETURNS:
        note = f"not meaningful: {count} returns of {interval_s} s, at least {FEWEST_RETURNS} are needed"
        return Ratio(None, interval_s, count, independent, None, False, note)
    if risk == 0.0:
        return Ratio(None, interval_s, count, independent, None, False, "not meaningful: no return varied")
    each, per_year = float(returns.mean()) / risk, YEAR_S / interval_s
    error = math.sqrt((1 + each * each / 2) / count * per_year) if lo else None
    note = "" if span_s >= ENOUGH_S else f"not meaningful: the run is shorter than a day ({span_s / 3600:.1f} h)"
    return Ratio(each * math.sqrt(per_year), interval_s, count, independent, error, not note, note)


def _independent(returns: Floats) -> float:
    if len(returns) < 3:
        return float(len(returns))
    deviations = returns - returns.mean()
    power = float(deviations @ deviations)
    first = max(0.0, float(deviations[:-1] @ deviations[1:]) / power) if power else 0.0
    return len(returns) * (1 - first) / (1 + first)
