"""Scenarios of the box's own processes: each hangs or dies in its turn."""

from collections.abc import Callable

from hil.rig import NUMB, PROCESSES
from hil.scenarios import scenario
from hil.stage import NothingShownError, PromiseBrokenError, Stage

HUNG_S = 2.5
"""The guardian waits 1 s for a sign of life."""
WATCHDOG_S = 14.0
"""The service watchdog, and SIGKILL after it."""


def _pid(stage: Stage, unit: str) -> int:
    return int(stage.rig.shell(f"systemctl show --value -p MainPID {unit}")[1] or "0")


def _keep_down(stage: Stage, unit: str) -> None:
    """End a service without a word, and have systemd not begin it anew."""
    code, said = stage.rig.shell(f"systemctl kill --signal=KILL {unit} && systemctl stop --no-block {unit}")
    if code != 0:
        raise NothingShownError(f"{unit} is not stopped: {said}")


def _found_out(stage: Stage, unit: str, trouble: Callable[[], None], what: str) -> None:
    """See that no order is left soon after the trouble, that a watchdog ends the unit, and that the next one quotes."""
    before = _pid(stage, unit)
    at = stage.befall(what, trouble)
    if _pid(stage, unit) != before:
        raise NothingShownError(f"{unit} has ended")
    stage.zero_within(at, HUNG_S)
    stage.wait(lambda: _pid(stage, unit) not in (0, before), WATCHDOG_S + 5, f"another {unit}")
    stage.timeline.note(f"another {unit}")
    stage.quoting(60)


@scenario("a quoter that hangs has no order after a moment, and is begun anew", PROCESSES, limit_s=HUNG_S)
def quoter_hangs(stage: Stage) -> None:
    """SIGSTOP: the guardian cancels, the service watchdog ends it, and the next one quotes."""
    _found_out(stage, "mmpi-quoter", lambda: stage.rig.signal("mmpi-quoter", "STOP"), "the quoter hangs")


@scenario("a quoter that turns and handles nothing is one that hangs", NUMB, limit_s=HUNG_S)
def quoter_turns_idle(stage: Stage) -> None:
    """Its loop goes on, so that whatever merely turns with it looks alive; no event is handled any more."""
    _found_out(stage, "mmpi-quoter", lambda: stage.rig.numb("mmpi-quoter"), "the quoter handles nothing any more")


@scenario("a quoter that dies leaves no order, and no fill is lost", PROCESSES, limit_s=HUNG_S)
def quoter_dies(stage: Stage) -> None:
    """SIGKILL."""
    stage.filled()
    at = stage.befall("the quoter is killed", lambda: stage.rig.signal("mmpi-quoter", "KILL"))
    stage.zero_within(at, HUNG_S)
    stage.quoting(60)


@scenario("nothing is quoted without a guardian", PROCESSES, limit_s=HUNG_S)
def guardian_dies(stage: Stage) -> None:
    """SIGKILL, and it is kept down for a while: the quoter pulls its orders by itself."""
    at = stage.befall("the guardian is killed", lambda: _keep_down(stage, "mmpi-guardian"))
    stage.zero_within(at, HUNG_S)
    stage.stay(lambda: stage.live() == 0, 4, "an order without a guardian")
    stage.rig.shell("systemctl start mmpi-guardian")
    stage.timeline.note("another guardian")
    stage.quoting(60)


@scenario("nothing is quoted beside a guardian that hangs", PROCESSES, limit_s=HUNG_S)
def guardian_hangs(stage: Stage) -> None:
    """SIGSTOP; its own watchdog ends it."""
    _found_out(stage, "mmpi-guardian", lambda: stage.rig.signal("mmpi-guardian", "STOP"), "the guardian hangs")


def _goes_on(stage: Stage, unit: str) -> None:
    """Kill a service that trading does not need, keep it down, and see that the quoter never stops."""
    quoter = _pid(stage, "mmpi-quoter")
    stage.wait(lambda: _pid(stage, unit), 30, f"{unit} that runs")
    stage.befall(f"{unit} is gone", lambda: _keep_down(stage, unit))
    stage.stay(lambda: stage.live() > 0, 6, f"quotes went without {unit}")
    if _pid(stage, unit):
        raise NothingShownError(f"{unit} was not gone")
    stage.rig.shell(f"systemctl start --no-block {unit}")
    stage.stay(lambda: stage.live() > 0, 4, f"quotes went when {unit} came back")
    stage.wait(lambda: _pid(stage, unit), 30, f"{unit} that is back")
    if _pid(stage, "mmpi-quoter") != quoter:
        raise PromiseBrokenError("the quoter was begun anew")


@scenario("telemetry's death changes nothing for trading", PROCESSES)
def telemetry_dies(stage: Stage) -> None:
    """SIGKILL, and down for some seconds."""
    _goes_on(stage, "mmpi-telemetry")


@scenario("the broker's death changes nothing for trading", PROCESSES)
def broker_gone(stage: Stage) -> None:
    """SIGKILL, and down for some seconds."""
    _goes_on(stage, "mmpi-broker")
