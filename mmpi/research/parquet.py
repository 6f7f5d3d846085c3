"""Parquet: the common form's book10, bbo, trades and mark files as event streams, a few thousand rows at a time.

Invariant: memory does not grow with the file; receive times never go backwards, or the reading stops with the row.
It must not know how streams are merged. Import it only where the research extra is installed.

Whole batches are converted by numpy, so that a ten-level row costs a few microseconds instead of forty calls.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookSnapshot, Mark, Trade
from mmpi.instrument import GRID_GUARD, Instrument, Nanos, Side
from mmpi.research.grid import EXACT, FLOAT_ERROR, LOT_GUARD, Tally, merge_levels

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]

BATCH_ROWS = 2048
"""Rows converted at once: enough to spread numpy's cost a call, few enough for about 4 MB of Python objects."""
READ_BUFFER = 256 * 1024
"""Bytes read at a time from each column: a single row group may be the whole file."""
DEPTH = 10
TIMES = ("t_recv_ns", "t_exch_ns")
BOOK_COLUMNS = (*TIMES, "seq", *(f"{side}{i}" for side in ("bp", "bq", "ap", "aq") for i in range(DEPTH)))
BBO_COLUMNS = (*TIMES, "seq", "bp", "bq", "ap", "aq")
TRADE_COLUMNS = (*TIMES, "id", "px", "sz", "side")
MARK_COLUMNS = (*TIMES, "mark", "index", "funding", "next_funding_ns")
INTEGERS = frozenset((*TIMES, "seq", "id", "next_funding_ns"))
TEXTS = frozenset(("side",))
NOT_A_TRADE = "X"


class ParquetFile:
    """One opened file whose columns are known to be there and of the right kind; `rows` is its length."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.columns = columns
        try:
            self._file = pq.ParquetFile(path, buffer_size=READ_BUFFER, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{path}: not a readable parquet file ({_first_line(error)})") from None
        self.rows = int(self._file.metadata.num_rows)
        self._check_columns()
        if self.rows == 0:
            raise ConfigError(f"{path}: no rows; a data set needs at least one")

    def batches(self, size: int = BATCH_ROWS) -> Iterator["Batch"]:
        """Yield the rows in order; ConfigError names the file and row of what cannot be used."""
        first = 0
        last: Nanos = 0
        try:
            for record in self._file.iter_batches(batch_size=size, columns=list(self.columns), use_threads=False):
                batch = Batch(self.path, first, record)
                batch.check_times(last)
                yield batch
                first += batch.rows
                last = int(batch.ints("t_recv_ns")[-1])
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{self.path}: unreadable after row {first} ({_first_line(error)})") from None

    def first_exch_ts(self) -> Nanos:
        """Return the first row's exchange time, 0 = not told."""
        return int(next(self.batches(1)).ints("t_exch_ns")[0])

    def _check_columns(self) -> None:
        schema = self._file.schema_arrow
        missing = [name for name in self.columns if name not in schema.names]
        if missing:
            raise ConfigError(
                f"{self.path}: missing columns: {', '.join(missing)}; needed: {', '.join(self.columns)}"
            )
        for name in self.columns:
            kind = schema.field(name).type
            if not _fits(name, kind):
                raise ConfigError(f"{self.path}: column {name} is {kind}; needed: {_wanted(name)}")


class Batch:
    """Some consecutive rows; `first` is the number of the first (0 = the file's first)."""

    def __init__(self, path: Path, first: int, record: pa.RecordBatch) -> None:
        self.path = path
        self.first = first
        self.rows = int(record.num_rows)
        self._record = record

    def ints(self, name: str) -> Ints:
        """Return an integer column; ConfigError if a value is null."""
        column = self._record.column(name)
        if column.null_count:
            row = self.first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise ConfigError(f"{self.path}: row {row}: {name} is null; every row needs a number")
        return np.asarray(column.to_numpy(), dtype=np.int64)

    def floats(self, name: str) -> Floats:
        """Return a number column, null as NaN."""
        return np.asarray(self._record.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

    def levels(self, prefix: str) -> Floats:
        """Return the ten columns of one prefix as an array of shape (rows, 10)."""
        return np.column_stack([self.floats(f"{prefix}{i}") for i in range(DEPTH)])

    def texts(self, name: str) -> list[str]:
        """Return a text column."""
        return [str(text) for text in self._record.column(name).to_pylist()]

    def check_times(self, last: Nanos) -> None:
        """Raise ConfigError if a receive time is earlier than the row before it (`last` before the first)."""
        times = self.ints("t_recv_ns")
        back = np.diff(times, prepend=last) < 0
        if back.any():
            row = int(np.argmax(back))
            before = int(times[row - 1]) if row else last
            raise ConfigError(
                f"{self.path}: row {self.first + row}: t_recv_ns {int(times[row])} is earlier than the row before "
                f"({before}); rows must be in order of receive time"
            )


def books(file: ParquetFile, instrument: Instrument, tally: Tally) -> Iterator[BookSnapshot]:
    """Yield each row of a book10 file; levels that are missing or below one lot are left out and counted."""
    name = instrument.name
    for batch in file.batches():
        tally.done += batch.rows
        bid_px, bid_sz, bids_odd = _levels(batch.levels("bp"), batch.levels("bq"), instrument, np.floor, tally)
        ask_px, ask_sz, asks_odd = _levels(batch.levels("ap"), batch.levels("aq"), instrument, np.ceil, tally)
        odd = np.any(bids_odd | asks_odd, axis=1)
        for recv_ts, exch_ts, seq, bp, bq, ap, aq, untidy in zip(
            *_lists(batch, ("t_recv_ns", "t_exch_ns", "seq")),
            bid_px.tolist(), bid_sz.tolist(), ask_px.tolist(), ask_sz.tolist(), odd.tolist(),
            strict=True,
        ):
            if untidy:
                bids, asks = merge_levels(zip(bp, bq, strict=True)), merge_levels(zip(ap, aq, strict=True))
            else:
                bids, asks = tuple(zip(bp, bq, strict=True)), tuple(zip(ap, aq, strict=True))
            yield BookSnapshot(recv_ts, name, exch_ts, seq, bids, asks)


def bbos(file: ParquetFile, instrument: Instrument, tally: Tally) -> Iterator[Bbo]:
    """Yield each row of a bbo file; a side that is missing or below one lot has size 0."""
    name = instrument.name
    for batch in file.batches():
        tally.done += batch.rows
        bid, bid_size, _ = _levels(batch.floats("bp"), batch.floats("bq"), instrument, np.floor, tally)
        ask, ask_size, _ = _levels(batch.floats("ap"), batch.floats("aq"), instrument, np.ceil, tally)
        columns = (*_lists(batch, ("t_recv_ns", "t_exch_ns", "seq")), bid.tolist(), bid_size.tolist(), ask.tolist())
        for recv_ts, exch_ts, seq, bp, bq, ap, aq in zip(*columns, ask_size.tolist(), strict=True):
            yield Bbo(recv_ts, name, exch_ts, seq, bp, bq, ap, aq)


def trades(file: ParquetFile, instrument: Instrument, tally: Tally, not_before: Nanos) -> Iterator[Trade]:
    """Yield each market trade that is not older than `not_before` by exchange time (0 = unknown, taken)."""
    name = instrument.name
    for batch in file.batches():
        tally.done += batch.rows
        side, keep = _sides(batch)
        tally.non_market_trades += int(np.count_nonzero(~keep))
        exch_ts = batch.ints("t_exch_ns")
        backlog = keep & (exch_ts != 0) & (exch_ts < not_before)
        tally.backlog_trades += int(np.count_nonzero(backlog))
        keep &= ~backlog
        price, size = _trade_grid(batch, side, keep, instrument, tally)
        keep &= size > 0
        columns = (batch.ints("t_recv_ns"), exch_ts, batch.ints("id"), side, price, size)
        for recv, exch, trade_id, taker, px, sz in zip(*(column[keep].tolist() for column in columns), strict=True):
            yield Trade(recv, name, exch, trade_id, taker, px, sz)


def marks(file: ParquetFile, instrument: Instrument, tally: Tally) -> Iterator[Mark]:
    """Yield each row of a mark file; a price or rate that is missing is 0.0, and without a rate no payment is told."""
    name = instrument.name
    for batch in file.batches():
        tally.done += batch.rows
        rate, next_ts = batch.floats("funding"), batch.ints("next_funding_ns")
        told = np.isfinite(rate) & (next_ts > 0)
        tally.missing_marks += int(np.count_nonzero(~told))
        prices = [_mark_ticks(batch.floats(column), instrument, tally).tolist() for column in ("mark", "index")]
        funding = np.where(told, rate, 0.0).tolist(), np.where(told, next_ts, 0).tolist()
        for columns in zip(*_lists(batch, TIMES), *prices, *funding, strict=True):
            recv_ts, exch_ts, mark, index, rate_told, due = columns
            yield Mark(recv_ts, name, exch_ts, mark, index, rate_told, due)


def _mark_ticks(price: Floats, instrument: Instrument, tally: Tally) -> Floats:
    """Return prices in float ticks (a mark is finer than the grid), 0.0 where there is none."""
    ticks = price * instrument.ticks_per_quote
    there = (ticks > 0) & (ticks < EXACT)
    tally.missing_marks += int(np.count_nonzero(~there))
    return np.where(there, ticks, 0.0)


def _trade_grid(
    batch: Batch, side: Ints, keep: Flags, instrument: Instrument, tally: Tally
) -> tuple[Ints, Ints]:
    """Return prices and sizes, size 0 where the trade is not to be used.

    A buyer's price is moved down and a seller's up: off the grid, the trade reaches fewer resting orders, never more.
    """
    counted = Tally()
    scaled_price = np.where(keep, batch.floats("px"), np.nan)
    low, size, _ = _levels(scaled_price, batch.floats("sz"), instrument, np.floor, counted)
    high, _, _ = _levels(scaled_price, batch.floats("sz"), instrument, np.ceil, Tally())
    tally.off_tick += counted.off_tick
    tally.off_lot += counted.off_lot
    tally.empty_trades += int(np.count_nonzero(keep & (size == 0)))
    return np.where(side > 0, low, high), size


def _levels(
    price: Floats, size: Floats, instrument: Instrument, rounding: np.ufunc, tally: Tally
) -> tuple[Ints, Ints, Flags]:
    """Return ticks, lots (both 0 where there is no level) and which levels are not as recorded."""
    ticks, lots = price * instrument.ticks_per_quote, size * instrument.lots_per_base
    there = (ticks > 0) & (ticks < EXACT) & (lots >= 0) & (lots < EXACT)
    ticks, lots = np.where(there, ticks, 0.0), np.where(there, lots, 0.0)
    whole_ticks, whole_lots = np.rint(ticks), np.rint(lots)
    off_tick = np.abs(ticks - whole_ticks) > GRID_GUARD + ticks * FLOAT_ERROR
    off_lot = np.abs(lots - whole_lots) > LOT_GUARD + lots * FLOAT_ERROR
    whole_ticks = np.where(off_tick, rounding(ticks), whole_ticks)
    whole_lots = np.where(off_lot, np.floor(lots), whole_lots)
    empty = there & (whole_lots == 0)
    tally.missing_levels += int(np.count_nonzero(~there))
    tally.empty_levels += int(np.count_nonzero(empty))
    tally.off_tick += int(np.count_nonzero(off_tick))
    tally.off_lot += int(np.count_nonzero(off_lot))
    return whole_ticks.astype(np.int64), whole_lots.astype(np.int64), ~there | empty | off_tick


def _sides(batch: Batch) -> tuple[Ints, Flags]:
    """Return the taker's sides and which rows are market trades."""
    texts = batch.texts("side")
    signs: dict[str, Side | int] = {"B": 1, "A": -1, NOT_A_TRADE: 0}
    try:
        side = np.array([signs[text] for text in texts], dtype=np.int64)
    except KeyError as error:
        row = texts.index(error.args[0])
        raise ConfigError(
            f"{batch.path}: row {batch.first + row}: side {error.args[0]!r}; allowed: B (buy), A (sell), X (no trade)"
        ) from None
    return side, side != 0


def _lists(batch: Batch, names: tuple[str, ...]) -> list[list[int]]:
    return [batch.ints(name).tolist() for name in names]


def _fits(name: str, kind: pa.DataType) -> bool:
    if name in INTEGERS:
        return bool(pa.types.is_integer(kind))
    if name in TEXTS:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))
    return bool(pa.types.is_float64(kind) or pa.types.is_integer(kind))


def _wanted(name: str) -> str:
    return "an integer" if name in INTEGERS else "text" if name in TEXTS else "a double"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
