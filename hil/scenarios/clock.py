"""Scenarios of the clock: it jumps while the box quotes, or is lost with the power."""

from hil.rig import CLOCK, PINS, POWER
from hil.scenarios import scenario
from hil.scenarios.power import CUT_S
from hil.stage import PromiseBrokenError, Stage

HOUR_S = 3600.0
YEARS_S = 20 * 365 * 24 * HOUR_S
GONE_S = 2.0
"""The box looks at its clock four times a second."""
PLACES_NOTHING_S = 8.0
PRESS_S = 1.0


def _untrusted(stage: Stage) -> None:
    """See that nothing is placed from now on, and that the clock is told as the reason."""
    placed = len(stage.venue.placed())
    stage.wait(lambda: "clock" in str(stage.rig.status().get("reason")), 15, "the reason clock")
    stage.stay(lambda: len(stage.venue.placed()) == placed, PLACES_NOTHING_S, "an order was placed by a wrong clock")


def _jump(stage: Stage, ahead_s: float, what: str) -> None:
    """Set the clock, although the kernel says that somebody keeps it; set it right again."""
    at = stage.befall(what, lambda: stage.rig.set_clock(ahead_s))
    stage.zero_within(at, GONE_S)
    _untrusted(stage)
    stage.rig.set_clock(0.0)
    stage.timeline.note("the clock is right")
    stage.quoting(60)


@scenario("a clock that is an hour ahead is not traded by, whatever the kernel says of it", CLOCK, limit_s=GONE_S)
def clock_ahead(stage: Stage) -> None:
    """Set forward by an hour while it quotes, and back."""
    _jump(stage, HOUR_S, "the clock is an hour ahead")


@scenario("a clock that is an hour behind is not traded by, whatever the kernel says of it", CLOCK, limit_s=GONE_S)
def clock_behind(stage: Stage) -> None:
    """Set back by an hour while it quotes, and forward."""
    _jump(stage, -HOUR_S, "the clock is an hour behind")


@scenario("a box that has lost the time waits for it, and its button works", CLOCK, POWER, PINS, limit_s=CUT_S)
def clock_lost_with_the_power(stage: Stage) -> None:
    """It comes back and nobody knows the time; then somebody says a wrong one, years ago; then the right one."""
    at = stage.timeline.trouble("the power is cut, and the clock is lost")
    stage.rig.cut_power()
    stage.zero_within(at, CUT_S)
    placed = len(stage.venue.placed())
    stage.rig.power_on(clock_lost=True)
    stage.timeline.note("the power is back")
    _untrusted(stage)
    stage.rig.set_clock(-YEARS_S)
    stage.timeline.note("the clock is years behind")
    _untrusted(stage)
    stage.press()
    stage.wait(stage.latched, 10, "the latch")
    stage.release()
    stage.rig.set_clock(0.0)
    stage.timeline.note("the clock is right")
    stage.stay(lambda: not stage.live(), 3, "a latch ended without a hand")
    if len(stage.venue.placed()) != placed:
        raise PromiseBrokenError("an order was placed without the time, or with the box latched")
    stage.arm()
    stage.quoting(60)
