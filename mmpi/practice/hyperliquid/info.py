"""The questions of `/info`: those about the market answered here, those about an account in user_info.py.

Invariant: asking changes nothing. It must not know sockets or signatures.
"""

from collections.abc import Mapping
from typing import Any, Final

from mmpi.errors import ConfigError
from mmpi.instrument import Instrument, Nanos
from mmpi.practice.hyperliquid import user_info
from mmpi.practice.hyperliquid.balance_sheet import LEVERAGE
from mmpi.practice.hyperliquid.messages import InfoRequest, Json, UnprocessableError, convert, millis
from mmpi.practice.hyperliquid.spot import PAIRS, TOKENS
from mmpi.practice.hyperliquid.streams import BY_COIN, Topic
from mmpi.practice.hyperliquid.user_info import Answer, recent_fills
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.hyperliquid.views import user_funding


def answer(venue: Venue, body: Json, now: Nanos) -> Any:
    """Return the answer to the body of an `/info` request; UnprocessableError if there is no such question."""
    request = convert(body, InfoRequest)
    handler = ANSWERS.get(request.type)
    if handler is None:
        raise UnprocessableError(f"unknown info type {request.type}")
    if request.dex:
        raise UnprocessableError(f"there is no perpetual dex {request.dex}")
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
    if kind == "activeAssetCtx":
        return {"coin": name, "ctx": venue.feed.context(name)} if venue.feed.told_mark(name) else None
    first = {"isSnapshot": True, "user": name}
    if kind == "userFills":
        return first | {"fills": recent_fills(venue.account(name))}
    if kind == "userFundings":
        return first | {"fundings": [user_funding(paid) for paid in venue.account(name).fundings]}
    if kind == "userNonFundingLedgerUpdates":
        return first | {"nonFundingLedgerUpdates": []}
    return None


def _instrument(venue: Venue, name: str | None) -> Instrument:
    instrument = venue.feed.instruments.get(name or "")
    if instrument is None:
        raise UnprocessableError(f"unknown coin {name}")
    return instrument


def _meta(venue: Venue, _request: InfoRequest, _now: Nanos) -> Json:
    coins = venue.perpetuals.values()
    universe = [{"name": coin.name, "szDecimals": coin.lot_exponent, "maxLeverage": LEVERAGE} for coin in coins]
    return {"universe": universe}


def _spot_meta(_venue: Venue, _request: InfoRequest, _now: Nanos) -> Json:
    tokens = [
        {
            "name": token.name,
            "szDecimals": token.size_decimals,
            "weiDecimals": token.wei_decimals,
            "index": token.index,
            "tokenId": token.token_id,
            "isCanonical": True,
            "evmContract": None,
            "fullName": None,
        }
        for token in TOKENS
    ]
    universe = [
        {"name": name, "tokens": [pair.base.index, pair.quote.index], "index": pair.index, "isCanonical": True}
        for name, pair in PAIRS.items()
    ]
    return {"tokens": tokens, "universe": universe}


def _meta_and_contexts(venue: Venue, request: InfoRequest, now: Nanos) -> list[Any]:
    return [_meta(venue, request, now), [venue.feed.context(name) for name in venue.perpetuals]]


def _spot_meta_and_contexts(venue: Venue, request: InfoRequest, now: Nanos) -> list[Any]:
    return [_spot_meta(venue, request, now), [venue.feed.context(name) for name in PAIRS]]


def _perp_dexs(_venue: Venue, _request: InfoRequest, _now: Nanos) -> list[None]:
    """Answer with the first dex alone, which is null."""
    return [None]


def _all_mids(venue: Venue, _request: InfoRequest, _now: Nanos) -> dict[str, str]:
    return venue.feed.mids()


def _l2_book(venue: Venue, request: InfoRequest, now: Nanos) -> Json:
    return venue.feed.l2_book(_instrument(venue, request.coin), now)


def _funding_history(venue: Venue, request: InfoRequest, _now: Nanos) -> list[Json]:
    end = user_info.FOREVER_MS if request.end_time is None else request.end_time
    rates = venue.funding.history(_instrument(venue, request.coin).name)
    return [each for each in rates if request.start_time <= each["time"] <= end]


def _candle_snapshot(_venue: Venue, _request: InfoRequest, _now: Nanos) -> list[Json]:
    """Answer with no candle: the practice venue keeps none."""
    return []


def _exchange_status(_venue: Venue, _request: InfoRequest, now: Nanos) -> Json:
    return {"specialStatuses": None, "time": millis(now)}


ANSWERS: Final[Mapping[str, Answer]] = {
    "meta": _meta,
    "spotMeta": _spot_meta,
    "metaAndAssetCtxs": _meta_and_contexts,
    "spotMetaAndAssetCtxs": _spot_meta_and_contexts,
    "perpDexs": _perp_dexs,
    "allMids": _all_mids,
    "l2Book": _l2_book,
    "fundingHistory": _funding_history,
    "candleSnapshot": _candle_snapshot,
    "exchangeStatus": _exchange_status,
    **user_info.ANSWERS,
}
"""Every question the practice venue answers."""
