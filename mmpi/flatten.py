"""Flatten: sell what is held by orders that can only reduce, attempt by attempt, each a little worse for us.

The price has three tiers (source text 001, 4.5): the opposite touch; without one the own side's; without any the last
valid mid, or the mark, with more slippage. Slippage grows with each attempt up to a limit, and never leaves the gate's
price band. After each attempt the venue is asked what is held: fills may still be on their way.

Invariant: at most one order of ours is live for an instrument, none is larger than the position, attempts and time are
bounded, and flat is what the venue itself called flat. It must not know venues or who asked for it.
"""

from collections.abc import Iterable
from typing import Final

from mmpi.book import OrderBook
from mmpi.desk import Desk
from mmpi.events import ExecReport, ExecType
from mmpi.instrument import BUY, SECOND, SELL, Instrument, Lots, Nanos, Side, Ticks
from mmpi.orders import Order
from mmpi.risk import RiskConfig
from mmpi.standing import Standing
from mmpi.structs import Leaf, State

FLATTEN_LEVEL: Final = -2
"""Level of an order that flattens: no rung of a ladder."""
PAUSE: Final[Nanos] = SECOND // 2
"""From one attempt to the next: a venue's book comes twice a second."""
LAST_MID_BPS: Final = 50.0
"""Least slippage where no side of a fresh book is left, if the most is not less."""
DOUBT: Final[Nanos] = 12 * SECOND
"""For the fate of orders that were live: two patient questions; then only what they cannot cover is sold."""
CHECK: Final[Nanos] = 6 * SECOND
"""After an order: no instrument waits longer for another one's answer before the venue is asked what is held."""
GIVE_UP: Final[Nanos] = 45 * SECOND
"""The guardian ends it after 60 s; until then it should have heard what is left."""
FLAT: Final = "flat"
_ENDS: Final = (ExecType.REJECTED, ExecType.EXPIRED, ExecType.CANCELED, ExecType.LOST)
_PARTS: Final = 100_000_000
"""Slippage in integers: 10^-8."""


class FlattenState(State, frozen=True):
    """A Flattening as plain values."""

    active: bool
    times: "tuple[Nanos, Nanos, Nanos]"
    tries: "dict[str, int]"
    due: "dict[str, Nanos]"
    failed: "dict[str, str]"
    why: "dict[str, str]"
    unsure: "list[str]"
    checking: "list[str]"
    text: str


class Sale(Leaf, frozen=True):
    """What to place: a limit order that reduces, immediate or cancelled."""

    side: "Side"
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
        self._asked: Nanos = 0
        """When the last order left, or the venue was last asked what is held."""
        self._tries: dict[str, int] = {}
        self._due: dict[str, Nanos] = {}
        self._failed: dict[str, str] = {}
        self._why: dict[str, str] = {}
        """The last word on an instrument's orders, or why none was placed."""
        self._unsure: list[str] = []
        """Instruments that had live orders since the venue last said what is held."""
        self._checking: list[str] = []
        """Of these, the ones that the question on its way is about."""

    def begin(self, now: Nanos) -> None:
        """Begin, or begin anew."""
        self.active, self.wake, self.text = True, now, "working: begins"
        self._since = self._asked = now
        self._tries, self._due, self._failed, self._why = {}, {}, {}, {}
        self._unsure, self._checking = [], []

    def end(self) -> None:
        """It is over, whatever came of it: nothing more is placed."""
        self.active, self.wake, self.text = False, 0, ""

    def wait(self, standing: Standing, desks: Iterable[Desk], now: Nanos) -> None:
        """Note that nothing may be placed just now, or ever again."""
        why = standing.holds_up()
        if standing.is_ending:
            self._why.clear()
        if standing.is_ending or now - self._since >= GIVE_UP:
            self._give_up([desk for desk in desks if _held(desk)], why)
        else:
            if not self._tries or not standing.connected or standing.clock:
                # That the account is read again after each order is nothing to be told of.
                self.text = f"working: {why}"
            self.wake = now + PAUSE

    def must_check(self, desks: Iterable[Desk], now: Nanos) -> bool:
        """Return True if the venue is to be asked now what is held; call it only when the last answer is in."""
        self._unsure = [name for name in self._unsure if name not in self._checking]
        self._checking = []
        if not self._unsure:
            return False
        settled = [desk.instrument.name for desk in desks if self._is_settled(desk, now)]
        self._checking = [name for name in self._unsure if name in settled]
        if len(self._checking) < len(self._unsure) and now - self._asked < CHECK:
            self._checking = []
            return False
        self._asked, self.wake = now, now + PAUSE
        return True

    def sale(self, desk: Desk, stale_after: Nanos, now: Nanos) -> Sale | None:
        """Return what to place for an instrument now, None = nothing (more)."""
        held, name = desk.position.lots + desk.carry, desk.instrument.name
        if not self._is_settled(desk, now):
            self._doubt(name)
        if held == 0 or name in self._failed or name in self._unsure or now < self._due.get(name, 0):
            return None
        side: Side = SELL if held > 0 else BUY
        tried, size = self._tries.get(name, 0), abs(held) - desk.orders.open_size(side)
        if tried >= self._config.flatten_attempts:
            self._fail(desk, f"{self._why.get(name, 'no answer')} ({tried} attempts)")
            return None
        price = price_for(desk, side, tried + 1, self._config, fresh=now - desk.market_ts <= stale_after)
        if size <= 0 or price <= 0:
            self._why[name] = "there is no price" if price <= 0 else "what became of an order is not known"
            return None
        self._due[name] = now + PAUSE
        return Sale(side, price, size)

    def sent(self, desk: Desk, now: Nanos) -> None:
        """Note that the order of a sale leaves."""
        name = desk.instrument.name
        self._tries[name], self._asked = self._tries.get(name, 0) + 1, now
        self._doubt(name)

    def refused(self, desk: Desk, reason: str) -> None:
        """Note that none was let pass; it is tried again, with the price of then."""
        self._why[desk.instrument.name] = reason

    def heed(self, desk: Desk, order: Order, report: ExecReport) -> None:
        """Take the venue's word on one of these orders; what is below its least order is not tried again."""
        if report.exec_type not in _ENDS:
            return
        reason = self._why[desk.instrument.name] = report.reason or report.exec_type.value
        worth = desk.instrument.notional(order.price, order.size)
        if report.exec_type is ExecType.REJECTED and worth < desk.instrument.min_notional:
            self._fail(desk, f"too little for the venue: {reason}")

    def look(self, desks: Iterable[Desk], now: Nanos) -> None:
        """Say how far it is; done once nothing is held and nothing is live, or nothing more can be tried."""
        left = [desk for desk in desks if _held(desk) or desk.orders.live or desk.instrument.name in self._unsure]
        if not left:
            self.active, self.text, self.wake = False, FLAT, 0
        elif now - self._since >= GIVE_UP or all(desk.instrument.name in self._failed for desk in left):
            self._give_up(left, "no answer")
        else:
            told = [f"{_left(desk)}, attempt {self._tries.get(desk.instrument.name, 0)}" for desk in left]
            self.text, self.wake = f"working: {'; '.join(told)}", now + PAUSE

    def checkpoint(self) -> FlattenState:
        """Return the state as plain values."""
        return FlattenState(
            self.active, (self._since, self._asked, self.wake), dict(self._tries), dict(self._due), dict(self._failed),
            dict(self._why), list(self._unsure), list(self._checking), self.text,
        )  # fmt: skip

    def restore(self, state: FlattenState) -> None:
        """Take the state that `checkpoint` returned."""
        self.active, self.text = state.active, state.text
        self._since, self._asked, self.wake = state.times
        self._tries, self._due, self._failed = dict(state.tries), dict(state.due), dict(state.failed)
        self._why, self._unsure, self._checking = dict(state.why), list(state.unsure), list(state.checking)

    def _is_settled(self, desk: Desk, now: Nanos) -> bool:
        """Return True if nothing of an instrument is live, or only what nobody will tell us about any more."""
        live = desk.orders.live
        if not live:
            return True
        return now - self._since >= DOUBT and all(order.level != FLATTEN_LEVEL for order in live.values())

    def _doubt(self, name: str) -> None:
        if name not in self._unsure:
            self._unsure.append(name)

    def _fail(self, desk: Desk, why: str) -> None:
        self._failed.setdefault(desk.instrument.name, f"{_left(desk)}: {why}")

    def _give_up(self, left: list[Desk], why: str) -> None:
        """Say what is left, each with the last word on it; `why` where there is none."""
        for desk in left:
            self._fail(desk, self._why.get(desk.instrument.name, why))
        told = "; ".join([self._failed[desk.instrument.name] for desk in left])
        self.active, self.text, self.wake = False, f"failed: {told or why}", 0


def price_for(desk: Desk, side: Side, attempt: int, config: RiskConfig, *, fresh: bool) -> Ticks:
    """Return the limit price of an attempt (the first is 1), a valid one inside the price band; 0 = there is none."""
    instrument, mid2 = desk.instrument, desk.book.last_mid2 or round(2 * desk.mark)
    slip = min(config.flatten_base_bps + config.flatten_step_bps * (attempt - 1), config.flatten_max_bps)
    touch = _touch(desk.book, side) if fresh else 0
    if not mid2:
        return 0
    if touch:
        price = _slipped(2 * touch, slip, side, instrument)
    else:
        price = _slipped(mid2, min(max(slip, LAST_MID_BPS), config.flatten_max_bps), side, instrument)
    return _inside(price, mid2, config.price_band_bps, instrument)


def _touch(book: OrderBook, side: Side) -> Ticks:
    """Return the best price to trade against, or where there is none our own side's best; 0 = no book to go by."""
    bid, ask = book.best_bid, book.best_ask
    if bid and ask and not book.mid2:
        # Crossed, or lost and of another time.
        return 0
    return (bid or ask) if side == SELL else (ask or bid)


def _slipped(price2: int, bps: float, side: Side, instrument: Instrument) -> Ticks:
    """Return half of `price2`, made worse for us by some basis points, as a valid price: not worse than that."""
    part = round(bps * (_PARTS // 10_000))
    if side == SELL:
        return instrument.round_ask(-(-price2 * (_PARTS - part) // (2 * _PARTS)))
    return instrument.round_bid(price2 * (_PARTS + part) // (2 * _PARTS))


def _inside(price: Ticks, mid2: int, band_bps: float, instrument: Instrument) -> Ticks:
    """Return the price, or the nearest valid one inside the gate's band around the mid."""
    part = round(band_bps * (_PARTS // 10_000))
    lowest = instrument.round_ask(-(-mid2 * (_PARTS - part) // (2 * _PARTS)))
    highest = instrument.round_bid(mid2 * (_PARTS + part) // (2 * _PARTS))
    return min(max(price, lowest), highest)


def _held(desk: Desk) -> Lots:
    return desk.position.lots + desk.carry


def _left(desk: Desk) -> str:
    held = _held(desk)
    size = desk.instrument.size_text(abs(held))
    return f"{desk.instrument.name} {'-' if held < 0 else ''}{size} left"
