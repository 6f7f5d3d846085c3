"""Follower: what is added to a journal comes once and whole, whatever happens to the folder meanwhile."""

import os
import shutil
from pathlib import Path

import pytest
from journal_box import START, LedgerMaker, entry, fill_entry, run_entry, session
from journals import flipped, journal, records, timer, writer

from mmpi.instrument import SECOND
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import Commit
from mmpi.journal.follow import Follower, Shown
from mmpi.journal.ledger_file import LedgerFile
from mmpi.journal.reader import Torn
from mmpi.journal.record import (
    COMMIT,
    EVENT,
    FIXED_HEADER,
    FRAME_BYTES,
    RUN,
    SESSION,
    Record,
    decode_header,
    encode_payload,
    frame,
    header_length,
)
from mmpi.journal.recovery import read_ledger


def numbers(shown: list[Shown]) -> list[int]:
    """Return the numbers of the records."""
    return [item.number for item, _ in shown if isinstance(item, Record)]


def notes(shown: list[Shown]) -> list[str]:
    """Return the types of all else."""
    return [type(item).__name__ for item, _ in shown if not isinstance(item, Record)]


def test_every_byte_of_a_record_that_is_being_written(tmp_path: Path) -> None:
    """However much of the last record is there: nothing of it comes before all of it is, and then once."""
    journal(tmp_path, map(timer, range(1, 6)), stop=False)
    segment = tmp_path / "00000001.mmj"
    whole = segment.read_bytes()
    last = records(segment)[-1]
    for size in range(last.offset, len(whole)):
        segment.write_bytes(whole[:size])
        follower = Follower(tmp_path)
        assert numbers(follower.last(100)) == list(range(last.number))
        assert list(follower.more()) == []
        segment.write_bytes(whole)
        assert numbers(list(follower.more())) == [last.number]
        assert list(follower.more()) == []


def test_a_journal_byte_by_byte(tmp_path: Path) -> None:
    """From a folder that is empty, a segment that grows by seven bytes at a time, header too: each record once."""
    source = journal(tmp_path / "source", map(timer, range(1, 40)))
    whole = (source / "00000001.mmj").read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    follower = Follower(folder)
    seen = numbers(follower.last(10))
    for size in range(0, len(whole) + 7, 7):
        (folder / "00000001.mmj").write_bytes(whole[:size])
        shown = list(follower.more())
        assert notes(shown) == []
        seen += numbers(shown)
    assert seen == list(range(len(records(source))))


def test_rotation_compression_and_a_new_run(tmp_path: Path) -> None:
    """Segments that are closed, made cold, and followed by another run's: nothing is lost or comes twice."""
    out = writer(tmp_path, segment_bytes=2000)
    follower = Follower(tmp_path)
    shown: list[Shown] = []
    for ts in range(1, 200):
        out.event(timer(ts))
        if ts % 7 == 0:
            shown += follower.more()
        if ts % 31 == 0:
            for path in segment_paths(tmp_path)[:-1]:
                if path.suffix == ".mmj":
                    compress(path, durable=False)
    out.close()
    journal(tmp_path, map(timer, range(200, 220)))
    shown += follower.more()
    assert len(segment_paths(tmp_path)) > 5
    assert notes(shown) == []
    places = [(int(item.segment[:8]), item.offset) for item, _ in shown if isinstance(item, Record)]
    assert places == [(int(item.segment[:8]), item.offset) for item in records(tmp_path)]


def test_segments_deleted_by_the_cap(tmp_path: Path) -> None:
    """What was deleted before it was read is told, and the rest goes on."""
    out = writer(tmp_path, segment_bytes=1500, max_bytes=3000)
    out.event(timer(1))
    follower = Follower(tmp_path)
    assert len(follower.last(10)) == 2
    for ts in range(2, 200):
        out.event(timer(ts))
    shown = list(follower.more())
    assert notes(shown) == ["Skipped"]
    assert str(shown[0][0]).endswith("were deleted, perhaps not read to their end")
    kept = records(tmp_path)
    assert numbers(shown) == [record.number for record in kept]
    assert kept[0].number > 2


def test_a_folder_that_is_made_anew(tmp_path: Path) -> None:
    """After the folder was emptied, as by a boot, the new journal is followed from its start, with the same numbers."""
    journal(tmp_path, map(timer, range(1, 50)), segment_bytes=2000)
    follower = Follower(tmp_path)
    follower.last(1)
    for again in range(2):
        shutil.rmtree(tmp_path)
        assert list(follower.more()) == []
        journal(tmp_path, map(timer, range(100 + again, 150)), segment_bytes=2000 if again else 10**6)
        shown = list(follower.more())
        assert notes(shown) == []
        assert numbers(shown) == [record.number for record in records(tmp_path)]


def test_a_segment_put_in_anothers_place(tmp_path: Path) -> None:
    """A file of the same name and length, but another segment, is read from its start."""
    segment = journal(tmp_path, map(timer, range(1, 5))) / "00000001.mmj"
    follower = Follower(tmp_path)
    follower.last(1)
    os.replace(journal(tmp_path / "other", map(timer, range(11, 15))) / "00000001.mmj", segment)
    assert numbers(list(follower.more())) == [record.number for record in records(segment)]


def test_damage_is_told_and_passed_over(tmp_path: Path) -> None:
    """A flipped bit in the middle costs its record; what is behind it comes, once."""
    source = journal(tmp_path / "source", map(timer, range(1, 30)))
    data = (source / "00000001.mmj").read_bytes()
    found = records(source)
    segment = tmp_path / "00000001.mmj"
    segment.write_bytes(data[: found[5].offset])
    follower = Follower(tmp_path)
    follower.last(1)
    segment.write_bytes(flipped(data, 8 * (found[9].offset + FRAME_BYTES)))
    shown = list(follower.more())
    assert notes(shown) == ["Damage"]
    assert numbers(shown) == [record.number for record in found[5:9] + found[10:]]
    assert list(follower.more()) == []


def test_a_ledger_and_its_reserved_room(tmp_path: Path) -> None:
    """Commits come when they are there, and the zeros behind them are no record, nor in the way of the next one."""
    maker = LedgerMaker(tmp_path).run(START)
    follower = Follower(tmp_path)
    assert numbers(follower.last(100)) == [0, 1, 2]
    for commit in range(1, 5):
        maker.fill(START + commit * SECOND, str(commit))
        shown = list(follower.more())
        assert (numbers(shown), notes(shown)) == ([1 + 2 * commit, 2 + 2 * commit], [])
        assert list(follower.more()) == []
    maker.close()
    assert list(follower.more()) == []


def test_a_ledger_that_goes_on_behind_a_torn_commit(tmp_path: Path) -> None:
    """A commit that a kill tore is passed over as soon as the next run commits behind it."""
    LedgerMaker(tmp_path).run(START).fill(START + SECOND).close()
    segment = tmp_path / "00000001.mmj"
    follower = Follower(tmp_path)
    before = numbers(follower.last(100))
    # Half of a commit: its first record is whole, the next one is not.
    data = segment.read_bytes()
    marker = decode_header(data[: header_length(data[:FIXED_HEADER])]).marker
    commit = frame(marker, 5, COMMIT, encode_payload(Commit(3, START + 2 * SECOND)))
    fill = frame(marker, 6, EVENT, encode_payload(fill_entry(START, "9")))
    with segment.open("ab") as file:
        file.write((commit + fill[:40]).ljust(4096, b"\0"))
    torn = list(follower.more())
    assert (numbers(torn), notes(torn)) == ([5], [])
    before += numbers(torn)
    end = read_ledger(tmp_path)
    ledger = LedgerFile(tmp_path)
    if end.path is not None and end.header is not None:
        ledger.resume(end.path, end.header, end.end, end.records, end.commits)
        ledger.commit([entry(RUN, run_entry("0xb", START)), entry(EVENT, fill_entry(START, "2"))], START)
    else:
        ledger.skip(end.number, end.records, end.commits)
        ledger.begin([entry(SESSION, session(START))], [entry(RUN, run_entry("0xb", START))], START)
    shown = list(follower.more())
    ledger.close()
    assert before + numbers(shown) == [record.number for record in records(tmp_path)]
    assert "run" in [item.name for item, _ in shown if isinstance(item, Record)]


def test_the_end_of_what_is_ended(tmp_path: Path) -> None:
    """Without following, a torn tail is shown as what it is; followed, it is waited for."""
    segment = journal(tmp_path, map(timer, range(1, 5)), stop=False) / "00000001.mmj"
    segment.write_bytes(segment.read_bytes()[:-3])
    assert notes(Follower(tmp_path).last(2, ended=True)) == ["Torn"]
    assert isinstance(Follower(tmp_path).last(2, ended=True)[-1][0], Torn)
    assert notes(Follower(tmp_path).last(2)) == []
    assert notes(Follower(segment).last(2, ended=True)) == ["Torn"]


def test_a_header_that_is_damaged(tmp_path: Path) -> None:
    """A segment whose header cannot be read is told, and the next one read."""
    journal(tmp_path, map(timer, range(1, 5)))
    follower = Follower(tmp_path)
    follower.last(1)
    journal(tmp_path, map(timer, range(5, 9)))
    journal(tmp_path, map(timer, range(9, 12)))
    bad = tmp_path / "00000002.mmj"
    bad.write_bytes(flipped(bad.read_bytes(), 8 * 30))
    shown = list(follower.more())
    assert notes(shown) == ["Skipped"]
    assert {item.segment for item, _ in shown if isinstance(item, Record)} == {"00000003.mmj"}
    assert notes(Follower(tmp_path).last(100)) == ["Damage"]


@pytest.mark.parametrize("cold", [False, True])
def test_one_file(tmp_path: Path, cold: bool) -> None:
    """PATH may be one segment; a cold one has an end and nothing behind it."""
    segment = journal(tmp_path, map(timer, range(1, 5))) / "00000001.mmj"
    whole = len(records(segment))
    if cold:
        compress(segment, durable=False)
        segment = tmp_path / "00000001.mmj.zst"
    follower = Follower(segment)
    assert len(follower.last(100)) == whole
    assert list(follower.more()) == []
    assert numbers(follower.last(1)) == [whole - 1]
