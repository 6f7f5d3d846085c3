"""The ledger's file: whole blocks, never written twice; what failed is never trusted again."""

import errno
import os
from pathlib import Path

import pytest

from mmpi.journal import ledger_file
from mmpi.journal.entries import Commit
from mmpi.journal.ledger_file import AHEAD, LedgerFile, older_segments
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import BLOCK, COMMIT, NOTE, SESSION, Record, decode, encode_payload
from mmpi.journal.recovery import read_ledger
from mmpi.journal.survey import verify_journal

OPENING = [(SESSION, encode_payload(("scope", "0x", b"{}")))]


def note(text: str) -> tuple[int, bytes]:
    """Return an entry of a few bytes."""
    return NOTE, encode_payload(text)


def notes(folder: Path) -> list[str]:
    """Return the notes in a ledger."""
    return [decode(item) for item in read(folder) if isinstance(item, Record) and item.kind == NOTE]


def begun(folder: Path, segment_bytes: int = 64 * 1024) -> LedgerFile:
    """Return a ledger with one segment and the note "a"."""
    file = LedgerFile(folder, segment_bytes=segment_bytes)
    file.begin(OPENING, [note("a")], 1)
    return file


def test_what_is_committed_is_read_back(tmp_path: Path) -> None:
    """Each commit has its number and its records, in their order, behind what the segment opens with."""
    file = begun(tmp_path)
    file.commit([note("b"), note("c")], 2)
    found = [item for item in read(tmp_path) if isinstance(item, Record)]
    assert [item.kind for item in found] == [SESSION, COMMIT, NOTE, COMMIT, NOTE, NOTE]
    assert [item.number for item in found] == list(range(6))
    assert [decode(item) for item in found if item.kind == COMMIT] == [Commit(1, 1), Commit(2, 2)]
    assert verify_journal(tmp_path).damage == ()


def test_no_committed_block_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write begins behind all that was committed, at a block's start, and fills whole blocks."""
    real, written = os.pwrite, 0

    def pwrite(fd: int, data: bytes, at: int) -> int:
        nonlocal written
        assert at >= written and at % BLOCK == 0 and len(data) % BLOCK == 0
        # What it writes ahead is nothing but zeros.
        written = at + -(-len(data.rstrip(b"\0")) // BLOCK) * BLOCK
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    file = begun(tmp_path)
    for number in range(20):
        file.commit([note("x" * 300 * number)], number)
    assert written > 20 * BLOCK and len(notes(tmp_path)) == 21


def test_room_is_reserved_and_given_back(tmp_path: Path) -> None:
    """A segment has its size from the start, which reads as nothing; closed, it ends with its last commit."""
    file = begun(tmp_path)
    path = tmp_path / "00000001.mmj"
    assert path.stat().st_size == 64 * 1024
    assert verify_journal(tmp_path).records == 3
    file.close()
    assert path.stat().st_size == BLOCK


def test_a_full_segment_is_followed(tmp_path: Path) -> None:
    """What does not fit goes into the next segment, whose numbers go on."""
    file = begun(tmp_path)
    entries = [note("y" * 10_000)]
    while file.has_room(entries):
        file.commit(entries, 3)
    file.begin(OPENING, entries, 4)
    assert file.number == 2 and older_segments(tmp_path, 2) == [tmp_path / "00000001.mmj"]
    segments = [item for item in read(tmp_path) if isinstance(item, Segment)]
    assert [each.follows for each in segments] == [False, True]
    assert verify_journal(tmp_path).damage == ()


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_after_a_failure_a_fresh_segment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """A failed write or fsync is an error; the same records in a fresh segment are read once committed."""
    file = begun(tmp_path)
    before = file.records

    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match=os.strerror(code)):
            file.commit([note("b")], 2)
        assert not file.has_room([note("b")]) and file.records == before
        with pytest.raises(OSError, match=os.strerror(code)):
            file.begin(OPENING, [note("b")], 3)
    file.begin(OPENING, [note("b")], 4)
    assert file.number == 2
    # With a failed fsync the data may be on the disk all the same: then it is there twice.
    assert notes(tmp_path) in (["a", "b"], ["a", "b", "b"])
    assert verify_journal(tmp_path).damage == ()


def test_a_commit_writes_its_block_and_one_in_sixteen_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros are written ahead for sixteen commits at once; what was reserved is never left, after a restart neither."""
    real, sizes = os.pwrite, []

    def pwrite(fd: int, data: bytes, at: int) -> int:
        sizes.append(len(data))
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(ledger_file, "is_lazy", lambda _: True)
    file = begun(tmp_path, segment_bytes=512 * 1024)
    path = tmp_path / "00000001.mmj"
    for number in range(16):
        file.commit([note("b")], number)
        assert path.stat().st_size == 512 * 1024
    assert sizes == [BLOCK, AHEAD - BLOCK, *[BLOCK] * 14, AHEAD]
    file.close()
    assert path.stat().st_size == 17 * BLOCK
    end = read_ledger(tmp_path)
    assert end.path == path and end.header is not None
    again = LedgerFile(tmp_path, segment_bytes=512 * 1024)
    again.resume(path, end.header, end.end, end.records, end.commits)
    assert path.stat().st_size == 512 * 1024
    del sizes[:]
    again.commit([note("c")], 20)
    again.commit([note("d")], 21)
    assert sizes == [AHEAD * 2 - 17 * BLOCK, BLOCK]
    again.close()
    assert path.stat().st_size == 19 * BLOCK
    assert notes(tmp_path) == ["a", *"b" * 16, "c", "d"]
    assert verify_journal(tmp_path).damage == ()


def test_without_reserved_room_nothing_is_written_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that reserves nothing each commit takes the room it needs, and no more."""

    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr(ledger_file, "is_lazy", lambda _: True)
    file = begun(tmp_path)
    file.commit([note("b")], 2)
    assert (tmp_path / "00000001.mmj").stat().st_size == 2 * BLOCK
    assert notes(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("lazy", [True, False])
def test_zeros_are_written_ahead_where_times_are_kept_in_memory(tmp_path: Path, lazy: bool) -> None:
    """Elsewhere the file system's journal is written for every commit, and zeros would cost more than they save."""
    device = os.makedev(179, 4)
    (tmp_path / "mounts").write_text(
        "22 27 0:21 / /proc rw,relatime - proc proc rw,lazytime\n"
        f"40 27 179:4 /mmpi /var/lib/mmpi rw,noatime shared:5 - ext4 /dev/mmcblk0p4 rw{',lazytime' if lazy else ''}\n"
        "41 27 179:1 / /boot rw - vfat /dev/mmcblk0p1 rw,lazytime\nshort\n"
    )
    assert ledger_file.is_lazy(device, tmp_path / "mounts") is lazy
    assert not ledger_file.is_lazy(device, tmp_path / "missing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_file, "is_lazy", lambda _: lazy)
        file = begun(tmp_path / "ledger")
        file.commit([note("b")], 2)
    assert file.written == (AHEAD if lazy else 2 * BLOCK)


@pytest.mark.parametrize("cut", range(BLOCK, BLOCK + 5000, 97))
def test_a_torn_tail_is_cut_and_told(tmp_path: Path, cut: int) -> None:
    """Cut anywhere in its last commit, a ledger goes on behind the one before, without a trace of the torn one."""
    file = begun(tmp_path)
    file.commit([note("b" * 5000)], 2)
    file.close()
    path = tmp_path / "00000001.mmj"
    os.truncate(path, cut)
    os.truncate(path, 64 * 1024)  # zeros, as reserved blocks that were never written are
    end = read_ledger(tmp_path)
    again = LedgerFile(tmp_path, segment_bytes=64 * 1024)
    assert end.path == path and end.header is not None
    again.resume(end.path, end.header, end.end, end.records, end.commits)
    again.commit([note("c")], 3)
    assert notes(tmp_path) == ["a", "c"]
    verdict = verify_journal(tmp_path)
    assert verdict.damage == () and verdict.torn == ()
    assert path.stat().st_size == 64 * 1024


def test_a_ledger_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """A segment whose header cannot be read is never written to; the next one begins behind it."""
    begun(tmp_path).close()
    path = tmp_path / "00000001.mmj"
    data = bytearray(path.read_bytes())
    data[8] ^= 0x40
    path.write_bytes(data)
    end = read_ledger(tmp_path)
    assert end.path is None and end.number == 1 and end.repaired
    file = LedgerFile(tmp_path)
    file.skip(end.number, end.records, end.commits)
    file.begin(OPENING, [note("b")], 2)
    assert path.read_bytes() == bytes(data)
    assert notes(tmp_path) == ["b"]


def test_a_segment_that_could_not_be_deleted_is_passed_over(tmp_path: Path) -> None:
    """What a failing disk left under the next number costs that number, and one more attempt."""
    file = begun(tmp_path)
    (tmp_path / "00000002.mmj").write_bytes(b"")
    with pytest.raises(FileExistsError):
        file.begin(OPENING, [note("b")], 2)
    file.begin(OPENING, [note("b")], 3)
    assert file.number == 3 and notes(tmp_path) == ["a", "b"]
