"""Spans: which time each segment of a folder covers, and which of them follow each other.

Invariant: no segment is left out: one whose header cannot be read has a span that says why. It must not know what the
records mean beyond their times.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError, JournalError
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import COLD, SUFFIX, is_segment, number_of
from mmpi.journal.reader import Item, Segment, read
from mmpi.journal.record import CHECKPOINT, COMMIT, EVENT, RUN, SESSION, Header, Record, decode

LATE: Final[Nanos] = 3600 * SECOND
"""Before and after an interval a ledger is looked through for what was committed late: a disk may fail for long."""
_OPENINGS: Final = (CHECKPOINT, SESSION)
"""Kinds of record that a segment opens with."""


class Span(msgspec.Struct, frozen=True):
    """One segment and the time it covers, both ends included."""

    path: Path
    number: int
    header: Header | None
    first: Nanos = 0
    last: Nanos = 0
    why: str = ""
    """Why nothing is known of it."""

    @property
    def cold(self) -> bool:
        """Return whether it is compressed."""
        return self.path.name.endswith(COLD)

    @property
    def name(self) -> str:
        """Return the name that it has among those that it follows."""
        return f"{self.number:08d}{SUFFIX}{COLD if self.cold else ''}"

    def touches(self, begin: Nanos, end: Nanos) -> bool:
        """Return whether it covers a part of an interval."""
        return self.header is not None and self.first <= end and self.last >= begin


def chains_of(paths: Iterable[Path], *, ledger: tuple[Nanos, Nanos] | None = None) -> list[list[Span]]:
    """Return the segments in their order, those together that follow each other without one missing.

    In an archive numbers begin anew with each boot, and segments may be left out by policy: there are many chains then.
    `ledger` for a ledger: the interval in question. What is in one was committed some time after it happened, so there
    the segments of about that time are read through.
    """
    return [_timed(chain, ledger) for chain in linked(_heads(paths))]


def linked(spans: Iterable[Span]) -> list[list[Span]]:
    """Return the spans in chains by their numbers."""
    chains: list[list[Span]] = []
    for span in spans:
        if not chains or span.number != chains[-1][-1].number + 1:
            chains.append([])
        chains[-1].append(span)
    return chains


def covered(spans: Iterable[Span]) -> tuple[Nanos, Nanos] | None:
    """Return the time from the first to the last of them; None if nothing is known of any."""
    known = [span for span in spans if span.header is not None]
    return (min(span.first for span in known), max(span.last for span in known)) if known else None


def is_ledger(path: Path) -> bool:
    """Return whether a segment is of a ledger, by the record it opens with; False if that cannot be read."""
    return _opening(path) == SESSION


def opens_whole(span: Span) -> bool:
    """Return whether a segment begins with the state from which it can be read on its own."""
    return _opening(span.path) in _OPENINGS


def there(path: Path) -> Path | None:
    """Return where a segment is now: the quoter may have compressed it meanwhile; None if it is gone."""
    cold = path.with_name(path.name.removesuffix(COLD) + COLD)
    return next((each for each in (path, cold) if each.exists()), None)


def stamp(time: Nanos) -> str:
    """Return a time as people and programs read it, to the nanosecond; a number that is no date as it is."""
    try:
        return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND:09d}Z"
    except (OverflowError, ValueError, OSError):
        return str(time)


def _heads(paths: Iterable[Path]) -> Iterable[Span]:
    for path in paths:
        found = there(path)
        if found is not None and (span := _head(found)) is not None:
            yield span


def _head(path: Path) -> Span | None:
    """Return a segment without its times; None if it was deleted meanwhile."""
    try:
        first = next(read(path))
    except ConfigError:
        if not path.exists():
            return None
        raise
    except JournalError as error:
        number = number_of(path) if is_segment(path) else 1
        return Span(path, number, None, why=str(error).removeprefix(f"{path}: "))
    assert isinstance(first, Segment)
    return Span(path, first.header.number, first.header)


def _timed(chain: Sequence[Span], ledger: tuple[Nanos, Nanos] | None) -> list[Span]:
    spans = []
    for span, after in zip(chain, [*chain[1:], None], strict=True):
        header, follower = span.header, None if after is None else after.header
        if header is None:
            spans.append(span)
            continue
        first = last = header.created_ns
        goes_on = follower is not None and follower.run == header.run and follower.created_ns >= first
        if follower is not None and goes_on:
            last = follower.created_ns
        if ledger is not None and (not goes_on or (first <= ledger[1] + LATE and last >= ledger[0] - LATE)):
            first, last = _ledger_times(span.path, first)
        elif not goes_on:
            last = max(first, _last_event(span.path))
        spans.append(msgspec.structs.replace(span, first=first, last=last))
    return spans


def _last_event(path: Path) -> Nanos:
    """Return the time of a segment's last event, 0 without one."""
    last: Record | None = None
    for item in _read(path):
        if isinstance(item, Record) and item.kind == EVENT:
            last = item
    return _time(last) if last is not None else 0


def _ledger_times(path: Path, created: Nanos) -> tuple[Nanos, Nanos]:
    """Return the times of the first and last thing told: what is committed happened up to some seconds before."""
    times = [created]
    for item in _read(path):
        if isinstance(item, Record) and item.kind in (EVENT, COMMIT, RUN):
            times.append(_time(item) or created)
    return min(times), max(times)


def _read(path: Path) -> Iterable[Item]:
    """Return what is in a segment, nothing if it was deleted meanwhile."""
    found = there(path)
    return read(found) if found is not None else ()


def _time(record: Record) -> Nanos:
    try:
        value = decode(record)
    except JournalError:
        return 0
    time: Nanos = value.recv_ts if record.kind == EVENT else value.at
    return time


def _opening(path: Path) -> int:
    """Return the kind of a segment's first record; 0 if that cannot be read."""
    try:
        for item in read(path):
            if not isinstance(item, Segment):
                return item.kind if isinstance(item, Record) else 0
    except (ConfigError, JournalError):
        return 0
    return 0
