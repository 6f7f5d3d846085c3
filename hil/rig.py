"""Rig: what a scenario may ask of a machine, whichever it is: power, pins, network, clock, storage, and a shell on it.

A rig has what it says in `can`; a scenario that needs more is reported as not run on it. The venue is not part of a
rig: it stands outside of every box and goes on when the box does not.

Invariant: a rig is put back by `mend`: whatever a scenario did to it, the next one finds a box that is well and
latched.
It must not know scenarios.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

PINS: Final = "pins"
"""Contacts that can be opened and closed."""
POWER: Final = "power"
"""It can be switched off at once, and on again."""
NETWORK: Final = "network"
"""Its cable can be pulled; packets can be lost without a word."""
STORAGE: Final = "storage"
"""Its disk can be filled."""
LOSSY: Final = "lossy"
"""Its disk loses with the power what was not flushed, and can refuse to be written."""
PROCESSES: Final = "processes"
"""Its services can be sent signals."""
NUMB: Final = "numb"
"""A service of it can be made to turn and handle nothing."""
CLOCK: Final = "clock"
"""It has a clock of its own, which can be set, and lost with the power."""
KERNEL: Final = "kernel"
"""It has a kernel of its own, which can panic, run out of memory, and be reset by a watchdog."""
SENSORS: Final = "sensors"
"""Heat and undervoltage can be shown to it: files in the place of the kernel's, not the sensors' own path."""
SETUP: Final = "setup"
"""It is set up by a folder on its card."""

KILL: Final = "kill"
SECOND: Final = "second"
ARM: Final = "arm"
SUPPLY: Final = "supply"
"""Contacts: the kill button's normally closed and normally open one, the arm button, the supply's (low = failed)."""


class CannotError(Exception):
    """A rig was asked for what it has not (`can`): a mistake of the scenario's."""


class Rig(Protocol):
    """One machine with a box on it."""

    @property
    def name(self) -> str:
        """Return what it is called."""

    @property
    def can(self) -> frozenset[str]:
        """Return what it has."""

    @property
    def patience(self) -> float:
        """Return how many times longer than a real box it may take for what nobody promises a time for."""

    @property
    def venue_url(self) -> str:
        """Return where the box finds the venue."""

    @property
    def settings(self) -> str:
        """Return the part of a configuration that is its own: [pins], [clock], [host], [watchdog] (TOML)."""

    def mend(self, config: str, secrets: Mapping[str, str], authority: bytes, seed: int = 1) -> None:
        """Have a box run that is well, latched and without a past; its chances are the seed's."""

    def status(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says; {} if nobody answers."""

    def shell(self, line: str) -> tuple[int, str]:
        """Run a line as root; return exit code and output."""

    def signal(self, unit: str, name: str) -> None:
        """Send a signal to a service's main process."""

    def drive(self, contact: str, level: int | None) -> None:
        """Put a level on a contact's line; None lets it float, as a wire that is cut does."""

    def cut_power(self) -> None:
        """Switch it off at once."""

    def power_on(self, *, clock_lost: bool = False) -> None:
        """Switch it on, and wait until it is up; it is told the time, or its clock has gone back by years."""

    def cable(self, *, plugged: bool) -> None:
        """Plug the cable in, or pull it."""

    def deaf(self, *, on: bool) -> None:
        """Have everything that is sent to it lost without a word."""

    def fill_disk(self, *, full: bool) -> None:
        """Leave no room on its disk, or give it back."""

    def refuse_writes(self, *, on: bool) -> None:
        """Have its disk take no write any more; off = as a new one, with all that was promised on it, and a restart."""

    def numb(self, unit: str) -> None:
        """Have a service's loop turn and handle nothing, until it is begun anew."""

    def set_clock(self, ahead_s: float) -> None:
        """Set its clock so far ahead of the time; 0 = right, and its kernel believes that somebody keeps it so."""

    def sense(self, *, celsius: float = 45.0, weak: bool = False) -> None:
        """Have its sensors tell this temperature, and whether the supply is too weak."""

    def panic(self) -> None:
        """Have its kernel stop for good, and wait until a watchdog has reset it and it is up again."""

    def ledger(self, target: Path) -> Path:
        """Return a copy of its ledger below `target`; the services are at rest."""
