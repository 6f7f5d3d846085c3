"""Order entry: what an order request asks for, what is wrong with it, and how its answer reads.

Invariant: every refusal is one of the venue's sentences. It must not know accounts' state, streams or signatures.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mmpi.actions import NewOrder, TimeInForce
from mmpi.errors import ConfigError
from mmpi.instrument import BUY, SELL, Instrument
from mmpi.practice.hyperliquid import words
from mmpi.practice.hyperliquid.account import Fill, Order
from mmpi.practice.hyperliquid.messages import Json, OrderRequest, average_price, size
from mmpi.practice.hyperliquid.spot import PAIRS
from mmpi.sim.exchange import WOULD_INCREASE

CLOID_DIGITS: Final = 32
TIF: Final[Mapping[str, TimeInForce]] = {
    "Alo": TimeInForce.POST_ONLY,
    "Ioc": TimeInForce.IOC,
    "Gtc": TimeInForce.GTC,
}
POST_ONLY: Final = "post only"
BELOW_MINIMUM: Final = "order value is below the minimum"
WORDS: Final[Mapping[str, str]] = {
    BELOW_MINIMUM: words.TOO_SMALL,
    "duplicate client order id": words.DUPLICATE_CLOID,
    "too many open orders": words.TOO_MANY_ORDERS,
    WOULD_INCREASE: words.WOULD_INCREASE,
}
"""The venue's sentence for each reason of the simulated exchange."""


def new_order(request: OrderRequest, assets: Mapping[int, Instrument], unnamed: str) -> NewOrder | str:
    """Return the order that is asked for, named `unnamed` if it has no cloid, or the sentence that refuses it.

    What is refused here needs no look at the market or the account.
    """
    instrument = assets.get(request.a)
    if instrument is None:
        return words.UNKNOWN_ASSET.format(asset=request.a)
    if request.t.limit is None:
        return words.NO_TRIGGERS
    if request.c is not None and not is_cloid(request.c):
        return words.BAD_CLOID
    if request.r and instrument.name in PAIRS:
        return words.SPOT_REDUCE_ONLY
    try:
        price = instrument.ticks(request.p)
    except ConfigError:
        return words.BAD_TICK.format(asset=request.a)
    try:
        lots = instrument.lots(request.s)
    except ConfigError:
        return words.BAD_SIZE
    if lots <= 0:
        return words.BAD_SIZE if lots else words.ZERO_SIZE
    if price <= 0:
        return words.BAD_PRICE
    if price % instrument.step_at(price):
        return words.BAD_TICK.format(asset=request.a)
    if (request.p, request.s) != (instrument.price_text(price), instrument.size_text(lots)):
        return words.NOT_PLAIN
    return NewOrder(
        instrument=instrument.name,
        cl_ord_id=request.c or unnamed,
        side=BUY if request.b else SELL,
        price=price,
        size=lots,
        level=0,
        time_in_force=TIF[request.t.limit.tif],
        reduce_only=request.r,
    )


def is_cloid(text: str) -> bool:
    """Return whether text is 0x and 32 hexadecimal digits."""
    digits = text.removeprefix("0x")
    return text.startswith("0x") and len(digits) == CLOID_DIGITS and all(c in "0123456789abcdefABCDEF" for c in digits)


def sentence(reason: str, asset: int, instrument: Instrument, best: str) -> str:
    """Return the venue's words for a reason of the simulated exchange; `best` is bid@ask."""
    if reason.startswith(POST_ONLY):
        return words.POST_ONLY_CROSSED.format(bbo=best, asset=asset)
    pair = PAIRS.get(instrument.name)
    if pair is not None and reason == BELOW_MINIMUM:
        return words.SPOT_TOO_SMALL.format(token=pair.quote.name)
    return WORDS.get(reason, reason).format(asset=asset)


def placed(order: Order, asset: int, fills: Sequence[Fill]) -> Json:
    """Return the status of an accepted order in the answer to its action."""
    named: Json = {"oid": order.oid} if order.cloid is None else {"oid": order.oid, "cloid": order.cloid}
    if order.status == "open":
        return {"resting": named}
    if not fills:
        return {"error": words.NO_MATCH.format(asset=asset)}
    lots = sum(fill.size for fill in fills)
    cost = sum(order.instrument.notional(fill.price, fill.size) for fill in fills)
    average = average_price(order.instrument, cost, lots)
    return {"filled": {"totalSz": size(order.instrument, lots), "avgPx": average} | named}
