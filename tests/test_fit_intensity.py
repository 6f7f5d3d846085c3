"""The fit of the fill intensity: known laws are found again within the errors it states; too little data is refused."""

import random
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")
pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.events import MarketEvent, Trade  # noqa: E402
from mmpi.instrument import BUY, SECOND, SELL, Side  # noqa: E402
from mmpi.research.fit_intensity import DEPTHS, LEAST_SHARE, MIN_HITS, Curve, fit, run, solve  # noqa: E402
from mmpi.sim.market import GENERATED, SCENARIOS, Market  # noqa: E402
from tests.intensity_markets import MID, XY, book, grid, law, mirrored, takers  # noqa: E402

BIDS, ASKS = (0.35, 0.08), (0.2, 0.04)
"""A per second and k per tick (a tenth of a basis point) of the two sides."""


def off(curve: Curve | None, level: float, decay: float) -> tuple[float, float]:
    """Return how many standard errors A and k are off."""
    assert curve is not None
    return (curve.A_per_s - level) / curve.se["A_per_s"], (curve.k_per_tick - decay) / curve.se["k_per_tick"]


def test_a_known_law_is_found_within_the_errors_stated() -> None:
    """In sixteen markets of half an hour, off by more than three errors in none, and by about one on average."""
    found = [fit(takers(seed, 1800, BIDS, BIDS), XY, "x").pooled for seed in range(16)]
    errors = np.array([off(curve, *BIDS) for curve in found])
    assert np.abs(errors).max() < 3.0
    assert np.sqrt((errors**2).mean(axis=0)) == pytest.approx([1.0, 1.0], abs=0.4)
    assert np.abs(errors.mean(axis=0)).max() < 0.75
    assert found[0].se["k_per_tick"] < 0.06 * BIDS[1]
    assert found[0].k_per_bp == pytest.approx(10 * found[0].k_per_tick, rel=1e-4)
    assert min(curve.r2 for curve in found) > 0.98


def test_each_side_is_fitted_by_itself() -> None:
    """Sides of different laws: each is found, and the pooled curve lies between them."""
    found = fit(takers(3, 3600, BIDS, ASKS), XY, "x")
    assert np.abs(off(found.bid, *BIDS)).max() < 3.0
    assert np.abs(off(found.ask, *ASKS)).max() < 3.0
    assert ASKS[0] < found.pooled.A_per_s < BIDS[0]
    assert ASKS[1] < found.pooled.k_per_tick < BIDS[1]


def test_upside_down_the_sides_change_places() -> None:
    """To the last digit; the pooled curve stays."""
    found = fit(takers(3, 900, BIDS, ASKS), XY, "x")
    turned = fit(mirrored(takers(3, 900, BIDS, ASKS)), XY, "x")
    assert (turned.bid, turned.ask) == (found.ask, found.bid)
    assert (turned.pooled, turned.touch, turned.seconds) == (found.pooled, found.touch, found.seconds)


@pytest.mark.parametrize("scale", [1, 10, 100])
def test_the_grid_of_prices_does_not_matter(scale: int) -> None:
    """The same market on finer ticks: the same A and k per basis point, k per tick smaller by as much."""
    found = fit(takers(5, 1800, BIDS, BIDS, scale), grid(scale), "x")
    assert np.abs(off(found.pooled, BIDS[0], BIDS[1] / scale)).max() < 3.0
    assert found.pooled.k_per_bp == pytest.approx(10 * BIDS[1], rel=0.15)
    assert (found.mid, found.tick_size) == (MID, f"{1 / scale:g}")


def test_how_long_orders_are_held_does_not_matter_while_the_mid_stands_still() -> None:
    """Arrivals without memory: held for 0.1 or 30 s, the law is the same."""
    for hold_s in (0.1, 30.0):
        found = fit(takers(7, 1800, BIDS, BIDS), XY, "x", hold_s)
        assert np.abs(off(found.pooled, *BIDS)).max() < 3.0


def test_what_is_reported_of_each_depth() -> None:
    """Beyond the best price, a step or more apart, down to a twentieth of the first rate, each with its counts."""
    found = fit(takers(7, 3600, BIDS, BIDS), XY, "a set")
    depths = found.pooled.depths
    apart = np.diff([each.ticks for each in depths])
    assert (found.data, found.instrument, found.touch.ticks, depths[0].ticks) == ("a set", "XY", 1.0, 2.0)
    assert len(depths) <= DEPTHS and set(apart) == {apart[0]} and apart[0] % 1 == 0
    assert depths[-1].rate >= LEAST_SHARE * depths[0].rate > 0.8 * depths[-1].rate
    for each in (*depths, found.touch):
        assert each.rate == pytest.approx(each.hits / each.seconds, rel=1e-5)
        assert each.bps == pytest.approx(each.ticks / 10, rel=1e-5)
        assert each.rate == pytest.approx(law(*BIDS, each.ticks), rel=5 / each.hits**0.5)
    assert depths[0].fitted == pytest.approx(
        law(found.pooled.A_per_s, found.pooled.k_per_tick, depths[0].ticks), rel=1e-4
    )
    rates, fitted, hits = (np.array([getattr(each, key) for each in depths]) for key in ("rate", "fitted", "hits"))
    around = np.log(rates) - np.average(np.log(rates), weights=hits)
    assert found.pooled.r2 == pytest.approx(1 - hits @ np.log(rates / fitted) ** 2 / (hits @ around**2), abs=1e-4)
    assert found.bid is not None and found.ask is not None
    assert [x.hits + y.hits for x, y in zip(found.bid.depths, found.ask.depths, strict=True)] == [
        each.hits for each in depths
    ]


def test_the_report_has_the_pooled_numbers_at_the_top() -> None:
    """Plain data, with the sides beside them."""
    found = fit(takers(7, 900, BIDS, BIDS), XY, "x")
    plain = found.report()
    assert plain["A_per_s"] == found.pooled.A_per_s
    assert plain["se"] == found.pooled.se
    assert isinstance(plain["sides"], dict) and set(plain["sides"]) == {"bid", "ask"}
    assert isinstance(plain["depths"], list) and isinstance(plain["depths"][0], dict)


def test_exact_counts_give_the_exact_law() -> None:
    """Whatever the seconds; nothing is taken for a flat law, and no hits for no arrivals."""
    depths, seconds = np.array([3.0, 5.0, 7.0, 9.0]), np.array([100.0, 130.0, 150.0, 155.0])
    assert solve(depths, seconds * 0.7 * np.exp(-0.3 * depths), seconds) == pytest.approx((0.7, 0.3), rel=1e-9)
    assert solve(depths, seconds * 0.7, seconds) == pytest.approx((0.7, 0.0), abs=1e-9)
    assert solve(depths, np.zeros(4), seconds) == (0.0, 0.0)


def only(side: Side, events: Iterator[MarketEvent]) -> Iterator[MarketEvent]:
    return (each for each in events if not isinstance(each, Trade) or each.side == side)


def test_a_side_without_takers_has_no_curve() -> None:
    """The other one has, and the pooled curve has half of its A."""
    found = fit(only(SELL, takers(8, 1800, BIDS, BIDS)), XY, "x")
    assert found.ask is None and found.bid is not None
    assert found.pooled.k_per_tick == pytest.approx(found.bid.k_per_tick, rel=0.05)
    assert found.pooled.A_per_s == pytest.approx(found.bid.A_per_s / 2, rel=0.1)


def test_too_little_data_is_refused() -> None:
    """The error names the set, the instrument, what there is and what is needed."""
    with pytest.raises(ConfigError, match="a set: 59 s of XY with a valid mid; .* needs at least 100 s"):
        fit(takers(1, 59.3, BIDS, BIDS), XY, "a set")
    with pytest.raises(ConfigError, match="a set: 0 s of XY .* needs at least 300 s"):
        fit([], XY, "a set", hold_s=30.0)
    with pytest.raises(ConfigError, match=rf"a set: XY: \d+, \d+, \d+ hits at the 3 .* needs {MIN_HITS} at each"):
        fit(takers(1, 600, (0.01, 0.2), (0.01, 0.2)), XY, "a set")


def test_a_law_without_a_slope_is_refused() -> None:
    """Where every sweep goes through everything there is no k, and none is made up."""
    always = [Trade(i * 10**9 + 5, "XY", 0, i, BUY, 2 * MID, 1) for i in range(1, 200)]
    events: list[MarketEvent] = sorted([*always, *(book(i * 10**9) for i in range(200))], key=lambda e: e.recv_ts)
    with pytest.raises(ConfigError, match="a fit of the intensity needs some that did not"):
        fit(events, XY, "a set")


def test_the_quoters_defaults_are_what_it_gives(data: Path) -> None:
    """Hyperliquid's ETH of 2025-09-03, which their k and A are said to come from: within half a standard error."""
    told: list[float] = []
    found = run(str(data / "market" / "hyperliquid_eth_20250903"), progress=told.append)
    assert found.pooled.k_per_bp == pytest.approx(0.55, abs=found.pooled.se["k_per_bp"] / 2)
    assert found.pooled.A_per_s == pytest.approx(0.085, abs=found.pooled.se["A_per_s"] / 2)
    assert found.bid is None
    assert told == sorted(told) and 0.0 <= told[0] <= told[-1] <= 1.0


def test_recorded_days_have_an_exponential_behind_the_best_price(data: Path) -> None:
    """BTC's and SOL's of 2025-09-04: R^2 above 0.98, each k known to 15%, and far more at the best price."""
    for name in ("hyperliquid_btc_20250904", "hyperliquid_sol_20250904"):
        found = run(str(data / "market" / name))
        assert found.pooled.r2 > 0.98
        assert found.pooled.se["k_per_bp"] < 0.15 * found.pooled.k_per_bp
        assert found.touch.rate > 3 * found.touch.fitted


def test_the_same_data_give_the_same_numbers(data: Path) -> None:
    """To the last digit."""
    name = str(data / "market" / "hyperliquid_eth_20250903")
    assert run(name) == run(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["binance_spot_nexousdt_20240724", "standx_btcusd_20260106",
                                  "bitstamp_btcusd_l3_20150501"])  # fmt: skip
def test_other_venues_have_one_too(data: Path, name: str) -> None:
    """A thin market of coarse ticks, a locked one, an old one: a slope that is many errors from none."""
    found = run(str(data / "market" / name)).pooled
    assert found.k_per_bp > 5 * found.se["k_per_bp"]
    assert found.A_per_s > 3 * found.se["A_per_s"]


def test_the_generated_market_has_one() -> None:
    """Ten minutes of it give a slope that is many errors from none."""
    begin = 1_700_000_000 * SECOND
    market = Market([GENERATED["BTC"]], SCENARIOS["normal"], random.Random(1)).events(begin)
    found = fit(takewhile(lambda event: event.recv_ts < begin + 600 * SECOND, market), GENERATED["BTC"], "generated")
    assert found.pooled.k_per_bp > 5 * found.pooled.se["k_per_bp"]
    assert found.pooled.r2 > 0.95
