"""mmpi flatten against the practice server, with real processes: positions go to zero by orders that only reduce."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stack import Stack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give one stack for all tests of this file."""
    with Stack(tmp_path_factory.mktemp("flatten"), latency_ms=40) as stack:
        stack.start()
        yield stack


@pytest.fixture
def holding(made: Stack) -> Stack:
    """Give it quoting, with a position."""
    if made.status()["latch"] == "latched":
        made.arm()
    made.ask("resume")
    if not made.quoter.runs:
        made.start_quoter()
    made.wait_quoting(30)
    made.wait(lambda: any(float(held) for held in made.venue_positions().values()), 90, "a position")
    return made


def flatten(stack: Stack) -> dict[str, Any]:
    """Run the command; return its answer."""
    done = stack.mmpi("flatten", "--json", "--reason", "test", timeout=120)
    assert done.returncode == 0, (done.stdout, done.stderr, stack.picture())
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def held(stack: Stack) -> dict[str, str]:
    """Return the positions that are not zero."""
    return {coin: size for coin, size in stack.venue_positions().items() if float(size)}


def placed_since(stack: Stack, since: int) -> list[dict[str, Any]]:
    """Return the orders that the server accepted after the first `since` of the run."""
    line = stack.line()
    try:
        placed: list[dict[str, Any]] = line.get("/control/placed")
    finally:
        line.close()
    return placed[since:]


def test_a_running_box_is_flat_and_stays_paused(holding: Stack) -> None:
    """Positions are zero, no order is live, nothing is quoted until a person resumes."""
    answer = flatten(holding)
    assert answer["flat"] and answer["verified"]
    assert (held(holding), holding.orders()) == ({}, [])
    time.sleep(1.5)
    assert holding.status()["state"] == "paused" and "flattened" in holding.status()["causes"]
    assert (held(holding), holding.orders()) == ({}, [])
    assert holding.mmpi("resume").returncode == 0
    holding.wait_quoting(20)


def test_a_latched_box_is_flat_and_stays_latched(holding: Stack) -> None:
    """After a press hands at the box sell what is held; the latch on the disk is there all the time."""
    holding.press("smoke")
    assert held(holding)
    placed = len(placed_since(holding, 0))
    assert flatten(holding)["flat"]
    assert (held(holding), holding.orders(), holding.status()["latch"]) == ({}, [], "latched")
    assert len(placed_since(holding, placed)) > 0


def test_without_a_quoter_one_is_started_for_it(holding: Stack) -> None:
    """The quoter killed and the box latched: the command brings its own, and ends it."""
    holding.quoter.end()
    holding.press("smoke")
    assert held(holding)
    assert flatten(holding)["flat"]
    assert (held(holding), holding.orders(), holding.status()["latch"]) == ({}, [], "latched")
    holding.wait(lambda: not holding.status()["quoter_alive"], 5, "the end of that quoter")


def test_a_press_in_the_middle_stops_even_that(holding: Stack) -> None:
    """Pressed while it sells, nothing more is placed, and the command says so."""
    flattening = holding.begin("flatten", "flatten", "--json")
    holding.wait(lambda: holding.status()["state"] == "reduce", 15, "the selling")
    press = holding.press("stop that")
    placed = len(placed_since(holding, 0))
    assert flattening.wait(30) in (0, 3)
    time.sleep(2.0)
    assert len(placed_since(holding, 0)) == placed
    assert press.answer["verified"] and holding.status()["latch"] == "latched"


def test_remote_may_not_while_latched(holding: Stack) -> None:
    """From afar a latched box is not touched."""
    holding.press("smoke")
    before = held(holding)
    assert "only hands" in holding.ask("flatten", remote="yes")["error"]
    assert held(holding) == before
