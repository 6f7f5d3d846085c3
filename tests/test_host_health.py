"""Host health: what the kernel says of heat, supply, load, memory and disk, and when that is a cause."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mmpi.causes import CAUSES
from mmpi.device.host_health import (
    FIGURES,
    HOLD,
    STALE,
    UNAVAILABLE,
    HostHealth,
    HostLimits,
    temperature_c,
    throttled_bits,
    undervoltage,
)
from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

EVERY: Nanos = 2 * SECOND


class Machine:
    """A sysfs and a procfs that say what they are told, and a clock."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.proc, self.state = root / "sys", root / "proc", root / "state"
        self.now: Nanos = 1000 * SECOND
        self.busy = self.idle = 0
        self.state.mkdir(parents=True)
        self.proc.mkdir()
        self.load(0)
        self.memory_mb(500)
        self.write(self.proc / "uptime", "3600.25 7000.00")

    def write(self, path: Path, text: str) -> None:
        """Let a file of the kernel say something."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def zone(self, temperature: str, kind: str = "cpu-thermal", number: int = 0) -> None:
        """Have a thermal zone."""
        folder = self.sysfs / f"class/thermal/thermal_zone{number}"
        self.write(folder / "type", kind)
        self.write(folder / "temp", temperature)

    def volts(self, alarm: str, number: int = 0, name: str = "rpi_volt") -> None:
        """Have a voltage sensor."""
        self.write(self.sysfs / f"class/hwmon/hwmon{number}/name", name)
        self.write(self.sysfs / f"class/hwmon/hwmon{number}/in0_lcrit_alarm", alarm)

    def throttled(self, bits: str, place: str = "soc/soc:firmware") -> None:
        """Have the vendor's kernel."""
        self.write(self.sysfs / "devices/platform" / place / "get_throttled", bits)

    def memory_mb(self, available: int) -> None:
        """Have so much memory."""
        sizes = {"MemTotal": 1_000_000, "MemFree": 1000, "MemAvailable": available * 1024}
        others = dict.fromkeys(("Buffers", "Cached", "Shmem", "Active", "Inactive"), 0)
        self.write(self.proc / "meminfo", "\n".join(f"{name}: {kb} kB" for name, kb in (sizes | others).items()))

    def load(self, percent: int, seconds: int = 2) -> None:
        """Let so many seconds pass on one processor that is so busy; a second has 100 ticks."""
        self.busy += percent * seconds
        self.idle += (100 - percent) * seconds
        self.write(self.proc / "stat", f"cpu  {self.busy} 0 0 {self.idle} 0 0 0 0 0 0")

    def health(self, **limits: Any) -> HostHealth:
        """Return its health, with every limit off that is not given."""
        off = {"max_temperature_c": 0, "max_cpu_percent": 0, "min_memory_mb": 0, "min_disk_mb": 0}
        off |= {"undervoltage_pauses": False, "throttled_pauses": False}
        return HostHealth(
            HostLimits(**{**off, **limits}), self.state,
            sysfs_root=self.sysfs, proc_root=self.proc, clock=lambda: self.now,
        )  # fmt: skip

    def causes(self, health: HostHealth, after: Nanos = EVERY) -> dict[str, str]:
        """Return the causes of a sample that is taken later."""
        self.now += after
        health.sample()
        return health.present(self.now)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give a machine with neither sensors nor troubles."""
    return Machine(tmp_path)


def disk_free(machine: Machine, monkeypatch: pytest.MonkeyPatch, megabytes: int) -> None:
    """Let the file system of the state folder have so much room."""
    asked = os.statvfs(machine.state)
    values = list(asked)
    values[0], values[1], values[4] = 2**20, 2**20, megabytes

    def statvfs(path: str | Path) -> os.statvfs_result:
        assert Path(path) == machine.state
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_before_the_first_sample_nothing_is_known(machine: Machine) -> None:
    """There is neither a cause nor a figure, and psutil has not been loaded for it."""
    health = machine.health()
    assert health.present(machine.now) == {}
    status = health.status()
    assert {status[figure] for figure in FIGURES.values()} == {UNAVAILABLE}
    assert set(status["unavailable"].values()) == {"not read yet"}


def test_every_cause_is_in_the_table() -> None:
    """What can be present here is a row of the table of causes."""
    assert {name for name in FIGURES if name != "uptime"} <= CAUSES.keys()


def test_a_pi_is_told_in_figures(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a Pi tells stands in the status under its name and unit."""
    machine.zone("51540")
    machine.volts("0")
    machine.throttled("0")
    disk_free(machine, monkeypatch, 7000)
    health = machine.health()
    health.sample()
    machine.load(30)
    machine.causes(health)
    assert health.status() == {
        "cpu_percent": 30.0, "memory_mb": 500.0, "temperature_c": 51.5, "disk_free_mb": 7000.0,
        "undervoltage": False, "throttled": False, "uptime_s": 3600.2, "unavailable": {},
    }  # fmt: skip


def test_a_laptop_without_sensors_quotes(machine: Machine) -> None:
    """What a machine does not have is UNAVAILABLE with its reason, and pauses nothing although all limits are on."""
    health = HostHealth(
        HostLimits(min_disk_mb=0), machine.state, sysfs_root=machine.sysfs, proc_root=machine.proc,
        clock=lambda: machine.now,
    )  # fmt: skip
    assert machine.causes(health) == {}
    status = health.status()
    assert [status[name] for name in ("temperature_c", "undervoltage", "throttled")] == [UNAVAILABLE] * 3
    assert status["unavailable"] == {
        "temperature_c": f"{machine.sysfs / 'class/thermal'}: no thermal zone tells a temperature",
        "undervoltage": f"{machine.sysfs / 'class/hwmon'}: no rpi_volt, the sensor of a Raspberry Pi",
        "throttled": f"{machine.sysfs / 'devices/platform'}: no get_throttled: not the Raspberry Pi vendor's kernel",
        "cpu_percent": "the first two samples are still to come",
    }
    machine.load(10)
    machine.causes(health)
    assert "cpu_percent" not in health.status()["unavailable"]


def test_heat_pauses_until_it_is_5_degrees_cooler(machine: Machine) -> None:
    """Above the limit is a cause; it ends 5 degrees below, so that a Pi at its limit does not flap."""
    health = machine.health(max_temperature_c=80)
    seen = []
    for degrees in (79, 80, 80.1, 79, 75.1, 75, 79, 80):
        machine.zone(str(round(degrees * 1000)))
        seen.append("temperature" in machine.causes(health))
    assert seen == [False, False, True, True, True, False, False, False]


def test_the_detail_says_what_is_wrong(machine: Machine) -> None:
    """Who asks why is told the figure and the limit."""
    machine.zone("86400")
    machine.memory_mb(39)
    causes = machine.causes(machine.health(max_temperature_c=80, min_memory_mb=40))
    assert causes == {
        "temperature": "86 degrees Celsius (allowed: 80)",
        "memory": "39 MB of memory available (needed: 40)",
    }


def test_little_memory_pauses_until_there_is_a_quarter_more(machine: Machine) -> None:
    """Below the limit is a cause; it ends at 1.25 times the limit."""
    health = machine.health(min_memory_mb=40)
    seen = []
    for megabytes in (40, 39, 41, 49, 50, 41):
        machine.memory_mb(megabytes)
        seen.append("memory" in machine.causes(health))
    assert seen == [False, True, True, True, False, False]


def test_a_full_disk_pauses_until_there_is_a_quarter_more(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the disk of the state folder, and what a user without rights may still write there."""
    health = machine.health(min_disk_mb=64)
    seen = []
    for megabytes in (64, 63, 79, 80):
        disk_free(machine, monkeypatch, megabytes)
        seen.append("disk" in machine.causes(health))
    assert seen == [False, True, True, False]


def test_load_counts_over_a_whole_minute(machine: Machine) -> None:
    """However busy, nothing pauses in the first minute; then it does, and ends 10 points below the limit."""
    health = machine.health(max_cpu_percent=95)
    health.sample()
    for _ in range(29):
        machine.load(100)
        assert machine.causes(health) == {}
    machine.load(100)
    assert machine.causes(health) == {"cpu": "100 % busy (allowed: 95)"}
    machine.load(0)
    machine.load(0)
    machine.causes(health, 2 * EVERY)
    assert health.status()["cpu_percent"] == pytest.approx(93.3, abs=0.1)
    assert "cpu" in health.present(machine.now)
    for _ in range(3):
        machine.load(0)
        causes = machine.causes(health)
    assert health.status()["cpu_percent"] < 85
    assert causes == {}


def test_a_burst_is_no_load(machine: Machine) -> None:
    """Half a minute of full load in a quiet hour never pauses."""
    health = machine.health(max_cpu_percent=95)
    for second in range(0, 600, 2):
        machine.load(100 if 300 <= second < 350 else 5)
        assert machine.causes(health) == {}


def test_the_minute_is_bounded(machine: Machine) -> None:
    """A health that is sampled a thousand times a second remembers no more than a minute of seconds."""
    health = machine.health(max_cpu_percent=95)
    for _ in range(200):
        machine.causes(health, SECOND // 4)
    assert len(health._load) <= 62
    for _ in range(200):
        machine.causes(health, 3 * SECOND)
    assert len(health._load) <= 62


@pytest.mark.parametrize("name", ["undervoltage", "throttled"])
def test_what_the_kernel_forgets_is_held_for_30_s(machine: Machine, name: str) -> None:
    """The alarm stands for two seconds in the kernel, and for thirty here; each new one begins them anew."""
    health = machine.health(**{f"{name}_pauses": True})

    def say(bad: bool) -> None:
        machine.volts(str(int(bad)))
        machine.throttled("4" if bad else "0")

    seen = []
    for second in range(0, 100, 2):
        say(second in (4, 20))
        seen.append(name in machine.causes(health))
    first, last = 2, 10 + HOLD // EVERY
    assert seen == [first <= number <= last for number in range(50)]


@pytest.mark.parametrize(
    ("bits", "under", "slowed"),
    [("0", False, False), ("1", True, False), ("4", False, True), ("50005", True, True), ("2", False, False),
     ("80008", False, False), ("e0000", False, False)],
)  # fmt: skip
def test_the_vendors_bits(machine: Machine, bits: str, under: bool, slowed: bool) -> None:
    """Bit 0 is undervoltage and bit 2 throttling, now; that a 3B+ is over 60 degrees (bit 3) or was once is neither."""
    machine.throttled(bits)
    health = machine.health(undervoltage_pauses=True, throttled_pauses=True)
    assert set(machine.causes(health)) == {
        *(["undervoltage"] if under else []), *(["throttled"] if slowed else []),
    }  # fmt: skip


def test_the_vendors_file_is_found_on_each_model(machine: Machine) -> None:
    """Where the firmware's node has the bus address in its name it is found, too."""
    machine.throttled("50000", "soc@107c000000/soc@107c000000:firmware")
    assert throttled_bits(machine.sysfs) == 0x50000


def test_the_sensor_is_asked_before_the_bits(machine: Machine) -> None:
    """Where both say it, rpi_volt decides: the vendor calls its file deprecated."""
    machine.volts("0", 2)
    machine.volts("1", 1, "cpu_thermal")
    machine.throttled("1")
    assert undervoltage(machine.sysfs) is False
    machine.volts("1", 2)
    assert undervoltage(machine.sysfs) is True


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        ([("cpu-thermal", "51540")], 51.54),
        ([("acpitz", "27800"), ("x86_pkg_temp", "61000"), ("iwlwifi_1", "44000")], 61.0),
        ([("gpu-thermal", "90000"), ("cpu-thermal", "50000")], 50.0),
        ([("gpu-thermal", "90000"), ("cpu_thermal", "50000")], 50.0),
        ([("acpitz", "-274000"), ("x86_pkg_temp", "61000")], 61.0),
        ([("acpitz", "nothing"), ("x86_pkg_temp", "61000")], 61.0),
    ],
)
def test_which_zone_counts(machine: Machine, zones: list[tuple[str, str]], expected: float) -> None:
    """The processor's own zone, else the hottest one that says something plausible."""
    for number, (kind, value) in enumerate(zones):
        machine.zone(value, kind, number)
    assert temperature_c(machine.sysfs) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["", "hot", "-50000", "200000"])
def test_a_broken_sensor_is_none(machine: Machine, value: str) -> None:
    """A processor's zone that says nothing plausible is not replaced by another zone's figure."""
    machine.zone(value)
    machine.zone("40000", "gpu-thermal", 1)
    with pytest.raises(DeviceError, match="no zone tells a temperature"):
        temperature_c(machine.sysfs)


def test_a_cause_outlives_a_missing_reading_for_10_s(machine: Machine) -> None:
    """A sensor that fails for a moment ends no pause; one that stays away is UNAVAILABLE, and no cause any more."""
    health = machine.health(max_temperature_c=80)
    machine.zone("90000")
    assert "temperature" in machine.causes(health)
    machine.zone("")
    for _ in range(5):
        assert "temperature" in machine.causes(health)
        assert health.status()["temperature_c"] == 90.0
    assert machine.causes(health) == {}
    assert health.status()["temperature_c"] == UNAVAILABLE
    machine.zone("78000")
    assert machine.causes(health) == {}


def test_a_thread_that_hangs_is_told(machine: Machine) -> None:
    """When no sample comes any more, everything is UNAVAILABLE after 10 s and nothing is a cause."""
    health = machine.health(max_temperature_c=80)
    machine.zone("90000")
    assert machine.causes(health) == {"temperature": "90 degrees Celsius (allowed: 80)"}
    machine.now += STALE + 1
    assert health.present(machine.now) == {}
    status = health.status()
    assert {status[figure] for figure in FIGURES.values()} == {UNAVAILABLE}
    assert status["unavailable"]["memory_mb"] == "not read for too long"


@pytest.mark.parametrize("off", ["max_temperature_c", "min_memory_mb"])
def test_0_is_off(machine: Machine, off: str) -> None:
    """A limit of 0 pauses nothing, and the figure is told all the same."""
    machine.zone("120000")
    machine.memory_mb(1)
    health = machine.health(**{off: 0})
    assert machine.causes(health) == {}
    assert (health.status()["temperature_c"], health.status()["memory_mb"]) == (120.0, 1.0)


def test_a_procfs_of_garbage_is_unavailable(machine: Machine) -> None:
    """Whatever stands in these files, a sample raises nothing, and what cannot be read is told."""
    for name in ("stat", "meminfo", "uptime"):
        machine.write(machine.proc / name, "garbage")
    health = machine.health(max_cpu_percent=95, min_memory_mb=40)
    assert machine.causes(health) == {}
    assert {"cpu_percent", "memory_mb", "uptime_s"} <= health.status()["unavailable"].keys()


def test_a_state_folder_that_is_not_there_is_unavailable(machine: Machine) -> None:
    """A disk that cannot be asked is no full disk."""
    machine.state.rmdir()
    health = machine.health(min_disk_mb=64)
    assert machine.causes(health) == {}
    assert "No such file or directory" in health.status()["unavailable"]["disk_free_mb"]


def test_present_may_be_asked_while_a_thread_samples(machine: Machine) -> None:
    """A guardian's loop that asks all the time meets neither a half sample nor an error."""
    machine.zone("90000")
    health = machine.health(max_temperature_c=80)
    health.sample()
    ended = threading.Event()

    def sampling() -> None:
        for _ in range(100):
            health.sample()
        ended.set()

    thread = threading.Thread(target=sampling)
    thread.start()
    while not ended.is_set():
        assert health.present(machine.now) == {"temperature": "90 degrees Celsius (allowed: 80)"}
        assert health.status()["temperature_c"] == 90.0
    thread.join()


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    """The kernel that these tests run on tells memory, disk and uptime."""
    health = HostHealth(HostLimits(), tmp_path)
    health.sample()
    status = health.status()
    assert all(status[figure] > 0 for figure in ("memory_mb", "disk_free_mb", "uptime_s"))


def test_who_does_not_sample_does_not_pay() -> None:
    """psutil comes with the first sample, not with the import."""
    code = "import sys, mmpi.device.host_health; print('psutil' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
