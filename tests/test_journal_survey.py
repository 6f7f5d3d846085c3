"""The survey: what a journal holds, counted, checked and spelt out, whoever wrote it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from journals import cancel, items, journal, records, rewrite, snapshot, timer, writer

from mmpi.commands.journal_show import line
from mmpi.events import ExecReport, ExecType, OpenOrder, Reconciled
from mmpi.instrument import SECOND
from mmpi.journal import schema
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import CLEAN, FAILED, Ending, Run, Session
from mmpi.journal.ledger_file import Entry, LedgerFile
from mmpi.journal.reader import Damage, Segment, Torn, read
from mmpi.journal.record import (
    BLOCK,
    CLEAN_STOP,
    COMMIT,
    END,
    EVENT,
    KINDS,
    NOTE,
    RUN,
    SESSION,
    Header,
    Record,
    decode_header,
    encode_header,
    encode_payload,
)
from mmpi.journal.schema import Description, Field, Shape
from mmpi.journal.survey import settled, verify_journal

BEGINS: Entry = (RUN, encode_payload(Run("0x", "paper", "digest", "0", "boot", 1, Ending("first"))))
STATE: Entry = (SESSION, encode_payload(Session("paper", "0x", b"{}")))
FILL: Entry = (EVENT, encode_payload(timer(1)))


def cat(path: Path) -> list[dict[str, Any]]:
    """Return the lines that `mmpi journal cat` prints of a segment or folder."""
    lines: list[dict[str, Any]] = []
    header: Header | None = None
    for item in read(path):
        if isinstance(item, Segment):
            header = item.header
        elif isinstance(item, Record):
            assert header is not None
            lines.append(json.loads(line(item, header)))
        else:
            lines.append({type(item).__name__.lower(): str(item)})
    return lines


def later_version(segment: Path, kinds: dict[str, tuple[str, str]], types: dict[str, Shape]) -> Header:
    """Have a segment say that its shapes are other ones; return its header."""
    found = records(segment)
    ours = schema.describe(KINDS)
    told = Description({**ours.kinds, **kinds}, {**ours.types, **types})
    header = msgspec.structs.replace(decode_header(segment.read_bytes()), description=schema.pack(told))
    segment.write_bytes(encode_header(header))
    rewrite(segment, found)
    return header


# Verify -------------------------------------------------------------------------------------------------------------


def test_the_verdict_counts(tmp_path: Path) -> None:
    """A good journal's verdict has its counts, its interval and its clean stop."""
    journal(tmp_path, [snapshot(ts) for ts in range(10, 20)], segment_bytes=3000)
    verdict = verify_journal(tmp_path)
    segments = len(list(tmp_path.iterdir()))
    assert segments > 1
    assert (verdict.segments, verdict.checkpoints, verdict.events, verdict.actions) == (segments, segments + 1, 10, 10)
    assert verdict.records == 2 * 10 + segments + 2
    assert verdict.kinds == {"checkpoint": segments + 1, "event": 10, "action": 10, "note": 1}
    assert (verdict.first_ts, verdict.last_ts, verdict.clean_stop) == (10, 19, True)
    assert (verdict.torn, verdict.damage, verdict.gaps, verdict.lost, verdict.unknown) == ((), (), (), 0, 0)


def test_a_cold_journal_has_the_same_verdict(tmp_path: Path) -> None:
    """Compressing segments changes nothing of what is in them."""
    journal(tmp_path, [snapshot(ts) for ts in range(10, 40)], segment_bytes=3000)
    before = verify_journal(tmp_path)
    for path in segment_paths(tmp_path):
        compress(path, durable=False)
    assert verify_journal(tmp_path) == before


def test_skipped_bytes_and_lost_records_are_summed(tmp_path: Path) -> None:
    """The verdict has both over all damage; unknown losses are in neither."""
    segment = journal(tmp_path, [timer(ts) for ts in range(1, 20)]) / "00000001.mmj"
    data, whole = bytearray(segment.read_bytes()), records(segment)
    for index in (3, 9, 10):
        data[whole[index].offset + 20] ^= 1
    segment.write_bytes(data)
    verdict = verify_journal(tmp_path)
    assert (len(verdict.damage), verdict.lost, verdict.records) == (2, 3, len(whole) - 3)
    assert verdict.skipped_bytes == (whole[4].offset - whole[3].offset) + (whole[11].offset - whole[9].offset)


def test_a_gap_is_told(tmp_path: Path) -> None:
    """What could not be written at its time is in the verdict, with its count and its reason, and is no damage."""
    out = writer(tmp_path / "there")
    (tmp_path / "there").rmdir()
    (tmp_path / "there").write_text("in the way")
    assert [out.event(timer(ts)) for ts in (1, 2)] == [False, False]
    (tmp_path / "there").unlink()
    out.event(timer(2 + SECOND))
    out.close()
    verdict = verify_journal(tmp_path / "there")
    (gap,) = verdict.gaps
    assert gap == f"00000001.mmj: 2 records: {tmp_path}/there/00000001.mmj: File exists"
    assert (verdict.damage, verdict.clean_stop) == ((), True)


@pytest.mark.parametrize(
    ("last", "clean"),
    [
        ((NOTE, CLEAN_STOP), True), ((NOTE, "something else"), False), ((END, Ending(CLEAN)), True),
        ((END, Ending(FAILED, "bug")), False), ((EVENT, timer(1)), False), ((99, 1), False),
    ],
)  # fmt: skip
def test_a_clean_stop_is_the_last_word(tmp_path: Path, last: tuple[int, object], clean: bool) -> None:
    """A run ended cleanly if its last record says so; anything behind that, torn or whole, is another run's."""
    segment = journal(tmp_path, [timer(1)]) / "00000001.mmj"
    rewrite(segment, [*records(segment)[:-1], (last[0], encode_payload(last[1]))])
    assert verify_journal(tmp_path).clean_stop is clean
    with segment.open("ab") as file:
        file.write(b"torn")
    assert not verify_journal(tmp_path).clean_stop


def test_a_checked_record_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    """A good CRC around something that is no note is damage, not an exception."""
    segment = journal(tmp_path, [timer(1)], stop=False) / "00000001.mmj"
    rewrite(segment, [*records(segment), (NOTE, encode_payload(timer(1)))])
    (damage,) = verify_journal(tmp_path).damage
    assert damage.startswith("record 3 at offset")


def test_kinds_of_a_later_version_are_counted(tmp_path: Path) -> None:
    """Records of a kind that this version does not know are whole, so they are no damage."""
    segment = journal(tmp_path, [timer(1), timer(2)]) / "00000001.mmj"
    found = records(segment)
    first, second = (200, b"\x01"), (201, encode_payload({"a": 1}))
    rewrite(segment, [found[0], first, *found[1:4], second, *found[4:], first])
    verdict = verify_journal(tmp_path)
    assert (verdict.unknown, verdict.damage, verdict.events) == (3, (), 2)
    assert (verdict.kinds["200"], verdict.kinds["201"]) == (2, 1)


def test_a_segment_of_a_later_version_is_verified(tmp_path: Path) -> None:
    """What we know of it is counted; a payload that only the other version understands is whole, and no damage."""
    segment = journal(tmp_path, [timer(7), timer(8)]) / "00000001.mmj"
    later_version(segment, {"200": ("new", "New")}, {"New": Shape("", (Field("what", "str"),))})
    whole = verify_journal(tmp_path)
    assert (whole.damage, whole.events, whole.first_ts, whole.last_ts, whole.clean_stop) == ((), 2, 7, 8, True)
    rewrite(segment, [*records(segment), (EVENT, encode_payload(["a new event", 9])), (200, encode_payload(["x"]))])
    verdict = verify_journal(tmp_path)
    assert (verdict.damage, verdict.events, verdict.last_ts, verdict.unknown) == ((), 3, 8, 1)


# Cat ----------------------------------------------------------------------------------------------------------------


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
    lines = cat(tmp_path)
    assert [line.get("kind") for line in lines] == ["checkpoint", "event", "event", "action", None]
    assert lines[1]["value"]["open_orders"][0] == {
        "type": "OpenOrder", "instrument": "BTC", "cl_ord_id": "1", "order_id": "2", "side": 1, "price": 3, "size": 4,
    }  # fmt: skip
    assert lines[2]["value"]["exec_type"] == "new"
    assert (lines[3]["record"], lines[3]["segment"], lines[3]["value"]["action"]["type"]) == (
        3, "00000001.mmj", "CancelOrder",
    )  # fmt: skip
    assert lines[4] == {"torn": f"00000001.mmj: torn tail, 4 bytes after offset {segment.stat().st_size - 4} dropped"}


def test_cat_tells_damage(tmp_path: Path) -> None:
    """Damage is a line between the records around it."""
    segment = journal(tmp_path, [timer(1)]) / "00000001.mmj"
    data = bytearray(segment.read_bytes())
    place = records(segment)[1].offset
    data[place + 20] ^= 1
    segment.write_bytes(data)
    lines = cat(tmp_path)
    assert [line.get("record") for line in lines] == [0, None, 2, 3, 4]
    assert lines[1] == {"damage": f"record 1 at offset {place} of 00000001.mmj: CRC mismatch"}


def test_cat_reads_another_version_by_its_own_words(tmp_path: Path) -> None:
    """Names of kinds, types and fields come from the segment itself; more fields than it tells of have numbers."""
    segment = journal(tmp_path, [timer(7)]) / "00000001.mmj"
    new = Shape("n", (Field("what", "str"), Field("timers", "[Timer]"), Field("by_name", "{str:Timer}")))
    found = [*records(segment), (200, encode_payload(["n", "x", [["t", 1]], {"a": ["t", 2]}, 5]))]
    timer_type = schema.describe(KINDS).types["Timer"]
    renamed = msgspec.structs.replace(timer_type, fields=(Field("received", "int"),))
    tag = timer_type.tag
    later_version(segment, {"200": ("new", "New")}, {"New": new, "Timer": renamed})
    rewrite(segment, [*found[:-1], (200, encode_payload(["n", "x", [[tag, 1]], {"a": [tag, 2]}, 5]))])
    lines = cat(tmp_path)
    assert lines[1]["value"] == {"kind": "event", "content": {"type": "Timer", "received": 7}}
    assert (lines[-1]["kind"], lines[-1]["value"]) == (
        "new",
        {
            "kind": "new",
            "content": {
                "type": "New", "what": "x", "timers": [{"type": "Timer", "received": 1}],
                "by_name": {"a": {"type": "Timer", "received": 2}}, "field_3": 5,
            },
        },
    )  # fmt: skip


def test_cat_shows_what_nobody_described(tmp_path: Path) -> None:
    """A record of a kind without a description is shown as it is; so are values that JSON has no word for."""
    segment = journal(tmp_path, [timer(7)]) / "00000001.mmj"
    odd = msgspec.msgpack.encode({1: [b"\x00", msgspec.msgpack.Ext(5, b"x")]})
    rewrite(segment, [*records(segment), (200, odd)])
    *_, last = cat(tmp_path)
    assert last["value"] == {"kind": "200", "content": {"1": ["AA==", "ext 5: b'x'"]}}


@pytest.mark.parametrize("payload", [b"\x91" * 5000 + b"\x01", b"\x91" * 980 + b"\x01", b"\xc1", b"\xa1\xff", b""])
def test_cat_names_what_it_cannot_show(tmp_path: Path, payload: bytes) -> None:
    """A payload that is no value, or nested without end, is a line that says so, with its place."""
    segment = journal(tmp_path, [timer(7)]) / "00000001.mmj"
    later_version(segment, {"200": ("new", "[" * 980 + "int" + "]" * 980)}, {})
    rewrite(segment, [*records(segment), (200, payload)])
    assert cat(tmp_path)[-1]["unreadable"].startswith("record 5 at offset ")


def test_cat_shows_or_names_what_is_nested(tmp_path: Path) -> None:
    """At whichever depth the interpreter gives up, that is a line that says so, with its place."""
    segment = journal(tmp_path, [timer(7)]) / "00000001.mmj"
    later_version(segment, {"200": ("new", "[" * 1100 + "int" + "]" * 1100)}, {})
    found, outcomes = records(segment), set()
    for depth in (100, 700, 1050):
        rewrite(segment, [*found, (200, b"\x91" * depth + b"\x01")])
        lines = cat(tmp_path)
        assert len(lines) == len(found) + 1
        outcomes.add(lines[-1].get("unreadable", "shown")[:12])
    assert outcomes == {"shown", "record 5 at "}


# A ledger's last commit ---------------------------------------------------------------------------------------------


def written(folder: Path, *commits: list[Entry]) -> Path:
    """Return the segment of a ledger with these commits."""
    file = LedgerFile(folder)
    file.begin([STATE], commits[0], 1)
    for number, entries in enumerate(commits[1:], start=2):
        file.commit(entries, number)
    file.close()
    return folder / "00000001.mmj"


def spoil(segment: Path, block: int, at: int = 500) -> None:
    """Damage the records in one block of a ledger."""
    data = bytearray(segment.read_bytes())
    start = block * BLOCK
    data[start : start + at] = bytes(at)
    segment.write_bytes(data)


def outcome(folder: Path) -> list[str]:
    """Return torn or damage for all that is not whole in a ledger."""
    found = [item for item in settled(read(folder)) if isinstance(item, Torn | Damage)]
    assert sum(isinstance(item, Record) for item in settled(read(folder))) == len(records(folder))
    return [type(item).__name__.lower() for item in found]


def test_the_last_commit_of_the_last_run_is_a_torn_tail(tmp_path: Path) -> None:
    """A power cut in the middle of a commit breaks no promise: nobody was told that it is durable."""
    segment = written(tmp_path, [BEGINS], [FILL], [FILL, FILL])
    spoil(segment, 2, at=40)
    assert outcome(tmp_path) == ["torn"]
    assert [type(item) for item in items(tmp_path) if not isinstance(item, Record)] == [Damage]
    verdict = verify_journal(tmp_path)
    assert (len(verdict.torn), verdict.damage) == (1, ())


def test_the_last_commit_of_a_run_is_a_torn_tail(tmp_path: Path) -> None:
    """The commit behind it has the next number and begins a run."""
    segment = written(tmp_path, [BEGINS], [FILL, FILL], [BEGINS], [STATE])
    whole = records(segment)
    torn = [record for record in whole if BLOCK * 1 <= record.offset < BLOCK * 2][1]
    data = bytearray(segment.read_bytes())
    data[torn.offset + 5] ^= 1
    segment.write_bytes(data)
    assert outcome(tmp_path) == ["torn"]


@pytest.mark.parametrize("entries", [[FILL], [STATE], [STATE, FILL], [(END, encode_payload(Ending(CLEAN)))]])
def test_a_commit_that_its_run_went_on_after_is_damage(tmp_path: Path, entries: list[Entry]) -> None:
    """Whatever the run committed next, a session's state too: what is missing before it was promised."""
    segment = written(tmp_path, [BEGINS], [FILL, FILL], entries, [BEGINS])
    data = bytearray(segment.read_bytes())
    hit = next(record for record in records(segment) if record.kind == EVENT)
    data[hit.offset + 5] ^= 1
    segment.write_bytes(data)
    assert outcome(tmp_path) == ["damage"]
    assert verify_journal(tmp_path).lost == 1


def test_a_commit_that_is_gone_altogether_is_damage(tmp_path: Path) -> None:
    """Commits are counted: a run that begins two numbers on was not the next thing that happened."""
    segment = written(tmp_path, [BEGINS], [FILL], [STATE], [BEGINS])
    spoil(segment, 2, at=BLOCK)
    assert outcome(tmp_path) == ["damage"]


def test_a_commit_at_the_end_of_a_segment_is_judged_by_the_next_one(tmp_path: Path) -> None:
    """A segment opens with sessions before its first commit; these decide nothing."""
    for name, entries, wanted in (("goes on", [FILL], "damage"), ("begins", [BEGINS], "torn")):
        folder = tmp_path / name
        file = LedgerFile(folder)
        file.begin([STATE], [BEGINS], 1)
        file.commit([FILL, FILL], 2)
        file.begin([STATE, STATE], entries, 3)
        file.close()
        first = folder / "00000001.mmj"
        data = bytearray(first.read_bytes())
        hit = next(record for record in records(first) if record.kind == EVENT)
        data[hit.offset + 5] ^= 1
        first.write_bytes(data)
        assert outcome(folder) == [wanted]


def test_a_journal_without_commits_has_no_such_tail(tmp_path: Path) -> None:
    """In memory a kill loses nothing: there damage is damage, at the end, too."""
    segment = journal(tmp_path, [timer(1)], stop=False) / "00000001.mmj"
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    assert outcome(tmp_path) == ["damage"]
    assert all(isinstance(item, Segment | Record | Damage) for item in settled(read(tmp_path)))


def test_every_frame_of_a_ledger_is_counted_once(tmp_path: Path) -> None:
    """Settling changes the order and number of nothing."""
    segment = written(tmp_path, [BEGINS], [FILL], [FILL], [BEGINS], [FILL])
    spoil(segment, 2)
    spoil(segment, 4, at=30)
    before = [item for item in read(tmp_path) if isinstance(item, Record | Segment)]
    assert [item for item in settled(read(tmp_path)) if isinstance(item, Record | Segment)] == before
    assert [record.kind for record in records(tmp_path)].count(COMMIT) == 3
