"""Targets: the table of source text 004, section 1.4, verdict by verdict."""

import msgspec
import pytest
from report_builders import five_fills

pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

from mmpi.research.metrics import Metrics, measure  # noqa: E402
from mmpi.research.targets import BETWEEN, MET, NOT_MEANINGFUL, RED_FLAG, targets  # noqa: E402


def metrics(
    sharpe: float = 2.0, drawdown: float = 7.0, win: float = 0.5, bps: float = 0.2, turnover: float = 5.0,
    at_limit: float = 0.2, fills: int = 30, trips: int = 30, meaningful: bool = True,
) -> Metrics:  # fmt: skip
    """Return metrics that are between target and red flag everywhere."""
    base, _ = measure(five_fills())
    replace = msgspec.structs.replace
    return replace(
        base,
        sharpe=replace(base.sharpe, value=sharpe, meaningful=meaningful),
        max_drawdown_percent=drawdown,
        trips=replace(base.trips, win_rate=win, trips=trips),
        profit_bps=replace(base.profit_bps, value=bps),
        inventory_turnover_per_day=turnover,
        time_at_limit=at_limit,
        fills=fills,
    )


def verdicts(of: Metrics) -> list[str]:
    return [each.verdict for each in targets(of)]


def test_all_six_between() -> None:
    """Neither target nor red flag: between, and the limits are those of the text."""
    table = targets(metrics())
    assert [each.verdict for each in table] == [BETWEEN] * 6
    assert [(each.target, each.red_flag, each.above) for each in table] == [
        (3.0, 1.0, True), (5.0, 10.0, False), (55.0, 45.0, True), (0.5, 0.0, True), (10.0, 2.0, True),
        (10.0, 30.0, False),
    ]  # fmt: skip


def test_limits_themselves_are_between() -> None:
    """`> 3` and `< 1` are strict, as all of them are."""
    at_target = metrics(3.0, 5.0, 0.55, 0.5, 10.0, 0.10)
    at_flag = metrics(1.0, 10.0, 0.45, 0.0, 2.0, 0.30)
    assert verdicts(at_target)[:2] == verdicts(at_flag)[:2] == [BETWEEN] * 2
    assert verdicts(at_target)[3:] == verdicts(at_flag)[3:] == [BETWEEN] * 3


def test_good_and_bad() -> None:
    """Beyond the target it is met, beyond the red flag it is flagged; drawdown and time at the limit the other way."""
    assert verdicts(metrics(3.1, 4.9, 0.56, 0.51, 10.1, 0.09)) == [MET] * 6
    assert verdicts(metrics(0.9, 10.1, 0.44, -0.01, 1.9, 0.31)) == [RED_FLAG] * 6


def test_too_little_data_gets_no_verdict() -> None:
    """A ratio that means nothing, fewer than 30 fills or trips: no verdict, however good."""
    found = verdicts(metrics(9.0, 1.0, 0.9, 5.0, 50.0, 0.0, fills=29, trips=29, meaningful=False))
    assert found == [NOT_MEANINGFUL, MET, NOT_MEANINGFUL, NOT_MEANINGFUL, MET, MET]
