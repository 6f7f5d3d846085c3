"""pytest's side of the scenarios: which rig, which seed, and the report at the end."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hil.report import FAILED, NOT_RUN, Result, keep, page, read
from hil.rigs import opening
from hil.scenarios import SHORT, load

RIGS = (*opening.RIGS, opening.BENCH)
OUT = Path(__file__).resolve().parents[1] / "dist" / "hil"
RESULT = "hil result"
ENDED = "the run was ended before it was played to its end"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the options."""
    group = parser.getgroup("hil")
    group.addoption("--rig", choices=RIGS, default="nspawn", help="the machine on which scenarios are played")
    group.addoption("--short", action="store_true", help="play a few scenarios only, in some minutes")
    group.addoption("--seed", type=int, default=1, help="of the market and of every chance in a scenario")
    group.addoption("--checkout", type=Path, default=None, help="have the package of another one played: a mutant")
    group.addoption("--report", type=Path, help="folder of the report (default: dist/hil, or dist/hil-checkout)")


def pytest_configure(config: pytest.Config) -> None:
    """Have results come together where tests are told of, wherever they are played; UsageError if that cannot be."""
    checkout: Path | None = config.getoption("--checkout")
    if checkout is not None and not (checkout / "mmpi" / "__init__.py").exists():
        raise pytest.UsageError(f"--checkout {checkout}: has no mmpi/__init__.py; allowed: a folder that has one")
    if checkout is not None and (rig := config.getoption("--rig")) != "nspawn":
        raise pytest.UsageError(f"--checkout {checkout}: --rig {rig} plays no other checkout; allowed: --rig nspawn")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Together(config), "hil-report")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not short, if that is wanted."""
    if not config.getoption("--short"):
        return
    chosen = [each for each in items if _named(each.nodeid) in SHORT]
    config.hook.pytest_deselected(items=[each for each in items if each not in chosen])
    items[:] = chosen


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """Give the list that a test's results are put into."""
    found: list[Result] = []
    yield found
    for each in found:
        request.node.user_properties.append((RESULT, msgspec.json.encode(each).decode()))


class Together:
    """Collects what was played, of several processes, too, and keeps the report with what did not run."""

    def __init__(self, config: pytest.Config) -> None:
        self._rig: str = config.getoption("--rig")
        other = config.getoption("--checkout") is not None
        self._folder: Path = config.getoption("--report") or (OUT.with_name("hil-checkout") if other else OUT)
        self._file = self._folder / "results.json"
        self._chosen: set[str] = set()
        self._told: set[str] = set()
        try:
            keep(self._file, [])
        except (OSError, ValueError) as error:
            told = f"{self._file.name} of other runs cannot be used: {error}"
            raise pytest.UsageError(f"--report {self._folder}: {told}; allowed: another folder") from None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what is going to be played."""
        self._chosen |= {name for item in session.items if (name := _named(item.nodeid))}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Remember what is going to be played, of several processes."""
        self._chosen |= {name for each in ids if (name := _named(each))}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a test's results, or why it was skipped before it had any."""
        if report.when == "teardown":
            words = [str(text) for name, text in report.user_properties if name == RESULT]
            self._keep([msgspec.json.decode(each, type=Result) for each in words])
        elif report.when == "setup" and report.outcome != "passed" and (name := _named(report.nodeid)):
            result = NOT_RUN if report.outcome == "skipped" else FAILED
            self._keep([Result(self._rig, name, result, _reason(report))])

    def _keep(self, results: list[Result]) -> None:
        self._told |= {each.scenario for each in results}
        if results:
            keep(self._file, results)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page; what other runs have played stands until it is played anew."""
        if session.config.getoption("collectonly"):
            return
        played = len(self._told)
        self._keep([Result(self._rig, name, NOT_RUN, ENDED) for name in sorted(self._chosen - self._told)])
        known = {(each.rig, each.scenario) for each in read(self._file)}
        missed = [name for name in load() if (self._rig, name) not in known]
        self._keep([Result(self._rig, name, NOT_RUN, "it was not chosen") for name in missed])
        whole = [each for each in read(self._file) if each.scenario in load()]
        (self._folder / "report.html").write_text(page(whole, load(), RIGS), encoding="utf-8")
        print(f"\nhil: {self._folder.name}/report.html: {played} of {len(load())} scenarios told of on {self._rig}")


def _reason(report: pytest.TestReport) -> str:
    """Return why a test did not begin."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
    return lines[0].removeprefix("E").strip() if lines else str(report.longrepr)[-500:]


def _named(nodeid: str) -> str:
    name = nodeid.partition("[")[2].removesuffix("]")
    return name if name in load() else ""
