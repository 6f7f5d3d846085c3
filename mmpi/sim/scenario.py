"""Scenarios: how the generated market behaves, as numbers, and named sets of them.

Invariant: a scenario is a complete MarketConfig; who wants it with some numbers changed replaces those, so an explicit
number always wins. It must not know how a market is made from the numbers.

Fitted (market_fit.py): volatility, trend, trade rate, clustering and small jumps, for `calm` from the recording of BTC
and for `normal` from that of SOL, the livelier one: at BTC's pace of that evening a maker at 1 bp waits a minute for a
fill, and a demo is there to be watched. Chosen, because half an hour of two markets does not hold enough of it to fit:
stalls (one was seen), regimes, funding, and what the other six scenarios exaggerate. The book interval is chosen too:
half of the recorded 0.54 s, so that the demo's ladder moves smoothly.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from mmpi.sim.market_fit import FITTED
from mmpi.structs import Config

_BTC, _SOL = FITTED["BTC"], FITTED["SOL"]


class MarketConfig(Config, frozen=True):
    """What the generated market does; in everything that comes `every_s`, 0 = never."""

    seed: int = 7
    book_interval_ms: float = 250.0
    trades_per_s: float = _SOL.orders_per_s
    """Takers' orders, on average; each is one trade a level."""
    volatility_bps: float = _SOL.volatility_bps
    """Basis points per square root of a second over minutes, without jumps, cascades and reversion."""
    branching: float = _SOL.branching
    """Orders that one order sets off on average (self-excitation); 0 = none."""
    excite_decay_per_s: float = _SOL.decay_per_s
    trend_share: float = _SOL.trend_share
    """Part of the variance that is a drift with the time constant below; 0 = none."""
    trend_tau_s: float = _SOL.trend_tau_s
    regime_strength: float = 1.0
    """1 = calm, normal and wild spells differ fully, 0 = not at all."""
    reversion_tau_s: float = 0.0
    """Time in which the price returns to a slow anchor; 0 = it does not."""
    jump_every_s: float = _SOL.jump_every_s
    jump_bps: float = _SOL.jump_bps
    cascade_every_s: float = 0.0
    cascade_s: float = 15.0
    cascade_bps: float = 80.0
    """How far a liquidation cascade drives the price, before it partly comes back."""
    locked_share: float = 0.0
    """Part of the books whose best bid is their best ask."""
    missing_share: float = 0.0
    """Part of the books that never arrive; their sequence numbers are missing."""
    stall_every_s: float = 600.0
    stall_s: float = 8.0
    funding_interval_s: float = 3600.0
    """Time between funding payments; 0 = no mark price and no funding at all."""


NORMAL: Final = MarketConfig()
SCENARIOS: Final[dict[str, MarketConfig]] = {
    "calm": MarketConfig(
        trades_per_s=_BTC.orders_per_s,
        volatility_bps=_BTC.volatility_bps,
        branching=_BTC.branching,
        excite_decay_per_s=_BTC.decay_per_s,
        trend_share=_BTC.trend_share,
        trend_tau_s=_BTC.trend_tau_s,
        regime_strength=0.0,
        jump_every_s=_BTC.jump_every_s,
        jump_bps=_BTC.jump_bps,
    ),
    "normal": NORMAL,
    "trend": MarketConfig(trend_share=0.95, trend_tau_s=60.0, volatility_bps=2.5),
    "reversion": MarketConfig(trend_share=0.0, reversion_tau_s=20.0, volatility_bps=2.0),
    "burst": MarketConfig(trades_per_s=4.0, branching=0.85, excite_decay_per_s=3.0),
    "gap": MarketConfig(jump_every_s=60.0, jump_bps=25.0, missing_share=0.1, stall_every_s=120.0, stall_s=10.0),
    "locked": MarketConfig(locked_share=0.46),
    "cascade": MarketConfig(cascade_every_s=240.0),
}
"""By name. 46% locked is what StandX published on a whole day (standx_btcusd_20260107; 47% the day before)."""


def scenario(name: str, explicit: Mapping[str, float]) -> MarketConfig:
    """Return the scenario with the explicitly given numbers in place of its own; KeyError for an unknown name."""
    return msgspec.structs.replace(SCENARIOS[name], **explicit)
