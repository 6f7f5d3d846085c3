"""Builders of recorded runs: a story of five fills, computed by hand, and a random walk; both with a mirror image."""

from __future__ import annotations

import random

from engine_builders import WIDE, A, Bench, book, report

from mmpi.events import Event, ExecType, Stopping
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Side
from mmpi.research.fills import MAX_KEPT
from mmpi.research.recorder import MAX_SAMPLES, Recorder
from mmpi.risk import RiskConfig

START = 1_700_000_000 * SECOND
RISK = RiskConfig(
    capital=1_000 * MONEY_SCALE,
    max_position=2_100 * MONEY_SCALE,
    max_order=WIDE.max_order,
    max_instrument=WIDE.max_instrument,
    max_total=WIDE.max_total,
    session_loss=WIDE.session_loss,
    max_drawdown=WIDE.max_drawdown,
)
"""Two lots at 1000 are 95 % of the largest position: at the limit; one is not."""
MIRROR = 2_000
"""A price p is mirrored to MIRROR - p."""


class Story:
    """An engine that is told what happens, seconds after START, and watched by a recorder; perhaps in a mirror."""

    def __init__(self, *, mirrored: bool = False, max_samples: int = MAX_SAMPLES, max_fills: int = MAX_KEPT) -> None:
        self.bench = Bench((A,), risk=RISK)
        self.recorder = Recorder(self.bench.engine, max_samples=max_samples, max_fills=max_fills)
        self._mirrored = mirrored
        self._fills = 0

    def mid(self, seconds: float, mid: int) -> Story:
        """Show a book two ticks wide."""
        at = MIRROR - mid if self._mirrored else mid
        self.bench.now = START + round(seconds * SECOND)
        self._watch(book(self.bench.now, at - 1, at + 1))
        return self

    def fill(self, seconds: float, side: Side, size: int, price: int, fee: float) -> Story:
        """Fill an order."""
        if self._mirrored:
            side, price = (SELL if side == BUY else BUY), MIRROR - price
        self.bench.now = START + round(seconds * SECOND)
        self._fills += 1
        money, name = round(fee * MONEY_SCALE), f"x{self._fills}"
        self._watch(
            report(self.bench.now, "", ExecType.TRADE, size=size, price=price, side=side, fee=money, exec_id=name)
        )
        return self

    def stop(self, seconds: float) -> Recorder:
        """Return the recorder of a run that is over."""
        self.bench.now = START + round(seconds * SECOND)
        self._watch(Stopping(self.bench.now, "end"))
        self.recorder.finish()
        return self.recorder

    def _watch(self, event: Event) -> None:
        self.bench.feed(event)
        self.recorder(self.bench.engine, event)


def five_fills(*, mirrored: bool = False) -> Recorder:
    """Return 100 s of five fills around 1000.

    Spread +2 +1 -6 -2 +4 = -1, inventory +8 +6 -4 = 10, fees 1 +1 +3 +1 +1 = 7, total 2.
    Equity: 1, 9, 9, 15, 6, 2, -1, 2: the drawdown is 16.
    Round trips: 6 - 0.5 - 1 = 4.5; 9 - 0.5 - 1 = 7.5; -6 - 1 - 1 = -8; 0 - 1 - 1 = -2.
    """
    story = Story(mirrored=mirrored).mid(0, 1000)
    story.fill(1, BUY, 2, 999, 1).mid(2, 1004)
    story.fill(3, SELL, 1, 1005, 1).mid(10, 1010)
    story.fill(11, SELL, 3, 1008, 3).mid(20, 1012)
    story.fill(21, BUY, 1, 1014, 1)
    story.fill(30, BUY, 1, 1008, 1)
    return story.mid(61, 1020).mid(80, 1000).stop(100)


def random_walk(
    seconds: int, *, mirrored: bool = False, max_samples: int = MAX_SAMPLES, max_fills: int = MAX_KEPT, seed: int = 3
) -> Recorder:
    """Return a run of a book each second or so, and a fill every few; at most two lots either way."""
    rng = random.Random(seed)
    story = Story(mirrored=mirrored, max_samples=max_samples, max_fills=max_fills)
    mid, lots, now = 1_000, 0, 0.0
    story.mid(now, mid)
    while now < seconds:
        now += rng.random() * 2
        mid = min(max(mid + rng.choice((-1, 0, 0, 1)), 900), 1_100)
        story.mid(now, mid)
        if rng.random() < 0.3:
            side: Side = BUY if lots < -1 or (lots < 2 and rng.random() < 0.5) else SELL
            lots += side
            story.fill(now, side, 1, mid - side, 0.1)
    return story.stop(now + 1)
