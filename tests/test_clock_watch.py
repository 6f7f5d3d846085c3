"""mmpi.runtime.clock_watch: the venue's time from its stamps, and when the clock is trusted (I8)."""

import pytest

from mmpi.events import ClockTrust
from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime.clock_watch import DELAY, WINDOW, ClockWatch

T0 = 1_700_000_000 * SECOND


class Clocks:
    """The wall clock of a machine, and what its kernel says of it."""

    def __init__(self) -> None:
        self.now = T0
        self.synchronised: bool | None = True

    def wall(self) -> int:
        """Return the time on the wall."""
        return self.now

    def in_step(self) -> bool | None:
        """Return what the kernel says."""
        return self.synchronised

    def watch(self, *, must: bool = False) -> ClockWatch:
        """Return a watch that allows one second."""
        return ClockWatch(1000, self.wall, self.in_step if must else None)


def test_without_the_venues_time_nothing_is_trusted() -> None:
    """No word of the venue: not trusted, and said so once."""
    watch = Clocks().watch()
    assert watch.check(T0) == ClockTrust(T0, False, "the venue's time is not known yet")
    assert watch.check(T0 + 1) is None
    watch.seed(0, T0)
    assert watch.check(T0 + 2) == ClockTrust(T0 + 2, True)


@pytest.mark.parametrize(("offset_ms", "says"), [
    (0, ""), (999, ""), (1999, ""), (-999, ""),
    (2001, "2.0 s ahead of the venue's (allowed: 1 s)"),
    (90_000, "90.0 s ahead of the venue's (allowed: 1 s)"),
    (-1001, "1.0 s behind the venue's (allowed: 1 s)"),
    (-90_000, "90.0 s behind the venue's (allowed: 1 s)"),
])  # fmt: skip
def test_the_limit(offset_ms: int, says: str) -> None:
    """A stamp may be as old on arrival as venue and wire take, so the limit ahead is that much wider."""
    assert DELAY == SECOND
    watch = Clocks().watch()
    watch.seed(offset_ms * MILLISECOND, T0)
    assert watch.fault(T0) == says


def test_the_least_difference_of_the_last_seconds_counts() -> None:
    """A late book says nothing; a clock that falls behind is seen at once, one that runs ahead after a while."""
    watch = Clocks().watch()
    watch.seed(100 * MILLISECOND, T0)
    watch.heard(T0, T0 + 5 * SECOND)
    assert watch.offset == 100 * MILLISECOND
    watch.heard(T0 + 6 * SECOND, T0 + 4 * SECOND)
    assert watch.offset == -2 * SECOND
    now = T0 + 6 * SECOND
    while now < T0 + 4 * WINDOW:
        now += SECOND
        watch.heard(now + SECOND // 2, now)
    assert watch.offset == -SECOND // 2


def test_a_step_of_either_clock_is_seen_within_seconds() -> None:
    """Stamps that are suddenly 90 s old: three seconds of them are no late book, and the clock is distrusted."""
    watch = Clocks().watch()
    watch.seed(0, T0)
    for second in range(4):
        watch.heard(T0 + (second - 90) * SECOND, T0 + second * SECOND)
        assert watch.offset == 0
    watch.heard(T0 + (3 - 90) * SECOND, T0 + 3 * SECOND + 1)
    assert watch.offset == 90 * SECOND + 1
    assert "ahead of the venue's" in watch.fault(T0)
    # One book in time in between, and it was the feed.
    watch.seed(0, T0)
    for second in range(10):
        watch.heard(T0 + (second if second % 2 else second - 90) * SECOND, T0 + second * SECOND)
    assert watch.offset == 0


def test_the_wall_clock_is_what_must_be_right() -> None:
    """The loop's clock only measures: a start with a wrong clock is trusted once the machine's time was set."""
    clocks = Clocks()
    watch = clocks.watch()
    watch.seed(-3600 * SECOND, T0)  # an hour behind when the loop began
    verdict = watch.check(T0)
    assert verdict is not None and not verdict.trusted and "3600.0 s behind" in verdict.reason
    clocks.now = T0 + 3600 * SECOND  # stepped; the loop's own clock goes on as it was
    assert watch.check(T0) == ClockTrust(T0, True)
    assert watch.offset == -3600 * SECOND, "what is signed is moved by this"


def test_a_clock_that_nobody_keeps_is_not_trusted() -> None:
    """Live: the kernel must say that it is synchronised; where it cannot say, it is not."""
    clocks = Clocks()
    watch = clocks.watch(must=True)
    watch.seed(0, T0)
    assert watch.fault(T0) == ""
    for answer in (False, None):
        clocks.synchronised = answer
        assert watch.fault(T0) == "not synchronised"


def test_a_lasting_fault_is_told_once() -> None:
    """Only a change of trust is an event: a number that moves is not."""
    clocks = Clocks()
    watch = clocks.watch()
    watch.seed(5 * SECOND, T0)
    assert watch.check(T0) is not None
    clocks.now += 10 * SECOND
    assert watch.check(T0) is None


def test_another_reason_is_told() -> None:
    """Set right but kept by nobody: whoever reads the status must not look for the wrong thing."""
    clocks = Clocks()
    watch = clocks.watch(must=True)
    clocks.synchronised = False
    watch.seed(-90 * SECOND, T0)
    assert watch.check(T0) == ClockTrust(T0, False, "90.0 s behind the venue's (allowed: 1 s)")
    clocks.now += 90 * SECOND
    assert watch.check(T0) == ClockTrust(T0, False, "not synchronised")
    assert watch.check(T0) is None
    clocks.synchronised = True
    assert watch.check(T0) == ClockTrust(T0, True)


def test_a_fault_of_another_size_is_told() -> None:
    """Half a day became two seconds: that somebody set the clock, and not well enough, is worth a word."""
    clocks = Clocks()
    watch = clocks.watch()
    watch.seed(-39_224 * SECOND, T0)
    assert watch.check(T0) == ClockTrust(T0, False, "39224.0 s behind the venue's (allowed: 1 s)")
    clocks.now += 39_222 * SECOND
    assert watch.check(T0) == ClockTrust(T0, False, "2.0 s behind the venue's (allowed: 1 s)")
    clocks.now -= SECOND
    assert watch.check(T0) is None
