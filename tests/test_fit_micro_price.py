"""The fit of the micro-price: against chains whose answer is known, and on recorded days that it has not seen."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")
pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.events import Bbo, BookSnapshot, Trade  # noqa: E402
from mmpi.instrument import SECOND, make_instrument  # noqa: E402
from mmpi.research.fit_micro_price import (  # noqa: E402
    MIN_SEEN,
    Errors,
    errors,
    fit,
    fit_touches,
    limit,
    run,
    touches,
)
from mmpi.signals.micro_price import FITTED, MicroPriceTable, table_for  # noqa: E402

XY = make_instrument("XY", "1", "1")
SIZES = ((1, 7), (3, 5), (5, 3), (7, 1))
"""Bid and ask sizes at the middle of four buckets."""
STILL = np.array([[0.50, 0.15, 0.05, 0.0], [0.20, 0.40, 0.20, 0.05], [0.05, 0.20, 0.40, 0.20], [0.0, 0.05, 0.15, 0.50]])
"""Chances of the next bucket while the mid stays."""
DOWN = np.array([[0.05, 0.10, 0.10, 0.0], [0.02, 0.03, 0.03, 0.02], [0.01, 0.02, 0.01, 0.01], [0.0, 0.01, 0.03, 0.01]])
"""Chances of the next bucket with the mid one tick lower; one higher is the mirror image."""
UP = DOWN[::-1, ::-1]


def worth() -> list[float]:
    """Return each bucket's expected move of the mid for ever after, by iterating one step's expectation on its own."""
    move = UP.sum(axis=1) - DOWN.sum(axis=1)
    ahead = np.zeros(4)
    for _ in range(2000):
        ahead = move + (STILL + UP + DOWN) @ ahead
    return list(ahead)


def market(count: int, seed: int, spread: int = 1) -> Iterator[Bbo]:
    """Yield the chain's touches, one a second."""
    chance = random.Random(seed)
    outcomes = [(move, bucket) for move in (0, -1, 1) for bucket in range(4)]
    weights = [np.concatenate([STILL[row], DOWN[row], UP[row]]).tolist() for row in range(4)]
    bid, bucket = 10_000, 0
    for second in range(count):
        buy, sell = SIZES[bucket]
        yield Bbo(second * SECOND, "XY", 0, 0, bid, buy, bid + spread, sell)
        move, bucket = chance.choices(outcomes, weights[bucket])[0]
        bid += move


def mirrored(events: Iterator[Bbo]) -> Iterator[Bbo]:
    """Yield the market upside down."""
    for each in events:
        yield Bbo(each.recv_ts, "XY", 0, 0, 20_000 - each.ask, each.ask_size, 20_000 - each.bid, each.bid_size)


def rescaled(events: Iterator[Bbo], size: int, later: int) -> Iterator[Bbo]:
    """Yield the market with sizes in another unit, at another time."""
    for each in events:
        yield Bbo(each.recv_ts + later, "XY", 0, 0, each.bid, each.bid_size * size, each.ask, each.ask_size * size)


def test_the_chain_is_one() -> None:
    """The test's own numbers are chances, and what they come to is antisymmetric."""
    assert (STILL + DOWN + UP).sum(axis=1) == pytest.approx(1.0)
    assert worth() == pytest.approx([-value for value in worth()[::-1]])
    assert worth()[3] > worth()[2] > 0.1


def test_the_limit_is_the_expected_move() -> None:
    """Exact chances give the paper's G*, sum of B^i G1, and the iterated expectation to 1e-9."""
    fold = np.array([[0, 0], [0, 0], [1, 0], [0, 1.0]]) - np.array([[0, 1.0], [1, 0], [0, 0], [0, 0]])
    still, moved = STILL[2:] @ fold, (UP + DOWN)[2:] @ fold
    move = (UP.sum(axis=1) - DOWN.sum(axis=1))[2:]
    found = limit(move, still, moved)
    assert found == pytest.approx(worth()[2:], rel=1e-9)
    first = np.linalg.inv(np.eye(4) - STILL) @ (UP.sum(axis=1) - DOWN.sum(axis=1))
    onward, series = np.linalg.inv(np.eye(4) - STILL) @ (UP + DOWN), first
    for _ in range(500):
        series = first + onward @ series
    assert found == pytest.approx(series[2:], rel=1e-9)


def test_a_known_chain_is_found() -> None:
    """From 150,000 touches of it the table is the chain's own within 5% of its largest number."""
    table = fit(market(150_000, seed=4), XY, buckets=4, max_spread=1)
    assert table.adjust[0] == pytest.approx(worth(), abs=0.05 * worth()[3])
    assert (table.buckets, table.max_spread, table.step) == (4, 1, 1)


def test_the_known_chain_makes_a_martingale() -> None:
    """Tested on another run of the chain, the micro-price has a quarter of the mid's bias, and the least rms error."""
    table = fit(market(60_000, seed=5), XY, buckets=4, max_spread=1)
    found = errors(table, touches(market(60_000, seed=6), XY))
    assert found["5s micro_price"]["bias"] < 0.25 * found["5s mid"]["bias"]
    assert better(found, "5s", "rms") == better(found, "5s", "bias") == (True, True)


def test_mirrors_units_and_times() -> None:
    """Upside down, in other units of size, at another time: the same table."""
    table = fit(market(5000, seed=1), XY, 4, 1)
    assert fit(mirrored(market(5000, seed=1)), XY, 4, 1) == table
    assert fit(rescaled(market(5000, seed=1), 1000, 86_400 * SECOND), XY, 4, 1) == table


def test_rare_spreads_join_the_row_below() -> None:
    """A spread that was hardly seen gets no row of its own; one that was seen often does."""
    rare = [*market(3000, seed=1), *rescaled(market(MIN_SEEN, seed=2, spread=2), 1, 3000 * SECOND)]
    often = [*market(3000, seed=1), *rescaled(market(3000, seed=2, spread=2), 1, 3000 * SECOND)]
    assert fit(rare, XY, 4, 3).max_spread == 1
    assert fit(often, XY, 4, 3).max_spread == 2


def test_what_counts_as_a_touch() -> None:
    """Books with two sides and a spread, of that instrument; trades, locked, crossed and one-sided ones do not."""
    events = [
        BookSnapshot(1, "XY", 0, 0, ((10, 2), (9, 5)), ((12, 3),)), Bbo(2, "XY", 0, 0, 11, 1, 11, 1),
        Bbo(3, "XY", 0, 0, 12, 1, 11, 1), Bbo(4, "XY", 0, 0, 12, 1, 0, 0), Bbo(5, "ZZ", 0, 0, 1, 1, 2, 1),
        Trade(6, "XY", 0, 1, 1, 11, 1), Bbo(7, "XY", 0, 0, 11, 4, 12, 5),
    ]  # fmt: skip
    seen = touches(events, XY)
    assert [seen.ts.tolist(), seen.bid.tolist(), seen.ask_size.tolist()] == [[1, 7], [10, 11], [3, 5]]


def test_a_hole_is_no_step() -> None:
    """What the mid did while nothing was heard is left out: such steps added, the table stays as it is."""
    whole = list(market(5000, seed=3))
    after = [Bbo(10**15, "XY", 0, 0, 10_500, 7, 10_501, 1), Bbo(2 * 10**15, "XY", 0, 0, 9_000, 1, 9_001, 7)]
    assert fit([*whole, *after], XY, 4, 1) == fit(whole, XY, 4, 1)


def test_too_little_data_is_an_error() -> None:
    """A table of a few observations is refused, and so are buckets that have no mirror image."""
    with pytest.raises(ConfigError, match="a fit needs 100"):
        fit(market(150, seed=1), XY, 4, 1)
    with pytest.raises(ConfigError, match="a fit needs"):
        fit([], XY)
    with pytest.raises(ConfigError, match="buckets 5 must be even"):
        fit(market(300, seed=1), XY, 5, 1)


def better(found: Errors, horizon: str, number: str) -> tuple[bool, bool]:
    """Return whether the micro-price beats the mid, and the weighted mid, at a horizon."""
    mine = found[f"{horizon} micro_price"][number]
    return mine < found[f"{horizon} mid"][number], mine < found[f"{horizon} weighted_mid"][number]


def market_set(data: Path, name: str) -> str:
    return str(data / "market" / name)


def test_it_predicts_the_other_half_of_hyperliquid_btc(data: Path) -> None:
    """Fitted on the first half of the recording, it beats mid and weighted mid on the second, 30 and 60 s ahead."""
    done = run(market_set(data, "hyperliquid_btc_20250904"))
    assert done.observations == 3785
    for number in ("rms", "bias", "mean_abs"):
        assert better(done.out_of_sample, "30s", number) == (True, True)
        assert better(done.out_of_sample, "60s", number) == (True, True)
    assert done.report()["out_of_sample"] == done.out_of_sample


def test_shipped_tables_are_what_the_fit_gives(data: Path) -> None:
    """The numbers in the module are those of the sets that it names."""
    for name, recording in (("BTC", "hyperliquid_btc_20250904"), ("SOL", "hyperliquid_sol_20250904"),
                            ("NEXOUSDT", "binance_spot_nexousdt_20240723")):  # fmt: skip
        assert run(market_set(data, recording)).table == FITTED[name]


@pytest.mark.slow
def test_it_predicts_the_next_day_of_nexo(data: Path) -> None:
    """Fitted on 20 minutes, on the next day it has the least rms error from 30 s on, and a third of the mid's bias."""
    first, second = (market_set(data, f"binance_spot_nexousdt_202407{day}") for day in (23, 24))
    found = run(first, test=second)
    for horizon in ("30s", "60s", "120s"):
        assert better(found.out_of_sample, horizon, "rms") == (True, True)
        assert better(found.out_of_sample, horizon, "bias") == (True, True)
    assert found.out_of_sample["30s micro_price"]["bias"] < found.out_of_sample["30s mid"]["bias"] / 3


def test_other_tables_predict_worse(data: Path) -> None:
    """The test can fail: a table turned round is worse than the mid."""
    from mmpi.research.dataset import instrument_for, open_dataset

    name = market_set(data, "hyperliquid_btc_20250904")
    listed = instrument_for(name)
    table = table_for("BTC")
    assert table is not None
    turned = MicroPriceTable(6, 1, (table.adjust[0][::-1],), step=10)
    seen = touches(open_dataset(name, listed), listed)
    assert better(errors(turned, seen), "30s", "rms") == (False, False)
    assert fit_touches(seen, listed, 6, 3) == table
