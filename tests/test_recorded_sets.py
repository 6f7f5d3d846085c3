"""All strategies on all recorded sets: straight books, no order of ours against another, no limit broken."""

from itertools import islice
from pathlib import Path

import pytest

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.errors import ConfigError
from mmpi.events import Event
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.quoting import QUOTERS, QuoterSettings
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.risk import RiskConfig
from mmpi.runtime.step import NoJournal
from mmpi.sim.exchange import SimConfig

pytestmark = pytest.mark.slow

MARKET = Path(__file__).resolve().parents[2] / "shared" / "data" / "market"
SETS = sorted({path.name.partition(".")[0] for path in MARKET.glob("*.parquet")}) if MARKET.is_dir() else []
EVENTS = 20_000
"""Of each set: the four named ones run to their end in tests/test_backtest.py."""


class Watch:
    """Looks at the engine after each step."""

    def __init__(self) -> None:
        self.steps = 0
        self.most_orders = 0

    def __call__(self, engine: Engine, _event: Event) -> None:
        """Check what must hold at any time."""
        self.steps += 1
        for desk in engine.desks.values():
            orders = desk.orders.live.values()
            self.most_orders = max(self.most_orders, len(desk.orders.live))
            bids = [order.price for order in orders if order.side == BUY]
            asks = [order.price for order in orders if order.side == SELL]
            assert not bids or not asks or max(bids) < min(asks)
            grid = desk.instrument
            assert all(price > 0 and price % grid.step_at(price) == 0 for price in (*bids, *asks))
            held = abs(desk.position.lots) * desk.position.mid2 * grid.unit // 2
            assert held * 100 < engine.gate.config.hard_percent * engine.gate.config.max_position
            assert desk.position.identity_error() == 0
        assert not engine.gate.breach


@pytest.mark.skipif(not SETS, reason="no recorded market data: ../shared/data is not on this machine")
@pytest.mark.parametrize("strategy", QUOTERS, ids=[str(kind.__struct_config__.tag) for kind in QUOTERS])
@pytest.mark.parametrize("name", SETS)
def test_nothing_breaks(name: str, strategy: type[QuoterSettings]) -> None:
    """With defaults, over the beginning of every set: identity exact, nothing crossed, within limits, ended clean."""
    try:
        instrument = instrument_for(MARKET / name)
    except ConfigError as error:
        assert "inverse" in str(error) or "payoff" in str(error)
        return
    engine = Engine(EngineParams("0x" + "00" * 8, (DeskParams(instrument, strategy()),), RiskConfig(), 5 * SECOND))
    watch = Watch()
    Backtest(engine, NoJournal(), SimConfig(), watch).run(islice(open_dataset(MARKET / name, instrument), EVENTS))
    assert (engine.violations, engine.stopped, engine.live_orders()) == (0, True, 0)
    too_small = engine.gate.refusals.get("size_below_lot", 0) > 0  # 100 of notional, where a lot is worth more
    assert watch.steps > 300 and (watch.most_orders >= 2 or too_small)
    desk = engine.desks[instrument.name]
    assert (desk.orders.illegal, desk.orders.overfilled) == (0, 0)
