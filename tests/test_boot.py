"""The boot record: whether the machine was booted since the guardian last ran."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.boot import MAX_FILE, BootRecord, LastEnd
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
        "before": {"ended": "first", "reason": "the guardian has not run on this box before"}, "verdict": None,
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


def test_a_record_of_a_later_version_is_read(tmp_path: Path) -> None:
    """What a newer mmpi wrote beside what is known here breaks nothing: the box may go back to an older version."""
    record = booted(tmp_path)
    record.remember(7, clean=True)
    record.judge(True, "quoting", "0.1.0")
    path = tmp_path / "state/boot.json"
    content = json.loads(path.read_text())
    later = content | {"tries": [1, 2], "verdict": content["verdict"] | {"checks": {"dns": True}}}
    path.write_text(json.dumps(later))
    record = booted(tmp_path)
    assert not record.is_new_boot() and record.last_end().ended == "clean"
    assert record.verdict is not None and record.verdict.healthy


def judged(root: Path) -> dict[str, object] | None:
    """Return the verdict in the file."""
    found: dict[str, object] | None = json.loads((root / "state/boot.json").read_text())["verdict"]
    return found


def test_a_verdict_is_kept_with_when_and_where(tmp_path: Path) -> None:
    """It stands beside what the record says, with seconds since the boot, version and the boot loader's slot."""
    record = booted(tmp_path)
    (tmp_path / "proc/uptime").write_text("41.07 150.22\n")
    (tmp_path / "proc/cmdline").write_text("root=/dev/mmcblk0p3 rauc.slot=B quiet\n")
    before = LastEnd("power", "the supply, or the kernel")
    record.remember(7, before)
    record.judge(True, "quoting", "0.1.0")
    assert json.loads((tmp_path / "state/boot.json").read_text()) == {
        "boot_id": FIRST, "at": 7, "clean": False, "before": {"ended": "power", "reason": "the supply, or the kernel"},
        "verdict": {"healthy": True, "why": "quoting", "uptime_s": 41.07, "version": "0.1.0", "slot": "B"},
    }  # fmt: skip
    record.judge(False, "no quoter is running", "0.1.0")
    assert judged(tmp_path) == {
        "healthy": False, "why": "no quoter is running", "uptime_s": 41.07, "version": "0.1.0", "slot": "B",
    }  # fmt: skip


@pytest.mark.parametrize("uptime", [None, "", "soon\n"])
def test_what_the_kernel_does_not_say_is_not_made_up(tmp_path: Path, uptime: str | None) -> None:
    """Without an uptime and a slot the verdict is kept all the same."""
    record = booted(tmp_path)
    if uptime is not None:
        (tmp_path / "proc/uptime").write_text(uptime)
        (tmp_path / "proc/cmdline").write_bytes(b"quiet xrauc.slot=A \xff")
    record.remember(7)
    record.judge(True, "quoting", "0.1.0")
    assert judged(tmp_path) == {"healthy": True, "why": "quoting", "uptime_s": None, "version": "0.1.0", "slot": ""}


def test_a_guardian_that_starts_again_keeps_the_verdict(tmp_path: Path) -> None:
    """Within a boot the verdict outlives the guardian, its clean end too; the next boot is not judged yet."""
    first = booted(tmp_path)
    first.remember(7)
    first.judge(False, "no quoter is running", "0.1.0")
    first.remember(8, clean=True)
    again = booted(tmp_path)
    before = again.last_end()
    assert again.verdict is not None and again.verdict.why == "no quoter is running"
    again.remember(9, before)
    kept = judged(tmp_path)
    assert kept is not None and kept["healthy"] is False
    new = booted(tmp_path, SECOND)
    new.remember(10, new.last_end())
    assert new.verdict is None and judged(tmp_path) is None


def test_a_verdict_remembers_no_boot(tmp_path: Path) -> None:
    """A boot is remembered only when all that it leads to is on the disk: a verdict that comes earlier waits for it."""
    booted(tmp_path).remember(7)
    record = booted(tmp_path, SECOND)
    record.judge(True, "latched: smoke", "0.1.0")
    assert record.is_new_boot() and judged(tmp_path) is None
    record.remember(8)
    kept = judged(tmp_path)
    assert not record.is_new_boot() and kept is not None and kept["why"] == "latched: smoke"


@given(st.text(st.characters(exclude_categories=()), max_size=2000))
def test_no_reason_is_too_long_or_too_odd(tmp_path_factory: pytest.TempPathFactory, why: str) -> None:
    """Whatever a verdict says, the record of the boot is read again."""
    root = tmp_path_factory.mktemp("boot")
    record = booted(root)
    record.remember(7, LastEnd("power", "the machine ended first: the supply, or the kernel"))
    record.judge(False, why, "0.1.0")
    assert (root / "state/boot.json").stat().st_size < MAX_FILE
    assert not booted(root).is_new_boot()


def test_a_verdict_that_the_disk_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error, the old record stays, and this guardian knows the verdict all the same."""
    record = booted(tmp_path)
    record.remember(7)
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data) - 1)
    with pytest.raises(DeviceError, match="boot.json: the verdict on this boot was not kept: No space left on device"):
        record.judge(True, "quoting", "0.1.0")
    monkeypatch.undo()
    assert judged(tmp_path) is None and record.verdict is not None


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
