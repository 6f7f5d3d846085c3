"""Virtual Pi: Debian's own kernel for arm64 in an emulator, with a GPIO chip whose lines are moved from outside.

The machine is QEMU's `virt` with its PL061: eight lines, each an input with true interrupts or an output. The levels
of inputs are set, and those of outputs read, through QEMU's test socket; commands go to a shell on the serial line.
There are no pulls: an undriven input keeps its last level (0 at first).

    with VirtualPi(files={"opt/hello.py": file("print('hello')")}) as pi:
        pi.drive(5, 1)
        print(pi.run("python3 /opt/hello.py"))

Invariant: nothing outlives the `with` block, and nothing listens on a network. It must not know what mmpi does.

Sources: QEMU, docs/system/arm/virt.rst (the machine), hw/arm/virt.c (PL061 at 0x09030000), docs/devel/testing/qtest.rst
(`set_irq_in`, `readl`); Arm, PrimeCell GPIO (PL061) manual DDI 0190, chapter 3 (registers).
"""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from hil.trixie import MODULES, ROOT, base, compiled, module_path
from image.archive import Entry, Tree, cpio, file
from image.debian import UnavailableError

EMULATOR: Final = "qemu-system-aarch64"
LINES: Final = 8
BOOT_S: Final = 90.0
"""A boot takes 4 s on an idle core; the suite may run beside others."""
COMMAND_S: Final = 60.0
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""A test run that is killed cannot end its emulator."""
_PL061: Final = 0x0903_0000
_DATA: Final = _PL061 + 0x3FC
_DIRECTION: Final = _PL061 + 0x400


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
            self._serial = _Serial(self._emulator(made.kernel, initramfs, place))
            stack.callback(self._serial.end)
            self._chip = _find_chip(place / "qmp")
            self._qtest = _TestSocket(place / "qtest")
            stack.callback(self._qtest.close)
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
        assert 0 <= line < LINES
        self._qtest.ask(f"set_irq_in {self._chip} unnamed-gpio-in {line} {level}")

    def output(self, line: int) -> int | None:
        """Return the level that the guest puts on a line, None if it does not drive it."""
        assert 0 <= line < LINES
        if not self._qtest.read(_DIRECTION) >> line & 1:
            return None
        return self._qtest.read(_DATA) >> line & 1

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
                *_DIES_WITH_US, EMULATOR,
                "-M", "virt", "-accel", "tcg", "-cpu", "cortex-a53", "-nodefaults", "-no-reboot",
                "-m", str(self._memory_mb), "-smp", str(self._cores), "-display", "none", "-serial", "stdio",
                "-kernel", str(kernel), "-initrd", str(initramfs),
                "-append", "console=ttyAMA0 rdinit=/init panic=-1 quiet loglevel=1",
                "-qtest", f"unix:{place}/qtest,server=on,wait=off", "-qtest-log", "none",
                "-qmp", f"unix:{place}/qmp,server=on,wait=off", *_disk_options(self._disks),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip


def _disk_options(sockets: Sequence[Path]) -> Iterator[str]:
    """Yield QEMU's options for disks: the guest's flushes are passed on, and so are errors."""
    for number, path in enumerate(sockets):
        yield "-drive"
        yield f"if=none,id=disk{number},format=raw,file=nbd+unix:///?socket={path},cache=writeback"
        yield "-device"
        yield f"virtio-blk-pci,drive=disk{number},romfile=,werror=report,rerror=report"


def checkout() -> Tree:
    """Return this checkout's package as it lies in the guest."""
    return {
        f"opt/mmpi/{path.relative_to(ROOT).as_posix()}": file(path.read_bytes())
        for path in sorted((ROOT / "mmpi").rglob("*.py"))
    }


def ensure_emulator() -> None:
    """Install the emulator if it is not there; UnavailableError with the reason if that cannot be done."""
    if shutil.which(EMULATOR) is None:
        done = subprocess.run([Path(__file__).with_name("setup")], capture_output=True, text=True, check=False)
        if done.returncode != 0 or shutil.which(EMULATOR) is None:
            raise UnavailableError((done.stderr.strip().splitlines() or [f"no {EMULATOR}"])[-1])


class _Serial:
    """The guest's terminal: a thread keeps reading, so that the guest never waits for us."""

    def __init__(self, emulator: "subprocess.Popen[bytes]") -> None:
        self.text = ""
        self._emulator = emulator
        self._at = 0
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="serial", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the emulator, and the thread with it."""
        self._emulator.kill()
        self._emulator.wait()
        self._thread.join()
        for pipe in (self._emulator.stdin, self._emulator.stdout):
            assert pipe is not None
            pipe.close()

    def write(self, text: str) -> None:
        """Type a text."""
        assert self._emulator.stdin is not None
        self._emulator.stdin.write(text.encode())

    def wait(self, pattern: str, timeout_s: float) -> str:
        """Return the first match that begins after the last one's end."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self._news:
            while (found := wanted.search(self.text, self._at)) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    why = "the guest ended" if self._closed else f"{timeout_s:.0f} s passed"
                    raise TimeoutError(f"{why} without {pattern!r} on the serial line; it said: {self.text[-2000:]}")
                self._news.wait(left)
            self._at = found.end()
            return found[0]

    def _read(self) -> None:
        assert self._emulator.stdout is not None
        while data := self._emulator.stdout.read(65536):
            with self._news:
                self.text += data.decode("utf-8", "replace").replace("\r", "")
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()


class _TestSocket:
    """QEMU's test socket: one line asks, one line answers."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._answers = self._socket.makefile("r", newline="\n")

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def ask(self, request: str) -> str:
        """Return the answer's words after OK."""
        self._socket.sendall(request.encode() + b"\n")
        while (answer := self._answers.readline().strip()).startswith("IRQ"):
            continue
        assert answer.startswith("OK"), f"{request}: {answer or 'the emulator ended'}"
        return answer.removeprefix("OK").strip()

    def read(self, address: int) -> int:
        """Return the 32-bit word at a physical address."""
        return int(self.ask(f"readl {address:#x}"), 16)


def _find_chip(path: Path) -> str:
    """Return the PL061's path in the emulator's tree of objects; its number differs between versions."""
    with _connected(path) as monitor, monitor.makefile("rw") as stream:
        stream.readline()
        _command(stream, "qmp_capabilities")
        for each in _command(stream, "qom-list", path="/machine/unattached"):
            if each["type"] == "child<pl061>":
                return f"/machine/unattached/{each['name']}"
    raise UnavailableError("the emulator's virt machine has no PL061")


def _command(stream: Any, name: str, **arguments: str) -> Any:
    stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "event" not in answer:
            return answer["return"]


def _connected(path: Path, timeout_s: float = 10.0) -> socket.socket:
    """Return a connection to a socket that the emulator is about to make."""
    deadline = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise UnavailableError("the emulator did not start") from None
            time.sleep(0.02)
