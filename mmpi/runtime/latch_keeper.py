"""Latch keeper: the latch, written by one thread that no look-up and nothing else can keep busy.

Invariant: a latch is on its way to the disk from the instant it is asked for, in the order of asking, and the end of
the process waits for it; one that the disk did not take is tried again. It must not know why anything latches.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from mmpi.device.latch import Latch, LatchState
from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

SAVE_AGAIN: Final[Nanos] = SECOND

T = TypeVar("T")


class LatchKeeper:
    """One latch; all calls come from one loop."""

    def __init__(self, latch: Latch) -> None:
        self.latch: Final = latch
        self.stored: LatchState = latch.load()
        self.errors = 0
        self._storing = 0
        self._unsaved = False
        """The disk says armed, and took no latch."""
        self._saved_at: Nanos = 0
        self._disk: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="latch")

    @property
    def storing(self) -> bool:
        """Return True while a latch is on its way to the disk."""
        return self._storing > 0

    @property
    def durable(self) -> bool:
        """Return True if nothing is on its way, and the disk does not contradict us."""
        return not self._storing and not self._unsaved

    def trip(self, by: str, reason: str) -> "asyncio.Future[None]":
        """Have a latch written, from this instant; the future ends when that was tried."""
        self._storing, self._saved_at = self._storing + 1, time.monotonic_ns()
        stored = asyncio.wrap_future(self._disk.submit(self._trip, by, reason))
        stored.add_done_callback(self._one_stored)
        return stored

    def save_again(self, reason: str, now: Nanos) -> None:
        """Try a latch again that the disk did not take: the next start must find it."""
        if self._unsaved and not self._storing and now - self._saved_at >= SAVE_AGAIN:
            self.trip("guardian", reason)

    async def load(self) -> LatchState:
        """Return what the disk says now; another hand may have written it."""
        return await self.on_disk(self.latch.load)

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done in that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def close(self) -> None:
        """Return when all that was asked for was tried; blocks. Afterwards nothing can be."""
        self._disk.shutdown(wait=True)

    def _trip(self, by: str, reason: str) -> None:
        try:
            self.stored = self.latch.trip(by, reason, time.time_ns())
        except DeviceError as error:
            self.errors += 1
            self.stored = LatchState(latched=True, reason=str(error), valid=False)
            self._unsaved = not self.latch.load().latched
        else:
            self._unsaved = False

    def _one_stored(self, _: object) -> None:
        self._storing -= 1
