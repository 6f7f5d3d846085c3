"""Parquet rows become events exactly; what cannot be used is counted, or named by file and row."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market_files import NAN, bbo_row, book_row, full_book_row, mark_row, pa, pq, trade_row, write

from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookSnapshot, Mark, Trade
from mmpi.instrument import BUY, SELL, make_instrument
from mmpi.research import parquet
from mmpi.research.grid import Tally

INSTRUMENT = make_instrument("XY", "0.1", "0.01")


def read_books(path: Path, tally: Tally) -> list[BookSnapshot]:
    """Return all events of a book10 file."""
    return list(parquet.books(parquet.ParquetFile(path, parquet.BOOK_COLUMNS), INSTRUMENT, tally))


def read_bbos(path: Path, tally: Tally) -> list[Bbo]:
    """Return all events of a bbo file."""
    return list(parquet.bbos(parquet.ParquetFile(path, parquet.BBO_COLUMNS), INSTRUMENT, tally))


def read_trades(path: Path, tally: Tally, not_before: int = 0) -> list[Trade]:
    """Return all events of a trades file."""
    file = parquet.ParquetFile(path, parquet.TRADE_COLUMNS)
    return list(parquet.trades(file, INSTRUMENT, tally, not_before))


def read_marks(path: Path, tally: Tally) -> list[Mark]:
    """Return all events of a mark file."""
    return list(parquet.marks(parquet.ParquetFile(path, parquet.MARK_COLUMNS), INSTRUMENT, tally))


def test_mark_rows_become_marks(tmp_path: Path) -> None:
    """Prices arrive in float ticks, finer than the grid, with the rate and when it is paid."""
    tally = Tally()
    row = mark_row(7, 100.0525, 0.0001, 900, index=99.95, exch=5)
    assert read_marks(write(tmp_path / "m.parquet", [row]), tally) == [Mark(7, "XY", 5, 1000.525, 999.5, 0.0001, 900)]
    assert tally == Tally(done=1)


def test_what_a_mark_row_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    """A missing or impossible price is 0.0, a missing rate tells no payment; each is counted."""
    tally = Tally()
    rows = [mark_row(1, NAN, 0.0001, 900), mark_row(2, 100.0, NAN, 900, index=-1.0), mark_row(3, 100.0, 0.0001, 0)]
    assert read_marks(write(tmp_path / "m.parquet", rows), tally) == [
        Mark(1, "XY", 0, 0.0, 1000.0, 0.0001, 900),
        Mark(2, "XY", 0, 1000.0, 0.0, 0.0, 0),
        Mark(3, "XY", 0, 1000.0, 1000.0, 0.0, 0),
    ]
    assert tally == Tally(done=3, missing_marks=4)


def test_a_full_row_becomes_a_snapshot(tmp_path: Path) -> None:
    """Ten levels a side arrive best first, with both times and the sequence number."""
    row = full_book_row(7, bid=100.0, ask=100.1, exch=5) | {"seq": 3}
    tally = Tally()
    (event,) = read_books(write(tmp_path / "b.parquet", [row]), tally)
    assert event == BookSnapshot(
        7, "XY", 5, 3, tuple((1000 - 10 * i, 100) for i in range(10)), tuple((1001 + 10 * i, 100) for i in range(10))
    )
    assert tally == Tally(done=1)


def test_missing_and_empty_levels_are_left_out_and_counted(tmp_path: Path) -> None:
    """A NaN level and one below a lot vanish; the levels around them stay; a side may be empty."""
    row = book_row(1, [(10.0, 1.0), (9.9, 0.001), (NAN, 1.0), (9.7, 2.0)], [])
    tally = Tally()
    (event,) = read_books(write(tmp_path / "b.parquet", [row]), tally)
    assert event.bids == ((100, 100), (97, 200))
    assert event.asks == ()
    assert (tally.missing_levels, tally.empty_levels, tally.off_lot, tally.off_tick) == (17, 1, 1, 0)


def test_prices_between_ticks_spread_outwards_and_meet_on_one_level(tmp_path: Path) -> None:
    """Bids move down, asks up; levels that meet on a tick are added; every moved price is counted."""
    row = full_book_row(1, bid=100.0, ask=101.0) | {"bp0": 99.05, "ap0": 101.96, "ap1": 102.0}
    tally = Tally()
    (event,) = read_books(write(tmp_path / "b.parquet", [row]), tally)
    assert event.bids[:2] == ((990, 200), (980, 100))
    assert event.asks[:2] == ((1020, 200), (1030, 100))
    assert (len(event.bids), len(event.asks), tally) == (9, 9, Tally(done=1, off_tick=2))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=50
    )
)
def test_batches_are_as_exact_as_decimals(tmp_path: Path, rows: list[tuple[int, int, int]]) -> None:
    """Any price and size on the grid comes back as the integers it was made from."""
    trades = [trade_row(i, price / 10, size / 100, "AB"[flip % 2]) for i, (price, size, flip) in enumerate(rows)]
    tally = Tally()
    events = read_trades(write(tmp_path / "t.parquet", trades), tally)
    assert [(e.price, e.size, e.side) for e in events] == [(p, s, BUY if f % 2 else SELL) for p, s, f in rows]
    assert tally == Tally(done=len(rows))


def test_trades_between_ticks_reach_fewer_resting_orders(tmp_path: Path) -> None:
    """A buyer's price moves down, a seller's up."""
    rows = [trade_row(1, 10.05, 1.0, "B"), trade_row(2, 10.05, 1.0, "A")]
    tally = Tally()
    events = read_trades(write(tmp_path / "t.parquet", rows), tally)
    assert [(event.side, event.price) for event in events] == [(BUY, 100), (SELL, 101)]
    assert tally == Tally(done=2, off_tick=2)


def test_trades_that_are_none_are_counted(tmp_path: Path) -> None:
    """Side X, less than a lot, no price, and older than the first book: each left out under its own count."""
    rows = [
        trade_row(1, 10.0, 1.0, "X", exch=50),
        trade_row(2, 10.0, 0.001, "B", exch=50),
        trade_row(3, NAN, 1.0, "B", exch=50),
        trade_row(4, 10.0, 1.0, "B", exch=49),
        trade_row(5, 10.0, 1.0, "B", exch=0),
        trade_row(6, 10.0, 1.0, "A", exch=50),
    ]
    tally = Tally()
    events = read_trades(write(tmp_path / "t.parquet", rows), tally, not_before=50)
    assert [event.trade_id for event in events] == [5, 6]
    assert tally == Tally(done=6, off_lot=1, empty_trades=2, non_market_trades=1, backlog_trades=1)


def test_an_empty_side_of_a_bbo_has_size_zero(tmp_path: Path) -> None:
    """A missing bid is an empty side, not a price of zero with size."""
    tally = Tally()
    events = read_bbos(write(tmp_path / "q.parquet", [bbo_row(1, NAN, 10.1), bbo_row(2, 10.0, 10.1)]), tally)
    assert events == [Bbo(1, "XY", 0, 0, 0, 0, 101, 100), Bbo(2, "XY", 0, 0, 100, 100, 101, 100)]
    assert tally == Tally(done=2, missing_levels=1)


def test_rows_beyond_one_batch_keep_their_order(tmp_path: Path) -> None:
    """Three batches of rows arrive complete and in order."""
    count = 2 * parquet.BATCH_ROWS + 5
    path = write(tmp_path / "t.parquet", [trade_row(i, 10.0, 1.0) for i in range(count)])
    assert [event.trade_id for event in read_trades(path, Tally())] == list(range(count))


@pytest.mark.parametrize("row", [1, parquet.BATCH_ROWS])
def test_time_going_backwards_is_named_by_row(tmp_path: Path, row: int) -> None:
    """A receive time below the one before it stops the reading, inside a batch and between two."""
    rows = [trade_row(100 + i, 10.0, 1.0) for i in range(parquet.BATCH_ROWS + 1)]
    rows[row]["t_recv_ns"] = 99
    path = write(tmp_path / "t.parquet", rows)
    with pytest.raises(ConfigError, match=rf"t\.parquet: row {row}: t_recv_ns 99 is earlier than the row before"):
        read_trades(path, Tally())


def test_an_unknown_side_is_named_by_row(tmp_path: Path) -> None:
    """A side that is not B, A or X is an error, not a guess."""
    path = write(tmp_path / "t.parquet", [trade_row(1, 10.0, 1.0), trade_row(2, 10.0, 1.0, "buy")])
    with pytest.raises(ConfigError, match=r"row 1: side 'buy'; allowed: B \(buy\), A \(sell\), X"):
        read_trades(path, Tally())


def test_a_null_time_is_named_by_row(tmp_path: Path) -> None:
    """A row without a receive time cannot be ordered."""
    rows = [trade_row(1, 10.0, 1.0), trade_row(2, 10.0, 1.0)]
    table = pa.Table.from_pylist(rows)
    nulled = table.set_column(0, "t_recv_ns", pa.array([1, None], pa.int64()))
    pq.write_table(nulled, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"t\.parquet: row 1: t_recv_ns is null"):
        read_trades(tmp_path / "t.parquet", Tally())


def test_missing_columns_are_all_named(tmp_path: Path) -> None:
    """The error names the file, what is missing and what is needed."""
    path = write(tmp_path / "t.parquet", [{"t_recv_ns": 1, "px": 1.0, "id": 1, "t_exch_ns": 0}])
    with pytest.raises(ConfigError, match=r"t\.parquet: missing columns: sz, side; needed: t_recv_ns, .*, side"):
        parquet.ParquetFile(path, parquet.TRADE_COLUMNS)


@pytest.mark.parametrize(
    ("column", "values", "needed"),
    [("t_recv_ns", ["1"], "an integer"), ("px", ["1.0"], "a double"), ("side", [1], "text")],
)
def test_a_column_of_the_wrong_kind_is_named(tmp_path: Path, column: str, values: list[object], needed: str) -> None:
    """Text where a number belongs is refused before any row is read."""
    table = pa.Table.from_pylist([trade_row(1, 10.0, 1.0)])
    table = table.set_column(table.column_names.index(column), column, pa.array(values))
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=rf"t\.parquet: column {column} is \w+; needed: {needed}"):
        parquet.ParquetFile(tmp_path / "t.parquet", parquet.TRADE_COLUMNS)


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    """A file without rows would make an empty backtest look like a result."""
    table = pa.Table.from_pylist([trade_row(1, 10.0, 1.0)]).slice(0, 0)
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"t\.parquet: no rows"):
        parquet.ParquetFile(tmp_path / "t.parquet", parquet.TRADE_COLUMNS)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"t_recv_ns,px\n1,2\n" * 10])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    """Empty, cut and foreign files give one line with the file's name."""
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"t\.parquet: not a readable parquet file \(.+\)$"):
        parquet.ParquetFile(path, parquet.TRADE_COLUMNS)


def test_a_damaged_column_is_named(tmp_path: Path) -> None:
    """Bytes overwritten in the middle of the data stop the reading with the file's name."""
    path = write(tmp_path / "t.parquet", [trade_row(i, 10.0 + i, 1.0) for i in range(1000)])
    damaged = bytearray(path.read_bytes())
    damaged[4:400] = b"\xff" * 396
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"t\.parquet: unreadable after row 0"):
        read_trades(path, Tally())
