"""Keeper: what a run takes up from those before it, and what it leaves for those after it.

Invariant: on the loop nothing here waits for a disk; what an engine takes up, it takes up before its first event, so
that the first checkpoint holds it and a replay needs nothing else. It must not know venues or sockets.
"""

import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device.boot import boot_id
from mmpi.device.latch import Latch
from mmpi.engine import Engine
from mmpi.errors import DeviceError
from mmpi.events import Disconnected, Event, ExecReport, ExecType, Flatten, Funding, Halted, Resumed, Stopping
from mmpi.instrument import SECOND, Lots, Money, Nanos
from mmpi.journal.budget import Budget, DiskLimits
from mmpi.journal.cold import compress
from mmpi.journal.entries import CLEAN, ConfigText, Ending, Run, Session
from mmpi.journal.ledger import Ledger
from mmpi.journal.record import CONFIG, EVENT, RUN, SESSION
from mmpi.journal.recovery import (
    LedgerEnd,
    Memory,
    ending_of,
    read_ledger,
    read_memory,
    resumption,
    unwritten,
)
from mmpi.journal.writer import JournalWriter
from mmpi.runtime.build import build_id
from mmpi.runtime.intents import DurableIntents
from mmpi.runtime.summary import worded
from mmpi.sections import JournalSettings, PathSettings, ledger_folder
from mmpi.session import NOTHING, Counted, Resumption
from mmpi.status import FillStatus, StartStatus, StorageStatus

EVERY: Final[Nanos] = SECOND
"""The session's state is written to memory this often, where it changes."""
PEAK_GRAIN: Final = 200
"""A peak counts as a change worth a commit when it has risen by this part of the drawdown that is allowed."""
CLOSE_S: Final = 2.0
"""How long the end of a run waits for the disk."""
LAST_FILLS: Final = 20
"""Fills that are shown: telemetry looks four times a second, and 600 a minute are the most by default."""
MAX_IDS: Final = 4096
"""Fills that are known, so that none is written twice: twice what a venue's longest list repeats."""

_TURNS: Final = frozenset({Halted, Flatten, Stopping, Disconnected})
"""Events after which what was decided before is void, and after which the machine may soon end."""


class KeeperSettings(msgspec.Struct, frozen=True):
    """What a keeper needs of the settings."""

    paths: PathSettings
    journal: JournalSettings
    max_drawdown: Money


class Keeper:
    """One run's memory of itself."""

    def __init__(self, settings: KeeperSettings, prefix: str, scope: str, digest: str, config: bytes) -> None:
        """Read what earlier runs left; takes as long as the disk does. DeviceError if that cannot be read.

        `scope`: whose money it is; `config`: the whole configuration, without secrets, in JSON.
        """
        paths, journal = settings.paths, settings.journal
        self.prefix, self.scope = prefix, scope
        self._settings, self._digest, self._config = settings, digest, config
        self._latch = Latch(paths.latch)
        self._end: LedgerEnd = read_ledger(ledger_folder(paths))
        memory: Memory = read_memory(paths.journal, prefix[:10])
        self._armed = self._arming()
        found = resumption(self._end, memory, scope, self._armed)
        self._unwritten = unwritten(self._end, memory, scope)
        self._kept: Resumption | None = found[1] if found is not None else None
        self.counted = Counted(found[0].history_ms, found[0].funded_ms) if found is not None else NOTHING
        """What of the venue's past is to be counted."""
        self._dated = self.counted.fills_from_ms >= 0
        self._boot = this_boot()
        self._before = ending_of(self._end, self._boot)
        limits = DiskLimits(journal.disk_bytes_per_hour, journal.disk_max_bytes, journal.disk_max_days)
        self.ledger = Ledger(ledger_folder(paths), commit_s=journal.commit_s, budget=Budget(limits))
        self.writer: JournalWriter
        self._engine: Engine
        self._counted: Callable[[], Counted] = lambda: self.counted
        self.known: frozenset[str] = frozenset(self._kept.state.instruments if self._kept is not None else ())
        """Instruments of which that is ours to count."""
        self._ids: dict[str, None] = {}
        self.fills = 0
        """How many this run has seen."""
        self.last_fills: deque[FillStatus] = deque(maxlen=LAST_FILLS)
        self._material: object = None
        self._last: object = None
        self._next: Nanos = 0
        self._segment = 0
        self._now: Nanos = 0
        self._breach, self._day, self._blocked = "", (0, 0), False
        self._grain = max(1, settings.max_drawdown // PEAK_GRAIN)
        self.intents: DurableIntents | None = None
        """Where orders wait for the disk; None = they do not."""

    # Before and after the loop ------------------------------------------------------------------------------------

    def take_up(self, engine: Engine) -> dict[str, Lots]:
        """Have the engine go on where an earlier run ended; return the positions that it begins with."""
        self._engine = engine
        if self._kept is not None:
            engine.session.resume(self._kept)
            self._ids = dict.fromkeys(self._kept.exec_ids)
            self._ids.update(dict.fromkeys(_exec_id(event) for event in self._kept.later))
            self._ids.update(dict.fromkeys(fill.exec_id for fill in self._unwritten))
            self._now = self._kept.state.ts
        return {name: desk.position.lots for name, desk in engine.desks.items()}

    def open(self, writer: JournalWriter, counted: Callable[[], Counted] | None = None) -> None:
        """Commit that this run begins; DeviceError if the disk does not take it. Takes as long as the disk does.

        `counted` tells what of the venue's past the next run is to count.
        """
        self.writer = writer
        self._counted = counted or self._counted
        # Where nobody tells, nothing will be known later.
        self._dated = self._dated or counted is None
        end = self._end
        run = Run(
            self.prefix, self.scope, self._digest, build_id(), self._boot, time.time_ns(), self._before,
            tuple(end.repaired),
        )  # fmt: skip
        entries: list[tuple[int, object]] = [(RUN, run)]
        if self._digest not in end.digests:
            entries.append((CONFIG, ConfigText(self._digest, zlib.compress(self._config, 9))))
        # The ledger knows every fill, and so those that the last run had no time to write.
        entries += [(EVENT, fill) for fill in self._unwritten]
        session = self._session(self._now)
        entries.append((SESSION, session))
        try:
            ids = tuple(self._ids)[-MAX_IDS:]
            self.ledger.open(end, msgspec.structs.replace(session, exec_ids=ids), entries)
        except OSError as error:
            raise DeviceError(f"{self.ledger.folder}: the ledger cannot be written: {error.strerror}") from None

    def close(self, failure: str) -> bool:
        """Leave the state and how the run ended; False if the disk did not take it in CLOSE_S. Waits for the disk."""
        self.ledger.keep_session(self._session(self._now))
        return self.ledger.close(Ending("failed", failure) if failure else Ending(CLEAN), CLOSE_S)

    def cold(self, path: Path) -> None:
        """Have a full segment of the journal in memory compressed, and archived if that is wanted."""
        self.ledger.later(lambda: self._make_cold(path))

    # On the loop --------------------------------------------------------------------------------------------------

    @property
    def fault(self) -> str:
        """Return why what must be kept cannot be kept, "" = it can."""
        return self.writer.fault or self.ledger.fault

    def after(self, event: Event) -> None:
        """Keep what the event, which has been handled, has changed."""
        now = self._now = event.recv_ts
        kind = type(event)
        if not self._dated and self._counted().fills_from_ms >= 0:
            # To a run that does not know from when on fills are ours, all of this one's would be history.
            self._dated = True
            self._keep(now)
            self.ledger.urge()
        # A fresh segment holds the state from its first event on: the ones before it may be gone.
        due = now >= self._next or self.writer.segment != self._segment
        if (blocked := bool(self._engine.blocked)) != self._blocked:
            self._blocked = blocked
            self._void()
        if kind is ExecReport or kind is Funding:
            due = self._money(event) or due
        elif kind in _TURNS:
            self._void()
            self._keep(now)
            self.ledger.urge()
            return
        elif kind is Resumed:
            self.ledger.later(self._read_latch)
            due = True
        if due or self._engine.gate.breach != self._breach:
            self._keep(now)

    def status(self) -> StorageStatus:
        """Return what observers may see of what is kept."""
        ledger = self.ledger.status()
        return StorageStatus(
            self.fault, self.writer.written, ledger.commits, ledger.bytes, ledger.last_ms, ledger.worst_ms,
            ledger.oldest_s, ledger.routine_dropped, self.intents.latency if self.intents is not None else None,
        )  # fmt: skip

    @property
    def start(self) -> StartStatus:
        """Return how this run began."""
        kept = self._kept
        return StartStatus(
            self._before.kind, str(self._before).partition(": ")[2], kept is not None,
            len(kept.later) if kept is not None else 0,
            sum(map(len, kept.doubtful.values())) if kept is not None else 0, list(self._end.repaired),
        )  # fmt: skip

    def _void(self) -> None:
        if self.intents is not None:
            self.intents.void()

    def _money(self, event: object) -> bool:
        """Return True for a fill that is new, or a funding payment; the ledger has it now."""
        if isinstance(event, ExecReport):
            if event.exec_type is not ExecType.TRADE or event.exec_id in self._ids:
                return False
            if event.instrument not in self._engine.desks or event.price <= 0 or event.size <= 0:
                return False
            self._ids[event.exec_id] = None
            if len(self._ids) > MAX_IDS:
                del self._ids[next(iter(self._ids))]
            self.fills += 1
            self.last_fills.append(worded(self._engine, event))
        self.ledger.keep_fill(event)
        return True

    def _keep(self, now: Nanos) -> None:
        """Write the session's state where it has changed: to memory, and on to the ledger if it matters."""
        engine = self._engine
        self._next, self._breach = now + EVERY, engine.gate.breach
        session = self._session(now)
        fresh = self.writer.segment != self._segment
        # Without its time; but what is to be counted is as good as a change.
        known = (session.history_ms, session.funded_ms, session.armed)
        plain = (session.state.partition(b",")[2], known)
        if plain == self._last and not fresh:
            return
        self._last, self._segment = plain, self.writer.segment
        self.writer.keep(SESSION, session, now)
        gate = engine.gate
        material = (
            engine.session.fills, engine.session.ends, gate.base, gate.peak // self._grain, gate.breach,
            gate.accepted, known, self._day,
            [(desk.position.lots, desk.position.cash) for desk in engine.desks.values()],
        )  # fmt: skip
        if material != self._material:
            self._material = material
            self.ledger.keep_session(session, breach=bool(gate.breach))

    def _session(self, now: Nanos) -> Session:
        engine = self._engine
        governor = engine.upkeep.governor
        state = engine.session.state(now, engine.violations, governor.requests, governor.quotes)
        self._day = (state.wires.day, state.wires.base)
        text = msgspec.json.encode(state)
        counted = self._counted()
        return Session(
            self.scope, self.prefix, text, counted.fills_from_ms, self._armed, boot_id=self._boot,
            funded_ms=counted.funded_ms,
        )  # fmt: skip

    # In the ledger's thread ---------------------------------------------------------------------------------------

    def _read_latch(self) -> None:
        self._armed = self._arming()

    def _arming(self) -> int:
        """Return the generation of the arming in force, 0 = it is latched."""
        state = self._latch.load()
        return state.generation if state.valid and not state.latched else 0

    def _make_cold(self, path: Path) -> None:
        size = compress(path, durable=False)
        cold = path.with_name(path.name + ".zst")
        self.writer.became_cold(cold, size)
        if self._settings.journal.routine == "disk":
            self.ledger.archive(cold)


def this_boot(environ: Mapping[str, str] = os.environ) -> str:
    """Return this boot's id without hyphens: the kernel's, or what the unit says where /proc/sys is not to be seen.

    "" = nobody says: then a run that ended without a word counts as killed.
    """
    try:
        told = boot_id()
    except DeviceError:
        told = environ.get("BOOT_ID", "")
    return told.replace("-", "")


def _exec_id(event: object) -> str:
    return event.exec_id if isinstance(event, ExecReport) else ""
