"""Report: a recorded backtest as one folder: report.md, report.html, report.json and the drawings.

Invariant: the folder appears whole or not at all, and the same run gives the same bytes; no time of day, no path of the
machine is in it. It must not know the command line beyond the text it is given.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import SECOND, Nanos, money_text
from mmpi.research.metrics import InstrumentMetrics, Metrics, measure
from mmpi.research.recorder import Recorder
from mmpi.research.targets import Target, targets
from mmpi.risk import RiskConfig
from mmpi.runtime.build import build_id
from mmpi.sim.exchange import SimConfig
from mmpi.structs import Frozen

SCHEMA: Final = 1
"""Of report.json: raised when a field changes its meaning or goes; new fields do not raise it."""
MONEY_LIMITS: Final = frozenset(
    {"capital", "max_position", "max_order", "max_instrument", "max_total", "session_loss", "max_drawdown",
     "daily_loss"}
)
"""Fields of RiskConfig that are Money."""
Value = str | int | float | bool | None


class InstrumentFacts(Frozen, frozen=True):
    """One instrument's grid, and how it was quoted."""

    name: str
    tick_size: str
    lot_size: str
    min_notional: str
    base: str
    quote: str
    quoter: str
    parameters: "dict[str, Value]"


class Facts(Frozen, frozen=True):
    """What was run, on what, and what the engine counted."""

    mmpi: str
    """Version and digest of the sources that decide."""
    command: str
    data: str
    start: str
    """UTC, of the first event."""
    end: str
    instruments: "tuple[InstrumentFacts, ...]"
    risk: "dict[str, Value]"
    patience_s: float
    """An order unanswered for this long is asked about."""
    sim: "dict[str, Value]"
    tally: "dict[str, int]"
    """What did not fit the grid or was left out of the data."""
    events: int
    orders: "dict[str, int]"
    refusals: "dict[str, int]"
    anomalies: "dict[str, int]"
    breach: str
    """The limit that stopped the run, "" = none."""
    violations: int


class Report(Frozen, frozen=True):
    """All figures; report.json is this struct."""

    schema: int
    facts: Facts
    metrics: Metrics
    instruments: "dict[str, InstrumentMetrics]"
    targets: "tuple[Target, ...]"


def check_folder(folder: Path) -> None:
    """Raise ConfigError unless a report can be written there: a new or an empty folder."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "not empty" if folder.is_dir() else "no folder"
        raise ConfigError(f"--report {folder}: exists and is {what}; allowed: a new or empty folder")
    above = next(place for place in folder.absolute().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ConfigError(f"--report {folder}: cannot be made, {above} is not a folder that may be written")


def facts_of(recorder: Recorder, *, command: str, data: str, sim: SimConfig, tally: Mapping[str, int]) -> Facts:
    """Return the facts of a finished run."""
    engine = recorder.engine
    desks, params = list(engine.desks.values()), engine.params
    ended: dict[str, int] = {}
    for desk in desks:
        for status, count in desk.orders.ended.items():
            ended[status] = ended.get(status, 0) + count
    return Facts(
        mmpi=build_id(),
        command=command,
        data=data,
        start=_utc(recorder.start),
        end=_utc(recorder.end),
        instruments=tuple(
            InstrumentFacts(
                name=desk.instrument.name,
                tick_size=desk.instrument.tick_size,
                lot_size=desk.instrument.lot_size,
                min_notional=money_text(desk.instrument.min_notional),
                base=desk.instrument.base,
                quote=desk.instrument.quote,
                quoter=str(desk.quoter.__struct_config__.tag),
                parameters=fields_of(desk.quoter),
            )
            for desk in params.desks
        ),
        risk=limits_of(params.risk),
        patience_s=params.patience / SECOND,
        sim=fields_of(sim),
        tally=dict(tally),
        events=engine.events,
        orders={"placed": sum(desk.orders.placed for desk in desks), **dict(sorted(ended.items()))},
        refusals=dict(sorted(engine.gate.refusals.items())),
        anomalies={
            "illegal_reports": sum(desk.orders.illegal for desk in desks),
            "overfilled": sum(desk.orders.overfilled for desk in desks),
            "own_orders_crossed": sum(trace.crossed for trace in recorder.traces.values()),
            "foreign_fills": engine.session.foreign_fills,
            "position_drifts": engine.reconciling.taken,
        },
        breach=engine.gate.breach,
        violations=engine.violations,
    )


def build(facts: Facts, recorder: Recorder) -> Report:
    """Return the report of a finished recorder."""
    metrics, by_name = measure(recorder)
    return Report(SCHEMA, facts, metrics, by_name, targets(metrics))


def write(folder: Path, report: Report, recorder: Recorder) -> None:
    """Write the folder whole; ConfigError if something is there by now or the disk will not take it."""
    from mmpi.research.document import Figure, markdown, page
    from mmpi.research.outline import outline

    blocks = outline(report, recorder)
    files = {f"{block.name}.svg": block.svg for block in blocks if isinstance(block, Figure)}
    files["report.json"] = msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"
    files["report.md"] = markdown(blocks)
    files["report.html"] = page(blocks)
    check_folder(folder)
    target = folder.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for name, text in files.items():
                (parts / name).write_text(text, encoding="utf-8", newline="\n")
            # mkdtemp makes a folder for its owner alone; this one is as open as any that the user makes.
            parts.chmod(0o777 & ~_umask())
            parts.rename(target)
        finally:
            shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"--report {folder}: cannot be written: {error.strerror or error}") from None


def limits_of(risk: RiskConfig) -> dict[str, Value]:
    """Return the limits, money as exact text."""
    return {
        key: money_text(value) if key in MONEY_LIMITS and isinstance(value, int) else value
        for key, value in fields_of(risk).items()
    }


def fields_of(config: msgspec.Struct) -> dict[str, Value]:
    """Return a config's fields, those of a struct in it as outer.inner; a tag is its `type`."""
    flat: dict[str, Value] = {}
    _add(flat, "", msgspec.to_builtins(config))
    flat.pop("type", None)
    return flat


def _add(flat: dict[str, Value], prefix: str, value: object) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _add(flat, f"{prefix}.{key}" if prefix else str(key), inner)
    elif value is None or isinstance(value, str | int | float):
        flat[prefix] = value
    else:
        flat[prefix] = msgspec.json.encode(value).decode()


def _utc(ts: Nanos) -> str:
    return datetime.fromtimestamp(ts // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
