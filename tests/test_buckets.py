"""runtime.buckets: durations by size."""

from mmpi.instrument import MILLISECOND
from mmpi.runtime.buckets import Buckets
from mmpi.status import EDGES_US


def test_each_is_counted_once_where_it_belongs() -> None:
    """An edge belongs to its own bucket, what is longer than all edges to the last; the sum is exact."""
    buckets = Buckets()
    for took in (0, 50_000, 50_001, 3 * MILLISECOND, 900 * MILLISECOND):
        buckets.add(took)
    told = buckets.histogram()
    assert sum(told.counts) == 5 and len(told.counts) == len(EDGES_US) + 1
    assert (told.counts[0], told.counts[1], told.counts[EDGES_US.index(3000)], told.counts[-1]) == (2, 1, 1, 1)
    assert told.sum_us == 903_100.001
