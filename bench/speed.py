"""Time per event of the quoting path, always beside a json + Decimal quoter on the same books in the same process.

A machine that is busy slows both, so the ratios stay when the figures do not. Garbage collection is on, as in
production; what the benchmark itself holds is frozen out of it.
"""

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec

from bench.books import COIN, INSTRUMENT, SHARED, Frame
from bench.reference import Reference
from mmpi.actions import Approved, CancelOrder, NewOrder
from mmpi.app import checkpoint, engine_params
from mmpi.config import load_config
from mmpi.engine import Engine
from mmpi.events import BookSnapshot, Connected, ExecReport, MarketEvent, Reconciled
from mmpi.journal.writer import JournalWriter
from mmpi.research.backtest import Backtest
from mmpi.runtime.step import NoJournal
from mmpi.settings import InstrumentSettings, Settings
from mmpi.sim.exchange import Matching
from mmpi.venues.hyperliquid.session import HyperliquidSession

NAIVE = SHARED / "lab" / "naive.py"
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
    if not NAIVE.is_file():
        return "bench/reference.py", Reference
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["naive"] = module
    spec.loader.exec_module(module)
    return "shared/lab/naive.py", lambda: module.NaiveEngine(o1=True)


def shipped() -> Settings:
    """Return the built-in configuration for the one instrument: three orders a side, moved at most once a second."""
    settings = load_config(None, {}).settings
    quoter = settings.instruments[0].quoter
    return msgspec.structs.replace(settings, instruments=(InstrumentSettings(name=COIN, quoter=quoter),))


def same_job() -> Settings:
    """Return the yardstick's job: five orders a side, and a decision at every book."""
    settings = shipped()
    quoter = msgspec.structs.replace(settings.instruments[0].quoter, levels=5, update_interval_s=0.05)
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
        "wire_to_actions": lambda: run_wire(same_job(), frames)[0],
        "wire_with_reports": lambda: run_wire(same_job(), frames)[1],
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


def run_wire(settings: Settings, frames: list[Frame]) -> tuple[Work, Work]:
    """Return the time from bytes to actions, and the same with the order reports that follow; nothing else counts.

    The simulated exchange answers at once, so that every book finds the ladder in place, as the yardstick's does.
    """
    engine, session = _engine(settings), _session()
    venue = Matching({COIN: INSTRUMENT}, settings.sim)
    start = frames[0].recv_ts
    engine.handle(Connected(start, "sim"))
    engine.handle(Reconciled(start, "sim", (), ()))
    quoting, reporting = 0, 0
    for frame in frames:
        started = perf_counter_ns()
        events = session.receive(frame.raw, frame.recv_ts)
        actions = [action for event in events for action in engine.handle(event)]
        quoting += perf_counter_ns() - started
        reports = [each for event in events if isinstance(event, BookSnapshot) for each in venue.on_market(event)]
        reports += _answers(venue, actions)
        while reports:
            started = perf_counter_ns()
            actions = [action for report in reports for action in engine.handle(report)]
            reporting += perf_counter_ns() - started
            reports = _answers(venue, actions)
    count = len(frames)
    return Work(quoting / 1000, count, count), Work((quoting + reporting) / 1000, count, engine.events)


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
    assert engine.violations == 0 and engine.fills > 0
    return Work(spent / 1000, len(books), engine.events)


def _answers(venue: Matching, actions: list[Approved]) -> list[ExecReport]:
    reports: list[ExecReport] = []
    for approved in actions:
        action = approved.action
        if isinstance(action, NewOrder):
            reports += venue.place(action, "", approved.ts)
        elif isinstance(action, CancelOrder):
            reports += venue.cancel(action.order_id, approved.ts)
    return reports


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
