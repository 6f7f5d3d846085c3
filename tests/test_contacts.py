"""mmpi.device.contacts: what trips, how soon, and what never does. Time is made up; nothing waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.contacts import (
    AGAIN,
    APART,
    BOUNCE,
    CUT,
    GAP,
    HEALTHY,
    OPEN,
    OVERLAP,
    POLL,
    SHORT,
    STORM,
    TRAVEL,
    KillSwitch,
)
from mmpi.instrument import MILLISECOND, SECOND, Nanos

START = 5 * SECOND


class Line:
    """A kill switch that is looked at when it says it is due, as the guardian does; levels change in between."""

    def __init__(self, second: bool | None = None) -> None:
        self.switch, self.now = KillSwitch(), START
        self.closed, self.second = True, second

    def look(self, edges: int = 0) -> dict[str, str]:
        """Return the causes after a look now."""
        self.switch.look(self.closed, self.second, edges, self.now)
        return self.switch.present()

    def until(self, end: Nanos, edges: int = 0) -> dict[str, str]:
        """Return the causes at `end`, after a look whenever one was due; each of them sees `edges`."""
        while (due := max(self.now + 1, self.switch.due())) <= end:
            self.now = due
            self.look(edges)
        self.now = end
        return self.switch.present()

    def pass_ms(self, milliseconds: float, edges: int = 0) -> dict[str, str]:
        """Return the causes this much later."""
        return self.until(self.now + round(milliseconds * MILLISECOND), edges)


def healthy(second: bool | None = None) -> Line:
    """Return a line that has been looked at for a second, closed."""
    line = Line(second)
    line.look()
    assert line.pass_ms(1000) == {}
    return line


# One contact ------------------------------------------------------------------------------------------------------


def test_open_at_the_start_trips() -> None:
    """A button that is pressed, or not plugged in, when the guardian starts is seen at its second look."""
    line = Line()
    line.closed = False
    assert line.look() == {}
    assert line.pass_ms(AGAIN / MILLISECOND) == {"kill_button": OPEN}


def test_one_open_sample_does_not_trip() -> None:
    """What is closed again at the second sample was a glitch."""
    line = healthy()
    line.closed = False
    assert line.look(edges=1) == {}
    line.closed = True
    assert line.pass_ms(500) == {}


def test_two_samples_of_one_glitch_do_not_trip() -> None:
    """Looks that follow each other at once, as an edge's and a poll's do, count as one."""
    line = healthy()
    line.closed = False
    line.look(edges=1)
    line.now += APART - 1
    assert line.look() == {}
    line.now += 1
    assert line.look() == {"kill_button": OPEN}


def test_after_an_edge_the_next_look_is_soon() -> None:
    """An edge that changed nothing is looked into after 5 ms; without one a look is due every 20 ms."""
    line = healthy()
    line.now += POLL
    line.look()
    assert line.switch.due() == line.now + POLL
    line.look(edges=2)
    assert line.switch.due() == line.now + AGAIN


@given(
    open_after=st.integers(0, 300 * MILLISECOND),
    edge_is_seen=st.booleans(),
    late=st.integers(0, 2 * MILLISECOND),
)
def test_a_lasting_opening_trips_within_25_ms(open_after: Nanos, edge_is_seen: bool, late: Nanos) -> None:
    """Wherever between two looks it opens, its edge lost or not, it trips at most a poll and a second look later."""
    line = healthy()
    line.until(line.now + open_after)
    line.closed, opened = False, line.now
    if edge_is_seen:
        line.look(edges=1)
    causes = line.until(opened + POLL + AGAIN + late)
    assert causes == {"kill_button": OPEN}


@given(st.lists(st.integers(1, 400 * MILLISECOND), max_size=200))
def test_a_closed_and_quiet_contact_never_trips(steps: list[Nanos]) -> None:
    """However irregularly it is looked at."""
    line = Line()
    for step in steps:
        assert line.look() == {}
        line.now += step


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 60 * MILLISECOND)), max_size=300))
def test_random_contacts_trip_for_a_reason(samples: list[tuple[bool, int, Nanos]]) -> None:
    """Trips are exactly: two open samples in a row APART, or more than STORM moves within a second."""
    line = Line()
    moves: list[Nanos] = []
    last: bool | None = None
    open_since: Nanos | None = None
    fine_since: Nanos | None = None
    expected: set[str] = set()
    before = line.now
    for closed, edges, step in samples:
        line.closed, now = closed, line.now
        causes = line.look(edges)
        moves += [now] * max(edges, int(last is not None and last is not closed))
        storm = sum(now - move <= SECOND for move in moves) > STORM
        open_since = None if closed else (open_since if open_since is not None else now)
        if not closed:
            fine_since = None
        elif fine_since is None or now - before > GAP:
            fine_since = now
        if not storm and fine_since is not None and now - fine_since >= HEALTHY:
            expected = set()
        if open_since is not None and now - open_since >= APART:
            expected.add("kill_button")
        if storm:
            expected.add("kill_bounce")
        # A contact that was once decided open stays so until two samples say closed: a superset in between.
        assert expected <= set(causes) <= expected | {"kill_button"}
        if all(each for each, _, _ in samples):
            assert "kill_button" not in causes
        last, before, line.now = closed, now, now + step


@pytest.mark.parametrize("open_ms", [1, 5, 100, 5000])
def test_a_trip_stays_until_it_was_healthy_for_a_while(open_ms: int) -> None:
    """The cause is there while the contact is open and until 250 ms after it closed for good."""
    line = healthy()
    line.closed = False
    line.look(edges=1)
    line.pass_ms(10 + open_ms)
    line.closed = True
    line.look(edges=1)
    assert list(line.pass_ms(HEALTHY / MILLISECOND - 1)) == ["kill_button"]
    assert line.pass_ms(25) == {}


def test_not_looking_is_not_healthy() -> None:
    """Two closed samples with a second between them prove no second of health."""
    line = healthy()
    line.closed = False
    line.look(edges=1)
    assert line.pass_ms(20)
    line.closed = True
    line.look()
    line.now += SECOND
    assert list(line.look()) == ["kill_button"]
    assert list(line.pass_ms(240)) == ["kill_button"]
    assert line.pass_ms(30) == {}


# Storms -----------------------------------------------------------------------------------------------------------


def test_a_storm_trips_though_every_sample_is_closed() -> None:
    """10 kHz for a second, as a loose wire makes it: latched at the first look."""
    line = healthy()
    assert line.look(edges=200) == {"kill_bounce": BOUNCE}
    assert list(line.pass_ms(1000, edges=50)) == ["kill_bounce"]
    assert list(line.pass_ms(900)) == ["kill_bounce"], "a second has not passed since"
    assert line.pass_ms(400) == {}


def test_mains_hum_in_step_with_the_poll_is_a_storm() -> None:
    """A loose wire that reads closed at every poll, but has 100 edges a second, trips within 400 ms."""
    line = healthy()
    for _ in range(20):
        line.now += POLL
        causes = line.look(edges=2)
    assert list(causes) == ["kill_bounce"]


def test_chatter_without_edges_is_a_storm() -> None:
    """Where edges are lost, samples that differ count: what alternates never gives two equal ones."""
    line = healthy()
    for _ in range(40):
        line.closed = not line.closed
        line.now += APART - 1
        causes = line.look()
    assert "kill_bounce" in causes


def test_a_few_edges_are_no_storm() -> None:
    """What a switch nearby couples into the wire: once a second a handful, for a minute."""
    line = healthy()
    for _ in range(60):
        assert line.look(edges=STORM // 2 - 1) == {}
        assert line.pass_ms(1001) == {}


# Two contacts -----------------------------------------------------------------------------------------------------


def test_an_ordinary_press_of_two_contacts() -> None:
    """The first opens, a moment later the second closes: pressed, and nothing disagrees."""
    line = healthy(second=False)
    line.closed = False
    line.look(edges=1)
    line.pass_ms(50)
    line.second = True
    assert line.pass_ms(3000) == {"kill_button": OPEN}
    line.second = False
    line.pass_ms(50)
    line.closed = True
    assert line.pass_ms(400) == {}


def test_a_cut_wire_of_two_contacts() -> None:
    """Both open: at once like any open contact, and after 100 ms it is said that a wire is cut."""
    line = healthy(second=False)
    line.closed = False
    line.look(edges=1)
    assert list(line.pass_ms(TRAVEL / MILLISECOND - 10)) == ["kill_button"]
    assert line.pass_ms(40) == {"kill_button": OPEN, "kill_contacts": CUT}


def test_a_press_with_a_shorted_wire_stops() -> None:
    """The first contact reads closed for ever; the second tells of the press, within 60 ms."""
    line = healthy(second=False)
    line.second = True
    assert line.until(line.now + POLL + OVERLAP + 2 * AGAIN) == {"kill_contacts": SHORT}
    line.second = False
    assert list(line.pass_ms(200)) == ["kill_contacts"]
    assert line.pass_ms(100) == {}


def test_contacts_that_overlap_for_a_moment_agree() -> None:
    """A block that makes before it breaks does it within a few milliseconds."""
    line = healthy(second=False)
    line.second = True
    line.look(edges=1)
    assert line.pass_ms(15) == {}
    line.closed = False
    assert line.pass_ms(1000) == {"kill_button": OPEN}


@given(st.integers(0, 60 * MILLISECOND), st.booleans())
def test_a_shorted_wire_stops_wherever_the_press_falls(after: Nanos, edge_is_seen: bool) -> None:
    """With a second contact even a shorted first one stops: POLL + OVERLAP + two short looks at the most."""
    line = healthy(second=False)
    line.until(line.now + after)
    line.second, pressed = True, line.now
    if edge_is_seen:
        line.look(edges=1)
    assert line.until(pressed + POLL + OVERLAP + 2 * AGAIN) == {"kill_contacts": SHORT}
