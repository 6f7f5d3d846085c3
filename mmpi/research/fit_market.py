"""Fit: the statistics of a recorded market that the generated one is made from.

Invariant: the same events give the same numbers, and a number that the recording is too short for is 0, never a guess.
It must not know the generator: a generated market is measured by the same code as a recorded one.

Methods: volatility and trend by least squares on the variance of mid moves over 1 to 60 s; clustering by the maximum
likelihood of a Hawkes process with an exponential kernel, in its O(n) recursive form (Ogata 1981; Ozaki 1979), by
expectation maximisation for each decay (Veen and Schoenberg 2008); the tail of sizes by Hill's estimator (1975).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import SECOND, Instrument, Nanos, Side
from mmpi.research.dataset import Dataset, instrument_for, open_dataset
from mmpi.sim.market_fit import FittedMarket

Floats: TypeAlias = npt.NDArray[np.float64]

HORIZONS_S: Final = (1, 2, 3, 5, 10, 20, 40, 60)
TREND_TAUS_S: Final = tuple(0.5 * 1.15**i for i in range(34))
"""0.5 to 50 s: shorter is not seen through books half a second apart, longer not in half an hour."""
DECAYS_PER_S: Final = (0.02, 10.0)
"""Not faster: orders of one block, about 0.1 s on Hyperliquid, share its time and say nothing of their order."""
STALL_S: Final = 5.0
"""A longer silence between books is a stall, not a slow market: ten of Hyperliquid's book intervals."""
JUMP_SD: Final = 5.0
"""A move between two books above this many standard deviations is a jump; a normal one comes once in two million."""
TAIL_SHARE: Final = 0.1
"""Hill's estimator on the largest tenth; smaller shares give 0.75 to 1.2 on the recorded sets."""
STEPS: Final = 10
"""Steps of probability in a table of sizes."""
EDGE: Final = 0.01
"""A table runs from this quantile to its complement: the extremes of a recording are luck."""
GROUPS: Final = ((0, 1), (1, 5), (5, 10))
"""Levels counted from the touch: touch, near, deep."""
IMPACT_AFTER: Final[Nanos] = SECOND
IMPACT_BINS: Final = 8
IMPACT_EXPONENTS: Final = tuple(0.02 * i for i in range(5, 51))
"""0.1 to 1: measured ones lie between a quarter and a half."""
MIN_ORDERS: Final = 1000
"""Fewer say nothing of clustering or impact: 350 orders of ETH put the decay at the edge of what is searched."""
MIN_BOOKS: Final = 100


class _Tape(msgspec.Struct):
    """What is measured, as arrays; times in seconds from the first book."""

    instrument: Instrument
    times: Floats
    mids: Floats
    """Logarithms, in basis points."""
    spreads: Floats
    """In steps of the effective grid."""
    levels: list[list[float]]
    """Sizes in the quote currency, by GROUPS."""
    kept: int
    shown: int
    """Levels behind the touch shown by two books in a row, and those of them whose size stayed."""
    orders: list[tuple[float, Side, float]]
    """(time, side, size in the quote currency)."""


def run(paths: Sequence[str | Path]) -> list[FittedMarket]:
    """Return the fit of each recorded set; ConfigError names one that is too short."""
    return [fit(open_dataset(path, instrument_for(path))) for path in paths]


def fit(dataset: Dataset) -> FittedMarket:
    """Return the statistics of a set with books and trades."""
    tape = _read(dataset)
    if len(tape.times) < MIN_BOOKS:
        raise ConfigError(f"{dataset.name}: {len(tape.times)} books; a fit needs at least {MIN_BOOKS}")
    gaps = np.diff(tape.times)
    stalls = gaps[gaps > STALL_S]
    seconds = float(tape.times[-1] - stalls.sum())
    jump_every, jump_bps = _jumps(tape, seconds)
    long_run, share, tau = trend(tape.times, tape.mids)
    jumps = jump_bps * jump_bps / jump_every if jump_every else 0.0
    variance = max(long_run - jumps, long_run / 2)
    at = np.array([order[0] for order in tape.orders])
    sizes = np.array([order[2] for order in tape.orders])
    inside = at[(at >= 0) & (at <= tape.times[-1])]
    arrivals = _without_stalls(np.unique(inside), tape.times)
    branching, decay = hawkes(arrivals) if len(arrivals) >= MIN_ORDERS else (0.0, 0.0)
    tail_from, tail = hill(sizes)
    impact, exponent = _impact(tape)
    return FittedMarket(
        source=dataset.name,
        seconds=_round(seconds),
        books=len(tape.times),
        orders=len(sizes),
        volatility_bps=_round(math.sqrt(variance)),
        trend_share=_round(share),
        trend_tau_s=_round(tau),
        orders_per_s=_round(len(inside) / seconds),
        branching=_round(branching),
        decay_per_s=_round(decay),
        order_sizes=_table(sizes[sizes <= tail_from]),
        tail_from=_round(tail_from),
        tail_share=TAIL_SHARE if len(sizes) else 0.0,
        tail=_round(tail),
        order_max=_round(float(sizes.max(initial=0.0))),
        level_sizes=tuple(_table(np.array(group)) for group in tape.levels),
        refresh_per_s=_round(_refresh(tape, float(np.median(gaps)))),
        wide_share=_round(float(np.mean(tape.spreads > 1))),
        wide_steps=_round(float(np.mean(tape.spreads[tape.spreads > 1] - 1)) if (tape.spreads > 1).any() else 0.0),
        impact_bps=_round(impact),
        impact_exponent=_round(exponent),
        impact_share=_round(float(np.sum((impact * sizes**exponent) ** 2)) / seconds / variance if variance else 0.0),
        jump_every_s=_round(jump_every),
        jump_bps=_round(jump_bps),
        locked_share=_round(float(np.mean(tape.spreads == 0))),
        book_interval_s=_round(float(np.median(gaps))),
        stall_every_s=_round(seconds / len(stalls) if len(stalls) else 0.0),
        stall_s=_round(float(stalls.mean()) if len(stalls) else 0.0),
    )


def hawkes(times: Floats) -> tuple[float, float]:
    """Return branching ratio and decay per second of the most likely self-exciting process (times rising, seconds)."""
    low, high = (math.log(each) for each in DECAYS_PER_S)
    grid = np.linspace(low, high, 16)
    best = int(np.argmax([profile(times, math.exp(x))[0] for x in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    for _ in range(12):  # the interval shrinks to a hundredth
        left, right = high - 0.618 * (high - low), low + 0.618 * (high - low)
        if profile(times, math.exp(left))[0] < profile(times, math.exp(right))[0]:
            low = left
        else:
            high = right
    decay = math.exp((low + high) / 2)
    return profile(times, decay)[1], decay


def profile(times: Floats, decay: float) -> tuple[float, float]:
    """Return the log likelihood and the branching ratio that are best for this decay."""
    fading = np.exp(-decay * np.diff(times))
    excited = np.empty(len(times))
    excited[0] = sum_before = 0.0
    for i, keep in enumerate(fading.tolist(), start=1):
        sum_before = keep * (sum_before + 1.0)
        excited[i] = sum_before
    excited *= decay
    span = float(times[-1] - times[0])
    reach = float(np.sum(1.0 - np.exp(-decay * (times[-1] - times))))
    branching, base = 0.5, 0.5 * len(times) / span
    for _ in range(60):
        own = base / (base + branching * excited)
        base, branching = float(own.sum()) / span, min(float(np.sum(1.0 - own)) / reach, 0.999)
    rate = base + branching * excited
    return float(np.log(rate).sum()) - base * span - branching * reach, branching


def hill(sizes: Floats) -> tuple[float, float]:
    """Return where the largest TAIL_SHARE begins and the Pareto index from there; (0, 0) = too few sizes."""
    largest = np.sort(sizes)[::-1]
    count = int(TAIL_SHARE * len(largest))
    if count < STEPS:
        return 0.0, 0.0
    start = float(largest[count])
    excess = float(np.mean(np.log(largest[:count] / start)))
    return start, 1.0 / excess if excess > 0 else 0.0


def trend(times: Floats, mids: Floats) -> tuple[float, float, float]:
    """Return the variance per second over long horizons, the part of it that is drift, and the drift's time constant.

    A random walk with a drift that is an Ornstein-Uhlenbeck process has over T the variance per second
    a + b (1 - (1 - exp(-T/tau)) tau/T).
    """
    grid = np.arange(0.0, times[-1], 1.0)
    at = np.searchsorted(times, grid, side="right") - 1
    fresh = grid - times[at] < STALL_S
    sampled = mids[at]
    spans, measured = [], []
    for horizon in HORIZONS_S:
        both = fresh[horizon:] & fresh[:-horizon]
        if both.sum() > 10 * horizon:
            moves = (sampled[horizon:] - sampled[:-horizon])[both]
            spans.append(float(horizon))
            measured.append(float(np.mean(moves * moves)) / horizon)
    variance, span = np.array(measured), np.array(spans)
    if not len(span) or variance.max() == 0:
        return 0.0, 0.0, 0.0
    weights = 1.0 / (np.sqrt(span) * variance)
    fits = [(*_walk_and_drift(variance, span, weights, tau), tau) for tau in TREND_TAUS_S]
    _, walk, drift, tau = min(fits)
    return walk + drift, drift / (walk + drift), tau if drift > 0 else 0.0


def _walk_and_drift(variance: Floats, span: Floats, weights: Floats, tau: float) -> tuple[float, float, float]:
    """Return squared error, random walk's and drift's variance per second, neither below 0."""
    shape = 1.0 - (1.0 - np.exp(-span / tau)) * tau / span
    design = np.column_stack((np.ones_like(span), shape)) * weights[:, None]
    target = variance * weights
    both = np.linalg.lstsq(design, target, rcond=None)[0]
    if both.min() < 0:
        alone = [max(float(column @ target / (column @ column)), 0.0) for column in design.T]
        errors = [float(np.sum((column * x - target) ** 2)) for column, x in zip(design.T, alone, strict=True)]
        both = np.array((alone[0], 0.0) if errors[0] <= errors[1] else (0.0, alone[1]))
    return float(np.sum((design @ both - target) ** 2)), float(both[0]), float(both[1])


def _read(dataset: Dataset) -> _Tape:
    instrument = dataset.instrument
    money = 1.0 / (instrument.ticks_per_quote * instrument.lots_per_base)
    times: list[float] = []
    mids: list[float] = []
    spreads: list[float] = []
    tape = _Tape(instrument, np.empty(0), np.empty(0), np.empty(0), [[] for _ in GROUPS], 0, 0, [])
    first: Nanos = 0
    last: BookSnapshot | None = None
    for event in dataset:
        if isinstance(event, Trade) and first:
            _add_order(tape.orders, (_time(event) - first) / SECOND, event.side, event.price * event.size * money)
        if not isinstance(event, BookSnapshot) or not event.bids or not event.asks:
            continue
        bid, ask = event.bids[0][0], event.asks[0][0]
        if bid > ask or (times and _time(event) < first + times[-1] * SECOND):
            continue
        first = first or _time(event)
        times.append((_time(event) - first) / SECOND)
        mids.append(10_000 * math.log((bid + ask) / 2))
        spreads.append((ask - bid) / instrument.step_at(ask))
        for sizes, (begin, end) in zip(tape.levels, GROUPS, strict=True):
            sizes += [price * size * money for side in (event.bids, event.asks) for price, size in side[begin:end]]
        if last is not None:
            _compare(tape, last, event)
        last = event
    tape.times, tape.mids, tape.spreads = np.array(times), np.array(mids), np.array(spreads)
    return tape


def _time(event: BookSnapshot | Trade) -> Nanos:
    return event.exch_ts or event.recv_ts


def _add_order(orders: list[tuple[float, Side, float]], time: float, side: Side, size: float) -> None:
    """Add a trade to the order that it is a part of: same side, same time."""
    for i in range(len(orders) - 1, max(len(orders) - 3, -1), -1):
        if orders[i][:2] == (time, side):
            orders[i] = (time, side, orders[i][2] + size)
            return
    orders.append((time, side, size))


def _compare(tape: _Tape, before: BookSnapshot, now: BookSnapshot) -> None:
    for old, new in ((before.bids, now.bids), (before.asks, now.asks)):
        sizes = dict(old)
        for price, size in new[1:]:
            if price in sizes:
                tape.shown += 1
                tape.kept += sizes[price] == size


def _refresh(tape: _Tape, interval: float) -> float:
    return -math.log(tape.kept / tape.shown) / interval if tape.kept and interval else 0.0


def _table(sizes: Floats) -> tuple[float, ...]:
    if not len(sizes):
        return ()
    return tuple(_round(float(q)) for q in np.quantile(sizes, np.linspace(EDGE, 1 - EDGE, STEPS + 1)))


def _jumps(tape: _Tape, seconds: float) -> tuple[float, float]:
    """Return the mean time between jumps and their mean size; (0, 0) = none."""
    moves = np.abs(np.diff(tape.mids))[np.diff(tape.times) < STALL_S]
    jumps = moves[moves > JUMP_SD * math.sqrt(float(np.mean(moves * moves)))]
    return (seconds / len(jumps), float(jumps.mean())) if len(jumps) else (0.0, 0.0)


def _impact(tape: _Tape) -> tuple[float, float]:
    """Return factor and exponent of the mid's move a second after an order by its size; (0, 0) = none seen.

    Least squares on the means of equally many orders each: single moves are nearly all noise.
    """
    moved = []
    for time, side, size in tape.orders:
        before = int(np.searchsorted(tape.times, time, side="left")) - 1
        after = int(np.searchsorted(tape.times, time + IMPACT_AFTER / SECOND))
        if before >= 0 and after < len(tape.times) and tape.times[after] - tape.times[before] < STALL_S:
            moved.append((size, side * (tape.mids[after] - tape.mids[before])))
    if len(moved) < MIN_ORDERS:
        return 0.0, 0.0
    parts = np.array_split(np.array(sorted(moved)), IMPACT_BINS)
    measured = np.array([part[:, 1].mean() for part in parts])
    best = (math.inf, 0.0, 0.0)
    for exponent in IMPACT_EXPONENTS:
        shape = np.array([(part[:, 0] ** exponent).mean() for part in parts])
        factor = max(float(shape @ measured / (shape @ shape)), 0.0)
        best = min(best, (float(np.sum((factor * shape - measured) ** 2)), factor, exponent))
    return best[1], best[2] if best[1] else 0.0


def _without_stalls(times: Floats, books: Floats) -> Floats:
    """Return the times with each stall cut out: a process that was not seen was not quiet."""
    cut = np.zeros(len(times))
    for i in np.flatnonzero(np.diff(books) > STALL_S):
        cut += np.clip(times - books[i], 0.0, books[i + 1] - books[i])
    return np.asarray(times - cut)


def _round(value: float) -> float:
    """Return four significant digits: more would pretend to a precision that half an hour does not give."""
    return float(f"{value:.4g}")
