"""mmpi.device.front_panel: buttons, lamps and troubles as the guardian sees them. Time is made up, the chip is too."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from panel_builders import WIRED, Bench

from mmpi.causes import CAUSES, latches
from mmpi.device import front_panel
from mmpi.device.contacts import CUT, OPEN
from mmpi.device.front_panel import PATIENCE, FrontPanel
from mmpi.device.panel_lines import PanelConfig, PanelLines
from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Nanos

ONE_CONTACT = msgspec.structs.replace(WIRED, kill_second=-1)
ONE_BUTTON = msgspec.structs.replace(ONE_CONTACT, arm=-1)


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return once a thread has done what it had to; fail after this long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Box:
    """A panel that is looked at every 20 ms of a time that is made up."""

    def __init__(self, config: PanelConfig, bench: Bench) -> None:
        self.bench, self.now = bench, time.monotonic_ns()
        self.panel = FrontPanel(config, bench.open)
        self.asked: list[str] = []
        self.sign = "latched"

    def opened(self) -> "Box":
        """Return it with its lines open."""
        self.panel.open()
        wait_for(lambda: self.panel._lines is not None)
        return self

    def look(self) -> dict[str, str]:
        """Return the causes, and do what the guardian does after it."""
        causes = self.panel.present(self.now)
        self.asked += filter(None, [self.panel.wants_arming(self.now)])
        self.panel.show(self.sign, self.now)
        return causes

    def go(self, seconds: float) -> dict[str, str]:
        """Return the causes this much later."""
        for _ in range(round(seconds * 50)):
            self.now += 20 * MILLISECOND
            causes = self.look()
        return causes


@pytest.fixture
def bench() -> Bench:
    """Return a bench with a healthy chip."""
    return Bench()


@pytest.fixture
def make(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[PanelConfig], Box]]:
    """Return what makes boxes on the bench; they are closed at the end."""
    monkeypatch.setattr(front_panel, "RETRY_S", 0.001)
    monkeypatch.setattr(front_panel, "RETRY_LATER_S", 0.001)
    boxes: list[Box] = []

    def one(config: PanelConfig) -> Box:
        boxes.append(Box(config, bench))
        return boxes[-1]

    yield one
    for box in boxes:
        box.panel.close()
    wait_for(lambda: not any(thread.name in ("pins", "lights") for thread in threading.enumerate()))


Make = Callable[[PanelConfig], Box]


# Contacts ---------------------------------------------------------------------------------------------------------


def test_a_healthy_box_has_no_cause(make: Make) -> None:
    """Closed, its second contact open, nobody at the arm button."""
    box = make(WIRED).opened()
    assert box.go(2) == {}
    assert (box.asked, box.panel.problems) == ([], ())


def test_the_kill_button(make: Make) -> None:
    """Pressed: the cause is there at the second look, and gone 250 ms after it was let go."""
    box = make(WIRED).opened()
    box.go(1)
    box.bench.chip.press(closed=[6], opened=[5])
    box.look()
    assert box.go(0.02) == {"kill_button": OPEN}
    box.go(5)
    box.bench.chip.press(closed=[5], opened=[6])
    assert list(box.go(0.2)) == ["kill_button"]
    assert box.go(0.1) == {}


def test_a_cut_wire_is_told_from_a_press(make: Make) -> None:
    """With a second contact it is said that no hand did it."""
    box = make(WIRED).opened()
    box.go(1)
    box.bench.chip.press(opened=[5])
    assert box.go(0.5) == {"kill_button": OPEN, "kill_contacts": CUT}


def test_a_storm_of_edges(make: Make) -> None:
    """10000 edges in a second, though every sample reads closed; one look takes them all."""
    box = make(ONE_CONTACT).opened()
    box.go(1)
    for _ in range(50):
        box.bench.chip.edges[5] = 200
        causes = box.go(0.02)
    assert list(causes) == ["kill_bounce"]


def test_every_cause_is_in_the_table(make: Make) -> None:
    """What the panel can say latches by the table; before the lines are open it pauses."""
    box = make(WIRED)
    assert list(box.look()) == ["guardian_starting"]
    names = {"kill_button", "kill_contacts", "kill_bounce", "pins"}
    assert names <= CAUSES.keys()
    assert all(latches(name) for name in names) and not latches("guardian_starting")


def test_a_contact_that_was_seen_once_is_not_trusted(make: Make) -> None:
    """A button that is down when the pins open is never taken for healthy: starting, then pressed, nothing between."""
    box = make(WIRED)
    box.bench.chip.driven.pop(5)
    box.opened()
    assert list(box.look()) == ["guardian_starting"]
    assert list(box.go(0.02)) == ["kill_button"]


# Arming -----------------------------------------------------------------------------------------------------------


def test_holding_the_arm_button(make: Make) -> None:
    """3 s, once; the lamps say that it counts."""
    box = make(WIRED).opened()
    box.go(1)
    box.bench.chip.press(closed=[13])
    box.go(2.9)
    assert box.asked == []
    wait_for(lambda: box.bench.chip.outputs[27] == 1)
    box.go(5)
    assert box.asked == ["arm button held 3 s"]
    box.bench.chip.press(opened=[13])
    box.go(1)
    assert box.asked == ["arm button held 3 s"]


def test_an_arm_button_that_is_stuck_is_a_problem_and_no_cause(make: Make) -> None:
    """Its wire shorted from the start: never armed, never paused, but said."""
    bench_box = make(WIRED)
    bench_box.bench.chip.driven[13] = 0
    box = bench_box.opened()
    assert box.go(11) == {}
    assert box.asked == []
    said = "the arm button has read pressed for more than 10 s: it is stuck, or its wire is shorted"
    assert box.panel.problems == (said,)


def test_a_box_with_one_button(make: Make) -> None:
    """Latched and proven, pressed for 6 s and let go: asked once, after its own cause is over."""
    box = make(ONE_BUTTON).opened()
    box.go(1)
    box.bench.chip.press(opened=[5])
    box.go(6)
    assert (list(box.go(0.02)), box.asked) == (["kill_button"], [])
    box.bench.chip.press(closed=[5])
    causes: dict[str, str] = {"kill_button": ""}
    end = box.now + 5 * SECOND
    while not box.asked and box.now < end:
        causes = box.go(0.02)
    assert (box.asked, causes) == (["kill button held 5 s and let go"], {})


def test_a_panic_press_on_a_box_with_one_button(make: Make) -> None:
    """A box that quotes, pressed for 8 s: it stays latched when the hand lets go."""
    box = make(ONE_BUTTON).opened()
    box.sign = "quoting"
    box.go(1)
    box.bench.chip.press(opened=[5])
    box.go(0.1)
    box.sign = "stopping"
    box.go(3)
    box.sign = "latched"
    box.go(5)
    box.bench.chip.press(closed=[5])
    box.go(5)
    assert box.asked == []


# Lamps ------------------------------------------------------------------------------------------------------------


def test_the_lamps_show_the_sign(make: Make) -> None:
    """Green while it quotes, red and a beep when it is stopped for certain; at the end all are dark, lines given up."""
    box = make(WIRED).opened()
    box.panel.show("quoting", time.monotonic_ns())
    wait_for(lambda: [box.bench.chip.outputs[line] for line in (17, 27, 22, 12)] == [1, 0, 0, 0])
    box.panel.show("latched", time.monotonic_ns())
    wait_for(lambda: [box.bench.chip.outputs[line] for line in (17, 27, 22, 12)] == [0, 0, 1, 1])
    box.panel.close()
    assert (box.bench.chip.outputs, box.bench.chip.closed) == ({}, 1)


def test_a_lamp_that_fails_is_a_problem_and_no_cause(make: Make) -> None:
    """It cannot be seen, but the button works: told in status, the other lamps go on."""
    box = make(WIRED).opened()
    box.bench.chip.broken[17] = "burnt"
    box.panel.show("degraded", time.monotonic_ns())
    wait_for(lambda: box.bench.chip.outputs[27] == 1 and box.panel.problems)
    assert box.panel.problems == ("lamps: pins.green: chip: line 17 burnt",)
    assert box.go(0.1) == {}


# Troubles ---------------------------------------------------------------------------------------------------------


def test_a_chip_that_is_not_there(make: Make) -> None:
    """For 10 s the guardian is starting, then it is a cause that latches; when the chip comes it is over."""
    box = make(WIRED)
    box.bench.trouble = "/dev/gpiochip0: no such chip"
    box.panel.open()
    wait_for(lambda: box.bench.opened > 2)
    assert box.look() == {"guardian_starting": "the pins are not open yet: /dev/gpiochip0: no such chip"}
    assert list(box.go(PATIENCE / SECOND - 0.1)) == ["guardian_starting"]
    assert box.go(0.2) == {"pins": "/dev/gpiochip0: no such chip"}
    box.bench.trouble = ""
    wait_for(lambda: box.panel._lines is not None)
    assert box.go(0.1) == {}


def test_a_line_that_is_in_use(make: Make) -> None:
    """The setting is named, and what was opened before it is given up."""
    box = make(WIRED)
    box.bench.chip.broken[22] = "is used by spi0"
    box.panel.open()
    wait_for(lambda: box.bench.opened > 1)
    box.look()
    assert box.go(11) == {"pins": "pins.red = 22: chip: line 22 is used by spi0"}
    assert box.bench.chip.closed >= 1


def test_two_settings_for_one_line(bench: Bench) -> None:
    """gpiozero's own refusal is told as ours."""
    config = msgspec.structs.replace(WIRED, arm=5)
    with pytest.raises(DeviceError, match=r"pins\.arm = 5: .*in use"):
        bench.open(config)


def test_a_line_that_fails_later_latches_at_once_and_comes_back(make: Make) -> None:
    """Unplugged while it runs: the cause at the same look; open again, the contact is judged from nothing."""
    box = make(WIRED).opened()
    assert box.go(1) == {}
    box.bench.trouble = "gone"
    box.bench.chip.broken[5] = "does not answer"
    assert box.look() == {"pins": "pins.kill: chip: line 5 does not answer"}
    assert box.panel.power_level is None
    wait_for(lambda: box.bench.opened > 3)
    assert box.look() == {"pins": "gone"}
    box.bench.chip = type(box.bench.chip)()
    box.bench.trouble = ""
    wait_for(lambda: box.panel._lines is not None)
    box.look()
    assert list(box.go(0.04)) == ["kill_button"], "nothing closes it now"


def test_a_holding_does_not_outlive_the_chip(make: Make) -> None:
    """2 s before the chip failed and 2 s after are no 3 s."""
    box = make(WIRED).opened()
    box.go(1)
    box.bench.chip.press(closed=[13])
    box.go(2)
    box.bench.chip.broken[6] = "does not answer"
    assert list(box.look()) == ["pins"]
    box.bench.chip.broken.clear()
    wait_for(lambda: box.panel._lines is not None)
    box.go(2)
    assert box.asked == []


def test_no_panel() -> None:
    """pins.backend = none: no thread, no cause, no lamp, no problem."""
    panel = FrontPanel(PanelConfig())
    panel.open()
    assert (panel.present(SECOND), panel.wants_arming(SECOND), panel.problems) == ({}, "", ())
    panel.show("quoting", SECOND)
    panel.close()
    assert not any(thread.name in ("pins", "lights") for thread in threading.enumerate())


def test_an_unwired_kill_button_is_said(make: Make) -> None:
    """A panel of lamps alone stops nothing."""
    box = make(msgspec.structs.replace(WIRED, kill=-1, kill_second=-1)).opened()
    assert box.go(1) == {}
    assert box.panel.problems == ("no kill button is wired (pins.kill = -1)",)


def test_the_supply_is_read_with_the_rest(make: Make) -> None:
    """Its level at each look; its resistor pulls to where a cut wire says that the mains failed."""
    box = make(WIRED).opened()
    box.look()
    assert box.panel.power_level == 0
    box.bench.chip.driven[26] = 1
    box.look()
    assert box.panel.power_level == 1
    other = make(msgspec.structs.replace(WIRED, power_fail_level="high"))
    other.bench.chip.driven.pop(26)
    other.opened().look()
    assert other.panel.power_level == 1


def test_a_chip_hears_of_us_once_a_poll(make: Make) -> None:
    """Looks in between do not count: a storm would be shown again at each of them."""
    box = make(WIRED).opened()
    for _ in range(100):
        box.now += 5 * MILLISECOND
        box.look()
    assert 24 <= len(box.bench.chip.beats) <= 26


# Waking -----------------------------------------------------------------------------------------------------------


async def test_an_edge_wakes_the_loop(make: Make) -> None:
    """Without a poll: an edge is looked into at once, and again 5 ms later, which trips."""
    box = make(ONE_CONTACT)
    ready, tell = os.pipe()
    chip, seen = box.bench.chip, []
    chip.edges_fd = ready

    def look() -> None:
        causes = box.panel.present(time.monotonic_ns())
        if chip.edges_fd is not None and chip.driven.get(5) is None and not seen:
            os.read(ready, 1)
        seen.append((time.monotonic_ns(), causes))

    box.panel.open(look)
    wait_for(lambda: box.panel._lines is not None)
    box.panel.present(time.monotonic_ns())
    await asyncio.sleep(0.03)
    del seen[:]
    chip.press(opened=[5])
    pressed: Nanos = time.monotonic_ns()
    os.write(tell, b"!")
    async with asyncio.timeout(5):
        while not (seen and seen[-1][1]):
            await asyncio.sleep(0)
    assert seen[-1][1] == {"kill_button": OPEN}
    assert seen[-1][0] - pressed >= 5 * MILLISECOND
    assert len(seen) == 2
    box.panel.close()
    os.close(ready)
    os.close(tell)


# The virtual chip, as it ships ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_virtual_panel_in_real_time(tmp_path: Path) -> None:
    """A hand in another mapping of the file: press, cut, lamps, a file that is taken away, and dark at the end."""
    path = tmp_path / "pins"
    hand = VirtualPanel.create(path, closed=[5])
    config = PanelConfig(backend="virtual", virtual=str(path))
    panel = FrontPanel(config)
    panel.open()
    wait_for(lambda: panel._lines is not None)

    def polled(seconds: float, until: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        end, causes = time.monotonic() + seconds, panel.present(time.monotonic_ns())
        while not until(causes) and time.monotonic() < end:
            time.sleep(0.02)
            causes = panel.present(time.monotonic_ns())
            panel.show("latched" if causes else "quoting", time.monotonic_ns())
        return causes

    assert polled(0.5, lambda causes: bool(causes) and "guardian_starting" not in causes) == {}
    assert hand.output(17) == 1
    hand.release(5)
    pressed = time.monotonic()
    assert polled(1, bool) == {"kill_button": OPEN}
    assert time.monotonic() - pressed < 0.2
    wait_for(lambda: hand.output(22) == 1)
    with pytest.raises(DeviceError, match="in use by another process"):
        PanelLines.open(config)
    path.unlink()
    assert list(polled(1, lambda causes: "pins" in causes)) == ["pins"]
    panel.close()
    assert hand.output(17) is None


def test_a_wire_that_moves_wakes_the_guardian_twice(tmp_path: Path) -> None:
    """At the move and at the look after it: two looks decide, and the guardian alone would be slow to look again."""
    hand = VirtualPanel.create(tmp_path / "pins", closed=[5])
    hand.drive(26, 1)
    panel = FrontPanel(PanelConfig(backend="virtual", virtual=str(tmp_path / "pins"), power=26))
    woken: list[int] = []

    async def run() -> int:
        panel.open(lambda: woken.append(time.monotonic_ns()))
        while panel._lines is None:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        before = len(woken)
        await asyncio.sleep(0.2)
        assert len(woken) == before  # a quiet panel wakes nobody
        hand.drive(26, 0)
        await asyncio.sleep(0.3)
        return len(woken) - before

    try:
        assert asyncio.run(run()) == 2
    finally:
        panel.close()


@pytest.mark.slow
def test_a_storm_in_real_time(tmp_path: Path) -> None:
    """Thousands of edges for a second on a contact that is mostly closed: latched in 0.2 s, over when it is quiet."""
    hand = VirtualPanel.create(tmp_path / "pins", closed=[5])
    panel = FrontPanel(PanelConfig(backend="virtual", virtual=str(tmp_path / "pins")))
    panel.open()
    wait_for(lambda: panel._lines is not None)
    edges = 0

    def shake() -> None:
        nonlocal edges
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for _ in range(10):
                hand.drive(5, 1)
                hand.drive(5, 0)
            edges += 20
            time.sleep(0.002)

    assert list(panel.present(time.monotonic_ns())) == ["guardian_starting"]
    for _ in range(10):
        time.sleep(0.02)
        assert panel.present(time.monotonic_ns()) == {}
    shaking, begun = threading.Thread(target=shake), time.monotonic()
    shaking.start()
    wait_for(lambda: panel.present(time.monotonic_ns()))
    assert time.monotonic() - begun < 0.2
    assert "kill_bounce" in panel.present(time.monotonic_ns())
    shaking.join()
    assert edges > 2000
    quiet = time.monotonic()
    while panel.present(time.monotonic_ns()):
        assert time.monotonic() - quiet < 5
        time.sleep(0.02)
    assert time.monotonic() - quiet > 0.25
    panel.close()
