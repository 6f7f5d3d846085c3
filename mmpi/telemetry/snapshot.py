"""Snapshot: everything that telemetry knows at one moment, each part with its age. All channels tell from this.

Invariant: what is not known is None, never a default; an age is that of the words, not of their arrival here.
It must not know who is told, or how.
"""

from typing import Any

import msgspec

from mmpi.status import Summary


class Fill(msgspec.Struct, frozen=True):
    """One fill of ours, and how the mid moved after it.

    `markouts`: horizon such as "5s" -> bps of the price, positive = the mid moved our way; None = not yet known.
    """

    exec_id: str
    instrument: str
    side: str
    """buy or sell."""
    price: str
    size: str
    fee: str
    maker: bool
    at: float
    """Unix time, s, by the venue's clock."""
    markouts: dict[str, float | None]


class QuoterView(msgspec.Struct, frozen=True):
    """What the quoter says of itself."""

    alive: bool
    """Its process is there; it may hang all the same."""
    age_s: float | None
    """Of its last sign of life; None = none was seen."""
    pid: int
    summary: Summary | None
    """Its last words; None = it never said any."""


class GuardianView(msgspec.Struct, frozen=True):
    """What the guardian answers to `status` (mmpi.control), with the age of the answer."""

    age_s: float
    status: dict[str, Any]


class Exposure(msgspec.Struct, frozen=True):
    """One instrument's position against its limit."""

    notional: float
    """Quote currency, signed, at the mid."""
    share: float
    """Of risk.max_position; 1 = at the limit."""


class Snapshot(msgspec.Struct, frozen=True):
    """One moment."""

    device: str
    version: str
    sequence: int
    """One more with each snapshot of this process, so that nobody takes an old one for a new one."""
    at: float
    """Unix time, s, by this machine's clock, which may be wrong."""
    monotonic: float
    """Seconds of the monotonic clock."""
    uptime_s: float
    """Of telemetry's process."""
    quoter: QuoterView
    guardian: GuardianView | None
    """None = it does not answer."""
    exposures: dict[str, Exposure]
    fills: tuple[Fill, ...]
    """The last ones, oldest first; at most 200."""
    adverse_bps: float | None
    """Mean 5 s markout of the fills of the last ten minutes, turned round: positive = against us. None: no fills."""
    last_fill_s: float | None
    """Since the last fill; None = none was seen."""
    counters: dict[str, int]
    """What telemetry itself counts: dropped messages, reconnects, refused commands and the like; only ever grows."""
    rss_mb: float
    """Telemetry's own memory."""
