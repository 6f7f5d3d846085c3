"""What showing its status costs a quoter that trades, against the practice server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
ALLOWED_US = 500
BESIDE = 2
"""The machine may be half as fast beside other work: what is allowed is a quiet one's."""
MOST_STATUSES = 2.0


def test_what_a_status_costs() -> None:
    """Half a millisecond of each second at most, and no more than two statuses, with fills and two markets."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.status_cost", "--seconds", "8"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(f"\n{done.stdout}")
    form = r"(\d+) us of each second: ([\d.]+) statuses of (\d+) bytes, \d+ us each; (\d+) fills"
    found = re.match(form, done.stdout)
    assert found, done.stdout
    cost, statuses, size, fills = (float(each) for each in found.groups())
    assert fills > 5 and size > 3000
    assert statuses <= MOST_STATUSES
    assert cost <= ALLOWED_US * BESIDE
