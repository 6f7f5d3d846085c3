"""Funding is paid once at each due time, exactly, on what the last Mark before it told, and never otherwise."""

import random
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import takewhile
from math import floor
from pathlib import Path

import pytest
from engine_builders import PATIENCE, PREFIX
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import Approved, NewOrder, TimeInForce
from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import BookSnapshot, Event, ExecReport, ExecType, Funding, Mark, MarketEvent
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Lots, Money, Nanos, Side, make_instrument, money
from mmpi.quoting.layered import LayeredConfig
from mmpi.research.backtest import Backtest
from mmpi.research.dataset import instrument_for, open_dataset
from mmpi.risk import RiskConfig
from mmpi.runtime.step import NoJournal
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.sim.funding import FundingSchedule, Payment
from mmpi.sim.market import GENERATED, Market, MarketConfig
from mmpi.sim.model import FundingPrice
from mmpi.sim.venue import SimVenue

X = make_instrument("X", "0.1", "0.001")
HOUR: Nanos = 3600 * SECOND
START: Nanos = 1_700_000_000 * SECOND
DUE: Nanos = 472_223 * HOUR
"""The first full hour after START."""


def mark(at: Nanos, price: float = 1000.5, rate: float = 0.0001, due: Nanos = HOUR, index: float = 1000.0) -> Mark:
    return Mark(at, "X", at, price, index, rate, due)


def schedule(*marks: Mark, price: FundingPrice = "mark") -> FundingSchedule:
    made = FundingSchedule(price)
    for each in marks:
        made.on_mark(each)
    return made


def venue(config: SimConfig | None = None) -> SimVenue:
    """Return a venue with steady latency (10 ms in, 20 ms out) and a book around 100.0."""
    config = config or SimConfig(latency_in_ms=10, latency_out_ms=20, jitter_ms=0)
    made = SimVenue(Matching({"X": X}, config), config, random.Random(1))
    made.market(BookSnapshot(0, "X", 0, 0, ((999, 5000),), ((1001, 5000),)))
    return made


def take(at: SimVenue, side: Side, size: Lots, now: Nanos) -> None:
    """Send an order that fills at once on arrival."""
    order = NewOrder("X", str(now), side, 1001 if side == BUY else 999, size, 0, TimeInForce.IOC)
    at.send([Approved(now, order)], now)


def paid(events: Iterable[Event]) -> list[Funding]:
    return [event for event in events if isinstance(event, Funding)]


def test_longs_pay_and_shorts_receive() -> None:
    """While the rate is above zero a long of 2.000 at a mark of 100.05 pays 0.01 % of 200.10; a short receives it."""
    payment = Payment("X", HOUR, 1000.5, 0.0001)
    assert payment.amount(X, 2000) == -money("0.02001")
    assert payment.amount(X, -2000) == money("0.02001")
    assert Payment("X", HOUR, 1000.5, -0.0001).amount(X, 2000) == money("0.02001")
    assert payment.amount(X, 0) == 0


def test_a_broken_amount_is_rounded_against_us() -> None:
    """Below 10^-12 of the quote currency, what is received is rounded down and what is paid is rounded up."""
    tiny = make_instrument("T", "0.00001", "0.0000002")
    payment = Payment("T", HOUR, 1.5, 0.1)
    assert payment.amount(tiny, -1) == 0
    assert payment.amount(tiny, 1) == -1


@given(
    st.integers(-(10**9), 10**9), st.integers(1, 10**13), st.integers(-(10**10), 10**10),
)  # fmt: skip
def test_amounts_are_as_exact_as_decimals(lots: Lots, price: int, rate: int) -> None:
    """Any mark of eight decimals and rate of twelve pays what exact fractions say, rounded down."""
    told = Payment("X", HOUR, price / 10**8 * X.ticks_per_quote, rate / 10**12)
    exact = -Fraction(lots, 1000) * Fraction(price, 10**8) * Fraction(rate, 10**12)
    assert told.amount(X, lots) == floor(exact * 10**12)


def test_the_last_mark_before_the_due_time_counts() -> None:
    """Price and rate are those that the latest Mark told; the earliest payment is the one to wait for."""
    made = schedule(mark(1), mark(2, 1001.0, 0.0002), Mark(3, "Y", 3, 5.0, 0.0, 0.1, HOUR - 1))
    assert made.next_ts == HOUR - 1
    assert made.due(HOUR - 2) == []
    assert made.due(HOUR) == [Payment("Y", HOUR - 1, 5.0, 0.1), Payment("X", HOUR, 1001.0, 0.0002)]
    assert made.next_ts == 0


def test_a_due_time_is_paid_once() -> None:
    """A venue that goes on telling a time that has passed is not paid again; the next time is."""
    made = schedule(mark(1))
    assert len(made.due(HOUR)) == 1
    made.on_mark(mark(HOUR - 1))
    made.on_mark(mark(HOUR + 5))
    assert (made.next_ts, made.due(2 * HOUR)) == (0, [])
    made.on_mark(mark(HOUR + 6, due=2 * HOUR))
    assert [each.name for each in made.due(2 * HOUR)] == [f"X-{2 * HOUR}"]


@pytest.mark.parametrize(
    "told",
    [
        mark(1, due=0), mark(HOUR + 1), mark(1, price=0.0), mark(1, price=float("nan")), mark(1, price=float("inf")),
        mark(1, rate=float("nan")), mark(1, rate=1.0),
    ],
)  # fmt: skip
def test_what_is_not_told_is_not_paid(told: Mark) -> None:
    """Without a time to come, a price and a rate there is no payment, and what was told before stands."""
    assert schedule(told).next_ts == 0
    made = schedule(mark(1), told)
    assert made.due(9 * HOUR) == [Payment("X", HOUR, 1000.5, 0.0001)]


def test_the_index_may_make_the_notional() -> None:
    """With funding_price "index" (Hyperliquid's oracle) the mark does not matter, and its absence neither."""
    made = schedule(mark(1, price=0.0, index=999.0), price="index")
    assert made.due(HOUR) == [Payment("X", HOUR, 999.0, 0.0001)]
    assert schedule(mark(1, index=0.0), price="index").next_ts == 0


def test_the_position_at_the_due_time_pays() -> None:
    """What fills before the due time pays, what fills after it does not, though both are told in one go."""
    v = venue()
    v.market(mark(1))
    take(v, BUY, 2000, HOUR - 15 * MILLISECOND)
    take(v, BUY, 500, HOUR - 5 * MILLISECOND)
    assert v.next_ts == HOUR - 5 * MILLISECOND
    events = v.due(2 * HOUR)
    (funding,) = paid(events)
    assert funding == Funding(HOUR + 20 * MILLISECOND, "X", HOUR, f"X-{HOUR}", -money("0.02001"))
    assert [type(event) for event in events] == [ExecReport, ExecReport, Funding, ExecReport, ExecReport]


def test_funding_is_due_without_a_message() -> None:
    """The venue asks to be woken at the due time, so that a pause of the market does not delay the payment."""
    v = venue()
    v.market(mark(1))
    take(v, SELL, 1000, 2)
    v.due(SECOND)
    assert v.next_ts == HOUR
    assert v.due(HOUR) == []
    assert v.next_ts == HOUR + 20 * MILLISECOND
    assert [event.amount for event in paid(v.due(v.next_ts))] == [money("0.010005")]


def test_without_a_position_nothing_is_told() -> None:
    """A payment on nothing is no event, nor is one of an instrument that is not traded here."""
    v = venue()
    v.market(mark(1))
    v.market(Mark(1, "Y", 1, 5.0, 0.0, 0.1, HOUR))
    assert v.due(2 * HOUR) == []
    assert v.next_ts == 0


class Ledger:
    """What an outsider sees of a backtest: fills and payments as they are told."""

    def __init__(self) -> None:
        self.fills: list[ExecReport] = []
        self.payments: list[Funding] = []

    def __call__(self, engine: Engine, event: Event) -> None:
        assert not engine.violations
        if isinstance(event, ExecReport) and event.exec_type is ExecType.TRADE:
            self.fills.append(event)
        if isinstance(event, Funding):
            self.payments.append(event)

    def position(self, at: Nanos) -> Lots:
        """Return the position that the fills before `at` make, by the exchange's time."""
        return sum(fill.side * fill.size for fill in self.fills if fill.exch_ts <= at)


def run(instrument: Instrument, market: Iterable[MarketEvent]) -> tuple[Engine, Ledger]:
    engine = Engine(EngineParams(PREFIX, (DeskParams(instrument, LayeredConfig()),), RiskConfig(), PATIENCE))
    ledger = Ledger()
    Backtest(engine, NoJournal(), SimConfig(), ledger).run(market)
    return engine, ledger


def with_marks(instrument: Instrument, market: Iterable[MarketEvent], every: Nanos) -> Iterator[MarketEvent]:
    """Add a Mark at the best bid behind each book, paid every so often at 1 %."""
    for event in market:
        yield event
        if isinstance(event, BookSnapshot):
            due = event.recv_ts - event.recv_ts % every + every
            yield Mark(event.recv_ts, instrument.name, event.exch_ts, float(event.bids[0][0]), 0.0, 0.01, due)


def test_a_backtest_books_exact_funding() -> None:
    """Ten seconds apart, each payment is position x mark x rate of its due time, and the P&L holds their sum."""
    btc, every = GENERATED["BTC"], 10 * SECOND
    market = Market([btc], MarketConfig(seed=3), random.Random(3)).events(START)
    events = list(with_marks(btc, takewhile(lambda event: event.recv_ts < START + 118 * SECOND, market), every))
    engine, ledger = run(btc, events)
    marks = [event for event in events if isinstance(event, Mark)]
    expected: dict[Nanos, Money] = {}
    for due in sorted({each.next_ts for each in marks}):
        told = [each for each in marks if each.next_ts == due][-1]
        amount = -ledger.position(due) * btc.unit * int(told.mark) * 10**10 // 10**12
        if amount and due <= events[-1].recv_ts:
            expected[due] = amount
    assert len(expected) >= 5
    assert {each.exch_ts: each.amount for each in ledger.payments} == expected
    assert engine.desks["BTC"].position.funding == sum(expected.values())


@pytest.mark.parametrize(("day", "payments"), [("20230404", 1), ("20230405", 0)])
def test_a_recorded_set_with_a_due_time_shows_funding(data: Path, day: str, payments: int) -> None:
    """The set that ends at midnight pays once; the next begins after it and ends long before the next time."""
    prefix = data / "market" / f"binance_usdm_btcusdt_{day}"
    instrument = instrument_for(prefix)
    engine, ledger = run(instrument, open_dataset(prefix, instrument))
    assert len(ledger.payments) == payments
    for payment in ledger.payments:
        lots = ledger.position(payment.exch_ts)
        exact = -Fraction(lots, 1000) * Fraction("28157.1") * Fraction("0.00002754")
        assert payment.amount == floor(exact * 10**12) != 0
    assert engine.desks[instrument.name].position.funding == sum(each.amount for each in ledger.payments)
