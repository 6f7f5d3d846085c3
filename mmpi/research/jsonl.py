"""Jsonl: recorded Hyperliquid WebSocket messages, one a line, as an event stream.

Invariant: one line is in memory at a time; a line that cannot be read stops the reading with its file and number.
It must not know sessions, accounts or how streams are merged. The wire's structs are the venue's, but their numbers are
not read as the session reads them, to the nearest tick and lot: whatever of a recording is off the grid is counted.

A line is `<receive time in ns> <message>`, or the message alone; without a receive time the message's own time stands
in for it, held back from going backwards because the venue stamps books and trades separately. Where a recorder marked
a gap, trades count again from the next book on: every subscribe repeats older ones, and that book shows their effect.
"""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Level, Mark, Trade
from mmpi.instrument import BUY, MILLISECOND, SELL, Instrument, Nanos, Side
from mmpi.research.grid import LATEST, Tally, merge_levels, price_ticks, size_lots, usable
from mmpi.runtime.recording import GAP
from mmpi.venues.hyperliquid.messages import GREETING, WireAssetCtx, WireBook, WireLevel, WireTrade, side_of, venue_mark

SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst")
MAX_LINE: Final = 16 * 2**20
"""Bytes; the venue's longest message is below 100 kB, and memory has to stay bounded on a file without line ends."""
SHOWN: Final = 60
"""Characters of a bad line that its error shows."""


class _Message(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_BOOK: Final = msgspec.json.Decoder(WireBook, strict=False)
_TRADES: Final = msgspec.json.Decoder(list[WireTrade], strict=False)
_CONTEXT: Final = msgspec.json.Decoder(WireAssetCtx, strict=False)


class LineReader:
    """Turns lines into events; it keeps the last receive time and whether a book has come since the last gap."""

    def __init__(self, instrument: Instrument, tally: Tally) -> None:
        self.gaps = 0
        """Behind which there was something already."""
        self._instrument = instrument
        self._tally = tally
        self._recv_ts: Nanos = 0
        self._first_book: Nanos = -1

    def events(self, line: bytes) -> list[BookSnapshot] | list[Trade] | list[Mark]:
        """Return the line's events; ValueError (msgspec's too) or RecursionError says what is wrong with it."""
        stamp, frame = _split(line.strip())
        if frame != GREETING.encode():
            message = _MESSAGE.decode(frame)
            if message.channel == "l2Book":
                return self._book(_BOOK.decode(message.data), stamp)
            if message.channel == "trades":
                return self._trades(_TRADES.decode(message.data), stamp)
            if message.channel == "activeAssetCtx":
                return self._mark(_CONTEXT.decode(message.data), stamp)
            if message.channel == GAP:
                self._receive(stamp, 0)
                self.gap()
                return []
        self._receive(stamp, 0)
        self._tally.ignored += 1
        return []

    def gap(self) -> None:
        """Take note that messages are missing before the next line."""
        self.gaps += self._first_book >= 0
        self._first_book = -1

    def read(self, path: Path, number: int, line: bytes) -> list[BookSnapshot] | list[Trade] | list[Mark]:
        """Return the line's events; ConfigError names the file and the line."""
        try:
            return self.events(line)
        except (ValueError, RecursionError) as error:
            shown = line[:SHOWN].decode(errors="replace").rstrip()
            raise ConfigError(f"{path}:{number}: not a Hyperliquid message ({error}): {shown!r}") from None

    def _book(self, book: WireBook, stamp: Nanos | None) -> list[BookSnapshot]:
        exch_ts = book.time * MILLISECOND
        recv_ts = self._receive(stamp, exch_ts)
        if book.coin != self._instrument.name:
            self._tally.ignored += 1
            return []
        if self._first_book < 0:
            self._first_book = exch_ts
        bids, asks = self._levels(book.levels[0], BUY), self._levels(book.levels[1], SELL)
        return [BookSnapshot(recv_ts, self._instrument.name, exch_ts, 0, bids, asks)]

    def _levels(self, levels: list[WireLevel], side: Side) -> tuple[Level, ...]:
        return merge_levels([self._level(level, side) for level in levels])

    def _level(self, level: WireLevel, side: Side) -> Level:
        if not usable(level.px, level.sz, self._instrument):
            self._tally.missing_levels += 1
            return 0, 0
        size = size_lots(level.sz, self._instrument, self._tally)
        self._tally.empty_levels += size == 0
        return price_ticks(level.px, self._instrument, side, self._tally), size

    def _trades(self, trades: list[WireTrade], stamp: Nanos | None) -> list[Trade]:
        recv_ts = self._receive(stamp, max((trade.time for trade in trades), default=0) * MILLISECOND)
        events = [self._trade(trade, recv_ts) for trade in trades]
        return [event for event in events if event is not None]

    def _trade(self, trade: WireTrade, recv_ts: Nanos) -> Trade | None:
        name, exch_ts = self._instrument.name, trade.time * MILLISECOND
        if trade.coin != name:
            self._tally.ignored += 1
            return None
        if self._first_book < 0 or exch_ts <= self._first_book:
            self._tally.backlog_trades += 1
            return None
        side = side_of(trade.side)
        if not usable(trade.px, trade.sz, self._instrument):
            self._tally.empty_trades += 1
            return None
        # A buyer's price is moved down, a seller's up: off the grid, it reaches fewer resting orders, never more.
        price = price_ticks(trade.px, self._instrument, side, self._tally)
        size = size_lots(trade.sz, self._instrument, self._tally)
        self._tally.empty_trades += size == 0
        return Trade(recv_ts, name, exch_ts, trade.tid, side, price, size) if size else None

    def _mark(self, context: WireAssetCtx, stamp: Nanos | None) -> list[Mark]:
        recv_ts = self._receive(stamp, 0)
        if context.coin != self._instrument.name or recv_ts == 0:
            self._tally.ignored += 1
            return []
        event = venue_mark(context, self._instrument, recv_ts)
        self._tally.missing_marks += (event.mark == 0.0) + (event.index == 0.0) + (event.next_ts == 0)
        return [event]

    def _receive(self, stamp: Nanos | None, own_time: Nanos) -> Nanos:
        recv_ts = max(own_time, self._recv_ts) if stamp is None else stamp
        if max(recv_ts, own_time) > LATEST:
            raise ValueError(f"time {max(recv_ts, own_time)} ns; allowed: up to {LATEST} ns")
        if recv_ts < self._recv_ts:
            raise ValueError(f"receive time {recv_ts} is earlier than the line before ({self._recv_ts})")
        self._recv_ts = recv_ts
        return recv_ts


def lines(path: Path, instrument: Instrument, tally: Tally) -> Iterator[BookSnapshot | Trade | Mark]:
    """Yield the events of `instrument`; `tally.done` is bytes of the file. ConfigError names file and line."""
    reader = LineReader(instrument, tally)
    for number, line in numbered_lines(path, tally):
        yield from reader.read(path, number, line)


def numbered_lines(path: Path, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Yield the number (1 = first) and the bytes of each line that is not blank, unpacked as the file's name says.

    `tally.done` is bytes of the file. ConfigError names file and line of what cannot be read, and an empty file.
    """
    number = 0
    with path.open("rb") as file:
        stream = _decompressed(path, file)
        while True:
            number += 1
            line = _line(stream, path, number)
            tally.done = file.tell()
            if not line:
                break
            if not line.isspace():
                yield number, line
    if number == 1:
        raise ConfigError(f"{path}: empty; a data set needs at least one line")


def _split(line: bytes) -> tuple[Nanos | None, bytes]:
    """Return the receive time, None = the line has none, and the frame."""
    head, _, rest = line.partition(b" ")
    return (int(head), rest) if head.isdigit() else (None, line)


def _line(stream: io.BufferedIOBase, path: Path, number: int) -> bytes:
    """Return the next line, b"" at the end; ConfigError if it is too long or cannot be decompressed."""
    try:
        line = stream.readline(MAX_LINE)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ConfigError(f"{path}:{number}: cannot be decompressed ({error})") from None
    if len(line) == MAX_LINE:
        raise ConfigError(f"{path}:{number}: longer than {MAX_LINE} bytes; allowed: one message a line")
    return line


def _decompressed(path: Path, file: BinaryIO) -> io.BufferedIOBase:
    """Return a stream of the file's plain bytes, by the end of its name: .gz, .xz, .zst or anything else."""
    if path.suffix == ".xz":
        return io.BufferedReader(lzma.LZMAFile(file))
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    if path.suffix != ".zst":
        return cast(io.BufferedIOBase, file)
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(f"{path}: reading .zst needs the research extra; run: make setup") from None
    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
