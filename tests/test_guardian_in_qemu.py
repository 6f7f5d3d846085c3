"""The whole guardian on a kernel's real GPIO chip: Debian's arm64 kernel and Python, buttons driven from outside."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hil.virtual_pi import VirtualPi
from image.archive import file
from image.debian import UnavailableError

pytestmark = pytest.mark.slow

POWER, ARM, RED, SECOND, KILL, GREEN, AMBER = 0, 1, 2, 4, 5, 6, 7
"""Line 3 is the emulator's own power button."""
PINS = {
    "BACKEND": "gpiod", "CHIP": "/dev/gpiochip0", "KILL": KILL, "KILL_SECOND": SECOND, "ARM": ARM, "GREEN": GREEN,
    "AMBER": AMBER, "RED": RED, "POWER": POWER,
}  # fmt: skip
GUARD = """
import asyncio, sys
from pathlib import Path
from mmpi.commands.guard import _guard
from mmpi.sections import Box, load_resolved
asyncio.run(_guard(load_resolved(Path(sys.argv[1]), Box)))
"""
"""`mmpi guardian` without its check of the configuration, which was made outside: the guest has no pydantic."""


def resolved(folder: Path, **pins: object) -> str:
    """Return the resolved configuration of a paper box with these pins."""
    settings = {f"MMPI_PINS__{key}": str(value) for key, value in (PINS | pins).items()}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "MMPI_PATHS__STATE_DIR": "/var/lib/mmpi",
           "MMPI_PATHS__RUNTIME_DIR": str(folder / "run"), "MMPI_POWER__SOURCE": "pin", **settings}  # fmt: skip
    subprocess.run([sys.executable, "-m", "mmpi", "check", "--resolve"], env=env, check=True, stdout=subprocess.DEVNULL)
    content = json.loads((folder / "run" / "config.json").read_text())
    content["paths"]["runtime_dir"] = "/run/mmpi"
    return json.dumps(content)


def healthy(pi: VirtualPi) -> None:
    """Drive every input as a box without trouble has it: the chip has no pulls."""
    for line, level in ((KILL, 0), (SECOND, 1), (ARM, 1), (POWER, 1)):
        pi.drive(line, level)


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPi]:
    """Give a guest with a guardian that was never armed."""
    folder = tmp_path_factory.mktemp("qemu")
    files = {
        "opt/guard.py": file(GUARD),
        "etc/config.json": file(resolved(folder)),
        "etc/missing.json": file(resolved(folder, CHIP="/dev/gpiochip7")),
    }
    with ExitStack() as stack:
        try:
            made = stack.enter_context(VirtualPi(files=files))
        except UnavailableError as error:
            pytest.skip(f"no virtual Pi: {error}")
        healthy(made)
        made.run("mkdir -p /run/mmpi /var/lib/mmpi")
        made.start("python3 /opt/guard.py /etc/config.json & GUARDIAN=$!")
        made.wait_serial("listening on")
        yield made


def test_latched_and_armed_by_hand(pi: VirtualPi) -> None:
    """Never armed the red lamp blinks evenly; the arm button, held 3 s on the wire, arms; then red is dark."""
    pi.wait_serial("zero orders, verified")
    assert pi.changes(RED, 4) == 4, pi.serial
    assert pi.changes(GREEN, 1, 1.0) == 0
    pi.drive(ARM, 0)
    pi.wait_serial("arm button held 3 s: armed")
    pi.drive(ARM, 1)
    pi.wait_serial("run\n")
    assert pi.changes(AMBER, 4) == 4, "it waits for a quoter"
    assert pi.changes(RED, 1, 2.5) == 0 and pi.output(RED) == 0


def test_a_press_on_the_wire_latches(pi: VirtualPi) -> None:
    """The contact opens: latched, on the guest's disk, within the time of two samples and the emulator's own."""
    began = time.monotonic()
    pi.drive(KILL, 1)
    pi.drive(SECOND, 0)
    pi.wait_serial("latched: kill_button")
    print(f"contact to the guardian's word on the serial line: {(time.monotonic() - began) * 1000:.0f} ms")
    assert time.monotonic() - began < 2
    file_ = "/var/lib/mmpi/latch.json"
    stored = f"until grep -q '\"latched\"' {file_}; do sleep 0.1; done; cat {file_}"
    status, text = pi.run(stored, 20)
    assert status == 0 and "kill_button" in text
    pi.drive(ARM, 0)
    pi.wait_serial("arm button held 3 s: kill_")
    pi.drive(ARM, 1)
    healthy(pi)


def test_mains_on_the_wire(pi: VirtualPi) -> None:
    """Armed again, the supply's wire goes low: paused with the reason; high again it goes on."""
    time.sleep(2.0)
    pi.drive(ARM, 0)
    pi.wait_serial("arm button held 3 s: armed")
    pi.drive(ARM, 1)
    pi.wait_serial("run\n")
    pi.drive(POWER, 0)
    pi.wait_serial("paused: power")
    pi.drive(POWER, 1)
    pi.wait_serial("run\n", 60)


def test_memory_and_idle_time_on_the_devices_python(pi: VirtualPi) -> None:
    """CPython 3.13 on arm64 with real pins: below 45 MB, and next to no time while nothing happens."""
    _, before = pi.run("cat /proc/$GUARDIAN/stat; cat /proc/uptime")
    time.sleep(5)
    _, after = pi.run("cat /proc/$GUARDIAN/stat; cat /proc/uptime; cat /proc/$GUARDIAN/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", after)
    assert found is not None
    rss_mb = int(found[1]) * 1024 / 1e6

    def used(text: str) -> tuple[float, float]:
        stat, uptime = text.splitlines()[0].rpartition(")")[2].split(), text.splitlines()[1].split()
        return (int(stat[11]) + int(stat[12])) / 100, float(uptime[0])

    (cpu0, up0), (cpu1, up1) = used(before), used(after)
    print(f"guardian on arm64: {rss_mb:.1f} MB; {100 * (cpu1 - cpu0) / (up1 - up0):.1f}% of an emulated core")
    assert rss_mb <= 45


def test_a_missing_chip_latches(pi: VirtualPi) -> None:
    """Without its chip the guardian starts, waits 10 s, and latches with a sentence that names it."""
    pi.run("kill $GUARDIAN; wait $GUARDIAN")
    pi.run("rm -rf /run/mmpi; mkdir -p /run/mmpi")
    pi.start("python3 /opt/guard.py /etc/missing.json & GUARDIAN=$!")
    pi.wait_serial("listening on")
    said = pi.wait_serial(r"latched: pins: [^\n]*\n", 60)
    assert "/dev/gpiochip7" in said, said
    pi.run("kill $GUARDIAN; wait $GUARDIAN")
