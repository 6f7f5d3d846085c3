"""Instruments: the shipped table of tick and lot for recorded data sets, found by the set's name.

Invariant: every grid is a rule of the venue or was read off its recorded messages beforehand; a set is never looked
into to guess one. It must not know files.

Sources, all read on 2026-11-21:

- hyperliquid: szDecimals from the venue's recorded `meta` answer; "Tick and lot size" of its documents: a perpetual's
  price has at most 6 - szDecimals decimals and five significant figures; "Error responses": an order is worth at
  least 10 USDC.
- the others: the finest step of all recorded prices and sizes of that symbol, which is what the venue's own filter then
  was: tickSize and stepSize (Binance, Aster), precision and amount_precision (Gate), supported_price_decimals and
  supported_size_decimals (Lighter), cents and satoshis (Bitstamp). StandX publishes depth rounded to 0.1, and so does
  Aster's recorded ETHUSDT depth; their trades show the tick, 0.01. Binance USD-M BTCUSDT had 0.01 in 2020 and 0.1 in
  2023.
"""

from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, make_instrument
from mmpi.venues.hyperliquid.messages import MIN_NOTIONAL, PERP_DECIMALS, SIGNIFICANT_FIGURES

HYPERLIQUID: Final = "hyperliquid"

SZ_DECIMALS: Final[dict[str, int]] = {
    "APE": 1, "APT": 2, "ARB": 1, "ATOM": 2, "AVAX": 2, "BCH": 3, "BNB": 3, "BTC": 5, "CFX": 0, "CRV": 1,
    "DOGE": 0, "DYDX": 1, "ETH": 4, "FTM": 0, "GMX": 2, "HYPE": 2, "INJ": 1, "LDO": 1, "LINK": 1, "LTC": 2,
    "MATIC": 1, "OP": 1, "RNDR": 1, "SNX": 1, "SOL": 2, "STX": 1, "SUI": 1, "WLFI": 0, "XRP": 0, "kPEPE": 0,
}  # fmt: skip
"""Hyperliquid's perpetuals: the recorded `meta` answer of 2023, and from later ones HYPE; WLFI's recorded sizes
are whole."""


class Listing(msgspec.Struct, frozen=True):
    """One symbol of one venue."""

    name: str
    tick: str
    lot: str
    base: str
    quote: str
    significant_figures: int = 0
    min_notional: str = "0"


LISTINGS: Final[dict[str, Listing]] = {
    "aster_btcusdt": Listing("BTCUSDT", "0.1", "0.001", "BTC", "USDT"),
    "aster_ethusdt": Listing("ETHUSDT", "0.01", "0.001", "ETH", "USDT"),
    "binance_spot_btcusdt": Listing("BTCUSDT", "0.01", "0.00001", "BTC", "USDT"),
    "binance_spot_nexousdt": Listing("NEXOUSDT", "0.001", "0.01", "NEXO", "USDT"),
    "binance_usdm_btcusdt": Listing("BTCUSDT", "0.1", "0.001", "BTC", "USDT"),
    "binance_usdm_ethusdt": Listing("ETHUSDT", "0.01", "0.001", "ETH", "USDT"),
    "bitstamp_btcusd": Listing("BTCUSD", "0.01", "0.00000001", "BTC", "USD"),
    "gateio_spot_ethusdt": Listing("ETHUSDT", "0.01", "0.0001", "ETH", "USDT"),
    "lighter_btc": Listing("BTC", "0.1", "0.00001", "BTC", "USDC"),
    "standx_btcusd": Listing("BTCUSD", "0.01", "0.0001", "BTC", "USD"),
}
EARLIER: Final[dict[str, Listing]] = {
    "binance_usdm_btcusdt_2020": Listing("BTCUSDT", "0.01", "0.001", "BTC", "USDT"),
}
"""Grids that a venue has changed since, by the start of the set's name with its date."""

INVERSE: Final = "binance_coinm_"
"""Sets of contracts that are paid in the base currency; no tick and lot makes them linear."""


def lookup(set_name: str, tick: str = "", lot: str = "") -> Instrument:
    """Return the instrument of a set named `<venue>_<symbol>[_<dates>]`; tick and lot, if given, win over the table.

    ConfigError for an unknown set without both, and for inverse contracts always.
    """
    name = set_name.lower()
    if name.startswith(INVERSE):
        return make_instrument(set_name, tick or "1", lot or "1", payoff="inverse")
    listing = _listing(name)
    if listing is None:
        if not (tick and lot):
            raise ConfigError(
                f"no tick and lot known for {set_name!r}; give --tick and --lot. Known: {', '.join(known())}"
            )
        listing = Listing(set_name, tick, lot, set_name, "USD")
    return make_instrument(
        listing.name,
        tick or listing.tick,
        lot or listing.lot,
        significant_figures=listing.significant_figures,
        min_notional=listing.min_notional,
        base=listing.base,
        quote=listing.quote,
    )


def is_listed(set_name: str) -> bool:
    """Return whether the table has the set's symbol."""
    return _listing(set_name.lower()) is not None


def known() -> list[str]:
    """Return the names, without dates, that `lookup` finds."""
    return sorted([*LISTINGS, *(f"{HYPERLIQUID}_{coin.lower()}" for coin in SZ_DECIMALS)])


def _listing(name: str) -> Listing | None:
    venue, _, rest = name.partition("_")
    if venue == HYPERLIQUID:
        return _hyperliquid_listing(rest.partition("_")[0])
    dated = (listing for key, listing in EARLIER.items() if name.startswith(key))
    plain = (listing for key, listing in LISTINGS.items() if f"{name}_".startswith(f"{key}_"))
    return next(dated, None) or next(plain, None)


def _hyperliquid_listing(symbol: str) -> Listing | None:
    for coin, decimals in SZ_DECIMALS.items():
        if coin.lower() == symbol:
            tick, lot = f"1e-{PERP_DECIMALS - decimals}", f"1e-{decimals}"
            return Listing(coin, tick, lot, coin, "USDC", SIGNIFICANT_FIGURES, MIN_NOTIONAL)
    return None
