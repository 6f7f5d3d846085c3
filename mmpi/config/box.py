"""Box: the keys of mmpi.toml about the stop path and the machine: guardian, pins, power, host, watchdog, journal.

Invariant: defaults are those of the structs in sections.py. It must not know where a value comes from.
"""

from typing import Any, Final, Literal

from mmpi.config.fields import Section, choice, folder, number, text
from mmpi.sections import (
    GuardianSettings,
    HostSettings,
    JournalSettings,
    PinSettings,
    PowerSettings,
    WatchdogSettings,
)

LAST_LINE: Final = 255
"""More lines than any chip has that buttons would be wired to; a Pi has 58."""
MOST_HARDWARE_S: Final = 15
"""A Pi's watchdog counts 20 bits of 1/65536 s (kernel, bcm2835_wdt.c); larger values wrap round."""

_GUARDIAN, _PINS, _POWER = GuardianSettings(), PinSettings(), PowerSettings()
_HOST, _WATCHDOG, _JOURNAL = HostSettings(), WatchdogSettings(), JournalSettings()
MEGABYTE: Final = 2**20


def _line(default: int, meaning: str) -> Any:
    return number(default, meaning, ge=-1, le=LAST_LINE, unit="line of the chip, on a Pi the BCM number; -1 = none")


class Guardian(Section):
    """The stop path, and what may be done from afar."""

    heartbeat_timeout_s: float = number(
        _GUARDIAN.heartbeat_timeout_s, "A quoter silent for this long is cancelled and paused.", ge=0.3, le=5
    )
    ack_timeout_s: float = number(
        _GUARDIAN.ack_timeout_s, "A quoter that does not confirm a stop for this long is killed.", ge=0.1, le=2
    )
    allow_remote_arm: bool = choice(
        _GUARDIAN.allow_remote_arm,
        "`mmpi arm` and commands from afar may arm, too; where pins.backend is none `mmpi arm` always may, as there "
        "is no button.",
    )
    resume_after_boot: bool = choice(
        _GUARDIAN.resume_after_boot, "An armed box goes on after a power loss; false = it latches at each boot."
    )
    required: bool = choice(
        _GUARDIAN.required, "Orders leave for a venue only while a guardian lives. false = no button stops it."
    )


class Pins(Section):
    """Buttons and lamps (docs/wiring.md)."""

    backend: Literal["none", "gpiod", "virtual"] = choice(
        _PINS.backend, "none: no buttons, no lamps. gpiod: the kernel's GPIO chip. virtual: a file that a panel drives."
    )
    chip: str = text(
        "GPIO chip by device, name or label.",
        "a text of letters, digits, / . _ : and -, at most 64 of them",
        _PINS.chip,
        pattern=r"^[A-Za-z0-9/._:-]{1,64}$",
    )
    kill: int = _line(_PINS.kill, "Kill contact, normally closed to ground: open means stop.")
    kill_second: int = _line(_PINS.kill_second, "Second kill contact, normally open; disagreement means stop.")
    arm: int = _line(_PINS.arm, "Arm button, to ground; without one the kill button arms when held 5 s.")
    green: int = _line(_PINS.green, "Green lamp.")
    amber: int = _line(_PINS.amber, "Amber lamp.")
    red: int = _line(_PINS.red, "Red lamp.")
    buzzer: int = _line(_PINS.buzzer, "Buzzer.")
    power: int = _line(_PINS.power, "Input from the supply that says that the mains failed (power.source pin).")


class Power(Section):
    """A supply with a battery that says when the mains fail (docs/power.md)."""

    source: Literal["none", "pin", "i2c"] = choice(
        _POWER.source, "Who says it: nobody, a pin, or a gauge on the I2C bus."
    )
    fail_level: Literal["low", "high"] = choice(_POWER.fail_level, "Level of pins.power while the mains are gone.")
    hold_off_s: float = number(
        _POWER.hold_off_s, "Mains gone for this long without a break: the machine is shut down.", ge=1, le=3600
    )
    good_s: float = number(_POWER.good_s, "Mains back for this long: the pause ends.", ge=0, le=3600)
    shutdown: bool = choice(_POWER.shutdown, "Shut the machine down at the end of hold_off_s; false = only pause.")
    i2c_bus: int = number(_POWER.i2c_bus, "N of /dev/i2c-N.", ge=0, le=255, unit="number")
    i2c_address: int = number(_POWER.i2c_address, "Of the gauge.", ge=3, le=119, unit="7-bit address")
    i2c_gauge: Literal["max17048", "ina219"] = choice(_POWER.i2c_gauge, "Chip of the gauge.")
    i2c_fail_below: float = number(
        _POWER.i2c_fail_below,
        "Charge rate (max17048) or current (ina219) below which the battery is being drained; 0 = the gauge's default, "
        "-2 or -50.",
        ge=-10_000,
        le=10_000,
        unit="% an hour, or mA",
    )
    i2c_shunt_ohms: float = number(
        _POWER.i2c_shunt_ohms,
        "ina219: its resistor; negative if it is the other way round. Not 0.",
        ge=-10,
        le=10,
        unit="ohm",
    )


class Host(Section):
    """When the machine is not fit to quote; 0 = do not look. Each pauses, and ends by itself."""

    max_temperature_c: float = number(
        _HOST.max_temperature_c, "Of the processor; a Pi throttles at 80 to 85.", ge=0, le=120, unit="degrees Celsius"
    )
    max_cpu_percent: float = number(
        _HOST.max_cpu_percent, "Of all cores, over a minute; what matters of it the heartbeat sees, too.", ge=0, le=100
    )
    min_memory_mb: float = number(_HOST.min_memory_mb, "Available memory.", ge=0, le=65_536, unit="MB")
    min_disk_mb: float = number(_HOST.min_disk_mb, "Free where state_dir is.", ge=0, le=1_048_576, unit="MB")
    undervoltage_pauses: bool = choice(_HOST.undervoltage_pauses, "A supply too weak, by the kernel's word.")
    throttled_pauses: bool = choice(_HOST.throttled_pauses, "A processor slowed down, by the kernel's word.")
    sysfs_root: str = folder("Where the kernel's sysfs is. Empty = /sys.")
    proc_root: str = folder("Where the kernel's procfs is. Empty = /proc.")
    setup_result: str = folder(
        "File in which the image's set-up says whether all was right. Empty = /run/mmpi-box/setup.json."
    )


class Watchdog(Section):
    """The machine's own watchdog, which resets it when it hangs."""

    hardware_s: int = number(
        _WATCHDOG.hardware_s,
        "What kernel and systemd must both say, or nothing is quoted; 0 = this host has none. 14 on a Pi.",
        ge=0,
        le=MOST_HARDWARE_S,
    )


class Journal(Section):
    """What is written down: all of it in memory, what must not be lost in a ledger on the disk (docs/journal.md)."""

    segment_bytes: int = number(
        _JOURNAL.segment_bytes,
        "One segment in memory; each opens with a checkpoint, and is compressed once it is full.",
        ge=MEGABYTE,
        le=256 * MEGABYTE,
    )
    max_bytes: int = number(
        _JOURNAL.max_bytes, "All segments in memory; at least two must fit.", ge=131_072, le=1024 * MEGABYTE
    )
    intent_durability: Literal["auto", "write", "fsync"] = choice(
        _JOURNAL.intent_durability,
        "Before an order is sent, its intent is written to memory (write), or is on the disk (fsync: each order waits "
        "for it). auto: fsync only at a venue that cannot list our orders.",
    )
    commit_s: float = number(
        _JOURNAL.commit_s, "Fills and the state of the limits are on the disk after so long.", ge=1, le=14
    )
    routine: Literal["memory", "disk"] = choice(
        _JOURNAL.routine,
        "Where events, quotes and checkpoints stay: in memory until the cap, or compressed on the disk, too, as far as "
        "disk_bytes_per_hour goes.",
    )
    disk_bytes_per_hour: int = number(
        _JOURNAL.disk_bytes_per_hour,
        "What all of the journal may write to the disk; routine data gives way first.",
        ge=MEGABYTE,
        le=10_240 * MEGABYTE,
        unit="bytes an hour",
    )
    disk_max_bytes: int = number(
        _JOURNAL.disk_max_bytes, "Ledger and routine data on the disk; the oldest routine data goes first.",
        ge=8 * MEGABYTE, le=10_240 * MEGABYTE,
    )  # fmt: skip
    disk_max_days: int = number(_JOURNAL.disk_max_days, "Age of the ledger; 0 = any.", ge=0, le=3650, unit="days")
