"""Survey: what a journal holds, counted, checked and spelt out for people and programs.

Invariant: what it calls damage is what the reader left out, but for a ledger's last commit: a power cut in its middle
breaks no promise, so that is a torn tail. It must not know engines or files beyond the reader's.
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from mmpi.errors import JournalError
from mmpi.instrument import Nanos
from mmpi.journal import schema
from mmpi.journal.entries import CLEAN, Ending, Gap
from mmpi.journal.reader import Damage, Item, Segment, Torn, read
from mmpi.journal.record import (
    CLEAN_STOP,
    COMMIT,
    END,
    EVENT,
    GAP,
    KIND_NAMES,
    NOTE,
    RUN,
    Header,
    Record,
    decode,
    decode_plain,
    description,
)


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
    gaps: tuple[str, ...] = ()
    """What could not be written at its time, or was dropped by policy."""
    lost: int = 0
    """Records that the damage cost, as far as that is known."""
    skipped_bytes: int = 0
    unknown: int = 0
    """Records of kinds that a later version has added."""
    kinds: dict[str, int] = {}


def verify_journal(path: Path) -> Verdict:
    """Return counts, torn tails, gaps and every damage of a journal; errors as `read`."""
    tally = _Tally()
    for item in settled(read(path)):
        tally.take(item)
    return tally.verdict()


class _Tally:
    """Counts, one item after the other."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.segments = self.first_ts = self.last_ts = self.lost = self.skipped = self.unknown = 0
        self.clean = False
        self.torn: list[str] = []
        self.damage: list[str] = []
        self.gaps: list[str] = []
        self._types: Header | None = None

    def take(self, item: Item) -> None:
        if isinstance(item, Segment):
            self.segments += 1
            self._types = item.header
        elif isinstance(item, Torn):
            self.torn.append(str(item))
            self.clean = False
        elif isinstance(item, Damage):
            self.damage.append(str(item))
            self.lost += max(0, item.lost)
            self.skipped += item.skipped
        else:
            self._record(item)

    def _record(self, item: Record) -> None:
        self.kinds[item.name] = self.kinds.get(item.name, 0) + 1
        self.clean = False
        if item.kind not in KIND_NAMES:
            self.unknown += 1
            return
        try:
            value = decode(item)
        except JournalError as error:
            if self._types is None or not self._types.description_differs():
                self.damage.append(str(error))
                return
            # What another version wrote may be what ours does not know; that it is whole its CRC says.
            value = None
        if item.kind == EVENT and value is not None:
            self.last_ts = value.recv_ts
            self.first_ts = self.first_ts or self.last_ts
        elif item.kind == GAP and isinstance(value, Gap):
            self.gaps.append(f"{item.segment}: {value.records} records: {value.why}")
        elif item.kind == NOTE:
            self.clean = value == CLEAN_STOP
        elif item.kind == END and isinstance(value, Ending):
            self.clean = value.kind == CLEAN

    def verdict(self) -> Verdict:
        return Verdict(
            segments=self.segments,
            records=sum(self.kinds.values()),
            checkpoints=self.kinds.get("checkpoint", 0),
            events=self.kinds.get("event", 0),
            actions=self.kinds.get("action", 0),
            first_ts=self.first_ts,
            last_ts=self.last_ts,
            clean_stop=self.clean,
            torn=tuple(self.torn),
            damage=tuple(self.damage),
            gaps=tuple(self.gaps),
            lost=self.lost,
            skipped_bytes=self.skipped,
            unknown=self.unknown,
            kinds=self.kinds,
        )


def settled(items: Iterator[Item]) -> Iterator[Item]:
    """Return the items, the damage of a run's last commit to a ledger as torn tails.

    Whether a commit was its run's last the next one says: that has the next number and begins with a run.
    """
    last = following = 0
    held: list[Item] = []
    for item in items:
        number = _commit_number(item)
        if held and following and not number:
            # What the commit behind the damage begins with decides.
            is_torn = isinstance(item, Record) and item.kind == RUN and following <= last + 1
            yield from map(_torn, held) if is_torn else held
            held, last, following = [], following, 0
        if held or (last and isinstance(item, Damage)):
            held.append(item)
            following = following or number
        else:
            yield item
            last = number or last
    yield from held if following else map(_torn, held)


def _commit_number(item: Item) -> int:
    """Return the number of the commit that begins here; 0 = none does."""
    try:
        return decode(item).number if isinstance(item, Record) and item.kind == COMMIT else 0
    except JournalError:
        return 0


def _torn(item: Item) -> Item:
    return Torn(item.segment, item.offset, item.skipped) if isinstance(item, Damage) else item


def value_of(record: Record, header: Header) -> object:
    """Return a record's content in what JSON can say, with the names of types and fields; JournalError as `decode`."""
    if record.kind in KIND_NAMES and not header.description_differs():
        return spelled(decode(record))
    told = schema.unpack(header.description or description())
    name, type_ = told.kinds.get(str(record.kind), (str(record.kind), ""))
    try:
        return {"kind": name, "content": _plain(schema.named(told, type_, decode_plain(record)))}
    except RecursionError:
        raise JournalError(f"{record.where()}: {name}: it is nested too deeply to be shown") from None


def spelled(value: Any) -> Any:
    """Return a struct as a dict with its type's name, recursively, in what JSON can say."""
    if isinstance(value, msgspec.Struct):
        fields = {name: spelled(getattr(value, name)) for name in value.__struct_fields__}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [spelled(item) for item in value]
    if isinstance(value, dict):
        return {str(key): spelled(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return f"ext {value.code}: {value.data!r}" if isinstance(value, msgspec.msgpack.Ext) else value
