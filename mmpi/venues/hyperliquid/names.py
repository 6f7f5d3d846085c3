"""Which of the venue's order numbers are ours, and under which of our ids.

Invariant: bounded; a live order's name is never forgotten, a finished one's is kept long enough for its last fills.
It must not know frames or events.
"""

from collections.abc import Iterable
from typing import Final

INSTANCE_CHARS: Final = 10
"""0x and the 4-byte instance id that every id of ours starts with."""
MAX_NAMES: Final = 8192
"""More than the venue's limit of open orders (5000), so that a finished order is always there to forget."""


class OrderNames:
    """Remembers oid -> cloid of our own orders."""

    def __init__(self, cl_ord_prefix: str) -> None:
        """Take the prefix of this run's ids; other runs of the same instance are ours as well."""
        self._instance: str = cl_ord_prefix[:INSTANCE_CHARS]
        self._cloids: dict[int, str] = {}
        self._adopted: dict[str, None] = {}
        self._live: set[int] = set()

    def __len__(self) -> int:
        """Return how many names are remembered."""
        return len(self._cloids)

    def is_ours(self, cloid: str | None) -> bool:
        """Return whether this instance gave the id, or took its order over."""
        return cloid is not None and (cloid.startswith(self._instance) or cloid in self._adopted)

    def cloid(self, oid: int) -> str | None:
        """Return our id of the order, or None."""
        return self._cloids.get(oid)

    def learn(self, oid: int, cloid: str, *, live: bool) -> None:
        """Remember the name, and whether the order can still trade; one that has ended never lives again."""
        if not live:
            self._live.discard(oid)
        elif oid not in self._cloids:
            self._live.add(oid)
        self._cloids[oid] = cloid
        if len(self._cloids) > MAX_NAMES:
            self._forget_oldest()

    def adopt(self, oid: int, cloid: str | None) -> str:
        """Return the id under which an order of another hand is ours from now on: its own, else one of its number."""
        name = cloid or f"oid {oid}"
        self._adopted[name] = None
        if len(self._adopted) > MAX_NAMES:
            del self._adopted[next(iter(self._adopted))]
        return name

    def set_live(self, oids: Iterable[int]) -> None:
        """Take the venue's full answer to "what is live"."""
        self._live = {oid for oid in oids if oid in self._cloids}

    def _forget_oldest(self) -> None:
        finished = next((oid for oid in self._cloids if oid not in self._live), None)
        oldest = next(iter(self._cloids)) if finished is None else finished
        self._live.discard(oldest)
        del self._cloids[oldest]
