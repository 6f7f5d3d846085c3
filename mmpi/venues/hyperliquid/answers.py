"""Hyperliquid's answers to posts and info questions as typed structs; only the fields that something uses.

Invariant: numbers stay text until `Instrument` turns them into exact integers. It must not know what was asked.

Source: Hyperliquid documentation, "Exchange endpoint", "Info endpoint" and "Post requests" (read 2026-11-21).
"""

import msgspec

from mmpi.venues.hyperliquid.messages import OrderUpdate, WireFill, WireOrder


class OrderId(msgspec.Struct, gc=False):
    """The venue's number of an order."""

    oid: int


class OrderStatus(msgspec.Struct, gc=False):
    """Answer to one order of a batch; exactly one field is set."""

    resting: OrderId | None = None
    filled: OrderId | None = None
    error: str | None = None


class Statuses(msgspec.Struct, gc=False):
    """Answers to a batch, in its order; a cancel that worked is the word success."""

    statuses: list[str | OrderStatus]


class ActionResult(msgspec.Struct, gc=False):
    """What an accepted action gave."""

    data: Statuses


class ActionAnswer(msgspec.Struct, gc=False):
    """`status` ok: the response is an ActionResult; err: it is a sentence."""

    status: str
    response: msgspec.Raw


class WirePosition(msgspec.Struct, gc=False):
    """A position in base units, negative when short."""

    coin: str
    szi: str


class AssetPosition(msgspec.Struct, gc=False):
    """The venue's wrapping of a position."""

    position: WirePosition


class ClearinghouseState(msgspec.Struct, gc=False):
    """The account's positions as of `time` (milliseconds, 0 = not told)."""

    asset_positions: list[AssetPosition] = msgspec.field(name="assetPositions")
    time: int = 0


class OrderStatusAnswer(msgspec.Struct, gc=False):
    """Answer to orderStatus: `status` is order, or unknownOid and `order` is absent."""

    status: str
    order: OrderUpdate | None = None


class OpenOrdersInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to frontendOpenOrders."""

    data: list[WireOrder]


class FillsInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to userFills."""

    data: list[WireFill]


class StateInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to clearinghouseState."""

    data: ClearinghouseState


class OrderStatusInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to orderStatus."""

    data: OrderStatusAnswer


class AssetMeta(msgspec.Struct, gc=False):
    """One perpetual of the universe; its index there is its asset number."""

    name: str
    sz_decimals: int = msgspec.field(name="szDecimals")


class Meta(msgspec.Struct, gc=False):
    """Answer to meta."""

    universe: list[AssetMeta]


class RoleData(msgspec.Struct, gc=False):
    """For an agent: the account that it may trade for."""

    user: str = ""


class UserRole(msgspec.Struct, gc=False):
    """Answer to userRole: user, agent, vault, subAccount or missing."""

    role: str
    data: RoleData | None = None
