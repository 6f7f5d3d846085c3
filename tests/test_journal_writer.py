"""The writer: written before it returns, bounded, never over what is there; test_journal_full.py has its failures."""

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from journals import cancel, checkpoint, journal, largest_file, records, snapshot, timer, writer

from mmpi.errors import ConfigError, JournalError
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import Checkpoint, Session
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    EVENT,
    NOTE,
    SESSION,
    decode,
    decode_checkpoint,
    decode_event,
    description,
)
from mmpi.journal.survey import verify_journal
from mmpi.journal.writer import JournalWriter

KILLED = """
import os, signal, sys
sys.path.insert(0, "tests")
from pathlib import Path
from journals import cancel, timer, writer
out = writer(Path(sys.argv[1]))
out.event(timer(1))
out.action(cancel(1))
os.kill(os.getpid(), signal.SIGKILL)
"""
SMALL = 4096
"""Bytes of a segment: its header, a checkpoint, and a few books."""


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every segment by its name."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def test_records_come_back_in_order(tmp_path: Path) -> None:
    """A checkpoint opens the segment, events and actions follow as written, the last state and a note end it."""
    journal(tmp_path, [timer(1), snapshot(2)])
    found = records(tmp_path)
    assert [record.kind for record in found] == [CHECKPOINT, EVENT, ACTION, EVENT, ACTION, CHECKPOINT, NOTE]
    assert [record.number for record in found] == [0, 1, 2, 3, 4, 5, 6]
    assert [decode(record) for record in found] == [
        checkpoint(), timer(1), cancel(1), snapshot(2), cancel(2), checkpoint(), "clean stop",
    ]  # fmt: skip


def test_a_segment_says_what_it_is(tmp_path: Path) -> None:
    """Its header has its number, its run, its first record, its first event's time and the shapes of its records."""
    journal(tmp_path, [snapshot(ts) for ts in range(5, 30)], segment_bytes=SMALL)
    found = [item for item in read(tmp_path) if isinstance(item, Segment)]
    assert len(found) > 2
    for number, item in enumerate(found, start=1):
        first, event, *_ = records(item.path)
        header = item.header
        assert (header.number, header.run, header.first_record) == (number, 1, first.number)
        assert header.created_ns == decode_event(event).recv_ts
        assert header.description == description()


def test_i2_what_was_returned_survives_sigkill(tmp_path: Path) -> None:
    """I2: once `event` and `action` have returned, SIGKILL loses neither."""
    root = Path(__file__).resolve().parents[1]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [decode(record) for record in records(tmp_path)] == [checkpoint(), timer(1), cancel(1)]


def test_what_is_written_is_there_when_it_returns(tmp_path: Path) -> None:
    """Each call that returns True has its record in the file, with no word of anything torn, and counts its bytes."""
    out = writer(tmp_path, segment_bytes=SMALL)
    for ts in range(1, 40):
        assert out.event(snapshot(ts))
        assert decode(records(tmp_path)[-1]) == snapshot(ts)
        assert out.action(cancel(ts))
        assert decode(records(tmp_path)[-1]) == cancel(ts)
        assert out.written == sum(sizes(tmp_path).values())
    assert verify_journal(tmp_path).torn == ()


def test_buffered_writes_the_same_bytes_later(tmp_path: Path) -> None:
    """`buffered` changes when bytes are written and nothing else."""
    for name, buffered in (("plain", False), ("late", True)):
        out = writer(tmp_path / name, segment_bytes=SMALL, buffered=buffered)
        for ts in range(1, 60):
            out.event(snapshot(ts))
            out.action(cancel(ts))
        out.close()
    plain, late = sorted((tmp_path / "plain").iterdir()), sorted((tmp_path / "late").iterdir())
    assert len(plain) > 3
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in late]


def test_buffered_raises_what_fails(tmp_path: Path) -> None:
    """A backtest whose journal cannot be written ends with the reason, wherever in the segment that was."""
    for room in (0, 100, 70_000, 131_000):
        folder = tmp_path / str(room)
        out = writer(folder, buffered=True)
        with (
            largest_file(room),
            pytest.raises(JournalError, match="00000001.mmj: the journal cannot be written: File too large"),
        ):
            for ts in range(1, 10_000):
                out.event(snapshot(ts))
        assert len(list(folder.iterdir())) <= 1


def test_rotation_stands_before_an_event(tmp_path: Path) -> None:
    """A new segment begins with a checkpoint taken before its first event; actions stay with their event."""
    handled = count()
    last = 0

    def state() -> Checkpoint:
        return checkpoint(str(last).encode())

    out = writer(tmp_path, segment_bytes=2000, state=state)
    for _ in range(40):
        ts = next(handled) + 1
        out.event(timer(ts))
        for order in "abc":
            out.action(cancel(ts, order))
        last = ts
    out.close()
    found = records(tmp_path)
    *opening, _ = [index for index, record in enumerate(found) if record.kind == CHECKPOINT]
    assert len(opening) > 3
    for index in opening:
        first = decode_event(found[index + 1])
        assert decode_checkpoint(found[index]).engine_state == str(first.recv_ts - 1).encode()
    assert [record.number for record in found] == list(range(len(found)))


def test_other_records_stand_between(tmp_path: Path) -> None:
    """A session's state is kept in its place; before the first event there is no place."""
    out = writer(tmp_path)
    state = Session("paper", "0x", b"{}")
    assert not out.keep(SESSION, state, 1)
    assert out.segment == 0
    out.event(timer(1))
    assert out.keep(SESSION, state, 1)
    assert out.segment == 1
    out.close()
    assert [record.kind for record in records(tmp_path)] == [CHECKPOINT, EVENT, SESSION, CHECKPOINT, NOTE]
    assert decode(records(tmp_path)[2]) == state


# Bounds -------------------------------------------------------------------------------------------------------------


def test_segments_stay_within_the_cap(tmp_path: Path) -> None:
    """The oldest segments are deleted so that all together never exceed `max_bytes` by more than one event."""
    out = writer(tmp_path, segment_bytes=SMALL, max_bytes=4 * SMALL)
    slack = 600
    for ts in range(1, 200):
        out.event(snapshot(ts))
        assert sum(sizes(tmp_path).values()) <= 4 * SMALL + slack
    out.close()
    kept = sizes(tmp_path)
    assert 3 <= len(kept) <= 4
    assert "00000001.mmj" not in kept
    assert verify_journal(tmp_path).damage == ()
    assert decode_event(records(tmp_path)[-3]) == snapshot(199)


def test_an_earlier_run_is_kept_and_counted(tmp_path: Path) -> None:
    """A second run continues the numbers, leaves the first run's bytes alone and lets its segments count in the cap."""
    journal(tmp_path, map(snapshot, range(1, 40)), segment_bytes=SMALL)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    out = writer(tmp_path, segment_bytes=SMALL, max_bytes=3 * SMALL)
    out.event(timer(100))
    out.close()
    after = sizes(tmp_path)
    new = f"{len(before) + 1:08d}.mmj"
    assert list(after)[-1] == new
    assert len(after) < len(before) + 1
    assert all((tmp_path / name).read_bytes() == before[name] for name in after if name != new)
    last = [item for item in read(tmp_path) if isinstance(item, Segment)][-1]
    assert (last.header.run, last.header.first_record, last.header.created_ns, last.follows) == (
        len(before) + 1, 0, 100, False,
    )  # fmt: skip


def test_cold_segments_count_what_they_take(tmp_path: Path) -> None:
    """Full segments are handed over; compressed, more of them fit under the same cap, and the oldest still go."""
    closed: list[Path] = []

    def run(folder: Path, *, cold: bool) -> JournalWriter:
        out = JournalWriter(
            folder, segment_bytes=SMALL, max_bytes=4 * SMALL, checkpoint=checkpoint, on_closed=closed.append
        )
        for ts in range(1, 300):
            out.event(snapshot(ts))
            while closed:
                path = closed.pop()
                if cold:
                    size = compress(path, durable=False)
                    out.became_cold(path.with_name(path.name + ".zst"), size)
        out.close()
        return out

    counts = []
    for name, cold in (("hot", False), ("cold", True)):
        run(tmp_path / name, cold=cold)
        kept = segment_paths(tmp_path / name)
        counts.append(len(kept))
        assert sum(sizes(tmp_path / name).values()) <= 4 * SMALL + 600
        assert kept[0].name[:8] != "00000001"
        assert len(sizes(tmp_path / name)) == len(kept)
        assert verify_journal(tmp_path / name).damage == ()
    assert counts[1] > counts[0]


def test_full_segments_are_handed_over(tmp_path: Path) -> None:
    """Each one once, after it was closed, and not the last one."""
    closed: list[Path] = []
    out = JournalWriter(tmp_path, segment_bytes=SMALL, max_bytes=None, checkpoint=checkpoint, on_closed=closed.append)
    for ts in range(1, 100):
        out.event(snapshot(ts))
        assert closed == segment_paths(tmp_path)[:-1]
    out.close()
    assert closed == segment_paths(tmp_path)[:-1]
    assert len(closed) > 3


def test_a_cold_segment_of_a_deleted_one_is_no_matter(tmp_path: Path) -> None:
    """A word on a segment that the cap has deleted meanwhile changes nothing."""
    out = writer(tmp_path, segment_bytes=SMALL, max_bytes=3 * SMALL)
    for ts in range(1, 60):
        out.event(snapshot(ts))
        out.became_cold(tmp_path / "00000001.mmj.zst", 10**9)
    assert len(segment_paths(tmp_path)) == 2


def test_what_a_killed_run_left_half_compressed_is_deleted(tmp_path: Path) -> None:
    """It is no segment, and would take memory until the next boot."""
    (tmp_path / "00000001.mmj.zst.part").write_bytes(b"half")
    writer(tmp_path)
    assert sizes(tmp_path) == {}


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """A file in the folder's place is a ConfigError at start."""
    (tmp_path / "journal").write_text("")
    with pytest.raises(ConfigError, match="journal: no journal can be kept here: File exists"):
        writer(tmp_path / "journal")


def test_a_cap_below_two_segments_is_refused(tmp_path: Path) -> None:
    """A cap that would delete the segment being written is a ConfigError."""
    with pytest.raises(ConfigError, match="max_bytes 1500 must be at least twice segment_bytes 1000"):
        writer(tmp_path, segment_bytes=1000, max_bytes=1500)


def test_nothing_to_say_writes_nothing(tmp_path: Path) -> None:
    """A writer that saw no event leaves no segment, and closing twice is harmless."""
    out = writer(tmp_path)
    out.close()
    out.close()
    assert sizes(tmp_path) == {}
