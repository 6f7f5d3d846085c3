"""Virt: the shipped image in an emulated arm64 machine, through U-Boot and the boot script that is on the card.

The machine is QEMU's `virt`, without ACPI (with it and a firmware there is no GPIO chip): its own U-Boot, of the same
Debian release, in place of a Pi's firmware, virtio in place of the card reader and of the network, a PL061 of eight
lines in place of the header. Everything else is the card's.

    build = Build()
    card = Card(build, tmp_path / "card.img")
    card.put({"authorized_keys": key, ...})
    with Virt(build, card, tmp_path) as box:
        box.wait_up()
        box.check("mmpi", "status")
        box.header.drive(KILL, 1)

Invariant: nothing outlives the `with` block; nothing of the host is reached by the guest but what `forward` names.
It must not know scenarios.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from hil.emulator import DIES_WITH_US, EMULATOR, Lines, Serial, command, connected, disk_options, ensure_emulator
from hil.rigs.card import Build, Card
from image.debian import UnavailableError

UP_S: Final = 300.0
"""From power to a shell by SSH: 60 s on an idle core."""
KILL, SECOND, ARM, POWER, GREEN, AMBER, RED = 5, 4, 2, 0, 6, 7, 1
"""Lines of the chip; line 3 is the emulator's own power button."""
SERVER: Final = ("10.0.2.100", 443)
"""Where a server of this host is, seen from the machine."""


def pins(chip: str, **lines: int) -> str:
    """Return the configuration's section for a header on this chip."""
    wired = "".join(f"{name} = {line}\n" for name, line in lines.items())
    return f'\n[pins]\nbackend = "gpiod"\nchip = "{chip}"\n{wired}'


PINS: Final = pins("/dev/gpiochip0", kill=KILL, kill_second=SECOND, arm=ARM, green=GREEN, amber=AMBER, red=RED)


class Key:
    """A key pair for SSH in `folder`, made if it is not there."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
            raise UnavailableError("no ssh and ssh-keygen on this machine (package openssh-client)")
        self.path: Final = folder / "key"
        command_ = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", str(self.path)]
        if not self.path.exists():
            subprocess.run(command_, check=True, stdin=subprocess.DEVNULL)
        self.public: Final = self.path.with_suffix(".pub").read_bytes()


class Virt:
    """One machine with a card in it, switched on from `with` to the block's end."""

    def __init__(
        self,
        build: Build,
        card: Card,
        folder: Path,
        *,
        key: Key | None = None,
        disk: Path | None = None,
        more: str = "",
        memory_mb: int = 1024,
        clock: str = "",
        network: bool = True,
        levels: Mapping[int, int] | None = None,
        server: int = 0,
    ) -> None:
        """`disk`: the socket of a ServedDisk with the card's content, instead of the card's own file.

        `more` is added to the kernel's command line, `clock` is what the machine's clock begins with (ISO 8601),
        `levels` are what input lines of the header are at when it is switched on, where that is not what is usual,
        `server` is a port of this host's loopback that the machine finds at SERVER.
        """
        self.card, self._build, self._folder, self._key = card, build, folder, key
        self._disk, self._more, self._memory_mb, self._clock = disk, more, memory_mb, clock
        self._network, self._levels, self._server = network, dict(levels or {}), server
        self._port = 0

    def __enter__(self) -> "Virt":
        """Switch it on; UnavailableError if this machine cannot emulate one."""
        ensure_emulator()
        with ExitStack() as stack:
            self._place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmpi-virt-")))
            self.control = self._place / "ssh"
            """The socket of the connection that all commands share, while there is one (ssh, ControlPath)."""
            self._port = _free_port()
            self._process = self._emulator()
            self.began = time.monotonic()
            self._serial = Serial(self._process)
            stack.callback(self._serial.end)
            self._begin(stack)
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pull the plug, if it was not done."""
        self._hang_up()
        self._owned.close()

    def _begin(self, stack: ExitStack) -> None:
        """Put what hangs on the header into its place: contacts closed, buttons not pressed, unless told otherwise."""
        self.header = Lines(self._place)
        stack.callback(self.header.close)
        for line, level in {KILL: 0, SECOND: 1, ARM: 1, POWER: 1, **self._levels}.items():
            self.header.drive(line, level)

    def cpu_seconds(self) -> float:
        """Return how long the machine's processors have worked, by the host's measure, since it was switched on."""
        used = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def serial(self) -> str:
        """Return all that the machine has written to its serial line."""
        return self._serial.text

    def wait_serial(self, pattern: str, timeout_s: float = UP_S) -> str:
        """Return the next match on the serial line, later than what was waited for before; TimeoutError if none."""
        return self._serial.wait(pattern, timeout_s)

    def wait_up(self, timeout_s: float = UP_S) -> None:
        """Wait until SSH answers, by a connection of its own; TimeoutError with the serial line's end."""
        self._hang_up()
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"no shell after {timeout_s:.0f} s; the serial line: {self.serial[-3000:]}")
            time.sleep(1)

    def _answers(self) -> bool:
        try:
            return self.run("true", timeout_s=60).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def run(self, *words: str, data: bytes = b"", timeout_s: float = 120) -> "subprocess.CompletedProcess[bytes]":
        """Return how a command ended, run by the machine's shell as root over SSH."""
        assert self._key is not None
        line = " ".join(words)
        return subprocess.run(
            [
                "ssh", "-q", "-i", str(self._key.path), "-p", str(self._port), "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o",
                "ControlMaster=auto", "-o", f"ControlPath={self.control}", "-o", "ControlPersist=600",
                "root@127.0.0.1", line,
            ],
            input=data, capture_output=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def check(self, *words: str, data: bytes = b"", timeout_s: float = 120) -> str:
        """Return what a command printed; AssertionError with its stderr if it failed."""
        done = self.run(*words, data=data, timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}: {done.stderr.decode()[-2000:]}"
        return done.stdout.decode("utf-8", "replace")

    def status(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says."""
        found: dict[str, Any] = json.loads(self.check("mmpi status --json"))
        return found

    def bytes_written(self) -> int:
        """Return the bytes written to the card since the machine was switched on."""
        stats = self._monitor("query-blockstats")
        return int(next(each["stats"]["wr_bytes"] for each in stats if each.get("device") == "disk0"))

    def cut(self) -> None:
        """Take the power away, at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def power_off(self, timeout_s: float = 120) -> None:
        """Shut it down as its owner does, and wait until it is off."""
        self.run("systemctl --no-block poweroff")
        self._process.wait(timeout_s)

    def cable(self, *, plugged: bool) -> None:
        """Plug the network cable in, or pull it out."""
        self._monitor("set_link", name="n0", up=plugged)

    def password_login(self) -> "subprocess.CompletedProcess[bytes]":
        """Return how a login without a key ends."""
        return subprocess.run(
            [
                "ssh", "-v", "-p", str(self._port), "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no", "-o",
                "PreferredAuthentications=password,keyboard-interactive", "-o", "BatchMode=yes",
                "-o", "ConnectTimeout=30", "root@127.0.0.1", "true",
            ],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def _monitor(self, order: str, /, **arguments: Any) -> Any:
        with connected(self._place / "qmp2") as monitor, monitor.makefile("rw") as stream:
            stream.readline()
            command(stream, "qmp_capabilities")
            return command(stream, order, **arguments)

    def _hang_up(self) -> None:
        if self.control.exists():
            quit_ = ["ssh", "-q", "-o", f"ControlPath={self.control}", "-O", "exit", "root@127.0.0.1"]
            subprocess.run(quit_, capture_output=True, check=False)

    def _emulator(self) -> "subprocess.Popen[bytes]":
        flash, firmware = self.card.flash(self._build, self._more), self._build.run("card") / "virt-u-boot.bin"
        if self._disk is not None:
            disk: Sequence[str] = list(disk_options([self._disk]))
        else:
            drive = f"if=none,id=disk0,format=raw,file={self.card.path},cache=writeback"
            disk = ["-drive", drive, "-device", "virtio-blk-pci,drive=disk0,romfile="]
        net = ["-device", "virtio-net-pci,netdev=n0,romfile=", "-netdev", self._user_network()] if self._network else []
        clock = ["-rtc", f"base={self._clock},clock=vm"] if self._clock else []
        return subprocess.Popen(
            [
                *DIES_WITH_US, EMULATOR,
                "-M", "virt,acpi=off", "-accel", "tcg,thread=multi", "-cpu", "cortex-a53", "-m",
                str(self._memory_mb), "-smp", "2", "-nodefaults", "-display", "none", "-bios", str(firmware), "-drive",
                f"if=pflash,unit=1,format=raw,file={flash}", *disk, *net, *clock, "-device", "virtio-rng-pci",
                "-device", "i6300esb", "-action", "watchdog=reset", "-serial", "stdio", "-qtest",
                f"unix:{self._place}/qtest,server=on,wait=off", "-qtest-log", "none", "-qmp",
                f"unix:{self._place}/qmp,server=on,wait=off", "-qmp", f"unix:{self._place}/qmp2,server=on,wait=off",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip

    def _user_network(self) -> str:
        found = f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        if self._server:
            relay = f"{sys.executable} {Path(__file__).resolve().parents[1] / 'relay.py'} {self._server}"
            found += f",guestfwd=tcp:{SERVER[0]}:{SERVER[1]}-cmd:{relay}"
        return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
