"""What the image costs from the kernel's start to READY, beside Debian alone, and the image on an emulated Pi.

Both boots of the comparison are the second one of their card, on the same root: once as it is, once with everything
masked that Debian alone has not. Seconds are those that the machine's processors worked (the host's measure), not
those that passed: what another process on the host does is not in them.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from image_box import flashed, settle

from hil.rigs import raspi3b
from hil.rigs.raspi3b import Raspi3b
from hil.rigs.virt import Virt

pytestmark = pytest.mark.image

OURS = ("mmpi-clock", "mmpi-grow", "mmpi-guardian", "mmpi-health", "mmpi-mark-good", "mmpi-quoter", "mmpi-setup",
        "mmpi-ssh-key", "mmpi-telemetry", "mmpi-broker", "mmpi-wifi", "ssh",
        "chrony", "chrony-wait", "mosquitto", "iwd", "nftables")  # fmt: skip
TOLD = "systemd.show_status=1"
PATIENT = f"{TOLD} systemd.default_device_timeout_sec=600"
DEAREST = 6.0
"""READY costs at most so many times what Debian alone costs up to its multi-user.target."""


def measured(box: Virt, end: str) -> float:
    """Return the seconds worked from the kernel's start until the serial line says that; it is not asked."""
    box.wait_serial("Starting kernel", 120)
    began = box.cpu_seconds()
    box.wait_serial(end, 600)
    return box.cpu_seconds() - began


def test_what_ready_costs(tmp_path: Path, record_testsuite_property: Callable[[str, object], None]) -> None:
    """Processor seconds of both boots, in the results and on the terminal."""
    with flashed(tmp_path) as there:
        build, card, key = there.build, there.card, there.key
        with Virt(build, card, tmp_path, key=key) as box:
            box.wait_up()
            settle(box)
            box.power_off()
        with Virt(build, card, tmp_path, key=key, more=TOLD) as box:
            ready = measured(box, r"Started \S*mmpi-quoter\.service")
            box.wait_up()
            box.power_off()
        masks = " ".join(f"systemd.mask={name}.service" for name in OURS)
        with Virt(build, card, tmp_path, key=key, more=f"{TOLD} {masks}") as box:
            alone = measured(box, r"Reached target \S*multi-user\.target")
            assert "mmpi-quoter" not in box.serial.partition("Starting kernel")[2]
    print(f"\nprocessor seconds from the kernel's start: to READY {ready:.0f}, Debian alone {alone:.0f}")
    record_testsuite_property("ready_cpu_s", round(ready, 1))
    record_testsuite_property("debian_cpu_s", round(alone, 1))
    assert alone < ready < DEAREST * alone


def test_it_boots_on_an_emulated_pi(tmp_path: Path) -> None:
    """Its own U-Boot, SD controller and GPIO controller: slot A, a healthy boot, no failed unit, a lamp that moves.

    What happens is read from the serial line: the emulated USB network is too slow to ask in good time. Its card
    takes seconds for what a card does in no time, so devices are waited for longer than usual. Which lamp moves says
    how long it took: after 10 s without its lines the guardian latches, as it should.
    """
    with flashed(tmp_path) as there:
        there.card.put({"mmpi.toml": raspi3b.PINS.encode()})
        with Raspi3b(there.build, there.card, tmp_path, more=PATIENT) as box:
            box.lines.drive(raspi3b.ARM, 1)
            box.wait_serial(r"mmpi: slot A", 300)
            box.wait_serial(r"Reached target \S*boot-complete\.target", 900)
            assert not re.search(r"\[\S*FAILED\S*\]", box.serial), box.serial[-3000:]
            moving, end = {box.lamps()}, time.monotonic() + 60
            while len(moving) < 2 and time.monotonic() < end:
                moving.add(box.lamps())
            assert len(moving) > 1, f"no lamp moves: {moving}"
            box.cut()
        assert b"\nDONE: " in (there.card.get("mmpi-setup/RESULT.txt") or b"")
