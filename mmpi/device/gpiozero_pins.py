"""Gpiozero pins: the pin factory that gpiozero's devices take, over the lines of any chip.

gpiozero's own factories ask what Pi they run on and refuse a device tree that does not say; this one asks for nothing
but the chip. A device's level is read when it is asked for. Edges reach its `when_changed` from `take_edges`, on the
caller's thread; there is no other.

Invariant: what goes wrong with a line reaches the caller as DeviceError, from gpiozero's devices too.
It must not know what a line is for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from weakref import WeakMethod

from gpiozero.exc import (
    PinFixedPull,
    PinInvalidBounce,
    PinInvalidEdges,
    PinInvalidFunction,
    PinInvalidPull,
    PinSetInput,
)
from gpiozero.pins import Factory, Pin, PinInfo

from mmpi.device.lines import Edges, Lines, Pull
from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

Changed = Callable[[float, int], None]


class LinePin(Pin):  # type: ignore[misc]  # gpiozero has no types
    """One line as gpiozero wants it; get one by `LineFactory.pin`."""

    def __init__(self, factory: "LineFactory", line: int) -> None:
        super().__init__()
        self._factory: Final = factory
        self._lines: Final = factory.lines
        self._line: Final = line
        self._function: str | None = None
        self._pull: Pull = "as_is"
        self._edges = "none"
        self._changed: WeakMethod[Changed] | None = None

    def __repr__(self) -> str:
        """Return the line's name for people."""
        return f"line {self._line} of {self._lines.name}"

    def close(self) -> None:
        """Give the line up."""
        self._changed = None
        self._function, self._pull, self._edges = None, "as_is", "none"
        self._lines.release(self._line)

    def output_with_state(self, state: bool) -> None:
        """Make it an output that has this level from the start."""
        self._lines.as_output(self._line, int(bool(state)))
        self._function = "output"

    def input_with_pull(self, pull: Pull) -> None:
        """Make it an input that has this resistor from the start."""
        self._pull = _one_of(pull, ("floating", "up", "down"), PinInvalidPull)
        self._input()

    def deliver(self, edges: Edges) -> None:
        """Tell a device that wants to know: of the levels that the line had, the last, and before it the other one."""
        for level in (1 - edges.level, edges.level)[edges.count == 1 :]:
            changed = self._get_when_changed()
            if changed is not None and self._edges in ("both", "rising" if level else "falling"):
                changed(edges.at / SECOND, level)

    def _input(self) -> None:
        self._lines.as_input(self._line, self._pull, self._edges != "none")
        self._function = "input"

    def _get_info(self) -> PinInfo:
        return self._factory.info(self._line)

    def _get_function(self) -> str:
        return self._function or "input"

    def _set_function(self, value: str) -> None:
        if _one_of(value, ("input", "output"), PinInvalidFunction) == "output":
            self.output_with_state(False)
        else:
            self._input()

    def _get_state(self) -> int:
        return self._lines.level(self._line)

    def _set_state(self, value: bool) -> None:
        if self._function != "output":
            raise PinSetInput(f"cannot set state of {self!r}: it is no output")
        self._lines.set_level(self._line, int(bool(value)))

    def _get_pull(self) -> Pull:
        return self._pull

    def _set_pull(self, value: Pull) -> None:
        if self._function != "input":
            raise PinFixedPull(f"cannot set pull on {self!r}: it is no input")
        self.input_with_pull(value)

    def _set_bounce(self, value: float | None) -> None:
        if value is not None:
            raise PinInvalidBounce(f"bounce_time={value} on {self!r}: not here; poll the level and time it yourself")

    def _get_edges(self) -> str:
        return self._edges

    def _set_edges(self, value: str) -> None:
        self._edges = _one_of(value, ("none", "rising", "falling", "both"), PinInvalidEdges)
        if self._function == "input":
            self._input()

    def _get_when_changed(self) -> Changed | None:
        return self._changed() if self._changed is not None else None

    def _set_when_changed(self, value: Changed | None) -> None:
        """Take a device's method, weakly: a device that nobody holds closes itself, as everywhere in gpiozero."""
        self._changed = WeakMethod(value) if value is not None else None


class LineFactory(Factory):  # type: ignore[misc]  # gpiozero has no types
    """gpiozero's pin factory over one chip: `DigitalInputDevice(5, pull_up=True, pin_factory=factory)`."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines: Final = lines
        self._pins: dict[int, LinePin] = {}
        self._closed = False

    @property
    def edges_fd(self) -> int | None:
        """Return what becomes readable when there are edges to take; None = nothing does, look from time to time."""
        return self.lines.edges_fd

    def take_edges(self) -> Sequence[Edges]:
        """Return what happened on input lines since the last call, one entry a line, after devices have been told."""
        taken = self.lines.take_edges()
        for edges in taken:
            self._pins[edges.line].deliver(edges)
        return taken

    def beat(self, now: Nanos) -> None:
        """Say once a poll that we live: edges are shown on edges_fd again, and a virtual panel sees it."""
        self.lines.beat(now)

    def pin(self, name: int | str) -> LinePin:
        """Return the one pin of a line, given as 5, "5" or "GPIO5"; DeviceError if the chip has no such line."""
        line = self._number(name)
        return self._pins.setdefault(line, LinePin(self, line))

    def close(self) -> None:
        """Give all lines and the chip up; once is enough."""
        if not self._closed:
            self._closed = True
            for pin in self._pins.values():
                pin.close()
            self.lines.close()

    def ticks(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def ticks_diff(self, later: float, earlier: float) -> float:
        """Return seconds between two ticks."""
        return later - earlier

    def info(self, line: int) -> PinInfo:
        """Return what gpiozero wants to know about a line; where it lies on the header is not known here."""
        name = f"GPIO{line}"
        return PinInfo(line, name, frozenset((name, str(line), line)), "", 0, 0, frozenset(("gpio",)))

    def find_pin(self, name: int | str) -> Iterator[tuple[None, PinInfo]]:
        """Yield the one line of that name, as a board of gpiozero's does."""
        yield None, self.info(self._number(name))

    def _get_board_info(self) -> Any:
        return self

    def _number(self, name: int | str) -> int:
        text = str(name).removeprefix("GPIO")
        line = int(text) if text.isascii() and text.isdecimal() else -1
        if not 0 <= line < self.lines.size:
            raise DeviceError(f"{self.lines.name}: no line {name}; it has lines 0 to {self.lines.size - 1}")
        return line


def _one_of(value: Any, allowed: tuple[str, ...], error: type[Exception]) -> Any:
    if value not in allowed:
        raise error(f"{value!r}; allowed: {', '.join(allowed)}")
    return value
