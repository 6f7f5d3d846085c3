"""Time per event of the quoting path, always beside a json + Decimal quoter on the same books in the same process.

A machine that is busy slows both, so the ratios stay when the figures do not. Garbage collection is on, as in
production; what the benchmark itself holds is frozen out of it.
"""

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec

from bench.books import COIN, DEPTH, INSTRUMENT, Frame
from mmpi.commands.bench import JOB
from mmpi.config import load_config
from mmpi.engine import Engine
from mmpi.engines import checkpoint, engine_params
from mmpi.events import BookSnapshot, MarketEvent
from mmpi.journal.writer import JournalWriter
from mmpi.quoting.layered import LayeredConfig
from mmpi.research import frames as frames_module
from mmpi.research import wire_bench
from mmpi.research.backtest import Backtest
from mmpi.runtime.step import NoJournal
from mmpi.settings import InstrumentSettings, Settings
from mmpi.venues.hyperliquid.session import HyperliquidSession

PREFIX = "0x" + "00" * 8
ROUNDS = 5
SEGMENT_BYTES = 64 * 2**20
MEMORY_DISK = Path("/dev/shm")
"""Where the quoter's journal is in production: a tmpfs."""


class Work(NamedTuple):
    """What one run over all books took, in microseconds, and how many events the engine handled in it."""

    us: float
    books: int
    events: int

    @property
    def per_book(self) -> float:
        """Return microseconds for one book with all it brings: order reports, timers, the simulated exchange."""
        return self.us / self.books

    @property
    def per_event(self) -> float:
        """Return microseconds for one event of the engine."""
        return self.us / self.events


Runs = dict[str, list[Work]]


def baseline() -> tuple[str, Callable[[], Any]]:
    """Return the yardstick's name and how to make one."""
    name, make = wire_bench.yardstick(INSTRUMENT)
    assert make is not None, "bench/reference.py is part of the project"
    return name, make


def shipped() -> Settings:
    """Return the built-in configuration for the one instrument: three orders a side, moved at most once a second."""
    settings = load_config(None, {}).settings
    quoter = settings.instruments[0].quoter
    return msgspec.structs.replace(settings, instruments=(InstrumentSettings(name=COIN, quoter=quoter),))


def same_job() -> Settings:
    """Return the yardstick's job: five orders a side, and a decision at every book."""
    settings = shipped()
    quoter = LayeredConfig(levels=5, update_interval_s=0.05)
    return msgspec.structs.replace(settings, instruments=(InstrumentSettings(name=COIN, quoter=quoter),))


def decode(frames: Iterable[Frame]) -> list[MarketEvent]:
    """Return the books as events."""
    session = _session()
    events = (event for frame in frames for event in session.receive(frame.raw, frame.recv_ts))
    return [event for event in events if isinstance(event, BookSnapshot)]


def measure(frames: list[Frame], rounds: int = ROUNDS) -> Runs:
    """Return every kind of run's times, each round with all kinds in turn."""
    books = decode(frames)
    make = baseline()[1]
    kinds: dict[str, Callable[[], Work]] = {
        "baseline": lambda: run_baseline(make(), frames),
        "backtest": lambda: run_backtest(shipped(), books),
        "backtest_journal": lambda: run_backtest(shipped(), books, journal=True),
        "backtest_same_job": lambda: run_backtest(same_job(), books),
    }
    gc.collect()
    gc.freeze()
    runs: Runs = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, run in kinds.items():
            gc.collect()
            runs[kind].append(run())
    gc.unfreeze()
    return runs


def wire(frames: list[Frame], rounds: int = ROUNDS) -> wire_bench.Result:
    """Return the times from a book's bytes to actions, as `mmpi bench` measures them."""
    messages = [frames_module.Frame(frame.recv_ts, frame.raw, True, DEPTH) for frame in frames]
    settings = msgspec.structs.replace(shipped(), instruments=(InstrumentSettings(name=COIN, quoter=JOB),))
    return wire_bench.measure(messages, engine_params(settings, {COIN: INSTRUMENT}, PREFIX), INSTRUMENT, rounds)


def us_per_book(works: list[Work]) -> float:
    """Return the median time for a book."""
    return median(work.per_book for work in works)


def us_per_event(works: list[Work]) -> float:
    """Return the median time for an event of the engine."""
    return median(work.per_event for work in works)


def times_faster(runs: Runs, kind: str, per: Callable[[Work], float]) -> float:
    """Return how many times faster than the yardstick a kind is: the median over pairs of one round."""
    return median(
        base.per_book / per(ours) for base, ours in zip(runs["baseline"], runs[kind], strict=True)
    )


def run_baseline(engine: Any, frames: list[Frame]) -> Work:
    """Return the time that the yardstick's on_raw took; its acknowledging and matching are not counted."""
    spent = 0
    for frame in frames:
        started = perf_counter_ns()
        actions = engine.on_raw(frame.raw)
        spent += perf_counter_ns() - started
        engine.ack(actions)
        engine.match()
    return Work(spent / 1000, len(frames), len(frames))


def run_backtest(settings: Settings, books: list[MarketEvent], journal: bool = False) -> Work:
    """Return the time of a whole backtest: engine, simulated exchange, queues, latency, and the journal if asked."""
    engine = _engine(settings)
    if not journal:
        return _backtest(engine, NoJournal(), settings, books)
    with TemporaryDirectory(dir=_memory_disk()) as folder:
        return _backtest(engine, _writer(Path(folder), engine, settings, buffered=True), settings, books)


def journal_us(books: list[MarketEvent], buffered: bool, rounds: int = ROUNDS) -> float:
    """Return what recording one book costs: `buffered` as in a backtest, otherwise one write() each, as live."""
    settings = shipped()
    times = []
    for _ in range(rounds):
        with TemporaryDirectory(dir=_memory_disk()) as folder:
            writer = _writer(Path(folder), _engine(settings), settings, buffered)
            writer.event(books[0])
            started = perf_counter_ns()
            for book in books:
                writer.event(book)
            times.append((perf_counter_ns() - started) / 1000 / len(books))
            writer.close()
    return median(times)


def _backtest(engine: Engine, sink: Any, settings: Settings, books: list[MarketEvent]) -> Work:
    started = perf_counter_ns()
    Backtest(engine, sink, settings.sim).run(books)
    if isinstance(sink, JournalWriter):
        sink.close()
    spent = perf_counter_ns() - started
    assert engine.violations == 0 and engine.session.fills > 0
    return Work(spent / 1000, len(books), engine.events)


def _engine(settings: Settings) -> Engine:
    return Engine(engine_params(settings, {COIN: INSTRUMENT}, PREFIX))


def _session() -> HyperliquidSession:
    return HyperliquidSession({COIN: (INSTRUMENT, 0)}, "", None, PREFIX, 2000)


def _writer(folder: Path, engine: Engine, settings: Settings, buffered: bool) -> JournalWriter:
    return JournalWriter(
        folder,
        segment_bytes=SEGMENT_BYTES,
        max_bytes=None,
        checkpoint=lambda: checkpoint(engine, settings.digest),
        buffered=buffered,
    )


def _memory_disk() -> str | None:
    return str(MEMORY_DISK) if MEMORY_DISK.is_dir() else None
