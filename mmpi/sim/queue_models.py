"""Queue models: of what left a price level without a trade, how much stood ahead of our order.

Invariant: rounding is against us (what is ahead never shrinks by more than the model says, in whole lots), and what is
ahead never exceeds what is shown. It must not know books, messages or time.

An aggregated book tells that a level shrank, not who left it. The family used here takes the share
f(ahead) / (f(ahead) + f(behind)) from ahead of us, with f(x) = x**n: Rigtorp, "Estimating order queue position" (2013),
and hftbacktest's documentation, "Order Fill", describe it. n = 1 is the proportional model; a large n lets the longer
part lose nearly all; at n near 0 both lose alike.
"""

from typing import Final

from mmpi.errors import ConfigError
from mmpi.instrument import Lots

CONSERVATIVE: Final = "conservative"
"""Those behind us leave first; ahead shrinks only where less is shown than we thought was ahead."""
PROPORTIONAL: Final = "proportional"
"""Every lot of the level is equally likely to leave."""
POWER_LAW: Final = "power_law"
"""The share of a power of what is ahead."""
FIFO: Final = "fifo"
"""The true queue, from data that names each order."""
ESTIMATES: Final = (CONSERVATIVE, PROPORTIONAL, POWER_LAW)
"""The models that need no more than an aggregated book."""

MOST_POWER: Final = 10.0
"""From here on a queue longer ahead than behind loses practically everything at its front: 1.5**10 = 58."""
FITTED_POWER: Final = 6.0
"""Least mean absolute error of the fill share on the first half of Bitstamp's BTCUSD orders of 2015-05-01, of twelve
exponents and orders of 900 s (`fit` in research/queue_truth.py). The minimum is flat: most of that book's levels hold
one order, which leaves as a whole or not at all, and from 1 to 8 the error changes by a quarter."""


def exponent(model: str, power: float, by_order: bool) -> float:
    """Return n of f(x) = x**n, 0.0 for a model without shares; ConfigError for a model that cannot be used."""
    if model == FIFO and not by_order:
        raise ConfigError(
            f"sim.queue {model!r}: needs a backtest with data that names each order (*.l3orders.csv, *.wslog); "
            f"allowed here: {', '.join(ESTIMATES)}"
        )
    if model != FIFO and model not in ESTIMATES:
        raise ConfigError(f"sim.queue {model!r}: no such model; allowed: {', '.join(ESTIMATES)}, {FIFO}")
    if model == POWER_LAW and not 0.0 < power <= MOST_POWER:
        raise ConfigError(f"sim.queue_power {power}: allowed: more than 0, at most {MOST_POWER:g}")
    return 1.0 if model == PROPORTIONAL else power if model == POWER_LAW else 0.0


def gone_ahead(ahead: Lots, behind: Lots, lost: Lots, power: float) -> Lots:
    """Return how many of `lost` lots left from ahead of us; at least what those behind cannot account for."""
    if ahead <= 0 or lost <= 0:
        return 0
    if power == 0.0:
        share = 0
    elif power == 1.0:
        share = lost * ahead // (ahead + behind)
    else:
        share = int(lost / (1.0 + (behind / ahead) ** power))
    return min(ahead, max(share, lost - behind))
