"""Depth imbalance: which side of the visible book holds more.

Invariant: the mirrored book gives the negated value, and sizes in another unit give the same one. It must not know
prices: a level counts by its rank.
"""

from mmpi.events import Level


def depth_imbalance(bids: tuple[Level, ...], asks: tuple[Level, ...], levels: int, decay: float = 1.0) -> float:
    """Return (bids - asks) / (bids + asks) in [-1, 1] over the sizes of the first `levels` of each side.

    Level i, best = 0, weighs decay**i, with `decay` in (0, 1]. An empty side has size 0; of an empty book it is 0.0.
    """
    if len(bids) > levels:
        bids = bids[:levels]
    if len(asks) > levels:
        asks = asks[:levels]
    if decay == 1.0:
        return _plain(bids, asks)
    buy = sell = 0.0
    weight = 1.0
    for _, size in bids:
        buy += weight * size
        weight *= decay
    weight = 1.0
    for _, size in asks:
        sell += weight * size
        weight *= decay
    total = buy + sell
    return (buy - sell) / total if total else 0.0


def _plain(bids: tuple[Level, ...], asks: tuple[Level, ...]) -> float:
    """Return the value of levels that weigh the same: integers, so nothing is rounded before the one division."""
    buy = sell = 0
    for _, size in bids:
        buy += size
    for _, size in asks:
        sell += size
    total = buy + sell
    return (buy - sell) / total if total else 0.0
