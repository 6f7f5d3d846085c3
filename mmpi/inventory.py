"""Inventory bands: how far a position has gone towards its limit.

Invariant: a larger position is never in a lower band. It must not know prices, money or what is done about it.
"""

from typing import Final

NORMAL: Final = 0
WARN: Final = 1
"""Quoters lean harder against the position."""
CRITICAL: Final = 2
"""Orders that would increase the position are withdrawn."""
HARD: Final = 3
"""The same, and the box latches: a position that no order of ours should have led to."""
NAMES: Final = ("normal", "warn", "critical", "hard")


def band(position: int, warn: int, critical: int, hard: int) -> int:
    """Return the band of a position; the thresholds are sizes in the same unit, the first that it reaches counts."""
    size = abs(position)
    if size == 0:
        return NORMAL
    if size >= hard:
        return HARD
    if size >= critical:
        return CRITICAL
    return WARN if size >= warn else NORMAL
