"""Every scenario on one rig: python -m pytest hil --rig nspawn (make hil)."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hil.report import FAILED, NOT_RUN, PASSED, Result
from hil.rigs.opening import free_port, open_rig
from hil.scenarios import load
from hil.source import digest
from hil.stage import PromiseBrokenError, Stage, config
from hil.timeline import Timeline
from hil.trixie import ROOT
from hil.venue import Venue
from image.debian import UnavailableError


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give the rig, and where a box on it sees a venue; what cannot be had here is skipped with the reason."""
    folder, port = tmp_path_factory.mktemp("rig"), free_port()
    checkout = (request.config.getoption("--checkout") or ROOT).resolve()
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_rig(request.config.getoption("--rig"), folder, port, checkout))
        except UnavailableError as error:
            pytest.skip(str(error))
        told = "" if checkout == ROOT else " and its mutant " + digest(checkout, ["mmpi/**/*.py"])
        yield *opened, port, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, of source {digest(ROOT)}{told}"


@pytest.mark.parametrize("name", load())
def test_scenario(name: str, world: Any, record: list[Result], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It is played to its end, what it promises is kept, and nothing is left at the venue or missing in the ledger."""
    rig, address, port, played = world
    scenario, seed = load()[name], int(request.config.getoption("--seed"))
    if missing := scenario.needs - rig.can:
        why = f"this rig has no {', '.join(sorted(missing))}"
        record.append(Result(rig.name, name, NOT_RUN, why, seed))
        pytest.skip(why)
    venue = Venue(tmp_path, address, seed)
    venue.port = port
    result, began = Result(rig.name, name, FAILED, "it did not begin", seed), time.monotonic()
    result.played = played
    record.append(result)
    with venue, Timeline(venue) as timeline:
        stage = Stage(rig, venue, timeline, seed)
        try:
            rig.mend(config(rig), venue.secrets | {"mqtt.password": "a word for the broker"}, venue.authority, seed)
            stage.wait(lambda: rig.status().get("guardian"), 20, "a guardian")
            stage.arm()
            stage.quoting()
            scenario.play(stage)
            result.exposure_s = timeline.exposure()
            within(timeline, scenario.limit_s)
            stage.finish(tmp_path)
            result.result, result.why = PASSED, ""
        except Exception as error:
            result.why, result.exposure_s = str(error) or repr(error), timeline.exposure()
            raise
        finally:
            result.fills = counted(venue)
            result.seconds, result.timeline = time.monotonic() - began, timeline.told()


def within(timeline: Timeline, limit_s: float | None) -> None:
    """See that a scenario that promises a time has measured it, and kept to it."""
    if limit_s is None:
        return
    exposure, allowed = timeline.exposure(), limit_s + timeline.took
    if exposure is None or exposure > allowed:
        raise PromiseBrokenError(f"exposed for {exposure} s; allowed: {allowed:.2f} s")


def counted(venue: Venue) -> int:
    """Return how many fills the account has, -1 = the venue does not say."""
    try:
        return len(venue.fills())
    except OSError:
        return -1
