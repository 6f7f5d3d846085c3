"""What the practice venue asks and charges where the real one would not let a newcomer try everything.

Invariant: every default is the venue's own figure, except `volume_gate`, without which no practice could arm the
dead-man switch. It must not know accounts, requests or time.
"""

from typing import Final

import msgspec

from mmpi.instrument import Money

REQUESTS_FREE: Final = 10_000
"""Requests of an address before any volume; then one per USDC traded (Hyperliquid "Rate limits")."""


class Rules(msgspec.Struct, frozen=True):
    """The venue's thresholds and fees. Fees are those of tier 0 (Hyperliquid "Fees", read 2026-11-28)."""

    volume_gate: Money = 0
    """What an account must have traded before `scheduleCancel` is allowed; 0 = no gate (the venue: 1,000,000 USDC)."""
    requests_free: int = REQUESTS_FREE
    """Requests an address has before it trades; 0 = the budget is counted and never enforced."""
    maker_fee_bps: float = 1.5
    taker_fee_bps: float = 4.5
    spot_maker_fee_bps: float = 4.0
    spot_taker_fee_bps: float = 7.0
    fire_cap: int = 10
    """How often in one UTC day the dead-man switch of an account may fire."""


DEFAULT: Final = Rules()
