"""Every scenario on one rig: python -m pytest hil --rig nspawn (make hil)."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hil.report import FAILED, NOT_RUN, PASSED, Result
from hil.rig import Rig
from hil.scenarios import load
from hil.stage import Stage, config
from hil.timeline import Timeline
from hil.trixie import ROOT
from hil.venue import Venue

UNUSED_PORT = 18443


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give the rig, and where a box on it sees a venue; what cannot be had here is skipped with the reason."""
    wanted = request.config.getoption("--rig")
    if wanted != "nspawn":
        pytest.skip(f"no rig {wanted} yet; there is: nspawn")
    from hil.rigs.nspawn import OPERATOR, Network, missing
    from hil.rigs.station import Station

    if why := missing():
        pytest.skip(why)
    checkout = (request.config.getoption("--checkout") or ROOT).resolve()
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        rig: Rig = stack.enter_context(Station(network, tmp_path_factory.mktemp("rig"), UNUSED_PORT, checkout))
        yield rig, OPERATOR


@pytest.mark.parametrize("name", load())
def test_scenario(name: str, world: Any, record: list[Result], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It is played to its end, what it promises is kept, and nothing is left at the venue or missing in the ledger."""
    rig, address = world
    scenario, seed = load()[name], int(request.config.getoption("--seed"))
    if missing := scenario.needs - rig.can:
        why = f"this rig has no {', '.join(sorted(missing))}"
        record.append(Result(rig.name, name, NOT_RUN, why, seed))
        pytest.skip(why)
    venue = Venue(tmp_path, address, seed)
    venue.port = UNUSED_PORT
    result, began = Result(rig.name, name, FAILED, "it did not begin", seed), time.monotonic()
    record.append(result)
    with venue, Timeline(venue) as timeline:
        stage = Stage(rig, venue, timeline, seed)
        try:
            rig.mend(config(rig), venue.secrets | {"mqtt.password": "a word for the broker"}, venue.authority)
            stage.wait(lambda: rig.status().get("guardian"), 20, "a guardian")
            stage.arm()
            stage.quoting()
            scenario.play(stage)
            result.exposure_s = timeline.exposure()
            stage.finish(tmp_path)
            result.result, result.why = PASSED, ""
        except Exception as error:
            result.why = str(error)
            raise
        finally:
            result.seconds, result.timeline = time.monotonic() - began, timeline.told()
