"""The venue's wire forms: requests decoded and checked, answers and stream messages built.

Invariant: field names and sentences are the venue's; a sentence that is not in its documents says so beside it.
It must not know accounts, matching or sockets.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from mmpi.events import Level, Mark, Trade
from mmpi.instrument import BUY, MILLISECOND, Instrument, Lots, Money, Nanos, Side, Ticks, money_text

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

AVERAGE_DIGITS: Final = 8
"""Decimals of an average price or a ratio, as in recorded answers."""
RATE_DIGITS: Final = 10
"""Decimals of a funding rate, as in recorded ones (0.0000125)."""
NO_HASH: Final = "0x" + "0" * 64
"""A practice trade is in no block, so its transaction hash is zero."""
NOBODY: Final = "0x" + "0" * 40
"""The address that generated orders trade under."""

# Source of these sentences: Hyperliquid "Error responses" and "Exchange endpoint" (copies read 2026-11-21).
NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."
BAD_TICK: Final = "Price must be divisible by tick size."
TOO_SMALL: Final = "Order must have minimum value of $10."
NO_MATCH: Final = "Order could not immediately match against any resting orders."
WOULD_INCREASE: Final = "Reduce only order would increase position."
POST_ONLY_CROSSED: Final = "Post only order would have immediately matched, bbo was {bbo}."
NO_DEAD_MAN: Final = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
"""Practice volume does not count towards the venue's gate."""
UNKNOWN_USER: Final = "User or API Wallet {address} does not exist."
DUPLICATE_NONCE: Final = "Invalid nonce: duplicate nonce {nonce}"
# The venue's own words for these are not in our sources.
NONCE_OUT_OF_RANGE: Final = "Invalid nonce: {nonce} is not within two days before and one day after {now}"
NONCE_TOO_LOW: Final = "Invalid nonce: {nonce} is below the 100 highest of this signer"
EXPIRED: Final = "Action expired: expiresAfter {expires} is before {now}"
NO_VAULTS: Final = "Vaults are not part of the practice venue"
INVALID_ACTION: Final = "Unknown or malformed action: {why}"
NOT_PLAIN: Final = "Price and size must be decimals without trailing zeros."
"""The venue hashes what it would have written itself, so there such an order has the signature of nobody."""
BAD_SIZE: Final = "Order has invalid size."
BAD_CLOID: Final = "Order has invalid cloid."
DUPLICATE_CLOID: Final = "Order with this cloid is open already."
NO_TRIGGERS: Final = "Trigger orders are not part of the practice venue."
UNKNOWN_ASSET: Final = "Unknown asset {asset}."
TOO_MANY_ORDERS: Final = "Too many open orders."
TOO_MANY_ACCOUNTS: Final = "Too many accounts; restart the practice server."
UNPROCESSABLE: Final = "Failed to deserialize the JSON body into the target type"
"""The body of every HTTP 422 of the venue."""


class UnprocessableError(ValueError):
    """A request whose JSON has not the form the venue documents: HTTP 422."""


class Limit(msgspec.Struct, frozen=True):
    """A limit order's time in force."""

    tif: Literal["Alo", "Ioc", "Gtc"]


class OrderType(msgspec.Struct, frozen=True):
    """Exactly one of the two is present; `trigger` is recognised to be refused."""

    limit: Limit | None = None
    trigger: dict[str, Any] | None = None


class OrderRequest(msgspec.Struct, frozen=True):
    """One order of an `order` action: asset, is buy, price, size, reduce only, type, cloid."""

    a: int
    b: bool
    p: str
    s: str
    r: bool
    t: OrderType
    c: str | None = None


class OrderAction(msgspec.Struct, frozen=True, tag="order"):
    """Place limit orders."""

    orders: list[OrderRequest]
    grouping: Literal["na"]


class CancelRequest(msgspec.Struct, frozen=True):
    """One order to cancel: asset and oid."""

    a: int
    o: int


class CancelAction(msgspec.Struct, frozen=True, tag="cancel"):
    """Cancel by the venue's order ids."""

    cancels: list[CancelRequest]


class CloidCancelRequest(msgspec.Struct, frozen=True):
    """One order to cancel: asset and the client's order id."""

    asset: int
    cloid: str


class CancelByCloidAction(msgspec.Struct, frozen=True, tag="cancelByCloid"):
    """Cancel by the client's order ids."""

    cancels: list[CloidCancelRequest]


class ScheduleCancelAction(msgspec.Struct, frozen=True, tag="scheduleCancel"):
    """Set or clear the dead-man time."""

    time: int | None = None


Action: TypeAlias = OrderAction | CancelAction | CancelByCloidAction | ScheduleCancelAction
Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Signature(msgspec.Struct, frozen=True):
    """An Ethereum signature; `r` and `s` in hexadecimal."""

    r: str
    s: str
    v: int


class SignedAction(msgspec.Struct, frozen=True, rename="camel"):
    """The body of `/exchange`; `action` stays as it arrived, because its hash depends on the order of its keys."""

    action: dict[str, Any]
    nonce: Unsigned
    signature: Signature
    vault_address: str | None = None
    expires_after: Unsigned | None = None


class InfoRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of `/info`: each type of question uses some of the fields."""

    type: str
    user: str | None = None
    coin: str | None = None
    oid: int | str | None = None
    start_time: int = 0
    end_time: int | None = None


class Subscription(msgspec.Struct, frozen=True):
    """What a socket wants to hear."""

    type: str
    coin: str = ""
    user: str = ""


class PostRequest(msgspec.Struct, frozen=True):
    """An info question or a signed action sent over the socket."""

    type: Literal["info", "action"]
    payload: dict[str, Any]


class SocketRequest(msgspec.Struct, frozen=True):
    """Any frame a client may send."""

    method: Literal["subscribe", "unsubscribe", "ping", "post"]
    subscription: dict[str, Any] | None = None
    id: int | None = None
    request: PostRequest | None = None


def parse(body: bytes | str) -> Json:
    """Return a JSON object with its keys in the order received; UnprocessableError if it is none."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnprocessableError(str(error)) from None


def convert(body: object, form: type[T]) -> T:
    """Return `body` in a documented form; UnprocessableError if it has not that form."""
    try:
        return msgspec.convert(body, form)
    except msgspec.ValidationError as error:
        raise UnprocessableError(str(error)) from None


def convert_action(body: Json) -> Action:
    """Return an action; UnprocessableError if its type is unknown or its fields are wrong."""
    return convert(body, Action)  # type: ignore[arg-type]


def encode(message: object) -> bytes:
    """Return JSON."""
    return msgspec.json.encode(message)


def decimal(text: str) -> str:
    """Return a decimal in the venue's spelling: at least one digit after the point."""
    return text if "." in text else text + ".0"


def rounded(value: Decimal) -> str:
    """Return an average price or a ratio as the venue writes it."""
    return decimal(f"{value:.{AVERAGE_DIGITS}f}".rstrip("0").rstrip("."))


def average_price(instrument: Instrument, cost: Money, lots: Lots) -> str:
    """Return the price at which `lots` cost `cost`."""
    return rounded(Decimal(cost) / (lots * instrument.unit) * Decimal(instrument.tick_size))


def price(instrument: Instrument, ticks: Ticks) -> str:
    """Return a price as the venue writes it."""
    return decimal(instrument.price_text(ticks))


def size(instrument: Instrument, lots: Lots) -> str:
    """Return a size, signed if it is a position, as the venue writes it."""
    return decimal(instrument.size_text(lots))


def amount(money: Money) -> str:
    """Return an amount of USDC as the venue writes it, exact."""
    return decimal(money_text(money))


def side_letter(side: Side) -> str:
    """Return "B" (bid) or "A" (ask)."""
    return "B" if side == BUY else "A"


def millis(now: Nanos) -> int:
    """Return a time in the venue's unit."""
    return now // MILLISECOND


def ok(kind: str, statuses: Sequence[Json | str]) -> Json:
    """Return the answer to an action that was processed, one status per order."""
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": list(statuses)}}}


def refusal(reason: str) -> Json:
    """Return the answer to an action that was not processed at all."""
    return {"status": "err", "response": reason}


def level(instrument: Instrument, at: Level) -> Json:
    """Return one price of a book. `n`, the number of orders, is not known to the generated market: always 1."""
    return {"px": price(instrument, at[0]), "sz": size(instrument, at[1]), "n": 1}


def l2_book(instrument: Instrument, bids: Iterable[Level], asks: Iterable[Level], now: Nanos) -> Json:
    """Return the data of `l2Book`: a whole book."""
    levels = [[level(instrument, at) for at in side] for side in (bids, asks)]
    return {"coin": instrument.name, "time": millis(now), "levels": levels}


def asset_context(instrument: Instrument, mark: Mark, mid: str | None) -> Json:
    """Return the data of `activeAssetCtx`; nobody's volume and open interest are counted here."""
    tick = Decimal(instrument.tick_size)
    mark_price, oracle_price = (rounded(Decimal(ticks) * tick) for ticks in (mark.mark, mark.index))
    context = {
        "dayNtlVlm": "0.0",
        "prevDayPx": oracle_price,
        "markPx": mark_price,
        "midPx": mid,
        "funding": decimal(f"{mark.rate:.{RATE_DIGITS}f}".rstrip("0").rstrip(".")),
        "openInterest": "0.0",
        "oraclePx": oracle_price,
    }
    return {"coin": instrument.name, "ctx": context}


def public_trade(instrument: Instrument, trade: Trade, users: tuple[str, str]) -> Json:
    """Return one element of `trades`; `users` are buyer and seller."""
    return {
        "coin": instrument.name,
        "side": side_letter(trade.side),
        "px": price(instrument, trade.price),
        "sz": size(instrument, trade.size),
        "time": millis(trade.recv_ts),
        "hash": NO_HASH,
        "tid": trade.trade_id,
        "users": list(users),
    }
