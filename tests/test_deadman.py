"""DeadMan: what it asks for and when, what it believes, and that it never asks for a time that is past."""

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.deadman import (
    AHEAD,
    ARMED,
    DAY,
    PATIENCE,
    PAUSE,
    REFRESH,
    RETRY,
    STRETCHED,
    UNARMED,
    UNSUPPORTED,
    DeadMan,
    DeadManState,
)
from mmpi.events import DeadManReport, ExecType
from mmpi.instrument import MILLISECOND, SECOND

T0 = 20_000 * DAY + 3600 * SECOND
"""An hour after midnight, UTC."""
GATE = "Cannot set scheduled cancel time until enough volume traded"
NEW, REJECTED, LOST = ExecType.NEW, ExecType.REJECTED, ExecType.LOST


def answer(switch: DeadMan, now: int, what: ExecType = NEW, until: int = -1, reason: str = "") -> None:
    """Give the venue's answer, without `until` to a request made just now."""
    switch.answered(DeadManReport(now, "sim", now + AHEAD if until < 0 else until, what, reason))


def ask(switch: DeadMan, now: int, *, wanted: bool = True, idle: bool = False, refresh: int = REFRESH) -> int:
    """Let it step."""
    return switch.step(now, wanted, idle, refresh)


def armed(now: int = T0) -> DeadMan:
    """Return a switch that was asked for and set at `now`."""
    made = DeadMan(True)
    assert ask(made, now) == now + AHEAD
    answer(made, now)
    return made


# Asking -----------------------------------------------------------------------------------------------------------


def test_it_is_asked_for_at_once_and_set_by_the_answer_alone() -> None:
    """I5: asked, it is not set; the venue's word sets it, up to the time that was asked for."""
    switch = DeadMan(True)
    assert (switch.text(T0), switch.permits(T0)) == (UNARMED, False)
    assert ask(switch, T0) == T0 + AHEAD
    assert (switch.covers(T0), switch.permits(T0)) == (False, False)
    answer(switch, T0 + 80 * MILLISECOND, until=T0 + AHEAD)
    assert (switch.text(T0 + SECOND), switch.permits(T0 + SECOND)) == (ARMED, True)
    assert (switch.covers(T0 + AHEAD - 1), switch.covers(T0 + AHEAD)) == (True, False)


@pytest.mark.parametrize("refresh", [REFRESH, STRETCHED])
def test_it_is_refreshed_at_the_interval_not_earlier(refresh: int) -> None:
    """Every 2 s, or every 4 s where the budget says so, each time 8 s ahead."""
    switch, now = DeadMan(True), T0
    for _ in range(5):
        assert ask(switch, now, refresh=refresh) == now + AHEAD
        answer(switch, now + 1)
        assert ask(switch, now + refresh - 1, refresh=refresh) == -1
        now += refresh
        assert switch.covers(now)


@pytest.mark.parametrize("refresh", [REFRESH, STRETCHED])
def test_a_refresh_without_an_answer_is_made_again(refresh: int) -> None:
    """One that got lost is repeated after the patience, so that even the stretched refresh does not let it fire."""
    switch = DeadMan(True)
    ask(switch, T0, refresh=refresh)
    answer(switch, T0)
    assert ask(switch, T0 + refresh, refresh=refresh) > 0
    late = T0 + refresh + PATIENCE
    assert ask(switch, late - 1, refresh=refresh) == -1
    assert ask(switch, late, refresh=refresh) == late + AHEAD
    assert switch.covers(late + 1000 * MILLISECOND), "no time is left for the answer"


def test_a_lost_answer_is_asked_for_soon_but_not_at_once() -> None:
    """LOST, of a request to set it and of one to clear it: again after half a second, else the loop would spin."""
    switch = armed()
    now = T0 + REFRESH
    ask(switch, now)
    answer(switch, now, LOST, now + AHEAD)
    assert ask(switch, now) == -1
    assert ask(switch, now + PAUSE - 1) == -1
    assert ask(switch, now + PAUSE) > 0
    answer(switch, now + PAUSE)
    now += SECOND
    for _ in range(3):
        assert ask(switch, now, wanted=False, idle=True) == 0
        answer(switch, now, LOST, 0)
        assert ask(switch, now, wanted=False, idle=True) == -1
        now += PAUSE


# Refusals ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_shown_permits_and_is_retried_hourly() -> None:
    """REFUSED(the venue's words): quoting goes on without it; the next request comes an hour later."""
    switch = DeadMan(True)
    ask(switch, T0)
    answer(switch, T0, REJECTED, reason=GATE)
    assert (switch.text(T0), switch.permits(T0), switch.covers(T0)) == (f"REFUSED({GATE})", True, False)
    assert ask(switch, T0 + RETRY - 1) == -1
    assert ask(switch, T0 + RETRY) == T0 + RETRY + AHEAD
    answer(switch, T0 + RETRY)
    assert switch.text(T0 + RETRY) == ARMED


def test_a_refused_refresh_leaves_what_was_set() -> None:
    """What the venue has confirmed stays set until its time, and then it is refused."""
    switch = armed()
    ask(switch, T0 + REFRESH)
    answer(switch, T0 + REFRESH, REJECTED, reason=GATE)
    assert switch.text(T0 + AHEAD - 1) == ARMED
    assert switch.text(T0 + AHEAD) == f"REFUSED({GATE})"
    assert switch.wake(T0 + AHEAD, True, False) == T0 + REFRESH + RETRY


def test_clearing_does_not_end_a_refusal() -> None:
    """Cleared after a refused refresh: it is still refused, so quoting need not wait for the next hour."""
    switch = armed()
    ask(switch, T0 + REFRESH)
    answer(switch, T0 + REFRESH, REJECTED, reason=GATE)
    assert ask(switch, T0 + 3 * SECOND, wanted=False, idle=True) == 0
    answer(switch, T0 + 3 * SECOND, NEW, 0)
    assert switch.permits(T0 + 4 * SECOND)
    assert ask(switch, T0 + 4 * SECOND) == -1
    assert ask(switch, T0 + REFRESH + RETRY) > 0


def test_a_refused_clearing_is_no_refusal_of_the_switch() -> None:
    """The venue will not clear it: that says nothing about setting it, and it is not asked without a pause."""
    switch = armed()
    assert ask(switch, T0 + SECOND, wanted=False, idle=True) == 0
    answer(switch, T0 + SECOND, REJECTED, 0, "no")
    assert ask(switch, T0 + SECOND, wanted=False, idle=True) == -1
    assert (switch.refused, switch.text(T0 + AHEAD)) == ("", UNARMED)
    assert not switch.permits(T0 + AHEAD)


def test_a_refusal_without_words_is_one() -> None:
    """It must not look like a switch that was never asked for."""
    switch = DeadMan(True)
    ask(switch, T0)
    answer(switch, T0, REJECTED)
    assert switch.text(T0).startswith("REFUSED(")
    assert switch.permits(T0)


# Clearing and losing ----------------------------------------------------------------------------------------------


def test_it_is_cleared_once_nothing_is_live() -> None:
    """Not wanted, orders still live: left to fire. None live: cleared, once; wanted again: set again at once."""
    switch = armed()
    assert ask(switch, T0 + SECOND, wanted=False, idle=False) == -1
    assert ask(switch, T0 + SECOND, wanted=False, idle=True) == 0
    assert ask(switch, T0 + SECOND, wanted=False, idle=True) == -1
    answer(switch, T0 + SECOND, NEW, 0)
    assert (switch.covers(T0 + SECOND), switch.wake(T0 + SECOND, False, True)) == (False, 0)
    assert ask(switch, T0 + 3 * SECOND, wanted=False, idle=True) == -1
    assert ask(switch, T0 + SECOND + 1, wanted=True) == T0 + SECOND + 1 + AHEAD


def test_one_that_ran_out_is_not_cleared() -> None:
    """What has fired already costs no request."""
    switch = armed()
    assert ask(switch, T0 + AHEAD, wanted=False, idle=True) == -1
    assert switch.wake(T0 + AHEAD, False, True) == 0


def test_after_a_lost_connection_it_is_asked_anew() -> None:
    """Its time, by the venue's word, still stands; a refusal does not, nor does a request in flight."""
    switch = armed()
    ask(switch, T0 + REFRESH)
    switch.lost()
    assert switch.covers(T0 + 3 * SECOND)
    assert ask(switch, T0 + 3 * SECOND) > 0
    answer(switch, T0 + 3 * SECOND, REJECTED, reason=GATE)
    switch.lost()
    assert (switch.refused, switch.permits(T0 + AHEAD)) == ("", False)
    assert ask(switch, T0 + AHEAD) > 0


def test_a_venue_without_one_is_told_apart() -> None:
    """UNSUPPORTED: never asked for, never waited for, never woken for."""
    switch = DeadMan(False)
    assert (switch.text(T0), switch.permits(T0), switch.covers(T0)) == (UNSUPPORTED, True, False)
    assert (ask(switch, T0), switch.wake(T0, True, False)) == (-1, 0)


# Firing -----------------------------------------------------------------------------------------------------------


def test_a_firing_counts_once_for_all_its_orders() -> None:
    """Ten orders go by one firing; their reports come one by one, some of them late, and one more by a question."""
    switch = armed()
    fired = T0 + AHEAD
    for n in range(10):
        switch.fired(fired + n * MILLISECOND, fired)
    switch.fired(fired + 6 * SECOND, fired)
    assert switch.firings == 1
    assert not switch.permits(fired + SECOND)


def test_a_firing_that_was_due_makes_it_ask_at_once() -> None:
    """It is spent: nothing covers until the venue has set it anew, and that is asked for in the same moment."""
    switch = armed()
    ask(switch, T0 + REFRESH)
    answer(switch, T0 + REFRESH, LOST)
    switch.fired(T0 + AHEAD, T0 + AHEAD)
    assert ask(switch, T0 + AHEAD) == T0 + 2 * AHEAD


def test_a_firing_with_a_request_in_flight_asks_no_second_time() -> None:
    """Its answer is waited for, and is enough: the next request is a refresh."""
    switch = armed()
    late = T0 + AHEAD - SECOND
    assert ask(switch, late) > 0
    switch.fired(T0 + AHEAD, T0 + AHEAD)
    assert ask(switch, T0 + AHEAD) == -1
    answer(switch, T0 + AHEAD, NEW, late + AHEAD)
    assert ask(switch, T0 + AHEAD) == -1
    assert ask(switch, late + REFRESH) > 0


def test_a_late_word_of_a_firing_leaves_the_next_switch_set() -> None:
    """Set again meanwhile: an order that is only now known to have gone by the old one changes nothing."""
    switch = armed()
    switch.fired(T0 + AHEAD, T0 + AHEAD)
    ask(switch, T0 + AHEAD)
    answer(switch, T0 + AHEAD)
    switch.fired(T0 + AHEAD + SECOND, T0 + AHEAD)
    assert (switch.firings, switch.text(T0 + AHEAD + SECOND)) == (1, ARMED)


def test_firings_are_counted_by_day() -> None:
    """Hyperliquid allows ten from midnight to midnight, UTC: each firing counts, and the count begins anew each day."""
    switch, now = DeadMan(True), T0
    for n in range(3):
        ask(switch, now)
        answer(switch, now)
        now += AHEAD
        switch.fired(now, now)
        assert switch.firings == n + 1
        now += SECOND
    tomorrow = T0 // DAY * DAY + DAY
    switch.fired(tomorrow, tomorrow)
    assert switch.firings == 1
    assert switch.firings_on(tomorrow + DAY) == 0, "yesterday's are shown as today's"


# Whatever happens -------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """One moment: how long after the last, what the venue answers, and how things stand."""

    wait: int
    what: str
    wanted: bool
    idle: bool


_WAITS = [0, 1, 100 * MILLISECOND, 500 * MILLISECOND, PATIENCE, REFRESH, STRETCHED, AHEAD, RETRY]
turns = st.builds(
    Turn,
    st.sampled_from(_WAITS),
    st.sampled_from(["set", "set", "set", "refused", "lost", "silence", "cut", "fired"]),
    st.sampled_from([True, True, True, False]),
    st.booleans(),
)


def twin_of(switch: DeadMan) -> DeadMan:
    """Return another one in the same state, by way of the journal's bytes."""
    made = DeadMan(switch.supported)
    made.restore(msgspec.json.decode(msgspec.json.encode(switch.checkpoint()), type=DeadManState))
    assert made.checkpoint() == switch.checkpoint()
    return made


class Record:
    """A switch, the venue's truth about it, and the requests made so far."""

    def __init__(self) -> None:
        self.switch = DeadMan(True)
        self.confirmed = 0
        self.asked = -1
        self.asked_ts = 0
        self.in_flight = False
        self.gap = 0
        """How far from the last request one of its kind must be."""

    def step(self, now: int, turn: Turn) -> None:
        """Step, and check what was asked; then that nothing would be asked before the time it wants to be woken."""
        switch, wanted, idle = self.switch, turn.wanted, turn.idle
        time = twin_of(switch).step(now, wanted, idle, REFRESH)
        assert switch.step(now, wanted, idle, REFRESH) == time, "a restored switch asks for something else"
        assert time in ((now + AHEAD, -1) if wanted else (0, -1))
        if time >= 0:
            assert now - self.asked_ts >= self.gap or (time > 0) != (self.asked > 0)
            self.asked, self.asked_ts, self.gap, self.in_flight = time, now, PATIENCE, True
        wake = switch.wake(now, wanted, idle)
        assert wake == 0 or wake > now, "it asks for a time that is past"
        assert wake or not wanted, "wanted, and never looked at again"
        if wanted and switch.covers(now) and not switch.refused:
            assert wake <= now + STRETCHED, "set, and let run out"
        for before in {wake - 1, (now + wake) // 2} if wake else {now + 2 * RETRY}:
            if before > now:
                assert twin_of(switch).step(before, wanted, idle, REFRESH) == -1
                assert not wanted or switch.covers(before) == switch.covers(now)

    def answer(self, now: int, what: str) -> None:
        """Let the venue say something about the last request."""
        if what == "cut":
            self.switch.lost()
            self.gap, self.in_flight = 0, False
        elif what == "fired":
            self.switch.fired(now, now)
            if self.confirmed <= now + REFRESH:
                self.confirmed, self.gap = 0, self.gap if self.in_flight else 0
        elif self.asked >= 0 and what != "silence":
            outcome = {"set": NEW, "refused": REJECTED, "lost": LOST}[what]
            answer(self.switch, now, outcome, self.asked, "no")
            if outcome is NEW:
                self.confirmed = self.asked
            self.in_flight = False
            self.gap = 0 if outcome is NEW and self.gap == 0 else min(self.gap, PAUSE)
        assert self.switch.until == self.confirmed, "it believes what the venue did not say"


@given(st.lists(turns, max_size=40))
def test_it_asks_when_it_must_and_never_twice_at_once(script: list[Turn]) -> None:
    """I5, I10: whatever the venue answers: only its word covers, no request repeats at once, no wake-up is past."""
    record, now = Record(), T0
    for turn in script:
        now += turn.wait
        record.step(now, turn)
        record.answer(now, turn.what)
        record.step(now, turn)


@given(st.lists(st.sampled_from(["set", "set", "set", "silence", "lost"]), max_size=30), st.booleans())
def test_a_switch_that_is_refreshed_at_its_wakes_lapses_only_after_several_losses(
    answers: list[str], stretched: bool
) -> None:
    """One answer lost, or none for one request: never a firing; it takes two in a row at the least."""
    switch, now, refresh = DeadMan(True), T0, STRETCHED if stretched else REFRESH
    ask(switch, now, refresh=refresh)
    answer(switch, now)
    losses = 0
    for what in answers:
        now = switch.wake(now, True, False)
        if not switch.covers(now):
            assert losses >= 2
        if ask(switch, now, refresh=refresh) > 0:
            if what == "set":
                answer(switch, now)
                losses = 0
            else:
                losses += 1
                if what == "lost":
                    answer(switch, now, LOST)
