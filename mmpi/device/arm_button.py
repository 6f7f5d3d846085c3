"""Arm button: when a hand that holds a button asks to arm.

A box with an arm button: held for 3 s. A box with the kill button alone: pressed for 5 s and let go, while the box
was latched and its stop proven before that press began. A panic press stops a box that runs, however long it lasts,
and arms nothing; letting go late (LET_GO) asks nothing either, so a latching button left down does not arm when it
is turned free.

Invariant: nothing is asked without unbroken holding, seen sample by sample. A gap between samples, an edge (even
one between two samples: a loose wire that picks up the mains looks held to a poll in step with them) begins it anew.
It must not know pins or what arming takes; time is an argument, in monotonic nanoseconds.
"""

from typing import Final

from mmpi.instrument import MILLISECOND, SECOND, Nanos

HOLD: Final[Nanos] = 3 * SECOND
KILL_HOLD: Final[Nanos] = 5 * SECOND
"""Longer than HOLD: the button's other meaning is to stop."""
LET_GO: Final[Nanos] = 10 * SECOND
"""A kill button let go later than this asks nothing."""
GAP: Final[Nanos] = 200 * MILLISECOND
"""Longer between two samples, and nobody looked: two looks of a guardian that has nothing to stop, and room."""
SETTLED: Final[Nanos] = 300 * MILLISECOND
"""The kill contact is closed for this long before it arms: longer than its trip takes to be over (contacts.py)."""
BOUNCE: Final[Nanos] = 20 * MILLISECOND
"""A contact that is let go may be open again for so long."""
STUCK: Final[Nanos] = 10 * SECOND
"""No hand holds a button so much longer than it has to."""


class ArmButton:
    """A button of its own, normally open to ground."""

    def __init__(self) -> None:
        self._released = False
        """It was seen released since the start and since it last asked: a stuck button never arms."""
        self._since: Nanos | None = None
        self._last: Nanos = 0
        self._pressed_since: Nanos | None = None

    def sample(self, pressed: bool, edges: int, now: Nanos) -> bool:
        """Take a sample; return True once for each holding of HOLD."""
        gap, self._last = now - self._last > GAP, now
        if not pressed:
            self._released, self._since, self._pressed_since = True, None, None
            return False
        if self._pressed_since is None:
            self._pressed_since = now
        if self._since is None or gap or edges:
            self._since = now
        if not self._released or now - self._since < HOLD:
            return False
        self._released = False
        return True

    def holding(self) -> bool:
        """Return True while a holding counts."""
        return self._since is not None and self._released

    def problem(self) -> str:
        """Return what is wrong with the button; "" = nothing. It cannot arm then, and the box goes on as it is."""
        if self._pressed_since is None or self._last - self._pressed_since < STUCK:
            return ""
        return f"the arm button has read pressed for more than {STUCK // SECOND} s: it is stuck, or its wire is shorted"


class KillButtonArming:
    """The kill button of a box without an arm button."""

    def __init__(self) -> None:
        self._ready = False
        """Before the present press the contact was seen closed while the box was latched, its stop proven."""
        self._since: Nanos | None = None
        self._pressed_at: Nanos = 0
        """The last sample that said pressed."""
        self._let_go_at: Nanos | None = None
        """When it was let go in time; and since when it is quiet, to see whether it stays so."""
        self._quiet_since: Nanos = 0
        self._last: Nanos = 0

    def sample(self, closed: bool, second: bool | None, edges: int, proven: bool, now: Nanos) -> bool:
        """Take a sample; return True once for each press that asks to arm.

        `closed`, `second` (None = not wired): the two contacts. `proven`: latched, and its stop verified, now.
        """
        gap, self._last = now - self._last > GAP, now
        if not proven or gap:
            # Whatever is pressed now was not pressed, or not all the time, on a box that stood proven.
            self._forget(proven and closed and not second)
            return False
        if not closed:
            return self._open(second is not False, edges, now)
        if second:
            # Released, the second contact is open: as long as both are closed nothing is certain.
            self._forget(False)
            return False
        return self._closed(edges, now)

    def holding(self) -> bool:
        """Return True while a press counts."""
        return self._since is not None and not self.let_go()

    def let_go(self) -> bool:
        """Return True when it is time to let go."""
        return self._since is not None and KILL_HOLD <= self._pressed_at - self._since <= LET_GO

    def _open(self, pressed: bool, edges: int, now: Nanos) -> bool:
        if self._let_go_at is not None:
            self._quiet_since = now
            if now - self._let_go_at > BOUNCE:
                # Open again before it settled: loose, or another press.
                self._forget(False)
        elif self._ready and pressed:
            if self._since is None or (edges and not self.let_go()):
                self._since = now
            self._pressed_at = now
        return False

    def _closed(self, edges: int, now: Nanos) -> bool:
        if self._since is None:
            self._ready = True
            return False
        if self._let_go_at is None:
            if not self.let_go():
                self._forget(True)
                return False
            self._let_go_at = self._quiet_since = now
        elif edges:
            self._quiet_since = now
        if now - self._quiet_since < SETTLED:
            return False
        self._forget(True)
        return True

    def _forget(self, ready: bool) -> None:
        self._ready, self._since, self._let_go_at = ready, None, None
