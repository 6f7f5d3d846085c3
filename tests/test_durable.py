"""A file put in another's place: the old or the new one at every moment, and on the disk when it is said to be."""

import errno
import os
from pathlib import Path

import pytest

from mmpi.device import durable


def test_the_new_content_is_on_the_disk_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File synced, put in place, folder synced: in this order, and others may not read it."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def replaced(old: Path, new: Path) -> None:
        done.append(f"{old.name} -> {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    path = tmp_path / "state" / "x.json"
    durable.replace(path, b"new")
    assert done == ["x.json.new", "x.json.new -> x.json", "state"]
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whatever fails before it is in place is an error, and the old file is as it was."""
    path = tmp_path / "x.json"
    durable.replace(path, b"old")

    def failing(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="Input/output error"):
        durable.replace(path, b"new")
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]
    assert path.read_bytes() == b"old"


def test_a_short_write_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes only some bytes has not taken the file."""
    monkeypatch.setattr(os, "write", lambda _, data: len(data) - 1)
    with pytest.raises(OSError, match="No space left on device"):
        durable.replace(tmp_path / "x.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_what_a_cut_left_over_is_in_nobodys_way(tmp_path: Path) -> None:
    """A temporary file of another run, a link too, is taken away and never written through."""
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    (tmp_path / "x.json.new").symlink_to(other)
    durable.replace(tmp_path / "x.json", b"new")
    assert (other.read_bytes(), (tmp_path / "x.json").read_bytes()) == (b"mine", b"new")
    assert not (tmp_path / "x.json").is_symlink()
