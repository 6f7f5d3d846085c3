"""Recorder: what it sees of a run, on which grid, and how little it keeps of a long one."""

import random

import pytest
from engine_builders import LADDER, WIDE, A, book
from report_builders import START, Story, five_fills, random_walk

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.instrument import BUY, MILLISECOND, MONEY_SCALE, SECOND, SELL
from mmpi.research.backtest import Backtest
from mmpi.research.recorder import BINS, INTERVALS_S, Recorder
from mmpi.runtime.step import NoJournal
from mmpi.sim.exchange import SimConfig


def test_samples_are_the_state_at_their_time() -> None:
    """A sample is the state after the last event at or before its second; the parts add up to the equity by hand."""
    recorder = five_fills()
    assert [ts - START for ts in recorder.ts] == [n * SECOND for n in range(101)]
    spread, inventory, funding, fees, volume = recorder.parts
    total = [a + b + c - d for a, b, c, d in zip(spread, inventory, funding, fees, strict=True)]
    expected = {0: 0, 1: 1, 2: 9, 3: 9, 9: 9, 10: 15, 11: 6, 19: 6, 20: 2, 21: -1, 29: -1, 30: 2, 100: 2}
    assert {second: total[second] for second in expected} == expected
    assert [recorder.positions["A"][second] for second in (0, 1, 3, 11, 21, 30)] == [0, 2, 1, -2, -1, 0]
    assert [recorder.mids["A"][second] // 2 for second in (0, 1, 2, 60, 61, 79, 80)] == [
        1000, 1000, 1004, 1012, 1020, 1020, 1000,
    ]  # fmt: skip
    assert volume[-1] == 2 * 999 + 1005 + 3 * 1008 + 1014 + 1008


def test_a_sample_inside_a_hole_is_the_state_before_it() -> None:
    """Where nothing is heard for long, the samples repeat what was known, not what came later."""
    recorder = Story().mid(0, 1000).fill(1, BUY, 1, 1000, 0).mid(500, 1050).stop(501)
    assert list(recorder.parts[1][1:500]) == [0.0] * 499
    assert recorder.parts[1][500] == 50


def test_the_drawdown_is_from_the_peak_after_any_event() -> None:
    """Equity goes 15, 6, 2, -1 between samples or not: the fall is 16, seen at the fill that made it."""
    recorder = five_fills()
    assert (recorder.peak, recorder.drawdown) == (15 * MONEY_SCALE, 16 * MONEY_SCALE)
    assert recorder.drawdown_ts == START + 21 * SECOND


def test_a_first_loss_is_a_drawdown_from_the_start() -> None:
    """A run that only loses falls from the equity it began with, 0."""
    assert Story().mid(0, 1000).fill(1, BUY, 1, 1003, 1).stop(2).drawdown == 4 * MONEY_SCALE


def test_time_shares_by_hand() -> None:
    """Two lots are at the limit for 2 s long, 10 s short; the bins hold all 100 s; holding is value times seconds."""
    trace = five_fills().traces["A"]
    assert (trace.time, trace.at_limit) == (100 * SECOND, 12 * SECOND)
    assert sum(trace.bins) == trace.time
    assert trace.bins[BINS // 2] == (1 + 70) * SECOND  # flat before the first fill and after the last
    held = 2 * 1000 + 2 * 1004 + 7 * 1004 + 1010 + 9 * 2 * 1010 + 2 * 1012 + 9 * 1012
    assert trace.held == pytest.approx(held)


def test_time_after_a_stop_is_not_counted() -> None:
    """What happens while the orders of a stopped run end counts as profit, not as time."""
    story = Story().mid(0, 1000)
    story.stop(10)
    story.fill(11, SELL, 1, 1001, 0)
    story.recorder.finish()
    assert story.recorder.traces["A"].time == 10 * SECOND
    assert story.recorder.span == 10 * SECOND
    assert story.recorder.traces["A"].log.number == 1


def test_a_longer_run_is_sampled_at_a_longer_interval() -> None:
    """Never more samples than allowed; those kept are the ones a larger memory has at the same times."""
    for seconds, interval in ((45, 1), (200, 5), (450, 10), (2_000, 60), (10_000, 300)):
        small = random_walk(seconds, max_samples=51)
        assert small.interval == interval * SECOND
        assert small.interval // SECOND in INTERVALS_S
        assert small.grid <= 51
        assert len(small.ts) <= 52
        large = random_walk(seconds)
        every = zip(large.ts, *large.parts, large.positions["A"], large.mids["A"], strict=True)
        rows = {ts: row for ts, *row in every}
        kept = list(zip(small.ts, *small.parts, small.positions["A"], small.mids["A"], strict=True))
        assert [ts - START for ts in small.ts[: small.grid]] == [n * small.interval for n in range(small.grid)]
        assert all(rows[ts] == row for ts, *row in kept)


def test_a_clock_that_jumps_years_does_not_fill_the_memory() -> None:
    """A hole of a year is sampled at an interval that fits, beyond the listed ones too."""
    recorder = Story(max_samples=20).mid(0, 1000).mid(365 * 86_400, 1001).stop(365 * 86_400 + 1)
    assert len(recorder.ts) <= 21
    assert recorder.interval > 3600 * SECOND
    assert all((ts - START) % recorder.interval == 0 for ts in recorder.ts[: recorder.grid])


def test_own_quotes_are_seen_once_the_venue_confirmed_them() -> None:
    """The ladder's 20 bp count from their confirmation to the stop; they never cross."""
    engine = Engine(EngineParams("0x" + "00" * 8, (DeskParams(A, LADDER),), WIDE, 5 * SECOND))
    recorder = Recorder(engine)
    sim = SimConfig(latency_in_ms=30, latency_out_ms=20, jitter_ms=0)
    quiet = [book(START + n * SECOND, 990, 1010) for n in range(101)]
    Backtest(engine, NoJournal(), sim, recorder).run(quiet)
    recorder.finish()
    trace = recorder.traces["A"]
    # Reconciled and placed 50 ms after the start, confirmed 50 ms later; but placed only at the first book.
    assert trace.time == 100 * SECOND
    assert trace.two_sided == 100 * SECOND - 100 * MILLISECOND
    assert trace.spread_time / trace.two_sided == pytest.approx(20.0)
    assert trace.crossed == 0


def test_watching_changes_nothing() -> None:
    """A backtest with an observer ends in the same state as one without, and the observer sees every event."""
    seen: list[int] = []
    ends = []
    for observer in (None, lambda _, event: seen.append(event.recv_ts)):
        engine = Engine(EngineParams("0x" + "00" * 8, (DeskParams(A, LADDER),), WIDE, 5 * SECOND))
        rng = random.Random(5)
        market = [book(START + n * SECOND, 999 + (mid := rng.randrange(5)), 1001 + mid) for n in range(60)]
        Backtest(engine, NoJournal(), SimConfig(), observer).run(market)
        ends.append(engine.checkpoint())
    assert ends[0] == ends[1]
    assert len(seen) == engine.events
