"""Power cuts of the whole image: it always boots, and latch, ledger, settings and identity are what was promised."""

import os
from pathlib import Path

import pytest
from image_box import flashed
from image_cuts import run

from hil.mounts import SERVING, ensure_disk_tools
from image.debian import UnavailableError

pytestmark = pytest.mark.image

CUTS = int(os.environ.get("MMPI_IMAGE_CUTS", "10"))


def test_power_cuts(tmp_path: Path) -> None:
    """So many rounds from power on to a cut at a random place of what the round wrote; the first is the first boot."""
    try:
        ensure_disk_tools(SERVING)
    except UnavailableError as error:
        pytest.skip(f"no disk whose power can go: {error}")
    with flashed(tmp_path):
        found = run(tmp_path / "cuts", CUTS, seed=7)
    assert found.failures == []
    assert found.done == CUTS and found.promise.fills
