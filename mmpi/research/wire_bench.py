"""Time from a frame's bytes to approved actions, beside a json + Decimal quoter on the same bytes in the same process.

Invariant: nothing but `receive` and `handle` (ours) and `on_raw` (theirs) is inside the clock; both are told at once
what became of their orders, outside it. It must not know where the frames come from.

A busy machine slows both sides, so the ratio stays when the microseconds do not: each round runs one after the other,
and the ratio is the median over the rounds.
"""

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from types import ModuleType
from typing import Any, Final

import msgspec

import mmpi.engine
from mmpi.actions import Approved, CancelOrder, NewOrder
from mmpi.book import OrderBook
from mmpi.engine import Engine, EngineParams
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Connected, Event, ExecReport, MarketEvent, Reconciled, Trade
from mmpi.instrument import Instrument
from mmpi.ports import MarketView, Quote, Quoter
from mmpi.research.frames import Frame
from mmpi.signals.board import SignalBoard
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.venues.hyperliquid.session import HyperliquidSession

ROUNDS: Final = 5
LEAST_LEVELS: Final = 5
"""A side: a book with fewer is handled, but the yardstick cannot read it, so neither side's time for it counts."""
CHECKOUT: Final = Path(__file__).resolve().parents[2]
NAIVE: Final = CHECKOUT.parent / "shared" / "lab" / "naive.py"
REFERENCE: Final = CHECKOUT / "bench" / "reference.py"


class Pass(msgspec.Struct):
    """What one run over all frames took: nanoseconds for each book, and how many actions they caused."""

    ns: list[int]
    actions: int = 0
    orders: int = 0
    """Orders live after the last frame."""


class Result(msgspec.Struct, frozen=True):
    """Everything measured; times in microseconds, `naive_us` and `ratio` None where there is no yardstick."""

    n: int
    actions: int
    bytes_to_actions_us: dict[str, float]
    stages_us: dict[str, float]
    naive_us: dict[str, float] | None
    ratio: float | None
    compiled: bool
    messages: int
    thin_books: int
    """Books with fewer than LEAST_LEVELS levels on a side: handled, not timed."""
    naive_actions: int
    yardstick: str
    rounds: int


def measure(
    frames: list[Frame],
    params: EngineParams,
    instrument: Instrument,
    rounds: int = ROUNDS,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Return the times of all book messages among the frames; the engine quotes `instrument` alone."""
    books = book_frames(frames)
    if not books:
        raise ConfigError(f"no book with {LEAST_LEVELS} levels a side among {len(frames)} messages")
    name, make = yardstick(instrument)
    ours: list[Pass] = []
    naive: list[Pass] = []
    gc.collect()
    gc.freeze()  # What the benchmark holds is no work of the quoter's.
    for number in range(rounds):
        ours.append(run_ours(frames, params, instrument))
        if make is not None:
            naive.append(run_naive(make(), books))
        if progress is not None:
            progress(number + 1, rounds)
    gc.unfreeze()
    ratios = [p50(theirs.ns) / p50(mine.ns) for mine, theirs in zip(ours, naive, strict=False)]
    return Result(
        n=len(books),
        actions=ours[0].actions,
        bytes_to_actions_us=figures([each.ns for each in ours]),
        stages_us=stages(frames, params, instrument),
        naive_us=figures([each.ns for each in naive]) if naive else None,
        ratio=round(median(ratios), 2) if ratios else None,
        compiled=not str(mmpi.engine.__file__).endswith(".py"),
        messages=len(frames),
        thin_books=sum(frame.is_book for frame in frames) - len(books),
        naive_actions=naive[0].actions if naive else 0,
        yardstick=name,
        rounds=rounds,
    )


def book_frames(frames: Iterable[Frame]) -> list[bytes]:
    """Return the bytes of the books that both sides can read: the yardstick knows no other message."""
    return [frame.raw for frame in frames if is_timed(frame)]


def is_timed(frame: Frame) -> bool:
    """Return True for a book that both sides can read."""
    return frame.is_book and frame.levels >= LEAST_LEVELS


def yardstick(instrument: Instrument) -> tuple[str, Callable[[], Any] | None]:
    """Return what the yardstick is and how to make one on this instrument's grid; None where there is none."""
    from decimal import Decimal

    def on_grid(engine: Any) -> Any:
        engine.tick, engine.lot = Decimal(instrument.tick_size), Decimal(instrument.lot_size)
        return engine

    if NAIVE.is_file():
        laboratory = _module("naive", NAIVE)
        return "shared/lab/naive.py", lambda: on_grid(laboratory.NaiveEngine(o1=True))
    if REFERENCE.is_file():
        reference = _module("reference", REFERENCE)
        return "bench/reference.py", lambda: on_grid(reference.Reference())
    return "none", None


def run_ours(frames: list[Frame], params: EngineParams, instrument: Instrument) -> Pass:
    """Return the times from a book's bytes to the actions that it causes."""
    engine, session = _started(frames, params, instrument)
    venue = Matching({instrument.name: instrument}, SimConfig())
    done = Pass([])
    for frame in frames:
        started = perf_counter_ns()
        events = session.receive(frame.raw, frame.recv_ts)
        actions: list[Approved] = []
        for event in events:
            actions += engine.handle(event)
        spent = perf_counter_ns() - started
        if is_timed(frame):
            done.ns.append(spent)
        done.actions += len(actions)
        _answer(engine, venue, events, actions)
    done.orders = engine.live_orders()
    return done


def run_naive(engine: Any, books: list[bytes]) -> Pass:
    """Return the times of the yardstick's on_raw."""
    done = Pass([])
    for raw in books:
        started = perf_counter_ns()
        actions = engine.on_raw(raw)
        done.ns.append(perf_counter_ns() - started)
        done.actions += len(actions)
        engine.ack(actions)
        engine.match()
    done.orders = len(engine.live)
    return done


def stages(frames: list[Frame], params: EngineParams, instrument: Instrument) -> dict[str, float]:
    """Return the median microseconds of each stage, every stage run on its own over the inputs that it really had.

    `quote` is 0 where the quoter need not be asked again. `orders` is the engine's whole time less the stages inside
    it: risk, differ, order store, actions.
    """
    engine, session = _started(frames, params, instrument)
    desk = engine.desks[instrument.name]
    spy = _Spy(desk.quoter)
    desk.quoter = spy
    venue = Matching({instrument.name: instrument}, SimConfig())
    alone, board = OrderBook(instrument.name), SignalBoard(spy.signals, instrument.name)
    spent: dict[str, list[int]] = {"decode": [], "book": [], "signals": [], "quote": [], "engine": []}
    for frame in frames:
        started = perf_counter_ns()
        events = session.receive(frame.raw, frame.recv_ts)
        decoded = perf_counter_ns() - started
        for event in events:
            if isinstance(event, BookSnapshot):
                spent["decode"].append(decoded)
                spent["book"].append(_timed(alone.apply, event))
                if alone.mid2:
                    spent["signals"].append(_read_signals(board, alone, event))
                spy.ns = 0
                started = perf_counter_ns()
                actions = engine.handle(event)
                spent["engine"].append(perf_counter_ns() - started)
                spent["quote"].append(spy.ns)
            else:
                actions = engine.handle(event)
                if isinstance(event, Trade):
                    board.on_trade(event.recv_ts, event.side)
            _answer(engine, venue, [event], actions)
    medians = {name: p50(times) / 1000 for name, times in spent.items() if times}
    whole = medians.pop("engine", 0.0)
    medians["orders"] = max(0.0, whole - sum(medians.get(name, 0.0) for name in ("book", "signals", "quote")))
    return {name: round(us, 2) for name, us in medians.items()}


def p50(ns: list[int]) -> float:
    """Return the median."""
    return float(median(ns))


def figures(passes: list[list[int]]) -> dict[str, float]:
    """Return the least of all times, and the medians over the passes of their 50th and 99th percentiles, in us."""
    return {
        "min": round(min(min(times) for times in passes) / 1000, 2),
        "p50": round(median(p50(times) for times in passes) / 1000, 2),
        "p99": round(median(sorted(times)[min(len(times) - 1, len(times) * 99 // 100)] for times in passes) / 1000, 2),
    }


class _Spy:
    """A quoter that times another."""

    def __init__(self, inner: Quoter) -> None:
        self.inner = inner
        self.interval, self.refresh, self.tolerance = inner.interval, inner.refresh, inner.tolerance
        self.signals, self.uses_mark, self.prices_only = inner.signals, inner.uses_mark, inner.prices_only
        self.ns = 0

    def quote(self, view: MarketView) -> Quote:
        """Return the other's ladder."""
        started = perf_counter_ns()
        quote = self.inner.quote(view)
        self.ns += perf_counter_ns() - started
        return quote


def _started(frames: list[Frame], params: EngineParams, instrument: Instrument) -> tuple[Engine, HyperliquidSession]:
    engine = Engine(params)
    start = frames[0].recv_ts
    engine.handle(Connected(start, "sim"))
    engine.handle(Reconciled(start, "sim", (), ()))
    return engine, HyperliquidSession({instrument.name: (instrument, 0)}, "", None, params.cl_ord_prefix, 2000)


def _answer(engine: Engine, venue: Matching, events: list[Event], actions: list[Approved]) -> None:
    """Let the exchange answer at once, so that the next book finds the ladder in place, as the yardstick's does."""
    reports: list[ExecReport] = []
    for event in events:
        if isinstance(event, MarketEvent):
            reports += venue.on_market(event)
    reports += _carried_out(venue, actions)
    while reports:
        actions = [action for report in reports for action in engine.handle(report)]
        reports = _carried_out(venue, actions)


def _carried_out(venue: Matching, actions: list[Approved]) -> list[ExecReport]:
    reports: list[ExecReport] = []
    for approved in actions:
        action = approved.action
        if isinstance(action, NewOrder):
            reports += venue.place(action, "", approved.ts)
        elif isinstance(action, CancelOrder):
            reports += venue.cancel(action.order_id, approved.ts)
    return reports


def _timed(work: Callable[[BookSnapshot], object], event: BookSnapshot) -> int:
    started = perf_counter_ns()
    work(event)
    return perf_counter_ns() - started


def _read_signals(board: SignalBoard, book: OrderBook, event: BookSnapshot) -> int:
    started = perf_counter_ns()
    board.on_mid(event.recv_ts, book.mid2)
    if board.names:
        board.readings(book, event.recv_ts)
    return perf_counter_ns() - started


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
