"""Shelf: the shipped image in an emulated machine, as a rig for scenarios: edges, a lossy card, a clock, a watchdog.

The venue is a server of this machine's loopback, which the box finds at SERVER: the only thing that its network leads
to. A box is set up as its owner does it, through the folder on its card. `deaf` is a packet filter in front of all else
in the box: what comes in on its one cable is dropped, but for the rig's own SSH, and what it sends arrives, so that its
connections are half open. With the cable pulled, the rig's SSH is cut off, too.

    with Shelf(folder, venue_port) as rig:
        rig.mend(config(rig), venue.secrets, venue.authority)
        rig.drive(KILL, None)

What it has not: NUMB, because nothing is in the image beside the product, and the sensors' own path, because the
machine has no sensors: `host.sysfs_root` is a folder on the data partition, with the kernel's own watchdog linked in.

Invariant: as of Virt; what it says of the time, it says before anything may be placed. It must not know scenarios.
"""

import io
import json
import random
import subprocess
import tarfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.emulator import ensure_emulator
from hil.logged_disk import ServedDisk
from hil.rig import (
    ARM,
    CLOCK,
    KERNEL,
    KILL,
    LOSSY,
    NETWORK,
    PINS,
    POWER,
    PROCESSES,
    SECOND,
    SENSORS,
    SETUP,
    STORAGE,
    SUPPLY,
    CannotError,
)
from hil.rigs import virt
from hil.rigs.asking import Asking
from hil.rigs.card import Build, Card
from hil.rigs.clock import set_clock, stop_keeping
from hil.rigs.lossy import Lossy
from hil.rigs.sensors import told
from hil.rigs.virt import SERVER, Key, Virt

CARD_MB: Final = 2048
LINES: Final = {KILL: virt.KILL, SECOND: virt.SECOND, ARM: virt.ARM, SUPPLY: virt.POWER}
WELL: Final[Mapping[str, int | None]] = {KILL: 0, SECOND: None, ARM: None, SUPPLY: 1}
SYSFS: Final = "/data/rig-sysfs"
AUTHORITY: Final = "/etc/mmpi/authority.pem"
WATCHDOG_S: Final = 14
UP_S: Final = 400.0
RESET_S: Final = 90.0
UNANSWERED: Final = 124
LEFT_MB: Final = 1
"""Of a disk that is full: less than the box asks for, and than it may take."""
LONG_AGO: Final = "2000-01-01T00:00:00"
SETTINGS: Final = (
    virt.pins(
        "/dev/gpiochip0", kill=virt.KILL, kill_second=virt.SECOND, arm=virt.ARM, power=virt.POWER, green=virt.GREEN,
        amber=virt.AMBER, red=virt.RED,
    )
    + f"""
[clock]
require_sync = true

[host]
sysfs_root = "{SYSFS}"

[watchdog]
hardware_s = {WATCHDOG_S}
"""
)  # fmt: skip
_END: Final = """
systemctl kill --signal=KILL mmpi-quoter mmpi-guardian mmpi-telemetry mmpi-broker 2>/dev/null
systemctl stop mmpi.target mmpi-quoter mmpi-guardian mmpi-telemetry mmpi-broker && systemctl reset-failed || exit
rm -rf /data/mmpi/* /data/mmpi/.[!.]* /run/mmpi/* /data/ballast
systemd-tmpfiles --create mmpi.conf
nft delete table inet rig 2>/dev/null
true
"""
"""A box without a past; what is in force of its settings stays, and is replaced by the next set-up."""
_OPEN: Final = "mount -o remount,rw /boot/firmware && mkdir -p /boot/firmware/mmpi-setup"
_SET_UP: Final = "mount -o remount,ro /boot/firmware; systemctl restart mmpi-setup; cat /run/mmpi-box/setup.json"
_DEAF: Final = """nft -f - <<'END'
table inet rig {
    chain input {
        type filter hook input priority -300; policy accept;
        iifname "lo" accept
        tcp dport 22 accept
        drop
    }
}
END
"""
_FILL: Final = f"""
room=$(df --output=avail -B1 /data | tail -1) && fallocate -l $((room - {LEFT_MB} * 1048576)) /data/ballast
"""
_PANIC: Final = """
echo 0 >/proc/sys/kernel/panic
(sleep 0.3; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &
"""
"""The image's kernel would start anew by itself after 5 s; here the watchdog has to do it."""


class Shelf:
    """The rig; a context manager."""

    name: Final = "virt"
    can: Final = frozenset({PINS, POWER, NETWORK, STORAGE, LOSSY, PROCESSES, CLOCK, KERNEL, SENSORS, SETUP})
    settings: Final = SETTINGS
    patience: Final = 4.0
    venue_url: Final = f"https://{SERVER[0]}:{SERVER[1]}"

    def __init__(self, folder: Path, port: int) -> None:
        """`port` is the venue's, on this machine's loopback."""
        self._folder: Final = folder
        self._port: Final = port
        self._levels = dict(WELL)
        self._dice = random.Random(1)
        self._box: Virt | None = None
        self._asking: Asking | None = None
        self._worn_out = False

    def __enter__(self) -> Self:
        """Return it with a box that is up for the first time; UnavailableError if this machine cannot emulate one."""
        ensure_emulator()
        self._build, self._key = Build(), Key(self._folder)
        self._card = Card(self._build, self._folder / "card.img", CARD_MB)
        self._card.put({"authorized_keys": self._key.public, "hostname": b"shelf\n"})
        with ExitStack() as stack:
            self._disk = stack.enter_context(Lossy(self._folder, _served, self._card.path))
            stack.callback(self._off)
            self._on()
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owned.close()

    # The machine --------------------------------------------------------------------------------------------------

    def _on(self, clock: str = "") -> None:
        levels = {LINES[contact]: _level(level) for contact, level in self._levels.items()}
        self._box = Virt(
            self._build, self._card, self._folder, key=self._key, disk=self._disk.disk.socket, clock=clock,
            levels=levels, server=self._port,
        ).__enter__()  # fmt: skip
        self._asking = Asking(self._box)
        self._box.wait_up(UP_S)
        stop_keeping(self._box)

    def _off(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        if self._box is not None:
            self._box.cut()
            self._box.__exit__(None, None, None)
            self._box = None

    @property
    def _there(self) -> Virt:
        assert self._box is not None, "it is switched off"
        return self._box

    # A box that is well -------------------------------------------------------------------------------------------

    def mend(self, config: str, secrets: Mapping[str, str], authority: bytes, seed: int = 1) -> None:
        """Have a box run that is well, latched and without a past; its chances are the seed's."""
        self._dice, self._levels = random.Random(seed), dict(WELL)
        if not self._is_sane():
            self._off()
            self._disk.renew()
            self._worn_out = False
            self._on()
        box = self._there
        for contact, level in self._levels.items():
            self.drive(contact, level)
        box.check(_END)
        self.sense()
        set_clock(box, 0.0)
        self._set_up(config, secrets, authority)
        box.check("systemctl start mmpi.target")

    def _is_sane(self) -> bool:
        """Return whether the box is on, answers, and can write; of one that does not, nobody asks why."""
        if self._box is None or self._worn_out:
            return False
        try:
            self.cable(plugged=True)
            return self._box.run("touch /data/rig && sync /data/rig", timeout_s=30).returncode == 0
        except (subprocess.TimeoutExpired, OSError, AssertionError, ValueError):
            return False

    def _set_up(self, config: str, secrets: Mapping[str, str], authority: bytes) -> None:
        """Put everything onto the card, as its owner does, and have it taken."""
        box = self._there
        box.check(f"ln -sfn /sys/class/watchdog {SYSFS}/class/watchdog")
        box.check(f"mkdir -p /data/settings/mmpi; cat >{AUTHORITY}; chmod 644 {AUTHORITY}; sync", data=authority)
        lines = "".join(f'{name.upper().replace(".", "_")}="{text.strip()}"\n' for name, text in secrets.items())
        box.check(f"{_OPEN} && cat >/boot/firmware/mmpi-setup/mmpi.toml", data=config.encode())
        box.check("cat >/boot/firmware/mmpi-setup/secrets.env", data=lines.encode())
        said = box.check(_SET_UP, timeout_s=300)
        assert json.loads(said)["ok"], f"the set-up: {said}"

    # Asking -------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says; {} if nobody answers."""
        return self._asking.status() if self._asking is not None else {}

    def shell(self, line: str) -> tuple[int, str]:
        """Run a line as root; return exit code and output."""
        try:
            done = self._there.run(line)
        except subprocess.TimeoutExpired as error:
            return UNANSWERED, f"no answer within {error.timeout:g} s"
        return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")

    def ledger(self, target: Path) -> Path:
        """Return a copy of its ledger below `target`; the services are at rest."""
        done = self._there.run("tar -C /data/mmpi/journal -cf - .")
        assert done.returncode == 0, done.stderr.decode()
        (target / "ledger").mkdir()
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
            packed.extractall(target / "ledger", filter="data")
        return target / "ledger"

    # Doing --------------------------------------------------------------------------------------------------------

    def signal(self, unit: str, name: str) -> None:
        """Send a signal to a service's main process."""
        self._there.check(f"systemctl kill --kill-whom=main --signal={name} {unit}")

    def drive(self, contact: str, level: int | None) -> None:
        """Put a level on a contact's line; None lets it float, and the line's own pull-up puts it high."""
        self._levels[contact] = level
        if self._box is not None:
            self._box.header.drive(LINES[contact], _level(level))

    def cut_power(self) -> None:
        """Switch it off at once."""
        self._disk.disk.cut()
        self._off()

    def power_on(self, *, clock_lost: bool = False) -> None:
        """Switch it on, and wait until it is up; it is told the time, or its clock has gone back by years."""
        assert self._box is None, "it is switched on"
        self._disk.lose(self._dice)
        self._worn_out = False
        self._on(LONG_AGO if clock_lost else "")
        if not clock_lost:
            self.set_clock(0.0)

    def cable(self, *, plugged: bool) -> None:
        """Plug the cable in, or pull it."""
        self._there.cable(plugged=plugged)

    def deaf(self, *, on: bool) -> None:
        """Have everything that is sent to it lost without a word; what it sends itself arrives."""
        if on:
            self._there.check(_DEAF)
        else:
            self._there.check("nft delete table inet rig 2>/dev/null; true")

    def fill_disk(self, *, full: bool) -> None:
        """Leave no room on its disk, or give it back."""
        self._there.check("rm -f /data/ballast" + (f";{_FILL}" if full else ""))

    def refuse_writes(self, *, on: bool) -> None:
        """Have its disk take no write any more; off = as a new one, with all that was promised on it, and a restart."""
        if on:
            self._worn_out = True
            self._disk.refuse_writes()
        else:
            self.cut_power()
            self.power_on()

    def numb(self, unit: str) -> None:
        """CannotError: nothing is in the image beside the product."""
        raise CannotError(f"{unit}: nothing is in the image beside the product")

    def set_clock(self, ahead_s: float) -> None:
        """Set its clock so far ahead of the time; its kernel believes that somebody keeps it so."""
        set_clock(self._there, ahead_s)

    def sense(self, *, celsius: float = 45.0, weak: bool = False) -> None:
        """Have its sensors tell this temperature, and whether the supply is too weak."""
        # A rename, because what is being written reads as nothing for a moment.
        files = told(celsius, weak).items()
        put = "".join(f"echo {text} >{path}.new && mv {path}.new {path}\n" for path, text in files)
        folders = f"{SYSFS}/class/thermal/thermal_zone0 {SYSFS}/class/hwmon/hwmon0"
        self._there.check(f"mkdir -p {folders}; cd {SYSFS}\n{put}")

    def panic(self) -> None:
        """Have its kernel stop for good, and wait until a watchdog has reset it and it is up again."""
        box = self._there
        resets, deadline = box.header.resets, time.monotonic() + RESET_S
        box.check(_PANIC)
        while box.header.resets == resets:
            assert time.monotonic() < deadline, f"no watchdog has reset it: {box.serial[-2000:]}"
            time.sleep(0.1)
        box.wait_up(UP_S)
        stop_keeping(box)
        self.set_clock(0.0)


def _served(place: Path, image: Path | None) -> ServedDisk:
    return ServedDisk(place, image=image)


def _level(level: int | None) -> int:
    return 1 if level is None else level
