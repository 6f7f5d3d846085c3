"""The journal in memory when it cannot be written: what was refused is counted, and around the gap everything is exact.

The disk fails at any byte, in the kernel's own way where it can be had: by a limit on files, and on a tiny tmpfs.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import cancel, checkpoint, largest_file, snapshot, timer, writer
from test_replay import Counter, build

from mmpi.actions import Approved
from mmpi.events import Event
from mmpi.instrument import SECOND
from mmpi.journal.cold import compress, number_of, segment_paths
from mmpi.journal.entries import Gap, Session
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import ACTION, EVENT, GAP, SESSION, Record, decode
from mmpi.journal.survey import verify_journal
from mmpi.journal.writer import RETRY, JournalWriter
from mmpi.runtime.replay import verify_replay

STEP = SECOND // 4
SEGMENT = 2500
"""Bytes: a header, a checkpoint and some tens of events."""


class Quoter:
    """An engine and its journal; it knows what it was told that was written, and what was not."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT, max_bytes: int | None = None) -> None:
        self.folder, self.engine, self.now = folder, Counter(), 0
        self.kept: list[Event | Approved] = []
        self.lost: list[int] = []
        """Times of what was not written."""
        self.out = JournalWriter(
            folder, segment_bytes=segment_bytes, max_bytes=max_bytes,
            checkpoint=lambda: checkpoint(self.engine.checkpoint()),
        )  # fmt: skip

    def live(self, events: int) -> "Quoter":
        """Handle events, four a second, as the loop does: what cannot be written is handled all the same."""
        for _ in range(events):
            self.now += STEP
            event = timer(self.now)
            self._note(event, self.out.event(event))
            for action in self.engine.handle(event):
                self._note(action, self.out.action(action))
        return self

    def _note(self, what: Event | Approved, written: bool) -> None:
        if written:
            self.kept.append(what)
        else:
            self.lost.append(self.now)
            assert self.out.fault, "the reason is there as soon as something is lost"

    def close(self) -> None:
        """End, and check the journal: what returned True is there and nothing else, and the gaps count the rest."""
        self.out.close()
        found = list(read(self.folder))
        whole = [item for item in found if isinstance(item, Record)]
        assert [decode(item) for item in whole if item.kind in (EVENT, ACTION)] == self.kept
        gaps = [decode(item) for item in whole if item.kind == GAP]
        assert sum(gap.records for gap in gaps) == len(self.lost)
        if self.lost:
            assert gaps[0].since == self.lost[0]
        assert all(gap.since in self.lost and gap.why for gap in gaps)
        verdict = verify_journal(self.folder)
        assert (verdict.damage, verdict.torn, len(verdict.gaps), verdict.clean_stop) == ((), (), len(gaps), True)
        names = [number_of(path) for path in segment_paths(self.folder)]
        assert names == list(range(names[0], names[0] + len(names)))
        # Behind a gap a segment does not follow, and behind a rotation it does.
        segments = [item for item in found if isinstance(item, Segment)]
        told = {item.segment for item in whole if item.kind == GAP}
        assert [item.follows for item in segments[1:]] == [item.path.name not in told for item in segments[1:]]
        # Replay is exact on both sides.
        replay = verify_replay(self.folder, build)
        assert (replay.exact, replay.mismatch) == (True, None)
        assert replay.events == sum(not isinstance(each, Approved) for each in self.kept)
        assert replay.restarts == sum(item.path.name in told for item in segments[1:])


class Disk:
    """A disk in os.write's place that takes so many bytes, then fails so many times, then takes all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, failures: int, number: int = errno.EIO) -> None:
        self.room, self.failures, self.number, self.real = room, failures, number, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        """Write what there is room for."""
        if not self.failures:
            return self.real(fd, data)
        if not self.room:
            self.failures -= 1
            raise OSError(self.number, os.strerror(self.number))
        size = min(len(data), self.room)
        self.room -= size
        return self.real(fd, bytes(data[:size]))


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_disk_that_fails_at_any_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """Whatever part of whichever write is taken before the error, and however often it comes again."""
    gaps = set()
    for room in range(0, 4200, 131):
        folder = tmp_path / str(room)
        with monkeypatch.context() as patch:
            Disk(patch, room, failures)
            quoter = Quoter(folder).live(40)
        quoter.live(30).close()
        gaps.add(len(quoter.lost))
    assert len(gaps) > 2


def test_a_disk_that_takes_a_few_bytes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is cut short without an error goes on where it was cut."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    quoter = Quoter(tmp_path).live(60)
    quoter.close()
    assert quoter.lost == []


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3000), st.integers(1, 4)), min_size=1, max_size=5))
def test_a_disk_that_fails_again_and_again(
    tmp_path_factory: pytest.TempPathFactory, troubles: list[tuple[int, int, int]]
) -> None:
    """Any number of troubles, at any distance, in any part of a write: each has its gap."""
    quoter = Quoter(tmp_path_factory.mktemp("journal"))
    for events, room, failures in troubles:
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, room, failures)
            quoter.live(events)
    quoter.live(20).close()


def test_a_limit_of_the_kernel_at_any_byte(tmp_path: Path) -> None:
    """The same with the kernel's own partial writes: a segment is as long as it may be, and another one goes on."""
    for size in range(0, 3000, 97):
        quoter = Quoter(tmp_path / str(size), segment_bytes=4000).live(3)
        with largest_file(size):
            quoter.live(25)
            for path in segment_paths(quoter.folder):
                # What was there before the limit came is longer than that.
                assert path.stat().st_size <= max(size, 2000)
        quoter.live(20).close()


def test_it_is_tried_again_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts nothing touches the disk; the reason stands until one has worked, then it is gone."""
    quoter = Quoter(tmp_path).live(1)
    disk = Disk(monkeypatch, 0, 3)
    quoter.live(1)
    assert (disk.failures, quoter.out.segment) == (2, 0)
    assert quoter.out.fault == f"{tmp_path}/00000001.mmj: Input/output error"
    quoter.live(3)
    assert disk.failures == 2
    quoter.live(1)
    assert (disk.failures, RETRY) == (1, 4 * STEP)
    assert quoter.out.fault == f"{tmp_path}/00000002.mmj: Input/output error"
    quoter.live(4)
    assert disk.failures == 0
    quoter.live(3)
    assert quoter.out.fault != ""
    quoter.live(1)
    assert (quoter.out.fault, quoter.out.segment) == ("", 2)
    quoter.close()


def test_a_segment_is_left_as_it_was(tmp_path: Path) -> None:
    """What was written of a record that did not fit is taken back, and nothing follows in that segment."""
    out = writer(tmp_path)
    out.event(snapshot(1))
    (segment,) = tmp_path.iterdir()
    before = segment.read_bytes()
    with largest_file(len(before) + 100):
        assert not out.event(snapshot(2))
        assert segment.read_bytes() == before
        assert not out.action(cancel(2))
        assert out.fault == f"{segment}: File too large"
    assert not out.event(snapshot(3))
    assert not out.keep(SESSION, Session("paper", "0x", b"{}"), 3)
    assert out.event(snapshot(2 + SECOND))
    out.close()
    assert segment.read_bytes() == before
    (gap,) = (decode(item) for item in read(tmp_path) if isinstance(item, Record) and item.kind == GAP)
    # A session's state is written again soon, so it is not counted.
    assert gap == Gap(3, 2, f"{segment}: File too large")


def test_a_segment_that_cannot_be_begun_is_not_there(tmp_path: Path) -> None:
    """Where header, checkpoint and gap do not fit, no file is left, and its number is used by the next attempt."""
    quoter = Quoter(tmp_path)
    for size in (0, 100, 1400, 1500):
        with largest_file(size):
            quoter.live(5)
        assert list(tmp_path.iterdir()) == []
    quoter.live(5)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.mmj"]
    quoter.close()


def test_an_end_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """A run that ends on a full disk leaves what is there; it does not claim to have ended cleanly."""
    quoter = Quoter(tmp_path).live(3)
    (segment,) = tmp_path.iterdir()
    before = segment.read_bytes()
    with largest_file(len(before)):
        quoter.out.close()
        quoter.out.close()
    assert segment.read_bytes() == before
    verdict = verify_journal(tmp_path)
    assert (verdict.clean_stop, verdict.damage, verdict.torn) == (False, (), ())


def test_a_folder_that_vanished_is_made_anew(tmp_path: Path) -> None:
    """Deleted by somebody, the folder and the next segment are there again with the next event that needs one."""
    quoter = Quoter(tmp_path / "journal")
    (tmp_path / "journal").rmdir()
    quoter.live(5).close()


def test_a_file_in_a_segments_place_is_left_alone(tmp_path: Path) -> None:
    """A number that somebody else has taken is passed over; nothing is written into what is there."""
    quoter = Quoter(tmp_path).live(1)
    strange = tmp_path / "00000002.mmj"
    strange.write_bytes(b"")
    quoter.live(60)
    quoter.out.close()
    assert strange.read_bytes() == b""
    assert 3 in [number_of(path) for path in segment_paths(tmp_path)]
    assert len(verify_journal(tmp_path).gaps) == 1


# No room ------------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[int]:
    """Return the numbers of the segments that are there."""
    return [number_of(path) for path in segment_paths(folder)]


def test_the_oldest_segment_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that there is no room one segment is deleted, the oldest; the one that was written last goes last."""
    quoter = Quoter(tmp_path).live(60)
    first, *rest = names(tmp_path)
    assert len(rest) > 2
    for expected in (rest, rest[1:], rest[2:]):
        with monkeypatch.context() as patch:
            Disk(patch, 0, 1, errno.ENOSPC)
            quoter.live(1)
        assert names(tmp_path)[: len(expected)] == expected
        quoter.live(8)
    assert first not in names(tmp_path)


def test_the_only_segment_is_not_deleted_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills the memory may stop: what tells of the last minutes goes only when the next one has no room."""
    quoter = Quoter(tmp_path).live(2)
    disk = Disk(monkeypatch, 0, 2, errno.ENOSPC)
    quoter.live(1)
    assert (names(tmp_path), disk.failures) == ([1], 1)
    quoter.live(4)
    assert (names(tmp_path), disk.failures) == ([], 0)
    quoter.live(8)
    assert (names(tmp_path), quoter.out.fault) == ([2], "")


def test_another_error_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails has no more room for less."""
    quoter = Quoter(tmp_path).live(60)
    before = names(tmp_path)
    Disk(monkeypatch, 0, 3, errno.EIO)
    quoter.live(20)
    assert names(tmp_path)[: len(before)] == before


def test_a_cold_oldest_segment_goes_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever name it has by now."""
    quoter = Quoter(tmp_path).live(60)
    oldest, second, *_ = segment_paths(tmp_path)
    compress(oldest, durable=False)
    Disk(monkeypatch, 0, 1, errno.ENOSPC)
    quoter.live(1)
    assert segment_paths(tmp_path)[0] == second


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Give a real file system in memory of this size."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},noswap", "mmpi-test", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        command[4] = f"size={size}"
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_tmpfs_that_is_smaller_than_the_cap(tmp_path: Path) -> None:
    """A real file system without room: the journal stays on it for ever, always the last segments, each gap counted."""
    with tmpfs(tmp_path / "run", "32k") as folder:
        quoter = Quoter(folder / "journal", segment_bytes=7000, max_bytes=10**6).live(1500)
        assert len(quoter.lost) > 10
        assert names(quoter.folder)[0] > 3
        assert verify_journal(quoter.folder).damage == ()
        there = [decode(item) for item in read(quoter.folder) if isinstance(item, Record) and item.kind == EVENT]
        kept = [each for each in quoter.kept if not isinstance(each, Approved)]
        assert len(there) > 20
        assert there == kept[len(kept) - len(there) :]
        assert verify_replay(quoter.folder, build).exact


def test_a_tmpfs_that_others_have_filled(tmp_path: Path) -> None:
    """While there is no room nothing is kept; once there is, the journal goes on with the count of what is missing."""
    with tmpfs(tmp_path / "run", "64k") as folder:
        quoter = Quoter(folder / "journal", segment_bytes=7000).live(3)
        with pytest.raises(OSError, match="No space left"), (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))
        quoter.live(60)
        assert len(quoter.lost) > 10
        (folder / "filler").unlink()
        quoter.live(10)
        quoter.out.close()
        *_, gap = (decode(item) for item in read(quoter.folder) if isinstance(item, Record) and item.kind == GAP)
        assert gap.why.endswith("No space left on device")
        assert verify_replay(quoter.folder, build).exact
