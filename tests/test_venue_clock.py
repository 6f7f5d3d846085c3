"""mmpi.runtime.venue_clock: the venue's time, and what its going back means for orders under way."""

import pytest

from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime.venue_clock import NONCE_AHEAD_MS, SIGNED_AHEAD_MS, VenueClock

WALL = 1_800_000_000 * SECOND
START = 500 * SECOND


def clock() -> VenueClock:
    """Return a clock whose wall clock was WALL at START."""
    return VenueClock(WALL, START)


def tell(it: VenueClock, after_s: float, ahead_s: float = 0.0, trip_ms: int = 80) -> None:
    """Have a venue that is so far ahead of the wall clock tell its time, stamped in the middle of a round trip."""
    sent = START + round(after_s * SECOND)
    stamp = (WALL + round((after_s + ahead_s) * SECOND)) // MILLISECOND + trip_ms // 2
    it.told(stamp, sent, sent + trip_ms * MILLISECOND)


@pytest.mark.parametrize("years", [-5, 5])
def test_it_bears_the_venues_time_whatever_ours_says(years: int) -> None:
    """Once the venue told its time, ours is that, years off or not; a difference below a second is delay."""
    it, off_s = clock(), years * 365 * 86_400
    tell(it, 1, ahead_s=off_s)
    assert it.now_ms(START + SECOND) == (WALL + (1 + off_s) * SECOND) // MILLISECOND
    tell(it, 2, ahead_s=0.9)
    assert it.ahead_ms == 0


def test_nonces_grow_and_leave_a_wrong_future() -> None:
    """Nonces of one millisecond differ; those of a clock that was more than a day ahead are left behind."""
    it = clock()
    first, second = it.nonce(START), it.nonce(START)
    assert second == first + 1
    it.ahead_ms = -2 * NONCE_AHEAD_MS
    far = it.nonce(START)
    it.ahead_ms = 0
    assert it.nonce(START) < far


def test_a_steady_clock_is_settled() -> None:
    """Answers quick and slow, and one without a time, of a venue whose clock is right or off by a constant."""
    for ahead_s in (0, 90, -90):
        it = clock()
        for number, trip_ms in enumerate((20, 900, 80, 900, 20)):
            tell(it, number, ahead_s, trip_ms)
        it.told(0, START, START)
        assert it.unsettled_s(START + 6 * SECOND) == 0


def test_a_clock_that_went_back_is_unsettled_until_the_last_expiry() -> None:
    """Back by 90 s: an order may be valid for that long, and for what was signed since; it counts down."""
    it = clock()
    tell(it, 10, ahead_s=90)
    tell(it, 15)
    whole = 90 + SIGNED_AHEAD_MS / 1000
    assert it.unsettled_s(START + 15 * SECOND) == pytest.approx(whole, abs=0.2)
    tell(it, 60)
    assert it.unsettled_s(START + 60 * SECOND) == pytest.approx(whole - 45, abs=0.2)
    assert it.unsettled_s(START + (16 + round(whole)) * SECOND) == 0


def test_a_clock_that_went_forward_is_settled() -> None:
    """Orders expire earlier then."""
    it = clock()
    tell(it, 10)
    tell(it, 15, ahead_s=90)
    assert it.unsettled_s(START + 15 * SECOND) == 0


def test_our_own_clock_does_not_matter() -> None:
    """Time counts by the monotonic clock alone: a second measured by the venue and by us is no going back."""
    it = VenueClock(0, START)
    tell(it, 1)
    tell(it, 100)
    assert it.unsettled_s(START + 100 * SECOND) == 0
