"""mmpi.practice.hyperliquid.account: positions, cash and memory bounds."""

from hypothesis import given
from hypothesis import strategies as st
from practice_builders import BTC, NOW

from mmpi.actions import TimeInForce
from mmpi.events import ExecReport, ExecType
from mmpi.practice.hyperliquid.account import (
    BALANCE,
    MAX_FILLS,
    MAX_FINISHED,
    Account,
    Holding,
    Order,
)


def an_order(oid: int, cloid: str | None = None, size: int = 10) -> Order:
    """Return an accepted buy order."""
    return Order(oid, "0x", BTC, cloid, 1, 1_000_000, size, TimeInForce.GTC, False, NOW, size)


FILLS = st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 2_000_000)), max_size=40)


@given(FILLS, st.integers(1, 10**6))
def test_what_closing_earned_and_what_is_held_is_the_cash_flow(fills: list[tuple[int, int]], mark: int) -> None:
    """Earned by closing plus value less cost equals cash plus value, exactly, through any flips."""
    holding, cash, earned = Holding(), 0, 0
    for change, price in fills:
        earned += holding.trade(BTC, change, price)
        cash -= BTC.notional(price, change)
    value = BTC.notional(mark, holding.lots)
    assert holding.lots == sum(change for change, _ in fills)
    assert earned + value - holding.cost == cash + value
    assert holding.cost * holding.lots > 0 or holding.cost == holding.lots == 0


def test_a_flip_opens_at_the_fill() -> None:
    """Selling 15 of 10 lots earns on ten, and five are short at the price of the sale."""
    holding = Holding()
    assert holding.trade(BTC, 10, 1000) == 0
    assert holding.trade(BTC, -15, 1100) == BTC.notional(100, 10)
    assert holding == Holding(-5, BTC.notional(1100, -5))


def test_a_fill_moves_cash_by_price_and_fee() -> None:
    """Cash falls by what was bought and by the fee; the order has less left."""
    account, order = Account("0x"), an_order(1)
    account.add(order)
    report = ExecReport(NOW, "BTC", NOW, "", "1", ExecType.TRADE, 1, 1_000_000, 4, 77, True, "9")
    fill = account.fill(order, report)
    assert account.cash == BALANCE - BTC.notional(1_000_000, 4) - 77
    assert (fill.tid, fill.start_position, fill.closed_pnl, order.remaining) == (9, 0, 0, 6)


def test_memory_is_bounded() -> None:
    """Of thousands of fills and finished orders only the latest are kept, and their names go with them."""
    account = Account("0x")
    for oid in range(MAX_FINISHED + 5):
        order = an_order(oid, cloid=f"c{oid}", size=1)
        account.add(order)
        account.fill(order, ExecReport(NOW, "BTC", NOW, "", str(oid), ExecType.TRADE, 1, 1, 1, 0, True, str(oid)))
        account.finish(order, "filled", NOW)
    assert len(account.fills) == MAX_FILLS
    assert account.order(4) is account.order("c4") is None
    assert account.order(5) is account.order("c5") is not None
    assert list(account.open_orders()) == []
