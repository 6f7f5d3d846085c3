"""Scenarios of the kernel: it panics, or has no memory left."""

from hil.rig import KERNEL
from hil.scenarios import scenario
from hil.scenarios.power import CUT_S
from hil.stage import NothingShownError, PromiseBrokenError, Stage

UNITS = ("mmpi-guardian", "mmpi-quoter")
HOG = """systemd-run --quiet --unit hog /usr/bin/python3 -c '
held = []
while True:
    held.append(b"x" * 4000000)
'"""
"""A program of nobody's, that takes all there is and touches it."""
HOG_S = 60.0


@scenario("a kernel that has stopped is reset by the watchdog, and the dead man ends all", KERNEL, limit_s=CUT_S)
def kernel_panic(stage: Stage) -> None:
    """Nothing runs any more, and no kernel starts itself anew; what comes back says what became of it, and quotes."""
    at = stage.timeline.trouble("the kernel panics")
    stage.rig.panic()
    stage.timeline.note("it was reset, and is up")
    stage.zero_within(at, CUT_S)
    stage.wait(lambda: stage.rig.status().get("guardian"), 30, "a guardian")
    before = stage.rig.status()["guardian"].get("before") or {}
    if before.get("ended") != "power" or "watchdog" not in str(before.get("reason")):
        raise PromiseBrokenError(f"it does not know that the watchdog reset it: {before}")
    stage.quoting(60)


def _pids(stage: Stage) -> list[str]:
    return stage.rig.shell(f"systemctl show --value -p MainPID {' '.join(UNITS)}")[1].split()


def _hogs_end(stage: Stage) -> str:
    """Return how the hog ended, "" = it has not, or the box is too busy to say."""
    code, said = stage.rig.shell("systemctl show --value -p Result hog.service")
    return said.strip() if code == 0 and said.strip() != "success" else ""


@scenario("when memory runs out somebody else dies for it, and quoting goes on", KERNEL)
def memory_hog(stage: Stage) -> None:
    """A program outside of our services eats all memory; the kernel ends that one, and neither guardian nor quoter."""
    before = _pids(stage)
    stage.timeline.trouble("memory is eaten up")
    code, said = stage.rig.shell(HOG)
    assert code == 0, said
    stage.wait(lambda: _hogs_end(stage), HOG_S, "the end of the hog")
    died = _hogs_end(stage)
    stage.timeline.note(f"the hog is ended: {died}")
    stage.rig.shell("systemctl reset-failed hog.service")
    if died != "oom-kill":
        raise NothingShownError(f"the hog ended by itself: {died}")
    if (now := _pids(stage)) != before:
        raise PromiseBrokenError(f"{UNITS} were {before}, and are {now}")
    stage.quoting(60)
