"""Scenarios of the button: pressed, its wire cut, pressed while the quoter hangs."""

from hil.rig import KILL, PINS, PROCESSES
from hil.scenarios import scenario
from hil.stage import NothingShownError, PromiseBrokenError, Stage

PRESS_S = 1.0
LATE_MS = 1500
"""Less than an order may take before it has expired (2 s)."""
LATE_S = 2 * LATE_MS / 1000 + 1.5
"""The order comes so late, and so does its cancel."""
LOOK_S = 0.2
"""The venue is looked at more often."""


def latched(stage: Stage, cause: str) -> None:
    """See that it is latched for this cause, and stays so until a hand arms it; then it quotes."""
    stage.wait(stage.latched, 10, "the latch")
    stage.wait(lambda: cause in str(stage.rig.status().get("latch_reason")), 5, f"the reason {cause}")
    stage.release()
    at = stage.timeline.note("the button is let go")
    stage.stay(stage.latched, 3, "a latch ended without a hand")
    if (live := stage.timeline.last_live(at, stage.timeline.now)) is not None:
        raise PromiseBrokenError(f"an order was alive {live - at:.2f} s after the button was let go")
    stage.arm()
    stage.quoting()


def on_their_way(stage: Stage) -> int:
    """Have orders on their way to a venue that takes its time and has none; return how many it has ever taken."""
    code, said = stage.rig.shell("mmpi pause --reason scenario")
    assert code == 0, said
    stage.wait(lambda: stage.live() == 0, 10, "a pause")
    stage.venue.faults(f"late:p=1,ms={LATE_MS}")
    before = len(stage.venue.placed())
    stage.rig.shell("mmpi resume")
    # The first to be late is the dead man; nothing is sent before it is set, and then it is renewed beside the orders.
    stage.wait(lambda: stage.venue.struck() > 2, 20, "orders that are on their way")
    return before


@scenario("a press ends every order within a second, and only a hand at the box lets it go on", PINS, limit_s=PRESS_S)
def press_while_quoting(stage: Stage) -> None:
    """Press, let go, wait, arm."""
    at = stage.timeline.trouble("the button is pressed")
    stage.press()
    stage.zero_within(at, PRESS_S)
    latched(stage, "kill")


@scenario("a wire that is cut is a press", PINS, limit_s=PRESS_S)
def wire_cut(stage: Stage) -> None:
    """The wire of the normally closed contact is cut: the line floats, and the other contact says nothing."""
    at = stage.timeline.trouble("the kill button's wire is cut")
    stage.rig.drive(KILL, None)
    stage.zero_within(at, PRESS_S)
    latched(stage, "kill")


@scenario("a press needs nobody but the guardian", PINS, PROCESSES, limit_s=PRESS_S)
def press_while_the_quoter_is_stopped(stage: Stage) -> None:
    """SIGSTOP for the quoter, and a press in the same moment."""
    stage.rig.signal("mmpi-quoter", "STOP")
    if stage.live() <= 0:
        raise NothingShownError("the quoter's hang was found out before the press")
    at = stage.timeline.trouble("the quoter is stopped, and the button is pressed")
    stage.press()
    stage.zero_within(at, PRESS_S)
    latched(stage, "kill")


@scenario("a zero called proven is one: what was on its way at the press does not come after it", PINS, limit_s=LATE_S)
def press_while_orders_are_on_their_way(stage: Stage) -> None:
    """A venue that takes its time: orders are sent, the button is pressed, and only then they come alive."""
    before = on_their_way(stage)
    at = stage.timeline.trouble("orders are on their way, and the button is pressed")
    stage.press()
    stage.wait(lambda: (stage.rig.status().get("guardian") or {}).get("verified_zero"), 20, "a zero that is proven")
    proven = stage.timeline.note("the box calls its zero proven")
    stage.wait(lambda: stage.timeline.now > max(proven, at + LATE_MS / 1000) + 3, 20, "the orders on their way")
    if len(stage.venue.placed()) == before:
        raise NothingShownError("no order was on its way")
    stage.timeline.ended_at = stage.timeline.last_live(at, stage.timeline.now)
    if (live := stage.timeline.last_live(proven + LOOK_S, stage.timeline.now)) is not None:
        late = f"{live - proven:.2f} s"
        raise PromiseBrokenError(f"an order was alive {late} after the box had called its zero proven")
    stage.venue.faults()
    stage.release()
    stage.arm()
    stage.quoting()
