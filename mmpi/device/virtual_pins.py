"""Virtual pins: a mapped file in place of a chip. One process is the box, another is the hand that moves its contacts.

A line that the panel does not drive floats, so its pull decides, as with a wire that is cut. A file of zeros has every
line floating and no output: whoever comes first may make it, and there is nothing to agree on.

Invariant: reading and driving touch memory only; a file that was removed or replaced is a chip that was unplugged.
It must not know what a line is for.

Layout: 8-byte words (magic, the box's last beat in monotonic ns), and from byte 64 on one entry for each line in each
of LEVELS (0 not driven, 1 low, 2 high; by the panel), OUTPUTS (the same; by the box), PULLS (what a line that floats
reads as; the same; by the box), COUNTS (edges, 4 bytes; by the panel) and STAMPS (of the last edge, 8 bytes; too).
"""

import fcntl
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mmpi.device.lines import Edges, Pull
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

LINES: Final = 256
SIZE: Final = 4096
MAGIC: Final = b"MMPIPIN1"
MODE: Final = 0o640

_BEAT: Final = 1
"""Index of the beat among 8-byte words; the magic stands before it."""
_LEVELS, _OUTPUTS, _PULLS = 64, 64 + LINES, 64 + 2 * LINES
_COUNTS: Final = (64 + 3 * LINES) // 4
"""Index of the first count among 4-byte words."""
_STAMPS: Final = (64 + 7 * LINES) // 8
_PULLED: Final = {"as_is": 0, "floating": 0, "down": 1, "up": 2}


class VirtualLines:
    """The box's side: what the guardian reads and sets; get one by `create`."""

    size: Final = LINES
    edges_fd: Final = None

    def __init__(self, path: Path, fd: int, view: memoryview) -> None:
        self.name: Final = str(path)
        self._fd: Final = fd
        self._file: Final = _identity(os.fstat(fd))
        self._gone = ""
        self._bytes: Final = view
        self._counts: Final = view.cast("I")
        self._words: Final = view.cast("Q")
        self._owned: set[int] = set()
        self._seen: dict[int, int] = {}
        """Edges of each input that were taken, by the panel's count."""

    @classmethod
    def create(cls, path: Path) -> "VirtualLines":
        """Return the lines, made if need be, all of them given up; DeviceError if another process has them."""
        fd, view = _map(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise DeviceError(f"{path}: these virtual pins are in use by another process") from None
        view[_OUTPUTS : _PULLS + LINES] = bytes(2 * LINES)
        return cls(path, fd, view)

    def as_input(self, line: int, pull: Pull, edges: bool) -> None:
        """Own the line as an input, with or without its edges."""
        self._owned.add(line)
        self._bytes[_OUTPUTS + line] = 0
        self._bytes[_PULLS + line] = _PULLED[pull]
        if edges:
            self._seen.setdefault(line, self._counts[_COUNTS + line])
        else:
            self._seen.pop(line, None)

    def as_output(self, line: int, level: int) -> None:
        """Own the line as an output that has this level from the start."""
        self._owned.add(line)
        self._seen.pop(line, None)
        self._bytes[_OUTPUTS + line] = 1 + level

    def release(self, line: int) -> None:
        """Give the line up; one that is not owned is left alone."""
        if line not in self._owned:
            return
        self._owned.discard(line)
        self._seen.pop(line, None)
        self._bytes[_OUTPUTS + line] = 0
        self._bytes[_PULLS + line] = 0

    def level(self, line: int) -> int:
        """Return the level of a line that is owned: of an output what was set, else what drives or pulls it."""
        self._check(line, "cannot be read")
        view = self._bytes
        return int((view[_OUTPUTS + line] or view[_LEVELS + line] or view[_PULLS + line]) == 2)

    def set_level(self, line: int, level: int) -> None:
        """Set the level of an output."""
        self._check(line, "cannot be set")
        self._bytes[_OUTPUTS + line] = 1 + level

    def take_edges(self) -> list[Edges]:
        """Return what happened since the last call, one entry a line."""
        taken = []
        for line, seen in self._seen.items():
            count = self._counts[_COUNTS + line]
            if count != seen:
                self._seen[line] = count
                taken.append(
                    Edges(line, (count - seen) & 0xFFFF_FFFF, self.level(line), self._words[_STAMPS + line])
                )
        return taken

    def beat(self, now: Nanos) -> None:
        """Say once a poll that we live, and look whether the file is still ours."""
        self._words[_BEAT] = now
        try:
            if _identity(os.stat(self.name)) != self._file:
                self._gone = "the file was replaced"
        except OSError as error:
            self._gone = f"the file is gone ({error.strerror})"

    def close(self) -> None:
        """Give all lines up; for the panel the lamps are out and the beat is over."""
        self._owned.clear()
        self._seen.clear()
        self._bytes[_OUTPUTS : _PULLS + LINES] = bytes(2 * LINES)
        self._words[_BEAT] = 0
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # the mapping keeps a descriptor of its own
        os.close(self._fd)

    def _check(self, line: int, what: str) -> None:
        if self._gone or line not in self._owned:
            raise DeviceError(f"{self.name}: line {line} {what}: {self._gone or 'the line was given up'}")


class VirtualPanel:
    """The other side: the hand on the contacts and the eye on the lamps, of tests, the demo and the self-test."""

    def __init__(self, view: memoryview) -> None:
        self._bytes: Final = view
        self._counts: Final = view.cast("I")
        self._words: Final = view.cast("Q")

    @classmethod
    def open(cls, path: Path) -> "VirtualPanel":
        """Return a panel, every contact as it was left; a new file has all of them open. DeviceError without a file."""
        fd, view = _map(path)
        os.close(fd)
        return cls(view)

    @classmethod
    def create(cls, path: Path, closed: Iterable[int] = ()) -> "VirtualPanel":
        """Return the panel of a healthy box: the contacts `closed` lead to ground, every other line is open."""
        panel = cls.open(path)
        shut = frozenset(closed)
        for line in range(LINES):
            if line in shut:
                panel.drive(line, 0)
            else:
                panel.release(line)
        return panel

    def drive(self, line: int, level: int) -> None:
        """Put a level on a line, until the next call: 0 is a closed contact to ground."""
        self._change(line, 1 + level)

    def release(self, line: int) -> None:
        """Let a line float: an open contact, or a wire that is cut."""
        self._change(line, 0)

    def level(self, line: int) -> int:
        """Return the level that the box reads: what drives the line, else what pulls it."""
        return int((self._bytes[_LEVELS + line] or self._bytes[_PULLS + line]) == 2)

    def output(self, line: int) -> int | None:
        """Return the level that the box puts on a line, None if it does not drive it; see `beat_ns`, too."""
        state = self._bytes[_OUTPUTS + line]
        return state - 1 if state else None

    @property
    def beat_ns(self) -> Nanos:
        """Return the monotonic time of the box's last poll, 0 without a box; lamps of an old one mean nothing."""
        return self._words[_BEAT]

    def _change(self, line: int, state: int) -> None:
        before = self.level(line)
        self._bytes[_LEVELS + line] = state
        if self.level(line) != before:
            self._words[_STAMPS + line] = time.monotonic_ns()
            self._counts[_COUNTS + line] = (self._counts[_COUNTS + line] + 1) & 0xFFFF_FFFF


def _map(path: Path) -> tuple[int, memoryview]:
    """Return the file, in place if it exists, and its memory; reserved, as a full tmpfs would kill with SIGBUS."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise DeviceError(f"{path}: virtual pins cannot be opened: {error.strerror}") from None
    try:
        if os.pread(fd, 8, 0) not in (b"", bytes(8), MAGIC):
            raise DeviceError(f"{path}: this is no file of virtual pins, or one of another version; remove it")
        os.posix_fallocate(fd, 0, SIZE)
        view = memoryview(mmap.mmap(fd, SIZE))
    except OSError as error:
        os.close(fd)
        raise DeviceError(f"{path}: virtual pins cannot be mapped: {error.strerror}") from None
    except DeviceError:
        os.close(fd)
        raise
    view[: len(MAGIC)] = MAGIC
    return fd, view


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
