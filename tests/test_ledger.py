"""The ledger: handed over on the loop without waiting, committed by its thread, in order, whatever the disk does."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmpi.events import ExecReport, ExecType
from mmpi.journal import ledger as ledger_module
from mmpi.journal import ledger_file, reader
from mmpi.journal.budget import Budget, DiskLimits
from mmpi.journal.cold import COLD
from mmpi.journal.entries import CLEAN, Ending, Intent, Run, Session
from mmpi.journal.ledger import Ledger
from mmpi.journal.ledger_file import LedgerFile
from mmpi.journal.reader import read
from mmpi.journal.record import (
    COMMIT,
    END,
    EVENT,
    GAP,
    INTENT,
    KIND_NAMES,
    RUN,
    SESSION,
    Record,
    decode,
    encode_payload,
)
from mmpi.journal.recovery import LedgerEnd, Told, read_ledger
from mmpi.journal.survey import verify_journal

LIMITS = DiskLimits(bytes_per_hour=2**30, max_bytes=2**30, max_days=0)
BEGIN = Run("0xaaaaaaaa00000001", "s", "digest", "0", "boot", 1, Ending("first"))


def session(ts: int = 0, scope: str = "s") -> Session:
    """Return a session's state, told apart by `ts`."""
    return Session(scope, "0xaaaaaaaa00000001", b'{"ts":%d}' % ts)


def trade(number: int) -> ExecReport:
    """Return a fill."""
    return ExecReport(number, "A", number, "0x1", "1", ExecType.TRADE, 1, 5, 1, exec_id=str(number))


def opened(folder: Path, commit_s: float = 0.02, **more: object) -> Ledger:
    """Return a ledger that runs."""
    out = Ledger(folder, commit_s=commit_s, budget=Budget(LIMITS), **more)  # type: ignore[arg-type]
    out.open(LedgerEnd(sessions={}, repaired=[]), session(), [(RUN, BEGIN)])
    return out


def found(folder: Path) -> list[Record]:
    """Return the records on the disk."""
    return [item for item in read(folder) if isinstance(item, Record)]


def kinds(folder: Path) -> list[str]:
    """Return what is on the disk behind the first commit, in order."""
    return [KIND_NAMES[item.kind] for item in found(folder)][3:]


def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.005)


class Disk:
    """The file of a ledger whose every commit waits, or fails, as it is told."""

    def __init__(self, folder: Path) -> None:
        self.file = LedgerFile(folder)
        self.error = 0
        self.gate = threading.Event()
        self.gate.set()
        self.tries = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def commit(self, *args: object) -> None:
        """Commit, if the disk lets us."""
        self._pass()
        self.file.commit(*args)  # type: ignore[arg-type]

    def begin(self, *args: object) -> object:
        """Begin a segment, if the disk lets us."""
        self._pass()
        return self.file.begin(*args)  # type: ignore[arg-type]

    def _pass(self) -> None:
        self.tries += 1
        self.gate.wait(10)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))


def on_disk(folder: Path, commit_s: float = 0.02) -> tuple[Ledger, Disk]:
    """Return a running ledger and its disk."""
    disk = Disk(folder)
    return opened(folder, commit_s, file=disk), disk


def test_a_run_is_on_the_disk_when_open_returns(tmp_path: Path) -> None:
    """Before the first order the run and the state that it begins with are committed."""
    opened(tmp_path, commit_s=1000)
    assert [item.kind for item in found(tmp_path)] == [SESSION, COMMIT, RUN]


def test_what_is_handed_over_is_committed_together(tmp_path: Path) -> None:
    """Fills and the last of several states go out as one commit, within the time that is set."""
    out = opened(tmp_path, commit_s=0.2)
    began = time.monotonic()
    for number in range(5):
        out.keep_fill(trade(number))
        out.keep_session(session(number))
    until(lambda: len(found(tmp_path)) > 3)
    assert 0.15 < time.monotonic() - began < 2
    assert kinds(tmp_path) == ["commit", *["event"] * 5, "session"]
    assert decode(found(tmp_path)[-1]) == session(4)


def test_a_fill_behind_the_state_stays_behind_it(tmp_path: Path) -> None:
    """A reader counts what stands behind the last state: the order of fills and states is kept."""
    out = opened(tmp_path, commit_s=0.1)
    out.keep_fill(trade(1))
    out.keep_session(session(1))
    out.keep_fill(trade(2))
    until(lambda: len(found(tmp_path)) > 3)
    assert kinds(tmp_path) == ["commit", "event", "session", "event"]
    told = read_ledger(tmp_path).sessions["s"]
    assert [event.recv_ts for event in told.later] == [2]


def test_what_is_urgent_waits_for_nothing(tmp_path: Path) -> None:
    """A breach, a halt, a power failure: committed at once, with all that waits."""
    out = opened(tmp_path, commit_s=1000)
    out.keep_fill(trade(1))
    out.urge()
    until(lambda: "event" in kinds(tmp_path))
    out.keep_session(session(2), breach=True)
    until(lambda: kinds(tmp_path)[-1] == "session")


def test_nothing_on_the_loop_waits_for_the_disk(tmp_path: Path) -> None:
    """While a commit hangs, handing over takes no time; the fault is told once the promise is broken."""
    out, disk = on_disk(tmp_path)
    disk.gate.clear()
    out.keep_fill(trade(0))
    out.urge()
    until(lambda: disk.tries == 2)
    worst = 0.0
    for number in range(1, 2000):
        began = time.perf_counter()
        out.keep_fill(trade(number))
        out.keep_session(session(number))
        assert out.fault == ""
        worst = max(worst, time.perf_counter() - began)
    # A thread that hangs in the disk holds no lock: a pause here is this machine's, not ours.
    assert worst < 0.2
    disk.gate.set()
    until(lambda: kinds(tmp_path).count("event") == 2000)


def test_a_disk_that_takes_nothing_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After LATE_S without a commit quoting must pause, though no call has failed; then it is over."""
    monkeypatch.setattr(ledger_module, "LATE_S", 0.1)
    out, disk = on_disk(tmp_path)
    disk.gate.clear()
    out.keep_fill(trade(0))
    until(lambda: out.fault.startswith("the disk has taken nothing"))
    disk.gate.set()
    until(lambda: out.fault == "")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The fault is told with the folder; nothing is lost or twice there once the disk is well again."""
    monkeypatch.setattr(ledger_module, "FIRST_RETRY_S", 0.02)
    out, disk = on_disk(tmp_path)
    disk.error = code
    out.keep_fill(trade(1))
    out.keep_session(session(1))
    until(lambda: out.fault)
    assert out.fault == f"{tmp_path}: {os.strerror(code)}"
    out.keep_fill(trade(2))
    out.keep_session(session(2))
    disk.error = 0
    until(lambda: out.fault == "")
    until(lambda: kinds(tmp_path)[-1] == "session")
    assert [decode(item).recv_ts for item in found(tmp_path) if item.kind == EVENT] == [1, 2]
    assert [decode(item) for item in found(tmp_path) if item.kind == SESSION][-1] == session(2)


def test_an_intent_is_durable_before_it_is_told(tmp_path: Path) -> None:
    """`done` is called when the record is on the disk, and not before."""
    out, disk = on_disk(tmp_path, commit_s=1000)
    disk.gate.clear()
    seen: list[int] = []
    intent = Intent(1, "A", "0x1", 1, 5, 1)
    out.keep(INTENT, intent, done=lambda: seen.append(kinds(tmp_path).count("intent")))
    time.sleep(0.05)
    assert seen == []
    disk.gate.set()
    until(lambda: seen)
    assert seen == [1]


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_WAITING the oldest are dropped, counted, a fault, and told in the ledger."""
    monkeypatch.setattr(ledger_module, "MAX_WAITING", 100)
    monkeypatch.setattr(ledger_module, "FIRST_RETRY_S", 0.02)
    out, disk = on_disk(tmp_path)
    disk.gate.clear()
    out.keep_fill(trade(0))
    out.urge()
    until(lambda: disk.tries == 2)
    for number in range(1, 151):
        out.keep_fill(trade(number))
    assert out.fault.startswith("50 records dropped")
    disk.gate.set()
    until(lambda: "gap" in kinds(tmp_path))
    (gap,) = [decode(item) for item in found(tmp_path) if item.kind == GAP]
    assert gap.records == 50
    assert [decode(item).recv_ts for item in found(tmp_path) if item.kind == EVENT] == [0, *range(51, 151)]


def test_a_clean_end_is_the_last_word(tmp_path: Path) -> None:
    """Closed, everything is on the disk, the ending last; the next run reads it."""
    out = opened(tmp_path, commit_s=1000)
    out.keep_fill(trade(1))
    assert out.close(Ending(CLEAN), 5)
    assert kinds(tmp_path) == ["commit", "event", "end"]
    assert read_ledger(tmp_path).ending == Ending(CLEAN)


def test_a_disk_that_hangs_does_not_keep_the_end(tmp_path: Path) -> None:
    """`close` gives up after its time and says so: the process ends, the ledger says that it did not end cleanly."""
    out, disk = on_disk(tmp_path)
    disk.gate.clear()
    began = time.monotonic()
    assert not out.close(Ending(CLEAN), 0.2)
    assert time.monotonic() - began < 2
    assert read_ledger(tmp_path).ending is None
    disk.gate.set()


def other_scope(ids: dict[str, None], *later: ExecReport) -> LedgerEnd:
    """Return the end of a ledger in which another scope has a session, these fills counted, and those behind it."""
    told = Told(session(3, "other"), list(later), {**ids, **{each.exec_id: None for each in later}})
    return LedgerEnd(sessions={"other": told}, repaired=[])


def test_full_segments_become_cold_and_open_with_every_scope(tmp_path: Path) -> None:
    """The next segment opens with the last state of each scope and the fills that are counted; the one before is
    compressed, and all of it is read as one."""
    out = Ledger(tmp_path, commit_s=0.01, budget=Budget(LIMITS), file=LedgerFile(tmp_path, segment_bytes=16 * 1024))
    out.open(other_scope({"o1": None}, trade(7)), session(), [(RUN, BEGIN)])
    for number in range(100, 400):
        out.keep_fill(trade(number))
        if number % 10 == 9:
            out.urge()
            time.sleep(0.01)
    until(lambda: (tmp_path / f"00000001.mmj{COLD}").exists())
    assert out.close(Ending(CLEAN), 5)
    verdict = verify_journal(tmp_path)
    assert verdict.damage == () and verdict.segments > 4
    opening = [decode(item) for item in found(tmp_path) if item.segment.startswith("00000002")][:3]
    assert [getattr(each, "scope", "fill") for each in opening] == ["other", "fill", "s"]
    assert opening[0].exec_ids == ("o1",) and len(opening[2].exec_ids) > 10
    # The newest segments alone say all of it, of other scopes too.
    end = read_ledger(tmp_path)
    assert len(end.sessions["s"].ids) == 300
    assert list(end.sessions["other"].ids) == ["o1", "7"]
    assert [each.exec_id for each in end.sessions["other"].later] == ["7"]
    assert end.ending == Ending(CLEAN)


def test_a_start_reads_the_newest_segments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of years is read as fast as one of days; if nothing of its end can be read, all of it is."""
    file = LedgerFile(tmp_path, segment_bytes=8192)
    for number in range(40):
        file.begin([(SESSION, encode_payload(session(number)))], [(EVENT, encode_payload(trade(number)))], number)
    file.close()
    opened_paths: list[str] = []
    real = reader.open_segment
    monkeypatch.setattr(reader, "open_segment", lambda path: (opened_paths.append(path.name), real(path))[1])
    assert [each.exec_id for each in read_ledger(tmp_path).sessions["s"].later] == ["39"]
    assert set(opened_paths) == {f"{number:08d}.mmj" for number in (38, 39, 40)}
    for number in (38, 39, 40):
        (tmp_path / f"{number:08d}.mmj").write_bytes(b"garbage")
    end = read_ledger(tmp_path)
    assert [each.exec_id for each in end.sessions["s"].later] == ["36"]
    assert (end.number, end.path) == (40, None) and len(end.repaired) == 3


def test_a_beginning_that_failed_leaves_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder could not be synced: the same records go into the next attempt, under the same numbers."""
    file = LedgerFile(tmp_path)

    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_file, "sync_folder", failing)
        with pytest.raises(OSError, match="no"):
            file.begin([(SESSION, encode_payload(session()))], [(EVENT, encode_payload(trade(1)))], 1)
    file.begin([(SESSION, encode_payload(session()))], [(EVENT, encode_payload(trade(1)))], 2)
    assert [item.number for item in found(tmp_path)] == [0, 1, 2]
    assert decode(found(tmp_path)[1]).number == 1


def test_a_state_that_is_renewed_is_no_younger(tmp_path: Path) -> None:
    """What waits longest decides when it is committed, however often the state behind it is renewed."""
    out = opened(tmp_path, commit_s=0.3)
    out.keep_session(session(1))
    began = time.monotonic()
    while len(found(tmp_path)) <= 3:
        out.keep_fill(trade(round(1000 * (time.monotonic() - began))))
        out.keep_session(session(2))
        time.sleep(0.02)
        assert time.monotonic() - began < 0.3 + 2.0, "it begins anew each time"


def test_tasks_give_way_to_commits(tmp_path: Path) -> None:
    """What is done in the thread beside commits fails without consequence."""
    out = opened(tmp_path)

    def failing() -> None:
        raise OSError(errno.EIO, "no")

    out.later(failing)
    out.keep_fill(trade(1))
    until(lambda: "event" in kinds(tmp_path))
    assert out.status().fault == "" and out.close(Ending(CLEAN), 5)
    assert [item.kind for item in found(tmp_path)][-1] == END
