"""The reader: what was written and nothing else, whatever happened to the file or happens to the folder meanwhile."""

import random
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import pytest
from journals import flipped, header_bytes, items, journal, largest_file, records, rewrite, snapshot, timer, writer

from mmpi.errors import ConfigError, JournalError
from mmpi.instrument import SECOND
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.reader import Damage, Segment, Torn, read
from mmpi.journal.record import NOTE, Record, decode_header, encode_header, encode_payload, frame
from mmpi.journal.survey import verify_journal


def one_segment(folder: Path, events: int = 5) -> Path:
    """Return the only segment of a small journal that ends with an action."""
    return journal(folder, [snapshot(ts, 3) for ts in range(1, events + 1)], stop=False) / "00000001.mmj"


def segments(folder: Path, events: int = 20) -> list[Path]:
    """Return the segments of a journal that has several of them and ended cleanly."""
    journal(folder, [snapshot(ts) for ts in range(1, events)], segment_bytes=3000)
    return segment_paths(folder)


def follows(path: Path) -> list[bool]:
    """Return of each segment whether it goes on where the one before ended."""
    return [item.follows for item in read(path) if isinstance(item, Segment)]


def damage(path: Path) -> list[str]:
    """Return all damage, spelled out."""
    return [str(item) for item in items(path) if isinstance(item, Damage)]


# One segment --------------------------------------------------------------------------------------------------------


def test_a_tail_cut_anywhere_is_dropped_and_told(tmp_path: Path) -> None:
    """Cut at every byte of its last record, a journal keeps all records before it and says what was dropped."""
    segment = one_segment(tmp_path)
    data, whole = segment.read_bytes(), records(segment)
    last = whole[-1]
    for size in range(last.offset + 1, len(data)):
        segment.write_bytes(data[:size])
        found = items(segment)
        assert found[:-1] == whole[:-1]
        assert found[-1] == Torn("00000001.mmj", last.offset, size - last.offset)
        assert verify_journal(tmp_path).torn == (
            f"00000001.mmj: torn tail, {size - last.offset} bytes after offset {last.offset} dropped",
        )


def test_a_segment_cut_anywhere_gives_its_first_records(tmp_path: Path) -> None:
    """Cut at every byte after its header, a segment gives exactly the records before the cut, never damage."""
    segment = one_segment(tmp_path, events=2)
    data, whole = segment.read_bytes(), records(segment)
    for size in range(len(header_bytes(segment)), len(data)):
        segment.write_bytes(data[:size])
        found = items(segment)
        kept = [item for item in found if isinstance(item, Record)]
        assert kept == whole[: len(kept)]
        assert len(kept) == sum(record.offset < size for record in whole) - any(isinstance(x, Torn) for x in found)
        assert not any(isinstance(item, Damage) for item in found)


def test_every_flipped_bit_costs_its_record(tmp_path: Path) -> None:
    """A wrong bit anywhere in any record is damage at that record, and costs it alone: those around it are there."""
    segment = journal(tmp_path, [snapshot(1, 2), timer(2)], stop=False) / "00000001.mmj"
    data, whole = segment.read_bytes(), records(segment)
    ends = [record.offset for record in whole[1:]] + [len(data)]
    for bit in range(len(header_bytes(segment)) * 8, len(data) * 8):
        segment.write_bytes(flipped(data, bit))
        hit = next(index for index, end in enumerate(ends) if bit // 8 < end)
        found = items(segment)
        (told,) = (item for item in found if not isinstance(item, Record))
        assert isinstance(told, Damage)
        assert found.index(told) == hit
        assert [item for item in found if item is not told] == whole[:hit] + whole[hit + 1 :]
        lost = 1 if hit < len(whole) - 1 else -1
        assert (told.offset, told.number, told.lost) == (whole[hit].offset, hit, lost)


def test_damage_reads_as_people_need_it(tmp_path: Path) -> None:
    """The message has the record's number, its offset and its segment, and how many are lost if it is not just that."""
    segment = one_segment(tmp_path)
    place, later = records(segment)[3], records(segment)[6]
    data = flipped(segment.read_bytes(), (place.offset + 20) * 8)
    segment.write_bytes(data)
    verdict = verify_journal(tmp_path)
    assert verdict.damage == (f"record 3 at offset {place.offset} of 00000001.mmj: CRC mismatch",)
    assert (verdict.records, verdict.events, verdict.actions, verdict.lost) == (10, 4, 5, 1)
    segment.write_bytes(data[: place.offset] + data[later.offset :])
    assert damage(tmp_path) == [f"record 3 at offset {place.offset} of 00000001.mmj: missing; 3 records lost"]


def test_random_bytes_never_crash_the_reader(tmp_path: Path) -> None:
    """Behind a true header, noise gives no record and no exception."""
    segment = one_segment(tmp_path)
    header = header_bytes(segment)
    chance = random.Random(1)
    for _ in range(500):
        segment.write_bytes(header + chance.randbytes(chance.randrange(1, 200)))
        found = items(segment)
        assert len(found) == 1
        assert isinstance(found[0], Torn | Damage)


def test_noise_that_looks_like_records_never_crashes_the_reader(tmp_path: Path) -> None:
    """Markers with lengths that lead anywhere, and numbers of any time, are no records either."""
    segment = one_segment(tmp_path)
    header, whole = header_bytes(segment), records(segment)
    marker, chance = decode_header(header).marker, random.Random(2)
    for _ in range(300):
        noise = b"".join(marker + chance.randbytes(chance.randrange(40)) for _ in range(chance.randrange(1, 9)))
        segment.write_bytes(header + noise + frame(marker, 7, whole[7].kind, whole[7].payload))
        found = items(segment)
        assert [item.number for item in found if isinstance(item, Record)] == [7]
        assert sum(item.lost for item in found if isinstance(item, Damage)) == 7


def test_numbers_go_on_over_four_thousand_million(tmp_path: Path) -> None:
    """Records are counted on where the 32 bits of their number begin again at 0, also over damage."""
    segment = one_segment(tmp_path)
    header, whole = decode_header(header_bytes(segment)), records(segment)
    first = 3 * 2**32 - 4
    start = encode_header(msgspec.structs.replace(header, first_record=first))
    segment.write_bytes(start)
    rewrite(segment, whole)
    assert [record.number for record in records(segment)] == list(range(first, first + len(whole)))
    place = records(segment)[3].offset
    segment.write_bytes(flipped(segment.read_bytes(), (place + 20) * 8))
    (told,) = (item for item in items(segment) if isinstance(item, Damage))
    assert (told.number, told.lost) == (3 * 2**32 - 1, 1)
    assert records(segment)[-1].number == first + len(whole) - 1


# Several segments ---------------------------------------------------------------------------------------------------


def test_damage_costs_one_record_not_the_segment(tmp_path: Path) -> None:
    """The reader goes on behind it, and the next segment follows as if nothing had been."""
    paths = segments(tmp_path)
    before = records(tmp_path)
    hit = records(paths[1])[2]
    paths[1].write_bytes(flipped(paths[1].read_bytes(), (hit.offset + 9) * 8))
    assert records(tmp_path) == [record for record in before if record != hit]
    assert follows(tmp_path) == [False, *[True] * (len(paths) - 1)]


def test_a_tail_torn_by_an_earlier_kill_is_no_damage(tmp_path: Path) -> None:
    """A torn record at the end of a run is torn even with a later run behind it; inside a run it is damage, counted."""
    events = [snapshot(ts) for ts in range(1, 20)]
    journal(tmp_path, events, segment_bytes=3000, stop=False)
    last = segment_paths(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    journal(tmp_path, [timer(100)])
    verdict = verify_journal(tmp_path)
    assert (len(verdict.torn), verdict.damage, verdict.clean_stop) == (1, (), True)
    first = tmp_path / "00000001.mmj"
    place = records(first)[-2].offset
    first.write_bytes(first.read_bytes()[: place + 5])
    assert damage(tmp_path) == [f"00000001.mmj: cut off at offset {place}, though its run goes on; 2 records lost"]
    assert follows(tmp_path)[:3] == [False, False, True]


def test_a_segment_that_ends_too_early_is_damage(tmp_path: Path) -> None:
    """Cut behind a record nothing looks torn; the next segment's number tells that records are missing."""
    paths = segments(tmp_path)
    place = records(paths[1])[2].offset
    missing = len(records(paths[1])) - 2
    paths[1].write_bytes(paths[1].read_bytes()[:place])
    assert damage(tmp_path) == [f"00000003.mmj: records are missing before it; {missing} records lost"]
    assert follows(tmp_path)[:4] == [False, True, False, True]
    assert verify_journal(tmp_path).lost == missing


def test_what_a_gap_tells_of_is_no_damage(tmp_path: Path) -> None:
    """Records that could not be written are missing, and the Gap says so; one that is missing besides is damage."""
    out = writer(tmp_path)
    out.event(snapshot(1))
    with largest_file(1):
        assert [out.event(snapshot(ts)) for ts in (2, 3, 4)] == [False] * 3
    out.event(snapshot(2 + SECOND))
    out.close()
    assert (damage(tmp_path), follows(tmp_path)) == ([], [False, False])
    first = segment_paths(tmp_path)[0]
    first.write_bytes(first.read_bytes()[: records(first)[-1].offset])
    assert damage(tmp_path) == ["00000002.mmj: records are missing before it"]
    assert verify_journal(tmp_path).lost == 1


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    """Segments deleted from the middle are named, their records counted; those deleted by the cap are not missed."""
    paths = segments(tmp_path, 30)
    paths[0].unlink()
    assert verify_journal(tmp_path).damage == ()
    counts = [len(records(path)) for path in paths[1:]]
    paths[2].unlink()
    assert damage(tmp_path) == [f"00000004.mmj: segment 3 is missing before it; {counts[1]} records lost"]
    assert follows(tmp_path)[:2] == [False, False]
    paths[3].unlink()
    lost = counts[1] + counts[2]
    assert damage(tmp_path) == [f"00000005.mmj: segments 3 to 4 are missing before it; {lost} records lost"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_header_costs_its_segment(tmp_path: Path, which: int) -> None:
    """Without its header a segment cannot be read; the next one tells how much that was, also at a run's beginning."""
    paths = segments(tmp_path)
    whole, gone = records(tmp_path), records(paths[which])
    for bit in range(0, 8 * len(header_bytes(paths[which])), 97):
        data = paths[which].read_bytes()
        paths[which].write_bytes(flipped(data, bit))
        found = items(tmp_path)
        assert [item for item in found if isinstance(item, Record)] == [each for each in whole if each not in gone]
        told = [item for item in found if not isinstance(item, Record)]
        assert [type(item) for item in told] == [Damage, Damage]
        assert verify_journal(tmp_path).lost == len(gone)
        paths[which].write_bytes(data)


def test_what_the_cap_deleted_is_not_lost(tmp_path: Path) -> None:
    """Where the oldest segment that is left cannot be read, nobody knows what was in it: nothing is made up."""
    paths = segments(tmp_path)
    for path in paths[:2]:
        path.unlink()
    paths[2].write_bytes(b"")
    verdict = verify_journal(tmp_path)
    assert (verdict.damage, verdict.lost) == (("00000003.mmj: the file is empty",), 0)


def test_what_is_missing_is_counted_over_several_damages(tmp_path: Path) -> None:
    """A torn end, a header that cannot be read and a segment that is gone, side by side: all that they cost, once."""
    paths = segments(tmp_path, 30)
    whole, data = records(tmp_path), {path: path.read_bytes() for path in paths}

    def spoil(place: int, size: int | None) -> None:
        paths[place].unlink() if size is None else paths[place].write_bytes(data[paths[place]][:size])

    for steps in (((1, 2500), (2, 50)), ((1, 2500), (2, None)), ((1, 50), (2, None)), ((0, 60), (1, 70), (2, 2000))):
        for place, size in steps:
            spoil(place, size)
        verdict = verify_journal(tmp_path)
        assert (verdict.records, verdict.lost) == (len(records(tmp_path)), len(whole) - len(records(tmp_path)))
        for path in paths:
            path.write_bytes(data[path])


def test_a_segment_killed_at_birth_is_torn(tmp_path: Path) -> None:
    """The last segment may have been cut anywhere in its header; an earlier one may not."""
    paths = segments(tmp_path)
    header = header_bytes(paths[-1])
    for size in (*range(0, len(header), 7), len(header) - 1):
        paths[-1].write_bytes(header[:size])
        verdict = verify_journal(tmp_path)
        assert (len(verdict.torn), verdict.damage) == (1, ())
    for size in (40, 4096, 8192):
        paths[-1].write_bytes(bytes(size))
        assert len(verify_journal(tmp_path).torn) == 1
    paths[1].write_bytes(b"")
    (first, *_) = damage(tmp_path)
    assert first == "00000002.mmj: the file is empty"


def test_a_flipped_header_of_the_last_segment_is_no_torn_tail(tmp_path: Path) -> None:
    """A header whose length is wrong is not taken for one that was being written: that would hide a whole segment."""
    last = segments(tmp_path)[-1]
    data = last.read_bytes()
    lengths = range(8 * 10, 8 * 16)
    for bit in (*range(0, 8 * len(header_bytes(last)), 71), *lengths):
        last.write_bytes(flipped(data, bit))
        found = items(last.parent)
        assert isinstance(found[-1], Damage)
        assert not any(isinstance(item, Torn) for item in found)


def test_what_is_no_journal_is_named(tmp_path: Path) -> None:
    """A missing path, an empty folder, an empty file, a cut header and a foreign file each have their message."""
    empty, cut, foreign = tmp_path / "empty", tmp_path / "cut", tmp_path / "foreign"
    empty.write_bytes(b"")
    cut.write_bytes(one_segment(tmp_path / "journal").read_bytes()[:10])
    foreign.write_bytes(b"PAR1 and so on, for some more than fifty bytes, until the end")
    (tmp_path / "folder").mkdir()
    for path, error, message in (
        (tmp_path / "none", ConfigError, "none: no such file or folder"),
        (tmp_path / "folder", ConfigError, "folder: no journal segments"),
        (empty, JournalError, "empty: the file is empty"),
        (cut, JournalError, "cut: the header is cut off after 10 of"),
        (foreign, JournalError, "foreign: not a journal segment"),
    ):
        with pytest.raises(error, match=message):
            verify_journal(path)


def test_segments_of_several_boots_are_one_archive(tmp_path: Path) -> None:
    """Numbers in memory begin anew with each boot; archived one behind the other that is no damage, a hole is."""
    for boot in (1, 2):
        for number, path in enumerate(segments(tmp_path / str(boot)), start=1):
            path.rename(tmp_path / f"{100 * boot + number:08d}.mmj")
        (tmp_path / str(boot)).rmdir()
    assert (damage(tmp_path), follows(tmp_path).count(False)) == ([], 2)
    (tmp_path / "00000203.mmj").unlink()
    assert [told.partition(";")[0] for told in damage(tmp_path)] == ["00000204.mmj: segment 3 is missing before it"]


def test_a_segment_in_the_wrong_place_is_damage(tmp_path: Path) -> None:
    """A segment that stands behind a later one says so by its number and its time."""
    paths = segments(tmp_path)
    last = len(paths)
    paths[1].rename(tmp_path / "00000099.mmj")
    assert damage(tmp_path)[-1] == f"00000099.mmj: it says it is segment 2, after segment {last}"


# Meanwhile ----------------------------------------------------------------------------------------------------------


def test_segments_compressed_while_being_read(tmp_path: Path) -> None:
    """A segment that is cold by the time it is its turn is read as such: nothing is missing."""
    paths = segments(tmp_path)
    whole = [(record.number, record.payload) for record in records(tmp_path)]
    reading = read(tmp_path)
    found = list(islice(reading, 3))
    for path in paths[:-1]:
        compress(path, durable=False)
    found += reading
    assert [(item.number, item.payload) for item in found if isinstance(item, Record)] == whole
    assert [item for item in found if isinstance(item, Torn | Damage)] == []
    assert {item.path for item in found if isinstance(item, Segment)} == {paths[0], *segment_paths(tmp_path)[1:]}
    assert [item.follows for item in found if isinstance(item, Segment)] == [False, *[True] * (len(paths) - 1)]


@pytest.mark.parametrize("gone", [slice(0, 3), slice(1, 4), slice(3, None), slice(0, None)])
def test_segments_deleted_while_being_read(tmp_path: Path, gone: slice) -> None:
    """What the cap has deleted meanwhile is not there and no damage; what comes behind it does not follow."""
    paths = segments(tmp_path)
    reading = read(tmp_path)
    found = list(islice(reading, 3))
    deleted = paths[gone]
    for path in deleted:
        path.unlink()
    found += reading
    there = [item for item in found if isinstance(item, Segment)]
    assert [item.path for item in there] == [path for path in paths if path not in deleted or path == paths[0]]
    assert [item for item in found if isinstance(item, Torn | Damage)] == []
    number = {path: index for index, path in enumerate(paths)}
    for before, after in pairwise(there):
        assert after.follows is (number[after.path] == number[before.path] + 1)


def test_a_journal_that_is_being_written(tmp_path: Path) -> None:
    """Read at any moment a run is whole up to there, with no word of damage."""
    out = writer(tmp_path, segment_bytes=3000)
    for ts in range(1, 40):
        out.event(snapshot(ts))
        assert [type(item) for item in items(tmp_path)] == [Record] * len(records(tmp_path))
        assert len(records(tmp_path)) >= ts
    out.close()


def test_a_segment_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    """A disk that fails in a segment's place costs that segment, with the disk's word for it, and how much that was."""
    paths = segments(tmp_path)
    gone = records(paths[1])
    paths[1].unlink()
    paths[1].symlink_to("/proc/self/mem")  # whose first byte cannot be read
    assert damage(tmp_path) == [
        "00000002.mmj: it cannot be read: Input/output error",
        f"00000003.mmj: records are missing before it; {len(gone)} records lost",
    ]


def test_a_checked_record_that_cannot_be_decoded_is_returned(tmp_path: Path) -> None:
    """What a record means is not the reader's matter: it is whole, so it is there."""
    segment = one_segment(tmp_path, events=1)
    rewrite(segment, [*records(segment), (NOTE, encode_payload(timer(1))), (77, b"\xc1")])
    assert [record.kind for record in records(segment)][-2:] == [NOTE, 77]
