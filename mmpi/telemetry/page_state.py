"""Page state: everything that the web page shows at one moment, and the past that its charts begin with.

Numbers stay what they are, decimal texts or floats; the page alone makes words of them.

Invariant: every part has its age, and what is not known is null; the past has a fixed number of points, whatever the
uptime. It must not know who looks, or how.
"""

import math
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from mmpi.causes import CAUSES, latches
from mmpi.device.lights import PATTERNS, pattern_of
from mmpi.status import OwnOrder, StorageStatus
from mmpi.telemetry import payloads
from mmpi.telemetry.payloads import HostPayload, PnlPayload, StatusPayload
from mmpi.telemetry.snapshot import Fill, Snapshot

OLD_S: Final = 2.0
"""Words of guardian or quoter that are older say nothing about now; the lamps have the same limit."""
SHOWN_FILLS: Final = 12
SHOWN_ORDERS: Final = 60
"""Of one instrument's own orders; the ladders that the configuration allows are shorter."""
UNKNOWN: Final = "unknown"


class LampState(msgspec.Struct, frozen=True):
    """What the lamps show: which are lit together, and their rhythm in ms on, off, on, off ...; empty = dark."""

    sign: str
    """Of docs/lights.md; unknown = the guardian does not answer."""
    says: str
    lit: tuple[str, ...]
    rhythm: tuple[int, ...]
    age_s: float | None
    """Of the guardian's word; null = unknown."""


class CauseState(msgspec.Struct, frozen=True):
    """One thing that holds quoting up, in words."""

    name: str
    kind: str
    """latch or pause."""
    detail: str
    when: str
    ends: str


class StopState(msgspec.Struct, frozen=True):
    """The guardian's last stop, and what it knows of orders at the venue."""

    verified: bool
    """Zero orders are proven, now."""
    live_orders: int | None
    reason: str
    first_zero_ms: float | None
    verified_ms: float | None
    """From the stop's first instant to the proof; null = there was none in this run of the guardian."""


class AlertLike(Protocol):
    """An alert, whoever made it."""

    @property
    def name(self) -> str:
        """Return which rule it is of."""
        ...

    @property
    def instrument(self) -> str:
        """Return what it is about, "" = the whole box."""
        ...

    @property
    def severity(self) -> str:
        """Return warning or critical."""
        ...

    @property
    def text(self) -> str:
        """Return it in words."""
        ...

    @property
    def since(self) -> float:
        """Return when it began, Unix time, s."""
        ...


class AlertState(msgspec.Struct, frozen=True):
    """One alert that has not ended."""

    name: str
    instrument: str
    severity: str
    text: str
    since: float


class LadderState(msgspec.Struct, frozen=True):
    """Levels as (price, size), best first, and our orders."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    own: list[OwnOrder]


class PageState(msgspec.Struct, frozen=True, tag_field="kind", tag="state"):
    """One moment; ages are those at `monotonic`, and the page counts on from when it came."""

    monotonic: float
    box: StatusPayload
    pnl: PnlPayload | None
    host: HostPayload
    lamps: LampState
    causes: list[CauseState]
    stop: StopState | None
    """None = the guardian does not answer."""
    ladders: dict[str, LadderState]
    fills: list[Fill]
    """Newest first."""
    last_fill_s: float | None
    adverse_bps: float | None
    alerts: list[AlertState]
    storage: StorageStatus | None
    anomalies: dict[str, int]
    flatten: str
    panel: bool
    """A virtual front panel: its buttons can be held from here."""


def lamp_state(snapshot: Snapshot) -> LampState:
    """Return what the lamps show by the guardian's word, unknown without one or by an old one."""
    guardian = snapshot.guardian
    if guardian is None or guardian.age_s > OLD_S:
        return LampState(UNKNOWN, "the guardian does not answer: only the lamps of the box itself count", (), (), None)
    sign = str(guardian.status.get("sign", ""))
    pattern = pattern_of(sign)
    lit = tuple(name for name in ("green", "amber", "red") if getattr(pattern, name))
    return LampState(
        sign if sign in PATTERNS else pattern.name, pattern.says, lit, pattern.rhythm, round(guardian.age_s, 3)
    )


def page_state(
    snapshot: Snapshot, run: float, alerts: Iterable[AlertLike], lamps: LampState, *, panel: bool = False
) -> PageState:
    """Return what the page shows. `run`: when this run of telemetry began, as in the payloads."""
    summary = snapshot.quoter.summary
    instruments = summary.instruments if summary is not None else {}
    return PageState(
        monotonic=round(snapshot.monotonic, 3),
        box=payloads.status(snapshot, run),
        pnl=payloads.pnl(snapshot, run),
        host=payloads.host(snapshot, run),
        lamps=lamps,
        causes=_causes(snapshot),
        stop=_stop(snapshot),
        ladders={
            name: LadderState(each.bids, each.asks, each.own[:SHOWN_ORDERS] if snapshot.quoter.alive else [])
            for name, each in instruments.items()
        },
        fills=list(reversed(snapshot.fills[-SHOWN_FILLS:])),
        last_fill_s=snapshot.last_fill_s,
        adverse_bps=snapshot.adverse_bps,
        alerts=[AlertState(each.name, each.instrument, each.severity, each.text, each.since) for each in alerts],
        storage=summary.storage if summary is not None else None,
        anomalies=summary.anomalies if summary is not None else {},
        flatten=summary.flatten if summary is not None else "",
        panel=panel,
    )


def _causes(snapshot: Snapshot) -> list[CauseState]:
    """Return what holds quoting up; of what latched, the row that the guardian names."""
    status = snapshot.guardian.status if snapshot.guardian is not None else {}
    details: Mapping[str, Any] = status.get("details") or {}
    names = dict.fromkeys([*filter(None, [status.get("cause")]), *status.get("causes", ())])
    found = []
    for name in map(str, names):
        row = CAUSES.get(name)
        detail = str(details.get(name) or (status.get("reason", "") if name == status.get("cause") else ""))
        kind = "latch" if latches(name) else "pause"
        found.append(CauseState(name, kind, detail, row.when if row else "", row.ends if row else ""))
    return found


def _stop(snapshot: Snapshot) -> StopState | None:
    if snapshot.guardian is None:
        return None
    status = snapshot.guardian.status
    last: Mapping[str, Any] = status.get("last_stop") or {}
    return StopState(
        bool(status.get("verified_zero")), status.get("live_orders"), str(last.get("reason", "")),
        last.get("first_zero_ms"), last.get("verified_ms"),
    )  # fmt: skip


# The past -------------------------------------------------------------------------------------------------------------

TRACKS: Final = ((1.0, 600), (10.0, 360), (300.0, 288))
"""(seconds between points, points): ten minutes, an hour, a day; of each as much as a screen can show."""
PARTS: Final = ("spread", "inventory", "funding", "fees")
MAX_INSTRUMENTS: Final = 16
_WHOLE: Final = ""
"""The name under which the sums of all instruments stand."""
_UNKNOWN: Final = math.nan


class _Track:
    """Points of one step, in a ring: the times, and one column for each (instrument, part)."""

    def __init__(self, step_s: float, size: int) -> None:
        self.step_s, self.size = step_s, size
        self._times = _column(size)
        self._columns: dict[tuple[str, str], array[float]] = {}
        self._next = 0
        self._slot: float = -math.inf

    def add(self, now: float, values: Mapping[tuple[str, str], float]) -> bool:
        """Keep these values, if the last ones are a step old; return whether they are."""
        slot = now // self.step_s
        if slot <= self._slot:
            return False
        self._slot = slot
        at = self._next % self.size
        self._next += 1
        self._times[at] = now
        for key in values.keys() - self._columns.keys():
            self._columns[key] = _column(self.size)
        for key, column in self._columns.items():
            column[at] = values.get(key, _UNKNOWN)
        return True

    def keep(self, instruments: Iterable[str]) -> None:
        """Forget the columns of all other instruments."""
        kept = {_WHOLE, *instruments}
        self._columns = {key: column for key, column in self._columns.items() if key[0] in kept}

    def told(self, now: float) -> dict[str, Any]:
        """Return the points, oldest first."""
        series: dict[str, dict[str, list[float]]] = {}
        for (name, part), column in self._columns.items():
            series.setdefault(name, {})[part] = [round(value, 6) for value in self._ordered(column)]
        ages = [round(now - time, 1) for time in self._ordered(self._times)]
        return {"step_s": self.step_s, "size": self.size, "ages_s": ages, "series": series}

    def _ordered(self, column: "array[float]") -> "array[float]":
        at = self._next % self.size
        return column[at:] + column[:at] if self._next >= self.size else column[:at]


class History:
    """Profit and loss by its parts, and positions, of the last day; the nearer the past, the finer."""

    def __init__(self) -> None:
        self._tracks: Final = [_Track(step_s, size) for step_s, size in TRACKS]
        self._instruments: tuple[str, ...] = ()
        self._now = 0.0
        self._encoded = b""
        """Until the next point."""

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot; while the quoter is silent, there is a gap."""
        now, quoter = snapshot.monotonic, snapshot.quoter
        values: dict[tuple[str, str], float] = {}
        if quoter.summary is not None and quoter.age_s is not None and quoter.age_s <= OLD_S:
            instruments = dict(list(quoter.summary.instruments.items())[:MAX_INSTRUMENTS])
            if tuple(instruments) != self._instruments:
                self._instruments = tuple(instruments)
                for track in self._tracks:
                    track.keep(self._instruments)
            for part in PARTS:
                values[_WHOLE, part] = float(getattr(quoter.summary.pnl, part))
            for name, each in instruments.items():
                values[name, "position"] = float(each.position)
                for part in PARTS:
                    values[name, part] = float(getattr(each.pnl, part))
        added = [track.add(now, values) for track in self._tracks]
        if any(added):
            self._now, self._encoded = now, b""

    def encoded(self) -> bytes:
        """Return all of it as JSON for a client that connects: ages in seconds before `monotonic`, gaps as null."""
        if not self._encoded:
            tracks = [track.told(self._now) for track in self._tracks]
            told = {"kind": "history", "monotonic": round(self._now, 3), "tracks": tracks}
            self._encoded = msgspec.json.encode(told)
        return self._encoded


def _column(size: int) -> "array[float]":
    return array("d", [_UNKNOWN]) * size
