"""Panel lines: the wires of buttons and lamps, opened on a chip, under the names that they have in the configuration.

Invariant: a contact that cannot be read raises DeviceError; it is never taken for closed.
It must not know what a contact or a lamp means.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mmpi.device.lights import Lamps
from mmpi.device.pin_factory import open_factory
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

if TYPE_CHECKING:
    from mmpi.device.gpiozero_pins import LineFactory

CONTACTS: Final = ("kill", "kill_second", "arm")
"""To ground, with the pin's own resistor to 3.3 V: closed reads low."""
LAMPS: Final = ("green", "amber", "red", "buzzer")


class PanelConfig(msgspec.Struct, frozen=True):
    """What is wired where: lines of the chip; -1 = not wired."""

    backend: str = "none"
    """none, gpiod or virtual."""
    chip: str = "/dev/gpiochip0"
    virtual: str = ""
    """The mapped file of virtual pins."""
    kill: int = 5
    kill_second: int = -1
    arm: int = 13
    green: int = 17
    amber: int = 27
    red: int = 22
    buzzer: int = -1
    power: int = -1
    """What the supply says about the mains."""
    power_fail_level: str = "low"
    """low or high: the level that says that they failed; the pin's own resistor pulls there, so a cut wire says so."""

    def line(self, name: str) -> int:
        """Return the line of a contact or a lamp."""
        return int(getattr(self, name))


class PanelLines:
    """Every wire of a panel, open; get it by `open`."""

    def __init__(
        self,
        factory: "LineFactory",
        lines: Mapping[str, int],
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
    ) -> None:
        """`lines`: the number of each input; `inputs`, `outputs`: gpiozero's devices."""
        self._factory, self._inputs, self._outputs = factory, inputs, outputs
        self._names: Final = {line: name for name, line in lines.items()}
        self._failed: Final = _failures()

    @classmethod
    def open(cls, config: PanelConfig) -> "PanelLines":
        """Return the lines, lamps dark; DeviceError names what is not to be had."""
        factory = open_factory(config.backend, config.chip, Path(config.virtual))
        return cls.on(factory, config)

    @classmethod
    def on(cls, factory: "LineFactory", config: PanelConfig) -> "PanelLines":
        """Return the lines on a factory that is open; it is closed again if one of them is not to be had."""
        inputs = {name: config.line(name) for name in (*CONTACTS, "power") if config.line(name) >= 0}
        outputs = [name for name in LAMPS if config.line(name) >= 0]
        try:
            return cls(
                factory,
                inputs,
                {name: _input(factory, name, config) for name in inputs},
                {name: _output(factory, name, config) for name in outputs},
            )
        except BaseException:
            factory.close()
            raise

    @property
    def edges_fd(self) -> int | None:
        """Return what becomes readable when there are edges to take; None = nothing does."""
        return self._factory.edges_fd

    def closed(self, name: str) -> bool | None:
        """Return True if this contact is closed, None if it is not wired."""
        level = self.level(name)
        return None if level is None else level == 0

    def level(self, name: str) -> int | None:
        """Return the level of an input, None if it is not wired."""
        device = self._inputs.get(name)
        if device is None:
            return None
        try:
            return int(device.pin.state)
        except self._failed as error:
            raise DeviceError(f"pins.{name}: {error}") from None

    def take_edges(self) -> dict[str, int]:
        """Return how many edges each input had since the last call; what had none is not in it."""
        return {self._names[edges.line]: edges.count for edges in self._factory.take_edges()}

    def beat(self, now: Nanos) -> None:
        """Say once a look that we live."""
        self._factory.beat(now)

    def light(self, lamps: Lamps) -> None:
        """Set the lamps that are wired; DeviceError names the first that could not be set, after trying them all."""
        problem = ""
        for name, device in self._outputs.items():
            try:
                device.value = getattr(lamps, name)
            except self._failed as error:
                problem = problem or f"pins.{name}: {error}"
        if problem:
            raise DeviceError(problem)

    def close(self) -> None:
        """Give everything up; what fails at it was lost before."""
        for device in (*self._inputs.values(), *self._outputs.values()):
            with suppress(*self._failed):
                device.close()
        with suppress(*self._failed):
            self._factory.close()


def _input(factory: "LineFactory", name: str, config: PanelConfig) -> Any:
    from gpiozero import DigitalInputDevice

    pull_up = name in CONTACTS or config.power_fail_level == "high"
    return _made(name, config, lambda line: DigitalInputDevice(line, pull_up=pull_up, pin_factory=factory))


def _output(factory: "LineFactory", name: str, config: PanelConfig) -> Any:
    from gpiozero import LED

    return _made(name, config, lambda line: LED(line, pin_factory=factory))


def _made(name: str, config: PanelConfig, make: Any) -> Any:
    """Return the device on a line; DeviceError names the setting, as two of them may name one line."""
    line = config.line(name)
    try:
        return make(line)
    except _failures() as error:
        raise DeviceError(f"pins.{name} = {line}: {error}") from None


def _failures() -> tuple[type[Exception], ...]:
    """Return what a device raises that is lost, closed by the other thread, or never was; imports gpiozero."""
    from gpiozero.exc import GPIOZeroError

    return (DeviceError, GPIOZeroError, AttributeError, OSError, ValueError)
