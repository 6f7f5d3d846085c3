"""Books for the benchmark, as the bytes that Hyperliquid's l2Book channel carries.

Recorded ones where the shared data lies beside the project, otherwise books of the generated market, so that the
benchmark runs anywhere; every figure says which.
"""

import csv
import io
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mmpi.events import BookSnapshot, Level
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.sim.market import GENERATED, Market, MarketConfig

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
RECORDED = SHARED / "data" / "raw" / "hyperliquid_btc_20250904.orderbooks20.csv.zst"
DEPTH = 20
COUNT = 3785
"""Books: as many as the recording has."""
COIN = "BTC"
INSTRUMENT = GENERATED[COIN]
"""Hyperliquid's BTC: 0.1 and 0.00001, five significant figures."""


class Frame(NamedTuple):
    """One l2Book message and when it was received."""

    recv_ts: Nanos
    raw: bytes


def load() -> tuple[str, list[Frame]]:
    """Return what the books are, in words, and the books."""
    if RECORDED.is_file():
        return f"recorded: {RECORDED.name}", list(_recorded())
    return "generated: mmpi.sim.market, seed 7 (no shared data on this machine)", list(_generated())


def _recorded() -> Iterator[Frame]:
    import pyarrow as pa

    with pa.input_stream(str(RECORDED), compression="zstd") as stream:
        for row in csv.DictReader(io.TextIOWrapper(stream)):
            sides = [
                [(row[f"{side}_price_{i}"], row[f"{side}_size_{i}"]) for i in range(DEPTH)] for side in ("bid", "ask")
            ]
            # Seconds with seven decimals: exact in text, not in a float.
            whole, _, fraction = row["timestamp"].partition(".")
            recv_ts = int(whole) * SECOND + int(fraction.ljust(9, "0")[:9])
            yield Frame(recv_ts, _message(int(row["exchange_timestamp"]), sides))


def _generated() -> Iterator[Frame]:
    market = Market([INSTRUMENT], MarketConfig(stall_every_s=0), random.Random(7))
    books = (event for event in market.events(1_700_000_000 * SECOND) if isinstance(event, BookSnapshot))
    for book in islice(books, COUNT):
        yield Frame(book.recv_ts, _message(book.exch_ts // MILLISECOND, [_texts(book.bids), _texts(book.asks)]))


def _texts(levels: tuple[Level, ...]) -> list[tuple[str, str]]:
    return [(INSTRUMENT.price_text(price), INSTRUMENT.size_text(size)) for price, size in levels]


def _message(time_ms: int, sides: list[list[tuple[str, str]]]) -> bytes:
    levels = [[{"px": price, "sz": size, "n": 1} for price, size in side] for side in sides]
    data = {"coin": COIN, "time": time_ms, "levels": levels}
    return json.dumps({"channel": "l2Book", "data": data}, separators=(",", ":")).encode()
