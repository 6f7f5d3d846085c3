"""Dead-man switch: the venue cancels everything of ours unless it hears from us in time (I5).

Invariant: `covers` is true only up to a time that the venue itself confirmed; it is set anew by nothing but a call of
`step`, which the engine makes when it handles an event. It must not know how a venue is asked.

Source: Hyperliquid documentation, "Exchange endpoint: schedule cancel" (read 2026-11-28): at least 5 s ahead, at
most ten firings a day (UTC), refused to accounts without volume.
"""

from typing import Final

from mmpi.events import DeadManReport, ExecType
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.structs import State

AHEAD: Final[Nanos] = 8 * SECOND
REFRESH: Final[Nanos] = 2 * SECOND
STRETCHED: Final[Nanos] = 4 * SECOND
"""How far the request budget may stretch the refresh: half of AHEAD, so that one lost refresh still is no firing."""
PATIENCE: Final[Nanos] = 1500 * MILLISECOND
"""A request without an answer is made again after this."""
PAUSE: Final[Nanos] = 500 * MILLISECOND
"""A request that failed is made again after this: its failure may come at once, and would else be all we do."""
RETRY: Final[Nanos] = 3600 * SECOND
"""After a refusal."""
DAY: Final[Nanos] = 86_400 * SECOND
FIRINGS: Final = 10
"""A day, at Hyperliquid."""
NEAREST: Final[Nanos] = 5 * SECOND
"""It cannot be set nearer than this, so two firings are at least so far apart."""

UNSUPPORTED: Final = "UNSUPPORTED"
UNARMED: Final = "UNARMED"
ARMED: Final = "ARMED"
REFUSED: Final = "REFUSED"


class DeadManState(State, frozen=True):
    """A DeadMan as plain values."""

    times: "tuple[Nanos, Nanos, Nanos, Nanos, Nanos]"
    refused: str
    firings: int


class DeadMan:
    """The switch at one venue; times are the engine's."""

    def __init__(self, supported: bool) -> None:
        self.supported = supported
        self.until: Nanos = 0
        """When the venue will fire, by its last confirmation; 0 = it is not set."""
        self.refused = ""
        """The venue's words for why it will not set it."""
        self.firings = 0
        """Seen on the day of the last one."""
        self._asked: Nanos = 0
        """When the request in flight was made; 0 = there is none."""
        self._next: Nanos = 0
        """When to set it again; 0 = at once."""
        self._held: Nanos = 0
        """Until then nothing is asked, neither to set nor to clear it."""
        self._fired: Nanos = 0
        """When it fired last."""

    def text(self, now: Nanos) -> str:
        """Return the state as it is shown: ARMED, UNARMED, REFUSED(reason) or UNSUPPORTED."""
        if not self.supported:
            return UNSUPPORTED
        if self.covers(now):
            return ARMED
        return f"{REFUSED}({self.refused})" if self.refused else UNARMED

    def covers(self, now: Nanos) -> bool:
        """Return True while the venue would still cancel for us, by its own word."""
        return now < self.until

    def permits(self, now: Nanos) -> bool:
        """Return True if quoting need not wait for the switch: it is set, or cannot be."""
        return not self.supported or bool(self.refused) or now < self.until

    def step(self, now: Nanos, wanted: bool, idle: bool, refresh: Nanos) -> Nanos:
        """Return the time to ask the venue for, 0 to have it cleared, -1 for nothing to ask.

        `wanted`: orders are or will be live and the loop makes progress. `idle`: none of ours is live, so a switch that
        is not wanted any more can be cleared; otherwise it is left to fire.
        """
        if not self.supported or now < self._held or (self._asked and now - self._asked < PATIENCE):
            return -1
        if wanted:
            if now < self._next and not self._asked:
                return -1
            self._asked, self._next = now, now + refresh
            return now + AHEAD
        if idle and now < self.until:
            self._asked = now
            return 0
        return -1

    def wake(self, now: Nanos, wanted: bool, idle: bool) -> Nanos:
        """Return when `step` or `covers` will next have something to say; 0 = never."""
        covered = now < self.until
        if not self.supported or not (wanted or (idle and covered)):
            return 0
        due = self._asked + PATIENCE if self._asked else self._next if wanted else 1
        due = max(due, self._held, 1)
        return min(due, self.until) if covered else due

    def answered(self, report: DeadManReport) -> None:
        """Take the venue's answer; whether it can be set, only one to a request to set it tells."""
        self._asked = 0
        now = report.recv_ts
        if report.outcome is ExecType.NEW:
            self.until = report.until
            if report.until:
                # (A refusal of another request may have come first, and put the next one off for an hour.)
                self.refused, self._next = "", min(self._next, now + STRETCHED)
            elif not self.refused:
                self._next = 0
        elif report.outcome is ExecType.REJECTED and report.until:
            self.refused = report.reason or "no reason given"
            self._next = now + RETRY
        else:
            self._held = now + PAUSE
            if not self.refused:
                self._next = 0

    def fired(self, now: Nanos, at: Nanos) -> None:
        """Note that the venue cancelled an order by the switch, `at` by its own stamp.

        It is spent, once for all the orders it took; their reports may come late, and one by one.
        """
        if at - self._fired >= NEAREST:
            self.firings = self.firings_on(at) + 1
            self._fired = at
        if self.until <= now + REFRESH:
            # It was due: nothing newer had been confirmed. What is in flight may have come too late or not.
            self.until, self._next = 0, self._next if self._asked else 0

    def firings_on(self, now: Nanos) -> int:
        """Return how many were seen on the day (UTC) of `now`."""
        return self.firings if now // DAY == self._fired // DAY else 0

    def lost(self) -> None:
        """The connection is gone: what was asked may or may not count, and is asked again after the next one."""
        self._asked = self._next = self._held = 0
        if self.refused:
            self.refused = ""

    def checkpoint(self) -> DeadManState:
        """Return the state as plain values."""
        return DeadManState(
            (self.until, self._asked, self._next, self._held, self._fired), self.refused, self.firings
        )

    def restore(self, state: DeadManState) -> None:
        """Take the state that `checkpoint` returned."""
        self.until, self._asked, self._next, self._held, self._fired = state.times
        self.refused, self.firings = state.refused, state.firings
