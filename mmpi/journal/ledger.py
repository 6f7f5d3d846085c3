"""Ledger: the bounded way from the quoter's loop to the disk, and the thread that takes it: group commits.

Invariant: no call but `open` and `close` waits for the disk; what was handed over is committed in its order, tried
again after every failure, and never dropped short of MAX_WAITING. It must not know engines, or what a fill is worth.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.instrument import Nanos
from mmpi.journal.budget import Budget, prune
from mmpi.journal.cold import SUFFIX, compress
from mmpi.journal.entries import Ending, Gap, Session
from mmpi.journal.ledger_file import Entry, LedgerFile, older_segments
from mmpi.journal.record import END, EVENT, GAP, SESSION, encode_payload
from mmpi.journal.recovery import LedgerEnd

LATE_S: Final = 20.0
"""What waits longer breaks the promise of 15 s for good: nothing new is risked until the disk has taken it."""
MAX_WAITING: Final = 100_000
"""Records that may wait: hours of fills. More are dropped, counted and told by a Gap."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 5.0
MAX_SCOPES: Final = 8
"""Accounts and modes whose sessions are carried on."""
KEPT_IDS: Final = 2048
"""Fills that are known again after a restart: as many as a venue's list of the last ones is long."""


class LedgerStatus(msgspec.Struct, frozen=True):
    """What observers may see."""

    commits: int
    bytes: int
    """Handed to the disk by this run, file systems' own part not counted."""
    last_ms: float
    """What the last commit took."""
    worst_ms: float
    waiting: int
    oldest_s: float
    """Age of the oldest record that is not on the disk."""
    routine_dropped: int
    """Segments of routine data that did not fit the bytes per hour."""
    fault: str


class _Waiting:
    """One record on its way: since when, and whom to tell once it is durable."""

    __slots__ = ("done", "entry", "since")

    def __init__(self, entry: Entry, since: float, done: Callable[[], None] | None) -> None:
        self.entry, self.since, self.done = entry, since, done


class Ledger:
    """One run's ledger."""

    def __init__(self, folder: Path, *, commit_s: float, budget: Budget, file: LedgerFile | None = None) -> None:
        self.folder: Final = folder
        self.routine_dropped = 0
        self._commit_s: Final = commit_s
        self._budget: Final = budget
        self._file: Final = file or LedgerFile(folder)
        self._turn: Final = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._tasks: Final[deque[Callable[[], None]]] = deque()
        self._sessions: Final[dict[str, Session]] = {}
        """The last one of each scope: what a segment opens with."""
        self._ids: Final[deque[str]] = deque(maxlen=KEPT_IDS)
        self._urgent = False
        self._closing = False
        self._failure = ""
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._dropped = 0
        self._busy_since = 0.0
        """Since when the thread has been committing; 0 = it has not."""
        self._last_ms = self._worst_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    # Before and after the loop ------------------------------------------------------------------------------------

    def open(self, end: LedgerEnd, session: Session, entries: list[tuple[int, object]]) -> None:
        """Go on where an earlier run ended, with these records first; OSError if the disk does not take them."""
        for scope, told in end.sessions.items():
            self._sessions[scope] = msgspec.structs.replace(told.session, exec_ids=tuple(told.ids)[-KEPT_IDS:])
        self._note(session)
        self._ids.extend(session.exec_ids)
        file = self._file
        file.skip(end.number, end.records, end.commits)
        if end.path is not None and end.header is not None:
            # Another user's segment, or one that fails: the next one may do.
            with suppress(OSError):
                file.resume(end.path, end.header, end.end, end.records, end.commits)
        self._put([(kind, encode_payload(value)) for kind, value in entries])
        if not self._thread.is_alive():
            self._thread.start()

    def close(self, ending: Ending, timeout_s: float) -> bool:
        """Commit everything, the ending last; return False if the disk did not take it in this time."""
        with self._turn:
            self._waiting.append(_Waiting((END, encode_payload(ending)), time.monotonic(), None))
            self._closing = self._urgent = True
            self._tasks.clear()
            self._turn.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._waiting

    # On the loop --------------------------------------------------------------------------------------------------

    def keep(self, kind: int, value: object, *, urgent: bool = False, done: Callable[[], None] | None = None) -> None:
        """Hand a record over; `done` is called, by the thread, once it is durable."""
        self._hand_over(_Waiting((kind, encode_payload(value)), time.monotonic(), done), urgent)

    def keep_fill(self, event: Any) -> None:
        """Hand a fill or a funding payment over."""
        self._hand_over(_Waiting((EVENT, encode_payload(event)), time.monotonic(), None), urgent=False)
        if exec_id := getattr(event, "exec_id", ""):
            with self._turn:
                self._ids.append(exec_id)

    def keep_session(self, session: Session, *, urgent: bool = False) -> None:
        """Hand the session's state over, in place of one that still waits."""
        entry = _Waiting((SESSION, encode_payload(session)), time.monotonic(), None)
        with self._turn:
            self._note(session)
            for before in self._waiting:
                if before.entry[0] == SESSION:
                    entry.since = before.since
                    self._waiting.remove(before)
                    break
        self._hand_over(entry, urgent)

    def urge(self) -> None:
        """Have what waits committed now."""
        with self._turn:
            self._urgent = True
            self._turn.notify()

    def later(self, task: Callable[[], None]) -> None:
        """Have something done by the thread when nothing waits for the disk."""
        with self._turn:
            self._tasks.append(task)
            self._turn.notify()

    @property
    def fault(self) -> str:
        """Return why the promise cannot be kept at present, "" = it can."""
        if self._failure:
            return self._failure
        if self._dropped:
            return f"{self._dropped} records dropped: more than {MAX_WAITING} wait for the disk"
        return f"the disk has taken nothing for {LATE_S:g} s" if self._oldest_s() > LATE_S else ""

    def status(self) -> LedgerStatus:
        """Return what observers may see."""
        file = self._file
        return LedgerStatus(
            file.commits, file.written, round(self._last_ms, 3), round(self._worst_ms, 3), len(self._waiting),
            round(self._oldest_s(), 3), self.routine_dropped, self.fault,
        )  # fmt: skip

    def _note(self, session: Session) -> None:
        """Keep it as the last of its scope, and behind the others."""
        self._sessions.pop(session.scope, None)
        self._sessions[session.scope] = session
        while len(self._sessions) > MAX_SCOPES:
            del self._sessions[next(iter(self._sessions))]

    def _hand_over(self, entry: _Waiting, urgent: bool) -> None:
        with self._turn:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(entry)
            self._urgent = self._urgent or urgent
            if urgent or len(self._waiting) == 1:
                self._turn.notify()

    def _oldest_s(self) -> float:
        # One look each: the thread may take the deque's first away between two.
        since = self._busy_since
        with suppress(IndexError):
            since = min(since, self._waiting[0].since) if since else self._waiting[0].since
        return time.monotonic() - since if since else 0.0

    # In the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._turn:
                while not (self._is_due() or self._tasks or self._closing):
                    self._turn.wait(self._pause())
                due, ending = self._is_due() or self._closing, self._closing
                task = None if due else self._tasks.popleft()
            if task is not None:
                # Whatever it was: the commits must go on.
                with suppress(Exception):
                    task()
            elif due:
                self._commit_waiting()
            if ending:
                if self._waiting:
                    # A fresh segment may do.
                    self._commit_waiting()
                self._file.close()
                return

    def _is_due(self) -> bool:
        now = time.monotonic()
        if not self._waiting or now < self._retry_at:
            return False
        return self._urgent or now - self._waiting[0].since >= self._commit_s

    def _pause(self) -> float | None:
        """Return how long there is nothing to do; None = until something is handed over."""
        if not self._waiting:
            return None
        now = time.monotonic()
        due = now if self._urgent else self._waiting[0].since + self._commit_s
        return max(0.001, max(due, self._retry_at) - now)

    def _commit_waiting(self) -> None:
        with self._turn:
            batch, self._urgent = list(self._waiting), False
            self._waiting.clear()
            dropped, self._dropped = self._dropped, 0
            self._busy_since = batch[0].since if batch else 0.0
        if not batch:
            return
        entries = [each.entry for each in batch]
        if dropped:
            gap = Gap(dropped, 0, f"more than {MAX_WAITING} records waited for the disk")
            entries.insert(0, (GAP, encode_payload(gap)))
        try:
            self._put(entries)
        except OSError as error:
            self._failed(error, batch, dropped)
            return
        self._failure, self._retry_at, self._retry_s, self._busy_since = "", 0.0, FIRST_RETRY_S, 0.0
        for each in batch:
            if each.done is not None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    each.done()

    def _failed(self, error: OSError, batch: list[_Waiting], dropped: int) -> None:
        """Put the batch back; try again in a while."""
        with self._turn:
            if any(each.entry[0] == SESSION for each in self._waiting):
                batch = [each for each in batch if each.entry[0] != SESSION]
            self._waiting.extendleft(reversed(batch))
            self._dropped += dropped
            self._failure = f"{self.folder}: {error.strerror or error}"
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            self._urgent, self._busy_since = True, 0.0

    def _put(self, entries: list[Entry]) -> None:
        """Commit, in a fresh segment if there is none or it is full; measure it."""
        began, before = time.monotonic(), self._file.written
        now: Nanos = time.time_ns()
        if self._file.has_room(entries):
            self._file.commit(entries, now)
        else:
            self._file.begin(self._opening(), entries, now)
            self.later(self._tidy)
        self._last_ms = (time.monotonic() - began) * 1000
        self._worst_ms = max(self._worst_ms, self._last_ms)
        self._budget.commit(self._file.written - before, time.monotonic())

    def _opening(self) -> list[Entry]:
        """Return what a segment opens with: the sessions of all scopes, ours with the fills that are counted."""
        with self._turn:
            ids = tuple(self._ids)
            sessions = list(self._sessions.values())
        last = len(sessions) - 1
        return [
            (SESSION, encode_payload(msgspec.structs.replace(each, exec_ids=ids) if index == last else each))
            for index, each in enumerate(sessions)
        ]

    def _tidy(self) -> None:
        """Compress the segments that are full, and delete what is beyond the caps."""
        for path in older_segments(self.folder, self._file.number):
            if path.name.endswith(SUFFIX):
                self._budget.spend(compress(path, durable=True), time.monotonic())
        prune(self.folder, self._budget.limits, self._file.number, time.time_ns())

    def archive(self, path: Path) -> None:
        """Put a cold segment of routine data on the disk, if the bytes per hour allow it; in the thread."""
        why = "" if self._budget.allows(path.stat().st_size, time.monotonic()) else "over journal.disk_bytes_per_hour"
        try:
            if not why:
                self._budget.archive(path, self.folder, time.monotonic())
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            self.routine_dropped += 1
            self.keep(GAP, Gap(0, 0, f"{path.name} of the journal in memory: {why}"))
        prune(self.folder, self._budget.limits, self._file.number, time.time_ns())
