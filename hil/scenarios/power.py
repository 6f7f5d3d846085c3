"""Scenarios of power: gone at once, or announced by the supply."""

import time

from hil.rig import PINS, POWER
from hil.scenarios import scenario
from hil.scenarios.button import on_their_way
from hil.stage import PromiseBrokenError, Stage

DEAD_MAN_S = 8.0
CUT_S = DEAD_MAN_S + 2.0
MAINS_S = 1.0
PRESS_S = 1.0


def _cut(stage: Stage, what: str) -> None:
    """Cut the power; the venue's dead man ends all orders; the box comes back, knows its fills, and quotes."""
    at = stage.timeline.trouble(what)
    stage.rig.cut_power()
    stage.zero_within(at, CUT_S)
    _return(stage)


def _return(stage: Stage) -> None:
    stage.rig.power_on()
    stage.timeline.note("the power is back")
    stage.quoting(60)
    stage.positions_agree()


@scenario("without power every order ends within the dead man's time, and nothing is lost", POWER, limit_s=CUT_S)
def power_cut_while_quoting(stage: Stage) -> None:
    """At rest, with the whole ladder alive."""
    stage.filled()
    _cut(stage, "the power is cut")


@scenario("an order on its way when the power goes is not forgotten", POWER, limit_s=CUT_S)
def power_cut_while_placing(stage: Stage) -> None:
    """At a venue that takes its time: they come alive when nobody is there any more, and the dead man ends them."""
    stage.filled()
    before = on_their_way(stage)
    time.sleep(stage.dice.uniform(0, 0.5))
    at = stage.timeline.trouble("the power is cut with orders on their way")
    stage.rig.cut_power()
    stage.wait(lambda: len(stage.venue.placed()) > before, 5, "the orders on their way")
    stage.venue.faults()
    came = stage.timeline.note("they come alive")
    stage.zero_within(came, at + CUT_S - came)
    stage.timeline.ended_at = stage.timeline.first_zero(came)
    _return(stage)


@scenario("a commit that the power ends loses nothing that was committed", POWER, limit_s=CUT_S)
def power_cut_around_a_commit(stage: Stage) -> None:
    """As soon as a further commit of the ledger begins to show, and a little later or earlier by the dice."""

    def commits() -> int:
        return int((stage.rig.status().get("storage") or {}).get("commits", 0))

    stage.filled()
    before = commits()
    stage.wait(lambda: commits() > before, 40, "a commit")
    time.sleep(stage.dice.uniform(0, 0.5))
    _cut(stage, "the power is cut around a commit")


@scenario("what the box has said of its latch holds after a power cut", POWER, PINS, limit_s=PRESS_S)
def power_cut_after_the_button(stage: Stage) -> None:
    """Latched by a press, cut, still latched for that reason; armed, cut in the same moment, still armed."""
    at = stage.timeline.trouble("the button is pressed")
    stage.press()
    stage.zero_within(at, PRESS_S)
    stage.wait(stage.latched, 10, "the latch")
    stage.release()
    stage.rig.cut_power()
    stage.timeline.note("the power is cut")
    stage.rig.power_on()
    stage.wait(lambda: stage.rig.status().get("latch"), 30, "a guardian")
    told = stage.rig.status()
    if told.get("latch") != "latched" or "kill" not in str(told.get("latch_reason")):
        raise PromiseBrokenError(f"the press is forgotten: {stage.told()}")
    stage.arm()
    stage.rig.cut_power()
    stage.timeline.note("it is armed, and the power is cut")
    stage.rig.power_on()
    stage.quoting(60)


@scenario("failing mains end every order at once, and quoting goes on when they are back", PINS, limit_s=MAINS_S)
def mains_fail_and_return(stage: Stage) -> None:
    """The supply's line falls, stays so for some seconds, and rises."""
    at = stage.timeline.trouble("the mains fail")
    stage.mains(there=False)
    stage.zero_within(at, MAINS_S)
    stage.wait(lambda: "power" in stage.causes(), 5, "the cause power")
    stage.stay(lambda: stage.live() == 0, 3, "an order with the mains gone")
    stage.mains(there=True)
    stage.timeline.note("the mains are back")
    stage.quoting()
