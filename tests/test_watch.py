"""mmpi.runtime.watch on real boards and real processes: who the quoter is, whether it lives, and its end."""

import os
import signal
import subprocess
from pathlib import Path

from runtime_builders import board_of

from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime.board import StatusBoard, process_start
from mmpi.runtime.watch import QuoterWatch

TIMEOUT = SECOND


def pidfds() -> int:
    """Return how many processes this one holds a descriptor of."""
    return sum("pidfd" in os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))


def test_no_board(tmp_path: Path) -> None:
    """Without a board there is no quoter: nothing to fear, nothing to kill."""
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(1, TIMEOUT)
    assert (watch.alive, watch.died_at, watch.age(5)) == (False, 0, 0)
    assert (watch.acknowledged(0), watch.kill()) == (False, False)


def test_a_quoter_that_lives(tmp_path: Path) -> None:
    """Age and acknowledgement are the board's; a quoter that has not beaten yet is starting, not silent."""
    board = StatusBoard.create(tmp_path / "status")
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(5 * SECOND, TIMEOUT)
    assert (watch.alive, watch.pid, watch.age(9 * SECOND)) == (True, os.getpid(), 0)
    board.beat(5 * SECOND)
    board.acknowledge(7)
    assert (watch.age(6 * SECOND), watch.age(4 * SECOND)) == (SECOND, 0)
    assert [watch.acknowledged(generation) for generation in (6, 7, 8)] == [True, True, False]


def test_steady(tmp_path: Path) -> None:
    """Beats count as steady once they were fresh for a second without a break."""
    board = StatusBoard.create(tmp_path / "status")
    watch = QuoterWatch(tmp_path / "status")
    steady = []
    for now in range(1000, 3500, 100):
        if now not in (2100, 2200):
            board.beat(now * MILLISECOND)
        watch.poll(now * MILLISECOND, 200 * MILLISECOND)
        if watch.steady(now * MILLISECOND):
            steady.append(now)
    assert steady == [2000, 2100, 3300, 3400]


def test_a_death_is_seen_and_dated(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A quoter that ends is dead from the first look on, though its board still says what it said."""
    board_of(tmp_path / "status", sleeper.pid).beat(1)
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(10, TIMEOUT)
    lived = watch.alive
    sleeper.kill()
    sleeper.wait()
    watch.poll(20, TIMEOUT)
    watch.poll(30, TIMEOUT)
    assert (lived, watch.alive, watch.died_at, watch.kill()) == (True, False, 20, False)


def test_kill_ends_a_frozen_quoter(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """SIGKILL reaches a stopped process through the descriptor taken when it was first seen."""
    board_of(tmp_path / "status", sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(1, TIMEOUT)
    assert watch.kill()
    assert sleeper.wait(timeout=5) == -signal.SIGKILL


def test_a_later_process_with_the_number_is_not_touched(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """A board whose start time is another's names a dead quoter, and nobody is killed for it."""
    board_of(tmp_path / "status", sleeper.pid, start=1)
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(5, TIMEOUT)
    assert (watch.alive, watch.died_at, watch.kill(), sleeper.poll()) == (False, 5, False, None)


def test_a_quoter_that_is_gone_before_the_first_look(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A board left by a quoter that is no more is a death."""
    start = process_start(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    board_of(tmp_path / "status", sleeper.pid, start)
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(5, TIMEOUT)
    assert (watch.alive, watch.died_at) == (False, 5)


def test_the_next_quoter_is_adopted(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A new quoter on the same board ends the death of the last, and no descriptor is left over."""
    before = pidfds()
    board_of(tmp_path / "status", sleeper.pid)
    watch = QuoterWatch(tmp_path / "status")
    watch.poll(1, TIMEOUT)
    held = pidfds()
    sleeper.kill()
    sleeper.wait()
    watch.poll(2, TIMEOUT)
    dead = watch.died_at
    board = StatusBoard.create(tmp_path / "status")
    watch.poll(3, TIMEOUT)
    assert (dead, watch.alive, watch.died_at, watch.pid, board.pid) == (2, True, 0, os.getpid(), os.getpid())
    assert (held, pidfds()) == (before + 1, before + 1)
