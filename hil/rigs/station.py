"""Station: a box in a container of the nspawn rig: this checkout's services on a stock host, virtual pins, a cable.

The venue is a server of this machine's, which the box reaches over its cable. Its state is on a disk that loses with
the power what was not flushed. What a container has not: a kernel, a clock and a limit of memory of its own, pins of a
chip.

    with Network() as network, Station(network, folder, venue.port) as rig:
        rig.mend(config(rig), venue.secrets, venue.authority)
        rig.drive(KILL, None)

Invariant: as of the nspawn rig. It must not know scenarios.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.logged_disk import LoggedDisk
from hil.rig import (
    ARM,
    KILL,
    LOSSY,
    NETWORK,
    NUMB,
    PINS,
    POWER,
    PROCESSES,
    SECOND,
    SENSORS,
    STORAGE,
    SUPPLY,
    CannotError,
)
from hil.rigs.lossy import Lossy
from hil.rigs.nspawn import HIL, OPERATOR, Host, Network
from hil.rigs.sensors import told
from hil.trixie import ROOT
from mmpi.device.virtual_pins import VirtualPanel

UNITS: Final = ("mmpi-guardian", "mmpi-quoter", "mmpi-telemetry", "mmpi-broker")
STATE: Final = ("var/lib/mmpi", "run/mmpi", "etc/credstore")
DISK_MB: Final = 256
MOUNT: Final = ("noatime", "lazytime", "noauto_da_alloc")
"""As the image mounts its data, but that a file in another's place may be empty after a cut if nobody has flushed it:
no standard promises more, and not every file system gives more."""
LEFT_MB: Final = 1
"""Of a disk that is full: less than the box asks for, and than it may take."""
SYSFS: Final = "var/lib/hil-sysfs"
NUMB_UNITS: Final = ("mmpi-quoter",)
LINES: Final = {KILL: 5, SECOND: 6, ARM: 13, SUPPLY: 26}
SETTINGS: Final = f"""
[clock]
require_sync = false

[host]
sysfs_root = "/{SYSFS}"

[pins]
backend = "virtual"
kill = {LINES[KILL]}
kill_second = {LINES[SECOND]}
arm = {LINES[ARM]}
power = {LINES[SUPPLY]}
"""
_HOOK: Final = """
import signal


def numb(*_):
    from mmpi.runtime.loop import Loop

    Loop.feed = lambda self, events, since=0: None


signal.signal(signal.SIGUSR1, numb)
"""
"""What a service of this rig has in it beside the product: a signal by which its loop turns and handles nothing."""
_HOOKED: Final = """[Service]
Environment=PYTHONPATH=/usr/local/lib/hil
"""


def _mounted(place: Path, image: Path | None) -> LoggedDisk:
    return LoggedDisk(place, DISK_MB, options=MOUNT, image=image)


class Box(Host):
    """A stock host that sees this checkout and its Python."""

    def __init__(self, network: Network, folder: Path, disk: Lossy[LoggedDisk], checkout: Path) -> None:
        """`disk` is for its state; `checkout` has the package that is run, with this one's units."""
        super().__init__(network, folder, "box", 1)
        self._disk, self._checkout = disk, checkout

    def _options(self) -> list[str]:
        bound = {ROOT, Path(sys.base_prefix), Path(sys.prefix)}
        # A mutant is seen where the checkout is expected, by a virtual environment that does not know of it.
        more = [] if self._checkout == ROOT else [f"--bind-ro={self._checkout / 'mmpi'}:{ROOT / 'mmpi'}"]
        seen = [f"--bind-ro={path}" for path in sorted(bound)]
        return [*super()._options(), f"--bind={self._disk.disk.path}:/var/lib/mmpi", *seen, *more]

    def _furnish(self) -> None:
        super()._furnish()
        self.write("usr/local/lib/hil/sitecustomize.py", _HOOK)
        for unit in NUMB_UNITS:
            self.write(f"etc/systemd/system/{unit}.service.d/hil.conf", _HOOKED)
        for needed in (ROOT, Path(os.path.realpath(sys.executable)).parent):
            inside = self.root
            for part in needed.parts[1:]:
                inside = inside / part
                inside.mkdir(exist_ok=True)
                inside.chmod(inside.stat().st_mode | 0o011)


class Station:
    """The rig; a context manager."""

    name: Final = "nspawn"
    can: Final = frozenset({PINS, POWER, NETWORK, STORAGE, LOSSY, PROCESSES, NUMB, SENSORS})
    settings: Final = SETTINGS
    patience: Final = 1.0

    def __init__(self, network: Network, folder: Path, port: int, checkout: Path = ROOT) -> None:
        """`port` is the venue's, on this machine's loopback."""
        self.venue_url: Final = f"https://{OPERATOR}:{port}"
        self._network: Final = network
        self._port: Final = port
        self._disk: Final = Lossy(folder, _mounted)
        self._box: Final = Box(network, folder, self._disk, checkout)
        self._levels: dict[str, int | None] = {}
        self._dice = random.Random(1)
        self._worn_out = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            way = subprocess.Popen(
                [sys.executable, str(HIL / "relay.py"), str(self._network.path), OPERATOR, str(self._port),
                 "127.0.0.1", str(self._port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            stack.callback(way.communicate)
            assert way.stdout is not None
            assert way.stdout.readline() == b"ready\n", "no way to the venue"
            stack.enter_context(self._disk)
            stack.enter_context(self._box)
            self._box.boot()
            self._box.check("apt-get", "-qq", "install", "-y", "--no-install-recommends", "mosquitto", timeout=300)
            self._box.check("systemctl", "disable", "--now", "mosquitto")
            command = str(Path(sys.prefix) / "bin" / "mmpi")
            self._box.check(str(ROOT / "scripts" / "install-service"), "--command", command)
            self._box.check("systemctl", "enable", "mmpi.target", "mmpi-poweroff.path")
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owned.close()

    # A box that is well -------------------------------------------------------------------------------------------

    def mend(self, config: str, secrets: Mapping[str, str], authority: bytes, seed: int = 1) -> None:
        """Have a box run that is well, latched and without a past, with this configuration."""
        self._dice = random.Random(seed)
        self.deaf(on=False)
        self.sense()
        if self._worn_out or not self._box.leader:
            self._box.cut()
            self._disk.renew()
            self._worn_out = False
            self._box.boot()
        self.cable(plugged=True)
        self.fill_disk(full=False)
        for unit in UNITS:
            self._box.run("systemctl", "kill", "--signal=KILL", unit)
        self._box.run("systemctl", "stop", "mmpi.target")
        self._box.run("systemctl", "reset-failed")
        for path in STATE:
            self._box.check("sh", "-c", f"rm -rf /{path}/* /{path}/.[!.]*")
        self._box.check("systemd-tmpfiles", "--create", "mmpi.conf")
        self._put("etc/mmpi/mmpi.toml", config.encode())
        self._put("etc/mmpi/authority.pem", authority, 0o644)
        for name, text in secrets.items():
            self._put(f"etc/credstore/mmpi.{name}", text.encode())
        self._levels = {KILL: 0, SECOND: None, ARM: None, SUPPLY: 1}
        self._wire()
        self._box.check("systemctl", "start", "mmpi.target")

    def _put(self, path: str, data: bytes, mode: int = 0o600) -> None:
        place = self._inside(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(mode)

    def _inside(self, path: str) -> Path:
        return Path(f"/proc/{self._box.leader}/root") / path

    def _wire(self) -> None:
        """Have every contact as it stands: pins are a file in the box's memory, which ends with each boot."""
        place = self._inside("run/mmpi/pins")
        panel = VirtualPanel.create(place)
        shutil.chown(place, 871, 870)
        place.chmod(0o640)
        for contact, level in self._levels.items():
            if level is not None:
                panel.drive(LINES[contact], level)

    # Asking -------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says; {} if nobody answers."""
        done = self._box.run("mmpi", "status", "--json") if self._box.leader else None
        return dict(json.loads(done.stdout)) if done is not None and done.returncode == 0 else {}

    def shell(self, line: str) -> tuple[int, str]:
        """Run a line as root; return exit code and output."""
        done = self._box.run("sh", "-c", line)
        return done.returncode, done.stdout + done.stderr

    def ledger(self, target: Path) -> Path:
        """Return a copy of its ledger below `target`; the services are at rest."""
        shutil.copytree(self._disk.disk.path / "journal", target / "ledger")
        return target / "ledger"

    # Doing --------------------------------------------------------------------------------------------------------

    def signal(self, unit: str, name: str) -> None:
        """Send a signal to a service's main process."""
        self._box.check("systemctl", "kill", "--kill-whom=main", f"--signal={name}", unit)

    def drive(self, contact: str, level: int | None) -> None:
        """Put a level on a contact's line; None lets it float, as a wire that is cut does."""
        self._levels[contact] = level
        panel = VirtualPanel.open(self._inside("run/mmpi/pins"))
        if level is None:
            panel.release(LINES[contact])
        else:
            panel.drive(LINES[contact], level)

    def cut_power(self) -> None:
        """Switch it off at once."""
        self._disk.disk.cut()
        self._box.cut()

    def power_on(self, *, clock_lost: bool = False) -> None:
        """Switch it on, and wait until it is up; a container's clock is its host's."""
        if clock_lost:
            raise CannotError("a container has no clock that it could lose")
        self._disk.lose(self._dice)
        self._worn_out = False
        self._box.boot()
        self._wire()

    def cable(self, *, plugged: bool) -> None:
        """Plug the cable in, or pull it."""
        self._box.cable(plugged=plugged)

    def deaf(self, *, on: bool) -> None:
        """Have everything that is sent to it lost without a word; what it sends itself arrives."""
        words = ("route", "add" if on else "delete", "blackhole", f"{self._box.address}/32")
        assert self._network.ip(*words) or not on

    def fill_disk(self, *, full: bool) -> None:
        """Leave no room on its disk, or give it back."""
        ballast = self._disk.disk.path / "ballast"
        ballast.unlink(missing_ok=True)
        if full:
            room = os.statvfs(self._disk.disk.path)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - LEFT_MB * 2**20)

    def refuse_writes(self, *, on: bool) -> None:
        """Have its disk take no write any more; off = as a new one, with all that was promised on it, and a restart."""
        if on:
            self._worn_out = True
            self._disk.refuse_writes()
        else:
            self.cut_power()
            self.power_on()

    def numb(self, unit: str) -> None:
        """Have a service's loop turn and handle nothing, until it is begun anew."""
        assert unit in NUMB_UNITS
        self.signal(unit, "USR1")

    def set_clock(self, ahead_s: float) -> None:
        """CannotError: a container's clock is its host's."""
        raise CannotError(f"{ahead_s:g} s ahead: a container has no clock of its own")

    def sense(self, *, celsius: float = 45.0, weak: bool = False) -> None:
        """Have its sensors tell this temperature, and whether the supply is too weak."""
        for path, text in told(celsius, weak).items():
            self._box.write(f"{SYSFS}/{path}.new", f"{text}\n")
            place = self._box.root / SYSFS / path
            place.with_name(f"{place.name}.new").replace(place)

    def panic(self) -> None:
        """CannotError: a container's kernel is its host's."""
        raise CannotError("a container has no kernel of its own")
