"""Mutants: changes that take a safety away. Each patch under tests/mutants names the test that must catch it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutant_box import MUTANTS, ROOT, STOP_PATH, copied, mutate

pytestmark = pytest.mark.slow


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run one test against the package in a folder."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_mutants_are_there() -> None:
    """The four that the stop path is judged by are among them."""
    assert {patch.stem for patch in MUTANTS} >= STOP_PATH


@pytest.mark.parametrize("patch", MUTANTS, ids=lambda patch: patch.stem)
def test_a_mutant_is_caught(patch: Path, tmp_path: Path) -> None:
    """The named test passes on the package as it is, and fails on the mutant, in its own assertions."""
    test = re.search(r"^Caught by: (\S+)$", patch.read_text(), re.MULTILINE)
    assert test is not None, f"{patch.name} does not say which test catches it"
    copied(tmp_path, "mmpi", "tests", "docs")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    healthy = run(tmp_path, test[1])
    assert healthy.returncode == 0, healthy.stdout[-2000:]
    mutate(patch, tmp_path)
    mutated = run(tmp_path, test[1])
    assert mutated.returncode == 1 and re.search(r"\d+ failed", mutated.stdout), mutated.stdout[-2000:]
    assert "error" not in mutated.stdout.splitlines()[-1], mutated.stdout[-2000:]
