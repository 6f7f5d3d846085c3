"""docs/wiring.md and its drawing: they say what the code does, pin for pin."""

import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mmpi.causes import CAUSES
from mmpi.device import arm_button, contacts
from mmpi.device.header import GROUNDS, PINS
from mmpi.instrument import MILLISECOND, SECOND
from mmpi.sections import PinSettings

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "wiring.md").read_text("utf-8")
DRAWING = runpy.run_path(str(DOCS / "wiring_drawing.py"))


def test_the_drawing_is_made_from_the_code() -> None:
    """docs/wiring.svg is what docs/wiring_drawing.py makes now."""
    assert (DOCS / "wiring.svg").read_text("utf-8") == DRAWING["drawing"]()


def test_the_drawing_names_every_line_once() -> None:
    """Each wired line is labelled, at the height of its own header pin."""
    words = [
        (element.text or "", float(element.get("y", "0")))
        for element in ET.fromstring((DOCS / "wiring.svg").read_text("utf-8")).iter()
        if element.tag.endswith("text")
    ]
    pins = PinSettings()
    extra = (DRAWING["SECOND"], DRAWING["BUZZER"], DRAWING["POWER"])
    for line in (pins.kill, pins.arm, pins.green, pins.amber, pins.red, *extra):
        ((_, height),) = [found for found in words if found[0] == f"GPIO{line}"]
        assert abs(height - DRAWING["row"](PINS[line])) < DRAWING["ROW"] / 2


ROWS = re.findall(r"^\| .*? \| `pins\.(\w+)` \| (?:none; )?(\d+) \| (\d+) \| .*?(\d+)? ?\S* \|$", TEXT, re.MULTILINE)


def test_the_table_is_the_configuration() -> None:
    """Defaults, the drawing's numbers for what has none, and the header pins of all of them."""
    assert {name for name, *_ in ROWS} == set(PinSettings.__struct_fields__) - {"backend", "chip"}
    drawn = {"kill_second": DRAWING["SECOND"], "buzzer": DRAWING["BUZZER"], "power": DRAWING["POWER"]}
    for name, line, pin, _ in ROWS:
        default = getattr(PinSettings(), name)
        assert int(line) == (default if default >= 0 else drawn[name])
        assert int(pin) == PINS[int(line)]


def test_grounds_are_grounds() -> None:
    """Every "ground, pin N" is one."""
    named = {int(pin) for pin in re.findall(r"ground, pin (\d+)", TEXT)}
    assert named == {9, 34, 39}
    assert named <= set(GROUNDS)
    assert f"({', '.join(map(str, GROUNDS))})" in TEXT


@pytest.mark.parametrize("name", ["kill_button", "kill_contacts", "kill_bounce", "pins", "power", "guardian_starting"])
def test_causes_are_those_of_the_table(name: str) -> None:
    """What it says that the box says is a cause."""
    assert f"`{name}`" in TEXT
    assert name in CAUSES


def test_numbers_are_those_of_the_code() -> None:
    """Times and counts in the prose; a change of one of them has to change the text."""
    numbers = (
        (contacts.POLL, 20), (contacts.AGAIN, 5), (contacts.TRAVEL, 100), (contacts.HEALTHY, 250),
        (arm_button.GAP, 200), (arm_button.SETTLED, 300),
    )  # fmt: skip
    for value, milliseconds in numbers:
        assert value == milliseconds * MILLISECOND
        assert f"{milliseconds} ms" in TEXT
    for value, seconds in ((arm_button.HOLD, 3), (arm_button.KILL_HOLD, 5), (arm_button.LET_GO, 10)):
        assert value == seconds * SECOND
        assert f"{seconds} s" in TEXT
    assert contacts.STORM == 30
    assert "more than 30 edges in a second" in TEXT
    assert contacts.POLL + contacts.OVERLAP + 2 * contacts.AGAIN == 60 * MILLISECOND
    assert "within 60 ms" in TEXT
