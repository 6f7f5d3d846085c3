"""Hyperliquid's words for what became of an order, and which of its complaints are certain.

Invariant: a word that is not in these tables is never guessed: it means an unknown fate.
It must not know frames or orders.

Sources (read 2026-11-21): "Error responses" and the status table of "Info endpoint" in Hyperliquid's documentation.
"Seen" means that the documents do not have it and that public code quotes the venue (read 2026-11-28). Live answers
append " asset=N" and leave out words at the front, so the tables hold the part that stays, and a text is matched by
containing it.
"""

from typing import Final

from mmpi.events import DEAD_MAN, POST_ONLY, RATE_LIMIT, ExecType

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
    "nsufficient spot balance",
    "Reduce-only is invalid for spot trading",
    "Only post-only orders allowed",
)
"""One order is refused and was never live. The last two are seen, as is the form of the third from the end without
"Order has"."""

CANCEL_REFUSALS: Final = ("Order was never placed, already canceled, or filled",)

MODIFY_REFUSALS: Final = ("Cannot modify canceled or filled order", "Error placing new order during modify")
"""Nothing took the place of the order to be replaced, which has ended before, or by the attempt."""

ACCOUNT_FAULTS: Final = (
    "User or API Wallet",
    "Must deposit before performing actions",
    "Unable to recover signer",
    "Vault not registered",
)
"""Nothing that we sign will ever be taken: a key that is no agent's (any more), an account or vault that is none (the
last is seen)."""

LIMIT_REFUSALS: Final = ("Too many cumulative requests sent",)
LIMIT_WORDS: Final = (*LIMIT_REFUSALS, "Too Many Requests")
LIMIT_STATUS: Final = ("429", "HTTP 429")
"""HTTP's number comes instead of an answer, so it proves nothing about what was sent; but it says to send less. It
stands in front: further back it is part of a price or an asset's number."""
MAX_REASON: Final = 240
"""Characters of the venue's words that a report carries into the journal: the longest known sentence has 150."""

ACTION_REFUSALS: Final = (
    "Invalid nonce",
    "xpired",
    "expiresAfter",
    *ACCOUNT_FAULTS,
    *LIMIT_REFUSALS,
)
"""The whole action is refused: nothing in it was done. The text for a late action is documented nowhere; every
wording we can think of names its expiry."""

POST_ONLY_WORDS: Final = ("Post only order would have immediately matched", "badAloPxRejected")
DELISTED: Final = "delistedCanceled"
SCHEDULED: Final = "scheduledCancel"
DEAD_MAN_PASSING: Final = ("Scheduled cancel time too early",)
"""Refusals of a dead-man time that are about this time, not about the switch."""

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


def modify_error(text: str) -> tuple[ExecType, ExecType]:
    """Return what a refused modify means for the order that was to be replaced and for its successor."""
    if _contains(text, MODIFY_REFUSALS) or place_error(text) is ExecType.REJECTED:
        # Whether the old one still rests depends on how far the venue came: it is asked.
        return ExecType.CANCEL_REJECTED, ExecType.REJECTED
    return ExecType.LOST, ExecType.LOST


def dead_man_error(text: str) -> ExecType:
    """Return REJECTED where the text refuses the switch, LOST where asking again may well succeed."""
    passing = _contains(text, ACTION_REFUSALS) or _contains(text, DEAD_MAN_PASSING)
    return ExecType.LOST if passing else ExecType.REJECTED


def is_account_fault(text: str) -> bool:
    """Return whether a refusal means that the venue will take nothing from this key or account."""
    return _contains(text, ACCOUNT_FAULTS)


def reason_of(text: str) -> str:
    """Return the reason that a report carries: the venue's words, behind the engine's own where it acts on them."""
    text = text[:MAX_REASON]
    if _contains(text, POST_ONLY_WORDS):
        return f"{POST_ONLY}: {text}"
    if _contains(text, LIMIT_WORDS) or text.startswith(LIMIT_STATUS):
        return f"{RATE_LIMIT}: {text}"
    return DEAD_MAN if text == SCHEDULED else text


def _contains(text: str, sentences: tuple[str, ...]) -> bool:
    return any(sentence in text for sentence in sentences)
