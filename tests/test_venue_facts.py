"""mmpi.runtime.venue_facts against a practice server: market rules, whose key this is, venues that do not answer."""

import asyncio
import socket
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from info_server import but, info_server
from practice_builders import MASTER, STRANGER
from runtime_builders import guardian_signer, practice, shake_hands, tcp_server, until

from mmpi.errors import ConfigError, RemoteError
from mmpi.instrument import SECOND, money
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.runtime import venue_facts
from mmpi.runtime.venue_facts import ClockReading, VenueFacts, ask, clock_fault, grid_fault
from mmpi.venues.hyperliquid.answers import AssetMeta, Meta, RoleData, SpotMeta, SpotPair, SpotToken, UserRole
from mmpi.venues.hyperliquid.messages import instrument_from_spot_meta

META = Meta([AssetMeta("BTC", 5), AssetMeta("ETH", 4)])
SPOT = SpotMeta(
    [
        SpotPair("PURR/USDC", (1, 0), 0), SpotPair("@107", (150, 0), 107), SpotPair("@8", (2, 1), 8),
        SpotPair("@9", (99, 0), 9),
    ],
    [SpotToken("HYPE", 2, 150), SpotToken("USDC", 8, 0), SpotToken("PURR", 0, 1), SpotToken("FINE", 9, 2)],
)  # fmt: skip
"""As the venue's: a token's place in the list is not its index."""
FACTS = VenueFacts(Meta([*META.universe, AssetMeta("GONE", 1, is_delisted=True), AssetMeta("WHOLE", 6)]), None, SPOT)


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
        (UserRole("user"), "a user there that can withdraw"),
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


@pytest.mark.parametrize("address", ["0xours", "0xOURS"])
def test_the_accounts_own_key_is_refused(address: str) -> None:
    """A key that is the account itself can withdraw, so no role at the venue makes it fit."""
    for role in (None, UserRole("user"), UserRole("agent", RoleData("0xours"))):
        with pytest.raises(ConfigError, match=r"^k: this key can withdraw: .* agent \(API\) wallet"):
            VenueFacts(META, role).check_agent(address, "0xours", "k")


# Markets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "tick", "lot", "base", "quote"),
    [
        ("BTC", 0, "0.1", "0.00001", "BTC", "USDC"),
        ("WHOLE", 3, "1", "0.000001", "WHOLE", "USDC"),
        ("PURR/USDC", 10_000, "0.00000001", "1", "PURR", "USDC"),
        ("@107", 10_107, "0.000001", "0.01", "HYPE", "USDC"),
        ("@8", 10_008, "1", "0.000000001", "FINE", "PURR"),
    ],
)
def test_a_markets_grid(name: str, number: int, tick: str, lot: str, base: str, quote: str) -> None:
    """Perpetuals are numbered by their place, spot pairs by 10000 and their index; prices have 6 or 8 decimals less
    those of a size, and at least none."""
    instrument, found = FACTS.instrument(name)
    assert (instrument.name, found, instrument.tick_size, instrument.lot_size) == (name, number, tick, lot)
    assert (instrument.base, instrument.quote, instrument.significant_figures) == (base, quote, 5)
    assert instrument.min_notional == money("10")


@given(st.decimals(min_value="0.001", max_value="99999", places=8), st.integers(0, 8))
def test_spot_prices_keep_the_venues_rule(price: Decimal, decimals: int) -> None:
    """What a spot price is rounded to has at most five significant figures and 8 - szDecimals decimals, or is whole."""
    instrument = instrument_from_spot_meta("@1", decimals, "X", "USDC")
    ticks = instrument.round_bid(float(price) * instrument.ticks_per_quote)
    assume(ticks > 0)
    text = instrument.price_text(ticks)
    whole, _, fraction = text.partition(".")
    assert len(fraction) <= 8 - decimals
    assert not fraction or len((whole + fraction).lstrip("0")) <= 5
    assert Decimal(text) <= price + Decimal("1e-7")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GONE", "instruments.GONE: the venue has delisted this market; remove it"),
        ("BTCC", "instruments.BTCC: the venue has no such market; of its 7 markets the nearest: BTC"),
        ("btc", "instruments.btc: the venue has no such market; of its 7 markets the nearest: BTC"),
        ("PURR-USDC", "instruments.PURR-USDC: the venue has no such market; of its 7 markets the nearest: PURR/USDC"),
        ("XYZ", "instruments.XYZ: the venue has no such market; it has 7: BTC, ETH, WHOLE, PURR/USDC, @107, ..."),
        ("HYPE/USDC", "instruments.HYPE/USDC: the venue has no such market; it calls that spot market @107"),
        ("@9", "instruments.@9: the venue does not say what its tokens are; remove it"),
    ],
)
def test_no_such_market(name: str, says: str) -> None:
    """What is not traded is refused with what may have been meant; what is delisted is not proposed."""
    with pytest.raises(ConfigError) as caught:
        FACTS.instrument(name)
    assert str(caught.value) == says


def test_no_spot_markets_told() -> None:
    """Where the venue told perpetuals alone, a pair is unknown, and few markets are all named."""
    with pytest.raises(ConfigError) as caught:
        VenueFacts(META, None).instrument("@107")
    assert str(caught.value) == "instruments.@107: the venue has no such market; it has 2: BTC, ETH"


@pytest.mark.parametrize(
    ("tick", "lot", "says"),
    [
        ("", "", ""),
        ("0.10", "0.00001000", ""),
        ("0.5", "", "instruments.BTC.tick_size: value 0.5: allowed: 0, or 0.1 as the venue says"),
        ("0.1", "1", "instruments.BTC.lot_size: value 1: allowed: 0, or 0.00001 as the venue says"),
    ],
)
def test_another_grid(tick: str, lot: str, says: str) -> None:
    """A configured grid must be the venue's, however it is written; left out it is."""
    assert grid_fault(FACTS.instrument("BTC")[0], tick, lot) == says


# The clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_s", "trip_s", "allowed_ms", "says"),
    [
        (90.2, 0.1, 1000, "90.2 s ahead of the venue's (allowed: 1 s)"),
        (-90.2, 0.1, 1000, "90.2 s behind the venue's (allowed: 1 s)"),
        (2.04, 0.1, 1000, ""),
        (2.06, 0.1, 1000, "2.1 s ahead of the venue's (allowed: 1 s)"),
        (-1.04, 0.1, 1000, ""),
        (-1.06, 0.1, 1000, "1.1 s behind the venue's (allowed: 1 s)"),
        (-0.6, 0.0, 500, "0.6 s behind the venue's (allowed: 0.5 s)"),
        (5.0, 8.0, 1000, ""),
    ],
)
def test_a_clock_that_is_off(offset_s: float, trip_s: float, allowed_ms: int, says: str) -> None:
    """Beyond what is allowed, half a round trip, and (ahead) a second of the data's age, the clock is certainly off."""
    reading = ClockReading(round(offset_s * SECOND), round(trip_s * SECOND))
    whole = f"this machine's clock is {says}; set the time (chrony, timedatectl), then start again" if says else ""
    assert clock_fault(reading, allowed_ms) == whole


async def test_the_clock_beside_the_venues(tmp_path: Path) -> None:
    """The facts hold how far a clock is off; by the machine's own it is not."""
    async with practice(tmp_path) as venue:
        right, wrong = await ask(venue.url), await ask(venue.url, clock=lambda: time.time_ns() + 90 * SECOND)
    assert right.clock is not None and clock_fault(right.clock, 50) == ""
    assert wrong.clock is not None and "clock is 90.0 s ahead of" in clock_fault(wrong.clock, 1000)


async def test_a_venue_without_spot_or_books() -> None:
    """A venue that refuses spotMeta and l2Book gives facts all the same."""
    with info_server(but({"spotMeta": None, "l2Book": None})) as venue:
        facts = await ask(venue.url)
    assert (facts.spot, facts.clock, facts.instrument("BTC")[1]) == (None, None, 0)


async def test_spot_is_asked_for() -> None:
    """The venue's pairs come with the perpetuals."""
    spot = {"universe": [{"name": "PURR/USDC", "tokens": [1, 0], "index": 0, "isCanonical": True}], "tokens": [
        {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "evmContract": None},
        {"name": "PURR", "szDecimals": 0, "weiDecimals": 5, "index": 1, "evmContract": None},
    ]}  # fmt: skip
    with info_server(but({"spotMeta": spot})) as venue:
        facts = await ask(venue.url)
    assert facts.instrument("PURR/USDC")[1] == 10_000


async def test_delisted_as_the_venue_writes_it() -> None:
    """`isDelisted` is true, false, null or left out; a clock is not read off a market without trade."""
    universe = [
        {"name": "GONE", "szDecimals": 1, "isDelisted": True},
        {"name": "A", "szDecimals": 1, "isDelisted": None},
        {"name": "B", "szDecimals": 1, "isDelisted": False},
        {"name": "C", "szDecimals": 1},
    ]
    with info_server(but({"meta": {"universe": universe}})) as venue:
        facts = await ask(venue.url)
    assert [facts.instrument(name)[1] for name in "ABC"] == [1, 2, 3]
    assert [payload["coin"] for payload in venue.asked if payload["type"] == "l2Book"] == ["A"]


# Venues that fail -------------------------------------------------------------------------------------------------


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


async def test_nothing_is_left_behind() -> None:
    """After the answer the conversation's task and connection have ended."""
    with info_server() as venue:
        before = asyncio.all_tasks()
        await ask(venue.url)
        assert asyncio.all_tasks() == before
        await until(lambda: venue.talking == 0)
