"""mmpi.runtime.account_facts: what is asked about an account, and that every answer may be missing."""

from typing import Any

from info_server import Payload, but, info_server
from practice_builders import GUARDIAN, MASTER, QUOTER

from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.runtime.account_facts import Key, ask_account
from mmpi.runtime.inquiry import inquiry
from mmpi.venues.hyperliquid.answers import RateLimit, RoleData, UserRole

KEYS = [
    Key("quoter", "keys/quoter.key", address_of(QUOTER)),
    Key("guardian", "keys/guardian.key", address_of(GUARDIAN)),
]
VAULT = "0x" + "fe" * 20


async def test_what_is_asked() -> None:
    """Roles are asked of every address once, money and limits of the account alone; its answers come back."""
    with info_server() as venue:
        async with inquiry(venue.url, 5.0) as talk:
            told = await ask_account(talk, MASTER, KEYS, "")
    about = {(payload["type"], payload.get("user")) for payload in venue.asked}
    assert len(venue.asked) == 7
    assert about == {
        ("userRole", KEYS[0].address),
        ("userRole", KEYS[1].address),
        ("userRole", MASTER),
        ("extraAgents", MASTER),
        ("clearinghouseState", MASTER),
        ("spotClearinghouseState", MASTER),
        ("userRateLimit", MASTER),
    }
    assert [told.roles[address] for address in (MASTER, KEYS[0].address)] == [
        UserRole("user"), UserRole("agent", RoleData(user=MASTER))
    ]  # fmt: skip
    assert told.agents is not None and [agent.name for agent in told.agents] == ["quoter", "guardian"]
    assert told.state is not None and told.state.margin_summary.account_value == "50000.0"
    assert told.limit == RateLimit(100, 2_010_000, "2000000.0")
    assert told.vault is None


async def test_a_vaults_money_and_limits() -> None:
    """With a vault it is the vault's money and limits that count, and its leader is asked for."""

    def role(payload: Payload) -> Any:
        return {"role": "vault"} if payload["user"] == VAULT else {"role": "user"}

    details = {"name": "Test", "leader": MASTER, "isClosed": False, "portfolio": []}
    with info_server(but({"userRole": role, "vaultDetails": details})) as venue:
        async with inquiry(venue.url, 5.0) as talk:
            told = await ask_account(talk, MASTER, KEYS, VAULT)
    whose = {payload["type"]: payload.get("user", payload.get("vaultAddress")) for payload in venue.asked}
    assert whose["extraAgents"] == MASTER
    questions = ("clearinghouseState", "spotClearinghouseState", "userRateLimit", "vaultDetails")
    assert {whose[question] for question in questions} == {VAULT}
    assert told.vault is not None and told.vault.leader == MASTER


async def test_refused_questions_are_no_error() -> None:
    """A venue that refuses every question about accounts leaves each answer open."""
    kinds = ("userRole", "extraAgents", "clearinghouseState", "spotClearinghouseState", "userRateLimit")
    with info_server(but(dict.fromkeys(kinds))) as venue:
        async with inquiry(venue.url, 5.0) as talk:
            told = await ask_account(talk, MASTER, KEYS, "")
    assert set(told.roles.values()) == {None}
    assert (told.agents, told.state, told.spot, told.limit, told.vault) == (None,) * 5
