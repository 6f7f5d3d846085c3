"""mmpi.runtime.venue_facts against a practice server: market rules, whose key this is, venues that do not answer."""

import asyncio
import socket
from pathlib import Path

import pytest
from practice_builders import MASTER, STRANGER
from runtime_builders import guardian_signer, practice, shake_hands, tcp_server

from mmpi.errors import ConfigError, RemoteError
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.runtime import venue_facts
from mmpi.runtime.venue_facts import VenueFacts, ask
from mmpi.venues.hyperliquid.answers import AssetMeta, Meta, RoleData, UserRole

META = Meta([AssetMeta("BTC", 5), AssetMeta("ETH", 4)])


async def test_the_venue_is_asked(tmp_path: Path) -> None:
    """One conversation tells the universe and the account of an agent; without an agent none is asked for."""
    async with practice(tmp_path) as venue:
        facts, bare = await ask(venue.url, guardian_signer().address), await ask(venue.url)
    instrument, number = facts.instrument("ETH")
    assert (instrument.name, instrument.tick_size, instrument.lot_size, number) == ("ETH", "0.01", "0.0001", 1)
    facts.check_agent(guardian_signer().address, MASTER, "guardian.key")
    assert bare.role is None


async def test_a_stranger_is_no_agent(tmp_path: Path) -> None:
    """A key that the venue does not know is named with its file and address, the account, and what is allowed."""
    address = address_of(STRANGER)
    async with practice(tmp_path) as venue:
        facts = await ask(venue.url, address)
    with pytest.raises(ConfigError) as caught:
        facts.check_agent(address, MASTER, "keys/quoter.key")
    assert str(caught.value) == (
        f"keys/quoter.key: its address {address} is unknown to the venue, not an agent of account {MASTER}; allowed: "
        "the key of an approved agent (practice: mmpi practice keys --out DIR, then secrets.dir = DIR)"
    )


@pytest.mark.parametrize(
    ("role", "text"),
    [
        (None, "unknown to the venue"),
        (UserRole("missing"), "unknown to the venue"),
        (UserRole("user"), "a user there"),
        (UserRole("vault"), "a vault there"),
        (UserRole("agent"), "a agent there"),
        (UserRole("agent", RoleData("0xother")), "an agent of account 0xother"),
    ],
)
def test_who_is_no_agent_of_ours(role: UserRole | None, text: str) -> None:
    """Every other answer is refused and says what the address is."""
    with pytest.raises(ConfigError, match=f"is {text}, not an agent of account 0xours"):
        VenueFacts(META, role).check_agent("0xa", "0xours", "k")


def test_the_account_is_compared_whatever_its_case() -> None:
    """Addresses are hexadecimal numbers: the venue's capital letters change nothing."""
    VenueFacts(META, UserRole("agent", RoleData("0xABCD"))).check_agent("0xa", "0xabcd", "k")


def test_an_unknown_instrument() -> None:
    """A market that the venue has not is refused with what it has."""
    with pytest.raises(ConfigError) as caught:
        VenueFacts(META, None).instrument("DOGE")
    assert str(caught.value) == "instruments.DOGE: the venue has no such market; it has BTC, ETH"


async def test_a_venue_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead address is an error with the address, the time and the last reason."""
    monkeypatch.setattr(venue_facts, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/ws"
    with pytest.raises(RemoteError, match=rf"{url}: no answer within 0\.1 s \(.*Connect call failed"):
        await ask(url)


async def test_a_venue_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and answers no question is left in time."""
    monkeypatch.setattr(venue_facts, "TIMEOUT_S", 0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer)
        await reader.read(-1)

    async with tcp_server(talk) as url:
        with pytest.raises(RemoteError, match=r"no answer within 0\.1 s"):
            await ask(url)


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After the answer the conversation's task and connection end."""
    async with practice(tmp_path) as venue:
        before = asyncio.all_tasks()
        await ask(venue.url)
        await asyncio.sleep(0.01)
        own = {task for task in asyncio.all_tasks() - before if "Link" in repr(task) or "venue_facts" in repr(task)}
        assert own == set()
        assert len(venue.server._sockets) == 0
