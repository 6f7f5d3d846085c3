"""What disk and memory do to a live practice box when they fail: quoting pauses, the stop path does not care."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash_campaign import FAST
from stack import Stack

from hil.logged_disk import LoggedDisk
from image.debian import UnavailableError
from mmpi.journal.survey import verify_journal

pytestmark = pytest.mark.slow

SETTINGS = FAST | {"MMPI_JOURNAL__COMMIT_S": "1", "MMPI_HOST__MIN_DISK_MB": "0"}


@contextmanager
def box_on(state: Path, folder: Path, runtime: Path | None = None) -> Iterator[Stack]:
    """Give a box that quotes, its state and its runtime folder where they are wanted."""
    with Stack(folder, latency_ms=15.0, more=SETTINGS) as stack:
        stack.state, stack.runtime = state / "state", runtime or stack.runtime
        stack.start()
        yield stack


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoggedDisk]:
    """Give a real ext4 file system whose device does as it is told."""
    try:
        with LoggedDisk(tmp_path / "disk") as made:
            yield made
    except UnavailableError as error:
        pytest.skip(f"no disk that fails on demand: {error}")


def paused(stack: Stack) -> str:
    """Return why the journal pauses quoting, "" = it does not."""
    reason = str(stack.summary().get("reason", ""))
    return reason.removeprefix("journal: ") if reason.startswith("journal: ") else ""


def test_a_failing_disk_pauses_quoting(disk: LoggedDisk, tmp_path: Path) -> None:
    """EIO at fsync: no order is left, the reason is shown; the kernel makes the disk read-only, and that is shown, too.

    The button works meanwhile: zero is verified. Told to end, the quoter ends.
    """
    with box_on(disk.path, tmp_path / "box") as stack:
        disk.fail_flushes()
        stack.wait(lambda: paused(stack) and not stack.orders(), 15, "a pause without an order")
        assert str(stack.state / "journal") in paused(stack)
        assert stack.summary()["storage"]["fault"] == paused(stack)
        press = stack.press()
        assert press.answer["verified"]
        assert stack.orders() == []
        stack.quoter.send(signal.SIGTERM)
        assert stack.quoter.wait(10) == 0
        disk.fail_flushes(False)


def test_a_slow_disk_slows_nothing(disk: LoggedDisk, tmp_path: Path) -> None:
    """fsync takes half a second: commits wait, quoting goes on as before."""
    with box_on(disk.path, tmp_path / "box") as stack:
        disk.slow_flush(0.5)
        stack.wait(lambda: stack.summary()["storage"]["worst_commit_ms"] >= 500, 20, "a slow commit")
        before = stack.summary()
        stack.wait(lambda: stack.summary()["orders"]["placed"] > before["orders"]["placed"] + 30, 20, "more orders")
        assert stack.summary()["state"] == "quoting" and paused(stack) == ""
        disk.slow_flush(0)


def test_a_full_disk_leaves_what_is_reserved(disk: LoggedDisk, tmp_path: Path) -> None:
    """ENOSPC: the ledger's reserved room still takes commits; a start without room waits for it and says so."""
    with box_on(disk.path, tmp_path / "box") as stack:
        filler = disk.path / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**20))
        commits = stack.summary()["storage"]["commits"]
        stack.wait(lambda: stack.summary()["storage"]["commits"] > commits + 2, 20, "commits on a full disk")
        assert paused(stack) == ""
        stack.quoter.send(signal.SIGTERM)
        assert stack.quoter.wait(15) == 0
        for segment in (stack.state / "journal").glob("*.mmj"):
            shutil.move(segment, tmp_path / segment.name)  # so that a new one is needed
        with pytest.raises(OSError, match="No space left"), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        done = stack.mmpi("run", "--seconds", "2")
        assert done.returncode == 3 and "No space left on device" in done.stderr
        waiting = stack.begin("waiting", "run", "--wait")
        with pytest.raises(AssertionError):
            stack.wait(lambda: not waiting.runs, 3, "nothing: it waits")
        filler.unlink()
        stack.quoter = waiting
        stack.wait_quoting(30)


def test_a_full_memory_pauses_quoting(tmp_path: Path) -> None:
    """No order without its intent (I2): they are cancelled, and quoting goes on by itself once there is room.

    The journal says how many records it misses, and replays exactly before and after them.
    """
    runtime = tmp_path / "memory"
    runtime.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "mmpi-test", str(runtime)],
        capture_output=True, text=True, check=False,
    )
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    try:
        with box_on(tmp_path / "disk", tmp_path / "box", runtime) as stack:
            filler = runtime / "filler"
            with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            stack.wait(lambda: paused(stack) and not stack.orders(), 20, "a pause without an order")
            assert "No space left on device" in paused(stack)
            filler.unlink()
            stack.wait_quoting(20)
            stack.quoter.send(signal.SIGTERM)
            assert stack.quoter.wait(15) == 0
            verdict = verify_journal(runtime / "journal")
            assert verdict.damage == () and len(verdict.gaps) >= 1 and "No space left" in verdict.gaps[0]
            replay = stack.mmpi("replay", "--verify", str(runtime / "journal"))
            assert replay.returncode == 0, replay.stdout + replay.stderr
    finally:
        subprocess.run(["umount", "-l", str(runtime)], check=True)
    assert not os.path.ismount(runtime)
