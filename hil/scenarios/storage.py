"""Scenarios of the disk: full."""

from hil.rig import STORAGE
from hil.scenarios import scenario
from hil.stage import Stage

PAUSE_S = 40.0
"""A disk that takes nothing for 20 s pauses; the guardian looks at the room every 2 s."""


@scenario("a full disk pauses before it hurts, and ends when there is room", STORAGE)
def disk_full(stage: Stage) -> None:
    """Filled to the last MB, and emptied again."""
    stage.rig.fill_disk(full=True)
    at = stage.timeline.trouble("the disk is full")
    stage.zero_within(at, PAUSE_S)
    stage.rig.fill_disk(full=False)
    stage.timeline.note("there is room again")
    stage.quoting(60)
