"""Disk log: every request that a disk was given, in the order in which it was done, on two files of the host.

The log proper has one JSON array a line; the bytes that were written stand one after the other in a file beside it. A
mark is a request of the test's own: "here a promise was given". A failed request was answered by an error and changed
nothing. There are no times in it: what counts at a power cut is the order.

Invariant: a request's line is written before the request is answered, so whatever a caller does after the answer comes
later in the log. It must not know who reads the log or why; it runs in nbdkit, too, with only the standard library.
"""

import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

WRITE: Final = "write"
ZERO: Final = "zero"
TRIM: Final = "trim"
"""What a trimmed sector reads as is the device's choice; ours reads zeros."""
FLUSH: Final = "flush"
MARK: Final = "mark"
CUT: Final = "cut"
"""The power went; all requests after it fail."""
CHANGES: Final = frozenset((WRITE, ZERO, TRIM))


class Request(NamedTuple):
    """One line of the log."""

    kind: str
    offset: int = 0
    length: int = 0
    at: int = 0
    """Where in the data file a write's bytes stand."""
    fua: bool = False
    """Forced unit access: this write is safe when it is answered, without a flush."""
    failed: bool = False
    label: str = ""

    @property
    def changes(self) -> bool:
        """Return whether it changed what the disk holds, safe or not yet."""
        return self.kind in CHANGES and not self.failed

    @property
    def flushes(self) -> bool:
        """Return whether it made all earlier changes safe."""
        return self.kind == FLUSH and not self.failed


class LogWriter:
    """Writes a log anew; every line goes to the kernel at once, because the writer may be killed at any moment."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._log: Final = os.open(path, flags, 0o644)
        self._data: Final = os.open(_data_path(path), flags, 0o644)
        self._length = 0

    def add(self, request: Request, data: bytes | bytearray | memoryview = b"") -> None:
        """Note a request, a write with its bytes."""
        if data:
            request = request._replace(at=self._length)
            self._length += os.write(self._data, data)
        os.write(self._log, json.dumps(request).encode() + b"\n")

    def close(self) -> None:
        """Close both files."""
        os.close(self._log)
        os.close(self._data)


class DiskLog:
    """A log as it stands at the moment; indices of requests are the places at which a test cuts."""

    def __init__(self, path: Path) -> None:
        # The last line may be under way if the writer is still at work.
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
        self.requests: Final = [Request(*json.loads(line)) for line in lines]
        self._data_path: Final = _data_path(path)
        self._data: int | None = None
        self._flushed: Final = [number + 1 for number, each in enumerate(self.requests) if each.flushes]
        self._marked: Final = [number + 1 for number, each in enumerate(self.requests) if each.kind == MARK]

    def __enter__(self) -> "DiskLog":
        """Return the log, able to give data until the block's end."""
        self._data = os.open(self._data_path, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the data file."""
        assert self._data is not None
        os.close(self._data)
        self._data = None

    def data(self, request: Request, start: int = 0, length: int | None = None) -> bytes:
        """Return what a request put on the disk, or `length` bytes of it."""
        length = request.length - start if length is None else length
        if request.kind != WRITE:
            return bytes(length)
        assert self._data is not None, "the log's data is read inside its `with` block"
        data = os.pread(self._data, length, request.at + start)
        assert len(data) == length
        return data

    def safe_until(self, at: int) -> int:
        """Return how many requests the last flush among the first `at` has made safe; 0 if there was none."""
        number = bisect_right(self._flushed, at)
        return self._flushed[number - 1] if number else 0

    def marks(self, at: int | None = None) -> list[str]:
        """Return the marks among the first `at` requests, of all if not given."""
        number = len(self._marked) if at is None else bisect_right(self._marked, at)
        return [self.requests[end - 1].label for end in self._marked[:number]]

    def flush_places(self) -> Iterator[int]:
        """Return the index of each flush that was not refused."""
        return (end - 1 for end in self._flushed)


def _data_path(path: Path) -> Path:
    return path.with_name(path.name + ".data")
