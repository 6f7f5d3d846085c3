"""hil.campaign: what is drawn, judged, shrunk, kept and told, without any rig."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hil import campaign, play
from hil.campaign import Campaign, main
from hil.judgement import Span, Verdict, due, judge
from hil.kept import BROKE_DOWN, OtherError, State, begin, held, in_words, keep, key, summary
from hil.logged_disk import ServedDisk
from hil.plans import Plan, Step, clash, draw, inexpressible, playable, read_plan
from hil.play import Outcome, quote_again, settle
from hil.report import FAILED, PASSED
from hil.rig import NETWORK, PINS, POWER, PROCESSES
from hil.rigs.lossy import Lossy
from hil.rigs.opening import PORTS, Opened, free_port
from hil.shrink import shrink
from hil.stage import PromiseBrokenError
from hil.troubles import ALL, Site
from image.debian import UnavailableError

CAN = frozenset({PINS, POWER, NETWORK, PROCESSES})
KEY = {"seed": "3", "rig": "nspawn", "package": "a", "scenarios": "b", "abilities": " ".join(sorted(CAN))}
WHOLE: Plan = (
    Step(1.0, "press", 4.0), Step(2.0, "late", 8.0), Step(4.0, "power", 10.0), Step(16.0, "quoter_killed", 0.0),
)  # fmt: skip
FOR_EVER = float("inf")


class Fake:
    """Plays at once; a plan fails if `broken` says why."""

    def __init__(self, broken: Callable[[Plan], str] = lambda _: "", most: int = 1000, lost: str = "") -> None:
        self.broken, self.most, self.lost = broken, most, lost
        self.played: list[tuple[Plan, int]] = []

    def play(self, plan: Plan, seed: int) -> Outcome:
        """Return what `broken` says; after `most` plans somebody types Ctrl-C."""
        if len(self.played) == self.most:
            raise KeyboardInterrupt
        self.played.append((plan, seed))
        return Outcome(self.broken(plan), 1.0, [Verdict("press", 0.1 * len(self.played), 1.5)], lost=self.lost)


def run(folder: Path, fake: Fake, plans: int = 5) -> State:
    """Return a campaign of so many further plans."""
    state = begin(folder, KEY)
    end = len(state.played) + plans
    running = Campaign(fake, folder, state, FOR_EVER)
    running._until = Until(lambda: len(state.played) >= end)  # type: ignore[assignment]
    running.run()
    return state


class Until(float):
    """A time that has come when something is true."""

    def __new__(cls, _: Callable[[], bool]) -> "Until":
        """Return one."""
        return super().__new__(cls)

    def __init__(self, come: Callable[[], bool]) -> None:
        self.come = come

    def __gt__(self, other: float) -> bool:
        return not self.come()


# Drawing --------------------------------------------------------------------------------------------------------------


def test_a_seed_and_a_number_give_a_plan() -> None:
    """The same ones give the same plan, others give others; it is within bounds, and nothing is held twice."""
    plans = [draw(1, number, CAN) for number in range(400)]
    assert plans == [draw(1, number, CAN) for number in range(400)]
    assert plans != [draw(2, number, CAN) for number in range(400)]
    for plan in plans:
        assert 2 <= len(plan) <= 5 and not clash(plan)
        assert list(plan) == sorted(plan, key=lambda each: each.at_s)
        for step in plan:
            assert 0 <= step.at_s <= step.until_s <= 25.0
            assert ALL[step.trouble].shortest_s <= step.lasts_s <= ALL[step.trouble].longest_s + 0.01
    assert {step.trouble for plan in plans for step in plan} == playable(CAN)
    overlaps = sum(one.at_s < two.at_s < one.until_s for plan in plans for one in plan for two in plan)
    assert overlaps > len(plans) / 2


def test_what_a_rig_cannot_express_is_not_drawn_and_told() -> None:
    """Each trouble is one or the other, with the reason."""
    missing = inexpressible(CAN)
    assert missing["hot"] == "this rig has no sensors" and playable(CAN) | missing.keys() == ALL.keys()
    assert not playable(CAN) & missing.keys()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "at least one"),
        ([[1, "earthquake", 2]], "earthquake: unknown"),
        ([[-1, "press", 2]], "allowed: within 0 to 60 s"),
        ([[1, "press", float("nan")]], "allowed: within 0 to 60 s"),
        ([[1, "press"]], "no plan"),
        ([[1, "press", 4], [3, "wire_cut", 2]], "both at once"),
    ],
)
def test_a_plan_that_is_wrong_is_refused(value: object, said: str) -> None:
    """What is wrong, and what is allowed, is said."""
    with pytest.raises(ValueError, match=said) as refused:
        read_plan(value)
    assert "allowed:" in str(refused.value)


# Judging --------------------------------------------------------------------------------------------------------------


def samples(*live: tuple[float, float], until: float = 60.0) -> list[tuple[float, int]]:
    """Return four orders alive in each of these times, none otherwise, looked at every 20 ms."""
    return [
        (at, 4 * any(since <= at < end for since, end in live)) for at in (n / 50 for n in range(int(until * 50)))
    ]


def span(trouble: str, at: float, lasts: float) -> Span:
    """Return a trouble that took no time to begin and to end."""
    return Span(trouble, at, at, at + lasts, at + lasts)


PRESS = span("press", 5.0, 4.0)
CASES: dict[str, tuple[list[Span], list[tuple[float, float]], str]] = {
    "a press": ([PRESS], [(0, 5.9)], ""),
    "late": ([PRESS], [(0, 7.0)], "press"),
    "an order while latched": ([PRESS], [(0, 5.3), (20, 21)], "press"),
    "an order once armed": ([PRESS, span("arm", 15, 3.5)], [(0, 5.3), (19, 30)], ""),
    "an arm button that was held before it was let go": ([PRESS, span("arm", 6, 3.5)], [(0, 5.3), (9.2, 30)], ""),
    "a cable that is gone as well": ([PRESS, span("cable", 4.8, 10)], [(0, 14.8)], ""),
    "but no longer": ([PRESS, span("cable", 4.8, 10)], [(0, 16.0)], "press"),
    "lost cancels": ([PRESS, span("cancel_lost", 1, 10)], [(0, 15)], ""),
    "a venue that hangs": ([PRESS, span("venue_hangs", 1, 9)], [(0, 19)], ""),
    "a press that nobody saw": ([PRESS, span("guardian_down", 4, 9)], [(0, 5), (14, 30)], ""),
    "a latch over a power cut": ([PRESS, span("power", 8, 9)], [(0, 5.3), (25, 26)], "press"),
    "a latch that the disk did not take": (
        [PRESS, span("disk_full", 3, 9), span("power", 8, 9)], [(0, 5.3), (25, 26)], "",
    ),
    "a press while the disk takes nothing": ([PRESS, span("disk_refuses", 3, 9)], [(0, 5.3), (13, 30)], ""),
    "a press needs no disk": ([PRESS, span("disk_refuses", 3, 9)], [(0, 5.3), (7, 8)], "press"),
    "a press without power": ([span("power", 3, 9), PRESS], [(0, 10)], ""),
    "power": ([span("power", 3, 14)], [(0, 12)], ""),
    "power, while the venue fails": ([span("power", 3, 14), span("http_5xx", 1, 12)], [(0, 14)], "power"),
    "a cable, and then the power": ([span("cable", 3, 14), span("power", 8, 14)], [(0, 14)], "cable"),
    "power, while its clock is off": ([span("power", 3, 14), span("clock_skew", 1, 2.5)], [(0, 16)], ""),
    "power, and an order": ([span("power", 3, 14)], [(0, 12), (15, 16)], "power"),
    "mains while the guardian begins anew": ([span("mains", 5, 8), span("guardian_killed", 4.9, 0)], [(0, 7.5)], ""),
    "mains": ([span("mains", 5, 8)], [(0, 5.2), (9, 10)], "mains"),
    "a quoter that hangs, and is killed by a press": (
        [span("quoter_stopped", 5, 14), span("press", 6, 0.5), span("arm", 7, 3.5)], [(0, 5.9), (11, 30)], "",
    ),
    "a quoter that hangs until its watchdog ends it": ([span("quoter_stopped", 5, 14)], [(0, 6), (10, 30)], ""),
    "a quoter that is killed": ([span("quoter_killed", 5, 0)], [(0, 5.2), (7, 60)], ""),
    "a quoter that is killed, and its orders stay": ([span("quoter_killed", 5, 0)], [(0, 60)], "quoter_killed"),
    "a press soon after sockets were cut": ([span("sockets_cut", 4, 0), PRESS], [(0, 8.4)], ""),
    "a press long after sockets were cut": ([span("sockets_cut", 2, 0), PRESS], [(0, 9.9)], "press"),
    "a press at the end": ([span("press", 20.0, 4.9)], [(0, 20.3), (27, 28)], "press"),
    "a guardian beside a quoter that hangs": (
        [span("guardian_killed", 5, 0), span("quoter_stopped", 4.5, 3)], [(0, 12)], "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_promise_is_judged_beside_the_other_troubles(name: str) -> None:
    """What one trouble may cost another one is allowed, and no more."""
    spans, live, broken = CASES[name]
    found = [each.trouble for each in judge(spans, samples(*live), 50.0) if each.broken]
    assert found == ([broken] if broken else [])


def test_exposure_is_until_the_last_order_that_should_be_gone() -> None:
    """And what was allowed is told with it."""
    (verdict,) = judge([PRESS], samples((0, 5.4)), 50.0)
    assert verdict.exposure_s == pytest.approx(0.38) and verdict.allowed_s == 1.5 and not verdict.broken


def test_what_befalls_last_is_judged_when_it_is_due() -> None:
    """A quoter killed in the last moment: nobody can say before its deadline, and afterwards it is broken."""
    last = span("quoter_killed", 24.9, 0)
    assert due([PRESS, last]) == pytest.approx(27.9) and due([span("cable", 3, 15)]) == 0
    assert due([span("panic", 24.9, 0)]) == pytest.approx(35.4)
    for until, broken in ((27.0, False), (28.5, True)):
        (verdict,) = judge([last], samples((0, 60), until=until), until)
        assert bool(verdict.broken) == broken
    (verdict,) = judge([last], samples((0, 25.5), until=28.5), 28.5)
    assert not verdict.broken


class Watched:
    """A timeline and its stage; the venue is seen until some time."""

    def __init__(self, seen_until: float) -> None:
        self.rig = self.timeline = self
        self.patience, self.now, self._until = 1.0, 25.0, seen_until

    @property
    def samples(self) -> list[tuple[float, int]]:
        """Return what was seen."""
        return samples(until=min(self.now, self._until))

    def sleep(self, seconds: float) -> None:
        """Have time go on."""
        self.now += seconds


@pytest.mark.parametrize(
    ("seen_until", "due_at", "judged", "ended"),
    [(FOR_EVER, 0.0, 29.0, 29.0), (FOR_EVER, 35.4, 35.9, 36.5), (27.0, 35.4, 27.0, 40.1)],
)
def test_promises_are_judged_when_the_venue_was_seen_after_the_last_deadline(
    seen_until: float, due_at: float, judged: float, ended: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, and a venue that is not seen any more is not waited for without an end."""
    stage = Watched(seen_until)
    monkeypatch.setattr(play.time, "sleep", stage.sleep)
    assert settle(stage, due_at) == pytest.approx(judged, abs=0.4)  # type: ignore[arg-type]
    assert stage.now == pytest.approx(ended, abs=0.4)


class Stage:
    """A stage on which every word is written down."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.rig = self.venue = self

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *words, **more: self.said.append((name, *words, *more.values())) or (0, "")


def test_what_cannot_be_done_now_is_done_as_soon_as_it_can() -> None:
    """A button pressed on a box that is off is pressed when it is on; a venue that hangs gets its faults afterwards."""
    stage = Stage()
    site = Site(stage)  # type: ignore[arg-type]
    assert ALL["power"].begin(site)
    assert ALL["press"].begin(site) and ALL["cable"].begin(site) and ALL["cable"].end(site)
    assert not ALL["quoter_killed"].begin(site)
    assert stage.said == [("cut_power",)]
    assert ALL["venue_hangs"].begin(site) and ALL["late"].begin(site) and ALL["ack_lost"].begin(site)
    ALL["power"].end(site)
    ALL["venue_hangs"].end(site)
    assert stage.said[1:] == [
        ("hang", True), ("power_on",), ("press",), ("cable", True),
        ("hang", False), ("faults", "late:p=0.5,ms=1500", "ack_lost:p=0.3"),
    ]  # fmt: skip
    ALL["late"].end(site)
    assert stage.said[-1] == ("faults", "ack_lost:p=0.3")


def test_what_was_put_off_is_done_in_the_order_of_the_last_acts() -> None:
    """A button let go and a wire cut while the box was off: the wire is cut when it is on, whatever came first."""
    stage = Stage()
    site = Site(stage)  # type: ignore[arg-type]
    ALL["power"].begin(site)
    for name in ("wire_cut", "press", "wire_cut"):
        ALL[name].begin(site)
        ALL[name].end(site)
    ALL["press"].begin(site)
    ALL["power"].end(site)
    assert stage.said == [("cut_power",), ("power_on",), ("drive", "kill", 0), ("press",)]


class Found:
    """A box as it is found: paused, then latched, then quoting, if it was put right in that order."""

    def __init__(self, *states: str) -> None:
        self.states, self.done = list(states), list[str]()
        self.rig = self.timeline = self
        self.patience = 0.01

    def _did(self, what: str) -> tuple[int, str]:
        self.done.append(what)
        self.states.pop(0)
        return 0, ""

    def live(self) -> int:
        """Return what the venue has."""
        return 0 if self.states else 4

    def latched(self) -> bool:
        """Return whether it is latched."""
        return self.states[0] == "latched"

    def causes(self) -> list[str]:
        """Return why it does not quote."""
        return self.states[:1]

    def told(self) -> str:
        """Return its state in a line."""
        return f"it is {self.states[0]}"

    def arm(self) -> None:
        """Arm."""
        self._did("arm")

    def shell(self, line: str) -> tuple[int, str]:
        """Run a line."""
        return self._did(line)

    def note(self, what: str) -> None:
        """Write it down."""
        self.done.append(what)


def test_a_box_is_put_right_until_it_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed, armed; one that does not quote all the same breaks a promise."""
    monkeypatch.setattr(play, "LOOK_S", 0.01)
    found = Found("by_hand", "latched")
    quote_again(found)  # type: ignore[arg-type]
    assert found.done == ["mmpi resume", "arm", "quoting"]
    monkeypatch.setattr(play, "RIGHT_S", 5.0)
    with pytest.raises(PromiseBrokenError, match="no quotes within .*it is venue_session"):
        quote_again(Found("venue_session"))  # type: ignore[arg-type]


# Shrinking ------------------------------------------------------------------------------------------------------------


def names(plan: Plan) -> list[str]:
    """Return a plan's troubles."""
    return [each.trouble for each in plan]


def test_the_smallest_plan_that_fails_is_found() -> None:
    """Two of four troubles are at fault, if the second one lasts for 3 s; all else is left out."""

    def broken(plan: Plan) -> str:
        lasts = {each.trouble: each.lasts_s for each in plan}
        return "an order was left" if "press" in lasts and lasts.get("power", 0) >= 3 else ""

    fake = Fake(broken)
    found = shrink(WHOLE, fake.play(WHOLE, 1), lambda plan: fake.play(plan, 1), lambda: True, most=40)
    assert found.repeated and not found.ended and found.outcome.why == "an order was left"
    assert names(found.plan) == ["press", "power"]
    press, power = found.plan
    assert press.at_s == 0 and 3 <= power.lasts_s < 6 and power.at_s < 1
    assert fake.played[-1][0] != WHOLE and len(fake.played) == found.replays + 1


def test_no_more_is_played_than_is_allowed() -> None:
    """Neither more replays, nor any after the time; what was found until then counts."""
    fake = Fake(lambda _: "broken")
    found = shrink(WHOLE, Outcome("broken"), lambda plan: fake.play(plan, 1), lambda: True, most=3)
    assert len(fake.played) == 3 == found.replays and found.ended == "3 replays are over"
    assert found.plan in [plan for plan, _ in fake.played] and len(found.plan) == 2
    found = shrink(WHOLE, Outcome("broken"), lambda plan: fake.play(plan, 1), lambda: False)
    assert found.replays == 0 and not found.repeated and found.plan == WHOLE and "the time is over" in in_words(found)


def test_a_failure_that_does_not_repeat_is_told_as_such() -> None:
    """It was played again, and is a failure all the same."""
    fake = Fake()
    found = shrink(WHOLE, Outcome("once"), lambda plan: fake.play(plan, 1), lambda: True)
    assert [plan for plan, _ in fake.played] == [WHOLE] * 3
    assert not found.repeated and found.outcome.why == "once" and in_words(found) == "did not repeat: 3 replays"


def test_only_the_same_failure_makes_a_plan_smaller() -> None:
    """Neither a rig that breaks down nor another promise: these are told, and the plan that failed stays."""

    def played(plan: Plan) -> Outcome:
        if "late" not in names(plan):
            return Outcome(lost="the rig broke down: TimeoutExpired")
        if "power" not in names(plan):
            return Outcome("2 fills of the venue's are not in the ledger: [7]")
        return Outcome("waited 40 s for 4 quotes at the venue; the box says: no")

    found = shrink(WHOLE, Outcome("waited 80 s for 4 quotes at the venue; the box says: yes"), played, lambda: True, 40)
    assert found.repeated and names(found.plan) == ["late", "power"]
    assert "TimeoutExpired" in in_words(found) and "2 fills" in in_words(found)
    found = shrink(WHOLE, Outcome("broken"), lambda _: Outcome(lost="the rig broke down"), lambda: True)
    assert not found.repeated and found.plan == WHOLE and found.outcome.why == "broken"


def test_what_was_broken_is_compared_without_its_figures() -> None:
    """A trouble's promise by its name, the rest by its first words; a rig that broke down has broken no promise."""
    press = Verdict("press", 3.0, 1.5, "press at 5.00 s: 4 orders alive; none allowed")
    one = Outcome("waited 30 s for a position of -0.0012; the box says: 7", verdicts=[press, Verdict("mains", 0.1, 1)])
    assert one.kinds == {"press", "waited # s for a position of #"}
    assert one.why == f"{press.broken}; {one.words}"
    lost = Outcome(lost="the rig broke down: OSError")
    assert not lost.kinds and lost.why == ""


# Keeping --------------------------------------------------------------------------------------------------------------


def test_a_campaign_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    """Ctrl-C loses the plan that was played, which is told, and nothing else; the next run plays it anew."""
    fake = Fake(most=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fake)
    state = begin(tmp_path, KEY)
    assert [each.number for each in state.played] == [1, 2] and state.cut_short == ["plan 3: cut short by Ctrl-C"]
    again = Fake()
    state = run(tmp_path, again, 3)
    assert [each.number for each in state.played] == [1, 2, 3, 4, 5] and not state.cut_short
    assert again.played == [(draw(3, number, CAN), 3 + number) for number in (3, 4, 5)]
    assert begin(tmp_path, KEY) == state


def test_another_campaigns_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    """What differs is named; so is a file that is none of ours."""
    run(tmp_path, Fake(), 2)
    before = (tmp_path / "campaign.json").read_bytes()
    with pytest.raises(OtherError, match=r"of package: a \(now c\); nothing was changed; allowed: .*another --folder"):
        begin(tmp_path, KEY | {"package": "c"})
    assert (tmp_path / "campaign.json").read_bytes() == before
    (tmp_path / "campaign.json").write_text("not mine")
    with pytest.raises(OtherError, match="allowed: another --folder"):
        begin(tmp_path, KEY)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("mmpi/a/b.py", "package"), ("systemd/system/a.service", "units"), ("hil/venue.py", "scenarios"),
        ("hil/rigs/station.py", "scenarios"), ("scripts/install-service", "units"),
    ],
)  # fmt: skip
def test_the_key_is_of_the_source(path: str, name: str, tmp_path: Path) -> None:
    """One byte of the package, the units, the rigs or the scenarios makes another key."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("1")
    one = key(1, "nspawn", tmp_path)
    (tmp_path / path).write_text("2")
    two = key(1, "nspawn", tmp_path)
    assert {each for each in one if one[each] != two[each]} == {name}
    assert key(1, "nspawn") == key(1, "nspawn") != key(2, "nspawn")


def test_a_failure_is_kept_before_anything_else_is_played(tmp_path: Path) -> None:
    """Its file can be played again, and a Ctrl-C while it is shrunk does not lose it."""
    fake = Fake(lambda _: "an order was left", most=1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fake)
    (path,) = (tmp_path / "failures").iterdir()
    kept = json.loads(path.read_bytes())
    assert read_plan(kept["plan"]) == read_plan(kept["whole"]) == draw(3, 1, CAN)
    assert kept["again"] == f"python -m hil.campaign --repeat {path}" and kept["why"] == "an order was left"
    (played,) = begin(tmp_path, KEY).played
    assert played.result == FAILED and "cut short" in played.shrunk
    state = run(tmp_path, Fake(lambda plan: "again" if len(plan) == 1 else ""), 1)
    assert [each.result for each in state.played] == [FAILED, PASSED]


def test_a_folder_has_one_campaign_at_a_time(
    tmp_path: Path, played: "Fake", capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one is refused while it runs, exit 2, and nothing of it is changed; then it may."""
    words = ["--hours", "0.00004", "--folder", str(tmp_path / "c")]
    with held(tmp_path / "c"):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "in use by another campaign; allowed:" in err and len(err.splitlines()) == 1
        assert not played.played and not list((tmp_path / "c").iterdir())
    assert main(words) == 0


def test_a_rig_that_breaks_down_is_a_result_of_its_own(tmp_path: Path) -> None:
    """It is neither passed nor failed, and not shrunk; what was broken before it broke down is broken."""
    lost = "the rig broke down: TimeoutExpired"
    state = run(tmp_path, Fake(lost=lost), 2)
    assert [(each.result, each.why) for each in state.played] == [(BROKE_DOWN, lost)] * 2
    told = summary(state, [])
    assert told["broke_down"] == 2 and told["failed"] == 0 and told["breakdowns"][1] == {"number": 2, "why": lost}
    state = run(tmp_path, Fake(lambda _: "an order was left", lost=lost), 1)
    assert state.played[-1].result == FAILED and state.played[-1].why == f"an order was left; {lost}"
    found = shrink(WHOLE, Outcome("an order was left", lost=lost), lambda _: Outcome(lost=lost), lambda: True)
    assert in_words(found).startswith("did not repeat: 3 replays; on the way: ")


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--hours 0", "--hours: 0; allowed: a number above 0"),
        ("--hours nan", "--hours: nan; allowed"),
        ("--hours many", "--hours: many; allowed"),
        ("--hours 1 --rig moon", "--rig: moon; allowed: nspawn"),
        ("--hours 1 --seed -1", "--seed: -1; allowed"),
        ("", "--hours: missing; allowed"),
        ("--repeat FILE", "No such file or directory; allowed: a file of a campaign's failures"),
    ],
)
def test_wrong_usage_is_one_clear_line(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, option, value and what is allowed; nothing on stdout, and no folder is made."""
    folder = tmp_path / "none"
    given = [word.replace("FILE", str(folder / "7.json")) for word in words.split()]
    try:
        code: object = main([*given, "--folder", str(folder)])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and said in err
    assert not folder.exists()


def test_without_a_rig_everything_did_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 4, and why."""

    def no_rig(*_: object) -> None:
        raise UnavailableError("only root can boot a container")

    monkeypatch.setattr(campaign, "open_rig", no_rig)
    assert main(["--hours", "0.01", "--folder", str(tmp_path), "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["not_run"] == ["everything: only root can boot a container"] and told["played"] == 0
    assert main(["--hours", "0.01", "--folder", str(tmp_path)]) == 4
    assert "not run: everything: only root can boot a container" in capsys.readouterr().out


@pytest.mark.parametrize(("rig", "why"), [("virt", "with its cable pulled"), ("bench", "no bench rig here yet")])
def test_a_rig_on_which_plans_cannot_be_played_is_refused(
    rig: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, everything not run, and why; for the plan of a file, too."""
    assert main(["--hours", "0.01", "--rig", rig, "--folder", str(tmp_path), "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert len(told["not_run"]) == 1 and told["not_run"][0].startswith("everything: ") and why in told["not_run"][0]
    path = tmp_path / "007.json"
    path.write_text(json.dumps({"plan": [[1, "press", 2]], "seed": 3, "number": 7, "rig": rig}))
    assert main(["--repeat", str(path)]) == 4 and why in capsys.readouterr().out


def test_what_goes_wrong_while_a_rig_is_cleared_away_is_told_and_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan whose rig broke down is an outcome all the same, and the rig is opened anew."""
    opened: list[Path] = []

    @contextmanager
    def rough(folder: Path) -> Iterator[Opened]:
        opened.append(folder)
        yield Rig(), "10.0.0.1"  # type: ignore[misc]
        raise OSError("the disk is gone")

    def breaks(*_: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(play, "_play", breaks)
    player = play.Player(rough, 1)
    outcome = player.play(WHOLE, 1)
    assert outcome.lost == "the rig broke down: TimeoutError: no answer" and not outcome.why
    assert "not cleared away cleanly: OSError: the disk is gone" in capsys.readouterr().err
    player.rig()
    player.close()
    player.close()
    assert len(opened) == 2 and len(capsys.readouterr().err.splitlines()) == 1 and not any(map(Path.exists, opened))


class Disk(ServedDisk):
    """A disk that nobody serves: an order after its end finds a closed socket."""

    _tools = ()
    ends = 0

    def _begin(self, stack: ExitStack) -> None:
        self.served = True
        stack.callback(self._end)

    def _end(self) -> None:
        self.served = False
        self.ends += 1

    def slow_flush(self, seconds: float) -> None:
        """Order it, as far as there is anybody to."""
        if not self.served:
            raise OSError(f"the socket is closed, and flushes do not take {seconds:g} s")


def test_a_disk_that_has_ended_is_not_ended_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two disks clears away what there is, and is no OSError."""
    disk = Disk(tmp_path)
    disk.__exit__(None, None, None)
    with disk:
        pass
    disk.__exit__(None, None, None)
    assert disk.ends == 1

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hil.rigs.lossy.shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), Lossy(tmp_path / "l", lambda place, _: Disk(place)) as lossy:
        lossy.renew()
    assert lossy.disk.ends == 1


def test_a_port_is_given_once() -> None:
    """It is one of ours that nobody listens at; two callers at once get two."""
    found: list[int] = []
    callers = [threading.Thread(target=lambda: found.append(free_port())) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert len(set(found)) == 4 and set(found) <= set(PORTS)
    with socket.create_server(("127.0.0.1", found[0])):
        pass


def test_a_rig_that_breaks_while_it_is_opened_is_one_that_is_not_there() -> None:
    """That is no promise of the box's; nothing is left of it."""
    places: list[Path] = []

    @contextmanager
    def broken(folder: Path) -> Iterator[Opened]:
        places.append(folder)
        raise AssertionError("it does not boot")
        yield

    with pytest.raises(UnavailableError, match="the rig does not open: it does not boot"):
        play.Player(broken, 1).rig()
    assert not places[0].exists()


class Rig:
    """All that the command asks of one."""

    can = CAN


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """Have the command play on a rig that fakes."""
    fake = Fake()

    @contextmanager
    def open_rig(*_: object) -> Iterator[tuple[Rig, str]]:
        yield Rig(), "10.0.0.1"

    def at_once(_: object, plan: Plan, seed: int) -> Outcome:
        time.sleep(0.01)
        return fake.play(plan, seed)

    monkeypatch.setattr(campaign, "open_rig", open_rig)
    monkeypatch.setattr(campaign.Player, "play", at_once)
    monkeypatch.setattr(campaign, "key", lambda seed, rig: {"seed": str(seed), "rig": rig})
    yield fake


def test_the_summary_tells_what_was_played_and_what_not(
    tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object: plans, troubles, worst exposures, failures, what the rig cannot express; again, it goes on."""
    words = ["--hours", "0.00004", "--folder", str(tmp_path), "--seed", "5", "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["played"] == len(played.played) > 0 and first["failed"] == 0 and first["seed"] == "5"
    assert sum(first["troubles"].values()) == sum(len(plan) for plan, _ in played.played)
    assert first["worst"]["press"] == {"exposure_s": pytest.approx(0.1 * first["played"]), "allowed_s": 1.5}
    assert "trouble hot: this rig has no sensors" in first["not_run"]
    played.broken = lambda _: "an order was left"
    assert main([word for word in words if word not in ("--seed", "5", "--json")]) == 1
    out = capsys.readouterr().out
    assert f"FAILED: plan {first['played'] + 1} (failures/" in out and "an order was left" in out
    assert "not run: trouble hot: this rig has no sensors" in out


def test_hours_count_from_when_the_rig_is_ready(
    tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that took; and if no plan was begun all the same, that is said, exit 4."""
    at_once = campaign.open_rig

    def slow(*words: object) -> object:
        time.sleep(0.3)
        return at_once(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(campaign, "open_rig", slow)
    words = ["--folder", str(tmp_path), "--json", "--hours"]
    assert main([*words, "0.00004"]) == 0
    count = len(played.played)
    assert json.loads(capsys.readouterr().out)["played"] == count > 0
    assert main([*words, "1e-14"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["played"] == count and "any plan: none could be begun within 1e-14 h" in told["not_run"]


def test_a_broken_promise_is_never_hidden(
    tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rig any more while it is shrunk: that is the reason, and exit 1; a rig that only breaks down is exit 4."""
    played.lost = "the rig broke down: OSError"
    words = ["--hours", "0.00004", "--json", "--folder"]
    assert main([*words, str(tmp_path / "a")]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == 0 and told["broke_down"] == told["played"] > 0

    def once(_: object, plan: Plan, seed: int) -> Outcome:
        if played.played:
            raise UnavailableError("the rig does not open: no room")
        return played.play(plan, seed)

    played.played.clear()
    played.lost, played.broken = "", lambda _: "an order was left"
    monkeypatch.setattr(campaign.Player, "play", once)
    assert main(["--hours", "1", *words[2:], str(tmp_path / "b")]) == 1
    told = json.loads(capsys.readouterr().out)
    why = "the rig does not open: no room"
    assert told["failures"][0]["shrunk"] == f"not played again: there is no rig any more: {why}"
    assert f"what was to follow: {why}" in told["not_run"]


def test_ctrl_c_ends_with_130_and_a_summary(tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan that was cut short is told."""
    played.most = 1
    assert main(["--hours", "1", "--folder", str(tmp_path), "--json"]) == 130
    told = json.loads(capsys.readouterr().out)
    assert told["played"] == 1 and any("plan 2: cut short by Ctrl-C" in each for each in told["not_run"])


def test_another_seed_for_the_same_folder_is_refused(
    tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and nothing is played."""
    keep(tmp_path, State({"seed": "5", "rig": "nspawn"}))
    assert main(["--hours", "0.01", "--folder", str(tmp_path), "--seed", "6"]) == 2
    assert "seed: 5 (now 6)" in capsys.readouterr().err and not played.played


def test_a_failure_is_played_again_by_its_file(
    tmp_path: Path, played: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its plan and its seed; a rig that lacks something for it says so."""
    path = tmp_path / "007.json"
    path.write_text(json.dumps({"plan": [[1, "press", 2]], "seed": 3, "number": 7, "rig": "nspawn"}))
    assert main(["--repeat", str(path)]) == 0
    assert played.played == [((Step(1, "press", 2),), 10)] and "passed" in capsys.readouterr().out
    played.broken = lambda _: "an order was left"
    assert main(["--repeat", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["why"] == "an order was left"
    path.write_text(path.read_text().replace("press", "hot"))
    assert main(["--repeat", str(path)]) == 4
    assert "not run: hot: this rig cannot" in capsys.readouterr().out


def test_every_trouble_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """The list has each with its needs and its bound."""
    assert main(["--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["troubles"]
    assert {each["trouble"] for each in rows} == ALL.keys() and all(each["needs"] and each["what"] for each in rows)
    assert main(["--list"]) == 0 and len(capsys.readouterr().out.splitlines()) == len(ALL) >= 20
