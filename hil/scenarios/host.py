"""Scenarios of the machine's health: too hot, or too weak a supply.

A rig shows them as files in the place of the kernel's (`host.sysfs_root`): what the kernel and the sensors make of heat
and of a voltage that falls is for a bench alone.
"""

from typing import Any

from hil.rig import SENSORS
from hil.scenarios import scenario
from hil.stage import Stage

SEEN_S = 4.0
"""The guardian reads the machine every 2 s."""
HELD_S = 30.0
"""So long undervoltage counts after it was last seen."""


def _pauses(stage: Stage, cause: str, what: str, **sensed: Any) -> None:
    """See that it pauses for this, places nothing meanwhile, and goes on by itself when it is over."""
    at = stage.befall(what, lambda: stage.rig.sense(**sensed))
    stage.zero_within(at, SEEN_S)
    stage.wait(lambda: cause in stage.causes(), 5, f"the cause {cause}")
    stage.stay(lambda: not stage.live(), 5, f"an order with the cause {cause}")
    stage.rig.sense()
    stage.timeline.note("it is over")
    stage.quoting(HELD_S + 30)


@scenario("a machine that is too hot pauses, and goes on when it has cooled down", SENSORS, limit_s=SEEN_S)
def too_hot(stage: Stage) -> None:
    """95 degrees, and 45 again."""
    _pauses(stage, "temperature", "95 degrees", celsius=95.0)


@scenario("a supply that is too weak pauses, until it was well for half a minute", SENSORS, limit_s=SEEN_S)
def undervoltage(stage: Stage) -> None:
    """The kernel's word for some seconds."""
    _pauses(stage, "undervoltage", "the supply is too weak", weak=True)
