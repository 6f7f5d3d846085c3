"""mmpi.device.identity: an id for each box, an epoch for each run, and what happens when the disk says otherwise."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from mmpi.device import identity
from mmpi.device.identity import instance_id, next_prefix
from mmpi.errors import DeviceError


def test_a_box_keeps_its_id(tmp_path: Path) -> None:
    """The instance id is four random bytes, the same for ever, and private to the user."""
    first = instance_id(tmp_path / "state")
    assert re.fullmatch("0x[0-9a-f]{8}", first)
    assert instance_id(tmp_path / "state") == first
    assert instance_id(tmp_path / "other") != first
    assert stat.S_IMODE((tmp_path / "state" / "instance").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_every_run_has_its_own_epoch(tmp_path: Path) -> None:
    """Prefixes share the box's id, count up, and are on disk when they are given out."""
    prefixes = [next_prefix(tmp_path) for _ in range(3)]
    assert prefixes == [f"{instance_id(tmp_path)}{epoch:08x}" for epoch in (1, 2, 3)]
    assert (tmp_path / "epoch").read_text() == "3\n"


def test_the_epoch_is_on_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content, then name, then folder are synced, in this order, before the prefix is known."""
    instance_id(tmp_path)
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(fd: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "content")
        fsync(fd)

    def noted_rename(path: Path, target: Path) -> Path:
        done.append("name")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    next_prefix(tmp_path)
    assert done == ["content", "name", "folder"]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_full_disk_gives_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """An epoch that cannot be kept is not used, and the one on disk stays as it was."""
    next_prefix(tmp_path)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(DeviceError, match=r"epoch: the run's epoch cannot be kept: .*No space left on device"):
            next_prefix(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["epoch", "instance"]
    assert next_prefix(tmp_path).endswith("00000002")


@pytest.mark.parametrize("text", ["", "1234567", "123456789", "1234567G", "ABCDEF01", "\x00" * 8])
def test_a_damaged_id_is_not_replaced(tmp_path: Path, text: str) -> None:
    """A box that forgot who it is says so; a new id would disown the orders that are out there."""
    (tmp_path / "instance").write_text(text)
    with pytest.raises(DeviceError, match="is no instance id; allowed: 8 hex digits"):
        instance_id(tmp_path)
    assert (tmp_path / "instance").read_text() == text


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """An id file of other bytes is the same error, not a crash."""
    (tmp_path / "instance").write_bytes(b"\xff" * 8)
    with pytest.raises(DeviceError, match="instance: the instance id cannot be kept"):
        instance_id(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x\n", b"\xff\n", b"1.5\n", b"-1\n", b"4294967295\n"])
def test_a_damaged_epoch_gives_no_prefix(tmp_path: Path, content: bytes) -> None:
    """An epoch that cannot be read, or has none after it, is not guessed: ids would repeat."""
    (tmp_path / "epoch").write_bytes(content)
    with pytest.raises(DeviceError, match="epoch: the run's epoch cannot be kept"):
        next_prefix(tmp_path)
    assert (tmp_path / "epoch").read_bytes() == content


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A state folder that cannot be made is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"file/state/instance: the instance id cannot be kept: .*Not a directory"):
        instance_id(tmp_path / "file" / "state")


def test_guardian_and_quoter_start_together(tmp_path: Path) -> None:
    """However many make the id at the same moment, all get the same one, and nothing else is left in the folder."""
    start, ids = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        ids.append(instance_id(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert os.listdir(tmp_path) == [identity.INSTANCE_FILE]
