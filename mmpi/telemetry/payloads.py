"""Payloads: what is published over MQTT, made of a snapshot; docs/telemetry-payloads.json has their JSON Schemas.

Invariant: every payload has a sequence, a time and the age of what it says; what is not known is null. Money, prices
and sizes are decimal texts, exact; what a phone draws (mid, notional, shares) is also there as numbers.
It must not know topics, brokers or who reads.
"""

from typing import Any, Final

import msgspec

from mmpi.status import InstrumentStatus, OrderCounts, OwnOrder, PnlStatus, RequestStatus, Summary
from mmpi.telemetry.snapshot import Exposure, Fill, Snapshot

NO_QUOTER: Final = "no quoter"


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them have."""

    sequence: int
    """One more with each snapshot of one run of telemetry; `run` tells the runs apart."""
    run: float
    """When this run of telemetry began, Unix time, s."""
    at: float
    """When it was said, Unix time, s, by the box's clock."""
    age_s: float | None
    """Age of what it says when it was said; null = never heard."""


class InstrumentPayload(msgspec.Struct, frozen=True):
    """One instrument."""

    bid: str
    ask: str
    mid: float | None
    spread_bps: float | None
    """Of the market: ask - bid."""
    quoted_spread_bps: float | None
    """Of our own best orders; null unless both sides rest."""
    position: str
    notional: float | None
    limit_share: float | None
    """Of risk.max_position; 1 = at the limit."""
    orders: int
    reason: str
    """Why it is not quoted, "" = it is."""
    feed_age_s: float | None


class StatusPayload(Payload, frozen=True):
    """The whole box at a glance."""

    device: str
    version: str
    mode: str
    venue: str
    state: str
    """quoting, paused, stopped, no quoter ..., as `mmpi status` has it."""
    reason: str
    latch: str
    """latched, armed or unknown."""
    latch_reason: str
    sign: str
    """What the lamps show (docs/lights.md); unknown = the guardian does not answer."""
    deadman: str
    quoter_alive: bool
    quoter_age_s: float | None
    guardian_alive: bool
    guardian_age_s: float | None
    causes: list[str]
    """What holds quoting up."""
    healthy: bool | None
    """Whether this boot was found healthy; null = not judged."""
    events: int
    orders: OrderCounts
    fills: int
    refusals: dict[str, int]
    latency_p50_us: float | None
    latency_p99_us: float | None
    requests: RequestStatus | None
    invariant_violations: int
    instruments: dict[str, InstrumentPayload]
    uptime_s: float
    counters: dict[str, int]


class PnlPayload(Payload, frozen=True):
    """Session profit and loss: total = spread + inventory + funding - fees."""

    spread: str
    inventory: str
    funding: str
    fees: str
    total: str
    instruments: dict[str, PnlStatus]


class LiveOrder(msgspec.Struct, frozen=True):
    """One live order."""

    instrument: str
    side: str
    price: str
    size: str
    status: str


class OrdersPayload(Payload, frozen=True):
    """Orders of ours that are live now."""

    live: list[LiveOrder]
    guardian_live: int | None
    """How many the guardian's own session sees; null = it does not know."""


class HostPayload(Payload, frozen=True):
    """The machine; null = it cannot be read here, and `unavailable` says why."""

    cpu_percent: float | None
    memory_mb: float | None
    temperature_c: float | None
    disk_free_mb: float | None
    undervoltage: bool | None
    throttled: bool | None
    uptime_s: float | None
    quoter_rss_mb: float | None
    telemetry_rss_mb: float
    unavailable: dict[str, str]


class FillPayload(Payload, frozen=True):
    """One fill; said when it is seen, and again, with the same exec_id, when its last markout is known."""

    exec_id: str
    instrument: str
    side: str
    price: str
    size: str
    fee: str
    maker: bool
    filled_at: float
    markouts: dict[str, float | None]


class AlertPayload(Payload, frozen=True):
    """One alert that began or ended; `alerts/active` has all that have not ended."""

    name: str
    instrument: str
    """ "" = the whole box."""
    severity: str
    """warning or critical."""
    state: str
    """firing or resolved."""
    text: str
    since: float


class ActiveAlertsPayload(Payload, frozen=True):
    """All alerts that have not ended."""

    active: list[AlertPayload]


class CommandPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent to `command`; a bare text such as `kill` is {"cmd": "kill"}.

    `id`, `issued_at`, `ttl_s` and `by` are needed for resume, flatten and arm; kill, pause and status need none.
    """

    cmd: str
    id: str = ""
    """Never used before; 64 characters at most."""
    issued_at: float = 0.0
    """Unix time, s."""
    ttl_s: float = 0.0
    """Obeyed for so long after issued_at; at most 60."""
    by: str = ""
    """Who asks, for the journal."""
    reason: str = ""


class ResultPayload(Payload, frozen=True):
    """What became of a command."""

    cmd: str
    id: str
    result: str
    """accepted (more follows), done, refused or failed."""
    text: str


PAYLOADS: Final[dict[str, type[msgspec.Struct]]] = {
    "status": StatusPayload,
    "pnl": PnlPayload,
    "orders": OrdersPayload,
    "host": HostPayload,
    "fills": FillPayload,
    "alerts": AlertPayload,
    "alerts/active": ActiveAlertsPayload,
    "command": CommandPayload,
    "command/result": ResultPayload,
}
"""Topic below prefix/device_id -> what is said there; `availability` is the bare word online or offline."""


def status(snapshot: Snapshot, run: float) -> StatusPayload:
    """Return the box at a glance."""
    quoter, summary = snapshot.quoter, snapshot.quoter.summary
    guardian = snapshot.guardian.status if snapshot.guardian is not None else {}
    latch = str(guardian.get("latch", "unknown"))
    state, reason = (summary.state, summary.reason) if summary is not None else (NO_QUOTER, "no quoter has run")
    if not quoter.alive and summary is not None:
        state, reason = NO_QUOTER, f"not running; its last word: {summary.reason or 'quoting'}"
    latency = summary.tick_to_order_us if summary is not None else None
    boot = guardian.get("boot") or {}
    return StatusPayload(
        **_stamp(snapshot, run, quoter.age_s),
        device=snapshot.device,
        version=snapshot.version,
        mode=summary.mode if summary is not None else "",
        venue=summary.venue if summary is not None else "",
        state=state,
        reason=reason,
        latch=latch,
        latch_reason=str(guardian.get("reason", "")) if latch == "latched" else "",
        sign=str(guardian.get("sign", "unknown")),
        deadman=summary.deadman if summary is not None else "UNSUPPORTED",
        quoter_alive=quoter.alive,
        quoter_age_s=_round(quoter.age_s),
        guardian_alive=snapshot.guardian is not None,
        guardian_age_s=_round(snapshot.guardian.age_s) if snapshot.guardian is not None else None,
        causes=[str(each) for each in guardian.get("causes", ())],
        healthy=boot.get("healthy"),
        events=summary.events if summary is not None else 0,
        orders=summary.orders if summary is not None else OrderCounts(0, 0, 0, 0),
        fills=summary.fills if summary is not None else 0,
        refusals=summary.refusals if summary is not None else {},
        latency_p50_us=latency.p50 if latency is not None and latency.n else None,
        latency_p99_us=latency.p99 if latency is not None and latency.n else None,
        requests=summary.requests if summary is not None else None,
        invariant_violations=summary.invariant_violations if summary is not None else 0,
        instruments={
            name: _instrument(each, snapshot.exposures.get(name)) for name, each in _instruments(summary).items()
        },
        uptime_s=round(snapshot.uptime_s, 1),
        counters=snapshot.counters,
    )


def pnl(snapshot: Snapshot, run: float) -> PnlPayload | None:
    """Return profit and loss, None before the quoter has said any."""
    summary = snapshot.quoter.summary
    if summary is None:
        return None
    total = summary.pnl
    return PnlPayload(
        **_stamp(snapshot, run, snapshot.quoter.age_s),
        spread=total.spread, inventory=total.inventory, funding=total.funding, fees=total.fees, total=total.total,
        instruments={name: each.pnl for name, each in summary.instruments.items()},
    )  # fmt: skip


def orders(snapshot: Snapshot, run: float) -> OrdersPayload:
    """Return the live orders; those of a quoter that is gone are nobody's word any more."""
    found = _instruments(snapshot.quoter.summary) if snapshot.quoter.alive else {}
    live = [
        LiveOrder(name, order.side, order.price, order.size, order.status)
        for name, each in found.items()
        for order in each.own
    ]
    seen = snapshot.guardian.status.get("live_orders") if snapshot.guardian is not None else None
    return OrdersPayload(**_stamp(snapshot, run, snapshot.quoter.age_s), live=live, guardian_live=seen)


def host(snapshot: Snapshot, run: float) -> HostPayload:
    """Return the machine's figures."""
    guardian, summary = snapshot.guardian, snapshot.quoter.summary
    box = (guardian.status.get("box") if guardian is not None else None) or {}
    figures: dict[str, Any] = dict(box.get("host") or {})
    unavailable = dict(figures.pop("unavailable", {}) if guardian is not None else {"host": "the guardian is silent"})
    known: dict[str, Any] = {name: _known(figures.get(name)) for name in FIGURES}
    return HostPayload(
        **_stamp(snapshot, run, guardian.age_s if guardian is not None else None),
        **known,
        quoter_rss_mb=round(summary.rss_mb, 1) if summary is not None and snapshot.quoter.alive else None,
        telemetry_rss_mb=round(snapshot.rss_mb, 1),
        unavailable=unavailable,
    )


FIGURES: Final = (
    "cpu_percent", "memory_mb", "temperature_c", "disk_free_mb", "undervoltage", "throttled", "uptime_s",
)  # fmt: skip


def fill(each: Fill, snapshot: Snapshot, run: float) -> FillPayload:
    """Return one fill."""
    return FillPayload(
        **_stamp(snapshot, run, max(0.0, snapshot.at - each.at)),
        exec_id=each.exec_id, instrument=each.instrument, side=each.side, price=each.price, size=each.size,
        fee=each.fee, maker=each.maker, filled_at=each.at, markouts=each.markouts,
    )  # fmt: skip


def schemas() -> dict[str, Any]:
    """Return the JSON Schema of every payload by its topic below prefix/device_id, the same by every interpreter."""
    return {topic: _plain(msgspec.json.schema(kind)) for topic, kind in PAYLOADS.items()}


def _plain(schema: Any) -> Any:
    """Return a schema with each description on one line: interpreters keep a docstring's blanks differently."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(value.split()) if key == "description" and isinstance(value, str) else _plain(value)
        for key, value in schema.items()
    }


def _stamp(snapshot: Snapshot, run: float, age_s: float | None) -> dict[str, Any]:
    return {"sequence": snapshot.sequence, "run": run, "at": round(snapshot.at, 3), "age_s": _round(age_s)}


def _known(figure: Any) -> Any:
    """Return a figure, None for the word that stands where there is none."""
    return None if isinstance(figure, str) else figure


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _instruments(summary: Summary | None) -> dict[str, InstrumentStatus]:
    return summary.instruments if summary is not None else {}


def _instrument(each: InstrumentStatus, exposure: Exposure | None) -> InstrumentPayload:
    mid = middle(each)
    return InstrumentPayload(
        bid=each.bid,
        ask=each.ask,
        mid=mid,
        spread_bps=_bps(float(each.bid), float(each.ask)) if mid else None,
        quoted_spread_bps=_quoted(each.own),
        position=each.position,
        notional=round(exposure.notional, 2) if exposure is not None else None,
        limit_share=round(exposure.share, 4) if exposure is not None else None,
        orders=each.orders,
        reason=each.reason,
        feed_age_s=each.feed_age_ms / 1000 if each.feed_age_ms is not None else None,
    )


def middle(each: InstrumentStatus) -> float | None:
    """Return the mid of an instrument's touch, None unless it has both sides."""
    return (float(each.bid) + float(each.ask)) / 2 if each.bid and each.ask else None


def _quoted(own: list[OwnOrder]) -> float | None:
    bids = [float(order.price) for order in own if order.side == "buy"]
    asks = [float(order.price) for order in own if order.side == "sell"]
    return _bps(max(bids), min(asks)) if bids and asks else None


def _bps(bid: float, ask: float) -> float:
    return round((ask - bid) / ((ask + bid) / 2) * 10_000, 3)
