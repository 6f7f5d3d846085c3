"""The grid: rounding, steps, text and exact money."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError
from mmpi.instrument import MONEY_SCALE, Instrument, make_instrument, money, money_text
from mmpi.venues.hyperliquid.messages import instrument_from_meta

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
BTC = instrument_from_meta("BTC", 5)
ETH = instrument_from_meta("ETH", 4)
DOGE = instrument_from_meta("DOGE", 0)
CENT = make_instrument("X", "0.01", "0.001")
COARSE = make_instrument("Y", "5", "10")
ALL = [BTC, ETH, DOGE, CENT, COARSE]
instruments = st.sampled_from(ALL)
prices = st.integers(min_value=1, max_value=10**9)


def is_valid_at_hyperliquid(text: str, decimals: int) -> bool:
    """Return whether the venue takes the price: its rule, on text, by a way of its own."""
    if "." not in text:
        return True
    whole, fraction = text.split(".")
    return len(fraction) <= decimals and len((whole + fraction).lstrip("0")) <= 5


@pytest.mark.parametrize(
    ("instrument", "price", "step"),
    [
        (BTC, 99_999, 1),
        (BTC, 100_000, 10),
        (BTC, 1_050_560, 10),
        (BTC, 10_505_600, 10),
        (ETH, 99_999, 1),
        (ETH, 100_000, 10),
        (ETH, 350_010, 10),
        (ETH, 1_000_000, 100),
        (ETH, 123_456_700, 100),
        (DOGE, 99_999, 1),
        (DOGE, 100_000, 10),
        (CENT, 10**9, 1),
        (COARSE, 10**9, 1),
    ],
)
def test_the_step_follows_the_decade(instrument: Instrument, price: int, step: int) -> None:
    """Five significant figures bind above 99999 ticks, and integers stay valid however large."""
    assert instrument.step_at(price) == step


@given(st.sampled_from([(5, BTC), (4, ETH), (0, DOGE)]), st.floats(min_value=1, max_value=1e8))
def test_rounded_prices_are_valid_and_nearest(pair: tuple[int, Instrument], price: float) -> None:
    """Bids round down, asks up, to prices that the venue's rule accepts, less than one step away."""
    sz_decimals, instrument = pair
    bid, ask = instrument.round_bid(price), instrument.round_ask(price)
    assert bid <= price + 1e-6
    assert ask >= price - 1e-6
    assert price - bid < instrument.step_at(bid) + 1e-6
    assert ask - price < instrument.step_at(ask) + 1e-6
    for side in (bid, ask):
        assert is_valid_at_hyperliquid(instrument.price_text(side), 6 - sz_decimals)


@given(instruments, prices)
def test_a_valid_price_rounds_to_itself(instrument: Instrument, price: int) -> None:
    """Rounding is idempotent, also for a float a hair off the grid."""
    bid = instrument.round_bid(float(price))
    ask = instrument.round_ask(float(price))
    for valid in (bid, ask):
        for near in (valid - 5e-7, float(valid), valid + 5e-7):
            assert instrument.round_bid(near) == instrument.round_ask(near) == valid


@given(instruments, prices)
def test_price_and_size_texts_round_trip(instrument: Instrument, count: int) -> None:
    """Text from ticks or lots reads back exactly, plain and without trailing zeros."""
    price, size = instrument.price_text(count), instrument.size_text(count)
    assert instrument.ticks(price) == instrument.lots(size) == count
    for text in (price, size):
        assert "e" not in text.lower()
        assert not ("." in text and text.endswith(("0", ".")))
    assert Decimal(price) == count * Decimal(instrument.tick_size)


@given(instruments, prices, st.integers(min_value=1, max_value=10**9))
def test_notional_is_exact_money(instrument: Instrument, price: int, size: int) -> None:
    """Price times size equals the Decimal product to the last unit of 10^-12."""
    exact = Decimal(instrument.price_text(price)) * Decimal(instrument.size_text(size)) * MONEY_SCALE
    assert instrument.notional(price, size) == int(exact) == exact
    assert instrument.unit % 2 == 0


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_money_text_round_trips(amount: int) -> None:
    """Money prints and reads back without loss (as far as Decimal's 28 digits reach)."""
    amount %= 10**27
    assert money(money_text(amount)) == amount
    assert money(money_text(-amount)) == -amount


def test_zero_and_negative_money_print_plainly() -> None:
    """Signs and zeros have one form."""
    assert [money_text(m) for m in (0, -1, 10**12, -15 * 10**11)] == ["0", "-0.000000000001", "1", "-1.5"]


@pytest.mark.parametrize("text", ["0.15", "100000.05", "nan", "inf", "one", ""])
def test_prices_off_the_grid_are_refused(text: str) -> None:
    """A price that is no multiple of the tick is an error that names the instrument."""
    with pytest.raises(ConfigError, match="price .* of BTC"):
        BTC.ticks(text)


@pytest.mark.parametrize(
    ("tick", "lot", "named"),
    [
        ("0", "1", "tick_size"),
        ("-0.1", "1", "tick_size"),
        ("x", "1", "tick_size"),
        ("1", "0", "lot_size"),
        ("1", "nan", "lot_size"),
    ],
)
def test_grids_that_cannot_be_are_refused(tick: str, lot: str, named: str) -> None:
    """The error names the field."""
    with pytest.raises(ConfigError, match=named):
        make_instrument("Z", tick, lot)


def test_a_grid_finer_than_money_is_refused() -> None:
    """One lot times one tick must be a whole, even number of money units."""
    with pytest.raises(ConfigError, match="money would not be exact"):
        make_instrument("Z", "0.0000001", "0.000001")


def test_inverse_payoff_is_refused() -> None:
    """A contract whose profit is not price difference times size is not accepted."""
    with pytest.raises(ConfigError, match="'inverse' is not implemented; allowed: linear"):
        make_instrument("Z", "1", "1", payoff="inverse")


def test_a_perpetual_from_meta_has_the_venues_grid() -> None:
    """Decimals, significant figures and the minimum value follow from szDecimals."""
    assert (BTC.tick_size, BTC.lot_size, BTC.significant_figures) == ("0.1", "0.00001", 5)
    assert (BTC.min_notional, BTC.quote) == (10 * MONEY_SCALE, "USDC")
    assert instrument_from_meta("X", 6).tick_size == "1"


def test_texts_match_recorded_orders() -> None:
    """Recorded wire prices and sizes are on our grid, valid, and printed by us in the recorded form."""
    path = DATA / "vectors" / "hyperliquid_price_size_formatting.json"
    if not path.exists():
        pytest.skip("recorded formatting vectors are absent")
    for case in json.loads(path.read_text())["cases"]:
        instrument = instrument_from_meta(case["coin"], case["sz_decimals"])
        price = instrument.ticks(case["expected_wire_price"])
        assert instrument.price_text(price) == case["expected_wire_price"]
        assert instrument.round_bid(float(price)) == instrument.round_ask(float(price)) == price
        assert instrument.size_text(instrument.lots(case["expected_wire_size"])) == case["expected_wire_size"]
        if case["order_type"] == "limit":
            given_ticks = float(case["input_price"]) * instrument.ticks_per_quote
            assert price in (instrument.round_bid(given_ticks), instrument.round_ask(given_ticks))
