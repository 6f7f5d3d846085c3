"""RiskGate: each refusal by its smallest example, what must always pass, and no combination that breaks a limit."""

import msgspec
import pytest
from engine_builders import WIDE, A
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import (
    AmendOrder,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestBudget,
    RequestLatch,
    RequestReconcile,
    ScheduleCancel,
    TimeInForce,
)
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Side, make_instrument
from mmpi.ports import Quote, QuoteLevel
from mmpi.risk import Exposure, GateState, Refusal, RiskConfig, RiskGate, at_stake, reduces

NOW = 1_000 * SECOND
MIN10 = make_instrument("M", "1", "1", min_notional="10000")
"""At a price of 1000 an order needs ten lots."""


def gate(**limits: float) -> RiskGate:
    """Return an open gate with these limits; amounts in the quote currency."""
    scaled = {
        name: value if name in ("max_open_orders", "order_burst") or name.endswith(("_s", "_bps")) else _money(value)
        for name, value in limits.items()
    }
    made = RiskGate(msgspec.structs.replace(WIDE, **scaled))
    made.open = True
    return made


def _money(value: float) -> int:
    return round(value * MONEY_SCALE)


def order(side: Side = BUY, price: int = 1000, size: int = 1) -> NewOrder:
    return NewOrder("A", "0x1", side, price, size, 0)


def exposure(position: int = 0, buys: int = 0, sells: int = 0, orders: int = 0, mid2: int = 2000, age: int = 0,
             elsewhere: float = 0) -> Exposure:  # fmt: skip
    """Return exposure around a mid of 1000, where one lot is worth 1000."""
    return Exposure(position, buys, sells, orders, mid2, NOW - age, round(elsewhere * MONEY_SCALE))


def verdict(risk: RiskGate, action: NewOrder, at: Exposure | None = None, now: int = NOW) -> Refusal | None:
    answer = risk.approve(action, A, at or exposure(), now)
    if isinstance(answer, Refusal):
        return answer
    assert answer == Approved(now, action)
    return None


# What reduces, and nothing else -----------------------------------------------------------------------------------


@given(
    st.sampled_from([BUY, SELL]), st.integers(1, 40), st.booleans(), st.integers(-20, 20), st.integers(0, 20),
    st.integers(0, 20), st.booleans(),
)  # fmt: skip
def test_a_reducing_gate_lets_pass_exactly_what_closes(
    side: Side, size: int, flag: bool, position: int, buys: int, sells: int, breach: bool
) -> None:
    """Open or not, limit touched or not: an order passes if it says reduce-only and, all else of its side filled
    first, ends at zero at the farthest."""
    risk = gate(max_position=1, max_order=1, max_instrument=1, max_total=1)
    risk.open, risk.reducing, risk.breach = False, True, "drawdown" if breach else ""
    asked = NewOrder("A", "0x1", side, 1000, size, 0, TimeInForce.IOC, reduce_only=flag)
    at = exposure(position, buys, sells, age=10**12)
    ahead = buys if side == BUY else sells
    closes = -side * position >= size + ahead
    answer = risk.approve(asked, A, at, NOW)
    assert answer == (Approved(NOW, asked) if flag and closes else Refusal.NOT_REDUCING)


# Each refusal, at its edge ----------------------------------------------------------------------------------------


def test_an_order_within_all_limits_is_approved() -> None:
    """The smallest order in a quiet market passes, and nothing is counted."""
    risk = gate()
    assert verdict(risk, order()) is None
    assert risk.refusals == {}


@pytest.mark.parametrize("why", ["closed", "breach"])
def test_not_quoting(why: str) -> None:
    """I1: a closed gate, and one whose equity limit was touched, let nothing through, not even what reduces."""
    risk = gate(session_loss=1)
    if why == "closed":
        risk.open = False
    else:
        risk.equity(-MONEY_SCALE)
    assert verdict(risk, order()) is Refusal.NOT_QUOTING
    assert verdict(risk, order(SELL), exposure(position=5)) is Refusal.NOT_QUOTING


def test_no_mid() -> None:
    """Without any mid nothing can be valued."""
    assert verdict(gate(), order(), exposure(mid2=0)) is Refusal.NO_MID


@pytest.mark.parametrize(("age", "refusal"), [(5 * SECOND, None), (5 * SECOND + 1, Refusal.STALE_DATA)])
def test_stale_data(age: int, refusal: Refusal | None) -> None:
    """A book as old as the limit will do, an older one will not."""
    assert verdict(gate(stale_after_s=5.0), order(), exposure(age=age)) is refusal


@pytest.mark.parametrize(
    ("price", "refusal"),
    [(990, None), (989, Refusal.PRICE_BAND), (1010, None), (1011, Refusal.PRICE_BAND), (10_000, Refusal.PRICE_BAND)],
)
def test_price_band(price: int, refusal: Refusal | None) -> None:
    """100 basis points of 1000 are ten ticks, on both sides of the mid."""
    assert verdict(gate(price_band_bps=100.0), order(price=price)) is refusal


@pytest.mark.parametrize(("size", "refusal"), [(2, None), (3, Refusal.ORDER_NOTIONAL)])
def test_order_notional(size: int, refusal: Refusal | None) -> None:
    """An order is valued at its own price."""
    assert verdict(gate(max_order=2000), order(size=size)) is refusal
    assert verdict(gate(max_order=2000), order(price=1001, size=2)) is Refusal.ORDER_NOTIONAL


@pytest.mark.parametrize(("count", "refusal"), [(1, None), (2, Refusal.OPEN_ORDERS)])
def test_open_orders(count: int, refusal: Refusal | None) -> None:
    """With as many orders as allowed, one more is refused."""
    assert verdict(gate(max_open_orders=2), order(), exposure(orders=count)) is refusal


@pytest.mark.parametrize(
    ("side", "position", "buys", "sells", "refusal"),
    [
        (BUY, 2, 0, 0, None),
        (BUY, 3, 0, 0, Refusal.POSITION),
        (BUY, 1, 2, 0, Refusal.POSITION),
        (BUY, 1, 0, 9, None),
        (SELL, -2, 0, 0, None),
        (SELL, -3, 0, 0, Refusal.POSITION),
        (SELL, -1, 0, 2, Refusal.POSITION),
        (SELL, 3, 9, 0, None),
    ],
)
def test_position(side: Side, position: int, buys: int, sells: int, refusal: Refusal | None) -> None:
    """Per side: position, that side's open orders and the new one within three lots; the other side never helps."""
    assert verdict(gate(max_position=3000), order(side), exposure(position, buys, sells)) is refusal


@pytest.mark.parametrize(("sells", "refusal"), [(1, None), (2, Refusal.INSTRUMENT_NOTIONAL)])
def test_instrument_notional(sells: int, refusal: Refusal | None) -> None:
    """Absolute position and both sides' orders together stay within four lots: here 1 + 1 + `sells` + the new one."""
    assert verdict(gate(max_instrument=4000), order(), exposure(position=1, buys=1, sells=sells)) is refusal


@pytest.mark.parametrize(("elsewhere", "refusal"), [(1000, None), (1001, Refusal.TOTAL_EXPOSURE)])
def test_total_exposure(elsewhere: float, refusal: Refusal | None) -> None:
    """What is at stake elsewhere counts."""
    assert verdict(gate(max_total=2000), order(), exposure(elsewhere=elsewhere)) is refusal


def test_order_rate_is_a_bucket() -> None:
    """Three at once, then two a second, never more than three saved up; a refusal costs nothing."""
    risk = gate(orders_per_s=2.0, order_burst=3)

    def burst(now: int) -> int:
        return sum(verdict(risk, order(), exposure(age=NOW - now), now) is None for _ in range(10))

    assert burst(NOW) == 3
    assert burst(NOW + SECOND // 2 - 1) == 0
    assert burst(NOW + SECOND // 2) == 1
    assert burst(NOW + 2 * SECOND) == 3
    assert burst(NOW + 100 * SECOND) == 3
    assert risk.refusals == {"order_rate": 7 + 10 + 9 + 7 + 7}


def test_time_that_stands_or_goes_back_earns_no_orders() -> None:
    """The bucket fills by elapsed time once, whatever order the events come in."""
    risk = gate(orders_per_s=1.0, order_burst=1)
    times = [NOW, NOW - 5 * SECOND, NOW, NOW - 5 * SECOND, NOW, NOW + SECOND]
    passed = [verdict(risk, order(), exposure(age=-10 * SECOND), now) is None for now in times]
    assert passed == [True, False, False, False, False, True]


def test_a_refused_order_takes_no_token() -> None:
    """The rate limit is spent on orders that go out."""
    risk = gate(max_order=500, orders_per_s=1.0, order_burst=1)
    assert verdict(risk, order()) is Refusal.ORDER_NOTIONAL
    assert verdict(risk, order(price=500), exposure(mid2=1000)) is None


def test_refusals_are_counted_values() -> None:
    """A refusal is counted under its name, never raised."""
    risk = gate(max_order=500)
    for _ in range(3):
        verdict(risk, order())
    verdict(risk, order(), exposure(mid2=0))
    assert risk.refusals == {"order_notional": 3, "no_mid": 1}


# What always passes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [BUY, SELL])
def test_what_reduces_passes_position_and_notional_limits(side: Side) -> None:
    """Correction 4: far beyond every limit, the side that leads back is open, as far as flat; the other is closed."""
    limits = {"max_position": 1, "max_order": 1, "max_instrument": 1, "max_total": 1}
    risk, held = gate(**limits), -side * 10
    beyond = exposure(position=held, elsewhere=10**6)
    assert verdict(risk, order(side, size=10), beyond) is None
    assert verdict(risk, order(side, size=11), beyond) is Refusal.ORDER_NOTIONAL
    opposite: Side = SELL if side == BUY else BUY
    assert verdict(risk, order(opposite), beyond) is Refusal.ORDER_NOTIONAL


@pytest.mark.parametrize("side", [BUY, SELL])
def test_orders_of_a_side_reduce_only_together(side: Side) -> None:
    """An order reduces if it still does after every open order of its side was filled."""
    held = -side * 10
    ahead = {"buys" if side == BUY else "sells": 6}
    assert reduces(order(side, size=4), exposure(position=held, **ahead))
    assert not reduces(order(side, size=5), exposure(position=held, **ahead))
    assert not reduces(order(side, size=1), exposure(position=0))
    assert not reduces(order(side, size=1), exposure(position=-held))


def test_what_reduces_is_still_checked_for_sense() -> None:
    """Band, stale data, number and rate of orders bind a reducing order, too."""
    long = exposure(position=10)
    assert verdict(gate(price_band_bps=1.0), order(SELL, price=900), long) is Refusal.PRICE_BAND
    assert verdict(gate(max_open_orders=0), order(SELL), long) is Refusal.OPEN_ORDERS


def test_cancels_and_questions_always_pass() -> None:
    """A closed, breached gate without a token lets everything through that places nothing."""
    risk = gate(session_loss=1, order_burst=0)
    risk.open = False
    risk.equity(-MONEY_SCALE)
    for action in (CancelOrder("A", "1", ""), QueryOrder("A", "1", ""), RequestLatch("x"), RequestReconcile("x")):
        assert risk.approve(action, A, exposure(mid2=0), NOW) == Approved(NOW, action)
        assert risk.pass_through(action, NOW) == Approved(NOW, action)


def test_a_new_order_cannot_slip_past_the_limits() -> None:
    """I1: the way for cancels and questions does not take a new order."""
    with pytest.raises(AssertionError):
        gate().pass_through(order(), NOW)


# Equity -----------------------------------------------------------------------------------------------------------


def test_session_loss_is_measured_from_the_start() -> None:
    """Touched is breached; and it stays so although equity recovers."""
    risk = gate(session_loss=100, max_drawdown=1000)
    assert risk.equity(-100 * MONEY_SCALE + 1) == ""
    assert risk.equity(-100 * MONEY_SCALE) == "session_loss"
    assert risk.equity(500 * MONEY_SCALE) == "session_loss"


def test_drawdown_is_measured_from_the_peak() -> None:
    """Correction 8: up 300 and back down by 100 is a drawdown of 100, without any loss of the session."""
    risk = gate(session_loss=1000, max_drawdown=100)
    assert risk.equity(300 * MONEY_SCALE) == ""
    assert risk.equity(200 * MONEY_SCALE + 1) == ""
    assert risk.equity(200 * MONEY_SCALE) == "drawdown"


def test_only_rearming_clears_a_breach() -> None:
    """After a person re-armed both limits count from the equity of that moment; without a breach nothing moves."""
    risk = gate(session_loss=100, max_drawdown=100)
    risk.equity(40 * MONEY_SCALE)
    risk.rearmed(20 * MONEY_SCALE, {})
    assert (risk.base, risk.peak) == (0, 40 * MONEY_SCALE)
    risk.equity(-100 * MONEY_SCALE)
    risk.rearmed(-100 * MONEY_SCALE, {})
    assert verdict(risk, order()) is None
    assert risk.equity(-199 * MONEY_SCALE) == ""
    assert risk.equity(-200 * MONEY_SCALE) == "session_loss"


# Shape ------------------------------------------------------------------------------------------------------------


def ladder(*sizes: int) -> Quote:
    """Return these sizes on both sides of 1000."""
    return Quote(
        fair=1000.0,
        bids=tuple(QuoteLevel(i, 999 - i, size) for i, size in enumerate(sizes)),
        asks=tuple(QuoteLevel(i, 1001 + i, size) for i, size in enumerate(sizes)),
    )


def sizes(rungs: tuple[QuoteLevel, ...]) -> list[int]:
    return [rung.size for rung in rungs]


@pytest.mark.parametrize(
    ("position", "bids", "asks"),
    [
        (0, [4, 4, 2], [4, 4, 2]),
        (3, [4, 3], [4, 4, 4]),
        (-3, [4, 4, 4], [4, 3]),
        (10, [], [4, 4, 4]),
        (25, [], [4, 4, 4]),
        (-25, [4, 4, 4], []),
    ],
)
def test_shape_cuts_each_side_to_its_room(position: int, bids: list[int], asks: list[int]) -> None:
    """With ten lots allowed, nearest rungs first; the side that reduces has at least the position's own size."""
    shaped = gate(max_position=10_000).shape(ladder(4, 4, 4), A, position, 2000)
    assert (sizes(shaped.bids), sizes(shaped.asks)) == (bids, asks)


def test_shape_leaves_a_fitting_quote_untouched() -> None:
    """Nothing to cut: the same object, and nothing counted; nor without a mid."""
    risk, quote = gate(max_position=10_000), ladder(4, 4)
    assert risk.shape(quote, A, 0, 2000) is quote
    assert risk.shape(quote, A, 99, 0) is quote
    assert risk.refusals == {}


def test_shape_counts_what_it_drops() -> None:
    """Rungs without room count as position, remainders too small for the venue as min_notional."""
    risk = gate(max_position=30_000)
    shaped = risk.shape(ladder(25, 20, 25), MIN10, 0, 2000)
    assert sizes(shaped.bids) == [25]
    assert risk.refusals == {"min_notional": 4}
    assert sizes(gate(max_position=35_010).shape(ladder(25, 20), MIN10, 0, 2000).asks) == [25, 10]
    risk.shape(ladder(25), MIN10, 31, 2000)
    assert risk.refusals == {"min_notional": 4, "position": 1}


# Whatever happens ------------------------------------------------------------------------------------------------

lots = st.integers(-12, 12)
amounts = st.integers(0, 12)
limits = st.builds(
    lambda a, b, c, d: {"max_order": a, "max_position": b, "max_instrument": c, "max_total": d},
    *[st.integers(1, 30).map(lambda n: n * 500)] * 4,
)
wanted = st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(980, 1020), st.integers(1, 6)), max_size=12)


@given(limits, lots, amounts, amounts, st.integers(0, 10_000), wanted)
def test_no_approved_order_can_break_a_limit(
    limits: dict[str, float], position: int, buys: int, sells: int, elsewhere: int, wanted: list[tuple[Side, int, int]]
) -> None:
    """I1: with every open order of its side filled, an approved order breaks no limit, or only reduces the position."""
    risk = gate(price_band_bps=10_000.0, **limits)
    for side, price, size in wanted:
        at = exposure(position, buys, sells, elsewhere=elsewhere)
        answer = verdict(risk, order(side, price, size), at)
        filled = position + buys + size if side == BUY else position - sells - size
        if abs(filled) <= abs(position) and filled * position >= 0:
            assert answer is None
        if answer is not None:
            continue
        if side == BUY:
            buys += size
        else:
            sells += size
        if position * side < 0 and position * filled >= 0:
            continue
        worth, scale = 1000, MONEY_SCALE
        stake = at_stake(exposure(position, buys, sells), A)
        assert price * size <= limits["max_order"]
        assert side * filled * worth <= limits["max_position"]
        assert stake == (abs(position) + buys + sells) * worth * scale <= limits["max_instrument"] * scale
        assert stake + elsewhere * scale <= limits["max_total"] * scale


@given(st.integers(1, 20), lots, st.lists(st.integers(1, 6), max_size=4), st.integers(1000, 3000))
def test_a_shaped_quote_fits_the_position_limit(limit: int, position: int, wanted: list[int], mid2: int) -> None:
    """A shaped side, filled whole, stays inside the limit or brings the position no farther than flat."""
    quote = gate(max_position=limit * 1000).shape(ladder(*wanted), A, position, mid2)
    for side, rungs in ((BUY, quote.bids), (SELL, quote.asks)):
        filled = position + side * sum(sizes(rungs))
        assert side * filled * mid2 <= 2 * limit * 1000 or side * filled <= max(0, side * position)
        assert [rung.price for rung in rungs] == [1000 - side * (1 + i) for i in range(len(rungs))]


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=30))
def test_a_gate_restored_goes_on_as_before(script: list[tuple[int, bool]]) -> None:
    """I10: a gate restored from its checkpoint gives the same answers, to the token."""
    config = {"orders_per_s": 1.5, "order_burst": 3, "session_loss": 100, "max_drawdown": 50}
    first, now = gate(**config), NOW
    for wait, lose in script:
        now += wait
        second = RiskGate(first.config)
        second.restore(first.checkpoint())
        for each in (first, second):
            each.equity(-now % 77 * MONEY_SCALE if lose else 0)
        at = exposure(age=NOW - now)
        assert verdict(first, order(), at, now) is verdict(second, order(), at, now)
        assert first.checkpoint() == second.checkpoint()


def test_default_limits_are_consistent() -> None:
    """Each wider limit is at least the narrower one, and a loss limit is a part of the capital."""
    config = RiskConfig()
    assert config.max_order <= config.max_position <= config.max_instrument <= config.max_total
    assert 0 < config.session_loss <= config.capital


# Without a dead-man switch ----------------------------------------------------------------------------------------


def unarmed(percent: float = 25.0, **limits: float) -> RiskGate:
    """Return an open gate whose venue would not cancel for us."""
    made = RiskGate(msgspec.structs.replace(gate(**limits).config, unarmed_percent=percent))
    made.open = True
    made.set_unarmed(True)
    return made


@pytest.mark.parametrize(
    ("limits", "at", "refusal"),
    [
        ({"max_order": 4000}, exposure(), Refusal.ORDER_NOTIONAL),
        ({"max_position": 12_000}, exposure(position=2), Refusal.POSITION),
        ({"max_position": 12_000}, exposure(buys=2), Refusal.POSITION),
        ({"max_instrument": 12_000}, exposure(sells=2), Refusal.INSTRUMENT_NOTIONAL),
        ({"max_total": 12_000}, exposure(elsewhere=2000), Refusal.TOTAL_EXPOSURE),
    ],
)
def test_unarmed_each_limit_on_amounts_is_a_quarter(
    limits: dict[str, float], at: Exposure, refusal: Refusal
) -> None:
    """I5: one lot fits in a quarter of each limit, two do not; armed again, two do."""
    risk = unarmed(**limits)
    assert verdict(risk, order(), at) is None
    assert verdict(risk, order(size=2), at) is refusal
    risk.set_unarmed(False)
    assert verdict(risk, order(size=2), at) is None
    risk.set_unarmed(True)
    assert verdict(risk, order(size=2), at) is refusal


def test_unarmed_what_reduces_still_passes() -> None:
    """A position from before is beyond the smaller limit: the way back to flat is open."""
    risk = unarmed(max_position=12_000, max_order=12_000)
    assert verdict(risk, order(SELL, size=10), exposure(position=10)) is None
    assert verdict(risk, order(BUY), exposure(position=10)) is Refusal.POSITION


def test_unarmed_the_hard_band_stays_where_it_is() -> None:
    """It latches: a switch that is refused must not turn a position that was sound into a latch."""
    risk = unarmed(max_position=10_000)
    assert risk.inventory(12, 2000, A) == ""
    assert risk.inventory(13, 2000, A) == "hard_inventory"
    assert risk.limit(2000, A) == 2


@pytest.mark.parametrize("percent", [0.0, 25.0, 100.0])
def test_unarmed_quotes_are_cut_to_size(percent: float) -> None:
    """Smaller orders rather than none, each worth no more than the smaller limit; at 100 % nothing changes; at 0 %
    nothing is wanted."""
    risk = unarmed(percent, max_order=8000, max_position=100_000)
    quote = ladder(8, 3, 1)
    shaped = risk.shape(quote, A, 0, 2000)
    # A quarter of 8000 buys two lots at 999, one at 1001.
    expected = {0.0: ([], []), 25.0: ([2, 2, 1], [1, 1, 1]), 100.0: ([8, 3, 1], [7, 3, 1])}[percent]
    assert (sizes(shaped.bids), sizes(shaped.asks)) == expected
    for rung in (*shaped.bids, *shaped.asks):
        assert verdict(risk, order(size=rung.size, price=rung.price)) is None


def test_a_cut_is_made_anew_when_the_switch_changes() -> None:
    """The same quote again is cut as it was, but not across a change of the limits."""
    risk, quote = unarmed(max_order=8000), ladder(4)
    small = risk.shape(quote, A, 0, 2000)
    assert risk.shape(quote, A, 0, 2000).bids is small.bids
    risk.set_unarmed(False)
    assert risk.shape(quote, A, 0, 2000) is quote
    risk.set_unarmed(True)
    assert risk.shape(quote, A, 0, 2000) == small


def test_the_smaller_limits_come_back_from_a_checkpoint() -> None:
    """I10: restored, it is as strict as it was."""
    made = unarmed(max_order=4000)
    again = RiskGate(made.config)
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=GateState))
    assert again.unarmed
    assert verdict(again, order(size=2)) is Refusal.ORDER_NOTIONAL
    again.restore(gate(max_order=4000).checkpoint())
    assert verdict(again, order(size=2)) is None


@given(limits, lots, amounts, amounts, st.integers(0, 10_000), wanted, st.sampled_from([0.0, 10.0, 25.0, 99.9]))
def test_unarmed_never_lets_more_through(
    limits: dict[str, float], position: int, buys: int, sells: int, elsewhere: int,
    wanted: list[tuple[Side, int, int]], percent: float,
) -> None:  # fmt: skip
    """What passes the smaller limits passes the full ones, for every order and exposure."""
    strict, full = unarmed(percent, price_band_bps=10_000.0, **limits), gate(price_band_bps=10_000.0, **limits)
    for side, price, size in wanted:
        at = exposure(position, buys, sells, elsewhere=elsewhere)
        if verdict(strict, order(side, price, size), at) is None:
            assert verdict(full, order(side, price, size), at) is None


# Amends -----------------------------------------------------------------------------------------------------------


def amend(side: Side = BUY, price: int = 1000, size: int = 1) -> AmendOrder:
    return AmendOrder("A", "0x0", "7", "0x1", side, price, size, 0)


@given(limits, lots, amounts, amounts, st.integers(0, 10_000), wanted)
def test_an_amend_is_judged_as_the_order_it_puts_on_the_book(
    limits: dict[str, float], position: int, buys: int, sells: int, elsewhere: int, wanted: list[tuple[Side, int, int]]
) -> None:
    """I1: the order it replaces may fill as well, and is in the exposure: so there is no other rule for it."""
    first, second = gate(**limits), gate(**limits)
    for side, price, size in wanted:
        at = exposure(position, buys, sells, elsewhere=elsewhere)
        answer = second.approve(amend(side, price, size), A, at, NOW)
        assert verdict(first, order(side, price, size), at) is (answer if isinstance(answer, Refusal) else None)
    assert first.refusals == second.refusals


def test_an_amend_cannot_slip_past_the_limits() -> None:
    """I1: the way for cancels and questions does not take one; a closed gate refuses it."""
    with pytest.raises(AssertionError):
        gate().pass_through(amend(), NOW)
    closed = gate()
    closed.open = False
    assert closed.approve(amend(), A, exposure(), NOW) is Refusal.NOT_QUOTING


def test_questions_to_the_venue_always_pass() -> None:
    """I5: a closed gate lets the dead-man switch and the question for the budget through."""
    closed = gate(session_loss=1, order_burst=0)
    closed.open = False
    closed.equity(-MONEY_SCALE)
    for action in (ScheduleCancel(0), ScheduleCancel(NOW + 8 * SECOND), RequestBudget()):
        assert closed.pass_through(action, NOW) == Approved(NOW, action)
