"""Pins of the kernel's GPIO chip: what is not there, not ours or gone is one clear DeviceError, and edges are counted.

The chip here is a fake whose edges come down a pipe in the kernel's own form; test_pins_in_qemu.py has a real one.
"""

import errno
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.gpiod_pins import EDGES, GpiodLines, find_chip
from mmpi.device.lines import Edges
from mmpi.errors import DeviceError

RISING, FALLING = 1, 2
NOBODY = 65534


class FakeRequest:
    """A requested line; `edge` is the kernel's side of it."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.fd, self._kernel = os.pipe()
        self.count = 0
        self.settings: Any = None

    def edge(self, kind: int, at: int = 0, lost: int = 0) -> None:
        """Let an edge come, `lost` others before it having been dropped."""
        self.count += 1 + lost
        os.write(self._kernel, struct.pack("=QIIII24x", at, kind, self.line, self.count, self.count))

    def reconfigure_lines(self, settings: dict[int, Any]) -> None:
        """Take other settings."""
        self.settings = settings[self.line]

    def unplug(self) -> None:
        """Let the kernel's side end."""
        if self._kernel >= 0:
            os.close(self._kernel)
            self._kernel = -1

    def release(self) -> None:
        """Close both ends."""
        os.close(self.fd)
        self.unplug()


class FakeChip:
    """A chip of 8 lines; those in `busy` belong to somebody else."""

    def __init__(self, busy: dict[int, str] | None = None) -> None:
        self.busy = busy or {}
        self.requests: dict[int, FakeRequest] = {}

    def get_info(self) -> Any:
        """Return the number of lines."""
        return SimpleNamespace(num_lines=8)

    def get_line_info(self, line: int) -> Any:
        """Return who has a line."""
        return SimpleNamespace(consumer=self.busy[line])

    def request_lines(self, settings: dict[int, Any], consumer: str, size: int) -> FakeRequest:
        """Return the request of a line that is free."""
        (line,) = settings
        if line in self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        assert (consumer, size) == ("mmpi", EDGES)
        request = self.requests[line] = FakeRequest(line)
        request.settings = settings[line]
        return request

    def close(self) -> None:
        """Do nothing."""


def lines(chip: FakeChip) -> GpiodLines:
    """Return a fake chip's lines."""
    return GpiodLines(chip, "the chip")  # type: ignore[arg-type]


@pytest.fixture
def box() -> Iterator[tuple[FakeChip, GpiodLines]]:
    """Give a chip with edges on lines 5 and 6."""
    chip = FakeChip()
    owned = lines(chip)
    owned.as_input(5, "up", True)
    owned.as_input(6, "up", True)
    yield chip, owned
    owned.close()


def shows(owned: GpiodLines) -> bool:
    """Return True if a watcher of edges_fd is woken."""
    return bool(select.select([owned.edges_fd], [], [], 0)[0])


def test_a_chip_that_is_not_there_is_named() -> None:
    """Without the device the message says which one, and why."""
    with pytest.raises(DeviceError, match=r"^/dev/gpiochip99: cannot be opened: No such file or directory$"):
        GpiodLines.open("/dev/gpiochip99")


def test_what_is_no_chip_is_told_from_one(tmp_path: Path) -> None:
    """A plain file, a folder and another device are no GPIO chips, and the message says just that."""
    plain = tmp_path / "gpiochip0"
    plain.touch()
    for place in (plain, tmp_path, Path("/dev/null")):
        with pytest.raises(DeviceError, match=rf"^{place}: cannot be opened: this is no GPIO chip$"):
            GpiodLines.open(str(place))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_a_chip_of_others_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Without permission the message says what to set."""
    chip = tmp_path / "gpiochip0"
    chip.touch(mode=0o600)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(DeviceError, match=r"gpiochip0: cannot be opened: Permission denied; .* DeviceAllow"):
            GpiodLines.open(str(chip))
    finally:
        os.seteuid(0)


def test_a_chip_is_found_by_path_or_name(tmp_path: Path) -> None:
    """A path is taken as it stands; a name is looked up among the devices."""
    (tmp_path / "gpiochip7").touch()
    assert find_chip("/some/where") == Path("/some/where")
    assert find_chip("gpiochip7", tmp_path) == tmp_path / "gpiochip7"


def test_a_label_that_no_chip_has_lists_what_there_is(tmp_path: Path) -> None:
    """What cannot be opened is passed over, and the message says that there is nothing else."""
    (tmp_path / "gpiochip7").touch()
    with pytest.raises(DeviceError, match=r"pins.chip 'pinctrl-x': no GPIO chip has .* none that can be opened"):
        find_chip("pinctrl-x", tmp_path)


def test_a_busy_line_names_its_owner() -> None:
    """A line in somebody else's hands is told with that one's name."""
    owned = lines(FakeChip(busy={3: "gpio-keys"}))
    with pytest.raises(DeviceError, match=r"^the chip: line 3 cannot be used: it is in use by 'gpio-keys'$"):
        owned.as_input(3, "up", True)
    with pytest.raises(DeviceError, match="gpio-keys"):
        owned.as_output(3, 1)


def test_a_read_that_fails_is_an_error_of_that_read(box: tuple[FakeChip, GpiodLines]) -> None:
    """A line that worked and does so no more raises from the call that needed it, and so does one that was given up."""
    _, owned = box
    with pytest.raises(DeviceError, match=r"^the chip: line 5 cannot be read: "):
        owned.level(5)
    with pytest.raises(DeviceError, match=r"^the chip: line 5 cannot be set: "):
        owned.set_level(5, 1)
    owned.release(5)
    with pytest.raises(DeviceError, match=r"line 5 cannot be read: GPIO lines have been released"):
        owned.level(5)


def test_an_unplugged_chip_is_an_error_of_the_edges(box: tuple[FakeChip, GpiodLines]) -> None:
    """Edges that cannot be read any more are not taken for none."""
    chip, owned = box
    chip.requests[5].unplug()
    assert shows(owned)
    with pytest.raises(DeviceError, match=r"^the chip: line 5 has no edges any more: No such device$"):
        owned.take_edges()


def test_one_lost_line_does_not_silence_another(box: tuple[FakeChip, GpiodLines]) -> None:
    """Edges that came together with a failure are shown after the next beat."""
    chip, owned = box
    chip.requests[5].unplug()
    chip.requests[6].edge(RISING, at=9)
    with pytest.raises(DeviceError):
        owned.take_edges()
    owned.release(5)
    owned.beat(0)
    assert owned.take_edges() == [Edges(6, 1, 1, 9)]


def test_edges_say_how_many_and_what_is_now(box: tuple[FakeChip, GpiodLines]) -> None:
    """Two edges of one line are one entry, with the level and time of the last."""
    chip, owned = box
    chip.requests[5].edge(RISING, at=100)
    chip.requests[5].edge(FALLING, at=250)
    assert owned.take_edges() == [Edges(5, 2, 0, 250)]
    assert owned.take_edges() == []


def test_lines_are_told_apart(box: tuple[FakeChip, GpiodLines]) -> None:
    """Each line that moved has an entry of its own."""
    chip, owned = box
    chip.requests[6].edge(RISING, at=1)
    chip.requests[5].edge(FALLING, at=2)
    assert sorted(owned.take_edges(), key=lambda edges: edges.line) == [Edges(5, 1, 0, 2), Edges(6, 1, 1, 1)]


def test_a_line_is_quiet_until_the_next_beat(box: tuple[FakeChip, GpiodLines]) -> None:
    """After its edges were taken a storm wakes nobody, but another line does; the beat shows what came meanwhile."""
    chip, owned = box
    chip.requests[5].edge(RISING)
    assert shows(owned)
    owned.take_edges()
    chip.requests[5].edge(FALLING)
    assert not shows(owned)
    chip.requests[6].edge(RISING)
    assert shows(owned)
    assert [edges.line for edges in owned.take_edges()] == [6]
    owned.beat(0)
    assert shows(owned)
    assert owned.take_edges() == [Edges(5, 1, 0, 0)]


EDGE = st.tuples(st.sampled_from([RISING, FALLING]), st.integers(0, 99))


@given(st.lists(st.lists(EDGE, max_size=EDGES), max_size=9))
def test_no_edge_goes_uncounted(batches: list[list[tuple[int, int]]]) -> None:
    """Whatever the kernel had to drop, the counts add up to all edges there were, and the level is the last one's."""
    chip = FakeChip()
    owned = lines(chip)
    owned.as_input(5, "up", True)
    counted = 0
    for batch in batches:
        for kind, lost in batch:
            chip.requests[5].edge(kind, lost=lost)
        taken = owned.take_edges()
        owned.beat(0)
        assert [edges.level for edges in taken] == ([int(batch[-1][0] == RISING)] if batch else [])
        counted += sum(edges.count for edges in taken)
    assert counted == chip.requests[5].count
    owned.close()


def test_a_line_requested_anew_counts_anew(box: tuple[FakeChip, GpiodLines]) -> None:
    """Edges of an earlier time are not counted for the new owner, and a change to an output ends them."""
    chip, owned = box
    chip.requests[5].edge(RISING)
    owned.take_edges()
    owned.as_input(5, "down", True)
    chip.requests[5].edge(RISING)
    owned.beat(0)
    assert owned.take_edges() == [Edges(5, 1, 1, 0)]
    owned.beat(0)
    chip.requests[5].edge(FALLING)
    owned.as_output(5, 1)
    assert chip.requests[5].settings.direction.name == "OUTPUT"
    assert not shows(owned)


def test_a_change_without_edges_keeps_the_request() -> None:
    """An output that becomes an input, and gets its resistor, stays ours throughout."""
    chip = FakeChip()
    owned = lines(chip)
    owned.as_output(4, 1)
    request = chip.requests[4]
    assert (request.settings.direction.name, request.settings.output_value.value) == ("OUTPUT", 1)
    owned.as_input(4, "up", False)
    assert chip.requests[4] is request
    assert (request.settings.direction.name, request.settings.bias.name) == ("INPUT", "PULL_UP")
    owned.close()
