"""What the practice venue asks of an account and charges it.

Invariant: every default is the venue's own figure, except `volume_gate`, without which nobody could practise with the
dead-man switch. It must not know accounts, requests or time.
"""

from typing import Final

import msgspec

from mmpi.instrument import Money

REQUESTS_FREE: Final = 10_000
"""Requests of an address before any volume; then one per USDC traded (Hyperliquid "Rate limits and user limits")."""


class Rules(msgspec.Struct, frozen=True):
    """The venue's thresholds, and its fees at tier 0 (Hyperliquid "Fees", read 2026-11-21)."""

    volume_gate: Money = 0
    """What an account must have traded before `scheduleCancel` is allowed; 0 = no gate (the venue: 1,000,000 USDC)."""
    requests_free: int = REQUESTS_FREE
    """Requests that an address has before it trades; 0 = they are counted, and never refused for their number."""
    maker_fee_bps: float = 1.5
    taker_fee_bps: float = 4.5
    spot_maker_fee_bps: float = 4.0
    spot_taker_fee_bps: float = 7.0
    fire_cap: int = 10
    """How often in one UTC day the dead-man switch of an account may fire."""


DEFAULT: Final = Rules()
