"""Rescue: the journal, which lives in memory, copied to the disk while a failing supply still holds.

A rescue is a folder `rescued-<time>`, or `rescued-<time>.part` as long as it is not the whole journal. The newest
segment goes first, because the last minutes are what anybody will ask about; then the older ones, each next to the one
before, and at last what was written meanwhile.

Invariant: the source is only read; what a rescue holds is at every moment an unbroken tail of the journal, each segment
durable (written, fsynced, renamed); other files stay as they are. It must not know why the supply fails.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Final

import msgspec

from mmpi.device.durable import sync_folder
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import COLD, segment_paths

PREFIX: Final = "rescued-"
PART: Final = ".part"
COPYING: Final = ".copying"
CHUNK: Final = 256 * 1024
"""Bytes between two looks at clock and supply; the slowest card writes them in about 0.1 s."""


class RescueLimits(msgspec.Struct, frozen=True):
    """What a rescue may take."""

    min_free_bytes: int = 64 * 2**20
    """Of the disk, that stay free."""
    keep: int = 3
    """Whole rescues that are kept; and as many unfinished ones."""


class Rescued(msgspec.Struct, frozen=True):
    """What is on the disk now. `why` is "" if it is the whole journal."""

    folder: str
    segments: int
    bytes: int
    why: str
    seconds: float


class _EndedError(Exception):
    """The rescue is over before its end."""


class Rescue:
    """One rescue of `source` into a folder below `target`; calls belong in one thread, as they wait for the disk."""

    def __init__(
        self,
        source: Path,
        target: Path,
        limits: RescueLimits,
        at: Nanos,
        *,
        clock: Callable[[], Nanos] = time.monotonic_ns,
    ) -> None:
        """`at` names it: the wall clock when the supply failed."""
        self._source: Final = source
        self._target: Final = target
        self._limits: Final = limits
        self._clock: Final = clock
        self._name: Final = PREFIX + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at // SECOND))
        self._folder = target / (self._name + PART)
        self._saved: dict[str, int] = {}
        """Names of the segments on the disk, and their bytes."""
        self._end: Nanos = 0
        self._enough: Event = Event()

    def save(self, deadline_s: float, enough: Event) -> Rescued:
        """Copy what is not on the disk yet; return all that is. It ends at the deadline, and when `enough` is set.

        Called again it adds what the journal has gained. Disk errors are told in `why`, never raised.
        """
        began = self._clock()
        self._end, self._enough = began + round(deadline_s * SECOND), enough
        why = ""
        try:
            self._copy_all()
            self._finish()
        except _EndedError as ended:
            why = str(ended)
        except OSError as error:
            why = f"{error.filename or self._folder}: {error.strerror}"
        with suppress(OSError):
            self._forget_old()
        took = (self._clock() - began) / SECOND
        return Rescued(str(self._folder), len(self._saved), sum(self._saved.values()), why, round(took, 3))

    # Copying ------------------------------------------------------------------------------------------------------

    def _copy_all(self) -> None:
        if not self._source.is_dir():
            raise _EndedError(f"{self._source}: there is no journal")
        paths = segment_paths(self._source)
        if not paths:
            raise _EndedError(f"{self._source}: the journal is empty")
        self._check()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        sync_folder(self._target.parent)
        sync_folder(self._target)
        for path in reversed(paths):
            # Resumed, the newest are there; and where one is gone (a journal is kept small), the older are, too.
            if path.name < self._first() and not self._copy(path):
                break
        # What was written meanwhile, the oldest first, so that no segment is followed while it is not whole.
        for path in segment_paths(self._source):
            with suppress(FileNotFoundError):  # the quoter deletes the oldest at any time
                if path.name >= self._first() and path.stat().st_size != self._saved.get(path.name):
                    self._copy(path)

    def _first(self) -> str:
        """Return the name of the oldest segment that is saved; without any one that is greater than all."""
        return min(self._saved, default="~")

    def _copy(self, path: Path) -> bool:
        """Copy a segment; False if it is not there any more. One that was compressed meanwhile is there."""
        try:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            cold = path.with_name(path.name + COLD)
            return path.suffix != COLD and cold.exists() and self._copy(cold)
        fresh = self._folder / (path.name + COPYING)
        try:
            size = os.fstat(source).st_size
            self._check(size)
            _write(fresh, self._chunks(source, size))
            fresh.replace(self._folder / path.name)
        finally:
            os.close(source)
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
        sync_folder(self._folder)
        self._saved[path.name] = size
        return True

    def _chunks(self, source: int, size: int) -> Iterator[bytes]:
        """Return the first `size` bytes: a segment that grows meanwhile is taken as it was."""
        left = size
        while left and (chunk := os.read(source, min(CHUNK, left))):
            yield chunk
            left -= len(chunk)
            self._check()

    def _check(self, more: int = 0) -> None:
        """Raise _EndedError if nothing more may be written, or not `more` bytes."""
        if self._enough.is_set():
            raise _EndedError("no longer needed: the supply is back")
        if self._clock() >= self._end:
            raise _EndedError("out of time")
        if more:
            disk = os.statvfs(self._folder)
            if disk.f_bavail * disk.f_frsize - more < self._limits.min_free_bytes:
                least = self._limits.min_free_bytes // 2**20
                raise _EndedError(f"{self._folder}: less than {least} MB of the disk would stay free")

    def _finish(self) -> None:
        """Give the folder the name of a whole rescue."""
        whole = self._target / self._name
        if self._folder != whole:
            self._folder.rename(whole)
            self._folder = whole
            sync_folder(self._target)

    # Forgetting ---------------------------------------------------------------------------------------------------

    def _forget_old(self) -> None:
        """Delete the oldest rescues beyond `keep`, whole ones and unfinished ones apart, never this one.

        So an unfinished rescue never pushes out a whole one.
        """
        if not self._target.is_dir():
            return
        rescues = sorted(path for path in self._target.iterdir() if path.name.startswith(PREFIX) and path.is_dir())
        for unfinished in (False, True):
            alike = [path for path in rescues if path.name.endswith(PART) is unfinished]
            for path in alike[: max(0, len(alike) - self._limits.keep)]:
                if path != self._folder:
                    _delete(path)


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        for chunk in chunks:
            while chunk:
                chunk = chunk[os.write(fd, chunk) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _delete(folder: Path) -> None:
    """Delete a rescue; a folder that holds anything else keeps that, and stays."""
    for path in [*segment_paths(folder), *folder.glob(f"*{COPYING}")]:
        path.unlink()
    with suppress(OSError):
        folder.rmdir()
