"""Fit of the fill intensity: how often takers come at least a depth beyond the mid, as A*exp(-k*depth).

Invariant: too little data is an error that names it, never a number. It must not know quoters, or which of their
settings the numbers go to.

Model: Avellaneda & Stoikov (2008), section 2.4, and Gueant, Lehalle & Fernandez-Tapia (2013). Estimator: waiting times,
after S. Laruelle, "Faisabilite de l'apprentissage des parametres d'un algorithme de trading sur des donnees reelles"
(2013). On each side, at every depth from the mid of a regular instant, an order is imagined and left there until a
taker's price comes to it or the holding time is over; the next one starts at the next instant. For arrivals at a
constant rate, cut off at a fixed time,

    rate(depth) = hits / seconds waited

is the maximum of the likelihood. It is preferred to counting how far each sweep went beyond the latest mid, because a
quote rests while the mid moves, and a sweep that comes after the mid has moved fills it too; because the parts of one
sweep cannot count twice; and because a burst of sweeps fills an order once, as it does a quoter's.

The best price itself is left out of the fit: on Hyperliquid's recorded sets four of five sweeps end there, a fall that
is far from the exponential of the depths behind it; and there the place in the queue decides, not the depth.

A and k maximise sum of [hits ln(seconds A exp(-k depth)) - seconds A exp(-k depth)], each depth's count as a Poisson
number. The counts of one side contain one another and come in bursts, so that likelihood's own errors would be too
small: standard errors are by the jackknife, one stretch of the recording left out at a time.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.instrument import SECOND, Instrument
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.research.waiting_times import BLOCK, Waiting

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

HOLD_S: Final = 1.0
"""The quoters' default `update_interval_s`: so long a quote stays where it is."""
DEPTHS: Final = 20
"""Depths that are reported and fitted, at most."""
LEAST_DEPTHS: Final = 3
"""Two numbers are fitted; a third depth is the least that can contradict them."""
MIN_HITS: Final = 20
"""At each depth, both sides together: such a rate is known to 22%."""
LEAST_SHARE: Final = 0.05
"""Depths are fitted down to this part of the first one's rate, exp(-3): the few sweeps that go farther have a heavier
tail than any exponential, and would bend k for all the others."""
LEAST_BLOCKS: Final = 10
"""Fewer say little of an error: with ten it is known to a quarter."""
_STEEPEST: Final = 50.0
"""Decay from a depth to the next; exp(-50) is nothing."""
_HALVINGS: Final = 60
EVERY: Final = 2000
"""Events between two calls of `progress`."""


class Depth(msgspec.Struct, frozen=True):
    """What was counted at one depth."""

    ticks: float
    bps: float
    hits: int
    seconds: float
    rate: float
    """Hits per second of waiting."""
    fitted: float
    """A*exp(-k*depth)."""


class Curve(msgspec.Struct, frozen=True):
    """A and k with their standard errors; `r2` is of the logarithms of the rates, weighted by hits."""

    A_per_s: float
    k_per_tick: float
    k_per_bp: float
    se: dict[str, float]
    r2: float
    depths: list[Depth]


class Fit(msgspec.Struct, frozen=True):
    """The intensity of one side on average (`pooled`), and of each side by itself; None = too few hits there."""

    data: str
    instrument: str
    tick_size: str
    mid: float
    """In quote currency, mean over the instants."""
    half_spread_bps: float
    """Mean over the instants."""
    hold_s: float
    seconds: float
    """Time under observation, both sides at once."""
    events: int
    sweeps: int
    """Trades of one side at one exchange time are one."""
    touch: Depth
    """At the best price, both sides together: reported beside the curve, no part of the fit."""
    pooled: Curve
    bid: Curve | None
    """Of bids, which takers who sell come to."""
    ask: Curve | None

    def report(self) -> dict[str, object]:
        """Return all of it as plain data, the pooled numbers at the top."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        pooled = plain.pop("pooled")
        assert isinstance(pooled, dict)
        sides = {name: plain.pop(name) for name in ("bid", "ask")}
        return {**plain, **pooled, "sides": sides}


def run(
    data: str, instrument: str = "", tick: str = "", lot: str = "", hold_s: float = HOLD_S,
    progress: Callable[[float], None] | None = None,
) -> Fit:  # fmt: skip
    """Return the fit of a set; ConfigError if there is too little in it. `progress` is told the share done."""
    listed = instrument_for(data, instrument, tick, lot)
    dataset = open_dataset(data, listed)

    def shown() -> Iterable[MarketEvent]:
        for count, event in enumerate(dataset):
            if progress is not None and count % EVERY == 0:
                progress(dataset.done / max(1, dataset.total))
            yield event

    return fit(shown(), listed, dataset.name, hold_s)


def fit(events: Iterable[MarketEvent], instrument: Instrument, name: str, hold_s: float = HOLD_S) -> Fit:
    """Return the fit of these events; ConfigError, which names the data `name`, if there are too few."""
    seen = Waiting(instrument, round(hold_s * SECOND))
    for event in events:
        seen.take(event)
    seen.finish()
    if len(seen.blocks) < LEAST_BLOCKS:
        raise ConfigError(
            f"{name}: {seen.waited / SECOND:.0f} s of {instrument.name} with a valid mid; a fit of the intensity needs "
            f"at least {LEAST_BLOCKS * max(BLOCK / SECOND, hold_s):g} s"
        )
    blocks = np.stack(seen.blocks)
    sums = blocks.sum(axis=(0, 2))
    touch = int(np.searchsorted(np.cumsum(seen.spreads), seen.instants / 2))
    chosen = _choose(sums, touch, 2 if seen.narrow else 1, f"{name}: {instrument.name}")
    mid = seen.mid2_sum / seen.instants / 2
    bp = mid * 1e-4
    ticks = chosen * seen.width / 2
    parts = (blocks.sum(axis=2), blocks[:, :, 0], blocks[:, :, 1])
    pooled, bid, ask = (_curve(part[:, :, chosen], ticks, bp) for part in parts)
    if pooled is None:
        raise ConfigError(
            f"{name}: {instrument.name}: all sweeps that came {ticks[0]:g} ticks beyond the mid came {ticks[-1]:g}; "
            "a fit of the intensity needs some that did not"
        )
    hits, nanos = sums[:, touch]
    return Fit(
        data=name, instrument=instrument.name, tick_size=instrument.price_text(1),
        mid=_round(mid / instrument.ticks_per_quote),
        half_spread_bps=_round(seen.spread_sum / seen.instants / 2 / bp),
        hold_s=hold_s, seconds=_round(seen.waited / SECOND), events=seen.events, sweeps=seen.sweeps,
        touch=_depth(touch * seen.width / 2, hits, nanos / SECOND, pooled.A_per_s, pooled.k_per_tick, bp),
        pooled=pooled, bid=bid, ask=ask,
    )  # fmt: skip


def solve(depths: Floats, hits: Floats, seconds: Floats) -> tuple[float, float]:
    """Return the most likely A and k (A = 0 without hits): with that k, the model's mean depth of a hit is the data's.

    Depths are equally far apart, in any unit; hits do not grow with the depth, and seconds do not fall.
    """
    total = float(hits.sum())
    if not total:
        return 0.0, 0.0
    unit = float(depths[1] - depths[0])
    steps = (depths - depths[0]) / unit
    mean = float(steps @ hits) / total
    low, high = 0.0, _STEEPEST
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        weights = seconds * np.exp(-middle * steps)
        if float(steps @ weights) > mean * float(weights.sum()):
            low = middle
        else:
            high = middle
    decay = 0.5 * (low + high)
    at_first = total / float(seconds @ np.exp(-decay * steps))
    return at_first * math.exp(decay * float(depths[0]) / unit), decay / unit


def _choose(counts: Ints, touch: int, unit: int, what: str) -> Ints:
    """Return the bins to fit, `unit` (a step of the price) or more of them apart, the first one behind `touch`.

    They end where no more than LEAST_SHARE of the first one's rate, or MIN_HITS, is left.
    """
    hits, nanos = counts
    first, least = touch + unit, (LEAST_DEPTHS - 1) * unit
    enough = int(np.count_nonzero(hits >= MIN_HITS))  # hits do not grow with the depth
    if enough <= first + least:
        reached = ", ".join(str(n) for n in hits[first : first + least + 1 : unit])
        raise ConfigError(
            f"{what}: {reached} hits at the {LEAST_DEPTHS} depths next behind the best price; a fit of the intensity "
            f"needs {MIN_HITS} at each: more data"
        )
    rates = hits[first:enough] / nanos[first:enough]
    reach = max(int(np.count_nonzero(rates >= LEAST_SHARE * rates[0])) - 1, least)
    apart = unit * (reach // unit // DEPTHS + 1)
    return np.arange(first, first + reach + 1, apart)


def _curve(blocks: Ints, ticks: Floats, bp: float) -> Curve | None:
    """Return the fit of counts by stretch, kind and depth (`bp` = ticks in a basis point); None = no slope in them."""
    hits, seconds = (np.asarray(each, dtype=np.float64) for each in (blocks.sum(axis=0) / np.array([[1], [SECOND]])))
    if hits[0] < MIN_HITS or hits[0] == hits[-1]:
        return None
    level, decay = solve(ticks, hits, seconds)
    without = [solve(ticks, hits - block[0], seconds - block[1] / SECOND) for block in blocks]
    spread = np.array(without) - np.mean(without, axis=0)
    errors = np.sqrt((len(without) - 1) / len(without) * (spread**2).sum(axis=0))
    fitted = level * np.exp(-decay * ticks)
    rows = zip(ticks, hits, seconds, strict=True)
    return Curve(
        A_per_s=_round(level), k_per_tick=_round(decay), k_per_bp=_round(decay * bp),
        se={"A_per_s": _round(errors[0]), "k_per_tick": _round(errors[1]), "k_per_bp": _round(errors[1] * bp)},
        r2=_round(_determination(hits, hits / seconds, fitted)),
        depths=[_depth(*row, level, decay, bp) for row in rows],
    )  # fmt: skip


def _depth(ticks: float, hits: float, seconds: float, level: float, decay: float, bp: float) -> Depth:
    fitted = level * math.exp(-decay * ticks)
    return Depth(float(ticks), _round(ticks / bp), int(hits), _round(seconds), _round(hits / seconds), _round(fitted))


def _determination(hits: Floats, rates: Floats, fitted: Floats) -> float:
    """Return R^2 of the logarithms, weighted by hits, which are the inverse of a log rate's variance."""
    some = hits > 0
    log, model, weight = np.log(rates[some]), np.log(fitted[some]), hits[some]
    around = log - np.average(log, weights=weight)
    return 1.0 - float(weight @ (log - model) ** 2) / float(weight @ around**2)


def _round(value: float) -> float:
    """Return six significant digits: enough for any use, and the same on every machine."""
    return float(f"{value:.6g}")
