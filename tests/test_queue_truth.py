"""The queue experiment: known truths on made-up recordings, and the figures on the recorded one."""

from pathlib import Path

import msgspec
import pytest

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.research.instruments import lookup
from mmpi.research.queue_truth import TOUCH, Candidate, Experiment, Report, fit, in_words, run
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.l3 import ADD, EXECUTE, REDUCE, OrderUpdate, SimEvent
from mmpi.sim.queue_models import ESTIMATES, FITTED_POWER, POWER_LAW
from tests.order_files import busy, write

pytestmark = pytest.mark.slow

BTC = lookup("bitstamp_btcusd")
MODELS = [SimConfig(queue="conservative"), SimConfig(queue="proportional"), SimConfig(queue="power_law", queue_power=4)]


def told(at: int, action: int, order_id: int, size: int, level: int, trade: int = 0) -> list[SimEvent]:
    """One update of a bid at 100 with the trade and the book that it makes; an ask at 110 stands behind it."""
    now = at * SECOND
    events: list[SimEvent] = [OrderUpdate(now, "BTCUSD", now, order_id, BUY, 100, size, action)]
    if trade:
        events.append(Trade(now, "BTCUSD", now, at, SELL, 100, trade))
    return [*events, BookSnapshot(now, "BTCUSD", now, at, ((100, level),) if level else (), ((110, 5),))]


class _Fixed:
    """Chooses the bid, the best level and its whole size."""

    def random(self) -> float:
        return 0.0

    def randrange(self, _: int) -> int:
        return 0

    def choice(self, of: tuple[float, ...]) -> float:
        return of[-1]


def walk(events: list[SimEvent], interval_s: int = 0) -> list[float]:
    """Return (true, touch, conservative, proportional, power law) of a bid at 100 for 100, from 3 s on for 60 s."""
    experiment = Experiment(BTC, MODELS, 60 * SECOND, 1, interval_s * SECOND)
    experiment._rng = _Fixed()  # type: ignore[assignment]
    last = OrderUpdate(99 * SECOND, "BTCUSD", 99 * SECOND, 999, SELL, 500, 1, ADD)
    experiment.walk([*events, last], [3 * SECOND])
    return experiment.shares[0]


START = [*told(1, ADD, 1, 60, 60), *told(2, ADD, 2, 40, 100)]


def test_a_trade_that_ends_ahead_of_us_fills_nothing() -> None:
    """Only touch fills when all of a trade is for those ahead."""
    assert walk([*START, *told(5, EXECUTE, 1, 60, 40, 60)]) == [0, 1, 0, 0, 0]


def test_a_cancel_ahead_of_us_is_what_the_models_differ_in() -> None:
    """100 ahead (then 100 behind); the 60 ahead cancel, then 40 trade, then 100: truly 100 of our 100."""
    events = [
        *START, *told(4, ADD, 3, 100, 200), *told(9, REDUCE, 1, 0, 140),
        *told(20, EXECUTE, 2, 40, 100, 40), *told(30, EXECUTE, 3, 100, 0, 100),
    ]  # fmt: skip
    # Conservative: 100 - 40 = 60 ahead, so 40 of the 100. The others: 30 of 60 left from ahead, then 70 - 40 = 30.
    assert walk(events) == [1.0, 1.0, 0.4, 0.7, 0.7]
    # Without a book between, the models know of the trades only; they placed us behind the 60 of the first book.
    assert walk(events, interval_s=1000) == [1.0, 1.0, 0.8, 0.8, 0.8]


def test_the_cancel_of_one_behind_us_flatters_the_sharing_models() -> None:
    """100 ahead, 100 behind; those behind cancel: truly nothing moved."""
    events = [*START, *told(4, ADD, 3, 100, 200), *told(9, REDUCE, 3, 0, 100), *told(20, EXECUTE, 1, 60, 40, 60)]
    assert walk(events)[0] == 0
    assert walk([*events, *told(30, EXECUTE, 2, 40, 0, 40)]) == [0, 1, 0, 0.5, 0.5]


def test_touch_fills_when_the_opposite_price_comes() -> None:
    """A seller at our price is a touch, for the yardstick and, with his size, in truth."""
    candidate = Candidate(BUY, 100, 10, 0, 0)
    candidate.market(BookSnapshot(0, "BTCUSD", 0, 0, ((99, 1),), ((101, 4),)))
    candidate.market(Trade(0, "BTCUSD", 0, 1, BUY, 100, 4))
    assert not candidate.touched
    candidate.update(OrderUpdate(0, "BTCUSD", 0, 9, SELL, 100, 4, ADD), 1)
    candidate.market(BookSnapshot(0, "BTCUSD", 0, 0, ((99, 1),), ((100, 4),)))
    assert candidate.shares("BTCUSD") == [0.4, 1.0]


def test_the_truth_is_what_the_fifo_exchange_fills(tmp_path: Path) -> None:
    """An order that is alone in the exchange with the true queue is filled by just as much."""
    from mmpi.actions import NewOrder, TimeInForce
    from mmpi.research.grid import Tally
    from mmpi.research.order_by_order import updates

    path = write(tmp_path, busy(5, 1500).rows)
    for begin in range(300, 1400, 100):
        exchange = Matching({"BTCUSD": BTC}, SimConfig(queue="fifo"), by_order=True)
        candidate, size = None, 5 * 10**7
        for i, event in enumerate(updates(path, BTC, Tally())):
            if isinstance(event, OrderUpdate) and candidate is not None:
                candidate.update(event, rank=_rank(exchange, event))
            exchange.on_market(event)
            if i > begin and candidate is None and isinstance(event, BookSnapshot):
                price = event.bids[1][0]
                exchange.place(NewOrder("BTCUSD", "a", BUY, price, size, 0, TimeInForce.POST_ONLY, False), "", 0)
                own = exchange.find("", "a")
                assert own is not None
                candidate = Candidate(BUY, price, size, own.rank, 0)
        assert candidate is not None
        assert exchange.position("", "BTCUSD") == candidate.true


def _rank(exchange: Matching, event: OrderUpdate) -> int:
    """Return the rank of the order that an update names, before the update."""
    book = exchange._markets["BTCUSD"].orders
    assert book is not None
    known = book._orders.get(event.order_id)
    return known[3] if known else 0


def test_models_beat_touch_on_a_deep_queue(tmp_path: Path) -> None:
    """On a made-up market with many orders a level each model's error is at most half of touch's; the run repeats."""
    path = write(tmp_path, busy(2, 3000).rows)
    report = run(path, BTC, orders=150, horizon_s=60, seed=4)
    scores = {score.model: score for score in report.scores}
    assert set(scores) == {TOUCH, *ESTIMATES}
    assert scores[TOUCH].bias > 0.1
    for model in ESTIMATES:
        assert scores[model].ratio <= 0.5
        assert scores[model].mean_absolute_error == pytest.approx(scores[model].ratio * scores[TOUCH].bias)
    assert report == run(path, BTC, orders=150, horizon_s=60, seed=4)
    assert report != run(path, BTC, orders=150, horizon_s=60, seed=5)
    assert "conservative" in in_words(report)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_recording_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """There must be room for the warm-up and the horizon."""
    with pytest.raises(ConfigError, match="allowed"):
        run(write(tmp_path, busy(2, 300).rows), BTC, orders=10)


@pytest.mark.parametrize("interval", [0.0, 3.6])
@pytest.mark.parametrize("form", ["wslog.xz", "l3orders.csv.xz"])
def test_the_models_on_recorded_orders(data: Path, form: str, interval: float) -> None:
    """On the half of the Bitstamp set that nothing was fitted on, each model's error is at most half of touch's."""
    path = data / "raw" / f"bitstamp_btcusd_20150501.{form}"
    report = run(path, BTC, orders=1000, horizon_s=300, seed=3, book_interval_s=interval, part=(0.5, 1.0))
    assert report.filled > 100
    for score in report.scores[1:]:
        assert score.ratio <= 0.2, in_words(report)
        assert score.bias <= 0.01


def test_the_shipped_exponent_is_the_fitted_one(data: Path) -> None:
    """The first half of the Bitstamp set gives the number that is shipped."""
    path = data / "raw" / "bitstamp_btcusd_20150501.wslog.xz"
    report = fit(path, BTC, orders=600, horizon_s=900, seed=7)
    best = min((score for score in report.scores if score.model == POWER_LAW), key=lambda s: s.mean_absolute_error)
    assert best.power == FITTED_POWER
