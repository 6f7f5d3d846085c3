"""Reader: a journal as a stream of checked records, in constant memory.

Invariant: it returns no record that was not written, and every whole one; what it had to leave out is a value in the
stream, with the number of records that are missing. It must not know what the records mean to an engine.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import msgspec

from mmpi.errors import ConfigError, JournalError
from mmpi.journal.cold import COLD, Thawed, open_segment, segment_paths
from mmpi.journal.record import (
    BLOCK,
    FIXED_HEADER,
    FRAME_BYTES,
    GAP,
    MAX_PAYLOAD,
    Header,
    HeaderCutError,
    Record,
    decode,
    decode_header,
    has_wrong_length,
    header_length,
    matches,
    unframe,
)
from mmpi.journal.window import Window

UNREADABLE: Final = "it cannot be read"
"""In the reason of a damage that is the disk's refusal to give what is there."""
_WRAP: Final = 1 << 32
_ZEROS: Final = bytes(BLOCK)
OPENING: Final = 2
"""Records at the start of a segment among which a Gap is that tells of what is missing before it."""


class Segment(msgspec.Struct, frozen=True):
    """The start of a segment; `follows` is True if no record can be missing between the one before and this one."""

    path: Path
    header: Header
    follows: bool


class Torn(msgspec.Struct, frozen=True):
    """A run's last record, cut off by its end; `dropped` bytes after `offset` are left out."""

    segment: str
    offset: int
    dropped: int

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.segment}: torn tail, {self.dropped} bytes after offset {self.offset} dropped"


class Damage(msgspec.Struct, frozen=True):
    """Bytes that cannot be what was written; reading goes on at the next record that is whole.

    `number` is the first record's that is missing, -1 = before any; `lost` is how many are, -1 = nobody knows.
    """

    segment: str
    offset: int
    number: int
    reason: str
    skipped: int = 0
    """Bytes."""
    lost: int = -1

    def __str__(self) -> str:
        """Return it as people read it."""
        what = f"record {self.number} at offset {self.offset} of " if self.number >= 0 else ""
        many = f"; {self.lost} records lost" if self.lost > 1 else ""
        return f"{what}{self.segment}: {self.reason}{many}"


Item: TypeAlias = Segment | Record | Torn | Damage


def read(path: Path) -> Iterator[Item]:
    """Return the segments and records in a journal folder, or in one segment file, oldest first.

    ConfigError if there is no journal at `path`; JournalError if it is one file whose header cannot be read.
    """
    paths = paths_of(path)
    if len(paths) == 1:
        opened = _open(paths[0])
        if opened is None:
            raise ConfigError(f"{paths[0]}: {os.strerror(errno.ENOENT)}")
        with opened[0] as file:
            _header(paths[0], Window(file.read))
    return read_segments(paths)


def paths_of(path: Path) -> list[Path]:
    """Return the segments that `path` names; errors as `read`."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    try:
        paths = segment_paths(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if not paths:
        raise ConfigError(f"{path}: no journal segments (files named 00000001.mmj) in this folder")
    return paths


def read_segments(paths: Sequence[Path]) -> Iterator[Item]:
    """Return what is in these segments, oldest first; a header that cannot be read is damage. ConfigError as `read`."""
    walk = _Walk()
    for index, listed in enumerate(paths):
        opened = _open(listed)
        if opened is None:
            # Deleted since the folder was listed: nothing can be said of what was between its neighbours.
            walk = _Walk()
            continue
        file, path = opened
        with file:
            window = Window(file.read)
            try:
                header = _header(path, window)
            except JournalError as error:
                walk.unread += 1
                yield _bad_header(path, error, cut=index == len(paths) - 1)
                continue
            yield from walk.enter(path, header)
            scan = _Scan(path.name, window, header, *_what_follows(paths[index + 1 : index + 2], header))
            yield from scan.items() if walk.missing is None else _unless_told(scan.items(), walk.missing)
            walk.expected, walk.is_cut = scan.expected, scan.is_cut
            if window.error:
                yield Damage(path.name, window.offset, -1, f"{UNREADABLE} on: {window.error}")
            if isinstance(file, Thawed) and file.damaged:
                yield Damage(path.name, window.offset, -1, f"{file.damaged} damaged parts of compressed data")


class _Walk:
    """The way from segment to segment."""

    def __init__(self) -> None:
        self.expected = -1
        """The number of the next record of the run; -1 = not known."""
        self.unread = 0
        """Segments since the last one that have no header."""
        self.is_cut = False
        """The last one's end is not whole."""
        self.missing: Damage | None = None
        """Records before the present one that are not in the one before, and of which nothing was told yet."""
        self._before: Header | None = None

    def enter(self, path: Path, header: Header) -> Iterator[Segment | Damage]:
        """Return the segment, after what is missing before it."""
        before, unread = self._before, self.unread
        self._before, self.unread, self.missing = header, 0, None
        if before is not None and _is_anew(before, header):
            before = None
        last = header.number - unread - 1 if before is None else before.number
        lost = -1
        if before is not None and header.run == before.run and self.expected >= 0:
            lost = header.first_record - self.expected
        elif unread and last < header.run < header.number:
            # The run began in what could not be read.
            lost = header.first_record
        if header.number != last + 1 + unread:
            yield Damage(path.name, 0, -1, _hole(last + unread, header.number), 0, max(lost, -1))
        elif lost > 0:
            self.missing = Damage(path.name, 0, -1, "records are missing before it", 0, lost)
        yield Segment(path, header, lost == 0 and not self.is_cut)


def _unless_told(items: Iterator[Item], missing: Damage) -> Iterator[Item]:
    """Return the items, after this damage, unless the segment opens with a Gap: that tells of what was not written."""
    first = list(islice(items, OPENING))
    left = missing.lost - sum(_told(item) for item in first)
    if left > 0:
        yield msgspec.structs.replace(missing, lost=left)
    yield from first
    yield from items


def _told(item: Item) -> int:
    try:
        return decode(item).records if isinstance(item, Record) and item.kind == GAP else 0
    except JournalError:
        return 0


class _Scan:
    """The way through one segment's records."""

    def __init__(self, name: str, window: Window, header: Header, ends_run: bool, goes_on_with: int) -> None:
        """`goes_on_with` is the number of the next segment's first record; -1 = not known."""
        self.name, self.window, self.marker = name, window, header.marker
        self.expected = header.first_record
        """The number of the next record."""
        self.is_cut = False
        self._ends_run, self._goes_on_with = ends_run, goes_on_with

    def items(self) -> Iterator[Record | Torn | Damage]:
        """Return the records, and what stands between them."""
        while True:
            behind = self.window.offset
            self._skip_padding()
            start = self.window.offset
            if not self.window.peek(1):
                return
            item = self._record()
            if isinstance(item, Record):
                if item.number != self.expected:
                    lost = item.number - self.expected
                    yield Damage(self.name, behind, self.expected, "missing", start - behind, lost)
                yield item
                self.expected = item.number + 1
                continue
            found = self._resume()
            if found is None:
                yield self._last(item, self.window.offset - start)
                return
            if isinstance(item, Torn):
                item = self._damage(start, "cut off")
            yield msgspec.structs.replace(item, skipped=self.window.offset - start, lost=found - self.expected)
            self.expected = found

    def _last(self, item: Torn | Damage, skipped: int) -> Torn | Damage:
        """Return what the segment ends with, where no record is whole any more."""
        start, lost, self.is_cut = item.offset, self._goes_on_with - self.expected, True
        if isinstance(item, Torn):
            if self._ends_run:
                return Torn(self.name, start, skipped)
            item = Damage(self.name, start, -1, f"cut off at offset {start}, though its run goes on")
        if lost >= 0:
            # These are told of now; else a later segment of the run may tell how many they are.
            self.expected = self._goes_on_with
        return msgspec.structs.replace(item, skipped=skipped, lost=max(lost, -1))

    def _record(self) -> Record | Torn | Damage:
        """Return the record that begins here, having taken it, or why there is none."""
        window, start = self.window, self.window.offset
        head = window.peek(FRAME_BYTES)
        if len(head) < FRAME_BYTES:
            return Torn(self.name, start, len(head))
        marker, length, number, kind, _ = unframe(head)
        if marker != self.marker:
            return self._damage(start, "no record begins here")
        if length > MAX_PAYLOAD:
            return self._damage(start, f"length {length} is more than {MAX_PAYLOAD}")
        payload = window.peek_from(FRAME_BYTES, length)
        if len(payload) < length and not has_wrong_length(head, payload):
            return Torn(self.name, start, FRAME_BYTES + len(payload))
        if len(payload) < length or not matches(head, payload):
            return self._damage(start, "CRC mismatch")
        full = self.expected + (number - self.expected) % _WRAP
        if full - self.expected > _WRAP // 2:
            return self._damage(start, f"it says it is record {number}, which was before")
        window.skip(FRAME_BYTES + length)
        return Record(kind, payload, self.name, start, full)

    def _damage(self, start: int, reason: str) -> Damage:
        return Damage(self.name, start, self.expected, reason)

    def _resume(self) -> int | None:
        """Go to the next whole record; return its number, None if there is none, and everything is taken."""
        self.window.skip(1)
        while self.window.find(self.marker):
            head = self.window.peek(FRAME_BYTES)
            if len(head) == FRAME_BYTES:
                _, length, number, _, _ = unframe(head)
                full = self.expected + (number - self.expected) % _WRAP
                if length <= MAX_PAYLOAD and full - self.expected <= _WRAP // 2:
                    payload = self.window.peek_from(FRAME_BYTES, length)
                    if len(payload) == length and matches(head, payload):
                        return full
            self.window.skip(1)
        return None

    def _skip_padding(self) -> None:
        """Take zeros that fill a block; a block of zeros, too."""
        window = self.window
        while window.peek(1) == b"\0":
            room = BLOCK - window.offset % BLOCK
            zeros = window.peek(room)
            if zeros != _ZEROS[: len(zeros)]:
                return
            window.skip(room)


def _open(path: Path) -> tuple[BinaryIO, Path] | None:
    """Return the segment to read and the name that it is there under; None if it is gone."""
    try:
        with suppress(FileNotFoundError):
            return open_segment(path), path
        # Compressed meanwhile, or deleted.
        path = path.with_name(path.name.removesuffix(COLD) + COLD)
        with suppress(FileNotFoundError):
            return open_segment(path), path
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return None


def _header(path: Path, window: Window) -> Header:
    """Return the header, having taken it."""
    try:
        start = window.peek(FIXED_HEADER)
        data = window.peek(max(header_length(start), FIXED_HEADER))
        if window.error:
            raise JournalError(f"{UNREADABLE}: {window.error}")
        header = decode_header(data)
    except JournalError as error:
        raise type(error)(f"{path}: {error}") from None
    window.skip(header_length(start))
    return header


def _bad_header(path: Path, error: JournalError, *, cut: bool) -> Torn | Damage:
    """Return a torn tail for a last segment that was being created when the run ended."""
    size = 0
    with suppress(OSError):
        size = path.stat().st_size
    # One that was compressed was whole once.
    if cut and isinstance(error, HeaderCutError) and not path.name.endswith(COLD):
        return Torn(path.name, 0, size)
    return Damage(path.name, 0, -1, str(error).removeprefix(f"{path}: "), size)


def _is_anew(before: Header, header: Header) -> bool:
    """Return True if numbers began anew, as they do with each boot; the archive has the segments of several."""
    later = header.number == header.run or header.created_ns > before.created_ns
    return later and header.number <= before.number


def _hole(before: int, after: int) -> str:
    if after <= before:
        return f"it says it is segment {after}, after segment {before}"
    which = f"segment {before + 1} is" if after == before + 2 else f"segments {before + 1} to {after - 1} are"
    return f"{which} missing before it"


def _what_follows(following: Sequence[Path], header: Header) -> tuple[bool, int]:
    """Return whether the run ends with this segment; if not, the number that it goes on with, -1 = not known."""
    for path in following:
        try:
            opened = _open(path)
            if opened is None:
                return True, -1
            with opened[0] as file:
                after = _header(path, Window(file.read))
        except JournalError as error:
            return isinstance(error, HeaderCutError), -1
        except ConfigError:
            return True, -1
        if after.run == header.run and not _is_anew(header, after):
            return False, after.first_record
    return True, -1
