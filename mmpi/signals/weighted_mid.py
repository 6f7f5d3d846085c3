"""The mid weighted by the size at the touch.

Invariant: it lies between bid and ask. It must not know deeper levels (and it is not Stoikov's micro-price).
"""

from mmpi.instrument import Lots, Ticks


def weighted_mid(bid: Ticks, bid_size: Lots, ask: Ticks, ask_size: Lots) -> float:
    """Return the mid in ticks, drawn towards the side with less size; both sizes must be positive."""
    return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
