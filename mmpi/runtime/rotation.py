"""Rotation: lines into one file after another, by size and age, within a limit for the whole folder.

Invariant: a line is in exactly one file, files follow each other without a hole, and no file that is being written is
ever deleted. It must not know threads, connections or what the lines mean.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.runtime.gzip_part import GzipPart
from mmpi.runtime.recording import file_name, recorded_files

FLUSH_EVERY: Final[Nanos] = 2 * SECOND
"""Of received time: what a kill can cost. More often packs worse, as each flush ends a block."""
FLUSH_TEXT: Final = 8 * 2**20
"""Bytes of lines after which it is flushed earlier."""


class Batch(msgspec.Struct, frozen=True):
    """Whole lines in the order of time, with the first and the last one's."""

    first: Nanos
    last: Nanos
    lines: Sequence[bytes]
    size: int
    messages: int
    """Of the lines; the others are marks of ours."""


class Limits(msgspec.Struct, frozen=True):
    """When a file is full, and when the folder is (0 = never)."""

    file_bytes: int
    file_age: Nanos
    max_bytes: int = 0
    prune: bool = False
    """At `max_bytes` the oldest files go; otherwise `is_full` says that it is enough."""


class RotatingFiles:
    """Writes batches; DeviceError when the disk does not take them, ConfigError for limits that cannot be."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.files = 0
        """Begun by this one."""
        self.messages = 0
        self.pruned = 0
        self._folder: Final = folder
        self._limits: Final = limits
        self._kept: Final = deque((path, path.stat().st_size) for path in recorded_files(folder))
        self._before = sum(size for _, size in self._kept)
        """Bytes of all other files in the folder."""
        self._finished = 0
        self._file: GzipPart | None = None
        self._begun: Nanos = 0
        self._flushed: Nanos = 0
        self._unflushed = 0
        most = limits.max_bytes
        if most and limits.prune and most < 2 * limits.file_bytes:
            raise ConfigError(
                f"--max-gb {most / 1e9:g} --rotate-mb {limits.file_bytes / 1e6:g}: with --prune --max-gb must be at "
                "least twice the size of a file"
            )
        if most and not limits.prune and self._before >= most:
            raise ConfigError(
                f"--max-gb {most / 1e9:g}: {folder} holds {self._before / 1e9:.3g} GB already; allowed: more, "
                "another folder, or --prune"
            )

    @property
    def bytes(self) -> int:
        """Return how many bytes this one has written."""
        return self._finished + (self._file.size if self._file else 0)

    @property
    def is_full(self) -> bool:
        """Return whether the folder holds all that it may, and nothing is to be deleted."""
        most = self._limits.max_bytes
        return bool(most) and not self._limits.prune and self._before + self.bytes >= most

    def write(self, batch: Batch) -> None:
        """Write a batch into the file that it belongs to."""
        file = self._file_for(batch.first)
        file.write(b"".join(batch.lines))
        self.messages += batch.messages
        self._unflushed += batch.size
        if batch.last - self._flushed >= FLUSH_EVERY or self._unflushed >= FLUSH_TEXT:
            self.flush()
            self._flushed = batch.last

    def flush(self) -> None:
        """Hand to the system what is not yet there."""
        if self._file is not None and self._unflushed:
            self._file.flush()
            self._unflushed = 0

    def close(self) -> None:
        """Finish the last file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.finish()
            self._finished += file.size
            self._kept.append((file.path, file.size))

    def _file_for(self, first: Nanos) -> GzipPart:
        if self._file is not None and self._is_over(self._file, first):
            self.close()
        if self._file is None:
            self._make_room()
            self._file = GzipPart(self._folder / file_name(first))
            self._begun, self._flushed, self._unflushed = first, 0, 0
            self.files += 1
        return self._file

    def _is_over(self, file: GzipPart, first: Nanos) -> bool:
        """Return whether what comes next belongs into a new file, which must have another name."""
        old = file.size >= self._limits.file_bytes or first - self._begun >= self._limits.file_age
        return old and first // MILLISECOND > self._begun // MILLISECOND

    def _make_room(self) -> None:
        """Delete the oldest files until one more fits."""
        if not self._limits.prune or not self._limits.max_bytes:
            return
        total = sum(size for _, size in self._kept)
        while self._kept and total + self._limits.file_bytes > self._limits.max_bytes:
            path, size = self._kept.popleft()
            with suppress(OSError):  # Somebody else may have taken it away.
                path.unlink()
                self.pruned += 1
            total -= size
