"""JournalWriter: the sink that writes segments in memory (tmpfs), or a backtest's to a disk.

Invariant: when `event` or `action` returns True, `write()` on the segment has returned (I2: SIGKILL loses nothing; the
folder is meant to be tmpfs, so nothing is fsynced); segments together stay within `max_bytes`. What could not be
written is counted and told by a Gap, and no segment goes on after a hole.
It must not know what an engine is: its state before an event comes from a callback.
"""

import errno
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.actions import Approved
from mmpi.errors import ConfigError, JournalError
from mmpi.events import Event
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import COLD, SUFFIX, delete_parts, number_of, segment_paths
from mmpi.journal.entries import Checkpoint, Gap
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    CLEAN_STOP,
    EVENT,
    GAP,
    NOTE,
    Header,
    encode_header,
    encode_payload,
    frame,
)

BLOCK: Final = 64 * 1024
"""Bytes collected before a write when `buffered`."""
RETRY: Final[Nanos] = SECOND
"""After a failure a new segment is tried this often."""


class JournalWriter:
    """A Sink into numbered segments of `folder`; earlier runs' segments are counted in `max_bytes`, never written.

    `checkpoint` is called at the first event and at the first event after `segment_bytes`, before that event is
    recorded: it returns the engine as it is then. `max_bytes` None = keep everything. `buffered` collects records in
    blocks of 64 KiB and raises what fails: for backtests, which may lose their tail; it breaks I2.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        max_bytes: int | None,
        checkpoint: Callable[[], Checkpoint],
        buffered: bool = False,
        on_closed: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """`on_closed` is told of each segment that is full."""
        if max_bytes is not None and max_bytes < 2 * segment_bytes:
            raise ConfigError(f"journal: max_bytes {max_bytes} must be at least twice segment_bytes {segment_bytes}")
        self.fault = ""
        """Why nothing can be written at present, "" = it can."""
        self.written = 0
        """Bytes, over the run."""
        self._folder: Final = folder
        self._segment_bytes: Final = segment_bytes
        self._max_bytes: Final = max_bytes
        self._checkpoint: Final = checkpoint
        self._strict: Final = buffered
        self._block: Final = BLOCK if buffered else 0
        self._on_closed: Final = on_closed
        self._kept: Final = deque(_existing(folder))
        self._number = number_of(self._kept[-1][0]) if self._kept else 0
        self._run = self._number + 1
        self._records = 0
        self._fd = -1
        self._marker = b""
        self._path = folder
        self._written = 0
        self._pending = bytearray()
        self._lost = 0
        self._lost_since: Nanos = 0
        self._retry_at: Nanos = 0
        self._cold: Final[deque[tuple[Path, int]]] = deque()

    def event(self, event: Event) -> bool:
        """Record an event before it is handled; False if it could not be written."""
        if self._fd < 0 or self._written + len(self._pending) >= self._segment_bytes:
            waits = self.fault and event.recv_ts < self._retry_at
            if waits or not self._rotate(event.recv_ts):
                return self._lose(event.recv_ts)
        return self._append(EVENT, encode_payload(event), event.recv_ts)

    def action(self, approved: Approved) -> bool:
        """Record an action before it is sent; False if it could not be written, and then no order may leave."""
        return self._append(ACTION, encode_payload(approved), approved.ts)

    @property
    def segment(self) -> int:
        """Return the number of the segment that is being written, 0 = none."""
        return self._number if self._fd >= 0 else 0

    def keep(self, kind: int, value: object, now: Nanos) -> bool:
        """Record something else; False if it could not be written."""
        return self._fd >= 0 and self._append(kind, encode_payload(value), now)

    def close(self, note: str = CLEAN_STOP) -> None:
        """Write `note` and close; without an event before it, or after a failure, there is nothing to write."""
        if self._fd < 0:
            return
        # The last state: replay compares with it what no action shows, such as the price of a last fill.
        self._append(CHECKPOINT, encode_payload(self._checkpoint()), 0)
        self._append(NOTE, encode_payload(note), 0)
        if self._fd >= 0 and (not self._pending or self._flush(0)):
            self._end_segment()

    def became_cold(self, path: Path, size: int) -> None:
        """Take that a segment is compressed now; may be called from another thread."""
        self._cold.append((path, size))

    def _append(self, kind: int, payload: bytes, now: Nanos) -> bool:
        if self._fd < 0:
            return self._lose(now)
        self._add(kind, payload)
        return len(self._pending) < self._block or self._flush(now)

    def _add(self, kind: int, payload: bytes) -> None:
        self._pending += frame(self._marker, self._records, kind, payload)
        self._records += 1

    def _lose(self, now: Nanos) -> bool:
        """Count a record that is not written; its number stays empty."""
        self._lost += 1
        self._records += 1
        self._lost_since = self._lost_since or now
        return False

    def _flush(self, now: Nanos) -> bool:
        """Write what is pending; after a failure nothing may follow in this segment."""
        done = 0
        try:
            while done < len(self._pending):
                done += os.write(self._fd, self._pending[done:] if done else self._pending)
        except OSError as error:
            self._fail(error, now)
            return False
        self._written += done
        self.written += done
        self._pending.clear()
        return True

    def _fail(self, error: OSError, now: Nanos) -> None:
        """Give this segment up as it was before; a new one is tried in a while."""
        self.fault = f"{self._path}: {error.strerror}"
        self._pending.clear()
        if error.errno == errno.ENOSPC and self._kept:
            # The oldest goes first, this one last.
            with suppress(OSError):
                _unlink(self._kept.popleft()[0])
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, self._written)
            self._lost += 1
            self._lost_since = self._lost_since or now
            self._end_segment()
        self._retry_at = now + RETRY
        if self._strict:
            raise JournalError(f"{self._path}: the journal cannot be written: {error.strerror}") from error

    def _rotate(self, now: Nanos) -> bool:
        self._close_segment()
        records, lost, since = self._records, self._lost, self._lost_since
        self._number += 1
        self._path = self._folder / f"{self._number:08d}{SUFFIX}"
        header = Header(number=self._number, run=self._run, first_record=self._records, created_ns=now)
        self._marker = header.marker
        try:
            self._prune()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        except OSError as error:
            # A number that somebody else has taken is passed over.
            self._number -= not os.path.lexists(self._path)
            self._fail(error, now)
            return False
        self._pending += encode_header(header)
        self._add(CHECKPOINT, encode_payload(self._checkpoint()))
        if lost:
            self._add(GAP, encode_payload(Gap(lost, since, self.fault)))
        # In one write: there is no segment without its opening.
        if len(self._pending) >= self._block and not self._flush(now):
            with suppress(OSError):
                self._path.unlink()
            self._number -= 1
            self._records, self._lost, self._lost_since = records, lost, since
            return False
        self._lost, self._lost_since, self.fault = 0, 0, ""
        return True

    def _close_segment(self) -> None:
        if self._fd < 0:
            return
        if self._pending and not self._flush(0):
            return
        self._end_segment()
        self._on_closed(self._path)

    def _end_segment(self) -> None:
        os.close(self._fd)
        self._fd = -1
        if self._written:
            self._kept.append((self._path, self._written))
        self._written = 0

    def _prune(self) -> None:
        """Delete the oldest segments until one more fits."""
        while self._cold:
            path, size = self._cold.popleft()
            for index, (kept, _) in enumerate(self._kept):
                if number_of(kept) == number_of(path):
                    self._kept[index] = (path, size)
        if self._max_bytes is None:
            return
        total = sum(size for _, size in self._kept)
        while self._kept and total + self._segment_bytes > self._max_bytes:
            path, size = self._kept.popleft()
            _unlink(path)
            total -= size


def _unlink(path: Path) -> None:
    """Delete a segment, under whichever name it is there."""
    plain = path.with_name(path.name.removesuffix(COLD))
    plain.unlink(missing_ok=True)
    plain.with_name(plain.name + COLD).unlink(missing_ok=True)


def _existing(folder: Path) -> list[tuple[Path, int]]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        delete_parts(folder)
        return [(path, path.stat().st_size) for path in segment_paths(folder)]
    except OSError as error:
        raise ConfigError(f"{folder}: no journal can be kept here: {error.strerror}") from None
