"""Logged disk: a disk that notes every request and gets into trouble on demand, for a guest or mounted on this host.

nbdkit serves an image with an ext4 on it (hil/nbd_log.py is its plugin). On the host nbdfuse shows it as a file, and a
loop device makes a disk of that file, so that writes, flushes and errors pass through the kernel's own block layer and
ext4.

    with LoggedDisk(tmp_path) as disk:
        fd = os.open(disk.path / "ledger", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"...")
        os.fdatasync(fd)
        disk.mark("promised")
    # disk.log and disk.base are for hil/power_cut.py

Invariant: nothing outlives the `with` block or this process but the files in the folder that was given (and, if this
process is killed, two dead sockets in the temporary folder). It must not know what is written, or what a power cut does
to it.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hil.mounts import MOUNTING, SERVING, ensure_disk_tools, ensure_mounts, loop_device, mount, tool, unmounted_at_end
from hil.trixie import ROOT
from image.debian import UnavailableError

BLOCK: Final = 4096
START_S: Final = 20.0
END_S: Final = 10.0
SECTOR: Final = 512
"""The unit of the kernel's statistics, whatever a device's own is."""
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class ServedDisk:
    """A disk on a socket; its files lie in a folder of the caller's. Methods may be called from any thread."""

    _tools: Sequence[str] = SERVING

    def __init__(
        self, folder: Path, size_mb: int = 64, *, mkfs: Sequence[str] = (), image: Path | None = None
    ) -> None:
        """`image` is copied and must hold a file system; without it an empty one is made by mkfs.ext4 with `mkfs`."""
        self.base: Final = folder / "base.img"
        self.image: Final = folder / "disk.img"
        self.log: Final = folder / "disk.log"
        self._folder: Final = folder
        self._size_mb: Final = size_mb
        self._mkfs: Final = tuple(mkfs)
        self._given: Final = image
        self._asking: Final = threading.Lock()
        self._owned = ExitStack()
        self._served = False

    def __enter__(self) -> Self:
        """Return the disk once it can be used; UnavailableError if this machine cannot serve one."""
        ensure_disk_tools(self._tools)
        with ExitStack() as stack:
            self._begin(stack)
            self._served, self._owned = True, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; a slow flush is not waited for, other troubles stay on. One that has ended is left alone."""
        if not self._served:
            return
        self._served = False
        try:
            self.slow_flush(0)
        finally:
            self._owned.close()

    def mark(self, label: str) -> None:
        """Note a promise: it stands in the log after everything that was answered before this call."""
        self._order(mark=label)

    def fail_writes(self, on: bool = True) -> None:
        """Answer writes with EIO."""
        self._order(fail_writes=on)

    def fail_flushes(self, on: bool = True) -> None:
        """Answer flushes with EIO; what they were to make safe is not."""
        self._order(fail_flushes=on)

    def slow_flush(self, seconds: float) -> None:
        """Let each flush take so long, all other requests waiting for it; 0 ends one that is under way, too."""
        self._order(slow_flush_s=seconds)

    def cut(self) -> None:
        """Take the power away: every later request fails. What is left is said by power_cut.image_at(log, None)."""
        self._order(cut=True)

    def _begin(self, stack: ExitStack) -> None:
        self._make_image()
        # Paths of sockets are limited to 107 characters.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmpi-disk-")))
        self.socket = place / "nbd"
        control = place / "control"
        server = stack.enter_context(
            _Child(
                "nbdkit", "-f", "-U", str(self.socket), "python", str(ROOT / "hil" / "nbd_log.py"),
                f"file={self.image}", f"log={self.log}", f"control={control}",
                output=self._folder / "nbdkit.txt",
            )
        )  # fmt: skip
        self._control = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.wait_for(lambda: _connects(self._control, control))
        self._answers = stack.enter_context(self._control.makefile("rb"))

    def _make_image(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._given is not None:
            _copy(self._given, self.base)
        else:
            with self.base.open("wb") as file:
                file.truncate(self._size_mb << 20)
            command = [tool("mkfs.ext4") or "mkfs.ext4", "-q", "-F", "-b", str(BLOCK), *self._mkfs, str(self.base)]
            subprocess.run(command, check=True, capture_output=True)
        _copy(self.base, self.image)

    def _order(self, **order: Any) -> None:
        with self._asking:
            self._control.sendall(json.dumps(order).encode() + b"\n")
            answer = self._answers.readline()
        assert answer == b"ok\n", f"{order}: {answer.decode() or 'nbdkit ended'}"


class LoggedDisk(ServedDisk):
    """A served disk with its ext4 mounted on this host."""

    _tools = MOUNTING

    def __init__(
        self,
        folder: Path,
        size_mb: int = 64,
        *,
        mkfs: Sequence[str] = (),
        options: Sequence[str] = (),
        image: Path | None = None,
    ) -> None:
        super().__init__(folder, size_mb, mkfs=mkfs, image=image)
        self.path: Final = folder / "mounted"
        """The mounted file system."""
        self._options: Final = tuple(options)

    def __enter__(self) -> Self:
        """Return the disk once it is mounted; UnavailableError if this machine cannot do that."""
        ensure_mounts()
        return super().__enter__()

    @property
    def device(self) -> str:
        """Return the loop device's name in /dev and /sys/block."""
        return loop_device(self.path)

    def bytes_written(self) -> int:
        """Return how many bytes the kernel has written to the device since it had been mounted."""
        return _written(self.device) - self._written_before

    def _begin(self, stack: ExitStack) -> None:
        super()._begin(stack)
        shown = self._folder / "shown"
        for target in (self.path, shown):
            target.mkdir(exist_ok=True)
        children = stack.enter_context(ExitStack())
        stack.enter_context(unmounted_at_end(self.path, shown))
        disk = shown / "disk"
        nbdfuse = _Child("nbdfuse", str(disk), "--unix", str(self.socket), output=self._folder / "nbdfuse.txt")
        children.enter_context(nbdfuse).wait_for(disk.exists)
        mount(disk, self.path, self._options)
        # The statistics go on from whatever used this loop device before.
        self._written_before = _written(self.device)


class _Child:
    """A program that runs until the block's end."""

    def __init__(self, *command: str, output: Path) -> None:
        self._command: Final = command
        self._output: Final = output

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*_DIES_WITH_US, *self._command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(END_S)

    def wait_for(self, is_up: Callable[[], bool]) -> None:
        """Return once it is up; UnavailableError with its last words if it ended, or took too long."""
        deadline = time.monotonic() + START_S
        while not is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise UnavailableError(f"{self._command[0]} did not start: {(said or ['it said nothing'])[-1]}")
            time.sleep(0.01)


def _connects(connection: socket.socket, path: Path) -> bool:
    try:
        connection.connect(str(path))
    except OSError:
        return False
    return True


def _written(device: str) -> int:
    return int(Path(f"/sys/block/{device}/stat").read_text(encoding="ascii").split()[6]) * SECTOR


def _copy(source: Path, target: Path) -> None:
    """Copy an image, holes as holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True, capture_output=True)
