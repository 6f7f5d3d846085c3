"""Scenarios of the box's own processes: each hangs or dies in its turn."""

from hil.rig import PROCESSES
from hil.scenarios import scenario
from hil.stage import Stage

HUNG_S = 2.5
"""The guardian waits 1 s for a sign of life."""
WATCHDOG_S = 14.0
"""The service watchdog, and SIGKILL after it."""


def _pid(stage: Stage, unit: str) -> int:
    return int(stage.rig.shell(f"systemctl show --value -p MainPID {unit}")[1] or "0")


@scenario("a quoter that hangs has no order after a moment, and is begun anew", PROCESSES, limit_s=HUNG_S)
def quoter_hangs(stage: Stage) -> None:
    """SIGSTOP: the guardian cancels, the service watchdog ends it, and the next one quotes."""
    before = _pid(stage, "mmpi-quoter")
    stage.rig.signal("mmpi-quoter", "STOP")
    at = stage.timeline.trouble("the quoter hangs")
    stage.zero_within(at, HUNG_S)
    stage.wait(lambda: _pid(stage, "mmpi-quoter") not in (0, before), WATCHDOG_S + 5, "another quoter")
    stage.timeline.note("another quoter")
    stage.quoting(60)


@scenario("a quoter that dies leaves no order, and no fill is lost", PROCESSES, limit_s=HUNG_S)
def quoter_dies(stage: Stage) -> None:
    """SIGKILL."""
    stage.rig.signal("mmpi-quoter", "KILL")
    at = stage.timeline.trouble("the quoter is killed")
    stage.zero_within(at, HUNG_S)
    stage.quoting(60)


@scenario("nothing is quoted without a guardian", PROCESSES, limit_s=HUNG_S)
def guardian_dies(stage: Stage) -> None:
    """SIGKILL, and it is kept down for a while: the quoter pulls its orders by itself."""
    stage.rig.shell("systemctl stop --no-block mmpi-guardian; systemctl kill --signal=KILL mmpi-guardian")
    at = stage.timeline.trouble("the guardian is killed")
    stage.zero_within(at, HUNG_S)
    stage.stay(lambda: stage.live() == 0, 4, "an order without a guardian")
    stage.rig.shell("systemctl start mmpi-guardian")
    stage.timeline.note("another guardian")
    stage.quoting(60)


@scenario("nothing is quoted beside a guardian that hangs", PROCESSES, limit_s=HUNG_S)
def guardian_hangs(stage: Stage) -> None:
    """SIGSTOP; its own watchdog ends it."""
    before = _pid(stage, "mmpi-guardian")
    stage.rig.signal("mmpi-guardian", "STOP")
    at = stage.timeline.trouble("the guardian hangs")
    stage.zero_within(at, HUNG_S)
    stage.wait(lambda: _pid(stage, "mmpi-guardian") not in (0, before), WATCHDOG_S + 5, "another guardian")
    stage.quoting(60)


def _goes_on(stage: Stage, unit: str) -> None:
    """Kill a service that trading does not need, keep it down, and see that the quoter never stops."""
    quoter = _pid(stage, "mmpi-quoter")
    stage.rig.shell(f"systemctl stop --no-block {unit}; systemctl kill --signal=KILL {unit}")
    stage.timeline.trouble(f"{unit} is gone")
    stage.stay(lambda: stage.live() > 0, 6, f"quotes went without {unit}")
    stage.rig.shell(f"systemctl start --no-block {unit}")
    stage.stay(lambda: stage.live() > 0, 4, f"quotes went when {unit} came back")
    if _pid(stage, "mmpi-quoter") != quoter:
        raise AssertionError("the quoter was begun anew")


@scenario("telemetry's death changes nothing for trading", PROCESSES)
def telemetry_dies(stage: Stage) -> None:
    """SIGKILL, and down for some seconds."""
    _goes_on(stage, "mmpi-telemetry")


@scenario("the broker's death changes nothing for trading", PROCESSES)
def broker_gone(stage: Stage) -> None:
    """SIGKILL, and down for some seconds."""
    _goes_on(stage, "mmpi-broker")
