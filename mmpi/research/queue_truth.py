"""Queue truth: what share of an order each queue model fills, against the share that the recorded queue fills.

Invariant: a model is fed with books and trades only, by the very exchange that backtests use; the truth comes from the
recorded orders alone, and nothing that is fitted is judged on what it was fitted on. It must not know files' forms.

An experiment puts orders that nobody saw into the recording, each alone: at a random time, on a random side, at the
best price or one or two levels behind, of several sizes. Each stays for the horizon. Its fill share (0 to 1) by the
true queue is compared with that of each model and with that of `touch`, the rule which backtests without a queue use:
all of it is filled as soon as a trade or the opposite best price comes to its price. `touch` is a yardstick; it
flatters, so no configuration accepts it.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from mmpi.actions import NewOrder, TimeInForce
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, ExecType, Trade
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.research import order_by_order
from mmpi.research.bitstamp_orders import BitstampOrders
from mmpi.research.grid import Tally
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.l3 import OrdersBook, OrderUpdate, SimEvent, reaches
from mmpi.sim.queue_models import ESTIMATES, POWER_LAW

TOUCH: Final = "touch"
WARM_UP: Final[Nanos] = 300 * SECOND
"""Nothing is placed before: the orders from before the recording are not known at its start."""
LEVELS_BEHIND: Final = 3
"""Orders are placed at the best price and at the next ones, so many in all."""
SIZES: Final = (0.05, 0.25, 1.0)
"""Of the size displayed at the price: small beside the queue, part of it, and as large as all of it."""
POWERS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
"""The exponents that `fit` compares."""


class Score(msgspec.Struct, frozen=True):
    """How far a model's fill shares are from the truth; `ratio` is its error in touch's."""

    model: str
    power: float
    n: int
    mean_absolute_error: float
    bias: float
    """Mean of (model - truth): above 0 the model fills more than the true queue did."""
    ratio: float


class Agreement(msgspec.Struct):
    """The book put together from the orders beside the recorded snapshots, within the depth these show."""

    snapshots: int = 0
    same_best: int = 0
    """Sides whose best price agrees, of two for each snapshot."""
    same_levels: int = 0
    levels: int = 0


class Report(msgspec.Struct, frozen=True):
    """An experiment's conditions and its scores, touch first."""

    data: str
    orders: int
    horizon_s: float
    seed: int
    book_interval_s: float
    """The models see a book at most this often; 0 = after every change."""
    part: "tuple[float, float]"
    """The stretch of the recording, as fractions of its length."""
    true_fill_share: float
    """Mean over the orders."""
    filled: int
    """Orders of which the true queue filled anything."""
    scores: "tuple[Score, ...]"
    agreement: Agreement
    """All zeros where the recording has no snapshots."""


class Candidate:
    """One unseen order with its true fills and what each model says of them."""

    def __init__(self, side: Side, price: Ticks, size: Lots, joined: int, ends: Nanos) -> None:
        self.side: Side = side
        self.price = price
        self.size = size
        self.joined = joined
        self.ends = ends
        self.true: Lots = 0
        self.touched = False
        self.models: list[Matching] = []

    def update(self, update: OrderUpdate, rank: int) -> None:
        """Take a recorded order's message: fill what would have been ours."""
        if self.true < self.size and reaches(update, rank, self.side, self.price, self.joined):
            self.true = min(self.size, self.true + update.size)

    def market(self, event: BookSnapshot | Trade) -> None:
        """Take a book or a trade, as the models do."""
        for model in self.models:
            model.on_market(event)
        if isinstance(event, Trade):
            self.touched |= event.side != self.side and self.side * (self.price - event.price) >= 0
        else:
            opposite = event.asks if self.side == BUY else event.bids
            self.touched |= bool(opposite) and self.side * (self.price - opposite[0][0]) >= 0

    def shares(self, instrument: str) -> list[float]:
        """Return the fill shares: true, touch, then the models'."""
        filled = [self.side * model.position("", instrument) for model in self.models]
        return [lots / self.size for lots in (self.true, self.size if self.touched else 0, *filled)]


class Experiment:
    """Walks one recording; `models` are the configurations compared."""

    def __init__(
        self, instrument: Instrument, models: Sequence[SimConfig], horizon: Nanos, seed: int, interval: Nanos
    ) -> None:
        self.shares: list[list[float]] = []
        self._instrument = instrument
        self._models = models
        self._horizon = horizon
        self._interval = interval
        self._rng = random.Random(seed)
        self._book = OrdersBook()
        self._live: list[Candidate] = []
        self._latest: BookSnapshot | None = None
        self._shown: BookSnapshot | None = None

    def walk(self, events: Iterable[SimEvent], starts: Sequence[Nanos]) -> None:
        """Place an order at each of the `starts` (sorted) and follow it to its end."""
        due = 0
        for event in events:
            now = event.recv_ts
            self._end(now)
            while due < len(starts) and starts[due] < now:
                self._place(starts[due])
                due += 1
            if isinstance(event, OrderUpdate):
                rank = self._book.apply(event).rank
                for candidate in self._live:
                    candidate.update(event, rank)
            elif isinstance(event, BookSnapshot):
                self._latest = event
                if self._shown is None or now - self._shown.recv_ts >= self._interval:
                    self._shown = event
                    self._feed(event)
            elif isinstance(event, Trade):
                self._feed(event)

    def _feed(self, event: BookSnapshot | Trade) -> None:
        for candidate in self._live:
            candidate.market(event)

    def _end(self, now: Nanos) -> None:
        if any(candidate.ends < now for candidate in self._live):
            ended = [candidate for candidate in self._live if candidate.ends < now]
            self._live = [candidate for candidate in self._live if candidate.ends >= now]
            self.shares.extend(candidate.shares(self._instrument.name) for candidate in ended)

    def _place(self, now: Nanos) -> None:
        """Put an order into the book as it is; none where it has too few levels."""
        side: Side = BUY if self._rng.random() < 0.5 else SELL
        depth, part = self._rng.randrange(LEVELS_BEHIND), self._rng.choice(SIZES)
        if self._latest is None or self._shown is None:
            return
        levels = self._latest.bids if side == BUY else self._latest.asks
        if depth >= len(levels):
            return
        price, size = levels[depth][0], max(1, round(part * levels[depth][1]))
        candidate = Candidate(side, price, size, self._book.arrivals, now + self._horizon)
        name = self._instrument.name
        order = NewOrder(name, "1", side, price, size, 0, TimeInForce.POST_ONLY, False)
        for config in self._models:
            model = Matching({name: self._instrument}, config)
            model.on_market(self._shown)
            if model.place(order, "", now)[0].exec_type is ExecType.REJECTED:
                return
            candidate.models.append(model)
        self._live.append(candidate)


def run(
    path: Path,
    instrument: Instrument,
    *,
    orders: int = 2000,
    horizon_s: float = 60.0,
    seed: int = 1,
    book_interval_s: float = 0.0,
    part: "tuple[float, float]" = (0.0, 1.0),
    models: Sequence[SimConfig] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Report:
    """Return how the models compare on a recording; ConfigError if it is too short for the horizon."""
    configs = [SimConfig(queue=queue) for queue in ESTIMATES] if models is None else list(models)
    first, last = _span(path, instrument)
    horizon = round(horizon_s * SECOND)
    start = max(first + WARM_UP, first + round(part[0] * (last - first)))
    end = first + round(part[1] * (last - first)) - horizon
    if end <= start or orders < 1:
        raise ConfigError(
            f"{path}: {(last - first) / SECOND:.0f} s of orders; allowed: at least one order, and more than "
            f"{WARM_UP / SECOND:.0f} s and the horizon of {horizon_s:g} s"
        )
    rng = random.Random(seed)
    starts = sorted(rng.randrange(start, end) for _ in range(orders))
    experiment = Experiment(instrument, configs, horizon, seed, round(book_interval_s * SECOND))
    tally, agreement, size = Tally(), Agreement(), max(1, path.stat().st_size)

    def compare(snapshot: order_by_order.Snapshot, book: BitstampOrders) -> None:
        _compare(agreement, snapshot, book)
        if progress is not None:
            progress(tally.done / size)

    experiment.walk(order_by_order.updates(path, instrument, tally, compare), starts)
    rows = experiment.shares
    if not rows:
        raise ConfigError(f"{path}: no order could be placed; allowed: a recording with {LEVELS_BEHIND} levels a side")
    return Report(
        path.name, len(rows), horizon_s, seed, book_interval_s, part, sum(row[0] for row in rows) / len(rows),
        sum(row[0] > 0 for row in rows), tuple(_scores(rows, configs)), agreement,
    )  # fmt: skip


def fit(
    path: Path, instrument: Instrument, *, orders: int = 2000, horizon_s: float = 60.0, seed: int = 1,
    book_interval_s: float = 0.0, progress: Callable[[float], None] | None = None,
) -> Report:  # fmt: skip
    """Return the scores of power_law with each of POWERS on the first half of a recording."""
    models = [SimConfig(queue=POWER_LAW, queue_power=power) for power in POWERS]
    return run(
        path, instrument, orders=orders, horizon_s=horizon_s, seed=seed, book_interval_s=book_interval_s,
        part=(0.0, 0.5), models=models, progress=progress,
    )  # fmt: skip


def in_words(report: Report) -> str:
    """Return the report as lines of text."""
    lines = [
        f"{report.orders} orders of {report.horizon_s:g} s, seed {report.seed}, books at most every "
        f"{report.book_interval_s:g} s; {report.filled} filled by the true queue, "
        f"mean share {report.true_fill_share:.4f}",
        f"{'model':<14}{'power':>6}{'n':>7}{'error':>9}{'bias':>9}{'of touch':>10}",
    ]
    for score in report.scores:
        power = f"{score.power:g}" if score.model == POWER_LAW else ""
        lines.append(
            f"{score.model:<14}{power:>6}{score.n:>7}{score.mean_absolute_error:>9.4f}{score.bias:>+9.4f}"
            f"{score.ratio:>10.3f}"
        )
    seen = report.agreement
    if seen.snapshots:
        lines.append(
            f"{seen.snapshots} recorded snapshots: best price the same on {seen.same_best} of {2 * seen.snapshots} "
            f"sides, {seen.same_levels} of {seen.levels} levels the same"
        )
    return "\n".join(lines)


def _scores(rows: list[list[float]], configs: Sequence[SimConfig]) -> Iterator[Score]:
    touch = 0.0
    for i, (model, power) in enumerate([(TOUCH, 0.0), *((each.queue, each.queue_power) for each in configs)], start=1):
        errors = [row[i] - row[0] for row in rows]
        error = sum(map(abs, errors)) / len(rows)
        touch = error if i == 1 else touch
        yield Score(model, power, len(rows), error, sum(errors) / len(rows), error / touch if touch else 0.0)


def _span(path: Path, instrument: Instrument) -> tuple[Nanos, Nanos]:
    first = last = 0
    for event in order_by_order.updates(path, instrument, Tally()):
        first, last = first or event.recv_ts, event.recv_ts
    return first, last


def _compare(agreement: Agreement, snapshot: order_by_order.Snapshot, book: BitstampOrders) -> None:
    agreement.snapshots += 1
    for side, levels in ((BUY, snapshot[1]), (SELL, snapshot[2])):
        recorded, worst = dict(levels), levels[-1][0] if levels else 0
        ours = {price: size for price, size in book.book.levels(side).items() if side * (price - worst) >= 0}
        prices = recorded.keys() | ours.keys()
        agreement.levels += len(prices)
        agreement.same_levels += sum(recorded.get(price) == ours.get(price) for price in prices)
        agreement.same_best += bool(levels) and book.best(side) == levels[0][0]
