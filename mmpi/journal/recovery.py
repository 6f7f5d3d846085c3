"""Recovery: what an earlier run left in ledger and memory, read back into what a new one takes up.

Both tiers tell the same story in the same records: the session's state, then the fills after it. The one that knows
more is believed; after a power cut that is the ledger, after a kill the journal in memory.

Invariant: nothing is invented: what cannot be read is left out and told. It must not know venues or engines' ways.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.actions import AmendOrder, Approved, NewOrder
from mmpi.engine_state import EngineState
from mmpi.errors import ConfigError, DeviceError, MmpiError
from mmpi.events import ExecReport, ExecType, Funding
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import SUFFIX, number_of, segment_paths
from mmpi.journal.entries import FIRST, KILLED, POWER, Ending, Intent, Run, Session
from mmpi.journal.reader import UNREADABLE, Damage, Item, Segment, Torn, read, read_segments
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    COMMIT,
    CONFIG,
    END,
    EVENT,
    FRAME_BYTES,
    INTENT,
    RUN,
    SESSION,
    Header,
    Record,
    decode,
    is_money,
)
from mmpi.journal.survey import settled
from mmpi.orders import OrderRow, OrdStatus
from mmpi.session import Resumption, SessionState

_OVER: Final = frozenset(
    {ExecType.CANCELED, ExecType.REJECTED, ExecType.EXPIRED, ExecType.FILLED, ExecType.NOT_FOUND}
)
"""Reports after which an order is not live."""
_TOLD: Final = (CHECKPOINT, SESSION, ACTION)
MAX_IDS: Final = 20_000
"""Fills that are remembered while reading: ten times a venue's longest list."""
NEWEST: Final = 3
"""Segments of the ledger that are read: one that was being begun, and one before that cannot be read."""
LAST: Final = 2
"""Segments of the journal in memory that are read: each holds the session's state within its first second."""
UNDER_WAY: Final[Nanos] = 10 * SECOND
"""An order that was sent longer ago was answered, or is void: five times what any request lives."""
MAX_TOLD: Final = 8
"""Things that were wrong with a ledger, that are told."""


class Told(msgspec.Struct):
    """What is known of one scope: the session, and what came after."""

    session: Session
    later: list[ExecReport | Funding] = []
    ids: dict[str, None] = {}

    @property
    def ts(self) -> Nanos:
        """Return the time of the last thing that is known."""
        return max([state_of(self.session).ts, *[event.recv_ts for event in self.later[-1:]]])


class LedgerEnd(msgspec.Struct):
    """What the ledger says, and where it ends."""

    sessions: dict[str, Told] = {}
    run: Run | None = None
    ending: Ending | None = None
    """Of the last run; None = it did not say."""
    intents: dict[str, Intent] = {}
    """Of the last run."""
    boot_id: str = ""
    """In which boot its last state was written."""
    digests: set[str] = set()
    """Configurations whose text was seen in it."""
    path: Path | None = None
    """The segment to go on with; None = begin another one."""
    header: Header | None = None
    number: int = 0
    end: int = 0
    records: int = 0
    commits: int = 0
    repaired: list[str] = []


class Memory(msgspec.Struct):
    """What the journal in memory says of the last run in it."""

    prefix: str = ""
    told: Told | None = None
    fills: dict[str, ExecReport] = {}
    """All that are in what was read, by their ids."""
    live: dict[str, tuple[str, OrderRow]] = {}
    """Orders that may be live: ClOrdId -> instrument, row."""


def read_ledger(folder: Path) -> LedgerEnd:
    """Return what a ledger says; one that is not there says nothing, and one that is no ledger neither.

    Each segment opens with all that went before, so the last ones are enough. DeviceError if the disk does not give
    them: to begin without would forget every loss.
    """
    try:
        paths = segment_paths(folder) if folder.is_dir() else []
        end = _read_end(paths[-NEWEST:])
        if not end.sessions and len(paths) > NEWEST:
            # None of them can be read: what is left is older.
            told, end = end.repaired, _read_end(paths)
            end.repaired = end.repaired or told
    except (OSError, ConfigError) as error:
        raise DeviceError(f"{folder}: the ledger cannot be read: {error}") from None
    return end


def _read_end(paths: list[Path]) -> LedgerEnd:
    end = LedgerEnd(sessions={}, repaired=[], intents={}, digests=set())
    walk = _LedgerWalk(end)
    for item in settled(_readable(read_segments(paths))):
        walk.take(item)
    end.number = max([end.number, *map(number_of, paths)])
    if walk.is_unfit or end.end == 0 or end.path is None or number_of(end.path) != end.number:
        end.path = end.header = None
    return end


def _readable(items: Iterator[Item]) -> Iterator[Item]:
    """Return the items; DeviceError for what the disk did not give: a torn tail that is not one must not be cut off."""
    for item in items:
        if isinstance(item, Damage) and UNREADABLE in item.reason:
            raise DeviceError(f"the ledger cannot be read: {item}")
        yield item


class _LedgerWalk:
    """The way through a ledger."""

    def __init__(self, end: LedgerEnd) -> None:
        self.end = end
        self.is_unfit = False
        """The last segment is not to be written to: it is damaged, or has records behind a torn place."""
        self._scope = ""
        self._torn = False
        self._unconfirmed = False
        """In a commit that a cut left in pieces."""

    def note(self, text: str) -> None:
        """Tell what was wrong; the first few things."""
        if len(self.end.repaired) < MAX_TOLD:
            self.end.repaired.append(text)

    def take(self, item: Item) -> None:
        end = self.end
        if isinstance(item, Segment):
            end.path, end.header, end.number = item.path, item.header, item.header.number
            end.records, end.end = item.header.first_record, 0
            self.is_unfit, self._torn, self._unconfirmed = item.path.suffix != SUFFIX, False, False
        elif isinstance(item, Torn | Damage):
            self.note(str(item))
            self._torn = True
            self._unconfirmed = self._unconfirmed or isinstance(item, Torn)
            self.is_unfit = self.is_unfit or isinstance(item, Damage) or item.offset == 0
        else:
            self.is_unfit = self.is_unfit or self._torn
            end.records = item.number + 1
            end.end = item.offset + FRAME_BYTES + len(item.payload)
            try:
                self._record(item.kind, decode(item))
            except MmpiError as error:
                self.note(str(error))

    def _record(self, kind: int, value: Any) -> None:
        end = self.end
        if kind == SESSION and self._unconfirmed:
            # It counts fills whose own records may be the ones that are missing: nobody would know them again when the
            # venue tells of them. The state before, and the fills that are whole, are what this commit left.
            return
        if kind == SESSION:
            # A segment's opening ends with the scope that is being run; its run may be in a segment that is gone.
            self._scope, end.boot_id = value.scope, value.boot_id
            before = end.sessions.get(value.scope)
            # Only an opening names fills: all that are counted, of another scope all but those that follow it.
            ids = dict.fromkeys(value.exec_ids) if value.exec_ids or before is None else before.ids
            end.sessions[value.scope] = Told(value, [], ids)
        elif kind == RUN:
            self._scope, end.run, end.ending, end.intents = value.scope, value, None, {}
        elif kind == END:
            end.ending = value
        elif kind == COMMIT:
            end.commits = value.number
        elif kind == CONFIG:
            end.digests.add(value.digest)
        elif kind == INTENT:
            end.intents[value.cl_ord_id] = value
            _bound(end.intents)
        elif kind == EVENT and self._scope in end.sessions:
            count(end.sessions[self._scope], value)


def read_memory(folder: Path, instance: str) -> Memory:
    """Return what the journal in memory says of its last run; of another box's journal nothing."""
    try:
        paths = segment_paths(folder)
    except OSError:
        return Memory(live={}, fills={})
    walk = _MemoryWalk(instance)
    for path in paths[-LAST:]:
        with suppress(MmpiError):
            for item in read(path):
                walk.take(item)
    return walk.memory if walk.memory.prefix.startswith(instance) else Memory(live={}, fills={})


class _MemoryWalk:
    """The way through the last segments of the journal in memory."""

    def __init__(self, instance: str) -> None:
        self.memory = Memory(live={}, fills={})
        self._instance = instance
        self._is_ours = False
        self._known: dict[str, None] = {}

    def take(self, item: Item) -> None:
        if isinstance(item, Record) and (item.kind in _TOLD or (item.kind == EVENT and is_money(item))):
            try:
                self._record(item.kind, decode(item))
            except (MmpiError, msgspec.MsgspecError, ValueError):
                return

    def _record(self, kind: int, value: Any) -> None:
        memory = self.memory
        if not (self._is_ours or kind == CHECKPOINT):
            return
        if kind == CHECKPOINT:
            if value.cl_ord_prefix != memory.prefix:
                # Another run: what the ones before it left, it has written into the ledger before its first event.
                memory.prefix, memory.told, memory.fills = value.cl_ord_prefix, None, {}
            self._is_ours = value.cl_ord_prefix.startswith(self._instance)
            state = msgspec.json.decode(value.engine_state, type=EngineState)
            # What the run counts already: a venue tells old fills again, and the engine passes over them.
            self._known = {name: None for desk in state.desks.values() for name in desk.orders.exec_ids}
            memory.live = {row[0]: (name, row) for name, desk in state.desks.items() for row in desk.orders.live}
        elif kind == SESSION:
            memory.told = Told(value, [], {**self._known, **dict.fromkeys(memory.fills)})
        elif kind == ACTION:
            _sent(memory.live, value)
        else:
            if isinstance(value, ExecReport) and value.exec_type in _OVER:
                memory.live.pop(value.cl_ord_id, None)
            if memory.told is not None:
                count(memory.told, value)
            if is_fill(value):
                memory.fills[value.exec_id] = value
                _bound(memory.fills)


def count(told: Told, event: Any) -> None:
    """Note a fill or a funding payment, each once."""
    if isinstance(event, Funding):
        told.later.append(event)
    elif is_fill(event) and event.exec_id not in told.ids:
        told.ids[event.exec_id] = None
        _bound(told.ids)
        told.later.append(event)


def is_fill(event: Any) -> bool:
    """Return whether an event is a fill that counts."""
    trade = isinstance(event, ExecReport) and event.exec_type is ExecType.TRADE
    return trade and event.price > 0 and event.size > 0


def unwritten(end: LedgerEnd, memory: Memory, scope: str) -> list[ExecReport]:
    """Return the fills that memory knows and the ledger does not."""
    if memory.told is None or memory.told.session.scope != scope:
        return []
    known = end.sessions[scope].ids if scope in end.sessions else {}
    return [fill for name, fill in memory.fills.items() if name not in known]


def resumption(end: LedgerEnd, memory: Memory, scope: str, armed: int) -> tuple[Session, Resumption] | None:
    """Return what a new run of this scope takes up, None if there is nothing; `armed`: the generation of the
    arming that is in force, 0 = it is latched."""
    told = end.sessions.get(scope)
    other = memory.told if memory.told is not None and memory.told.session.scope == scope else None
    if other is not None and (told is None or other.ts >= told.ts):
        ids = {**(told.ids if told is not None else {}), **other.ids}
        told = Told(other.session, other.later, ids)
    if told is None:
        return None
    session = told.session
    return session, Resumption(
        state=state_of(session),
        later=tuple(told.later),
        exec_ids=tuple(told.ids)[-MAX_IDS:],
        doubtful=_doubtful(end, memory if other is not None else Memory(live={})),
        rearmed=armed > 0 and armed != session.armed,
    )


def ending_of(end: LedgerEnd, boot_id: str) -> Ending:
    """Return how the last run ended."""
    if not end.sessions:
        return Ending(FIRST)
    if end.ending is not None:
        return end.ending
    return Ending(KILLED if end.boot_id == boot_id else POWER)


def state_of(session: Session) -> SessionState:
    """Return the state in an entry."""
    return msgspec.json.decode(session.state, type=SessionState)


def _doubtful(end: LedgerEnd, memory: Memory) -> dict[str, tuple[OrderRow, ...]]:
    """Return the orders that may still be live, by instrument."""
    found = dict(memory.live)
    last = max((intent.ts for intent in end.intents.values()), default=0)
    for intent in end.intents.values() if end.ending is None else ():
        if intent.ts < last - UNDER_WAY:
            # It rested, or has ended: the venue's list says. (A venue without a list would need the ends here, too.)
            continue
        row: OrderRow = (
            intent.cl_ord_id, "", 1 if intent.side > 0 else -1, intent.price, intent.size, 0, -1,
            OrdStatus.UNKNOWN.value, intent.ts, 0,
        )  # fmt: skip
        # What memory knows to have ended is not in it; but then memory is of that very run.
        if not intent.cl_ord_id.startswith(memory.prefix or "none"):
            found.setdefault(intent.cl_ord_id, (intent.instrument, row))
    rows: dict[str, list[OrderRow]] = {}
    for name, row in found.values():
        rows.setdefault(name, []).append(row)
    return {name: tuple(each) for name, each in rows.items()}


def _sent(live: dict[str, tuple[str, OrderRow]], approved: Approved) -> None:
    action = approved.action
    if isinstance(action, NewOrder | AmendOrder):
        row: OrderRow = (
            action.cl_ord_id, "", action.side, action.price, action.size, 0, action.level,
            OrdStatus.PENDING_NEW.value, approved.ts, 0,
        )  # fmt: skip
        live[action.cl_ord_id] = (action.instrument, row)


def _bound(entries: dict[str, Any]) -> None:
    while len(entries) > MAX_IDS:
        del entries[next(iter(entries))]
