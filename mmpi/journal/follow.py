"""Follow: the last records of a journal, and then what is added to it, across rotations, compression and new runs.

Invariant: each record comes once and whole, one that is half written not before the rest is there; what was deleted
before it could be read is told. It must not know time: who asks decides when to look again.
"""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from mmpi.errors import ConfigError, JournalError
from mmpi.journal.cold import COLD, number_of, segment_paths
from mmpi.journal.reader import Damage, Segment, Torn, paths_of, read
from mmpi.journal.record import (
    BLOCK,
    FIXED_HEADER,
    FRAME_BYTES,
    MAX_PAYLOAD,
    Header,
    HeaderCutError,
    Record,
    header_length,
    matches,
    unframe,
)
from mmpi.journal.spans import there

CHUNK: Final = 64 * 1024
_WRAP: Final = 1 << 32


class Skipped(msgspec.Struct, frozen=True):
    """Segments that were deleted before they could be read."""

    why: str
    offset: int = 0

    def __str__(self) -> str:
        """Return it as people read it."""
        return self.why


Shown: TypeAlias = tuple[Record | Torn | Damage | Skipped, Header]
"""What is to be shown, and the header of the segment that it is in."""
_NOBODY: Final = Header(0, 0, 0, 0)


class Follower:
    """A journal folder, or one segment, read up to where it ends."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._number = 0
        """Of the segment that is being read, 0 = none."""
        self._header: Header | None = None
        self._head = b""
        """Its first bytes: those of a segment that was put in its place differ."""
        self._end = 0
        """Behind its last record that was read."""
        self._next = 0
        """Number of the next record."""
        self._looked: tuple[int, int] = (0, 0)
        """Size and time of change when it was last read in vain."""

    def last(self, count: int, *, ended: bool = False) -> list[Shown]:
        """Return the last `count` things, and go on behind them; errors as `paths_of`, but for an empty folder.

        What is not whole at the very end may become so, and is left for later, unless the journal has `ended`.
        """
        shown: deque[Shown] = deque(maxlen=count)
        paths = paths_of(self._path) if not self._path.is_dir() or segment_paths(self._path) else []
        for path in reversed(paths):
            earlier: deque[Shown] = deque(maxlen=count - len(shown))
            if path == paths[-1]:
                self._begin(number_of(path) if self._path.is_dir() else 1)
                self._open(path)
                earlier.extend(self._from(path, 0, ended=ended))
            else:
                earlier.extend(_whole(path))
            shown.extendleft(reversed(earlier))
            if len(shown) >= count:
                break
        return list(shown)

    def more(self) -> Iterator[Shown]:
        """Yield what was added since."""
        paths = self._paths()
        if self._number and self._number not in paths and paths and max(paths) < self._number:
            # The folder was made anew.
            self._begin(0)
        while True:
            if self._number in paths:
                path, ended = paths[self._number], max(paths) > self._number
                yield from self._rest(path) if ended else self._grown(path)
            newer = [number for number in paths if number > self._number]
            if not newer:
                return
            before, follows = self._header, self._next
            gone = newer[0] > self._number + 1 or self._number not in paths or there(paths[self._number]) is None
            self._begin(newer[0])
            if self._open(paths[newer[0]]):
                header = self._header
                assert header is not None
                if gone and before is not None and (before.run, follows) != (header.run, header.first_record):
                    yield Skipped(f"segments before {newer[0]} were deleted, perhaps not read to their end"), header
            elif newer[0] == max(paths):
                # Its header is being written.
                self._begin(newer[0] - 1)
                return
            else:
                yield Skipped(f"{paths[newer[0]].name}: it cannot be read from its header on"), _NOBODY

    # One segment --------------------------------------------------------------------------------------------------

    def _paths(self) -> dict[int, Path]:
        if not self._path.is_dir():
            return {1: self._path} if self._path.exists() else {}
        try:
            return {number_of(path): path for path in segment_paths(self._path)}
        except OSError:
            return {}

    def _begin(self, number: int) -> None:
        self._number, self._header, self._head, self._end, self._next = number, None, b"", 0, 0
        self._looked = (0, 0)

    def _open(self, path: Path) -> bool:
        """Return whether the segment's header can be read."""
        found = there(path)
        header = _header(found) if found is not None else None
        if found is None or header is None:
            return False
        if not found.name.endswith(COLD):
            try:
                with found.open("rb") as file:
                    self._head = file.read(FIXED_HEADER)
            except OSError:
                return False
            self._end = header_length(self._head)
        self._header, self._next = header, header.first_record
        return True

    def _from(self, path: Path, start: int, *, ended: bool) -> Iterator[Shown]:
        """Yield what is in a segment from a place on; unless it has `ended`, up to its last whole record."""
        held: list[Shown] = []
        for item in _whole(path):
            if item[0].offset < start:
                continue
            held.append(item)
            if isinstance(item[0], Record):
                self._pass(item[0])
            elif not ended:
                continue
            yield from held
            held.clear()

    def _pass(self, record: Record) -> None:
        self._end = record.offset + FRAME_BYTES + len(record.payload)
        self._next = record.number + 1

    def _rest(self, path: Path) -> Iterator[Shown]:
        """Yield what was not read of a segment that is ended."""
        found = there(path)
        if found is None or self._header is None:
            return
        if _header(found) not in (None, self._header):
            # Another one was put in its place.
            self._begin(0)
            return
        yield from self._from(found, self._end, ended=True)

    def _grown(self, path: Path) -> Iterator[Shown]:
        """Yield the records that were added to the segment that is being written."""
        if path.name.endswith(COLD) or (self._header is None and not self._open(path)):
            return
        assert self._header is not None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.pread(fd, FIXED_HEADER, 0) != self._head:
                self._begin(0)
                return
            for record in self._records(fd, path.name):
                yield record, self._header
            stat = os.fstat(fd)
            rest = os.pread(fd, BLOCK, self._end).strip(b"\0")
        finally:
            os.close(fd)
        if rest and self._looked != (stat.st_size, stat.st_mtime_ns):
            # Half written; or damaged, and there may be more behind it.
            self._looked = (stat.st_size, stat.st_mtime_ns)
            yield from self._from(path, self._end, ended=False)

    def _records(self, fd: int, name: str) -> Iterator[Record]:
        """Yield the whole records from here on."""
        size = CHUNK
        while True:
            base = self._end
            data = os.pread(fd, size, base)
            while (record := self._record(data, base, name)) is not None:
                self._pass(record)
                yield record
            if len(data) < size or (self._end == base and size > CHUNK):
                return
            size = CHUNK if self._end > base else CHUNK + MAX_PAYLOAD

    def _record(self, data: bytes, base: int, name: str) -> Record | None:
        """Return the next record if it is whole in these bytes, which begin at `base`."""
        at = self._end - base
        while at < len(data) and data[at] == 0:
            # What fills a block.
            at += BLOCK - (base + at) % BLOCK
        head = data[at : at + FRAME_BYTES]
        if len(head) < FRAME_BYTES or self._header is None:
            return None
        marker, length, number, kind, _ = unframe(head)
        if marker != self._header.marker or length > MAX_PAYLOAD:
            return None
        payload = data[at + FRAME_BYTES : at + FRAME_BYTES + length]
        ahead = (number - self._next) % _WRAP
        if len(payload) < length or not matches(head, payload) or ahead > _WRAP // 2:
            return None
        return Record(kind, payload, name, base + at, self._next + ahead)


def _header(path: Path) -> Header | None:
    try:
        first = next(read(path))
    except (ConfigError, JournalError):
        return None
    assert isinstance(first, Segment)
    return first.header


def _whole(path: Path) -> Iterator[Shown]:
    """Yield what is in a segment; one that was deleted meanwhile has nothing in it."""
    found = there(path)
    header = _NOBODY
    try:
        for item in read(found) if found is not None else ():
            if isinstance(item, Segment):
                header = item.header
            else:
                yield item, header
    except JournalError as error:
        # What is compressed was whole once.
        if isinstance(error, HeaderCutError) and found is not None and not found.name.endswith(COLD):
            yield Torn(path.name, 0, found.stat().st_size if found.exists() else 0), header
        else:
            yield Damage(path.name, 0, -1, str(error)), header
    except ConfigError:
        if path.exists():
            raise
