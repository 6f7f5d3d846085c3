"""Trade intensity: how often takers buy and sell.

Invariant: an event costs O(1), and time alone lets an intensity fall. It must not know prices or sizes.
"""

from collections.abc import Sequence
from math import exp

from mmpi.errors import ConfigError
from mmpi.instrument import BUY, SECOND, Nanos, Side
from mmpi.structs import Leaf


class TradeIntensity:
    """`buy` and `sell` are takers' trades a second at the last trade, each trade weighing exp(-age / tau) / tau.

    A trade whose time runs backwards counts at the time of the last one.
    """

    def __init__(self, tau_s: float) -> None:
        """Make one with a memory of `tau_s` > 0 seconds."""
        self.buy: float = 0.0
        self.sell: float = 0.0
        self._tau: float = tau_s
        self._jump: float = 1.0 / tau_s
        self._ts: Nanos = 0

    @property
    def value(self) -> float:
        """Return the intensity of both sides at the last trade."""
        return self.buy + self.sell

    def update(self, ts: Nanos, side: Side) -> None:
        """Take a trade at `ts`, `side` being the taker's."""
        elapsed = ts - self._ts
        if elapsed > 0:
            decay = exp(-elapsed / SECOND / self._tau)
            self.buy *= decay
            self.sell *= decay
            self._ts = ts
        if side == BUY:
            self.buy += self._jump
        else:
            self.sell += self._jump

    def at(self, ts: Nanos) -> tuple[float, float]:
        """Return the intensities of buys and of sells at a time not before the last trade."""
        elapsed = ts - self._ts
        decay = exp(-elapsed / SECOND / self._tau) if elapsed > 0 else 1.0
        return self.buy * decay, self.sell * decay

    def checkpoint(self) -> tuple[float | int, ...]:
        """Return the state as plain numbers."""
        return (self._ts, self.buy, self.sell)

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned."""
        self._ts, self.buy, self.sell = int(state[0]), float(state[1]), float(state[2])


class HawkesParameters(Leaf, frozen=True):
    """A symmetric pair of processes; they do not explode while (alpha + cross) / beta < 1."""

    mu: float
    """Trades a second and side that nothing excites."""
    alpha: float
    """What a trade adds to its own side's intensity, per second; `cross`, to the other side's."""
    cross: float
    beta: float
    """Decay of what was added, per second."""


class HawkesIntensity:
    """Buys and sells that excite one another: mu + alpha * own + cross * other, each trade weighing exp(-beta * age).

    Source: Hawkes (1971), "Spectra of some self-exciting and mutually exciting point processes"; with an exponential
    kernel the sums obey a recursion (Ozaki 1979), so an event is O(1).
    """

    def __init__(self, parameters: HawkesParameters) -> None:
        """Make one without a past; ConfigError if its intensities would explode, or fall below 0."""
        p = parameters
        positive = 0.0 <= p.mu < float("inf") and p.alpha >= 0.0 and p.cross >= 0.0
        if not (positive and p.alpha + p.cross < p.beta < float("inf")):
            raise ConfigError(
                f"Hawkes mu {p.mu}, alpha {p.alpha}, cross {p.cross}, beta {p.beta}: "
                "mu, alpha and cross must be at least 0, and alpha + cross less than beta"
            )
        self.parameters = parameters
        self._ts: Nanos = 0
        self._buys: float = 0.0
        """The weights of all buys at `_ts`; `_sells` likewise."""
        self._sells: float = 0.0

    @property
    def value(self) -> float:
        """Return the intensity of both sides just after the last trade."""
        buy, sell = self.at(self._ts)
        return buy + sell

    def excite(self, side: Side, ts: Nanos) -> None:
        """Take a trade at `ts`; one whose time runs backwards counts at the time of the last."""
        elapsed = ts - self._ts
        if elapsed > 0:
            decay = exp(-self.parameters.beta * (elapsed / SECOND))
            self._buys *= decay
            self._sells *= decay
            self._ts = ts
        if side == BUY:
            self._buys += 1.0
        else:
            self._sells += 1.0

    def at(self, ts: Nanos) -> tuple[float, float]:
        """Return the intensities of buys and of sells per second at a time not before the last trade."""
        p = self.parameters
        elapsed = ts - self._ts
        decay = exp(-p.beta * (elapsed / SECOND)) if elapsed > 0 else 1.0
        buys, sells = self._buys * decay, self._sells * decay
        return p.mu + p.alpha * buys + p.cross * sells, p.mu + p.alpha * sells + p.cross * buys

    def checkpoint(self) -> tuple[float | int, ...]:
        """Return the state as plain numbers."""
        return (self._ts, self._buys, self._sells)

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned."""
        self._ts, self._buys, self._sells = int(state[0]), float(state[1]), float(state[2])
