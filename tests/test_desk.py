"""Desk: what one instrument wants, what is at stake there, and when it wants to be looked at again."""

import itertools

import msgspec
import pytest
from engine_builders import LADDER, PATIENCE, A, book, report

from mmpi.desk import EXACT, MAX_FUNDING_IDS, Desk, DeskParams, DeskState
from mmpi.events import POST_ONLY, Bbo, BookDelta, ExecType, Funding
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL
from mmpi.orders import Order
from mmpi.risk import RiskConfig, RiskGate

T0 = 1_700_000_000 * SECOND + 1
"""Not a multiple of 256: a float cannot hold it."""


def desk() -> Desk:
    return Desk(DeskParams(A, LADDER), PATIENCE)


def gate() -> RiskGate:
    made = RiskGate(RiskConfig(max_position=10**18, stale_after_s=5.0))
    made.open = True
    return made


def test_a_valid_book_gives_a_ladder() -> None:
    """With a valid mid and no reason against it, the quoter's ladder is wanted, and the reason is empty."""
    made = desk()
    assert made.apply(book(T0))
    quote = made.wanted(T0, gate(), "")
    assert ([rung.price for rung in quote.bids], [rung.price for rung in quote.asks]) == ([999, 998], [1001, 1002])
    assert made.reason == ""


@pytest.mark.parametrize(
    ("bid", "ask", "usable"),
    [(999, 1001, True), (1000, 1000, True), (1001, 999, False), (999, 0, False), (0, 0, False)],
)
def test_only_a_valid_mid_counts(bid: int, ask: int, usable: bool) -> None:
    """Correction 1: locked is a price, crossed, one-sided and empty are none, and without a price nothing is wanted."""
    made = desk()
    made.apply(book(T0))
    assert made.apply(book(T0 + 1, bid, ask)) is usable
    quote = made.wanted(T0 + 1, gate(), "")
    assert bool(quote.bids or quote.asks) is usable
    assert made.reason == ("" if usable else "no_price")


@pytest.mark.parametrize("blocked", ["", "stopping"])
def test_a_reason_empties_the_ladder(blocked: str) -> None:
    """Blocked or stale: an empty ladder with the reason, never an old one."""
    made = desk()
    made.apply(book(T0))
    quote = made.wanted(T0 + 5 * SECOND + 1, gate(), blocked)
    assert (quote.bids, quote.asks, quote.reason, made.reason) == ((), (), blocked or "stale_data", quote.reason)


def test_at_the_position_limit_the_reason_says_so() -> None:
    """A ladder that the limits cut to nothing is not wanted, with a reason."""
    made = desk()
    made.apply(book(T0))
    tight = RiskGate(RiskConfig(max_position=1))
    assert made.wanted(T0, tight, "").bids == ()
    assert made.reason == "position_limit"


def test_a_gap_keeps_the_feed_from_looking_fresh() -> None:
    """A message that cannot be applied is no sign of life of the market."""
    made = desk()
    made.apply(book(T0))
    made.apply(BookDelta(T0 + SECOND, "A", 0, 9, 8, (), ()))
    assert (made.market_ts, made.book.mid2) == (T0, 0)
    made.apply(Bbo(T0 + SECOND, "A", 0, 0, 999, 1, 1001, 1))
    assert (made.market_ts, made.book.mid2) == (T0 + SECOND, 2000)


def test_exposure_counts_doubt_and_debt() -> None:
    """I4: open size includes orders in flight, in doubt, and those told to be filled whose fills are still to come."""
    made = desk()
    made.apply(book(T0))
    for n, side in enumerate((BUY, BUY, SELL)):
        made.orders.sent(Order(str(n), side, 1000, 10 + n, n, T0))
    made.orders.lost()
    made.orders.apply(report(T0, "1", ExecType.FILLED))
    at = made.exposure(77)
    assert (at.position, at.open_buys, at.open_sells, at.open_orders) == (0, 21, 12, 2)
    assert (at.mid2, at.market_ts, at.elsewhere) == (2000, T0, 77)


def test_a_found_position_waits_for_a_price() -> None:
    """Lots found at the venue are taken over at the first valid mid, without profit or loss."""
    made = desk()
    made.carry = -5
    made.apply(book(T0, 999, 0))
    assert made.position.lots == 0
    made.apply(book(T0))
    assert (made.position.lots, made.carry, made.position.equity) == (-5, 0, 0)


def test_funding_is_booked_once() -> None:
    """I12: a repeated payment is dropped, and the memory of payments is bounded."""
    made = desk()
    assert made.fund(Funding(T0, "A", 0, "x", 7))
    assert not made.fund(Funding(T0, "A", 0, "x", 7))
    assert made.position.funding == 7
    for n in range(MAX_FUNDING_IDS + 10):
        made.fund(Funding(T0, "A", 0, str(n), 0))
    assert len(made.funding_ids) == MAX_FUNDING_IDS


def test_the_deadline_is_the_soonest_need() -> None:
    """Nothing to do: never. Resting: when the feed would be stale. In flight: when patience ends. Dirty: soon."""
    made = desk()
    stale = 5 * SECOND

    def deadline(quoting: bool = True) -> int:
        made.schedule(stale, quoting)
        return made.deadline

    made.apply(book(T0))
    made.wanted(T0, gate(), "")
    assert deadline() == 0
    made.orders.sent(Order("1", BUY, 999, 10, 0, T0 - SECOND))
    assert deadline() == T0 - SECOND + PATIENCE
    made.orders.apply(report(T0, "1", ExecType.NEW))
    assert deadline() == T0 + stale + 1
    made.requoted(T0, 1)
    assert (deadline(), deadline(quoting=False)) == (T0 + made.quoter.interval, 0)


def test_a_desk_restored_is_the_same_desk() -> None:
    """I10: all of the state comes back exactly, times that no float can hold included."""
    made, again = desk(), desk()
    for n in range(4):
        made.apply(book(T0 + n * 1_000_003, 999 + n, 1001 + n))
    made.orders.sent(Order("1", BUY, 999, 10, 0, T0))
    made.carry, made.drift, made.reason, made.deferred = 3, 4, "x", True
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=DeskState))
    assert msgspec.json.encode(again.checkpoint()) == msgspec.json.encode(made.checkpoint())
    for each in (made, again):
        each.apply(book(T0 + SECOND, 1005, 1007))
    assert again.signals.volatility.value == made.signals.volatility.value > 0


# At a venue that has words of its own -----------------------------------------------------------------------------


def test_a_fault_empties_the_ladder_and_says_why() -> None:
    """The venue lets nobody trade here any more: nothing is wanted, in the venue's words; a block is graver."""
    made = desk()
    made.apply(book(T0))
    made.fault = "this market is delisted"
    quote = made.wanted(T0, gate(), "")
    assert (quote.bids, quote.asks, made.reason) == ((), (), "venue: this market is delisted")
    made.wanted(T0, gate(), "stopping")
    assert made.reason == "stopping"


def test_refused_sides_are_wanted_further_out() -> None:
    """Three post-only refusals of bids: two increments lower; the asks stay; taken orders bring it back."""
    made = desk()
    made.apply(book(T0))
    for n in range(3):
        made.cautions.heed(BUY, report(T0 + n * SECOND, "1", ExecType.REJECTED, reason=f"{POST_ONLY}: x"))

    def wanted() -> tuple[list[int], list[int]]:
        quote = made.wanted(T0, gate(), "")
        return [rung.price for rung in quote.bids], [rung.price for rung in quote.asks]

    assert wanted() == ([997, 996], [1001, 1002])
    made.cautions.heed(BUY, report(T0, "1", ExecType.NEW))
    assert wanted() == ([999, 998], [1001, 1002])


def test_standing_off_stays_within_the_limits() -> None:
    """What is moved is cut to the position limit as ever."""
    made = desk()
    made.apply(book(T0))
    for n in range(3):
        made.cautions.heed(BUY, report(T0 + n * SECOND, "1", ExecType.REJECTED, reason=f"{POST_ONLY}: x"))
    tight = RiskGate(RiskConfig(max_position=12_000 * MONEY_SCALE))
    quote = made.wanted(T0, tight, "")
    assert [(rung.price, rung.size) for rung in quote.bids] == [(997, 10), (996, 2)]


def test_a_quoter_is_asked_again_when_the_limits_change() -> None:
    """Of a market that stands still it is shown the same, but for the limit: what it made for the other is not used."""
    made = desk()
    asked: list[int] = []
    inner = made.quoter.quote
    made.quoter.quote = lambda view: asked.append(view.limit) or inner(view)  # type: ignore[method-assign]
    made.apply(book(T0))
    shared = RiskGate(RiskConfig(max_position=40_000 * MONEY_SCALE))
    for unarmed in (False, False, True, True, False):
        shared.set_unarmed(unarmed)
        made.wanted(T0, shared, "")
    limits = [40, 10, 40]
    assert [key for key, _ in itertools.groupby(asked)] == limits


def test_thinning_out_stretches_interval_refresh_and_tolerance() -> None:
    """Each step doubles the time between looks and renewals, and widens what is left alone; a pull is never delayed."""
    made = desk()
    made.quoter.refresh = 10 * SECOND
    made.reason = ""
    assert made.tolerance(T0) is EXACT
    assert made.tolerance(T0 + 10 * SECOND - 1) is not EXACT
    assert made.tolerance(T0 + 10 * SECOND, 3) is EXACT
    assert made.tolerance(T0 + 90 * SECOND - 1, 3).price_fraction > made.tolerance(T0 + 11 * SECOND, 2).price_fraction
    assert made.tolerance(T0 + 90 * SECOND, 3) is EXACT
    made.requoted(T0, 0, 4)
    assert made.next_quote == T0 + 16 * made.quoter.interval
    made.reason = "stale_data"
    made.requoted(T0, 0, 4)
    assert made.next_quote == T0 + SECOND


def test_what_a_venue_taught_comes_back_from_a_checkpoint() -> None:
    """I10: fault and cautions are part of the state."""
    made, again = desk(), desk()
    made.apply(book(T0))
    made.fault = "delisted"
    for n, side in enumerate((BUY, SELL, SELL)):
        made.cautions.heed(side, report(T0 + n * SECOND, "1", ExecType.REJECTED, reason=f"{POST_ONLY}: x"))
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=DeskState))
    assert (again.fault, again.cautions.checkpoint()) == (made.fault, made.cautions.checkpoint())
    assert again.cautions.is_pausing(SELL, T0 + 2 * SECOND + SECOND // 10)
    made.fault = again.fault = ""
    assert again.wanted(T0, gate(), "") == made.wanted(T0, gate(), "")
