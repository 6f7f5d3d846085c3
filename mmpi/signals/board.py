"""SignalBoard: the signals of one instrument, the volatility always and the others only where a quoter names them.

Invariant: a step costs O(1), and a signal that nobody asked for costs nothing. It must not know quoters or positions.
"""

from math import ceil, exp, log
from typing import Final

from mmpi.book import OrderBook
from mmpi.instrument import Nanos, Side
from mmpi.ports import NO_READINGS, Readings
from mmpi.signals.depth_imbalance import depth_imbalance
from mmpi.signals.micro_price import micro_price, table_for
from mmpi.signals.realised_volatility import WINDOWS_S, RealisedVolatility
from mmpi.signals.regime import LOOK_EVERY, Regime, RegimeConfig
from mmpi.signals.trade_intensity import TradeIntensity
from mmpi.signals.volatility import EwmaVolatility
from mmpi.structs import State

VOLATILITY_TAU_S: Final = 60.0
"""Memory of the volatility: one minute, the shortest horizon of source text 004 section 4.2."""
VOLATILITY_STEP: Final = 0.02
"""Quoters see the volatility rounded up to the next of steps 2% apart: an estimate from one minute is not nearly that
sharp, and a ladder that follows its every digit gives up queue positions for nothing."""
INTENSITY_TAU_S: Final = 60.0
"""Memory of the trade intensity: the same."""
IMBALANCE_LEVELS: Final = 5
"""Of each side: source text 002's default."""
REALISED: Final = ("realised_1m", "realised_5m", "realised_1h")
"""The readings of WINDOWS_S, in its order."""


class BoardState(State, frozen=True):
    """A SignalBoard as plain numbers; () = nobody asked."""

    volatility: "tuple[float | int, ...]"
    realised: "tuple[int, ...]"
    regime: "tuple[float | int, ...]"
    intensity: "tuple[float | int, ...]"


class SignalBoard:
    """The signals of `instrument` that `names` (fields of Readings) ask for."""

    def __init__(self, names: frozenset[str], instrument: str) -> None:
        self.names = names
        self.volatility = EwmaVolatility(VOLATILITY_TAU_S)
        self._windows = [i for i, name in enumerate(REALISED) if name in names]
        self._realised: RealisedVolatility | None = None
        self._regime: Regime | None = None
        self._intensity: TradeIntensity | None = None
        self._five_minutes = 0
        """Which of the windows kept is the regime's."""
        self._look_at: Nanos = 0
        if "regime" in names:
            self._regime = Regime(RegimeConfig())
            self._windows = sorted({*self._windows, REALISED.index("realised_5m")})
            self._five_minutes = self._windows.index(REALISED.index("realised_5m"))
        if self._windows:
            self._realised = RealisedVolatility([WINDOWS_S[i] for i in self._windows])
        if "buy_intensity" in names or "sell_intensity" in names:
            self._intensity = TradeIntensity(INTENSITY_TAU_S)
        self._imbalance = "imbalance" in names
        self._table = table_for(instrument) if "micro_price" in names else None

    def on_mid(self, ts: Nanos, mid2: int) -> None:
        """Take a valid mid, twice its price in ticks."""
        self.volatility.update(ts, mid2 * 0.5)
        realised = self._realised
        if realised is not None:
            realised.update(ts, mid2)
            if self._regime is not None and ts >= self._look_at:
                self._regime.update(ts, realised.over(self._five_minutes))
                self._look_at = ts + LOOK_EVERY

    def sigma(self) -> float:
        """Return the volatility in ticks per sqrt(second), rounded up to VOLATILITY_STEP; 0.0 at first."""
        value = self.volatility.value
        return exp(ceil(log(value) / VOLATILITY_STEP) * VOLATILITY_STEP) if value > 0.0 else 0.0

    def on_trade(self, ts: Nanos, side: Side) -> None:
        """Take a public trade; `side` is the taker's."""
        if self._intensity is not None:
            self._intensity.update(ts, side)

    def readings(self, book: OrderBook, now: Nanos) -> Readings:
        """Return what the signals say of the book, whose mid they were last told, at `now`."""
        if not self.names:
            return NO_READINGS
        buys, sells = self._intensity.at(now) if self._intensity is not None else (0.0, 0.0)
        over = self._over()
        return Readings(
            depth_imbalance(book.bids, book.asks, IMBALANCE_LEVELS) if self._imbalance else 0.0,
            self._micro_price(book),
            over[0],
            over[1],
            over[2],
            self._regime.value if self._regime is not None else 1,
            buys,
            sells,
        )

    def checkpoint(self) -> BoardState:
        """Return the state as plain numbers."""
        return BoardState(
            volatility=self.volatility.checkpoint(),
            realised=self._realised.checkpoint() if self._realised is not None else (),
            regime=(self._look_at, *self._regime.checkpoint()) if self._regime is not None else (),
            intensity=self._intensity.checkpoint() if self._intensity is not None else (),
        )

    def restore(self, state: BoardState) -> None:
        """Take a state that `checkpoint` returned of a board of the same names."""
        self.volatility.restore(state.volatility)
        if self._realised is not None:
            self._realised.restore(state.realised)
        if self._regime is not None:
            self._look_at = int(state.regime[0])
            self._regime.restore(state.regime[1:])
        if self._intensity is not None:
            self._intensity.restore(state.intensity)

    def _over(self) -> list[float]:
        """Return sigma over each of WINDOWS_S, 0.0 for those not kept."""
        values = [0.0, 0.0, 0.0]
        if self._realised is not None:
            for kept, which in enumerate(self._windows):
                if REALISED[which] in self.names:
                    values[which] = self._realised.over(kept)
        return values

    def _micro_price(self, book: OrderBook) -> float:
        if self._table is None or not book.mid2:
            return 0.0
        return micro_price(book.best_bid, book.best_bid_size, book.best_ask, book.best_ask_size, self._table)
