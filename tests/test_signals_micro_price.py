"""Micro-price: reading a table by hand, under mirrors and other units, and the shipped tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.signals.micro_price import FITTED, MicroPriceTable, micro_price, table_for

FOUR = MicroPriceTable(4, 2, ((-0.6, -0.2, 0.2, 0.6), (-1.0, -0.5, 0.5, 1.0)), step=10)
FIVE = MicroPriceTable(5, 1, ((-0.5, -0.1, 0.0, 0.1, 0.5),))
TABLES = (FOUR, FIVE, *FITTED.values())

tables = st.sampled_from(TABLES)
sizes = st.integers(1, 10**12)
spreads = st.integers(1, 300)


@pytest.mark.parametrize(
    ("bid_size", "ask_size", "adjust"),
    [(1, 1, 0.0), (5, 3, 0.2), (7, 1, 0.6), (6, 2, 0.4), (99, 1, 0.6), (3, 5, -0.2), (9, 7, 0.1)],
)
def test_by_hand(bid_size: int, ask_size: int, adjust: float) -> None:
    """A bucket's number holds at its middle (5 : 3 is imbalance 5/8), half way between two their mean."""
    assert micro_price(100, bid_size, 110, ask_size, FOUR) == pytest.approx(105 + adjust)


def test_rows_are_spreads() -> None:
    """The nearest row counts: two steps take the second, more do too, less than one the first; a locked touch, none."""
    for spread, adjust in ((3, 0.6), (10, 0.6), (14, 0.6), (15, 1.0), (20, 1.0), (500, 1.0), (0, 0.0)):
        assert micro_price(1000, 8, 1000 + spread, 1, FOUR) == pytest.approx(1000 + spread / 2 + adjust)


def test_an_odd_table_has_a_middle() -> None:
    """The middle bucket is worth its mid at its middle; 3/5 to the next's middle is 7 : 3 of the sizes."""
    assert micro_price(10, 1, 11, 1, FIVE) == 10.5
    assert micro_price(10, 7, 11, 3, FIVE) == pytest.approx(10.6)


@given(tables, sizes, sizes, spreads, st.integers(1, 10**6))
def test_the_mirrored_touch_mirrors_it(table: MicroPriceTable, buy: int, sell: int, spread: int, bid: int) -> None:
    """Bid and ask exchanged about a price, what is added to the mid is negated to the last bit."""
    # Even prices about 0 keep the sums exact.
    assert micro_price(-spread, buy, spread, sell, table) == -micro_price(-spread, sell, spread, buy, table)
    mirrored = micro_price(2 * bid, sell, 2 * bid + spread, buy, table)
    plain = micro_price(-2 * bid - spread, buy, -2 * bid, sell, table)
    assert mirrored == -plain


@given(tables, sizes, sizes, spreads, st.integers(1, 10**6), st.sampled_from([2, 1000, 3]))
def test_units_of_size_do_not_matter(
    table: MicroPriceTable, buy: int, sell: int, spread: int, bid: int, factor: int
) -> None:
    """Sizes in another unit give the same price, to the last bit."""
    scaled = micro_price(bid, buy * factor, bid + spread, sell * factor, table)
    assert scaled == micro_price(bid, buy, bid + spread, sell, table)


@given(tables, sizes, sizes, spreads, st.integers(1, 10**6), st.integers(1, 10**6))
def test_it_moves_with_the_price(
    table: MicroPriceTable, buy: int, sell: int, spread: int, bid: int, shift: int
) -> None:
    """All prices moved, it moves as far."""
    moved = micro_price(bid + shift, buy, bid + shift + spread, sell, table)
    assert moved == pytest.approx(micro_price(bid, buy, bid + spread, sell, table) + shift, abs=1e-8)


@given(st.sampled_from(list(FITTED.values())), sizes, sizes, sizes)
def test_more_bids_never_lower_it(table: MicroPriceTable, buy: int, more: int, sell: int) -> None:
    """With a shipped table, a larger bid size never means a lower price."""
    low = micro_price(1000, buy, 1000 + table.step, sell, table)
    assert micro_price(1000, buy + more, 1000 + table.step, sell, table) >= low - 1e-9


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_whole(table: MicroPriceTable) -> None:
    """As many rows and columns as they say, each row antisymmetric."""
    assert len(table.adjust) == table.max_spread >= 1
    assert table.buckets >= 2
    assert table.step >= 1
    for row in table.adjust:
        assert len(row) == table.buckets
        assert [-value for value in row[::-1]] == list(row)


def test_lookup() -> None:
    """Tables go by the listed name; what was never fitted has none."""
    assert table_for("NEXOUSDT") is FITTED["NEXOUSDT"]
    assert table_for("ETH") is None
