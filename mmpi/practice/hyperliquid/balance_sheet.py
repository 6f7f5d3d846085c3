"""What the venue tells of an account as a whole: margin and positions, spot balances, requests; as JSON.

Invariant: reading changes nothing. It must not know requests, sockets or other accounts.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from mmpi.instrument import Instrument, Money, Nanos
from mmpi.practice.hyperliquid.account import Account, Holding
from mmpi.practice.hyperliquid.messages import Json, amount, average_price, millis, rounded, size

LEVERAGE: Final = 20
"""The cross leverage of a practice position that was given no other, and the most there is."""


def clearinghouse_state(account: Account, mids: Mapping[Instrument, Money], now: Nanos) -> Json:
    """Return positions and margin; `mids` is the value of one lot of each instrument at its mid."""
    held = [(instrument, holding) for instrument, holding in account.holdings.items() if holding.lots]
    values = [holding.lots * mids[instrument] for instrument, holding in held]
    leverages = [account.leverage.get(instrument, LEVERAGE) for instrument, _ in held]
    margin = sum(abs(value) // leverage for value, leverage in zip(values, leverages, strict=True))
    equity = account.cash + sum(values)
    summary = {
        "accountValue": amount(equity),
        "totalMarginUsed": amount(margin),
        "totalNtlPos": amount(sum(map(abs, values))),
        "totalRawUsd": amount(account.cash),
    }
    positions = zip(held, values, leverages, strict=True)
    return {
        "assetPositions": [_asset_position(*pair, value, leverage) for pair, value, leverage in positions],
        "crossMaintenanceMarginUsed": amount(margin // 2),
        "crossMarginSummary": summary,
        "marginSummary": summary,
        "time": millis(now),
        "withdrawable": amount(max(0, equity - margin)),
    }


def _asset_position(instrument: Instrument, holding: Holding, value: Money, leverage: int) -> Json:
    unrealized, margin = value - holding.cost, abs(value) // leverage
    position = {
        "coin": instrument.name,
        "cumFunding": {
            "allTime": amount(holding.funding),
            "sinceChange": amount(holding.funding_since_change),
            "sinceOpen": amount(holding.funding_since_open),
        },
        "entryPx": average_price(instrument, holding.cost, holding.lots),
        "leverage": {"type": "cross", "value": leverage},
        "liquidationPx": None,
        "marginUsed": amount(margin),
        "maxLeverage": LEVERAGE,
        "positionValue": amount(abs(value)),
        "returnOnEquity": rounded(Decimal(unrealized) / margin if margin else Decimal(0)),
        "szi": size(instrument, holding.lots),
        "unrealizedPnl": amount(unrealized),
    }
    return {"position": position, "type": "oneWay"}


def spot_state(account: Account) -> Json:
    """Return the answer of `spotClearinghouseState`."""
    balances = [
        {
            "coin": token.name,
            "token": token.index,
            "total": amount(balance.total),
            "hold": amount(account.held(token)),
            "entryNtl": amount(balance.entry),
        }
        for token, balance in account.wallet.balances.items()
    ]
    return {"balances": balances}


def rate_limit(account: Account) -> Json:
    """Return the answer of `userRateLimit`; nobody buys requests here, so there is no surplus of those."""
    return {
        "cumVlm": amount(account.volume),
        "nRequestsUsed": account.budget.used,
        "nRequestsCap": account.budget.cap(account.volume),
        "nRequestsSurplus": 0,
    }


def standing(account: Account, now: Nanos) -> Json:
    """Return what a checker wants to know of an account; sizes and amounts as the wire has them."""
    holdings, balances = account.holdings.items(), account.wallet.balances.items()
    return {
        "positions": {instrument.name: size(instrument, held.lots) for instrument, held in holdings if held.lots},
        "balances": {token.name: amount(balance.total) for token, balance in balances},
        "open_orders": sum(1 for _ in account.open_orders()),
        "volume": amount(account.volume),
        "requests_used": account.budget.used,
        "requests_cap": account.budget.cap(account.volume),
        "dead_man_ms": account.dead_man.time,
        "fires_today": account.dead_man.fires(millis(now)),
    }
