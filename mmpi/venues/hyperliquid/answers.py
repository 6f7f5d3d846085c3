"""Hyperliquid's answers to posts and info questions as typed structs; only the fields that something uses.

Invariant: numbers stay text until `Instrument` turns them into exact integers. It must not know what was asked.

Source: Hyperliquid documentation, "Exchange endpoint", "Info endpoint" and "Post requests" (read 2026-11-21).
"""

import msgspec

from mmpi.venues.hyperliquid.messages import Millis, Number, OrderUpdate, WireFill, WireOrder


class OrderId(msgspec.Struct, gc=False):
    """The venue's number of an order."""

    oid: Number


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
    time: Millis = 0


class SpotBalance(msgspec.Struct, gc=False):
    """What the account holds of one token, what its orders bind included."""

    coin: str
    total: str


class SpotState(msgspec.Struct, gc=False):
    """The account's spot balances."""

    balances: list[SpotBalance]


class SpotStateInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to spotClearinghouseState."""

    data: SpotState


class RateLimit(msgspec.Struct, gc=False):
    """Requests that the account has made in all, and that it may make in all."""

    used: Number = msgspec.field(name="nRequestsUsed")
    cap: Number = msgspec.field(name="nRequestsCap")
    volume: str = msgspec.field(name="cumVlm", default="0")
    """What the account has traded in all, in USDC."""


class BudgetInfo(msgspec.Struct, gc=False):
    """Payload of an info answer to userRateLimit."""

    data: RateLimit


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
    is_delisted: bool | None = msgspec.field(name="isDelisted", default=None)


class Meta(msgspec.Struct, gc=False):
    """Answer to meta."""

    universe: list[AssetMeta]


class SpotPair(msgspec.Struct, gc=False):
    """One spot market, of base and quote token; 10000 and its `index` make its asset number."""

    name: str
    tokens: tuple[int, int]
    index: int


class SpotToken(msgspec.Struct, gc=False):
    """One token; pairs name it by its `index`, which is not its place in the list."""

    name: str
    sz_decimals: int = msgspec.field(name="szDecimals")
    index: int


class SpotMeta(msgspec.Struct, gc=False):
    """Answer to spotMeta."""

    universe: list[SpotPair]
    tokens: list[SpotToken]


class PriceLevel(msgspec.Struct, gc=False):
    """One price level of a book."""

    px: str
    sz: str


class BookAnswer(msgspec.Struct, gc=False):
    """Answer to l2Book: bids and asks, best first."""

    levels: tuple[list[PriceLevel], list[PriceLevel]]


class VenueTime(msgspec.Struct, gc=False):
    """What any answer with the venue's own time has, in milliseconds: l2Book, clearinghouseState."""

    time: Millis


class RoleData(msgspec.Struct, gc=False):
    """For an agent: the account that it may trade for; for a sub-account: its master."""

    user: str = ""
    master: str = ""


class UserRole(msgspec.Struct, gc=False):
    """Answer to userRole: user, agent, vault, subAccount or missing."""

    role: str
    data: RoleData | None = None


class ExtraAgent(msgspec.Struct, gc=False):
    """One element of the answer to extraAgents: an agent with a name, and when its approval ends (milliseconds)."""

    address: str
    name: str = ""
    valid_until: int | None = msgspec.field(name="validUntil", default=None)


class MarginSummary(msgspec.Struct, gc=False):
    """What an account's perpetuals side is worth, in USDC."""

    account_value: str = msgspec.field(name="accountValue")


class AccountState(msgspec.Struct, gc=False):
    """Answer to clearinghouseState, of which `ClearinghouseState` reads the positions: what the account is worth."""

    margin_summary: MarginSummary = msgspec.field(name="marginSummary")
    withdrawable: str


class VaultDetails(msgspec.Struct, gc=False):
    """Answer to vaultDetails: who may trade for the vault."""

    leader: str
    is_closed: bool = msgspec.field(name="isClosed", default=False)
