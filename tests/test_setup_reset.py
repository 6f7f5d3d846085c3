"""The factory reset, by a file or by both buttons held: everything stored is gone, and the wish for it last."""

import os
from pathlib import Path

import pytest
from panel_builders import Chip
from setup_builders import PAPER, SECRETS, Box

from mmpi.device import gpiod_pins
from mmpi.errors import DeviceError
from mmpi.sections import PinSettings
from mmpi.setup import buttons
from mmpi.setup import reset as reset_module
from mmpi.setup.buttons import are_held, held_at_start
from mmpi.setup.configuration import mode_of, pins_of

PINS = PinSettings(backend="gpiod", chip="chip", kill=5, arm=13)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


def used(root: Path) -> Box:
    """Return a box that was set up and has lived."""
    box = Box(root, mmpi__toml=PAPER, secrets__env=SECRETS)
    box.run()
    for name in ("systemd", "mmpi/journal", "lost+found"):
        (box.data / name).mkdir(parents=True)
    (box.data / "systemd" / "credential.secret").write_bytes(b"host key" * 512)
    (box.data / "systemd" / "credential.secret").chmod(0o400)
    (box.data / "mmpi" / "journal" / "1").write_bytes(b"x")
    (box.data / "link").symlink_to(root / "outside")
    (root / "outside").mkdir()
    (root / "outside" / "kept").write_text("kept")
    return box


def test_a_reset_by_a_file(tmp_path: Path) -> None:
    """All of the data but lost+found is gone, and nothing outside; the file is gone, others wait for the next boot."""
    box = used(tmp_path)
    box.put(**{"Factory-Reset": "\r\n"}, secrets__env=SECRETS)
    ended = box.run()
    assert (ended.restart, ended.outcome.ok, ended.outcome.applied) == (True, True, ("factory-reset",))
    assert os.listdir(box.data) == ["lost+found"]
    assert (tmp_path / "outside" / "kept").exists()
    assert box.names() == ["RESULT.txt", "mmpi.toml", "secrets.env"]
    assert "RESET: all that the box had stored is deleted." in box.result()
    (box.data / "lost+found").rmdir()
    again = box.run()
    assert (again.restart, again.outcome.ok, again.outcome.first, box.latch()) == (False, True, True, True)


def test_a_reset_by_the_buttons(tmp_path: Path) -> None:
    """As by the file, without one; a panel that cannot be read resets nothing."""
    box = used(tmp_path)

    def broken(_: object) -> bool:
        raise DeviceError("no chip")

    ended = box.run(held=broken)
    assert (ended.restart, ended.outcome.ok) == (False, True)
    assert ended.notes == ("the buttons cannot be read: no chip",)
    seen: list[bytes | None] = []
    assert box.run(held=lambda config: bool(seen.append(config)) or True).restart
    assert seen == [PAPER.encode()]
    assert os.listdir(box.data) == ["lost+found"]


def test_the_host_key_is_overwritten_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every secret is encrypted with is zeros, on the disk, before anything is deleted."""
    box = used(tmp_path)
    path = box.data / "systemd" / "credential.secret"
    seen: list[bytes] = []
    real = reset_module._clear

    def clear(folder: Path, kept: tuple[str, ...], problems: list[str]) -> None:
        seen.append(path.read_bytes() if path.exists() else b"")
        real(folder, kept, problems)

    monkeypatch.setattr(reset_module, "_clear", clear)
    box.held = True
    assert box.run().restart
    assert seen[0] == bytes(4096)


def test_what_cannot_be_deleted_is_told_and_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box does not start anew before everything is gone, and goes on with the reset at the next boot."""
    box = used(tmp_path)
    box.put(**{"factory-reset": ""})
    real = os.unlink

    def unlink(path: Path, **more: int) -> None:
        if Path(path).name == "1":
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, **more)

    monkeypatch.setattr(os, "unlink", unlink)
    ended = box.run()
    one = f"factory reset: {box.data}/mmpi/journal/1 cannot be deleted: Operation not permitted (and 2 more)"
    assert (ended.restart, ended.outcome.errors) == (False, (one,))
    assert "factory-reset" in box.names()
    (box.folder / "factory-reset").unlink()
    monkeypatch.undo()
    assert box.run().restart


# The buttons ------------------------------------------------------------------------------------------------------


def pressed_for(count: int) -> tuple[bool, list[float]]:
    """Return the verdict on buttons that are pressed for so many samples, and the sleeps between them."""
    left, slept = [count], list[float]()

    def sample() -> bool:
        left[0] -= 1
        return left[0] >= 0

    return are_held(sample, slept.append), slept


def test_how_long_is_held() -> None:
    """Five seconds without a gap; not pressed at the first look, it costs no time at all."""
    assert pressed_for(0) == (False, [])
    assert pressed_for(50) == (False, [0.05] * 50)
    assert pressed_for(100) == (False, [0.05] * 100)
    held, slept = pressed_for(101)
    assert (held, round(sum(slept), 3)) == (True, 5.0)


@pytest.mark.parametrize(
    ("driven", "second", "held"),
    [
        ({}, -1, False),  # no panel: every line is pulled up
        ({5: 0}, -1, False),  # at rest
        ({5: 1, 13: 1}, -1, False),  # kill alone
        ({5: 0, 13: 0}, -1, False),  # arm alone
        ({5: 1, 13: 0}, -1, True),
        ({5: 1, 13: 0}, 6, False),  # the second kill contact does not close
        ({5: 1, 13: 0, 6: 0}, 6, True),
        ({5: 0, 13: 0, 6: 0}, 6, False),  # every wire to ground
    ],
)
def test_what_is_a_hand_on_both(
    monkeypatch: pytest.MonkeyPatch, driven: dict[int, int], second: int, held: bool
) -> None:
    """Kill open and arm closed; a panel that is missing, at rest or shorted is nobody's hand. The pins are let go."""
    chip = Chip()
    chip.driven = driven
    chip.close = lambda: setattr(chip, "closed", chip.closed + 1)  # type: ignore[attr-defined]
    monkeypatch.setattr(gpiod_pins.GpiodLines, "open", lambda name: chip if name == "chip" else None)
    pins = PinSettings(backend="gpiod", chip="chip", kill=5, arm=13, kill_second=second)
    assert held_at_start(pins, lambda _: None) is held
    assert set(chip.pulls.values()) == {"up"}
    assert chip.closed == 1


@pytest.mark.parametrize("pins", [PinSettings(), PinSettings(backend="virtual"), PinSettings(backend="gpiod", arm=-1)])
def test_a_box_without_buttons(pins: PinSettings) -> None:
    """Nothing is opened where no two buttons are wired to the kernel's chip."""
    assert not held_at_start(pins, lambda _: pytest.fail("waited"))


def test_a_chip_that_is_not_there() -> None:
    """It is an error, which the set-up notes."""
    pins = PinSettings(backend="gpiod", chip="/dev/no-such-chip")
    with pytest.raises(DeviceError, match="/dev/no-such-chip"):
        held_at_start(pins, lambda _: None)
    assert buttons.wanted_levels(PINS) == {5: 1, 13: 0}


def test_what_is_read_of_a_configuration() -> None:
    """Mode and pins; whatever cannot be read is paper without buttons."""
    assert pins_of(b'[pins]\nbackend = "gpiod"\nkill = 7\n') == PinSettings(backend="gpiod", kill=7)
    assert mode_of(b'[venue]\nmode = "live"\n') == "live"
    wrong = b'[pins]\nkill = "x"\n[venue]\nmode = 3'
    for content in (None, b"", b"x", b"\xff", b"pins = 3\nvenue = 4", wrong, b"[" * 5000):
        assert (mode_of(content), pins_of(content)) == ("paper", PinSettings())
