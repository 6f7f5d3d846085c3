"""Contacts: what samples and edges of the kill contact mean, and when to look at it again.

The contact is normally closed to ground: closed is healthy; open is pressed, its wire cut, or unplugged, and all three
stop. A second, normally open contact may stand beside it; then a wire shorted to ground is seen as well.

Invariant: what stays open for two looks trips, whatever edges were lost; what is closed and quiet never trips.
It must not know pins or what a trip leads to; time is an argument, in monotonic nanoseconds.
"""

from collections import deque
from typing import Final

from mmpi.instrument import MILLISECOND, SECOND, Nanos

POLL: Final[Nanos] = 20 * MILLISECOND
"""Looked at this often when nothing happens."""
AGAIN: Final[Nanos] = 5 * MILLISECOND
"""After an edge, or a sample that differs from the last: a good contact bounces for 1 or 2 ms (Ganssle, A Guide to
Debouncing, 2008), and a hand presses for much longer."""
APART: Final[Nanos] = 4 * MILLISECOND
"""Two samples closer together count as one: the same glitch would be seen twice. Less than AGAIN, as timers vary."""
STORM: Final = 30
"""Edges in a second that a closed contact may show. The slowest chatter that could hide from samples every 20 ms has
50, a loose wire that picks up the mains 100 or 120; a switch going on nearby makes a handful."""
STORM_IN: Final[Nanos] = SECOND
TRAVEL: Final[Nanos] = 100 * MILLISECOND
"""Both contacts open: a slowly pressed button is between its two contacts for a moment."""
OVERLAP: Final[Nanos] = 30 * MILLISECOND
"""Both contacts closed: a hand presses, and the first contact does not open. Ordinary blocks break before they make,
and a jab at a button lasts longer than this: so it stops though the contact is welded or its wire shorted."""
HEALTHY: Final[Nanos] = 250 * MILLISECOND
"""A trip is over when everything was as it should be for this long: longer than any contact settles."""
GAP: Final[Nanos] = 200 * MILLISECOND
"""Nothing is known of a longer time between two looks, so it does not count as healthy."""

OPEN: Final = "the kill contact is open: pressed, its wire cut, or unplugged"
CUT: Final = "both kill contacts are open: a wire is cut or unplugged, or the button stands half-way"
SHORT: Final = "both kill contacts are closed: pressed, but the first does not open; its wire shorted, or it is welded"
BOUNCE: Final = f"more than {STORM} edges in a second: a loose wire, a worn contact, or interference"


class Contact:
    """One contact: its state by two equal samples."""

    def __init__(self) -> None:
        self.closed: bool | None = None
        """As two samples said, APART from each other; None = not known yet."""
        self.last: bool | None = None
        """As the last sample said."""
        self._since: Nanos = 0

    @property
    def undecided(self) -> bool:
        """Return True if the last sample waits for a second one like it."""
        return self.last is not self.closed

    def sample(self, closed: bool, now: Nanos) -> None:
        """Take a sample."""
        if closed is not self.last:
            self.last, self._since = closed, now
        elif now - self._since >= APART:
            self.closed = closed


class KillSwitch:
    """The kill contact, and the second one if there is one; feed it with `look`, ask it with `present`."""

    def __init__(self) -> None:
        self._first, self._second = Contact(), Contact()
        self._edges: deque[Nanos] = deque(maxlen=STORM + 1)
        self._tripped: dict[str, str] = {}
        self._last: Nanos | None = None
        self._was_fine = False
        self._fine_since: Nanos = 0
        self._alike_since: Nanos | None = None
        """Since when both contacts are in the same state, by samples: they should never be."""
        self._moved = False

    def look(self, closed: bool, second: bool | None, edges: int, now: Nanos) -> None:
        """Take a sample: is the contact closed, is the second one (None = not wired), edges since the last sample."""
        moved = max(edges, int(self._first.last is not None and self._first.last is not closed))
        self._first.sample(closed, now)
        if second is not None:
            self._second.sample(second, now)
        self._edges.extend([now] * min(moved, STORM + 1))
        self._moved = moved > 0
        fine = closed and second is not True
        if not (fine and self._was_fine) or self._last is None or now - self._last > GAP:
            self._fine_since = now
        self._was_fine, self._last = fine, now
        self._judge(now)

    @property
    def known(self) -> bool:
        """Return True once two samples said what the contact is; before that no cause means nothing."""
        return self._first.closed is not None

    def present(self) -> dict[str, str]:
        """Return the causes of the last look, each with its detail."""
        return dict(self._tripped)

    def due(self) -> Nanos:
        """Return when to look next, if no edge comes before; 0 = now."""
        if self._last is None:
            return 0
        soon = self._moved or self._first.undecided or self._second.undecided or self._unexplained()
        return self._last + (AGAIN if soon else POLL)

    def _unexplained(self) -> bool:
        return self._alike_since is not None and "kill_contacts" not in self._tripped

    def _judge(self, now: Nanos) -> None:
        storm = len(self._edges) > STORM and now - self._edges[0] <= STORM_IN
        if not storm and self._was_fine and now - self._fine_since >= HEALTHY:
            self._tripped = {}
        if self._first.closed is False:
            self._tripped.setdefault("kill_button", OPEN)
        if alike := self._alike(now):
            self._tripped.setdefault("kill_contacts", alike)
        if storm:
            self._tripped.setdefault("kill_bounce", BOUNCE)

    def _alike(self, now: Nanos) -> str:
        """Return what is wrong with two contacts that have been in one state for too long; "" = nothing."""
        first, second = self._first.closed, self._second.closed
        if first is None or first is not second:
            self._alike_since = None
            return ""
        if self._alike_since is None:
            self._alike_since = now
        if now - self._alike_since < (OVERLAP if first else TRAVEL):
            return ""
        return SHORT if first else CUT
