"""Emulator: what every virtual machine here has: a serial line that is read, and a GPIO chip that is moved.

Invariant: a guest never waits for us, and an emulator ends with the process that started it.
It must not know what runs in the guest.

Sources: QEMU, docs/system/arm/virt.rst (the machine), hw/arm/virt.c (PL061 at 0x09030000), docs/devel/testing/qtest.rst
(`set_irq_in`, `readl`), qapi/run-state.json (`RESET`); Arm, PrimeCell GPIO (PL061) manual DDI 0190, chapter 3
(registers).
"""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from image.debian import UnavailableError

EMULATOR: Final = "qemu-system-aarch64"
LINES: Final = 8
DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""A test run that is killed cannot end its emulator."""
_PL061: Final = 0x0903_0000
_DATA: Final = _PL061 + 0x3FC
_DIRECTION: Final = _PL061 + 0x400


def disk_options(sockets: Sequence[Path]) -> Iterator[str]:
    """Yield QEMU's options for disks: the guest's flushes are passed on, and so are errors."""
    for number, path in enumerate(sockets):
        yield "-drive"
        yield f"if=none,id=disk{number},format=raw,file=nbd+unix:///?socket={path},cache=writeback"
        yield "-device"
        yield f"virtio-blk-pci,drive=disk{number},romfile=,werror=report,rerror=report"


def ensure_emulator() -> None:
    """Install the emulator if it is not there; UnavailableError with the reason if that cannot be done."""
    if shutil.which(EMULATOR) is None:
        done = subprocess.run([Path(__file__).with_name("setup")], capture_output=True, text=True, check=False)
        if done.returncode != 0 or shutil.which(EMULATOR) is None:
            raise UnavailableError((done.stderr.strip().splitlines() or [f"no {EMULATOR}"])[-1])


class Serial:
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


class Lines:
    """The eight lines of a machine's PL061; nothing drives them before `drive`.

    A reset of the machine takes the emulated chip's levels away, which no reset does to a contact: a thread that hears
    of it puts them there again.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` holds the emulator's sockets qtest and qmp; UnavailableError if it does not start."""
        self._monitor = connected(folder / "qmp")
        self._stream = self._monitor.makefile("rw")
        self._stream.readline()
        command(self._stream, "qmp_capabilities")
        self._chip = find_chip(self._stream)
        self._qtest = TestSocket(folder / "qtest")
        self.resets = 0
        """How often the machine was reset, and its levels put there again."""
        self._levels: dict[int, int] = {}
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._hear, name="resets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._monitor.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()
        self._monitor.close()
        self._qtest.close()

    def drive(self, line: int, level: int) -> None:
        """Put a level on an input line; it stays until the next call, and a change is an edge for the kernel."""
        assert 0 <= line < LINES
        with self._turn:
            self._levels[line] = level
            self._put(line, level)

    def _put(self, line: int, level: int) -> None:
        self._qtest.ask(f"set_irq_in {self._chip} unnamed-gpio-in {line} {level}")

    def _hear(self) -> None:
        # An emulator that ends takes its sockets with it.
        with suppress(OSError, AssertionError):
            for told in self._stream:
                if json.loads(told).get("event") == "RESET":
                    with self._turn:
                        for line, level in self._levels.items():
                            self._put(line, level)
                        self.resets += 1

    def levels(self) -> int:
        """Return what the chip reads on its inputs now, one bit for each line."""
        with self._turn:
            return self._qtest.read(_DATA)

    def output(self, line: int) -> int | None:
        """Return the level that the guest puts on a line, None if it does not drive it."""
        assert 0 <= line < LINES
        with self._turn:
            if not self._qtest.read(_DIRECTION) >> line & 1:
                return None
            return self._qtest.read(_DATA) >> line & 1

    def changes(self, line: int, enough: int, within_s: float = 40.0) -> int:
        """Return how often an output changed: as soon as it is enough, or when the time is over."""
        end, last, count = time.monotonic() + within_s, self.output(line), 0
        while count < enough and time.monotonic() < end:
            level = self.output(line)
            count += level != last
            last = level
            time.sleep(0.01)
        return count


class TestSocket:
    """QEMU's test socket: one line asks, one line answers."""

    def __init__(self, path: Path) -> None:
        self._socket = connected(path)
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


def find_chip(stream: Any) -> str:
    """Return the PL061's path in the emulator's tree of objects; its number differs between versions."""
    for each in command(stream, "qom-list", path="/machine/unattached"):
        if each["type"] == "child<pl061>":
            return f"/machine/unattached/{each['name']}"
    raise UnavailableError("the emulator's virt machine has no PL061")


def command(stream: Any, order: str, /, **arguments: Any) -> Any:
    """Return what an order to the emulator's monitor gives."""
    stream.write(json.dumps({"execute": order, "arguments": arguments}) + "\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "event" not in answer:
            return answer["return"]


def connected(path: Path, timeout_s: float = 10.0) -> socket.socket:
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
