"""Raspi3b: the shipped image in QEMU's Raspberry Pi 3B: its own U-Boot, SD controller, USB network and GPIO controller.

What this machine has not: the firmware before U-Boot (config.txt is not read), pulls, edges on inputs, a watchdog that
can be used (it resets at once). Its SD controller reads 1 to 2 MB/s, whatever a card does.

    build = Build()
    card = Card(build, tmp_path / "card.img")     # 2048 MB: this controller wants a power of two
    with Raspi3b(build, card, tmp_path, more="systemd.show_status=1") as box:
        box.wait_serial("boot-complete")          # its network is up minutes later

Invariant: as of the virtual machine. It must not know scenarios.

Sources: QEMU, docs/system/arm/raspi.rst; Broadcom, BCM2835 ARM Peripherals, section 6 (GPIO registers).
"""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from hil.emulator import DIES_WITH_US, EMULATOR, TestSocket
from hil.rigs.virt import Virt, pins

_SET: Final = 0x3F20_001C
_CLEAR: Final = 0x3F20_0028
_LEVEL: Final = 0x3F20_0034
KILL, ARM, GREEN, AMBER, RED = 5, 13, 17, 27, 22
"""BCM numbers, as docs/wiring.md has them."""
PINS: Final = pins("pinctrl-bcm2835", kill=KILL, arm=ARM, green=GREEN, amber=AMBER, red=RED)
NO_WATCHDOG: Final = "systemd.watchdog_sec=off systemd.watchdog_pre_sec=off"


class BcmLines:
    """Lines 0 to 31 of the header, by the controller's registers; inputs are low before `drive`."""

    def __init__(self, folder: Path) -> None:
        self._qtest = TestSocket(folder / "qtest")

    def close(self) -> None:
        """Hang up."""
        self._qtest.close()

    def drive(self, line: int, level: int) -> None:
        """Put a level on an input line; the kernel can read it, and is not told."""
        self._qtest.ask(f"writel {_SET if level else _CLEAR:#x} {1 << line:#x}")

    def output(self, line: int) -> int:
        """Return a line's level, whoever drives it."""
        return self._qtest.read(_LEVEL) >> line & 1


class Raspi3b(Virt):
    """One Pi with a card in it; `lines` are its header."""

    def lamps(self) -> tuple[int, int, int]:
        """Return the levels of green, amber and red."""
        return self.lines.output(GREEN), self.lines.output(AMBER), self.lines.output(RED)

    def _begin(self, stack: ExitStack) -> None:
        self.lines = BcmLines(self._place)
        stack.callback(self.lines.close)

    def _emulator(self) -> "subprocess.Popen[bytes]":
        made, tree = self._build.run("card"), self._folder / "board.dtb"
        self.card.put_file("uboot.env", self._settings())
        tree.write_bytes(self.card.get("bcm2837-rpi-3-b.dtb") or b"")
        self._build.builder.script(self._folder, REVISION, (tree.name,))
        return subprocess.Popen(
            [
                *DIES_WITH_US, EMULATOR,
                "-M", "raspi3b", "-accel", "tcg,thread=multi", "-nodefaults", "-display", "none",
                "-kernel", str(made / "rpi-u-boot.bin"), "-dtb", str(tree), "-drive",
                f"if=sd,format=raw,file={self.card.path},cache=writeback", "-device", "usb-net,netdev=n0", "-netdev",
                self._user_network(), "-serial", "null", "-serial", "stdio", "-qtest",
                f"unix:{self._place}/qtest,server=on,wait=off", "-qtest-log", "none", "-qmp",
                f"unix:{self._place}/qmp2,server=on,wait=off",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip

    def _settings(self) -> bytes:
        """Return U-Boot's settings as the image has them, with a longer command line for the kernel."""
        return self.card.environment(self._build, "env-rpi.txt", 0x4000, f"{NO_WATCHDOG} {self._more}".strip())


REVISION: Final = """\
cd /mnt
fdtput -p -c "$1" /system
fdtput -t x "$1" /system linux,revision a02082
"""
