"""mmpi.runtime.spool: nothing waits, nothing is lost without a mark, nothing grows."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_builders import LARGE, START, book_frame, line

from mmpi.errors import DeviceError
from mmpi.runtime.recording import GAP, Gap, gap_line
from mmpi.runtime.rotation import Batch, RotatingFiles
from mmpi.runtime.spool import BATCH, MAX_WAITING, SLOW, Spool

ROOT = Path(__file__).resolve().parents[1]


class Shelf:
    """Files in memory; `open` lets the thread write, or holds it in its first batch."""

    def __init__(self, *, is_open: bool = True, fails: Exception | None = None) -> None:
        self.batches: list[Batch] = []
        self.closed = self.flushed = 0
        self.open, self.reached = threading.Event(), threading.Event()
        self.fails = fails
        if is_open:
            self.open.set()

    def write(self, batch: Batch) -> None:
        """Keep, once it is open."""
        self.reached.set()
        self.open.wait(10)
        if self.fails is not None:
            raise self.fails
        self.batches.append(batch)

    def flush(self) -> None:
        """Count."""
        self.flushed += 1

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def lines(self) -> list[bytes]:
        """Return everything written."""
        return [line for batch in self.batches for line in batch.lines]


@given(st.lists(st.tuples(st.integers(-5, 10), st.binary(max_size=40), st.booleans()), max_size=30))
def test_lines_come_out_as_they_came_in(frames: list[tuple[int, bytes, bool]]) -> None:
    """Order and bytes stay, times never go back, a line end inside a frame becomes a space."""
    shelf, now, last = Shelf(), START, 0
    spool = Spool(shelf)
    expected = []
    for step, frame, over in frames:
        now += step
        last = max(now, last)
        spool.put(now, frame)
        expected.append(line(last, frame.replace(b"\n", b" ")))
        if over:
            spool.hand_over()
    spool.close()
    assert shelf.lines() == expected
    assert sum(batch.messages for batch in shelf.batches) == spool.accepted == len(frames)
    for batch in shelf.batches:
        assert batch.size == sum(map(len, batch.lines))
        assert batch.first == int(batch.lines[0].split()[0])
        assert batch.last == int(batch.lines[-1].split()[0])
    assert (spool.dropped, spool.overflows, spool.waiting, shelf.closed) == (0, 0, 0, 1)


def test_marks_are_no_messages() -> None:
    """A gap is a line in its place, and not counted."""
    shelf = Shelf()
    spool = Spool(shelf)
    spool.put(START, b"{}")
    spool.mark(START + 5, Gap("closed", START))
    spool.put(START + 6, b"{}")
    spool.close()
    assert shelf.lines()[1] == gap_line(START + 5, Gap("closed", START))
    assert (spool.accepted, [batch.messages for batch in shelf.batches]) == (2, [2])


def test_a_large_batch_goes_at_once() -> None:
    """Lines do not pile up until the next look: a full batch is handed over by itself."""
    shelf = Shelf()
    spool = Spool(shelf)
    frame = bytes(1000)
    for _ in range(1000):
        spool.put(START, frame)
    assert len(spool._lines) < BATCH // 1000
    spool.close()
    assert max(batch.size for batch in shelf.batches) < BATCH + 1100
    assert len(shelf.lines()) == 1000


def test_a_slow_disk_costs_messages_and_says_so() -> None:
    """What does not fit is counted, a mark stands where it is missing, and nothing waits in `put`."""
    shelf = Shelf(is_open=False)
    spool = Spool(shelf, max_waiting=10_000)
    for number in range(100):
        spool.put(START + number, b"%03d" % number + bytes(497))
        spool.hand_over()
        assert spool.waiting <= 10_000
    assert spool.dropped > 50
    shelf.open.set()
    lost = spool.dropped
    spool.put(START + 1000, b"after")
    spool.mark(START + 1001, Gap("closed", START + 1000))
    spool.close()
    lines = shelf.lines()
    kept = lines[:-3]
    assert [line.split()[1][:3] for line in kept] == [b"%03d" % number for number in range(len(kept))]
    assert lines[-3] == gap_line(START + 1000, Gap(SLOW, START + len(kept), lost))
    assert lines[-2] == line(START + 1000, b"after")
    assert (len(kept) + lost, spool.overflows) == (100, 1)
    assert sum(batch.messages for batch in shelf.batches) == 101 - lost


def test_each_overflow_has_its_mark() -> None:
    """Two times of a slow disk are two gaps, and together they name all that is missing."""
    shelf = Shelf(is_open=False)
    spool = Spool(shelf, max_waiting=1000)
    for number in range(10):
        spool.put(START + number, bytes(300))
        spool.hand_over()
    shelf.open.set()
    while spool.waiting:
        threading.Event().wait(0.001)
    shelf.open.clear()
    shelf.reached.clear()
    for number in range(10, 20):
        spool.put(START + number, bytes(300))
        spool.hand_over()
    shelf.open.set()
    spool.put(START + 100, b"end")
    spool.close()
    marks = [msgspec.json.decode(line.partition(b" ")[2]) for line in shelf.lines() if GAP.encode() in line]
    assert spool.overflows == 2
    assert sum(mark["data"]["lost"] for mark in marks) == spool.dropped > 0


def test_a_mark_alone_that_finds_no_room_is_made_good() -> None:
    """Even if only the mark of a gap had to go, the next line stands behind a mark."""
    shelf = Shelf(is_open=False)
    spool = Spool(shelf, max_waiting=100)
    spool.put(START, bytes(60))
    spool.hand_over()
    spool.mark(START + 1, Gap("closed", START))
    spool.hand_over()
    shelf.open.set()
    spool.put(START + 2, b"{}")
    spool.close()
    assert shelf.lines()[1:] == [gap_line(START + 2, Gap(SLOW, START + 1, 0)), line(START + 2, b"{}")]
    assert (spool.overflows, spool.dropped) == (1, 0)


def test_what_breaks_the_writing_is_raised_at_the_end() -> None:
    """After a failure nothing is written and nothing piles up; `close` raises it."""
    shelf = Shelf(fails=DeviceError("disk: No space left on device"))
    spool = Spool(shelf)
    spool.put(START, b"{}")
    spool.hand_over()
    while spool.failure is None:
        threading.Event().wait(0.001)
    shelf.fails = None
    for number in range(100):
        spool.put(START + number, bytes(10_000))
    assert spool.waiting <= BATCH
    with pytest.raises(DeviceError, match="No space left"):
        spool.close()
    assert (shelf.batches, shelf.closed) == ([], 0)


def test_a_quiet_feed_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing comes the thread flushes what it has."""
    monkeypatch.setattr("mmpi.runtime.spool.FLUSH_EVERY", 10**6)
    shelf = Shelf()
    spool = Spool(shelf)
    spool.put(START, b"{}")
    spool.hand_over()
    while not shelf.flushed:
        threading.Event().wait(0.001)
    spool.close()
    assert len(shelf.lines()) == 1


def test_the_thread_ends(tmp_path: Path) -> None:
    """After `close` no thread is left, and the files are whole."""
    before = threading.active_count()
    spool = Spool(RotatingFiles(tmp_path, LARGE))
    spool.put(START, book_frame(1))
    spool.close()
    assert threading.active_count() == before
    assert not list(tmp_path.glob("*.part"))


GROWTH_MB = 4
"""Between 100,000 frames and 2,000,000: what the allocators take back late."""
SCRIPT = """
import resource, sys, time
from pathlib import Path
from recording_builders import START, book_frame
from mmpi.runtime.rotation import Limits, RotatingFiles
from mmpi.runtime.spool import MAX_WAITING, Spool
from mmpi.research.recorded import RecordedTally, events
from mmpi.research.instruments import lookup

def rss():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1])
spool = Spool(RotatingFiles(folder, Limits(file_bytes=2_000_000, file_age=2**62)))
frames = [book_frame(number, 100.5 + number % 7) for number in range(100)]
for number in range(2_000_000):
    spool.put(START + number * 1000, frames[number % 100])
    assert spool.waiting <= MAX_WAITING
    if spool.waiting > MAX_WAITING // 2:
        while spool.waiting > MAX_WAITING // 4:
            time.sleep(0.001)
    if number == 100_000:
        early = rss()
late = rss()
spool.close()
assert spool.dropped == 0
paths = sorted(folder.iterdir())
tally, count = RecordedTally(), 0
for event in events(paths, lookup("hyperliquid_btc"), tally):
    count += 1
    if count == 50_000:
        begun = rss()
    if count == 400_000:
        break
print(early, late, begun, rss(), len(paths))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Two million frames are written, and read again, in the memory of a few."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    early, late, begun, ended, files = map(int, done.stdout.split())
    assert files > 1
    # The spool may come to hold MAX_WAITING in the meantime, if the thread had kept up at first.
    assert (late - early) / 1024 < GROWTH_MB + MAX_WAITING / 2**20
    assert (ended - begun) / 1024 < GROWTH_MB
