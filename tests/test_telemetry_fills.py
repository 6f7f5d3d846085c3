"""telemetry.fills: fills taken over from the quoter's status, and how the mid moved after them."""

import pytest
from telemetry_builders import fill_status, summary

from mmpi.status import FillStatus, Summary
from mmpi.telemetry.fills import KEPT, Fills

AT = 1_000.0
MID = {"BTC": 100.5}


def told(*fills: FillStatus, count: int | None = None) -> Summary:
    """Return a status with these fills as the last ones of the run."""
    return summary(run_fills=len(fills) if count is None else count, last_fills=list(fills))


def test_a_fill_is_taken_once() -> None:
    """The same status seen again brings nothing new; the next one brings the next fill alone."""
    fills = Fills()
    assert [each.exec_id for each in fills.look(told(fill_status(1)), 1, MID, 50.0, AT)] == ["f1"]
    assert fills.look(told(fill_status(1)), 1, MID, 50.2, AT + 0.2) == []
    more = fills.look(told(fill_status(1), fill_status(2)), 1, MID, 50.4, AT + 0.4)
    assert [each.exec_id for each in more] == ["f2"]
    assert [each.exec_id for each in fills.all()] == ["f1", "f2"]


def test_a_new_process_numbers_anew() -> None:
    """Its first fill is new although its number was seen before."""
    fills = Fills()
    fills.look(told(fill_status(1)), 1, MID, 50.0, AT)
    assert [each.exec_id for each in fills.look(told(fill_status(9)), 2, MID, 51.0, AT + 1)] == ["f9"]


def test_what_came_and_went_unseen_is_counted() -> None:
    """Five more fills, of which the status still has two: three were missed. Those before our time were not missed."""
    fills = Fills()
    fills.look(told(fill_status(1), count=100), 1, MID, 50.0, AT)
    assert fills.missed == 0
    fills.look(told(fill_status(2), fill_status(3), count=105), 1, MID, 51.0, AT + 1)
    assert fills.missed == 3


@pytest.mark.parametrize(("side", "expected"), [("buy", 100.0), ("sell", -100.0)])
def test_markouts_are_measured_when_they_are_due(side: str, expected: float) -> None:
    """Each at its horizon and never again; positive when the mid went the fill's way; complete once, with the last."""
    fills = Fills()
    fills.look(told(fill_status(1, side=side)), 1, MID, 50.0, AT)
    fills.look(told(fill_status(1)), 1, {"BTC": 101.0}, 51.1, AT + 1.1)
    fills.look(told(fill_status(1)), 1, {"BTC": 90.0}, 51.4, AT + 1.4)
    assert fills.all()[0].markouts == {"1s": expected, "5s": None, "30s": None}
    assert fills.look(told(fill_status(1)), 1, {"BTC": 101.0}, 55.0, AT + 5) == []
    done = fills.look(told(fill_status(1)), 1, {"BTC": 101.0}, 80.0, AT + 30)
    assert [each.markouts for each in done] == [{"1s": expected, "5s": expected, "30s": expected}]
    assert fills.look(told(fill_status(1)), 1, {"BTC": 101.0}, 80.2, AT + 30.2) == []
    assert fills.adverse_bps(80.0) == -expected


def test_a_moment_that_passed_unseen_stays_unknown() -> None:
    """Nobody looked around 1 s after the fill, and there was no mid around 5 s after it."""
    fills = Fills()
    fills.look(told(fill_status(1)), 1, MID, 50.0, AT)
    fills.look(told(fill_status(1)), 1, MID, 52.1, AT + 2.1)
    fills.look(told(fill_status(1)), 1, {"BTC": None}, 55.1, AT + 5.1)
    fills.look(told(fill_status(1)), 1, MID, 57.0, AT + 7)
    assert fills.all()[0].markouts == {"1s": None, "5s": None, "30s": None}
    assert fills.adverse_bps(57.0) is None


def test_an_old_fill_has_no_markouts() -> None:
    """It was there before we looked: what the mid did after it, nobody here has seen."""
    fills = Fills()
    fills.look(told(fill_status(1)), 1, MID, 50.0, AT + 60)
    fills.look(told(fill_status(1)), 1, MID, 51.0, AT + 61)
    assert set(fills.all()[0].markouts.values()) == {None}
    assert fills.last_s(51.0) == 61.0


def test_adverse_selection_forgets_after_ten_minutes_and_weighs_by_worth() -> None:
    """A fill of three times the worth counts three times."""
    fills = Fills()
    both = (fill_status(1, size="3"), fill_status(2, side="sell", size="1"))
    fills.look(told(*both), 1, MID, 50.0, AT)
    fills.look(told(*both), 1, {"BTC": 101.0}, 55.0, AT + 5)
    assert fills.adverse_bps(56.0) == pytest.approx((3 * -100 + 100) / 4)
    assert fills.adverse_bps(50.0 + 601) is None


def test_memory_is_bounded() -> None:
    """However many there were, the last KEPT remain (I12)."""
    fills = Fills()
    for number in range(1, 3 * KEPT):
        fills.look(told(fill_status(number), count=number), 1, MID, 50.0 + number, AT + number)
    assert len(fills.all()) == KEPT
