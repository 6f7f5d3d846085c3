"""mmpi.telemetry.metrics and metric_table: what Prometheus scrapes, and the list in docs/monitoring.md.

Print the page: python -m tests.test_telemetry_metrics > docs/monitoring.md.new (from the project's folder).
"""

import json
import math
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parent))  # for `python -m`

from prometheus_box import guardian, snapshot, summary

from mmpi.causes import CAUSES, Kind
from mmpi.status import EDGES_US, Histogram, PnlStatus
from mmpi.telemetry.metric_table import TABLE, View
from mmpi.telemetry.metrics import Collector, markdown, render
from mmpi.telemetry.snapshot import GuardianView, QuoterView, Snapshot

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "monitoring.md"
SHIPPED = ROOT / "docs" / "monitoring"
HEAD = "| metric |"
Labels = tuple[tuple[str, str], ...]


def scraped(told: Snapshot, *args: Any) -> dict[tuple[str, Labels], float]:
    """Return every sample of a rendering, read by Prometheus's own client: (name, labels) -> value."""
    text, kind = render(told, *args)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text.decode("utf-8")):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(found: dict[tuple[str, Labels], float], name: str, /, **labels: str) -> float | None:
    """Return one sample, None if it is absent."""
    return found.get((name, tuple(sorted(labels.items()))))


def names(found: dict[tuple[str, Labels], float]) -> set[str]:
    """Return the names that are there."""
    return {name for name, _ in found}


def quoter(alive: bool = True, age_s: float | None = 0.1, **changes: Any) -> QuoterView:
    """Return a quoter's view."""
    return QuoterView(alive, age_s, 4242, summary(**changes))


def page() -> str:
    """Return the page with the list in it anew."""
    text = PAGE.read_text("utf-8")
    return text[: text.index(HEAD)] + markdown()


# What is told -----------------------------------------------------------------------------------------------------


def test_everything_known_is_told() -> None:
    """A box of which everything is known tells every metric of the table, and a latched one its cause."""
    latched = GuardianView(0.2, guardian(latch="latched", state="latched", cause="drawdown"))
    found = names(scraped(snapshot(), [("latency", "")])) | names(scraped(snapshot(guardian=latched)))
    histograms = {row.name for row in TABLE if row.kind == "histogram"}
    told = {re.sub(r"_(bucket|count|sum)$", "", name) if name.startswith(tuple(histograms)) else name for name in found}
    assert {row.shown for row in TABLE} == {name for name in told if not name.startswith("mmpi_telemetry_")} | {
        "mmpi_telemetry_uptime_seconds"
    }


def test_values_are_those_of_the_snapshot_in_base_units() -> None:
    """Shares for percent and basis points, bytes for MB, seconds for ms and us."""
    found = scraped(snapshot(step=2))
    expected = {
        ("mmpi_orders_placed_total", ()): 80, ("mmpi_orders_canceled_total", ()): 60, ("mmpi_fills_total", ()): 6,
        ("mmpi_orders_rejected_total", ()): 4, ("mmpi_refusals_total", (("reason", "position"),)): 8,
        ("mmpi_position_base", (("instrument", "BTC"),)): -2.5, ("mmpi_position_quote", (("instrument", "BTC"),)): -250,
        ("mmpi_position_limit_ratio", (("instrument", "BTC"),)): 0.25,
        ("mmpi_mid_quote", (("instrument", "BTC"),)): 100,
        ("mmpi_market_spread_ratio", (("instrument", "BTC"),)): 0.001,
        ("mmpi_quoted_spread_ratio", (("instrument", "BTC"),)): 0.003996,
        ("mmpi_feed_age_seconds", (("instrument", "ETH"),)): 4.0, ("mmpi_adverse_selection_ratio", ()): 0.00045,
        ("mmpi_host_cpu_ratio", ()): 0.375, ("mmpi_host_memory_available_bytes", ()): 200 * 2**20,
        ("mmpi_host_temperature_celsius", ()): 61.5, ("mmpi_host_undervoltage", ()): 0,
        ("mmpi_process_resident_memory_bytes", (("process", "quoter"),)): 48.5e6,
        ("mmpi_process_resident_memory_bytes", (("process", "telemetry"),)): 36e6,
        ("mmpi_journal_last_commit_seconds", ()): 0.0125, ("mmpi_fill_delay_seconds", ()): 0.03,
        ("mmpi_telemetry_mqtt_reconnects_total", ()): 2, ("mmpi_snapshot_sequence", ()): 8,
        ("mmpi_requests_thinning_factor", ()): 2, ("mmpi_power_mains", ()): 1, ("mmpi_boot_healthy", ()): 1,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == pytest.approx(expected)
    assert ("mmpi_quoted_spread_ratio", (("instrument", "ETH"),)) not in found, "it has no orders there"
    info = value(found, "mmpi_info", version="0.1.0", device="kitchen", mode="practice", venue="hyperliquid")
    assert info == 1.0


def test_the_parts_of_the_profit_add_up_to_it() -> None:
    """Fees that were paid are below zero, so that a sum over the parts means something."""
    pnl = PnlStatus("12.5", "-3.25", "0.75", "2.125", "7.875")
    found = scraped(snapshot(quoter=quoter(pnl=pnl)))
    parts = {dict(labels)["part"]: told for (name, labels), told in found.items() if name == "mmpi_pnl_quote"}
    assert parts == {"spread": 12.5, "inventory": -3.25, "funding": 0.75, "fees": -2.125}
    assert sum(parts.values()) == value(found, "mmpi_pnl_total_quote") == 7.875


def test_markouts_are_weighted_by_the_worth_of_the_fills() -> None:
    """A fill of 1 with -3 bps and one of 2 with +6 make 3 bps after 5 s; one that is not known yet counts nowhere."""
    found = scraped(snapshot())
    assert value(found, "mmpi_markout_ratio", horizon="5s") == pytest.approx(3e-4)
    assert value(found, "mmpi_markout_ratio", horizon="30s") == pytest.approx(8e-4)
    assert "mmpi_markout_ratio" not in names(scraped(snapshot(fills=())))


@pytest.mark.parametrize("name", ["mmpi_tick_to_order_seconds", "mmpi_loop_lateness_seconds"])
def test_histograms_are_cumulative(name: str) -> None:
    """Buckets grow with their edges, which are seconds; the last one is all, and the count."""
    found = scraped(snapshot())
    buckets = [(float(dict(labels)["le"]), told) for (each, labels), told in found.items() if each == f"{name}_bucket"]
    assert [edge for edge, _ in buckets] == [*(each / 1e6 for each in EDGES_US), math.inf]
    own = summary().tick_to_order
    assert own is not None
    assert [after - before for (_, before), (_, after) in pairwise([(0.0, 0.0), *buckets])] == list(own.counts)
    assert buckets[-1][1] == value(found, f"{name}_count") == sum(own.counts)
    assert value(found, "mmpi_tick_to_order_seconds_sum") == 0.005


def test_another_versions_histogram_is_not_told() -> None:
    """Counts whose edges are not ours mean nothing, and do no harm."""
    found = scraped(snapshot(quoter=quoter(tick_to_order=Histogram((1, 2, 3), 5.0))))
    assert value(found, "mmpi_tick_to_order_seconds_count") is None
    assert value(found, "mmpi_loop_lateness_seconds_count") is not None


def test_openmetrics_takes_it_too() -> None:
    """The stricter format's own parser finds the same metrics valid."""
    registry = CollectorRegistry()
    registry.register(Collector(View(snapshot(), [("latency", "BTC")], {})))
    text = openmetrics.exposition.generate_latest(registry).decode("utf-8")
    assert len([family for family in open_families(text) if family.samples]) >= len(TABLE) - 1


# What is not known ------------------------------------------------------------------------------------------------

ALWAYS = {
    "mmpi_info", "mmpi_quoter_up", "mmpi_guardian_up", "mmpi_clock_seconds", "mmpi_snapshot_sequence",
    "mmpi_telemetry_uptime_seconds", "mmpi_alerts_firing", "mmpi_process_resident_memory_bytes",
}  # fmt: skip


def test_of_a_box_that_says_nothing_nothing_is_made_up() -> None:
    """No quoter, no guardian, no fills: only what telemetry knows of itself is there, and who is silent."""
    silent = snapshot(
        quoter=QuoterView(False, None, 0, None), guardian=None, exposures={}, fills=(), adverse_bps=None,
        last_fill_s=None, counters={},
    )  # fmt: skip
    found = scraped(silent)
    assert names(found) == ALWAYS
    assert (value(found, "mmpi_quoter_up"), value(found, "mmpi_guardian_up")) == (0.0, 0.0)
    assert value(found, "mmpi_process_resident_memory_bytes", process="quoter") is None


@pytest.mark.parametrize(("alive", "age_s"), [(False, 0.1), (True, 2.5), (True, None)])
def test_a_silent_quoters_gauges_go_and_its_counters_stay(alive: bool, age_s: float | None) -> None:
    """What is counted was so; what was measured then says nothing about now."""
    found = scraped(snapshot(quoter=quoter(alive, age_s)))
    gone = {"mmpi_quoting", "mmpi_position_base", "mmpi_pnl_total_quote", "mmpi_feed_age_seconds", "mmpi_deadman_armed"}
    assert gone & names(found) == set()
    assert value(found, "mmpi_fills_total") == 3
    assert value(found, "mmpi_tick_to_order_seconds_count") is not None
    assert value(found, "mmpi_quoter_up") == float(alive)
    assert value(found, "mmpi_latched") == 0, "the guardian still says so"


def test_a_silent_guardians_words_are_not_told() -> None:
    """Neither latch nor machine is known then; the quoter's numbers are."""
    found = scraped(snapshot(guardian=None))
    assert {"mmpi_latched", "mmpi_boot_healthy", "mmpi_host_temperature_celsius", "mmpi_guardian_age_seconds"} & names(
        found
    ) == set()
    assert value(found, "mmpi_position_base", instrument="BTC") == -2.5
    assert value(found, "mmpi_paused", cause="clock") == 0
    assert value(found, "mmpi_paused", cause="by_hand") is None


def test_a_figure_that_cannot_be_read_is_absent() -> None:
    """UNAVAILABLE is no number."""
    told = guardian()
    told["box"]["host"] |= {"temperature_c": "UNAVAILABLE", "undervoltage": "UNAVAILABLE"}
    told["box"]["power"] = None
    found = scraped(snapshot(guardian=GuardianView(0.2, told)))
    assert {"mmpi_host_temperature_celsius", "mmpi_host_undervoltage", "mmpi_power_mains"} & names(found) == set()
    assert value(found, "mmpi_host_throttled") == 0


@pytest.mark.parametrize("text", ["", "nan", "inf", "broken"])
def test_what_is_no_number_is_absent(text: str) -> None:
    """A text that is none, or not finite, never becomes a sample."""
    found = scraped(snapshot(quoter=quoter(pnl=PnlStatus("1", "2", "3", "4", text))))
    assert value(found, "mmpi_pnl_total_quote") is None
    assert value(found, "mmpi_pnl_quote", part="spread") == 1


def test_a_budget_that_the_venue_does_not_tell_is_absent() -> None:
    """0 of 0 requests is: not told."""
    requests = msgspec.structs.replace(summary().requests, used=0, cap=0)
    found = names(scraped(snapshot(quoter=quoter(requests=requests))))
    assert {"mmpi_requests_used", "mmpi_requests_cap"} & found == set()


# Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadman", "armed", "refused"),
    [("ARMED", 1, 0), ("UNARMED", 0, 0), ("REFUSED(no volume (yet))", 0, 1), ("UNSUPPORTED", None, None)],
)
def test_the_dead_man_switch(deadman: str, armed: float | None, refused: float | None) -> None:
    """Its four words are two numbers; where the venue has none, neither is there."""
    found = scraped(snapshot(quoter=quoter(deadman=deadman)))
    assert (value(found, "mmpi_deadman_armed"), value(found, "mmpi_deadman_refused")) == (armed, refused)


def test_every_pause_has_its_number() -> None:
    """All pauses of the table are there with 0, what holds is 1, so is a name that nobody knows; latches are not."""
    told = guardian(causes=["temperature", "drawdown", "new_one"])
    found = scraped(snapshot(guardian=GuardianView(0.1, told)))
    paused = {dict(labels)["cause"]: on for (name, labels), on in found.items() if name == "mmpi_paused"}
    pauses = {cause.name for cause in CAUSES.values() if cause.kind is Kind.PAUSE}
    assert paused.keys() == pauses | {"new_one"}
    assert {cause for cause, on in paused.items() if on} == {"temperature", "new_one", "stale_feed"}


@pytest.mark.parametrize(
    ("state", "known"),
    [
        ("clock", {"clock": 1.0}), ("journal", {"clock": 0.0, "journal": 1.0}),
        ("connecting", {"clock": 0.0, "journal": 0.0, "network": 1.0}),
        ("reconciling", {"clock": 0.0, "journal": 0.0, "network": 0.0}), ("latched", {}), ("limit", {}),
    ],
)  # fmt: skip
def test_what_a_quoter_waits_for(state: str, known: dict[str, float]) -> None:
    """It names the gravest thing only: what would come after that is not known."""
    found = scraped(snapshot(quoter=quoter(state=state)))
    told = {cause: value(found, "mmpi_paused", cause=cause) for cause in ("clock", "journal", "network")}
    assert {cause: on for cause, on in told.items() if on is not None} == known
    assert value(found, "mmpi_quoting") == 0


def test_a_latch_and_its_cause() -> None:
    """Latched is 1 with the cause beside it, armed 0 without; a word that nobody knows is neither."""
    latched = scraped(snapshot(guardian=GuardianView(0.1, guardian(latch="latched", cause="kill_button"))))
    assert value(latched, "mmpi_latched") == value(latched, "mmpi_latch_cause", cause="kill_button") == 1
    assert "mmpi_latch_cause" not in names(scraped(snapshot()))
    assert value(scraped(snapshot(guardian=GuardianView(0.1, guardian(latch="odd")))), "mmpi_latched") is None


def test_alerts_and_counters() -> None:
    """Each alert once, and how many; counters of two sources are added, under names that a metric may have."""
    firing = [("feed", "BTC"), ("latency", ""), ("latency", "")]
    more = {"refused_bad_origin": 1, "!": 7, "x_total": 4}
    found = scraped(snapshot(counters={"refused: bad Origin": 2}), firing, more)
    assert value(found, "mmpi_alert_firing", name="feed", instrument="BTC") == 1
    assert value(found, "mmpi_alert_firing", name="latency", instrument="") == 1
    assert value(found, "mmpi_alerts_firing") == 2
    counted = {name: told for (name, _), told in found.items() if re.match(r"mmpi_telemetry_.*_total$", name)}
    assert counted == {"mmpi_telemetry_refused_bad_origin_total": 3, "mmpi_telemetry_x_total": 4}


HOSTILE = 'a"b\\c\nd{e}\ud800 # HELP x'


def test_no_text_breaks_the_format() -> None:
    """Quotes, backslashes, newlines and broken characters in a label stay in that label, cut to a length."""
    found = scraped(snapshot(device=HOSTILE), [(HOSTILE, "x" * 5000)])
    clean = HOSTILE.replace("\ud800", "?")
    assert [dict(labels)["device"] for name, labels in found if name == "mmpi_info"] == [clean]
    assert value(found, "mmpi_alert_firing", name=clean, instrument="x" * 100) == 1


# What is shipped --------------------------------------------------------------------------------------------------


def test_the_page_is_the_table() -> None:
    """docs/monitoring.md lists every metric as the code has it."""
    assert PAGE.read_text("utf-8") == page()


def test_names_follow_the_conventions() -> None:
    """One prefix, base units, no unit of its own making; every row says something, once."""
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert re.fullmatch(r"mmpi(_[a-z]+)+", row.name), row.name
        assert not re.search(r"_(ms|us|mb|bps|percent|count|sum|total|bucket|created)$", row.name), row.name
        assert row.kind in ("gauge", "counter", "histogram") and row.says.endswith(".")


def expressions() -> list[str]:
    """Return every expression of the dashboard: panels, annotations and variables."""
    board = json.loads((SHIPPED / "mmpi-dashboard.json").read_text("utf-8"))
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    notes = [note["expr"] for note in board["annotations"]["list"] if "expr" in note]
    variables = [each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    return [*panels, *notes, *variables]


def used(text: str) -> set[str]:
    """Return the metrics that a text names."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bmmpi_[a-z_]+\b", text)}


def test_dashboard_and_rules_use_metrics_that_there_are() -> None:
    """No panel and no alert waits for a name that is never told; the dashboard shows all but a few."""
    told = {row.shown for row in TABLE}
    rules = (SHIPPED / "mmpi.rules.yml").read_text("utf-8")
    read = used("\n".join(line for line in rules.splitlines() if "description:" not in line))
    shown = set[str]().union(*(used(each) for each in expressions() if "__name__" not in each))
    assert read <= told and shown <= told
    assert told - shown - read == {
        "mmpi_alerts_firing", "mmpi_host_uptime_seconds", "mmpi_instrument_quoted", "mmpi_journal_commits_total",
        "mmpi_latch_cause", "mmpi_quote_to_trade_ratio", "mmpi_requests_sent_total", "mmpi_telemetry_uptime_seconds",
    }  # fmt: skip


def test_every_alert_is_tested_both_ways() -> None:
    """Each rule has a moment at which it must fire, with its words, and one at which it must not."""
    alerts = re.findall(r"- alert: (\w+)", (SHIPPED / "mmpi.rules.yml").read_text("utf-8"))
    tests = (SHIPPED / "mmpi.rules.test.yml").read_text("utf-8")
    silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", tests))
    fires = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", tests))
    assert len(alerts) == len(set(alerts)) >= 20
    assert silent == fires == set(alerts)


def test_the_dashboard_is_whole() -> None:
    """Every panel has a title, says what it shows, asks the chosen source about the chosen box, and overlaps none."""
    board = json.loads((SHIPPED / "mmpi-dashboard.json").read_text("utf-8"))
    assert (board["uid"], board["id"], board["schemaVersion"]) == ("mmpi", None, 42)
    variables = [each["name"] for each in board["templating"]["list"]]
    assert variables == ["datasource", "device", "instance", "instrument"]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) == 23
    for panel in (each for each in panels if each["type"] != "row"):
        assert panel["title"] and panel["description"].endswith(".")
        assert panel["type"] in ("timeseries", "stat", "state-timeline", "heatmap")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert 'instance="$instance"' in target["expr"]
            assert set(re.findall(r"\$(?!__)(\w+)", target["expr"])) <= set(variables)


if __name__ == "__main__":
    print(page(), end="")
