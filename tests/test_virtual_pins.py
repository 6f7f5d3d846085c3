"""Virtual pins: two processes, one file; a line that nobody drives floats, and no press is lost."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.lines import Edges
from mmpi.device.virtual_pins import SIZE, VirtualLines, VirtualPanel
from mmpi.errors import DeviceError

ROOT = Path(__file__).resolve().parents[1]
KILL, LAMP = 5, 17
CHATTER = """
import sys, time
from pathlib import Path
from mmpi.device.virtual_pins import VirtualPanel
panel = VirtualPanel.open(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    panel.drive(5, 1 - number % 2)
print(panel.output(17))
"""
LIVE = """
import sys, time
from pathlib import Path
from mmpi.device.virtual_pins import VirtualLines
lines = VirtualLines.create(Path(sys.argv[1]))
lines.as_output(17, 1)
lines.beat(time.monotonic_ns())
print("ready", flush=True)
sys.stdin.read()
"""


def box(path: Path) -> VirtualLines:
    """Return the box's side with its kill contact wired."""
    lines = VirtualLines.create(path)
    lines.as_input(KILL, "up", True)
    return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a file that is not there yet."""
    return tmp_path / "run" / "pins"


def test_a_fresh_file_has_every_line_floating(path: Path) -> None:
    """A box that nobody wired reads its pulls: with a pull-up the kill contact is open."""
    lines = box(path)
    lines.as_input(6, "down", False)
    assert (lines.level(KILL), lines.level(6)) == (1, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~umask()
    assert path.stat().st_size == SIZE


def umask() -> int:
    """Return the process's mask of permissions."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_panel_can_make_the_box_healthy_first(path: Path) -> None:
    """Whoever comes first makes the file: contacts closed by the panel are closed for the box that comes later."""
    panel = VirtualPanel.create(path, closed=(KILL,))
    lines = box(path)
    assert lines.level(KILL) == 0
    assert lines.take_edges() == []
    panel.release(KILL)
    assert lines.level(KILL) == 1


def test_a_new_panel_opens_what_it_does_not_close(path: Path) -> None:
    """`create` puts every line right, `open` leaves them as they are."""
    VirtualPanel.create(path, closed=(KILL, 6))
    assert VirtualPanel.open(path).level(6) == 0
    lines = box(path)
    lines.as_input(6, "up", False)
    VirtualPanel.open(path)
    assert lines.level(6) == 0
    VirtualPanel.create(path, closed=(KILL,))
    assert (lines.level(KILL), lines.level(6)) == (0, 1)


def test_lamps_are_seen_by_the_panel(path: Path) -> None:
    """An output shows its level from the first moment to its release; an input shows none."""
    panel = VirtualPanel.create(path)
    lines = box(path)
    lines.as_output(LAMP, 1)
    assert (panel.output(LAMP), panel.output(KILL), lines.level(LAMP)) == (1, None, 1)
    lines.set_level(LAMP, 0)
    assert (panel.output(LAMP), lines.level(LAMP)) == (0, 0)
    lines.release(LAMP)
    assert panel.output(LAMP) is None


def test_a_press_between_two_looks_is_counted(path: Path) -> None:
    """Opened and closed again unseen: two edges, and the level of now."""
    panel = VirtualPanel.create(path, closed=(KILL,))
    lines = box(path)
    before = time.monotonic_ns()
    panel.release(KILL)
    panel.drive(KILL, 0)
    (edges,) = lines.take_edges()
    assert (edges.line, edges.count, edges.level) == (KILL, 2, 0)
    assert before <= edges.at <= time.monotonic_ns()
    assert lines.take_edges() == []


def test_only_changes_are_edges(path: Path) -> None:
    """Driving a line to where its pull holds it is no edge."""
    panel = VirtualPanel.create(path)
    lines = box(path)
    panel.drive(KILL, 1)
    panel.release(KILL)
    assert lines.take_edges() == []


@given(st.lists(st.one_of(st.none(), st.integers(0, 1), st.just("look")), max_size=60))
def test_edges_add_up_to_the_changes_of_level(steps: list[object]) -> None:
    """However looks and moves are mixed, every change is counted once, and a look tells the level that is there."""
    path = Path("/dev/shm") / f"mmpi-test-pins-{os.getpid()}"
    try:
        panel, lines = VirtualPanel.create(path, closed=(KILL,)), box(path)
        changes, counted, level = 0, 0, 0
        for step in [*steps, "look"]:
            if step == "look":
                taken = lines.take_edges()
                counted += sum(edges.count for edges in taken)
                assert [edges.level for edges in taken] == [level] * len(taken)
                continue
            new = 1 if step is None else int(str(step))
            changes += new != level
            level = new
            panel.release(KILL) if step is None else panel.drive(KILL, new)
            assert lines.level(KILL) == panel.level(KILL) == level
        assert counted == changes
        lines.close()
    finally:
        path.unlink(missing_ok=True)


def test_a_panel_sees_whether_the_box_lives(path: Path) -> None:
    """The beat is the time of the last poll, and gone with the box, as are its lamps."""
    panel = VirtualPanel.create(path)
    lines = box(path)
    lines.as_output(LAMP, 1)
    assert panel.beat_ns == 0
    lines.beat(123)
    assert panel.beat_ns == 123
    lines.close()
    assert (panel.beat_ns, panel.output(LAMP)) == (0, None)


def test_a_file_that_is_gone_is_a_chip_unplugged(path: Path) -> None:
    """After its removal or replacement the next poll finds out, and every read and lamp is an error from then on."""
    VirtualPanel.create(path, closed=(KILL,))
    lines = box(path)
    path.unlink()
    assert lines.level(KILL) == 0
    lines.beat(1)
    with pytest.raises(DeviceError, match=rf"^{path}: line 5 cannot be read: the file is gone"):
        lines.level(KILL)
    VirtualPanel.create(path, closed=(KILL,))
    lines.beat(2)
    with pytest.raises(DeviceError, match="line 5 cannot be set: the file was replaced"):
        lines.set_level(KILL, 1)


def test_a_line_that_is_not_ours_is_refused(path: Path) -> None:
    """As on a chip: what was not requested, or was given up, is neither read nor set."""
    lines = box(path)
    for line in (6, KILL):
        lines.release(line)
        with pytest.raises(DeviceError, match=f"line {line} cannot be read: the line was given up"):
            lines.level(line)
    with pytest.raises(DeviceError, match="line 17 cannot be set"):
        lines.set_level(LAMP, 1)


def test_two_boxes_cannot_share_the_pins(path: Path) -> None:
    """The second one is refused; when the first has let go it may have them."""
    first = box(path)
    with pytest.raises(DeviceError, match=f"{path}: these virtual pins are in use by another process"):
        VirtualLines.create(path)
    first.close()
    VirtualLines.create(path).close()


def test_what_is_no_file_of_pins_is_refused(path: Path, tmp_path: Path) -> None:
    """A foreign file, a folder and a path that cannot be made are told by name, and nothing is written into them."""
    path.parent.mkdir()
    path.write_bytes(b"something else entirely")
    for side in (VirtualLines.create, VirtualPanel.open):
        with pytest.raises(DeviceError, match=f"{path}: this is no file of virtual pins"):
            side(path)
    assert path.read_bytes() == b"something else entirely"
    with pytest.raises(DeviceError, match=f"{tmp_path}: virtual pins cannot be opened: Is a directory"):
        VirtualLines.create(tmp_path)
    with pytest.raises(DeviceError, match=f"{path}/below: virtual pins cannot be opened: File exists"):
        VirtualPanel.open(path / "below")


@pytest.mark.slow
def test_a_storm_from_another_process_is_counted(path: Path) -> None:
    """20,000 edges from another process while we look: none is lost, and the last level is the one that stays."""
    VirtualPanel.create(path, closed=(KILL,))
    lines = box(path)
    lines.as_output(LAMP, 1)
    command = [sys.executable, "-c", CHATTER, str(path), "20000"]
    taken: list[Edges] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as panel:
        while panel.poll() is None:
            taken += lines.take_edges()
        assert panel.stdout is not None
        assert panel.stdout.read() == "1\n"
    taken += lines.take_edges()
    assert sum(edges.count for edges in taken) == 20_000
    assert taken[-1].level == lines.level(KILL) == 0


@pytest.mark.slow
def test_a_killed_box_leaves_no_lamp_lit_for_the_next(path: Path) -> None:
    """After SIGKILL the beat stands still, the pins are free, and whoever takes them starts dark."""
    command = [sys.executable, "-c", LIVE, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        panel = VirtualPanel.open(path)
        beat = panel.beat_ns
        process.kill()
        process.wait()
    assert (panel.output(LAMP), panel.beat_ns) == (1, beat)
    box(path)
    assert panel.output(LAMP) is None
