"""mmpi backtest --report: the command line around the report."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib", reason="the research extra (matplotlib) is not installed")

from mmpi.cli import main  # noqa: E402
from mmpi.commands.backtest_report import command_line  # noqa: E402


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside no configuration of this box."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MMPI_CONFIG", raising=False)


def test_json_stays_one_line_and_names_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object on one line of stdout, nothing on stderr; its figures are the report's."""
    folder = tmp_path / "out"
    assert main(["backtest", "--seconds", "20", "--instrument", "BTC", "--json", "--report", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == ""
    told, report = json.loads(out), json.loads((folder / "report.json").read_bytes())
    assert told["report"] == str(folder)
    metrics, facts = report["metrics"], report["facts"]
    assert {key: metrics[key] for key in told["pnl"]} == told["pnl"]
    assert (metrics["fills"], facts["events"], facts["refusals"]) == (told["fills"], told["events"], told["refusals"])
    assert facts["violations"] == told["invariant_violations"] == 0
    assert facts["orders"]["placed"] == told["orders"]["placed"] > 0
    assert facts["command"] == "mmpi backtest --instrument BTC --seconds 20 --seed 7"
    texts = "".join(path.read_text() for path in folder.iterdir())
    assert str(tmp_path) not in texts


def test_a_full_folder_is_refused_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the folder, exit code 2, and no journal was begun."""
    (tmp_path / "there").write_text("x")
    assert main(["backtest", "--report", str(tmp_path), "--journal", str(tmp_path / "journal")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"mmpi backtest: --report {tmp_path}: exists and is not empty; allowed: a new or empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_command_names_files_without_their_folders() -> None:
    """Paths are cut to their last part, options without effect on the figures are left out."""
    args = Namespace(
        command="backtest", config=Path("/a/b/mine.toml"), json=True, data="/x/y/some_set", quoter="glft",
        instrument="", tick="", lot="", journal=Path("/j"), report=Path("/r"), seconds=600.0, seed=7,
    )  # fmt: skip
    assert command_line(args) == "mmpi backtest --config mine.toml --data some_set --quoter glft"


def test_without_a_report_nothing_is_drawn_and_nothing_of_it_loaded() -> None:
    """A backtest without --report imports neither matplotlib nor numpy."""
    code = (
        "import sys; from mmpi.cli import main; assert main(['backtest', '--seconds', '2', '--json']) == 0; "
        "print(sorted({'matplotlib', 'numpy', 'mmpi.research.recorder'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"
