"""Raw Hyperliquid lines become events; a line that cannot be read is named by file and number."""

import gzip
from pathlib import Path

import msgspec
import pytest

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Event, Mark, Trade
from mmpi.instrument import BUY, SELL
from mmpi.research import jsonl
from mmpi.research.grid import Tally
from mmpi.research.instruments import lookup
from mmpi.runtime.recording import Gap, gap_line
from mmpi.venues.hyperliquid.session import HyperliquidSession

BTC = lookup("hyperliquid_btc")


def book(time: int, bid: str = "100.5", ask: str = "101", coin: str = "BTC", size: str = "0.5") -> str:
    """Return an l2Book message of one level a side."""
    levels = [[{"px": bid, "sz": size, "n": 1}], [{"px": ask, "sz": "1", "n": 2}]]
    return message("l2Book", {"coin": coin, "time": time, "levels": levels})


def trade(time: int, side: str = "B", coin: str = "BTC", price: str = "101", size: str = "0.00002") -> str:
    """Return a trades message of one trade; its id is its time."""
    one = {"coin": coin, "side": side, "px": price, "sz": size, "time": time, "tid": time, "hash": "0x0"}
    return message("trades", [one])


def message(channel: str, content: object) -> str:
    """Return any message as the venue frames it."""
    return msgspec.json.encode({"channel": channel, "data": content}).decode()


def read(path: Path, text: str, tally: Tally) -> list[BookSnapshot | Trade | Mark]:
    """Return all events of a file with this text."""
    path.write_text(text)
    return list(jsonl.lines(path, BTC, tally))


def test_lines_become_events(tmp_path: Path) -> None:
    """The prefix is the receive time; the message's own time is the exchange time."""
    tally = Tally()
    events = read(tmp_path / "x.jsonl", f"7000000 {book(5)}\n8000000 {trade(6, 'A')}\n", tally)
    assert events == [
        BookSnapshot(7_000_000, "BTC", 5_000_000, 0, ((1005, 50_000),), ((1010, 100_000),)),
        Trade(8_000_000, "BTC", 6_000_000, 6, SELL, 1010, 2),
    ]
    assert tally == Tally(done=(tmp_path / "x.jsonl").stat().st_size)


HOUR = 3600 * 10**9


def context(coin: str = "BTC", **ctx: str) -> str:
    """Return an activeAssetCtx message."""
    return message("activeAssetCtx", {"coin": coin, "ctx": ctx | {"openInterest": "1.0"}})


def test_asset_contexts_become_marks(tmp_path: Path) -> None:
    """Mark and oracle price arrive in float ticks; the rate is paid at the next full hour after the receive time."""
    told = context(markPx="77562.05", oraclePx="77605.0", funding="-0.0000015186")
    text = f"{7 * HOUR + 5} {told}\n{7 * HOUR + 6} {context('ETH', markPx='1')}\n"
    tally = Tally()
    (event,) = read(tmp_path / "x.jsonl", text, tally)
    assert event == Mark(7 * HOUR + 5, "BTC", 0, 775_620.5, 776_050.0, -0.0000015186, 8 * HOUR)
    assert (tally.ignored, tally.missing_marks) == (1, 0)


def test_what_a_context_does_not_tell_is_not_made_up(tmp_path: Path) -> None:
    """A missing price is 0.0, without a rate no payment is due; before any time is known a context is left out."""
    tally = Tally()
    events = read(tmp_path / "x.jsonl", f"{context(markPx='1')}\n{book(5)}\n{context(markPx='77562.0')}\n", tally)
    assert events[1:] == [Mark(5_000_000, "BTC", 0, 775_620.0, 0.0, 0.0, 0)]
    assert (tally.ignored, tally.missing_marks) == (1, 2)


def test_without_prefix_the_own_time_never_goes_back(tmp_path: Path) -> None:
    """A trade stamped a little before the last book is received with it, not before it."""
    events = read(tmp_path / "x.jsonl", f"{book(5)}\n{book(9)}\n{trade(8)}\n{book(10)}\n", Tally())
    assert [event.recv_ts for event in events] == [5_000_000, 9_000_000, 9_000_000, 10_000_000]


def test_other_channels_and_coins_are_counted(tmp_path: Path) -> None:
    """Only the chosen coin's books and trades become events; the rest is counted, blank lines are not."""
    ignored = ["Websocket connection established.", message("pong", None), book(6, coin="ETH"), trade(6, coin="ETH")]
    lines = [book(5), *ignored, "", trade(6)]
    tally = Tally()
    events = read(tmp_path / "x.jsonl", "\n".join(lines), tally)
    assert [type(event) for event in events] == [BookSnapshot, Trade]
    assert tally.ignored == 4


def test_backlog_trades_are_counted(tmp_path: Path) -> None:
    """A trade before any book, or not later than the first one, which shows its effect, had none to trade against."""
    tally = Tally()
    events = read(tmp_path / "x.jsonl", "\n".join([trade(6), book(5), trade(4), trade(5), trade(6)]), tally)
    assert [event.exch_ts for event in events] == [5_000_000, 6_000_000]
    assert tally.backlog_trades == 3


def test_a_gap_starts_the_backlog_anew(tmp_path: Path) -> None:
    """Where a recorder marked a gap, trades count from the next book on: the new connection repeats older ones."""
    tally, gap = Tally(), gap_line(9_000_000, Gap("closed", 6_000_000)).decode().rstrip()
    lines = [f"5000000 {book(5)}", f"6000000 {trade(6)}", gap, f"9000001 {trade(6)}", f"9000002 {book(8)}"]
    lines += [f"9000003 {trade(8)}", f"9000004 {trade(9)}"]
    events = read(tmp_path / "x.jsonl", "\n".join(lines), tally)
    assert [event.exch_ts for event in events] == [5_000_000, 6_000_000, 8_000_000, 9_000_000]
    assert (tally.backlog_trades, tally.ignored) == (2, 0)


def test_only_a_gap_in_something_is_one() -> None:
    """The mark at a recording's start, and a second one before anything came, are no further gaps."""
    reader = jsonl.LineReader(BTC, Tally())
    for number, text in enumerate(["gap", "book", "gap", "gap", "book", "gap"]):
        reader.events(gap_line(number, Gap("x")) if text == "gap" else f"{number} {book(number)}".encode())
    assert reader.gaps == 2


def test_numbers_off_the_grid_move_against_us(tmp_path: Path) -> None:
    """Bids down, asks up, a buyer's trade down, sizes down; unusable levels and trades go; all counted."""
    lines = [book(5, bid="100.55", ask="101.01", size="0.000019"), trade(6, "B", price="101.05"), trade(7, size="0")]
    tally = Tally()
    snapshot, taken = read(tmp_path / "x.jsonl", "\n".join([*lines, book(8, bid="0")]), tally)[:2]
    assert isinstance(snapshot, BookSnapshot)
    assert isinstance(taken, Trade)
    assert (snapshot.bids, snapshot.asks) == (((1005, 1),), ((1011, 100_000),))
    assert (taken.side, taken.price) == (BUY, 1010)
    assert (tally.off_tick, tally.off_lot, tally.missing_levels, tally.empty_trades) == (3, 1, 1, 1)


def test_compressed_files_read_the_same(tmp_path: Path) -> None:
    """Plain, gzip and zstd files of the same lines give the same events."""
    text = f"7000000 {book(5)}\n8000000 {trade(6)}\n"
    plain = read(tmp_path / "x.jsonl", text, Tally())
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert list(jsonl.lines(tmp_path / "x.jsonl.gz", BTC, Tally())) == plain
    pa = pytest.importorskip("pyarrow", reason="zstd comes with the research extra (pyarrow)")
    (tmp_path / "x.jsonl.zst").write_bytes(pa.Codec("zstd").compress(text.encode(), asbytes=True))
    assert list(jsonl.lines(tmp_path / "x.jsonl.zst", BTC, Tally())) == plain


@pytest.mark.parametrize("keep", [1, 10, 30, -1])
def test_a_truncated_line_is_named(tmp_path: Path, keep: int) -> None:
    """A message cut anywhere names file, line and the start of the text."""
    cut = book(6)[:keep]
    with pytest.raises(ConfigError, match=r"x\.jsonl:2: not a Hyperliquid message \(.+\): '\{"):
        read(tmp_path / "x.jsonl", f"{book(5)}\n{cut}", Tally())


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "[1, 2]",
        "abc " + book(5),
        book(5).replace("100.5", "many"),
        book(5).replace('"coin"', '"kind"'),
        message("l2Book", None),
        '{"channel":"x","data":' + "[" * 100_000,
        book(5) + "\n" + trade(6, "buy"),
        "9 " + book(5) + "\n8 " + book(6),
        f"{2**63} " + book(5),
        "9 " + book(10**13),
        trade(10**13, "B"),
    ],
)
def test_a_bad_line_is_an_error(tmp_path: Path, line: str) -> None:
    """No JSON, a foreign shape, no number, an unknown side, time going backwards: one error with the line's number."""
    number = line.count("\n") + 1
    with pytest.raises(ConfigError, match=rf"x\.jsonl:{number}: not a Hyperliquid message"):
        read(tmp_path / "x.jsonl", line, Tally())


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign"])
def test_a_damaged_gzip_is_named(tmp_path: Path, damage: str) -> None:
    """A gzip file that ends early, or is none, names file and line."""
    whole = bytearray(gzip.compress("\n".join(book(i) for i in range(1, 500)).encode()))
    if damage == "flip":
        whole[len(whole) // 2 : len(whole) // 2 + 8] = b"\xff" * 8
    content = {"cut": bytes(whole[: len(whole) // 2]), "flip": bytes(whole), "foreign": b"not gzip"}[damage]
    (tmp_path / "x.jsonl.gz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.jsonl\.gz:\d+: (cannot be decompressed|not a Hyperliquid message)"):
        list(jsonl.lines(tmp_path / "x.jsonl.gz", BTC, Tally()))


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_zstd_is_named(tmp_path: Path, damage: str) -> None:
    """A zstd file that ends early, or is none, names file and line."""
    pa = pytest.importorskip("pyarrow", reason="zstd comes with the research extra (pyarrow)")
    whole = pa.Codec("zstd").compress("\n".join(book(i) for i in range(1, 500)).encode(), asbytes=True)
    (tmp_path / "x.jsonl.zst").write_bytes({"cut": whole[: len(whole) // 2], "foreign": b"not zstd at all"}[damage])
    with pytest.raises(ConfigError, match=r"x\.jsonl\.zst:\d+: "):
        list(jsonl.lines(tmp_path / "x.jsonl.zst", BTC, Tally()))


def test_a_file_without_line_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is an error before it is held in memory whole."""
    monkeypatch.setattr(jsonl, "MAX_LINE", 50)
    with pytest.raises(ConfigError, match=r"x\.jsonl:1: longer than 50 bytes"):
        read(tmp_path / "x.jsonl", book(5), Tally())


def test_a_recording_reads_as_the_session_read_it(data: Path) -> None:
    """Backtest and live session make the same books and trades of the same recorded frames."""
    path = data / "wire/hyperliquid/ws_l2book_trades_btc_20250126.jsonl.gz"
    session = HyperliquidSession({"BTC": (BTC, 0)}, "", None, cl_ord_prefix="0" * 8, expires_after_ms=2000)
    live: list[Event] = []
    for line in gzip.decompress(path.read_bytes()).splitlines():
        stamp, _, frame = line.partition(b" ")
        live += session.receive(frame, int(stamp))
    assert [*jsonl.lines(path, BTC, Tally())] == live


def test_recorded_lines_are_all_on_the_grid(data: Path) -> None:
    """The venue's own recorded messages need no rounding, and only the start's backlog is left out."""
    tally = Tally()
    events = list(jsonl.lines(data / "wire/hyperliquid/ws_l2book_trades_btc_20250126.jsonl.gz", BTC, tally))
    assert len(events) == 80
    assert msgspec.structs.replace(tally, done=0) == Tally(backlog_trades=30)
