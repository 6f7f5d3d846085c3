"""Sign: what the lamps are to say, out of what the guardian knows for certain.

Invariant: "quoting" needs a fresh word of the quoter, "latched" a proven zero that is on the disk as well.
It must not know lamps, pins or how a sign looks (mmpi.device.lights).
"""

from collections.abc import Container
from typing import Final

from mmpi.instrument import SECOND, Nanos
from mmpi.runtime.board import LATCHED, REDUCE, RUN
from mmpi.runtime.watch import Glance, QuoterWatch

OLD: Final[Nanos] = 2 * SECOND
"""A quoter's word that is older says nothing about now."""
PLAY_MODES: Final = ("paper", "practice")
UNWELL: Final = {"quoting": "degraded", "practice": "degraded", "paused": "unhealthy"}
"""What a boot that was found not healthy shows in place of these. What says more than they do is shown all the same."""


def sign_of(
    state: int, proven: bool, causes: Container[str], watch: QuoterWatch, now: Nanos,
    *, well: bool = True, fresh: bool = False,
) -> str:  # fmt: skip
    """Return the name of the sign; `proven`: zero orders are verified, and what is latched is on the disk.

    `well`: this boot was not found unhealthy; `fresh`: there is no latch of anybody's making, so nobody ever armed.
    """
    sign = _sign_of(state, proven, causes, watch, now, fresh)
    return sign if well else UNWELL.get(sign, sign)


def _sign_of(
    state: int, proven: bool, causes: Container[str], watch: QuoterWatch, now: Nanos, fresh: bool
) -> str:
    if "pins" in causes:
        return "fault"
    if state == LATCHED and proven and fresh and "setup" in causes:
        # A new card: what keeps it from being armed is what its owner looks for.
        return "setup"
    if state == LATCHED:
        return "latched" if proven else "stopping"
    if "reload" in causes:
        return "updating"
    if state == REDUCE:
        return "stopping"
    if state == RUN:
        return _running(watch.glance(), watch.alive, watch.age(now))
    if not proven:
        return "starting" if "guardian_starting" in causes else "stopping"
    for cause, sign in (("power", "power"), ("setup", "setup"), ("venue_session", "no_network")):
        if cause in causes:
            return sign
    return "paused"


def _running(glance: Glance | None, alive: bool, age: Nanos) -> str:
    """Return what a quoter that may quote says of itself."""
    if not alive or glance is None:
        return "paused"
    if age > OLD:
        return "fault"
    if glance.reason.startswith("clock"):
        return "no_clock"
    if glance.reason.startswith("connecting"):
        return "no_network"
    if glance.state != "quoting":
        return "paused"
    if glance.is_degraded:
        return "degraded"
    return "practice" if glance.mode in PLAY_MODES else "quoting"
