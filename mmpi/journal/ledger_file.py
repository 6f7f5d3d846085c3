"""Ledger file: the durable ledger's segments on the disk: commits of whole blocks, each durable when `commit` returns.

A commit begins at a multiple of 4096 bytes and fills its last block with zeros, so no block that was committed is ever
written again: a power cut in the middle of one leaves everything before it as it was. Room for the next commits is
reserved: for such blocks ext4's journal writes 12 KiB, for a file that grows 20 KiB. With `lazytime` a little of it is
written ahead with zeros, too: then a commit costs its data, and the journal nothing. (Without, the journal writes for
the file's time in any case, and zeros would come on top of that.)

Invariant: after a failure nothing more is written to that segment (a failed fsync may have dropped what it was to
keep); the same records go into a fresh one. It must not know threads, or what the records mean.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.device.durable import sync_folder
from mmpi.instrument import Nanos
from mmpi.journal.cold import SUFFIX, number_of, segment_paths
from mmpi.journal.entries import Commit
from mmpi.journal.record import (
    BLOCK,
    COMMIT,
    Header,
    encode_header,
    encode_payload,
    frame,
)

SEGMENT_BYTES: Final = 2**20
AHEAD: Final = 16 * BLOCK
"""Zeros that are written behind a commit which comes to the end of those before."""
MOUNTS: Final = Path("/proc/self/mountinfo")
RUN: Final = 1
"""The ledger is one run for ever: its records are counted over all starts."""

Entry = tuple[int, bytes]
"""Kind and payload of a record."""


class LedgerFile:
    """The end of a ledger in `folder`; calls belong in one thread, as they wait for the disk."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.records = 0
        """Of the next record, counted over the ledger's life."""
        self.commits = 0
        self.written = 0
        """Bytes handed to the disk by this process."""
        self._folder: Final = folder
        self._segment_bytes: Final = segment_bytes
        self._fd = -1
        self._number = 0
        self._marker = b""
        self._end = 0
        """Where the next commit goes."""
        self._ahead = 0
        """How far zeros are written; 0 = nothing is written ahead."""

    @property
    def number(self) -> int:
        """Return the number of the last segment, 0 = none."""
        return self._number

    def resume(self, path: Path, header: Header, end: int, records: int, commits: int) -> None:
        """Go on at `end` of a segment, cutting off what is behind it; OSError if the disk does not let us."""
        self.records, self.commits, self._number = records, commits, number_of(path)
        self._end = -(-end // BLOCK) * BLOCK
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            if not _is_empty(fd, end, size):
                # Of a commit that was never confirmed; what is whole of it stays.
                os.ftruncate(fd, end)
                self._reserve(fd)
                os.fsync(fd)
            else:
                # Whoever closed it gave back what it had.
                self._reserve(fd)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._marker = fd, header.marker

    def skip(self, number: int, records: int, commits: int) -> None:
        """Begin a new segment with the next commit, after the one of this number."""
        self._drop()
        self._number, self.records, self.commits = number, records, commits

    def has_room(self, entries: Sequence[Entry]) -> bool:
        """Return whether these fit into the segment."""
        size = sum(len(payload) + 32 for _, payload in entries) + BLOCK
        return self._fd >= 0 and self._end + size <= self._segment_bytes

    def commit(self, entries: Sequence[Entry], at: Nanos) -> None:
        """Put records on the disk together; OSError if that could not be confirmed, and the segment is given up."""
        self._write([(COMMIT, encode_payload(Commit(self.commits + 1, at))), *entries])

    def begin(self, opening: Sequence[Entry], entries: Sequence[Entry], at: Nanos) -> None:
        """Begin a segment with what every segment opens with, and commit.

        OSError if that could not be confirmed: the next attempt begins another one.
        """
        self._trim()
        self._drop()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        path = self._folder / f"{self._number + 1:08d}{SUFFIX}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:
            # Left by an attempt whose disk did not even let it be deleted: the next number is tried next.
            self._number += 1
            raise
        header = Header(self._number + 1, RUN, self.records, at)
        self._fd, self._marker, self._end = fd, header.marker, 0
        records, commits = self.records, self.commits
        try:
            self._reserve(fd)
            commit = (COMMIT, encode_payload(Commit(self.commits + 1, at)))
            self._write([*opening, commit, *entries], encode_header(header))
            sync_folder(self._folder)
        except OSError:
            # As if it had never been begun: the same records go into the next one, under the same numbers.
            self._drop()
            self.records, self.commits = records, commits
            with suppress(OSError):
                path.unlink()
            raise
        self._number += 1

    def close(self) -> None:
        """Give back what is reserved, and close."""
        self._trim()
        self._drop()

    def _write(self, entries: Iterable[Entry], start: bytes = b"") -> None:
        data = bytearray(start)
        number = self.records
        for kind, payload in entries:
            data += frame(self._marker, number, kind, payload)
            number += 1
        data += bytes(-len(data) % BLOCK)
        end = self._end + len(data)
        try:
            if self._ahead and end > self._ahead:
                self._ahead = min(-(-end // AHEAD) * AHEAD, self._segment_bytes)
                data += bytes(max(0, self._ahead - end))
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:] if done else data, self._end + done)
            os.fdatasync(self._fd)
        except OSError:
            self._drop()
            raise
        self._end = end
        self.written += len(data)
        self.records = number
        self.commits += 1

    def _reserve(self, fd: int) -> None:
        """Reserve room, where the file system can; without, each commit costs more."""
        self._ahead = 0
        with suppress(OSError):
            os.posix_fallocate(fd, 0, self._segment_bytes)
            self._ahead = (self._end or BLOCK) if is_lazy(os.fstat(fd).st_dev) else 0

    def _trim(self) -> None:
        """Give back what is reserved behind the last commit."""
        if self._fd >= 0:
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)

    def _drop(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def older_segments(folder: Path, number: int) -> list[Path]:
    """Return the segments before this one, oldest first."""
    return [path for path in segment_paths(folder) if number_of(path) < number] if folder.is_dir() else []


def is_lazy(device: int, mounts: Path = MOUNTS) -> bool:
    """Return whether a file system keeps times of files in memory (proc(5), mountinfo)."""
    here = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    fields = [line.split() for line in lines]
    return any(each[2] == here and "lazytime" in each[-1].split(",") for each in fields if len(each) > 9)


def _is_empty(fd: int, start: int, end: int) -> bool:
    """Return whether there is nothing but zeros from `start` on."""
    while start < end:
        data = os.pread(fd, min(64 * 1024, end - start), start)
        if not data or data.strip(b"\0"):
            return not data
        start += len(data)
    return True
