"""mmpi backtest: the quoter over recorded or generated market data.

Invariant: tick and lot come from the shipped table or the command line, never from a look ahead in the data.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mmpi.config import load_config
from mmpi.engine import Engine
from mmpi.engines import checkpoint, engine_params
from mmpi.errors import ConfigError
from mmpi.instrument import SECOND, Instrument, Nanos
from mmpi.journal.cold import SUFFIX, segment_paths
from mmpi.journal.writer import JournalWriter
from mmpi.ports import Sink
from mmpi.quoting import on_grid
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import Dataset, instrument_for, open_dataset
from mmpi.runtime.step import NoJournal
from mmpi.runtime.summary import summarise
from mmpi.session import NEVER
from mmpi.settings import InstrumentSettings, Settings
from mmpi.sim.l3 import SimEvent
from mmpi.sim.market import GENERATED, Market
from mmpi.sim.model import SimConfig, describe, in_words, model_for
from mmpi.sim.queue_models import FIFO
from mmpi.status import Latency, Summary

if TYPE_CHECKING:
    from mmpi.commands.backtest_report import Reporter

START: Final[Nanos] = 1_700_000_000 * SECOND
"""When the generated market begins: any fixed time, so that two runs are the same."""
PREFIX: Final = "0x" + "00" * 8
"""Simulated orders belong to no box and no run."""
SEGMENT_BYTES: Final = 64 * 2**20


def run(args: argparse.Namespace) -> int:
    """Return 0 once the data is through."""
    settings = _with_queue(load_config(args.config, os.environ, args.quoter).settings, args.queue)
    instruments, market, dataset = _market(args, settings)
    settings = _quoting(settings, instruments, by_order=dataset is not None and dataset.by_order)
    # A day's end ends no backtest.
    whole = msgspec.structs.replace(settings, risk=msgspec.structs.replace(settings.risk, session_start_s=NEVER))
    engine = Engine(engine_params(whole, instruments, PREFIX))
    reporter = _reporter(args, engine)
    sink = _sink(args.journal, engine, settings.digest)
    started = time.monotonic()
    show = _Progress(dataset, args) if sys.stderr.isatty() and not args.json else None
    observer, by_order = reporter.recorder if reporter else None, settings.sim.queue == FIFO
    if not Backtest(engine, sink, settings.sim, observer, by_order=by_order).run(market, show):
        raise ConfigError(f"--data {args.data}: no market event of {', '.join(instruments)} in it")
    elapsed = time.monotonic() - started
    if isinstance(sink, JournalWriter):
        sink.close()
        if args.journal.suffix == SUFFIX:
            _join(args.journal)
    if reporter is not None:
        reporter.finish(settings.sim, dataset)
    summary = summarise(
        engine, mode="backtest", venue="sim", latency=Latency(0.0, 0.0, 0), latch=_latch(engine)
    )
    _report(args, summary, engine, dataset, elapsed, settings.sim)
    return 0


def _reporter(args: argparse.Namespace, engine: Engine) -> "Reporter | None":
    if args.report is None:
        return None
    from mmpi.commands.backtest_report import Reporter

    return Reporter(args, engine)


def _market(
    args: argparse.Namespace, settings: Settings
) -> tuple[dict[str, Instrument], Iterator[SimEvent], Dataset | None]:
    """Return the instruments, their events (those of orders only for fifo), and the recorded set if it is one."""
    if args.data is not None:
        if not args.data:
            raise ConfigError("--data '': empty; allowed: a recorded set or file, or leave it out (generated market)")
        instrument = instrument_for(args.data, args.instrument, args.tick, args.lot)
        dataset = open_dataset(args.data, instrument)
        events = dataset.with_orders() if settings.sim.queue == FIFO and dataset.by_order else iter(dataset)
        return {instrument.name: instrument}, events, dataset
    if args.tick or args.lot:
        raise ConfigError("--tick and --lot: allowed with --data only; the generated market has its own grid")
    names = [args.instrument] if args.instrument else [each.name for each in settings.instruments]
    unknown = [name for name in names if name not in GENERATED]
    if unknown:
        raise ConfigError(f"--instrument {unknown[0]}: the generated market has {', '.join(GENERATED)}; or give --data")
    config = msgspec.structs.replace(settings.market, seed=args.seed)
    market = Market([GENERATED[name] for name in names], config, random.Random(args.seed))
    end = START + round(args.seconds * SECOND)
    return {n: GENERATED[n] for n in names}, takewhile(lambda e: e.recv_ts < end, market.events(START)), None


def _with_queue(settings: Settings, queue: str) -> Settings:
    if not queue:
        return settings
    return msgspec.structs.replace(settings, sim=msgspec.structs.replace(settings.sim, queue=queue))


def _quoting(settings: Settings, instruments: dict[str, Instrument], *, by_order: bool) -> Settings:
    """Return the settings for exactly these instruments; one that is not configured takes the first one's quoter.

    The queue model is the one in force for the data, and a note says so where it is not the one that was asked for.
    """
    configured = {each.name: each for each in settings.instruments}
    chosen: list[InstrumentSettings] = []
    for name, instrument in instruments.items():
        wanted = configured.get(name) or msgspec.structs.replace(settings.instruments[0], name=name)
        quoter = on_grid(wanted.quoter, instrument)
        if quoter is not wanted.quoter:
            print(f"mmpi backtest: sizes are cut to {name}'s lots of {instrument.lot_size}", file=sys.stderr)
        chosen.append(InstrumentSettings(name=name, quoter=quoter))
    sim = model_for(settings.sim, by_order=by_order)
    if sim is not settings.sim:
        print("mmpi backtest: the data does not name each order: queue conservative instead of fifo", file=sys.stderr)
    return msgspec.structs.replace(settings, instruments=tuple(chosen), sim=sim)


def _sink(path: Path | None, engine: Engine, digest: str) -> Sink:
    if path is None:
        return NoJournal()
    single = path.suffix == SUFFIX
    if path.exists() and (single or not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"--journal {path}: exists; allowed: a new or empty folder, or a new file *{SUFFIX}")
    return JournalWriter(
        _parts(path) if single else path,
        segment_bytes=sys.maxsize if single else SEGMENT_BYTES,
        max_bytes=None,
        checkpoint=lambda: checkpoint(engine, digest),
        buffered=True,
    )


def _parts(path: Path) -> Path:
    """Return the folder in which a single-file journal is written before it takes its name."""
    return path.with_name(f".{path.name}.parts")


def _join(path: Path) -> None:
    folder = _parts(path)
    (segment,) = segment_paths(folder)
    segment.rename(path)
    folder.rmdir()


def _latch(engine: Engine) -> str:
    return f"latched: {engine.gate.breach}" if engine.gate.breach else "armed"


class _Progress:
    """A line on the terminal, rewritten as the backtest goes on."""

    def __init__(self, dataset: Dataset | None, args: argparse.Namespace) -> None:
        self._dataset = dataset
        self._end = START + round(args.seconds * SECOND)
        self._shown = 0.0

    def __call__(self, now: Nanos) -> None:
        if time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        if self._dataset is not None:
            share = self._dataset.done / max(1, self._dataset.total)
        else:
            share = 1 - (self._end - now) / max(1, self._end - START)
        print(f"\rmmpi backtest: {100 * share:3.0f}%", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)


def _report(
    args: argparse.Namespace, summary: Summary, engine: Engine, dataset: Dataset | None, elapsed: float, sim: SimConfig
) -> None:
    data = msgspec.structs.asdict(dataset.tally) if dataset is not None else {}
    content = {**msgspec.to_builtins(summary), "sim": describe(sim), "data": data, "seconds": round(elapsed, 3)}
    if args.report is not None:
        content["report"] = str(args.report)
    if args.json:
        print(msgspec.json.encode(content).decode(), flush=True)
        return
    pnl = summary.pnl
    turnover = sum(desk.position.volume for desk in engine.desks.values()) / 1e12
    print(f"events      {summary.events} in {elapsed:.1f} s ({summary.events / max(elapsed, 1e-9):.0f}/s)")
    orders = summary.orders
    print(f"orders      placed {orders.placed}, canceled {orders.canceled}, rejected {orders.rejected}")
    print(f"fills       {summary.fills}, turnover {turnover:.2f}")
    print(f"p&l         {pnl.total}")
    print(f"  = spread  {pnl.spread}\n  + inventory {pnl.inventory}\n  + funding {pnl.funding}\n  - fees    {pnl.fees}")
    print(f"refusals    {summary.refusals or 'none'}")
    if engine.gate.breach:
        print(f"STOPPED     limit touched: {engine.gate.breach}")
    print(f"violations  {summary.invariant_violations}")
    print(f"simulation  {in_words(sim)}")
    if args.report is not None:
        print(f"report      {args.report / 'report.html'}")
    notable = {key: value for key, value in data.items() if value and key != "done"}
    if notable:
        print(f"data        {notable}")
