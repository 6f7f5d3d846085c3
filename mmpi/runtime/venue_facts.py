"""Venue facts: what must be asked of Hyperliquid before a quoter is built: market rules, whose key this is, the time.

Invariant: nothing is placed, nothing is signed. It must not know strategies.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from difflib import get_close_matches
from typing import Final

from mmpi.errors import ConfigError, RemoteError
from mmpi.instrument import MILLISECOND, SECOND, Instrument, Nanos
from mmpi.runtime.inquiry import ClockReading as ClockReading
from mmpi.runtime.inquiry import Inquiry, inquiry
from mmpi.venues.hyperliquid.answers import AssetMeta, Meta, SpotMeta, SpotPair, UserRole
from mmpi.venues.hyperliquid.messages import FIRST_SPOT, instrument_from_meta, instrument_from_spot_meta

TIMEOUT_S: Final = 10.0
"""For all questions of `ask`."""
DATA_AGE: Final[Nanos] = SECOND
"""How old the venue's market data, whose time we read, may be."""
ALIKE: Final = 0.5
"""How alike two names are (difflib) that one may be a slip for the other."""
SHOWN: Final = 5
"""Names shown where many would do."""


def clock_fault(reading: ClockReading, max_offset_ms: float) -> str:
    """Return what to do if our clock is certainly off by more than is allowed, "" if it may be right.

    Certainly: whatever part of the round trip was the way there, and if the data was as old as it may be.
    """
    allowed, half = round(max_offset_ms * MILLISECOND), reading.round_trip // 2
    if reading.offset - half - DATA_AGE > allowed:
        where = "ahead of"
    elif -reading.offset - half > allowed:
        where = "behind"
    else:
        return ""
    return (
        f"this machine's clock is {abs(reading.offset) / SECOND:.1f} s {where} the venue's (allowed: "
        f"{max_offset_ms / 1000:g} s); set the time (chrony, timedatectl), then start again"
    )


class VenueFacts:
    """The universe of a venue, the account that an agent may trade for, and the venue's clock beside ours."""

    def __init__(
        self, meta: Meta, role: UserRole | None, spot: SpotMeta | None = None, clock: ClockReading | None = None
    ) -> None:
        """`spot` None: the venue did not tell; `clock` None: it was not measured."""
        self.meta = meta
        self.role = role
        self.spot = spot
        self.clock = clock

    def instrument(self, name: str) -> tuple[Instrument, int]:
        """Return an instrument and its asset number by the venue's name of it: BTC, PURR/USDC, @107.

        ConfigError if the venue has none of that name, or trades it no more.
        """
        for number, asset in enumerate(self.meta.universe):
            if asset.name == name:
                return self._perpetual(asset, number)
        for pair in self.spot.universe if self.spot is not None else ():
            if pair.name == name:
                return self._pair(pair)
        raise ConfigError(f"instruments.{name}: the venue has no such market; {self._hint(name)}")

    def check_agent(self, address: str, account: str, key_file: str) -> None:
        """ConfigError unless the key's address is an agent of the account."""
        if fault := agent_fault(self.role, address, account, key_file):
            raise ConfigError(fault)

    def _perpetual(self, asset: AssetMeta, number: int) -> tuple[Instrument, int]:
        if asset.is_delisted:
            raise ConfigError(f"instruments.{asset.name}: the venue has delisted this market; remove it")
        return instrument_from_meta(asset.name, asset.sz_decimals), number

    def _pair(self, pair: SpotPair) -> tuple[Instrument, int]:
        assert self.spot is not None
        tokens = {token.index: token for token in self.spot.tokens}
        base, quote = (tokens.get(number) for number in pair.tokens)
        if base is None or quote is None:
            raise ConfigError(f"instruments.{pair.name}: the venue does not say what its tokens are; remove it")
        instrument = instrument_from_spot_meta(pair.name, base.sz_decimals, base.name, quote.name)
        return instrument, FIRST_SPOT + pair.index

    def _hint(self, name: str) -> str:
        """Return what somebody may have meant who wrote a name that the venue does not have."""
        known = [asset.name for asset in self.meta.universe if not asset.is_delisted]
        if self.spot is not None:
            tokens = {token.index: token.name for token in self.spot.tokens}
            shown = {pair.name: "/".join(tokens.get(each, "?") for each in pair.tokens) for pair in self.spot.universe}
            if called := [own for own, text in shown.items() if text == name]:
                return f"it calls that spot market {' or '.join(called)}"
            known += shown
        upper = {each.upper(): each for each in known}
        near = get_close_matches(name.upper(), upper, SHOWN, ALIKE)
        if near:
            return f"of its {len(known)} markets the nearest: {', '.join(upper[each] for each in near)}"
        return f"it has {len(known)}: {', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"


def agent_fault(role: UserRole | None, address: str, account: str, key_file: str) -> str:
    """Return what is wrong with a key whose address has this role at the venue, "" if it is an agent of the account."""
    if address.lower() == account.lower():
        return (
            f"{key_file}: this key can withdraw: it is that of the account {account} itself; allowed: that of an agent "
            "(API) wallet, which can only trade"
        )
    user = role.data.user if role is not None and role.role == "agent" and role.data is not None else ""
    if user.lower() == account.lower():
        return ""
    found = f"an agent of account {user}" if user else f"a {role.role} there" if role is not None else ""
    if role is None or role.role == "missing":
        found = "unknown to the venue"
    elif role.role == "user":
        found += " that can withdraw"
    return (
        f"{key_file}: its address {address} is {found}, not an agent of account {account}; allowed: the key of an "
        "approved agent (practice: mmpi practice keys --out DIR, then secrets.dir = DIR)"
    )


def grid_fault(instrument: Instrument, tick_size: str, lot_size: str) -> str:
    """Return what is wrong with a configured grid, "" = as the venue says, which is all that its prices fit."""
    for key, own, theirs in (
        ("tick_size", tick_size, instrument.tick_size), ("lot_size", lot_size, instrument.lot_size)
    ):  # fmt: skip
        if own and Decimal(own) != Decimal(theirs):
            return f"instruments.{instrument.name}.{key}: value {own}: allowed: 0, or {theirs} as the venue says"
    return ""


async def ask(
    url: str, agent: str = "", *, ca_file: str = "", clock: Callable[[], Nanos] = time.time_ns
) -> VenueFacts:
    """Return the facts over a connection of its own; RemoteError if the venue does not answer in time."""
    async with inquiry(url, TIMEOUT_S, ca_file=ca_file, clock=clock) as venue:
        return await ask_facts(venue, agent)


async def ask_facts(venue: Inquiry, agent: str = "") -> VenueFacts:
    """Return the facts; without an agent no role."""
    meta = await venue.ask(Meta, "meta")
    role = await venue.ask(UserRole, "userRole", user=agent) if agent else None
    spot: SpotMeta | None = None
    with suppress(RemoteError):
        spot = await venue.ask(SpotMeta, "spotMeta")
    coin = next((asset.name for asset in meta.universe if not asset.is_delisted), "")
    return VenueFacts(meta, role, spot, await venue.read_clock(coin) if coin else None)
