"""Buckets: durations counted by size, at the price of one search in a short tuple for each.

Invariant: counts only grow, so that whoever reads them twice knows what came between. It must not know clocks.
"""

from bisect import bisect_left
from typing import Final

from mmpi.instrument import MILLISECOND, Nanos
from mmpi.status import EDGES_US, Histogram

NANOS_PER_US: Final = MILLISECOND // 1000


class Buckets:
    """Counts of one kind of duration."""

    def __init__(self) -> None:
        self._counts = [0] * (len(EDGES_US) + 1)
        self._sum: Nanos = 0

    def add(self, took: Nanos) -> None:
        """Count one."""
        self._counts[bisect_left(EDGES_US, took / NANOS_PER_US)] += 1
        self._sum += took

    def histogram(self) -> Histogram:
        """Return the counts so far."""
        return Histogram(tuple(self._counts), self._sum / NANOS_PER_US)
