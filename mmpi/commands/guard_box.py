"""The guardian's box: panel, supply, host and watchdog put together from the configuration.

Invariant: what a box does not have is not imported, and nothing here is asked for a moment by the guardian's loop.
It must not know what a cause leads to.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.device import hardware_watchdog
from mmpi.device.front_panel import FrontPanel
from mmpi.device.host_health import HostHealth, HostLimits
from mmpi.device.panel_lines import PanelConfig
from mmpi.device.power import PowerLimits, PowerWatch
from mmpi.instrument import Nanos
from mmpi.runtime.power_duty import PowerDuty, Reading
from mmpi.runtime.rescue import Rescue, RescueLimits
from mmpi.runtime.senses import Rounds, Sense
from mmpi.sections import Box, ledger_folder

HOST_S: Final = 2.0
WATCHDOG_S: Final = 60.0
GAUGE_S: Final = 1.0
MEGABYTE: Final = 2**20
MAX_RESULT: Final = 64 * 1024
"""Bytes of a set-up's result; more is none."""
MAX_ERROR: Final = 200


class WatchdogSense:
    """The machine's own watchdog, as kernel and systemd have it."""

    def __init__(self, expected_s: int, sysfs_root: Path) -> None:
        self._expected_s, self._sysfs_root = expected_s, sysfs_root
        self.wrong = "not looked at yet" if expected_s else ""

    def look(self) -> None:
        """Ask both; may take a second."""
        self.wrong = hardware_watchdog.check(self._expected_s, self._sysfs_root)

    def present(self, now: Nanos) -> dict[str, str]:  # noqa: ARG002  # the guardian's protocol
        """Return the cause `hardware_watchdog`, until both agree."""
        return {"hardware_watchdog": self.wrong} if self.wrong else {}


class _Result(msgspec.Struct, frozen=True):
    ok: bool
    errors: list[str] = []


class SetupSense:
    """What the last set-up said of the folder on the card, in the file `path`; no file = this box is not set up so."""

    def __init__(self, path: Path) -> None:
        self.wrong = ""
        self._path: Final = path
        self._read: tuple[int, int, int] | None = None
        """Which file was read last: inode, time, size."""

    def look(self) -> None:
        """Read the result if it is another than last time; may wait for the disk."""
        try:
            found = self._path.stat()
            which = (found.st_ino, found.st_mtime_ns, found.st_size)
            if which == self._read:
                return
            with self._path.open("rb") as file:
                data = file.read(MAX_RESULT + 1)
        except FileNotFoundError:
            self.wrong, self._read = "", None
        except OSError as error:
            self.wrong, self._read = f"{self._path}: cannot be read: {error.strerror}", None
        else:
            self.wrong, self._read = _wrong(self._path, data), which

    def present(self, now: Nanos) -> dict[str, str]:  # noqa: ARG002  # the guardian's protocol
        """Return the cause `setup` with the first error, until a set-up was right."""
        return {"setup": self.wrong} if self.wrong else {}


def _wrong(path: Path, data: bytes) -> str:
    """Return what is wrong by a set-up's result, "" = nothing."""
    try:
        if len(data) > MAX_RESULT:
            return f"{path}: is no result of a set-up: more than {MAX_RESULT} bytes"
        result = msgspec.json.decode(data, type=_Result)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"{path}: is no result of a set-up: {error}"
    if result.ok:
        return ""
    first = " ".join(result.errors[0].split()) if result.errors else ""
    return first[:MAX_ERROR] or "the set-up does not say what is wrong"


class Parts:
    """Everything of the box that the guardian asks, and the threads that read for it."""

    def __init__(
        self,
        panel: FrontPanel | None,
        host: HostHealth,
        watchdog: WatchdogSense,
        setup: SetupSense,
        power: PowerDuty | None,
        rounds: list[Rounds],
    ) -> None:
        self.panel, self.setup = panel, setup
        self.senses: list[Sense] = [host, watchdog, setup, *([power] if power is not None else [])]
        self._host, self._watchdog, self._power, self._rounds = host, watchdog, power, rounds

    def start(self, wake: Callable[[], object]) -> None:
        """Begin to read; `wake` has the guardian look at once."""
        if self.panel is not None:
            self.panel.open(wake)
        for each in self._rounds:
            each.start()

    def status(self) -> dict[str, Any]:
        """Return what observers may see of the machine."""
        now = time.monotonic_ns()
        return {
            "pins": self.panel.config.backend if self.panel is not None else "none",
            "panel": list(self.panel.problems) if self.panel is not None else [],
            "host": self._host.status(),
            "hardware_watchdog": self._watchdog.wrong,
            "power": self._power.status(now) if self._power is not None else None,
            "reading": {each.name: each.last_error for each in self._rounds if each.last_error},
        }

    def close(self, sign: str = "dark") -> None:
        """End the threads, and leave this sign on the lamps."""
        for each in self._rounds:
            each.close()
        if self.panel is not None:
            self.panel.close(sign)


def parts_of(box: Box) -> Parts:
    """Return the parts that this configuration names; nothing is opened yet."""
    host = HostHealth(
        HostLimits(
            box.host.max_temperature_c, box.host.max_cpu_percent, box.host.min_memory_mb, box.host.min_disk_mb,
            box.host.undervoltage_pauses, box.host.throttled_pauses,
        ),
        Path(box.paths.state_dir), sysfs_root=Path(box.host.sysfs_root), proc_root=Path(box.host.proc_root),
    )  # fmt: skip
    watchdog = WatchdogSense(box.watchdog.hardware_s, Path(box.host.sysfs_root))
    setup = SetupSense(Path(box.host.setup_result))
    # A round of its own: another disk.
    rounds = [Rounds("host", HOST_S, host.sample), Rounds("set-up", HOST_S, setup.look)]
    if box.watchdog.hardware_s:
        rounds.append(Rounds("hardware watchdog", WATCHDOG_S, watchdog.look))
    panel = FrontPanel(_panel_config(box)) if box.pins.backend != "none" else None
    return Parts(panel, host, watchdog, setup, _power(box, panel, rounds), rounds)


def _panel_config(box: Box) -> PanelConfig:
    pins = box.pins
    return PanelConfig(
        pins.backend, pins.chip, str(box.paths.pins), pins.kill, pins.kill_second, pins.arm, pins.green, pins.amber,
        pins.red, pins.buzzer, pins.power, box.power.fail_level,
    )  # fmt: skip


def _power(box: Box, panel: FrontPanel | None, rounds: list[Rounds]) -> PowerDuty | None:
    """Return the duty that goes with the configured supply; a gauge gets its own round."""
    power, paths = box.power, box.paths
    if power.source == "none":
        return None
    reading: Reading
    if power.source == "pin":
        assert panel is not None
        reading = _by_pin(panel, 1 if power.fail_level == "high" else 0)
    else:
        reading = _by_gauge(box, rounds)
    limits = RescueLimits(min_free_bytes=round(box.host.min_disk_mb * MEGABYTE))
    return PowerDuty(
        PowerWatch(PowerLimits(power.hold_off_s, power.good_s, silence_pauses=power.source == "i2c")),
        reading,
        lambda: Rescue(paths.journal, ledger_folder(paths), limits, time.time_ns()),
        power.hold_off_s,
        paths.poweroff if power.shutdown else None,
    )


def _by_pin(panel: FrontPanel, failing: int) -> Reading:
    def read(now: Nanos) -> tuple[bool | None, Nanos, str]:
        level = panel.power_level
        return (None, now, "the pin cannot be read") if level is None else (level == failing, now, "")

    return read


def _by_gauge(box: Box, rounds: list[Rounds]) -> Reading:
    from mmpi.device.ups_gauge import GaugeConfig, UpsGauge

    power = box.power
    config = GaugeConfig(
        power.i2c_gauge, power.i2c_bus, power.i2c_address, power.i2c_fail_below, power.i2c_shunt_ohms
    )
    gauge = UpsGauge(config)
    rounds.append(Rounds("supply gauge", GAUGE_S, gauge.sample))

    def read(_: Nanos) -> tuple[bool | None, Nanos, str]:
        told = gauge.reading()
        return told.failing, told.at, told.why

    return read
