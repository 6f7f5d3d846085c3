"""Hardware watchdog: whether kernel and systemd both say what the configuration relies on.

A watchdog that nobody feeds, or that bites later than believed, lets a hung machine keep its quotes: so it is checked
before anything is quoted, and again from time to time. mmpi itself never opens the device; systemd does.

Invariant: "" is returned only if everything was read and everything agrees. It must not know what follows from that.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mmpi.errors import DeviceError

BCM2835: Final = "BCM2835"
MOST_BCM2835_S: Final = 15
"""It counts 20 bits of 1/65536 s (kernel, drivers/watchdog/bcm2835_wdt.c); since 6.8 more is taken, and wraps."""
PROPERTIES: Final = ("RuntimeWatchdogUSec", "RebootWatchdogUSec")
SYSTEMCTL_S: Final = 5.0
_UNITS: Final = {
    "us": 1, "μs": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000,
    "d": 86_400_000_000, "w": 604_800_000_000, "month": 2_629_800_000_000, "y": 31_557_600_000_000,
}  # fmt: skip
"""What systemd writes a time span in (systemd.time(7): a month is 30.44 days, a year 365.25), in microseconds."""
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zμµ]+)")


def ask_systemd() -> str:
    """Return what systemd says of its watchdog timers; DeviceError if it does not answer within SYSTEMCTL_S."""
    command = ["systemctl", "show", *(f"--property={name}" for name in PROPERTIES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"systemctl show: {error}") from None
    if done.returncode:
        raise DeviceError(f"systemctl show: {done.stderr.strip() or f'it ended with {done.returncode}'}")
    return done.stdout


def check(expected_s: int, sysfs_root: Path, asked: Callable[[], str] = ask_systemd) -> str:
    """Return "" if kernel and systemd both say `expected_s`, otherwise the sentence that says who does not.

    0 = this host has no watchdog: nothing is asked. It may wait SYSTEMCTL_S for systemd.
    """
    if not expected_s:
        return ""
    return _kernel(expected_s, sysfs_root / "class/watchdog/watchdog0") or _systemd(expected_s, asked)


def seconds(span: str) -> float | None:
    """Return the seconds of a time span as systemd writes it: "14s", "1min 30s", "infinity", or plain microseconds.

    None if it is none.
    """
    span = span.strip()
    if span == "infinity":
        return float("inf")
    if span.isdecimal():
        return int(span) / 1e6
    parts = _SPAN.findall(span)
    if not parts or _SPAN.sub("", span).strip() or any(unit not in _UNITS for _, unit in parts):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts) / 1e6


def _kernel(expected_s: int, folder: Path) -> str:
    try:
        identity, state, timeout = (_text(folder / name) for name in ("identity", "state", "timeout"))
    except (OSError, ValueError) as error:
        return f"watchdog.hardware_s {expected_s}: the kernel shows no hardware watchdog: {error}"
    if BCM2835 in identity.upper() and expected_s > MOST_BCM2835_S:
        return (
            f"watchdog.hardware_s {expected_s}: at most {MOST_BCM2835_S} on a {identity!r}, "
            f"which wraps round and would bite after {expected_s % (MOST_BCM2835_S + 1)} s"
        )
    if timeout != str(expected_s):
        return f"watchdog.hardware_s {expected_s}: the kernel's watchdog ({identity}) is set to {timeout} s"
    if state != "active":
        return f"watchdog.hardware_s {expected_s}: the kernel's watchdog ({identity}) is {state}: nobody feeds it"
    return ""


def _systemd(expected_s: int, asked: Callable[[], str]) -> str:
    try:
        lines = asked().splitlines()
    except DeviceError as error:
        return f"watchdog.hardware_s {expected_s}: systemd does not say what it does: {error}"
    told = dict(line.split("=", 1) for line in lines if "=" in line)
    for name in PROPERTIES:
        if name not in told:
            return f"watchdog.hardware_s {expected_s}: systemd knows no {name}"
        if seconds(told[name]) != expected_s:
            return f"watchdog.hardware_s {expected_s}: systemd's {name} is {told[name]!r}"
    return ""


def _text(path: Path) -> str:
    return path.read_text("utf-8").strip()
