"""Volatility regime: whether the market is calmer or wilder than it has lately been.

Invariant: it is NORMAL until there is history to compare with, and never changes twice within the dwell. It must not
know how volatility is measured.
"""

from collections.abc import Sequence
from math import exp, expm1, sqrt
from typing import Final

from mmpi.errors import ConfigError
from mmpi.instrument import SECOND, Nanos
from mmpi.structs import Config

LOW: Final = 0
NORMAL: Final = 1
HIGH: Final = 2
EXTREME: Final = 3
NAMES: Final = ("low", "normal", "high", "extreme")

LOOK_EVERY: Final[Nanos] = SECOND
"""A five-minute volatility does not change in less: one bucket of it (mmpi.signals.realised_volatility)."""
MOST_STEP_S: Final = 60.0
"""Time that one look counts for at most: what happened in a longer hole of the feed was not seen."""


class RegimeConfig(Config, frozen=True):
    """Thresholds for volatility over its baseline.

    The bands 0.5, 1.5 and 3 are those of source text 004, section 4.2. It gives no exits: here they lie a fifth
    inside, the relative error 1/sqrt(2n) of a volatility from about a dozen changes in a quiet five minutes.
    """

    low_enter: float = 0.5
    """LOW below this; over, above the next."""
    low_exit: float = 0.6
    high_exit: float = 1.2
    high_enter: float = 1.5
    """HIGH above this; over, below the one before. The same for EXTREME."""
    extreme_exit: float = 2.4
    extreme_enter: float = 3.0
    min_dwell_s: float = 60.0
    """Between two changes: a fifth of the five minutes that the volatility remembers."""
    baseline_tau_s: float = 14_400.0
    """Memory of the baseline: four hours, so that a wild five minutes weigh 2% in what they are compared with."""
    min_history_s: float = 1_800.0
    """Seen before there is a baseline: six times the five minutes of one volatility."""


def regime_flaw(config: RegimeConfig) -> str:
    """Return what is wrong with the thresholds in one sentence, or ""."""
    names = ("low_enter", "low_exit", "high_exit", "high_enter", "extreme_exit", "extreme_enter")
    values = (
        config.low_enter, config.low_exit, config.high_exit, config.high_enter, config.extreme_exit,
        config.extreme_enter,
    )  # fmt: skip
    below = 0.0
    for name, value in zip(names, values, strict=True):
        if not below <= value < float("inf"):
            return f"regime.{name} {value} must be at least {below}: 0 <= {' <= '.join(names)}"
        below = value
    if not 0.0 <= config.min_dwell_s < float("inf"):
        return f"regime.min_dwell_s {config.min_dwell_s} must be at least 0"
    if not 0.0 < config.baseline_tau_s < float("inf"):
        return f"regime.baseline_tau_s {config.baseline_tau_s} must be greater than 0"
    if not 0.0 <= config.min_history_s < float("inf"):
        return f"regime.min_history_s {config.min_history_s} must be at least 0"
    return ""


class Regime:
    """`value` is LOW, NORMAL, HIGH or EXTREME: the volatility over its own long average, with hysteresis.

    The baseline is the mean of the volatility squared, weighted exp(-age / tau) over the time that was seen.
    """

    def __init__(self, config: RegimeConfig) -> None:
        """Make one that has seen nothing; ConfigError if the thresholds are out of order."""
        flaw = regime_flaw(config)
        if flaw:
            raise ConfigError(flaw)
        self.config = config
        self.value: int = NORMAL
        self._ts: Nanos = -1
        """Of the last look; -1 = none yet."""
        self._since: Nanos = 0
        """Of the last change of `value`, or of the first look."""
        self._seen: float = 0.0
        """Seconds of history."""
        self._sum: float = 0.0
        """Weighted sum of squared volatility, and of the weights."""
        self._weight: float = 0.0

    def update(self, ts: Nanos, volatility: float) -> None:
        """Take the volatility of the last five minutes at `ts`; 0.0 before there was any other means unknown."""
        if self._ts < 0:
            if volatility > 0.0:
                self._ts = self._since = ts
            return
        elapsed = ts - self._ts
        if elapsed < LOOK_EVERY:
            return
        self._ts = ts
        config = self.config
        dt = min(elapsed / SECOND, MOST_STEP_S)
        age = -dt / config.baseline_tau_s
        decay, weight = exp(age), -expm1(age)
        square = volatility * volatility
        self._sum = self._sum * decay + square * weight
        self._weight = self._weight * decay + weight
        self._seen += dt
        if self._seen < config.min_history_s or self._sum <= 0.0:
            return
        if ts - self._since < config.min_dwell_s * SECOND:
            return
        found = next_regime(self.value, sqrt(square * self._weight / self._sum), config)
        if found != self.value:
            self.value = found
            self._since = ts

    def checkpoint(self) -> tuple[float | int, ...]:
        """Return the state as plain numbers."""
        return (self.value, self._ts, self._since, self._seen, self._sum, self._weight)

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned."""
        self.value, self._ts, self._since = int(state[0]), int(state[1]), int(state[2])
        self._seen, self._sum, self._weight = float(state[3]), float(state[4]), float(state[5])


def next_regime(regime: int, ratio: float, config: RegimeConfig) -> int:
    """Return the regime that follows at `ratio`, the dwell aside: a band is left at its exit, entered at its enter."""
    if ratio > config.extreme_enter or (regime == EXTREME and ratio >= config.extreme_exit):
        return EXTREME
    if ratio > config.high_enter or (regime >= HIGH and ratio >= config.high_exit):
        return HIGH
    if ratio < config.low_enter or (regime == LOW and ratio <= config.low_exit):
        return LOW
    return NORMAL
