"""What the venue tells of one order, fill or funding payment, as JSON.

Invariant: reading changes nothing. It must not know requests, sockets or other accounts.
"""

from collections.abc import Mapping
from typing import Final

from mmpi.actions import TimeInForce
from mmpi.instrument import BUY
from mmpi.practice.hyperliquid.account import Fill, FundingPaid, Order
from mmpi.practice.hyperliquid.messages import NO_HASH, Json, amount, millis, price, rate, side_letter, size
from mmpi.practice.hyperliquid.spot import PAIRS

TIF: Final[Mapping[TimeInForce, str]] = {
    TimeInForce.POST_ONLY: "Alo",
    TimeInForce.IOC: "Ioc",
    TimeInForce.GTC: "Gtc",
}


def basic_order(order: Order) -> Json:
    """Return an order as `openOrders` and `orderUpdates` show it."""
    return {
        "coin": order.instrument.name,
        "side": side_letter(order.side),
        "limitPx": price(order.instrument, order.price),
        "sz": size(order.instrument, order.remaining),
        "oid": order.oid,
        "timestamp": millis(order.timestamp),
        "origSz": size(order.instrument, order.size),
        "cloid": order.cloid,
    }


def frontend_order(order: Order) -> Json:
    """Return an order as `frontendOpenOrders` and `orderStatus` show it."""
    return basic_order(order) | {
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": order.reduce_only,
        "orderType": "Limit",
        "tif": TIF[order.time_in_force],
    }


def order_update(order: Order) -> Json:
    """Return one element of `orderUpdates`."""
    return {"order": basic_order(order), "status": order.status, "statusTimestamp": millis(order.status_timestamp)}


def order_record(order: Order) -> Json:
    """Return one element of the answer of `historicalOrders`."""
    return order_update(order) | {"order": frontend_order(order)}


def order_status(order: Order | None) -> Json:
    """Return the answer of `orderStatus`."""
    return {"status": "unknownOid"} if order is None else {"status": "order", "order": order_record(order)}


def control_order(order: Order) -> Json:
    """Return a live order as `/control/orders` lists it."""
    return {
        "coin": order.instrument.name,
        "oid": order.oid,
        "cloid": order.cloid,
        "side": side_letter(order.side),
        "px": price(order.instrument, order.price),
        "sz": size(order.instrument, order.remaining),
        "account": order.account,
    }


def user_fill(fill: Fill) -> Json:
    """Return one element of `userFills`."""
    order = fill.order
    spot = order.instrument.name in PAIRS
    return {
        "coin": order.instrument.name,
        "px": price(order.instrument, fill.price),
        "sz": size(order.instrument, fill.size),
        "side": side_letter(order.side),
        "time": millis(fill.ts),
        "startPosition": amount(fill.start_balance) if spot else size(order.instrument, fill.start_position),
        "dir": ("Buy" if order.side == BUY else "Sell") if spot else _direction(fill),
        "closedPnl": amount(fill.closed_pnl),
        "hash": NO_HASH,
        "oid": order.oid,
        "crossed": not fill.maker,
        "fee": amount(fill.fee),
        "tid": fill.tid,
        "cloid": order.cloid,
        "feeToken": fill.fee_token,
        "twapId": None,
    }


def _direction(fill: Fill) -> str:
    start = fill.start_position
    end = start + fill.order.side * fill.size
    if start * end < 0:
        return "Long > Short" if start > 0 else "Short > Long"
    opening = abs(end) > abs(start)
    side = "Long" if (end if opening else start) > 0 else "Short"
    return f"{'Open' if opening else 'Close'} {side}"


def user_funding(paid: FundingPaid) -> Json:
    """Return one element of the stream `userFundings`."""
    return funding_event(paid) | {"nSamples": None}


def funding_event(paid: FundingPaid) -> Json:
    """Return a funding payment as `userEvents` shows it."""
    return {
        "time": millis(paid.ts),
        "coin": paid.instrument.name,
        "usdc": amount(paid.amount),
        "szi": size(paid.instrument, paid.lots),
        "fundingRate": rate(paid.rate),
    }


def funding_update(paid: FundingPaid) -> Json:
    """Return one element of the answer of `userFunding`."""
    told = user_funding(paid)
    when = told.pop("time")
    return {"time": when, "hash": NO_HASH, "delta": {"type": "funding"} | told}
