"""Clock: an emulated machine's clock, put where it is wanted, with the kernel's word that somebody keeps it there.

    stop_keeping(box)
    set_clock(box, 0.0)

Invariant: the kernel is told in the same breath in which the clock moves, so that no other word of its is ever between.
It must not know why a clock is wrong.
"""

import time
from typing import Final

from hil.rigs.virt import Virt

NEAR_S: Final = 0.3
UNSURE_S: Final = 0.5
"""Together within the second that is allowed."""
TRIES: Final = 10
ASKED: Final = 3
PYTHON: Final = "/usr/lib/mmpi/bin/python"
_STEP: Final = """
import ctypes, os, sys, time
sys.path.insert(0, "/usr/lib/mmpi/lib/python3.13/site-packages")
from mmpi.device.clock_sync import Timex
known, libc = Timex(), ctypes.CDLL("libc.so.6")
known.modes = 0x4 | 0x8 | 0x10
step = {step!r}
if step:
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) + step)
told = libc.adjtimex(ctypes.byref(known))
os._exit(told < 0)
"""
"""What a time daemon does and tells the kernel once it knows: no error, no STA_UNSYNC (adjtimex(2))."""


def stop_keeping(box: Virt) -> None:
    """End the box's own time daemon: it has no server here, and would say so."""
    box.check("systemctl stop chrony")


def ahead(box: Virt) -> tuple[float, float]:
    """Return how far the box's clock is ahead of ours, and how far that may be off: half the time that asking took."""
    found = []
    for _ in range(ASKED):
        began = time.time()
        told = float(box.check("date +%s.%N"))
        took = time.time() - began
        found.append((took / 2, told - began - took / 2))
    half, by = min(found)
    return by, half


def set_clock(box: Virt, ahead_s: float) -> None:
    """Set the box's clock so far ahead of ours; its kernel then holds it for right.

    A clock that is to be wrong is so when this returns, and was not long before.
    """
    step = ahead_s - ahead(box)[0]
    for _ in range(TRIES):
        box.check(f"{PYTHON} -", data=_STEP.format(step=step if abs(step) > NEAR_S / 2 else 0.0).encode())
        if ahead_s:
            return
        by, half = ahead(box)
        if abs(by) < NEAR_S and half < UNSURE_S:
            return
        step = -by
    raise AssertionError(f"the clock is {-step:.1f} s off")
