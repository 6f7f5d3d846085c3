"""Queue models: what each takes off the queue ahead, and that nothing leaves it twice."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import NewOrder, TimeInForce
from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, ExecType, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Lots, Nanos, make_instrument
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.queue import LATE, UNSEEN
from mmpi.sim.queue_models import CONSERVATIVE, ESTIMATES, FIFO, POWER_LAW, PROPORTIONAL, exponent, gone_ahead

X = make_instrument("X", "1", "1")
T0 = 1000 * SECOND


def book(size: Lots, ms: int, exch_ms: int | None = None, price: int = 100) -> BookSnapshot:
    """A book with `size` at the price; deeper levels keep the price visible."""
    at = T0 + ms * MILLISECOND
    exch = at if exch_ms is None else T0 + exch_ms * MILLISECOND if exch_ms >= 0 else 0
    bids = ((price, size), (90, 5)) if size else ((90, 5),)
    return BookSnapshot(at, "X", exch, 0, bids, ((110, 5),))


def trade(size: Lots, ms: int, exch_ms: int | None = None, price: int = 100) -> Trade:
    at = T0 + ms * MILLISECOND
    exch = at if exch_ms is None else T0 + exch_ms * MILLISECOND if exch_ms >= 0 else 0
    return Trade(at, "X", exch, 1, SELL, price, size)


def resting(model: str, shown: Lots = 100, size: Lots = 10, power: float = 2.0) -> Matching:
    """An exchange with our bid at the back of `shown` lots at 100, then as much again behind it."""
    matching = Matching({"X": X}, SimConfig(queue=model, queue_power=power))  # type: ignore[arg-type]
    matching.on_market(book(shown, 0))
    placed = matching.place(NewOrder("X", "a", BUY, 100, size, 0, TimeInForce.POST_ONLY, False), "", T0)
    assert placed[0].exec_type is ExecType.NEW
    return matching


def ahead(matching: Matching) -> Lots:
    order = matching.find("", "a")
    assert order is not None
    return order.ahead


def play(matching: Matching, *events: BookSnapshot | Trade) -> Lots:
    """Return what our order was filled by."""
    return sum(r.size for e in events for r in matching.on_market(e) if r.exec_type is ExecType.TRADE)


@pytest.mark.parametrize(
    ("model", "left"),
    # 200 shown, 100 of them ahead: 50 leave. Conservative: from behind. Proportional: half. Power: also half, as both
    # parts are alike. Then 70 of 150 leave with 100 (75, 75) ahead: none; 70 * 75 / 150 = 35; the same.
    [(CONSERVATIVE, (100, 80)), (PROPORTIONAL, (75, 40)), (POWER_LAW, (75, 40))],
)
def test_each_model_takes_its_share_of_a_decrease(model: str, left: tuple[Lots, Lots]) -> None:
    """Conservative takes only what those behind cannot account for; the others their share of it."""
    m = resting(model)
    play(m, book(200, 1000), book(150, 3000))
    assert ahead(m) == left[0]
    play(m, book(80, 6000))
    assert ahead(m) == left[1]


def test_a_power_above_one_takes_more_from_the_longer_part() -> None:
    """With 100 ahead and 50 behind, the square law takes 4/5 of what leaves from ahead, rounded down."""
    m = resting(POWER_LAW, power=2.0)
    play(m, book(150, 1000), book(119, 3000))
    assert ahead(m) == 100 - 31 * 4 // 5


@pytest.mark.parametrize("model", ESTIMATES)
def test_growth_is_behind_us(model: str) -> None:
    """Newcomers join the back."""
    m = resting(model)
    play(m, book(500, 1000))
    assert ahead(m) == 100


@pytest.mark.parametrize("model", ESTIMATES)
def test_a_trade_before_its_book_counts_once(model: str) -> None:
    """The smaller size that a book shows after a trade is the trade again, and takes nothing more."""
    m = resting(model)
    play(m, book(200, 1000), trade(30, 2000))
    assert ahead(m) == 70
    play(m, book(170, 2001))
    assert ahead(m) == 70


@pytest.mark.parametrize("model", ESTIMATES)
@pytest.mark.parametrize("times", [(2000, 2000), (-1, -1)])
def test_a_trade_after_its_book_counts_once(model: str, times: tuple[int, int]) -> None:
    """A book can show a trade before the trade is told: by the exchange's time, or where there is none by a second."""
    m = resting(model)
    play(m, book(100, 1000), book(70, 2010, times[0]), trade(30, 2020, times[1]))
    assert ahead(m) == 70


@pytest.mark.parametrize(("model", "left"), [(CONSERVATIVE, 80), (PROPORTIONAL, 75), (POWER_LAW, 75)])
def test_a_late_trade_gives_the_models_share_back_first(model: str, left: Lots) -> None:
    """Of 30 lots gone, 20 turn out to be a trade, which is all from ahead; the other 10 left as the model says."""
    m = resting(model)
    play(m, book(200, 1000), book(170, 2010, 2000), trade(20, 2020, 2000))
    assert ahead(m) == left


@pytest.mark.parametrize("model", ESTIMATES)
def test_a_cancel_does_not_excuse_a_later_trade(model: str) -> None:
    """A trade that the exchange made after the book with the decrease counts in full."""
    m = resting(model)
    play(m, book(60, 1000), trade(25, 1500, 1001))
    assert ahead(m) == 35


@pytest.mark.parametrize("model", ESTIMATES)
def test_without_exchange_times_an_old_decrease_excuses_nothing(model: str) -> None:
    """A second after the book, a trade is one of its own."""
    m = resting(model)
    play(m, book(60, 1000, -1), trade(25, 1001 + LATE // MILLISECOND, -1))
    assert ahead(m) == 35


@pytest.mark.parametrize("model", ESTIMATES)
def test_a_book_older_than_the_trade_is_no_new_decrease(model: str) -> None:
    """A book that cannot show the trade yet, and the one after it that does, take nothing off the queue."""
    m = resting(model)
    play(m, book(200, 1000), trade(40, 2000), book(200, 2001, 1990), book(160, 2500))
    assert ahead(m) == 60


@pytest.mark.parametrize("model", ESTIMATES)
def test_a_late_trade_still_fills_with_what_is_over(model: str) -> None:
    """A trade of 130 where 100 were ahead leaves 30 for us, whichever message comes first."""
    early, late = resting(model, size=50), resting(model, size=50)
    assert play(early, book(200, 1000), trade(130, 2000), book(70, 2001)) == 30
    assert play(late, book(200, 1000), book(70, 2001, 2000), trade(130, 2002, 2000)) == 30


@pytest.mark.parametrize("model", ESTIMATES)
@pytest.mark.parametrize("price", [100, 99])
def test_a_trade_from_before_the_order_joined_is_not_its_own(model: str, price: int) -> None:
    """The book that the order joined shows such a trade already; told late, it neither shortens the queue nor fills."""
    m = Matching({"X": X}, SimConfig(queue=model))  # type: ignore[arg-type]
    m.on_market(book(100, 1100, 1000))
    m.place(NewOrder("X", "a", BUY, 100, 10, 0, TimeInForce.POST_ONLY, False), "", T0 + SECOND)
    assert play(m, trade(130, 1200, 1000, price), trade(130, 1210, 700, price)) == 0
    assert ahead(m) == 100
    assert play(m, trade(105, 1220, 1001)) == 5


@pytest.mark.parametrize("model", ESTIMATES)
def test_an_order_that_moved_joins_anew(model: str) -> None:
    """keep_on_decrease to another price: trades from before the book that it moved in are not its own there either."""
    m = Matching({"X": X}, SimConfig(queue=model, amend="keep_on_decrease"))  # type: ignore[arg-type]
    m.on_market(book(100, 0))
    m.place(NewOrder("X", "a", BUY, 95, 10, 0, TimeInForce.POST_ONLY, False), "", T0)
    m.on_market(book(100, 500))
    m.amend("1", 100, 10, T0 + SECOND)
    assert play(m, trade(130, 1001, 500), trade(130, 1002, 400, 99)) == 0
    assert ahead(m) == 100


@pytest.mark.parametrize("model", ESTIMATES)
def test_the_first_book_to_show_a_queue_shows_earlier_trades(model: str) -> None:
    """A trade at the price from before that book is out of the queue already; one through the price still fills."""
    m = Matching({"X": X}, SimConfig(queue=model))  # type: ignore[arg-type]
    m.on_market(book(100, 0))
    m.place(NewOrder("X", "a", BUY, 80, 5, 0, TimeInForce.POST_ONLY, False), "", T0)
    at = T0 + 2 * SECOND
    play(m, BookSnapshot(at, "X", at, 0, ((90, 1), (80, 40), (70, 1)), ((110, 5),)), trade(45, 2010, 1990, price=80))
    assert ahead(m) == 40
    assert play(m, trade(3, 2020, 1995, price=79)) == 3


@pytest.mark.parametrize("model", ESTIMATES)
def test_an_unseen_queue_stays_unseen_until_shown(model: str) -> None:
    """Beyond the visible depth nothing is known; the first size shown there is all ahead of us."""
    m = Matching({"X": X}, SimConfig(queue=model))  # type: ignore[arg-type]
    m.on_market(book(100, 0))
    m.place(NewOrder("X", "a", BUY, 80, 5, 0, TimeInForce.POST_ONLY, False), "", T0)
    play(m, book(50, 1000), trade(500, 1500, price=80))
    assert ahead(m) == UNSEEN
    play(m, BookSnapshot(T0 + 2 * SECOND, "X", T0 + 2 * SECOND, 0, ((100, 1), (80, 40)), ((110, 5),)))
    assert ahead(m) == 40


def test_models_that_cannot_be_used_are_refused() -> None:
    """An unknown name, an impossible exponent, and fifo without order-by-order data are configuration errors."""
    for model, power in (("touch", 1.0), (POWER_LAW, 0.0), (POWER_LAW, float("nan")), (FIFO, 1.0)):
        with pytest.raises(ConfigError, match="allowed"):
            exponent(model, power, by_order=False)
    with pytest.raises(ConfigError, match="order by order|names each order"):
        Matching({"X": X}, SimConfig(queue=FIFO))
    assert exponent(FIFO, 1.0, by_order=True) == exponent(CONSERVATIVE, 1.0, by_order=False) == 0.0


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.floats(0.1, 10), st.data())
def test_shares_are_within_what_left(ahead_of: Lots, behind: Lots, power: float, data: st.DataObject) -> None:
    """What leaves from ahead is not more than left, not less than those behind cannot account for."""
    lost = data.draw(st.integers(0, ahead_of + behind))
    for n in (0.0, 1.0, power):
        gone = gone_ahead(ahead_of, behind, lost, n)
        assert max(0, lost - behind) <= gone <= min(ahead_of, lost)
    assert gone_ahead(ahead_of, behind, lost, 0.0) == max(0, lost - behind)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.data())
def test_proportional_rounds_down(ahead_of: Lots, behind: Lots, data: st.DataObject) -> None:
    """The proportional share never exceeds the exact fraction, unless those behind cannot account for the rest."""
    lost = data.draw(st.integers(0, ahead_of + behind))
    gone = gone_ahead(ahead_of, behind, lost, 1.0)
    assert gone * (ahead_of + behind) <= lost * ahead_of or gone == lost - behind


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from(ESTIMATES))
def test_the_conservative_queue_is_never_shorter_than_the_true_one(seed: int, late: bool, model: str) -> None:
    """On one level with random trades, cancels and newcomers, told in either order, conservative is an upper bound."""
    rng, now = random.Random(seed), 0
    before, behind = 100, 0
    true = resting(model, size=10**6)
    for _ in range(40):
        now += rng.randrange(1, 3000)
        sold, gone_before, gone_behind, new = (rng.randrange(0, 9) for _ in range(4))
        eaten = min(before, sold)
        before = max(0, before - eaten - gone_before)
        behind = max(0, behind - (sold - eaten))
        trades = [trade(sold, now + 5 * late, now)] if sold else []
        middle = behind + before
        behind = max(0, behind - gone_behind) + new
        books = [book(middle, now + 1, now), book(before + behind, now + 2, now + 1)]
        play(true, *(books + trades if late else trades + books))
        if true.find("", "a") is None or before == 0:
            return
        assert ahead(true) >= before or model != CONSERVATIVE
        assert 0 <= ahead(true) <= before + behind


@given(st.integers(0, 2**32), st.integers(0, 80), st.integers(0, 80))
def test_an_order_that_joins_between_late_messages_is_behind_the_true_queue(seed: int, books: int, trades: int) -> None:
    """Books and trades on two ways of different length: in the end no less is ahead of us than in a list of orders."""
    rng, now, queue, arrivals = random.Random(seed), 0, [[0, 100]], 0
    sent: list[BookSnapshot | Trade] = [book(100, books, 0)]
    arrived = {T0: 0}
    for _ in range(25):
        now += rng.randrange(1, 40)
        action = rng.random()
        if action < 0.4 or not queue:
            arrivals += 1
            queue.append([arrivals, rng.randrange(1, 40)])
        elif action < 0.6:
            queue.pop(rng.randrange(len(queue)))
        else:
            sold = rng.randrange(1, queue[0][1] + 1)
            queue[0][1] -= sold
            queue = queue if queue[0][1] else queue[1:]
            sent.append(trade(sold, now + trades, now))
        if rng.random() < 0.6:
            sent.append(book(sum(size for _, size in queue), now + books, now))
            arrived[sent[-1].exch_ts] = arrivals
    sent.sort(key=lambda each: each.recv_ts)
    matching, latest = Matching({"X": X}, SimConfig()), T0
    joins = rng.randrange(next(i for i, each in enumerate(sent) if isinstance(each, BookSnapshot)), len(sent))
    for i, event in enumerate(sent):
        matching.on_market(event)
        latest = event.exch_ts if isinstance(event, BookSnapshot) and i <= joins else latest
        if i == joins:
            matching.place(NewOrder("X", "a", BUY, 100, 10**6, 0, TimeInForce.POST_ONLY, False), "", event.recv_ts)
    assert ahead(matching) >= sum(size for number, size in queue if number <= arrived[latest])


def test_times_are_told_to_the_queue() -> None:
    """The exchange hands a book's own times on (a queue without them would take each late trade twice)."""
    m = resting(PROPORTIONAL)
    play(m, book(90, 1000, 900))
    order = m.find("", "a")
    assert order is not None
    stamps: tuple[Nanos, Nanos] = (order.lost_exch_ts, order.lost_recv_ts)
    assert stamps == (T0 + 900 * MILLISECOND, T0 + 1000 * MILLISECOND)
