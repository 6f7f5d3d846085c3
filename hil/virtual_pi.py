"""Virtual Pi: Debian's own kernel for arm64 in an emulator, with a GPIO chip whose lines are moved from outside.

The machine is QEMU's `virt` with its PL061: eight lines, each an input with true interrupts or an output. The levels
of inputs are set, and those of outputs read, through QEMU's test socket; commands go to a shell on the serial line.
There are no pulls: an undriven input keeps its last level (0 at first).

    with VirtualPi(files={"opt/hello.py": file("print('hello')")}) as pi:
        pi.drive(5, 1)
        print(pi.run("python3 /opt/hello.py"))

Invariant: nothing outlives the `with` block, and nothing listens on a network. It must not know what mmpi does.
"""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from hil.emulator import DIES_WITH_US, EMULATOR, Lines, Serial, disk_options, ensure_emulator
from hil.trixie import MODULES, ROOT, base, compiled, module_path
from image.archive import Entry, Tree, cpio, file
from image.debian import UnavailableError

BOOT_S: Final = 90.0
"""A boot takes 4 s on an idle core; the suite may run beside others."""
COMMAND_S: Final = 60.0


class VirtualPi:
    """A guest with mmpi of this checkout under /opt/mmpi, from `with` to the block's end."""

    def __init__(
        self,
        files: Mapping[str, Entry] | None = None,
        memory_mb: int = 512,
        cores: int = 1,
        disks: Sequence[Path] = (),
    ) -> None:
        """`disks` are sockets of ServedDisk (hil/logged_disk.py), which the guest has as /dev/vda, /dev/vdb, ..."""
        self._files: Final = dict(files or {})
        self._memory_mb: Final = memory_mb
        self._cores: Final = cores
        self._disks: Final = tuple(disks)
        self._asked = 0

    def __enter__(self) -> "VirtualPi":
        """Return the guest once its shell answers; UnavailableError if this machine cannot run one."""
        ensure_emulator()
        made = base()
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmpi-hil-")))
            initramfs = place / "initramfs"
            initramfs.write_bytes(made.initramfs.read_bytes() + cpio(compiled(checkout()) | self._files))
            self._serial = Serial(self._emulator(made.kernel, initramfs, place))
            stack.callback(self._serial.end)
            self._lines = Lines(place)
            stack.callback(self._lines.close)
            self.wait_serial("the guest is up", BOOT_S)
            if self._disks:
                self._load_modules()
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the emulator."""
        self._owned.close()

    @property
    def serial(self) -> str:
        """Return all that the guest has written so far."""
        return self._serial.text

    def drive(self, line: int, level: int) -> None:
        """Put a level on an input line; it stays until the next call, and a change is an edge for the kernel."""
        self._lines.drive(line, level)

    def output(self, line: int) -> int | None:
        """Return the level that the guest puts on a line, None if it does not drive it."""
        return self._lines.output(line)

    def changes(self, line: int, enough: int, within_s: float = 40.0) -> int:
        """Return how often an output changed: as soon as it is enough, or when the time is over."""
        return self._lines.changes(line, enough, within_s)

    def start(self, command: str) -> None:
        """Have the shell begin a command line of at most 4000 characters."""
        self._serial.write(f"{command}\n")

    def wait_serial(self, pattern: str, timeout_s: float = COMMAND_S) -> str:
        """Return the next match on the serial line, later than what was waited for before; TimeoutError if none."""
        return self._serial.wait(pattern, timeout_s)

    def run(self, command: str, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Return a command's exit status and what it wrote, both streams together."""
        self._asked += 1
        self.start(f"echo '<'{self._asked}'>'; {command}\necho '<'/{self._asked} $?'>'")
        self.wait_serial(rf"<{self._asked}>\n", timeout_s)
        text = self.wait_serial(rf"(?s).*?<\/{self._asked} \d+>\n", timeout_s)
        output, _, status = text.rpartition(f"</{self._asked} ")
        return int(status.rstrip(">\n")), output

    def interrupt(self) -> None:
        """Press Ctrl-C on the guest's terminal."""
        self._serial.write("\x03")

    def _load_modules(self) -> None:
        for path in (f"/{module_path(name)}" for name in MODULES):
            status, said = self.run(f"[ ! -e {path} ] || insmod {path}")
            if status != 0:
                raise UnavailableError(f"the guest's kernel does not take its module: {said.strip()}")

    def _emulator(self, kernel: Path, initramfs: Path, place: Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [
                *DIES_WITH_US, EMULATOR,
                "-M", "virt", "-accel", "tcg", "-cpu", "cortex-a53", "-nodefaults", "-no-reboot",
                "-m", str(self._memory_mb), "-smp", str(self._cores), "-display", "none", "-serial", "stdio",
                "-kernel", str(kernel), "-initrd", str(initramfs),
                "-append", "console=ttyAMA0 rdinit=/init panic=-1 quiet loglevel=1",
                "-qtest", f"unix:{place}/qtest,server=on,wait=off", "-qtest-log", "none",
                "-qmp", f"unix:{place}/qmp,server=on,wait=off", *disk_options(self._disks),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip


def checkout() -> Tree:
    """Return this checkout's package as it lies in the guest."""
    return {
        f"opt/mmpi/{path.relative_to(ROOT).as_posix()}": file(path.read_bytes())
        for path in sorted((ROOT / "mmpi").rglob("*.py"))
    }
