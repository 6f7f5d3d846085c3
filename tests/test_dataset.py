"""A data set is found by name or path, merged by receive time, and read in constant memory."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from market_files import bbo_row, full_book_row, trade_row, write_set
from recording_builders import HOUR, START, bbo_frame, book_frame, trade_frame, write_files

from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookSnapshot, Trade
from mmpi.instrument import MILLISECOND, SECOND, make_instrument
from mmpi.research.dataset import Dataset, find_set, instrument_for, open_dataset
from mmpi.research.grid import Tally
from mmpi.research.recorded import RecordedTally
from mmpi.runtime.recording import About, Gap, market_of, write_about
from mmpi.runtime.rotation import Limits
from mmpi.venues.hyperliquid.messages import instrument_from_meta

XY = make_instrument("XY", "0.1", "0.01")
PROJECT = Path(__file__).resolve().parents[1]
MARKET = PROJECT.parent / "shared" / "data" / "market"
LINEAR = sorted(
    path.name.removesuffix(".trades.parquet") for path in MARKET.glob("*.trades.parquet") if "coinm" not in path.name
)
LARGE = {"standx_btcusd_20260106", "standx_btcusd_20260107"}
MEMORY_GROWTH_MB = 24
"""Read ahead, one batch of Python objects a file, and the allocators' slack: none of it grows with the file."""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return the prefix of a set of two books, two quotes and three trades."""
    return write_set(
        tmp_path,
        books=[full_book_row(10, exch=8), full_book_row(30, exch=28)],
        bbos=[bbo_row(11, 100.0, 101.0, exch=9), bbo_row(20, 100.0, 101.0, exch=18)],
        trades=[trade_row(10, 101.0, 1.0, exch=7), trade_row(20, 101.0, 1.0, exch=19), trade_row(30, 101.0, 1.0)],
    )


def one_row_set(folder: Path, name: str) -> Path:
    """Write a set of one book and one trade and return its prefix."""
    return write_set(folder, name, books=[full_book_row(1)], trades=[trade_row(1, 100.0, 1.0)])


def kinds(dataset: Dataset) -> list[tuple[int, type]]:
    """Return receive time and type of every event."""
    return [(event.recv_ts, type(event)) for event in dataset]


def test_events_are_merged_by_receive_time(lab: Path) -> None:
    """Books and trades alternate by receive time, a trade before a book of the same time; older trades are counted."""
    dataset = open_dataset(lab, XY)
    assert (dataset.name, dataset.total, dataset.done) == ("lab_xy", 5, 0)
    assert kinds(dataset) == [(10, BookSnapshot), (20, Trade), (30, Trade), (30, BookSnapshot)]
    assert dataset.tally == Tally(done=5, backlog_trades=1)


def test_quotes_are_read_on_request(lab: Path) -> None:
    """With `with_bbo` the bbo channel joins in."""
    dataset = open_dataset(lab, XY, with_bbo=True)
    assert [kind for _, kind in kinds(dataset)] == [BookSnapshot, Bbo, Trade, Bbo, Trade, BookSnapshot]
    assert dataset.done == dataset.total == 7


def test_quotes_stand_in_for_books(lab: Path) -> None:
    """A set without book10 is read from its bbo channel, whose start decides which trades are too old."""
    lab.with_name("lab_xy.book10.parquet").unlink()
    dataset = open_dataset(lab, XY)
    assert kinds(dataset) == [(11, Bbo), (20, Trade), (20, Bbo), (30, Trade)]
    assert dataset.tally.backlog_trades == 1


def test_iterating_twice_gives_the_same(lab: Path) -> None:
    """A second pass starts over, its tally too."""
    dataset = open_dataset(lab, XY)
    first, tally = list(dataset), dataset.tally
    assert (list(dataset), dataset.tally) == (first, tally)


@pytest.mark.parametrize("suffix", ["", ".book10.parquet", ".bbo.parquet", ".trades.parquet"])
def test_a_set_is_found_by_prefix_and_by_any_file(lab: Path, suffix: str) -> None:
    """Prefix and files name the same set."""
    assert find_set(f"{lab}{suffix}") == find_set(lab)


def test_a_bare_name_is_looked_up_in_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a folder is found beside the project, unless a set of that name is right here."""
    here, there = tmp_path / "project", tmp_path / "shared" / "data" / "market"
    here.mkdir()
    there.mkdir(parents=True)
    one_row_set(there, "lab_xy")
    monkeypatch.chdir(here)
    assert find_set("lab_xy").book == Path("../shared/data/market/lab_xy.book10.parquet")
    one_row_set(here, "lab_xy")
    assert find_set("lab_xy").book == Path("lab_xy.book10.parquet")


def test_a_missing_set_says_what_was_looked_for_and_what_is_there(lab: Path) -> None:
    """A typing error is answered with the names that exist."""
    wrong = lab.with_name("lab_xz")
    expected = rf"{re.escape(str(wrong))}: no data set; looked for .*lab_xz\{{\.book10\.parquet.*Sets there: lab_xy$"
    with pytest.raises(ConfigError, match=expected):
        find_set(wrong)


@pytest.mark.parametrize("name", ["none.jsonl", "none.jsonl.gz", "none.book10.parquet", "none.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A file given by name that does not exist is what the error names."""
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}: no such file"):
        find_set(tmp_path / name)


def test_a_folder_is_no_set(lab: Path) -> None:
    """A folder is answered with the sets in it."""
    with pytest.raises(ConfigError, match=r"is a folder; name one set in it\. Sets there: lab_xy$"):
        find_set(lab.parent)


@pytest.mark.parametrize(
    ("absent", "said"),
    [(("trades",), r"lab_xy: no \.trades\.parquet"), (("book10", "bbo"), r"no \.book10\.parquet or \.bbo\.parquet")],
)
def test_a_set_needs_a_book_and_trades(lab: Path, absent: tuple[str, ...], said: str) -> None:
    """Without trades nothing would ever fill, without a book nothing would be quoted: both are errors."""
    for part in absent:
        lab.with_name(f"lab_xy.{part}.parquet").unlink()
    with pytest.raises(ConfigError, match=said):
        open_dataset(lab, XY)


def test_quotes_asked_for_must_be_there(lab: Path) -> None:
    """`with_bbo` on a set without the channel is an error, not another result."""
    lab.with_name("lab_xy.bbo.parquet").unlink()
    with pytest.raises(ConfigError, match=r"no \.bbo\.parquet beside its other files"):
        open_dataset(lab, XY, with_bbo=True)


def test_without_the_research_extra_the_way_to_it_is_told(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without pyarrow names the command that installs it."""
    monkeypatch.delitem(sys.modules, "mmpi.research.parquet", raising=False)
    monkeypatch.delattr("mmpi.research.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs the research extra.*make setup"):
        open_dataset(lab, XY)


def test_lines_are_a_set_too(tmp_path: Path) -> None:
    """A .jsonl file is opened like any other set; its progress is counted in bytes."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"channel":"l2Book","data":{"coin":"XY","time":5,"levels":[[{"px":"1","sz":"1"}],[]]}}\n')
    dataset = open_dataset(path, XY)
    assert list(dataset) == [BookSnapshot(5_000_000, "XY", 5_000_000, 0, ((10, 100),), ())]
    assert dataset.done == dataset.total == path.stat().st_size


def test_an_empty_file_of_lines_is_an_error(tmp_path: Path) -> None:
    """Nothing to read is an error, not an empty result."""
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(ConfigError, match=r"x\.jsonl: empty"):
        open_dataset(tmp_path / "x.jsonl", XY)


def test_the_instrument_comes_from_the_table_or_from_tick_and_lot(tmp_path: Path) -> None:
    """A listed set needs nothing, an unlisted one needs tick and lot, and may be named."""
    listed, unlisted = one_row_set(tmp_path, "hyperliquid_btc_2025"), one_row_set(tmp_path, "lab_xy")
    assert instrument_for(listed).name == "BTC"
    assert instrument_for(unlisted, tick="0.5", lot="2").name == "lab_xy"
    named = instrument_for(unlisted, "XY", "0.5", "2")
    assert (named.name, named.base, named.tick_size, named.lot_size) == ("XY", "XY", "0.5", "2")
    with pytest.raises(ConfigError, match=r"no tick and lot known for 'lab_xy'"):
        instrument_for(unlisted)
    with pytest.raises(ConfigError, match=r"--tick '0\.5' --lot '': give both or neither"):
        instrument_for(unlisted, tick="0.5")


def test_the_name_asked_for_must_fit_the_set(tmp_path: Path) -> None:
    """A set may be called by its symbol or its base currency, but not by another's."""
    prefix = one_row_set(tmp_path, "binance_spot_nexousdt_2024")
    assert instrument_for(prefix).name == "NEXOUSDT"
    assert instrument_for(prefix, "NEXO").name == "NEXO"
    with pytest.raises(ConfigError, match="--instrument 'BTC': binance_spot_nexousdt_2024 is a recording of NEXOUSDT"):
        instrument_for(prefix, "BTC")


def test_lines_need_a_coin(tmp_path: Path) -> None:
    """Raw lines may hold many coins, so the coin is asked for; an unlisted one needs tick and lot."""
    path = tmp_path / "x.jsonl"
    path.write_text("{}")
    assert instrument_for(path, "btc").name == "BTC"
    assert instrument_for(path, "NEW", "0.1", "1").name == "NEW"
    with pytest.raises(ConfigError, match="give --instrument NAME"):
        instrument_for(path)
    with pytest.raises(ConfigError, match="no tick and lot known for 'hyperliquid_NEW'"):
        instrument_for(path, "NEW")


def manifest_rows(data: Path) -> dict[str, int]:
    """Return the row count of every market file as the manifest states it."""
    found = re.findall(r"^\| market/(\S+)\.parquet \| (\d+) \|", (data / "MANIFEST.md").read_text(), re.M)
    return {name: int(rows) for name, rows in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in LINEAR]
)
def test_recorded_sets_are_complete_ordered_and_on_the_grid(data: Path, name: str) -> None:
    """Every recorded row is delivered in order or counted, and the shipped tick and lot fit all prices and sizes."""
    rows = manifest_rows(data)
    book = f"{name}.book10" if f"{name}.book10" in rows else f"{name}.bbo"
    prefix = data / "market" / name
    dataset = open_dataset(prefix, instrument_for(prefix))
    count, last, trades = 0, 0, 0
    for event in dataset:
        assert event.recv_ts >= last
        last = event.recv_ts
        count += 1
        trades += isinstance(event, Trade)
    tally = dataset.tally
    marks = rows.get(f"{name}.mark", 0)
    assert dataset.done == dataset.total == rows[book] + rows[f"{name}.trades"] + marks
    assert count == dataset.total - tally.backlog_trades - tally.non_market_trades
    assert trades == count - rows[book] - marks
    left_out = {key: number for key, number in msgspec.structs.asdict(tally).items() if number and key != "done"}
    assert left_out.keys() <= {"backlog_trades", "non_market_trades"}
    assert tally.backlog_trades <= 30
    assert tally.non_market_trades <= 1


def test_inverse_sets_are_refused(data: Path) -> None:
    """A recorded inverse contract is refused with its reason."""
    with pytest.raises(ConfigError, match="payoff 'inverse' is not implemented"):
        instrument_for(data / "market" / "binance_coinm_btcusd_perp_20240808")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_set(data: Path) -> None:
    """Reading all 427,130 rows of the largest set needs hardly more memory than reading its first 20,000."""
    script = """
import resource, sys
from mmpi.research.dataset import instrument_for, open_dataset
for number, _ in enumerate(open_dataset(sys.argv[1], instrument_for(sys.argv[1])), 1):
    if number == 20_000:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    command = [sys.executable, "-c", script, str(data / "market" / "standx_btcusd_20260106")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert (late - early) / 1024 < MEMORY_GROWTH_MB


# Recordings ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a folder that a recorder wrote: BTC and a coin that no table has, in several files."""
    folder, now = tmp_path / "captured", START
    items: list[tuple[int, bytes | Gap]] = [(now, Gap("start"))]
    for number in range(10):
        now += SECOND
        items += [(now, book_frame(now // MILLISECOND, 100 + number)), (now + 1, book_frame(number, coin="kNEW"))]
        items += [(now + 2, bbo_frame(number)), (now + 3, trade_frame(now // MILLISECOND + 1))]
    write_files(folder, items, Limits(file_bytes=1, file_age=HOUR), batch_lines=4)
    rules = {name: market_of(instrument_from_meta(name, sz)) for name, sz in (("BTC", 5), ("kNEW", 0))}
    write_about(folder, About("hyperliquid", "mainnet", "https://venue", "2026-11-28T12:00:00Z", "0.1.0", rules))
    return folder


def test_a_recording_is_one_set(recording: Path) -> None:
    """A folder of several files plays as one, in order, with the rules that lie beside them."""
    files = sorted(path for path in recording.iterdir() if path.suffix == ".gz")
    assert len(files) > 3
    dataset = open_dataset(recording, instrument_for(recording, "btc"))
    told = list(dataset)
    assert [type(event) for event in told] == [BookSnapshot, Trade] * 10
    assert [event.recv_ts for event in told] == sorted(event.recv_ts for event in told)
    assert dataset.done == dataset.total == sum(path.stat().st_size for path in files)
    assert dataset.tally == RecordedTally(done=dataset.total, ignored=20)
    assert (list(dataset), dataset.name, dataset.by_order) == (told, "captured", False)


def test_a_coin_of_a_recording_that_no_table_has(recording: Path) -> None:
    """Tick and lot are the venue's own, asked before the first message."""
    instrument = instrument_for(recording, "kNEW")
    assert instrument == instrument_from_meta("kNEW", 0)
    assert len(list(open_dataset(recording, instrument))) == 10
    with pytest.raises(ConfigError, match="give --instrument NAME; it is a recording of BTC, kNEW"):
        instrument_for(recording)
    with pytest.raises(ConfigError, match=r"--tick '1' --lot '': give both or neither"):
        instrument_for(recording, "BTC", tick="1")


def test_one_file_of_a_recording(recording: Path) -> None:
    """Each file is a set too, by the same rules; a part that is left is read like any."""
    path = sorted(recording.glob("*.gz"))[2]
    part = path.rename(path.with_name(path.name + ".part"))
    dataset = open_dataset(part, instrument_for(part, "BTC"))
    assert kinds(dataset) == [(START + 3 * SECOND, BookSnapshot)]
    assert dataset.name == path.name.partition(".")[0]


def test_a_folder_by_a_relative_path(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that one stands in has its own name."""
    monkeypatch.chdir(recording)
    assert find_set(".").name == "captured"
