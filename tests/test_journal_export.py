"""mmpi journal export: every record is a row of a table, exactly, and a failure leaves nothing."""

import json
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_builders import Bench, report
from journal_box import PREFIX, START, JournalBox, LedgerMaker, Running, events, ran, session
from journals import checkpoint, flipped, largest_file, records
from journals import writer as make_writer

from mmpi.actions import AmendOrder, Approved, NewOrder, RequestLatch, ScheduleCancel, TimeInForce
from mmpi.engines import checkpoint as engine_checkpoint
from mmpi.events import Bbo, BookDelta, BookSnapshot, Event, ExecReport, ExecType, Mark, Trade
from mmpi.instrument import MONEY_SCALE, SECOND, make_instrument
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.record import EVENT, GAP, SESSION, decode, decode_action, decode_event
from mmpi.journal.writer import JournalWriter
from mmpi.research import journal_export
from mmpi.research.journal_schemas import SCHEMAS
from mmpi.research.journal_tables import Grid

ROOT = Path(__file__).resolve().parents[1]
BTC = make_instrument("BTC", "0.1", "0.00001")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> JournalBox:
    """Be in a box without a journal."""
    return JournalBox(tmp_path, monkeypatch, capfd)


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def export(box: JournalBox, *words: object) -> Path:
    """Return the folder of an export."""
    folder = box.folder / "out"
    found = box.journal("export", "--parquet", folder, *words, "--json")
    assert (found.code, found.err) == (0, ""), found
    rows = {name: pq.ParquetFile(folder / f"{name}.parquet").metadata.num_rows for name in SCHEMAS}
    assert found.json()["tables"] == rows
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.parquet" for name in SCHEMAS)
    return folder


def written(folder: Path, happened: list[Event | Approved]) -> None:
    """Write a journal of an engine that knows BTC."""
    params = {"cl_ord_prefix": PREFIX, "desks": [{"instrument": msgspec.to_builtins(BTC)}]}
    saved = msgspec.structs.replace(checkpoint(), engine_config=json.dumps(params).encode(), cl_ord_prefix=PREFIX)
    out = make_writer(folder, state=lambda: saved)
    for each in happened:
        assert out.action(each) if isinstance(each, Approved) else out.event(each)
    out.close()


# Round trips ------------------------------------------------------------------------------------------------------


def test_every_record_is_a_row(box: JournalBox) -> None:
    """Of a real engine's journal of many segments, cold ones too: each record is in a table, by its place, exactly."""
    ran(box.memory, 120, segment_bytes=20_000)
    for path in segment_paths(box.memory)[:-1]:
        compress(path, durable=False)
    folder = export(box)
    found = records(box.memory)
    rows = {name: table(folder, name) for name in SCHEMAS}
    places = {(row["segment"], row["record"]) for each in rows.values() for row in each}
    assert places == {(record.segment, record.number) for record in found}
    assert {row["run"] for each in rows.values() for row in each} == {PREFIX}
    happened = [decode_event(record) for record in found if record.kind == EVENT]
    books = [each for each in happened if isinstance(each, BookSnapshot)]
    assert [(row["recv_ts"], row["bid"], row["bid_ticks"], row["bid_lots"], row["ask"]) for row in rows["books"]] == [
        (each.recv_ts, each.bids[0][0], [each.bids[0][0]], [5], each.asks[0][0]) for each in books
    ]
    reports = [each for each in happened if isinstance(each, ExecReport)]
    assert [(row["cl_ord_id"], row["exec_type"]) for row in rows["reports"]] == [
        (each.cl_ord_id, each.exec_type.value) for each in reports
    ]
    fills = [each for each in reports if each.exec_type is ExecType.TRADE]
    assert len(fills) > 1
    assert [(row["exec_id"], row["price_ticks"], row["fee"]) for row in rows["fills"]] == [
        (each.exec_id, each.price, Decimal(each.fee).scaleb(-12)) for each in fills
    ]
    actions = [decode_action(record) for record in found if record.name == "action"]
    assert [(row["ts"], row["action"], row["cl_ord_id"]) for row in rows["actions"]] == [
        (each.ts, type(each.action).__name__, getattr(each.action, "cl_ord_id", None)) for each in actions
    ]


def test_market_data_is_exact(box: JournalBox) -> None:
    """All levels, best prices as decimals, deltas and best bids and offers; an instrument without a grid has ticks."""
    bids, asks = ((999_985, 123), (999_984, 5)), ((999_991, 7), (1_000_000, 100_001))
    written(box.memory, [
        BookSnapshot(START, "BTC", START - 5, 9, bids, asks),
        BookDelta(START + 1, "BTC", 0, 10, 9, ((999_985, 0),), ()),
        Bbo(START + 2, "BTC", 0, 11, 999_984, 5, 0, 0),
        BookSnapshot(START + 3, "DOGE", 0, 1, bids, ()),
        Trade(START + 4, "BTC", START, 2**62, -1, 999_984, 3),
        Trade(START + 5, "DOGE", START, 1, 1, 2**70 >> 8, 3),
        Mark(START + 6, "BTC", START, 999_985.5),
    ])  # fmt: skip
    folder = export(box)
    snapshot, delta, best, other = table(folder, "books")
    assert (snapshot["recv_ts"], snapshot["exch_ts"], snapshot["seq"]) == (START, START - 5, 9)
    assert [(p, s) for p, s in zip(snapshot["bid_ticks"], snapshot["bid_lots"], strict=True)] == list(bids)
    assert [(p, s) for p, s in zip(snapshot["ask_ticks"], snapshot["ask_lots"], strict=True)] == list(asks)
    assert [snapshot[name] for name in ("bid", "bid_size", "ask", "ask_size")] == [
        Decimal("99998.5"), Decimal("0.00123"), Decimal("99999.1"), Decimal("0.00007")
    ]  # fmt: skip
    assert (snapshot["tick_size"], snapshot["lot_size"], snapshot["kind"]) == ("0.1", "0.00001", "snapshot")
    assert (delta["kind"], delta["prev_seq"], delta["bid"], delta["bid_lots"], delta["exch_ts"]) == (
        "delta", 9, None, [0], None
    )  # fmt: skip
    assert (best["kind"], best["bid"], best["ask"], best["ask_ticks"]) == ("bbo", Decimal("99998.4"), None, [])
    assert (other["bid"], other["bid_ticks"][0], other["tick_size"]) == (None, 999_985, None)
    trade, doge = table(folder, "trades")
    assert (trade["trade_id"], trade["side"], trade["price"], trade["size"]) == (
        2**62, "sell", Decimal("99998.4"), Decimal("0.00003")
    )  # fmt: skip
    assert (doge["side"], doge["price"], doge["price_ticks"]) == ("buy", None, 2**62)
    mark = next(row for row in table(folder, "others") if row["type"] == "Mark")
    assert (json.loads(mark["json"])["mark"], mark["ts"]) == (999_985.5, START + 6)


def test_actions_and_reports_have_all_their_fields(box: JournalBox) -> None:
    """New, amended, scheduled, requested; a fill that is told twice is two reports and one fill."""
    fee = -3 * MONEY_SCALE // 7
    fill = ExecReport(START + 1, "BTC", START, "0x1", "77", ExecType.TRADE, -1, 999_985, 20, fee, False, "x")
    written(box.memory, [
        Mark(START, "BTC", START, 1.0),
        Approved(START, NewOrder("BTC", "0x1", 1, 999_985, 20, 2, TimeInForce.IOC, True)),
        Approved(START, AmendOrder("BTC", "0x1", "77", "0x2", -1, 999_986, 21, 0)),
        Approved(START, ScheduleCancel(START + 8)),
        Approved(START, RequestLatch("limit")),
        fill, fill, msgspec.structs.replace(fill, exec_id="y", size=0),
    ])  # fmt: skip
    folder = export(box)
    new, amended, scheduled, latch = table(folder, "actions")
    assert (new["side"], new["price"], new["size"], new["level"]) == ("buy", Decimal("99998.5"), Decimal("0.0002"), 2)
    assert (new["time_in_force"], new["reduce_only"]) == ("ioc", True)
    assert (amended["orig_cl_ord_id"], amended["order_id"], amended["cl_ord_id"]) == ("0x1", "77", "0x2")
    assert (scheduled["time"], latch["reason"], latch["price"]) == (START + 8, "limit", None)
    assert [row["exec_id"] for row in table(folder, "reports")] == ["x", "x", "y"]
    (only,) = table(folder, "fills")
    assert only["fee"] == Decimal(fee).scaleb(-12)
    assert (only["maker"], only["side"], only["order_id"]) == (False, "sell", "77")


def test_sessions_are_flat(box: JournalBox) -> None:
    """A row for each instrument of a session, with the parts of its profit; by it a ledger's fills know their grid."""
    position = (-3, 1_999_971, 7 * MONEY_SCALE, 1, 2, 3, 4, 5, 6, 2**70, 9)
    kept = {"tick_size": "0.1", "lot_size": "0.00001", "unit": BTC.unit, "position": position, "placed": 4}
    content = {"instruments": {"BTC": kept}, "peak": MONEY_SCALE, "fills": 9, "breach": "session_loss"}
    maker = LedgerMaker(box.ledger).run(START).commit(START + 1, (SESSION, session(START + 1, **content)))
    fill = report(START, "0x1", ExecType.TRADE, name="BTC", size=2, price=999_985, exec_id="z")
    maker.commit(START + 2, (EVENT, fill))
    maker.close()
    folder = export(box, "--ledger")
    opening, row = table(folder, "sessions")
    assert (opening["instrument"], opening["scope"], opening["ts"]) == (None, "sim paper", START)
    assert (row["position"], row["position_lots"], row["mark"]) == (Decimal("-0.00003"), -3, Decimal("99998.55"))
    equity = 7 * MONEY_SCALE - 3 * 1_999_971 * (BTC.unit // 2)
    assert (row["equity"], row["cash"]) == (Decimal(equity).scaleb(-12), 7)
    assert [row[name] for name in ("spread", "inventory", "funding", "fees", "realised")] == [
        Decimal(number).scaleb(-12) for number in (1, 2, 3, 4, 5)
    ]
    assert row["volume"] == Decimal(2**70).scaleb(-12)
    assert (row["fills"], row["placed"], row["all_fills"], row["peak"], row["breach"]) == (9, 4, 9, 1, "session_loss")
    (row,) = table(folder, "fills")
    assert (row["price"], row["size"]) == (Decimal("99998.5"), Decimal("0.00002"))
    assert {row["kind"] for row in table(folder, "others")} == {"commit", "run"}


def test_what_is_strange_is_a_row_too(box: JournalBox) -> None:
    """Unknown kinds, what cannot be decoded, gaps, torn tails and damage are in `others`, and the rest follows."""
    running = Running(box.memory).feed(events(20)).killed()
    segment = running.out._path
    data = segment.read_bytes()
    place = [record for record in records(segment) if record.kind == EVENT][4]
    segment.write_bytes(flipped(data, 8 * (place.offset + 22))[:-3])
    out = make_writer(box.memory)
    out.event(Mark(START + 30 * SECOND, "A", 0, 1.0))
    out.keep(99, [1, 2], START)
    out.keep(GAP, "no gap at all", START)
    out.keep(SESSION, session(START), START)
    out.close()
    folder = box.folder / "out"
    found = box.journal("export", "--parquet", folder, "--json")
    assert found.code == 0
    assert len(found.json()["damage"]) == 2
    kinds = [row["kind"] for row in table(folder, "others")]
    assert {"damage", "torn", "99", "gap", "checkpoint", "note"} <= set(kinds)
    gap = next(row for row in table(folder, "others") if row["kind"] == "gap")
    assert "unreadable" in json.loads(gap["json"]) or "no gap at all" in gap["json"]
    assert len(table(folder, "sessions")) == 1
    assert f"left out  {found.json()['damage'][0]}" in box.journal("export", "--parquet", box.folder / "two").out


def test_a_bundle_is_exported(box: JournalBox) -> None:
    """The places of a bundle are one export, and say in `segment` where a row is from."""
    ran(box.memory)
    LedgerMaker(box.ledger).run(START).fill(START + SECOND).close()
    path = box.folder / "b.zip"
    assert box.journal("bundle", "--around", START, "--out", path).code == 0
    folder = export(box, path)
    assert {row["segment"] for row in table(folder, "actions")} == {"memory/00000001.mmj"}


@pytest.mark.parametrize(
    ("tick", "lot", "ticks", "price", "half"),
    [
        ("0.1", "1", 3, "0.3", "0.15"),
        ("0.000000000001", "1000", 7, "0.000000000007", "0.0000000000035"),
        ("1", "1", 10**19, str(10**19), str(5 * 10**18)),
        ("1", "1", 10**20, None, str(5 * 10**19)),
        ("0.00000000000000000001", "1", 1, None, None),
    ],
)
def test_a_number_that_does_not_fit_is_null(
    tick: str, lot: str, ticks: int, price: str | None, half: str | None
) -> None:
    """Decimals are exact, or not there: 20 digits before the point and 18 behind it."""
    grid = Grid(tick, lot)
    for found, expected in ((grid.price(ticks), price), (grid.half(ticks), half)):
        assert found == (None if expected is None else Decimal(expected))
        if found is not None:
            assert pa.array([found], pa.decimal128(38, 18))[0].as_py() == found


# Refusals and failures --------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_empty(box: JournalBox) -> None:
    """It is left as it is; so is a file in its place; an empty one, and one with parents to be made, are used."""
    ran(box.memory)
    out = box.folder / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    found = box.journal("export", "--parquet", out)
    assert found == (
        2, "", f"mmpi journal: --parquet {out}: exists and is not empty; allowed: a new or empty folder\n"
    )  # fmt: skip
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert "exists and is no folder" in box.journal("export", "--parquet", out / "mine").err
    assert "cannot be made: Not a directory" in box.journal("export", "--parquet", out / "mine" / "deep").err
    (out / "mine").unlink()
    assert box.journal("export", "--parquet", out).code == 0
    assert box.journal("export", "--parquet", box.folder / "a" / "b" / "c").code == 0


def test_a_journal_that_is_not_there(box: JournalBox) -> None:
    """The error names it, and no folder is left."""
    found = box.journal("export", "--parquet", box.folder / "a" / "out")
    assert found == (2, "", f"mmpi journal: {box.memory}: no such file or folder\n")
    assert not (box.folder / "a").exists()


def test_a_disk_that_is_full(box: JournalBox) -> None:
    """One error that names the folder, and nothing of it is left."""
    ran(box.memory, 60)
    with largest_file(1000):
        found = box.journal("export", "--parquet", box.folder / "a" / "out")
    assert (found.code, found.out, found.err.count("\n")) == (3, "", 1)
    assert found.err.startswith(f"mmpi journal: --parquet {box.folder}/a/out: cannot be written: ")
    assert not (box.folder / "a").exists()


def test_a_failure_at_the_end(box: JournalBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the last file cannot take its name, none of the others keeps it."""
    ran(box.memory)
    out = box.folder / "out"
    out.mkdir()

    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_export, "sync_folder", fail)
    assert box.journal("export", "--parquet", out).code == 3
    assert list(out.iterdir()) == []


def test_without_the_research_extra(box: JournalBox) -> None:
    """Without pyarrow one line names the extra; it is missed before anything is read."""
    code = (
        "import sys; sys.modules['pyarrow'] = None; from mmpi.cli import main; "
        f"sys.exit(main(['journal', 'export', '--parquet', {str(box.folder / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    text = "mmpi journal: --parquet needs the research extra (pyarrow is missing); run: make setup\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", text)
    assert not (box.folder / "out").exists()


# Size -------------------------------------------------------------------------------------------------------------


def long_journal(folder: Path, seconds: int) -> None:
    """Write a backtest's journal: a real engine, 20 levels a side, four books a second."""
    engine = Bench().engine
    out = JournalWriter(
        folder, segment_bytes=2**20, max_bytes=None, buffered=True, checkpoint=lambda: engine_checkpoint(engine, "d")
    )
    levels = tuple((900 - n, 12_345 + n) for n in range(20)), tuple((1100 + n, 54_321 + n) for n in range(20))
    for tick in range(4 * seconds):
        out.event(BookSnapshot(START + tick * SECOND // 4, "A", 0, tick, *levels))
    out.close()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_journal(tmp_path: Path) -> None:
    """Ten times the journal takes hardly more memory."""
    code = (
        "import resource, sys; from pathlib import Path; from mmpi.research.journal_export import export; "
        "export([('', Path(sys.argv[1]))], Path(sys.argv[2])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peak = []
    for number, seconds in enumerate((10_000, 100_000)):
        folder = tmp_path / f"j{number}"
        long_journal(folder, seconds // 4)
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / f"out{number}")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        peak.append(int(done.stdout))
        assert pq.ParquetFile(tmp_path / f"out{number}" / "books.parquet").metadata.num_rows == seconds
    assert pq.ParquetFile(tmp_path / "out1" / "books.parquet").metadata.num_row_groups > 10
    assert peak[1] < peak[0] + 40, peak


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(box: JournalBox, number: int) -> None:
    """Ctrl-C or SIGTERM in the middle: no folder, no half of a table."""
    long_journal(box.memory, 20_000)
    out = box.folder / "out"
    command = [sys.executable, "-m", "mmpi", "journal", "export", "--parquet", str(out)]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    end = time.monotonic() + 20
    while not list(out.glob(".part/*.parquet")):
        assert time.monotonic() < end
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (128 + number, b"")
    assert not out.exists()


def test_every_kind_of_event_is_somewhere(box: JournalBox) -> None:
    """Each event of a whole run decodes to the row that it made: nothing is dropped on the way."""
    ran(box.memory, 30)
    folder = export(box)
    found = {record.number: record for record in records(box.memory)}
    for row in table(folder, "others"):
        record = found[row["record"]]
        if record.kind == EVENT:
            value = decode(record)
            assert json.loads(row["json"])["type"] == type(value).__name__ == row["type"]
            assert row["ts"] == value.recv_ts
