"""The plugs: what the engine and the runtime ask of a session, a signal, a quoter, a gateway, a canceller.

Invariant: a port names behaviour in the engine's own types; it must not know any implementation.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from mmpi.actions import Approved
from mmpi.events import Event, Level, OpenOrder
from mmpi.instrument import Instrument, Lots, Nanos, Ticks
from mmpi.inventory import NORMAL
from mmpi.structs import Frozen, Leaf


class QuoteLevel(Leaf, frozen=True):
    """One rung that a quoter wants: a valid price and a size; `level` 0 is nearest the touch."""

    level: int
    price: Ticks
    size: Lots


class Quote(Frozen, frozen=True):
    """A two-sided ladder around `fair` (float ticks); an empty side is pulled. `reason` says why a side is empty."""

    fair: float
    bids: "tuple[QuoteLevel, ...]"
    asks: "tuple[QuoteLevel, ...]"
    reason: str = ""


class Tolerance(Leaf, frozen=True):
    """How far a working order may be from its target and still be kept; of the first three the largest counts."""

    ticks: Ticks
    offset_fraction: float
    """Of the target's distance from the fair value."""
    size_fraction: float
    price_fraction: float = 0.0
    """Of the target's price."""


class Readings(Leaf, frozen=True):
    """The optional signals that a quoter named in `signals`; what it did not ask for, or has no data yet, is 0."""

    imbalance: float = 0.0
    """Of the visible depth, -1 (all asks) to 1 (all bids)."""
    micro_price: float = 0.0
    """Float ticks."""
    realised_1m: float = 0.0
    """Ticks per sqrt(second), like the next two."""
    realised_5m: float = 0.0
    realised_1h: float = 0.0
    regime: int = 1
    """Of volatility: 0 LOW, 1 NORMAL, 2 HIGH, 3 EXTREME."""
    buy_intensity: float = 0.0
    """Takers' buys a second, exponentially weighted; the next one, their sells."""
    sell_intensity: float = 0.0


NO_READINGS: Final = Readings()


OWN_ORDERS: Final = "own_orders"
"""In a quoter's `signals`: it wants the market without our own orders, where the venue's book shows them. Levels, touch
and mids are then those of others, and what only our orders would make is no valid mid."""
FAILED_LEGS: Final = "failed_legs"
"""In a quoter's `signals`: it wants to be asked at once when the order of a side is refused."""


class MarketView(Leaf, frozen=True):
    """What a quoter may see: touch, fair values in float ticks, volatility in ticks per sqrt(second), position."""

    instrument: Instrument
    now: Nanos
    best_bid: Ticks
    """0 = that side is empty; the same for `best_ask`."""
    best_ask: Ticks
    mid: float
    """The valid mid, or the mark for a quoter that `uses_mark` while there is none."""
    weighted_mid: float
    volatility: float
    """Never below what was measured (mmpi.signals.board)."""
    position: Lots
    limit: Lots = 0
    """The largest position, either way, that the risk gate lets orders lead to; 0 = not told."""
    band: int = NORMAL
    """How far the position has gone (mmpi.inventory)."""
    bids: "tuple[Level, ...]" = ()
    """What the venue shows, best first; `asks` likewise."""
    asks: "tuple[Level, ...]" = ()
    mark: float = 0.0
    """The venue's mark price; 0.0 = UNAVAILABLE."""
    readings: Readings = NO_READINGS
    bid_failed: bool = False
    """Our last order on that side was refused, by the venue or by risk, and none is live there; so `ask_failed`."""
    ask_failed: bool = False


class Quoter(Protocol):
    """A strategy: from a view of the market to the ladder it wants. Pure: the same view, the same ladder."""

    interval: Nanos
    """It is asked at most this often."""
    refresh: Nanos
    """So often the ladder is renewed without any tolerance, and without waiting for a book; 0 = never."""
    tolerance: Tolerance
    signals: "frozenset[str]"
    """What is told it only because it asks: fields of `Readings`, OWN_ORDERS, FAILED_LEGS."""
    uses_mark: bool
    """It may quote around the mark while there is no valid mid."""
    prices_only: bool
    """Of the market it looks at touch, mid and volatility alone: not at sizes, levels, signals or time. It is not asked
    again while these and the position stay the same."""

    def quote(self, view: MarketView) -> Quote:
        """Return the wanted ladder."""
        ...


class Signal(Protocol):
    """One number that follows the market; O(1) a step; its state is the tuple that `checkpoint` returns."""

    value: float

    def update(self, ts: Nanos, x: float) -> None:
        """Take a new observation at `ts`."""
        ...

    def checkpoint(self) -> tuple[float | int, ...]:
        """Return the state as plain numbers."""
        ...

    def restore(self, state: Sequence[float | int]) -> None:
        """Take a state that `checkpoint` returned."""
        ...


class Session(Protocol):
    """A venue's protocol without IO: frames in, events out; actions in, frames out. Time and nonces are arguments."""

    def connected(self, now: Nanos) -> list[bytes]:
        """Return the frames to send after a connect (subscriptions)."""
        ...

    def receive(self, frame: bytes | str, recv_ts: Nanos) -> list[Event]:
        """Return the events in one frame; a frame that cannot be read is counted, never raised."""
        ...

    def send(self, actions: Sequence[Approved], now: Nanos) -> list[bytes]:
        """Return the frames that carry the actions, cancels first; `now` is wall-clock time."""
        ...


class Gateway(Protocol):
    """Where approved actions go. It reads the halt word immediately before every send."""

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Send, or refuse what the halt word forbids; never blocks."""
        ...


class Source(Protocol):
    """A stream of events in the order of `recv_ts`."""

    def __iter__(self) -> Iterator[Event]:
        """Return the iterator."""
        ...


class Canceller(Protocol):
    """The guardian's own hand on a venue."""

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return the venue's answer to "what is live"; RemoteError if there is none."""
        ...

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """Ask the venue to cancel these orders by its own order ids."""
        ...


class Clock(Protocol):
    """Wall-clock time."""

    def now(self) -> Nanos:
        """Return nanoseconds since the Unix epoch."""
        ...


class Sink(Protocol):
    """Where the journal's records go; a call returns once the bytes are written to the segment (I2)."""

    def event(self, event: Event) -> bool:
        """Record an event before it is handled; False if it could not be written."""
        ...

    def action(self, approved: Approved) -> bool:
        """Record an action before it is sent; False if it could not be written, and then no order may leave."""
        ...
