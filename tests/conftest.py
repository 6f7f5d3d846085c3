"""Fixtures and settings for the whole suite."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

EXAMPLES = 50
"""Of each property where a test does not say: half of Hypothesis's own number, because the suite is to stay quick. A
developer's runs draw others each time; CI draws the same."""
settings.register_profile("developer", deadline=None, max_examples=EXAMPLES)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=EXAMPLES)
SLOW = ("\npytestmark = pytest.mark.slow\n", "\npytestmark = pytest.mark.image\n")
LEFT_OUT: list[str] = []
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave modules that are slow as a whole unread where only the quick ones run: their imports take seconds."""
    if config.option.markexpr.startswith("not slow") and collection_path.name.startswith("test_"):
        text = collection_path.read_text(encoding="utf-8")
        return True if any(mark in text for mark in SLOW) else None
    return None


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember that a run leaves tests of the image out: it says nothing of their files."""
    if any(item.get_closest_marker("image") for item in items):
        LEFT_OUT.append("tests left out")


@pytest.fixture(scope="session", autouse=True)
def image_tested(request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]) -> None:
    """Say in the results which image was tested, and what made its tests shorter than they are: see image.tested."""
    if any(item.get_closest_marker("image") for item in request.session.items):
        from hil.rigs.card import Build

        shortened = LEFT_OUT + [name for name in os.environ if name.startswith("MMPI_IMAGE_")]
        shortened += [each for each in request.config.args if "::" in each]
        record_testsuite_property("image", Build().key("image"))
        record_testsuite_property("shortened", ", ".join(shortened))


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
