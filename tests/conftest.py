"""Fixtures and settings for the whole suite."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of recorded market data, which lies beside the project and is no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no recorded market data: ../shared/data is not on this machine")
    return folder


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Give a process that does nothing, to be frozen and killed."""
    process = subprocess.Popen([sys.executable, "-Sc", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()
