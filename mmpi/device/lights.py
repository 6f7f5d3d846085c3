"""Lights: how each sign looks on three lamps, and the thread that moves them. docs/lights.md is made from this.

Invariant: no lamp stands still for longer than 2 s, whatever is shown: what does not move is not alive. A word of the
guardian that is older than 2 s is not shown any more, the fault is. It must not know why a sign is shown.
"""

import threading
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Final

import msgspec

from mmpi.errors import DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Nanos

OLD: Final[Nanos] = 2 * SECOND
"""A word that is older says nothing about now."""
NEVER: Final[Nanos] = 60 * SECOND
"""When nothing moves: look again after this long."""
STEP_MS: Final = 100
"""One character of a rhythm in the documents."""


class Lamps(msgspec.Struct, frozen=True):
    """What is on."""

    green: bool = False
    amber: bool = False
    red: bool = False
    buzzer: bool = False


class Pattern(msgspec.Struct, frozen=True):
    """How a sign looks: which lamps move together, and how.

    `rhythm`: milliseconds on, off, on, off ..., over and over; empty = dark. `beeps`: the same for the buzzer, once.
    """

    name: str
    says: str
    rhythm: tuple[int, ...]
    green: bool = False
    amber: bool = False
    red: bool = False
    beeps: tuple[int, ...] = ()


TABLE: Final = (
    Pattern("quoting", "quotes with real money; orders rest at the venue", (1800, 200), green=True),
    Pattern("practice", "quotes on paper or at a practice exchange", (1400, 200, 200, 200), green=True),
    Pattern("degraded", "quotes, but not everything is well: a market is left out, the venue refuses the dead-man "
            "switch, the request budget runs low, or this boot was found not healthy",
            (1000, 200, 200, 200, 200, 200), green=True, amber=True),
    Pattern("paused", "waits; `mmpi status` names why, and who ends it", (200, 1800),
            amber=True),
    Pattern("no_network", "waits for the venue: no connection, or no session yet", (200, 200, 200, 1400), amber=True),
    Pattern("no_clock", "waits for the right time", (200, 200, 200, 200, 200, 1000), amber=True),
    Pattern("setup", "waits, or was never armed: the set-up folder on the card holds something that is wrong; "
            "`mmpi status` names it", (600, 200, 600, 600), amber=True),
    Pattern("unhealthy", "waits, and this boot was found not healthy; `mmpi status` names why, and after an update "
            "the box may go back to the version before", (400, 200, 400, 200, 400, 400), amber=True),
    Pattern("power", "waits: the mains failed, it runs on its battery", (1000, 200, 200, 600), amber=True,
            beeps=(400, 200, 400, 0)),
    Pattern("starting", "starts; nothing is placed yet", (1000, 1000), amber=True),
    Pattern("updating", "begins anew with a new configuration or version", (100, 200, 100, 200, 100, 200, 100, 1000),
            amber=True),
    Pattern("stopping", "stopped, nothing new is placed; that no order is left at the venue is not proven yet",
            (250, 250), amber=True, red=True),
    Pattern("latched", "stopped for certain: the venue said twice that no order is left, and it is on the disk; "
            "a person must arm", (500, 500), red=True, beeps=(150, 150, 150, 150, 150, 0)),
    Pattern("fault", "the guardian has nothing certain to say: pins, information older than 2 s, or itself",
            (100, 100), red=True),
    Pattern("arming", "a button is held; hold on", (100, 100, 100, 300), amber=True),
    Pattern("let_go", "held for long enough: let go to arm (boxes with one button)", (400, 100), amber=True),
    Pattern("dark", "off: ended in good order, or without power", ()),
)  # fmt: skip
"""Green: it quotes. Amber: it waits. Red: it is stopped and needs a person. Rhythms differ without any colour."""

PATTERNS: Final = {pattern.name: pattern for pattern in TABLE}
FAULT: Final = PATTERNS["fault"]
DARK: Final = PATTERNS["dark"]


def pattern_of(sign: str) -> Pattern:
    """Return how a sign looks; one that is not in the table is a fault."""
    return PATTERNS.get(sign, FAULT)


def lamps(pattern: Pattern, t: Nanos) -> Lamps:
    """Return what is on, `t` after the pattern began."""
    buzzer = _phase(pattern.beeps, t) % 2 == 0 if t < sum(pattern.beeps) * MILLISECOND else False
    if not pattern.rhythm:
        return Lamps(buzzer=buzzer)
    on = _phase(pattern.rhythm, t % (sum(pattern.rhythm) * MILLISECOND)) % 2 == 0
    return Lamps(on and pattern.green, on and pattern.amber, on and pattern.red, buzzer)


def next_change(pattern: Pattern, t: Nanos) -> Nanos:
    """Return the first moment after `t` at which a lamp or the buzzer changes."""
    changes = [end * MILLISECOND for end in accumulate(pattern.beeps) if end * MILLISECOND > t][:1]
    if pattern.rhythm:
        cycle = sum(pattern.rhythm) * MILLISECOND
        begun = t - t % cycle
        ends = (begun + end * MILLISECOND for end in accumulate(pattern.rhythm))
        changes.append(next(end for end in ends if end > t))
    return min(changes, default=t + NEVER)


def _phase(rhythm: tuple[int, ...], t: Nanos) -> int:
    """Return which part of a rhythm `t` falls into; even ones are on."""
    return next(number for number, end in enumerate(accumulate(rhythm)) if t < end * MILLISECOND)


class Display:
    """What is to be seen when, without lamps or threads."""

    def __init__(self, sign: str, now: Nanos) -> None:
        self._sign, self._since, self._told = sign, now, now
        self._lasting = False

    def show(self, sign: str, now: Nanos) -> bool:
        """Take the guardian's word; return True if it is another than before, or the first in time again."""
        changed = sign != self._sign or now - self._told > OLD
        if changed:
            self._sign, self._since = sign, now
        self._told = now
        return changed

    def last(self, sign: str, now: Nanos) -> None:
        """Show this from now on, however old it gets."""
        self._sign, self._since, self._lasting = sign, now, True

    def at(self, now: Nanos) -> tuple[Lamps, Nanos]:
        """Return what is on now, and until when that holds if no other word comes."""
        if not self._lasting and now - self._told > OLD:
            began = self._told + OLD
            return lamps(FAULT, now - began), began + next_change(FAULT, now - began)
        pattern, t = pattern_of(self._sign), max(0, now - self._since)
        until = self._since + next_change(pattern, t)
        return lamps(pattern, t), until if self._lasting else min(until, self._told + OLD + 1)


class Lights:
    """The lamps and the thread that moves them: it wakes when something changes, and at no other time."""

    def __init__(self, write: Callable[[Lamps], None], clock: Callable[[], Nanos] = time.monotonic_ns) -> None:
        """`write` sets the lamps, in the lights' own thread; it may raise DeviceError, and may take its time."""
        self.failures = 0
        self.problem = ""
        """What is wrong with the lamps now; "" = nothing."""
        self._write, self._clock = write, clock
        self._changed = threading.Condition()
        self._display = Display("starting", clock())
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="lights", daemon=True)

    def start(self) -> None:
        """Begin; `starting` is shown until the guardian says something."""
        self._thread.start()

    def show(self, sign: str, now: Nanos) -> None:
        """Show this sign; called at every look, as what is not said again within 2 s turns into a fault."""
        with self._changed:
            if self._display.show(sign, now):
                self._changed.notify()

    def close(self, sign: str = "dark") -> None:
        """Show this for the last time: dark ends the thread, anything else moves on until the process ends."""
        with self._changed:
            self._display.last(sign, self._clock())
            self._ended = sign == "dark"
            self._changed.notify()
        if self._ended and self._thread.ident is not None:
            self._thread.join(OLD / SECOND)

    def _run(self) -> None:
        while True:
            with self._changed:
                ended, (on, until) = self._ended, self._display.at(self._clock())
            self._try(on)
            if ended:
                return
            with self._changed:
                # A word that came while the lamps were being set is shown now, not at the next change.
                now = self._clock()
                if self._display.at(now)[0] == on and self._ended == ended:
                    self._changed.wait(max(0, until - now) / SECOND)

    def _try(self, on: Lamps) -> None:
        try:
            self._write(on)
        except DeviceError as error:
            self.failures += 1
            self.problem = f"lamps: {error}"
        else:
            self.problem = ""


def markdown() -> str:
    """Return docs/lights.md."""
    rows = [f"| `{each.name}` | {_colours(each)} | `{_strip(each)}` | {each.says} |" for each in TABLE]
    beeps = [f"| `{each.name}` | {_beeps(each)} |" for each in TABLE if each.beeps]
    head = ["| sign | lamps | two seconds, a character a tenth: █ on, · off | says |", "|---|---|---|---|"]
    sound = ["| sign | sounds once, when the sign appears |", "|---|---|"]
    return "\n".join([_ABOVE, *head, *rows, _BELOW, *sound, *beeps]) + "\n"


def _colours(pattern: Pattern) -> str:
    names = [name for name in ("green", "amber", "red") if getattr(pattern, name)]
    return " and ".join(names) or "none"


def _strip(pattern: Pattern) -> str:
    if not pattern.rhythm:
        return "·" * (2000 // STEP_MS)
    moments = range(0, 2000, STEP_MS)
    shown = (lamps(pattern, moment * MILLISECOND) for moment in moments)
    return "".join("█" if each.green or each.amber or each.red else "·" for each in shown)


def _beeps(pattern: Pattern) -> str:
    lengths = pattern.beeps[::2]
    return f"{len(lengths)} beeps of {lengths[0] / 1000:g} s"


_ABOVE: Final = """\
# The lamps

<!-- Made from mmpi/device/lights.py, which a test compares: change it there. -->

**A lamp that does not move is a box that does not live.** Every sign moves at least every two seconds. A process that
hangs or is dead leaves its lamps as they were, or dark; it cannot look like one that lives. The guardian says what is
to be shown twelve times a second; when it has said nothing for two seconds, its lamps go over to `fault` by themselves.

Green: it quotes. Amber: it waits. Red: it is stopped and needs a person. Each sign has a rhythm of its own, so it can
be told without seeing colours. What quotes is mostly on, and blinks off once, twice or three times; what waits is
mostly off, and blinks on once, twice or three times; what is stopped blinks evenly, the faster the less is certain.
Amber and red together: stopped, and waiting for the proof. Long flashes of amber between short pauses: something is to
be mended, two of them in the set-up folder, three in this boot.
"""
_BELOW: Final = """
What is shown is proven: `quoting` needs a word of the quoter that is younger than two seconds, `latched` two empty
answers of the venue and the latch on the disk. `fault` says nothing about orders: look at the venue.

## The buzzer

Silent, but for this:
"""
