"""Fills: markouts, adverse selection and round trips, by hand and in a mirror."""

import math
import random

import pytest
from engine_builders import A
from report_builders import five_fills, random_walk

from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL
from mmpi.research.fills import HORIZONS_S, FillLog, RoundTrips


def test_markouts_by_hand() -> None:
    """BUY (mid - price) / price, SELL mirrored, the mid of the first book at or after the horizon; NaN past the end."""
    log = five_fills().traces["A"].log
    expected = {
        1: [5 / 999, -5 / 1005, -4 / 1008, 6 / 1014, 12 / 1008],
        5: [11 / 999, -5 / 1005, -4 / 1008, 6 / 1014, 12 / 1008],
        30: [21 / 999, -15 / 1005, -12 / 1008, 6 / 1014, 12 / 1008],
        60: [21 / 999, 5 / 1005, 8 / 1008, math.nan, math.nan],
    }
    for horizon, column in zip(HORIZONS_S, log.markouts, strict=True):
        assert list(column) == pytest.approx([10_000 * each for each in expected[horizon]], nan_ok=True)


def test_markout_sums_keep_the_sign_by_side() -> None:
    """Thirty seconds: buys +21 +6 +12 of price, sells -15 -3*12; adverse selection is the same less the spread."""
    log = five_fills().traces["A"].log
    buys, sells = log.sums[30, BUY], log.sums[30, SELL]
    assert (buys.worth, sells.worth) == ((2 * 21 + 6 + 12) * MONEY_SCALE, (-15 - 3 * 12) * MONEY_SCALE)
    # The mid moved from 1000 to 1020, and twice from 1012 to 1020; from 1004 and three times from 1010, sold.
    assert (buys.adverse, sells.adverse) == ((2 * 20 + 8 + 8) * MONEY_SCALE, (-16 - 3 * 10) * MONEY_SCALE)
    assert buys.bps == pytest.approx(10_000 * (21 / 999 + 6 / 1014 + 12 / 1008))
    assert (buys.fills, sells.fills) == (3, 2)
    assert log.sums[60, BUY].fills == 1


def test_a_mid_exactly_at_the_horizon_counts_and_a_late_one_is_counted_as_late() -> None:
    """At 1 s sharp the markout is taken; a mid that comes more than another horizon later says so."""
    log = FillLog(A)
    log.add(0, BUY, 1000, 1, 0, 2000)
    log.on_mid(SECOND - 1, 2002)
    assert math.isnan(log.markouts[0][0])
    log.on_mid(SECOND, 2004)
    assert log.markouts[0][0] == 20.0
    log.on_mid(10 * SECOND, 2010)
    log.on_mid(61 * SECOND, 2020)
    assert [log.sums[horizon, BUY].late for horizon in HORIZONS_S] == [0, 0, 1, 0]
    assert log.markouts[3][0] == 100.0


def test_spread_plus_adverse_selection_is_the_markout() -> None:
    """For fills whose horizon was reached, worth = spread at the fill + adverse selection, exactly."""
    recorder = random_walk(300)
    trace = recorder.traces["A"]
    for horizon in HORIZONS_S:
        sums = [trace.log.sums[horizon, side] for side in (BUY, SELL)]
        reached = zip(trace.log.side, trace.log.price, trace.log.size, trace.log.mid2,
                      trace.log.markouts[HORIZONS_S.index(horizon)], strict=True)  # fmt: skip
        spread = sum(s * n * (mid2 - 2 * p) * MONEY_SCALE // 2 for s, p, n, mid2, m in reached if not math.isnan(m))
        assert sum(each.worth for each in sums) == spread + sum(each.adverse for each in sums)


def test_the_list_is_thinned_evenly_and_the_sums_are_not() -> None:
    """With room for 16, every eighth of 100 fills stays, markouts in their place; counts and sums are of all."""
    small, large = FillLog(A, keep=16), FillLog(A)
    for log in (small, large):
        rng = random.Random(1)
        for n in range(100):
            log.on_mid(n * SECOND, 2 * rng.randrange(990, 1010))
            log.add(n * SECOND, rng.choice((BUY, SELL)), 1000, n + 1, n, 2000)
        log.on_mid(200 * SECOND, 2000)
    assert (small.number, small.stride) == (100, 8)
    assert len(small.ts) == len(small.fee) <= 16
    assert list(small.size) == [n + 1 for n in range(0, 100, 8)]
    assert small.fee == list(range(0, 100, 8))
    for index, column in enumerate(small.markouts):
        assert list(column) == list(large.markouts[index])[::8]
    for key, each in small.sums.items():
        assert (each.fills, each.worth, each.adverse, each.bps) == (
            large.sums[key].fills, large.sums[key].worth, large.sums[key].adverse, large.sums[key].bps,
        )  # fmt: skip


def test_round_trips_by_hand() -> None:
    """4.5 and 7.5 won, 8 and 2 lost: entry fees go with the lots that they opened, and none is left when flat."""
    trips = five_fills().traces["A"].trips
    assert (trips.trips, trips.wins, trips.losses) == (4, 2, 2)
    assert (trips.gained, trips.lost) == (12 * MONEY_SCALE, 10 * MONEY_SCALE)
    assert trips.open_fees == 0


def test_a_trip_that_earns_nothing_is_neither_won_nor_lost() -> None:
    """Exactly 0 after fees counts as a trip alone."""
    trips = RoundTrips()
    trips.book(0, BUY, 1, 0, 2)
    trips.book(1, SELL, 1, 5, 3)
    assert (trips.trips, trips.wins, trips.losses, trips.gained, trips.lost) == (1, 0, 0, 0, 0)


def test_trips_and_open_fees_are_the_profit_after_fees() -> None:
    """Over any fills, what trips earned less the fees of what is still open is realised profit less all fees."""
    trace = random_walk(500).traces["A"]
    position, trips = trace.desk.position, trace.trips
    assert trips.trips > 20
    assert trips.gained - trips.lost - trips.open_fees == position.realised - position.fees


def test_a_mirrored_market_makes_the_same_trips() -> None:
    """Prices upside down and sides swapped: the same wins and losses, markouts of the other side."""
    plain, mirrored = five_fills().traces["A"], five_fills(mirrored=True).traces["A"]
    for name in RoundTrips.__slots__:
        assert getattr(plain.trips, name) == getattr(mirrored.trips, name)
    for horizon in HORIZONS_S:
        for side, other in ((BUY, SELL), (SELL, BUY)):
            assert plain.log.sums[horizon, side].adverse == mirrored.log.sums[horizon, other].adverse
            assert plain.log.sums[horizon, side].worth == mirrored.log.sums[horizon, other].worth
