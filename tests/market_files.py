"""Builders of small data sets in the common form, for the tests of mmpi.research."""

from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")
pq = pytest.importorskip("pyarrow.parquet")

DEPTH = 10
NAN = float("nan")
Levels = list[tuple[float, float]]


def book_row(recv: int, bids: Levels, asks: Levels, exch: int = 0, seq: int = 0) -> dict[str, float]:
    """Return one row of a book10 file; levels that are not given are NaN."""
    row: dict[str, float] = {"t_recv_ns": recv, "t_exch_ns": exch, "seq": seq}
    for prefix, levels in (("b", bids), ("a", asks)):
        padded = [*levels, *[(NAN, NAN)] * (DEPTH - len(levels))]
        for i, (price, size) in enumerate(padded):
            row[f"{prefix}p{i}"], row[f"{prefix}q{i}"] = float(price), float(size)
    return row


def full_book_row(recv: int, bid: float = 100.0, ask: float = 101.0, exch: int = 0) -> dict[str, float]:
    """Return one row of ten levels a side, one unit of price apart, each of size 1."""
    bids = [(bid - i, 1.0) for i in range(DEPTH)]
    asks = [(ask + i, 1.0) for i in range(DEPTH)]
    return book_row(recv, bids, asks, exch)


def bbo_row(recv: int, bid: float, ask: float, exch: int = 0, bid_size: float = 1.0) -> dict[str, float]:
    """Return one row of a bbo file; the ask's size is 1."""
    return {
        "t_recv_ns": recv, "t_exch_ns": exch, "seq": 0, "bp": bid, "bq": bid_size, "ap": ask, "aq": 1.0,
    }  # fmt: skip


def trade_row(recv: int, price: float, size: float, side: str = "B", exch: int = 0) -> dict[str, float | str]:
    """Return one row of a trades file."""
    return {"t_recv_ns": recv, "t_exch_ns": exch, "id": recv, "px": price, "sz": size, "side": side}


def mark_row(
    recv: int, mark: float, rate: float = 0.0, next_ts: int = 0, index: float = 100.0, exch: int = 0
) -> dict[str, float]:
    """Return one row of a mark file."""
    return {
        "t_recv_ns": recv, "t_exch_ns": exch, "mark": mark, "index": index, "funding": rate, "next_funding_ns": next_ts,
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, float]] | list[dict[str, float | str]]) -> Path:
    """Write rows as one parquet file and return its path."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_set(
    folder: Path,
    name: str = "lab_xy",
    books: list[dict[str, float]] | None = None,
    bbos: list[dict[str, float]] | None = None,
    trades: list[dict[str, float | str]] | None = None,
    marks: list[dict[str, float]] | None = None,
) -> Path:
    """Write the files of a set and return its prefix."""
    for suffix, rows in (("book10", books), ("bbo", bbos), ("trades", trades), ("mark", marks)):
        if rows is not None:
            write(folder / f"{name}.{suffix}.parquet", rows)
    return folder / name
