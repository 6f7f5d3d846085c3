"""The mutants of the stop path, each installed in a rig: the scenario that its patch names must find it out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from mutant_box import MUTANTS, ROOT, STOP_PATH, copied, mutate

from hil.report import FAILED, Result
from hil.rigs.nspawn import missing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("patch", [each for each in MUTANTS if each.stem in STOP_PATH], ids=lambda patch: patch.stem)
def test_a_mutant_is_found_out(patch: Path, tmp_path: Path) -> None:
    """The scenario begins as on a sound box, and then sees a promise broken (a sound box keeps it: hil)."""
    if why := missing():
        pytest.skip(why)
    named = re.search(r"^Caught in a rig by: (\w+)\nSeen as: (.+)$", patch.read_text(), re.MULTILINE)
    assert named is not None, f"{patch.name} does not say which scenario finds it out, and how it says so"
    mutant, report = tmp_path / "mutant", tmp_path / "report"
    copied(mutant, "mmpi")
    mutate(patch, mutant)
    words = ["-q", "-p", "no:cacheprovider", "hil", "--rig", "nspawn", "--checkout", mutant, "--report", report]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-k", f"test_scenario[{named[1]}]"],
        cwd=ROOT, env=os.environ | {"COLUMNS": "400"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    told = msgspec.json.decode((report / "results.json").read_bytes(), type=list[Result])
    (found,) = [each for each in told if each.scenario == named[1]]
    assert found.result == FAILED and found.timeline["trouble_at"] is not None, found.why
    assert named[2] in found.why and "PromiseBrokenError" in done.stdout, found.why
