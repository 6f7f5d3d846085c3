"""The budget: what goes to the disk in an hour and stays there; and the table of what is kept how safely."""

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import journal, largest_file, records, snapshot

from mmpi.journal.budget import ARCHIVE, COMMIT_COST, DAY, HOUR_S, Budget, DiskLimits, prune
from mmpi.journal.cold import compress, number_of, segment_paths
from mmpi.journal.durability import CLASSES, TABLE, Durability, is_urgent, markdown
from mmpi.journal.record import KIND_NAMES
from mmpi.journal.survey import verify_journal

NOW = 1_800_000_000 * 10**9
UNBOUND = DiskLimits(10**9, 10**12, 0)


def budget(bytes_per_hour: int) -> Budget:
    """Return a budget of this size."""
    return Budget(DiskLimits(bytes_per_hour, 10**12, 0))


# An hour's bytes ----------------------------------------------------------------------------------------------------


def test_an_hour_is_what_it_spends() -> None:
    """What was written counts for an hour, commits with what the file system adds, and then it is forgotten."""
    spent = budget(100_000)
    spent.spend(60_000, 10.0)
    spent.commit(40_000 - COMMIT_COST, 1000.0)
    assert not spent.allows(1, 1000.0)
    assert not spent.allows(1, 10.0 + HOUR_S)
    assert spent.allows(60_000, 10.1 + HOUR_S)
    assert not spent.allows(60_001, 10.1 + HOUR_S)
    assert spent.allows(100_000, 1000.1 + HOUR_S)


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 1000)), max_size=60))
def test_no_hour_has_more_than_it_may(steps: list[tuple[float, int]]) -> None:
    """Whatever comes when, what was allowed in any hour stays within the limit, to the second."""
    spent, now = budget(3000), 0.0
    written: list[tuple[float, int]] = []
    for wait, size in steps:
        now += wait
        if spent.allows(size, now):
            spent.spend(size, now)
            written.append((now, size))
        assert sum(each for at, each in written if now - at < HOUR_S - 1) <= 3000


def test_its_memory_is_bounded() -> None:
    """A million writes in an hour are an entry for each second."""
    spent = budget(10**9)
    for number in range(20_000):
        spent.spend(10, number * 0.05)
    assert len(spent._spent) <= 1001
    assert spent._total == 200_000


# The archive --------------------------------------------------------------------------------------------------------


def cold_run(folder: Path) -> list[Path]:
    """Return the cold segments of a run."""
    journal(folder, [snapshot(ts) for ts in range(1, 40)], segment_bytes=3000)
    for path in segment_paths(folder):
        compress(path, durable=False)
    return segment_paths(folder)


def test_the_archive_is_a_journal(tmp_path: Path) -> None:
    """Segments of several boots stand in it in their order, byte for byte, and it verifies."""
    spent, copies = budget(10**9), []
    for boot in ("one", "two"):
        for path in cold_run(tmp_path / boot):
            spent.archive(path, tmp_path / "ledger", 5.0)
            copies.append(path.read_bytes())
    there = segment_paths(tmp_path / "ledger" / ARCHIVE)
    assert [path.read_bytes() for path in there] == copies
    assert [number_of(path) for path in there] == list(range(1, len(copies) + 1))
    verdict = verify_journal(tmp_path / "ledger" / ARCHIVE)
    assert (verdict.damage, verdict.torn, verdict.clean_stop) == ((), (), True)
    assert len(records(tmp_path / "ledger" / ARCHIVE)) == 2 * len(records(tmp_path / "one"))
    assert spent._total == sum(map(len, copies)) + len(copies) * COMMIT_COST


def test_what_is_archived_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is synced before it takes its name, and the names of file and folder after."""
    path, done = cold_run(tmp_path / "run")[0], []
    fsync, rename = os.fsync, os.replace

    def fsynced(fd: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", lambda *args: (done.append("replace"), rename(*args)))
    (tmp_path / "ledger").mkdir()
    budget(10**9).archive(path, tmp_path / "ledger", 5.0)
    assert done == ["ledger", f"{path.name}.new", "replace", ARCHIVE]


@pytest.mark.parametrize("room", [0, 1, 300])
def test_a_full_disk_leaves_nothing_half(tmp_path: Path, room: int) -> None:
    """A copy of which the disk took a part is no segment, and its bytes are no segment's."""
    path = cold_run(tmp_path / "run")[0]
    spent = budget(10**9)
    with largest_file(room), pytest.raises(OSError, match="File too large|No space left"):
        spent.archive(path, tmp_path / "ledger", 5.0)
    assert list((tmp_path / "ledger" / ARCHIVE).iterdir()) == []
    assert spent._total == 0


def test_a_segment_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap of the memory may have deleted it; a disk that fails is one, too; neither leaves anything."""
    with pytest.raises(FileNotFoundError):
        budget(10**9).archive(tmp_path / "00000001.mmj.zst", tmp_path / "ledger", 5.0)
    path = cold_run(tmp_path / "run")[0]

    def failing(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "ledger" / ARCHIVE).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        budget(10**9).archive(path, tmp_path / "ledger", 5.0)
    assert list((tmp_path / "ledger" / ARCHIVE).iterdir()) == []


# What stays ---------------------------------------------------------------------------------------------------------


def disk(folder: Path, ledger: int, routine: int, size: int = 1000) -> None:
    """Put segments of a ledger and of its archive into a folder, the older the lower their number, a day apart."""
    (folder / ARCHIVE).mkdir(parents=True, exist_ok=True)
    for part, count in ((folder, ledger), (folder / ARCHIVE, routine)):
        for number in range(1, count + 1):
            path = part / f"{number:08d}.mmj{'' if part == folder and number == count else '.zst'}"
            path.write_bytes(bytes(size))
            at = NOW - (count - number) * DAY
            os.utime(path, ns=(at, at))


def left(folder: Path) -> tuple[list[int], list[int]]:
    """Return the numbers of the ledger's and of the archive's segments."""
    return [number_of(path) for path in segment_paths(folder)], [
        number_of(path) for path in segment_paths(folder / ARCHIVE)
    ]


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 12_000), st.sampled_from([0, 0, 0, 1, 4]))
def test_routine_gives_way_first(
    tmp_path_factory: pytest.TempPathFactory, ledger: int, routine: int, cap: int, days: int
) -> None:
    """Within the caps as far as may be: the archive's oldest first, then the ledger's, never its newest."""
    folder = tmp_path_factory.mktemp("disk")
    disk(folder, ledger, routine)
    limits = DiskLimits(10**9, cap, days)
    would = prune(folder, limits, ledger, NOW, dry=True)
    assert left(folder) == (list(range(1, ledger + 1)), list(range(1, routine + 1)))
    gone = prune(folder, limits, ledger, NOW)
    assert gone == would
    kept_ledger, kept_routine = left(folder)
    assert kept_ledger == list(range(ledger - len(kept_ledger) + 1, ledger + 1))
    assert kept_routine == list(range(routine - len(kept_routine) + 1, routine + 1))
    assert len(gone) == ledger + routine - len(kept_ledger) - len(kept_routine)
    assert kept_ledger[-1:] == [ledger], "the one that is written to stays"
    total = 1000 * (len(kept_ledger) + len(kept_routine))
    assert total <= cap or (kept_routine == [] and len(kept_ledger) == 1)
    if days:
        # All but the newest are at most so old.
        assert ledger - kept_ledger[0] <= days or len(kept_ledger) == 1
        assert not kept_routine or routine - kept_routine[0] <= days
    else:
        # Nothing is deleted that might have stayed.
        assert not gone or total + 1000 > cap
        assert kept_routine == [] or len(kept_ledger) == ledger


def test_nothing_goes_without_need(tmp_path: Path) -> None:
    """Within the caps every file stays, those that are no segments always; a folder without an archive is fine."""
    disk(tmp_path, 3, 3)
    (tmp_path / "latch.json").write_text("{}")
    assert prune(tmp_path, UNBOUND, 3, NOW) == []
    assert left(tmp_path) == ([1, 2, 3], [1, 2, 3])
    prune(tmp_path, DiskLimits(0, 0, 1), 3, NOW)
    assert left(tmp_path) == ([3], [])
    assert (tmp_path / "latch.json").exists()
    (tmp_path / ARCHIVE).rmdir()
    assert prune(tmp_path, DiskLimits(0, 0, 1), 3, NOW) == []


def test_what_a_cut_left_half_written_goes(tmp_path: Path) -> None:
    """Parts of cold segments that no process writes any more are deleted, and not by a dry run."""
    disk(tmp_path, 1, 1)
    parts = [tmp_path / "00000009.mmj.zst.part", tmp_path / ARCHIVE / "00000009.mmj.zst.part"]
    for part in parts:
        part.write_bytes(b"half")
    prune(tmp_path, UNBOUND, 1, NOW, dry=True)
    assert all(part.exists() for part in parts)
    prune(tmp_path, UNBOUND, 1, NOW)
    assert not any(part.exists() for part in parts)


# The table ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_record_has_its_place_in_the_table() -> None:
    """What a journal may hold is kept in one of three ways, but for what only orders and counts it."""
    helpers = {"note", "gap", "commit"}
    assert set(KIND_NAMES.values()) - helpers <= set(CLASSES)
    assert len(CLASSES) == len(TABLE), "each once"


def test_what_is_urgent() -> None:
    """At once what something depends on; what is not named is routine."""
    assert {what for what in CLASSES if is_urgent(what)} == {
        "latch", "pauses by a person", "instance id, run epoch", "run", "config", "end", "intent", "breach",
    }  # fmt: skip
    assert not is_urgent("something new")
    assert CLASSES["fill"] is CLASSES["session"] is Durability.SOON


def test_the_documentation_has_this_table() -> None:
    """docs/journal.md is made from it."""
    text = (Path(__file__).resolve().parents[1] / "docs/journal.md").read_text(encoding="utf-8")
    assert markdown() in text
    assert len(re.findall(r"^\| .* \| at once \|", markdown(), re.M)) == sum(map(is_urgent, CLASSES))
