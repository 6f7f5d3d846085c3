"""mmpi.device.arm_button: what asks to arm, and everything that does not. Time is made up; nothing waits."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.device.arm_button import BOUNCE, GAP, HOLD, KILL_HOLD, LET_GO, SETTLED, STUCK, ArmButton, KillButtonArming
from mmpi.instrument import MILLISECOND, SECOND, Nanos

POLL = 20 * MILLISECOND
START = 7 * SECOND


class Finger:
    """Samples an arm button every 20 ms and counts how often it asks."""

    def __init__(self) -> None:
        self.button, self.now, self.asked = ArmButton(), START, 0

    def sample(self, pressed: bool, edges: int = 0) -> None:
        """Take one sample."""
        self.now += POLL
        self.asked += self.button.sample(pressed, edges, self.now)

    def hold(self, seconds: float) -> None:
        """Hold for this long."""
        self.go(True, seconds)

    def free(self, seconds: float) -> None:
        """Leave the button alone for this long."""
        self.go(False, seconds)

    def go(self, pressed: bool, seconds: float) -> None:
        """Take as many samples as fit into this time."""
        for _ in range(round(seconds * SECOND / POLL)):
            self.sample(pressed)


# A button of its own ----------------------------------------------------------------------------------------------


def test_three_seconds_ask_once() -> None:
    """Held for 3 s it asks, and not again however long it is held."""
    finger = Finger()
    finger.free(1)
    finger.hold(3)
    assert finger.asked == 0
    finger.sample(True)
    assert finger.asked == 1
    finger.hold(60)
    assert finger.asked == 1


def test_it_asks_again_after_it_was_released() -> None:
    """Every holding is a wish of its own."""
    finger = Finger()
    for times in range(1, 4):
        finger.free(0.1)
        finger.hold(3.1)
        assert finger.asked == times


def test_a_button_that_is_stuck_never_asks() -> None:
    """Pressed from the start on, nobody pressed it; after 10 s it is said, and that is all."""
    finger = Finger()
    finger.hold(STUCK / SECOND)
    assert (finger.asked, finger.button.problem()) == (0, "")
    finger.hold(3600)
    assert finger.asked == 0
    said = "the arm button has read pressed for more than 10 s: it is stuck, or its wire is shorted"
    assert finger.button.problem() == said
    finger.free(0.1)
    assert finger.button.problem() == ""


def test_letting_go_begins_anew() -> None:
    """Twice 2.9 s are not 3 s."""
    finger = Finger()
    finger.free(1)
    finger.hold(2.9)
    finger.sample(False)
    finger.hold(2.9)
    assert finger.asked == 0


def test_an_edge_between_two_samples_begins_anew() -> None:
    """A loose wire that picks up the mains reads pressed at every poll in step with them, and is not held."""
    finger = Finger()
    finger.free(1)
    for _ in range(1000):
        finger.sample(True, edges=2)
    assert finger.asked == 0


def test_when_nobody_looked_it_begins_anew() -> None:
    """A guardian that was busy for more than 200 ms does not know what the finger did."""
    finger = Finger()
    finger.free(1)
    finger.hold(2.9)
    finger.now += GAP
    finger.hold(2.9)
    assert finger.asked == 0
    finger.hold(0.2)
    assert finger.asked == 1


def test_a_late_sample_counts_from_the_samples() -> None:
    """Looks a little late do not shorten the holding: 3 s from the first sample that said pressed."""
    button, now = ArmButton(), START
    button.sample(False, 0, now)
    first = now = now + GAP
    asked = False
    while not asked:
        asked = button.sample(True, 0, now)
        if not asked:
            now += GAP - 1
    assert now - first >= HOLD


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2), st.integers(1, 260 * MILLISECOND)),
        max_size=150,
    ),
    st.lists(st.integers(1, 260 * MILLISECOND), max_size=60),
)
def test_it_never_asks_without_unbroken_holding(
    samples: list[tuple[bool, int, Nanos]], then_held: list[Nanos]
) -> None:
    """Whatever came before: 3 s of pressed samples, none farther than 200 ms from the last, without an edge."""
    button, now = ArmButton(), START
    since: Nanos | None = None
    released = False
    before = now
    for pressed, edges, step in [*samples, *((True, 0, step) for step in then_held)]:
        now += step
        asked = button.sample(pressed, edges, now)
        if not pressed:
            since, released = None, True
        elif since is None or edges or now - before > GAP:
            since = now
        expected = released and since is not None and now - since >= HOLD
        assert asked == expected
        released = released and not asked
        before = now


# The kill button alone --------------------------------------------------------------------------------------------


class Fist:
    """Samples the kill button of a box without an arm button."""

    def __init__(self, proven: bool, second: bool = False) -> None:
        self.arming, self.now, self.asked = KillButtonArming(), START, 0
        self.proven, self.has_second = proven, second

    def sample(self, closed: bool, edges: int = 0, second: bool | None = None) -> None:
        """Take one sample; a second contact does what a good one does."""
        self.now += POLL
        if self.has_second and second is None:
            second = not closed
        self.asked += self.arming.sample(closed, second, edges, self.proven, self.now)

    def press(self, seconds: float) -> None:
        """Hold the contact open for this long."""
        self.go(False, seconds)

    def free(self, seconds: float) -> None:
        """Leave it closed for this long."""
        self.go(True, seconds)

    def go(self, closed: bool, seconds: float, second: bool | None = None) -> None:
        """Take samples for this long; the first of them sees the edge."""
        for number in range(round(seconds * SECOND / POLL)):
            self.sample(closed, int(number == 0), second)


@pytest.mark.parametrize("second", [False, True], ids=["one contact", "two contacts"])
def test_five_seconds_and_letting_go_ask_once(second: bool) -> None:
    """On a box that stands proven; only when it was let go, as arming is refused while the contact is open."""
    fist = Fist(proven=True, second=second)
    fist.free(1)
    fist.press(6)
    assert (fist.asked, fist.arming.let_go()) == (0, True)
    fist.free(SETTLED / SECOND)
    assert fist.asked == 0
    fist.free(60)
    assert fist.asked == 1


def test_a_panic_press_arms_nothing() -> None:
    """Pressed on a box that runs and held for 6 s, until long after the stop is proven: nothing is asked."""
    fist = Fist(proven=False)
    fist.free(10)
    fist.press(1)
    fist.proven = True
    fist.press(6)
    fist.free(60)
    assert fist.asked == 0
    fist.press(6)
    fist.free(1)
    assert fist.asked == 1, "the next press is a wish"


def test_proven_in_the_look_of_the_press_is_too_late() -> None:
    """The box has to stand proven at a look that saw the contact closed."""
    fist = Fist(proven=False)
    fist.free(1)
    fist.proven = True
    fist.press(6)
    fist.free(1)
    assert fist.asked == 0


def test_a_button_that_was_down_at_the_start_arms_nothing() -> None:
    """Nobody saw it being pressed; a wire that was plugged in later looks the same."""
    fist = Fist(proven=True)
    fist.press(6)
    fist.free(60)
    assert fist.asked == 0


@pytest.mark.parametrize("seconds", [0.1, 2, 4.9])
def test_a_short_press_asks_nothing(seconds: float) -> None:
    """Less than 5 s is no wish to arm."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(seconds)
    fist.free(60)
    assert fist.asked == 0


def test_letting_go_late_asks_nothing() -> None:
    """A latching button that stayed down, or a plug that was out for a while, arms nothing when it is put right."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(LET_GO / SECOND + 0.1)
    assert not fist.arming.let_go()
    fist.free(60)
    assert fist.asked == 0


def test_a_press_that_outlives_the_proof_asks_nothing() -> None:
    """An order that came alive while the button was held: the box does not stand proven any more."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(3)
    fist.proven = False
    fist.press(0.1)
    fist.proven = True
    fist.press(6)
    fist.free(1)
    assert fist.asked == 0


def test_a_wire_that_is_cut_for_a_while_asks_nothing_with_two_contacts() -> None:
    """The second contact says that nobody pressed."""
    fist = Fist(proven=True, second=True)
    fist.free(1)
    fist.go(False, 6, second=False)
    fist.free(1)
    assert fist.asked == 0


def test_chatter_while_it_is_held_begins_anew() -> None:
    """Edges before the 5 s are full: it was not held."""
    fist = Fist(proven=True)
    fist.free(1)
    for _ in range(7):
        fist.press(1)
    fist.free(1)
    assert fist.asked == 0


def test_bouncing_when_it_is_let_go_is_no_new_press() -> None:
    """Open again within 20 ms of closing; it asks once the contact has been quiet."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(6)
    fist.sample(True, edges=3)
    fist.sample(False, edges=2)
    fist.sample(True, edges=1)
    assert BOUNCE >= POLL
    fist.free(1)
    assert fist.asked == 1


def test_pressed_again_before_it_settled_asks_nothing() -> None:
    """Who presses again within 300 ms wants to stop, or has a loose wire."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(6)
    fist.free(0.2)
    fist.press(1)
    fist.free(60)
    assert fist.asked == 0


def test_when_nobody_looked_a_press_is_forgotten() -> None:
    """A gap of more than 200 ms while the button is down: it may have been let go."""
    fist = Fist(proven=True)
    fist.free(1)
    fist.press(4)
    fist.now += GAP
    for _ in range(2 * SECOND // POLL):
        fist.sample(False)
    fist.free(1)
    assert fist.asked == 0


def runs(values: Iterable[tuple[bool, bool, Nanos]]) -> str:
    """Return one letter for each sample: P proven and closed, o proven and open, x not proven."""
    return "".join("x" if not proven else "P" if closed else "o" for closed, proven, _ in values)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([True, True, True, False]), st.integers(1, 200)),
        min_size=1,
        max_size=40,
    )
)
def test_it_never_asks_without_a_whole_press_on_a_proven_box(stretches: list[tuple[bool, bool, int]]) -> None:
    """Behind every asking: proven and closed, proven and open for 5 to 10 s, proven and closed for 300 ms."""
    fist = Fist(proven=False)
    samples: list[tuple[bool, bool, Nanos]] = []
    for closed, proven, length in stretches:
        for _ in range(length * 2):
            fist.proven = proven
            asked = fist.asked
            fist.sample(closed)
            samples.append((closed, proven, fist.now))
            if fist.asked > asked:
                seen = runs(samples)
                let_go = seen.rstrip("P")
                quiet, held = len(seen) - len(let_go), len(let_go) - len(let_go.rstrip("o"))
                if held * POLL <= BOUNCE:
                    # Bouncing after it was let go.
                    let_go = let_go.rstrip("o").rstrip("P")
                    held = len(let_go) - len(let_go.rstrip("o"))
                assert (quiet - 1) * POLL >= SETTLED
                assert KILL_HOLD <= (held - 1) * POLL <= LET_GO
                assert let_go.rstrip("o").endswith("P")


@given(st.integers(KILL_HOLD // POLL + 1, LET_GO // POLL + 1), st.integers(1, 10))
def test_every_whole_press_asks(held: int, before: int) -> None:
    """From 5 s on and up to 10 s, however short it was closed before."""
    fist = Fist(proven=True)
    for closed, length in ((True, before), (False, held), (True, 40)):
        for _ in range(length):
            fist.sample(closed)
    assert fist.asked == 1
