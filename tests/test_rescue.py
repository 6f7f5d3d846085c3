"""The rescue: an unbroken tail of the journal on the disk, within its time, its room and its number."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from journals import cancel, snapshot, timer, writer

from mmpi.instrument import SECOND, Nanos
from mmpi.journal.cold import segment_paths
from mmpi.journal.survey import Verdict, verify_journal
from mmpi.journal.writer import JournalWriter
from mmpi.runtime.rescue import PART, Rescue, Rescued, RescueLimits

AT: Nanos = 1_795_881_600 * SECOND
KILLED = """
import os, sys
sys.path.insert(0, "tests")
from pathlib import Path
from test_rescue import rescue, save, written

root = Path(sys.argv[1])
written(root / "run", 60)
for number in range(1, 1000):
    (root / str(number)).mkdir()
    (root / str(number) / "run").symlink_to(root / "run")
    pid = os.fork()
    if not pid:
        calls = 0
        for name in ("open", "read", "write", "fsync", "replace", "rename", "mkdir", "unlink"):
            def counted(*args, real=getattr(os, name), **kwargs):
                global calls
                calls += 1
                if calls == number:
                    os._exit(9)
                return real(*args, **kwargs)
            setattr(os, name, counted)
        save(rescue(root / str(number)))
        os._exit(0)
    if not os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        break
"""
"""Rescues one journal again and again, each time in a process that ends at one system call later than the last one."""
NAME = "rescued-20261128T160000Z"


class Ticking:
    """A clock that goes on by one step each time somebody looks."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now: Nanos = 0
        self.step: Nanos = round(step_s * SECOND)

    def __call__(self) -> Nanos:
        """Return the time."""
        self.now += self.step
        return self.now


def written(folder: Path, events: int = 200, *, open_end: bool = True) -> JournalWriter:
    """Return the writer of a journal of some segments, which is still being written unless told otherwise."""
    out = writer(folder, segment_bytes=5400)
    more(out, range(1, events))
    if not open_end:
        out.close()
    return out


def more(out: JournalWriter, times: range) -> None:
    """Let the journal go on."""
    for ts in times:
        out.event(snapshot(ts))
        out.action(cancel(ts))


def rescue(tmp_path: Path, clock: Ticking | None = None, at: Nanos = AT, **limits: int) -> Rescue:
    """Return a rescue of the journal that `written` wrote into tmp_path / "run"."""
    kept = RescueLimits(**{"min_free_bytes": 0, **limits})
    return Rescue(tmp_path / "run", tmp_path / "state", kept, at, clock=clock or Ticking())


def save(one: Rescue, deadline_s: float = 10.0) -> Rescued:
    """Save with all the time of the world and a supply that stays away."""
    return one.save(deadline_s, Event())


def verified(saved: Rescued) -> Verdict:
    """Return what `mmpi journal verify` says of a rescue."""
    return verify_journal(Path(saved.folder))


def same(saved: Rescued, folder: Path) -> bool:
    """Return whether a rescue holds exactly the segments of a journal."""
    return {path.name: path.read_bytes() for path in Path(saved.folder).iterdir()} == {
        path.name: path.read_bytes() for path in segment_paths(folder)
    }


def test_a_rescue_is_the_whole_journal(tmp_path: Path) -> None:
    """Without hurry every segment is saved byte for byte, under the time of the failure, and verifies."""
    written(tmp_path / "run", open_end=False)
    saved = save(rescue(tmp_path))
    assert Path(saved.folder) == tmp_path / "state" / NAME
    assert same(saved, tmp_path / "run")
    assert (saved.why, saved.segments) == ("", len(segment_paths(tmp_path / "run")))
    assert saved.bytes == sum(path.stat().st_size for path in segment_paths(tmp_path / "run"))
    assert verified(saved) == verify_journal(tmp_path / "run")
    assert verified(saved).clean_stop


def test_a_torn_tail_is_saved_as_it_is(tmp_path: Path) -> None:
    """A last record of which only a part was written is part of the journal, and verify says so."""
    written(tmp_path / "run", open_end=False)
    last = segment_paths(tmp_path / "run")[-1]
    last.write_bytes(last.read_bytes()[:-3])
    saved = save(rescue(tmp_path))
    assert same(saved, tmp_path / "run")
    assert (len(verified(saved).torn), verified(saved).damage) == (1, ())


def test_the_source_is_only_read(tmp_path: Path) -> None:
    """After a rescue the journal has the same files, bytes and times as before, and goes on."""
    out = written(tmp_path / "run")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()}
    save(rescue(tmp_path))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()} == before
    more(out, range(200, 240))
    out.close()
    assert verify_journal(tmp_path / "run").clean_stop


@pytest.mark.parametrize("looks", range(1, 40, 3))
def test_what_a_deadline_leaves_is_an_unbroken_tail(tmp_path: Path, looks: int) -> None:
    """Out of time at any moment, the newest segments are there, each whole, and verify; no other file is left."""
    written(tmp_path / "run")
    paths = segment_paths(tmp_path / "run")
    saved = save(rescue(tmp_path, Ticking(1.0)), deadline_s=looks - 0.5)
    assert saved.why == "out of time"
    there = sorted(Path(saved.folder).iterdir()) if Path(saved.folder).exists() else []
    assert [path.name for path in there] == [path.name for path in paths[len(paths) - len(there) :]]
    assert [path.read_bytes() for path in there] == [path.read_bytes() for path in paths[len(paths) - len(there) :]]
    assert saved.segments == len(there)
    if there:
        assert saved.folder.endswith(PART)
        assert verified(saved).damage == ()


def test_deadlines_reach_from_nothing_to_everything(tmp_path: Path) -> None:
    """The deadlines of the test above end rescues of no segment, of some and of nearly all."""
    written(tmp_path / "run")
    counts = []
    for number, looks in enumerate(range(1, 60, 3)):
        one = rescue(tmp_path, Ticking(1.0), AT + number * SECOND, keep=99)
        counts.append(save(one, looks - 0.5).segments)
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == len(segment_paths(tmp_path / "run"))


def test_it_ends_when_the_supply_is_back(tmp_path: Path) -> None:
    """Once nobody needs the rescue any more nothing further is written."""
    written(tmp_path / "run")
    back = Event()
    back.set()
    saved = rescue(tmp_path).save(10, back)
    assert (saved.segments, saved.why) == (0, "no longer needed: the supply is back")
    assert not (tmp_path / "state").exists()


def test_an_interrupted_rescue_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Saved again, what is missing is added, the older segments included, and then it is a whole one."""
    written(tmp_path / "run")
    one = rescue(tmp_path, clock := Ticking(1.0))
    first = save(one, 8.5)
    assert 0 < first.segments < len(segment_paths(tmp_path / "run"))
    clock.step = 0
    saved = save(one)
    assert same(saved, tmp_path / "run")
    assert Path(saved.folder).name == NAME
    assert not Path(first.folder).exists()


def test_what_is_written_meanwhile_is_added(tmp_path: Path) -> None:
    """The cancels of the stop come after the first segment was copied; the same call saves them, too."""
    out = written(tmp_path / "run")

    class Writing(Ticking):
        def __call__(self) -> Nanos:
            """Return the time; the quoter goes on at the fifth look."""
            self.now += 1
            if self.now == 5:
                more(out, range(200, 260))
            return self.now

    saved = save(rescue(tmp_path, Writing()))
    assert same(saved, tmp_path / "run")
    assert verified(saved).damage == ()


def test_a_later_call_adds_what_the_journal_gained(tmp_path: Path) -> None:
    """Before the machine is shut down the rescue is brought up to date, at the cost of the changed segments alone."""
    out = written(tmp_path / "run")
    one = rescue(tmp_path)
    first = save(one)
    oldest = Path(first.folder) / segment_paths(tmp_path / "run")[0].name
    written_at = oldest.stat().st_mtime_ns
    more(out, range(200, 260))
    out.close()
    saved = save(one)
    assert same(saved, tmp_path / "run")
    assert saved.folder == first.folder
    assert oldest.stat().st_mtime_ns == written_at
    assert verified(saved).clean_stop


def test_segments_that_the_quoter_deletes_meanwhile_are_no_hole(tmp_path: Path) -> None:
    """A journal is kept small from its old end: what went before it was copied is not missing."""
    written(tmp_path / "run")
    paths = segment_paths(tmp_path / "run")

    class Pruning(Ticking):
        def __call__(self) -> Nanos:
            """Return the time; at the eighth look only the five newest segments are left."""
            self.now += 1
            if self.now == 8:
                for path in paths[:-5]:
                    path.unlink()
            return self.now

    saved = save(rescue(tmp_path, Pruning()))
    assert saved.why == ""
    assert 5 <= saved.segments < len(paths)
    assert {path.name for path in paths[-5:]} <= {path.name for path in Path(saved.folder).iterdir()}
    assert verified(saved).damage == ()


def test_the_disk_keeps_its_free_space(tmp_path: Path) -> None:
    """A segment that would leave too little free is not begun."""
    written(tmp_path / "run")
    saved = save(rescue(tmp_path, min_free_bytes=2**60))
    assert saved.segments == 0
    assert saved.why == f"{tmp_path / 'state' / (NAME + PART)}: less than {2**40} MB of the disk would stay free"
    assert list((tmp_path / "state" / (NAME + PART)).iterdir()) == []


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """An error of the disk ends the rescue with what is durable, and is told; nothing is raised, no half file stays."""
    written(tmp_path / "run")
    real, calls = getattr(os, call), 0

    def failing(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)
    saved = save(rescue(tmp_path))
    monkeypatch.undo()
    assert "Input/output error" in saved.why
    there = sorted(path.name for path in Path(saved.folder).iterdir())
    assert 0 < saved.segments <= len(there) < len(segment_paths(tmp_path / "run"))
    assert there == [path.name for path in segment_paths(tmp_path / "run")][-len(there) :]
    assert verified(saved).damage == ()


def test_a_segment_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment is written, fsynced, renamed, and its folder fsynced, before the next one is begun."""
    written(tmp_path / "run")
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def fsynced(fd: int) -> None:
        done.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        fsync(fd)

    def replaced(source: Path, target: Path) -> None:
        done.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", replaced)
    save(rescue(tmp_path))
    names = [path.name for path in reversed(segment_paths(tmp_path / "run"))]
    expected = [
        step for name in names for step in (("fsync", f"{name}.copying"), ("replace", name), ("fsync", NAME + PART))
    ]
    assert [("fsync", tmp_path.name), ("fsync", "state"), *expected, ("fsync", "state")] == done


@pytest.mark.slow
def test_killed_at_any_system_call_it_leaves_an_unbroken_tail(tmp_path: Path) -> None:
    """Whenever the lights go out, the segments that are there are whole, the newest ones, and verify."""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, check=True)
    names = [path.name for path in segment_paths(tmp_path / "run")]
    counts = []
    for number in range(1, len(list(tmp_path.iterdir()))):
        folders = list((tmp_path / str(number) / "state").glob("rescued-*"))
        there = [path.name for path in segment_paths(folders[0])] if folders else []
        assert there == names[len(names) - len(there) :]
        if there:
            verdict = verify_journal(folders[0])
            assert (verdict.damage, verdict.torn) == ((), ())
        if folders and not folders[0].name.endswith(PART):
            assert there == names
        counts.append(len(there))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], len(counts) > 5 * len(names)) == (0, len(names), True)


def test_without_a_journal_there_is_nothing_to_save(tmp_path: Path) -> None:
    """On a box that has not quoted yet a failing supply leaves no folder."""
    assert save(rescue(tmp_path)).why == f"{tmp_path / 'run'}: there is no journal"
    (tmp_path / "run").mkdir()
    assert save(rescue(tmp_path)).why == f"{tmp_path / 'run'}: the journal is empty"
    assert not (tmp_path / "state").exists()


def test_the_oldest_rescues_go(tmp_path: Path) -> None:
    """No more whole rescues than `keep` stay, and these are the last ones."""
    written(tmp_path / "run")
    names = [Path(save(rescue(tmp_path, at=AT + day * SECOND, keep=3)).folder).name for day in range(5)]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == names[-3:]


def test_an_unfinished_rescue_pushes_no_whole_one_out(tmp_path: Path) -> None:
    """A supply that flaps leaves unfinished rescues; the whole ones of before stay, and the unfinished are bounded."""
    written(tmp_path / "run")
    whole = [Path(save(rescue(tmp_path, at=AT + number * SECOND, keep=2)).folder).name for number in range(2)]
    for number in range(2, 8):
        saved = save(rescue(tmp_path, Ticking(1.0), AT + number * SECOND, keep=2), 8.5)
        assert saved.folder.endswith(PART)
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert [name for name in names if not name.endswith(PART)] == whole
    assert len(names) == 4


def test_what_is_no_rescue_stays(tmp_path: Path) -> None:
    """Neither the journal's other folders nor a file that a person put into a rescue is ever deleted."""
    written(tmp_path / "run")
    (tmp_path / "state" / "archive").mkdir(parents=True)
    (tmp_path / "state" / "archive" / "00000001.mmj").write_bytes(b"mine")
    first = Path(save(rescue(tmp_path, at=AT, keep=1)).folder)
    (first / "notes.txt").write_text("mine, too")
    save(rescue(tmp_path, at=AT + SECOND, keep=1))
    assert (tmp_path / "state" / "archive" / "00000001.mmj").read_bytes() == b"mine"
    assert [path.name for path in first.iterdir()] == ["notes.txt"]


def test_rescued_files_are_the_groups_to_read(tmp_path: Path) -> None:
    """The group may read a rescue, others may not."""
    written(tmp_path / "run", 3)
    saved = Path(save(rescue(tmp_path)).folder)
    assert saved.stat().st_mode & 0o007 == 0
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o640}


def test_one_small_event_is_a_journal(tmp_path: Path) -> None:
    """The smallest journal that there can be is saved like any other."""
    out = writer(tmp_path / "run")
    out.event(timer(1))
    assert same(save(rescue(tmp_path)), tmp_path / "run")
