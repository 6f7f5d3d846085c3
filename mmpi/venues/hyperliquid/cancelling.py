"""What the guardian needs of Hyperliquid, without IO: which orders of ours are live, and the frame that cancels them.

Invariant: only orders that carry this instance's ids are ever named in a cancel.
It must not know prices, instruments or the quoter's session.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mmpi.errors import RemoteError
from mmpi.events import ExecType, OpenOrder
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.answers import OpenOrdersInfo
from mmpi.venues.hyperliquid.messages import OrderUpdatesMessage, PostMessage, PostResponse, WireOrder, side_of
from mmpi.venues.hyperliquid.messages import read as read_message
from mmpi.venues.hyperliquid.names import INSTANCE_CHARS
from mmpi.venues.hyperliquid.reports import error_text
from mmpi.venues.hyperliquid.signing import Signer
from mmpi.venues.hyperliquid.words import order_status

MAX_LIVE: Final = 5000
"""The venue's limit of open orders of one account ("Rate limits and user limits", read 2026-11-21)."""


def subscription(account: str) -> bytes:
    """Return the frame that subscribes to the account's order updates."""
    return requests.subscribe("orderUpdates", user=account)


def open_orders_request(post_id: int, account: str) -> bytes:
    """Return the frame that asks for the account's open orders."""
    return requests.info_post(post_id, "frontendOpenOrders", account)


def post_answer(frame: bytes | str) -> tuple[int, PostResponse] | None:
    """Return the number and the answer if the frame answers a post; None if it is anything else."""
    try:
        message = read_message(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return (message.data.id, message.data.response) if isinstance(message, PostMessage) else None


def open_orders(response: PostResponse, instance: str, assets: Mapping[str, int]) -> list[OpenOrder]:
    """Return our live orders in an answer to `open_orders_request`; RemoteError if it is none.

    `instance` is any id of ours or its prefix, `assets` the venue's markets as we know them. An order of ours in a
    market that we do not know is a RemoteError too: it cannot be cancelled, and must not be passed over.
    """
    if response.type != "info":
        raise RemoteError(f"hyperliquid: no open orders: {error_text(response)}")
    try:
        orders = msgspec.json.decode(response.payload, type=OpenOrdersInfo).data
    except msgspec.MsgspecError as error:
        raise RemoteError(f"hyperliquid: open orders cannot be read: {error}") from None
    ours = [_open_order(order) for order in orders if _is_ours(order, instance)]
    unknown = sorted({order.instrument for order in ours if order.instrument not in assets})
    if unknown:
        raise RemoteError(f"hyperliquid: orders of ours are live in markets that were not listed before: {unknown}")
    return ours


def cancel_frame(
    post_id: int,
    orders: Iterable[OpenOrder],
    assets: Mapping[str, int],
    signer: Signer,
    nonce_ms: int,
    expires_after_ms: int | None,
    vault: str = "",
) -> bytes:
    """Return the signed frame that cancels these orders by the venue's ids; `expires_after_ms` is a time."""
    pairs = [(assets[order.instrument], int(order.order_id)) for order in orders]
    return requests.action_post(post_id, requests.cancel_action(pairs), signer, nonce_ms, expires_after_ms, vault)


class LiveOrders:
    """Follows which of our orders are live, from order updates and full answers."""

    def __init__(self, instance: str) -> None:
        """Take any id of ours or its prefix."""
        self.unreadable: int = 0
        self.births: int = 0
        """How often an order came alive by an update."""
        self._instance: str = instance
        self._orders: dict[str, OpenOrder] = {}

    def __len__(self) -> int:
        """Return how many are live."""
        return len(self._orders)

    def orders(self) -> list[OpenOrder]:
        """Return what is live, oldest first."""
        return list(self._orders.values())

    def replace(self, orders: Iterable[OpenOrder]) -> None:
        """Take the venue's full answer."""
        self._orders = {order.order_id: order for order in orders}

    def receive(self, frame: bytes | str) -> None:
        """Take a frame; everything but order updates is passed over."""
        try:
            message = read_message(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.unreadable += 1
            return
        if not isinstance(message, OrderUpdatesMessage):
            return
        for update in message.data:
            if _is_ours(update.order, self._instance):
                self._update(update.order, update.status)

    def _update(self, order: WireOrder, status: str) -> None:
        oid = str(order.oid)
        # A status that we do not know counts as live: a cancel too many does no harm.
        if order_status(status) in (ExecType.CANCELED, ExecType.REJECTED, ExecType.FILLED):
            self._orders.pop(oid, None)
            return
        # Counted, for one message may tell an end too, as that of an amend does, and leave as many live as before.
        self.births += oid not in self._orders
        self._orders[oid] = _open_order(order)
        if len(self._orders) > MAX_LIVE:
            del self._orders[next(iter(self._orders))]


def _is_ours(order: WireOrder, instance: str) -> bool:
    return order.cloid is not None and order.cloid.startswith(instance[:INSTANCE_CHARS])


def _open_order(order: WireOrder) -> OpenOrder:
    """Return the order without price and size: cancelling needs neither."""
    return OpenOrder(order.coin, order.cloid or "", str(order.oid), side_of(order.side), 0, 0)
