"""mmpi.runtime.account_check: what the venue's answers about an account and its keys mean."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from info_server import DAY_MS
from practice_builders import GUARDIAN, MASTER, QUOTER

from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.runtime.account_check import Load, account_findings, key_findings
from mmpi.runtime.account_facts import AccountFacts, Key
from mmpi.venues.hyperliquid.answers import (
    AccountState,
    ExtraAgent,
    MarginSummary,
    RateLimit,
    RoleData,
    SpotBalance,
    SpotState,
    UserRole,
    VaultDetails,
)

NOW_MS = 1_800_000_000_000
KEYS = [
    Key("quoter", "keys/quoter.key", address_of(QUOTER)),
    Key("guardian", "keys/guardian.key", address_of(GUARDIAN)),
]
VAULT = "0x" + "fe" * 20
AGENT = UserRole("agent", RoleData(user=MASTER))
FACTS = AccountFacts(
    roles={MASTER: UserRole("user"), KEYS[0].address: AGENT, KEYS[1].address: AGENT},
    agents=[ExtraAgent(key.address, key.name, NOW_MS + 90 * DAY_MS) for key in KEYS],
    state=AccountState(MarginSummary("50000.0"), "40000.0"),
    spot=SpotState([]),
    limit=RateLimit(100, 2_010_000, "2000000.0"),
    vault=None,
)
"""An account with which all is well."""
LOAD = Load(
    orders=10, requests_per_hour=5400, refreshes_per_hour=1800, budget_low=5000, budget_reserve=500,
    capital=Decimal(10_000), unarmed_order=Decimal("50.00"), perpetuals=True, tokens=(),
)  # fmt: skip


def facts(**changes: Any) -> AccountFacts:
    """Return FACTS with changes."""
    return msgspec.structs.replace(FACTS, **changes)


def load(**changes: Any) -> Load:
    """Return LOAD with changes."""
    return msgspec.structs.replace(LOAD, **changes)


def of_keys(told: AccountFacts = FACTS, keys: list[Key] = KEYS, *, live: bool = True) -> dict[str, tuple[str, str]]:
    """Return level and text of what is found about the keys, by check."""
    return {each.check: (each.level, each.text) for each in key_findings(told, MASTER, keys, NOW_MS, live=live)}


def of_account(
    told: AccountFacts = FACTS, asks: Load = LOAD, *, vault: str = "", live: bool = True
) -> dict[str, tuple[str, str]]:
    """Return level and text of what is found about the account, by check."""
    return {each.check: (each.level, each.text) for each in account_findings(told, MASTER, vault, asks, live=live)}


# Keys -------------------------------------------------------------------------------------------------------------


def test_two_agents() -> None:
    """Two approved agents are fine, and their approval's end is told."""
    assert of_keys() == {
        f"{key.name}_key": ("OK", f"{key.address} is an agent of account {MASTER} until 2027-04-15, 90 days")
        for key in KEYS
    }


@pytest.mark.parametrize(
    ("role", "says"),
    [
        (UserRole("user"), "a user there that can withdraw, not an agent of account"),
        (UserRole("missing"), "unknown to the venue, not an agent of account"),
        (None, "unknown to the venue, not an agent of account"),
        (UserRole("agent", RoleData(user=VAULT)), f"an agent of account {VAULT}, not an agent of account"),
    ],
)
def test_a_key_that_is_no_agent(role: UserRole | None, says: str) -> None:
    """Each key is judged by itself, by what its address is at the venue."""
    found = of_keys(facts(roles=FACTS.roles | {KEYS[1].address: role}))
    assert found["quoter_key"][0] == "OK"
    assert found["guardian_key"][0] == "FAIL"
    assert f"keys/guardian.key: its address {KEYS[1].address} is {says} {MASTER}" in found["guardian_key"][1]


def test_the_accounts_own_key() -> None:
    """A key that is the account itself can withdraw: it fails in every mode, and the remedy is named."""
    own = [Key("quoter", "keys/quoter.key", MASTER), KEYS[1]]
    for live in (True, False):
        level, text = of_keys(keys=own, live=live)["quoter_key"]
        assert level == "FAIL"
        assert text.startswith("keys/quoter.key: this key can withdraw: ")
        assert "an agent (API) wallet" in text


@pytest.mark.parametrize(("live", "level"), [(True, "FAIL"), (False, "WARN")])
def test_one_key_for_both(live: bool, level: str) -> None:
    """One key for quoter and guardian fails live, and is a warning in practice."""
    both = [KEYS[0], Key("guardian", "keys/guardian.key", KEYS[0].address)]
    assert of_keys(keys=both, live=live)["keys"] == (
        level,
        "keys/quoter.key and keys/guardian.key hold one key: each process needs an agent of its own, or their nonces "
        "collide; approve another",
    )


@pytest.mark.parametrize(
    ("days", "level", "says"),
    [
        (None, "OK", "its approval has no end"),
        (1e6, "OK", "its approval has no end in sight"),
        (30, "OK", "until 2027-02-14, 30 days"),
        (6, "WARN", "until 2027-01-21, 6 days; approve a new one in time"),
        (0, "FAIL", f"keys/quoter.key: the approval of {KEYS[0].address} ended on 2027-01-15; approve a new agent"),
        (-1, "FAIL", "ended on 2027-01-14"),
    ],
)
def test_the_end_of_an_approval(days: float | None, level: str, says: str) -> None:
    """An approval that has ended fails; one that ends within a week is a warning."""
    until = None if days is None else NOW_MS + round(days * DAY_MS)
    agents = [ExtraAgent(KEYS[0].address.upper().replace("0X", "0x"), "q", until)]
    found = of_keys(facts(agents=agents))["quoter_key"]
    assert found[0] == level
    assert says in found[1]


def test_an_end_that_is_not_told() -> None:
    """An agent without a name, and a venue that names no agents, are warnings: nobody knows the approval's end."""
    unnamed, silent = of_keys(facts(agents=[]))["quoter_key"], of_keys(facts(agents=None))["quoter_key"]
    assert unnamed[0] == silent[0] == "WARN"
    assert "without a name: the next one without a name that is approved replaces it" in unnamed[1]
    assert "the venue does not say until when" in silent[1]


# The account ------------------------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    """A funded account with volume has nothing but OK."""
    found = of_account()
    assert {check: level for check, (level, _) in found.items()} == dict.fromkeys(
        ("account", "money", "budget", "dead_man"), "OK"
    )
    assert found["money"][1] == "worth 50000.00 USDC, 40000.00 of it withdrawable"
    assert found["dead_man"][1] == "2000000.00 USDC traded, enough for the dead-man switch (scheduleCancel)"


@pytest.mark.parametrize(
    ("role", "level", "says"),
    [
        (UserRole("user"), "OK", "exists"),
        (None, "WARN", "the venue does not say what it is"),
        (UserRole("missing"), "FAIL", "does not exist at the venue; deposit there first"),
        (UserRole("agent", RoleData(user=VAULT)), "FAIL", f"is a agent of {VAULT}; allowed in the file account"),
        (UserRole("subAccount", RoleData(master=VAULT)), "FAIL", f"is a subAccount of {VAULT}; allowed"),
        (UserRole("vault"), "FAIL", "is a vault; allowed in the file account"),
    ],
)
def test_what_the_account_is(role: UserRole | None, level: str, says: str) -> None:
    """Only a user's address belongs in the file account."""
    found = of_account(facts(roles={MASTER: role}))["account"]
    assert found[0] == level
    assert says in found[1]


@pytest.mark.parametrize(
    ("value", "dollars", "level", "says"),
    [
        ("50000.0", "0", "OK", "worth 50000.00 USDC"),
        ("9999.99", "0", "WARN", "risk.capital is 10000, and the loss limits are measured against that"),
        ("0.0", "14.625485", "WARN", "its spot side has 14.63 USDC: move them over, unless it is a unified account"),
        ("0.0", "0.0", "FAIL", "deposit first: no order will be taken"),
        ("-3.5", "0.0", "FAIL", "deposit first"),
        ("NaN", "0.0", "FAIL", "worth 0 USDC"),
        ("many", "0.0", "FAIL", "worth 0 USDC"),
        ("2703997.4500000002", "0", "OK", "worth 2703997.45 USDC"),
    ],
)
def test_the_accounts_money(value: str, dollars: str, level: str, says: str) -> None:
    """An account without money fails; one with less than the capital that limits are measured against is a warning."""
    told = facts(state=AccountState(MarginSummary(value), "0.0"), spot=SpotState([SpotBalance("USDC", dollars)]))
    found = of_account(told)["money"]
    assert found[0] == level
    assert says in found[1]


@pytest.mark.parametrize(
    ("spot", "level", "says"),
    [
        (SpotState([SpotBalance("PURR", "2000"), SpotBalance("HYPE", "5")]), "OK", "holds 2000.00 PURR, 0 USDC"),
        (SpotState([SpotBalance("HYPE", "5")]), "FAIL", "holds 0 PURR, 0 USDC; nothing can be bought or sold"),
        (None, "WARN", "the venue does not say what the account holds"),
    ],
)
def test_spot_balances(spot: SpotState | None, level: str, says: str) -> None:
    """Spot markets need one of their tokens; the perpetuals' side does not matter where only they are quoted."""
    told = facts(spot=spot, state=AccountState(MarginSummary("0.0"), "0.0"))
    found = of_account(told, load(perpetuals=False, tokens=("PURR", "USDC")))
    assert found["spot_money"] == (level, says)
    assert "money" not in found


@pytest.mark.parametrize(
    ("used", "cap", "level", "says"),
    [
        (0, 100_000, "OK", "0 of 100000 requests used; the rest lasts 14 hours without a fill if all 10 orders move"),
        (0, 10_000, "OK", "the rest lasts 83 minutes without a fill"),
        (3000, 10_000, "WARN", "the rest lasts 58 minutes"),
        (6000, 10_000, "WARN", "below venue.budget_low, 5000, orders move more rarely"),
        (9499, 10_000, "WARN", "below venue.budget_low, 5000, orders move more rarely"),
        (9500, 10_000, "WARN", "from venue.budget_reserve on, 500, only orders that reduce a position are placed"),
        (9990, 10_000, "WARN", "the rest lasts 5 s"),
        (201, 400, "WARN", "below venue.budget_low, 200, orders move more rarely"),
        (380, 400, "WARN", "from venue.budget_reserve on, 20, only orders that reduce a position are placed"),
        (10_000, 10_000, "WARN", "10000 of 10000 requests used: the venue takes one in 10 s until more is traded"),
        (12_000, 10_000, "WARN", "the venue takes one in 10 s"),
        (0, 10_000_000, "OK", "the rest lasts 58 days"),
    ],
)
def test_the_request_budget(used: int, cap: int, level: str, says: str) -> None:
    """How long the budget lasts at worst is told; less than an hour, and less than the configured low, is a warning.

    7200 requests an hour empty a fresh account's 10,000 in 83 minutes.
    """
    found = of_account(facts(limit=RateLimit(used, cap, "1000000")))["budget"]
    assert found[0] == level
    assert says in found[1]


def test_a_switch_that_is_refused_costs_nothing() -> None:
    """Below the volume gate the dead-man switch is not refreshed, so the budget lasts longer; in practice it may be."""
    fresh = facts(limit=RateLimit(0, 10_000, "0.0"))
    assert "(5400 requests an hour)" in of_account(fresh)["budget"][1]
    assert "(7200 requests an hour)" in of_account(fresh, live=False)["budget"][1]


@pytest.mark.parametrize(("volume", "level"), [("373.47205", "WARN"), ("999999.99", "WARN"), ("1000000.0", "OK")])
def test_the_volume_gate(volume: str, level: str) -> None:
    """Below $1,000,000 the venue refuses the dead-man switch: a warning that names what follows."""
    found = of_account(facts(limit=RateLimit(0, 10_000, volume)))["dead_man"]
    assert found[0] == level
    assert ("limits shrink to risk.unarmed_percent: no order above 50" in found[1]) is (level == "WARN")
    assert "practice" not in found[1]


def test_the_volume_gate_and_small_orders() -> None:
    """Where orders of the smaller limit would be below the venue's least there would be none: that fails, but not in
    practice, where the server asks for no volume by itself."""
    fresh, small = facts(limit=RateLimit(0, 10_000, "1")), load(unarmed_order=Decimal("9.99"))
    level, text = of_account(fresh, small)["dead_man"]
    assert level == "FAIL"
    assert "no order above 9.99, and the venue takes none below 10; raise risk.max_order" in text
    assert of_account(fresh, load(unarmed_order=Decimal(10)))["dead_man"][0] == "WARN"
    level, text = of_account(fresh, small, live=False)["dead_man"]
    assert level == "WARN"
    assert "a practice server asks for no volume unless it is told to" in text


def test_what_the_venue_does_not_say() -> None:
    """Answers that never came are warnings, and none is taken for good news."""
    found = of_account(facts(state=None, limit=None))
    assert {found[check][0] for check in ("money", "budget", "dead_man")} == {"WARN"}


# Vaults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "details", "level", "says"),
    [
        (UserRole("vault"), VaultDetails(MASTER.upper()), "OK", f"{VAULT} is led by {MASTER}"),
        (UserRole("vault"), VaultDetails(VAULT), "FAIL", f"is led by {VAULT}, and agents of {MASTER} may not trade"),
        (UserRole("vault"), VaultDetails(MASTER, is_closed=True), "FAIL", "is closed; choose another"),
        (UserRole("vault"), None, "WARN", "is a vault; the venue does not say who leads it"),
        (UserRole("subAccount", RoleData(master=MASTER)), None, "OK", f"{VAULT} is a sub-account of {MASTER}"),
        (UserRole("subAccount", RoleData(master=VAULT)), None, "FAIL", f"is a sub-account of {VAULT}, and agents of"),
        (UserRole("subAccount"), None, "FAIL", "is a sub-account of nobody"),
        (UserRole("user"), None, "FAIL", f"{VAULT} is user at the venue; allowed: a vault or a sub-account of"),
        (None, None, "FAIL", "is unknown at the venue"),
    ],
)
def test_the_vault(role: UserRole | None, details: VaultDetails | None, level: str, says: str) -> None:
    """The account's agents may trade for a vault that it leads, and for its own sub-accounts, and for nothing else."""
    found = of_account(facts(roles=FACTS.roles | {VAULT: role}, vault=details), vault=VAULT)["vault"]
    assert found[0] == level
    assert says.lower() in found[1].lower()
