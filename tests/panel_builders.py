"""Builders for the front panel: a chip in memory whose lines a test moves, breaks and counts."""

from collections.abc import Sequence

from mmpi.device.gpiozero_pins import LineFactory
from mmpi.device.lines import Edges, Pull
from mmpi.device.panel_lines import PanelConfig, PanelLines
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

WIRED = PanelConfig(backend="virtual", virtual="unused", kill=5, kill_second=6, arm=13, buzzer=12, power=26)
PULLED = {"up": 1, "down": 0, "floating": 0, "as_is": 0}


class Chip:
    """Lines in memory; what a test does not drive reads as its pull."""

    name = "chip"
    size = 54

    def __init__(self) -> None:
        self.edges_fd: int | None = None
        self.driven: dict[int, int] = {}
        self.pulls: dict[int, Pull] = {}
        self.outputs: dict[int, int] = {}
        self.edges: dict[int, int] = {}
        self.broken: dict[int, str] = {}
        """Lines that fail -> how."""
        self.beats: list[Nanos] = []
        self.closed = 0

    def as_input(self, line: int, pull: Pull, edges: bool) -> None:  # noqa: ARG002  # edges are given by the test
        """Own an input."""
        self._try(line)
        self.pulls[line] = pull

    def as_output(self, line: int, level: int) -> None:
        """Own an output."""
        self._try(line)
        self.outputs[line] = level

    def release(self, line: int) -> None:
        """Give up."""
        self.outputs.pop(line, None)

    def level(self, line: int) -> int:
        """Return the level."""
        self._try(line)
        return self.driven.get(line, PULLED[self.pulls[line]])

    def set_level(self, line: int, level: int) -> None:
        """Set an output."""
        self._try(line)
        self.outputs[line] = level

    def take_edges(self) -> Sequence[Edges]:
        """Return what the test put there."""
        taken = [Edges(line, count, self.level(line), 0) for line, count in self.edges.items()]
        self.edges = {}
        return taken

    def beat(self, now: Nanos) -> None:
        """Note it."""
        self.beats.append(now)

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def _try(self, line: int) -> None:
        if line in self.broken:
            raise DeviceError(f"chip: line {line} {self.broken[line]}")

    # What a hand does

    def press(self, closed: Sequence[int] = (), opened: Sequence[int] = (), edges: bool = True) -> None:
        """Close contacts to ground and open others, with the edges that it makes."""
        for line in closed:
            self.driven[line] = 0
        for line in opened:
            self.driven.pop(line, None)
        if edges:
            self.edges |= dict.fromkeys((*closed, *opened), 1)


class Bench:
    """Where panels open their lines: the chip of the moment, or the trouble with it."""

    def __init__(self) -> None:
        self.chip = Chip()
        self.chip.driven[5] = 0
        self.trouble = ""
        self.opened = 0

    def open(self, config: PanelConfig) -> PanelLines:
        """Return the lines of the chip."""
        self.opened += 1
        if self.trouble:
            raise DeviceError(self.trouble)
        return PanelLines.on(LineFactory(self.chip), config)
