"""Recorded: a folder that `mmpi record` wrote, or one file of it, as one event stream (docs/recording.md).

Invariant: of a file that ends early every whole line before the cut is read, and the cut is counted; damage elsewhere
stops the reading with its file and line. It must not know how files are written.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Mark, Trade
from mmpi.instrument import Instrument
from mmpi.research.grid import Tally
from mmpi.research.instruments import HYPERLIQUID, is_listed, lookup
from mmpi.research.jsonl import MAX_LINE, LineReader
from mmpi.runtime.gzip_part import GZIP, HEADER, SLICE, flushed_end
from mmpi.runtime.recording import ABOUT, PART, find_coin, instrument_of, is_recorded, read_about, recorded_files


class RecordedTally(Tally):
    """What else is told of a recording."""

    gaps: int = 0
    """Places where the recorder says that messages are missing, or where one of several files ends early."""
    torn_files: int = 0
    """Files that end early: still being written, or their recorder was killed."""


def events(
    paths: Sequence[Path], instrument: Instrument, tally: RecordedTally
) -> Iterator[BookSnapshot | Trade | Mark]:
    """Yield the events of `instrument`; `tally.done` is bytes of all files. ConfigError names file and line."""
    reader = LineReader(instrument, tally)
    before = 0
    for place, path in enumerate(map(_by_its_name, paths), start=1):
        torn = tally.torn_files
        for number, line in whole_lines(path, tally, before):
            yield from reader.read(path, number, line)
            tally.gaps = reader.gaps
        before = tally.done
        if tally.torn_files > torn and place < len(paths):
            reader.gap()
    tally.gaps = reader.gaps


def find(path: Path) -> tuple[Path, ...]:
    """Return the file or the files of a recording, () if the path is none; ConfigError for one without a file."""
    if path.is_dir():
        files = tuple(recorded_files(path))
        if not files and (path / ABOUT).exists():
            raise ConfigError(f"{path}: a recording without a file in it")
        return files
    return (path,) if is_recorded(path) and path.is_file() else ()


def instrument_in(folder: Path, name: str, tick: str, lot: str) -> Instrument:
    """Return a recording's coin `name` ("" = its only one) by the rules beside its files; tick and lot, if given, win.

    ConfigError names the coins that there are.
    """
    about = read_about(folder)
    if about is None:
        if not name:
            raise ConfigError(f"{folder}: no {ABOUT} beside the recorded files; give --instrument NAME, such as BTC")
        key = f"{HYPERLIQUID}_{name}"
        found = lookup(key, tick, lot)
        return found if is_listed(key) else msgspec.structs.replace(found, name=name, base=name)
    coins = about.instruments
    coin = find_coin(name, coins) if name else next(iter(coins)) if len(coins) == 1 else None
    if coin is None:
        given = f"--instrument {name!r}: {folder} is" if name else f"{folder}: give --instrument NAME; it is"
        raise ConfigError(f"{given} a recording of {', '.join(coins)}")
    return instrument_of(coin, coins[coin], tick, lot)


def whole_lines(path: Path, tally: RecordedTally, before: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the number (1 = first) and the bytes of each whole line, up to where the file was cut if it was.

    `before` is the bytes of the files already read. ConfigError names file and line of what is damaged.
    """
    number = 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < HEADER:
                tally.torn_files += 1
                return
            stream = gzip.GzipFile(fileobj=file)
            while line := _line(stream, path, number + 1, tally):
                number += 1
                tally.done = before + file.tell()
                if not line.isspace():
                    yield number, line
        tally.done = before + size
    except _SpoiltPartError:
        yield from _flushed_lines(path, number)
        tally.torn_files += 1
        tally.done = before + size
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None


def _line(stream: gzip.GzipFile, path: Path, number: int, tally: RecordedTally) -> bytes:
    """Return the next line, b"" at the end or where the file was cut, which is counted."""
    try:
        line = stream.readline(MAX_LINE)
    except EOFError:
        tally.torn_files += 1
        return b""
    except (gzip.BadGzipFile, zlib.error) as error:
        if path.name.endswith(PART):
            raise _SpoiltPartError from None
        raise ConfigError(f"{path}:{number}: cannot be decompressed ({error})") from None
    if len(line) == MAX_LINE:
        raise ConfigError(f"{path}:{number}: longer than {MAX_LINE} bytes; allowed: one message a line")
    return line


class _SpoiltPartError(Exception):
    """Behind the last flush of a part is what nobody wrote: a power cut leaves such files."""


def _flushed_lines(path: Path, skip: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a spoilt part up to its last flush, but for the first `skip`.

    What unpacks a file unpacks it in blocks, and of a block that ends in damage it gives nothing.
    """
    inflate, rest, number = zlib.decompressobj(GZIP), b"", 0
    left = flushed_end(path)
    with path.open("rb") as file:
        while left > 0 and (data := file.read(min(SLICE, left))):
            left -= len(data)
            *lines, rest = (rest + inflate.decompress(data)).split(b"\n")
            for line in lines:
                number += 1
                if number > skip and line:
                    yield number, line


def _by_its_name(path: Path) -> Path:
    """Return the file under the name that it has now: what was being written may have been finished meanwhile."""
    finished = path.with_name(path.name.removesuffix(PART))
    return path if path.exists() or not finished.exists() else finished
