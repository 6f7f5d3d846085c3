"""Scenarios of the card's set-up folder: what is in it is wrong, and is put right."""

from hil.rig import POWER, SETUP
from hil.scenarios import scenario
from hil.scenarios.power import CUT_S
from hil.stage import PromiseBrokenError, Stage

FILE = "/boot/firmware/mmpi-setup/mmpi.toml"
KEPT = "/run/good.toml"
IN_FORCE = "readlink /data/settings; sha256sum /data/settings/mmpi/mmpi.toml"
MISTAKES = {"risk.max_ordr": "s/^max_order = .*/max_ordr = 200/", "levels": "s/^levels = .*/levels = -2/"}
"""What is named as wrong, and how it came to that."""
PAUSE_S = 4.0
"""After a set-up; the guardian looks at its result every 2 s."""


def _card(line: str) -> str:
    """Return the line that does this to the card, as a computer does that the card is put into."""
    return f"mount -o remount,rw /boot/firmware && {line}; mount -o remount,ro /boot/firmware"


def _do(stage: Stage, line: str) -> str:
    code, said = stage.rig.shell(line)
    if code != 0:
        raise AssertionError(f"{line}: {said}")
    return said


def _refused(stage: Stage, word: str, before: str) -> None:
    """See the pause and its reason, that nothing is placed, and that what was in force still is."""
    stage.wait(lambda: "setup" in stage.causes(), 10, "the cause setup")
    if word not in (told := _do(stage, "cat /run/mmpi-box/setup.json")):
        raise PromiseBrokenError(f"{word} is not named: {told}")
    stage.stay(lambda: not stage.live(), 5, "an order with a folder that is wrong")
    if (now := _do(stage, IN_FORCE)) != before:
        raise PromiseBrokenError(f"in force was {before}, and is {now}")


def _find(stage: Stage) -> None:
    if stage.rig.shell("systemctl restart mmpi-setup")[0] == 0:
        raise PromiseBrokenError("the set-up finds nothing wrong")


def _mend(stage: Stage) -> None:
    _do(stage, _card(f"cp {KEPT} {FILE}"))
    _do(stage, "systemctl restart mmpi-setup")
    stage.timeline.note("the file is right again")
    stage.quoting(60)


@scenario("a set-up file with a mistake pauses, and changes nothing", SETUP, limit_s=PAUSE_S)
def setup_mistakes(stage: Stage) -> None:
    """A key that there is not, and a value that is not allowed; each is mended."""
    before = _do(stage, IN_FORCE)
    _do(stage, f"cp {FILE} {KEPT}")
    for word, edit in MISTAKES.items():
        _do(stage, _card(f"sed -i '{edit}' {FILE}"))
        at = stage.befall(f"{word} is wrong in the set-up file", lambda: _find(stage))
        stage.zero_within(at, PAUSE_S)
        _refused(stage, word, before)
        _mend(stage)


@scenario("a box that comes up with a wrong set-up file places nothing until it is right", SETUP, POWER, limit_s=CUT_S)
def setup_mistake_at_power_on(stage: Stage) -> None:
    """The file is edited, and the power cut; the folder is looked at before anything of ours starts."""
    before = _do(stage, IN_FORCE)
    _do(stage, f"cp {FILE} /data/good.toml && sync")
    _do(stage, _card(f"sed -i '{MISTAKES['risk.max_ordr']}' {FILE} && sync"))
    at = stage.timeline.trouble("the power is cut")
    stage.rig.cut_power()
    stage.zero_within(at, CUT_S)
    placed = len(stage.venue.placed())
    stage.rig.power_on()
    stage.timeline.note("the power is back, with a wrong file")
    _refused(stage, "risk.max_ordr", before)
    if len(stage.venue.placed()) != placed:
        raise PromiseBrokenError("an order was placed with a folder that is wrong")
    _do(stage, f"mv /data/good.toml {KEPT}")
    _mend(stage)
