"""What is done while the mains are gone: the journal is saved once a failure, and the shutdown asked for last."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mmpi.device.power import PowerLimits, PowerWatch
from mmpi.instrument import MILLISECOND
from mmpi.runtime.power_duty import PowerDuty
from mmpi.runtime.rescue import Rescued


class FakeRescue:
    """Counts its saves; ends at once, or when it is told that it is enough."""

    def __init__(self, made: list["FakeRescue"], *, waits: bool) -> None:
        made.append(self)
        self.saves: list[float] = []
        self.enough = False
        self._waits = waits

    def save(self, deadline_s: float, enough: threading.Event) -> Rescued:
        """Return what was saved."""
        self.saves.append(deadline_s)
        if self._waits:
            self.enough = enough.wait(5)
        return Rescued("folder", len(self.saves), 10, "", 0.1)


class Supply:
    """A duty, its readings, and the time."""

    def __init__(self, folder: Path, *, hold_off_s: float = 20.0, shutdown: bool = True, waits: bool = False) -> None:
        self.failing: bool | None = False
        self.now = 10**12
        self.made: list[FakeRescue] = []
        self.poweroff = folder / "poweroff"
        self.duty = PowerDuty(
            PowerWatch(PowerLimits(hold_off_s, 2.0)),
            lambda now: (self.failing, now, ""),
            lambda: FakeRescue(self.made, waits=waits),  # type: ignore[arg-type,return-value]
            hold_off_s,
            self.poweroff if shutdown else None,
        )

    def look(self, failing: bool | None, seconds: float = 0.02) -> dict[str, str]:
        """Look every 20 ms for a while; return the causes of the last look."""
        self.failing, causes = failing, {}
        for _ in range(round(seconds / 0.02)):
            self.now += 20 * MILLISECOND
            causes = dict(self.duty.present(self.now))
        return causes


def until(condition: Callable[[], object]) -> None:
    """Wait for a thread."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_failure_saves_and_ends_in_a_shutdown(tmp_path: Path) -> None:
    """The second failing reading is the cause; the journal is saved at once, and again just before the machine goes."""
    supply = Supply(tmp_path)
    assert supply.look(False, 1.0) == supply.look(True) == {}
    assert supply.look(True) == {"power": "the mains failed"}
    until(lambda: supply.duty.rescued)
    assert [each.saves for each in supply.made] == [[18.0]]
    supply.look(True, 19.9)
    assert not supply.poweroff.exists()
    supply.look(True, 0.2)
    until(supply.poweroff.exists)
    assert supply.made[0].saves == [18.0, 1.0]
    supply.poweroff.unlink()
    supply.look(True, 30.0)
    assert not supply.poweroff.exists(), "asked once"


def test_mains_that_come_back_end_it(tmp_path: Path) -> None:
    """Saving is told that it is enough, the pause ends after good_s, and nothing is turned off."""
    supply = Supply(tmp_path, waits=True)
    supply.look(True, 1.0)
    until(lambda: supply.made and supply.made[0].saves)
    assert "power" in supply.look(False, 1.0)
    until(lambda: supply.made[0].enough)
    assert supply.look(False, 1.2) == {}
    supply.look(False, 60.0)
    assert not supply.poweroff.exists()


def test_a_flapping_supply_has_one_rescue(tmp_path: Path) -> None:
    """As long as the cause is there every save adds to the same folder; the next failure has its own."""
    supply = Supply(tmp_path)
    for _ in range(3):
        supply.look(True, 0.5)
        until(lambda: supply.duty.rescued)
        time.sleep(0.02)
        supply.look(False, 0.5)
    assert len(supply.made) == 1
    supply.look(False, 3.0)
    supply.look(True, 0.5)
    until(lambda: len(supply.made) == 2)


def test_without_shutdown_it_only_pauses(tmp_path: Path) -> None:
    """power.shutdown = false: the machine stays on until the battery is empty."""
    supply = Supply(tmp_path, shutdown=False)
    assert "power" in supply.look(True, 60.0)
    assert not supply.poweroff.exists()
    status = supply.duty.status(supply.now)
    assert (status["mains"], status["failing_s"] > 59, status["rescued"]) == ("failing", True, "folder")


def test_a_rescue_that_breaks_changes_nothing_else(tmp_path: Path) -> None:
    """A disk that is gone costs the journal, not the pause."""
    supply = Supply(tmp_path)

    def broken() -> None:
        raise OSError("gone")

    supply.duty._rescue = broken  # type: ignore[assignment]
    assert supply.look(True, 1.0) == {"power": "the mains failed"}
    assert supply.duty.rescued is None
