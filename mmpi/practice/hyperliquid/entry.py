"""Order entry: what an order request asks for, what is wrong with it, and how its answer reads.

Invariant: every refusal is one of the venue's sentences. It must not know accounts' state, streams or signatures.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mmpi.actions import NewOrder, TimeInForce
from mmpi.errors import ConfigError
from mmpi.instrument import BUY, SELL, Instrument
from mmpi.practice.hyperliquid import messages
from mmpi.practice.hyperliquid.account import Fill, Order
from mmpi.practice.hyperliquid.messages import Json, OrderRequest, average_price, size

CLOID_DIGITS: Final = 32
TIF: Final[Mapping[str, TimeInForce]] = {
    "Alo": TimeInForce.POST_ONLY,
    "Ioc": TimeInForce.IOC,
    "Gtc": TimeInForce.GTC,
}
POST_ONLY: Final = "post only"
WORDS: Final[Mapping[str, str]] = {
    "size must be greater than 0": messages.BAD_SIZE,
    "price must be greater than 0": messages.BAD_TICK,
    "price is not on the grid": messages.BAD_TICK,
    "order value is below the minimum": messages.TOO_SMALL,
    "duplicate client order id": messages.DUPLICATE_CLOID,
    "too many open orders": messages.TOO_MANY_ORDERS,
    "reduce only order would increase position": messages.WOULD_INCREASE,
}
"""The venue's sentence for each reason of the simulated exchange."""


def new_order(request: OrderRequest, instruments: Sequence[Instrument], unnamed: str) -> NewOrder | str:
    """Return the order that is asked for, named `unnamed` if it has no cloid, or the sentence that refuses it."""
    if not 0 <= request.a < len(instruments):
        return messages.UNKNOWN_ASSET.format(asset=request.a)
    if request.t.limit is None:
        return messages.NO_TRIGGERS
    if request.c is not None and not is_cloid(request.c):
        return messages.BAD_CLOID
    instrument = instruments[request.a]
    try:
        price = instrument.ticks(request.p)
    except ConfigError:
        return messages.BAD_TICK
    try:
        lots = instrument.lots(request.s)
    except ConfigError:
        return messages.BAD_SIZE
    if (request.p, request.s) != (instrument.price_text(price), instrument.size_text(lots)):
        return messages.NOT_PLAIN
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


def sentence(reason: str, best: str) -> str:
    """Return the venue's words for a reason of the simulated exchange; `best` is bid@ask."""
    if reason.startswith(POST_ONLY):
        return messages.POST_ONLY_CROSSED.format(bbo=best)
    return WORDS.get(reason, reason)


def placed(order: Order, fills: Sequence[Fill]) -> Json:
    """Return the status of an accepted order in the answer to its action."""
    if order.status == "open":
        return {"resting": {"oid": order.oid}}
    if not fills:
        return {"error": messages.NO_MATCH}
    lots = sum(fill.size for fill in fills)
    cost = sum(order.instrument.notional(fill.price, fill.size) for fill in fills)
    average = average_price(order.instrument, cost, lots)
    return {"filled": {"totalSz": size(order.instrument, lots), "avgPx": average, "oid": order.oid}}
