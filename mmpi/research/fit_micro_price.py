"""Fit of the micro-price: from a recording's touches to the table that mmpi.signals.micro_price reads.

Invariant: every observation counts with its mirror image, so the table is antisymmetric. It must not know quoters.

The estimator is Stoikov's (2018, sections 3 and 4). The touch is a Markov chain whose states are pairs of imbalance
bucket and spread. From a state, Q holds the chances of the next states while the mid stays, R those of the states in
which the mid has moved, and K the mean move. Then

    G1 = (I - Q)^-1 K         the mean move when the mid next changes
    B  = (I - Q)^-1 R         where the chain is then
    G* = sum of B^i G1        all moves to come: the adjustment

With the mirror images counted, G* of a state is minus that of its mirror, so the upper half of the buckets suffices:
a step into the lower half counts as a step to its mirror with the sign turned.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mmpi.book import OrderBook
from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookDelta, BookSnapshot, MarketEvent
from mmpi.instrument import SECOND, Instrument, Nanos, Ticks
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.signals.micro_price import MicroPriceTable, micro_price

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Errors: TypeAlias = dict[str, dict[str, float]]
"""Horizon and estimator, such as "30s mid", to n, mean_abs, rms and bias."""

HOLE: Final[Nanos] = 60 * SECOND
"""A step over a longer silence is not counted: the longest pause of a live recorded feed is 44 s (NEXO)."""
MIN_SEEN: Final = 100
"""Observations that each state of a row needs, or the row joins the one below: a mean of 100 is known to a tenth."""
PRIOR: Final = 1.0
"""Observations added to each state of having been worth its mid, so that no system is singular."""
DECIMALS: Final = 4
HORIZONS_S: Final = (1, 5, 10, 30, 60, 120)
ZONES: Final = 10
"""Equal parts of the imbalance over which the bias is summed."""


class Touches(msgspec.Struct, frozen=True):
    """Valid, unlocked touches in order of time, one array a column."""

    ts: Ints
    bid: Ints
    bid_size: Ints
    ask: Ints
    ask_size: Ints

    def part(self, start: int, stop: int) -> "Touches":
        """Return rows `start` to `stop`."""
        return Touches(*(column[start:stop] for column in msgspec.structs.astuple(self)))

    def mid(self) -> Floats:
        """Return the mids in ticks."""
        return np.asarray((self.bid + self.ask) / 2, dtype=np.float64)

    def tilt(self) -> Floats:
        """Return the imbalance at the touch, -1 to 1."""
        return np.asarray((self.bid_size - self.ask_size) / (self.bid_size + self.ask_size), dtype=np.float64)


class Fit(msgspec.Struct, frozen=True):
    """A table and how it does: `out_of_sample` is of a fit on other data than it is tested on."""

    table: MicroPriceTable
    data: str
    observations: int
    test: str
    """What the out-of-sample errors are measured on."""
    in_sample: Errors
    out_of_sample: Errors

    def report(self) -> dict[str, object]:
        """Return all of it as plain data."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


def fit(
    events: Iterable[MarketEvent], instrument: Instrument, buckets: int = 6, max_spread: int = 3
) -> MicroPriceTable:
    """Return the table of a recording, with at most `max_spread` rows; ConfigError if there is too little data."""
    return fit_touches(touches(events, instrument), instrument, buckets, max_spread)


def run(data: str, instrument: str = "", buckets: int = 6, max_spread: int = 3, test: str = "") -> Fit:
    """Return the table fitted on the whole of a set, and its errors there and out of sample.

    Out of sample is the set `test` if one is named, else the second half of the set under a fit on its first.
    """
    listed = instrument_for(data, instrument)
    seen = touches(open_dataset(data, listed), listed)
    table = fit_touches(seen, listed, buckets, max_spread)
    if test:
        tried = instrument_for(test, instrument)
        out = errors(table, touches(open_dataset(test, tried), tried))
    else:
        half = len(seen.ts) // 2
        first = fit_touches(seen.part(0, half), listed, buckets, max_spread)
        out = errors(first, seen.part(half, len(seen.ts)))
    return Fit(table, data, len(seen.ts), test or "second half, fitted on the first", errors(table, seen), out)


def touches(events: Iterable[MarketEvent], instrument: Instrument) -> Touches:
    """Return the touch after each book event of an instrument; without a mid, or locked, it is left out."""
    book = OrderBook(instrument.name)
    rows: list[tuple[int, int, int, int, int]] = []
    for event in events:
        if not isinstance(event, BookSnapshot | BookDelta | Bbo) or event.instrument != instrument.name:
            continue
        book.apply(event)
        if book.mid2 and book.best_bid < book.best_ask:
            rows.append((event.recv_ts, book.best_bid, book.best_bid_size, book.best_ask, book.best_ask_size))
    return Touches(*np.array(rows, dtype=np.int64).reshape(-1, 5).T)


def fit_touches(seen: Touches, instrument: Instrument, buckets: int, max_spread: int) -> MicroPriceTable:
    """Return the table of these touches."""
    if buckets < 2 or buckets % 2 or max_spread < 1:
        raise ConfigError(f"buckets {buckets} must be even, 2 or more, and max_spread {max_spread} at least 1")
    if len(seen.ts) < 2:
        raise ConfigError(f"{len(seen.ts)} touches of {instrument.name}; a fit needs at least {MIN_SEEN} a bucket")
    step = instrument.step_at(int(np.median(seen.bid)))
    half = buckets // 2
    for rows in range(max_spread, 0, -1):
        state, sign = _states(seen, step, half, rows)
        steps = np.diff(seen.ts) <= HOLE
        fewest = int(np.bincount(state[:-1][steps], minlength=half * rows).min())
        if fewest >= MIN_SEEN:
            upper = limit(*_chain(seen, state, sign, steps, half * rows)).reshape(rows, half).round(DECIMALS)
            adjust = np.concatenate([-upper[:, ::-1], upper], axis=1) + 0.0
            return MicroPriceTable(buckets, rows, tuple(map(tuple, adjust.tolist())), step)
    raise ConfigError(
        f"one of {buckets} buckets of {instrument.name} was seen {fewest} times; "
        f"a fit needs {MIN_SEEN}: give fewer buckets or more data"
    )


def limit(moves: Floats, still: Floats, moved: Floats) -> Floats:
    """Return G* of each state from the mean moves (K) and the signed chances Q and R."""
    unit = np.eye(len(moves))
    first = np.linalg.solve(unit - still, moves)
    onward = np.linalg.solve(unit - still, moved)
    return np.asarray(np.linalg.solve(unit - onward, first), dtype=np.float64)


def errors(table: MicroPriceTable, seen: Touches) -> Errors:
    """Return how far mid, weighted mid and micro-price are from the mid some time later, in steps of the table.

    `bias` is the mean over all observations of the absolute mean error in their zone of imbalance: of a martingale it
    would be 0.
    """
    mid, tilt = seen.mid(), seen.tilt()
    columns = [column.tolist() for column in (seen.bid, seen.bid_size, seen.ask, seen.ask_size)]
    micro = np.array([micro_price(bid, buy, ask, sell, table) for bid, buy, ask, sell in zip(*columns, strict=True)])
    estimates = {"mid": mid, "weighted_mid": mid + tilt * (seen.ask - seen.bid) / 2, "micro_price": micro}
    zone = np.minimum(((tilt + 1) / 2 * ZONES).astype(np.int64), ZONES - 1)
    found: Errors = {}
    for horizon in HORIZONS_S:
        there = seen.ts + horizon * SECOND
        known = there <= seen.ts[-1]
        if not known.any():
            break
        later = mid[np.searchsorted(seen.ts, there[known], side="right") - 1]
        for name, estimate in estimates.items():
            off = (later - estimate[known]) / table.step
            bias = np.abs(np.bincount(zone[known], weights=off, minlength=ZONES)).sum() / len(off)
            numbers = {"mean_abs": np.abs(off).mean(), "rms": np.sqrt((off**2).mean()), "bias": bias}
            found[f"{horizon}s {name}"] = {"n": len(off), **{key: round(float(x), 4) for key, x in numbers.items()}}
    return found


def _states(seen: Touches, step: Ticks, half: int, rows: int) -> tuple[Ints, Ints]:
    """Return each touch's state, of `rows` times `half`, and its sign: -1 where it is the mirror that has it."""
    tilt = seen.tilt()
    bucket = np.minimum((np.abs(tilt) * half).astype(np.int64), half - 1)
    row = np.clip((seen.ask - seen.bid + step // 2) // step, 1, rows) - 1
    return row * half + bucket, np.sign(tilt).astype(np.int64)


def _chain(seen: Touches, state: Ints, sign: Ints, steps: npt.NDArray[np.bool_], size: int) -> tuple[Floats, ...]:
    """Return the mean moves and the signed chances, mid unmoved and moved, of the steps that count."""
    start, end = state[:-1], state[1:]
    move = np.diff(seen.mid())
    weight = np.bincount(start[steps], minlength=size) + PRIOR
    moves = np.bincount(start[steps], weights=(sign[:-1] * move)[steps], minlength=size) / weight
    chances = []
    for taken in (steps & (move == 0), steps & (move != 0)):
        pair = (start * size + end)[taken]
        turned = (sign[:-1] * sign[1:])[taken]
        chances.append(np.bincount(pair, weights=turned, minlength=size * size).reshape(size, size) / weight[:, None])
    return moves, *chances
