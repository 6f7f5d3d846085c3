"""Account facts: what Hyperliquid tells of an account, of the keys that trade for it, and of its vault.

Invariant: only questions are asked; of the keys it sees addresses. It must not know what to think of an answer.

Source: Hyperliquid documentation, "Info endpoint" (read 2026-11-28).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from mmpi.errors import RemoteError
from mmpi.runtime.inquiry import Inquiry
from mmpi.venues.hyperliquid.answers import AccountState, ExtraAgent, RateLimit, SpotState, UserRole, VaultDetails

T = TypeVar("T")


class Key(msgspec.Struct, frozen=True):
    """A key of ours: whose (quoter, guardian), where it was read, and its address."""

    name: str
    file: str
    address: str


class AccountFacts(msgspec.Struct, frozen=True):
    """The venue's answers; None where it gave none. All but the roles and agents are of the address that trades."""

    roles: Mapping[str, UserRole | None]
    agents: list[ExtraAgent] | None
    state: AccountState | None
    spot: SpotState | None
    limit: RateLimit | None
    vault: VaultDetails | None


async def ask_account(venue: Inquiry, account: str, keys: Sequence[Key], vault: str) -> AccountFacts:
    """Return what the venue tells of an account, its keys' addresses, and its vault or sub-account ("" = none)."""
    trading = vault or account
    addresses = list(dict.fromkeys([*(key.address for key in keys), account, *([vault] if vault else [])]))
    roles, agents, state, spot, limit = await asyncio.gather(
        asyncio.gather(*(_told(venue, UserRole, "userRole", user=each) for each in addresses)),
        _told(venue, list[ExtraAgent], "extraAgents", user=account),
        _told(venue, AccountState, "clearinghouseState", user=trading),
        _told(venue, SpotState, "spotClearinghouseState", user=trading),
        _told(venue, RateLimit, "userRateLimit", user=trading),
    )
    by_address = dict(zip(addresses, roles, strict=True))
    role, details = by_address[trading], None
    if vault and role is not None and role.role == "vault":
        details = await _told(venue, VaultDetails, "vaultDetails", vaultAddress=vault)
    return AccountFacts(by_address, agents, state, spot, limit, details)


async def _told(venue: Inquiry, form: type[T], kind: str, **about: str) -> T | None:
    """Return an answer, None if the venue refuses the question."""
    try:
        return await venue.ask(form, kind, **about)
    except RemoteError:
        return None
