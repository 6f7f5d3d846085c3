"""Lines: what buttons and lamps are wired to, told by number, whoever moves them.

Invariant: a level is 0 or 1 of this moment, and whatever cannot be read raises DeviceError; it is never made up.
It must not know what a line is for.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from mmpi.instrument import Nanos

Pull = Literal["as_is", "floating", "up", "down"]
"""The resistor of an input; as_is = what firmware or an earlier owner set."""


class Edges(msgspec.Struct, frozen=True):
    """The edges of an input line since they were last taken, those included that nobody had room for."""

    line: int
    count: int
    level: int
    """After the last edge: 1 rising, 0 falling. With a count above 1 the line had the other level, too."""
    at: Nanos
    """When the last edge came, on the monotonic clock."""


class Lines(Protocol):
    """The lines of one chip. Each call ends at once; DeviceError names chip, line and cause."""

    @property
    def name(self) -> str:
        """Return what messages call the chip."""
        ...

    @property
    def size(self) -> int:
        """Return the number of lines, which are counted from 0."""
        ...

    @property
    def edges_fd(self) -> int | None:
        """Return what becomes readable when there are edges to take; None = nothing does, look from time to time."""
        ...

    def as_input(self, line: int, pull: Pull, edges: bool) -> None:
        """Own the line as an input, with or without its edges."""
        ...

    def as_output(self, line: int, level: int) -> None:
        """Own the line as an output that has this level from the start."""
        ...

    def release(self, line: int) -> None:
        """Give the line up; one that is not owned is left alone."""
        ...

    def level(self, line: int) -> int:
        """Return the level of a line that is owned."""
        ...

    def set_level(self, line: int, level: int) -> None:
        """Set the level of an output."""
        ...

    def take_edges(self) -> Sequence[Edges]:
        """Return what happened since the last call, one entry a line, which stays quiet on edges_fd until `beat`."""
        ...

    def beat(self, now: Nanos) -> None:
        """Say once a poll that we live: edges are shown on edges_fd again, and a virtual panel sees it."""
        ...

    def close(self) -> None:
        """Give all lines and the chip up."""
        ...
