"""Showing: when the quoter's status is made anew. All of it takes the loop a third of a millisecond.

What a person or the guardian may act on (state, reasons, latch, dead-man, flatten, a fault) is shown at the next look,
four times a second; markets, own orders, profit and fills at every third look; counts and latencies at every sixth.

Invariant: what is shown last, of an engine that has stopped, is all of it. It must not know who looks.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from mmpi.engine import Engine
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.runtime.summary import refreshed
from mmpi.status import FillStatus, Summary

MARKETS: Final[Nanos] = 700 * MILLISECOND
"""At every third look; looks are 250 ms apart, or a little more."""
WHOLE: Final[Nanos] = 1400 * MILLISECOND


class Kept(Protocol):
    """What is asked of who keeps the engine's state."""

    @property
    def fault(self) -> str:
        """Return why it cannot be kept, "" = it can."""
        ...

    @property
    def fills(self) -> int:
        """Return how many this run has seen."""
        ...

    @property
    def last_fills(self) -> Sequence[FillStatus]:
        """Return the last of them, oldest first."""
        ...


class Showing:
    """The status of one engine, as text."""

    def __init__(self, engine: Engine, keeper: Kept, whole: Callable[[], Summary]) -> None:
        self._engine, self._keeper, self._whole = engine, keeper, whole
        self._last: Summary | None = None
        self._known: object = None
        self._markets_at: Nanos = 0
        self._whole_at: Nanos = 0

    def text(self, now: Nanos) -> bytes:
        """Return the status as JSON, b"" = what was returned last is good enough."""
        known = self._matters(now)
        if self._last is None or known != self._known or now - self._whole_at >= WHOLE or self._engine.stopped:
            self._last, self._whole_at = self._whole(), now
        elif now - self._markets_at >= MARKETS:
            self._last = refreshed(self._last, self._engine, now, self._keeper.fills, self._keeper.last_fills)
        else:
            return b""
        self._known, self._markets_at = known, now
        return msgspec.json.encode(self._last)

    def _matters(self, now: Nanos) -> object:
        engine = self._engine
        return (
            engine.blocked, engine.quoting, engine.standing.latched, engine.flattening.text, self._keeper.fault,
            engine.upkeep.dead_man.text(now), engine.violations, [desk.reason for desk in engine.desks.values()],
        )  # fmt: skip
