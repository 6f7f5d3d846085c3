"""The shipped table gives the venue's grid for a set's name, or says what it knows."""

from pathlib import Path

import msgspec
import pytest

from mmpi.errors import ConfigError
from mmpi.instrument import make_instrument
from mmpi.research.instruments import LISTINGS, SZ_DECIMALS, is_listed, known, lookup


@pytest.mark.parametrize(
    ("name", "symbol", "tick", "lot"),
    [
        ("hyperliquid_btc_20250904", "BTC", "0.1", "0.00001"),
        ("hyperliquid_sol_20250904", "SOL", "0.0001", "0.01"),
        ("hyperliquid_wlfi_20250903", "WLFI", "0.000001", "1"),
        ("hyperliquid_kpepe_20250903", "kPEPE", "0.000001", "1"),
        ("binance_spot_nexousdt_20240724", "NEXOUSDT", "0.001", "0.01"),
        ("binance_usdm_btcusdt_20240808", "BTCUSDT", "0.1", "0.001"),
        ("binance_usdm_btcusdt_20200222", "BTCUSDT", "0.01", "0.001"),
        ("bitstamp_btcusd_l3_20150501", "BTCUSD", "0.01", "0.00000001"),
        ("standx_btcusd", "BTCUSD", "0.01", "0.0001"),
    ],
)
def test_a_set_finds_its_grid(name: str, symbol: str, tick: str, lot: str) -> None:
    """Venue and symbol decide, dates and suffixes do not, except where the venue changed its grid."""
    instrument = lookup(name)
    assert (instrument.name, instrument.tick_size, instrument.lot_size) == (symbol, tick, lot)


def test_hyperliquid_prices_have_five_significant_figures() -> None:
    """A Hyperliquid bid at 110,123.4 is rounded to 110,123: six figures are allowed to integers only."""
    instrument = lookup("hyperliquid_btc_20250904")
    assert instrument.price_text(instrument.round_bid(1_101_234.0)) == "110123"
    assert instrument.min_notional == make_instrument("X", "1", "1", min_notional="10").min_notional


@pytest.mark.parametrize("name", ["kraken_xbtusd", "hyperliquid_nosuch_2025", "standx", "binance_usdm_btcusdtx", ""])
def test_an_unknown_set_names_the_way_out(name: str) -> None:
    """The error says which options to give and what the table knows."""
    expected = rf"^no tick and lot known for '{name}'; give --tick and --lot\. Known: aster_"
    with pytest.raises(ConfigError, match=expected):
        lookup(name)


def test_tick_and_lot_win_over_the_table() -> None:
    """Given tick and lot make an unknown set readable, and change a known one's grid but not its venue's rules."""
    assert lookup("kraken_xbtusd", "0.5", "0.1").tick_size == "0.5"
    coarse = lookup("hyperliquid_btc", "1", "0.001")
    assert (coarse.name, coarse.tick_size, coarse.lot_size, coarse.significant_figures) == ("BTC", "1", "0.001", 5)


@pytest.mark.parametrize("grid", [("", ""), ("0.1", "1")])
def test_inverse_contracts_are_refused(grid: tuple[str, str]) -> None:
    """No tick and lot turns a contract that pays in coins into a linear one."""
    with pytest.raises(ConfigError, match="payoff 'inverse' is not implemented"):
        lookup("binance_coinm_btcusd_perp_20240808", *grid)


@pytest.mark.parametrize("name", known())
def test_every_row_of_the_table_makes_an_instrument(name: str) -> None:
    """No row has a grid whose money would not be exact."""
    assert is_listed(name)
    assert lookup(name).unit > 0


def test_names_of_the_table_do_not_hide_each_other() -> None:
    """No key is a whole-word start of another, so the order of the table does not matter."""
    keys = list(LISTINGS)
    assert [(a, b) for a in keys for b in keys if a != b and b.startswith(f"{a}_")] == []


def test_sz_decimals_are_the_venues_word(data: Path) -> None:
    """Every coin in the venue's recorded `meta` answer that we list has the recorded szDecimals."""
    (recorded,) = [
        call["response"]
        for call in msgspec.json.decode((data / "wire/hyperliquid/rest_info/get_info.json").read_bytes())
        if call["request"] == {"type": "meta"}
    ]
    venue = {coin["name"]: coin["szDecimals"] for coin in recorded["universe"]}
    assert {coin: SZ_DECIMALS[coin] for coin in venue} == venue
    assert set(SZ_DECIMALS) - set(venue) == {"HYPE", "WLFI"}
