"""Fills: the last ones, with how the mid moved after each.

The quoter's status has its last few fills; they are taken over as they appear. A markout is measured from the moment at
which a fill was first seen here, so it is right to three quarters of a second: how often the quoter shows its markets.

Invariant: a markout is known once and never changes; one whose moment passed unseen stays unknown.
It must not know where statuses come from.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from mmpi.status import FillStatus, Summary
from mmpi.telemetry.snapshot import Fill

HORIZONS: Final = {"1s": 1.0, "5s": 5.0, "30s": 30.0}
ADVERSE: Final = "5s"
LATE_S: Final = 1.0
"""A mid that is so much later than the horizon says nothing about it."""
KEPT: Final = 200
ADVERSE_S: Final = 600.0
OLD_S: Final = 1.5
"""A fill that is older when it is first seen was seen by nobody here: its markouts are not known."""


class _Kept(msgspec.Struct):
    told: FillStatus
    seen: float
    """Monotonic seconds."""
    fresh: bool
    markouts: dict[str, float | None]

    def fill(self) -> Fill:
        told = self.told
        return Fill(
            told.exec_id, told.instrument, told.side, told.price, told.size, told.fee, told.maker, told.exch_ts / 1e9,
            dict(self.markouts),
        )  # fmt: skip


class Fills:
    """The last fills of this box. `now` is monotonic seconds, `at` Unix seconds."""

    def __init__(self) -> None:
        self.missed = 0
        """Fills that came and went between two looks."""
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._run: object = None
        self._number = 0
        self._last: float | None = None
        self._told: tuple[Fill, ...] | None = None
        """All of them as they are told, None = they have changed since."""

    def look(
        self, summary: Summary, run: object, mids: Mapping[str, float | None], now: float, at: float
    ) -> list[Fill]:
        """Take over what is new, measure what is due; return the fills that are new or now complete.

        `run` tells one quoter's process from the next, whose numbers begin anew.
        """
        first = self._run is None
        if run != self._run:
            self._run, self._number = run, 0
        count = summary.run_fills - self._number
        fresh = summary.last_fills[-count:] if count > 0 else []
        if count > 0 and not first:
            self.missed += count - len(fresh)
        self._number = summary.run_fills
        changed = [self._take(told, now, at) for told in fresh]
        return [each.fill() for each in changed + self._measure(mids, now)]

    def _take(self, told: FillStatus, now: float, at: float) -> _Kept:
        age = max(0.0, at - told.recv_ts / 1e9)
        kept = _Kept(told, now - min(age, OLD_S), age <= OLD_S, dict.fromkeys(HORIZONS))
        self._kept.append(kept)
        self._told = None
        self._last = now - age
        return kept

    def _measure(self, mids: Mapping[str, float | None], now: float) -> list[_Kept]:
        """Fill in the markouts that are due now; return the fills of which the last one was."""
        done = []
        for kept in self._kept:
            mid = mids.get(kept.told.instrument)
            if not kept.fresh or mid is None:
                continue
            for name, horizon in HORIZONS.items():
                if kept.markouts[name] is None and horizon <= now - kept.seen <= horizon + LATE_S:
                    price = float(kept.told.price)
                    moved = (mid - price) / price * 10_000
                    self._told = None
                    kept.markouts[name] = round(moved if kept.told.side == "buy" else -moved, 3)
                    if horizon == max(HORIZONS.values()):
                        done.append(kept)
        return done

    def all(self) -> tuple[Fill, ...]:
        """Return them, oldest first."""
        if self._told is None:
            self._told = tuple(kept.fill() for kept in self._kept)
        return self._told

    def adverse_bps(self, now: float) -> float | None:
        """Return how far the mid went against the fills of the last ten minutes within 5 s, weighted by their worth."""
        weights = weighed = 0.0
        for kept in self._kept:
            markout = kept.markouts[ADVERSE]
            if markout is not None and now - kept.seen <= ADVERSE_S:
                worth = float(kept.told.price) * float(kept.told.size)
                weights, weighed = weights + worth, weighed - worth * markout
        return round(weighed / weights, 3) if weights else None

    def last_s(self, now: float) -> float | None:
        """Return the seconds since the last one, None = none was seen."""
        return max(0.0, now - self._last) if self._last is not None else None
