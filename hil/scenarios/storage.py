"""Scenarios of the disk: full, or worn out."""

from hil.rig import LOSSY, PINS, STORAGE
from hil.scenarios import scenario
from hil.stage import Stage

PRESS_S = 1.0
PAUSE_S = 40.0
"""A disk that takes nothing for 20 s pauses; the guardian looks at the room every 2 s."""


@scenario("a full disk pauses before it hurts, and ends when there is room", STORAGE, limit_s=PAUSE_S)
def disk_full(stage: Stage) -> None:
    """Filled to the last MB, and emptied again."""
    at = stage.befall("the disk is full", lambda: stage.rig.fill_disk(full=True))
    stage.zero_within(at, PAUSE_S)
    stage.wait(lambda: "disk" in " ".join([*stage.causes(), str(stage.rig.status().get("reason"))]), 10, "the reason")
    stage.stay(lambda: stage.live() == 0, 3, "an order with a full disk")
    stage.rig.fill_disk(full=False)
    stage.timeline.note("there is room again")
    stage.quoting(60)


@scenario("a card that takes no write any more pauses, and a new one has every fill", LOSSY, limit_s=PAUSE_S)
def card_read_only(stage: Stage) -> None:
    """Every write and every flush is answered with an error, as by a card that has worn out."""
    stage.filled()
    at = stage.befall("the card takes no write", lambda: stage.rig.refuse_writes(on=True))
    stage.zero_within(at, PAUSE_S)
    stage.stay(lambda: stage.live() == 0, 3, "an order without a disk")
    stage.rig.refuse_writes(on=False)
    stage.timeline.note("it is written again")
    stage.quoting(60)


@scenario("a press needs no disk", LOSSY, PINS, limit_s=PRESS_S)
def press_with_a_dead_card(stage: Stage) -> None:
    """The latch cannot be stored, and all the same every order ends; the button is still pressed at the next start."""
    stage.rig.refuse_writes(on=True)
    at = stage.timeline.trouble("the card takes no write, and the button is pressed")
    stage.press()
    stage.zero_within(at, PRESS_S)
    stage.wait(stage.latched, 10, "the latch")
    stage.rig.refuse_writes(on=False)
    stage.timeline.note("it is written again")
    stage.stay(lambda: stage.live() == 0, 5, "an order with the button pressed")
    stage.release()
    stage.arm()
    stage.quoting(60)
