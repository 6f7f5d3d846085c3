"""Spool: the bounded way from the event loop to the thread that packs and writes.

Invariant: `put` never waits and what waits here is bounded; what does not fit is counted and marked as a gap where it
is missing. It must not know files' names or what the lines mean.
"""

import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from mmpi.instrument import SECOND, Nanos
from mmpi.runtime.recording import Gap, gap_line
from mmpi.runtime.rotation import FLUSH_EVERY, Batch

BATCH: Final = 256 * 1024
"""Bytes of lines handed over at once, at most (and one line more): zlib lets go of the interpreter meanwhile."""
MAX_WAITING: Final = 16 * 2**20
"""Bytes of lines that may wait for the thread: minutes of a market, seconds of a full one."""
SLOW: Final = "the disk is slower than the feed"


class Files(Protocol):
    """What a spool writes into, from its own thread."""

    def write(self, batch: Batch) -> None:
        """Write a batch."""
        ...

    def flush(self) -> None:
        """Hand to the system what is not yet there."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class Spool:
    """Takes lines on the loop, has them written by its thread; `close` ends both."""

    def __init__(self, files: Files, max_waiting: int = MAX_WAITING) -> None:
        self.accepted = 0
        """Messages taken."""
        self.dropped = 0
        """Messages of those that found no room."""
        self.overflows = 0
        self.failure: Exception | None = None
        """What ended the writing; nothing is written after it."""
        self._files: Final = files
        self._max_waiting: Final = max_waiting
        self._queue: Final[SimpleQueue[Batch | None]] = SimpleQueue()
        self._lines: list[bytes] = []
        self._size = 0
        self._messages = 0
        self._first: Nanos = 0
        self._last: Nanos = 0
        self._lost = 0
        self._lost_since: Nanos = 0
        """0 = nothing is missing before the next line."""
        # Each is written by one side alone: their difference waits, and no lock is needed.
        self._handed = 0
        self._taken = 0
        self._thread: Final = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return the bytes of lines that wait for the thread."""
        return self._handed - self._taken

    def put(self, recv_ts: Nanos, message: bytes) -> None:
        """Take a message; receive times never go back."""
        if b"\n" in message:
            # Between JSON's tokens a space says the same, and inside its strings there is no bare line end.
            message = message.replace(b"\n", b" ")
        self._messages += 1
        self.accepted += 1
        self._add(recv_ts, b"%d %b\n" % (max(recv_ts, self._last), message))

    def mark(self, now: Nanos, gap: Gap) -> None:
        """Take the mark of a gap that ends now."""
        self._add(now, gap_line(max(now, self._last), gap))

    @property
    def last(self) -> Nanos:
        """Return the time of the last line taken, 0 before any."""
        return self._last

    def hand_over(self) -> None:
        """Give the thread what has come since last time."""
        if not self._lines or self.failure is not None:
            self._begin()
        elif self.waiting + self._size > self._max_waiting:
            self._drop()
        else:
            self._give()

    def close(self) -> None:
        """Write what is left and finish; raise what went wrong."""
        if self._lines:
            self._give()
        self._queue.put(None)
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _add(self, ts: Nanos, line: bytes) -> None:
        self._last = max(ts, self._last)
        if not self._lines:
            self._first = self._last
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH:
            self.hand_over()

    def _give(self) -> None:
        if self._lost_since:
            self._lines.insert(0, gap_line(self._first, Gap(SLOW, self._lost_since, self._lost)))
            self._lost_since = self._lost = 0
        self._handed += self._size
        self._queue.put(Batch(self._first, self._last, tuple(self._lines), self._size, self._messages))
        self._begin()

    def _drop(self) -> None:
        if not self._lost_since:
            self.overflows += 1
            self._lost_since = self._first
        self._lost += self._messages
        self.dropped += self._messages
        self._begin()

    def _begin(self) -> None:
        self._lines = []
        self._size = self._messages = 0

    # The thread -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            try:
                batch = self._queue.get(timeout=FLUSH_EVERY / SECOND)
            except Empty:
                self._attempt(self._files.flush)
                continue
            if batch is None:
                self._attempt(self._files.close)
                going = False
            else:
                self._attempt(partial(self._files.write, batch))
                self._taken += batch.size

    def _attempt(self, work: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            work()
        except Exception as error:
            # The loop sees it at its next look and ends; nothing may follow a hole that no line marks.
            self.failure = error

