"""Metrics: a snapshot in the text that Prometheus scrapes; docs/monitoring.md has the list, made from here.

Invariant: what is rendered is complete and valid, whatever the texts in it are. It must not know what the numbers mean.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

from mmpi.status import EDGES_US, Histogram
from mmpi.telemetry.metric_table import TABLE, Row, View
from mmpi.telemetry.snapshot import Snapshot

LONGEST: Final = 100
"""Characters of a label's value."""
_TELEMETRY: Final = "mmpi_telemetry_"
_COUNTED: Final = "Counted by telemetry since its process began"


def render(
    snapshot: Snapshot, firing: Sequence[tuple[str, str]] = (), counters: Mapping[str, int] | None = None
) -> tuple[bytes, str]:
    """Return the text that is scraped, and its content type.

    `firing`: (name, instrument) of the alerts that fire; `counters`: what is counted beside the snapshot's counters.
    """
    registry = CollectorRegistry()
    registry.register(Collector(View(snapshot, firing, counters or {})))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def markdown() -> str:
    """Return the table as docs/monitoring.md shows it."""
    rows = [f"| `{row.shown}` | {row.kind} | {_ticked(row.labels)} | {row.says} |" for row in TABLE]
    more = f"| `{_TELEMETRY}<name>_total` | counter |  | {_COUNTED}: `<name>`. |"
    return "\n".join(["| metric | kind | labels | what it says |", "|---|---|---|---|", *rows, more]) + "\n"


class Collector:
    """One view, as a registry of prometheus_client takes it."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of which something is known."""
        for row in TABLE:
            if (family := _family(row, self._view)).samples:
                yield family
        for name, count in sorted(self._view.counters.items()):
            yield CounterMetricFamily(_TELEMETRY + name, f"{_COUNTED}: {name.replace('_', ' ')}.", value=count)


def _family(row: Row, view: View) -> Metric:
    """Return what a row knows now, maybe without a sample."""
    if row.kind == "histogram":
        return _histogram(row.name, row.says, row.histogram(view))
    kind = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = kind(row.name, row.says, labels=row.labels)
    told = {tuple(map(_clean, labels)): value for labels, value in row.tell(view)}
    # By labels, as two samples of the same ones would make a scraper refuse them.
    for labels, value in told.items():
        if value is not None and math.isfinite(value):
            family.add_metric(labels, float(value))
    return family


def _histogram(name: str, says: str, told: Histogram | None) -> Metric:
    family = HistogramMetricFamily(name, says)
    # A quoter of another version may have other edges: then nobody knows what its counts mean.
    if told is not None and len(told.counts) == len(EDGES_US) + 1:
        edges = [*(repr(edge / 1e6) for edge in EDGES_US), "+Inf"]
        family.add_metric([], list(zip(edges, accumulate(map(float, told.counts)), strict=True)), told.sum_us / 1e6)
    return family


def _clean(label: str) -> str:
    """Return a label's value, short enough, and such that it can be encoded."""
    return label[:LONGEST].encode("utf-8", "replace").decode("utf-8")


def _ticked(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
