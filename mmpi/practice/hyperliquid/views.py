"""What the venue tells about an account: its orders, fills and margin as JSON.

Invariant: reading changes nothing. It must not know requests, sockets or other accounts.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mmpi.actions import TimeInForce
from mmpi.instrument import MONEY_SCALE, Instrument, Money, Nanos
from mmpi.practice.hyperliquid.account import Account, Fill, Holding, Order
from mmpi.practice.hyperliquid.messages import (
    NO_HASH,
    Json,
    amount,
    average_price,
    millis,
    price,
    rounded,
    side_letter,
    size,
)

LEVERAGE: Final = 20
"""The cross leverage of every practice position; the generated instruments allow at least this."""
REQUESTS_FREE: Final = 10_000
"""Requests of an address before any volume; then one per USDC traded (Hyperliquid "Rate limits")."""


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


def order_status(order: Order | None) -> Json:
    """Return the answer of `orderStatus`."""
    if order is None:
        return {"status": "unknownOid"}
    return {"status": "order", "order": order_update(order) | {"order": frontend_order(order)}}


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
    return {
        "coin": order.instrument.name,
        "px": price(order.instrument, fill.price),
        "sz": size(order.instrument, fill.size),
        "side": side_letter(order.side),
        "time": millis(fill.ts),
        "startPosition": size(order.instrument, fill.start_position),
        "dir": _direction(fill),
        "closedPnl": amount(fill.closed_pnl),
        "hash": NO_HASH,
        "oid": order.oid,
        "crossed": not fill.maker,
        "fee": amount(fill.fee),
        "tid": fill.tid,
        "cloid": order.cloid,
        "feeToken": "USDC",
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


def clearinghouse_state(account: Account, mids: Mapping[Instrument, Money], now: Nanos) -> Json:
    """Return positions and margin; `mids` is the value of one lot of each instrument at its mid."""
    held = [(instrument, holding) for instrument, holding in account.holdings.items() if holding.lots]
    values = [holding.lots * mids[instrument] for instrument, holding in held]
    notional = sum(map(abs, values))
    equity, margin = account.cash + sum(values), notional // LEVERAGE
    summary = {
        "accountValue": amount(equity),
        "totalMarginUsed": amount(margin),
        "totalNtlPos": amount(notional),
        "totalRawUsd": amount(account.cash),
    }
    return {
        "assetPositions": [_asset_position(*pair, value) for pair, value in zip(held, values, strict=True)],
        "crossMaintenanceMarginUsed": amount(margin // 2),
        "crossMarginSummary": summary,
        "marginSummary": summary,
        "time": millis(now),
        "withdrawable": amount(max(0, equity - margin)),
    }


def _asset_position(instrument: Instrument, holding: Holding, value: Money) -> Json:
    unrealized, margin = value - holding.cost, abs(value) // LEVERAGE
    position = {
        "coin": instrument.name,
        "cumFunding": {"allTime": "0.0", "sinceChange": "0.0", "sinceOpen": "0.0"},
        "entryPx": average_price(instrument, holding.cost, holding.lots),
        "leverage": {"type": "cross", "value": LEVERAGE},
        "liquidationPx": None,
        "marginUsed": amount(margin),
        "maxLeverage": LEVERAGE,
        "positionValue": amount(abs(value)),
        "returnOnEquity": rounded(Decimal(unrealized) / margin if margin else Decimal(0)),
        "szi": size(instrument, holding.lots),
        "unrealizedPnl": amount(unrealized),
    }
    return {"position": position, "type": "oneWay"}


def rate_limit(account: Account | None) -> Json:
    """Return the answer of `userRateLimit`; practice counts requests and never refuses for their number."""
    volume, used = (account.volume, account.requests) if account else (0, 0)
    return {"cumVlm": amount(volume), "nRequestsUsed": used, "nRequestsCap": REQUESTS_FREE + volume // MONEY_SCALE}
