"""The venue's public data as JSON: books, trades and the context of a coin.

Invariant: field names are the venue's. It must not know accounts, matching or sockets.
"""

from collections.abc import Iterable
from decimal import Decimal

from mmpi.events import Level, Mark, Trade
from mmpi.instrument import Instrument, Nanos
from mmpi.practice.hyperliquid.messages import NO_HASH, Json, millis, price, rate, rounded, side_letter, size


def level(instrument: Instrument, at: Level) -> Json:
    """Return one price of a book. `n`, the number of orders, is not known to the generated market: always 1."""
    return {"px": price(instrument, at[0]), "sz": size(instrument, at[1]), "n": 1}


def l2_book(instrument: Instrument, bids: Iterable[Level], asks: Iterable[Level], now: Nanos) -> Json:
    """Return the data of `l2Book`: a whole book."""
    levels = [[level(instrument, at) for at in side] for side in (bids, asks)]
    return {"coin": instrument.name, "time": millis(now), "levels": levels}


def perpetual_context(mark: Mark, instrument: Instrument, best: list[str] | None, mid: str | None) -> Json:
    """Return a perpetual's `ctx`; nobody's volume and open interest are counted here."""
    oracle = _in_quote(instrument, mark.index)
    return {
        "funding": rate(mark.rate),
        "openInterest": "0.0",
        "prevDayPx": oracle,
        "dayNtlVlm": "0.0",
        "premium": rate((mark.mark - mark.index) / mark.index) if mark.index else None,
        "oraclePx": oracle,
        "markPx": _in_quote(instrument, mark.mark),
        "midPx": mid,
        "impactPxs": best,
        "dayBaseVlm": "0.0",
    }


def spot_context(mark: Mark, instrument: Instrument, mid: str | None) -> Json:
    """Return a pair's `ctx`; the practice venue has no supply of tokens to tell."""
    price_text = _in_quote(instrument, mark.mark)
    return {
        "coin": instrument.name,
        "prevDayPx": price_text,
        "dayNtlVlm": "0.0",
        "markPx": price_text,
        "midPx": mid,
        "circulatingSupply": "0.0",
        "totalSupply": "0.0",
        "dayBaseVlm": "0.0",
    }


def _in_quote(instrument: Instrument, ticks: float) -> str:
    return rounded(Decimal(ticks) * Decimal(instrument.tick_size))


def public_trade(instrument: Instrument, trade: Trade, users: tuple[str, str]) -> Json:
    """Return one element of `trades`; `users` are buyer and seller."""
    return {
        "coin": instrument.name,
        "side": side_letter(trade.side),
        "px": price(instrument, trade.price),
        "sz": size(instrument, trade.size),
        "time": millis(trade.recv_ts),
        "hash": NO_HASH,
        "tid": trade.trade_id,
        "users": list(users),
    }
