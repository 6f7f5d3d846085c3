"""telemetry.alerts and its rules: what the owner is told of, once when it begins and once when it is over.

Print the page: python -m tests.test_alerts > docs/alerts.md (from the project's folder).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_builders import guardian, instrument, snapshot, summary

from mmpi.channels import AlertSettings
from mmpi.status import Latency, StorageStatus
from mmpi.telemetry.alert_findings import FORGOTTEN_S, START_S, UNSURE_S
from mmpi.telemetry.alert_rules import RULES, TABLE, markdown
from mmpi.telemetry.alerts import GAP_S, MOST_BYTES, MOST_CHANGES, MOST_TEXT, QUIET_S, Alert, Alerts
from mmpi.telemetry.payloads import AlertPayload
from mmpi.telemetry.snapshot import Exposure, GuardianView, QuoterView, Snapshot

PAGE = Path(__file__).resolve().parents[1] / "docs" / "alerts.md"
USUAL = AlertSettings()
HOUR = 3600.0
LONG_S = 1300.0
"""Twice the longest time of a rule."""
DAY = 24 * HOUR


# Snapshots --------------------------------------------------------------------------------------------------------


def quoter(alive: bool = True, age_s: float | None = 0.1, **changes: Any) -> dict[str, Any]:
    """Return the part of a snapshot that a quoter with these words makes."""
    storage = StorageStatus("", 0, 0, 0, 0.0, 0.0, 0.0, 0)
    return {"quoter": QuoterView(alive, age_s, 4242, summary(**{"storage": storage, **changes}))}


def guard(host: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the part of a snapshot that a guardian with these words makes."""
    status = guardian(**changes)
    status["box"]["host"].update(host or {})
    return {"guardian": GuardianView(0.2, status)}


def seen(*parts: dict[str, Any], **changes: Any) -> Snapshot:
    """Return a snapshot of a box that is well but for these parts."""
    usual = {**quoter(), **guard(), "uptime_s": DAY, "adverse_bps": 1.0}
    for part in parts:
        usual |= part
    return snapshot(**{**usual, **changes})


def flat(**changes: Any) -> dict[str, Any]:
    """Return a quoter without a position."""
    return quoter(instruments={"BTC": instrument(position="0")}, **changes)


def fed(age_ms: int | None, **changes: Any) -> dict[str, Any]:
    """Return a quoter whose market's data is so old."""
    return quoter(instruments={"BTC": instrument(feed_age_ms=age_ms, **changes)})


def stored(fault: str) -> StorageStatus:
    """Return a journal's state with this fault."""
    return StorageStatus(fault, 0, 0, 0, 0.0, 0.0, 0.0, 0)


def exposed(percent: float) -> dict[str, Any]:
    """Return an exposure of so much of the limit."""
    return {"exposures": {"BTC": Exposure(percent * 10, percent / 100)}}


LATCHED = guard(latch="latched", state="latched", reason="drawdown: 5 of 4", cause="drawdown")
SILENT: dict[str, Any] = {"guardian": None}
STALE = quoter(age_s=3.0)
"""A quoter that hangs, not long enough for its own alert."""
GONE = quoter(alive=False, age_s=3.0)
FIGURES = ("temperature_c", "disk_free_mb", "memory_mb", "undervoltage", "throttled")
NO_HOST = guard(dict.fromkeys(FIGURES, "UNAVAILABLE"))


class Case(msgspec.Struct):
    """How a rule's alert begins (after `wait_s`), stays, ends (after `rest_s`), and what does not touch it."""

    bad: Snapshot
    over: Snapshot
    unknown: list[Snapshot]
    wait_s: float = 0.0
    between: Snapshot | None = None
    instrument: str = ""
    off: str = ""
    rest_s: float = 0.0
    words: str = ""


def stale(*parts: dict[str, Any]) -> list[Snapshot]:
    """Return these parts with a quoter whose words are old, hangs, or is gone."""
    return [
        seen(*parts, {"quoter": msgspec.structs.replace(seen(*parts).quoter, alive=alive, age_s=3.0)})
        for alive in (True, False)
    ]


CASES = {
    "kill": Case(seen(LATCHED), seen(), [seen(SILENT)], words="drawdown: 5 of 4"),
    "guardian_silent": Case(seen(SILENT), seen(), [], UNSURE_S),
    "quoter_silent": Case(
        seen(quoter(age_s=5.0)), seen(), [seen(GONE, LATCHED)], between=seen(GONE), off="quoter_silent_s", rest_s=10,
        words="hangs: no sign of life for 5 s",
    ),
    "invariant_violated": Case(
        seen(quoter(invariant_violations=2)), seen(), stale(quoter(invariant_violations=2)), words="2 violations",
    ),
    "journal_fault": Case(
        seen(quoter(storage=stored("No space left on device"))), seen(),
        [seen(quoter(storage=None)), *stale(quoter(storage=stored("x")))], rest_s=10, words="No space left on device",
    ),
    "position": Case(
        seen(exposed(80)), seen(exposed(71)), [seen(exposures={}), *stale(exposed(99)), *stale(exposed(1))], 60,
        seen(exposed(73)), "BTC", "position_percent", words="at 80 % of its limit",
    ),
    "adverse_selection": Case(
        seen(adverse_bps=20.0), seen(adverse_bps=15.9),
        [*stale({"adverse_bps": 30.0}), seen(adverse_bps=None, uptime_s=10.0, last_fill_s=None),
         seen(adverse_bps=None, last_fill_s=30.0)],
        300, seen(adverse_bps=16.1), off="adverse_bps", words="20.0 bps",
    ),
    "no_fills": Case(
        seen(flat(), last_fill_s=700.0), seen(flat(), last_fill_s=4.0), stale(flat()), 600, off="no_fills_s", rest_s=60,
    ),
    "latency": Case(
        seen(quoter(tick_to_order_us=Latency(9.0, 50_000.0, 10))),
        seen(quoter(tick_to_order_us=Latency(9.0, 39_000.0, 10))),
        [seen(quoter(tick_to_order_us=Latency(0, 90_000, 0))), *stale(quoter(tick_to_order_us=Latency(9, 90_000, 9)))],
        300, seen(quoter(tick_to_order_us=Latency(9.0, 41_000.0, 10))), off="latency_p99_ms", words="50.0 ms",
    ),
    "feed_down": Case(
        seen(fed(10_000)), seen(fed(9_999)), [seen(fed(None)), *stale(fed(60_000))], 10, instrument="BTC",
        off="feed_age_s", rest_s=10, words="BTC: the last market data is 10 s old",
    ),
    "deadman_refused": Case(
        seen(quoter(deadman="REFUSED(no volume)")), seen(), [seen(quoter(deadman="UNARMED")), *stale(quoter())],
        words="REFUSED(no volume)",
    ),
    "clock": Case(
        seen(quoter(state="clock", reason="clock: 3 s off")), seen(),
        [seen(quoter(state="paused", reason="paused: by_hand")), *stale(quoter(state="clock"))], 30, words="3 s off",
    ),
    "paused": Case(
        seen(guard(state="paused", causes=["temperature", "by_hand"], details={"temperature": "83 degrees"})), seen(),
        [seen(SILENT), seen(STALE), seen(guard(state="reduce"))], 60, off="pause_for_s", rest_s=5,
        words="paused: temperature (83 degrees), by_hand",
    ),
    "temperature": Case(
        seen(guard({"temperature_c": 75.0})), seen(guard({"temperature_c": 70.0})), [seen(NO_HOST), seen(SILENT)], 60,
        seen(guard({"temperature_c": 70.1})), off="temperature_c", words="75 degrees Celsius",
    ),
    "disk": Case(
        seen(guard({"disk_free_mb": 127.9})), seen(guard({"disk_free_mb": 160.0})), [seen(NO_HOST), seen(SILENT)], 60,
        seen(guard({"disk_free_mb": 159.0})), off="disk_mb", words="128 MB are free",
    ),
    "memory": Case(
        seen(guard({"memory_mb": 63.9})), seen(guard({"memory_mb": 80.0})), [seen(NO_HOST), seen(SILENT)], 60,
        seen(guard({"memory_mb": 79.0})), off="memory_mb", words="64 MB of memory",
    ),
    "undervoltage": Case(
        seen(guard({"undervoltage": True})), seen(), [seen(NO_HOST), seen(SILENT)], rest_s=60,
        words="supply is too weak",
    ),
    "throttled": Case(
        seen(guard({"throttled": True})), seen(), [seen(NO_HOST), seen(SILENT)], rest_s=60, words="slowed down",
    ),
    "unhealthy_boot": Case(
        seen(guard(boot={"healthy": False, "why": "no connection"})), seen(),
        [seen(guard(boot={"healthy": None, "why": "not yet judged"})), seen(SILENT)], rest_s=5, words="no connection",
    ),
    "setup": Case(
        seen(guard(causes=["setup"], details={"setup": "wifi.txt: line 3"}, state="paused")), seen(), [seen(SILENT)],
        words="wifi.txt: line 3",
    ),
}  # fmt: skip


class Box:
    """Alerts, and the time that passes for them."""

    def __init__(self, kept: Path | None = None, settings: AlertSettings = USUAL, now: float = 500.0) -> None:
        self.settings, self.kept, self.now, self.wall = settings, kept, now, 1_800_000_000.0
        self.alerts = Alerts(settings, kept)

    def look(self, shown: Snapshot, after: float = 1.0) -> list[Alert]:
        """Let time pass, and look once."""
        self.now += after
        self.wall += after
        return self.alerts.look(msgspec.structs.replace(shown, monotonic=self.now, at=self.wall))

    def watch(self, shown: Snapshot, seconds: float, every: float = 1.0) -> list[Alert]:
        """Look at the same for so long."""
        return [change for _ in range(round(seconds / every)) for change in self.look(shown, every)]

    def restart(self, **changes: Any) -> None:
        """Begin anew, as a telemetry does that ended."""
        self.settings = msgspec.structs.replace(self.settings, **changes)
        self.alerts = Alerts(self.settings, self.kept)

    def names(self) -> list[str]:
        """Return what is active."""
        return [alert.name for alert in self.alerts.active]


def of(name: str, changes: list[Alert]) -> list[tuple[str, str]]:
    """Return instrument and state of a rule's changes."""
    return [(change.instrument, change.state) for change in changes if change.name == name]


# The table --------------------------------------------------------------------------------------------------------


def page() -> str:
    """Return the page with the table in it anew."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition("| alert |")
    return before + markdown() + rest[rest.index("\n\n") + 1 :]


def test_the_page_is_the_table() -> None:
    """docs/alerts.md shows every row as the code has it."""
    assert PAGE.read_text("utf-8") == page()


def test_every_row_has_a_test() -> None:
    """Of each rule it is tested below how it begins, stays and ends; the settings that it names are there."""
    assert list(CASES) == [rule.name for rule in TABLE]
    assert len(RULES) == len(TABLE)
    for rule in TABLE:
        assert not rule.setting or hasattr(USUAL, rule.setting)
        assert rule.wait_s(USUAL) == (CASES[rule.name].wait_s or 0)
        assert (rule.setting, rule.rest_s) == (CASES[rule.name].off, CASES[rule.name].rest_s)


def test_every_setting_has_a_rule() -> None:
    """No key of [alerts] is without effect."""
    used = {rule.setting for rule in TABLE} | {rule.wait for rule in TABLE if isinstance(rule.wait, str)}
    assert {name for name in USUAL.__struct_fields__ if name != "webhook_url"} == used - {""}


def test_a_box_that_is_well_is_silent() -> None:
    """Nothing is told of it in a day."""
    box = Box()
    assert box.watch(seen(), DAY, 60.0) + box.watch(seen(), LONG_S, 9.0) == []
    assert box.alerts.active == ()


def test_what_is_told_is_what_is_published() -> None:
    """An alert has what its payload needs (mmpi.telemetry.payloads)."""
    needed = set(AlertPayload.__struct_fields__) - {"sequence", "run", "at", "age_s"}
    assert needed == set(Alert.__struct_fields__) - {"value"}


# Each rule --------------------------------------------------------------------------------------------------------

each_rule = pytest.mark.parametrize("name", CASES)


def fired(box: Box, name: str) -> Alert:
    """Return a rule's alert once it has begun."""
    case = CASES[name]
    changes = box.watch(case.bad, case.wait_s + 1)
    assert of(name, changes) == [(case.instrument, "firing")]
    return next(change for change in changes if change.name == name)


@each_rule
def test_it_begins_after_its_time_and_is_told_once(name: str) -> None:
    """Not a second earlier than its setting says, and not again however long it lasts."""
    box, case = Box(), CASES[name]
    assert of(name, box.watch(case.bad, case.wait_s)) == []
    alert = next(change for change in box.look(case.bad) if change.name == name)
    assert (alert.instrument, alert.state, alert.severity) == (case.instrument, "firing", RULES[name].severity)
    assert alert.since == pytest.approx(box.wall - case.wait_s)
    assert case.words in alert.text
    assert of(name, box.watch(case.bad, LONG_S, 9.0)) == []
    assert name in box.names()


@each_rule
def test_it_ends_when_it_is_over(name: str) -> None:
    """Once, after its rest without a break, and then it is active no more; between the thresholds nothing happens."""
    box, case = Box(), CASES[name]
    since = fired(box, name).since
    if case.between is not None:
        assert of(name, box.watch(case.between, LONG_S, 9.0)) == []
        assert name in box.names()
    if case.rest_s:
        assert of(name, box.watch(case.over, case.rest_s)) == []
        box.look(case.bad)
        assert of(name, box.watch(case.over, case.rest_s)) == []
    alert = next(change for change in box.look(case.over) if change.name == name)
    assert (alert.instrument, alert.state, alert.since) == (case.instrument, "resolved", since)
    assert alert.text.startswith("over after ")
    assert name not in box.names()
    assert of(name, box.watch(case.over, LONG_S, 9.0)) == []


@each_rule
def test_what_is_not_known_neither_begins_nor_ends_it(name: str) -> None:
    """A sensor that cannot be read, a silent guardian, a quoter's old words: an alert stays what it was."""
    for unknown in CASES[name].unknown:
        box = Box()
        assert of(name, box.watch(unknown, LONG_S, 9.0)) == []
        fired(box, name)
        assert of(name, box.watch(unknown, LONG_S, 9.0)) == []
        assert name in box.names()


@each_rule
def test_a_break_begins_its_time_anew(name: str) -> None:
    """One look at which it is not so is a break."""
    case = CASES[name]
    box = Box()
    if not case.wait_s:
        assert of(name, box.look(case.over)) == []
        assert of(name, box.look(case.bad)) == [(case.instrument, "firing")]
        return
    # The time without fills is that of quoting flat: what breaks it is a position.
    other = seen(last_fill_s=700.0) if name == "no_fills" else case.over
    for _ in range(3):
        assert of(name, box.watch(case.bad, case.wait_s)) == []
        assert of(name, box.look(other)) == []
    assert of(name, box.watch(case.bad, case.wait_s + 1)) == [(case.instrument, "firing")]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.off])
def test_zero_switches_it_off(name: str, tmp_path: Path) -> None:
    """It never begins then, and one that was active when it was switched off is over at the next start."""
    case = CASES[name]
    box = Box(settings=msgspec.structs.replace(USUAL, **{case.off: 0.0}))
    assert of(name, box.watch(case.bad, LONG_S, 9.0)) == []
    box = Box(tmp_path / "alerts.json")
    fired(box, name)
    box.restart(**{case.off: 0.0})
    assert of(name, box.look(case.bad)) == [(case.instrument, "resolved")]
    assert of(name, box.watch(case.bad, LONG_S, 9.0)) == []


def test_a_time_of_zero_is_at_once() -> None:
    """A `_for_s` of 0 tells at the first look."""
    box = Box(settings=AlertSettings(position_for_s=0.0))
    assert of("position", box.look(seen(exposed(80)))) == [("BTC", "firing")]


# Single rules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "seconds", "told"),
    [
        (seen(quoter(alive=False, age_s=5.0)), 1, True),
        (seen(quoter(alive=False, age_s=5.0), LATCHED), HOUR, False),
        (seen(quoter(age_s=5.0), LATCHED), 1, True),
        (seen(quoter(alive=False, age_s=5.0), SILENT), UNSURE_S, False),
        (seen(quoter(alive=False, age_s=5.0), SILENT), UNSURE_S + 1, True),
        (seen(quoter(age_s=5.0), SILENT), 1, True),
        (seen({"quoter": QuoterView(False, None, 0, None)}), START_S, False),
        (seen({"quoter": QuoterView(False, None, 0, None)}), START_S + 1, True),
        (seen({"quoter": QuoterView(True, None, 4242, None)}), START_S, False),
        (seen({"quoter": QuoterView(True, None, 4242, None)}), START_S + 1, True),
        (seen({"quoter": QuoterView(False, None, 0, None)}, LATCHED), HOUR, False),
    ],
    ids=["dead", "dead-latched", "hangs-latched", "dead-unsure", "dead-alone", "hangs-alone", "never-began",
         "never-came", "starts", "never-ready", "latched-without"],
)  # fmt: skip
def test_a_quoter_that_should_live(shown: Snapshot, seconds: float, told: bool) -> None:
    """One that hangs is always told; one that is not there only while it should be, and had its time to start."""
    assert of("quoter_silent", Box().watch(shown, seconds)) == ([("", "firing")] if told else [])


def test_a_quoter_that_dies_again_and_again_is_one_alert() -> None:
    """Between its deaths it lives too short for the alert to be over."""
    box, told = Box(), []
    for _ in range(60):
        told += box.watch(seen(quoter(alive=False, age_s=6.0)), 4)
        told += box.watch(seen({"quoter": QuoterView(True, None, 4243, None)}), 3)
        told += box.watch(seen(), 8)
    assert of("quoter_silent", told) == [("", "firing")]


def test_a_lost_network_is_one_alert_whatever_the_markets_show() -> None:
    """Without a connection only the box's alert is told; markets that stay silent after that have theirs."""
    old = {name: instrument(feed_age_ms=30_000) for name in ("BTC", "ETH", "SOL")}
    box = Box()
    lost = seen(quoter(instruments=old, state="connecting", reason="connecting"))
    assert of("feed_down", box.watch(lost, LONG_S, 9.0)) == [("", "firing")]
    back = seen(quoter(instruments={**old, "BTC": instrument(feed_age_ms=5)}))
    assert of("feed_down", box.watch(back, 10)) == []
    assert of("feed_down", box.look(back)) == [("", "resolved"), ("ETH", "firing"), ("SOL", "firing")]
    box = Box()
    paused = quoter(instruments=old, state="paused", reason="paused: venue_session")
    down = seen(paused, guard(causes=["venue_session"]))
    assert of("feed_down", box.watch(down, LONG_S, 9.0)) == [("", "firing")]


def test_a_market_that_was_never_heard_of() -> None:
    """A quoter that waits for a first price is told like one whose data is old."""
    changes = Box().watch(seen(fed(None, reason="no_price")), USUAL.feed_age_s + 1)
    assert of("feed_down", changes) == [("BTC", "firing")]


def test_an_instrument_that_is_not_quoted_any_more_ends_its_alert() -> None:
    """A new configuration without it: there would be nobody left to end it."""
    box = Box()
    fired(box, "position")
    other = seen(quoter(instruments={"ETH": instrument()}), exposures={"ETH": Exposure(1, 0.1)})
    assert of("position", box.watch(stale(exposed(1))[0], LONG_S, 9.0)) == []
    assert of("position", box.look(other)) == [("BTC", "resolved")]


def test_each_instrument_has_its_own_alert() -> None:
    """One that is over does not end another's."""
    markets = quoter(instruments={"BTC": instrument(), "ETH": instrument()})
    box = Box()
    both = {"BTC": Exposure(1, 0.9), "ETH": Exposure(1, 0.95)}
    told = of("position", box.watch(seen(markets, exposures=both), 61))
    assert told == [("BTC", "firing"), ("ETH", "firing")]
    one = {**both, "BTC": Exposure(1, 0.1)}
    assert of("position", box.watch(seen(markets, exposures=one), 61)) == [("BTC", "resolved")]
    assert [alert.instrument for alert in box.alerts.active] == ["ETH"]


def test_adverse_selection_is_over_when_nobody_trades_with_us() -> None:
    """Ten minutes without a fill end it, but not the ignorance of a telemetry that has just begun."""
    box = Box()
    fired(box, "adverse_selection")
    young = seen(adverse_bps=None, last_fill_s=None, uptime_s=FORGOTTEN_S - 1)
    assert of("adverse_selection", box.watch(young, LONG_S, 9.0)) == []
    quiet = seen(adverse_bps=None, last_fill_s=FORGOTTEN_S)
    assert of("adverse_selection", box.look(quiet)) == [("", "resolved")]


@pytest.mark.parametrize(
    "shown",
    [
        seen(quoter(state="paused", reason="paused: x", instruments={"BTC": instrument(position="0")})),
        seen(quoter(instruments={"BTC": instrument(position="0", reason="stale_data")})),
        seen(last_fill_s=None),
    ],
    ids=["paused", "no market quoted", "holds a position"],
)
def test_no_fills_are_told_only_while_fills_could_be(shown: Snapshot) -> None:
    """Who does not quote has no fills, and who holds a position waits for something else."""
    assert of("no_fills", Box().watch(shown, LONG_S, 9.0)) == []


def test_a_time_without_fills_begins_with_the_last_one() -> None:
    """Not with the moment at which quoting resumed, and a fill in between begins it anew."""
    box = Box()
    told = []
    for second in range(3000):
        told += of("no_fills", box.look(seen(flat(), last_fill_s=float(second % 500))))
    assert told == []
    began = [second for second in range(500, 700) if of("no_fills", box.look(seen(flat(), last_fill_s=float(second))))]
    assert began == [USUAL.no_fills_s]
    box = Box()
    box.watch(seen(guard(state="paused")), 100, 5.0)
    assert of("no_fills", box.watch(seen(flat(), last_fill_s=9000.0), USUAL.no_fills_s)) == []
    assert of("no_fills", box.watch(seen(flat(), last_fill_s=9000.0), 1)) == [("", "firing")]


def test_a_latch_takes_a_pauses_place() -> None:
    """Who is latched is not paused any more: the alert of the pause ends, that of the latch stays."""
    box = Box()
    fired(box, "paused")
    latched = guard(latch="latched", state="latched", reason="kill_button", causes=["temperature"])
    told = box.watch(seen(latched), 10)
    assert of("paused", told) == [("", "resolved")]
    assert of("kill", told) == [("", "firing")]
    assert "kill" in box.names() and "paused" not in box.names()


def test_a_pause_that_only_the_quoter_knows_is_told() -> None:
    """The guardian lets it run, and still it does not quote."""
    shown = seen(quoter(state="reconciling", reason="reconciling"))
    changes = Box().watch(shown, USUAL.pause_for_s + 1)
    assert of("paused", changes) == [("", "firing")]
    assert changes[-1].text == "it does not quote: reconciling"


def test_a_flatten_says_why_it_is_latched() -> None:
    """While positions are sold the halt word has another reason than the latch."""
    latched = guard(latch="latched", state="reduce", reason="flatten by hand", cause="daily_loss")
    assert "daily_loss" in Box().look(seen(latched))[0].text


@pytest.mark.parametrize("name", ["undervoltage", "throttled"])
def test_a_weak_supply_that_the_guardian_still_counts(name: str) -> None:
    """The guardian's cause lasts longer than the kernel's bit, and so does the alert."""
    box = Box()
    fired(box, name)
    assert of(name, box.watch(seen(guard(causes=[name])), LONG_S, 9.0)) == []
    assert name in box.names()


@pytest.mark.parametrize(
    "status",
    [{}, {"box": None, "boot": None, "causes": None, "details": None}, {"box": {"host": []}, "boot": 3, "latch": 5},
     {"box": {"host": {"temperature_c": True, "disk_free_mb": "full"}}}],
)  # fmt: skip
def test_a_guardian_of_another_version_is_no_failure(status: dict[str, Any]) -> None:
    """What its answer does not have is not known; the rules about the quoter go on."""
    box = Box()
    strange = {"guardian": GuardianView(0.1, status)}
    assert box.watch(seen(strange), LONG_S, 9.0) == []
    assert of("position", box.watch(seen(strange, exposed(90)), 61)) == [("BTC", "firing")]


def test_an_active_alert_says_how_things_stand() -> None:
    """Its figure and text follow, without being told again; the gravest is first."""
    box = Box()
    fired(box, "position")
    box.look(seen(exposed(97)))
    (alert,) = box.alerts.active
    assert alert.value == pytest.approx(97)
    assert alert.text.startswith("BTC: the position is at 97 % of")
    box.look(seen(exposed(97), LATCHED))
    assert box.names() == ["kill", "position"]


def test_a_text_is_one_line_of_limited_length() -> None:
    """Whatever a venue or a person put into a reason."""
    reason = "by\x1b[31m\n\rsomebody \ud800 " + "x" * 1000
    alert = Box().look(seen(guard(latch="latched", state="latched", reason=reason)))[0]
    assert alert.text.isprintable()
    assert len(alert.text) == MOST_TEXT
    assert alert.text.startswith("stopped and latched: by?[31m somebody ? xxx")


# Time -------------------------------------------------------------------------------------------------------------


def test_what_is_not_known_for_a_while_is_no_break_and_does_not_count() -> None:
    """Up to GAP_S: then it begins anew, as it does when nobody looked for so long."""
    hot, unread = CASES["temperature"].bad, seen(NO_HOST)
    box = Box()
    assert of("temperature", box.watch(hot, 50)) == []
    assert of("temperature", box.watch(unread, GAP_S)) == []
    assert of("temperature", box.watch(hot, 10)) == []
    assert of("temperature", box.watch(hot, 1)) == [("", "firing")]
    for gap in ([(unread, 1.0)] * 11, [(hot, GAP_S + 1)]):
        box = Box()
        box.watch(hot, 60)
        assert [change for shown, after in gap for change in of("temperature", box.look(shown, after))] == []
        assert of("temperature", box.watch(hot, 50)) == []
        assert of("temperature", box.watch(hot, 11)) == [("", "firing")]


@given(st.lists(st.tuples(st.sampled_from(["bad", "over", "unknown"]), st.floats(-1e9, 1e9)), max_size=40))
def test_a_clock_that_is_set_changes_nothing(looks: list[tuple[str, float]]) -> None:
    """Whatever the wall clock says, the same is told at the same looks; only `since` follows it."""
    case = CASES["temperature"]
    shown = {"bad": case.bad, "over": case.over, "unknown": case.unknown[0]}
    right, wrong = Box(), Box()
    for kind, jump in looks:
        wrong.wall = jump
        told = [box.look(shown[kind], 9.0) for box in (right, wrong)]
        same = [[msgspec.structs.replace(each, since=0.0) for each in changes] for changes in told]
        assert same[0] == same[1]


def test_a_slow_or_quick_look_makes_no_difference() -> None:
    """Four looks a second or one in eight seconds: it begins at the first look after its time."""
    for every in (0.25, 1.0, 7.9):
        box = Box()
        told = [index * every for index in range(2000) if of("latency", box.look(CASES["latency"].bad, every))]
        assert len(told) == 1
        assert 300 <= told[0] < 300 + every + 1e-6


# A restart --------------------------------------------------------------------------------------------------------


@each_rule
def test_a_restart_neither_repeats_an_alert_nor_loses_its_end(name: str, tmp_path: Path) -> None:
    """The same since, nothing told again, and the recovery when it comes, whichever process sees it."""
    box, case = Box(tmp_path / "alerts.json"), CASES[name]
    alert = fired(box, name)
    for _ in range(3):
        box.restart()
        assert [each.since for each in box.alerts.active if each.name == name] == [alert.since]
        assert of(name, box.watch(case.bad, 2 * case.wait_s + 5)) == []
    box.restart()
    told = of(name, box.watch(case.over, case.rest_s + 1))
    assert told == [(case.instrument, "resolved")]
    box.restart()
    assert name not in box.names()
    assert of(name, box.watch(case.over, case.rest_s + 1)) == []


def test_another_boot_has_another_time(tmp_path: Path) -> None:
    """Times of a monotonic clock that began anew are not compared: the alert ends, without a duration."""
    box = Box(tmp_path / "alerts.json", now=50_000.0)
    fired(box, "temperature")
    box.now = 3.0
    box.restart()
    changes = box.look(CASES["temperature"].over)
    assert of("temperature", changes) == [("", "resolved")]
    assert changes[0].text.startswith("over: ")


def test_what_is_kept_is_put_in_place_whole(tmp_path: Path) -> None:
    """Nothing but the file is left, and it is written when something changed, not at every look."""
    box = Box(tmp_path / "alerts.json")
    fired(box, "temperature")
    assert os.listdir(tmp_path) == ["alerts.json"]
    inode = (tmp_path / "alerts.json").stat().st_ino
    for degrees in range(76, 99):
        box.look(seen(guard({"temperature_c": float(degrees)})))
    assert (tmp_path / "alerts.json").stat().st_ino == inode
    box.look(CASES["temperature"].over)
    assert (tmp_path / "alerts.json").stat().st_ino != inode


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    # To a file that would be a good one in its own place.
    path.with_name("other.json").write_bytes(GOOD)
    path.symlink_to("other.json")


def _bytes(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


CASE = (
    b'{"alert":{"name":"kill","instrument":"","severity":"%s","state":"firing","text":"","since":1.0},'
    b'"began":%s,"told":true}'
)
GOOD = b'{"mmpi_alerts":1,"cases":[' + CASE % (b"critical", b"1") + b'],"books":{}}'


@pytest.mark.parametrize(
    "damage",
    [
        _bytes(b""), _bytes(b"{"), _bytes(b"\xff\xfe\x00"), _bytes(b"null"), _bytes(b"[]"), _bytes(b"{}"),
        _bytes(b'{"mmpi_alerts":2,"cases":[],"books":{}}'), _bytes(b'{"mmpi_alerts":1,"cases":[],"books":{},"x":1}'),
        _bytes(b'{"mmpi_alerts":1,"cases":[],"books":{}}' + b" " * MOST_BYTES), _bytes(b"[" * 100_000),
        _bytes(b'{"mmpi_alerts":1,"cases":[' + CASE % (b"grave", b"1") + b'],"books":{}}'),
        _bytes(b'{"mmpi_alerts":1,"cases":[' + CASE % (b"critical", b"NaN") + b'],"books":{}}'),
        _bytes(b'{"mmpi_alerts":1,"cases":[' + CASE % (b"critical", b"1e999") + b'],"books":{}}'),
        _directory, _pipe, _link,
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_or_not_ours_is_told_and_passed_over(
    damage: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says so, alerts begin anew, and the next change puts a good file in its place where that can be."""
    path = tmp_path / "alerts.json"
    damage(path)
    box = Box(path)
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and f"{path}: " in said and "alerts begin anew" in said
    assert box.alerts.active == ()
    fired(box, "temperature")
    if path.is_dir():
        assert "alerts cannot be kept" in capfd.readouterr().err
        return
    box.restart()
    assert box.names() == ["temperature"]
    assert not path.is_symlink()
    assert capfd.readouterr().err == ""


def test_a_good_file_is_what_the_damaged_ones_nearly_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same text with everything right is taken, so the test above tests what it says."""
    path = tmp_path / "alerts.json"
    path.write_bytes(GOOD)
    assert Box(path).names() == ["kill"]
    assert capfd.readouterr().err == ""


def test_alerts_go_on_where_nothing_can_be_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there costs a line, not an alert; it is said once."""
    box = Box(tmp_path / "none" / "alerts.json")
    for _ in range(3):
        fired(box, "temperature")
        assert of("temperature", box.look(CASES["temperature"].over)) == [("", "resolved")]
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "alerts cannot be kept: No such file or directory" in said


# Flapping ---------------------------------------------------------------------------------------------------------


def flap(box: Box, times: int, every: float = 1.0) -> list[Alert]:
    """Let the dead-man switch be refused and armed again so many times."""
    case = CASES["deadman_refused"]
    return [change for _ in range(times) for shown in (case.bad, case.over) for change in box.look(shown, every)]


def test_what_flaps_is_told_a_number_of_times_and_then_once_more() -> None:
    """MOST_CHANGES, one message that says so, and nothing until it has stood still; then how it stands."""
    box = Box()
    told = flap(box, 200)
    assert [change.state for change in told[:MOST_CHANGES]] == ["firing", "resolved"] * (MOST_CHANGES // 2)
    assert len(told) == MOST_CHANGES + 1
    assert (told[-1].state, "deadman_refused is flapping" in told[-1].text) == ("firing", True)
    assert not any("flapping" in change.text for change in told[:-1])
    still = CASES["deadman_refused"].over
    assert box.watch(still, QUIET_S - 2) == []
    assert [(change.state, "flapping" in change.text) for change in box.watch(still, 3)] == [("resolved", False)]
    assert box.watch(still, HOUR + 9, 9.0) == []
    assert len(flap(box, 200)) == MOST_CHANGES + 1, "an hour later there is room again"


def test_what_flaps_and_ends_as_it_was_told_is_not_told_again() -> None:
    """The owner was told last that it is so, and so it is."""
    box = Box()
    flap(box, 200)
    case = CASES["deadman_refused"]
    assert box.watch(case.bad, 2 * QUIET_S, 5.0) == []
    assert box.names() == ["deadman_refused"]
    assert of("deadman_refused", box.look(case.over)) == [("", "resolved")]


def test_a_rule_that_flaps_does_not_silence_others() -> None:
    """Each has its own number; and `active` always says how it is, told or not."""
    box = Box()
    flap(box, 200)
    assert box.names() == []
    hot = seen(guard({"temperature_c": 90.0}), quoter(deadman="REFUSED(no volume)"))
    assert of("temperature", box.watch(hot, 61)) == [("", "firing")]
    assert box.names() == ["deadman_refused", "temperature"]


def test_a_restart_does_not_make_room(tmp_path: Path) -> None:
    """What was told in this hour counts in the next process, too, and so does that it flaps."""
    box = Box(tmp_path / "alerts.json")
    told = []
    for _ in range(100):
        told += flap(box, 2)
        box.restart()
    assert len(told) == MOST_CHANGES + 1
    assert [change.state for change in box.watch(CASES["deadman_refused"].over, QUIET_S + 5)] == ["resolved"]


SHOWN = {
    "well": seen(guard({"temperature_c": 40.0})),
    "unread": seen(),
    "hot": CASES["temperature"].bad,
    "refused": CASES["deadman_refused"].bad,
    "weak": CASES["undervoltage"].bad,
    "latched": seen(LATCHED),
    "silent": seen(SILENT),
    "hangs": seen(quoter(age_s=9.0)),
    "stale": seen(STALE),
    "connecting": seen(quoter(state="connecting", reason="connecting")),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(SHOWN)), st.sampled_from([0.25, 1.0, 5.0, 9.0, 70.0, 400.0]),
                       st.integers(1, 30), st.booleans()), max_size=40),
)  # fmt: skip
def test_beginnings_and_ends_alternate_and_the_last_word_is_right(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[str, float, int, bool]]
) -> None:
    """Whatever happens, restarts included: no alert begins or ends twice, few are told, and in the end all is told."""
    box = Box(tmp_path_factory.mktemp("kept") / "alerts.json")
    told: dict[tuple[str, str], str] = {}
    times: dict[str, list[float]] = {}

    def take(changes: list[Alert]) -> None:
        for change in changes:
            key = (change.name, change.instrument)
            assert told.get(key, "resolved") != change.state
            told[key] = change.state
            times.setdefault(change.name, []).append(box.now)

    for kind, every, count, restart in looks:
        for turn in range(count):
            take(box.look(SHOWN[kind if turn % 2 else "well"], every))
        if restart:
            box.restart()
    for at in times.values():
        # An hour has room for the changes, and for each ten minutes of standing still for two more.
        assert all(sum(0 <= later - at_first < HOUR for later in at) <= MOST_CHANGES + 14 for at_first in at)
    take(box.watch(SHOWN["well"], QUIET_S + 100, 5.0))
    assert box.alerts.active == ()
    assert set(told.values()) <= {"resolved"}


def test_nothing_grows(tmp_path: Path) -> None:
    """Markets that come and go in the middle of their times, and a rule that flaps on and on, leave nothing behind."""
    path = tmp_path / "alerts.json"
    box = Box(path)
    sizes = []
    for number in range(90):
        markets = {f"M{number}": instrument(feed_age_ms=30_000)}
        shown = quoter(instruments=markets, deadman="REFUSED(no volume)" if number % 2 else "ARMED")
        box.watch(seen(shown, exposures={f"M{number}": Exposure(1, 0.9)}), 63, 9.0)
        box.watch(seen(shown, exposures={f"M{number}": Exposure(1, 0.1)}), 9, 9.0)
        # A market of which nothing is known any more: neither the quoter nor anybody else says that it is gone.
        box.watch(stale(shown)[0], 18, 9.0)
        sizes.append((path.stat().st_size, sum(map(len, box.alerts._watches.values())), len(box.alerts._cases)))
    assert len(box.alerts.active) <= 2
    assert max(size[0] for size in sizes[40:]) <= max(size[0] for size in sizes[:40]) + 100
    assert max(size[1:] for size in sizes) <= (4, 4)


if __name__ == "__main__":
    print(page(), end="")
