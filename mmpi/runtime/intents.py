"""Durable intents: a gateway that lets an order leave only once its intent is on the disk (`intent_durability` fsync).

Invariant: nothing here waits; an order whose intent took too long, or that was decided in a world that has changed
since (halted, stopping, disconnected), never leaves: it is reported as rejected. It must not know venues.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from mmpi.actions import AmendOrder, Approved, NewOrder
from mmpi.instrument import Nanos
from mmpi.journal.entries import Intent
from mmpi.journal.ledger import Ledger
from mmpi.journal.record import INTENT
from mmpi.runtime.loop import Outlet
from mmpi.status import Latency

PATIENCE_S: Final = 1.0
"""A price that is older was decided on another market."""
CANNOT_LIST: Final[frozenset[str]] = frozenset()
"""Venues that cannot list our orders: there the ids themselves must survive a power cut. None that we speak to yet."""


def must_be_durable(setting: str, venue: str) -> bool:
    """Return whether intents go to the disk first, by `journal.intent_durability` and what the venue can do."""
    return setting == "fsync" or (setting == "auto" and venue in CANNOT_LIST)


class DurableIntents:
    """In front of a gateway; made where the loop runs."""

    def __init__(self, outlet: Outlet, ledger: Ledger, now: Callable[[], Nanos]) -> None:
        self._waits: deque[float] = deque(maxlen=1024)
        """Seconds from the decision to the disk's answer, of the last ones."""
        self._outlet, self._ledger, self._now = outlet, ledger, now
        self._loop = asyncio.get_running_loop()
        self._world = 0
        """Another number whenever what was decided before is void."""

    @property
    def unsent(self) -> deque[Any]:
        """Return the reports of what did not leave."""
        return self._outlet.unsent

    def void(self) -> None:
        """What waits for the disk must not leave any more."""
        self._world += 1

    @property
    def latency(self) -> Latency:
        """Return how long orders waited for the disk, in microseconds."""
        waits = sorted(self._waits)
        if not waits:
            return Latency(0.0, 0.0, 0)
        last = len(waits) - 1
        return Latency(round(waits[last // 2] * 1e6, 1), round(waits[last * 99 // 100] * 1e6, 1), len(waits))

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Send what places nothing at once, and orders once their intents are durable."""
        entries = [each for each in actions if isinstance(each.action, NewOrder | AmendOrder)]
        if len(entries) < len(actions):
            self._outlet.send([each for each in actions if not isinstance(each.action, NewOrder | AmendOrder)], now)
        if not entries:
            return
        began, world = time.monotonic(), self._world
        intents = [_intent(each) for each in entries]
        self._ledger.keep(INTENT, *intents, done=lambda: self._durable(entries, began, world))

    def refuse(self, actions: Sequence[Approved], now: Nanos, why: str) -> None:
        """Report orders as rejected."""
        self._outlet.refuse(actions, now, why)

    def _durable(self, entries: Sequence[Approved], began: float, world: int) -> None:
        """Have the loop send them; called by the ledger's thread."""
        self._loop.call_soon_threadsafe(self._release, entries, began, world)

    def _release(self, entries: Sequence[Approved], began: float, world: int) -> None:
        took = time.monotonic() - began
        self._waits.append(took)
        if world != self._world:
            self._outlet.refuse(entries, self._now(), "no longer wanted")
        elif took > PATIENCE_S:
            self._outlet.refuse(entries, self._now(), "the disk was slow")
        else:
            self._outlet.send(entries, self._now())


def _intent(approved: Approved) -> Intent:
    order = approved.action
    assert isinstance(order, NewOrder | AmendOrder)
    return Intent(approved.ts, order.instrument, order.cl_ord_id, order.side, order.price, order.size)
