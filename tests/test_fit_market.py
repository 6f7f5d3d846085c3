"""The fit finds known parameters again; the shipped numbers are what it prints; the generated market measures alike."""

import math
import random
from itertools import takewhile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, MarketEvent, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Nanos
from mmpi.research.dataset import Dataset
from mmpi.research.fit_market import fit, hawkes, hill, profile, run, trend
from mmpi.sim.market import GENERATED, SCENARIOS, Market
from mmpi.sim.market_fit import FITTED, FittedMarket

pytestmark = pytest.mark.slow

START: Nanos = 1_700_000_000 * SECOND
BTC = GENERATED["BTC"]


def dataset(events: list[MarketEvent]) -> Dataset:
    return Dataset("built", BTC, len(events), lambda _: [iter(events)])


def generated(scenario: str, seconds: int, seed: int = 1) -> FittedMarket:
    """Return the fit of a generated market whose books come as often as the recorded ones."""
    config = msgspec.structs.replace(SCENARIOS[scenario], book_interval_ms=540.0)
    market = Market([BTC], config, random.Random(seed)).events(START)
    return fit(dataset(list(takewhile(lambda event: event.recv_ts < START + seconds * SECOND, market))))


def hawkes_times(base: float, branching: float, decay: float, seconds: float, seed: int) -> list[float]:
    """Return event times by thinning (Ogata 1981), independently of the generator's own code."""
    rng = random.Random(seed)
    now, excited, times = 0.0, 0.0, []
    while now < seconds:
        bound = base + excited
        wait = rng.expovariate(bound)
        now += wait
        excited *= math.exp(-decay * wait)
        if rng.random() * bound < base + excited:
            times.append(now)
            excited += branching * decay
    return times


@pytest.mark.parametrize(("branching", "decay"), [(0.6, 2.0), (0.4, 0.1), (0.8, 5.0)])
def test_the_hawkes_fit_finds_known_parameters(branching: float, decay: float) -> None:
    """About 5000 events: the branching ratio within 0.1, the decay within a factor of 1.5."""
    times = hawkes_times(1.0 - branching, branching, decay, 5000, seed=1)
    found, rate = hawkes(np.array(times))
    assert found == pytest.approx(branching, abs=0.1)
    assert decay / 1.5 < rate < 1.5 * decay


def test_events_without_clustering_have_no_branching() -> None:
    """A Poisson process: less than a tenth of the events has a parent."""
    assert hawkes(np.array(hawkes_times(1.0, 0.0, 1.0, 5000, seed=2)))[0] < 0.1


def test_the_recursive_likelihood_is_the_direct_sum() -> None:
    """To a millionth, against the double loop over all pairs."""
    times = hawkes_times(0.4, 0.6, 2.0, 200, seed=3)
    likelihood, branching = profile(np.array(times), 2.0)
    reach = sum(1 - math.exp(-2.0 * (times[-1] - t)) for t in times)
    span = times[-1] - times[0]
    base = (len(times) - branching * reach) / span  # at the maximum, expected and observed counts agree
    rates = [base + branching * sum(2.0 * math.exp(-2.0 * (t - s)) for s in times[:i]) for i, t in enumerate(times)]
    direct = sum(map(math.log, rates)) - base * span - branching * reach
    assert likelihood == pytest.approx(direct, rel=1e-6)


@pytest.mark.parametrize("index", [0.75, 1.1, 2.0])
def test_hill_finds_a_pareto_tail(index: float) -> None:
    """20000 sizes: the index within a tenth."""
    rng = random.Random(4)
    sizes = np.array([rng.paretovariate(index) for _ in range(20_000)])
    assert hill(sizes)[1] == pytest.approx(index, rel=0.1)


def test_a_handful_of_sizes_has_no_tail() -> None:
    """Nothing is guessed from fifty orders."""
    assert hill(np.arange(1.0, 50.0)) == (0.0, 0.0)


@pytest.mark.parametrize(("share", "tau"), [(0.0, 1.0), (0.6, 2.0), (0.8, 10.0)])
def test_trend_and_volatility_are_told_apart(share: float, tau: float) -> None:
    """Ten hours: variance within 15%, the drift's share within 0.1, its time constant within a factor of 1.6."""
    rng = np.random.default_rng(5)
    step, count, keep = 0.5, 72_000, math.exp(-0.5 / tau)
    shocks = rng.normal(0, math.sqrt(share / (2 * tau) * (1 - keep * keep)), count)
    drift, moves = 0.0, np.empty(count)
    for i, shock in enumerate(shocks):
        moves[i] = drift * step
        drift = drift * keep + shock
    path = np.cumsum(moves + rng.normal(0, math.sqrt((1 - share) * step), count))
    variance, found, constant = trend(np.arange(count) * step, path)
    assert variance == pytest.approx(1.0, rel=0.15)
    assert found == pytest.approx(share, abs=0.1)
    if share:
        assert tau / 1.6 < constant < 1.6 * tau


def built(count: int) -> list[MarketEvent]:
    """Return books every half second with a jump of 20 bps each 100, half of them locked, and trades in pairs."""
    events: list[MarketEvent] = []
    mid = 1_000_000
    for i in range(count):
        ts = START + i * 500 * MILLISECOND
        mid += (2000 if i % 200 == 100 else -2000) if i % 100 == 0 and i else 0
        ask = mid if i % 2 else mid + 10
        events.append(BookSnapshot(ts, "BTC", ts, i + 1, ((mid, 100), (mid - 10, 100)), ((ask, 100), (ask + 10, 100))))
        side = BUY if i % 3 else SELL
        events += [Trade(ts + 1, "BTC", ts + 1, 2 * i + n, side, mid, 50) for n in range(2)]
    return events


def test_what_is_counted_is_counted() -> None:
    """Locked share, jumps, orders of several trades and kept level sizes of a built tape come out as built."""
    found = fit(dataset(built(1001)))
    assert (found.books, found.orders) == (1001, 1001)
    assert found.locked_share == pytest.approx(0.5, abs=0.001)
    assert found.jump_bps == pytest.approx(20, rel=0.01)
    assert found.jump_every_s == pytest.approx(50, rel=0.01)
    assert found.order_sizes[5] == pytest.approx(100)  # two trades of 0.0005 BTC at 100000
    assert (found.stall_s, found.wide_share, found.refresh_per_s) == (0.0, 0.0, 0.0)


def test_a_stall_is_no_quiet_time() -> None:
    """A hole of a minute is told as a stall and counts neither in the time nor in the rates."""
    events = built(1001)
    minute = 60 * SECOND
    late = [msgspec.structs.replace(e, recv_ts=e.recv_ts + minute, exch_ts=e.exch_ts + minute) for e in events]
    whole, holed = fit(dataset(events)), fit(dataset(events[:1500] + late[1500:]))
    assert holed.stall_s == pytest.approx(60.5, abs=0.01)
    assert holed.orders_per_s == pytest.approx(whole.orders_per_s, rel=0.01)
    assert holed.seconds == pytest.approx(whole.seconds, abs=1)


def test_a_set_that_is_too_short_is_refused() -> None:
    """The error says how many books there were and how many it takes."""
    with pytest.raises(ConfigError, match="built: 50 books; a fit needs at least 100"):
        fit(dataset(built(50)))


@pytest.mark.parametrize("name", FITTED)
def test_the_shipped_numbers_are_what_the_fit_prints(data: Path, name: str) -> None:
    """Every constant in market_fit.py is the recorded set's, within the last of its four digits."""
    (found,) = run([data / "market" / FITTED[name].source])
    shipped = FITTED[name]
    for key in shipped.__struct_fields__:
        expected, value = getattr(shipped, key), getattr(found, key)
        if isinstance(expected, float | tuple):
            assert np.ravel(value) == pytest.approx(np.ravel(expected), rel=0.002), key
        else:
            assert value == expected


TOLERANCES = {
    # three standard errors of an hour, and what the fit loses: jumps that a trend covers, a trend that jumps cover
    "volatility_bps": 0.25,
    "trend_share": 0.4,
    "orders_per_s": 0.15,
    "branching": 0.25,
    "decay_per_s": 0.6,
    "tail_from": 0.3,
    "tail": 0.2,
    "refresh_per_s": 0.05,
    "wide_share": 0.2,
    "wide_steps": 0.2,
    "impact_share": 0.5,
    "impact_exponent": 0.4,
    "jump_bps": 0.6,
    "book_interval_s": 0.02,
}
"""Largest relative distance of the generated market's figure from the recorded market's."""


def test_an_hour_of_the_calm_market_measures_like_the_recording() -> None:
    """Volatility, trend, clustering, sizes, spreads, impact within TOLERANCES; jumps within a factor of three."""
    found, recorded = generated("calm", 3600), FITTED["BTC"]
    far = {
        key: (getattr(found, key), getattr(recorded, key))
        for key, tolerance in TOLERANCES.items()
        if abs(getattr(found, key) / getattr(recorded, key) - 1) > tolerance
    }
    assert far == {}
    assert recorded.jump_every_s / 3 < found.jump_every_s < 3 * recorded.jump_every_s
    middle = slice(3, 8)
    assert found.order_sizes[middle] == pytest.approx(recorded.order_sizes[middle], rel=0.25)
    for group in (1, 2):  # the touch is thinner: here every taker comes from the whole table, whatever stands there
        assert found.level_sizes[group][middle] == pytest.approx(recorded.level_sizes[group][middle], rel=0.4)
    assert 0.4 < found.level_sizes[0][5] / recorded.level_sizes[0][5] < 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_other_hours_measure_like_it_too(seed: int) -> None:
    """The first hour was no luck: the volatility is within 40% and the clustering within 0.2 of the recorded one."""
    found, recorded = generated("calm", 3600, seed), FITTED["BTC"]
    assert found.volatility_bps == pytest.approx(recorded.volatility_bps, rel=0.4)
    assert found.branching == pytest.approx(recorded.branching, abs=0.2)


def test_the_normal_market_has_the_pace_of_the_livelier_recording() -> None:
    """Volatility and orders a second are within a third of those recorded in SOL; the regimes add the scatter."""
    found, recorded = generated("normal", 3600, 2), FITTED["SOL"]
    assert found.volatility_bps == pytest.approx(recorded.volatility_bps, rel=0.33)
    assert found.orders_per_s == pytest.approx(recorded.orders_per_s, rel=0.33)
