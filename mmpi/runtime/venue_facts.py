"""Venue facts: what must be asked of Hyperliquid before a quoter can be built: market rules and whose key this is.

Invariant: nothing is placed, nothing is signed. It must not know strategies.
"""

import asyncio
from typing import Final

from mmpi.errors import ConfigError, RemoteError
from mmpi.instrument import Instrument, Nanos
from mmpi.runtime.posts import Posts, info_data, info_frame
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid.answers import Meta, UserRole
from mmpi.venues.hyperliquid.messages import instrument_from_meta

TIMEOUT_S: Final = 10.0


class VenueFacts:
    """The universe of a venue, and the account that an agent may trade for."""

    def __init__(self, meta: Meta, role: UserRole | None) -> None:
        self.meta = meta
        self.role = role

    def instrument(self, name: str) -> tuple[Instrument, int]:
        """Return an instrument and its asset number; ConfigError if the venue has none of that name."""
        for number, asset in enumerate(self.meta.universe):
            if asset.name == name:
                return instrument_from_meta(name, asset.sz_decimals), number
        known = ", ".join(asset.name for asset in self.meta.universe[:20])
        raise ConfigError(f"instruments.{name}: the venue has no such market; it has {known}")

    def check_agent(self, address: str, account: str, key_file: str) -> None:
        """ConfigError unless the key's address is an agent of the account."""
        role = self.role
        if role is not None and role.role == "agent" and role.data is not None and role.data.user.lower() == account:
            return
        found = "unknown to the venue" if role is None or role.role == "missing" else f"a {role.role} there"
        if role is not None and role.role == "agent" and role.data is not None:
            found = f"an agent of account {role.data.user}"
        raise ConfigError(
            f"{key_file}: its address {address} is {found}, not an agent of account {account}; allowed: the key of an "
            "approved agent (practice: mmpi practice keys --out DIR, then secrets.dir = DIR)"
        )


async def ask(url: str, agent: str = "") -> VenueFacts:
    """Return the facts over a connection of its own; RemoteError if the venue does not answer in time."""
    opened = asyncio.Event()
    why = ["no answer"]

    def take(frame: bytes, _recv_ts: Nanos) -> None:
        posts.take(frame)

    link = Link(url, opened.set, take, why.append)
    posts = Posts(link.send, TIMEOUT_S)
    task = asyncio.create_task(link.maintain())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await opened.wait()
            meta = info_data(await posts.ask(info_frame("meta")), Meta, "meta")
            role = info_data(await posts.ask(info_frame("userRole", agent)), UserRole, "userRole") if agent else None
        return VenueFacts(meta, role)
    except TimeoutError:
        raise RemoteError(f"{url}: no answer within {TIMEOUT_S:g} s ({why[-1]})") from None
    finally:
        task.cancel()
        link.abort("asked")
