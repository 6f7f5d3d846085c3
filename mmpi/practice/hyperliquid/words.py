"""The venue's sentences.

Invariant: a sentence that is not the venue's own says so beside it. It must not know when one is said.

Sources: Hyperliquid documentation, "Error responses" and "Exchange endpoint" (copies read 2026-11-21); "seen" means
that the documents do not have it and that public code or notes quote the venue's answer (read 2026-11-28).
"""

from typing import Final

NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."
# Of these, live answers name the asset behind the sentence (seen: "... bbo was 77479@77480. asset=0").
BAD_TICK: Final = "Price must be divisible by tick size. asset={asset}"
TOO_SMALL: Final = "Order must have minimum value of $10. asset={asset}"
NO_MATCH: Final = "Order could not immediately match against any resting orders. asset={asset}"
WOULD_INCREASE: Final = "Reduce only order would increase position. asset={asset}"
POST_ONLY_CROSSED: Final = "Post only order would have immediately matched, bbo was {bbo}. asset={asset}"
SPOT_TOO_SMALL: Final = "Order must have minimum value of 10 {token}."
SPOT_BALANCE: Final = "Insufficient spot balance asset={asset}"
"""Seen; the documents have "Order has insufficient spot balance to trade"."""
SPOT_REDUCE_ONLY: Final = "Reduce-only is invalid for spot trading."
"""Seen, as are the next three."""
ZERO_SIZE: Final = "Order has zero size."
BAD_SIZE: Final = "Order has invalid size."
BAD_PRICE: Final = "Order has invalid price."

MODIFY_GONE: Final = "Cannot modify canceled or filled order"
"""Seen, as are the next two: the old order is gone, the new one has one of the reasons above."""
MODIFY_REFUSED: Final = "Error placing new order during modify: {why}"
BAD_LEVERAGE: Final = "Invalid leverage value"

VOLUME_GATE: Final = (
    "Cannot set scheduled cancel time until enough volume traded. Required: ${required}. Traded: ${traded}."
)
"""Seen, as are the next four."""
TOO_EARLY: Final = "Scheduled cancel time too early, must be at least 5 seconds from now."
TOO_MANY_REQUESTS: Final = (
    "Too many cumulative requests sent ({used} > {cap}) for cumulative volume traded ${volume}. "
    "Place taker orders to free up 1 request per USDC traded."
)
EXPIRED: Final = "Action already expired"
UNKNOWN_VAULT: Final = "Vault not registered: {vault}"
UNKNOWN_USER: Final = "User or API Wallet {address} does not exist."
DUPLICATE_NONCE: Final = "Invalid nonce: duplicate nonce {nonce}"

# The venue's own words for these are not in our sources.
TOO_MANY_FIRES: Final = "Cannot set scheduled cancel time: triggered {count} times today, the limit until 00:00 UTC."
MODIFY_TIF: Final = "Modified order must be Alo or Gtc unless always_place is set."
NOT_THE_LEADER: Final = "User {user} does not lead vault {vault}"
NONCE_OUT_OF_RANGE: Final = "Invalid nonce: {nonce} is not within two days before and one day after {now}"
NONCE_TOO_LOW: Final = "Invalid nonce: {nonce} is below the 100 highest of this signer"
INVALID_ACTION: Final = "Unknown or malformed action: {why}"
NOT_PLAIN: Final = "Price and size must be decimals without trailing zeros."
"""The venue hashes what it would have written itself, so there such an order has the signature of nobody."""
BAD_CLOID: Final = "Order has invalid cloid."
DUPLICATE_CLOID: Final = "Order with this cloid is open already."
NO_TRIGGERS: Final = "Trigger orders are not part of the practice venue."
UNKNOWN_ASSET: Final = "Unknown asset {asset}."
TOO_MANY_ORDERS: Final = "Too many open orders."
TOO_MANY_ACCOUNTS: Final = "Too many accounts; restart the practice server."
