"""Page state: what the page shows of a snapshot, and the past that its charts begin with."""

from typing import Any

import msgspec
import pytest
from telemetry_builders import guardian, instrument, snapshot, summary

from mmpi.causes import CAUSES
from mmpi.device.lights import PATTERNS
from mmpi.status import PnlStatus
from mmpi.telemetry.page_state import (
    MAX_INSTRUMENTS,
    OLD_S,
    SHOWN_FILLS,
    SHOWN_ORDERS,
    TRACKS,
    AlertState,
    History,
    PageState,
    lamp_state,
    page_state,
)
from mmpi.telemetry.snapshot import Fill, GuardianView, QuoterView, Snapshot


def shown(told: Snapshot, *alerts: AlertState) -> PageState:
    """Return what the page shows of a snapshot."""
    return page_state(told, 5.0, alerts, lamp_state(told))


def by_guardian(**changes: Any) -> Snapshot:
    """Return a snapshot with another word of the guardian."""
    return snapshot(guardian=GuardianView(0.2, guardian(**changes)))


def at(now: float, age_s: float = 0.1, **changes: Any) -> Snapshot:
    """Return a snapshot of this moment; changes are the quoter's words."""
    return snapshot(monotonic=now, quoter=QuoterView(True, age_s, 4242, summary(**changes)))


def tracks(history: History) -> list[dict[str, Any]]:
    """Return the tracks as a client gets them."""
    told = msgspec.json.decode(history.encoded())
    assert told["kind"] == "history"
    return list(told["tracks"])


# Lamps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATTERNS)
def test_lamps_are_those_of_the_table(name: str) -> None:
    """Every sign shows the lamps, the rhythm and the words that the box itself has for it."""
    pattern, lamps = PATTERNS[name], lamp_state(by_guardian(sign=name))
    assert (lamps.sign, lamps.says, lamps.rhythm, lamps.age_s) == (name, pattern.says, pattern.rhythm, 0.2)
    assert lamps.lit == tuple(each for each in ("green", "amber", "red") if getattr(pattern, each))


@pytest.mark.parametrize("age_s", [None, OLD_S + 0.01])
def test_lamps_of_a_silent_guardian_are_unknown(age_s: float | None) -> None:
    """Without a word of the guardian, or with one older than 2 s, no lamp is shown as lit."""
    told = snapshot(guardian=GuardianView(age_s, guardian()) if age_s is not None else None)
    assert (lamp_state(told).sign, lamp_state(told).lit, lamp_state(told).age_s) == ("unknown", (), None)


def test_a_sign_that_is_not_in_the_table_is_a_fault() -> None:
    """As on the box: what nobody knows is not shown as well."""
    assert lamp_state(by_guardian(sign="splendid")).sign == "fault"


# The state ----------------------------------------------------------------------------------------------------------


def test_the_state_is_the_snapshot_with_ages() -> None:
    """Exact money as text, ages of each part, ladders with our orders, and the newest fill first."""
    fills = tuple(Fill(f"f{n}", "BTC", "buy", "100", "1", "0", True, float(n), {"1s": None}) for n in range(30))
    state = shown(snapshot(fills=fills), AlertState("kill", "", "critical", "latched", 900.0))
    assert state.box.device == "shelf"
    assert (state.box.quoter_age_s, state.box.guardian_age_s, state.monotonic) == (0.1, 0.2, 50.0)
    assert state.pnl is not None
    assert state.pnl.total == "1.125"
    assert state.ladders["BTC"].bids == [("100", "3"), ("99", "4")]
    assert [order.side for order in state.ladders["BTC"].own] == ["buy", "sell"]
    assert [fill.exec_id for fill in state.fills] == [f"f{n}" for n in range(29, 29 - SHOWN_FILLS, -1)]
    assert [alert.name for alert in state.alerts] == ["kill"]


def test_orders_of_a_quoter_that_is_gone_are_not_shown() -> None:
    """The book stays with its age; orders that nobody vouches for do not."""
    state = shown(snapshot(quoter=QuoterView(False, 30.0, 4242, summary())))
    assert state.ladders["BTC"].own == []
    assert state.box.quoter_age_s == 30.0


def test_nothing_known_is_null() -> None:
    """Before anybody has said anything the state holds no made-up numbers."""
    silent = QuoterView(False, None, 0, None)
    state = shown(snapshot(quoter=silent, guardian=None, exposures={}, fills=(), last_fill_s=None))
    assert {state.pnl, state.stop, state.lamps.age_s, state.storage, state.last_fill_s} == {None}
    assert (state.box.quoter_age_s, state.ladders, state.fills, state.causes) == (None, {}, [], [])


@pytest.mark.parametrize("name", CAUSES)
def test_causes_have_words(name: str) -> None:
    """Each cause comes with what the guardian said, whether it latches, when it is found and how it ends."""
    (cause,) = shown(by_guardian(causes=[name], details={name: "because"})).causes
    row = CAUSES[name]
    assert (cause.name, cause.kind, cause.detail) == (name, row.kind.value, "because")
    assert (cause.when, cause.ends) == (row.when, row.ends)


def test_what_latched_is_a_cause_with_its_reason() -> None:
    """A latch on the disk is no cause of the moment any more, and holds quoting up all the same."""
    (cause,) = shown(by_guardian(latch="latched", cause="command", reason="the phone: tea")).causes
    assert (cause.name, cause.kind, cause.detail) == ("command", "latch", "the phone: tea")


def test_the_last_stop_has_its_proof() -> None:
    """Verified zero with its milliseconds; without a stop they are null."""
    last = {"reason": "kill", "first_zero_ms": 120.0, "verified_ms": 243.0}
    stop = shown(by_guardian(verified_zero=True, live_orders=0, last_stop=last)).stop
    assert stop is not None
    assert (stop.verified, stop.live_orders, stop.reason, stop.verified_ms) == (True, 0, "kill", 243.0)
    none = shown(by_guardian()).stop
    assert none is not None
    assert (none.verified, none.verified_ms) == (False, None)


def test_the_state_is_bounded() -> None:
    """However many orders rest, a state stays small."""
    own = instrument().own * 1000
    state = shown(at(1.0, instruments={"BTC": instrument(own=own)}))
    assert len(state.ladders["BTC"].own) == SHOWN_ORDERS
    assert len(msgspec.json.encode(state)) < 16_000


# The past -----------------------------------------------------------------------------------------------------------


def test_the_past_holds_a_day_and_no_more() -> None:
    """After two days at four looks a second each track is full, none has grown, and the steps are what they say."""
    history, now = History(), at(0.0)
    end = 2 * 86_400
    moments = [*range(0, end - 7200, 60), *range(end - 7200, end, 5), *(end + look / 4 for look in range(4 * 700))]
    for moment in moments:
        history.add(msgspec.structs.replace(now, monotonic=float(moment)))
    for track, (step_s, size) in zip(tracks(history), TRACKS, strict=True):
        ages = track["ages_s"]
        assert (track["step_s"], track["size"], len(ages)) == (step_s, size, size)
        assert all(len(values) == size for parts in track["series"].values() for values in parts.values())
        gaps = [older - newer for older, newer in zip(ages, ages[1:], strict=False)]
        assert min(gaps) == pytest.approx(step_s, abs=0.2)
        assert max(gaps) == pytest.approx(step_s, abs=5.2 if step_s > 1 else 0.2)
    assert tracks(history)[2]["ages_s"][0] == pytest.approx(86_400, rel=0.01)
    assert len(history.encoded()) < 100_000


def test_parts_and_positions_are_in_the_past() -> None:
    """The whole's parts and, for each instrument, parts and position, as numbers."""
    history = History()
    history.add(at(1.0))
    (series,) = [track["series"] for track in tracks(history)[:1]]
    assert series[""] == {"spread": [1.5], "inventory": [-0.25], "funding": [0.0], "fees": [0.125]}
    assert series["BTC"]["position"] == [2.0]
    assert series["BTC"]["spread"] == [1.5]


def test_a_silent_quoter_leaves_a_gap() -> None:
    """Old words are no points: null, not the last value."""
    history = History()
    history.add(at(1.0))
    history.add(at(2.0, OLD_S + 0.5))
    history.add(at(3.0, pnl=PnlStatus("2", "0", "0", "0", "2")))
    assert tracks(history)[0]["series"][""]["spread"] == [1.5, None, 2.0]


def test_instruments_that_are_gone_are_forgotten() -> None:
    """Columns follow the instruments, up to a fixed number; new ones begin with nulls."""
    history = History()
    history.add(at(1.0))
    history.add(at(2.0, instruments={"ETH": instrument()}))
    series = tracks(history)[0]["series"]
    assert (series.keys(), series["ETH"]["position"]) == ({"", "ETH"}, [None, 2.0])
    history.add(at(3.0, instruments={f"I{n}": instrument() for n in range(100)}))
    assert len(tracks(history)[0]["series"]) == MAX_INSTRUMENTS + 1


def test_the_past_is_encoded_once_a_point() -> None:
    """Clients that come in the same second get the same text."""
    history = History()
    history.add(at(1.0))
    first = history.encoded()
    history.add(at(1.25))
    assert history.encoded() is first
    history.add(at(2.0))
    assert history.encoded() != first
