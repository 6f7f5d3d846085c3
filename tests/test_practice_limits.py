"""mmpi.practice.hyperliquid.limits: weights, minutes, messages, posts and sockets of one address."""

import pytest

from mmpi.practice.hyperliquid.limits import (
    MAX_ADDRESSES,
    MAX_NEW_SOCKETS,
    MAX_POSTS,
    MAX_SOCKETS,
    Limits,
    action_weight,
    answer_weight,
    info_weight,
)

HERE, THERE = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize(
    ("kind", "weight"),
    [("l2Book", 2), ("allMids", 2), ("orderStatus", 2), ("clearinghouseState", 2), ("userRole", 60), ("meta", 20),
     ("openOrders", 20), ("", 20)],
)  # fmt: skip
def test_questions_weigh_what_the_venue_says(kind: str, weight: int) -> None:
    """Light ones 2, userRole 60, all others 20."""
    assert info_weight({"type": kind}) == weight


@pytest.mark.parametrize(
    ("kind", "answer", "weight"),
    [("userFills", [1] * 45, 2), ("userFills", [], 0), ("candleSnapshot", [1] * 130, 2), ("openOrders", [1] * 90, 0),
     ("orderStatus", {"a": 1}, 0)],
)  # fmt: skip
def test_long_answers_weigh_more(kind: str, answer: object, weight: int) -> None:
    """One for each 20 fills, one for each 60 candles, nothing for what has no such rule."""
    assert answer_weight({"type": kind}, answer) == weight


@pytest.mark.parametrize(
    ("action", "weight"),
    [
        ({"type": "order", "orders": [0] * 79}, 2),
        ({"type": "order", "orders": [0]}, 1),
        ({"type": "cancel", "cancels": [0] * 80}, 3),
        ({"type": "batchModify", "modifies": [0] * 40}, 2),
        ({"type": "scheduleCancel"}, 1),
        ("nonsense", 1),
    ],
)
def test_actions_weigh_by_their_batch(action: object, weight: int) -> None:
    """1 + floor(batch / 40), for what is no batch 1."""
    assert action_weight({"action": action}) == weight


def test_a_minute_goes_by() -> None:
    """What is spent comes back sixty seconds later, and a refused request costs nothing."""
    limits = Limits(40)
    assert [limits.weigh(HERE, 20, now) for now in (0.0, 10.0, 20.0, 59.9)] == [True, True, False, False]
    assert [limits.weigh(HERE, 20, now) for now in (60.0, 60.1, 70.0)] == [True, False, True]
    assert limits.refused == 3


def test_addresses_are_apart() -> None:
    """One address cannot spend another's weight."""
    limits = Limits(20)
    assert limits.weigh(HERE, 20, 0.0)
    assert limits.weigh(THERE, 20, 0.0)
    assert not limits.weigh(HERE, 2, 0.0)


def test_an_answer_can_overdraw() -> None:
    """What an answer weighs is charged though there is no room: the next request waits for it."""
    limits = Limits(40)
    assert limits.weigh(HERE, 20, 0.0)
    limits.charge(HERE, 100, 1.0)
    assert not limits.weigh(HERE, 2, 60.5)
    assert limits.weigh(HERE, 2, 61.0)


def test_messages_of_a_minute() -> None:
    """1200 of weight are 2000 messages; the next one is refused with the venue's sentence."""
    limits = Limits(1200)
    assert {limits.message(HERE, 0.0) for _ in range(2000)} == {""}
    assert limits.message(HERE, 59.0) == "Cannot send more than 2000 messages per minute."
    assert limits.message(HERE, 60.0) == ""


def test_sockets_of_an_address() -> None:
    """Ten at a time; one that left makes room; thirty new ones in a minute."""
    limits = Limits()
    assert {limits.connect(HERE, 0.0) for _ in range(MAX_SOCKETS)} == {""}
    assert limits.connect(HERE, 0.0) == "more than 10 connections of one address"
    for _ in range(MAX_NEW_SOCKETS - MAX_SOCKETS):
        limits.disconnect(HERE)
        assert limits.connect(HERE, 1.0) == ""
    limits.disconnect(HERE)
    assert limits.connect(HERE, 2.0) == "more than 30 new connections of one address in a minute"
    assert limits.connect(HERE, 61.0) == ""


def test_posts_that_wait() -> None:
    """A hundred may wait for their answers; each answer makes room for one."""
    limits = Limits()
    assert all(limits.post(HERE) for _ in range(MAX_POSTS))
    assert not limits.post(HERE)
    limits.posted(HERE)
    assert limits.post(HERE)


def test_a_weight_of_zero_is_no_limit() -> None:
    """Nothing is refused, however much is asked, and nothing is remembered of it."""
    limits = Limits(0)
    assert all(limits.weigh(HERE, 1000, 0.0) for _ in range(100))
    assert not any(limits.message(HERE, 0.0) or limits.connect(HERE, 0.0) for _ in range(3000))
    assert all(limits.post(HERE) for _ in range(1000))
    assert limits.refused == 0


def test_many_addresses_are_forgotten() -> None:
    """However many addresses come, a bounded number is remembered, and who holds a socket is among them."""
    limits = Limits(20)
    assert limits.connect(HERE, 0.0) == ""
    for number in range(3 * MAX_ADDRESSES):
        assert limits.weigh(f"10.0.{number // 256}.{number % 256}", 20, 0.0)
    assert len(limits._addresses) <= MAX_ADDRESSES + 1
    limits.disconnect(HERE)
    assert limits._addresses[HERE].sockets == 0
