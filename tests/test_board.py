"""The mapped files: whole values, in place, and the cautious answer whenever there is none."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmpi.errors import ConfigError, RefusedError
from mmpi.instrument import SECOND
from mmpi.runtime.board import (
    HALT_BYTES,
    LATCHED,
    MAX_REASON,
    MAX_STATUS,
    PAUSED,
    REDUCE,
    RUN,
    STATUS_BYTES,
    HaltWord,
    StatusBoard,
    lock,
    process_start,
)

ROOT = Path(__file__).resolve().parents[1]
REASON_GENERATION = 2
SEQUENCE, LENGTH, CRC, TEXT = 5, 6, 7, 8
"""Places of words in their files; a status has these twice, a half of the file apart."""
READ_HALT = """
import json, sys
from pathlib import Path
from mmpi.runtime.board import LATCHED, RUN, HaltWord
word, wrong, reads, reasons, seen = HaltWord.open(Path(sys.argv[1])), 0, 0, 0, set()
print("ready", flush=True)
state = RUN
while state != LATCHED:
    state, generation = word.read()
    wrong += state != LATCHED and state != generation % 2
    text = word.reason
    reasons += text != ""
    wrong += text != "" and len(set(text.split("-"))) != 1
    reads += 1
    seen.add(generation)
print(json.dumps([wrong, reads, reasons, len(seen)]))
"""
READ_STATUS = """
import json, sys
from pathlib import Path
from mmpi.runtime.board import StatusBoard
board, wrong, reads, none, seen = StatusBoard.open(Path(sys.argv[1])), 0, 0, 0, set()
print("ready", flush=True)
while board.acknowledged == 0:
    text = board.read()
    reads += 1
    if text is None:
        none += 1
    else:
        seen.add(text[:8])
        wrong += len(set(text[8:])) > 1 or len(text) != 8 + int(text[:8]) % 50_000
print(json.dumps([wrong, reads, none, len(seen)]))
"""
HOLD_LOCK = """
import sys
from pathlib import Path
from mmpi.runtime.board import lock
file = lock(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def poke(path: Path, word: int, value: int) -> None:
    """Change one 8-byte word of a mapped file."""
    with path.open("r+b") as file:
        file.seek(word * 8)
        file.write(value.to_bytes(8, sys.byteorder))


def process(code: str, path: Path) -> subprocess.Popen[str]:
    """Return a second interpreter that runs the code and has said that it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def bursts() -> Iterator[None]:
    """Yield for a second, with pauses so short that a reader now and then meets whole texts, and mostly writing."""
    end = time.monotonic() + 1
    while (now := time.monotonic()) < end:
        yield
        while time.monotonic() < now + 0.0005:
            pass


def answer(child: subprocess.Popen[str]) -> list[int]:
    """Return what the second interpreter found."""
    out, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    return [int(value) for value in json.loads(out)]


def test_a_new_halt_word_is_paused(tmp_path: Path) -> None:
    """The guardian's word starts paused, in a file that others than our group cannot read."""
    path = tmp_path / "run" / "halt"
    HaltWord.create(path)
    word = HaltWord.open(path)
    assert (word.state, word.generation, word.reason) == (PAUSED, 1, "guardian starting")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_readers_see_what_is_set(tmp_path: Path) -> None:
    """State, generation and reason reach a reader that was there before; each setting has a new generation."""
    writer = HaltWord.create(tmp_path / "halt")
    reader = HaltWord.open(tmp_path / "halt")
    for state, reason in ((RUN, ""), (LATCHED, "button"), (LATCHED, "button"), (PAUSED, "Störung")):
        generation = writer.set(state, reason)
        assert (*reader.read(), reader.reason) == (state, generation, reason)
        assert (reader.state, reader.generation) == (state, generation)
    assert generation == 5


def test_no_guardian_reads_as_paused(tmp_path: Path) -> None:
    """Without a file nothing may be placed; once there is one, `refresh` finds it."""
    reader = HaltWord.open(tmp_path / "halt")
    assert (*reader.read(), reader.reason) == (PAUSED, 0, "no guardian")
    HaltWord.create(tmp_path / "halt").set(RUN, "")
    assert reader.state == PAUSED
    reader.refresh()
    assert reader.state == RUN


def test_a_new_guardian_takes_over_in_place(tmp_path: Path) -> None:
    """A second guardian writes into the same file: mapped readers see it pause, and generations go on."""
    HaltWord.create(tmp_path / "halt").set(RUN, "")
    reader = HaltWord.open(tmp_path / "halt")
    second = HaltWord.create(tmp_path / "halt")
    assert (*reader.read(), reader.reason) == (PAUSED, 3, "guardian starting")
    second.set(RUN, "")
    assert reader.read() == (RUN, 4)


def test_a_deleted_or_replaced_file_is_noticed(tmp_path: Path) -> None:
    """`refresh` lets go of a file that is no longer there, and takes the one in its place."""
    HaltWord.create(tmp_path / "halt").set(RUN, "")
    reader = HaltWord.open(tmp_path / "halt")
    (tmp_path / "halt").unlink()
    reader.refresh()
    assert reader.read() == (PAUSED, 0)
    HaltWord.create(tmp_path / "halt").set(LATCHED, "button")
    reader.refresh()
    assert reader.read() == (LATCHED, 2)


@pytest.mark.parametrize("content", [b"", bytes(HALT_BYTES - 1), bytes(HALT_BYTES), b"\xff" * HALT_BYTES])
def test_a_file_that_is_no_halt_word_reads_as_paused(tmp_path: Path, content: bytes) -> None:
    """An unfinished or foreign file is no permission, and a guardian that finds one makes it good."""
    (tmp_path / "halt").write_bytes(content)
    assert HaltWord.open(tmp_path / "halt").read() == (PAUSED, 0)
    HaltWord.create(tmp_path / "halt").set(RUN, "")
    assert HaltWord.open(tmp_path / "halt").read() == (RUN, 2)


def test_an_unknown_state_reads_as_latched(tmp_path: Path) -> None:
    """A state from the future is the worst one we know."""
    HaltWord.create(tmp_path / "halt").set(7, "")
    assert HaltWord.open(tmp_path / "halt").state == LATCHED


def test_what_each_state_permits(tmp_path: Path) -> None:
    """RUN permits every order, REDUCE those that only reduce, all else none; and none without a live guardian."""
    now = time.monotonic_ns()
    word = HaltWord.create(tmp_path / "halt")
    for state in (RUN, PAUSED, LATCHED, REDUCE, 4, 255):
        word.set(state, "test")
        word.beat(now)
        permitted = (word.permits(now), word.permits(now, reducing=True))
        assert permitted == (state == RUN, state in (RUN, REDUCE))
        word.beat(now - 2 * SECOND)
        assert not (word.permits(now) or word.permits(now, reducing=True))


def test_a_reason_is_never_half_of_one(tmp_path: Path) -> None:
    """A reason that belongs to another generation, or whose bytes are wrong, reads as none; a long one is cut."""
    writer = HaltWord.create(tmp_path / "halt")
    reader = HaltWord.open(tmp_path / "halt")
    writer.set(LATCHED, "x" * 10_000)
    assert reader.reason == "x" * MAX_REASON
    with (tmp_path / "halt").open("r+b") as file:
        file.seek(100)
        file.write(b"y")
    assert reader.state == LATCHED
    assert reader.reason == ""


def test_a_reason_of_another_generation_is_not_shown(tmp_path: Path) -> None:
    """A whole reason that was stored for another setting of the word reads as none."""
    HaltWord.create(tmp_path / "halt").set(LATCHED, "button")
    poke(tmp_path / "halt", REASON_GENERATION, 9)
    reader = HaltWord.open(tmp_path / "halt")
    assert (reader.state, reader.reason) == (LATCHED, "")


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """A reader's mapping is read-only."""
    HaltWord.create(tmp_path / "halt")
    with pytest.raises(TypeError, match="read-only"):
        HaltWord.open(tmp_path / "halt").set(RUN, "")


@pytest.mark.slow
def test_another_process_never_sees_half_a_halt(tmp_path: Path) -> None:
    """While one process sets, another one reads: every state belongs to its generation, every reason is whole."""
    writer = HaltWord.create(tmp_path / "halt")
    child = process(READ_HALT, tmp_path / "halt")
    for _ in bursts():
        for _ in range(20):
            generation = writer.generation + 1
            writer.set(PAUSED if generation % 2 else RUN, "-".join([str(generation)] * (generation % 90 + 1)))
    writer.set(LATCHED, "done")
    wrong, reads, reasons, seen = answer(child)
    assert wrong == 0
    assert min(reads, seen) > 20  # on a busy machine a second holds fewer looks, never none
    assert reasons > 0


def test_the_board_tells_who_writes_it(tmp_path: Path) -> None:
    """A new board has our process, no beat, acknowledgement or status; its file is our group's to read, at most."""
    StatusBoard.create(tmp_path / "status")
    board = StatusBoard.open(tmp_path / "status")
    assert board is not None
    assert (board.pid, board.start_time) == (os.getpid(), process_start(os.getpid()))
    assert (board.beat_ns, board.acknowledged, board.read()) == (0, 0, None)
    assert stat.S_IMODE((tmp_path / "status").stat().st_mode) == 0o640


def test_the_board_carries_values(tmp_path: Path) -> None:
    """Beat, acknowledged generation and status reach a reader; a new status replaces a longer one."""
    writer = StatusBoard.create(tmp_path / "status")
    board = StatusBoard.open(tmp_path / "status")
    assert board is not None
    writer.beat(2**63)
    writer.acknowledge(41)
    writer.publish(b'{"mode":"paper"}')
    assert (board.beat_ns, board.acknowledged, board.read()) == (2**63, 41, b'{"mode":"paper"}')
    writer.publish(b"{}")
    assert board.read() == b"{}"


def test_a_writer_stopped_in_the_middle_leaves_the_status_before(tmp_path: Path) -> None:
    """Whatever a writer has half written when it loses its core or its life, the last whole status is read."""
    writer = StatusBoard.create(tmp_path / "status")
    writer.publish(b"{}")
    writer.publish(b"[1]")
    for word in (TEXT, LENGTH, CRC):
        poke(tmp_path / "status", STATUS_BYTES // 2 // 8 + word, 7)
        assert writer.read() == b"[1]"
    writer.publish(b"[2]")
    assert writer.read() == b"[2]"


def test_a_status_of_an_earlier_sequence_is_none(tmp_path: Path) -> None:
    """A sequence that another core sees before its text does not pass the text before in that half for it."""
    writer = StatusBoard.create(tmp_path / "status")
    writer.publish(b"{}")
    writer.publish(b"[1]")
    poke(tmp_path / "status", SEQUENCE, 4)
    assert writer.read() is None
    # Nor what a predecessor left: its sequences begin anew, its texts stay in the file.
    StatusBoard.create(tmp_path / "status")
    poke(tmp_path / "status", SEQUENCE, 3)
    assert writer.read() is None


def test_a_damaged_status_is_none(tmp_path: Path) -> None:
    """A text that does not match its CRC, or has an impossible length, is not shown; the next one is."""
    writer = StatusBoard.create(tmp_path / "status")
    for word, value in ((TEXT, 3), (LENGTH, 2**40)):
        writer.publish(b"{}")
        writer.publish(b"[1]")
        poke(tmp_path / "status", word, value)
        assert writer.read() is None
    writer.publish(b"[2]")
    assert writer.read() == b"[2]"


def test_a_status_that_is_too_large_is_dropped(tmp_path: Path) -> None:
    """A status over the limit is counted and leaves the one before; one of exactly the limit is kept."""
    writer = StatusBoard.create(tmp_path / "status")
    writer.publish(b"x" * MAX_STATUS)
    writer.publish(b"y" * (MAX_STATUS + 1))
    assert writer.dropped == 1
    assert writer.read() == b"x" * MAX_STATUS


def test_a_new_quoter_clears_the_board_in_place(tmp_path: Path) -> None:
    """A second quoter's board shows nothing of the first, to readers that mapped it before."""
    first = StatusBoard.create(tmp_path / "status")
    board = StatusBoard.open(tmp_path / "status")
    assert board is not None
    first.beat(5)
    first.acknowledge(6)
    first.publish(b"{}")
    StatusBoard.create(tmp_path / "status")
    assert (board.beat_ns, board.acknowledged, board.read()) == (0, 0, None)


@pytest.mark.parametrize("content", [None, b"", bytes(STATUS_BYTES - 1), bytes(STATUS_BYTES)])
def test_no_quoter_is_no_board(tmp_path: Path, content: bytes | None) -> None:
    """A missing or unfinished file is no board."""
    if content is not None:
        (tmp_path / "status").write_bytes(content)
    assert StatusBoard.open(tmp_path / "status") is None


@pytest.mark.slow
def test_another_process_never_reads_half_a_status(tmp_path: Path) -> None:
    """While one process publishes as fast as it can, another one reads whole texts or none."""
    writer = StatusBoard.create(tmp_path / "status")
    child = process(READ_STATUS, tmp_path / "status")
    count = 0
    for _ in bursts():
        for _ in range(20):
            count = (count + 7919) % 10**8
            writer.publish(b"%08d" % count + bytes([count % 256]) * (count % 50_000))
    writer.acknowledge(1)
    wrong, reads, none, seen = answer(child)
    assert wrong == 0
    assert reads > none
    assert seen > 10


def test_a_second_quoter_is_refused(tmp_path: Path) -> None:
    """While one process holds the lock another is refused and told its pid; when it is gone the lock is free."""
    path = tmp_path / "run" / "quoter.lock"
    child = process(HOLD_LOCK, path)
    with pytest.raises(RefusedError, match=rf"another quoter is running \(pid {child.pid}\)"):
        lock(path)
    child.kill()
    child.communicate()
    with lock(path) as file:
        assert path.read_text() == f"{os.getpid()}\n"
        assert not file.closed


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is a ConfigError for each file."""
    (tmp_path / "run").write_text("")
    for make in (HaltWord.create, StatusBoard.create, lock):
        with pytest.raises(ConfigError, match="run/file: "):
            make(tmp_path / "run" / "file")


def test_process_start_tells_processes_apart() -> None:
    """Our start time is stable and in the past; a process that does not exist has none."""
    mine = process_start(os.getpid())
    assert mine is not None
    assert mine == process_start(os.getpid())
    assert 0 < mine <= time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert process_start(2**22 + 1) is None
