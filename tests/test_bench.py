"""The benchmark's claims: speed as a ratio on the same books, memory that does not grow, a start within a second.

Ratios are medians of pairs from one process, so a busy machine does not decide them.
"""

from pathlib import Path
from statistics import median

import pytest

from bench import books, processes, speed
from mmpi.research import wire_bench

pytestmark = pytest.mark.slow

FASTER = 4.0
WIRE_FASTER = 6.0
GROWTH_MB = 24.0
START_MS = 1000.0
LONG_SET = "standx_btcusd_20260106"


@pytest.fixture(scope="module")
def runs() -> speed.Runs:
    """Return three rounds on the recorded books."""
    if not (wire_bench.NAIVE.is_file() and books.RECORDED.is_file()):
        pytest.skip("no shared data on this machine: the ratio is stated against its json + Decimal quoter")
    return speed.measure(books.load()[1], rounds=3)


@pytest.mark.parametrize("kind", ["backtest", "backtest_journal", "backtest_same_job"])
def test_a_backtest_costs_a_quarter_of_the_naive_quoter_per_event_at_most(runs: speed.Runs, kind: str) -> None:
    """An event of a backtest, exchange and queue included, is 4 times faster than the naive quoter's on_raw alone."""
    assert speed.times_faster(runs, kind, lambda work: work.per_event) >= FASTER


def test_bytes_to_actions_take_a_sixth_of_the_naive_quoter_at_most() -> None:
    """The medians from a book's bytes to approved actions, the same bytes, one process, nothing compiled."""
    if not (wire_bench.NAIVE.is_file() and books.RECORDED.is_file()):
        pytest.skip("no shared data on this machine: the ratio is stated against its json + Decimal quoter")
    result = speed.wire(books.load()[1], rounds=3)
    assert not result.compiled and result.n == books.COUNT and result.actions > books.COUNT
    assert result.ratio is not None and result.ratio >= WIRE_FASTER


def test_every_backtest_of_one_kind_does_the_same_work(runs: speed.Runs) -> None:
    """All rounds of a kind handle the same number of events, at least one for every book, so their times compare."""
    for works in runs.values():
        assert len({(work.books, work.events) for work in works}) == 1
        assert works[0].events >= works[0].books == books.COUNT


def test_the_benchmark_runs_without_shared_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing is recorded, generated books and the reference in bench/ take their places, and both trade."""
    monkeypatch.setattr(books, "RECORDED", tmp_path / "absent")
    monkeypatch.setattr(wire_bench, "NAIVE", tmp_path / "absent")
    what, frames = books.load()
    name, make = speed.baseline()
    reference = make()
    speed.run_baseline(reference, frames[:300])
    assert what.startswith("generated") and len(frames) == books.COUNT and name == "bench/reference.py"
    assert len(reference.live) >= 8
    assert speed.run_backtest(speed.same_job(), speed.decode(frames)).events > books.COUNT


def test_a_long_backtest_finishes_and_does_not_grow(data: Path) -> None:
    """From a fifth of a day's 427130 rows to their end the process gains 24 MB at most, and everything is cancelled."""
    seen = processes.growth(data / "market" / LONG_SET)
    assert seen["rows"] >= 4 * seen["warm_rows"] > 0
    assert seen["end_mb"] - seen["warm_mb"] <= GROWTH_MB
    assert seen["stopped"] and seen["fills"] > 0 and seen["violations"] == 0


def test_a_quoter_handles_its_first_event_within_a_second(tmp_path: Path) -> None:
    """`mmpi run` on paper, started warm, has handled its first event within a second of its start."""
    box = processes.paper_box(tmp_path)
    box.first_event_ms()
    assert median(box.first_event_ms() for _ in range(3)) <= START_MS
