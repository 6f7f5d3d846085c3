"""Table: every quoter, as it comes, on every recorded set, with confidence intervals.

    python -m mmpi.research.table --sets A,B --quoters layered,glft > docs/results.md

Invariant: nothing is tuned on the days that are shown: quoters, limits and exchange have the built-in defaults.
It must not know the configuration file or the command line of mmpi.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Final

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.errors import ConfigError, MmpiError
from mmpi.instrument import SECOND
from mmpi.quoting import QUOTERS, QuoterSettings
from mmpi.research.backtest import Backtest
from mmpi.research.bootstrap import Estimate
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.research.document import Block, Heading, Paragraph, Table, markdown
from mmpi.research.metrics import measure
from mmpi.research.recorder import Recorder
from mmpi.research.report import fields_of, limits_of
from mmpi.risk import RiskConfig
from mmpi.runtime.build import build_id
from mmpi.runtime.step import NoJournal
from mmpi.sections import VenueSettings
from mmpi.sim.exchange import SimConfig
from mmpi.structs import Frozen

JOBS: Final = 2
"""At most so many runs at once: a Pi has four cores and other work."""
MARKOUT_S: Final = 30
PREFIX: Final = "0x" + "00" * 8
"""Simulated orders belong to no box and no run."""


class Row(Frozen, frozen=True):
    """One quoter on one set; money as exact text in `quote`."""

    data: str
    quoter: str
    quote: str
    hours: float
    fills: int
    volume: str
    spread: str
    inventory: str
    funding: str
    fees: str
    total: str
    bps: Estimate
    """Profit in basis points of the volume."""
    markout_bps: float | None
    """Mean of a fill after MARKOUT_S."""
    drawdown: str
    at_limit: float | None
    violations: int
    """Events after which the profit identity did not hold, or own orders were crossed."""
    breach: str
    """The limit that stopped the run, "" = none."""


def quoters() -> dict[str, QuoterSettings]:
    """Return every strategy's default configuration by its name."""
    return {str(config.__struct_config__.tag): config() for config in QUOTERS}


def run(
    names: Sequence[str],
    sets: Sequence[str],
    *,
    jobs: int = 1,
    risk: RiskConfig | None = None,
    sim: SimConfig | None = None,
    tell: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Return a row for each set and quoter, in that order; `tell` hears of each as it is done.

    ConfigError for a quoter that does not exist and a set that cannot be read.
    """
    known = quoters()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"quoter {unknown[0]}: no such quoter; allowed: {', '.join(known)}")
    for data in sets:
        instrument_for(data)
    pairs = [(data, name) for data in sets for name in names]
    limits, exchange = risk or RiskConfig(), sim or SimConfig()
    jobs_of = ([data for data, _ in pairs], [name for _, name in pairs], repeat(limits), repeat(exchange))
    if jobs == 1:
        return _collect(map(row_of, *jobs_of), tell)
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, JOBS), mp_context=fresh) as pool:
        return _collect(pool.map(row_of, *jobs_of), tell)


def row_of(data: str, name: str, risk: RiskConfig, sim: SimConfig) -> Row:
    """Return one quoter's row on one set."""
    instrument = instrument_for(data)
    patience = round(VenueSettings().ack_timeout_s * SECOND)
    engine = Engine(EngineParams(PREFIX, (DeskParams(instrument, quoters()[name]),), risk, patience))
    recorder = Recorder(engine)
    dataset = open_dataset(data, instrument)
    Backtest(engine, NoJournal(), sim, recorder).run(dataset)
    recorder.finish()
    metrics, by_name = measure(recorder)
    only = by_name[instrument.name]
    markout = next(each for each in only.markouts if (each.horizon_s, each.side) == (MARKOUT_S, "all"))
    return Row(
        data=dataset.name,
        quoter=name,
        quote=instrument.quote,
        hours=metrics.span_s / 3600,
        violations=engine.violations + only.crossed,
        breach=engine.gate.breach,
        markout_bps=markout.mean_bps,
        fills=metrics.fills,
        volume=metrics.volume,
        spread=metrics.spread,
        inventory=metrics.inventory,
        funding=metrics.funding,
        fees=metrics.fees,
        total=metrics.total,
        bps=metrics.profit_bps,
        drawdown=metrics.max_drawdown,
        at_limit=metrics.time_at_limit,
    )


def render(rows: Sequence[Row], risk: RiskConfig | None = None, sim: SimConfig | None = None) -> str:
    """Return the rows as a Markdown document that says how they were made."""
    header = (
        "set", "quoter", "hours", "fills", "volume", "spread", "inventory", "funding", "fees", "profit",
        "bp of volume (95 %)", f"markout {MARKOUT_S} s, bp", "max drawdown", "at limit", "violations", "stopped by",
    )  # fmt: skip
    blocks: list[Block] = [
        Heading(1, "Results"),
        Paragraph(
            f"Made by python -m mmpi.research.table, mmpi {build_id()}. Quoters, limits and exchange have their "
            "built-in defaults; nothing was tuned on these days. Money is in the set's quote currency; profit = spread "
            "+ inventory + funding - fees, exactly. Intervals: stationary bootstrap (docs/reports.md)."
        ),
        Table(header, tuple(_cells(row) for row in rows), "ll" + "r" * 13 + "l"),
        Heading(2, "Simulated exchange"),
        _fields(fields_of(sim or SimConfig())),
        Heading(2, "Limits"),
        _fields(limits_of(risk or RiskConfig())),
        Heading(2, "Quoters"),
    ]
    for name in dict.fromkeys(row.quoter for row in rows):
        blocks += [Heading(3, name), _fields(fields_of(quoters()[name]))]
    return markdown(blocks)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table as Markdown; progress and errors go to stderr. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mmpi.research.table", description="Quoters on recorded sets.")
    parser.add_argument("--sets", required=True, metavar="A,B", help="names or prefixes of recorded sets")
    parser.add_argument("--quoters", default=",".join(quoters()), metavar="A,B", help="default: all")
    parser.add_argument("--jobs", type=int, choices=range(1, JOBS + 1), default=1, help="runs at once (default 1)")
    args = parser.parse_args(argv)
    sets, names = args.sets.split(","), args.quoters.split(",")

    def tell(row: Row) -> None:
        done = f"{row.data} {row.quoter}: {row.fills} fills, {_money(row.total)} {row.quote}"
        print(done, file=sys.stderr, flush=True)

    try:
        print(render(run(names, sets, jobs=args.jobs, tell=tell)), end="")
    except MmpiError as error:
        print(f"mmpi.research.table: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _collect(done: Iterable[Row], tell: Callable[[Row], None] | None) -> list[Row]:
    rows: list[Row] = []
    for row in done:
        rows.append(row)
        if tell is not None:
            tell(row)
    return rows


def _cells(row: Row) -> tuple[str, ...]:
    bps = "n/a" if row.bps.value is None else f"{row.bps.value:.2f}"
    if row.bps.low is not None and row.bps.high is not None:
        bps += f" ({row.bps.low:.2f} to {row.bps.high:.2f}){' rough' if row.bps.note else ''}"
    money = (row.volume, row.spread, row.inventory, row.funding, row.fees, row.total)
    return (
        row.data,
        row.quoter,
        f"{row.hours:.2f}",
        str(row.fills),
        *map(_money, money),
        bps,
        "n/a" if row.markout_bps is None else f"{row.markout_bps:.2f}",
        _money(row.drawdown),
        "n/a" if row.at_limit is None else f"{100 * row.at_limit:.1f} %",
        str(row.violations),
        row.breach or "-",
    )


def _fields(fields: Mapping[str, object]) -> Table:
    return Table(("name", "value"), tuple((key, str(value) or "-") for key, value in fields.items()), "lr")


def _money(text: str) -> str:
    value = f"{float(text):.2f}"
    return "0.00" if value == "-0.00" else value


if __name__ == "__main__":
    sys.exit(main())
