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

from mmpi.events import ExecReport
from mmpi.instrument import Nanos
from mmpi.journal.budget import Budget, prune
from mmpi.journal.cold import SUFFIX, compress
from mmpi.journal.durability import is_urgent
from mmpi.journal.entries import Ending, Gap, Session
from mmpi.journal.ledger_file import Entry, LedgerFile, older_segments
from mmpi.journal.record import END, EVENT, GAP, KIND_NAMES, SESSION, encode_payload
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
    """One record on its way, and whom to tell once it is durable."""

    __slots__ = ("done", "entry")

    def __init__(self, entry: Entry, done: Callable[[], None] | None = None) -> None:
        self.entry, self.done = entry, done


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
        self._others: list[Entry] = []
        """The sessions of other scopes and what came after them: what each segment opens with, before ours."""
        self._session: Session | None = None
        """Our last one."""
        self._ids: Final[deque[str]] = deque(maxlen=KEPT_IDS)
        self._urgent = False
        self._closing = False
        self._failure = ""
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._dropped = 0
        self._since = 0.0
        """When the oldest record that waits was handed over; 0 = none waits."""
        self._busy_since = 0.0
        """The same of those that are being committed."""
        self._last_ms = self._worst_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    # Before and after the loop ------------------------------------------------------------------------------------

    def open(self, end: LedgerEnd, session: Session, entries: list[tuple[int, object]]) -> None:
        """Go on where an earlier run ended, with these records first; OSError if the disk does not take them."""
        self._others = _carried(end, session.scope)
        self._session = session
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
            self._waiting.append(_Waiting((END, encode_payload(ending))))
            self._closing = self._urgent = True
            self._tasks.clear()
            self._turn.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._waiting

    # On the loop --------------------------------------------------------------------------------------------------

    def keep(self, kind: int, *values: object, done: Callable[[], None] | None = None) -> None:
        """Hand records of a kind over; `done` is called, by the thread, once all are durable.

        Those of a kind that is to be on the disk at once are committed now, together (mmpi.journal.durability).
        """
        entries = [_Waiting((kind, encode_payload(value))) for value in values]
        entries[-1].done = done
        self._hand_over(entries, is_urgent(KIND_NAMES[kind]))

    def keep_fill(self, event: Any) -> None:
        """Hand a fill or a funding payment over."""
        if exec_id := getattr(event, "exec_id", ""):
            with self._turn:
                self._ids.append(exec_id)
        self._hand_over([_Waiting((EVENT, encode_payload(event)))], is_urgent("fill"))

    def keep_session(self, session: Session, *, breach: bool = False) -> None:
        """Hand the session's state over, in place of one that still waits."""
        waiting = self._waiting
        with self._turn:
            self._session = session
            # It is near the end: only the fills since stand behind it.
            for index in range(len(waiting) - 1, -1, -1):
                if waiting[index].entry[0] == SESSION:
                    del waiting[index]
                    break
        self._hand_over([_Waiting((SESSION, encode_payload(session)))], is_urgent("breach" if breach else "session"))

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

    def _hand_over(self, entries: list[_Waiting], urgent: bool) -> None:
        with self._turn:
            first = not self._waiting
            self._since = self._since or time.monotonic()
            self._waiting.extend(entries)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._urgent = self._urgent or urgent
            if urgent or first:
                self._turn.notify()

    def _oldest_s(self) -> float:
        # One look each: the thread may change both meanwhile.
        since, busy = self._since, self._busy_since
        oldest = min(filter(None, (since, busy)), default=0.0)
        return time.monotonic() - oldest if oldest else 0.0

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
        return self._urgent or now - self._since >= self._commit_s

    def _pause(self) -> float | None:
        """Return how long there is nothing to do; None = until something is handed over."""
        if not self._waiting:
            return None
        now = time.monotonic()
        due = now if self._urgent else self._since + self._commit_s
        return max(0.001, max(due, self._retry_at) - now)

    def _commit_waiting(self) -> None:
        with self._turn:
            batch, self._urgent = list(self._waiting), False
            self._waiting.clear()
            dropped, self._dropped = self._dropped, 0
            self._busy_since, self._since = self._since, 0.0
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
            self._since = self._busy_since or self._since
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
        """Return what a segment opens with: the sessions of all scopes, ours last, with the fills that are counted."""
        with self._turn:
            ids, session = tuple(self._ids), self._session
        assert session is not None
        return [*self._others, (SESSION, encode_payload(msgspec.structs.replace(session, exec_ids=ids)))]

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


def _carried(end: LedgerEnd, ours: str) -> list[Entry]:
    """Return the sessions of other scopes as they must be found again: each with its fills, and those behind it."""
    entries: list[Entry] = []
    for scope, told in list(end.sessions.items())[-MAX_SCOPES:]:
        if scope != ours:
            later = {each.exec_id for each in told.later if isinstance(each, ExecReport)}
            counted = tuple(name for name in told.ids if name not in later)[-KEPT_IDS:]
            entries.append((SESSION, encode_payload(msgspec.structs.replace(told.session, exec_ids=counted))))
            entries += [(EVENT, encode_payload(each)) for each in told.later]
    return entries
