"""Metric table: what a snapshot says, number by number, under the names that Prometheus scrapes.

Gauges of the quoter are there only while it lives and was heard within OLD_S; its counters stay at its last word, so
that nothing is lost between two scrapes, and begin anew with its session, which Prometheus knows how to read.

Invariant: what is not known is absent, never 0; adding up the parts of the profit gives the total.
It must not know how a number is written down, or who reads it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mmpi.causes import TABLE as CAUSES
from mmpi.causes import Kind
from mmpi.status import Histogram, PnlStatus, StorageStatus, Summary
from mmpi.telemetry import payloads
from mmpi.telemetry.payloads import HostPayload, InstrumentPayload
from mmpi.telemetry.snapshot import Snapshot

OLD_S: Final = 2.0
"""A quoter that was not heard for longer says nothing about now."""
BPS: Final = 1e-4
MB: Final = 1e6
MIB: Final = 2**20
"""What mmpi.device.host_health calls MB."""

Labelled = Iterable[tuple[tuple[str, ...], float | None]]
"""(label values, value); None = not known."""


class View:
    """What the rows tell from."""

    def __init__(self, snapshot: Snapshot, firing: Sequence[tuple[str, str]], counters: Mapping[str, int]) -> None:
        quoter, guardian = snapshot.quoter, snapshot.guardian
        live = quoter.alive and quoter.age_s is not None and quoter.age_s <= OLD_S
        self.snapshot, self.firing = snapshot, firing
        self.said: Summary | None = quoter.summary
        """The quoter's last words."""
        self.now: Summary | None = quoter.summary if live else None
        """The same while they are fresh."""
        self.guardian: dict[str, Any] = guardian.status if guardian is not None else {}
        self.host: HostPayload = payloads.host(snapshot, 0.0)
        self.instruments: dict[str, InstrumentPayload] = payloads.status(snapshot, 0.0).instruments if live else {}
        self.counters: dict[str, int] = {}
        for name, count in (*snapshot.counters.items(), *counters.items()):
            told = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removesuffix("_total")
            if told:
                self.counters[told] = self.counters.get(told, 0) + count

    def part(self, *names: str) -> Any:
        """Return what the guardian says at this place, None if it says nothing there."""
        found: Any = self.guardian
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found


class Row(NamedTuple):
    """One metric: its name without `_total`, its kind (gauge, counter or histogram), and what it tells of a view.

    A histogram tells by `histogram`, the others by `tell`.
    """

    name: str
    kind: str
    says: str
    tell: Callable[[View], Labelled]
    labels: tuple[str, ...] = ()
    histogram: Callable[[View], Histogram | None] = lambda _: None

    @property
    def shown(self) -> str:
        """Return the name that is scraped."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


# Kinds of rows ----------------------------------------------------------------------------------------------------


def _gauge(name: str, says: str, value: Callable[[View], float | None]) -> Row:
    return Row(name, "gauge", says, lambda view: [((), value(view))])


def _gauges(name: str, labels: tuple[str, ...], says: str, values: Callable[[View], Labelled]) -> Row:
    return Row(name, "gauge", says, values, labels)


def _quoters(name: str, says: str, value: Callable[[Summary], float | None]) -> Row:
    """Return a gauge of the quoter."""
    return _gauge(name, says, lambda view: value(view.now) if view.now is not None else None)


def _kept(name: str, says: str, value: Callable[[StorageStatus], float]) -> Row:
    """Return a gauge of what the quoter keeps."""
    return _quoters(name, says, lambda now: value(now.storage) if now.storage is not None else None)


def _count(name: str, says: str, value: Callable[[Summary], float | None]) -> Row:
    """Return a counter of the quoter."""
    return Row(name, "counter", says, lambda view: [((), value(view.said))] if view.said is not None else [])


def _counts(name: str, label: str, says: str, values: Callable[[Summary], Mapping[str, int]]) -> Row:
    def tell(view: View) -> Labelled:
        return [((key,), count) for key, count in values(view.said).items()] if view.said is not None else []

    return Row(name, "counter", says, tell, (label,))


def _each(name: str, says: str, value: Callable[[InstrumentPayload], float | None]) -> Row:
    """Return a gauge of each instrument."""
    return _gauges(
        name, ("instrument",), says,
        lambda view: [((instrument,), value(each)) for instrument, each in view.instruments.items()],
    )  # fmt: skip


def _durations(name: str, says: str, of: Callable[[Summary], Histogram | None]) -> Row:
    return Row(name, "histogram", says, lambda _: [], (), lambda view: of(view.said) if view.said is not None else None)


# What takes more than a line --------------------------------------------------------------------------------------


def _number(text: str) -> float | None:
    """Return a decimal text's value, None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _info(view: View) -> Labelled:
    said = view.said
    mode, venue = (said.mode, said.venue) if said is not None else ("", "")
    return [((view.snapshot.version, view.snapshot.device, mode, venue), 1.0)]


def _word(view: View, name: str, words: Mapping[str, float]) -> float | None:
    """Return what the guardian's word at this place stands for, None if it says none of these."""
    found = view.part(*name.split("."))
    return words.get(found) if isinstance(found, str) else None


def _paused(view: View) -> Labelled:
    """Yield every pause there is, 1 = it holds quoting up; those of a daemon that is silent are not known."""
    causes = view.part("causes")
    present = {str(cause) for cause in causes} if isinstance(causes, list) else set()
    pauses = [cause for cause in CAUSES if cause.kind is Kind.PAUSE]
    if isinstance(causes, list):
        named = dict.fromkeys(cause.name for cause in pauses if cause.finder == "guardian")
        latching = {cause.name for cause in CAUSES if cause.kind is Kind.LATCH}
        yield from (((name,), name in present) for name in named | dict.fromkeys(sorted(present - latching)))
    if view.now is not None:
        stale = any(each.reason.startswith("stale_data") for each in view.now.instruments.values())
        yield ("stale_feed",), stale
        yield from (((name,), holds) for name, holds in _held_up(view.now.state).items())


_QUOTERS_STATES: Final = {"clock": "clock", "journal": "journal", "connecting": "network"}
"""States of a quoter that waits, in the order in which it names them (mmpi.standing) -> the cause."""
_BEYOND: Final = ("quoting", "reconciling", "dead-man switch")
"""States in which none of these holds it up."""


def _held_up(state: str) -> dict[str, bool]:
    """Return which of the quoter's own causes holds it up; it names the gravest only: what comes after is unknown."""
    if state in _BEYOND:
        return dict.fromkeys(_QUOTERS_STATES.values(), False)
    words = list(_QUOTERS_STATES)
    before = words[: words.index(state) + 1] if state in words else []
    return {_QUOTERS_STATES[word]: word == state for word in before}


def _parts(pnl: PnlStatus) -> Labelled:
    """Return what each part adds to the total, so that their sum is it."""
    added = {"spread": _number(pnl.spread), "inventory": _number(pnl.inventory), "funding": _number(pnl.funding)}
    return [((name,), value) for name, value in (added | {"fees": _scaled(_number(pnl.fees), -1.0)}).items()]


def _markouts(view: View) -> Labelled:
    """Yield the mean markout of the last fills by horizon, weighted by their worth."""
    sums: dict[str, tuple[float, float]] = {}
    for fill in view.snapshot.fills:
        worth = (_number(fill.price) or 0.0) * (_number(fill.size) or 0.0)
        for horizon, bps in fill.markouts.items():
            if bps is not None:
                weights, weighed = sums.get(horizon, (0.0, 0.0))
                sums[horizon] = weights + worth, weighed + worth * bps
    return [((name,), weighed / weights * BPS) for name, (weights, weighed) in sums.items() if weights]


def _delay(now: Summary) -> float | None:
    delays = [(fill.recv_ts - fill.exch_ts) / 1e9 for fill in now.last_fills if fill.exch_ts and fill.recv_ts]
    return sum(delays) / len(delays) if delays else None


def _memory(view: View) -> Labelled:
    yield ("quoter",), view.now.rss_mb * MB if view.now is not None and view.now.rss_mb else None
    yield ("telemetry",), view.snapshot.rss_mb * MB if view.snapshot.rss_mb else None


def _switch(state: str) -> Callable[[Summary], float | None]:
    """Return a gauge of the dead-man switch, not known where the venue has none."""
    return lambda now: None if now.deadman == "UNSUPPORTED" else float(now.deadman.partition("(")[0] == state)


def _flag(found: Any) -> float | None:
    return float(found) if isinstance(found, bool) else None


def _known(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) else None


TABLE: Final = (
    _gauges("mmpi_info", ("version", "device", "mode", "venue"), "Always 1; the labels say what runs here.", _info),
    # How it stands
    _gauge("mmpi_quoter_up", "The quoter's process is there; it may hang all the same.",
           lambda view: view.snapshot.quoter.alive),
    _gauge("mmpi_quoter_age_seconds", "Since the quoter's last sign of life.", lambda view: view.snapshot.quoter.age_s),
    _gauge("mmpi_guardian_up", "The guardian answers.", lambda view: view.snapshot.guardian is not None),
    _gauge("mmpi_guardian_age_seconds", "Age of the guardian's last answer.",
           lambda view: view.snapshot.guardian.age_s if view.snapshot.guardian is not None else None),
    _quoters("mmpi_quoting", "It quotes.", lambda now: now.state == "quoting"),
    _gauge("mmpi_latched", "Stopped until a person arms it.",
           lambda view: _word(view, "latch", {"latched": 1.0, "armed": 0.0})),
    _gauges("mmpi_latch_cause", ("cause",), "1 for the cause of the latch (docs/latch-or-pause.md); absent when armed.",
            lambda view: [((str(cause),), 1.0)] if (cause := view.part("cause")) else []),
    _gauges("mmpi_paused", ("cause",), "This cause holds quoting up (docs/latch-or-pause.md).", _paused),
    _quoters("mmpi_deadman_armed", "The venue would cancel for us; absent where it has no dead-man switch.",
             _switch("ARMED")),
    _quoters("mmpi_deadman_refused", "The venue refuses its dead-man switch to this account.", _switch("REFUSED")),
    _quoters("mmpi_deadman_firings", "How often the switch fired today (UTC).",
             lambda now: now.requests.dead_man_firings),
    _gauge("mmpi_boot_healthy", "This boot was found healthy; absent until that is judged.",
           lambda view: _flag(view.part("boot", "healthy"))),
    _gauge("mmpi_power_mains", "The mains are there; absent without a supply that says so.",
           lambda view: _word(view, "box.power.mains", {"good": 1.0, "failing": 0.0})),
    # Markets
    _each("mmpi_position_base", "Position in base units, below zero = short.", lambda each: _number(each.position)),
    _each("mmpi_position_quote", "The same in quote currency, at the mid.", lambda each: each.notional),
    _each("mmpi_position_limit_ratio", "Size of the position as a share of `risk.max_position`.",
          lambda each: each.limit_share),
    _each("mmpi_mid_quote", "Mid price.", lambda each: each.mid),
    _each("mmpi_market_spread_ratio", "Best ask less best bid, as a share of the mid.",
          lambda each: _scaled(each.spread_bps, BPS)),
    _each("mmpi_quoted_spread_ratio", "The same of our own best orders; absent unless both sides rest.",
          lambda each: _scaled(each.quoted_spread_bps, BPS)),
    _each("mmpi_orders_live", "Our live orders, by the quoter's word.", lambda each: each.orders),
    _gauge("mmpi_guardian_orders_live", "Our live orders, by the guardian's own session with the venue.",
           lambda view: _known(view.part("live_orders"))),
    _each("mmpi_instrument_quoted", "It is quoted; `mmpi status` says why not.", lambda each: not each.reason),
    _each("mmpi_feed_age_seconds", "Since the last book or trade.", lambda each: each.feed_age_s),
    # Money
    _gauges("mmpi_pnl_quote", ("part",), "What spread, inventory, funding and fees add to the session's profit, in "
            "quote currency: fees that were paid are below zero.",
            lambda view: _parts(view.now.pnl) if view.now is not None else []),
    _quoters("mmpi_pnl_total_quote", "The session's profit, the sum of its parts.", lambda now: _number(now.pnl.total)),
    _gauges("mmpi_instrument_pnl_quote", ("instrument",), "The session's profit with one instrument.",
            lambda view: [((name,), _number(each.pnl.total)) for name, each in view.now.instruments.items()]
            if view.now is not None else []),
    # Orders and fills
    _count("mmpi_orders_placed", "Orders placed in the session.", lambda said: said.orders.placed),
    _count("mmpi_orders_canceled", "Orders canceled in the session.", lambda said: said.orders.canceled),
    _count("mmpi_orders_rejected", "Orders rejected by the venue in the session.", lambda said: said.orders.rejected),
    _count("mmpi_orders_amended", "Orders moved in one step in the session.", lambda said: said.orders.amended),
    _count("mmpi_fills", "Fills of the session.", lambda said: said.fills),
    _counts("mmpi_refusals", "reason", "Orders that the risk gate did not let through.", lambda said: said.refusals),
    _counts("mmpi_anomalies", "kind", "Reports that should not be.", lambda said: said.anomalies),
    _count("mmpi_invariant_violations", "Profit that did not add up; one is a bug.",
           lambda said: said.invariant_violations),
    _count("mmpi_events", "Events that the quoter handled.", lambda said: said.events),
    _gauge("mmpi_last_fill_age_seconds", "Since the last fill.", lambda view: view.snapshot.last_fill_s),
    _quoters("mmpi_fill_delay_seconds", "From the venue's time of a fill to its report here, mean of the last 20; as "
             "right as the two clocks.", _delay),
    _gauges("mmpi_markout_ratio", ("horizon",), "How far the mid moved our way after the last 200 fills, as a share of "
            "the price, weighted by their worth.", _markouts),
    _gauge("mmpi_adverse_selection_ratio", "How far the mid moved against the fills of the last ten minutes within "
           "5 s, as a share of the price.", lambda view: _scaled(view.snapshot.adverse_bps, BPS)),
    # Speed
    _durations("mmpi_tick_to_order_seconds", "From a frame's first byte to the orders that it led to.",
               lambda said: said.tick_to_order),
    _durations("mmpi_loop_lateness_seconds", "How late the quoter's loop was when it wanted to look around.",
               lambda said: said.loop_lateness),
    # Requests
    _count("mmpi_requests_sent", "Requests that this run made at the venue.", lambda said: said.requests.sent),
    _quoters("mmpi_requests_used", "Requests that the venue has counted for the account; absent if it does not say.",
             lambda now: now.requests.used if now.requests.cap else None),
    _quoters("mmpi_requests_cap", "Requests that the venue grants the account.", lambda now: now.requests.cap or None),
    _quoters("mmpi_requests_thinning_factor", "How many times rarer orders are moved, to make the budget last.",
             lambda now: now.requests.thinning),
    _quoters("mmpi_requests_per_fill", "Requests for each fill.", lambda now: now.requests.per_fill),
    _quoters("mmpi_quote_to_trade_ratio", "Orders and amends for each fill.", lambda now: now.requests.quote_to_trade),
    # What is kept
    _kept("mmpi_journal_fault", "What must be kept cannot be kept.", lambda storage: bool(storage.fault)),
    _kept("mmpi_journal_memory_bytes", "The journal in memory.", lambda storage: storage.memory_bytes),
    _kept("mmpi_journal_ledger_bytes", "What this run wrote to the disk.", lambda storage: storage.ledger_bytes),
    _kept("mmpi_journal_unsaved_age_seconds", "Age of the oldest record that is not on the disk yet.",
          lambda storage: storage.oldest_s),
    _kept("mmpi_journal_last_commit_seconds", "How long the disk took for the last commit.",
          lambda storage: storage.last_commit_ms / 1000),
    _count("mmpi_journal_commits", "Commits to the disk in this run.",
           lambda said: said.storage.commits if said.storage is not None else None),
    # The machine
    _gauge("mmpi_host_cpu_ratio", "How busy all processors were over the last minute.",
           lambda view: _scaled(view.host.cpu_percent, 0.01)),
    _gauge("mmpi_host_memory_available_bytes", "Memory to be had.", lambda view: _scaled(view.host.memory_mb, MIB)),
    _gauge("mmpi_host_temperature_celsius", "Of the processor.", lambda view: view.host.temperature_c),
    _gauge("mmpi_host_disk_free_bytes", "Free in the file system of `paths.state_dir`.",
           lambda view: _scaled(view.host.disk_free_mb, MIB)),
    _gauge("mmpi_host_undervoltage", "The supply is too weak.", lambda view: _flag(view.host.undervoltage)),
    _gauge("mmpi_host_throttled", "The processor is slowed down.", lambda view: _flag(view.host.throttled)),
    _gauge("mmpi_host_uptime_seconds", "Since the machine was booted.", lambda view: view.host.uptime_s),
    _gauges("mmpi_process_resident_memory_bytes", ("process",), "Resident memory of quoter and telemetry.", _memory),
    # Telemetry
    _gauge("mmpi_clock_seconds", "The box's clock, Unix time, when this was seen.", lambda view: view.snapshot.at),
    _gauge("mmpi_snapshot_sequence", "One more with each look around; one that stands still is old.",
           lambda view: view.snapshot.sequence),
    _gauge("mmpi_telemetry_uptime_seconds", "Since telemetry's process began.", lambda view: view.snapshot.uptime_s),
    _gauges("mmpi_alert_firing", ("name", "instrument"), "1 for each alert of the box itself (docs/alerts.md).",
            lambda view: [(each, 1.0) for each in view.firing]),
    _gauge("mmpi_alerts_firing", "How many fire.", lambda view: len(set(view.firing))),
)  # fmt: skip
"""Every metric but what telemetry counts by itself."""
