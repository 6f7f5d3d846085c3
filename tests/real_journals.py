"""Real journals to be damaged: a backtest's over the generated market, hot and cold, and a ledger's; and what is left.

`Kept` is what was written; `Kept.look` reads the folder again, damaged as it is, and holds it against that.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

import msgspec
from engine_builders import PATIENCE, PREFIX

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.engines import checkpoint
from mmpi.events import ExecReport, ExecType
from mmpi.instrument import SECOND
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import Ending, Run, Session
from mmpi.journal.ledger_file import LedgerFile
from mmpi.journal.reader import Damage, Torn, read
from mmpi.journal.record import END, EVENT, FRAME_BYTES, RUN, SESSION, Record, decode, encode_payload
from mmpi.journal.writer import JournalWriter
from mmpi.quoting.layered import LayeredConfig
from mmpi.research.backtest import Backtest
from mmpi.risk import RiskConfig
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import GENERATED, Market, MarketConfig

START = 1_700_000_000 * SECOND
Told = tuple[int, int, bytes]
"""Number, kind and payload of a record."""


def backtest(folder: Path, seconds: float, segment_bytes: int) -> Path:
    """Return the journal of a backtest over the generated market, one instrument of it."""
    grid = next(iter(GENERATED.values()))
    engine = Engine(EngineParams(PREFIX, (DeskParams(grid, LayeredConfig()),), RiskConfig(), PATIENCE))
    market = Market([grid], MarketConfig(seed=7), random.Random(7)).events(START)
    end = START + round(seconds * SECOND)
    out = JournalWriter(
        folder, segment_bytes=segment_bytes, max_bytes=None, checkpoint=lambda: checkpoint(engine, "digest")
    )
    Backtest(engine, out, SimConfig(seed=1)).run(takewhile(lambda event: event.recv_ts < end, market))
    out.close()
    return folder


def freeze(folder: Path) -> Path:
    """Return a journal after compressing all of its segments but the last."""
    for path in segment_paths(folder)[:-1]:
        compress(path, durable=False)
    return folder


def ledger(folder: Path, events: Iterable[bytes], *, segment_bytes: int = 12 * 1024, per_commit: int = 9) -> Path:
    """Return a ledger of one run over these events, with a commit of each few; its first segments are cold."""
    run = (RUN, encode_payload(Run(PREFIX, "paper", "digest", "0", "boot", 1, Ending("first"))))
    session = (SESSION, encode_payload(Session("paper", PREFIX, b"{}" * 400)))
    file = LedgerFile(folder, segment_bytes=segment_bytes)
    file.begin([session], [run], 1)
    batch: list[tuple[int, bytes]] = []
    for number, payload in enumerate(events):
        batch.append((EVENT, payload))
        if len(batch) == per_commit:
            entries = [session, *batch] if number % 2 else batch
            file.commit(entries, number) if file.has_room(entries) else file.begin([session], entries, number)
            batch = []
    file.commit([*batch, (END, encode_payload(Ending("clean")))], 10**6)
    file.close()
    for path in segment_paths(folder)[:-2]:
        compress(path, durable=True)
    return folder


def payloads(folder: Path, *, fills: bool = False) -> list[bytes]:
    """Return the events of a journal as they are written, or its fills alone."""
    events = [item for item in read(folder) if isinstance(item, Record) and item.kind == EVENT]
    return [each.payload for each in events if not fills or is_trade(decode(each))]


def is_trade(event: object) -> bool:
    """Return whether an event is a fill."""
    return isinstance(event, ExecReport) and event.exec_type is ExecType.TRADE


class Left(msgspec.Struct):
    """What a damaged journal is read as."""

    missing: list[int]
    """Numbers of the records that are not there any more."""
    lost: int
    """How many are missing by what was told."""
    unknown: bool
    """It was told that nobody knows how many are."""
    told: list[Torn | Damage]


class Kept:
    """A journal as it was written, and where each of its records stands."""

    def __init__(self, folder: Path) -> None:
        found = list(read(folder))
        self.folder = folder
        self.records = [item for item in found if isinstance(item, Record)]
        assert [item for item in found if isinstance(item, Torn | Damage)] == []
        assert [record.number for record in self.records] == list(range(len(self.records)))
        self.paths = segment_paths(folder)
        self.data = {path: path.read_bytes() for path in self.paths}
        self.of = {path: [record for record in self.records if record.segment == path.name] for path in self.paths}
        """The records of each segment."""
        self.header = {path: self.of[path][0].offset for path in self.paths}
        """How long each one's header is, once it is thawed."""
        self._told = [told(record) for record in self.records]

    def hit(self, path: Path, byte: int) -> Record | None:
        """Return the record that a byte of a segment is part of, None for a header and for padding."""
        whole = self.of[path]
        place = bisect_right(whole, byte, key=lambda record: record.offset) - 1
        return whole[place] if place >= 0 and byte < end_of(whole[place]) else None

    def look(self, path: Path, data: bytes) -> Left:
        """Return what is left with these bytes in a segment's place, which are taken back; nothing may be invented."""
        path.write_bytes(data)
        try:
            found = list(read(self.folder))
        finally:
            path.write_bytes(self.data[path])
        there = [told(item) for item in found if isinstance(item, Record)]
        numbers = [number for number, _, _ in there]
        assert numbers == sorted(set(numbers)), "each once, in order"
        assert all(each == self._told[each[0]] for each in there), "nothing that was not written"
        said = [item for item in found if isinstance(item, Torn | Damage)]
        damage = [item for item in said if isinstance(item, Damage)]
        return Left(
            sorted(set(range(len(self.records))) - set(numbers)),
            sum(max(0, item.lost) for item in damage),
            any(item.lost < 0 and "damaged parts" not in item.reason for item in damage),
            said,
        )


def told(record: Record) -> Told:
    """Return what a record says, wherever it stands."""
    return record.number, record.kind, record.payload


def end_of(record: Record) -> int:
    """Return the offset behind a record."""
    return record.offset + FRAME_BYTES + len(record.payload)


def numbers(records: Sequence[Record]) -> list[int]:
    """Return the records' numbers."""
    return [record.number for record in records]
