"""Hyperliquid's messages as typed structs, read from bytes in one pass; only the fields that something uses.

Invariant: public market numbers become floats while the JSON is read and integers once, right after; numbers that
move our position (fills, open orders) stay text until `Instrument` turns them into exact integers. Whatever a frame
says, no integer of an event is beyond the 64 bits that the journal holds.
It must not know what a message means for our orders.

Source: Hyperliquid documentation, "Info endpoint", "Subscriptions" and "Post requests" (read 2026-11-21).
"""

import re
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Level, Mark, Trade
from mmpi.instrument import BUY, MILLISECOND, SECOND, SELL, Instrument, Nanos, Side, make_instrument

SIGNIFICANT_FIGURES: Final = 5
FIRST_SPOT: Final = 10_000
"""A spot market's asset number is this plus its index ("Asset IDs", read 2026-11-28)."""
PERP_DECIMALS: Final = 6
"""A perpetual's price has at most 6 - szDecimals decimals ("Tick and lot size", read 2026-11-21)."""
SPOT_DECIMALS: Final = 8
"""A spot price at most 8 - szDecimals of the base token (the same)."""
MAX_TICKS: Final = float(2**53)
"""From here on a double no longer holds every integer."""
FUNDING_EVERY: Final[Nanos] = 3600 * SECOND
"""Funding is paid every hour, on the hour ("Funding")."""
MIN_NOTIONAL: Final = "10"
"""In USDC ("Error responses": Order must have minimum value of $10)."""

MAX_INT: Final = 2**63 - 1
_PLAIN: Final = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,24})?").fullmatch

WireSide: TypeAlias = Literal["A", "B"]
"""A = ask or sell, B = bid or buy; in a public trade the taker's."""
Price: TypeAlias = Annotated[float, msgspec.Meta(ge=0, lt=1e10)]
"""Public prices and sizes, so that ticks and lots of the finest grids fit 64 bits; msgspec checks while it reads."""
Size: TypeAlias = Annotated[float, msgspec.Meta(ge=0, lt=1e13)]
Millis: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**43)]
"""Milliseconds of the Unix epoch, up to the year 2248."""
Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]
"""A number that the venue gives: of orders, fills, requests."""


class WireLevel(msgspec.Struct, gc=False):
    """One price level."""

    px: Price
    sz: Size


class WireBook(msgspec.Struct, gc=False):
    """Every visible level of one coin, best first; `time` in milliseconds."""

    coin: str
    time: Millis
    levels: tuple[list[WireLevel], list[WireLevel]]


class WireTrade(msgspec.Struct, gc=False):
    """A public trade."""

    coin: str
    side: WireSide
    px: Price
    sz: Size
    time: Millis
    tid: Number


class WireContext(msgspec.Struct, gc=False):
    """A perpetual's prices and its hourly funding rate; 0.0 where the venue leaves one out."""

    mark_px: float = msgspec.field(name="markPx", default=0.0)
    oracle_px: float = msgspec.field(name="oraclePx", default=0.0)
    funding: float | None = None


class WireAssetCtx(msgspec.Struct, gc=False):
    """The data of `activeAssetCtx`; it carries no time of its own."""

    coin: str
    ctx: WireContext


class WireOrder(msgspec.Struct, gc=False):
    """An order of the account; `sz` is what is left of it. `cloid` is absent where its owner gave none."""

    coin: str
    side: WireSide
    limit_px: str = msgspec.field(name="limitPx")
    sz: str
    oid: Number
    cloid: str | None = None
    is_trigger: bool = msgspec.field(name="isTrigger", default=False)
    """It waits for a price before it is an order: a stop."""


class OrderUpdate(msgspec.Struct, gc=False):
    """What became of an order of the account; the time in milliseconds."""

    order: WireOrder
    status: str
    status_timestamp: Millis = msgspec.field(name="statusTimestamp", default=0)


class WireFill(msgspec.Struct, gc=False):
    """A fill of the account; a negative `fee` is a rebate, `crossed` means that we took."""

    coin: str
    px: str
    sz: str
    side: WireSide
    time: Millis
    oid: Number
    tid: Number
    crossed: bool = True
    fee: str = "0"
    cloid: str | None = None
    fee_token: str = msgspec.field(name="feeToken", default="")
    """Of a spot buy the token bought; "" = not told: the quote currency."""


class UserFills(msgspec.Struct, gc=False):
    """New fills, or after every subscribe (`is_snapshot`) the recent ones again."""

    fills: list[WireFill]
    is_snapshot: bool = msgspec.field(name="isSnapshot", default=False)


class WireFunding(msgspec.Struct, gc=False):
    """A funding payment of the account; a negative `usdc` was paid."""

    time: Millis
    coin: str
    usdc: str


class UserFundings(msgspec.Struct, gc=False):
    """New funding payments, or after every subscribe (`is_snapshot`) the recent ones again."""

    fundings: list[WireFunding]
    is_snapshot: bool = msgspec.field(name="isSnapshot", default=False)


class WireLiquidation(msgspec.Struct, gc=False):
    """A liquidation that concerns the account, as either side of it."""

    liquidated_user: str


class WireNonUserCancel(msgspec.Struct, gc=False):
    """An order of the account that the venue cancelled itself."""

    coin: str
    oid: Number


class UserEvents(msgspec.Struct, gc=False):
    """What happened to the account; each message has one of these, or one that other channels tell as well."""

    liquidation: WireLiquidation | None = None
    non_user_cancel: list[WireNonUserCancel] = msgspec.field(name="nonUserCancel", default_factory=list)


class PostResponse(msgspec.Struct, gc=False):
    """An answer to a post: `type` is info, action or error, and says how to read the payload."""

    type: str
    payload: msgspec.Raw


class PostData(msgspec.Struct, gc=False):
    """An answer with the number of the post that it belongs to."""

    id: int
    response: PostResponse


class BookMessage(msgspec.Struct, tag="l2Book", tag_field="channel", gc=False):
    """Frame of the l2Book channel."""

    data: WireBook


class TradesMessage(msgspec.Struct, tag="trades", tag_field="channel", gc=False):
    """Frame of the trades channel."""

    data: list[WireTrade]


class AssetCtxMessage(msgspec.Struct, tag="activeAssetCtx", tag_field="channel", gc=False):
    """Frame of the activeAssetCtx channel."""

    data: WireAssetCtx


class SpotAssetCtxMessage(msgspec.Struct, tag="activeSpotAssetCtx", tag_field="channel", gc=False):
    """Frame of the activeAssetCtx subscription of a spot pair, which has neither oracle price nor funding."""

    data: WireAssetCtx


class OrderUpdatesMessage(msgspec.Struct, tag="orderUpdates", tag_field="channel", gc=False):
    """Frame of the orderUpdates channel."""

    data: list[OrderUpdate]


class UserFillsMessage(msgspec.Struct, tag="userFills", tag_field="channel", gc=False):
    """Frame of the userFills channel."""

    data: UserFills


class UserFundingsMessage(msgspec.Struct, tag="userFundings", tag_field="channel", gc=False):
    """Frame of the userFundings channel."""

    data: UserFundings


class UserEventsMessage(msgspec.Struct, tag="user", tag_field="channel", gc=False):
    """Frame of the userEvents subscription, whose channel is named user."""

    data: UserEvents


class PostMessage(msgspec.Struct, tag="post", tag_field="channel", gc=False):
    """Frame that answers a post."""

    data: PostData


class ErrorMessage(msgspec.Struct, tag="error", tag_field="channel", gc=False):
    """Frame with a complaint about something we sent, without the number of the post."""

    data: str


class PongMessage(msgspec.Struct, tag="pong", tag_field="channel", gc=False):
    """Frame that answers our ping."""


class Subscription(msgspec.Struct, gc=False):
    """What a subscription is to."""

    type: str


class Confirmation(msgspec.Struct, gc=False):
    """A request to subscribe as the venue took it."""

    method: str
    subscription: Subscription


class SubscriptionMessage(msgspec.Struct, tag="subscriptionResponse", tag_field="channel", gc=False):
    """Frame that confirms a subscription."""

    data: Confirmation


Message: TypeAlias = (
    BookMessage
    | TradesMessage
    | AssetCtxMessage
    | SpotAssetCtxMessage
    | OrderUpdatesMessage
    | UserFillsMessage
    | UserFundingsMessage
    | UserEventsMessage
    | PostMessage
    | ErrorMessage
    | PongMessage
    | SubscriptionMessage
)
CHANNELS: Final = frozenset(
    {
        "l2Book", "trades", "activeAssetCtx", "activeSpotAssetCtx", "orderUpdates", "userFills", "userFundings", "user",
        "post", "error", "pong", "subscriptionResponse",
    }  # fmt: skip
)
GREETING: Final = "Websocket connection established."
"""The first frame of a connection is this line, which is not JSON."""


class Envelope(msgspec.Struct, gc=False):
    """Any frame: its channel alone."""

    channel: str


_MESSAGES: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message, strict=False)
_ENVELOPE: Final = msgspec.json.Decoder(Envelope)


def read(frame: bytes | str) -> Message:
    """Return the message in a frame; msgspec.MsgspecError (or UnicodeError) if it cannot be read."""
    return _MESSAGES.decode(frame)


def is_of_no_interest(frame: bytes | str) -> bool:
    """Return whether an unread frame is the venue's greeting, or sound but of a channel that nothing here reads."""
    if frame in (GREETING, GREETING.encode()):
        return True
    try:
        return _ENVELOPE.decode(frame).channel not in CHANNELS
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def plain(text: str) -> str:
    """Return text that is a plain decimal, as the venue writes all its numbers; ConfigError for any other.

    An exponent is no matter of taste: an exact integer of 1e900000 takes minutes to make.
    """
    if _PLAIN(text) is None:
        raise ConfigError(f"{text[:40]!r} is not a plain decimal number")
    return text


def fitting(*numbers: int) -> None:
    """ConfigError if one of these, made of the venue's text, is beyond the 64 bits that the journal holds."""
    if any(abs(number) > MAX_INT for number in numbers):
        raise ConfigError("a number of the venue's is beyond 64 bits")


def side_of(side: WireSide) -> Side:
    """Return BUY for B, SELL for A."""
    return BUY if side == "B" else SELL


def book_snapshot(book: WireBook, instrument: Instrument, recv_ts: Nanos) -> BookSnapshot:
    """Return the book in ticks and lots; ValueError or OverflowError if a number is not finite.

    `seq` is 0: the channel has no sequence numbers, every message is the whole book.
    """
    bids, asks = book.levels
    return BookSnapshot(
        recv_ts, instrument.name, book.time * MILLISECOND, 0, _levels(bids, instrument), _levels(asks, instrument)
    )


def public_trade(trade: WireTrade, instrument: Instrument, recv_ts: Nanos) -> Trade:
    """Return the trade in ticks and lots; ValueError or OverflowError if a number is not finite."""
    price = int(trade.px * instrument.ticks_per_quote + 0.5)
    size = int(trade.sz * instrument.lots_per_base + 0.5)
    exch_ts = trade.time * MILLISECOND
    return Trade(recv_ts, instrument.name, exch_ts, trade.tid, side_of(trade.side), price, size)


def venue_mark(context: WireAssetCtx, instrument: Instrument, recv_ts: Nanos) -> Mark:
    """Return the venue's own prices and the funding due at the next full hour; what is no price or rate is not told."""
    ctx = context.ctx
    rate = ctx.funding
    if rate is None or not -1.0 < rate < 1.0:
        rate, due = 0.0, 0
    else:
        due = recv_ts - recv_ts % FUNDING_EVERY + FUNDING_EVERY
    return Mark(
        recv_ts, instrument.name, 0, _float_ticks(ctx.mark_px, instrument), _float_ticks(ctx.oracle_px, instrument),
        rate, due,
    )  # fmt: skip


def instrument_from_meta(name: str, sz_decimals: int) -> Instrument:
    """Return the instrument of a perpetual from its line in meta."""
    return _instrument(name, PERP_DECIMALS, sz_decimals, name, "USDC")


def instrument_from_spot_meta(name: str, sz_decimals: int, base: str, quote: str) -> Instrument:
    """Return the instrument of a spot pair; `sz_decimals` is its base token's."""
    return _instrument(name, SPOT_DECIMALS, sz_decimals, base, quote)


def _instrument(name: str, decimals: int, sz_decimals: int, base: str, quote: str) -> Instrument:
    """Return an instrument whose prices have at most `decimals` - `sz_decimals` decimals, or none."""
    return make_instrument(
        name,
        f"1e{min(0, sz_decimals - decimals)}",
        f"1e{-sz_decimals}",
        significant_figures=SIGNIFICANT_FIGURES,
        min_notional=MIN_NOTIONAL,
        base=base,
        quote=quote,
    )


def _float_ticks(price: float, instrument: Instrument) -> float:
    ticks = price * instrument.ticks_per_quote
    return ticks if 0.0 < ticks < MAX_TICKS else 0.0


def _levels(levels: list[WireLevel], instrument: Instrument) -> tuple[Level, ...]:
    ticks, lots = instrument.ticks_per_quote, instrument.lots_per_base
    # int() without the look-up of a builtin and its dispatch: forty levels a message, a fifth of its whole time.
    return tuple([((level.px * ticks + 0.5).__trunc__(), (level.sz * lots + 0.5).__trunc__()) for level in levels])
