"""telemetry.payloads: what is published, and its JSON Schemas."""

import json
from pathlib import Path

import msgspec
import pytest
from telemetry_builders import guardian, instrument, snapshot, summary

from mmpi.telemetry import payloads
from mmpi.telemetry.snapshot import GuardianView, QuoterView, Snapshot

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTHING = snapshot(quoter=QuoterView(False, None, 0, None), guardian=None, exposures={}, fills=(), last_fill_s=None)
GONE = snapshot(quoter=QuoterView(False, 30.0, 4242, summary()))


def test_the_schemas_are_published() -> None:
    """docs/telemetry-payloads.json is what the structs say: python -m mmpi.telemetry > docs/telemetry-payloads.json."""
    assert json.loads((DOCS / "telemetry-payloads.json").read_text(encoding="utf-8")) == payloads.schemas()


@pytest.mark.parametrize("seen", [snapshot(), NOTHING, GONE], ids=["well", "nothing", "gone"])
def test_every_payload_has_sequence_time_and_age(seen: Snapshot) -> None:
    """And can be read by its own type, whatever is known."""
    made = [payloads.status(seen, 5.0), payloads.orders(seen, 5.0), payloads.host(seen, 5.0), payloads.pnl(seen, 5.0)]
    made += [payloads.fill(each, seen, 5.0) for each in seen.fills]
    for each in made:
        if each is None:
            assert seen.quoter.summary is None
            continue
        text = msgspec.json.encode(each)
        assert msgspec.json.decode(text, type=type(each)) == each
        said = json.loads(text)
        assert (said["sequence"], said["run"], said["at"]) == (7, 5.0, 1000.0) and "age_s" in said


def test_a_box_that_is_well() -> None:
    """The figures of quoter, guardian and exposure come together."""
    told = payloads.status(snapshot(), 5.0)
    assert (told.state, told.latch, told.sign, told.quoter_alive, told.guardian_alive) == (
        "quoting", "armed", "practice", True, True,
    )  # fmt: skip
    one = told.instruments["BTC"]
    assert (one.mid, one.notional, one.limit_share, one.feed_age_s) == (100.5, 201.0, 0.201, 0.12)
    assert one.spread_bps == pytest.approx(99.502, abs=0.001)
    assert one.quoted_spread_bps == pytest.approx(298.507, abs=0.001)
    assert told.latency_p99_us == 900.25


def test_a_box_of_which_nothing_is_known() -> None:
    """What is not known is null or said to be unknown, and never a zero that looks like a figure."""
    told = payloads.status(NOTHING, 5.0)
    assert (told.state, told.latch, told.sign, told.age_s) == ("no quoter", "unknown", "unknown", None)
    assert (told.latency_p50_us, told.guardian_age_s, told.healthy) == (None, None, None)
    host = payloads.host(NOTHING, 5.0)
    assert (host.cpu_percent, host.quoter_rss_mb, host.unavailable) == (None, None, {"host": "the guardian is silent"})


def test_a_quoter_that_is_gone_has_no_live_orders() -> None:
    """Its last words are told as such; whose orders are live is the guardian's to say."""
    assert payloads.status(GONE, 5.0).reason == "not running; its last word: quoting"
    orders = payloads.orders(GONE, 5.0)
    assert (orders.live, orders.guardian_live) == ([], 2)


def test_a_latched_box_says_why() -> None:
    """And an armed one gives no reason of a latch."""
    latched = snapshot(guardian=GuardianView(0.1, guardian(latch="latched", reason="kill_button: pressed")))
    assert payloads.status(latched, 5.0).latch_reason == "kill_button: pressed"
    paused = snapshot(guardian=GuardianView(0.1, guardian(state="paused", reason="clock: off", causes=["clock"])))
    told = payloads.status(paused, 5.0)
    assert (told.latch_reason, told.causes) == ("", ["clock"])


def test_an_unreadable_figure_is_null_and_says_why() -> None:
    """A board without a thermometer has no temperature, least of all 0."""
    host = payloads.host(snapshot(), 5.0)
    assert (host.temperature_c, host.cpu_percent, host.unavailable) == (None, 12.5, {"temperature_c": "no sensor"})


def test_one_sided_quotes_have_no_spread() -> None:
    """Neither a market without asks nor our own side alone."""
    own = instrument().own[:1]
    seen = snapshot(quoter=QuoterView(True, 0.1, 1, summary(instruments={"BTC": instrument(ask="", own=own)})))
    one = payloads.status(seen, 5.0).instruments["BTC"]
    assert (one.mid, one.spread_bps, one.quoted_spread_bps) == (None, None, None)
