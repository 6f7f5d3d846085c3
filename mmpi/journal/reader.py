"""Reader: a journal as a stream of checked records, in constant memory.

Invariant: it returns no record that was not written; what it had to leave out is a value in the stream.
It must not know what the records mean to an engine.
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from mmpi.errors import ConfigError, JournalError
from mmpi.instrument import Nanos
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    CLEAN_STOP,
    EVENT,
    FRAME_BYTES,
    HEADER_BYTES,
    KIND_NAMES,
    MAX_PAYLOAD,
    Header,
    Record,
    decode,
    decode_event,
    decode_header,
    has_wrong_length,
    matches,
    unframe,
)
from mmpi.journal.writer import segment_paths


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
    """Bytes that cannot be what was written; reading goes on at the next segment. `number` -1 = before any record."""

    segment: str
    offset: int
    number: int
    reason: str

    def __str__(self) -> str:
        """Return it as people read it."""
        what = f"record {self.number} at offset {self.offset} of " if self.number >= 0 else ""
        return f"{what}{self.segment}: {self.reason}"


Item: TypeAlias = Segment | Record | Torn | Damage


class Verdict(msgspec.Struct, frozen=True):
    """What `verify_journal` found; times are `recv_ts` of the first and last event, 0 without any."""

    segments: int
    records: int
    checkpoints: int
    events: int
    actions: int
    first_ts: Nanos
    last_ts: Nanos
    clean_stop: bool
    """The last run ended by itself."""
    torn: tuple[str, ...]
    damage: tuple[str, ...]


def read(path: Path) -> Iterator[Item]:
    """Return the segments and records in a journal folder, or in one segment file, oldest first.

    ConfigError if there is no journal at `path`; JournalError if it is one file whose header cannot be read.
    """
    paths = _paths(path)
    if len(paths) == 1:
        with _open(paths[0]) as file:
            _header(paths[0], file)
    return _read(paths)


def verify_journal(path: Path) -> Verdict:
    """Return counts, torn tails and every damage of a journal; errors as `read`."""
    counts = dict.fromkeys(KIND_NAMES, 0)
    segments, first_ts, last_ts, clean = 0, 0, 0, False
    torn: list[str] = []
    damage: list[str] = []
    for item in read(path):
        if isinstance(item, Segment):
            segments += 1
        elif isinstance(item, Torn):
            torn.append(str(item))
        elif isinstance(item, Damage):
            damage.append(str(item))
        else:
            counts[item.kind] += 1
            clean = False
            try:
                if item.kind == EVENT:
                    last_ts = decode_event(item).recv_ts
                    first_ts = first_ts or last_ts
                else:
                    clean = decode(item) == CLEAN_STOP
            except JournalError as error:
                damage.append(str(error))
    return Verdict(
        segments=segments,
        records=sum(counts.values()),
        checkpoints=counts[CHECKPOINT],
        events=counts[EVENT],
        actions=counts[ACTION],
        first_ts=first_ts,
        last_ts=last_ts,
        clean_stop=clean,
        torn=tuple(torn),
        damage=tuple(damage),
    )


def cat_journal(path: Path) -> Iterator[str]:
    """Return one line of JSON per record, field names spelled out; torn tails and damage are lines too.

    Errors as `read`, and JournalError for a record that cannot be decoded.
    """
    for item in read(path):
        if isinstance(item, Record):
            line = {
                "segment": item.segment,
                "offset": item.offset,
                "record": item.number,
                "kind": KIND_NAMES[item.kind],
                "value": _named(decode(item)),
            }
            yield msgspec.json.encode(line).decode()
        elif not isinstance(item, Segment):
            yield msgspec.json.encode({type(item).__name__.lower(): str(item)}).decode()


def _paths(path: Path) -> list[Path]:
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


def _read(paths: list[Path]) -> Iterator[Item]:
    before: Header | None = None
    whole = False
    for index, path in enumerate(paths):
        with _open(path) as file:
            try:
                header = _header(path, file)
            except JournalError as error:
                last = index == len(paths) - 1
                yield _bad_header(path, error, cut=last)
                before = None
                continue
            if before is not None and header.number != before.number + 1:
                yield Damage(path.name, 0, -1, _hole(before.number, header.number))
                whole = False
            follows = whole and before is not None and header.run == before.run
            yield Segment(path, header, follows)
            whole = True
            for item in _records(path.name, file, header.first_record):
                if isinstance(item, Torn) and not _ends_run(paths[index + 1 : index + 2], header):
                    item = Damage(path.name, 0, -1, f"cut off at offset {item.offset}, though its run goes on")
                whole = isinstance(item, Record)
                yield item
        before = header


def _records(name: str, file: BinaryIO, number: int) -> Iterator[Record | Torn | Damage]:
    """Return the records up to the end of the file or the first that is not whole."""
    offset = HEADER_BYTES
    while start := file.read(FRAME_BYTES):
        if len(start) < FRAME_BYTES:
            yield Torn(name, offset, len(start))
            return
        length, crc, kind = unframe(start)
        if length > MAX_PAYLOAD:
            yield Damage(name, offset, number, f"length {length} is more than {MAX_PAYLOAD}")
            return
        payload = file.read(length)
        if len(payload) < length and not has_wrong_length(crc, kind, payload):
            yield Torn(name, offset, FRAME_BYTES + len(payload))
            return
        if len(payload) < length or not matches(crc, kind, payload):
            yield Damage(name, offset, number, "CRC mismatch")
            return
        yield Record(kind, payload, name, offset, number)
        offset += FRAME_BYTES + length
        number += 1


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _header(path: Path, file: BinaryIO) -> Header:
    try:
        return decode_header(file.read(HEADER_BYTES))
    except JournalError as error:
        raise JournalError(f"{path}: {error}") from None


def _bad_header(path: Path, error: JournalError, *, cut: bool) -> Torn | Damage:
    """Return a torn tail for a last segment that was being created when the run ended."""
    size = path.stat().st_size
    if cut and size < HEADER_BYTES:
        return Torn(path.name, 0, size)
    return Damage(path.name, 0, -1, str(error).removeprefix(f"{path}: "))


def _hole(before: int, after: int) -> str:
    if after <= before:
        return f"it says it is segment {after}, after segment {before}"
    which = f"segment {before + 1} is" if after == before + 2 else f"segments {before + 1} to {after - 1} are"
    return f"{which} missing before it"


def _ends_run(following: list[Path], header: Header) -> bool:
    """Return True if the next segment (none or one) is not of the same run."""
    for path in following:
        with _open(path) as file:
            try:
                return _header(path, file).run != header.run
            except JournalError:
                return path.stat().st_size < HEADER_BYTES
    return True


def _named(value: object) -> object:
    """Return a struct as a dict with its type's name, recursively, in what JSON can say."""
    if isinstance(value, msgspec.Struct):
        fields = {name: _named(getattr(value, name)) for name in value.__struct_fields__}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [_named(item) for item in value]
    return value.value if isinstance(value, Enum) else value
