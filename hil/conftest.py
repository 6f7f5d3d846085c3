"""pytest's side of the scenarios: which rig, which seed, and the report at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.report import NOT_RUN, Result, keep, page
from hil.scenarios import load

RIGS = ("nspawn", "virt", "bench")
OUT = Path(__file__).resolve().parents[1] / "dist" / "hil"
results = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the options."""
    group = parser.getgroup("hil")
    group.addoption("--rig", choices=RIGS, default="nspawn", help="the machine on which scenarios are played")
    group.addoption("--seed", type=int, default=1, help="of the market and of every chance in a scenario")
    group.addoption("--checkout", type=Path, default=None, help="have the package of another one played: a mutant")
    group.addoption("--report", type=Path, default=OUT, help="folder of the report (default: dist/hil)")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no result."""
    config.stash[results] = []


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """Give the list that results are put into."""
    yield request.config.stash[results]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, with what did not run."""
    played = session.config.stash[results]
    rig = session.config.getoption("--rig")
    told = {each.scenario for each in played}
    if not played and session.config.getoption("collectonly"):
        return
    missed = [Result(rig, name, NOT_RUN, "it was not chosen") for name in load() if name not in told]
    folder: Path = session.config.getoption("--report")
    before = {(each.rig, each.scenario) for each in _known(folder)}
    whole = keep(folder / "results.json", [*played, *(each for each in missed if (rig, each.scenario) not in before)])
    (folder / "report.html").write_text(page(whole, load(), RIGS), encoding="utf-8")
    print(f"\nhil: {folder.name}/report.html: {len(played)} of {len(load())} scenarios told of on {rig}")


def _known(folder: Path) -> list[Result]:
    return keep(folder / "results.json", []) if (folder / "results.json").exists() else []
