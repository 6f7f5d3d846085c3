"""Replay: the recorded events handled again, and every action compared byte for byte with the recorded one (I10).

Invariant: the engine never sees a recorded action. It must not know how an engine is built: the caller does.
"""

import os.path
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from mmpi.actions import Approved
from mmpi.events import Event
from mmpi.instrument import Nanos
from mmpi.journal.entries import Checkpoint
from mmpi.journal.reader import Segment, Torn, read
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    EVENT,
    GAP,
    NOTE,
    Record,
    decode_action,
    decode_checkpoint,
    decode_event,
    encode_payload,
)


class EngineLike(Protocol):
    """What replay asks of an engine."""

    def handle(self, event: Event) -> Sequence[Approved]:
        """Return the actions that follow from an event."""
        ...

    def checkpoint(self) -> bytes:
        """Return the state, as it stands in `Checkpoint.engine_state`."""
        ...


class Mismatch(msgspec.Struct, frozen=True):
    """The first place where the engine answered otherwise than it had; `event` counts from 1 over the replay."""

    segment: str
    offset: int
    record: int
    event: int
    recorded: str
    computed: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return (
            f"record {self.record} at offset {self.offset} of {self.segment}, after event {self.event}: "
            f"recorded {self.recorded}, computed {self.computed}"
        )


class ReplayVerdict(msgspec.Struct, frozen=True):
    """What was replayed (`recv_ts` from `first_ts` to `last_ts`, both included) and the first difference, if any.

    `restarts` counts the checkpoints after the first that the engine was rebuilt from: a new run, a gap or damage lies
    before each of them, and the interval does not cover that. `checkpoints` counts those whose state was compared.
    """

    events: int
    actions: int
    checkpoints: int
    restarts: int
    first_ts: Nanos
    last_ts: Nanos
    torn: tuple[str, ...]
    damage: tuple[str, ...]
    mismatch: Mismatch | None

    @property
    def exact(self) -> bool:
        """Return True if every action was the recorded one and no record is damaged."""
        return self.mismatch is None and not self.damage


def verify_replay(path: Path, build: Callable[[Checkpoint], EngineLike]) -> ReplayVerdict:
    """Return the verdict on a journal folder or segment; `build` returns an engine restored from a checkpoint.

    Stops at the first mismatch. Errors as `mmpi.journal.reader.read`, and JournalError for a record that cannot be
    decoded.
    """
    replay = _Replay(build)
    torn: list[str] = []
    damage: list[str] = []
    for item in read(path):
        if isinstance(item, Record):
            replay.take(item)
        elif isinstance(item, Segment):
            replay.begin(item)
        else:
            replay.lose()
            (torn if isinstance(item, Torn) else damage).append(str(item))
        if replay.mismatch is not None:
            break
    return ReplayVerdict(
        events=replay.events,
        actions=replay.actions,
        checkpoints=replay.checkpoints,
        restarts=max(0, replay.builds - 1),
        first_ts=replay.first_ts,
        last_ts=replay.last_ts,
        torn=tuple(torn),
        damage=tuple(damage),
        mismatch=replay.mismatch,
    )


class _Replay:
    """The walk over the records: `expected` holds computed actions whose records have not come yet.

    Actions that never come are no mismatch where recording ended at once (kill, cut, gap), only where it went on.
    """

    def __init__(self, build: Callable[[Checkpoint], EngineLike]) -> None:
        self._build = build
        self._engine: EngineLike | None = None
        self._expected: deque[Approved] = deque()
        self._handled = False
        """The engine has handled an event since it was built."""
        self.events = 0
        self.actions = 0
        self.checkpoints = 0
        self.builds = 0
        self.first_ts: Nanos = 0
        self.last_ts: Nanos = 0
        self.mismatch: Mismatch | None = None

    def begin(self, segment: Segment) -> None:
        if not segment.follows:
            self.lose()

    def lose(self) -> None:
        """Forget the engine: the next checkpoint builds it anew."""
        self._engine = None
        self._expected.clear()

    def take(self, record: Record) -> None:
        if record.kind not in (CHECKPOINT, EVENT, ACTION, GAP, NOTE):
            return
        if record.kind == GAP:
            # It tells of what is missing before its segment; the checkpoint that the segment opens with is behind that.
            if self._handled:
                self.lose()
        elif self._engine is None:
            if record.kind == CHECKPOINT:
                self._engine = self._build(decode_checkpoint(record))
                self.builds += 1
                self._handled = False
        elif record.kind == ACTION:
            self._action(record)
        elif self._expected:
            self._differ(record, "no such action", _text(self._expected[0]))
        elif record.kind == EVENT:
            self._event(self._engine, decode_event(record))
        elif record.kind == CHECKPOINT:
            self._compare(self._engine, record)

    def _event(self, engine: EngineLike, event: Event) -> None:
        self.events += 1
        self._handled = True
        self.first_ts = self.first_ts or event.recv_ts
        self.last_ts = event.recv_ts
        self._expected.extend(engine.handle(event))

    def _action(self, record: Record) -> None:
        if not self._expected:
            self._differ(record, _text(decode_action(record)), "no such action")
            return
        computed = self._expected.popleft()
        self.actions += 1
        if encode_payload(computed) != record.payload:
            self._differ(record, _text(decode_action(record)), _text(computed))

    def _compare(self, engine: EngineLike, record: Record) -> None:
        self.checkpoints += 1
        recorded, computed = decode_checkpoint(record).engine_state, engine.checkpoint()
        if recorded != computed:
            same = len(os.path.commonprefix([recorded, computed]))
            difference = f"one of {len(computed)} bytes that differs from byte {same}"
            self._differ(record, f"a state of {len(recorded)} bytes", difference)

    def _differ(self, record: Record, recorded: str, computed: str) -> None:
        self.mismatch = Mismatch(record.segment, record.offset, record.number, self.events, recorded, computed)


def _text(approved: Approved) -> str:
    return f"{approved.action} at {approved.ts}"
