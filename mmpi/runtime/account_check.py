"""Account check: what to think of what Hyperliquid tells of an account and of the keys that trade for it.

Invariant: what the venue does not tell is never taken for good news. It must not know markets or strategies.

Source: Hyperliquid documentation, "Nonces and API wallets", "Info endpoint", "Rate limits and user limits", "Exchange
endpoint: schedule cancel" (read 2026-11-28).
"""

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from mmpi.runtime.account_facts import AccountFacts, Key
from mmpi.runtime.findings import Finding, Level
from mmpi.runtime.venue_facts import agent_fault
from mmpi.venues.hyperliquid.answers import RateLimit, SpotState, UserRole
from mmpi.venues.hyperliquid.messages import MIN_NOTIONAL

DAY_MS: Final = 86_400_000
EXPIRY_DAYS: Final = 7
"""An approval that ends sooner is worth a warning."""
FAR_DAYS: Final = 36_500
"""A date beyond this is no date."""
VOLUME_GATE: Final = 1_000_000
"""USDC that an account must have traded before the venue lets it use scheduleCancel."""
THIN_S: Final = 3600
"""A request budget that can be gone within this is worth a warning."""

class Load(msgspec.Struct, frozen=True):
    """What a configuration asks of an account."""

    orders: int
    """At once."""
    requests_per_hour: float
    """At worst: every order is moved at every update."""
    refreshes_per_hour: float
    """Of the dead-man switch, once the venue lets it be set; each is a request, too."""
    budget_low: int
    budget_reserve: int
    capital: Decimal
    unarmed_order: Decimal
    """The largest order while the venue refuses the dead-man switch."""
    perpetuals: bool
    tokens: tuple[str, ...]
    """Of the spot markets."""


def key_findings(
    facts: AccountFacts, account: str, keys: Sequence[Key], now_ms: int, *, live: bool
) -> Iterator[Finding]:
    """Return what there is to say about each key, and about all together."""
    for key in keys:
        yield Finding(f"{key.name}_key", *_key(facts, account, key, now_ms))
    if len({key.address for key in keys}) < len(keys):
        names = " and ".join(key.file for key in keys)
        text = f"{names} hold one key: each process needs an agent of its own, or their nonces collide; approve another"
        yield Finding("keys", "FAIL" if live else "WARN", text)


def _key(facts: AccountFacts, account: str, key: Key, now_ms: int) -> tuple[Level, str]:
    role = facts.roles[key.address]
    if fault := agent_fault(role, key.address, account, key.file):
        return "FAIL", fault
    known = f"{key.address} is an agent of account {account}"
    if facts.agents is None:
        return "WARN", f"{known}; the venue does not say until when"
    agent = next((each for each in facts.agents if each.address.lower() == key.address), None)
    if agent is None:
        return "WARN", f"{known}, without a name: the next one without a name that is approved replaces it"
    if agent.valid_until is None:
        return "OK", f"{known}; its approval has no end"
    days = (agent.valid_until - now_ms) / DAY_MS
    if days <= 0:
        ended = _date(agent.valid_until)
        return "FAIL", f"{key.file}: the approval of {key.address} ended on {ended}; approve a new agent"
    if days > FAR_DAYS:
        return "OK", f"{known}; its approval has no end in sight"
    until = f"{known} until {_date(agent.valid_until)}, {days:.0f} days"
    return ("WARN", f"{until}; approve a new one in time") if days < EXPIRY_DAYS else ("OK", until)


def _date(ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(ms / 1000))


def account_findings(facts: AccountFacts, account: str, vault: str, load: Load, *, live: bool) -> Iterator[Finding]:
    """Return what there is to say about the account, its money, its request budget and its dead-man switch."""
    yield Finding("account", *_account(facts.roles[account], account))
    if vault:
        yield Finding("vault", *_vault(facts, account, vault))
    if load.perpetuals:
        yield Finding("money", *_money(facts, load))
    if load.tokens:
        yield Finding("spot_money", *_spot_money(facts, load.tokens))
    yield Finding("budget", *_budget(facts.limit, load, live))
    yield Finding("dead_man", *_dead_man(facts.limit, load, live))


def _account(role: UserRole | None, account: str) -> tuple[Level, str]:
    if role is None:
        return "WARN", f"{account}: the venue does not say what it is"
    if role.role == "user":
        return "OK", f"{account} exists"
    if role.role == "missing":
        return "FAIL", f"{account} does not exist at the venue; deposit there first, or correct the file account"
    owner = f" of {role.data.user or role.data.master}" if role.data is not None else ""
    return "FAIL", (
        f"{account} is a {role.role}{owner}; allowed in the file account: the address of the account that approved the "
        "agents (a vault or sub-account stands in venue.vault)"
    )


def _vault(facts: AccountFacts, account: str, vault: str) -> tuple[Level, str]:
    role = facts.roles[vault]
    kind = role.role if role is not None else "unknown"
    if kind == "vault":
        if facts.vault is None:
            return "WARN", f"{vault} is a vault; the venue does not say who leads it"
        owner, word = facts.vault.leader, "is led by"
        if facts.vault.is_closed:
            return "FAIL", f"venue.vault: {vault} is closed; choose another"
    elif role is not None and kind == "subAccount":
        owner, word = role.data.master if role.data is not None else "", "is a sub-account of"
    else:
        return "FAIL", f"venue.vault: {vault} is {kind} at the venue; allowed: a vault or a sub-account of {account}"
    if owner.lower() != account:
        return "FAIL", (
            f"venue.vault: {vault} {word} {owner or 'nobody'}, and agents of {account} may not trade for it; correct "
            "venue.vault or the file account"
        )
    return "OK", f"{vault} {word} {account}"


def _money(facts: AccountFacts, load: Load) -> tuple[Level, str]:
    if facts.state is None:
        return "WARN", "the venue does not say what the account is worth"
    value, free = _amount(facts.state.margin_summary.account_value), _amount(facts.state.withdrawable)
    text = f"worth {value} USDC, {free} of it withdrawable"
    if value <= 0:
        dollars = _balance(facts.spot, "USDC")
        if dollars > 0:
            text += f"; its spot side has {dollars} USDC: move them over, unless it is a unified account"
            return "WARN", text
        return "FAIL", f"{text}; deposit first: no order will be taken"
    if value < load.capital:
        return "WARN", f"{text}; risk.capital is {load.capital}, and the loss limits are measured against that"
    return "OK", text


def _spot_money(facts: AccountFacts, tokens: Sequence[str]) -> tuple[Level, str]:
    if facts.spot is None:
        return "WARN", "the venue does not say what the account holds"
    held = {token: _balance(facts.spot, token) for token in tokens}
    text = "holds " + ", ".join(f"{amount} {token}" for token, amount in held.items())
    return ("OK", text) if any(held.values()) else ("FAIL", f"{text}; nothing can be bought or sold")


def _budget(limit: RateLimit | None, load: Load, live: bool) -> tuple[Level, str]:
    if limit is None:
        return "WARN", "the venue does not say how many requests are left"
    left = limit.cap - limit.used
    text = f"{limit.used} of {limit.cap} requests used"
    if left <= 0:
        return "WARN", f"{text}: the venue takes one in 10 s until more is traded (one more for each USDC)"
    refreshed = not live or _amount(limit.volume) >= VOLUME_GATE
    per_hour = load.requests_per_hour + (load.refreshes_per_hour if refreshed else 0)
    lasts_s = left / per_hour * 3600
    text += (
        f"; the rest lasts {_duration(lasts_s)} without a fill if all {load.orders} orders move at every update "
        f"({per_hour:.0f} requests an hour); each USDC traded is one more"
    )
    # The two marks are kept in proportion to a small budget, as the quoter does.
    low, reserve = min(load.budget_low, limit.cap // 2), min(load.budget_reserve, limit.cap // 20)
    if left <= reserve:
        only = f"from venue.budget_reserve on, {reserve}, only orders that reduce a position are placed"
        return "WARN", f"{text}; {only}: nothing is quoted until more is traded, or it is lowered"
    if left < low:
        return "WARN", f"{text}; below venue.budget_low, {low}, orders move more rarely"
    return ("WARN" if lasts_s < THIN_S else "OK"), text


def _dead_man(limit: RateLimit | None, load: Load, live: bool) -> tuple[Level, str]:
    if limit is None:
        return "WARN", "the venue does not say how much was traded, so it may refuse the dead-man switch"
    volume = _amount(limit.volume)
    if volume >= VOLUME_GATE:
        return "OK", f"{volume} USDC traded, enough for the dead-man switch (scheduleCancel)"
    text = f"{volume} of {VOLUME_GATE} USDC traded: the venue will refuse the dead-man switch (scheduleCancel), and "
    text += f"limits shrink to risk.unarmed_percent: no order above {load.unarmed_order.normalize():f}"
    if not live:
        return "WARN", f"{text}; a practice server asks for no volume unless it is told to"
    if load.unarmed_order < Decimal(MIN_NOTIONAL):
        return "FAIL", f"{text}, and the venue takes none below {MIN_NOTIONAL}; raise risk.max_order"
    return "WARN", text


def _amount(text: str) -> Decimal:
    """Return the venue's decimal text for people, 0 for what is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return Decimal(0)
    return value.quantize(Decimal("0.01")) if value.is_finite() and abs(value) < 10**15 else Decimal(0)


def _balance(state: SpotState | None, token: str) -> Decimal:
    return sum((_amount(each.total) for each in (state.balances if state else ()) if each.coin == token), Decimal(0))


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
