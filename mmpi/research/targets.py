"""Targets: the figures that tell success from failure, and a verdict on each (source text 004, section 1.4).

Invariant: a figure from too little data gets no verdict. It must not know how a figure was computed.
"""

from typing import Final

from mmpi.research.metrics import Metrics
from mmpi.structs import Frozen

MET: Final = "met"
BETWEEN: Final = "between"
RED_FLAG: Final = "RED FLAG"
NOT_MEANINGFUL: Final = "not meaningful"
FEWEST: Final = 30
"""Fills or round trips below which their averages get no verdict: at 30, a win rate's standard error is 9 points."""


class Target(Frozen, frozen=True):
    """One line of the table."""

    metric: str
    value: float | None
    unit: str
    target: float
    red_flag: float
    above: bool
    """True: above the target is good, below the red flag bad; False: the other way round."""
    verdict: str
    basis: str


def targets(metrics: Metrics) -> tuple[Target, ...]:
    """Return the six figures of source text 004 with their verdicts."""
    sharpe, trips = metrics.sharpe, metrics.trips
    hours = f"over {metrics.span_s / 3600:.1f} h" if metrics.span_s >= 3600 else f"over {metrics.span_s / 60:.1f} min"
    win_rate = None if trips.win_rate is None else 100 * trips.win_rate
    at_limit = None if metrics.time_at_limit is None else 100 * metrics.time_at_limit
    ratio = sharpe.note or f"{sharpe.returns} returns of {sharpe.interval_s} s"
    return (
        _target("Sharpe ratio", sharpe.value, "", (3.0, 1.0), True, sharpe.meaningful, ratio),
        _target("Max drawdown", metrics.max_drawdown_percent, "% of capital", (5.0, 10.0), False, True, hours),
        _target("Win rate", win_rate, "%", (55.0, 45.0), True, trips.trips >= FEWEST, f"{trips.trips} round trips"),
        _target(
            "Profit per fill", metrics.profit_bps.value, "bp", (0.5, 0.0), True, metrics.fills >= FEWEST,
            f"{metrics.fills} fills, by volume",
        ),
        _target(
            "Inventory turnover", metrics.inventory_turnover_per_day, "x/day", (10.0, 2.0), True, True, hours
        ),
        _target("Time at max inventory", at_limit, "%", (10.0, 30.0), False, True, hours),
    )  # fmt: skip


def _target(
    metric: str, value: float | None, unit: str, limits: tuple[float, float], above: bool, enough: bool, basis: str
) -> Target:
    target, red_flag = limits
    if value is None or not enough:
        verdict = NOT_MEANINGFUL
    elif value > target if above else value < target:
        verdict = MET
    elif value < red_flag if above else value > red_flag:
        verdict = RED_FLAG
    else:
        verdict = BETWEEN
    return Target(metric, value, unit, target, red_flag, above, verdict, basis)
