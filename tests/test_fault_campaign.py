"""The fault campaign: its judge, planted failure by planted failure, its report, and a few seeds of it for real.

The seeds in MMPI_FAULT_SEEDS are played for MMPI_FAULT_SECONDS each (default: 1, 2, 3 and 7, 40 s: about 70 s in all);
`python -m tests.fault_campaign` plays twenty.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from engine_builders import PREFIX, VENUE, Bench
from fault_box import plan_of
from fault_campaign import FAIL, NOT_RUN, PASS, Campaign, Report, Result, begin, closing, seeds_of, table, write
from fault_journal import Course, Item, Story, follow, items, tell
from fault_judge import (
    CONFIRM,
    RULES,
    Evidence,
    Fill,
    Live,
    Look,
    Placed,
    exit_is_right,
    fills_are_booked_once,
    guardian_verified,
    ids_are_single,
    it_worked,
    journal_came_first,
    journal_replays,
    judge,
    money_agrees,
    nothing_is_left,
    nothing_is_odd,
    nothing_was_forbidden,
    nothing_was_forgotten,
    positions_agree,
    sides_are_within_limits,
    slots_are_single,
)
from journals import largest_file, snapshot, writer

from mmpi import events
from mmpi.actions import (
    Action,
    AmendOrder,
    Approved,
    NewOrder,
    RequestLatch,
    RequestReconcile,
    TimeInForce,
)
from mmpi.engines import checkpoint
from mmpi.errors import ConfigError
from mmpi.events import DeadManReport, Event, ExecReport, ExecType
from mmpi.instrument import BUY, MILLISECOND, SECOND, Nanos
from mmpi.practice.hyperliquid.faults import read_faults
from mmpi.sim.market import GENERATED

T: Nanos = 1_800_000_000 * SECOND
BTC = GENERATED["BTC"]


def cloid(number: int) -> str:
    """Return the id of the run's order of that number."""
    return f"{PREFIX}{number:016x}"


# What a journal tells -----------------------------------------------------------------------------------------------


def new(number: int, ts: Nanos, tif: TimeInForce = TimeInForce.POST_ONLY) -> Approved:
    """Return a placing of an order."""
    return Approved(ts, NewOrder("BTC", cloid(number), BUY, 999_000, 100, 0, tif))


def amend(number: int, replaced: int, ts: Nanos) -> Approved:
    """Return a placing of an order in another's stead."""
    return Approved(ts, AmendOrder("BTC", cloid(replaced), "7", cloid(number), BUY, 998_000, 100, 0))


def trade(ts: Nanos, tid: int, number: int) -> ExecReport:
    """Return a fill as the engine is told it: 0.001 BTC bought at 99900, for a fee of 0.00015."""
    fee = 150_000_000
    return ExecReport(ts, "BTC", ts, cloid(number), "7", ExecType.TRADE, BUY, 999_000, 100, fee, True, str(tid))


def opening(ts: Nanos = T) -> list[Item]:
    """Return how a run begins, up to where it may quote."""
    return [
        events.Connected(ts, "v"),
        DeadManReport(ts + 1, "v", ts + 100 * SECOND, ExecType.NEW),
        events.Reconciled(ts + 2, "v", (), ()),
    ]


LATER = T + SECOND
GONE = events.Disconnected(LATER, "v", "cut")
BACK = events.Connected(LATER + 1, "v")
HALT, GO = events.Halted(LATER, False, "venue_session"), events.Resumed(LATER + 1)
AGREED = events.Reconciled(LATER + 2, "v", (), ())
ASK_AGAIN = Approved(LATER + 2, RequestReconcile("position"))


@pytest.mark.parametrize(
    ("since", "why"),
    [
        ([GONE], "disconnected"),
        ([GONE, BACK], "not reconciled"),
        ([GONE, AGREED], "disconnected"),
        ([GONE, BACK, AGREED, ASK_AGAIN], "not reconciled"),
        ([HALT], "halted (venue_session)"),
        ([HALT, AGREED], "halted (venue_session)"),
        ([HALT, GO], "not reconciled"),
        ([events.Stopping(LATER, "asked")], "stopping"),
        ([events.Stopping(LATER, "asked"), GONE, BACK, AGREED], "stopping"),
        ([events.ClockTrust(LATER, False, "2 s ahead")], "the clock is not trusted (2 s ahead)"),
        ([events.StorageTrust(LATER, "disk full")], "what must be kept cannot be (disk full)"),
        ([events.VenueFault(LATER, "v", "", "no agent")], "the venue refuses everything (no agent)"),
        ([events.Timer(LATER), Approved(LATER, RequestLatch("drawdown"))], "a latch was asked for (drawdown)"),
        ([DeadManReport(LATER, "v", 0, ExecType.NEW)], "no dead-man switch is set"),
        ([DeadManReport(LATER, "v", LATER + 5, ExecType.NEW)], "no dead-man switch is set"),
        ([DeadManReport(LATER, "v", LATER + 5, ExecType.NEW), GONE, BACK, AGREED], "no dead-man switch is set"),
    ],
)
def test_what_is_placed_when_nothing_may_be_is_found(since: list[Item], why: str) -> None:
    """Each state in which nothing may be placed, and an order in it: found, with the reason."""
    ts = LATER + 10
    for order in (new(2, ts), amend(2, 1, ts)):
        story = tell([*opening(), events.Timer(T + 3), new(1, T + 3), *since, events.Timer(ts), order])
        assert story.forbidden == [f"{cloid(2)} at {ts}: {why}"]
        assert list(story.placed) == [cloid(1), cloid(2)]


@pytest.mark.parametrize(
    "since",
    [
        [GONE, BACK, AGREED],
        [HALT, GO, AGREED],
        [events.ClockTrust(LATER, False, "2 s ahead"), events.ClockTrust(LATER + 1, True)],
        [events.StorageTrust(LATER, "disk full"), events.StorageTrust(LATER + 1, "")],
        [events.VenueFault(LATER, "v", "ETH", "this market is delisted")],
        [DeadManReport(LATER, "v", 0, ExecType.NEW), DeadManReport(LATER + 1, "v", 0, ExecType.REJECTED, "gate")],
        [events.Timer(LATER), Approved(LATER, RequestLatch("drawdown")), HALT, GO, AGREED],
        [GONE, BACK, AGREED, ASK_AGAIN, events.Reconciled(LATER + 3, "v", (), ())],
    ],
)
def test_what_is_placed_when_it_may_be_is_no_fault(since: list[Item]) -> None:
    """The same states, over again: nothing is found."""
    assert tell([*opening(), *since, events.Timer(LATER + 10), new(1, LATER + 10)]).forbidden == []


def test_nothing_may_be_placed_before_the_dead_man_report() -> None:
    """Connected and reconciled are not enough."""
    begun = opening()
    assert tell([begun[0], begun[2], new(1, T + 2)]).forbidden == [f"{cloid(1)} at {T + 2}: no dead-man switch is set"]


def test_strange_orders_are_found() -> None:
    """An id sent twice, an amend of an order that never was, an order that could take, a fill told twice."""
    at = T + 5
    filled = trade(at, 9, 1)
    story = tell(
        [*opening(), events.Timer(at), new(1, at), new(1, at), amend(3, 2, at), new(4, at, TimeInForce.GTC), filled,
         filled]
    )  # fmt: skip
    assert story.again == [cloid(1)]
    assert story.forbidden == [
        f"{cloid(3)} at {at}: replaces {cloid(2)}, which was never placed",
        f"{cloid(4)} at {at}: gtc instead of post only",
    ]
    assert (list(story.trades), story.retold) == (["9"], ["9"])


def test_a_story_measures_how_long_nothing_might_be_placed() -> None:
    """From the cut to the reconciliation; neither the start nor the stop is a wait."""
    cut, back = T + 10 * SECOND, T + 13 * SECOND
    story = tell(
        [
            *opening(),
            events.Disconnected(cut, "v", "cut"),
            events.Connected(back - SECOND, "v"),
            events.Reconciled(back, "v", (), ()),
            events.Stopping(back + SECOND, "asked"),
            events.Timer(back + 60 * SECOND),
        ]
    )
    assert story.waited_ms == 3000
    assert story.allowed_ms == pytest.approx(11_000, abs=0.001)
    assert (story.begin, story.end, story.counts["Disconnected"]) == (T, back + 60 * SECOND, 1)


class Taped(Bench):
    """A bench whose engine's journal is kept."""

    def __init__(self) -> None:
        super().__init__(upkeep=VENUE)
        self.tape: list[Item] = [checkpoint(self.engine, "digest")]

    def feed(self, event: Event) -> list[Action]:
        """Handle an event, and write it down."""
        self.tape.append(event)
        actions = super().feed(event)
        self.tape += [Approved(event.recv_ts, action) for action in actions]
        return actions


def taped() -> tuple[Taped, list[NewOrder]]:
    """Return an engine that has just placed its first ladder, and what it placed."""
    bench = Taped()
    bench.connect()
    bench.switch()
    bench.book()
    placed = [action for action in bench.reconcile() if isinstance(action, NewOrder)]
    assert len(placed) == 4
    return bench, placed


def test_a_course_knows_what_the_engine_took_for_live() -> None:
    """Unknown before it is sent, then live at its level, and ended from the venue's word on."""
    bench, placed = taped()
    sent, name = bench.now, placed[0].cl_ord_id
    bench.after(1).tell(name, ExecType.REJECTED)
    course = follow(bench.tape)
    assert course.at(name, sent - 1) == (False, None)
    assert course.at(name, sent) == course.at(name, bench.now - 1) == (True, placed[0].level)
    assert course.at(name, bench.now) == (True, None)
    assert set(course.crowds.values()) == {1}
    assert follow([*bench.tape, *bench.tape[:1]]).changes == course.changes, "later checkpoints start nothing anew"


def test_a_course_measures_doubt() -> None:
    """From the loss of an answer to the venue's word."""
    bench, placed = taped()
    for order in placed:
        bench.tell(order.cl_ord_id, ExecType.NEW)
    bench.after(1).tell(placed[0].cl_ord_id, ExecType.LOST)
    bench.after(2).tell(placed[0].cl_ord_id, ExecType.NEW)
    assert follow(bench.tape).doubt_ms == 2000


def test_a_course_needs_a_checkpoint() -> None:
    """Without the engine's state at the beginning nothing can be followed."""
    with pytest.raises(ValueError, match="without a checkpoint"):
        follow(opening())


def test_a_journal_whose_beginning_is_gone_is_no_evidence(tmp_path: Path) -> None:
    """The oldest segments were deleted: what they knew cannot be judged."""
    out = writer(tmp_path, segment_bytes=2000, max_bytes=5000)
    for number in range(40):
        out.event(snapshot(T + number))
    out.close()
    with pytest.raises(ValueError, match="beginning is gone"):
        list(items(tmp_path))


def test_a_damaged_journal_is_no_evidence(tmp_path: Path) -> None:
    """One byte flipped in the middle is said, not passed over."""
    out = writer(tmp_path)
    for number in range(40):
        out.event(snapshot(T + number))
    out.close()
    assert len(list(items(tmp_path))) == 42  # with the checkpoints of the beginning and the end
    [segment] = tmp_path.iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(ValueError, match="the journal is damaged"):
        list(items(tmp_path))


def test_a_journal_with_a_gap_is_no_evidence(tmp_path: Path) -> None:
    """What could not be written down at its time cannot be judged."""
    out = writer(tmp_path)
    out.event(snapshot(T))
    with largest_file(1):
        assert not out.event(snapshot(T + 1))
    assert out.event(snapshot(T + 1 + SECOND))
    out.close()
    with pytest.raises(ValueError, match=r"the journal has a gap: Gap\(records=1, "):
        list(items(tmp_path))


# The judge ----------------------------------------------------------------------------------------------------------

END = T + 60 * SECOND
STOPPED = END + SECOND // 2
ORDERS = 24


def live(number: int, side: str = "B", px: str = "99900.0", sz: str = "0.001") -> Live:
    """Return one order at the server."""
    return Live(cloid(number), "BTC", side, px, sz)


def look(at: Nanos, *orders: Live) -> Look:
    """Return a look at the server that took a millisecond."""
    return Look(at, at + MILLISECOND, orders)


def fill(tid: int, number: int, at: Nanos, **other: object) -> Fill:
    """Return a fill of the server's record: 0.001 BTC bought at 99900."""
    made = Fill(tid, cloid(number), "BTC", "B", "99900.0", "0.001", "0.00015", at // MILLISECOND)
    return msgspec.structs.replace(made, **other)


def evidence() -> Evidence:
    """Return a short run without a fault in it: 24 orders one after the other, two fills, a clean stop."""
    story, course = Story(instruments=dict(GENERATED)), Course()
    placed, looks = [], []
    for number in range(1, ORDERS + 1):
        sent = T + number * SECOND
        story.placed[cloid(number)] = sent
        course.note(cloid(number), sent, 0)
        course.note(cloid(number), sent + SECOND, None)
        course.crowds[cloid(number)] = 1
        placed.append(Placed(cloid(number), "BTC", (sent + 40 * MILLISECOND) // MILLISECOND))
        looks.append(look(sent + 500 * MILLISECOND, live(number)))
    story.trades = {str(tid): trade(T + tid * SECOND, tid, tid) for tid in (3, 5)}
    story.begin, story.end, story.heard, story.reconciled = T, END, END - SECOND // 10, T
    return Evidence(
        story=story,
        course=course,
        placed=placed,
        fills=[fill(tid, tid, T + tid * SECOND) for tid in (3, 5)],
        looks=[*looks, look(STOPPED + MILLISECOND), look(STOPPED + 3 * SECOND)],
        venue_positions={"BTC": "0.002"},
        state_positions={"BTC": "0.002"},
        summary={
            "instruments": {"BTC": {"position": "0.002"}, "ETH": {"position": "0"}},
            "pnl": {"spread": "1", "inventory": "-0.5", "funding": "0.25", "fees": "0.0003", "total": "0.7497"},
            "invariant_violations": 0,
            "anomalies": {"illegal_reports": 0, "overfilled": 0, "foreign_fills": 0, "position_drifts": 0},
            "fills": 2,
        },
        exit_code=0,
        stop_s=0.5,
        stopped=STOPPED,
        said="",
        calm_s=0.0,
        levels={"BTC": 3, "ETH": 2},
        most_side=1000.0,
        faults={"drop": 3},
    )


def left_behind(*named: int) -> Evidence:
    """Return a run that could not end cleanly: one order is left for two seconds, and it names some."""
    made = evidence()
    listed = "; ".join(f"BTC buy 0.001 at 99900 ({cloid(number)}, unknown)" for number in named)
    made.exit_code, made.said = 4, f"mmpi run: {CONFIRM}{len(named)}: {listed}"
    made.course.changes[cloid(24)] = [(T + 24 * SECOND, 0)]
    made.looks[-2:] = [look(STOPPED + 1), look(STOPPED + SECOND, live(24)), look(STOPPED + 3 * SECOND)]
    return made


def test_a_run_without_a_fault_passes() -> None:
    """The builder's run breaks no rule, so that whatever a test below finds is what it planted."""
    verdict = judge(evidence())
    assert (verdict.reasons, verdict.notes) == ([], [])
    assert (verdict.counts["placed"], verdict.counts["fills"], verdict.counts["exit_code"]) == (ORDERS, 2, 0)
    assert verdict.gaps["stop_s"] == 0.5


def test_an_end_that_names_what_is_left_passes() -> None:
    """Exit 4 with the order that was left, which ended within the dead-man time."""
    verdict = judge(left_behind(24))
    assert verdict.reasons == []
    assert verdict.gaps["left_s"] == 1.0


Rule = Callable[[Evidence], list[str]]
PLANTS: list[tuple[str, Rule, Callable[[Evidence], object]]] = []


def plant(rule: Rule, words: str) -> Callable[[Callable[[Evidence], object]], Callable[[Evidence], object]]:
    """Note a way to spoil the evidence, the rule that must find it, and words of what it says."""

    def note(spoil: Callable[[Evidence], object]) -> Callable[[Evidence], object]:
        PLANTS.append((words, rule, spoil))
        return spoil

    return note


def set_to(**values: object) -> Callable[[Evidence], None]:
    """Return what sets fields of the evidence."""

    def spoil(e: Evidence) -> None:
        for name, value in values.items():
            setattr(e, name, value)

    return spoil


plant(exit_is_right, "5.90 s after SIGTERM")(set_to(stop_s=5.9))
plant(exit_is_right, "code 1;")(set_to(exit_code=1))
plant(exit_is_right, "code -9;")(set_to(exit_code=-9))
plant(exit_is_right, "code 4 without what is left")(set_to(exit_code=4, said="mmpi run: venue: no answer"))
plant(exit_is_right, "nothing had gone wrong for 7 s")(set_to(exit_code=4, said=f"{CONFIRM}0", calm_s=7.0))
plant(nothing_is_left, "nobody looked")(lambda e: e.looks.__delitem__(slice(-2, None)))
plant(nothing_is_left, "after exit 0")(lambda e: e.looks.insert(-1, look(STOPPED + SECOND, live(24))))
plant(guardian_verified, "did not verify zero")(set_to(zero_verified=False))
plant(positions_agree, "BTC 0.003; the venue says 0.002")(
    lambda e: e.summary["instruments"]["BTC"].update(position="0.003")
)
plant(positions_agree, "ETH 0; the venue says 1")(set_to(venue_positions={"BTC": "0.002", "ETH": "1"}))
plant(positions_agree, "the venue itself says 0.002 and 0.001")(set_to(state_positions={"BTC": "0.001"}))
plant(fills_are_booked_once, "5 was told to the engine more than once")(lambda e: e.story.retold.append("5"))
plant(fills_are_booked_once, "the server itself has 5 twice")(lambda e: e.fills.append(e.fills[-1]))
plant(fills_are_booked_once, "booked")(lambda e: e.fills.__setitem__(1, fill(5, 5, T + 5 * SECOND, px="99901.0")))
plant(fills_are_booked_once, "booked")(lambda e: e.fills.__setitem__(1, fill(5, 6, T + 5 * SECOND)))
plant(fills_are_booked_once, "booked")(lambda e: e.fills.__setitem__(1, fill(5, 5, T + 5 * SECOND, side="A")))
plant(money_agrees, "did not hold 1 times")(lambda e: e.summary.update(invariant_violations=1))
plant(money_agrees, "do not add up")(lambda e: e.summary["pnl"].update(total="0.7498"))
plant(money_agrees, "fees 0.0004")(lambda e: e.summary["pnl"].update(fees="0.0004", total="0.7496"))
plant(ids_are_single, "sent twice")(lambda e: e.story.again.append(cloid(2)))
plant(ids_are_single, "accepted 2 times")(lambda e: e.placed.append(e.placed[1]))
plant(journal_came_first, "does not know")(lambda e: e.story.placed.pop(cloid(4)))
plant(journal_came_first, "does not know")(lambda e: e.placed.append(Placed(None, "BTC", T // MILLISECOND)))
plant(journal_came_first, "before it was written down")(
    lambda e: e.story.placed.update({cloid(4): T + 4 * SECOND + 100 * MILLISECOND})
)
plant(nothing_was_forbidden, "disconnected")(lambda e: e.story.forbidden.append(f"{cloid(4)} at 1: disconnected"))
plant(nothing_was_forgotten, "when it had ended for us")(
    lambda e: e.course.changes.update({cloid(4): [(T + 4 * SECOND, 0), (T + 4 * SECOND + 1, None)]})
)
plant(nothing_was_forgotten, "before we had sent it")(lambda e: e.course.changes.pop(cloid(4)))
plant(slots_are_single, "was the 3th in its slot")(lambda e: e.course.crowds.update({cloid(4): 3}))
plant(sides_are_within_limits, "orders worth 1998.00 at BTC B")(
    lambda e: e.looks.__setitem__(0, look(T + 3 * SECOND // 2, live(1, sz="0.02")))
)
plant(nothing_is_odd, "illegal_reports: 1")(lambda e: e.summary["anomalies"].update(illegal_reports=1))
plant(nothing_is_odd, "overfilled: 2")(lambda e: e.summary["anomalies"].update(overfilled=2))
plant(nothing_is_odd, "position_drifts: 1")(lambda e: e.summary["anomalies"].update(position_drifts=1))
plant(nothing_is_odd, "3 fills in the summary, 2 in the journal")(lambda e: e.summary.update(fills=3))
plant(journal_replays, "exit 1")(set_to(checks=["replay --verify: exit 1"]))
plant(it_worked, "not one fault struck")(set_to(faults={"drop": 0}))
plant(it_worked, "nothing might be placed for 46.0 s")(lambda e: setattr(e.story, "waited_ms", 46_000.0))


@plant(slots_are_single, "7 orders at BTC B")
def _crowd_a_side(e: Evidence) -> None:
    """Seven bids at once where three levels are wanted, all known, each at a level that the ladder gave it later."""
    for number in range(1, 8):
        e.course.changes[cloid(number)] = [(T + number, number % 3), (T + number + 1, 3 + number)]
    e.looks[:7] = [look(T + 8 * SECOND, *[live(number) for number in range(1, 8)])]


@plant(slots_are_single, "3 orders at BTC B level 0")
def _crowd_a_slot(e: Evidence) -> None:
    """Three bids in one slot, by the server."""
    for number in range(1, 4):
        e.course.changes[cloid(number)] = [(T + number, 0)]
    e.looks[:3] = [look(T + 8 * SECOND, *[live(number) for number in range(1, 4)])]


@plant(it_worked, "19 orders")
def _hardly_place(e: Evidence) -> None:
    """Nineteen orders show nothing."""
    del e.placed[19:]


@pytest.mark.parametrize(("words", "rule", "spoil"), PLANTS, ids=[f"{rule.__name__}: {w}" for w, rule, _ in PLANTS])
def test_every_planted_failure_is_found(words: str, rule: Rule, spoil: Callable[[Evidence], object]) -> None:
    """One thing spoilt in a run without a fault: its rule says so, and no other rule does."""
    spoilt = evidence()
    spoil(spoilt)
    assert [each.__name__ for each in RULES if each(spoilt)] == [rule.__name__]
    assert any(words in reason for reason in judge(spoilt).reasons)


def test_every_rule_has_a_planted_failure() -> None:
    """A rule that nothing can break would prove nothing."""
    assert {rule for _, rule, _ in PLANTS} == set(RULES)


def test_a_fill_that_was_never_booked_breaks_everything_that_counts_fills() -> None:
    """Missing in the journal: found as such, and in position, fees and number."""
    spoilt = evidence()
    spoilt.fills.append(fill(7, 7, T + 7 * SECOND))
    spoilt.venue_positions = spoilt.state_positions = {"BTC": "0.003"}
    assert [each.__name__ for each in RULES if each(spoilt)] == ["positions_agree", "fills_are_booked_once"]
    assert "never booked" in fills_are_booked_once(spoilt)[0]


def test_a_fill_that_never_was_is_found() -> None:
    """In the journal but not at the server: invented."""
    spoilt = evidence()
    spoilt.story.trades["8"] = trade(T + 8 * SECOND, 8, 8)
    spoilt.summary["fills"] = 3
    assert "invented" in fills_are_booked_once(spoilt)[0]


def test_a_fill_after_the_last_word_is_told_apart() -> None:
    """Cut off and ended with 4: a fill it cannot have heard of is no failure but is reported; an earlier one is."""
    made = left_behind(24)
    made.fills.append(fill(7, 7, END + SECOND))
    made.venue_positions = made.state_positions = {"BTC": "0.003"}
    verdict = judge(made)
    assert verdict.reasons == []
    assert verdict.counts["unheard_fills"] == len(verdict.notes) == 1
    made.fills[-1] = fill(7, 7, END - 2 * SECOND)
    assert {each.__name__ for each in RULES if each(made)} == {"positions_agree", "fills_are_booked_once"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: setattr(e, "said", e.said.replace(cloid(24), cloid(23))), "did not name it"),
        (lambda e: e.looks.append(look(STOPPED + 11 * SECOND, live(24))), "11.0 s after exit"),
        (lambda e: e.looks.pop(), "1 orders at the last look"),
    ],
)
def test_what_is_left_after_exit_4_must_be_named_and_end(spoil: Callable[[Evidence], object], words: str) -> None:
    """Not named, live for too long, live to the end: each is found."""
    made = left_behind(24)
    spoil(made)
    assert [each.__name__ for each in RULES if each(made)] == ["nothing_is_left"]
    assert any(words in each for each in nothing_is_left(made))


def test_orders_that_were_only_counted_need_no_name() -> None:
    """The sentence lists twenty and counts the rest; as many may be live without a name, and no more."""
    made = left_behind(23)
    made.said += "; and 1 more"
    assert nothing_is_left(made) == []
    made.looks[-2] = look(STOPPED + SECOND, live(24), live(22))
    assert len(nothing_is_left(made)) == 1


def test_an_order_may_be_seen_a_moment_before_its_end_is_heard() -> None:
    """Live at the server while we think so, and when the look began before we had heard of its end: no fault."""
    made = evidence()
    made.course.changes[cloid(4)] = [(T + 4 * SECOND, 0), (T + 4 * SECOND + 501 * MILLISECOND, None)]
    assert nothing_was_forgotten(made) == []


def test_a_clock_that_was_put_wrong_is_allowed_for() -> None:
    """The server's time may be behind ours by what the faults did to its clock, and not by more."""
    made = evidence()
    made.placed[3] = Placed(cloid(4), "BTC", (T + 4 * SECOND) // MILLISECOND - 700)
    assert len(journal_came_first(made)) == 1
    made.skew_ms = 800.0
    assert journal_came_first(made) == []


def test_many_failures_of_a_kind_are_cut_short() -> None:
    """Twenty are told, the rest are counted."""
    spoilt = evidence()
    spoilt.story.forbidden = [f"order {number}" for number in range(50)]
    reasons = judge(spoilt).reasons
    assert (len(reasons), reasons[-1]) == (21, "and 30 more of this kind")


# Seeds and plans ----------------------------------------------------------------------------------------------------


def test_twenty_seeds_have_every_setting_both_ways() -> None:
    """Each switch is on in some and off in others; both speeds with both ways to move an order and to stop."""
    plans = [plan_of(seed, 60.0) for seed in range(1, 21)]
    for name in ("restless", "impatient", "amend", "tls", "calm", "dark", "from_start", "rough", "pressed", "limits"):
        assert {getattr(plan, name) for plan in plans} == {True, False}, name
    assert len({(plan.restless, plan.amend, plan.calm) for plan in plans}) == 8
    assert 8 <= sum(plan.restless for plan in plans) <= 12
    assert not any(plan.calm and plan.dark for plan in plans)
    assert plan_of(1, 60.0, tls=True).tls


def test_a_plan_is_drawn_from_its_seed_alone() -> None:
    """Twice the same, the seed in its words, and faults that the server can read."""
    for seed in (3, 9, 13, 18):
        plan = plan_of(seed, 60.0)
        names = [fault.name for fault in read_faults(plan.faults)]
        assert plan == plan_of(seed, 60.0)
        assert (f"random:seed={seed}" in plan.faults) is not plan.impatient
        assert ("late" in names and "http_429" not in names) is plan.impatient or plan.rough
        assert 0 < plan.skew_ms() <= 800
    assert plan_of(3, 60.0).faults != plan_of(15, 60.0).faults


@pytest.mark.parametrize(
    ("text", "seeds"), [("1-3", [1, 2, 3]), ("7", [7]), ("9, 1-2,2", [1, 2, 9]), ("20-20", [20])]
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    """Ranges and single ones, in any order, each once."""
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-3", "1,,2", "1.5"])
def test_what_is_no_seed_is_refused(text: str) -> None:
    """The message has the value and what is allowed."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"allowed: such as 1-20"):
        seeds_of(text)


# Report and resumption ----------------------------------------------------------------------------------------------


def wish(seeds: str, resume: Path | None = None, seconds: float = 60.0, *, tls: bool = False) -> argparse.Namespace:
    """Return the command's arguments."""
    return argparse.Namespace(seeds=seeds_of(seeds), seconds=seconds, tls=tls, resume=resume, report=None)


def test_a_report_says_what_did_not_run() -> None:
    """Every seed that was asked for is in it, from the beginning, as NOT RUN."""
    report = begin(wish("1-3"))
    assert [(each.seed, each.verdict) for each in report.results] == [(1, NOT_RUN), (2, NOT_RUN), (3, NOT_RUN)]
    assert not report.complete
    assert "The campaign did not run." in closing(report)
    report.take(Result(2, PASS))
    assert "1 passed, 0 failed, 2 not run" in closing(report)
    assert "seed 3: NOT RUN: not begun" in closing(report)
    assert table(report.results).count("| NOT RUN |") == 2


def test_a_campaign_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Finished seeds, failed ones too, are kept; the others and new ones are to run."""
    path = tmp_path / "report.json"
    report = begin(wish("1-4"))
    report.take(Result(1, PASS, counts={"placed": 5}))
    report.take(Result(3, FAIL, ["crash: x"]))
    write(report, path)
    again = begin(wish("1-5", path))
    assert [(each.seed, each.verdict) for each in again.results] == [
        (1, PASS), (2, NOT_RUN), (3, FAIL), (4, NOT_RUN), (5, NOT_RUN),
    ]  # fmt: skip
    assert again.results[0].counts == {"placed": 5}
    assert again.seeds == "1,2,3,4,5"
    assert list(tmp_path.iterdir()) == [path], "written whole, nothing beside it"
    write(again, tmp_path / "campaign" / "report.json")
    assert (tmp_path / "campaign" / ".gitignore").read_text() == "*\n"


def test_only_the_same_campaign_goes_on(tmp_path: Path) -> None:
    """Other seconds, other transport, another file: refused with what is allowed; no file yet: a new campaign."""
    path = tmp_path / "report.json"
    assert len(begin(wish("1-2", path)).results) == 2
    write(begin(wish("1-2")), path)
    for other in (wish("1-2", path, 30.0), wish("1-2", path, tls=True)):
        with pytest.raises(ConfigError, match=r"made with 60 s a seed, TLS False; allowed: the same"):
            begin(other)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="not a report"):
        begin(wish("1-2", path))


def test_a_report_shows_reasons_and_sums() -> None:
    """Verdicts, sums, faults by kind, worst gaps and every reason."""
    gaps = {"stop_s": 0.4, "left_s": 0.0, "allowed_percent": 99.0}
    counts = {"placed": 100, "fills": 7, "exit_code": 0, "live_at_exit": 0}
    results = [
        Result(1, PASS, counts=counts, gaps=gaps, faults={"drop": 2}),
        Result(2, FAIL, ["position: BTC 1; the venue says 2"], counts=counts, gaps=gaps | {"stop_s": 5.1},
               faults={"drop": 1, "late": 4}),
    ]  # fmt: skip
    text = closing(Report("1-2", 60.0, False, "b", results))
    assert "1 passed, 1 failed, 0 not run" in text
    assert "200 placed" in text and "14 fills" in text
    assert "3 drop, 4 late" in text
    assert "stop_s 5.1" in text
    assert "seed 2: FAIL: position: BTC 1; the venue says 2" in text
    assert "| 0 in 5.1 s |" in table(results)


# Processes ----------------------------------------------------------------------------------------------------------


class Scripted(Campaign):
    """A campaign whose seeds are small scripts instead of boxes."""

    scripts: dict[int, str] = {}

    def _begin(self, seed: int, folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", self.scripts[seed], str(folder)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._children[seed] = child
        return child


PASSES = """print('noise'); print('{"seed": 1, "verdict": "PASS"}')"""
FAILS = """import sys; print('{"seed": 2, "verdict": "FAIL", "reasons": ["left in %s/x"]}' % sys.argv[1])"""
CRASHES = "raise RuntimeError('boom')"
HANGS = "import time; time.sleep(60)"
STRAYS = """
import subprocess, sys, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1], "stray").write_text(str(child.pid))
print('{"seed": 5, "verdict": "FAIL"}', flush=True)
"""


def scripted(keep: Path | None, seconds: float, scripts: Sequence[str]) -> Scripted:
    """Return a campaign of these scripts, numbered from 1."""
    made = Scripted(seconds, tls=False, keep=keep, said=lambda _: None)
    made.scripts = dict(enumerate(scripts, 1))
    return made


def runs(pid: int) -> bool:
    """Return whether a process is there and no mere entry that nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_seeds_that_crash_or_hang_fail_and_their_folders_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PASS as told, FAIL as told, a crash with its last words, a time-out; processes left over are ended."""
    monkeypatch.setattr("fault_campaign.GRACE_S", 0.5)
    campaign = scripted(tmp_path / "keep", 1.0, [PASSES, FAILS, CRASHES, HANGS, STRAYS])
    results = {each.seed: each for each in campaign.play([1, 2, 3, 4, 5], 5)}
    assert [results[seed].verdict for seed in (1, 2, 3, 4, 5)] == [PASS, FAIL, FAIL, FAIL, FAIL]
    assert results[2].reasons == ["left in FOLDER/x"]
    assert results[3].reasons[0].startswith("crash: exit 1 without a result") and "boom" in results[3].reasons[0]
    assert results[4].reasons[0].startswith("timeout: not over after ")
    kept = sorted(each.name for each in (tmp_path / "keep").glob("seed-*"))
    assert kept == ["seed-2", "seed-3", "seed-4", "seed-5"]
    stray = int((tmp_path / "keep" / "seed-5" / "stray").read_text())
    end = time.monotonic() + 5
    while runs(stray) and time.monotonic() < end:
        time.sleep(0.01)
    assert not runs(stray)


@pytest.mark.slow
def test_a_campaign_that_is_ended_says_what_did_not_run() -> None:
    """What runs is ended and is NOT RUN, what has not begun neither; both say why."""
    campaign = scripted(None, 60.0, [HANGS, HANGS, PASSES])
    playing = campaign.play([1, 2, 3], 2)

    def end(child: "subprocess.Popen[str]") -> None:
        campaign.end("the campaign was ended", now=True)
        child.wait(5)

    timer = threading.Timer(0.5, lambda: end(next(iter(campaign._children.values()))))
    timer.start()
    results = sorted(playing, key=lambda each: each.seed)
    timer.join()
    assert [each.verdict for each in results] == [NOT_RUN] * 3
    assert results[0].reasons[0].startswith("the campaign was ended, after ")
    assert results[2].reasons == ["the campaign was ended"]


@pytest.mark.slow
def test_a_few_seeds_for_real(tmp_path: Path) -> None:
    """Orders, fills and faults by the hundred, every rule held: the command exits 0 and its report says so."""
    seeds, seconds = os.environ.get("MMPI_FAULT_SEEDS", "1-3,7"), os.environ.get("MMPI_FAULT_SECONDS", "40")
    path = tmp_path / "report.json"
    words = ["--seeds", seeds, "--seconds", seconds, "--parallel", "4", "--report", str(path)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault_campaign", *words], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert report.complete and len(report.results) == len(seeds_of(seeds))
    counts = [each.counts for each in report.results]
    for name in ("placed", "fills", "faults", "disconnects", "unknown_fates"):
        assert sum(each[name] for each in counts) > 0, name
