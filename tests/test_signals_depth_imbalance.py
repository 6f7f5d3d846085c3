"""Depth imbalance: by hand, against the plain formula, and under mirrors and other units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.events import Level
from mmpi.signals.depth_imbalance import depth_imbalance

Side = tuple[Level, ...]


def side(sizes: list[int], best: int = 100, step: int = -1) -> Side:
    """Return levels of these sizes, one tick apart."""
    return tuple((best + step * i, size) for i, size in enumerate(sizes))


sides = st.lists(st.integers(1, 10**12), max_size=20).map(side)
depths = st.integers(1, 25)
decays = st.one_of(st.just(1.0), st.floats(0.05, 1.0))


def direct(bids: Side, asks: Side, levels: int, decay: float) -> float:
    """Return the formula, written out."""
    buy = sum(size * decay**i for i, (_, size) in enumerate(bids[:levels]))
    sell = sum(size * decay**i for i, (_, size) in enumerate(asks[:levels]))
    return (buy - sell) / (buy + sell) if buy + sell else 0.0


def test_by_hand() -> None:
    """Two levels of 3 and 1 against 1 and 1: (4 - 2) / 6 flat, (3.5 - 1.5) / 5 with the second at half weight."""
    bids, asks = side([3, 1, 50]), side([1, 1, 7], 101, 1)
    assert depth_imbalance(bids, asks, 2) == pytest.approx(1 / 3, rel=1e-15)
    assert depth_imbalance(bids, asks, 2, 0.5) == pytest.approx(0.4, rel=1e-15)
    assert depth_imbalance(bids, asks, 1, 0.5) == 0.5


@given(sides, sides, depths, decays)
def test_equals_the_formula(bids: Side, asks: Side, levels: int, decay: float) -> None:
    """It is the weighted difference over the sum, in [-1, 1], for any depth and decay."""
    value = depth_imbalance(bids, asks, levels, decay)
    assert value == pytest.approx(direct(bids, asks, levels, decay), rel=1e-12, abs=1e-12)
    assert -1.0 <= value <= 1.0


@given(sides, sides, depths, decays)
def test_the_mirrored_book_negates_it(bids: Side, asks: Side, levels: int, decay: float) -> None:
    """Sides exchanged, the value is its negative to the last bit."""
    assert depth_imbalance(asks, bids, levels, decay) == -depth_imbalance(bids, asks, levels, decay)


@given(sides, sides, depths, decays, st.sampled_from([2, 1000, 7]), st.integers(-50, 50))
def test_units_and_prices_do_not_matter(
    bids: Side, asks: Side, levels: int, decay: float, factor: int, shift: int
) -> None:
    """Sizes in another unit and prices moved give the same value."""
    moved = [tuple((price + shift, size * factor) for price, size in levels_) for levels_ in (bids, asks)]
    value = depth_imbalance(bids, asks, levels, decay)
    assert depth_imbalance(moved[0], moved[1], levels, decay) == pytest.approx(value, rel=1e-12, abs=1e-12)


def test_empty_sides() -> None:
    """One empty side is all the other's; an empty book is balanced."""
    assert depth_imbalance(side([2]), (), 5) == 1.0
    assert depth_imbalance((), side([2]), 5, 0.5) == -1.0
    assert depth_imbalance((), (), 5) == depth_imbalance((), (), 5, 0.5) == 0.0
