"""JournalWriter: the sink that writes segments.

Invariant: when `event` or `action` returns, `write()` on the segment has returned (I2: SIGKILL loses nothing; the
folder is meant to be tmpfs, so nothing is fsynced); segments together stay within `max_bytes`.
It must not know what an engine is: its state before an event comes from a callback.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.actions import Approved
from mmpi.errors import ConfigError, JournalError
from mmpi.events import Event
from mmpi.instrument import Nanos
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    CLEAN_STOP,
    EVENT,
    NOTE,
    Checkpoint,
    Header,
    encode_header,
    encode_payload,
    frame,
)

SUFFIX: Final = ".mmj"
BLOCK: Final = 64 * 1024
"""Bytes collected before a write when `buffered`."""


class JournalWriter:
    """A Sink into numbered segments of `folder`; earlier runs' segments are counted in `max_bytes`, never written.

    `checkpoint` is called at the first event and at the first event after `segment_bytes`, before that event is
    recorded: it returns the engine as it is then. `max_bytes` None = keep everything. `buffered` collects records in
    blocks of 64 KiB: for backtests, which may lose their tail; it breaks I2.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        max_bytes: int | None,
        checkpoint: Callable[[], Checkpoint],
        buffered: bool = False,
    ) -> None:
        if max_bytes is not None and max_bytes < 2 * segment_bytes:
            raise ConfigError(f"journal: max_bytes {max_bytes} must be at least twice segment_bytes {segment_bytes}")
        self._folder: Final = folder
        self._segment_bytes: Final = segment_bytes
        self._max_bytes: Final = max_bytes
        self._checkpoint: Final = checkpoint
        self._block: Final = BLOCK if buffered else 0
        self._kept: Final = deque(_existing(folder))
        self._number = int(self._kept[-1][0].stem) if self._kept else 0
        self._run = self._number + 1
        self._records = 0
        self._fd = -1
        self._path = folder
        self._written = 0
        self._pending = bytearray()
        self._failure = ""

    def event(self, event: Event) -> None:
        """Record an event before it is handled; JournalError if the bytes could not be written."""
        if self._fd < 0 or self._written + len(self._pending) >= self._segment_bytes:
            self._rotate(event.recv_ts)
        self._append(EVENT, encode_payload(event))

    def action(self, approved: Approved) -> None:
        """Record an action before it is sent; JournalError if the bytes could not be written."""
        self._append(ACTION, encode_payload(approved))

    def close(self, note: str = CLEAN_STOP) -> None:
        """Write `note` and close; without an event before it, or after a failure, there is nothing to write."""
        if self._fd < 0:
            return
        if not self._failure:
            # The last state: replay compares with it what no action shows, such as the price of a last fill.
            self._append(CHECKPOINT, encode_payload(self._checkpoint()))
            self._append(NOTE, encode_payload(note))
        self._close_segment()

    def _append(self, kind: int, payload: bytes) -> None:
        self._pending += frame(kind, payload)
        self._records += 1
        if len(self._pending) >= self._block:
            self._flush()

    def _flush(self) -> None:
        """Write what is pending; after a failure nothing may follow, or replay would meet a hole without a mark."""
        if self._failure:
            self._pending.clear()
            raise JournalError(self._failure)
        done = 0
        try:
            while done < len(self._pending):
                done += os.write(self._fd, self._pending[done:] if done else self._pending)
        except OSError as error:
            self._fail(error)
        self._written += done
        self._pending.clear()

    def _fail(self, error: OSError) -> None:
        self._failure = f"{self._path}: the journal cannot be written: {error.strerror}"
        self._pending.clear()
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, self._written)
        raise JournalError(self._failure) from error

    def _rotate(self, now: Nanos) -> None:
        if self._failure:
            raise JournalError(self._failure)
        self._close_segment()
        self._number += 1
        self._path = self._folder / f"{self._number:08d}{SUFFIX}"
        try:
            self._prune()
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        except OSError as error:
            self._fail(error)
        header = Header(number=self._number, run=self._run, first_record=self._records, created_ns=now)
        self._pending += encode_header(header)
        self._append(CHECKPOINT, encode_payload(self._checkpoint()))

    def _close_segment(self) -> None:
        if self._fd < 0:
            return
        try:
            if not self._failure:
                self._flush()
        finally:
            os.close(self._fd)
            self._fd = -1
        self._kept.append((self._path, self._written))
        self._written = 0

    def _prune(self) -> None:
        """Delete the oldest segments until one more fits."""
        if self._max_bytes is None:
            return
        total = sum(size for _, size in self._kept)
        while self._kept and total + self._segment_bytes > self._max_bytes:
            path, size = self._kept.popleft()
            path.unlink(missing_ok=True)
            total -= size


def segment_paths(folder: Path) -> list[Path]:
    """Return the segments in a folder, oldest first."""
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.stem.isdecimal())


def _existing(folder: Path) -> list[tuple[Path, int]]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        return [(path, path.stat().st_size) for path in segment_paths(folder)]
    except OSError as error:
        raise ConfigError(f"{folder}: no journal can be kept here: {error.strerror}") from None
