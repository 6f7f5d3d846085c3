"""pytest's side of the scenarios: which rig, which seed, and the report at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hil.report import FAILED, NOT_RUN, Result, keep, page
from hil.scenarios import SHORT, load

RIGS = ("nspawn", "virt", "bench")
OUT = Path(__file__).resolve().parents[1] / "dist" / "hil"
RESULT = "hil result"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the options."""
    group = parser.getgroup("hil")
    group.addoption("--rig", choices=RIGS, default="nspawn", help="the machine on which scenarios are played")
    group.addoption("--short", action="store_true", help="play a few scenarios only, in some minutes")
    group.addoption("--seed", type=int, default=1, help="of the market and of every chance in a scenario")
    group.addoption("--checkout", type=Path, default=None, help="have the package of another one played: a mutant")
    group.addoption("--report", type=Path, default=OUT, help="folder of the report (default: dist/hil)")


def pytest_configure(config: pytest.Config) -> None:
    """Have results come together where tests are told of, wherever they are played."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Together(config), "hil-report")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not short, if that is wanted."""
    if not config.getoption("--short"):
        return
    chosen = [each for each in items if getattr(each, "callspec", None) and _scenario(each) in SHORT]
    config.hook.pytest_deselected(items=[each for each in items if each not in chosen])
    items[:] = chosen


def _scenario(item: Any) -> object:
    return item.callspec.params.get("name")


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """Give the list that a test's results are put into."""
    found: list[Result] = []
    yield found
    for each in found:
        request.node.user_properties.append((RESULT, msgspec.json.encode(each).decode()))


class Together:
    """Collects what was played, of several processes, too, and writes the report with what did not run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._rig = config, config.getoption("--rig")
        self._played: list[Result] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's results, or why it was skipped before it had any."""
        if report.when == "teardown":
            words = [str(text) for name, text in report.user_properties if name == RESULT]
            self._played += [msgspec.json.decode(each, type=Result) for each in words]
        elif report.when == "setup" and report.outcome != "passed" and (name := _named(report.nodeid)):
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr).splitlines()[-1]
            result = NOT_RUN if report.outcome == "skipped" else FAILED
            self._played.append(Result(self._rig, name, result, why.removeprefix("Skipped: ")))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write it; what is in the folder of other runs stands until it is played anew."""
        if session.config.getoption("collectonly"):
            return
        folder: Path = self._config.getoption("--report")
        known = keep(folder / "results.json", []) if (folder / "results.json").exists() else []
        told = {(self._rig, each.scenario) for each in self._played} | {(each.rig, each.scenario) for each in known}
        missed = [Result(self._rig, name, NOT_RUN, "it was not chosen") for name in load()]
        missed = [each for each in missed if (each.rig, each.scenario) not in told]
        whole = [each for each in keep(folder / "results.json", [*self._played, *missed]) if each.scenario in load()]
        (folder / "report.html").write_text(page(whole, load(), RIGS), encoding="utf-8")
        told_of = f"{len(self._played)} of {len(load())} scenarios told of on {self._rig}"
        print(f"\nhil: {folder.name}/report.html: {told_of}")


def _named(nodeid: str) -> str:
    name = nodeid.partition("[")[2].removesuffix("]")
    return name if name in load() else ""
