"""Volatility of a price that is observed at irregular times.

Invariant: what counts is elapsed time, never the number of updates. It must not know where prices come from.
"""

from collections.abc import Sequence
from math import exp, expm1, sqrt
from typing import Final

_PER_NANO: Final = 1e-9


class EwmaVolatility:
    """`value` is sigma in ticks per sqrt(second), an average over the last `tau_s` seconds or so; 0.0 at first.

    An interval of dt seconds in which the price moved by dx shows the variance rate dx^2 / dt. Each instant weighs
    exp(-age / tau), so the interval weighs tau * (1 - exp(-dt / tau)) at its end, and 1/e of that tau seconds later:

        sigma^2 = sum(weight * dx^2 / dt) / sum(weight)

    Dividing by the weight seen so far makes it unbiased from the first interval on, and no interval outweighs tau,
    however long the feed was quiet.

    Observations of one nanosecond are one observation, the last of them; so is one whose time runs backwards.
    """

    def __init__(self, tau_s: float) -> None:
        """Make one with a memory of `tau_s` > 0 seconds."""
        self.value: float = 0.0
        self._tau: float = tau_s
        self._ts: int = -1
        """Time of the last observation; -1 = none yet."""
        self._x: float = 0.0
        self._base: float = 0.0
        """The observation before `_ts`."""
        self._older: float = 0.0
        """Weighted sum of variance rates up to `_base`, as it weighs at `_ts`."""
        self._rate: float = 0.0
        """Weight per squared tick of the interval that ends at `_ts`."""
        self._weight: float = 0.0

    def update(self, ts: int, x: float) -> None:
        """Take the price `x` (ticks) at `ts`."""
        elapsed = ts - self._ts
        if self._ts < 0:
            self._ts = ts
            self._base = x
        elif elapsed > 0:
            dt = elapsed * _PER_NANO
            decay = exp(-dt / self._tau)
            # Not 1 - decay, which has lost its digits when dt is a few nanoseconds.
            weight = -self._tau * expm1(-dt / self._tau)
            step = self._x - self._base
            self._older = (self._older + step * step * self._rate) * decay
            self._weight = self._weight * decay + weight
            self._rate = weight / dt
            self._base = self._x
            self._ts = ts
        self._x = x
        if self._rate:
            step = x - self._base
            self.value = sqrt((self._older + step * step * self._rate) / self._weight)
        else:
            self._base = x

    def checkpoint(self) -> tuple[float | int, ...]:
        """Return the state as plain numbers."""
        return (self._ts, self.value, self._x, self._base, self._older, self._rate, self._weight)

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned."""
        self._ts = int(state[0])
        self.value, self._x, self._base, self._older, self._rate, self._weight = map(float, state[1:])
