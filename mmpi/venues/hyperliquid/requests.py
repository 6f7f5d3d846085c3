"""Hyperliquid's outgoing frames: subscriptions, info posts, signed action posts.

Invariant: the action that is sent is the object that was signed, key by key. It must not know answers or order state.

Source: "Exchange endpoint", "Post requests" and "Timeouts and heartbeats" in Hyperliquid's documentation
(read 2026-11-21).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mmpi.actions import NewOrder, TimeInForce
from mmpi.instrument import BUY, Instrument
from mmpi.venues.hyperliquid.signing import Signer

PING: Final = b'{"method":"ping"}'
TIME_IN_FORCE: Final = {TimeInForce.GTC: "Gtc", TimeInForce.IOC: "Ioc", TimeInForce.POST_ONLY: "Alo"}

_encode: Final = msgspec.json.Encoder().encode


def subscribe(channel: str, **parameters: str) -> bytes:
    """Return the frame that subscribes to a channel of a coin or a user."""
    return _encode({"method": "subscribe", "subscription": {"type": channel, **parameters}})


def info_post(post_id: int, kind: str, account: str, **parameters: str) -> bytes:
    """Return the frame that asks an info question about an account."""
    payload = {"type": kind, "user": account, **parameters}
    return _encode({"method": "post", "id": post_id, "request": {"type": "info", "payload": payload}})


def action_post(
    post_id: int, action: Mapping[str, object], signer: Signer, nonce_ms: int, expires_after_ms: int | None
) -> bytes:
    """Return the frame that carries a signed action; `expires_after_ms` is a time of the Unix epoch."""
    r, s, v = signer.sign(action, nonce_ms, expires_after_ms)
    payload = {
        "action": action,
        "nonce": nonce_ms,
        "signature": {"r": r, "s": s, "v": v},
        "vaultAddress": None,
        "expiresAfter": expires_after_ms,
    }
    return _encode({"method": "post", "id": post_id, "request": {"type": "action", "payload": payload}})


def place_action(orders: Sequence[tuple[NewOrder, Instrument, int]]) -> dict[str, object]:
    """Return the action that places limit orders, each with its instrument and asset number."""
    return {"type": "order", "orders": [_order(*order) for order in orders], "grouping": "na"}


def cancel_action(cancels: Sequence[tuple[int, int]]) -> dict[str, object]:
    """Return the action that cancels (asset number, oid) pairs."""
    return {"type": "cancel", "cancels": [{"a": asset, "o": oid} for asset, oid in cancels]}


def cancel_by_cloid_action(cancels: Sequence[tuple[int, str]]) -> dict[str, object]:
    """Return the action that cancels (asset number, cloid) pairs."""
    return {"type": "cancelByCloid", "cancels": [{"asset": asset, "cloid": cloid} for asset, cloid in cancels]}


def _order(order: NewOrder, instrument: Instrument, asset: int) -> dict[str, object]:
    return {
        "a": asset,
        "b": order.side == BUY,
        "p": instrument.price_text(order.price),
        "s": instrument.size_text(order.size),
        "r": order.reduce_only,
        "t": {"limit": {"tif": TIME_IN_FORCE[order.time_in_force]}},
        "c": order.cl_ord_id,
    }
