"""The questions of `/info`, answered.

Invariant: asking changes nothing; an address that has never acted has the answers of a fresh practice account.
It must not know sockets or signatures.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, Nanos
from mmpi.practice.hyperliquid.account import MAX_FILLS, Account
from mmpi.practice.hyperliquid.messages import InfoRequest, Json, UnprocessableError, convert, millis
from mmpi.practice.hyperliquid.streams import BY_COIN, Topic
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.hyperliquid.views import (
    LEVERAGE,
    basic_order,
    clearinghouse_state,
    frontend_order,
    order_status,
    rate_limit,
    user_fill,
)

FOREVER_MS: Final = 2**63
"""Later than any `endTime`; also when a practice agent's approval ends."""

Answer: TypeAlias = Callable[[Venue, InfoRequest, Nanos], Any]


def answer(venue: Venue, body: Json, now: Nanos) -> Any:
    """Return the answer to the body of an `/info` request; UnprocessableError if there is no such question."""
    request = convert(body, InfoRequest)
    handler = ANSWERS.get(request.type)
    if handler is None:
        raise UnprocessableError(f"unknown info type {request.type}")
    try:
        return handler(venue, request, now)
    except ConfigError as error:
        # The registry was spoilt while the server ran; an action of the same signer is told which line.
        raise UnprocessableError(str(error)) from None


def snapshot(venue: Venue, topic: Topic, now: Nanos) -> object | None:
    """Return the first message of a new subscription, None if it has none; UnprocessableError for an unknown coin."""
    kind, name = topic
    instrument = _instrument(venue, name) if kind in BY_COIN else None
    if kind == "l2Book" and instrument is not None:
        return venue.feed.l2_book(instrument, now)
    if kind == "activeAssetCtx" and instrument is not None:
        return venue.feed.context(instrument.name)
    if kind == "userFills":
        return {"isSnapshot": True, "user": name, "fills": _recent_fills(venue.account(name))}
    return None


def _instrument(venue: Venue, name: str | None) -> Instrument:
    instrument = venue.feed.instruments.get(name or "")
    if instrument is None:
        raise UnprocessableError(f"unknown coin {name}")
    return instrument


def _user(request: InfoRequest) -> str:
    if request.user is None:
        raise UnprocessableError(f"{request.type} needs user")
    return request.user.lower()


def _recent_fills(account: Account | None) -> list[Json]:
    """Return an account's fills, newest first."""
    return [user_fill(fill) for fill in reversed(account.fills)] if account else []


def _meta(venue: Venue, _request: InfoRequest, _now: Nanos) -> Json:
    coins = venue.feed.instruments.values()
    universe = [{"name": coin.name, "szDecimals": coin.lot_exponent, "maxLeverage": LEVERAGE} for coin in coins]
    return {"universe": universe}


def _spot_meta(_venue: Venue, _request: InfoRequest, _now: Nanos) -> Json:
    return {"universe": [], "tokens": []}


def _all_mids(venue: Venue, _request: InfoRequest, _now: Nanos) -> dict[str, str]:
    return venue.feed.mids()


def _l2_book(venue: Venue, request: InfoRequest, now: Nanos) -> Json:
    return venue.feed.l2_book(_instrument(venue, request.coin), now)


def _open_orders(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    account = venue.account(_user(request))
    return [basic_order(order) for order in account.open_orders()] if account else []


def _frontend_open_orders(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    account = venue.account(_user(request))
    return [frontend_order(order) for order in account.open_orders()] if account else []


def _order_status(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    account = venue.account(_user(request))
    if request.oid is None:
        raise UnprocessableError("orderStatus needs oid")
    return order_status(account.order(request.oid) if account else None)


def _user_fills(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    return _recent_fills(venue.account(_user(request)))


def _user_fills_by_time(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    account = venue.account(_user(request))
    end = FOREVER_MS if request.end_time is None else request.end_time
    fills = account.fills if account else ()
    return [user_fill(fill) for fill in fills if request.start_time <= millis(fill.ts) <= end][:MAX_FILLS]


def _clearinghouse_state(venue: Venue, request: InfoRequest, now: Nanos) -> Json:
    account = venue.account(_user(request)) or Account(_user(request))
    return clearinghouse_state(account, venue.feed.lot_values(), now)


def _user_rate_limit(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    return rate_limit(venue.account(_user(request)))


def _user_role(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    user = _user(request)
    master = venue.registry.master(user)
    if master is not None:
        return {"role": "agent", "data": {"user": master}}
    known = venue.registry.is_account(user) or venue.account(user) is not None
    return {"role": "user" if known else "missing"}


def _extra_agents(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    agents = venue.registry.agents(_user(request))
    return [{"name": agent, "address": agent, "validUntil": FOREVER_MS} for agent in agents]


ANSWERS: Final[Mapping[str, Answer]] = {
    "meta": _meta,
    "spotMeta": _spot_meta,
    "allMids": _all_mids,
    "l2Book": _l2_book,
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "orderStatus": _order_status,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "clearinghouseState": _clearinghouse_state,
    "userRateLimit": _user_rate_limit,
    "userRole": _user_role,
    "extraAgents": _extra_agents,
}
"""Every question the practice venue answers."""
