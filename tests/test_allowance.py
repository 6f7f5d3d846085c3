"""mmpi.runtime.allowance: the guardian's part of the request weight, and its pauses after a refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.runtime.allowance import BURST, DEBT, LIGHT, LIST, PER_MINUTE, WHOLE, Allowance, cancel_weight


def test_the_first_questions_of_a_stop_are_immediate() -> None:
    """Eight questions with the time go out at once; the next one waits until its weight has come back."""
    allowance = Allowance()
    for _ in range(8):
        assert allowance.wait_s(LIST + LIGHT, 100.0) == 0
        allowance.charge(LIST + LIGHT, 100.0)
    assert allowance.wait_s(LIST, 100.0) == 0
    allowance.charge(LIST, 100.0)
    assert allowance.wait_s(LIST, 100.0) == pytest.approx((LIST - (BURST - 196)) * 60 / PER_MINUTE)
    assert allowance.wait_s(LIST, 106.0) == 0


def test_alone_it_has_the_whole_address() -> None:
    """While the quoter is halted the bucket refills as fast as the venue lets the address ask; not a moment longer."""
    allowance = Allowance()
    allowance.charge(BURST, 100.0)
    allowance.alone = True
    assert allowance.wait_s(LIST, 100.0) == pytest.approx(LIST * 60 / WHOLE)
    assert allowance.wait_s(LIST, 101.0) == 0
    allowance.charge(LIST, 101.0)
    allowance.alone = False
    assert allowance.wait_s(LIST, 101.0) == pytest.approx(LIST * 60 / PER_MINUTE)


def test_cancels_are_only_charged_and_their_debt_ends() -> None:
    """However many cancels were sent, a question waits for little more than a minute."""
    allowance = Allowance()
    for _ in range(10_000):
        allowance.charge(cancel_weight(100), 5.0)
    assert allowance.wait_s(LIST, 5.0) == (DEBT + LIST) * 60 / PER_MINUTE
    assert allowance.wait_s(LIST, 5.0 + (DEBT + LIST) * 60 / PER_MINUTE + 0.001) == 0


def test_pauses_double_up_to_five_seconds_and_end_with_an_answer() -> None:
    """0.5, 1, 2, 4, 5, 5 s after refusals in a row; an answer in between begins anew."""
    allowance, waits = Allowance(), []
    for _ in range(6):
        allowance.too_many(1000.0)
        waits.append(allowance.wait_s(LIGHT, 1000.0))
    assert waits == [0.5, 1, 2, 4, 5, 5]
    allowance.answered()
    allowance.too_many(2000.0)
    assert (allowance.wait_s(LIGHT, 2000.0), allowance.wait_s(LIGHT, 2000.5), allowance.refused) == (0.5, 0, 7)


def test_a_venue_without_limits_is_not_waited_for() -> None:
    """With a weight of 0 nothing is counted; a refusal is heeded all the same."""
    allowance = Allowance(0)
    for _ in range(100):
        allowance.charge(LIST, 1.0)
    assert allowance.wait_s(LIST, 1.0) == 0
    allowance.too_many(1.0)
    assert allowance.wait_s(LIST, 1.0) == 0.5


@pytest.mark.parametrize(("orders", "weight"), [(0, 1), (1, 1), (39, 1), (40, 2), (100, 3)])
def test_what_a_cancel_weighs(orders: int, weight: int) -> None:
    """One, and one more for each forty orders."""
    assert cancel_weight(orders) == weight


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from([LIGHT, LIST, 60])), max_size=60))
def test_no_minute_has_more_than_burst_and_refill(asked: list[tuple[float, int]]) -> None:
    """Whoever waits as told never asks for more than the burst and what came back since, in any stretch of time."""
    allowance, now, spent = Allowance(), 0.0, []
    for gap, weight in asked:
        now += gap
        now += allowance.wait_s(weight, now) + 1e-6
        assert allowance.wait_s(weight, now) == 0
        allowance.charge(weight, now)
        spent.append((now, weight))
    for start, (began, _) in enumerate(spent):
        total = 0
        for at, weight in spent[start:]:
            total += weight
            assert total <= BURST + (at - began) * PER_MINUTE / 60 + 0.01
