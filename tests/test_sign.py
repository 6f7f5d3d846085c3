"""What the lamps are to say: only what is known for certain."""

import os
import time
from pathlib import Path

import msgspec
import pytest
from runtime_builders import board_of

from mmpi.device.lights import PATTERNS, TABLE
from mmpi.instrument import MILLISECOND
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN
from mmpi.runtime.sign import OLD, UNWELL, sign_of
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
        (PAUSED, True, ("setup",), "setup"),
        (PAUSED, True, ("venue_session", "setup"), "setup"),
        (PAUSED, True, ("setup", "power"), "power"),
        (PAUSED, False, ("setup",), "stopping"),
        (LATCHED, True, ("setup",), "latched"),
        (REDUCE, True, (), "stopping"),
        (LATCHED, True, ("pins",), "fault"),
        (PAUSED, True, ("reload",), "updating"),
    ],
)
def test_a_halt(tmp_path: Path, state: int, proven: bool, causes: tuple[str, ...], sign: str) -> None:
    """Nothing is called latched, or paused, before zero orders are proven."""
    assert sign_of(state, proven, causes, QuoterWatch(tmp_path / "status"), 1) == sign


@pytest.mark.parametrize(
    ("state", "proven", "causes", "sign"),
    [
        (LATCHED, True, ("setup",), "setup"),
        (LATCHED, False, ("setup",), "stopping"),
        (LATCHED, True, ("setup", "pins"), "fault"),
        (LATCHED, True, (), "latched"),
    ],
)
def test_a_new_card(tmp_path: Path, state: int, proven: bool, causes: tuple[str, ...], sign: str) -> None:
    """A box that nobody ever armed shows what is wrong in its set-up folder; nothing is called stopped for that."""
    assert sign_of(state, proven, causes, QuoterWatch(tmp_path / "status"), 1, fresh=True) == sign


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({}, "degraded"),
        ({"mode": "practice"}, "degraded"),
        ({"state": "blocked", "reason": "clock: not synchronised"}, "no_clock"),
        ({"state": "blocked", "reason": "reconciling"}, "unhealthy"),
    ],
)
def test_an_unhealthy_boot_that_may_quote(tmp_path: Path, change: dict[str, object], sign: str) -> None:
    """It stops nothing, and shows: what quotes is not well, and what waits without a sign of its own says why."""
    watch, now = watching(tmp_path, QUOTING | change)
    assert sign_of(RUN, True, (), watch, now, well=False) == sign


@pytest.mark.parametrize(
    ("state", "proven", "causes", "sign"),
    [
        (PAUSED, True, ("quoter_died",), "unhealthy"),
        (PAUSED, True, ("setup",), "setup"),
        (PAUSED, True, ("power",), "power"),
        (PAUSED, False, ("guardian_starting",), "starting"),
        (LATCHED, True, (), "latched"),
        (LATCHED, False, (), "stopping"),
        (LATCHED, True, ("pins",), "fault"),
    ],
)
def test_an_unhealthy_boot_that_is_halted(
    tmp_path: Path, state: int, proven: bool, causes: tuple[str, ...], sign: str
) -> None:
    """What says more is shown all the same: a stop above all."""
    assert sign_of(state, proven, causes, QuoterWatch(tmp_path / "status"), 1, well=False) == sign


def test_what_an_unhealthy_boot_shows_has_a_pattern() -> None:
    """Both sides of the table are signs, and nothing unhealthy is shown as something that is well."""
    assert UNWELL.keys() | set(UNWELL.values()) <= PATTERNS.keys()
    assert not UNWELL.keys() & set(UNWELL.values())
    assert {pattern.name for pattern in TABLE if pattern.green} - UNWELL.keys() == {"degraded"}
