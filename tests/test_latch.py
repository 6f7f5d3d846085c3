"""The latch (I3): only an intact, explicit "armed" is armed."""

import errno
import json
import os
import stat
import zlib
from pathlib import Path

import pytest

from mmpi.device.latch import MAX_TEXT, Latch, LatchState
from mmpi.errors import DeviceError

STEPS = ["open", "write", "fsync", "replace", "fsync the folder"]


def armed(folder: Path) -> Latch:
    """Return a latch that a person has armed."""
    latch = Latch(folder / "latch.json")
    latch.arm("hand", "ready", 5)
    return latch


def latched(folder: Path) -> Latch:
    """Return a latch that was armed and then pressed."""
    latch = armed(folder)
    latch.trip("button", "pressed", 7)
    return latch


def break_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one system call of the next write fail as a dying disk does."""
    name = step.split()[0]
    real, calls = getattr(os, name), 0

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if step == "fsync the folder" and calls == 1:
            return real(*args, **kwargs)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, name, failing)


def test_an_armed_latch_is_armed(tmp_path: Path) -> None:
    """Armed survives in a new object, with who, why, when and its generation."""
    armed(tmp_path)
    assert Latch(tmp_path / "latch.json").load() == LatchState(False, "ready", 1, "hand", 5)


def test_a_tripped_latch_is_latched(tmp_path: Path) -> None:
    """Latched survives in a new object; arming it again takes one more generation."""
    latched(tmp_path)
    latch = Latch(tmp_path / "latch.json")
    assert latch.load() == LatchState(True, "pressed", 2, "button", 7)
    assert latch.arm("hand", "again", 9) == latch.load() == LatchState(False, "again", 3, "hand", 9)


def test_the_file_is_one_canonical_line(tmp_path: Path) -> None:
    """The file has the documented keys in one line, its CRC is of the record with crc 0, and others may not read it."""
    latch = latched(tmp_path / "new" / "state")
    data = latch.path.read_bytes()
    content = json.loads(data)
    assert list(content) == ["version", "state", "generation", "reason", "by", "at", "scope", "crc"]
    assert data.count(b"\n") == 1
    plain = json.dumps({**content, "crc": 0}, separators=(",", ":")).encode()
    assert content["crc"] == zlib.crc32(plain)
    assert stat.S_IMODE(latch.path.stat().st_mode) == 0o640
    assert stat.S_IMODE(latch.path.parent.stat().st_mode) == 0o700


def test_the_first_reason_stays(tmp_path: Path) -> None:
    """Tripping a latched latch changes nothing, not even the file."""
    latch = latched(tmp_path)
    before = latch.path.stat().st_ino, latch.path.read_bytes()
    assert latch.trip("guardian", "heartbeat", 99) == LatchState(True, "pressed", 2, "button", 7)
    assert (latch.path.stat().st_ino, latch.path.read_bytes()) == before


def test_a_trip_replaces_a_bad_file(tmp_path: Path) -> None:
    """A file that is latched for being bad is written properly by the next trip."""
    latch = armed(tmp_path)
    latch.path.write_bytes(b"noise")
    latch.trip("button", "pressed", 7)
    assert latch.load() == LatchState(True, "pressed", 1, "button", 7)


def test_missing_is_latched(tmp_path: Path) -> None:
    """No file: latched, and the reason says so."""
    state = Latch(tmp_path / "latch.json").load()
    assert (state.latched, state.valid) == (True, False)
    assert state.reason.endswith("latch.json does not exist: never armed")


def test_unreadable_is_latched(tmp_path: Path) -> None:
    """Something that cannot be read as a file: latched, with the system's word."""
    (tmp_path / "latch.json").mkdir()
    state = Latch(tmp_path / "latch.json").load()
    assert (state.latched, state.valid) == (True, False)
    assert state.reason.endswith("latch.json cannot be read: Is a directory")


@pytest.mark.parametrize("make", [armed, latched])
def test_truncated_at_every_byte_is_latched(tmp_path: Path, make: type[Latch]) -> None:
    """No proper prefix of the file, the empty one included, is trusted."""
    latch = make(tmp_path)
    data = latch.path.read_bytes()
    for size in range(len(data)):
        latch.path.write_bytes(data[:size])
        state = latch.load()
        assert (state.latched, state.valid) == (True, False)
        assert "is not trusted" in state.reason


@pytest.mark.parametrize("make", [armed, latched])
def test_every_flipped_bit_is_latched(tmp_path: Path, make: type[Latch]) -> None:
    """No file with one wrong bit is trusted."""
    latch = make(tmp_path)
    data = latch.path.read_bytes()
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        latch.path.write_bytes(bad)
        state = latch.load()
        assert (state.latched, state.valid) == (True, False)


def test_only_the_canonical_bytes_are_trusted(tmp_path: Path) -> None:
    """The same content in other bytes, with more behind it, or of another version, is latched and says why."""
    latch = armed(tmp_path)
    data = latch.path.read_bytes()
    content = json.loads(data)
    for bad, reason in (
        (b"", "it is empty"),
        (data + b"\n", "its bytes are not canonical"),
        (data + b"x", "it is not a latch record"),
        (data * 2, "it is not a latch record"),
        (data + bytes(10**6), "it is not a latch record"),
        (data.replace(b":2,", b": 2,"), "its bytes are not canonical"),
        (json.dumps(content).encode() + b"\n", "its bytes are not canonical"),
        (data.replace(b"{", b'{"state":"latched",'), "its bytes are not canonical"),
        (data.replace(b"armed", b"ARMED"), "its state is 'ARMED'"),
        (data.replace(b'"version":2', b'"version":1'), "its version is 1, not 2"),
        (data.replace(b"ready", b"reddy"), "its CRC does not match"),
        (data.replace(b'"at":5', b'"at":"5"'), "it is not a latch record"),
        (b"[]", "it is not a latch record"),
        (b"\xff\xfe", "it is not a latch record"),
    ):
        latch.path.write_bytes(bad)
        state = latch.load()
        assert (state.latched, state.valid) == (True, False)
        assert reason in state.reason


@pytest.mark.parametrize("step", STEPS)
def test_a_trip_that_cannot_be_written_is_latched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A trip that fails at any step is an error naming the file; the armed record is gone, so it is latched (I3)."""
    latch = armed(tmp_path)
    break_at(step, monkeypatch)
    with pytest.raises(DeviceError, match=r"latch.json: the latch was not written \(latched\): Input/output error"):
        latch.trip("button", "pressed", 7)
    monkeypatch.undo()
    assert latch.load().latched
    assert latch.trip("button", "pressed", 8).latched
    assert latch.load().latched


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_arm_stays_latched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """An arm that fails at any step leaves the latch latched, and can be repeated."""
    latch = latched(tmp_path)
    break_at(step, monkeypatch)
    with pytest.raises(DeviceError, match=r"\(armed\): Input/output error"):
        latch.arm("hand", "again", 9)
    monkeypatch.undo()
    assert latch.load().latched
    assert not latch.arm("hand", "again", 9).latched
    assert not latch.load().latched


def test_a_short_write_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes half of the record never puts that half in the latch's place."""
    latch = latched(tmp_path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(DeviceError, match="No space left on device"):
        latch.arm("hand", "again", 9)
    monkeypatch.undo()
    assert latch.load() == LatchState(True, "pressed", 2, "button", 7)


def test_left_over_temporary_files_are_harmless(tmp_path: Path) -> None:
    """A power cut's half-written temporary file, whatever its mode, is neither read nor in the way."""
    latch = Latch(tmp_path / "latch.json")
    left = tmp_path / "latch.json.new"
    left.write_bytes(b'{"state":"armed"')
    left.chmod(0o400)
    assert latch.load().latched
    latch.arm("hand", "ready", 5)
    assert not latch.load().latched
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latch.json"]


def test_no_text_can_keep_it_from_latching(tmp_path: Path) -> None:
    """Reasons that are endless, of many lines or not even Unicode are stored, cut to MAX_TEXT characters."""
    latch = Latch(tmp_path / "latch.json")
    for text in ("x" * 10**6, "\x1f" * 10**4, "\U0001f534" * 10**4, "a\nb\udc80"):
        latch.arm("hand", "", 1)
        latch.trip(text, text, 2)
        state = latch.load()
        assert (state.latched, state.valid) == (True, True)
        assert state.reason == text[:MAX_TEXT].replace("\udc80", "?")


def test_nothing_is_confirmed_before_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trip returns only after: the new file synced, then put in place, then its folder synced."""
    latch = armed(tmp_path)
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
        fsync(fd)

    def replaced(old: Path, new: Path) -> None:
        done.append(f"{old.name} -> {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    latch.trip("button", "pressed", 7)
    assert done == ["sync latch.json.new", "latch.json.new -> latch.json", f"sync {tmp_path.name}"]


def test_the_scope_is_kept(tmp_path: Path) -> None:
    """What a box was armed for is on disk, and a latch keeps the word of it."""
    latch = Latch(tmp_path / "latch.json")
    assert latch.arm("hand", "ready", 5, "account and configuration").scope == latch.load().scope
    latch.trip("button", "pressed", 7)
    assert (latch.load().latched, latch.load().scope) == (True, "account and configuration")
    assert latch.arm("hand", "ready", 9).scope == ""
