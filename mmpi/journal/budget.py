"""Budget: what the journal may write to the disk and keep there.

Invariant: routine data gives way first, the oldest before the newer; the ledger's newest segment is never deleted.
It must not know what is in a segment.
"""

from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import delete_parts, is_segment, number_of, segment_paths

COMMIT_COST: Final = 14 * 1024
"""Bytes that ext4 writes for itself at each commit (measured, docs/journal.md)."""
ARCHIVE: Final = "archive"
HOUR_S: Final = 3600.0
DAY: Final = 86_400 * SECOND


class DiskLimits(msgspec.Struct, frozen=True):
    """What may be on the disk, and what may go there."""

    bytes_per_hour: int
    max_bytes: int
    max_days: int
    """0 = any age."""


class Budget:
    """The bytes of the last hour."""

    def __init__(self, limits: DiskLimits) -> None:
        self.limits: Final = limits
        self._spent: Final[deque[tuple[float, int]]] = deque()
        self._total = 0

    def commit(self, size: int, now: float) -> None:
        """Count a commit of the ledger."""
        self.spend(size + COMMIT_COST, now)

    def spend(self, size: int, now: float) -> None:
        """Count bytes that were written at `now` (monotonic seconds)."""
        self._forget(now)
        if self._spent and now - self._spent[-1][0] < 1.0:
            # Bounded: one entry a second.
            at, before = self._spent.pop()
            self._spent.append((at, before + size))
        else:
            self._spent.append((now, size))
        self._total += size

    def allows(self, size: int, now: float) -> bool:
        """Return whether routine data of this size may be written."""
        self._forget(now)
        return self._total + size <= self.limits.bytes_per_hour

    def archive(self, path: Path, folder: Path, now: float) -> None:
        """Copy a cold segment into the folder's archive, durable by the return; OSError leaves nothing."""
        target = folder / ARCHIVE
        if not target.is_dir():
            target.mkdir(parents=True, exist_ok=True, mode=0o750)
            durable.sync_folder(folder)
        last = max((number_of(each) for each in segment_paths(target)), default=0)
        # The numbers in memory begin anew with each boot; these go on.
        number = max(last + 1, number_of(path))
        data = path.read_bytes()
        durable.replace(target / f"{number:08d}.{path.name.partition('.')[2]}", data)
        self.spend(len(data) + COMMIT_COST, now)

    def _forget(self, now: float) -> None:
        while self._spent and now - self._spent[0][0] > HOUR_S:
            self._total -= self._spent.popleft()[1]


def prune(folder: Path, limits: DiskLimits, newest: int, now: Nanos, *, dry: bool = False) -> list[Path]:
    """Return the files that were deleted (with `dry`, would be) to keep within the caps; OSError if one stays.

    `newest` is the number of the ledger's segment that is written to; it and what is newer stays.
    """
    archive = folder / ARCHIVE
    routine = segment_paths(archive) if archive.is_dir() else []
    ledger = [path for path in segment_paths(folder) if number_of(path) < newest]
    sizes = {path: path.stat().st_size for path in [*routine, *ledger]}
    current = [path for path in folder.iterdir() if is_segment(path) and number_of(path) >= newest]
    total = sum(sizes.values()) + sum(path.stat().st_size for path in current)
    gone: list[Path] = []
    for path in [*routine, *ledger]:
        old = limits.max_days > 0 and now - path.stat().st_mtime_ns > limits.max_days * DAY
        if total > limits.max_bytes or old:
            gone.append(path)
            total -= sizes[path]
    if not dry:
        for path in gone:
            path.unlink(missing_ok=True)
        for each in (folder, archive):
            delete_parts(each)
    return gone
