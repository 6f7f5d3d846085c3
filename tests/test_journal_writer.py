"""The writer: written before it returns, bounded, and never over what is there."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from journals import cancel, checkpoint, items, journal, records, snapshot, timer, writer

from mmpi.errors import ConfigError, JournalError
from mmpi.journal.reader import Segment, read, verify_journal
from mmpi.journal.record import ACTION, CHECKPOINT, EVENT, NOTE, Checkpoint, decode, decode_checkpoint, decode_event

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


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file after `size`, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def test_i2_what_was_returned_survives_sigkill(tmp_path: Path) -> None:
    """I2: once `event` and `action` have returned, SIGKILL loses neither."""
    root = Path(__file__).resolve().parents[1]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [decode(record) for record in records(tmp_path)] == [checkpoint(), timer(1), cancel(1)]


def test_buffered_writes_the_same_bytes_later(tmp_path: Path) -> None:
    """`buffered` changes when bytes are written and nothing else."""
    for name, buffered in (("plain", False), ("late", True)):
        out = writer(tmp_path / name, segment_bytes=4096, buffered=buffered)
        for ts in range(1, 60):
            out.event(snapshot(ts))
            out.action(cancel(ts))
        out.close()
    plain, late = sorted((tmp_path / "plain").iterdir()), sorted((tmp_path / "late").iterdir())
    assert len(plain) > 3
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in late]


def test_rotation_stands_before_an_event(tmp_path: Path) -> None:
    """A new segment begins with a checkpoint taken before its first event; actions stay with their event."""
    handled = count()
    last = 0

    def state() -> Checkpoint:
        return checkpoint(str(last).encode())

    out = writer(tmp_path, segment_bytes=600, state=state)
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


def test_segments_stay_within_the_cap(tmp_path: Path) -> None:
    """The oldest segments are deleted so that all together never exceed `max_bytes` by more than one event."""
    out = writer(tmp_path, segment_bytes=2000, max_bytes=8000)
    slack = 600
    for ts in range(1, 200):
        out.event(snapshot(ts))
        assert sum(sizes(tmp_path).values()) <= 8000 + slack
    out.close()
    kept = sizes(tmp_path)
    assert 3 <= len(kept) <= 4
    assert "00000001.mmj" not in kept
    assert verify_journal(tmp_path).damage == ()
    assert decode_event(records(tmp_path)[-3]) == snapshot(199)


def test_an_earlier_run_is_kept_and_counted(tmp_path: Path) -> None:
    """A second run continues the numbers, leaves the first run's bytes alone and lets its segments count in the cap."""
    journal(tmp_path, map(snapshot, range(1, 20)), segment_bytes=2000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    out = writer(tmp_path, segment_bytes=2000, max_bytes=6000)
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


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    """No room: JournalError names the segment, the record is taken back whole, and nothing follows it."""
    out = writer(tmp_path)
    out.event(snapshot(1))
    whole = sum(sizes(tmp_path).values())
    with largest_file(whole + 100):
        with pytest.raises(JournalError, match="00000001.mmj: the journal cannot be written: File too large"):
            out.event(snapshot(2))
        with pytest.raises(JournalError, match="00000001.mmj"):
            out.action(cancel(2))
    with pytest.raises(JournalError, match="00000001.mmj"):
        out.event(snapshot(3))
    out.close()
    assert sum(sizes(tmp_path).values()) == whole
    assert [decode(record) for record in items(tmp_path)] == [checkpoint(), snapshot(1)]  # type: ignore[arg-type]


def test_a_folder_that_vanished_is_an_error(tmp_path: Path) -> None:
    """A segment that cannot be created is a JournalError with its path."""
    folder = tmp_path / "journal"
    out = writer(folder)
    folder.rmdir()
    with pytest.raises(JournalError, match="journal/00000001.mmj: the journal cannot be written: No such file"):
        out.event(timer(1))


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
