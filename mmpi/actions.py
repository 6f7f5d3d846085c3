"""Every output of the engine. `Approved` is built in risk.py alone, and a gateway accepts nothing else (I1).

Invariant: an action names everything its gateway needs; it must not know a venue's wire form.
"""

from enum import Enum
from typing import TypeAlias

import msgspec

from mmpi.instrument import Lots, Nanos, Side, Ticks


class TimeInForce(Enum):
    """How long an order lives; POST_ONLY rests or is rejected."""

    GTC = "gtc"
    IOC = "ioc"
    POST_ONLY = "post_only"


class NewOrder(msgspec.Struct, frozen=True, array_like=True, tag="n", gc=False):
    """Place one limit order. `level` is its rung of the ladder, 0 = nearest the touch."""

    instrument: str
    cl_ord_id: str
    side: Side
    price: Ticks
    size: Lots
    level: int
    time_in_force: TimeInForce = TimeInForce.POST_ONLY
    reduce_only: bool = False


class CancelOrder(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False):
    """Cancel one of our orders; `order_id` "" where the venue has not named it yet."""

    instrument: str
    cl_ord_id: str
    order_id: str


class AmendOrder(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """Replace one of our orders by another in one step; the new one has an id of its own (FIX: OrigClOrdID, ClOrdID).

    `order_id` is the venue's name of the order replaced.
    """

    instrument: str
    orig_cl_ord_id: str
    order_id: str
    cl_ord_id: str
    side: Side
    price: Ticks
    size: Lots
    level: int
    time_in_force: TimeInForce = TimeInForce.POST_ONLY
    reduce_only: bool = False


class QueryOrder(msgspec.Struct, frozen=True, array_like=True, tag="q", gc=False):
    """Ask the venue what became of one of our orders (its fate is UNKNOWN)."""

    instrument: str
    cl_ord_id: str
    order_id: str


class RequestLatch(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """Ask the guardian to latch: a limit was touched that only a person may lift."""

    reason: str


class RequestReconcile(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """Ask the venue for open orders, positions and fills; the answer comes as `Reconciled`."""

    reason: str


class ScheduleCancel(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """Have the venue cancel everything at `time` unless it is told otherwise before (dead-man switch); 0 = never."""

    time: Nanos


class RequestBudget(msgspec.Struct, frozen=True, array_like=True, tag="b", gc=False):
    """Ask the venue how many requests are left; the answer comes as `Budget`."""


Action: TypeAlias = (
    NewOrder
    | CancelOrder
    | AmendOrder
    | QueryOrder
    | RequestLatch
    | RequestReconcile
    | ScheduleCancel
    | RequestBudget
)


class Approved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An action that RiskGate let pass, with the time of the event that caused it."""

    ts: Nanos
    action: Action
