"""Report: everything a reader needs in three forms, whole or not at all, and the same for the same run."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from report_builders import five_fills, random_walk

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib", reason="the research extra (matplotlib) is not installed")

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.research.recorder import Recorder  # noqa: E402
from mmpi.research.report import MONEY_LIMITS, Report, build, check_folder, facts_of, write  # noqa: E402
from mmpi.risk import RiskConfig  # noqa: E402
from mmpi.sim.exchange import SimConfig  # noqa: E402

FIGURES = ("equity", "inventory", "fills", "markouts", "limit")


def report_of(recorder: Recorder) -> Report:
    """Return the report of a story."""
    tally = {"off_tick": 17}
    facts = facts_of(recorder, command="mmpi backtest --data story", data="story", sim=SimConfig(seed=42), tally=tally)
    return build(facts, recorder)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the five-fill story's report."""
    folder = tmp_path_factory.mktemp("reports") / "new" / "story"
    recorder = five_fills()
    write(folder, report_of(recorder), recorder)
    return folder


def test_all_files_are_there(written: Path) -> None:
    """Three forms and five drawings; nothing is left beside the folder; others may read it."""
    names = {path.name for path in written.iterdir()}
    assert names == {"report.md", "report.html", "report.json", *(f"{name}.svg" for name in FIGURES)}
    assert [path.name for path in written.parent.iterdir()] == ["story"]
    assert written.stat().st_mode & 0o755 == 0o755


def test_json_is_the_report(written: Path) -> None:
    """report.json decodes into the very struct, money exact, under a schema number."""
    data = (written / "report.json").read_bytes()
    assert msgspec.json.decode(data, type=Report) == report_of(five_fills())
    content = json.loads(data)
    assert content["schema"] == 1
    assert content["metrics"]["total"] == "2"
    assert content["facts"]["risk"]["max_position"] == "2100"
    assert content["facts"]["sim"]["seed"] == 42


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_both_texts_say_everything(written: Path, name: str) -> None:
    """Verdicts, exact profit, ratios with their interval, and all that decided the run stand in both texts."""
    text = (written / name).read_text().replace("\\", "")
    for wanted in (
        "Backtest: layered on A", "Sharpe ratio", "Max drawdown", "Win rate", "Profit per fill", "Inventory turnover",
        "Time at max inventory", "not meaningful", "The identity holds exactly", "1 returns of 60 s", "365 days",
        "profit factor", "max drawdown", "adverse selection, first 30 s", "stationary bootstrap", "turnover",
        "mmpi backtest --data story", "spread_percent", "max_position", "queue", "maker_fee_bps", "latency_in_ms",
        "patience_s", "off_tick", "17", "2023-11-14 22:13:20 UTC", "own_orders_crossed",
        "violations of the profit identity", "Orders refused by risk", "tick", "lot", "0.1.0+",
    ):  # fmt: skip
        assert wanted in text, wanted


def test_markdown_shows_the_drawings_beside_it(written: Path) -> None:
    """Every image that report.md names is in the folder."""
    images = re.findall(r"\]\(([^)]+)\)", (written / "report.md").read_text())
    assert images == [f"{name}.svg" for name in FIGURES]
    assert all((written / image).is_file() for image in images)


def test_the_page_needs_nothing_else(written: Path) -> None:
    """The page links to itself only: no file, no host, no script; five drawings are in it."""
    text = (written / "report.html").read_text()
    assert text.count("<svg ") == 5
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', text)
    assert all((one or other).startswith("#") for one, other in links)
    assert "<script" not in text
    assert "@import" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    """A second run, written elsewhere: every file is equal."""
    recorder = five_fills()
    write(tmp_path / "other", report_of(recorder), recorder)
    for path in written.iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_an_empty_folder_is_taken_and_anything_else_is_refused(tmp_path: Path) -> None:
    """New or empty: fine. A file, a folder with something in it, no permission: one line that names it."""
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "deep")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder, why in (
        (tmp_path, "exists and is not empty; allowed: a new or empty folder"),
        (tmp_path / "file", "exists and is no folder; allowed: a new or empty folder"),
        (tmp_path / "link", "exists and is no folder; allowed: a new or empty folder"),
        (tmp_path / "file" / "deep", f"cannot be made, {tmp_path / 'file'} is not a folder that may be written"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_folder(folder)
        assert str(caught.value) == f"--report {folder}: {why}"


def test_nothing_is_written_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle: an error, no folder, and nothing left of it."""
    recorder, real, count = five_fills(), Path.write_text, 0

    def full(path: Path, *args: object, **named: object) -> int:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(28, "No space left on device")
        return real(path, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        write(tmp_path / "story", report_of(recorder), recorder)
    assert list(tmp_path.iterdir()) == []


def test_every_money_limit_is_told_as_money() -> None:
    """The integers of RiskConfig that are no counts are exactly those that are shown in quote currency."""
    integers = {field.name for field in msgspec.structs.fields(RiskConfig) if isinstance(field.default, int)}
    assert integers - MONEY_LIMITS == {
        "order_burst", "max_open_orders", "max_fills_per_minute", "flatten_attempts", "session_start_s",
    }
    assert integers >= MONEY_LIMITS


def test_memory_is_bounded() -> None:
    """However long the run, the recorder keeps no more than its bounds, and the report still counts every fill."""
    recorder = random_walk(500, max_samples=40, max_fills=30)
    log = recorder.traces["A"].log
    assert len(recorder.ts) <= 41
    assert len(log.ts) <= 30
    report = report_of(recorder)
    assert report.metrics.fills == log.number > 90
    assert report.instruments["A"].listed_fills == len(log.ts)
    assert report.metrics.trips == report_of(random_walk(500)).metrics.trips
