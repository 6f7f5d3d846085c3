"""Flatten: sell what is held by orders that can only reduce, attempt by attempt, each a little worse for us.

The price has three tiers (source text 001, 4.5): the opposite touch; without one the own side's; without any the last
valid mid, or the mark, with more slippage. Slippage grows with each attempt up to a limit, and never leaves the gate's
price band.

Invariant: at most one order of ours is live for an instrument, none is larger than the position, and attempts are
bounded. It must not know venues, halts or who asked for it.
"""

from collections.abc import Iterable
from typing import Final

from mmpi.book import OrderBook
from mmpi.desk import Desk
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.risk import RiskConfig
from mmpi.structs import State

FLATTEN_LEVEL: Final = -2
"""Level of an order that flattens: no rung of a ladder."""
PAUSE: Final[Nanos] = SECOND // 2
"""From one attempt to the next: a venue's book comes twice a second."""
LAST_MID_BPS: Final = 50.0
"""Least slippage where no side of a fresh book is left."""
DOUBT: Final[Nanos] = 12 * SECOND
"""For the fate of orders that were live: two patient questions; then only what they cannot cover is sold."""
FLAT: Final = "flat"
_PARTS: Final = 100_000_000
"""Slippage in integers: 10^-8."""


class FlattenState(State, frozen=True):
    """A Flattening as plain values."""

    active: bool
    since: Nanos
    wake: Nanos
    tries: "dict[str, int]"
    due: "dict[str, Nanos]"
    failed: "dict[str, str]"
    text: str


class Sale(State, frozen=True):
    """What to place: a limit order that reduces, immediate or cancelled."""

    side: Side
    price: Ticks
    size: Lots


class Flattening:
    """One account's way to no position."""

    def __init__(self, config: RiskConfig) -> None:
        self.active = False
        self.wake: Nanos = 0
        """When there is something to do at the latest; 0 = nothing."""
        self.text = ""
        """Nobody asked (""), working: ..., flat, or failed: ..."""
        self._config = config
        self._since: Nanos = 0
        self._tries: dict[str, int] = {}
        self._due: dict[str, Nanos] = {}
        self._failed: dict[str, str] = {}

    def begin(self, now: Nanos) -> None:
        """Begin, or begin anew."""
        self.active, self._since, self.wake, self.text = True, now, now, "working: begins"
        self._tries, self._due, self._failed = {}, {}, {}

    def end(self) -> None:
        """It is over, whatever came of it: nothing more is placed."""
        self.active, self.wake, self.text = False, 0, ""

    def wait(self, why: str, now: Nanos) -> None:
        """Note that nothing may be placed just now."""
        self.text, self.wake = f"working: {why}", now + PAUSE

    def sale(self, desk: Desk, stale_after: Nanos, now: Nanos) -> Sale | None:
        """Return what to place for an instrument now, None = nothing (more)."""
        held, name = desk.position.lots + desk.carry, desk.instrument.name
        if held == 0 or name in self._failed or now < self._due.get(name, 0):
            return None
        side: Side = SELL if held > 0 else BUY
        size = abs(held)
        if desk.orders.live:
            if now - self._since < DOUBT or any(order.level == FLATTEN_LEVEL for order in desk.orders.live.values()):
                return None
            size -= desk.orders.open_size(side)
            if size <= 0:
                return None
        tried = self._tries.get(name, 0)
        if tried >= self._config.flatten_attempts:
            self._failed[name] = f"{_left(desk)} after {tried} attempts"
            return None
        price = price_for(desk, side, tried + 1, self._config, fresh=now - desk.market_ts <= stale_after)
        self._tries[name], self._due[name] = tried + 1, now + PAUSE
        if price <= 0:
            self._failed[name] = f"{_left(desk)}, and there is no price"
            return None
        return Sale(side, price, size)

    def refused(self, desk: Desk, reason: str) -> None:
        """Note that the risk gate let none of it pass: it would not next time either, or will say so again."""
        if self._tries.get(desk.instrument.name, 0) >= self._config.flatten_attempts:
            self._failed[desk.instrument.name] = f"{_left(desk)}, refused: {reason}"

    def look(self, desks: Iterable[Desk], now: Nanos) -> None:
        """Say how far it is; done once nothing is held and nothing is live, or nothing more can be tried."""
        left = [desk for desk in desks if desk.position.lots + desk.carry or desk.orders.live]
        if not left:
            self.text, self.wake = FLAT, 0
        elif all(desk.instrument.name in self._failed for desk in left):
            self.text, self.wake = f"failed: {'; '.join(self._failed.values())}", 0
        else:
            told = [f"{_left(desk)}, attempt {self._tries.get(desk.instrument.name, 0)}" for desk in left]
            self.text, self.wake = f"working: {'; '.join(told)}", now + PAUSE

    def checkpoint(self) -> FlattenState:
        """Return the state as plain values."""
        return FlattenState(
            self.active, self._since, self.wake, dict(self._tries), dict(self._due), dict(self._failed), self.text
        )

    def restore(self, state: FlattenState) -> None:
        """Take the state that `checkpoint` returned."""
        self.active, self._since, self.wake, self.text = state.active, state.since, state.wake, state.text
        self._tries, self._due, self._failed = dict(state.tries), dict(state.due), dict(state.failed)


def price_for(desk: Desk, side: Side, attempt: int, config: RiskConfig, *, fresh: bool) -> Ticks:
    """Return the limit price of an attempt (the first is 1), a valid one inside the price band; 0 = there is none."""
    instrument, mid2 = desk.instrument, desk.book.last_mid2 or round(2 * desk.mark)
    slip = min(config.flatten_base_bps + config.flatten_step_bps * (attempt - 1), config.flatten_max_bps)
    touch = _touch(desk.book, side) if fresh else 0
    if touch:
        price = _slipped(2 * touch, slip, side, instrument)
    elif mid2:
        price = _slipped(mid2, max(slip, LAST_MID_BPS), side, instrument)
    else:
        return 0
    return _inside(price, mid2, config.price_band_bps, side, instrument) if mid2 else 0


def _touch(book: OrderBook, side: Side) -> Ticks:
    """Return the best price to trade against, or where there is none our own side's best; 0 = an empty book."""
    return (book.best_bid or book.best_ask) if side == SELL else (book.best_ask or book.best_bid)


def _slipped(price2: int, bps: float, side: Side, instrument: Instrument) -> Ticks:
    """Return twice a price, made worse for us by some basis points, as a valid price: not better than that."""
    part = round(bps * (_PARTS // 10_000))
    if side == SELL:
        return instrument.round_bid(price2 * (_PARTS - part) // (2 * _PARTS))
    return instrument.round_ask(-(-price2 * (_PARTS + part) // (2 * _PARTS)))


def _inside(price: Ticks, mid2: int, band_bps: float, side: Side, instrument: Instrument) -> Ticks:
    """Return the price, or the last valid one inside the gate's band around the mid."""
    part = round(band_bps * (_PARTS // 10_000))
    if side == SELL:
        return max(price, instrument.round_ask(-(-mid2 * (_PARTS - part) // (2 * _PARTS))))
    return min(price, instrument.round_bid(mid2 * (_PARTS + part) // (2 * _PARTS)))


def _left(desk: Desk) -> str:
    held = desk.position.lots + desk.carry
    size = desk.instrument.size_text(abs(held))
    return f"{desk.instrument.name} {'-' if held < 0 else ''}{size} left"
