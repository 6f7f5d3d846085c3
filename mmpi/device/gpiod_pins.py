"""Gpiod pins: the lines of a GPIO chip, by the kernel's own interface (/dev/gpiochipN).

Each line is a request of its own, so that a change of one disturbs no other and an error names its line. libgpiod opens
chips and requests lines; levels and edges, which are asked for all the time, are read by the same system calls without
its objects in between.

Invariant: a storm of edges wakes a watcher of `edges_fd` once between two beats and takes no memory: the kernel keeps
EDGES of a line, drops the oldest, and counts them all. It must not know what a line is for.

Source: kernel, include/uapi/linux/gpio.h (v2 of the interface, since 5.10) and drivers/gpio/gpiolib-cdev.c.
"""

import errno
import os
import select
import struct
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Final

import gpiod
from gpiod.line import Bias, Direction, Edge, Value

from mmpi.device.lines import Edges, Pull
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

CONSUMER: Final = "mmpi"
"""Shown by `gpioinfo` and in the message of whoever wants a line of ours."""
EDGES: Final = 64
"""Kept by the kernel for each line: more than a contact bounces, and one read takes them all."""
FAILED: Final = (OSError, ValueError, gpiod.ChipClosedError, gpiod.RequestReleasedError)
"""What libgpiod raises for a device that is not there, not ours or not able to."""

_GET_VALUES: Final = 0xC010B40E
"""GPIO_V2_LINE_GET_VALUES_IOCTL; its argument is struct gpio_v2_line_values: u64 bits, u64 mask."""
_SET_VALUES: Final = 0xC010B40F
_VALUES: Final = struct.Struct("=QQ")
_EDGE: Final = struct.Struct("=QIIII24x")
"""struct gpio_v2_line_event: timestamp_ns, id, offset, seqno, line_seqno (from 1), padding."""
_RISING: Final = 1
_READ: Final = _VALUES.pack(0, 1)
_WRITE: Final = (_VALUES.pack(0, 1), _VALUES.pack(1, 1))
_WOKEN: Final = select.EPOLLIN | select.EPOLLONESHOT
_BIAS: Final = {"as_is": Bias.AS_IS, "floating": Bias.DISABLED, "up": Bias.PULL_UP, "down": Bias.PULL_DOWN}


class GpiodLines:
    """The lines of one chip; get one by `open`."""

    def __init__(self, chip: gpiod.Chip, name: str) -> None:
        self.name: Final = name
        self.size: Final = chip.get_info().num_lines
        self._chip: Final = chip
        self._owned: dict[int, gpiod.LineRequest] = {}
        self._seen: dict[int, int] = {}
        """Edges of each input that were taken, by the kernel's count."""
        self._by_fd: dict[int, int] = {}
        self._quiet: set[int] = set()
        self._poll: Final = select.epoll()

    @classmethod
    def open(cls, chip: str, devices: Path = Path("/dev")) -> "GpiodLines":
        """Return a chip's lines by its device, its name or its label; DeviceError if there is no such chip for us."""
        path = find_chip(chip, devices)
        name = f"{path} ({chip})" if chip not in (str(path), path.name) else str(path)
        try:
            return cls(gpiod.Chip(str(path)), name)
        except FAILED as error:
            raise _chip_error(str(path), error) from None

    @property
    def edges_fd(self) -> int:
        """Return what becomes readable when there are edges to take."""
        return self._poll.fileno()

    def as_input(self, line: int, pull: Pull, edges: bool) -> None:
        """Own the line as an input, with or without its edges; chips without such a resistor leave `pull` undone."""
        detection = Edge.BOTH if edges else Edge.NONE
        self._own(
            line, gpiod.LineSettings(direction=Direction.INPUT, bias=_BIAS[pull], edge_detection=detection)
        )
        if edges and line not in self._seen:
            fd = self._owned[line].fd
            self._poll.register(fd, _WOKEN)
            self._by_fd[fd] = line
            self._seen[line] = 0

    def as_output(self, line: int, level: int) -> None:
        """Own the line as an output that has this level from the start."""
        self._own(line, gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value(level)))

    def release(self, line: int) -> None:
        """Give the line up; one that is not owned is left alone."""
        request = self._owned.pop(line, None)
        if request is not None:
            if self._seen.pop(line, None) is not None:
                self._by_fd.pop(request.fd)
                self._quiet.discard(request.fd)
                self._poll.unregister(request.fd)
            request.release()

    def level(self, line: int) -> int:
        """Return the level of a line that is owned."""
        values = bytearray(_READ)
        try:
            ioctl(self._request(line).fd, _GET_VALUES, values)
        except FAILED as error:
            raise self._error(line, "cannot be read", error) from None
        return int(_VALUES.unpack(values)[0] & 1)

    def set_level(self, line: int, level: int) -> None:
        """Set the level of an output."""
        try:
            ioctl(self._request(line).fd, _SET_VALUES, _WRITE[level])
        except FAILED as error:
            raise self._error(line, "cannot be set", error) from None

    def take_edges(self) -> list[Edges]:
        """Return what happened since the last call, one entry a line, which stays quiet on edges_fd until `beat`."""
        ready = [fd for fd, _ in self._poll.poll(0)]
        self._quiet.update(ready)
        return [self._take(fd, self._by_fd[fd]) for fd in ready]

    def beat(self, now: Nanos) -> None:  # noqa: ARG002  # nobody looks at our clock here
        """Show the edges of lines again whose edges were taken."""
        while self._quiet:
            self._poll.modify(self._quiet.pop(), _WOKEN)

    def close(self) -> None:
        """Give all lines and the chip up."""
        for line in list(self._owned):
            self.release(line)
        self._poll.close()
        self._chip.close()

    def _request(self, line: int) -> gpiod.LineRequest:
        """Return what owns the line; lamps are set by a thread, which may come just after the lines were given up."""
        request = self._owned.get(line)
        if request is None:
            raise gpiod.RequestReleasedError
        return request

    def _own(self, line: int, settings: gpiod.LineSettings) -> None:
        """Request the line, or change it if it is ours; an input that had edges starts anew, counting from 0."""
        if line in self._seen:
            self.release(line)
        try:
            if line in self._owned:
                self._owned[line].reconfigure_lines({line: settings})
            else:
                self._owned[line] = self._chip.request_lines({line: settings}, CONSUMER, EDGES)
        except FAILED as error:
            raise self._error(line, "cannot be used", error) from None

    def _take(self, fd: int, line: int) -> Edges:
        """Return all edges that wait; only the last one is looked at, as it bears the count."""
        try:
            data = os.read(fd, EDGES * _EDGE.size)
            if not data:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        except OSError as error:
            raise self._error(line, "has no edges any more", error) from None
        at, kind, _, _, count = _EDGE.unpack_from(data, len(data) - _EDGE.size)
        new = (count - self._seen[line]) & 0xFFFF_FFFF
        self._seen[line] = count
        return Edges(line, new, int(kind == _RISING), at)

    def _error(self, line: int, what: str, error: Exception) -> DeviceError:
        return DeviceError(f"{self.name}: line {line} {what}: {self._cause(line, error)}")

    def _cause(self, line: int, error: Exception) -> str:
        """Return the cause in words, of a busy line with the name of its owner."""
        if isinstance(error, OSError) and error.errno == errno.EBUSY:
            try:
                return f"it is in use by {self._chip.get_line_info(line).consumer or 'the kernel'!r}"
            except FAILED:
                pass
        return _words(error)


def find_chip(chip: str, devices: Path = Path("/dev")) -> Path:
    """Return the device of a chip given by its path, name or label; DeviceError if none or more than one has it."""
    if chip.startswith("/"):
        return Path(chip)
    if (devices / chip).exists():
        return devices / chip
    chips = list(_labels(devices))
    found = [path for path, label in chips if label == chip]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{path} ({label})" for path, label in chips) or "none that can be opened"
    what = "more than one chip has" if found else "no GPIO chip has"
    raise DeviceError(f"pins.chip {chip!r}: {what} that name or label; there are: {there}")


def _labels(devices: Path) -> Iterator[tuple[Path, str]]:
    """Return the chips that can be opened, with their labels; systems link one chip to the name it had before."""
    for path in sorted(devices.glob("gpiochip*")):
        if path.is_symlink():
            continue
        try:
            with gpiod.Chip(str(path)) as chip:
                yield path, chip.get_info().label
        except FAILED:
            continue


def _chip_error(path: str, error: Exception) -> DeviceError:
    """Return why a chip cannot be opened, and what to do about it."""
    cause = _words(error)
    if isinstance(error, PermissionError):
        cause += "; this user must be in the group that owns it, and the unit's DeviceAllow must name it"
    elif isinstance(error, OSError) and error.errno in (errno.ENOTTY, errno.ENODEV, errno.EINVAL):
        cause = "this is no GPIO chip"
    return DeviceError(f"{path}: cannot be opened: {cause}")


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
