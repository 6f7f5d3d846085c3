"""Random configurations: what `mmpi check` accepts runs on any market, within its limits and with finite numbers."""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mmpi.actions import Approved, NewOrder
from mmpi.config import load_config, models
from mmpi.config.quoters import STRATEGIES
from mmpi.config.schema import ANY_NAME, Key
from mmpi.desk import Desk
from mmpi.engine import Engine, EngineParams
from mmpi.engines import engine_params
from mmpi.errors import ConfigError
from mmpi.events import Event, MarketEvent
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Side
from mmpi.ports import Sink
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.risk import at_stake
from mmpi.runtime.summary import summarise
from mmpi.settings import InstrumentSettings, Settings
from mmpi.sim.market import GENERATED, Market
from mmpi.sim.queue_models import CONSERVATIVE, FIFO
from mmpi.status import Latency

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND
PREFIX = "0x" + "00" * 8
SETS = (
    "hyperliquid_btc_20250904",
    "binance_spot_nexousdt_20240723",
    "standx_btcusd_20260105",
    "bitstamp_btcusd_l3_20150501",
)
"""A deep book, a thin one with a wide spread, one that is locked half of the time, and an old one."""
AT_ONCE = 400
"""Events of a run: a minute or more of the market."""
LIMITS = ("max_order", "max_position", "max_instrument", "max_total")
BTC, QUOTER = "BTC", 2
"""The instrument, and the place of the strategy's name in a key's path."""


# --- configurations


def section(*names: str) -> list[Key]:
    """Return the numeric and other keys of some tables; a strategy's table by its own name."""
    return [key for key in models.KEYS if {key.path[0], key.path[min(QUOTER, len(key.path) - 1)]} & set(names)]


def values(key: Key) -> st.SearchStrategy[str]:
    """Return values in TOML notation that the key's documented bounds allow, its edges often among them."""
    if key.kind in ("choice", "flag"):
        return st.sampled_from(key.bounds.split(", "))
    if key.kind == "text":
        return st.sampled_from(['""', '"a random test"'])
    words = key.bounds.replace(",", "").split()
    least, most = Decimal(words[1]), Decimal(words[-1])
    if key.kind == "integer":
        return (st.sampled_from([int(least), int(least) + 1, int(most)]) | st.integers(int(least), int(most))).map(str)
    least += Decimal("1e-9") if words[0] == "above" else 0
    default = Decimal(key.default) if key.default != "0" else Decimal(1)
    near = st.sampled_from(["0.01", "0.1", "0.123456", "0.3", "0.5", "2", "3", "10", "100"]).map(
        lambda factor: min(max(default * Decimal(factor), least), most)
    )
    edges = st.sampled_from([least, most])
    if key.kind == "amount":
        return (near | edges).map(lambda amount: f'"{amount:f}"')
    return st.floats(float(least), float(most)).map(repr) | (near | edges).map(lambda number: f"{number:f}")


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, dict[str, str]]:
    """Return tables of a configuration file: one strategy, and some keys of it, of risk, simulation and market."""
    quoter = draw(st.sampled_from(sorted(STRATEGIES)))
    keys = [key for key in section("risk", "sim", "market", "venue", quoter) if key.path not in ELSEWHERE]
    own = [key for key in keys if quoter in key.path]
    tables: dict[str, dict[str, str]] = {f"instruments.{BTC}": {"quoter": f'"{quoter}"'}}
    chosen = draw(st.lists(st.sampled_from(own), unique=True, max_size=8))
    chosen += draw(st.lists(st.sampled_from([key for key in keys if key not in own]), unique=True, max_size=6))
    for key in chosen:
        *table, name = (BTC if part == ANY_NAME else part for part in key.path)
        tables.setdefault(".".join(table), {})[name] = draw(values(key))
    if draw(st.booleans()):
        tables["instruments.ETH"] = {"quoter": f'"{draw(st.sampled_from(sorted(STRATEGIES)))}"'}
    if draw(st.integers(0, 3)):
        # Drawn one by one the values of a relation rarely fit each other.
        amounts = draw(st.lists(st.sampled_from(AMOUNTS), min_size=len(LIMITS), max_size=len(LIMITS)).map(sorted))
        risk = tables.setdefault("risk", {})
        risk.update(zip(LIMITS, map(str, amounts), strict=True), override_reason='"a random test"')
        if draw(st.booleans()):
            risk.update(order_burst=str(draw(st.integers(1, 9))), orders_per_s=draw(st.sampled_from(["0.1", "1", "3"])))
        risk.pop(draw(st.sampled_from(["warn_percent", "critical_percent"])), None)
        table = tables.setdefault(f"instruments.{BTC}.{quoter}", {})
        table.pop(draw(st.sampled_from(["size", "notional"])), None)
        if "size" not in table:
            table["notional"] = str(amounts[0])
    return tables


ELSEWHERE = {("venue", key) for key in ("name", "mode", "url", "network")} | {("risk", limit) for limit in LIMITS}
AMOUNTS = (1, 9, 10, 11, 50, 60, 100, 101, 150, 200, 250, 300, 400, 500, 600, 1000, 2000, 3000, 20_000, 10**9)


def toml(tables: dict[str, dict[str, str]]) -> str:
    """Return the tables as a file's text."""
    lines = ((f"[{table}]", *(f"{name} = {value}" for name, value in keys.items())) for table, keys in tables.items())
    return "".join(f"{line}\n" for table in lines for line in table)


# --- what must hold


class Checker:
    """A sink that compares every order with the limits, and afterwards the engine with them and with its twin."""

    def __init__(self, config: Settings) -> None:
        self.config = config
        self.engine: Engine
        self.twin: Engine | None = None
        """Restored from a checkpoint half way; it must act the same."""
        self.step: list[Approved] = []
        self.orders: list[NewOrder] = []
        self.first: int = 0
        self.placed = 0

    def event(self, event: Event) -> bool:
        """Begin a step."""
        self.step = []
        self.first = self.first or event.recv_ts
        self.now = event.recv_ts
        return True

    def action(self, approved: Approved) -> bool:
        """Take an action, before it is sent."""
        self.step.append(approved)
        if isinstance(approved.action, NewOrder):
            self.placed += 1
            self.check_order(approved.action)
        return True

    def check_order(self, order: NewOrder) -> None:
        """Assert what must be true of every single order."""
        engine, risk = self.engine, self.config.risk
        desk = engine.desks[order.instrument]
        grid, mid2 = desk.instrument, desk.book.last_mid2 or round(2 * desk.mark)
        assert not engine.blocked
        assert not engine.gate.breach
        assert type(order.price) is int and order.price > 0 and order.price % grid.step_at(order.price) == 0
        assert type(order.size) is int and order.size > 0
        assert grid.notional(order.price, order.size) >= grid.min_notional
        assert abs(2 * order.price - mid2) * 10_000 <= risk.price_band_bps * mid2
        elapsed = (self.now - self.first) / SECOND
        assert self.placed <= risk.order_burst + risk.orders_per_s * elapsed + 1e-3

    def __call__(self, engine: Engine, event: Event) -> None:
        """Assert what must be true after every step."""
        placed = {action.action.instrument for action in self.step if isinstance(action.action, NewOrder)}
        for name, desk in engine.desks.items():
            own = desk.orders.live.values()
            bids, asks = ([o.price for o in own if o.side == side] for side in (BUY, SELL))
            assert not bids or not asks or max(bids) < min(asks), "own orders cross"
            if name in placed:
                assert len(own) <= self.config.risk.max_open_orders
                orders = [each.action for each in self.step if isinstance(each.action, NewOrder)]
                self.check_limits(desk, [order for order in orders if order.instrument == name], len(placed) == 1)
        assert engine.violations == 0
        if self.twin is not None:
            assert self.twin.handle(event) == self.step
            assert self.twin.wake_at == engine.wake_at
        elif engine.events == AT_ONCE // 2:
            self.twin = Engine(msgspec.json.decode(msgspec.json.encode(engine.params), type=EngineParams))
            self.twin.restore(engine.checkpoint())

    def check_limits(self, desk: Desk, orders: Sequence[NewOrder], alone: bool) -> None:
        """Assert of each order that no fill of what was open with it could break a limit on amounts.

        The limit on the total only where no other instrument's orders went out at the same time (`alone`).
        """
        risk, at = self.config.risk, desk.exposure(0)
        half_mid = at.mid2 * desk.instrument.unit
        opened: dict[Side, int] = {BUY: at.open_buys, SELL: at.open_sells}
        elsewhere = sum(at_stake(each.exposure(0), each.instrument) for each in self.engine.desks.values())
        elsewhere -= at_stake(at, desk.instrument)
        for order in reversed(orders):
            held = order.side * at.position
            if not (held < 0 and opened[order.side] <= -held):
                assert desk.instrument.notional(order.price, order.size) <= risk.max_order
                assert (held + opened[order.side]) * half_mid <= 2 * risk.max_position
                here = (abs(at.position) + sum(opened.values())) * half_mid // 2
                assert here <= risk.max_instrument + half_mid
                assert here + elsewhere <= risk.max_total + half_mid or not alone
            opened[order.side] -= order.size


def numbers(content: object) -> Iterator[float]:
    """Return every float anywhere in plain values."""
    if isinstance(content, dict | list | tuple):
        for each in content.values() if isinstance(content, dict) else content:
            yield from numbers(each)
    elif isinstance(content, float):
        yield content


def run(config: Settings, grids: dict[str, Instrument], market: Iterable[MarketEvent]) -> Engine:
    """Return the engine after a run in which everything held."""
    engine = Engine(engine_params(config, grids, PREFIX))
    checker = Checker(config)
    checker.engine = engine
    sink: Sink = checker
    sim = config.sim
    if sim.queue == FIFO:
        with pytest.raises(ConfigError, match="names each order"):
            Backtest(engine, sink, sim)
        sim = msgspec.structs.replace(sim, queue=CONSERVATIVE)
    backtest = Backtest(engine, sink, sim, checker)
    assert backtest.run(market) > 0
    summary = summarise(
        engine, mode="backtest", venue="sim", latency=Latency(0.0, 0.0, 0), latch="armed"
    )
    content = msgspec.to_builtins(summary)
    assert all(map(math.isfinite, numbers(content)))
    json.dumps(content, allow_nan=False)
    state = json.loads(engine.checkpoint())
    assert all(map(math.isfinite, numbers(state)))
    assert "null" not in engine.checkpoint().decode()
    assert {key for key, count in summary.anomalies.items() if count} == set()
    assert engine.stopped
    assert engine.live_orders() == 0
    return engine


def accepted(folder: Path, tables: dict[str, dict[str, str]]) -> Settings | None:
    """Return the settings, or None where `check` refuses the configuration."""
    file = folder / "fuzz.toml"
    file.write_text(toml(tables), encoding="utf-8")
    try:
        config = load_config(file, {}).settings
    except ConfigError:
        event("refused")
        return None
    assert msgspec.json.decode(msgspec.json.encode(config), type=Settings) == config
    event("accepted")
    return config


def try_generated(folder: Path, tables: dict[str, dict[str, str]]) -> None:
    """Run a configuration, if it is accepted, on the generated market that it describes."""
    config = accepted(folder, tables)
    if config is not None:
        grids = {each.name: GENERATED[each.name] for each in config.instruments}
        market = Market(list(grids.values()), config.market, random.Random(config.market.seed))
        engine = run(config, grids, islice(market.events(START), AT_ONCE))
        event(f"{'fills' if engine.session.fills else 'orders' if engine.events else 'nothing'}")


class Recorded:
    """The beginning of each recorded set."""

    def __init__(self, folder: Path) -> None:
        self.sets: dict[str, tuple[Instrument, list[MarketEvent]]] = {}
        for name in SETS:
            instrument = instrument_for(folder / name)
            self.sets[name] = (instrument, list(islice(open_dataset(folder / name, instrument), AT_ONCE)))


@pytest.fixture(scope="module")
def recorded(data: Path) -> Recorded:
    """Return the beginning of each recorded set."""
    return Recorded(data / "market")


def try_recorded(folder: Path, tables: dict[str, dict[str, str]], recorded: Recorded, name: str) -> None:
    """Run a configuration, if it is accepted, on the beginning of a recorded set."""
    config = accepted(folder, tables)
    if config is not None:
        instrument, market = recorded.sets[name]
        mine = (InstrumentSettings(name=instrument.name, quoter=config.instruments[0].quoter),)
        try:
            run(msgspec.structs.replace(config, instruments=mine), {instrument.name: instrument}, market)
        except ConfigError as error:
            assert "is not a multiple of" in str(error)  # only the set's own lot can still object


quick = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
long = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])


@given(tables=configurations())
@quick
def test_what_check_accepts_runs_on_the_generated_market(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, str]]
) -> None:
    """No accepted configuration raises, breaks a limit, crosses itself or shows a number that is none."""
    try_generated(tmp_path_factory.getbasetemp(), tables)


@given(tables=configurations(), name=st.sampled_from(SETS))
@quick
def test_what_check_accepts_runs_on_recorded_markets(
    tmp_path_factory: pytest.TempPathFactory, recorded: Recorded, tables: dict[str, dict[str, str]], name: str
) -> None:
    """The same on the beginning of recorded sets, thin, deep and locked ones."""
    try_recorded(tmp_path_factory.getbasetemp(), tables, recorded, name)


@pytest.mark.slow
@given(tables=configurations())
@long
def test_hundreds_of_configurations_run_on_the_generated_market(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, str]]
) -> None:
    """The same, for as many configurations as take half a minute."""
    try_generated(tmp_path_factory.getbasetemp(), tables)


@pytest.mark.slow
@given(tables=configurations(), name=st.sampled_from(SETS))
@long
def test_hundreds_of_configurations_run_on_recorded_markets(
    tmp_path_factory: pytest.TempPathFactory, recorded: Recorded, tables: dict[str, dict[str, str]], name: str
) -> None:
    """The same, for as many configurations as take half a minute."""
    try_recorded(tmp_path_factory.getbasetemp(), tables, recorded, name)
