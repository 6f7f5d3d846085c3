"""Timeline: what happened when, and how many orders were alive at the venue all the while.

Times are seconds since the timeline began. Invariant: what is measured is what the venue says, from outside the box.
It must not know what a scenario is about.
"""

import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from hil.venue import Venue

PAUSE_S: Final = 0.02


class Timeline:
    """Asks the venue every 20 ms from `with` to the block's end; `samples` are (seconds, live orders)."""

    def __init__(self, venue: Venue) -> None:
        self.samples: list[tuple[float, int]] = []
        self.events: list[tuple[float, str]] = []
        self.trouble_at: float | None = None
        """The first instant of trouble."""
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
            except OSError:
                self.silent.append(at)
                continue
            self.samples.append((at, live))

    def first_zero(self, since: float) -> float | None:
        """Return when the venue was first seen without an order, None = not yet."""
        return next((at for at, live in self.samples if at >= since and not live), None)

    def exposure(self) -> float | None:
        """Return the seconds from the first trouble to the first moment without an order; None = there was none."""
        if self.trouble_at is None or (zero := self.first_zero(self.trouble_at)) is None:
            return None
        return zero - self.trouble_at

    def last_live(self, since: float, until: float) -> float | None:
        """Return when an order was last seen alive between two times, None = never."""
        return max((at for at, live in self.samples if since <= at <= until and live), default=None)

    def told(self) -> dict[str, Any]:
        """Return it as the report keeps it."""
        return {
            "samples": [(round(at, 3), live) for at, live in self.samples],
            "events": [(round(at, 3), what) for at, what in self.events],
            "trouble_at": self.trouble_at,
            "silent": len(self.silent),
        }
