"""Troubles: what can befall a box, each an atom that begins and ends, so that several can overlap.

A trouble says what it needs of a rig, how long it lasts, what it holds (two that hold the same never overlap), and, if
no order may be left because of it, within how many seconds and how long that holds; `hil/judgement.py` judges by it.

Invariant: each is built of the rig's and the venue's own words alone. It must not know plans.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from hil.rig import (
    ARM,
    CLOCK,
    KERNEL,
    KILL,
    LOSSY,
    NETWORK,
    NUMB,
    PINS,
    POWER,
    PROCESSES,
    SENSORS,
    STORAGE,
    SUPPLY,
)
from hil.stage import HOLD_S, Stage

PRESS_S: Final = 1.0
HUNG_S: Final = 2.5
"""The guardian, or the quoter, waits 1 s for a sign of life of the other."""
WATCHDOG_SOONEST_S: Final = 4.5
"""So long after it hung something may be ended by its watchdog: that waits 10 s, and was last fed up to 5 s before."""
DEAD_MAN_ALLOWED_S: Final = 10.0
"""8 s at the venue, and what it takes."""
SENSE_S: Final = 8.0
"""The guardian looks at its sensors every 2 s."""
TAIL_S: Final = 5.0
"""After errors of the venue's are over: 2.75 s (docs/stop-path.md), and what it takes."""
LINK_S: Final = 8.5
"""After sockets could not be had: 7.75 s, and what it takes."""
CUT_S: Final = 4.5
"""After every connection was cut, and new ones can be had: 3.25 s, and what it takes."""
SKEW_S: Final = 3.0
_ASK_S: Final = 10
"""A command at the box that takes longer is given up."""

BUTTON: Final = "button"
QUOTER: Final = "quoter"
GUARDIAN: Final = "guardian"
LINK: Final = "link"
MACHINE: Final = "machine"
DISK: Final = "disk"
SERVER: Final = "server"
PAUSE: Final = "pause"

ENDS: Final = "ends"
"""No order may be left until the trouble ends."""
ARMED: Final = "armed"
"""Nor after it, until a hand arms."""
ONCE: Final = "once"
"""There must be a moment without an order; then others may come."""


class Site:
    """A stage on which troubles overlap.

    Invariant: what cannot be done now, because the box is off or the venue hangs, is done as soon as it can be; of
    several such acts on one thing the last counts, and all are done in the order of these.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage: Final = stage
        self.on = True
        self.hung = False
        self._faults: list[str] = []
        self._box_missed: dict[str, Callable[[], object]] = {}
        self._venue_missed: dict[str, Callable[[], object]] = {}

    def box(self, thing: str, act: Callable[[], object]) -> bool:
        """Do something to the box, now or when it is on."""
        if self.on:
            act()
        else:
            self._box_missed.pop(thing, None)
            self._box_missed[thing] = act
        return True

    def venue(self, thing: str, act: Callable[[], object]) -> bool:
        """Do something to the venue, now or when it answers."""
        if self.hung:
            self._venue_missed.pop(thing, None)
            self._venue_missed[thing] = act
        else:
            act()
        return True

    def run(self, line: str) -> bool:
        """Run a line on the box; return whether it succeeded. On a box that is off it does not."""
        return self.on and self.stage.rig.shell(line)[0] == 0

    def drive(self, contact: str, level: int | None) -> bool:
        """Put a level on a contact's line."""
        return self.box(contact, lambda: self.stage.rig.drive(contact, level))

    def power(self, *, on: bool) -> bool:
        """Switch the box off or on."""
        if on and not self.on:
            self.stage.rig.power_on()
            self.up()
        elif self.on and not on:
            self.on = False
            self.stage.rig.cut_power()
        return True

    def up(self) -> None:
        """Say that the box has come up; what was to be done to it is done."""
        self.on = True
        missed, self._box_missed = self._box_missed, {}
        for act in missed.values():
            act()

    def hang(self, *, on: bool) -> bool:
        """Have the venue hang, or go on."""
        self.hung = on
        self.stage.venue.hang(on=on)
        if not on:
            missed, self._venue_missed = self._venue_missed, {}
            for act in missed.values():
                act()
        return True

    def fault(self, words: str, *, on: bool) -> bool:
        """Have a fault be in force beside the others, or no more."""
        self._faults = [each for each in self._faults if each != words] + [words] * on
        return self.venue("faults", lambda: self.stage.venue.faults(*self._faults))


Act = Callable[[Site], bool]


class Trouble(NamedTuple):
    """One trouble. `begin` and `end` return whether there was anything to do: a box that is off has no quoter."""

    name: str
    what: str
    needs: frozenset[str]
    holds: frozenset[str]
    shortest_s: float
    longest_s: float
    begin: Act
    end: Act
    zero_s: float | None = None
    """Within how many seconds no order is left; None = nothing is said about it."""
    until: str = ENDS
    at_most_s: float | None = None
    """How long that holds at most, because a watchdog ends the trouble before its time."""
    tail_s: float = 0.0
    """How long after its end others may still take because of it; > 0: the venue is not as it should be."""
    slows_dead_man: bool = False
    """Those too that only the dead man at the venue ends."""


ALL: Final[dict[str, Trouble]] = {}


def _nothing(_: Site) -> bool:
    return True


def _add(
    name: str, what: str, needs: tuple[str, ...], holds: tuple[str, ...], lasts: tuple[float, float], begin: Act,
    end: Act = _nothing, *, zero_s: float | None = None, until: str = ENDS, at_most_s: float | None = None,
    tail_s: float = 0.0, slows_dead_man: bool = False,
) -> None:  # fmt: skip
    ALL[name] = Trouble(
        name, what, frozenset(needs), frozenset(holds), *lasts, begin, end, zero_s, until, at_most_s, tail_s,
        slows_dead_man,
    )  # fmt: skip


def _signal(unit: str, name: str) -> Act:
    return lambda site: site.run(f"systemctl kill --kill-whom=main --signal={name} {unit}")


def _down(unit: str) -> Act:
    return lambda site: site.run(f"systemctl kill --signal=KILL {unit}; systemctl stop --no-block {unit}")


def _up(unit: str) -> Act:
    return lambda site: site.run(f"systemctl start --no-block {unit}")


def _mmpi(words: str) -> Act:
    return lambda site: site.run(f"timeout {_ASK_S} mmpi {words}")


def _fill(*, full: bool) -> Act:
    return lambda site: site.box(DISK, lambda: site.stage.rig.fill_disk(full=full))


def _sense(celsius: float = 45.0, *, weak: bool = False) -> Act:
    return lambda site: site.box("sensors", lambda: site.stage.rig.sense(celsius=celsius, weak=weak))


def _refuse(*, on: bool) -> Act:
    return lambda site: site.box("writes", lambda: site.stage.rig.refuse_writes(on=on))


def _cable(*, plugged: bool) -> Act:
    return lambda site: site.box("cable", lambda: site.stage.rig.cable(plugged=plugged))


def _deaf(*, on: bool) -> Act:
    return lambda site: site.box("deaf", lambda: site.stage.rig.deaf(on=on))


def _clock(ahead_s: float) -> Act:
    return lambda site: site.box("clock", lambda: site.stage.rig.set_clock(ahead_s))


def _numb(site: Site) -> bool:
    if not site.run("systemctl is-active --quiet mmpi-quoter"):
        return False
    site.stage.rig.numb("mmpi-quoter")
    return True


def _fault(name: str, what: str, words: str, tail_s: float = TAIL_S, *, slows_dead_man: bool = False) -> None:
    """Add a fault of the venue's, as docs/practice.md writes it."""
    _add(
        name, what, (PINS,), (name,), (2.0, 12.0), lambda site: site.fault(words, on=True),
        lambda site: site.fault(words, on=False), tail_s=tail_s, slows_dead_man=slows_dead_man,
    )  # fmt: skip


def _hands() -> None:
    """Add what a hand does at the box, or a wire."""
    _add(
        "press", "the button is held", (PINS,), (BUTTON,), (0.3, 8), lambda site: site.box(BUTTON, site.stage.press),
        lambda site: site.box(BUTTON, site.stage.release), zero_s=PRESS_S, until=ARMED,
    )  # fmt: skip
    _add(
        "wire_cut", "the kill contact's wire is cut", (PINS,), (BUTTON,), (0.3, 8), lambda site: site.drive(KILL, None),
        lambda site: site.drive(KILL, 0), zero_s=PRESS_S, until=ARMED,
    )  # fmt: skip
    _add(
        "arm", "the arm button is held", (PINS,), (ARM,), (HOLD_S, 5), lambda site: site.drive(ARM, 0),
        lambda site: site.drive(ARM, None),
    )  # fmt: skip
    _add(
        "mains", "the mains have failed", (PINS,), (SUPPLY,), (0.5, 8), lambda site: site.drive(SUPPLY, 0),
        lambda site: site.drive(SUPPLY, 1), zero_s=PRESS_S,
    )  # fmt: skip
    _add(
        "pause", "paused by mmpi pause", (PINS,), (PAUSE,), (1, 10), _mmpi("pause --reason campaign"),
        _mmpi("resume"), zero_s=PRESS_S,
    )  # fmt: skip


def _processes() -> None:
    """Add what becomes of the box's services."""
    for unit, holds in (("mmpi-quoter", QUOTER), ("mmpi-guardian", GUARDIAN)):
        _add(
            f"{holds}_stopped", f"SIGSTOP for the {holds}", (PROCESSES,), (holds,), (0.3, 14), _signal(unit, "STOP"),
            _signal(unit, "CONT"), zero_s=HUNG_S, at_most_s=WATCHDOG_SOONEST_S,
        )  # fmt: skip
        _add(
            f"{holds}_killed", f"SIGKILL for the {holds}", (PROCESSES,), (holds,), (0, 0), _signal(unit, "KILL"),
            zero_s=HUNG_S, until=ONCE,
        )  # fmt: skip
    _add(
        "guardian_down", "the guardian is killed and kept down", (PROCESSES,), (GUARDIAN,), (1, 10),
        _down("mmpi-guardian"), _up("mmpi-guardian"), zero_s=HUNG_S,
    )  # fmt: skip
    _add(
        "quoter_numb", "the quoter turns and handles nothing", (NUMB,), (QUOTER,), (0, 0), _numb, zero_s=HUNG_S,
        until=ONCE,
    )  # fmt: skip
    for name in ("telemetry", "broker"):
        unit = f"mmpi-{name}"
        _add(f"{name}_down", f"{unit} is killed and kept down", (PROCESSES,), (name,), (1, 10), _down(unit), _up(unit))


def _machine() -> None:
    """Add what becomes of the box's power, cable, disk, sensors, clock and kernel."""
    _add(
        "power", "the power is cut", (POWER,), (MACHINE,), (0.5, 14), lambda site: site.power(on=False),
        lambda site: site.power(on=True), zero_s=DEAD_MAN_ALLOWED_S,
    )  # fmt: skip
    _add(
        "cable", "the cable is pulled", (NETWORK,), (LINK,), (1, 15), _cable(plugged=False), _cable(plugged=True),
        zero_s=DEAD_MAN_ALLOWED_S,
    )  # fmt: skip
    _add(
        "deaf", "nothing reaches the box", (NETWORK,), (LINK,), (1, 15), _deaf(on=True), _deaf(on=False),
        zero_s=DEAD_MAN_ALLOWED_S,
    )  # fmt: skip
    _add("disk_full", "the disk is full", (STORAGE,), (DISK,), (2, 20), _fill(full=True), _fill(full=False))
    _add(
        "disk_refuses", "the disk takes no write", (LOSSY,), (DISK, MACHINE), (2, 20), _refuse(on=True),
        _refuse(on=False),
    )  # fmt: skip
    _add("hot", "95 degrees", (SENSORS,), ("sensors",), (2, 14), _sense(95.0), _sense(), zero_s=SENSE_S)
    _add("weak", "undervoltage", (SENSORS,), ("sensors",), (2, 14), _sense(weak=True), _sense(), zero_s=SENSE_S)
    _add("clock_ahead", "the clock is an hour ahead", (CLOCK,), ("clock",), (2, 14), _clock(3600.0), _clock(0.0))
    _add(
        "panic", "the kernel panics", (KERNEL,), (MACHINE,), (0, 0),
        lambda site: site.box("kernel", site.stage.rig.panic), zero_s=DEAD_MAN_ALLOWED_S, until=ONCE,
    )  # fmt: skip


def _venue() -> None:
    """Add what becomes of the venue."""
    _add(
        "venue_hangs", "the venue answers nothing", (PINS,), (SERVER,), (1, 12), lambda site: site.hang(on=True),
        lambda site: site.hang(on=False), tail_s=DEAD_MAN_ALLOWED_S, slows_dead_man=True,
    )  # fmt: skip
    _add(
        "sockets_cut", "every socket is cut", (PINS,), ("sockets",), (0, 0),
        lambda site: site.venue("sockets", site.stage.venue.close_sockets), tail_s=CUT_S,
    )  # fmt: skip
    _fault("http_429", "30% of requests are refused", "http_429:p=0.3")
    _fault("http_5xx", "30% of requests fail and are done", "http_5xx:p=0.3,executed=1")
    _fault("late", "half of all actions are 1.5 s late", "late:p=0.5,ms=1500", slows_dead_man=True)
    _fault("ack_lost", "30% of answers are lost", "ack_lost:p=0.3")
    _fault("cancel_lost", "half of all cancels are lost", "cancel_lost:p=0.5")
    _fault("place_lost", "30% of orders are lost", "place_lost:p=0.3")
    skew = f"clock_skew:s={SKEW_S:g}"
    _fault("clock_skew", "the venue's clock is 3 s ahead", skew, DEAD_MAN_ALLOWED_S + SKEW_S, slows_dead_man=True)
    _fault("half_open", "sockets are open and deaf, again and again", "half_open:every=6,for=3", LINK_S)
    _fault("refuse_ws", "new sockets are refused", "refuse_ws:at=0,for=60", LINK_S)
    _fault("stale_book", "no book comes", "stale_book:at=0,for=60")
    _fault("streams", "messages are late, twice, swapped", "reorder:p=0.1")


_hands()
_processes()
_machine()
_venue()
