"""Tripwires: a day's loss, fills in a minute, fates that stay unknown."""

from hypothesis import given
from hypothesis import strategies as st

from mmpi.instrument import SECOND
from mmpi.tripwires import ASKED_AGAIN, DAY, FILLS_PER_MINUTE, MAX_DOUBTS, MINUTE, UNKNOWN_FATES, Tripwires

NOON = 20_000 * DAY + DAY // 2
MIDNIGHT = 20_001 * DAY


def wires(daily_loss: int = 100, fills: int = 3, unknown_s: float = 60.0) -> Tripwires:
    """Return tripwires."""
    return Tripwires(daily_loss, fills, unknown_s)


def test_a_days_loss_is_measured_from_midnight() -> None:
    """What was lost before midnight does not count after it; what was won before does not cover what is lost after."""
    wire = wires()
    assert not wire.equity(-99, NOON)
    assert not wire.equity(-60, MIDNIGHT - 1)
    assert not wire.equity(-159, MIDNIGHT)
    assert wire.equity(-160, MIDNIGHT + 1)
    winner = wires()
    winner.equity(500, NOON)
    assert winner.equity(400, MIDNIGHT + SECOND)


def test_the_first_day_begins_with_the_session() -> None:
    """A session that begins in the middle of a day has lost nothing before."""
    wire = wires()
    assert not wire.equity(-99, NOON)
    assert wire.equity(-100, NOON + 1)


def test_a_person_moves_the_base() -> None:
    """After arming the loss is measured from there, and fills and doubts begin anew."""
    wire = wires(fills=1)
    wire.equity(-100, NOON)
    wire.filled(NOON)
    wire.rearmed(-100)
    assert not wire.equity(-199, NOON + 1)
    assert wire.equity(-200, NOON + 2)
    assert not wire.filled(NOON + 3)


def test_fills_in_any_minute() -> None:
    """One more than allowed within 60 s trips, at whatever second the minute begins."""
    wire = wires(fills=3)
    times = [0, 1, 2, MINUTE + 1]
    assert [bool(wire.filled(NOON + at)) for at in times] == [False, False, False, False]
    assert [wire.filled(NOON + MINUTE + at) for at in (2, 3, 4)] == ["", "", FILLS_PER_MINUTE]


@given(st.lists(st.integers(0, 20 * SECOND), max_size=60), st.integers(1, 6))
def test_fills_against_a_plain_count(gaps: list[int], most: int) -> None:
    """The ring says exactly what counting all fills of the last minute says, and keeps no more than it needs."""
    wire, times, now = wires(fills=most), [], NOON
    for gap in gaps:
        now += gap
        times.append(now)
        assert bool(wire.filled(now)) == (sum(now - each < MINUTE for each in times) > most)
        assert len(wire.checkpoint().fills) <= most + 1


def test_a_fate_that_stays_unknown() -> None:
    """Asked every 5 s for a minute without an answer trips; a doubt that ended in between begins anew."""
    wire = wires()
    asked = [wire.doubted("a", NOON + at * SECOND) for at in range(0, 61, 5)]
    assert asked == [""] * 12 + [UNKNOWN_FATES]
    wire = wires()
    wire.doubted("a", NOON)
    later = NOON + 55 * SECOND + ASKED_AGAIN
    assert not wire.doubted("a", later)
    assert not wire.doubted("a", later + 20 * SECOND)


def test_without_a_connection_nobody_could_answer() -> None:
    """A lost connection ends every doubt's time."""
    wire = wires()
    for at in range(0, 50, 5):
        wire.doubted("a", NOON + at * SECOND)
    wire.lost()
    assert not wire.doubted("a", NOON + 70 * SECOND)


def test_nothing_trips_that_is_switched_off() -> None:
    """0 = that wire is not there."""
    wire = Tripwires(0, 0, 0.0)
    assert not wire.equity(-(10**20), NOON)
    assert not any(wire.filled(NOON) for _ in range(100))
    assert not any(wire.doubted("a", NOON + at * SECOND) for at in range(0, 1000, 5))


def test_memory_is_bounded() -> None:
    """However many orders are in doubt, so many are remembered."""
    wire = wires()
    for number in range(3 * MAX_DOUBTS):
        wire.doubted(str(number), NOON)
    assert len(wire.checkpoint().doubts) == MAX_DOUBTS


def test_a_restored_one_goes_on() -> None:
    """Restored from its checkpoint it trips at the same moment."""
    wire, other = wires(), wires()
    wire.equity(-50, NOON)
    wire.filled(NOON)
    wire.doubted("a", NOON)
    other.restore(wire.checkpoint())
    assert other.checkpoint() == wire.checkpoint()
    assert other.equity(-100, NOON + 1) and wire.equity(-100, NOON + 1)
