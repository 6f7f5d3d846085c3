"""Panel: the virtual front panel, for a box whose pins are a file: a hand on its buttons from the page.

Real buttons have no such hand: where pins are real, or there are none, there is no panel. A button that nobody holds on
to any more is let go, as a page that was closed holds nothing.

Invariant: no button stays held for longer than HELD_S after the last word. It must not know pages.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from mmpi.channels import Telling
from mmpi.device.virtual_pins import VirtualPanel

HELD_S: Final = 8.0
"""Longer than any gesture; a hand that stays on is said anew."""


class Panel:
    """The buttons of a virtual box."""

    def __init__(self, telling: Telling) -> None:
        pins = telling.pins
        self._path: Final = telling.paths.pins
        self._rest: Final[dict[str, Callable[[VirtualPanel], None]]] = {}
        self._press: Final[dict[str, Callable[[VirtualPanel], None]]] = {}
        # The kill contact is closed at rest; a press opens it. The arm button closes its line to ground.
        self._rest["red"] = lambda panel: panel.drive(pins.kill, 0)
        self._press["red"] = lambda panel: panel.release(pins.kill)
        if pins.arm >= 0:
            self._rest["arm"] = lambda panel: panel.release(pins.arm)
            self._press["arm"] = lambda panel: panel.drive(pins.arm, 0)
        self._letting_go: dict[str, asyncio.TimerHandle] = {}

    @staticmethod
    def is_there(telling: Telling) -> bool:
        """Return whether this box's pins are virtual."""
        return telling.pins.backend == "virtual"

    def move(self, button: str, down: bool) -> str:
        """Press a button, or let it go; return what is wrong, "" = nothing. DeviceError if the pins are gone."""
        if button not in self._press:
            return f"no such button; allowed: {', '.join(self._press)}"
        if (timer := self._letting_go.pop(button, None)) is not None:
            timer.cancel()
        panel = VirtualPanel.open(self._path)
        (self._press if down else self._rest)[button](panel)
        if down:
            loop = asyncio.get_running_loop()
            self._letting_go[button] = loop.call_later(HELD_S, lambda: self._rest[button](panel))
        return ""
