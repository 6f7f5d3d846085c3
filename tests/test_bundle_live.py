"""A whole live practice session, real processes, in one bundle: copied elsewhere, the originals gone, it replays."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stack import KILL, RESTLESS, ROOT, Stack

from mmpi.journal.reader import read
from mmpi.journal.record import ACTION, Record

pytestmark = pytest.mark.slow

EAGER = RESTLESS | {
    "MMPI_INSTRUMENTS__BTC__LAYERED__SPREAD_PERCENT": "0.002",
    "MMPI_INSTRUMENTS__ETH__LAYERED__SPREAD_PERCENT": "0.002",
}
"""A quoter at the touch, whose orders are filled within seconds."""


def journalled(folder: Path) -> int:
    """Return how many actions a journal has."""
    return sum(isinstance(item, Record) and item.kind == ACTION for item in read(folder))


def bundled(stack: Stack, out: Path, *words: str) -> dict[str, object]:
    """Return what `mmpi journal bundle` says of the file that it made."""
    done = stack.mmpi("journal", "bundle", "--around", "now", "--before", "100000", "--out", str(out), *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def replayed(path: Path, folder: Path) -> dict[str, object]:
    """Return what `mmpi replay --verify` says of a bundle, in a process that knows nothing of the box."""
    command = [sys.executable, "-m", "mmpi", "replay", "--verify", str(path), "--json"]
    env = {"HOME": str(folder), "TMPDIR": str(folder), "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_session_replays_from_its_bundle_elsewhere(tmp_path: Path) -> None:
    """Ten seconds with fills, bundled while they run and after their end: identical actions, by that file alone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Stack(tmp_path / "box", latency_ms=20.0, more=EAGER) as stack:
        stack.start()
        stack.wait(lambda: stack.summary()["fills"] >= 5, 60, "fills")
        stack.wait(lambda: stack.summary()["events"] > 1500, 60, "some seconds of quoting")
        live = bundled(stack, elsewhere / "live.zip")
        stack.quoter.send(2)
        assert stack.quoter.wait(20) == 0
        whole = bundled(stack, elsewhere / "whole.zip")
        actions = journalled(stack.runtime / "journal")
        stack.guardian.send(KILL)
    shutil.rmtree(tmp_path / "box")
    assert actions > 100
    assert set(live["segments"]) == set(whole["segments"]) == {"memory", "ledger"}
    found = replayed(elsewhere / "whole.zip", elsewhere)
    assert (found["exact"], found["actions"], found["damage"], found["torn"]) == (True, actions, [], [])
    during = replayed(elsewhere / "live.zip", elsewhere)
    assert (during["exact"], during["damage"]) == (True, [])
    assert 100 < int(str(during["actions"])) < actions
    # The secrets of the box are in none of them.
    assert sorted(path.name for path in elsewhere.iterdir()) == ["live.zip", "whole.zip"]


def test_a_session_that_was_killed(tmp_path: Path) -> None:
    """`last-crash` finds a quoter that was killed and one that runs after it; what it had journalled replays."""
    with Stack(tmp_path / "box", latency_ms=20.0) as stack:
        stack.start()
        stack.wait(lambda: stack.summary()["events"] > 100, 30, "some seconds of quoting")
        stack.quoter.send(KILL)
        stack.quoter.wait(10)
        actions = journalled(stack.runtime / "journal")
        stack.start_quoter()
        stack.wait_quoting()
        out = tmp_path / "crash.zip"
        words = ("--around", "last-crash", "--before", "1000", "--after", "0", "--out", str(out))
        done = stack.mmpi("journal", "bundle", *words)
        assert done.returncode == 0, done.stderr
        assert "killed: it ended without a word, while the machine went on: killed, or crashed" in done.stderr
    found = replayed(out, tmp_path)
    assert found["exact"] is True
    # Segments are whole: perhaps one of the next run is in it, too.
    assert int(str(found["actions"])) >= actions
