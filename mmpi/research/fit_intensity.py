"""Fit of the fill intensity: how often takers come at least a depth beyond the mid, as A*exp(-k*depth).

Invariant: an imagined order is placed at a mid that was known by then, and seen no longer than the holding time.
It must not know quoters, or which of their settings the numbers go to.

Model: Avellaneda & Stoikov (2008), section 2.4, and Gueant, Lehalle & Fernandez-Tapia (2013). Estimator: waiting times
(S. Laruelle, "Calibration of a market making model", 2013; J. Fernandez-Tapia's thesis, 2015). On each side, at every
depth, an order is imagined at the mid of a regular instant and left there until a taker's price comes to it or the
holding time is over; the next one starts at the next instant. For arrivals at a constant rate, cut off at a fixed time,

    rate(depth) = hits / seconds waited

is the maximum of the likelihood. It is preferred to counting how far each sweep went beyond the latest mid, because a
quote rests while the mid moves, and a sweep that comes after the mid has moved fills it too; because the parts of one
sweep cannot count twice; and because a burst of sweeps fills an order once, as it does a quoter's.

A and k maximise sum of [hits ln(seconds A exp(-k depth)) - seconds A exp(-k depth)], each depth's count as a Poisson
number. The counts of one side contain one another and come in bursts, so that likelihood's own errors would be too
small: standard errors are by the jackknife, one stretch of the recording left out at a time.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mmpi.book import OrderBook
from mmpi.errors import ConfigError
from mmpi.events import Bbo, BookDelta, BookSnapshot, MarketEvent, Trade
from mmpi.instrument import SECOND, SELL, Instrument, Nanos, Side, Ticks
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.research.fit_micro_price import HOLE

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

HOLD_S: Final = 1.0
"""The quoters' default `update_interval_s`: so long a quote stays where it is."""
DEEPEST_BPS: Final = 100.0
"""The default `max_depth_bps` of glft: nothing is quoted beyond."""
FINEST_BPS: Final = 0.05
"""Width of a bin of depths, at least: a tenth of avellaneda_stoikov's default `min_half_spread_bps`."""
LEAST_BINS: Final = 20
"""Where a step of the price is so large that DEEPEST_BPS holds few."""
DEPTHS: Final = 20
"""Depths that are reported and fitted, at most."""
LEAST_DEPTHS: Final = 3
"""Two numbers are fitted; a third depth is the least that can contradict them."""
MIN_HITS: Final = 20
"""At each depth, both sides together: such a rate is known to 22%."""
LEAST_SHARE: Final = 0.05
"""Depths are fitted down to this part of the first one's rate, exp(-3): the few sweeps that go farther have a heavier
tail than any exponential, and would bend k for all the others."""
BLOCK: Final[Nanos] = 10 * SECOND
"""First length of the stretches, doubled whenever there are twice MOST_BLOCKS of them."""
LEAST_BLOCKS: Final = 10
"""Fewer say little of an error: with ten it is known to a quarter."""
MOST_BLOCKS: Final = 20
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


class Waiting:
    """The waiting times of the imagined orders, event by event; memory does not grow.

    Depths are counted in bins of `width` half ticks, bin b standing for the depth b * width: a mid has half ticks, and
    so every depth is exact. Row 0 of each array is the bids', row 1 the asks'.
    """

    def __init__(self, instrument: Instrument, hold: Nanos) -> None:
        self.events = 0
        self.sweeps = 0
        self.width = 0
        """0 = no mid yet."""
        self.narrow = True
        """A bin is half a step of the price, no more."""
        self.spreads: list[int] = []
        """Instants by the bin of their half spread."""
        self.instants = 0
        self.mid2_sum = 0
        self.spread_sum = 0
        self.waited: Nanos = 0
        self.blocks: list[Ints] = []
        """Of each stretch: hits and nanoseconds, by side, by bin."""
        self._instrument = instrument
        self._hold = hold
        self._book = OrderBook(instrument.name)
        self._book_ts: Nanos = 0
        self._book_exch: Nanos = 0
        self._seen: Nanos = 0
        self._start: Nanos = -1
        """The instant of the imagined orders; -1 = there are none."""
        self._mid2 = 0
        self._mid_exch: Nanos = 0
        self._reached = [0, 0]
        """Bins that were hit since the instant."""
        self._sweep: list[tuple[Nanos, Nanos]] = [(-1, -1), (-1, -1)]
        """Time of the last sweep, and the instant it came after."""
        self._block = BLOCK
        self._in_block: Nanos = 0
        self._counts: list[list[list[int]]] = []
        """This stretch's hits and nanoseconds, by side, as differences from bin to bin."""

    def take(self, event: MarketEvent) -> None:
        """Take the next event; one of another instrument is no event here."""
        if event.instrument != self._instrument.name:
            return
        ts = event.recv_ts
        self.events += 1
        if self._start >= 0:
            self._advance(ts)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, BookSnapshot | BookDelta | Bbo):
            self._book.apply(event)
            self._book_ts, self._book_exch = ts, event.exch_ts
            if self._start < 0 and self._book.mid2:
                self._place(ts)
        self._seen = ts

    def finish(self) -> None:
        """End with the last event: orders that still wait have waited until then."""
        if self._start >= 0:
            self._close(self._seen - self._start)
            self._start = -1
        if self._in_block:
            self._end_block()

    def _advance(self, now: Nanos) -> None:
        """End the orders whose time is over, and place those of the instants since."""
        start, hold = self._start, self._hold
        if now - self._book_ts > HOLE:
            self._close(self._seen - start)
            self._start = -1
            return
        passed = (now - start) // hold
        if not passed:
            return
        self._close(hold)
        self._start = -1
        if self._book.mid2:
            if passed > 1:
                self._reached = [0, 0]
                self._close((passed - 1) * hold)
            self._place(start + passed * hold)

    def _place(self, instant: Nanos) -> None:
        book = self._book
        if not self.width:
            self._choose_bins(book.mid2)
        if self._in_block >= self._block:
            self._end_block()
        self._start, self._mid2, self._mid_exch = instant, book.mid2, self._book_exch
        self._reached = [0, 0]
        self.instants += 1
        self.mid2_sum += book.mid2
        spread = book.best_ask - book.best_bid  # in ticks, which is half of it in half ticks
        self.spread_sum += spread
        self.spreads[min(spread // self.width, len(self.spreads) - 1)] += 1

    def _trade(self, trade: Trade) -> None:
        row = 0 if trade.side == SELL else 1
        when = trade.exch_ts or trade.recv_ts
        if self._sweep[row][0] != when:
            self._sweep[row] = (when, self._start)
            self.sweeps += 1
        # What began before the instant, or was executed before the book of the mid, could not fill an order of then.
        if self._start < 0 or self._sweep[row][1] != self._start or 0 < trade.exch_ts < self._mid_exch:
            return
        beyond = depth2(self._mid2, trade.side, trade.price)
        reached = min(beyond // self.width + 1, len(self.spreads)) if beyond >= 0 else 0
        before = self._reached[row]
        if reached > before:
            hits, nanos = self._counts[0][row], self._counts[1][row]
            waited = trade.recv_ts - self._start
            hits[before] += 1
            hits[reached] -= 1
            nanos[before] += waited
            nanos[reached] -= waited
            self._reached[row] = reached

    def _close(self, waited: Nanos) -> None:
        """Add the time of the orders that were not hit."""
        for row in (0, 1):
            self._counts[1][row][self._reached[row]] += waited
        self._in_block += waited
        self.waited += waited

    def _choose_bins(self, mid2: int) -> None:
        step: Ticks = self._instrument.step_at(mid2 // 2)
        bp2 = mid2 * 1e-4  # a basis point, in half ticks
        self.width = step * max(1, round(FINEST_BPS * bp2 / step))  # the narrowest is half a step
        self.narrow = self.width == step
        self.spreads = [0] * max(LEAST_BINS, int(DEEPEST_BPS * bp2) // self.width + 1)
        self._counts = self._zeros()

    def _zeros(self) -> list[list[list[int]]]:
        return [[[0] * (len(self.spreads) + 1) for _ in range(2)] for _ in range(2)]

    def _end_block(self) -> None:
        self.blocks.append(np.cumsum(np.array(self._counts, dtype=np.int64), axis=2)[:, :, :-1])
        self._counts, self._in_block = self._zeros(), 0
        if len(self.blocks) == 2 * MOST_BLOCKS:
            self.blocks = [first + second for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True)]
            self._block *= 2


def depth2(mid2: int, side: Side, price: Ticks) -> int:
    """Return how far a taker of that side came beyond the mid, in half ticks; below 0 = not to the mid."""
    return side * (2 * price - mid2)


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
            f"at least {LEAST_BLOCKS * BLOCK // SECOND} s"
        )
    blocks = np.stack(seen.blocks)
    touch = int(np.searchsorted(np.cumsum(seen.spreads), seen.instants / 2))
    unit = 2 if seen.narrow else 1  # bins in a step of the price, or one where bins are wider
    chosen = _choose(blocks.sum(axis=(0, 2)), touch + unit, unit, f"{name}: {instrument.name}")
    mid = seen.mid2_sum / seen.instants / 2
    ticks = chosen * seen.width / 2
    parts = (blocks.sum(axis=2), blocks[:, :, 0], blocks[:, :, 1])
    pooled, bid, ask = (_curve(part[:, :, chosen], ticks, mid * 1e-4) for part in parts)
    if pooled is None:
        raise ConfigError(
            f"{name}: {instrument.name}: all sweeps that came {ticks[0]:g} ticks beyond the mid came {ticks[-1]:g}; "
            "a fit of the intensity needs some that did not"
        )
    return Fit(
        data=name, instrument=instrument.name, tick_size=instrument.price_text(1),
        mid=_round(mid / instrument.ticks_per_quote), half_spread_bps=_round(seen.spread_sum / seen.instants / 2 / mid * 1e4),
        hold_s=hold_s, seconds=_round(seen.waited / SECOND), events=seen.events, sweeps=seen.sweeps,
        touch=_depth(blocks.sum(axis=(0, 2))[:, max(touch, 1)], max(touch, 1) * seen.width / 2, mid * 1e-4, pooled),
        pooled=pooled, bid=bid, ask=ask,
    )  # fmt: skip


def solve(depths: Floats, hits: Floats, seconds: Floats) -> tuple[float, float]:
    """Return the most likely A and k (A = 0 without hits): the k at which the model's mean depth of a hit is the data's.

    Depths are equally far apart, any unit; hits do not grow with the depth, and seconds do not fall.
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
    return at_first * float(np.exp(decay * depths[0] / unit)), decay / unit


def _choose(counts: Ints, first: int, unit: int, what: str) -> Ints:
    """Return the bins to fit: equally far apart, from `first` to where LEAST_SHARE of its rate or MIN_HITS is left."""
    hits, nanos = counts
    enough = int(np.count_nonzero(hits >= MIN_HITS))  # hits do not grow with the depth
    if enough <= first + (LEAST_DEPTHS - 1) * unit:
        reached = [int(hits[b]) for b in (first + i * unit for i in range(LEAST_DEPTHS)) if b < len(hits)]
        raise ConfigError(
            f"{what}: {', '.join(map(str, reached))} hits at the {LEAST_DEPTHS} depths nearest to the mid; a fit of the "
            f"intensity needs {MIN_HITS} at each: more data"
        )
    rates = hits[first:enough] / nanos[first:enough]
    last = first + int(np.count_nonzero(rates >= LEAST_SHARE * rates[0])) - 1
    last = max(last, first + (LEAST_DEPTHS - 1) * unit)
    spacing = unit * -(-((last - first) // unit + 1) // DEPTHS)
    while (last - first) // spacing + 1 < LEAST_DEPTHS:
        spacing -= unit
    return np.arange(first, last + 1, spacing)


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
    rows = zip(ticks.tolist(), hits.tolist(), seconds.tolist(), fitted.tolist(), strict=True)
    return Curve(
        A_per_s=_round(level), k_per_tick=_round(decay), k_per_bp=_round(decay * bp),
        se={"A_per_s": _round(errors[0]), "k_per_tick": _round(errors[1]), "k_per_bp": _round(errors[1] * bp)},
        r2=_round(_determination(hits, hits / seconds, fitted)),
        depths=[Depth(at, _round(at / bp), int(n), _round(s), _round(n / s), _round(f)) for at, n, s, f in rows],
    )  # fmt: skip


def _determination(hits: Floats, rates: Floats, fitted: Floats) -> float:
    """Return R^2 of the logarithms, weighted by hits, which are the inverse of a log rate's variance."""
    some = hits > 0
    log, model, weight = np.log(rates[some]), np.log(fitted[some]), hits[some]
    around = log - np.average(log, weights=weight)
    return 1.0 - float(weight @ (log - model) ** 2) / float(weight @ around**2)


def _round(value: float) -> float:
    """Return six significant digits: enough for any use, and the same on every machine."""
    return float(f"{value:.6g}")
