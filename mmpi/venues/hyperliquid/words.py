"""Hyperliquid's words for what became of an order, and which of its complaints are certain.

Invariant: a word that is not in these tables is never guessed: it means an unknown fate.
It must not know frames or orders.

Sources (read 2026-11-21): "Error responses" and the status table of "Info endpoint" in Hyperliquid's documentation.
Live answers append " asset=N" and leave out words at the front, so the tables hold the part that stays, and a text
is matched by containing it.
"""

from typing import Final

from mmpi.events import ExecType

ORDER_REFUSALS: Final = (
    "Price must be divisible by tick size",
    "Order must have minimum value of",
    "Insufficient margin to place order",
    "Reduce only order would increase position",
    "Post only order would have immediately matched",
    "Order could not immediately match against any resting orders",
    "Order would increase open interest",
    "Order rejected due to price more aggressive than oracle",
    "rice too far from oracle",
    "Order would cause position to exceed margin tier limit",
    "Order price cannot be more than",
    "Order has invalid price",
    "Order has invalid size",
    "Order has zero size",
)
"""One order is refused and was never live."""

CANCEL_REFUSALS: Final = ("Order was never placed, already canceled, or filled",)

ACTION_REFUSALS: Final = (
    "Invalid nonce",
    "User or API Wallet",
    "Must deposit before performing actions",
    "Too many cumulative requests sent",
    "Unable to recover signer",
    "xpired",
    "expiresAfter",
)
"""The whole action is refused: nothing in it was done. The text for a late action is documented nowhere; every
wording we can think of names its expiry."""

_STATUSES: Final = {
    "open": ExecType.NEW,
    "accepted": ExecType.NEW,
    "triggered": ExecType.NEW,
    "filled": ExecType.FILLED,
    "canceled": ExecType.CANCELED,
    "scheduledCancel": ExecType.CANCELED,
    "rejected": ExecType.REJECTED,
}


def order_status(status: str) -> ExecType | None:
    """Return what an order's status says, or None for a word we do not know."""
    if status.endswith("Canceled"):
        return ExecType.CANCELED
    if status.endswith("Rejected"):
        return ExecType.REJECTED
    return _STATUSES.get(status)


def place_error(text: str) -> ExecType:
    """Return REJECTED where the text proves that the order was never live, LOST where it does not."""
    refused = _contains(text, ORDER_REFUSALS) or _contains(text, ACTION_REFUSALS)
    return ExecType.REJECTED if refused else ExecType.LOST


def cancel_error(text: str) -> ExecType:
    """Return CANCEL_REJECTED where the text proves that the cancel did nothing, LOST where it does not."""
    refused = _contains(text, CANCEL_REFUSALS) or _contains(text, ACTION_REFUSALS)
    return ExecType.CANCEL_REJECTED if refused else ExecType.LOST


def _contains(text: str, sentences: tuple[str, ...]) -> bool:
    return any(sentence in text for sentence in sentences)
