"""The guardian's box against the practice server: real processes, real sockets, virtual pins driven from outside."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stack import OrderWatch, Stack, rss_mb

from mmpi.device.latch import Latch
from mmpi.device.virtual_pins import VirtualPanel

pytestmark = pytest.mark.slow

KILL, SECOND, ARM, POWER = 5, 26, 13, 6
GREEN, AMBER, RED = 17, 27, 22
PINS = {
    "MMPI_PINS__BACKEND": "virtual",
    "MMPI_PINS__KILL_SECOND": str(SECOND),
    "MMPI_PINS__POWER": str(POWER),
    "MMPI_POWER__SOURCE": "pin",
    "MMPI_POWER__HOLD_OFF_S": "3",
    "MMPI_POWER__GOOD_S": "1",
}
PRESS_MS = 25 + 20 + 100
"""Two samples of a contact, a look, and the guardian's way to its socket, on a machine that does other things."""


class Box:
    """A stack with a panel."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.panel = VirtualPanel.create(stack.runtime / "pins", closed=(KILL,))
        self.panel.drive(POWER, 1)

    def press(self) -> int:
        """Open the normally-closed contact and close the other; return when."""
        at = time.monotonic_ns()
        self.panel.release(KILL)
        self.panel.drive(SECOND, 0)
        return at

    def let_go(self) -> None:
        """Let the red button go."""
        self.panel.release(SECOND)
        self.panel.drive(KILL, 0)

    def hold_arm(self, seconds: float) -> None:
        """Hold the arm button."""
        self.panel.drive(ARM, 0)
        time.sleep(seconds)
        self.panel.release(ARM)

    def seen(self, seconds: float) -> dict[int, list[tuple[float, int]]]:
        """Return each lamp's changes over a while: (seconds since the first look, level)."""
        began, changes = time.monotonic(), {line: [] for line in (GREEN, AMBER, RED)}
        last: dict[int, int | None] = {}
        while (at := time.monotonic() - began) < seconds:
            for line, kept in changes.items():
                level = self.panel.output(line)
                if level is not None and level != last.get(line):
                    last[line] = level
                    kept.append((at, level))
            time.sleep(0.004)
        return changes

    def quoting(self) -> None:
        """Arm by hand, as a person does, and wait until it quotes."""
        stack = self.stack
        if stack.status()["latch"] == "latched":
            stack.wait(lambda: stack.status()["sign"] == "latched", 15, "the proof of zero")
            stack.wait(lambda: stack.status()["box"]["panel"] == [], 5, "a panel without problems")
            self.hold_arm(3.4)
        stack.wait(lambda: stack.status()["latch"] == "armed", 5, "the arming")
        if not hasattr(stack, "quoter") or not stack.quoter.runs:
            stack.start_quoter()
        stack.wait_quoting(30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Give one box with pins for all tests of this file; it was never armed before."""
    with Stack(tmp_path_factory.mktemp("pins"), latency_ms=40, more=PINS) as stack:
        box = Box(stack)
        stack.start_server()
        stack.start_guardian()
        yield box


@pytest.fixture
def box(made: Box) -> Box:
    """Give it quoting, every contact healthy."""
    made.let_go()
    made.panel.drive(POWER, 1)
    if not made.stack.guardian.runs:
        made.stack.start_guardian()
    made.quoting()
    return made


def test_a_box_that_was_never_armed_waits_for_hands(made: Box) -> None:
    """Only the button arms a box with a button: `mmpi arm` is refused, 2 s are too short, 3 s do it."""
    stack = made.stack
    stack.wait(lambda: stack.status()["sign"] == "latched", 15, "the proof of zero")
    refused = stack.mmpi("arm")
    assert refused.returncode == 3 and "hold the button at the box" in refused.stderr
    made.hold_arm(2.0)
    time.sleep(0.3)
    assert stack.status()["latch"] == "latched"
    made.hold_arm(3.4)
    stack.wait(lambda: stack.status()["latch"] == "armed", 3, "the arming")
    assert Latch(stack.state / "latch.json").load().by == "arm button held 3 s"


def test_the_red_button(box: Box) -> None:
    """Pressed at the pins: first zero in time, verified, latched on disk; red lamp; armed by hand it quotes again."""
    stack = box.stack
    with OrderWatch(stack.port) as watch:
        time.sleep(0.2)
        at = box.press()
        stack.wait(lambda: stack.status()["sign"] == "latched", 10, "the proof of zero")
        lamps = box.seen(2.2)
        time.sleep(0.5)
    assert 0 < (watch.first_zero(at) - at) / 1e6 <= PRESS_MS + stack.round_trips_ms + 210
    assert watch.last_live(at) <= at + 3_300_000_000
    assert not any(level for _, level in lamps[GREEN][1:]) and len(lamps[RED]) >= 3
    stored = Latch(stack.state / "latch.json").load()
    assert (stored.latched, stored.reason.split(":")[0]) == (True, "kill_button")
    box.hold_arm(3.4)
    time.sleep(0.2)
    assert stack.status()["latch"] == "latched", "the contact is still open"
    box.let_go()


def test_a_short_press_counts(box: Box) -> None:
    """50 ms are a press."""
    at = box.press()
    time.sleep(0.05)
    box.let_go()
    box.stack.wait(lambda: box.stack.status()["latch"] == "latched", 2, "the latch")
    assert time.monotonic_ns() > at


@pytest.mark.parametrize(
    ("wires", "cause"),
    [
        (lambda box: box.panel.release(KILL), "kill_button"),
        (lambda box: box.panel.drive(SECOND, 0), "kill_contacts"),
    ],
)
def test_wires(box: Box, wires: Callable[[Box], None], cause: str) -> None:
    """A wire of the first contact that is cut, or contacts that contradict each other, latch, and say which."""
    wires(box)
    stack = box.stack
    stack.wait(lambda: stack.status()["latch"] == "latched", 2, "the latch")
    assert stack.status()["reason"].split(":")[0] in (cause, "kill_contacts")
    assert stack.status()["causes"]
    stack.wait(lambda: stack.orders() == [], 3, "zero orders")


def test_a_bounce_storm(box: Box) -> None:
    """A contact that bounces at some kHz for a second latches, and costs the guardian no beat."""
    stack = box.stack
    quoted = stack.status()["errors"]
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        box.panel.release(KILL)
        time.sleep(0.00005)
        box.panel.drive(KILL, 0)
        time.sleep(0.00005)
    stack.wait(lambda: stack.status()["latch"] == "latched", 2, "the latch")
    assert stack.status()["errors"] == quoted and stack.guardian.runs


def test_the_power_fails_and_comes_back(box: Box) -> None:
    """Mains gone: cancelled within a moment, the journal saved, a pause without a latch that ends by itself."""
    stack = box.stack
    with OrderWatch(stack.port) as watch:
        time.sleep(0.2)
        at = time.monotonic_ns()
        box.panel.drive(POWER, 0)
        stack.wait(lambda: stack.status()["state"] == "paused", 2, "the pause")
        stack.wait(lambda: stack.status()["box"]["power"]["rescued"], 3, "the saved journal")
        stack.wait(lambda: watch.first_zero(at), 5, "zero orders")
    first_zero_ms = (watch.first_zero(at) - at) / 1e6
    assert 0 < first_zero_ms <= 45 + 100 + stack.round_trips_ms + 210
    power = stack.status()["box"]["power"]
    print(f"first zero {first_zero_ms:.0f} ms after the mains failed; {power['saved']}")
    verified = stack.mmpi("journal", "verify", power["rescued"])
    assert verified.returncode == 0, verified.stderr
    box.panel.drive(POWER, 1)
    stack.wait(lambda: stack.status()["state"] == "run", 15, "the end of the pause")
    assert Latch(stack.state / "latch.json").load().latched is False
    stack.wait_quoting(15)
    assert not (stack.runtime / "poweroff").exists()


def test_the_power_stays_away(box: Box) -> None:
    """At the end of the hold-off, and not before, a clean shutdown is asked for, once."""
    stack = box.stack
    at = time.monotonic()
    box.panel.drive(POWER, 0)
    stack.wait((stack.runtime / "poweroff").exists, 5, "the request to turn off")
    assert 2.9 <= time.monotonic() - at <= 4
    (stack.runtime / "poweroff").unlink()
    time.sleep(0.5)
    assert not (stack.runtime / "poweroff").exists()
    box.panel.drive(POWER, 1)
    stack.wait_quoting(20)


def test_pause_and_resume_by_command(box: Box) -> None:
    """`mmpi pause` ends with zero verified and survives the guardian's death; `mmpi resume` ends it."""
    stack = box.stack
    paused = stack.mmpi("pause", "--json", "--reason", "tea")
    assert paused.returncode == 0 and json.loads(paused.stdout)["verified"] is True, paused.stderr
    assert stack.orders() == []
    stack.guardian.send(9)
    stack.guardian.wait(5)
    stack.start_guardian()
    stack.wait(lambda: stack.status()["verified_zero"], 10, "the proof of zero")
    time.sleep(1.5)
    assert (stack.status()["state"], "by_hand" in stack.status()["causes"]) == ("paused", True)
    assert stack.mmpi("resume").returncode == 0
    stack.wait_quoting(20)


def test_reload_takes_what_is_right_and_nothing_else(box: Box, tmp_path: Path) -> None:
    """A wrong file changes nothing and is named; a right one is taken by both processes, which keep their numbers."""
    stack = box.stack
    pids = stack.guardian.pid, stack.quoter.pid
    refused = stack.mmpi("reload", "--config", str(tmp_path / "nothing.toml"))
    assert refused.returncode == 2 and "no such file" in refused.stderr
    done = stack.mmpi("reload", "--json")
    assert done.returncode == 0, done.stderr
    stack.wait(lambda: stack.status()["state"] == "run", 20, "the guardian to let it run")
    stack.wait_quoting(20)
    assert (stack.guardian.pid, stack.quoter.pid) == pids
    assert stack.guardian.runs and stack.quoter.runs


def test_a_press_while_it_reloads(box: Box) -> None:
    """A latching button pressed at any moment of a reload ends latched, and nothing is live after that."""
    stack = box.stack
    for moment in (0.05, 1.1, 2.4):
        box.let_go()
        box.quoting()
        with OrderWatch(stack.port) as watch:
            reloading = stack.begin("reload", "reload", "--json")
            time.sleep(moment)
            box.press()
            reloading.wait(40)
            stack.wait(lambda: stack.status()["sign"] == "latched", 15, "the proof of zero")
            proven = time.monotonic_ns()
            time.sleep(1.0)
        assert watch.last_live(proven) == 0, moment


def test_the_lamp_of_a_quoting_box_moves_and_a_frozen_guardian_shows(box: Box) -> None:
    """Green moves at least every 2 s while it quotes; of a guardian that is frozen or dead nothing moves."""
    lamps = box.seen(4.5)
    assert len(lamps[GREEN]) >= 4
    box.stack.guardian.send(19)
    try:
        time.sleep(0.1)
        assert all(len(changes) <= 1 for changes in box.seen(2.5).values())
    finally:
        box.stack.guardian.send(18)
    box.stack.wait_quoting(20)


def test_memory_and_idle_time(box: Box) -> None:
    """With pins, host figures and lamps the guardian stays below 45 MB."""
    rss = rss_mb(box.stack.guardian.pid)
    print(f"guardian with virtual pins: {rss:.1f} MB")
    assert rss <= 45
