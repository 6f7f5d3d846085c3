"""mmpi bench: what it measures, what it counts, and that both sides do their work."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest

from bench.books import COIN, INSTRUMENT
from mmpi.cli import main
from mmpi.commands.bench import JOB
from mmpi.desk import DeskParams
from mmpi.engine import EngineParams
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND
from mmpi.research import wire_bench
from mmpi.research.frames import Frame
from mmpi.risk import RiskConfig
from mmpi.sim.market import Market, MarketConfig

BOOKS = 60
PARAMS = EngineParams("0x" + "00" * 8, (DeskParams(INSTRUMENT, JOB),), RiskConfig(), 5 * SECOND)


def wire(event: BookSnapshot | Trade) -> bytes:
    """Return an event as Hyperliquid sends it."""
    price, size, ms = INSTRUMENT.price_text, INSTRUMENT.size_text, event.exch_ts // MILLISECOND
    if isinstance(event, BookSnapshot):
        levels = [[{"px": price(p), "sz": size(s), "n": 1} for p, s in side] for side in (event.bids, event.asks)]
        return json.dumps({"channel": "l2Book", "data": {"coin": COIN, "time": ms, "levels": levels}}).encode()
    one = {
        "coin": COIN, "side": "B" if event.side == BUY else "A", "px": price(event.price), "sz": size(event.size),
        "time": ms, "hash": "0x0", "tid": event.trade_id,
    }  # fmt: skip
    return json.dumps({"channel": "trades", "data": [one]}).encode()


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return the messages of a generated market up to BOOKS books, trades between them."""
    market = Market([INSTRUMENT], MarketConfig(stall_every_s=0, trades_per_s=5), random.Random(7))
    found: list[Frame] = []
    for event in islice(market.events(1_700_000_000 * SECOND), 10 * BOOKS):
        if isinstance(event, BookSnapshot | Trade) and sum(frame.is_book for frame in found) < BOOKS:
            is_book = isinstance(event, BookSnapshot)
            found.append(Frame(event.recv_ts, wire(event), is_book, 20 if is_book else 0))
    return found


def test_everything_is_measured(frames: list[Frame]) -> None:
    """Every book is timed on both sides, both trade, the figures are ordered, and the ratio is that of the p50s."""
    result = wire_bench.measure(frames, PARAMS, INSTRUMENT, rounds=3)
    assert (result.n, result.messages, result.rounds, result.compiled) == (BOOKS, len(frames), 3, False)
    assert result.actions >= 10 and result.naive_actions >= 10
    assert result.naive_us is not None and result.ratio is not None
    for times in (result.bytes_to_actions_us, result.naive_us):
        assert 0 < times["min"] <= times["p50"] <= times["p99"]
    assert result.stages_us.keys() == {"decode", "book", "signals", "quote", "orders"}
    assert 1 < result.ratio < 100


def test_the_same_frames_cause_the_same_actions(frames: list[Frame]) -> None:
    """Two runs differ in nothing but time, and five orders a side are left working."""
    first, again = (wire_bench.run_ours(frames, PARAMS, INSTRUMENT) for _ in range(2))
    assert (first.actions, first.orders) == (again.actions, again.orders)
    assert first.orders == 2 * JOB.levels


def test_trades_are_handled_but_not_counted_among_the_books(frames: list[Frame]) -> None:
    """The yardstick reads books only, so only books are compared."""
    assert any(not frame.is_book for frame in frames)
    assert len(wire_bench.run_ours(frames, PARAMS, INSTRUMENT).ns) == BOOKS == len(wire_bench.book_frames(frames))


def test_thin_books_are_handled_and_not_timed(frames: list[Frame]) -> None:
    """A book that the yardstick cannot read counts on neither side; with nothing else there is nothing to measure."""
    one = [{"px": INSTRUMENT.price_text(p), "sz": "1", "n": 1} for p in (1_000_000, 1_000_010)]
    levels = {"coin": COIN, "time": 1_600_000_000_000, "levels": [one[:1], one[1:]]}
    thin = Frame(frames[0].recv_ts, json.dumps({"channel": "l2Book", "data": levels}).encode(), True, 1)
    result = wire_bench.measure([thin, *frames], PARAMS, INSTRUMENT, rounds=1)
    assert (result.n, result.thin_books, result.messages) == (BOOKS, 1, len(frames) + 1)
    with pytest.raises(ConfigError, match="no book with 5 levels a side among 1 messages"):
        wire_bench.measure([thin], PARAMS, INSTRUMENT, rounds=1)


def test_without_any_yardstick_there_is_no_ratio(
    frames: list[Frame], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An installation without the laboratory and the checkout still measures itself."""
    monkeypatch.setattr(wire_bench, "NAIVE", tmp_path / "a")
    monkeypatch.setattr(wire_bench, "REFERENCE", tmp_path / "b")
    result = wire_bench.measure(frames, PARAMS, INSTRUMENT, rounds=1)
    assert (result.naive_us, result.ratio, result.yardstick) == (None, None, "none")
    assert result.bytes_to_actions_us["p50"] > 0


@pytest.mark.slow
def test_the_command_prints_one_line(
    frames: list[Frame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One JSON object with the keys that others build on; the quoter that did the job is stated."""
    path = tmp_path / "day.jsonl"
    path.write_bytes(b"".join(b"%d %s\n" % (frame.recv_ts, frame.raw) for frame in frames))
    assert main(["bench", "--messages", str(path), "--rounds", "1", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    said = json.loads(out)
    assert said.keys() >= {"n", "actions", "bytes_to_actions_us", "stages_us", "naive_us", "ratio", "compiled"}
    assert said["n"] == BOOKS and said["quoter"]["type"] == "avellaneda_stoikov" and said["instrument"] == COIN
    assert main(["bench", "--messages", str(path), "--rounds", "1"]) == 0
    assert "ratio of the p50s" in capsys.readouterr().out


def test_a_coin_without_a_listing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The grid comes from the shipped table, never from the messages."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"channel":"l2Book","data":{"coin":"NOSUCH","time":1,"levels":[[],[]]}}\n')
    assert main(["bench", "--messages", str(path), "--json"]) == 2
    assert "NOSUCH" in capsys.readouterr().err
