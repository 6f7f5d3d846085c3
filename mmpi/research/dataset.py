"""Dataset: a recorded market, found by its name or path, as one stream of events in order of receive time.

Invariant: memory is constant in the length of the set, and nothing of a set is left out without a count in `tally`.
It must not know quoters, exchanges or where results go.

Books come from book10; the bbo channel is used only where there is no book10, or on request (`with_bbo`). A venue
stamps its channels apart, and a bbo says nothing of the levels behind it: mixed into a deeper book that is up to half
a second older, it moves the touch while the depth stays, and a simulator's queue positions are kept on that depth. One
book channel is also all that the live session listens to. At equal receive times a trade comes before a book, which
already shows its effect.
"""

import difflib
from collections.abc import Callable, Iterator
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.instrument import Instrument
from mmpi.research import jsonl, order_by_order, recorded
from mmpi.research.grid import Tally
from mmpi.research.instruments import HYPERLIQUID, is_listed, lookup
from mmpi.research.recorded import RecordedTally
from mmpi.sim.l3 import OrderUpdate, SimEvent
from mmpi.sim.queue_models import ESTIMATES, FIFO

MARKET: Final = Path("../shared/data/market")
"""Where a bare set name is looked up, relative to the folder that the command runs in."""
BOOK, BBO, TRADES, MARK = ".book10.parquet", ".bbo.parquet", ".trades.parquet", ".mark.parquet"
NEAREST: Final = 5
"""Names that the error for a missing set offers."""


class SetFiles(msgspec.Struct, frozen=True):
    """A set's name and files; `lines` excludes the others."""

    name: str
    book: Path | None = None
    bbo: Path | None = None
    trades: Path | None = None
    mark: Path | None = None
    lines: Path | None = None
    orders: Path | None = None
    recorded: tuple[Path, ...] = ()
    """Files of one recording folder, in the order of time; their rules lie beside them."""


class Dataset:
    """Iterate to get the events; `total` and `tally.done` tell the progress (rows, or bytes of a file of lines)."""

    def __init__(
        self,
        name: str,
        instrument: Instrument,
        total: int,
        streams: Callable[[Tally], list[Iterator[MarketEvent]]],
        orders: Path | None = None,
        tally: type[Tally] = Tally,
    ) -> None:
        self.name = name
        self.instrument = instrument
        self.total = total
        self.tally = tally()
        self._streams = streams
        self._orders = orders

    @property
    def done(self) -> int:
        """Return how much of `total` has been read."""
        return self.tally.done

    @property
    def by_order(self) -> bool:
        """Return True if the set names each order."""
        return self._orders is not None

    def __iter__(self) -> Iterator[MarketEvent]:
        """Start from the beginning with a new tally; ConfigError names the file and row or line it cannot use."""
        self.tally = type(self.tally)()
        streams = self._streams(self.tally)
        return streams[0] if len(streams) == 1 else merge(*streams, key=attrgetter("recv_ts"))

    def with_orders(self) -> Iterator[SimEvent]:
        """Start from the beginning, OrderUpdates included; ConfigError if the set does not name its orders."""
        if self._orders is None:
            raise ConfigError(
                f"sim.queue {FIFO!r}: {self.name} does not name each order; allowed with it: {', '.join(ESTIMATES)}"
            )
        self.tally = type(self.tally)()
        return order_by_order.updates(self._orders, self.instrument, self.tally)


def open_dataset(data: str | Path, instrument: Instrument, *, with_bbo: bool = False) -> Dataset:
    """Return the set that `find_set` finds; ConfigError if a file or a column that is needed is not there."""
    files = find_set(data)
    if files.recorded:
        return _open_recorded(files.recorded, files.name, instrument)
    if files.orders:
        return _open_orders(files.orders, files.name, instrument)
    if files.lines:
        return _open_lines(files.lines, files.name, instrument)
    return _open_parquet(files, instrument, with_bbo)


def instrument_for(data: str | Path, name: str = "", tick: str = "", lot: str = "") -> Instrument:
    """Return the instrument to read a set with: from tick and lot if given, else from the shipped table.

    `name` is what to call it: the set's own name or base currency ("" = its own name), and for raw lines the coin.
    A recording says itself what its coins are, and by which rules; "" is its only one.
    """
    files = find_set(data)
    if bool(tick) != bool(lot):
        raise ConfigError(f"--tick {tick!r} --lot {lot!r}: give both or neither")
    if files.recorded:
        return recorded.instrument_in(files.recorded[0].parent, name, tick, lot)
    if files.lines and not name:
        raise ConfigError(f"{files.lines}: raw messages of possibly many coins; give --instrument NAME, such as BTC")
    key = f"{HYPERLIQUID}_{name}" if files.lines else files.name
    found = lookup(key, tick, lot)
    if not is_listed(key):
        return msgspec.structs.replace(found, name=name or files.name, base=name or files.name)
    if files.lines or not name:
        return found
    if name.upper() not in (found.name.upper(), found.base.upper()):
        raise ConfigError(f"--instrument {name!r}: {files.name} is a recording of {found.name}")
    return msgspec.structs.replace(found, name=name)


def find_set(data: str | Path) -> SetFiles:
    """Return the files of a set given by prefix, any one of its files, or bare name; ConfigError if none exist.

    A folder that `mmpi record` wrote is one set, and so is each of its files.
    """
    path = Path(data)
    if files := recorded.find(path):
        name = path.resolve().name if path.is_dir() else path.name.partition(".")[0]
        return SetFiles(name, recorded=files)
    if path.name.endswith((*jsonl.SUFFIXES, *order_by_order.SUFFIXES)):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        name, by_order = path.name.partition(".")[0], path.name.endswith(order_by_order.SUFFIXES)
        return SetFiles(name, orders=path) if by_order else SetFiles(name, lines=path)
    if path.suffix == ".parquet" and not path.is_file():
        raise ConfigError(f"{path}: no such file.{_near(path)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name one set in it.{_near(path)}")
    prefix = _without_suffix(path)
    places = [prefix] if prefix.is_absolute() else [prefix, MARKET / prefix, MARKET.parent / prefix]
    for place in places:
        found = _files(place)
        if found is not None:
            return found
    raise ConfigError(f"{data}: no data set; looked for {_wanted(places)}.{_near(*places)}")


def _open_recorded(paths: tuple[Path, ...], name: str, instrument: Instrument) -> Dataset:
    def streams(tally: Tally) -> list[Iterator[MarketEvent]]:
        assert isinstance(tally, RecordedTally)
        return [recorded.events(paths, instrument, tally)]

    try:
        total = sum(path.stat().st_size for path in paths if path.exists())
    except OSError as error:
        raise ConfigError(f"{paths[0].parent}: cannot be read: {error.strerror}") from None
    return Dataset(name, instrument, total, streams, tally=RecordedTally)


def _open_lines(path: Path, name: str, instrument: Instrument) -> Dataset:
    size = path.stat().st_size
    if size == 0:
        raise ConfigError(f"{path}: empty; a data set needs at least one line")
    return Dataset(name, instrument, size, lambda tally: [jsonl.lines(path, instrument, tally)])


def _open_orders(path: Path, name: str, instrument: Instrument) -> Dataset:
    def aggregated(tally: Tally) -> list[Iterator[MarketEvent]]:
        events = order_by_order.updates(path, instrument, tally)
        return [(event for event in events if not isinstance(event, OrderUpdate))]

    return Dataset(name, instrument, path.stat().st_size, aggregated, path)


def _open_parquet(files: SetFiles, instrument: Instrument, with_bbo: bool) -> Dataset:
    try:
        from mmpi.research import parquet
    except ImportError:
        raise ConfigError("reading .parquet needs the research extra (pyarrow, numpy); run: make setup") from None
    book = parquet.ParquetFile(files.book, parquet.BOOK_COLUMNS) if files.book else None
    bbo = parquet.ParquetFile(files.bbo, parquet.BBO_COLUMNS) if files.bbo and (with_bbo or not book) else None
    first = book or bbo
    if files.trades is None or first is None:
        missing = TRADES if first else f"{BOOK} or {BBO}"
        raise ConfigError(f"{files.name}: no {missing} beside its other files; a set needs a book and trades")
    if with_bbo and bbo is None:
        raise ConfigError(f"{files.name}: no {BBO} beside its other files; with_bbo needs it")
    trades = parquet.ParquetFile(files.trades, parquet.TRADE_COLUMNS)
    mark = parquet.ParquetFile(files.mark, parquet.MARK_COLUMNS) if files.mark else None
    not_before = first.first_exch_ts()

    def streams(tally: Tally) -> list[Iterator[MarketEvent]]:
        opened: list[Iterator[MarketEvent]] = [parquet.trades(trades, instrument, tally, not_before)]
        if mark:
            opened.append(parquet.marks(mark, instrument, tally))
        if bbo:
            opened.append(parquet.bbos(bbo, instrument, tally))
        if book:
            opened.append(parquet.books(book, instrument, tally))
        return opened

    return Dataset(files.name, instrument, sum(file.rows for file in (trades, mark, bbo, book) if file), streams)


def _files(prefix: Path) -> SetFiles | None:
    book, bbo, trades, mark = (_existing(prefix, suffix) for suffix in (BOOK, BBO, TRADES, MARK))
    return SetFiles(prefix.name, book, bbo, trades, mark) if book or bbo or trades else None


def _existing(prefix: Path, suffix: str) -> Path | None:
    path = prefix.with_name(prefix.name + suffix)
    return path if path.is_file() else None


def _without_suffix(path: Path) -> Path:
    for suffix in (BOOK, BBO, TRADES, MARK):
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return path


def _wanted(places: list[Path]) -> str:
    return " and ".join(f"{place}{{{BOOK},{BBO},{TRADES}}}" for place in places)


def _near(*places: Path) -> str:
    """Return a sentence with the names of the sets nearby, nearest first, or "" where there are none."""
    folders = [place if place.is_dir() else place.parent for place in places]
    names = sorted({_without_suffix(file).name for folder in folders for file in folder.glob("*.parquet")})
    alike = difflib.get_close_matches(_without_suffix(places[0]).name, names, n=NEAREST, cutoff=0.4)
    nearest = alike or names[:NEAREST]
    return f" Sets there: {', '.join(nearest)}" if nearest else ""
