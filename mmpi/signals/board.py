"""SignalBoard: the signals of one instrument, the volatility always and the others only where a quoter names them.

Invariant: a step costs O(1), and a signal that nobody asked for costs nothing. It must not know quoters or positions.
"""

from typing import Final

from mmpi.book import OrderBook
from mmpi.instrument import Nanos, Side
from mmpi.ports import NO_READINGS, Readings
from mmpi.signals.volatility import EwmaVolatility
from mmpi.structs import State

VOLATILITY_TAU_S: Final = 60.0
"""Memory of the volatility: one minute, the shortest horizon of source text 004 section 4.2."""


class BoardState(State, frozen=True):
    """A SignalBoard as plain numbers."""

    volatility: "tuple[float | int, ...]"


class SignalBoard:
    """The signals that `names` (fields of Readings) ask for."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.volatility = EwmaVolatility(VOLATILITY_TAU_S)

    def on_mid(self, ts: Nanos, mid2: int) -> None:
        """Take a valid mid, twice its price in ticks."""
        self.volatility.update(ts, mid2 * 0.5)

    def on_trade(self, ts: Nanos, side: Side) -> None:
        """Take a public trade; `side` is the taker's."""

    def readings(self, book: OrderBook, now: Nanos) -> Readings:
        """Return what the signals say now."""
        return NO_READINGS

    def checkpoint(self) -> BoardState:
        """Return the state as plain numbers."""
        return BoardState(volatility=self.volatility.checkpoint())

    def restore(self, state: BoardState) -> None:
        """Take a state that `checkpoint` returned."""
        self.volatility.restore(state.volatility)
