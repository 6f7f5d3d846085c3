"""Metrics: the five-fill story by hand, the mirror, and what too little data does."""

import math

import msgspec
import pytest
from report_builders import Story, five_fills, random_walk

pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

from mmpi.instrument import BUY, SECOND, SELL  # noqa: E402
from mmpi.research.metrics import bootstrap_interval, measure, steps_of, whole  # noqa: E402


def test_the_story_by_hand() -> None:
    """Profit and its parts, drawdown, round trips, turnover: exact money, ratios to rounding."""
    metrics, by_name = measure(five_fills())
    only = by_name["A"]
    for part in (metrics, only):
        assert (part.spread, part.inventory, part.funding, part.fees, part.total) == ("-1", "10", "0", "7", "2")
        assert (part.volume, part.fills) == ("8049", 5)
        trips = part.trips
        assert (trips.trips, trips.wins, trips.win_rate, trips.profit_factor) == (4, 2, 0.5, 1.2)
        assert (trips.gained, trips.lost) == ("12", "10")
    assert metrics.identity_error == "0"
    assert (metrics.span_s, metrics.sampling_interval_s, metrics.samples) == (100.0, 1, 101)
    assert (metrics.max_drawdown, metrics.max_drawdown_percent) == ("16", 1.6)
    assert metrics.profit_bps.value == pytest.approx(2 / 8049 * 1e4)
    assert metrics.profit_per_fill == 0.4
    assert metrics.profit_per_interval.value == pytest.approx(2 / 100)
    assert metrics.turnover_per_day == pytest.approx(8.049 * 864)
    held = 2 * 1000 + 2 * 1004 + 7 * 1004 + 1010 + 9 * 2 * 1010 + 2 * 1012 + 9 * 1012
    assert only.mean_position == pytest.approx(held / 100)
    assert metrics.inventory_turnover_per_day == pytest.approx(8049 / 2 / (held / 100) * 864)
    assert metrics.time_at_limit == only.time_at_limit == 0.12
    assert (only.buys, only.sells, only.position, only.crossed) == (3, 2, "0", 0)


def test_markouts_of_the_story() -> None:
    """Per side and both: means over the fills that were reached, the others counted as missing."""
    _, by_name = measure(five_fills())
    markouts = {(each.horizon_s, each.side): each for each in by_name["A"].markouts}
    assert len(markouts) == 12
    thirty, sixty = markouts[30, "all"], markouts[60, "all"]
    values = [21 / 999, -15 / 1005, -12 / 1008, 6 / 1014, 12 / 1008]
    assert thirty.mean_bps == pytest.approx(sum(values) / 5 * 1e4)
    assert thirty.by_volume_bps == pytest.approx((60 - 51) / 8049 * 1e4)
    assert thirty.adverse_selection == "10"  # all of the inventory term: 56 bought, 46 sold
    assert (sixty.fills, sixty.missing) == (3, 2)
    assert sixty.mean_bps == pytest.approx((21 / 999 + 5 / 1005 + 8 / 1008) / 3 * 1e4)
    assert (markouts[60, "sell"].fills, markouts[60, "sell"].missing) == (2, 0)


@pytest.mark.slow
def test_steps_add_up_to_the_whole() -> None:
    """The intervals' profits are the total, the last shorter one included; only whole ones make a return."""
    recorder = random_walk(1_000)
    metrics, _ = measure(recorder)
    for seconds in (1, 60):
        profits, volumes = steps_of(recorder, seconds)
        assert profits.sum() == pytest.approx(float(metrics.total))
        assert volumes.sum() == pytest.approx(float(metrics.volume))
    profits, _ = steps_of(recorder, 60)
    assert len(whole(profits, recorder, 60)) == recorder.span // (60 * SECOND) == len(profits) - 1


def test_a_minute_that_the_end_cut_short_is_no_return() -> None:
    """119 s hold one whole minute, 120 s hold two."""
    for seconds, returns in ((59, 0), (60, 1), (119, 1), (120, 2), (121, 2)):
        metrics, _ = measure(Story().mid(0, 1000).mid(30, 1001).stop(seconds))
        assert metrics.sharpe.returns == returns


@pytest.mark.slow
def test_sharpe_is_of_minutes_over_capital() -> None:
    """In a minute's first second +3, -1 the next minute, and so on: mean 1 of 1000, deviation 2, a minute apart."""
    story, mid = Story().mid(0, 1000).fill(0.5, BUY, 1, 1000, 0), 1000
    for minute in range(40):
        mid += 3 if minute % 2 == 0 else -1
        story.mid(60 * minute + 1, mid)
    metrics, _ = measure(story.stop(2_400))
    deviation = 0.002 * math.sqrt(40 / 39)
    assert (metrics.sharpe.interval_s, metrics.sharpe.returns) == (60, 40)
    assert metrics.sharpe.value == pytest.approx(0.001 / deviation * math.sqrt(365 * 1440))
    assert metrics.sortino.value == pytest.approx(0.001 / math.sqrt(0.001**2 / 2) * math.sqrt(365 * 1440))
    assert not metrics.sharpe.meaningful
    assert metrics.sharpe.note == "not meaningful: the run is shorter than a day (0.7 h)"


@pytest.mark.slow
def test_a_mirrored_market_gives_the_same_ratios() -> None:
    """Prices upside down and sides swapped: the same profit to the last digit, the same ratios."""
    (plain, _), (mirrored, _) = measure(random_walk(1_900)), measure(random_walk(1_900, mirrored=True))
    assert plain.sharpe.value is not None
    same = (
        "spread", "inventory", "fees", "total", "fills", "sharpe", "sortino", "max_drawdown", "trips",
        "profit_per_fill", "profit_per_interval",
    )  # fmt: skip
    for name in same:
        assert getattr(plain, name) == getattr(mirrored, name), name
    # A long position is worth another amount in the mirror, so shares of a limit in money are not quite the same.
    assert plain.time_at_limit == pytest.approx(mirrored.time_at_limit, abs=0.05)


def test_a_run_without_fills_has_no_ratios() -> None:
    """Nothing filled: money is 0, every average is null and says why."""
    metrics, by_name = measure(Story().mid(0, 1000).mid(10, 1001).stop(20))
    assert (metrics.total, metrics.volume, metrics.profit_bps.value, metrics.profit_per_fill) == ("0", "0", None, None)
    assert (metrics.sharpe.value, metrics.sharpe.meaningful) == (None, False)
    assert metrics.sharpe.note == "not meaningful: 0 returns of 60 s, at least 30 are needed"
    assert (metrics.trips.win_rate, metrics.trips.note) == (None, "no fill reduced the position")
    assert metrics.inventory_turnover_per_day is None
    assert by_name["A"].markouts[0].mean_bps is None
    assert msgspec.json.encode(metrics)


def test_a_run_that_won_every_trip_has_no_profit_factor() -> None:
    """Nothing lost: the factor is null, not infinite."""
    metrics, _ = measure(Story().mid(0, 1000).fill(1, BUY, 1, 999, 0).fill(2, SELL, 1, 1001, 0).stop(3))
    assert (metrics.trips.win_rate, metrics.trips.profit_factor) == (1.0, None)
    assert metrics.trips.note == "no trip lost anything"


def test_short_runs_are_resampled_at_the_samples_interval() -> None:
    """Under 200 minutes the bootstrap takes seconds, so that it has blocks to choose from."""
    assert bootstrap_interval(random_walk(300)) == 1
    assert bootstrap_interval(Story().mid(0, 1000).mid(12_000, 1001).stop(12_001)) == 60
