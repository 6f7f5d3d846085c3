"""docs/monitoring with the real programs: promtool on rules and metrics, and a Prometheus that scrapes a box."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from prometheus_box import (
    Exporter,
    Programs,
    Prometheus,
    UnavailableError,
    ensure_prometheus,
    guardian,
    snapshot,
    summary,
)

from mmpi.status import EDGES_US
from mmpi.telemetry.metrics import render
from mmpi.telemetry.snapshot import Exposure, GuardianView, QuoterView

pytestmark = pytest.mark.slow

SHIPPED = Path(__file__).resolve().parents[1] / "docs" / "monitoring"
SETTLED_S = 30.0
CHOSEN = {
    "instance": "kitchen", "instrument": ".*", "device": "kitchen", "__rate_interval": "10s", "__interval": "5s",
}  # fmt: skip
FIRING = [("latency", "BTC")]


@pytest.fixture(scope="module")
def programs() -> Programs:
    """Return prometheus and promtool, fetched if need be."""
    try:
        return ensure_prometheus()
    except UnavailableError as error:
        pytest.skip(str(error))


def promtool(programs: Programs, *arguments: str, told: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run promtool beside the shipped files."""
    command = [programs.promtool, *arguments]
    return subprocess.run(command, cwd=SHIPPED, input=told, capture_output=True, check=False, timeout=60)


# promtool ---------------------------------------------------------------------------------------------------------


def test_configuration_and_rules_are_valid(programs: Programs) -> None:
    """promtool takes the example, and the rules that it names."""
    done = promtool(programs, "check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"rules found" in done.stdout


def test_rules_do_what_their_tests_say(programs: Programs) -> None:
    """Each alert fires when it should, with its words, no other fires with it, and a box that is well alarms nobody."""
    done = promtool(programs, "test", "rules", "mmpi.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


ALTERED = {
    "a threshold": ("> 0.8", "> 0.9"), "a wait": ("for: 10m", "for: 5m"), "words": ("is latched", "is not latched"),
    "a cause": ('cause!~"network', 'cause!~"by_remote|network'), "a severity": ("critical", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_the_tests_notice_a_changed_rule(programs: Programs, tmp_path: Path, what: str) -> None:
    """They would fail if a threshold, a wait, a word, a cause or a severity were another."""
    for each in SHIPPED.glob("*.yml"):
        shutil.copy(each, tmp_path)
    rules = tmp_path / "mmpi.rules.yml"
    text = rules.read_text("utf-8")
    assert ALTERED[what][0] in text
    rules.write_text(text.replace(*ALTERED[what]), "utf-8")
    done = promtool(programs, "test", "rules", str(tmp_path / "mmpi.rules.test.yml"))
    assert done.returncode == 1
    assert b"FAILED" in done.stdout + done.stderr


@pytest.mark.parametrize("silent", [False, True], ids=["known", "silent"])
def test_promtools_linter_finds_nothing(programs: Programs, silent: bool) -> None:
    """Names, units, help and types of a real rendering are as Prometheus's own linter wants them."""
    told = snapshot(quoter=QuoterView(False, None, 0, None), guardian=None) if silent else snapshot()
    done = promtool(programs, "check", "metrics", told=render(told, FIRING)[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtools_linter_would_find_something(programs: Programs) -> None:
    """It is no rubber stamp: a counter without its ending, or a text that is none, is refused."""
    text = render(snapshot())[0]
    assert promtool(programs, "check", "metrics", told=text.replace(b"mmpi_fills_total", b"mmpi_fills")).returncode
    assert promtool(programs, "check", "metrics", told=text.replace(b'{cause="clock"}', b'{cause="clock}')).returncode


# Prometheus -------------------------------------------------------------------------------------------------------


class Box:
    """A box that is scraped: one step further with each scrape, until it is changed."""

    def __init__(self) -> None:
        self.step = 0
        self.changes: dict[str, Any] = {}
        self._lock = Lock()

    def page(self) -> tuple[bytes, str]:
        """Return what is scraped now."""
        with self._lock:
            self.step += 1
            return render(snapshot(self.step, **self.changes), FIRING)


class Scraped:
    """A box, and the Prometheus that scrapes it every second by the shipped rules."""

    def __init__(self, box: Box, prometheus: Prometheus) -> None:
        self.box, self.prometheus = box, prometheus

    def until(self, expr: str, seconds: float = SETTLED_S) -> list[tuple[dict[str, str], float]]:
        """Return what an expression has once that is something; fail after this long."""
        deadline = time.monotonic() + seconds
        while not (found := self.prometheus.query(expr)):
            assert time.monotonic() < deadline, f"{expr} stayed empty; {self.prometheus.log()}"
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def scraped(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Start both, with the shipped configuration but for the times and the address."""
    box, folder = Box(), tmp_path_factory.mktemp("prometheus")
    shutil.copy(SHIPPED / "mmpi.rules.yml", folder)
    with Exporter(box.page) as exporter:
        config = (SHIPPED / "prometheus.yml").read_text("utf-8")
        config = config.replace("interval: 15s", "interval: 1s").replace("127.0.0.1:8480", f"127.0.0.1:{exporter.port}")
        with Prometheus(programs.prometheus, folder, config) as prometheus:
            ready = Scraped(box, prometheus)
            ready.until('count_over_time(mmpi_snapshot_sequence{instance="kitchen"}[20s]) >= 6')
            yield ready


def test_every_sample_arrives(scraped: Scraped) -> None:
    """Prometheus has each series of a rendering under its name and labels, and its value unless that moves."""
    answer = scraped.prometheus.ask("targets")["activeTargets"]
    assert [(each["health"], each["lastError"]) for each in answer] == [("up", "")]
    stored = {
        (name, frozenset(labels.items())): value
        for labels, value in scraped.prometheus.query('{job="mmpi", __name__=~"mmpi_.+"}')
        if (name := labels.pop("__name__")) and labels.pop("job") and labels.pop("instance")
    }
    lines = render(snapshot(1), FIRING)[0].decode().splitlines()
    told = [re.fullmatch(r"(\w+)(?:{(.*)})? (\S+)", line) for line in lines if not line.startswith("#")]
    moving = render(snapshot(2), FIRING)[0].decode().splitlines()
    assert len(told) > 140
    for line in told:
        assert line is not None
        key = line[1], frozenset(re.findall(r'(\w+)="([^"]*)"', line[2] or ""))
        # An empty label is no label to Prometheus.
        key = key[0], frozenset(pair for pair in key[1] if pair[1])
        assert key in stored
        if line[0] in moving:
            assert stored[key] == float(line[3]), key


def test_rates_and_quantiles_come_out_right(scraped: Scraped) -> None:
    """Three fills a scrape are three a second; the 99th percentile of the histogram lies where its counts say."""
    ((_, rate),) = scraped.prometheus.query('rate(mmpi_fills_total{instance="kitchen"}[5s])')
    assert rate == pytest.approx(3.0, rel=0.25)
    ((_, last),) = scraped.prometheus.query('mmpi_fills_total{instance="kitchen"}')
    assert last == pytest.approx(3 * scraped.box.step, abs=9)
    expr = "histogram_quantile({}, sum by (le) (rate(mmpi_tick_to_order_seconds_bucket[10s])))"
    quantiles = [scraped.prometheus.query(expr.format(q))[0][1] for q in (0.5, 0.99)]
    told = summary().tick_to_order
    assert told is not None
    assert quantiles == pytest.approx([within(told.counts, q) for q in (0.5, 0.99)], rel=0.02)


def within(counts: tuple[int, ...], quantile: float) -> float:
    """Return the seconds within which this share of the counts lies: linear within a bucket, the last edge at most."""
    wanted, before, low = quantile * sum(counts), 0, 0.0
    for edge, count in zip(EDGES_US, counts, strict=False):
        if before + count >= wanted:
            return (low + (edge - low) * (wanted - before) / count) / 1e6
        before, low = before + count, float(edge)
    return low / 1e6


def substituted(expr: str) -> str:
    """Return an expression of the dashboard as Grafana sends it."""
    return re.sub(r"\$(?:{(\w+)}|(\w+))", lambda found: CHOSEN[found[1] or found[2]], expr)


def board() -> dict[str, Any]:
    """Return the shipped dashboard."""
    told: dict[str, Any] = json.loads((SHIPPED / "mmpi-dashboard.json").read_text("utf-8"))
    return told


def test_every_panel_shows_something(scraped: Scraped) -> None:
    """Each expression of the dashboard is valid, and has data of a box of which everything is known."""
    trouble = guardian(latch="latched", cause="drawdown", causes=["by_remote"])
    scraped.box.changes = {"guardian": GuardianView(0.2, trouble)}
    scraped.until('ALERTS{alertname="MmpiLatched", alertstate="firing"}')
    expressions = [target["expr"] for panel in board()["panels"] for target in panel.get("targets", ())]
    expressions += [each["expr"] for each in board()["annotations"]["list"] if "expr" in each]
    assert len(expressions) > 60
    empty = [expr for expr in expressions if not scraped.prometheus.query(substituted(expr))]
    assert empty == []


def test_every_variable_finds_its_values(scraped: Scraped) -> None:
    """The box, the name that it is scraped by, and its instruments are found from what is scraped."""
    found = {}
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            told = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert told is not None
            series = scraped.prometheus.ask(f"label/{told[2]}/values", **{"match[]": substituted(told[1])})
            found[variable["name"]] = series
    assert found == {"device": ["kitchen"], "instance": ["kitchen"], "instrument": ["BTC", "ETH"]}


def test_an_alert_waits_fires_and_ends(scraped: Scraped) -> None:
    """A box that is latched alarms at once; one near its limit waits its minute; armed again, the alarm is over."""
    trouble = guardian(latch="latched", cause="drawdown")
    near = {"BTC": Exposure(-850.0, 0.85)}
    scraped.box.changes = {"guardian": GuardianView(0.2, trouble), "exposures": near}
    scraped.until('ALERTS{alertname="MmpiLatched", alertstate="firing", severity="critical", instance="kitchen"}')
    scraped.until('ALERTS{alertname="MmpiPositionNearLimit", alertstate="pending", instrument="BTC"}')
    alerts = {each["labels"]["alertname"]: each for each in scraped.prometheus.ask("alerts")["alerts"]}
    assert alerts["MmpiLatched"]["annotations"]["summary"].startswith("kitchen is latched:")
    assert alerts["MmpiPositionNearLimit"]["annotations"]["summary"] == "BTC of kitchen is at 85% of its limit"
    scraped.box.changes = {}
    gone = 'absent(ALERTS{alertname="MmpiLatched"}) and on () absent(ALERTS{alertname="MmpiPositionNearLimit"})'
    scraped.until(gone)


def test_a_quoter_that_ends_leaves_a_gap(scraped: Scraped) -> None:
    """Its gauges are gone with the next scrape, its counters stay, and the alert of its silence begins to wait."""
    scraped.box.changes = {"quoter": QuoterView(False, 90.0, 4242, summary(5))}
    scraped.until("absent(mmpi_position_base)")
    assert scraped.prometheus.query("mmpi_fills_total")[0][1] == 15
    scraped.until('ALERTS{alertname="MmpiQuoterSilent"}')
    scraped.box.changes = {}
    scraped.until("mmpi_position_base")
