"""gpiozero's own devices on our pins: they read, light and are told of edges, and failures stay DeviceError."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpiozero import LED, PWMLED, Button, DigitalInputDevice
from gpiozero.exc import GPIOPinInUse, PinFixedPull, PinInvalidBounce, PinInvalidPull, PinPWMUnsupported, PinSetInput

from mmpi.device.gpiozero_pins import LineFactory
from mmpi.device.virtual_pins import VirtualLines, VirtualPanel
from mmpi.errors import DeviceError

KILL, LAMP = 5, 17


class Box:
    """A box with virtual pins, and the hand that moves them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.panel = VirtualPanel.create(path, closed=(KILL,))
        self.factory = LineFactory(VirtualLines.create(path))

    def contact(self) -> DigitalInputDevice:
        """Return the kill contact: active while it is closed."""
        return DigitalInputDevice(KILL, pull_up=True, pin_factory=self.factory)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Give a healthy box."""
    made = Box(tmp_path / "pins")
    yield made
    made.factory.close()


def test_a_contact_to_ground_is_active_while_it_is_closed(box: Box) -> None:
    """pull_up=True: closed reads active, open or cut reads inactive."""
    contact = box.contact()
    assert (contact.value, contact.pull_up, contact.pin.state) == (1, True, 0)
    box.panel.release(KILL)
    assert contact.value == 0
    assert "line 5 of" in repr(contact)


def test_a_lamp_is_lit_and_dark(box: Box) -> None:
    """on, off and toggle reach the wire; it is dark from the first moment, and let go when closed."""
    lamp = LED(LAMP, pin_factory=box.factory)
    seen = [box.panel.output(LAMP)]
    for change in (lamp.on, lamp.off, lamp.toggle):
        change()
        seen.append(box.panel.output(LAMP))
    lamp.close()
    assert [*seen, box.panel.output(LAMP)] == [0, 1, 0, 1, None]


def test_a_lamp_to_the_supply_is_dark_when_high(box: Box) -> None:
    """active_high=False starts high, without a flash in between."""
    lamp = LED(LAMP, active_high=False, pin_factory=box.factory)
    assert (box.panel.output(LAMP), lamp.value) == (1, 0)
    lamp.on()
    assert box.panel.output(LAMP) == 0


def test_a_device_is_told_of_edges_when_they_are_taken(box: Box) -> None:
    """when_activated and when_deactivated fire on the caller's thread, from take_edges."""
    told: list[str] = []
    contact = box.contact()
    contact.when_deactivated = lambda: told.append("open")
    contact.when_activated = lambda: told.append("closed")
    box.panel.release(KILL)
    assert told == []
    assert [edges.count for edges in box.factory.take_edges()] == [1]
    box.panel.drive(KILL, 0)
    box.factory.take_edges()
    assert told == ["open", "closed"]


def test_a_press_that_is_over_is_told_all_the_same(box: Box) -> None:
    """Opened and closed between two looks: the device hears of both."""
    told: list[str] = []
    button = Button(KILL, pin_factory=box.factory)
    button.when_released = lambda: told.append("open")
    button.when_pressed = lambda: told.append("closed")
    for _ in range(50):
        box.panel.release(KILL)
        box.panel.drive(KILL, 0)
    assert [edges.count for edges in box.factory.take_edges()] == [100]
    assert told == ["open", "closed"]
    button.close()


def test_edges_that_nobody_asked_for_are_not_taken(box: Box) -> None:
    """A device of one direction hears of that one only; a pin without edges has none."""
    told: list[tuple[float, int]] = []

    class Listener:
        def changed(self, ticks: float, state: int) -> None:
            told.append((ticks, state))

    listener = Listener()
    pin = box.factory.pin(KILL)
    pin.input_with_pull("up")
    box.panel.release(KILL)
    assert box.factory.take_edges() == []
    pin.edges = "falling"
    pin.when_changed = listener.changed
    for _ in range(2):
        box.panel.drive(KILL, 0)
        box.panel.release(KILL)
    (edges,) = box.factory.take_edges()
    assert (edges.count, edges.level, [state for _, state in told]) == (4, 1, [0])
    assert told[0][0] == pytest.approx(box.factory.ticks(), abs=60)


def test_a_line_is_one_pin_for_one_device(box: Box) -> None:
    """All names of a line are the same pin, and a second device on it is refused until the first is closed."""
    assert box.factory.pin(KILL) is box.factory.pin("5") is box.factory.pin("GPIO5")
    contact = box.contact()
    with pytest.raises(GPIOPinInUse, match="GPIO5"):
        LED(KILL, pin_factory=box.factory)
    contact.close()
    LED(KILL, pin_factory=box.factory).close()


def test_a_device_that_nobody_holds_lets_its_line_go(box: Box) -> None:
    """As everywhere in gpiozero: dropping a device closes it."""
    contact = box.contact()
    assert contact.is_active
    del contact
    gc.collect()
    assert box.contact().is_active


@pytest.mark.parametrize("name", [-1, 256, "GPIO256", "BOARD5", "five", "٥"])
def test_a_line_that_the_chip_has_not_is_named(box: Box, name: int | str) -> None:
    """A number out of range and a name of another kind are told with what is there."""
    with pytest.raises(DeviceError, match=rf"^{box.path}: no line {name}; it has lines 0 to 255$"):
        DigitalInputDevice(name, pull_up=True, pin_factory=box.factory)


def test_a_failed_read_reaches_the_reader(box: Box) -> None:
    """A chip that was unplugged raises DeviceError from a device's value and from a lamp, no error of gpiozero's."""
    contact, lamp = box.contact(), LED(LAMP, pin_factory=box.factory)
    box.path.unlink()
    box.factory.beat(1)
    with pytest.raises(DeviceError, match="line 5 cannot be read"):
        contact.value  # noqa: B018
    with pytest.raises(DeviceError, match="line 17 cannot be set"):
        lamp.on()
    with pytest.raises(DeviceError, match="line 17 cannot be set"):
        lamp.value = 1


def test_what_these_pins_cannot_do_is_refused(box: Box) -> None:
    """No bounce time, no PWM, no pull but three, no level on an input: gpiozero's own errors say so."""
    with pytest.raises(PinInvalidBounce, match=r"bounce_time=0.1 on line 5 of .*: not here"):
        DigitalInputDevice(KILL, pull_up=True, bounce_time=0.1, pin_factory=box.factory)
    with pytest.raises(PinPWMUnsupported):
        PWMLED(LAMP, pin_factory=box.factory)
    pin = box.factory.pin(KILL)
    with pytest.raises(PinFixedPull, match="it is no input"):
        pin.pull = "up"
    pin.function = "input"
    with pytest.raises(PinInvalidPull, match="'sideways'; allowed: floating, up, down"):
        pin.pull = "sideways"
    with pytest.raises(PinSetInput, match="it is no output"):
        pin.state = 1


def test_a_closed_factory_gives_everything_up(tmp_path: Path) -> None:
    """Lamps are let go, the pins are free for the next one, and closing again, or a device later, does no harm."""
    box = Box(tmp_path / "pins")
    lamp = LED(LAMP, pin_factory=box.factory)
    lamp.on()
    with box.factory:
        assert box.panel.output(LAMP) == 1
    assert box.panel.output(LAMP) is None
    box.factory.close()
    lamp.close()
    Box(box.path).factory.close()
