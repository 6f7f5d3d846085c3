"""Every input of the engine, as frozen structs that the journal stores byte for byte.

Invariant: each event carries `recv_ts`, the only time the engine knows; prices, sizes and money are integers.
It must not know where an event came from.
"""

from enum import Enum
from typing import Final, TypeAlias

import msgspec

from mmpi.instrument import Lots, Money, Nanos, Side, Ticks

Level: TypeAlias = tuple[Ticks, Lots]
"""(price, size); a size of 0 in a BookDelta removes the level."""


class BookSnapshot(msgspec.Struct, frozen=True, array_like=True, tag="S", gc=False):
    """The whole visible book: bids best (highest) first, asks best (lowest) first. `exch_ts` 0 = not told."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    seq: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BookDelta(msgspec.Struct, frozen=True, array_like=True, tag="D", gc=False):
    """Absolute new sizes of some levels; it follows the message numbered `prev_seq`."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    seq: int
    prev_seq: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Bbo(msgspec.Struct, frozen=True, array_like=True, tag="B", gc=False):
    """Best bid and offer from the venue's own channel; a size of 0 means that side is empty."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    seq: int
    bid: Ticks
    bid_size: Lots
    ask: Ticks
    ask_size: Lots


class Trade(msgspec.Struct, frozen=True, array_like=True, tag="T", gc=False):
    """A public trade; `side` is the taker's."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    trade_id: int
    side: Side
    price: Ticks
    size: Lots


class Mark(msgspec.Struct, frozen=True, array_like=True, tag="M", gc=False):
    """The venue's fair prices, float ticks (0.0 = not told), and the funding that longs will pay shorts.

    `rate` is a fraction of the notional for the payment due at `next_ts` (0 = not told when).
    """

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    mark: float
    index: float = 0.0
    rate: float = 0.0
    next_ts: Nanos = 0


class Funding(msgspec.Struct, frozen=True, array_like=True, tag="F", gc=False):
    """A funding payment booked to our account; `amount` > 0 is received. `funding_id` removes duplicates."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    funding_id: str
    amount: Money


POST_ONLY: Final = "post only"
"""How the reason of a REJECTED report begins when the order would have taken."""
RATE_LIMIT: Final = "rate limit"
"""How the reason begins when the venue takes no more requests from us for now."""
DEAD_MAN: Final = "dead-man switch"
"""The reason of a CANCELED report when the venue's dead-man switch did it."""


class ExecType(Enum):
    """What an ExecReport tells (FIX tag 150, with the two answers FIX has no word for)."""

    NEW = "new"
    TRADE = "trade"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCEL_REJECTED = "cancel_rejected"
    FILLED = "filled"
    """The venue says the order is done by fills, whose TRADE reports may be still on the way."""
    LOST = "lost"
    """The fate of what we sent is unknown (no answer, connection lost, unknown error text)."""
    NOT_FOUND = "not_found"
    """Asked about the order, the venue knows none."""


class ExecReport(msgspec.Struct, frozen=True, array_like=True, tag="E", gc=False):
    """The venue's word on one order. A TRADE has `price`, `size`, `fee` (> 0 is paid) and a unique `exec_id`."""

    recv_ts: Nanos
    instrument: str
    exch_ts: Nanos
    cl_ord_id: str
    """Ours, or "" where the venue names an order that is not ours."""
    order_id: str
    """The venue's, or "" while unknown."""
    exec_type: ExecType
    side: Side = 1
    price: Ticks = 0
    size: Lots = 0
    fee: Money = 0
    maker: bool = True
    exec_id: str = ""
    reason: str = ""


class OpenOrder(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order that the venue says is live; `size` is what is left of it."""

    instrument: str
    cl_ord_id: str
    order_id: str
    side: Side
    price: Ticks
    size: Lots


class Connected(msgspec.Struct, frozen=True, array_like=True, tag="C", gc=False):
    """The venue session is up; nothing may be quoted before `Reconciled` (I13)."""

    recv_ts: Nanos
    venue: str


class Disconnected(msgspec.Struct, frozen=True, array_like=True, tag="X", gc=False):
    """The venue session is gone; every order in flight has an unknown fate (I4)."""

    recv_ts: Nanos
    venue: str
    reason: str


class Reconciled(msgspec.Struct, frozen=True, array_like=True, tag="R", gc=False):
    """The venue's full answer after a connect or a pause: live orders and positions, fills already delivered."""

    recv_ts: Nanos
    venue: str
    open_orders: tuple[OpenOrder, ...]
    positions: tuple[tuple[str, Lots], ...]


class Timer(msgspec.Struct, frozen=True, array_like=True, tag="W", gc=False):
    """The wake-up that the engine asked for with `wake_at`, or a heartbeat."""

    recv_ts: Nanos


class Halted(msgspec.Struct, frozen=True, array_like=True, tag="H", gc=False):
    """The halt word was seen set: from here nothing is placed. `latched` False = a pause."""

    recv_ts: Nanos
    latched: bool
    reason: str


class Resumed(msgspec.Struct, frozen=True, array_like=True, tag="G", gc=False):
    """The halt word was cleared; quoting waits for a fresh `Reconciled`."""

    recv_ts: Nanos


class Flatten(msgspec.Struct, frozen=True, array_like=True, tag="Y", gc=False):
    """The halt word lets pass what reduces a position, and nothing else: sell what is held."""

    recv_ts: Nanos
    reason: str


class DeadManReport(msgspec.Struct, frozen=True, array_like=True, tag="L", gc=False):
    """The venue's answer to a ScheduleCancel.

    NEW = set to `until` (0 = cleared), REJECTED = the switch is refused, LOST = unknown.
    """

    recv_ts: Nanos
    venue: str
    until: Nanos
    outcome: ExecType
    reason: str = ""


class Budget(msgspec.Struct, frozen=True, array_like=True, tag="U", gc=False):
    """How many requests the account has made at the venue in all, and how many it may make."""

    recv_ts: Nanos
    venue: str
    used: int
    cap: int


class VenueFault(msgspec.Struct, frozen=True, array_like=True, tag="V", gc=False):
    """The venue will not let us trade any more until a person has seen to it; `instrument` "" = nowhere at all."""

    recv_ts: Nanos
    venue: str
    instrument: str
    reason: str


class ClockTrust(msgspec.Struct, frozen=True, array_like=True, tag="K", gc=False):
    """Whether the clock may be trusted from now on (I8); `reason` says why not."""

    recv_ts: Nanos
    trusted: bool
    reason: str = ""


class StorageTrust(msgspec.Struct, frozen=True, array_like=True, tag="J", gc=False):
    """Whether what must be kept can be kept from now on: orders' intents, fills; `fault` says why not, "" = it can."""

    recv_ts: Nanos
    fault: str


class Stopping(msgspec.Struct, frozen=True, array_like=True, tag="Q", gc=False):
    """The process was asked to end (I14): nothing is placed any more, everything is cancelled."""

    recv_ts: Nanos
    reason: str


MarketEvent: TypeAlias = BookSnapshot | BookDelta | Bbo | Trade | Mark
Event: TypeAlias = (
    BookSnapshot
    | BookDelta
    | Bbo
    | Trade
    | Mark
    | Funding
    | ExecReport
    | Connected
    | Disconnected
    | Reconciled
    | Timer
    | Halted
    | Resumed
    | Flatten
    | DeadManReport
    | Budget
    | VenueFault
    | ClockTrust
    | StorageTrust
    | Stopping
)
