"""The venue's wire forms: requests decoded and checked, answers and stream messages built.

Invariant: field names are the venue's. It must not know accounts, matching or sockets.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec

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
    """Cancel by the venue's order ids; `f` (fast) asks for a quicker way that the venue has only announced."""

    cancels: list[CancelRequest]
    f: bool = False


class CloidCancelRequest(msgspec.Struct, frozen=True):
    """One order to cancel: asset and the client's order id."""

    asset: int
    cloid: str


class CancelByCloidAction(msgspec.Struct, frozen=True, tag="cancelByCloid"):
    """Cancel by the client's order ids."""

    cancels: list[CloidCancelRequest]
    f: bool = False


class ModifyRequest(msgspec.Struct, frozen=True):
    """An order, by oid or cloid, and the one that takes its place."""

    oid: int | str
    order: OrderRequest


class ModifyAction(msgspec.Struct, frozen=True, tag="modify"):
    """Replace one order; `a` (always place) places the new one even if the old one is gone."""

    oid: int | str
    order: OrderRequest
    a: bool = False


class BatchModifyAction(msgspec.Struct, frozen=True, tag="batchModify"):
    """Replace several orders."""

    modifies: list[ModifyRequest]
    a: bool = False


class ScheduleCancelAction(msgspec.Struct, frozen=True, tag="scheduleCancel"):
    """Set or clear the dead-man time."""

    time: int | None = None


class UpdateLeverageAction(msgspec.Struct, frozen=True, tag="updateLeverage", rename="camel"):
    """Set the leverage of a perpetual."""

    asset: int
    is_cross: bool
    leverage: int


class NoopAction(msgspec.Struct, frozen=True, tag="noop"):
    """Use up a nonce."""


Action: TypeAlias = (
    OrderAction
    | CancelAction
    | CancelByCloidAction
    | ModifyAction
    | BatchModifyAction
    | ScheduleCancelAction
    | UpdateLeverageAction
    | NoopAction
)
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
    vault_address: str | None = None
    oid: int | str | None = None
    dex: str = ""
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


def rate(value: float) -> str:
    """Return a funding rate as the venue writes it."""
    return decimal(f"{value:.{RATE_DIGITS}f}".rstrip("0").rstrip("."))


def side_letter(side: Side) -> str:
    """Return "B" (bid) or "A" (ask)."""
    return "B" if side == BUY else "A"


def millis(now: Nanos) -> int:
    """Return a time in the venue's unit."""
    return now // MILLISECOND


def ok(kind: str, statuses: Sequence[Json | str]) -> Json:
    """Return the answer to an action that was processed, one status per order."""
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": list(statuses)}}}


def done() -> Json:
    """Return the answer to an action that was processed and has nothing to tell."""
    return {"status": "ok", "response": {"type": "default"}}


def refusal(reason: str) -> Json:
    """Return the answer to an action that was not processed at all."""
    return {"status": "err", "response": reason}
