"""Fixtures and settings for the whole suite."""

import os
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
