"""Realised volatility: what the mid's changes over the last minutes came to.

Invariant: sums are integers, so they equal the direct sums whatever came before, and memory does not grow with the
rate of updates. It must not know where the mid comes from.
"""

from collections import deque
from collections.abc import Sequence
from math import sqrt
from typing import Final

from mmpi.instrument import SECOND, Nanos

WINDOWS_S: Final = (60, 300, 3600)
"""Source text 004, section 4.2: one minute, five minutes, one hour."""
BUCKETS: Final = 300
"""Of a window: its far edge is sharp to a third of a percent."""


class RealisedVolatility:
    """`over(i)` is sigma over window i in ticks per sqrt(second): sqrt(sum of squared changes / elapsed time).

    A change belongs to the moment it was seen at. Time is cut into buckets of window / BUCKETS from the first update
    on; the window is the bucket of the last update and the BUCKETS - 1 before it. Elapsed is the time in which its
    changes arose: from the last update before the window (or the first of all) to the last update. So a jump after a
    silence is spread over the silence, even one that is longer than the window.

    Observations of one nanosecond are one observation, the last of them; so is one whose time runs backwards.
    """

    def __init__(self, windows_s: Sequence[int] = WINDOWS_S) -> None:
        """Make one that keeps these windows, in seconds."""
        self._windows = [_Window(window * SECOND) for window in windows_s]
        self._first: Nanos = -1
        """Time of the first observation; -1 = none yet. `_ts` is the last one's."""
        self._ts: Nanos = -1
        self._next: Nanos = 0
        """When the next bucket of any window begins."""
        self._mid2: int = 0
        self._base: int = 0
        """The observation before `_ts`."""
        self._base_sum: int = 0
        """Squared changes of all time up to `_base`; `_sum`, up to now."""
        self._sum: int = 0

    @property
    def value(self) -> float:
        """Return sigma over the first window."""
        return self.over(0)

    def update(self, ts: Nanos, mid2: int) -> None:
        """Take twice the mid (ticks) at `ts`."""
        if ts > self._ts:
            if ts >= self._next:
                self._roll(ts, mid2)
            self._base = self._mid2
            self._base_sum = self._sum
            self._ts = ts
        elif self._ts == self._first:
            self._base = mid2
        step = mid2 - self._base
        self._mid2 = mid2
        self._sum = self._base_sum + step * step

    def over(self, index: int) -> float:
        """Return sigma over one window; 0.0 until the updates have spanned one of its buckets."""
        window = self._windows[index]
        if not window.marks:
            return 0.0
        _, since, before = window.marks[0]
        elapsed = self._ts - since
        if elapsed < window.width:
            return 0.0
        # Half ticks to ticks: half the root.
        return 0.5 * sqrt((self._sum - before) * SECOND / elapsed)

    def checkpoint(self) -> tuple[int, ...]:
        """Return the state as plain numbers."""
        state = [self._first, self._ts, self._mid2, self._base, self._base_sum, self._sum]
        for window in self._windows:
            state.append(len(window.marks))
            for mark in window.marks:
                state.extend(mark)
        return tuple(state)

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned of the same windows."""
        numbers = [int(number) for number in state]
        self._first, self._ts, self._mid2, self._base, self._base_sum, self._sum = numbers[:6]
        at = 6
        for window in self._windows:
            end = at + 1 + 3 * numbers[at]
            window.restore(numbers[at + 1 : end])
            at = end
        self._next = 0

    def _roll(self, ts: Nanos, mid2: int) -> None:
        """Open the buckets that `ts` is the first to reach."""
        if self._first < 0:
            self._first = self._ts = ts
            self._mid2 = mid2
        for window in self._windows:
            if ts - self._first >= window.end:
                window.roll(ts - self._first, self._ts, self._sum)
        self._next = self._first + min([window.end for window in self._windows])


class _Window:
    """The buckets of one window in which there was an update."""

    def __init__(self, length: Nanos) -> None:
        self.width: Nanos = length // BUCKETS
        self.marks: deque[tuple[int, Nanos, int]] = deque()
        """Bucket number, and the time and the sum of squares at the last update before that bucket."""
        self.end: Nanos = 0
        """Of the last bucket, since the first update."""

    def roll(self, age: Nanos, last_ts: Nanos, total: int) -> None:
        """Open the bucket of `age` since the first update, and forget those that have left the window."""
        bucket = age // self.width
        marks = self.marks
        marks.append((bucket, last_ts, total))
        while marks[0][0] <= bucket - BUCKETS:
            marks.popleft()
        assert len(marks) <= BUCKETS
        self.end = (bucket + 1) * self.width

    def restore(self, numbers: list[int]) -> None:
        """Take the marks, flattened."""
        self.marks.clear()
        for at in range(0, len(numbers), 3):
            self.marks.append((numbers[at], numbers[at + 1], numbers[at + 2]))
        self.end = (self.marks[-1][0] + 1) * self.width if self.marks else 0
