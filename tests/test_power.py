"""The power watch: a pause wants proof that the mains are back, a shutdown wants proof that they are gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.power import NEARBY, UNKNOWN, PowerLimits, PowerWatch
from mmpi.instrument import MILLISECOND, SECOND, Nanos

POLL: Nanos = 20 * MILLISECOND
FAILED = {"power": "the mains failed"}
BACK = {"power": "the mains are back, but not yet for 10 s"}


def watch(*, gauge: bool = False) -> PowerWatch:
    """Return a watch of a supply, fed by a pin unless by a gauge."""
    return PowerWatch(PowerLimits(hold_off_s=20, good_s=10, silence_pauses=gauge))


def feed(power: PowerWatch, readings: list[bool | None], since: Nanos = 0, every: Nanos = POLL) -> Nanos:
    """Feed readings one after the other; return when the last was taken."""
    at = since
    for at, reading in zip(range(since, since + every * len(readings), every), readings, strict=True):
        power.feed(reading, at)
    return at


def for_s(seconds: float, reading: bool) -> list[bool | None]:
    """Return as many readings, 20 ms apart, as reach over so many seconds."""
    return [reading] * (round(seconds * SECOND) // POLL + 1)


def failed(now: Nanos = 0) -> tuple[PowerWatch, Nanos]:
    """Return a watch that has seen a confirmed failure, and when."""
    power = watch()
    return power, feed(power, [True, True], now)


def test_the_second_failing_reading_is_a_cause() -> None:
    """One failing reading is a glitch, two in a row are a failure: 20 ms after the first."""
    power = watch()
    power.feed(True, 0)
    assert power.present(0) == {}
    power.feed(True, POLL)
    assert power.present(POLL) == FAILED


def test_the_same_reading_fed_again_confirms_nothing() -> None:
    """A gauge is asked once a second and fed fifty times: its one reading is one reading."""
    power = watch()
    for now in range(0, SECOND, POLL):
        power.feed(True, 0)
        assert power.present(now) == {}
    power.feed(True, SECOND)
    assert power.present(SECOND) == FAILED


def test_glitches_far_apart_are_none() -> None:
    """Single failing readings more than a second apart never pause."""
    power = watch()
    now = 0
    for _ in range(20):
        now = feed(power, [True, *for_s(1.02, False)], now + POLL)
        assert power.present(now) == {}


@pytest.mark.parametrize("pattern", [[True, False], [True, False, False], [True, *[False] * 40]])
def test_a_supply_that_flaps_is_a_failing_one(pattern: list[bool | None]) -> None:
    """Failing readings that come again within a second are a failure although good ones stand between them."""
    power = watch()
    now = feed(power, pattern * 2)
    assert now < NEARBY * 2
    assert "power" in power.present(now)


def test_the_pause_ends_after_good_s() -> None:
    """The cause stays until every reading of ten seconds was good, and not a reading longer."""
    power, now = failed()
    now = feed(power, for_s(9.98, False), now + POLL)
    assert power.present(now) == BACK
    power.feed(False, now + POLL)
    assert power.present(now + POLL) == {}


def test_each_failing_reading_begins_good_s_anew() -> None:
    """A single failing reading among good ones makes the pause ten seconds longer."""
    power, now = failed()
    now = feed(power, for_s(9.9, False), now + POLL)
    now = feed(power, [True], now + POLL)
    now = feed(power, for_s(9.98, False), now + POLL)
    assert power.present(now) == BACK
    power.feed(False, now + POLL)
    assert power.present(now + POLL) == {}


def test_the_shutdown_is_due_once_when_the_hold_off_ends() -> None:
    """Twenty seconds of nothing but failing readings ask for one shutdown, counted from the first of them."""
    power = watch()
    now = feed(power, for_s(19.98, True))
    assert not power.shutdown_due(now)
    power.feed(True, 20 * SECOND)
    assert [power.shutdown_due(20 * SECOND) for _ in range(3)] == [True, False, False]


def test_each_good_reading_begins_the_hold_off_anew() -> None:
    """A single good reading says that the mains may be there: the machine is not turned off for another hold-off."""
    power = watch()
    now = feed(power, [*for_s(19.9, True), False])
    now = feed(power, for_s(19.98, True), now + POLL)
    assert not power.shutdown_due(now)
    power.feed(True, now + POLL)
    assert power.shutdown_due(now + POLL)


def test_each_failure_may_ask_for_a_shutdown() -> None:
    """After the mains were back for good_s, the next failure asks again."""
    power = watch()
    now = feed(power, for_s(20, True))
    assert power.shutdown_due(now)
    now = feed(power, for_s(10, False), now + POLL)
    assert power.present(now) == {}
    now = feed(power, for_s(20, True), now + POLL)
    assert power.shutdown_due(now)


def test_good_s_of_zero_ends_with_the_first_good_reading() -> None:
    """Where nobody wants to wait, nobody waits."""
    power = PowerWatch(PowerLimits(hold_off_s=20, good_s=0))
    now = feed(power, [True, True, False])
    assert power.present(now) == {}


def test_silence_ends_no_pause() -> None:
    """When nothing more is heard of mains that failed, they have not come back."""
    power, now = failed()
    assert power.present(now + 3600 * SECOND) == FAILED


def test_silence_turns_nothing_off() -> None:
    """A hold-off that is not filled with readings ends in no shutdown: nobody can say that the mains are gone."""
    power, now = failed()
    assert not power.shutdown_due(now + 25 * SECOND)
    now = feed(power, for_s(19.98, True), now + 25 * SECOND)
    assert not power.shutdown_due(now)
    power.feed(True, now + POLL)
    assert power.shutdown_due(now + POLL)


def test_a_short_silence_is_bridged() -> None:
    """A gauge that misses a few answers has not told of mains that came back."""
    power = watch(gauge=True)
    for second in range(21):
        power.feed(True if second % 4 == 0 else None, second * SECOND, "no answer")
    assert power.shutdown_due(20 * SECOND)


def test_a_silent_gauge_pauses_after_five_seconds() -> None:
    """Who relies on a gauge is paused while it says nothing, with its own words for it; a reading ends that."""
    power = watch(gauge=True)
    power.feed(False, 0)
    power.feed(None, SECOND, "no chip at 0x36")
    assert power.present(UNKNOWN) == {}
    assert power.present(UNKNOWN + 1) == {"power": "nobody says whether the mains are there: no chip at 0x36"}
    power.feed(False, UNKNOWN + 2)
    assert power.present(UNKNOWN + 2) == {}


def test_a_gauge_that_was_never_heard_pauses() -> None:
    """A gauge that is not there at all pauses, too, five seconds after somebody first asked."""
    power = watch(gauge=True)
    assert power.present(7) == {}
    assert power.present(7 + UNKNOWN + 1) == {"power": "nobody says whether the mains are there: no reading"}


def test_a_silent_pin_is_told_and_pauses_nothing() -> None:
    """A pin that cannot be read latches by itself (pins); here it is only told."""
    power = watch()
    power.feed(None, 0, "line 6 is gone")
    assert power.present(60 * SECOND) == {}
    assert power.status(60 * SECOND) == {"mains": "unknown", "failing_s": None, "why": "line 6 is gone"}


def test_the_status_tells_good_failing_and_unknown() -> None:
    """Observers see what is known of the mains, and for how long they have been failing."""
    power = watch()
    assert power.status(0)["mains"] == "unknown"
    power.feed(False, 0)
    assert power.status(0) == {"mains": "good", "failing_s": None, "why": ""}
    feed(power, for_s(3, True), POLL)
    assert power.status(3 * SECOND + POLL) == {"mains": "failing", "failing_s": 3.0, "why": ""}
    assert power.status(10 * SECOND)["mains"] == "unknown"


RUNS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([True, False, None]), st.integers(1, 12)), max_size=12)


@given(RUNS)
def test_pause_and_shutdown_have_their_proofs(runs: list[tuple[int, bool | None, int]]) -> None:
    """A shutdown only comes after a hold-off of failing readings alone, a pause only ends after good_s of good ones."""
    power = watch()
    heard: list[tuple[Nanos, bool]] = []
    now, paused = 0, False
    for every_s, reading, times in runs:
        for _ in range(times):
            now += every_s * SECOND + POLL
            power.feed(reading, now)
            if reading is not None:
                heard.append((now, reading))
            if power.shutdown_due(now):
                assert unbroken(heard, True, now) >= 20 * SECOND
            there = bool(power.present(now))
            if paused and not there:
                assert unbroken(heard, False, now) >= 10 * SECOND
            paused = there


def unbroken(heard: list[tuple[Nanos, bool]], wanted: bool, now: Nanos) -> Nanos:
    """Return over how long up to now every reading was the wanted one, with no silence of more than 5 s."""
    since = now
    for at, reading in reversed(heard):
        if reading is not wanted or since - at > UNKNOWN:
            break
        since = at
    return now - since
