"""What tests of mutants share: the patches, and the package with one of them applied."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
STOP_PATH = frozenset({"latch_without_fsync", "reconcile_skipped", "verify_step_removed", "watchdog_fed_by_a_timer"})
"""The four that the stop path is judged by."""


def copied(folder: Path, *names: str) -> None:
    """Copy folders of this checkout to where a patch can be applied."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.mmj"))


def mutate(patch: Path, folder: Path) -> None:
    """Apply a patch in a folder that has the package."""
    applied = subprocess.run(
        ["patch", "-p1", "--batch", "--fuzz=3", "-i", str(patch)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert applied.returncode == 0, f"{patch.name} fits the code no more: {applied.stdout}"
