"""Live, an arming is for one account and one configuration; a box may be told to latch at each boot. Real processes."""

import re
from pathlib import Path

import pytest
from test_live import LiveBox

from mmpi.device.latch import Latch

pytestmark = pytest.mark.slow


def live_box(folder: Path, **more: str) -> LiveBox:
    """Return a box for the practice server over TLS that takes it for the real one."""
    live = {"MMPI_VENUE__MODE": "live", "MMPI_CLOCK__REQUIRE_SYNC": "false"}
    return LiveBox(folder, "--tls", "--tls-dir", str(folder / "tls"), more=live | more)


def begin(box: LiveBox) -> None:
    """Start server and guardian."""
    box.start_server()
    found = re.search(r"CA file (\S+?)[;)]", box.server.said())
    assert found is not None, box.server.said()
    box._more["MMPI_VENUE__CA_FILE"] = found[1]
    box.start_guardian()


def again(box: LiveBox, **more: str) -> None:
    """End the guardian, and start it with other settings."""
    box.guardian.send(15)
    box.guardian.wait(10)
    box._more.update(more)
    box.start_guardian()


def test_another_configuration_or_account_wants_another_arming(tmp_path: Path) -> None:
    """Armed, killed and started again the box goes on; with another limit, or another account, it is latched."""
    with live_box(tmp_path) as box:
        begin(box)
        box.arm()
        assert len(Latch(box.state / "latch.json").load().scope) == 64
        again(box)
        assert box.status()["latch"] == "armed"
        again(box, MMPI_RISK__MAX_ORDER="400")
        assert (box.status()["latch"], box.status()["cause"]) == ("latched", "not_armed_here")
        refused = box.mmpi("run")
        assert refused.returncode == 3 and "not_armed_here" in refused.stderr
        box.arm()
        box.start_quoter()
        box.wait(lambda: box.summary().get("state") == "quoting", 20, "quoting")
        box.guardian.send(9)
        box.guardian.wait(5)
        box.start_guardian()
        assert box.status()["latch"] == "armed"


def test_arming_without_a_guardian_is_for_the_same(tmp_path: Path) -> None:
    """`mmpi arm` by itself arms for account and configuration, too; without pins only."""
    with live_box(tmp_path) as box:
        box.start_server()
        found = re.search(r"CA file (\S+?)[;)]", box.server.said())
        assert found is not None
        box._more["MMPI_VENUE__CA_FILE"] = found[1]
        assert box.mmpi("arm").returncode == 0
        box.start_guardian()
        assert box.status()["latch"] == "armed"
        box.guardian.end()
        box._more["MMPI_PINS__BACKEND"] = "virtual"
        refused = box.mmpi("arm")
        assert refused.returncode == 3 and "hold the button" in refused.stderr


def boot(folder: Path, number: int) -> None:
    """Have the machine booted, as far as procfs tells."""
    file = folder / "proc" / "sys" / "kernel" / "random" / "boot_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"0000000{number}-0000-4000-8000-000000000000\n")


def test_resume_after_boot(tmp_path: Path) -> None:
    """false: armed and booted anew it is latched, merely started again it is not; true: it goes on either way."""
    boot(tmp_path, 1)
    more = {"MMPI_GUARDIAN__RESUME_AFTER_BOOT": "false", "MMPI_HOST__PROC_ROOT": str(tmp_path / "proc"),
            "MMPI_VENUE__MODE": "practice"}  # fmt: skip
    with LiveBox(tmp_path, more=more) as box:
        box.start_server()
        box.start_guardian()
        box.wait(lambda: (box.state / "boot.json").exists(), 5, "the record of the boot")
        box.arm()
        again(box)
        assert box.status()["latch"] == "armed"
        boot(tmp_path, 2)
        again(box)
        assert (box.status()["latch"], box.status()["cause"]) == ("latched", "booted")
        box.wait(lambda: "00000002" in (box.state / "boot.json").read_text(), 5, "the record of this boot")
        box.arm()
        again(box)
        assert box.status()["latch"] == "armed"
        boot(tmp_path, 3)
        again(box, MMPI_GUARDIAN__RESUME_AFTER_BOOT="true")
        assert box.status()["latch"] == "armed"
