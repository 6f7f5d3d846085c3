"""Recorded numbers become integers exactly, or are rounded against us and counted."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmpi.instrument import BUY, SELL, Instrument, Side, make_instrument
from mmpi.research.grid import Tally, merge_levels, price_ticks, size_lots, usable

SATOSHI = make_instrument("X", "0.01", "0.00000001")


@given(ticks=st.integers(1, 10**9), tick=st.sampled_from(["0.1", "0.01", "0.001", "0.000001", "0.5", "1", "0.25"]))
def test_a_price_on_the_grid_is_exact(ticks: int, tick: str) -> None:
    """Reading a price on the grid as a double loses nothing, for either side."""
    instrument, tally = make_instrument("X", tick, "1"), Tally()
    price = float(Decimal(tick) * ticks)
    assert price_ticks(price, instrument, BUY, tally) == price_ticks(price, instrument, SELL, tally) == ticks
    assert tally == Tally()


@given(lots=st.integers(1, 10**13))
@example(lots=6_777_177_748_507)  # scales to ...506.999 as a double
def test_a_size_on_the_grid_is_exact(lots: int) -> None:
    """A size of up to 100,000 coins in satoshis loses nothing."""
    tally = Tally()
    assert size_lots(float(Decimal(lots) / 10**8), SATOSHI, tally) == lots
    assert tally == Tally()


@pytest.mark.parametrize(("side", "expected"), [(BUY, 10005), (SELL, 10006)])
def test_a_price_between_ticks_moves_against_us_and_is_counted(side: Side, expected: int) -> None:
    """A bid goes down and an ask goes up to the next tick, each counted once."""
    tally = Tally()
    assert price_ticks(100.055, SATOSHI, side, tally) == expected
    assert tally == Tally(off_tick=1)


def test_a_size_between_lots_moves_down_and_is_counted() -> None:
    """Displayed size is never made larger than it was."""
    tally = Tally()
    assert size_lots(0.00000019, SATOSHI, tally) == 19
    assert size_lots(0.000000199, SATOSHI, tally) == 19
    assert tally == Tally(off_lot=1)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_only_positive_finite_exact_numbers_are_usable(bad: float) -> None:
    """Zero, negative, NaN, infinite and inexactly large numbers are neither price nor size."""
    coarse: Instrument = make_instrument("X", "1", "1")
    assert usable(1.0, 1.0, coarse)
    assert not usable(bad, 1.0, coarse)
    assert not usable(1.0, bad, coarse)


def test_merging_adds_neighbours_and_drops_empty_levels() -> None:
    """Levels that rounding put on one tick become one level with the sum of their sizes."""
    assert merge_levels([(10, 1), (10, 2), (9, 0), (8, 4)]) == ((10, 3), (8, 4))
