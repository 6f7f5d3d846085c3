"""The boot record: whether the machine was booted since the guardian last ran."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.boot import BootRecord
from mmpi.errors import DeviceError

FIRST = "0d4a7f9e-3c1b-4f53-9f3e-0a8b6d2c1e57"
SECOND = "5b2e8c10-77aa-4f0d-8a3e-9c1d2e3f4a5b"


def booted(root: Path, boot_id: str = FIRST) -> BootRecord:
    """Return the record on a machine in this boot."""
    file = root / "proc/sys/kernel/random/boot_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{boot_id}\n")
    return BootRecord(root / "state/boot.json", root / "proc", root / "sys")


def test_a_box_that_never_ran_is_newly_booted(tmp_path: Path) -> None:
    """Without a record the boot is a new one."""
    assert booted(tmp_path).is_new_boot()


def test_a_guardian_that_starts_again_is_in_the_same_boot(tmp_path: Path) -> None:
    """Once remembered, a boot is the same for every later guardian."""
    booted(tmp_path).remember(7)
    assert not booted(tmp_path).is_new_boot()
    booted(tmp_path).remember(8)
    assert not booted(tmp_path).is_new_boot()


def test_asking_remembers_nothing(tmp_path: Path) -> None:
    """A guardian that dies between asking and acting is asked again: the boot is still new."""
    booted(tmp_path).is_new_boot()
    assert booted(tmp_path).is_new_boot()
    assert not (tmp_path / "state").exists()


def test_after_a_boot_it_is_another(tmp_path: Path) -> None:
    """The kernel's next boot id makes the boot new, until that one is remembered."""
    booted(tmp_path).remember(7)
    assert booted(tmp_path, SECOND).is_new_boot()
    booted(tmp_path, SECOND).remember(9)
    assert not booted(tmp_path, SECOND).is_new_boot()
    assert booted(tmp_path, FIRST).is_new_boot()


def test_the_record_is_what_it_is(tmp_path: Path) -> None:
    """The file holds boot id, time, whether the run ended cleanly, and how the one before did, as JSON."""
    booted(tmp_path).remember(7)
    assert json.loads((tmp_path / "state/boot.json").read_text()) == {
        "boot_id": FIRST, "at": 7, "clean": False,
        "before": {"ended": "first", "reason": "the guardian has not run on this box before"},
    }  # fmt: skip


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Without the later fields it says which boot it was, and that nothing is known of a clean end."""
    record = booted(tmp_path)
    record.remember(7)
    (tmp_path / "state/boot.json").write_text(f'{{"boot_id":"{FIRST}","at":7}}\n')
    assert not record.is_new_boot() and record.last_end().ended == "killed"


@pytest.mark.parametrize(
    ("boot", "clean", "bootstatus", "ended", "reason"),
    [
        (FIRST, True, "0", "clean", "told to end"),
        (FIRST, False, "0", "killed", "without a word"),
        (SECOND, True, "0", "clean", "shut down, or booted anew"),
        (SECOND, False, "0", "power", "the supply, or the kernel"),
        (SECOND, False, "0x20", "power", "the hardware watchdog reset the machine"),
        (SECOND, False, "32", "power", "the hardware watchdog reset the machine"),
        (SECOND, False, "garbage", "power", "the supply, or the kernel"),
        (SECOND, True, "0x20", "clean", "shut down, or booted anew"),
    ],
)
def test_how_the_run_before_ended(
    tmp_path: Path, boot: str, clean: bool, bootstatus: str, ended: str, reason: str
) -> None:
    """Told to end, killed, booted, cut off, or reset by the watchdog: each is told apart, and kept by the next run."""
    booted(tmp_path).remember(7, clean=clean)
    watchdog = tmp_path / "sys/class/watchdog/watchdog0"
    watchdog.mkdir(parents=True)
    (watchdog / "bootstatus").write_text(f"{bootstatus}\n")
    record = booted(tmp_path, boot)
    before = record.last_end()
    assert before.ended == ended and reason in before.reason
    record.remember(8, before)
    assert json.loads((tmp_path / "state/boot.json").read_text())["before"]["ended"] == ended


def test_no_run_before_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    """The first run says so; a file that cannot be read is neither clean nor a first run."""
    record = booted(tmp_path)
    assert record.last_end().ended == "first"
    (tmp_path / "state").mkdir()
    (tmp_path / "state/boot.json").write_text("garbage")
    assert record.last_end().ended == "unknown" and "boot.json" in record.last_end().reason


@given(st.binary(max_size=200))
def test_garbage_is_a_new_boot(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever the file holds, only an intact record of this boot is this boot."""
    root = tmp_path_factory.mktemp("boot")
    record = booted(root)
    (root / "state").mkdir()
    (root / "state/boot.json").write_bytes(data)
    assert record.is_new_boot()


def test_every_beginning_of_the_record_is_a_new_boot(tmp_path: Path) -> None:
    """A record that a power cut left half written is none."""
    record = booted(tmp_path)
    record.remember(7)
    data = (tmp_path / "state/boot.json").read_bytes()
    for size in range(len(data) - 1):
        (tmp_path / "state/boot.json").write_bytes(data[:size])
        assert record.is_new_boot()


@pytest.mark.parametrize("text", ["", "no uuid\n", "Z" * 36, FIRST[:-1]])
def test_a_kernel_that_does_not_say_is_a_new_boot(tmp_path: Path, text: str) -> None:
    """Without an id of this boot nothing can be this boot, and none is remembered."""
    booted(tmp_path).remember(7)
    record = booted(tmp_path, text)
    assert record.is_new_boot()
    with pytest.raises(DeviceError, match="boot_id: .* is no boot id; allowed: a UUID in lower case"):
        record.remember(8)


def test_a_kernel_without_the_file_is_a_new_boot(tmp_path: Path) -> None:
    """On a machine without procfs every start is a new boot."""
    record = BootRecord(tmp_path / "boot.json", tmp_path / "proc")
    assert record.is_new_boot()
    with pytest.raises(DeviceError, match="the kernel's boot id cannot be read: .*No such file"):
        record.remember(7)


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_disk_that_fails_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """What could not be written durably is an error, and the boot stays new."""
    booted(tmp_path).remember(7)
    record = booted(tmp_path, SECOND)

    def failing(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(DeviceError, match="boot.json: this boot was not remembered: Input/output error"):
        record.remember(8)
    monkeypatch.undo()
    assert record.is_new_boot()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["boot.json"]


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes only some bytes has not kept the record."""
    record = booted(tmp_path)
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data) - 1)
    with pytest.raises(DeviceError, match="No space left on device"):
        record.remember(8)
    monkeypatch.undo()
    assert record.is_new_boot()


def test_this_machine_has_a_boot(tmp_path: Path) -> None:
    """The kernel that these tests run on has an id that is taken."""
    BootRecord(tmp_path / "boot.json").remember(1)
    assert not BootRecord(tmp_path / "boot.json").is_new_boot()
