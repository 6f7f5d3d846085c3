"""Buttons: both of them held while the box starts is the wish for a factory reset.

Invariant: a panel that is not there, not wired or not readable never looks like a hand on both buttons: the arm button
closes its contact, which nothing but a hand does. It must not know what a reset is.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from mmpi.errors import DeviceError
from mmpi.sections import PinSettings

HOLD_S: Final = 5.0
EVERY_S: Final = 0.05
SETTLE_S: Final = 0.005
"""For a pin's resistor of 50 to 65 kilohm (BCM2711, BCM2837) to lift some metres of wire."""

Sample = Callable[[], bool]
"""Are all buttons pressed now? DeviceError."""
Sleep = Callable[[float], None]


def are_held(sample: Sample, sleep: Sleep) -> bool:
    """Return whether both buttons are pressed and stay so; at once, if they are not."""
    for _ in range(round(HOLD_S / EVERY_S)):
        if not sample():
            return False
        sleep(EVERY_S)
    return sample()


def held_at_start(pins: PinSettings, sleep: Sleep) -> bool:
    """Return whether both buttons of the kernel's GPIO chip are held; pins of any other kind have none."""
    if pins.backend != "gpiod" or pins.kill < 0 or pins.arm < 0:
        return False
    with _panel(pins) as sample:
        sleep(SETTLE_S)
        return are_held(sample, sleep)


@contextmanager
def _panel(pins: PinSettings) -> Iterator[Sample]:
    """Give what looks at the buttons, and their pins back in the end."""
    try:
        from mmpi.device.gpiod_pins import GpiodLines
    except ImportError as error:
        raise DeviceError(f"pins.backend = gpiod: the package gpiod does not load here: {error}") from None
    with closing(GpiodLines.open(pins.chip)) as lines:
        wanted = wanted_levels(pins)
        for line in wanted:
            lines.as_input(line, "up", edges=False)
        yield lambda: all(lines.level(line) == level for line, level in wanted.items())


def wanted_levels(pins: PinSettings) -> dict[int, int]:
    """Return the level of each line while both buttons are pressed: an open kill contact, and closed others."""
    wanted = {pins.kill: 1, pins.arm: 0}
    return wanted | {pins.kill_second: 0} if pins.kill_second >= 0 else wanted
