"""Backtest: the whole engine against the simulated exchange, on generated and recorded markets."""

import random
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import msgspec
import pytest
from engine_builders import PATIENCE, PREFIX, A, book, engine_params
from journals import records

from mmpi.actions import Approved, NewOrder
from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.engines import checkpoint, rebuild
from mmpi.events import Connected, Event, ExecReport, ExecType, MarketEvent, Stopping, Timer, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Nanos
from mmpi.journal.record import EVENT, decode_event, decode_header, encode_payload, frame
from mmpi.journal.writer import JournalWriter
from mmpi.quoting.layered import LayeredConfig
from mmpi.research.backtest import Backtest
from mmpi.risk import RiskConfig
from mmpi.runtime.replay import verify_replay
from mmpi.runtime.step import NoJournal
from mmpi.session import NEVER
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import GENERATED, Market, MarketConfig

START = 1_700_000_000 * SECOND
SEGMENT = 2**19
"""Small enough for several checkpoints in one run."""


class Watch:
    """A sink that passes everything on and looks at the engine before each event."""

    def __init__(self, engine: Engine, sink: NoJournal | JournalWriter) -> None:
        self.engine, self.sink = engine, sink
        self.crossed = 0
        self.times: list[Nanos] = []
        self.placed: dict[str, NewOrder] = {}
        self.trades = 0
        self.acted = False

    def event(self, event: Event) -> bool:
        kept = self.sink.event(event)
        self.times.append(event.recv_ts)
        self.trades += isinstance(event, ExecReport) and event.exec_type is ExecType.TRADE
        if self.acted:
            self.acted = False
            for desk in self.engine.desks.values():
                live = desk.orders.live.values()
                bids = [order.price for order in live if order.side == BUY]
                asks = [order.price for order in live if order.side == SELL]
                self.crossed += bool(bids and asks and max(bids) >= min(asks))
        return kept

    def action(self, approved: Approved) -> bool:
        kept = self.sink.action(approved)
        self.acted = True
        if isinstance(approved.action, NewOrder):
            assert approved.action.cl_ord_id not in self.placed
            self.placed[approved.action.cl_ord_id] = approved.action
        return kept


def engine_for(*instruments: Instrument) -> Engine:
    """Return an engine with the built-in quoter and limits."""
    desks = tuple(DeskParams(each, LayeredConfig()) for each in instruments)
    return Engine(EngineParams(PREFIX, desks, RiskConfig(session_start_s=NEVER), PATIENCE))


def generated(seconds: float, seed: int = 7) -> Iterator[MarketEvent]:
    """Return some minutes of the built-in market, with a feed stall every minute or two."""
    config = MarketConfig(seed=seed, stall_every_s=90)
    market = Market(list(GENERATED.values()), config, random.Random(seed)).events(START)
    return takewhile(lambda event: event.recv_ts < START + round(seconds * SECOND), market)


def run(engine: Engine, market: Iterable[MarketEvent], folder: Path | None = None, seed: int = 1) -> Watch:
    """Run a backtest to its end, journalled if there is a folder, and check what any run must end with."""
    sink: NoJournal | JournalWriter = NoJournal()
    if folder is not None:
        sink = JournalWriter(
            folder, segment_bytes=SEGMENT, max_bytes=None, checkpoint=lambda: checkpoint(engine, "d"), buffered=True
        )
    watch = Watch(engine, sink)
    Backtest(engine, watch, SimConfig(seed=seed)).run(market)
    if isinstance(sink, JournalWriter):
        sink.close()
    assert (engine.stopped, engine.live_orders(), engine.violations, watch.crossed) == (True, 0, 0, 0)
    assert watch.times == sorted(watch.times)
    assert watch.trades == engine.session.fills
    assert sum(desk.orders.placed for desk in engine.desks.values()) == len(watch.placed)
    for desk in engine.desks.values():
        position = desk.position
        assert position.equity == position.spread + position.inventory + position.funding - position.fees
        assert (desk.orders.illegal, desk.orders.overfilled, desk.orders.owed) == (0, 0, {})
    return watch


@pytest.mark.slow
def test_the_generated_market_twice_is_the_same_journal(tmp_path: Path) -> None:
    """I10, I11, I14: two instruments, feed stalls: fills, exact profit, a clean end, the same bytes, exact replay."""
    journals = []
    for name in ("one", "two"):
        engine = engine_for(*GENERATED.values())
        run(engine, generated(300), tmp_path / name)
        assert engine.session.fills > 10
        assert all(desk.position.fills > 0 for desk in engine.desks.values())
        journals.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert journals[0] == journals[1]
    assert len(journals[0]) > 3

    # The same journal replays exactly, as a whole and from each of its checkpoints.
    verdict = verify_replay(tmp_path / "one", rebuild)
    assert verdict.mismatch is None
    assert verdict.exact
    assert verdict.checkpoints == len(journals[0])
    assert verdict.actions > 1000
    for segment in sorted((tmp_path / "one").iterdir()):
        alone = verify_replay(segment, rebuild)
        assert (alone.exact, alone.mismatch) == (True, None)
        assert alone.events > 0

    # One byte of one event flipped is found, and where.
    segment = sorted((tmp_path / "two").iterdir())[1]
    event = next(each for each in records(segment) if each.kind == EVENT and each.offset > 100_000)
    data = bytearray(segment.read_bytes())
    data[event.offset + 30] ^= 0x10
    segment.write_bytes(data)
    verdict = verify_replay(tmp_path / "two", rebuild)
    assert not verdict.exact
    assert len(verdict.damage) == 1
    assert verdict.damage[0].startswith(f"record {event.number} at offset {event.offset} of {segment.name}: ")


def test_a_forged_fill_price_is_found(tmp_path: Path) -> None:
    """A fill's price changed under a good CRC changes no action, but the last state does not agree with it."""
    run(engine_for(*GENERATED.values()), generated(60), tmp_path)
    (segment,) = tmp_path.iterdir()
    found = records(segment)
    fills = [each for each in found if each.kind == EVENT and getattr(decode_event(each), "exec_id", "")]
    forged = msgspec.structs.replace(decode_event(fills[-1]), price=decode_event(fills[-1]).price + 1)
    data = segment.read_bytes()
    marker = decode_header(data).marker
    old = frame(marker, fills[-1].number, EVENT, fills[-1].payload)
    segment.write_bytes(data.replace(old, frame(marker, fills[-1].number, EVENT, encode_payload(forged))))
    verdict = verify_replay(tmp_path, rebuild)
    assert (verdict.damage, verdict.exact) == ((), False)
    assert verdict.mismatch is not None
    assert verdict.mismatch.record == found[-2].number


def test_another_seed_is_another_run() -> None:
    """The exchange's seed decides latencies, and so what is filled."""
    runs = [engine_for(*GENERATED.values()) for _ in range(2)]
    for seed, engine in enumerate(runs):
        run(engine, generated(60), seed=seed)
    assert runs[0].checkpoint() != runs[1].checkpoint()


def test_nothing_is_known_before_it_happens() -> None:
    """No look ahead: up to any moment the run is the same whatever the market does afterwards."""

    def actions(until: float, then: int) -> list[bytes]:
        engine = Engine(engine_params((A,)))
        seen: list[Approved] = []

        class Record(NoJournal):
            def action(self, approved: object) -> bool:
                assert isinstance(approved, Approved)
                seen.append(approved)
                return True

        end = START + round(until * SECOND)
        quiet = [book(START + n * SECOND // 4, 999 + n % 3, 1001 + n % 3) for n in range(round(until * 4))]
        later = [book(end + n * SECOND // 4, 999 + then, 1001 + then) for n in range(20)]
        Backtest(engine, Record(), SimConfig()).run([*quiet, *later])
        return [msgspec.msgpack.encode(each) for each in seen if each.ts < end]

    assert len(actions(10, 0)) > 10
    assert actions(10, 0) == actions(10, 50) == actions(10, -50)


def test_reports_and_timers_come_at_their_time() -> None:
    """Orders and reports take their latency, a stalled feed is noticed by timer, and the end is clean."""
    engine = Engine(engine_params((A,)))
    seen: list[Event] = []

    class Record(NoJournal):
        def event(self, event: Event) -> bool:
            seen.append(event)
            return True

    sim = SimConfig(latency_in_ms=30, latency_out_ms=20, jitter_ms=0)
    backtest = Backtest(engine, Record(), sim)
    backtest.run([book(START), book(START + 2 * SECOND), book(START + 60 * SECOND)])
    assert seen[0] == Connected(START, "sim")
    acks = [each.recv_ts for each in seen if isinstance(each, ExecReport) and each.exec_type is ExecType.NEW]
    # 50 ms until reconciled, which places at once, and 50 ms until acknowledged.
    assert acks[:4] == [START + 100 * MILLISECOND] * 4
    stale = next(each for each in seen if isinstance(each, Timer) and each.recv_ts > START + 2 * SECOND)
    assert stale.recv_ts == START + 7 * SECOND + 1
    assert [type(each) for each in seen if each.recv_ts >= START + 60 * SECOND][1] is Stopping
    assert seen[-1].recv_ts < START + 61 * SECOND
    assert engine.stopped


def test_a_market_without_events_is_over_at_once() -> None:
    """No data: nothing is placed and nothing hangs."""
    engine = engine_for(A)
    Backtest(engine, NoJournal(), SimConfig()).run([])
    assert (engine.placement.counter, engine.events) == (0, 1)


def test_progress_is_told() -> None:
    """Progress comes at the first event and every 2048 after it, with the market's time."""
    told: list[Nanos] = []
    market = [Trade(START + n, "A", 0, n, BUY, 1000, 1) for n in range(5000)]
    Backtest(engine_for(A), NoJournal(), SimConfig()).run(market, told.append)
    assert told == [START, START + 2048, START + 4096]


# Recorded markets -------------------------------------------------------------------------------------------------


def recorded(data: Path, name: str) -> tuple[Engine, Iterable[MarketEvent]]:
    """Return an engine for a recorded set and its events."""
    pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")
    from mmpi.research.dataset import instrument_for, open_dataset

    path = data / "market" / name
    if not path.with_name(f"{name}.book10.parquet").is_file():
        pytest.skip(f"{name} is not on this machine")
    instrument = instrument_for(path)
    return engine_for(instrument), open_dataset(path, instrument)


SETS = [
    "hyperliquid_btc_20250904",
    "binance_usdm_btcusdt_20240808",
    pytest.param("binance_spot_nexousdt_20240724", marks=pytest.mark.slow),
    pytest.param("standx_btcusd_20260106", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", SETS)
def test_a_recorded_market_is_quoted_to_its_end(data: Path, name: str) -> None:
    """I11: real books, locked ones too: fills, profit exact to the last unit, own orders never crossed, a clean end."""
    engine, market = recorded(data, name)
    run(engine, market)
    assert engine.session.fills > 0
    assert engine.gate.breach == ""
    desk = next(iter(engine.desks.values()))
    assert desk.position.volume > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hyperliquid_btc_20250904", "binance_usdm_btcusdt_20240808"])
def test_a_recorded_market_replays(data: Path, tmp_path: Path, name: str) -> None:
    """I10: two runs over a recording write the same bytes, and they replay exactly."""
    journals = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        engine, market = recorded(data, name)
        run(engine, market, folder)
        journals.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert journals[0] == journals[1]
    verdict = verify_replay(tmp_path / "one", rebuild)
    assert (verdict.exact, verdict.mismatch, verdict.checkpoints) == (True, None, len(journals[0]))
