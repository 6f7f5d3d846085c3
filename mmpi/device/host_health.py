"""Host health: whether the machine is fit to quote, by what its kernel says of heat, supply, load, memory and disk.

A reading that cannot be had, or is older than STALE, is no cause: it is told as UNAVAILABLE, and never made up.
docs/host.md explains the numbers.

Invariant: `present` and `status` never touch a file; whatever may wait happens in `sample`.
It must not know what a cause leads to.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

UNAVAILABLE: Final = "UNAVAILABLE"
STALE: Final[Nanos] = 10 * SECOND
"""Five rounds of 2 s: what nobody could read for so long is not known any more."""
HOLD: Final[Nanos] = 30 * SECOND
"""How long undervoltage and throttling count after they were last seen: the kernel forgets them within 2 s."""
COOLER_C: Final = 5.0
"""How far below its limit the temperature has to fall before its pause ends."""
EASIER: Final = 1.25
"""How many times its limit memory or disk space has to reach before its pause ends."""
CALMER_PERCENT: Final = 10.0
"""How far below its limit the load has to fall before its pause ends."""
MINUTE: Final[Nanos] = 60 * SECOND
MB: Final = 2**20
COLDEST_C: Final = -40.0
HOTTEST_C: Final = 150.0
"""A sensor that says anything outside these is broken: the range of the silicon is -40 to 125."""

UNDERVOLTAGE_NOW: Final = 1 << 0
THROTTLED_NOW: Final = 1 << 2
"""Bits of get_throttled (Raspberry Pi documentation, vcgencmd). Bit 3, the soft limit, a 3B+ sets at 60 degrees."""

_Value: TypeAlias = float | bool
FIGURES: Final = {
    "cpu": "cpu_percent",
    "memory": "memory_mb",
    "temperature": "temperature_c",
    "disk": "disk_free_mb",
    "undervoltage": "undervoltage",
    "throttled": "throttled",
    "uptime": "uptime_s",
}
"""What is read -> its name in `status`; all but the uptime are causes, too."""


class HostLimits(msgspec.Struct, frozen=True):
    """When the machine is not fit to quote; 0 or False = it is told, and nothing more."""

    max_temperature_c: float = 80.0
    max_cpu_percent: float = 95.0
    min_memory_mb: float = 40.0
    min_disk_mb: float = 64.0
    undervoltage_pauses: bool = True
    throttled_pauses: bool = True


class _Fact(msgspec.Struct, frozen=True):
    """A reading, when it was read, and what is wrong with it ("" = nothing)."""

    value: _Value
    at: Nanos
    wrong: str = ""


class HostHealth:
    """Reads one machine; `sample` belongs in a thread, the others may be called from another at any time."""

    def __init__(
        self,
        limits: HostLimits,
        state_dir: Path,
        *,
        sysfs_root: Path = Path("/sys"),
        proc_root: Path = Path("/proc"),
        clock: Callable[[], Nanos] = time.monotonic_ns,
    ) -> None:
        """`state_dir`: the folder whose disk must not fill up; `clock` is the one that `present` is asked by."""
        self._limits: Final = limits
        self._state_dir: Final = state_dir
        self._sysfs: Final = sysfs_root
        self._proc: Final = proc_root
        self._clock: Final = clock
        self._facts: Mapping[str, _Fact] = {}
        self._why: Mapping[str, str] = dict.fromkeys(FIGURES, "not read yet")
        self._last_bad: dict[str, Nanos] = {}
        self._load: Final[deque[tuple[Nanos, float, float]]] = deque()
        """(time, busy seconds, all seconds) of the processors, a second apart at least, over a minute."""

    def sample(self) -> None:
        """Read everything once; what cannot be read keeps its last value until that is STALE."""
        readers: dict[str, Callable[[], _Value]] = {
            "cpu": self._cpu_percent,
            "memory": self._memory_mb,
            "temperature": lambda: temperature_c(self._sysfs),
            "disk": self._disk_free_mb,
            "undervoltage": lambda: undervoltage(self._sysfs),
            "throttled": lambda: bool(throttled_bits(self._sysfs) & THROTTLED_NOW),
            "uptime": lambda: float((self._proc / "uptime").read_text("ascii").split()[0]),
        }
        facts, why = dict(self._facts), {}
        for name, read in readers.items():
            try:
                value = read()
            except (DeviceError, OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
                # The last three are what psutil makes of a procfs that it does not understand.
                why[name] = str(error)
                continue
            now = self._clock()
            facts[name] = _Fact(value, now, self._wrong(name, value, now))
        self._facts, self._why = facts, why

    def present(self, now: Nanos) -> dict[str, str]:
        """Return the causes of the last sample: name -> what is wrong."""
        facts = self._facts
        return {name: fact.wrong for name, fact in facts.items() if fact.wrong and now - fact.at <= STALE}

    def status(self) -> dict[str, Any]:
        """Return the figures by their names; one that is not known is UNAVAILABLE, and `unavailable` says why."""
        now, facts, reasons = self._clock(), self._facts, self._why
        figures: dict[str, Any] = {}
        unavailable: dict[str, str] = {}
        for name, figure in FIGURES.items():
            fact = facts.get(name)
            if fact is not None and now - fact.at <= STALE:
                figures[figure] = fact.value if isinstance(fact.value, bool) else round(fact.value, 1)
            else:
                figures[figure] = UNAVAILABLE
                unavailable[figure] = reasons.get(name, "not read for too long")
        return {**figures, "unavailable": unavailable}

    # Judging ------------------------------------------------------------------------------------------------------

    def _wrong(self, name: str, value: _Value, now: Nanos) -> str:
        """Return what is wrong with a reading, "" = nothing; what was wrong before has farther to go."""
        limits = self._limits
        before = self._facts.get(name)
        again = before is not None and bool(before.wrong) and now - before.at <= STALE
        if name == "temperature":
            return _above(value, limits.max_temperature_c, COOLER_C if again else 0.0, "degrees Celsius")
        if name == "cpu":
            whole = self._load[-1][0] - self._load[0][0] >= MINUTE
            return _above(value, limits.max_cpu_percent, CALMER_PERCENT if again else 0.0, "% busy") if whole else ""
        if name == "memory":
            return _below(value, limits.min_memory_mb, EASIER if again else 1.0, "MB of memory available")
        if name == "disk":
            return _below(value, limits.min_disk_mb, EASIER if again else 1.0, f"MB free in {self._state_dir}")
        if name == "undervoltage" and limits.undervoltage_pauses:
            return self._held(name, bool(value), now, "the supply is too weak, the kernel says")
        if name == "throttled" and limits.throttled_pauses:
            return self._held(name, bool(value), now, "the processor is being slowed down, the kernel says")
        return ""

    def _held(self, name: str, bad: bool, now: Nanos, words: str) -> str:
        if bad:
            self._last_bad[name] = now
        return words if name in self._last_bad and now - self._last_bad[name] <= HOLD else ""

    # Reading what psutil knows ------------------------------------------------------------------------------------

    def _psutil(self) -> Any:
        """Return psutil, told where procfs is. It takes 1 MB and 20 ms, so nobody has it who does not sample."""
        import psutil

        psutil.PROCFS_PATH = str(self._proc)
        return psutil

    def _cpu_percent(self) -> float:
        """Return how busy all processors were over the last minute, or since the first sample."""
        times = self._psutil().cpu_times()
        # The kernel counts a guest's time in user's as well (proc(5)).
        total = sum(times) - times.guest - times.guest_nice
        now = self._clock()
        if not self._load or now - self._load[-1][0] >= SECOND:
            self._load.append((now, total - times.idle - times.iowait, total))
        while len(self._load) > 2 and now - self._load[1][0] >= MINUTE:
            self._load.popleft()
        (_, busy, since), (_, busier, until) = self._load[0], self._load[-1]
        if until <= since:
            raise DeviceError("the first two samples are still to come")
        return float(min(100.0, max(0.0, 100 * (busier - busy) / (until - since))))

    def _memory_mb(self) -> float:
        return float(self._psutil().virtual_memory().available / MB)

    def _disk_free_mb(self) -> float:
        return float(self._psutil().disk_usage(str(self._state_dir)).free / MB)


def temperature_c(sysfs: Path) -> float:
    """Return the processor's temperature; without a zone of its own the hottest zone's. DeviceError if there is none.

    A Pi's zone is called cpu-thermal (kernel, bcm283x.dtsi and bcm2711.dtsi), in older kernels cpu_thermal.
    """
    folder = sysfs / "class/thermal"
    zones = sorted(folder.glob("thermal_zone*"))
    named = [zone for zone in zones if _text(zone / "type").replace("_", "-") == "cpu-thermal"]
    told = [value for zone in named or zones if (value := _zone_c(zone)) is not None]
    if not told:
        raise DeviceError(f"{folder}: no {'thermal zone' if not zones else 'zone'} tells a temperature")
    return max(told)


def undervoltage(sysfs: Path) -> bool:
    """Return whether the supply was too weak within the kernel's last 2 s; DeviceError if nobody looks.

    Source: kernel, drivers/hwmon/raspberrypi-hwmon.c: in0_lcrit_alarm is the firmware's sticky bit 16, which the driver
    asks for and clears every 2 s. (Bit 0 of the vendor's get_throttled comes out of the same question.)
    """
    folder = sysfs / "class/hwmon"
    for name in sorted(folder.glob("hwmon*/name")):
        if _text(name) == "rpi_volt":
            return int((name.parent / "in0_lcrit_alarm").read_text("ascii")) != 0
    if _throttled_file(sysfs) is not None:
        return bool(throttled_bits(sysfs) & UNDERVOLTAGE_NOW)
    raise DeviceError(f"{folder}: no rpi_volt, the sensor of a Raspberry Pi")


def throttled_bits(sysfs: Path) -> int:
    """Return the bits of get_throttled; DeviceError where the kernel is not the vendor's, which alone tells them.

    Source: raspberrypi/linux, drivers/firmware/raspberrypi.c: what the firmware last answered, in hex without 0x.
    """
    path = _throttled_file(sysfs)
    if path is None:
        raise DeviceError(f"{sysfs / 'devices/platform'}: no get_throttled: not the Raspberry Pi vendor's kernel")
    return int(path.read_text("ascii"), 16)


def _throttled_file(sysfs: Path) -> Path | None:
    return next(iter(sorted(sysfs.glob("devices/platform/soc*/*firmware/get_throttled"))), None)


def _zone_c(zone: Path) -> float | None:
    """Return what a thermal zone says, None if that is nothing (a sleeping device's says ENODATA) or nonsense."""
    try:
        value = int((zone / "temp").read_text("ascii")) / 1000
    except (OSError, ValueError):
        return None
    return value if COLDEST_C <= value <= HOTTEST_C else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _above(value: float, limit: float, margin: float, unit: str) -> str:
    return f"{value:.0f} {unit} (allowed: {limit:g})" if limit and value > limit - margin else ""


def _below(value: float, limit: float, factor: float, unit: str) -> str:
    return f"{value:.0f} {unit} (needed: {limit:g})" if limit and value < limit * factor else ""
