"""I10 with every strategy: what an engine remembers beside its checkpoint changes no action and no counter."""

import random

import msgspec
import pytest
from engine_builders import PATIENCE, PREFIX, WIDE, A, B, Bench, Wild, wild_event
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import BookSnapshot, Event, Level, Mark, Timer, Trade
from mmpi.instrument import BUY, MONEY_SCALE
from mmpi.inventory import CRITICAL, NORMAL, WARN
from mmpi.journal.record import encode_payload
from mmpi.ports import NO_READINGS, MarketView, Readings
from mmpi.quoting import QuoterSettings, make_quoter
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig

pytestmark = pytest.mark.slow

SIZE = {"size": "10", "notional": ""}
STRATEGIES: dict[str, tuple[QuoterSettings, ...]] = {
    "layered": (
        LayeredConfig(levels=3, spread_percent=0.2, step_percent=0.1, volatility_multiple=1.0, **SIZE),  # type: ignore[arg-type]
        LayeredConfig(levels=1, spread_percent=0.2, reference="weighted_mid", tolerance_ticks=2, **SIZE),  # type: ignore[arg-type]
    ),
    "avellaneda_stoikov": (
        AvellanedaStoikovConfig(size="30", notional="", use_regime=True, flow_shift=0.5, pause_imbalance=0.7),
        AvellanedaStoikovConfig(size="30", notional="", reference="micro_price", imbalance_shift=0.5),
    ),
    "glft": (
        GlftConfig(max_inventory=3, **SIZE),  # type: ignore[arg-type]
        GlftConfig(approximate=True, tolerance_ticks=2, **SIZE),  # type: ignore[arg-type]
    ),
    "improve": (
        ImproveConfig(pair_policy="cancel", reference_size="5", reference_notional="", **SIZE),  # type: ignore[arg-type]
        ImproveConfig(refresh_interval_s=1.0, update_interval_s=0.1, reference_notional="", **SIZE),  # type: ignore[arg-type]
    ),
}
LIMITS = RiskConfig(
    max_position=60_000 * MONEY_SCALE,
    max_order=31_000 * MONEY_SCALE,
    max_instrument=200_000 * MONEY_SCALE,
    max_total=400_000 * MONEY_SCALE,
    session_loss=10**9 * MONEY_SCALE,
    max_drawdown=10**9 * MONEY_SCALE,
    orders_per_s=3.0,
    order_burst=12,
    max_open_orders=6,
    price_band_bps=100.0,
)
"""Near enough to be touched."""
STEPS = 60


def side_of_book(chance: random.Random, away: int, mid: int) -> tuple[Level, ...]:
    """Return up to four levels, best first; sometimes none."""
    prices = sorted(chance.sample(range(1, 9), chance.choice((0, 1, 2, 3, 4, 4, 4, 4))))
    return tuple((mid + away * off, chance.choice((1, 5, 20, 50))) for off in prices)


def with_ours(event: BookSnapshot, bench: Bench) -> BookSnapshot:
    """Return the book as a venue shows it that merges our own orders into its levels."""
    sides = dict(event.bids), dict(event.asks)
    for order in bench.orders(event.instrument):
        side = sides[0] if order.side == BUY else sides[1]
        side[order.price] = side.get(order.price, 0) + max(order.leaves, 1)
    bids, asks = tuple(sorted(sides[0].items(), reverse=True)), tuple(sorted(sides[1].items()))
    return BookSnapshot(event.recv_ts, event.instrument, event.exch_ts, 0, bids, asks)


def happening(chance: random.Random, bench: Bench, *, shows_us: bool) -> list[Event]:
    """Return what happens next: books, marks, trades, answers, wake-ups, and anything at all."""
    name, kind = chance.choice("AB"), chance.random()
    bench.after(chance.choice((0.001, 0.1, 0.3, 1.0)))
    now, mid = bench.now, 1000 + chance.choice((0, 0, 0, -1, 1, 30))
    if kind < 0.45:
        made = BookSnapshot(now, name, now, 0, side_of_book(chance, -1, mid), side_of_book(chance, 1, mid))
        return [with_ours(made, bench) if shows_us else made]
    if kind < 0.55:
        return [Mark(now, name, now, float(chance.choice((0, mid, mid + 3))))]
    if kind < 0.6:
        return [Trade(now, name, now, 1, chance.choice((1, -1)), mid, 3)]
    if kind < 0.8:
        return wild_event(Wild("ack_all", chance.randrange(40)), bench)
    if kind < 0.9:
        bench.now = max(now, bench.engine.wake_at)
        return [Timer(bench.now)]
    what = chance.choice(("report", "trade", "trade", "recover", "reconciled", "disconnected", "halted"))
    return wild_event(Wild(what, chance.randrange(40), chance.randrange(12)), bench)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, STEPS), st.booleans())
def test_an_engine_restored_before_every_event_acts_the_same(
    strategy: str, seed: int, cut: int, shows_us: bool
) -> None:
    """A twin restored before each event, and one that lives on from a cut, give the same actions and checkpoints."""
    desks = tuple(DeskParams(*each, shows_us) for each in zip((A, B), STRATEGIES[strategy], strict=True))
    params = EngineParams(PREFIX, desks, LIMITS, PATIENCE)
    bench, chance = Bench((A, B), risk=WIDE), random.Random(seed)
    engine = bench.engine = Engine(params)
    bench.connect()
    bench.reconcile(A=chance.choice((0, 0, 40, -70)))
    survivor = Engine(params)
    for number in range(STEPS):
        if number == cut:
            survivor.restore(engine.checkpoint())
        for event in happening(chance, bench, shows_us=shows_us):
            twin = Engine(params)
            twin.restore(engine.checkpoint())
            expected = [encode_payload(each) for each in engine.handle(event)]
            for other in (twin, survivor) if number >= cut else (twin,):
                assert [encode_payload(each) for each in other.handle(event)] == expected
                assert other.checkpoint() == engine.checkpoint()
    assert engine.violations == 0


VIEW = MarketView(
    A, 1, 999, 1001, 1000.0, 1000.0, 0.5, 20, 60, NORMAL, ((999, 5), (998, 50)), ((1001, 5), (1002, 50)), 0.0,
    Readings(imbalance=0.1, micro_price=1000.2, buy_intensity=1.0, sell_intensity=1.0),
)  # fmt: skip
ONE_FIELD: tuple[dict[str, object], ...] = (
    {"mid": 1000.5}, {"weighted_mid": 1000.6}, {"volatility": 3.0}, {"position": -20}, {"limit": 30},
    {"band": WARN}, {"band": CRITICAL}, {"best_bid": 1000}, {"best_ask": 1000}, {"bids": ((998, 50),)},
    {"asks": ((1002, 50),)}, {"bid_failed": True}, {"ask_failed": True}, {"readings": NO_READINGS},
    {"readings": msgspec.structs.replace(VIEW.readings, regime=3)},
    {"readings": msgspec.structs.replace(VIEW.readings, imbalance=0.9)},
    {"readings": msgspec.structs.replace(VIEW.readings, micro_price=1000.9)},
    {"readings": msgspec.structs.replace(VIEW.readings, buy_intensity=9.0)},
)  # fmt: skip


@pytest.mark.parametrize("config", [config for pair in STRATEGIES.values() for config in pair])
@pytest.mark.parametrize("changed", ONE_FIELD)
def test_a_remembered_ladder_is_of_the_very_view(config: QuoterSettings, changed: dict[str, object]) -> None:
    """Where one thing alone changed in the view, a quoter that remembers answers as one that never saw another."""
    view = msgspec.structs.replace(VIEW, **changed)
    quoter = make_quoter(config, A)
    quoter.quote(VIEW)
    assert quoter.quote(view) == make_quoter(config, A).quote(view)
    assert quoter.quote(VIEW) == make_quoter(config, A).quote(VIEW)
