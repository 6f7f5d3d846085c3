"""mmpi.device.inspection: each wiring mistake is named, and nothing else is. A made-up hand wires a chip in memory."""

from collections.abc import Callable

import msgspec
import pytest
from panel_builders import WIRED, Bench

from mmpi.device.arm_button import HOLD
from mmpi.device.header import PINS, place
from mmpi.device.inspection import PATIENCE, Inspection, Verdict
from mmpi.device.panel_lines import PanelConfig
from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

REST = {"kill": True, "kill_second": False, "arm": False}
BUTTONS = {"kill": "kill", "kill_second": "kill", "arm": "arm"}


class Hand:
    """Wires the box, rightly but for what a test changes, and does as it is told."""

    def __init__(self, config: PanelConfig) -> None:
        self.config, self.bench, self.now = config, Bench(), 50 * SECOND
        self.wires = {name: config.line(name) for name in ("green", "amber", "red", "buzzer", *REST)}
        """What is wired -> the line that it is really on; -1 = on none."""
        self.always: dict[str, bool] = {}
        """Contacts that are closed (True) or open (False) whatever the hand does."""
        self.turned: set[str] = set()
        """Contacts of the other kind: normally open for closed, and the other way round."""
        self.lit: set[str] = set()
        """Lamps that are on whatever the pins do."""
        self.deaf: set[str] = set()
        """Wishes that are not followed."""
        self.held_for: Nanos = PATIENCE
        self.mains = self.mains_say = 1
        self._held_at: Nanos = 0
        self._pressed: set[str] = set()
        self.move()

    def sees(self, expected: str) -> frozenset[str]:
        """Return the lamps that are lit."""
        assert expected in ("", "green", "amber", "red", "buzzer")
        outputs = self.bench.chip.outputs
        lamps = [name for name in ("green", "amber", "red", "buzzer") if outputs.get(self.wires[name]) == 1]
        return frozenset({*lamps, *self.lit})

    def told(self, wish: str) -> None:
        """Do it."""
        if wish in self.deaf:
            return
        if wish.startswith("mains"):
            self.mains = int(wish == "mains on")
        for name, button in BUTTONS.items():
            if wish == f"press {button}":
                self._pressed.add(name)
                self._held_at = self.now
            elif wish == f"free {button}":
                self._pressed.discard(name)
        self.move()

    def move(self) -> None:
        """Put every contact where the hand has it now."""
        if "arm" in self._pressed and self.now - self._held_at > self.held_for:
            self._pressed.discard("arm")
        for name, rests_closed in REST.items():
            closed = self.always.get(name, rests_closed ^ (name in self._pressed) ^ (name in self.turned))
            line = self.wires[name]
            if line >= 0:
                self.bench.chip.press(closed=[line] if closed else [], opened=[] if closed else [line], edges=False)
        self.bench.chip.driven[26] = self.mains if self.mains_say else self.mains_say

    def sleep(self, pause: Nanos) -> None:
        """Let time pass."""
        self.now += pause
        self.move()

    def walk(self) -> dict[str, Verdict]:
        """Return the verdicts of a whole walk by their step."""
        lines = self.bench.open(self.config)
        verdicts = list(Inspection(self.config, lines, self, lambda: self.now, self.sleep).run())
        lines.close()
        return {verdict.step: verdict for verdict in verdicts}


def failed(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """Return what did not pass, with its text."""
    return {name: verdict.text for name, verdict in verdicts.items() if not verdict.passed}


def test_a_box_that_is_wired_well() -> None:
    """Everything passes, each step says why, and it takes no longer than a person needs."""
    hand = Hand(WIRED)
    begun = hand.now
    verdicts = hand.walk()
    assert list(verdicts) == ["green", "amber", "red", "buzzer", "kill", "kill_second", "arm", "power"]
    assert failed(verdicts) == {}
    assert verdicts["kill"].text == "GPIO5, header pin 29: closed, and open when pressed"
    assert verdicts["arm"].text == "GPIO13, header pin 33: open, and closed when pressed"
    assert hand.now - begun < HOLD + 4 * SECOND
    assert set(hand.bench.chip.outputs.values()) <= {0}


def test_only_what_is_wired_is_looked_at() -> None:
    """A small panel has few steps."""
    small = msgspec.structs.replace(WIRED, kill_second=-1, arm=-1, buzzer=-1, power=-1, amber=-1)
    assert list(Hand(small).walk()) == ["green", "red", "kill"]


def test_the_lines_are_left_dark() -> None:
    """After the lamps' steps nothing is lit, so that the buttons' steps cannot confuse."""
    hand = Hand(WIRED)
    lines = hand.bench.open(WIRED)
    steps = Inspection(WIRED, lines, hand, lambda: hand.now, hand.sleep).run()
    next(steps)
    assert set(hand.bench.chip.outputs.values()) == {0}


Mistake = Callable[[Hand], object]


@pytest.mark.parametrize(
    ("mistake", "steps", "said"),
    [
        pytest.param(
            lambda hand: hand.wires.update(green=27, amber=17),
            ["green", "amber"],
            "amber lights instead, and green for amber: they are swapped; exchange the wires of GPIO17, header pin 11 "
            "and GPIO27, header pin 13, or the numbers of pins.green and pins.amber",
            id="swapped lamps",
        ),
        pytest.param(
            lambda hand: hand.wires.update(green=-1),
            ["green"],
            "nothing from GPIO17, header pin 11: check that wire",
            id="dark lamp",
        ),
        pytest.param(lambda hand: hand.lit.add("red"), ["red"], "it goes to 3.3 V", id="lamp at 3.3 V"),
        pytest.param(
            lambda hand: hand.wires.update(green=17, amber=17),
            ["green", "amber"],
            "amber and green instead of green alone",
            id="touching lamps",
        ),
        pytest.param(
            lambda hand: hand.turned.add("kill"),
            ["kill"],
            "GPIO5, header pin 29 reads open while nobody presses, and closed when pressed: the button is wired by its "
            "normally open contact; use the normally closed one",
            id="normally open kill button",
        ),
        pytest.param(
            lambda hand: hand.always.update(kill=False),
            ["kill"],
            "reads open, pressed or not: its wire is cut or not plugged in, or the other wire does not reach ground "
            "(header pins 6, 9,",
            id="missing ground",
        ),
        pytest.param(
            lambda hand: hand.always.update(kill=True),
            ["kill"],
            "stays closed when pressed: its two wires touch",
            id="shorted kill wire",
        ),
        pytest.param(
            lambda hand: hand.always.update(kill_second=False),
            ["kill_second"],
            "stays open when pressed: its wire is cut",
            id="second contact cut",
        ),
        pytest.param(
            lambda hand: hand.turned.add("kill_second"),
            ["kill_second"],
            "reads closed while nobody presses, and open when pressed: a normally closed contact",
            id="second contact of the first's kind",
        ),
        pytest.param(
            lambda hand: hand.always.update(arm=True),
            ["arm"],
            "reads closed, pressed or not: its two wires touch",
            id="stuck arm button",
        ),
        pytest.param(
            lambda hand: hand.always.update(arm=False), ["arm"], "stays open when pressed", id="arm button cut"
        ),
        pytest.param(
            lambda hand: setattr(hand, "held_for", SECOND),
            ["arm"],
            "but never for 3 s without a break",
            id="held too shortly",
        ),
        pytest.param(
            lambda hand: hand.deaf.add("free kill"), ["kill", "kill_second"], "does not come back", id="not turned free"
        ),
        pytest.param(lambda hand: hand.deaf.add("mains off"), ["power"], "not say that the mains failed", id="supply"),
        pytest.param(lambda hand: hand.deaf.add("mains on"), ["power"], "not say that the mains are back", id="plug"),
        pytest.param(lambda hand: setattr(hand, "mains_say", 0), ["power"], "failed: are they on?", id="level"),
    ],
)
def test_a_mistake_is_named(mistake: Mistake, steps: list[str], said: str) -> None:
    """The steps that fail are those of the mistake, and the first says what to check."""
    hand = Hand(WIRED)
    mistake(hand)
    hand.move()
    verdicts = failed(hand.walk())
    assert sorted(verdicts) == sorted(steps)
    assert said in verdicts[steps[0]]


def test_mixed_up_buttons() -> None:
    """Red button and arm button on each other's wires: both rest wrongly and are told."""
    hand = Hand(msgspec.structs.replace(WIRED, kill_second=-1))
    hand.wires.update(kill=13, arm=5)
    hand.wires["kill_second"] = -1
    hand.move()
    assert sorted(failed(hand.walk())) == ["arm", "kill"]


def test_the_other_button_moves() -> None:
    """Both buttons normally closed would hide it; here the second contact's wire is on the arm button's pin."""
    hand = Hand(WIRED)
    hand.wires.update(arm=6, kill_second=13)
    verdicts = failed(hand.walk())
    assert verdicts == {
        "kill_second": "GPIO6, header pin 31 stays as it is when the second contact is pressed; instead the arm button "
        "moved: are their wires mixed up?",
        "arm": "GPIO13, header pin 33 stays as it is when the arm button is pressed; instead the second contact moved: "
        "are their wires mixed up?",
    }


def test_a_loose_wire_flickers() -> None:
    """Now open, now closed while nobody touches it, or edges between samples: a loose wire, whatever it says later."""
    hand = Hand(WIRED)
    hand.always["kill"] = True
    ticks = iter(range(10**6))
    calm = hand.sleep

    def shaking(pause: Nanos) -> None:
        hand.always["kill"] = next(ticks) % 3 != 0
        calm(pause)

    hand.sleep = shaking  # type: ignore[method-assign]
    assert "flickers while nobody touches it: a loose wire" in failed(hand.walk())["kill"]
    humming = Hand(WIRED)
    calm_too = humming.sleep

    def hum(pause: Nanos) -> None:
        humming.bench.chip.edges[5] = 2
        calm_too(pause)

    humming.sleep = hum  # type: ignore[method-assign]
    assert "flickers" in failed(humming.walk())["kill"]


def test_no_kill_button_does_not_pass() -> None:
    """A panel without one is no panel."""
    verdicts = Hand(msgspec.structs.replace(WIRED, kill=-1, kill_second=-1)).walk()
    assert failed(verdicts) == {"kill": "no kill button is wired (pins.kill = -1): no hand stops this box"}


def test_a_line_that_fails_is_an_error() -> None:
    """The walk does not go on over a chip that is gone."""
    hand = Hand(WIRED)
    lines = hand.bench.open(WIRED)
    hand.bench.chip.broken[13] = "is gone"
    with pytest.raises(DeviceError, match=r"pins\.arm: chip: line 13 is gone"):
        list(Inspection(WIRED, lines, hand, lambda: hand.now, hand.sleep).run())


def test_the_header() -> None:
    """28 lines on 28 pins, none of them ground or supply; other lines are named by number."""
    assert len(set(PINS.values())) == len(PINS) == 28
    assert not set(PINS.values()) & {1, 2, 4, 6, 9, 14, 17, 20, 25, 30, 34, 39}
    assert (place(22), place(40)) == ("GPIO22, header pin 15", "line 40 of the chip")
