"""mmpi.research.recorded: a recording reads as the live session read it, and a cut costs only what is behind it."""

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_builders import (
    LARGE,
    START,
    bbo_frame,
    book_frame,
    context_frame,
    line,
    message,
    trade_frame,
    write_files,
)

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Event, Trade
from mmpi.instrument import MILLISECOND, SECOND
from mmpi.research import recorded
from mmpi.research.instruments import lookup
from mmpi.research.recorded import RecordedTally, events
from mmpi.runtime.gzip_part import GzipPart
from mmpi.runtime.recording import (
    About,
    Gap,
    file_name,
    market_of,
    recorded_files,
    write_about,
)
from mmpi.runtime.rotation import Limits
from mmpi.venues.hyperliquid.messages import instrument_from_meta
from mmpi.venues.hyperliquid.session import HyperliquidSession

pytestmark = pytest.mark.slow

BTC = lookup("hyperliquid_btc")
START_MS = START // MILLISECOND


def session() -> HyperliquidSession:
    """Return a live session that listens only."""
    return HyperliquidSession({"BTC": (BTC, 0)}, "", None, cl_ord_prefix="0" * 8, expires_after_ms=2000)


def live(items: list[tuple[int, bytes | Gap]]) -> list[Event]:
    """Return what a live session makes of the frames; at a gap it is disconnected and connects again."""
    heard, told = session(), []
    for ts, item in items:
        told += heard.disconnected(ts) if isinstance(item, Gap) else heard.receive(item, ts)
    assert heard.unreadable == 0
    return told


def read(folder: Path) -> tuple[list[Event], RecordedTally]:
    """Return the events of a folder and their tally."""
    tally = RecordedTally()
    return [*events(recorded_files(folder), BTC, tally)], tally


def book_items(count: int) -> list[tuple[int, bytes | Gap]]:
    """Return a start and books that can be told apart, a second apart."""
    frames = [(START + n * SECOND, book_frame(START_MS + n, 100.0 + n % 50 * 0.5)) for n in range(1, count + 1)]
    return [(START, Gap("start")), *frames]


FRAMES = st.one_of(
    st.builds(lambda ms: ("book", ms), st.integers(-5, 5)),
    st.builds(lambda *ms: ("trade", *ms), st.integers(-9, 5), st.integers(-9, 5)),
    st.sampled_from([("context", 0), ("bbo", 0), ("eth", 0), ("greeting", 0), ("gap", 0)]),
)


def framed(kind: tuple[str, int], now_ms: int) -> bytes | Gap:
    """Return the frame of a kind, with exchange times around now."""
    name, *offsets = kind
    times = [now_ms + offset for offset in offsets]
    match name:
        case "book":
            return book_frame(times[0], 100.0 + times[0] % 5)
        case "trade":
            return trade_frame(*times)
        case "context":
            return context_frame(100.0 + now_ms % 3)
        case "bbo":
            return bbo_frame(now_ms)
        case "eth":
            return book_frame(now_ms, coin="ETH")
        case "greeting":
            return message("subscriptionResponse", {"method": "subscribe", "subscription": {"type": "trades"}})
    return Gap("closed", 1)


@given(st.lists(st.tuples(FRAMES, st.integers(0, 4)), max_size=40), st.integers(1, 300), st.integers(1, 7))
def test_a_recording_reads_as_the_session_heard_it(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[tuple[tuple[str, int], int]],
    file_bytes: int,
    batch_lines: int,
) -> None:
    """Whatever came, over however many files and gaps, the events are those of a session that got the very frames."""
    folder, now, items = tmp_path_factory.mktemp("heard"), START, [(START, Gap("start"))]
    for kind, step in kinds:
        now += step * MILLISECOND
        items.append((now, framed(kind, now // MILLISECOND)))
    write_files(folder, items, Limits(file_bytes, 10 * SECOND), batch_lines=batch_lines)
    told, tally = read(folder)
    assert told == live(items)
    assert tally.torn_files == 0
    assert tally.done == sum(path.stat().st_size for path in folder.iterdir())


def test_trades_repeated_after_a_gap_are_told_once(tmp_path: Path) -> None:
    """A new connection repeats recent trades: those from before its first book have been there, or were missed."""
    items = [
        (START, Gap("start")),
        (START + 1, book_frame(START_MS)),
        (START + 2, trade_frame(START_MS + 1)),
        (START + 9, Gap("closed", START + 2)),
        (START + 10, trade_frame(START_MS + 1, START_MS + 2)),
        (START + 11, book_frame(START_MS + 3)),
        (START + 12, trade_frame(START_MS + 2, START_MS + 3, START_MS + 4)),
    ]
    write_files(tmp_path, items)
    told, tally = read(tmp_path)
    assert [event.trade_id - START_MS for event in told if isinstance(event, Trade)] == [1, 4]
    assert (tally.gaps, tally.backlog_trades) == (1, 4)


def test_a_gap_before_anything_is_none(tmp_path: Path) -> None:
    """The start of a recording is marked like a gap, but nothing is missing there."""
    write_files(tmp_path, book_items(2))
    assert read(tmp_path)[1].gaps == 0


def test_two_recorders_one_after_the_other(tmp_path: Path) -> None:
    """Files of a later run follow those of an earlier one, behind a gap."""
    write_files(tmp_path, book_items(3))
    later = START + 10**6 * SECOND
    write_files(tmp_path, [(later, Gap("start")), (later + 1, book_frame(later // MILLISECOND))])
    told, tally = read(tmp_path)
    assert [type(event) for event in told] == [BookSnapshot] * 4
    assert (tally.gaps, tally.torn_files) == (1, 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a finished file with many flushes in it."""
    folder = tmp_path_factory.mktemp("whole")
    write_files(folder, book_items(300))
    (path,) = recorded_files(folder)
    return path.read_bytes()


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["", ".part"]))
def test_a_file_cut_anywhere_loses_only_what_is_behind(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, cut: float, part: str
) -> None:
    """Of any prefix of a file every whole line that is in it is read, whatever its name; the cut is counted."""
    folder, data = tmp_path_factory.mktemp("cut"), whole[: int(cut * len(whole))]
    (folder / (file_name(START) + part)).write_bytes(data)
    text = zlib.decompressobj(31).decompress(data) if data else b""
    told, tally = read(folder)
    # The first whole line is the mark of the start.
    assert len(told) == max(0, text.count(b"\n") - 1)
    assert [event.recv_ts for event in told] == [START + n * SECOND for n in range(1, len(told) + 1)]
    assert (tally.torn_files, tally.gaps) == (1, 0)


@pytest.mark.parametrize("cut", [0, 5, 2000, -1])
def test_a_cut_between_files_is_a_gap(whole: bytes, tmp_path: Path, cut: int) -> None:
    """What a killed recorder left is read to its end, and the next file from its beginning; between them is a gap."""
    first = tmp_path / file_name(START)
    first.write_bytes(whole[:cut])
    later = START + 10**6 * SECOND
    write_files(tmp_path, [(later, Gap("start")), (later + 1, book_frame(later // MILLISECOND))])
    told, tally = read(tmp_path)
    assert told[-1].recv_ts == later + 1
    assert (tally.torn_files, tally.gaps) == (1, 1 if len(told) > 1 else 0)
    assert (len(told) > 1) == (cut not in (0, 5))


def test_a_part_is_read_while_it_grows(tmp_path: Path) -> None:
    """A reader beside the recorder sees everything up to the last flush."""
    part = GzipPart(tmp_path / file_name(START))
    part.write(line(START, book_frame(START_MS)))
    part.flush()
    told, tally = read(tmp_path)
    assert (len(told), tally.torn_files) == (1, 1)
    paths = recorded_files(tmp_path)
    part.finish()
    # The list was made before the file got its name.
    tally = RecordedTally()
    assert [*events(paths, BTC, tally)] == told
    assert tally.torn_files == 0


@pytest.mark.parametrize("damage", ["flip", "foreign", "crc"])
def test_damage_elsewhere_is_named(whole: bytes, tmp_path: Path, damage: str) -> None:
    """A finished file that is damaged in its middle is an error with its name, not a shorter market."""
    half = len(whole) // 2
    data = {
        "flip": whole[:half] + bytes(each ^ 0xFF for each in whole[half : half + 40]) + whole[half + 40 :],
        "foreign": b"this was never gzip",
        "crc": whole[:-8] + b"\0\0\0\0" + whole[-4:],
    }[damage]
    (tmp_path / file_name(START)).write_bytes(data)
    with pytest.raises(ConfigError, match=r"\.jsonl\.gz:\d+: (cannot be decompressed|not a Hyperliquid message)"):
        read(tmp_path)


@pytest.mark.parametrize("count", [1, 300, 5000])
@pytest.mark.parametrize("garbage", [bytes(5000), b"\xff" * 5000, b"\0\0\xff\xff" + bytes(9)])
def test_garbage_behind_a_part_is_cut(tmp_path: Path, count: int, garbage: bytes) -> None:
    """What a power cut left behind the last flush of an unfinished file is passed over, and nothing else is."""
    part = GzipPart(tmp_path / file_name(START))
    for place in range(0, count, 100):
        numbers = range(place, min(place + 100, count))
        part.write(b"".join(line(START + n, book_frame(START_MS, 100.0 + n % 97 * 0.5)) for n in numbers))
        part.flush()
    with part.part.open("ab") as file:
        file.write(garbage)
    told, tally = read(tmp_path)
    assert [event.recv_ts for event in told] == list(range(START, START + count))
    assert (tally.torn_files, tally.done) == (1, part.part.stat().st_size)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """A line that is no message stops the reading with file and line."""
    write_files(tmp_path, [(START, book_frame(START_MS)), (START + 1, b"hello")])
    with pytest.raises(ConfigError, match=r"Z\.jsonl\.gz:2: not a Hyperliquid message"):
        read(tmp_path)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is an error before it is held in memory whole."""
    monkeypatch.setattr(recorded, "MAX_LINE", 50)
    write_files(tmp_path, book_items(1))
    with pytest.raises(ConfigError, match=r"\.jsonl\.gz:\d: longer than 50 bytes; allowed: one message a line"):
        read(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder in a file's place is one error."""
    (tmp_path / file_name(START)).mkdir()
    with pytest.raises(ConfigError, match=r"\.jsonl\.gz: cannot be read: Is a directory"):
        read(tmp_path)


# Which files, which instrument ------------------------------------------------------------------------------------


def about(**szs: int) -> About:
    """Return what a folder says that holds these coins."""
    rules = {name: market_of(instrument_from_meta(name, decimals)) for name, decimals in szs.items()}
    return About("hyperliquid", "mainnet", "https://venue", "2026-11-28T12:00:00Z", "0.1.0", rules)


def test_a_folder_and_a_file_of_it(tmp_path: Path) -> None:
    """A folder is all of its files in order, a file is itself, and anything else is no recording."""
    write_files(tmp_path, book_items(3), Limits(1, SECOND))
    files = recorded_files(tmp_path)
    assert len(files) > 1
    assert recorded.find(tmp_path) == tuple(files)
    assert recorded.find(files[1]) == (files[1],)
    assert recorded.find(tmp_path / file_name(0)) == ()
    assert recorded.find(tmp_path.parent) == ()


def test_a_recording_that_has_just_begun(tmp_path: Path) -> None:
    """A folder that says it is a recording but has no file yet is named as that."""
    write_about(tmp_path, about(BTC=5))
    with pytest.raises(ConfigError, match=r": a recording without a file in it"):
        recorded.find(tmp_path)


def test_the_only_coin_needs_no_name(tmp_path: Path) -> None:
    """A coin that no table lists is read by the rules of its venue; a name may be given in any case."""
    write_about(tmp_path, about(kNEW=0))
    new = instrument_from_meta("kNEW", 0)
    assert recorded.instrument_in(tmp_path, "", "", "") == new
    assert recorded.instrument_in(tmp_path, "KNEW", "", "") == new
    assert recorded.instrument_in(tmp_path, "kNEW", "0.5", "10").tick_size == "0.5"


def test_the_coins_that_there_are(tmp_path: Path) -> None:
    """Of several coins one has to be chosen, and it has to be one of them."""
    write_about(tmp_path, about(BTC=5, ETH=4))
    assert recorded.instrument_in(tmp_path, "eth", "", "").name == "ETH"
    with pytest.raises(ConfigError, match=r"give --instrument NAME; it is a recording of BTC, ETH$"):
        recorded.instrument_in(tmp_path, "", "", "")
    with pytest.raises(ConfigError, match=r"^--instrument 'SOL': .* is a recording of BTC, ETH$"):
        recorded.instrument_in(tmp_path, "SOL", "", "")


def test_files_without_their_rules(tmp_path: Path) -> None:
    """Without recording.json the table stands in, or tick and lot."""
    assert recorded.instrument_in(tmp_path, "btc", "", "") == BTC
    assert recorded.instrument_in(tmp_path, "NEW", "0.1", "1").name == "NEW"
    with pytest.raises(ConfigError, match=r"no recording\.json beside the recorded files; give --instrument NAME"):
        recorded.instrument_in(tmp_path, "", "", "")
    with pytest.raises(ConfigError, match="no tick and lot known"):
        recorded.instrument_in(tmp_path, "NEW", "", "")


def test_any_gzip_tool_reads_a_recording(tmp_path: Path) -> None:
    """The format is what it says: gzip, a receive time and the venue's own bytes in each line."""
    items = [(START, book_frame(1)), (START + 1, trade_frame(2))]
    write_files(tmp_path, items, LARGE)
    (path,) = recorded_files(tmp_path)
    with gzip.open(path) as file:
        found = [text.rstrip(b"\n").partition(b" ") for text in file]
    assert [(int(stamp), frame) for stamp, _, frame in found] == items
