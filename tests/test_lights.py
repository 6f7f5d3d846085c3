"""mmpi.device.lights: how signs look, and the thread that shows them."""

import ast
import threading
import time
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.lights import (
    DARK,
    FAULT,
    NEVER,
    OLD,
    PATTERNS,
    TABLE,
    Display,
    Lamps,
    Lights,
    Pattern,
    lamps,
    markdown,
    next_change,
    pattern_of,
)
from mmpi.errors import DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Nanos

ROOT = Path(__file__).resolve().parents[1]
MOVING = [pattern for pattern in TABLE if pattern is not DARK]
START = 9 * SECOND


def names(patterns: list[Pattern]) -> list[str]:
    """Return ids for parametrize."""
    return [pattern.name for pattern in patterns]


def lit(shown: Lamps) -> tuple[bool, bool, bool]:
    """Return the lamps without the buzzer."""
    return shown.green, shown.amber, shown.red


# Patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", MOVING, ids=names(MOVING))
def test_no_lamp_stands_still(pattern: Pattern) -> None:
    """Every sign but dark moves at least every 2 s: what stands still cannot look alive."""
    t, moved = 0, 0
    while t < 20 * SECOND:
        t, before = next_change(pattern, t), lit(lamps(pattern, t))
        if lit(lamps(pattern, t)) != before:
            assert t - moved <= 2 * SECOND
            moved = t
    assert moved > 18 * SECOND


def alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return True if a person could take one rhythm for the other.

    They have as many flashes, and from some flash on, all times on and off are within a factor of 1.9.
    """
    turned = [other[start:] + other[:start] for start in range(0, len(other), 2)]
    return len(one) == len(other) and any(
        all(max(a, b) < 1.9 * min(a, b) for a, b in zip(one, turn, strict=True)) for turn in turned
    )


@pytest.mark.parametrize(("one", "other"), list(combinations(MOVING, 2)), ids=lambda pattern: pattern.name)
def test_rhythms_differ_without_colours(one: Pattern, other: Pattern) -> None:
    """Who sees no colours tells every sign by its rhythm alone."""
    assert not alike(one.rhythm, other.rhythm)


def test_colours_mean_one_thing_each() -> None:
    """Green is lit where orders are quoted, and only there; red where a person is needed, or nothing is certain."""
    assert {each.name for each in TABLE if each.green} == {"quoting", "practice", "degraded"}
    assert {each.name for each in TABLE if each.red} == {"stopping", "latched", "fault"}
    assert [each.name for each in TABLE if not (each.green or each.amber or each.red)] == ["dark"]


def test_every_sign_of_the_guardian_has_a_pattern() -> None:
    """Whatever mmpi.runtime.sign returns is in the table, and what is not is shown as a fault."""
    tree = ast.parse((ROOT / "mmpi" / "runtime" / "sign.py").read_text("utf-8"))
    returned = {
        constant.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Return) and node.value is not None
        for part in ([node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value])
        for constant in [part]
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    assert {"quoting", "latched", "fault", "stopping", "paused"} <= returned
    assert returned <= PATTERNS.keys()
    assert pattern_of("no such sign") is FAULT


@given(st.sampled_from(TABLE), st.integers(0, 10 * SECOND))
def test_nothing_changes_before_the_next_change(pattern: Pattern, t: Nanos) -> None:
    """`next_change` leaves no change out, and makes none up beyond the sign's own cycle."""
    change = next_change(pattern, t)
    assert change > t
    for moment in range(t, change, max(1, (change - t) // 7)):
        assert lamps(pattern, moment) == lamps(pattern, t)
    if pattern is not DARK:
        assert lamps(pattern, change) != lamps(pattern, change - 1)
    else:
        assert change - t == NEVER


def test_the_buzzer_beeps_once() -> None:
    """Three short beeps when it is stopped for certain, two long ones when the mains fail, silence otherwise."""
    heard = {}
    for pattern in TABLE:
        t, beeps = 0, [lamps(pattern, 0).buzzer]
        while t < 30 * SECOND:
            t = next_change(pattern, t)
            if lamps(pattern, t).buzzer != beeps[-1]:
                beeps.append(not beeps[-1])
        heard[pattern.name] = sum(beeps)
    assert {name: count for name, count in heard.items() if count} == {"latched": 3, "power": 2}


def test_the_document_is_the_table() -> None:
    """docs/lights.md is what the code says."""
    assert (ROOT / "docs" / "lights.md").read_text("utf-8") == markdown()


def test_the_strip_of_a_pattern_is_its_rhythm() -> None:
    """The characters of the document are tenths of a second."""
    assert "| `practice` | green | `██████████████··██··` |" in markdown()
    assert "| `dark` | none | `····················` |" in markdown()


# What is shown when -----------------------------------------------------------------------------------------------


def test_a_sign_begins_when_it_is_first_said() -> None:
    """Its rhythm starts then, and saying it again does not start it anew."""
    display = Display("starting", START)
    assert display.show("latched", START) is True
    assert display.show("latched", START + 800 * MILLISECOND) is False
    shown, until = display.at(START + 800 * MILLISECOND)
    assert (lit(shown), until) == ((False, False, False), START + 1000 * MILLISECOND)
    assert display.at(until)[0] == Lamps(red=True)


def test_an_old_word_turns_into_a_fault() -> None:
    """2 s after the last word of the guardian, without anybody's doing; a new word ends that."""
    display = Display("starting", START)
    display.show("quoting", START)
    assert display.at(START + OLD)[0] == Lamps(green=True)
    fault = START + OLD + 1
    assert display.at(fault)[0] == Lamps(red=True)
    assert display.at(fault + 100 * MILLISECOND)[0] == Lamps()
    back = START + 10 * SECOND
    assert display.show("quoting", back) is True
    assert display.at(back)[0] == Lamps(green=True)


@given(st.sampled_from(TABLE), st.integers(0, OLD), st.integers(0, 5 * SECOND), st.integers(0, 2 * SECOND))
def test_what_is_shown_holds_until_it_says(pattern: Pattern, again: Nanos, t: Nanos, more: Nanos) -> None:
    """Between a look and its `until` nothing changes, going over to a fault included."""
    display = Display("starting", START)
    display.show(pattern.name, START)
    told = START + again
    display.show(pattern.name, told)
    shown, until = display.at(told + t)
    assert until > told + t
    assert until <= max(told + OLD + 1, told + t + SECOND), "going over to a fault is not slept through"
    assert display.at(min(told + t + more, until - 1))[0] == shown


def test_the_last_sign_never_gets_old() -> None:
    """What is shown at the end stays: dark is dark, and a fault blinks on while the process lives."""
    display = Display("starting", START)
    display.last("fault", START)
    assert display.at(START + 3600 * SECOND)[0] == Lamps(red=True)
    display.last("dark", START)
    assert display.at(START + 3600 * SECOND)[0] == Lamps()


# The thread -------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test sets forward; the lights' waits end by notify, or are cut short by it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> Nanos:
        """Return the time."""
        return self.now


class Bulbs:
    """Lamps that remember what they were set to."""

    def __init__(self) -> None:
        self.seen: list[Lamps] = []
        self.broken = ""
        self.changed = threading.Condition()

    def __call__(self, shown: Lamps) -> None:
        """Be set."""
        with self.changed:
            self.seen.append(shown)
            self.changed.notify_all()
        if self.broken:
            raise DeviceError(self.broken)

    def until(self, shown: Lamps, seconds: float = 5.0) -> None:
        """Return once they were set like this; fail after this long."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.seen and self.seen[-1] == shown, seconds), self.seen


def test_the_lights_follow_and_go_out() -> None:
    """A word is shown at once, not at the next change of the old one; closing makes them dark, and ends the thread."""
    clock, bulbs = Clock(), Bulbs()
    lights = Lights(bulbs, clock)
    lights.start()
    bulbs.until(Lamps(amber=True))
    lights.show("quoting", clock.now)
    bulbs.until(Lamps(green=True))
    # The next change of `quoting` would be in 1.8 s.
    lights.show("fault", clock.now)
    bulbs.until(Lamps(red=True), 1.2)
    lights.close()
    assert bulbs.seen[-1] == Lamps()
    assert not any(thread.name == "lights" and thread.is_alive() for thread in threading.enumerate())


def test_a_broken_lamp_is_counted_and_told() -> None:
    """An output that fails ends nothing: the thread goes on, and says so until it works again."""
    clock, bulbs = Clock(), Bulbs()
    bulbs.broken = "pins.green: cannot be set: gone"
    lights = Lights(bulbs, clock)
    lights.start()
    bulbs.until(Lamps(amber=True))
    lights.show("quoting", clock.now)
    bulbs.until(Lamps(green=True))
    lights.show("latched", clock.now)
    bulbs.until(Lamps(red=True, buzzer=True))
    assert lights.failures >= 2
    assert lights.problem == "lamps: pins.green: cannot be set: gone"
    bulbs.broken = ""
    lights.close()
    assert lights.problem == ""


@pytest.mark.slow
def test_lamps_of_a_silent_guardian_blink_red() -> None:
    """In real time: 2 s after the last word the lamps are those of a fault, and the thread costs next to nothing."""
    bulbs, begun = Bulbs(), time.thread_time()
    lights = Lights(bulbs)
    lights.start()
    said = time.monotonic()
    lights.show("quoting", time.monotonic_ns())
    bulbs.until(Lamps(red=True))
    late = time.monotonic() - said - 2
    assert 0 <= late < 0.25
    writes = len(bulbs.seen)
    for _ in range(100):
        lights.show("quoting", time.monotonic_ns())
        time.sleep(0.02)
    assert len(bulbs.seen) - writes < 10, "it wakes for changes, not for words"
    assert time.thread_time() - begun < 0.5
    lights.close("fault")
    bulbs.until(Lamps(red=True))
    bulbs.until(Lamps())
    lights.close()
