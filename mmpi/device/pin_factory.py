"""Pin factory: from the name of a backend to the pins that gpiozero's devices are made on.

Invariant: gpiozero and libgpiod are imported when a backend is opened and not before: a box without pins pays nothing.
It must not know what a line is for.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mmpi.errors import DeviceError

if TYPE_CHECKING:
    from mmpi.device.gpiozero_pins import LineFactory
    from mmpi.device.lines import Lines


def open_factory(backend: str, chip: str, virtual: Path) -> "LineFactory":
    """Return the factory of backend "gpiod" (`chip`: device, name or label) or "virtual" (`virtual`: the mapped file).

    DeviceError if it cannot be opened; its message names chip or file, and the cause.
    """
    from mmpi.device.gpiozero_pins import LineFactory

    return LineFactory(_lines(backend, chip, virtual))


def _lines(backend: str, chip: str, virtual: Path) -> "Lines":
    if backend == "gpiod":
        try:
            from mmpi.device.gpiod_pins import GpiodLines
        except ImportError as error:
            raise DeviceError(f"pins.backend = gpiod: the package gpiod does not load here: {error}") from None
        return GpiodLines.open(chip)
    if backend == "virtual":
        from mmpi.device.virtual_pins import VirtualLines

        return VirtualLines.create(virtual)
    raise DeviceError(f"pins.backend = {backend!r}: no such pins; allowed: gpiod, virtual")
