"""Hyperliquid's outgoing frames: subscriptions, info posts, signed action posts.

Invariant: the action that is sent is the object that was signed, key by key. It must not know answers or order state.

Source: "Exchange endpoint", "Post requests" and "Timeouts and heartbeats" in Hyperliquid's documentation
(read 2026-11-21).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mmpi.actions import AmendOrder, NewOrder, TimeInForce
from mmpi.instrument import BUY, Instrument
from mmpi.venues.hyperliquid.signing import Signer

PING: Final = b'{"method":"ping"}'
TIME_IN_FORCE: Final = {TimeInForce.GTC: "Gtc", TimeInForce.IOC: "Ioc", TimeInForce.POST_ONLY: "Alo"}

_encode: Final = msgspec.json.Encoder().encode


def subscribe(channel: str, **parameters: str) -> bytes:
    """Return the frame that subscribes to a channel of a coin or a user."""
    return _encode({"method": "subscribe", "subscription": {"type": channel, **parameters}})


def info_post(post_id: int, kind: str, account: str, **parameters: str | int) -> bytes:
    """Return the frame that asks an info question about an account."""
    payload = {"type": kind, "user": account, **parameters}
    return _encode({"method": "post", "id": post_id, "request": {"type": "info", "payload": payload}})


def action_post(
    post_id: int,
    action: Mapping[str, object],
    signer: Signer,
    nonce_ms: int,
    expires_after_ms: int | None,
    vault: str = "",
) -> bytes:
    """Return the frame that carries a signed action; `expires_after_ms` is a time of the Unix epoch.

    `vault` is the address of the vault or sub-account in whose name it acts, "" = the signer's own account.
    """
    r, s, v = signer.sign(action, nonce_ms, expires_after_ms, bytes.fromhex(vault[2:]) if vault else None)
    payload = {
        "action": action,
        "nonce": nonce_ms,
        "signature": {"r": r, "s": s, "v": v},
        "vaultAddress": vault or None,
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


def modify_action(amends: Sequence[tuple[AmendOrder, Instrument, int]]) -> dict[str, object]:
    """Return the action that replaces orders, each with its instrument and asset number; by oid where it is known."""
    modifies = [
        {
            "oid": int(amend.order_id) if amend.order_id else amend.orig_cl_ord_id,
            "order": _order(amend, instrument, asset),
        }
        for amend, instrument, asset in amends
    ]
    return {"type": "batchModify", "modifies": modifies}


def schedule_cancel_action(time_ms: int | None) -> dict[str, object]:
    """Return the action that sets the dead-man switch to a time of the Unix epoch, or clears it (None)."""
    return {"type": "scheduleCancel"} if time_ms is None else {"type": "scheduleCancel", "time": time_ms}


def _order(order: NewOrder | AmendOrder, instrument: Instrument, asset: int) -> dict[str, object]:
    return {
        "a": asset,
        "b": order.side == BUY,
        "p": instrument.price_text(order.price),
        "s": instrument.size_text(order.size),
        "r": order.reduce_only,
        "t": {"limit": {"tif": TIME_IN_FORCE[order.time_in_force]}},
        "c": order.cl_ord_id,
    }
