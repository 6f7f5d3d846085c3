"""What the lamps are to say: only what is known for certain."""

import os
import time
from pathlib import Path

import msgspec
import pytest
from runtime_builders import board_of

from mmpi.instrument import MILLISECOND
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN
from mmpi.runtime.sign import OLD, sign_of
from mmpi.runtime.watch import QuoterWatch

QUOTING = {"state": "quoting", "reason": "", "mode": "live", "deadman": "ARMED", "instruments": {"BTC": {"reason": ""}}}


def watching(folder: Path, said: dict[str, object] | None, age_ms: int = 0) -> tuple[QuoterWatch, int]:
    """Return a watch of a quoter (this process) that said this, and the time at which it is looked at."""
    board = board_of(folder / "status", os.getpid())
    now = time.monotonic_ns()
    board.beat(now)
    if said is not None:
        board.publish(msgspec.json.encode(said))
    watch = QuoterWatch(folder / "status")
    watch.poll(now, 10**12)
    return watch, now + age_ms * MILLISECOND


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({}, "quoting"),
        ({"mode": "practice"}, "practice"),
        ({"mode": "paper"}, "practice"),
        ({"instruments": {"BTC": {"reason": "stale market data"}, "ETH": {"reason": ""}}}, "degraded"),
        ({"deadman": "REFUSED(volume)"}, "degraded"),
        ({"requests": {"thinning": 4}}, "degraded"),
        ({"state": "blocked", "reason": "clock: not synchronised"}, "no_clock"),
        ({"state": "blocked", "reason": "connecting"}, "no_network"),
        ({"state": "blocked", "reason": "reconciling"}, "paused"),
    ],
)
def test_a_quoter_that_may_quote(tmp_path: Path, change: dict[str, object], sign: str) -> None:
    """What it says of itself decides, as long as it is fresh."""
    watch, now = watching(tmp_path, QUOTING | change)
    assert sign_of(RUN, True, (), watch, now) == sign


def test_an_old_word_is_a_fault(tmp_path: Path) -> None:
    """A quoter that said "quoting" more than 2 s ago says nothing about now."""
    watch, now = watching(tmp_path, QUOTING, age_ms=OLD // MILLISECOND + 1)
    assert sign_of(RUN, True, (), watch, now) == "fault"


def test_without_a_quoter_it_waits(tmp_path: Path) -> None:
    """RUN without anybody who runs is no quoting."""
    assert sign_of(RUN, True, (), QuoterWatch(tmp_path / "status"), 1) == "paused"


@pytest.mark.parametrize(
    ("state", "proven", "causes", "sign"),
    [
        (LATCHED, True, (), "latched"),
        (LATCHED, False, (), "stopping"),
        (PAUSED, False, ("venue_session",), "stopping"),
        (PAUSED, False, ("guardian_starting",), "starting"),
        (PAUSED, True, ("venue_session",), "no_network"),
        (PAUSED, True, ("power",), "power"),
        (PAUSED, True, ("temperature",), "paused"),
        (REDUCE, True, (), "stopping"),
        (LATCHED, True, ("pins",), "fault"),
        (PAUSED, True, ("reload",), "updating"),
    ],
)
def test_a_halt(tmp_path: Path, state: int, proven: bool, causes: tuple[str, ...], sign: str) -> None:
    """Nothing is called latched, or paused, before zero orders are proven."""
    assert sign_of(state, proven, causes, QuoterWatch(tmp_path / "status"), 1) == sign
