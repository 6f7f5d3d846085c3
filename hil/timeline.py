"""Timeline: what happened when, and how many orders were alive at the venue all the while.

Times are seconds since the timeline began. What was alive is dated when the venue was asked, that nothing was when it
had answered. Invariant: what is measured is what the venue says, from outside the box, and never better than it was.
It must not know what a scenario is about.
"""

import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from hil.venue import Venue

PAUSE_S: Final = 0.02
FRESH_S: Final = 2.0
"""What was seen longer ago says nothing about now."""


class Timeline:
    """Asks the venue every 20 ms from `with` to the block's end; `samples` are (seconds, live orders)."""

    def __init__(self, venue: Venue) -> None:
        self.samples: list[tuple[float, int]] = []
        self.events: list[tuple[float, str]] = []
        self.trouble_at: float | None = None
        """The first instant of trouble."""
        self.took = 0.0
        """How long the trouble took to be brought about: a rig is not reached at once."""
        self.ended_at: float | None = None
        """When the last order that the trouble concerns was gone, where that is not the first moment without one."""
        self.silent: list[float] = []
        """When the venue did not answer."""
        self._venue: Final = venue
        self._began: Final = time.monotonic()
        self._ended: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def now(self) -> float:
        """Return the time."""
        return time.monotonic() - self._began

    def note(self, what: str) -> float:
        """Write down that something happens now; return when."""
        at = self.now
        self.events.append((at, what))
        return at

    def trouble(self, what: str) -> float:
        """Write down that trouble begins now; the first counts."""
        at = self.note(what)
        self.trouble_at = at if self.trouble_at is None else self.trouble_at
        return at

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            at = self.now
            try:
                live = len(self._venue.orders())
            except (OSError, ValueError):
                self.silent.append(at)
                continue
            self.samples.append((at if live else self.now, live))

    def live(self) -> int | None:
        """Return how many orders are alive, None = the venue was not seen of late."""
        at, live = self.samples[-1] if self.samples else (-FRESH_S, 0)
        return live if self.now - at < FRESH_S else None

    def first_zero(self, since: float) -> float | None:
        """Return when the venue was first seen without an order, None = not yet."""
        return next((at for at, live in self.samples if at >= since and not live), None)

    def exposure(self) -> float | None:
        """Return the seconds from the first trouble to the first moment without an order; None = there was none."""
        if self.trouble_at is None:
            return None
        ended = self.first_zero(self.trouble_at) if self.ended_at is None else self.ended_at
        return None if ended is None else ended - self.trouble_at

    def last_live(self, since: float, until: float) -> float | None:
        """Return when an order was last seen alive between two times, None = never."""
        return max((at for at, live in self.samples if since <= at <= until and live), default=None)

    def told(self) -> dict[str, Any]:
        """Return it as the report keeps it."""
        return {
            "samples": [(round(at, 3), live) for at, live in self.samples],
            "events": [(round(at, 3), what) for at, what in self.events],
            "trouble_at": self.trouble_at,
            "took": round(self.took, 3),
            "silent": len(self.silent),
        }
