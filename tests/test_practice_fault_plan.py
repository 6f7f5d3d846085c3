"""mmpi.practice.hyperliquid.fault_plan: what becomes of which message, request and socket, and when."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.practice.hyperliquid.fault_plan import AS_SENT, UNTOUCHED, FaultPlan, SocketFaults
from mmpi.practice.hyperliquid.faults import CHANNELS, KINDS, RANDOM, read_faults

START = 1000.0
EVERYTHING = tuple(name for name in KINDS if name != RANDOM)


def plan(*texts: str, seed: int = 1, start: float = START) -> FaultPlan:
    """Return a plan of faults as they are written."""
    return FaultPlan(read_faults(texts), seed, start)


def socket(*texts: str, seed: int = 1, number: int = 1, now: float = START) -> SocketFaults:
    """Return the faults of a socket that opens now."""
    return plan(*texts, seed=seed).socket(number, now)


def fired(made: FaultPlan) -> list[int]:
    """Return how often each fault has struck."""
    return [count for _, count in made.fired()]


def times(seconds: float, step: float = 0.01) -> list[float]:
    """Return moments from the start on."""
    return [START + i * step for i in range(round(seconds / step))]


# Messages ---------------------------------------------------------------------------------------------------------


def test_without_faults_nothing_is_touched() -> None:
    """An empty plan lets everything pass, the very same object each time."""
    made = plan()
    line = made.socket(1, START)
    assert line.fate("l2Book", START) is UNTOUCHED
    assert not line.cut(START + 1e6) and not line.deaf(START + 1e6)
    assert made.action("order", START) is AS_SENT
    assert (made.error(START), made.skew_s(START), made.refuses_socket(START)) == ((0, False), 0, False)


def test_drop_loses_about_as_many_as_it_says() -> None:
    """Of 10,000 books about a twentieth is lost; fills, and the greeting, never."""
    made = plan("drop")
    line = made.socket(1, START)
    lost = sum(line.fate("l2Book", START).lost for _ in range(10_000))
    assert 400 < lost < 600
    assert fired(made) == [lost]
    assert not any(line.fate(channel, START).lost for channel in ("orderUpdates", "userFills", "user", "post", ""))


def test_drop_loses_fills_where_it_is_asked_to() -> None:
    """`channels` names what is lost instead."""
    line = socket("drop:p=1,channels=orderUpdates")
    assert line.fate("orderUpdates", START).lost
    assert not line.fate("l2Book", START).lost


def test_the_other_fates_of_a_message() -> None:
    """delay, duplicate and reorder strike any channel but the greeting's, together if several do."""
    line = socket("delay:p=1,ms=250", "duplicate:p=1", "reorder:p=1")
    fate = line.fate("userFills", START)
    assert (fate.lost, fate.late_s, fate.twice, fate.swapped) == (False, 0.25, True, True)
    assert line.fate("", START) is UNTOUCHED


def test_a_hole_is_a_run_of_books() -> None:
    """From its moment on the next n books of the socket are lost, one after the other, and nothing else."""
    made = plan("hole:at=2,n=3")
    line = made.socket(1, START)
    before = line.fate("l2Book", START + 1.9)
    inside = [line.fate(channel, START + 2.0 + i) for i, channel in enumerate(("l2Book", "trades", "l2Book", "l2Book"))]
    after = line.fate("l2Book", START + 9.0)
    assert [before.lost, *(each.lost for each in inside), after.lost] == [False, True, False, True, True, False]
    assert fired(made) == [3]


def test_stale_books_stop_for_every_socket_at_once() -> None:
    """In its windows no socket gets a book, however it is numbered, and everything else goes on."""
    made = plan("stale_book:every=20,for=5")
    lines = [made.socket(number, START) for number in (1, 2)]
    for now in times(200, 0.5):
        first, second = (line.fate("l2Book", now).lost for line in lines)
        assert first == second
        assert not lines[0].fate("bbo", now).lost
    assert sum(fired(made)) > 0


# Sockets ----------------------------------------------------------------------------------------------------------


def test_a_socket_is_cut_every_so_often() -> None:
    """Over an hour the moments come every ten seconds on average, never less than five apart."""
    line = socket("disconnect:every=10")
    cuts = [now for now in times(3600, 0.02) if line.cut(now)]
    gaps = [b - a for a, b in pairwise(cuts)]
    assert 9.0 < sum(gaps) / len(gaps) < 11.0
    assert min(gaps) > 4.9 and max(gaps) < 15.1


def test_a_new_socket_begins_a_new_schedule() -> None:
    """A socket that opens late is not cut for moments that were before it."""
    made = plan("disconnect:every=10", "disconnect:at=50")
    line = made.socket(7, START + 100)
    assert not line.cut(START + 104.9)
    assert line.cut(START + 115.1)


def test_a_moment_counts_from_the_plan() -> None:
    """`at` cuts whoever is connected then, once."""
    made = plan("disconnect:at=5")
    early, late = made.socket(1, START), made.socket(2, START + 3)
    assert [line.cut(START + 4.9) for line in (early, late)] == [False, False]
    assert [line.cut(START + 5.0) for line in (early, late)] == [True, True]
    assert [line.cut(START + 60.0) for line in (early, late)] == [False, False]
    assert fired(made) == [2]


def test_sockets_are_deaf_in_windows_of_their_own() -> None:
    """Each socket has its own windows of the length that was asked for, counted once each."""
    made = plan("half_open:every=20,for=4")
    lines = [made.socket(number, START) for number in (1, 2)]
    deaf = [[line.deaf(now) for now in times(400, 0.1)] for line in lines]
    assert deaf[0] != deaf[1]
    for each in deaf:
        assert 0.15 < sum(each) / len(each) < 0.25
    windows = sum(not a and b for each in deaf for a, b in pairwise(each))
    assert fired(made) == [windows]


def test_until_ends_it() -> None:
    """After `until` nothing strikes any more, whatever it is, and an open window closes."""
    made = plan(*(f"{name}:until=30" for name in EVERYTHING), "half_open:at=25,for=10,until=30")
    line = made.socket(1, START + 29)
    assert made.skew_s(START + 29.9) == 90.0
    after = START + 30.0
    for now in (after, after + 5, after + 500):
        assert all(line.fate(channel, now) is UNTOUCHED for channel in CHANNELS)
        assert not line.cut(now) and not line.deaf(now)
        assert made.action("order", now) is AS_SENT
        assert (made.error(now), made.skew_s(now), made.refuses_socket(now)) == ((0, False), 0, False)


# Requests ---------------------------------------------------------------------------------------------------------


def test_requests_are_refused_by_status() -> None:
    """http_429 and http_5xx refuse with their status; only http_5xx may have done the action first."""
    assert plan("http_429:p=1").error(START) == (429, False)
    assert plan("http_5xx:p=1").error(START) == (502, False)
    assert plan("http_5xx:p=1,status=503,executed=1").error(START) == (503, True)


def test_requests_are_refused_in_windows() -> None:
    """With every and for all are refused within a window and none outside."""
    made = plan("http_429:at=10,for=3")
    answers = [made.error(START + second)[0] for second in (9.9, 10.0, 12.9, 13.0, 50.0)]
    assert answers == [0, 429, 429, 0, 0]


@pytest.mark.parametrize(
    ("fault", "struck"),
    [
        ("place_lost:p=1", {"order", "modify", "batchModify"}),
        ("cancel_lost:p=1", {"cancel", "cancelByCloid"}),
    ],
)
def test_actions_are_lost_by_their_type(fault: str, struck: set[str]) -> None:
    """Only the actions of its kind never reach the venue; scheduleCancel and the others always do."""
    kinds = ("order", "modify", "batchModify", "cancel", "cancelByCloid", "scheduleCancel", "updateLeverage", "")
    assert {kind for kind in kinds if plan(fault).action(kind, START).lost} == struck


def test_an_action_may_be_late_or_unanswered() -> None:
    """late says by how much, ack_lost that nobody hears of it."""
    assert plan("late:p=1,ms=1500").action("order", START).late_s == 1.5
    assert plan("ack_lost:p=1").action("noop", START).unanswered


def test_new_sockets_are_refused_in_windows() -> None:
    """refuse_ws counts the connections that it refuses."""
    made = plan("refuse_ws:at=5,for=2")
    assert [made.refuses_socket(START + second) for second in (4.9, 5.0, 6.0, 7.0)] == [False, True, True, False]
    assert fired(made) == [2]


def test_clocks_add_up() -> None:
    """Several skews in force are one offset; a skew with windows comes and goes."""
    made = plan("clock_skew:s=-2", "clock_skew:s=5,at=10,for=1")
    assert [made.skew_s(START + second) for second in (0, 10, 11)] == [-2, 3, -2]
    assert fired(made) == [1, 1]


# Seeds ------------------------------------------------------------------------------------------------------------


def story(made: FaultPlan) -> list[object]:
    """Return every fate of some traffic at some times."""
    told: list[object] = []
    lines = [made.socket(number, START) for number in range(1, 4)]
    for i, now in enumerate(times(120, 0.2)):
        line = lines[i % 3]
        told += [line.fate(CHANNELS[i % len(CHANNELS)], now), line.cut(now), line.deaf(now), made.error(now)]
        told += [made.action(("order", "cancel")[i % 2], now), made.refuses_socket(now), made.skew_s(now)]
    return [*told, made.fired()]


@pytest.mark.parametrize("texts", [EVERYTHING, ("random",), ("random:seed=3,until=60",)])
def test_the_same_seed_and_traffic_have_the_same_fate(texts: tuple[str, ...]) -> None:
    """Twice the same seed is twice the same story, another seed another one."""
    assert story(plan(*texts, seed=5)) == story(plan(*texts, seed=5))
    assert story(plan(*texts, seed=5)) != story(plan(*texts, seed=6))


def test_random_is_spelt_out() -> None:
    """`random` shows every fault that it stands for; with a seed of its own the plan's seed does not choose them."""
    texts = [text for text, _ in plan("random:seed=3", seed=1).fired()]
    assert [text.partition(":")[0] for text in texts] == list(EVERYTHING)
    assert texts == [text for text, _ in plan("random:seed=3", seed=2).fired()]
    assert texts != [text for text, _ in plan("random", seed=4).fired()]


@given(
    more=st.sampled_from([name for name in EVERYTHING if name != "ack_lost"]),
    first=st.booleans(),
    kinds=st.lists(st.sampled_from(["order", "cancel", "noop"]), min_size=1, max_size=60),
)
def test_one_more_fault_changes_nothing_for_the_others(more: str, first: bool, kinds: list[str]) -> None:
    """Whichever fault stands beside it, ack_lost strikes the same actions."""
    alone = plan("ack_lost:p=0.3")
    beside = plan(*((more, "ack_lost:p=0.3") if first else ("ack_lost:p=0.3", more)))
    for kind in kinds:
        beside.error(START)
        assert alone.action(kind, START).unanswered == beside.action(kind, START).unanswered


def test_twins_have_dice_of_their_own() -> None:
    """The same fault twice strikes twice as often, not twice at once."""
    made = plan("ack_lost:p=0.5", "ack_lost:p=0.5")
    struck = sum(made.action("noop", START).unanswered for _ in range(1000))
    assert 700 < struck < 800
