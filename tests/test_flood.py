"""Memory of a live quoter under a flood of market messages: what is bounded by design is bounded in fact (I12)."""

import os
from pathlib import Path

import pytest
from flood import grow
from stack import RESTLESS, Stack

pytestmark = pytest.mark.slow

MESSAGES = int(os.environ.get("MMPI_FLOOD_MESSAGES", "300000"))
"""`python -m tests.flood --messages 1000000` is the whole of it, and takes two minutes."""
WARM = 100_000
"""A tenth of that whole: buffers and caches have their size after half as many (measured: +2.5 MB in the first 6 s)."""
GROWTH_MB = 2.0
MOST_MB = 64.0


def test_a_live_quoter_does_not_grow(tmp_path: Path) -> None:
    """After the first 100,000 messages at most 2 MB more, never above 64 MB, trading all the while."""
    with Stack(tmp_path, latency_ms=20.0, more=RESTLESS) as stack:
        stack.start_server()
        stack.start_guardian()
        stack.arm()
        found = grow(stack, WARM, MESSAGES, 600)
    print(found)
    assert found.last_mb <= MOST_MB
    assert found.last_mb - found.first_mb <= GROWTH_MB
    assert (found.violations, found.placed > 20) == (0, True)
