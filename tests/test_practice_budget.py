"""mmpi.practice.hyperliquid.budget: the requests of an address, alone and in the venue."""

from pathlib import Path
from typing import Any

import pytest
from practice_builders import (
    GUARDIAN,
    NOW,
    NOW_MS,
    STRANGER,
    ask,
    batch_modify,
    cancel,
    cancel_by_cloid,
    modify,
    order,
    orders,
    place,
    schedule_cancel,
    signed,
    venue,
)

from mmpi.instrument import MONEY_SCALE, SECOND
from mmpi.practice.hyperliquid.budget import SLOT, UNLIMITED, Budget
from mmpi.practice.hyperliquid.rules import Rules

TEN_FREE = Rules(requests_free=10)


def spend(budget: Budget, count: int = 1, volume: int = 0, now: int = NOW, *, cancels: bool = False) -> bool:
    """Return whether the requests were let through."""
    return not budget.spend(count, volume * MONEY_SCALE, now, cancels=cancels)


def test_the_free_requests_and_those_that_volume_bought() -> None:
    """Ten free ones and one for each USDC; the next is refused in the venue's words and costs nothing."""
    budget = Budget(TEN_FREE)
    assert [spend(budget) for _ in range(11)] == [True] * 10 + [False]
    assert [spend(budget, volume=3) for _ in range(4)] == [True] * 3 + [False]
    assert budget.spend(1, 3 * MONEY_SCALE + 4_560_000_000_001, NOW, cancels=False) == ""
    text = budget.spend(2, 3 * MONEY_SCALE + MONEY_SCALE // 8, NOW, cancels=False)
    assert text == (
        "Too many cumulative requests sent (16 > 13) for cumulative volume traded $3.12. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert budget.used == 14


def test_without_budget_one_request_in_ten_seconds_passes() -> None:
    """A refusal does not start the ten seconds anew, and a batch is more than one request."""
    budget = Budget(TEN_FREE)
    spend(budget, 10)
    tries = [spend(budget, now=NOW + i * SECOND) for i in range(1, 22)]
    assert [i for i, passed in enumerate(tries, start=1) if passed] == [10, 20]
    assert not spend(budget, 2, now=NOW + 40 * SECOND)
    assert SLOT == 10 * SECOND


@pytest.mark.parametrize(("free", "limit"), [(10, 20), (1_000_000, 1_100_000)])
def test_cancels_go_further(free: int, limit: int) -> None:
    """They may reach twice the cap, or a hundred thousand more where that is less."""
    budget = Budget(Rules(requests_free=free))
    assert spend(budget, free)
    assert not spend(budget)
    assert spend(budget, limit - free, cancels=True)
    assert not spend(budget, cancels=True)
    assert budget.used == limit


def test_a_budget_that_is_not_enforced_counts() -> None:
    """With no free requests at all nothing is refused, and the cap shown is one that nobody saves for."""
    budget = Budget(Rules(requests_free=0))
    assert all(spend(budget, 1000) for _ in range(50))
    assert (budget.used, budget.cap(7 * MONEY_SCALE)) == (50_000, UNLIMITED + 7)


@pytest.mark.parametrize(
    ("action", "cost"),
    [
        (orders(order(), order("99980")), 2),
        (orders(order("99990.05")), 1),
        (cancel(1, 2, 3), 3),
        (cancel_by_cloid("0x" + "0c" * 16), 1),
        (modify(1, order()), 1),
        (batch_modify((1, order()), (2, order())), 2),
        (schedule_cancel(NOW_MS + 5_000), 1),
        (schedule_cancel(), 1),
        ({"type": "noop"}, 1),
    ],
)
def test_what_an_action_costs(tmp_path: Path, action: dict[str, Any], cost: int) -> None:
    """Each part of a batch counts, whatever comes of it; late by its expiry, it counts five times."""
    built = venue(tmp_path)
    built.act(signed(action), NOW)
    assert ask(built, "userRateLimit")["nRequestsUsed"] == cost
    answer = built.act(signed(action, expires_after=NOW_MS - 1), NOW)
    assert answer == {"status": "err", "response": "Action already expired"}
    assert ask(built, "userRateLimit")["nRequestsUsed"] == 6 * cost


@pytest.mark.parametrize("action", [{"type": "withdraw3"}, {"type": "order", "orders": 1, "grouping": "na"}])
def test_what_is_no_action_costs_nothing(tmp_path: Path, action: dict[str, Any]) -> None:
    """A refusal before the action is understood leaves the budget alone."""
    built = venue(tmp_path)
    built.act(signed(action), NOW)
    assert ask(built, "userRateLimit")["nRequestsUsed"] == 0


def test_near_the_end_orders_stop_and_cancels_pass(tmp_path: Path) -> None:
    """The whole batch that would pass the cap is refused, for every agent; cancels go through; other accounts trade."""
    built = venue(tmp_path, rules=Rules(requests_free=5))
    oids = [place(built, order(str(99_990 - i)))["resting"]["oid"] for i in range(4)]
    refused = built.act(signed(orders(order("99900"), order("99890")), GUARDIAN), NOW)
    assert refused["response"].startswith("Too many cumulative requests sent (6 > 5) for cumulative volume traded $0.")
    assert len(built.live_orders()) == 4
    assert built.act(signed(cancel(*oids)), NOW)["response"]["data"]["statuses"] == ["success"] * 4
    assert "resting" in place(built, order(), key=STRANGER)
    assert ask(built, "userRateLimit") == {
        "cumVlm": "0.0", "nRequestsUsed": 8, "nRequestsCap": 5, "nRequestsSurplus": 0,
    }  # fmt: skip


def test_trading_fills_it_up(tmp_path: Path) -> None:
    """One USDC traded is one more request."""
    built = venue(tmp_path, rules=Rules(requests_free=1))
    place(built, order("100001", "0.001", tif="Ioc"))
    assert ask(built, "userRateLimit")["nRequestsCap"] == 1 + 100
    assert "resting" in place(built, order())
