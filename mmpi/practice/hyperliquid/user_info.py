"""The questions of `/info` about one account, answered.

Invariant: asking changes nothing; an address that has never acted has the answers of a fresh practice account.
It must not know sockets or signatures.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from mmpi.instrument import Nanos
from mmpi.practice.hyperliquid.account import MAX_FILLS, MAX_FINISHED, Account
from mmpi.practice.hyperliquid.balance_sheet import clearinghouse_state, rate_limit, spot_state
from mmpi.practice.hyperliquid.messages import InfoRequest, Json, UnprocessableError, decimal, millis
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.hyperliquid.views import (
    basic_order,
    frontend_order,
    funding_update,
    order_record,
    order_status,
    user_fill,
)

FOREVER_MS: Final = 2**63
"""Later than any `endTime`; also when a practice agent's approval ends."""
MAX_FUNDINGS_TOLD: Final = 500
"""Of a question with a range of time ("Info endpoint": at most 500 elements)."""

Answer: TypeAlias = Callable[[Venue, InfoRequest, Nanos], Any]


def recent_fills(account: Account) -> list[Json]:
    """Return an account's fills, newest first."""
    return [user_fill(fill) for fill in reversed(account.fills)]


def _user(request: InfoRequest) -> str:
    if request.user is None:
        raise UnprocessableError(f"{request.type} needs user")
    return request.user.lower()


def _account(venue: Venue, request: InfoRequest) -> Account:
    return venue.account(_user(request))


def _asked(request: InfoRequest, ts: Nanos) -> bool:
    """Return whether a time is in the range that is asked for, its ends included."""
    return request.start_time <= millis(ts) <= (FOREVER_MS if request.end_time is None else request.end_time)


def _open_orders(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    return [basic_order(order) for order in _account(venue, request).open_orders()]


def _frontend_open_orders(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    return [frontend_order(order) for order in _account(venue, request).open_orders()]


def _order_status(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    if request.oid is None:
        raise UnprocessableError("orderStatus needs oid")
    return order_status(_account(venue, request).order(request.oid))


def _historical_orders(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    account = _account(venue, request)
    orders = (*reversed(tuple(account.open_orders())), *account.finished_orders())
    return [order_record(order) for order in orders[:MAX_FINISHED]]


def _user_fills(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    return recent_fills(_account(venue, request))


def _user_fills_by_time(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    fills = (fill for fill in _account(venue, request).fills if _asked(request, fill.ts))
    return [user_fill(fill) for fill in fills][:MAX_FILLS]


def _user_funding(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    fundings = (paid for paid in _account(venue, request).fundings if _asked(request, paid.ts))
    return [funding_update(paid) for paid in fundings][:MAX_FUNDINGS_TOLD]


def _clearinghouse_state(venue: Venue, request: InfoRequest, now: Nanos) -> Json:
    return clearinghouse_state(_account(venue, request), venue.feed.lot_values(), now)


def _spot_clearinghouse_state(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    return spot_state(_account(venue, request))


def _user_rate_limit(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    return rate_limit(_account(venue, request))


def _user_fees(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    _user(request)
    rules = venue.rules
    return {
        "dailyUserVlm": [],
        "userCrossRate": _fraction(rules.taker_fee_bps),
        "userAddRate": _fraction(rules.maker_fee_bps),
        "userSpotCrossRate": _fraction(rules.spot_taker_fee_bps),
        "userSpotAddRate": _fraction(rules.spot_maker_fee_bps),
        "activeReferralDiscount": "0.0",
    }


def _fraction(bps: float) -> str:
    return decimal(f"{bps / 10_000:.8f}".rstrip("0").rstrip("."))


def _user_role(venue: Venue, request: InfoRequest, _now: Nanos) -> Json:
    user, registry = _user(request), venue.registry
    master = registry.master(user)
    if master is not None:
        return {"role": "agent", "data": {"user": master}}
    if registry.leader(user) is not None:
        return {"role": "vault"}
    return {"role": "user" if registry.account(user) is not None else "missing"}


def _extra_agents(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    agents = venue.registry.agents(_user(request))
    return [{"name": agent, "address": agent, "validUntil": FOREVER_MS} for agent in agents]


def _vault_details(venue: Venue, request: InfoRequest, _now: Nanos) -> Json | None:
    """Answer who leads a vault; the practice venue knows nothing of its followers."""
    if request.vault_address is None:
        raise UnprocessableError("vaultDetails needs vaultAddress")
    address = request.vault_address.lower()
    leader = venue.registry.leader(address)
    return {"vaultAddress": address, "leader": leader, "isClosed": False, "followers": []} if leader else None


def _none(_venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    """Answer what the practice venue has none of: twaps, deposits, vault shares."""
    _user(request)
    return []


def _null(_venue: Venue, request: InfoRequest, _now: Nanos) -> None:
    """Answer what the venue answers with null where there is none: sub-accounts, other signers."""
    _user(request)


def _max_builder_fee(_venue: Venue, request: InfoRequest, _now: Nanos) -> int:
    _user(request)
    return 0


ANSWERS: Final[Mapping[str, Answer]] = {
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "orderStatus": _order_status,
    "historicalOrders": _historical_orders,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "userFunding": _user_funding,
    "clearinghouseState": _clearinghouse_state,
    "spotClearinghouseState": _spot_clearinghouse_state,
    "userRateLimit": _user_rate_limit,
    "userFees": _user_fees,
    "userRole": _user_role,
    "extraAgents": _extra_agents,
    "maxBuilderFee": _max_builder_fee,
    "vaultDetails": _vault_details,
    "subAccounts": _null,
    "userToMultiSigSigners": _null,
    "userNonFundingLedgerUpdates": _none,
    "userTwapSliceFills": _none,
    "userVaultEquities": _none,
}
"""Every question about an account that the practice venue answers."""
