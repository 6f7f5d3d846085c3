"""The reader: what was written and nothing else, whatever happened to the file."""

import json
import random
from pathlib import Path

import pytest
from journals import cancel, items, journal, records, snapshot, timer, writer

from mmpi.errors import ConfigError, JournalError
from mmpi.events import ExecReport, ExecType, OpenOrder, Reconciled
from mmpi.journal.reader import Damage, Segment, Torn, cat_journal, read, verify_journal
from mmpi.journal.record import HEADER_BYTES, NOTE, Record, encode_payload, frame


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def one_segment(folder: Path, events: int = 5) -> Path:
    """Return the only segment of a small journal that ends with an action."""
    return journal(folder, [snapshot(ts, 3) for ts in range(1, events + 1)], stop=False) / "00000001.mmj"


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
    for size in range(HEADER_BYTES, len(data)):
        segment.write_bytes(data[:size])
        found = items(segment)
        kept = [item for item in found if isinstance(item, Record)]
        assert kept == whole[: len(kept)]
        assert len(kept) == sum(record.offset < size for record in whole) - any(isinstance(x, Torn) for x in found)
        assert not any(isinstance(item, Damage) for item in found)


def test_every_flipped_bit_is_located(tmp_path: Path) -> None:
    """A wrong bit anywhere in any record is damage at that record; those before it are intact and none is invented."""
    segment = one_segment(tmp_path)
    data, whole = segment.read_bytes(), records(segment)
    ends = [record.offset for record in whole[1:]] + [len(data)]
    for bit in range(HEADER_BYTES * 8, len(data) * 8):
        segment.write_bytes(flipped(data, bit))
        hit = next(index for index, end in enumerate(ends) if bit // 8 < end)
        found = items(segment)
        assert found[:-1] == whole[:hit]
        assert isinstance(found[-1], Damage)
        assert (found[-1].offset, found[-1].number) == (whole[hit].offset, hit)


def test_damage_reads_as_people_need_it(tmp_path: Path) -> None:
    """The message has the record's number, its offset and its segment."""
    segment = one_segment(tmp_path)
    place = records(segment)[3]
    segment.write_bytes(flipped(segment.read_bytes(), (place.offset + 20) * 8))
    verdict = verify_journal(tmp_path)
    assert verdict.damage == (f"record 3 at offset {place.offset} of 00000001.mmj: CRC mismatch",)
    assert (verdict.records, verdict.events, verdict.actions, verdict.clean_stop) == (3, 1, 1, False)


def test_random_bytes_never_crash_the_reader(tmp_path: Path) -> None:
    """Behind a true header, noise gives no record and no exception."""
    segment = one_segment(tmp_path)
    header = segment.read_bytes()[:HEADER_BYTES]
    chance = random.Random(1)
    for _ in range(500):
        segment.write_bytes(header + chance.randbytes(chance.randrange(1, 200)))
        found = items(segment)
        assert len(found) == 1
        assert isinstance(found[0], Torn | Damage)


def test_damage_costs_one_segment(tmp_path: Path) -> None:
    """After damage the reader goes on at the next segment, which does not follow from the one before."""
    journal(tmp_path, [snapshot(ts) for ts in range(1, 20)], segment_bytes=3000)
    second = tmp_path / "00000002.mmj"
    lost = records(second)[2:]
    before = records(tmp_path)
    second.write_bytes(flipped(second.read_bytes(), (lost[0].offset + 9) * 8))
    assert records(tmp_path) == [record for record in before if record not in lost]
    segments = [item for item in read(tmp_path) if isinstance(item, Segment)]
    assert [segment.follows for segment in segments] == [False, True, False, *[True] * (len(segments) - 3)]


def test_a_tail_torn_by_an_earlier_kill_is_no_damage(tmp_path: Path) -> None:
    """A torn record at the end of a run is torn even with a later run behind it; inside a run it is damage."""
    events = [snapshot(ts) for ts in range(1, 20)]
    journal(tmp_path, events, segment_bytes=3000, stop=False)
    last = sorted(tmp_path.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-3])
    journal(tmp_path, [timer(100)])
    verdict = verify_journal(tmp_path)
    assert (len(verdict.torn), verdict.damage, verdict.clean_stop) == (1, (), True)
    first = tmp_path / "00000001.mmj"
    first.write_bytes(first.read_bytes()[:-3])
    (damage,) = verify_journal(tmp_path).damage
    assert damage.startswith("00000001.mmj: cut off at offset")


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    """Segments deleted from the middle are named; those deleted from the front by the cap are not missed."""
    journal(tmp_path, [snapshot(ts) for ts in range(1, 30)], segment_bytes=3000)
    (tmp_path / "00000001.mmj").unlink()
    assert verify_journal(tmp_path).damage == ()
    (tmp_path / "00000003.mmj").unlink()
    assert verify_journal(tmp_path).damage == ("00000004.mmj: segment 3 is missing before it",)


def test_a_segment_killed_at_birth_is_torn(tmp_path: Path) -> None:
    """The last segment may have been cut anywhere in its header; an earlier one may not."""
    journal(tmp_path, [snapshot(ts) for ts in range(1, 20)], segment_bytes=3000)
    paths = sorted(tmp_path.iterdir())
    for size in range(HEADER_BYTES):
        paths[-1].write_bytes(paths[-1].read_bytes()[:HEADER_BYTES][: HEADER_BYTES - 1 - size])
        verdict = verify_journal(tmp_path)
        assert (len(verdict.torn), verdict.damage) == (1, ())
    paths[1].write_bytes(b"")
    (damage, *_) = verify_journal(tmp_path).damage
    assert damage == "00000002.mmj: the file is empty"


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


def test_the_verdict_counts(tmp_path: Path) -> None:
    """A good journal's verdict has its counts, its interval and its clean stop."""
    journal(tmp_path, [snapshot(ts) for ts in range(10, 20)], segment_bytes=3000)
    verdict = verify_journal(tmp_path)
    segments = len(list(tmp_path.iterdir()))
    assert segments > 1
    assert (verdict.segments, verdict.checkpoints, verdict.events, verdict.actions) == (segments, segments + 1, 10, 10)
    assert verdict.records == 2 * 10 + segments + 2
    assert (verdict.first_ts, verdict.last_ts, verdict.clean_stop) == (10, 19, True)
    assert (verdict.torn, verdict.damage) == ((), ())


def test_a_checked_record_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    """A good CRC around something that is no note is damage, not an exception."""
    segment = one_segment(tmp_path, events=1)
    with segment.open("ab") as file:
        file.write(frame(NOTE, encode_payload(timer(1))))
    (damage,) = verify_journal(tmp_path).damage
    assert damage.startswith("record 3 at offset")


def test_cat_spells_everything_out(tmp_path: Path) -> None:
    """One JSON object a line, with the names of types and fields; what was torn is a line too."""
    out = writer(tmp_path)
    order = OpenOrder(instrument="BTC", cl_ord_id="1", order_id="2", side=1, price=3, size=4)
    out.event(Reconciled(recv_ts=5, venue="x", open_orders=(order,), positions=(("BTC", -1),)))
    out.event(ExecReport(recv_ts=6, instrument="BTC", exch_ts=0, cl_ord_id="1", order_id="2", exec_type=ExecType.NEW))
    out.action(cancel(6))
    segment = tmp_path / "00000001.mmj"
    with segment.open("ab") as file:
        file.write(b"torn")
    lines = [json.loads(line) for line in cat_journal(tmp_path)]
    assert [line.get("kind") for line in lines] == ["checkpoint", "event", "event", "action", None]
    assert lines[1]["value"]["open_orders"][0] == {
        "type": "OpenOrder", "instrument": "BTC", "cl_ord_id": "1", "order_id": "2", "side": 1, "price": 3, "size": 4,
    }  # fmt: skip
    assert lines[2]["value"]["exec_type"] == "new"
    assert (lines[3]["record"], lines[3]["segment"], lines[3]["value"]["action"]["type"]) == (
        3, "00000001.mmj", "CancelOrder",
    )  # fmt: skip
    assert lines[4] == {"torn": f"00000001.mmj: torn tail, 4 bytes after offset {segment.stat().st_size - 4} dropped"}
