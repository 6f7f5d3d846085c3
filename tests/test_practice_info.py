"""mmpi.practice.hyperliquid.info and user_info: questions, and the first messages of subscriptions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from practice_builders import (
    CLOID,
    GUARDIAN,
    MASTER,
    NOW,
    NOW_MS,
    QUOTER,
    STRANGER,
    Ear,
    ask,
    book,
    cancel,
    order,
    place,
    signed,
    venue,
)

from mmpi.events import Mark
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.messages import UnprocessableError
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub


def test_the_mark_is_streamed_as_the_session_reads_it(tmp_path: Path) -> None:
    """activeAssetCtx: nothing before the first mark, then each one, and the last one to who subscribes later."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    assert info.snapshot(built, ("activeAssetCtx", "BTC"), NOW) is None
    hub.add(("activeAssetCtx", "BTC"), ear)
    built.on_market(Mark(NOW, "BTC", NOW, 1_000_005.25, 1_000_010.0, 0.0000125, NOW))
    (told,) = ear.on("activeAssetCtx")
    assert told["coin"] == "BTC"
    assert {key: told["ctx"][key] for key in ("markPx", "oraclePx", "funding", "midPx")} == {
        "markPx": "100000.525", "oraclePx": "100001.0", "funding": "0.0000125", "midPx": "100000.5",
    }  # fmt: skip
    assert info.snapshot(built, ("activeAssetCtx", "BTC"), NOW) == told


def test_positions_and_margin(tmp_path: Path) -> None:
    """Account value is the starting balance less fees plus what the position gained at the mid."""
    built = venue(tmp_path)
    place(built, order("100000", "0.5", buy=False, tif="Ioc"))
    built.on_market(book("99000", "99001"))
    state = ask(built, "clearinghouseState")
    (only,) = state["assetPositions"]
    assert (only["position"]["szi"], only["position"]["entryPx"]) == ("-0.5", "100000.0")
    assert only["position"]["unrealizedPnl"] == "499.75"
    assert state["marginSummary"]["accountValue"] == "100477.25", "100000 - 22.5 + 499.75"
    assert state["marginSummary"]["totalRawUsd"] == "149977.5"


def test_directions(tmp_path: Path) -> None:
    """Opening, flipping and closing are named as the venue names them, with what closing earned."""
    built = venue(tmp_path)
    for size, buy in (("0.2", True), ("0.5", False), ("0.3", True)):
        place(built, order("100001" if buy else "100000", size, buy=buy, tif="Ioc"))
    fills = ask(built, "userFillsByTime")
    assert [fill["dir"] for fill in fills] == ["Open Long", "Long > Short", "Close Short"]
    assert [fill["closedPnl"] for fill in fills] == ["0.0", "-0.2", "-0.3"]


def test_an_order_is_found_by_oid_and_by_cloid(tmp_path: Path) -> None:
    """orderStatus knows live and finished orders of the account that asks, and no other."""
    built = venue(tmp_path)
    oid = place(built, order(cloid=CLOID))["resting"]["oid"]
    assert ask(built, "orderStatus", oid=oid)["order"]["order"]["cloid"] == CLOID
    built.act(signed(cancel(oid)), NOW)
    for name in (oid, CLOID):
        assert ask(built, "orderStatus", oid=name)["order"]["status"] == "canceled"
    assert ask(built, "orderStatus", oid=oid + 1) == {"status": "unknownOid"}
    assert ask(built, "orderStatus", oid=oid, user=address_of(STRANGER)) == {"status": "unknownOid"}


def test_roles(tmp_path: Path) -> None:
    """An agent is told its master, and an account, like everybody else, that it is a user."""
    built = venue(tmp_path)
    assert ask(built, "userRole", user=address_of(QUOTER)) == {"role": "agent", "data": {"user": MASTER}}
    assert ask(built, "userRole", user=MASTER.upper().replace("X", "x")) == {"role": "user"}
    assert ask(built, "userRole", user=address_of(STRANGER)) == {"role": "user"}
    assert [agent["address"] for agent in ask(built, "extraAgents")] == [address_of(QUOTER), address_of(GUARDIAN)]


def test_in_a_strict_venue_a_stranger_is_missing(tmp_path: Path) -> None:
    """A strict venue knows the registry's accounts and agents, and nobody else."""
    built = venue(tmp_path, strict=True)
    assert ask(built, "userRole", user=address_of(STRANGER)) == {"role": "missing"}
    assert ask(built, "userRole") == {"role": "user"}
    assert ask(built, "userRole", user=address_of(QUOTER))["role"] == "agent"


def test_the_market_as_questions(tmp_path: Path) -> None:
    """meta, mids and book describe the generated instruments, with practice orders merged in."""
    built = venue(tmp_path)
    place(built, order("100000", "0.5"))
    universe = ask(built, "meta")["universe"]
    assert [(coin["name"], coin["szDecimals"]) for coin in universe] == [("BTC", 5), ("ETH", 4)]
    assert ask(built, "allMids") == {"BTC": "100000.5"}
    assert ask(built, "l2Book", coin="BTC")["levels"] == [
        [{"px": "100000.0", "sz": "1.5", "n": 1}],
        [{"px": "100001.0", "sz": "1.0", "n": 1}],
    ]


def test_what_clients_ask_first(tmp_path: Path) -> None:
    """One dex, contexts beside both metas before any mark, and nothing of what the practice venue has not."""
    built = venue(tmp_path)
    assert ask(built, "perpDexs") == [None]
    assert ask(built, "meta", dex="") == ask(built, "meta")
    meta, contexts = ask(built, "metaAndAssetCtxs")
    assert (meta, len(contexts)) == (ask(built, "meta"), 2)
    assert {key: contexts[0][key] for key in ("markPx", "midPx", "impactPxs", "funding")} == {
        "markPx": "100000.5", "midPx": "100000.5", "impactPxs": ["100000.0", "100001.0"], "funding": "0.0",
    }  # fmt: skip
    assert ask(built, "exchangeStatus") == {"specialStatuses": None, "time": NOW_MS}
    assert ask(built, "maxBuilderFee") == 0
    for kind in ("userNonFundingLedgerUpdates", "userTwapSliceFills", "userVaultEquities", "candleSnapshot"):
        assert ask(built, kind) == []
    for kind in ("subAccounts", "userToMultiSigSigners"):
        assert ask(built, kind) is None
    fees = ask(built, "userFees")
    assert [fees[key] for key in ("userAddRate", "userCrossRate", "userSpotAddRate", "userSpotCrossRate")] == [
        "0.00015", "0.00045", "0.0004", "0.0007",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [{}, {"type": "nonsense"}, {"type": "l2Book", "coin": "DOGE"}, {"type": "openOrders"},
     {"type": "meta", "dex": "x"}],
)
def test_a_question_that_is_none_is_unprocessable(tmp_path: Path, body: dict[str, Any]) -> None:
    """Unknown types, unknown coins and missing users are refused."""
    with pytest.raises(UnprocessableError):
        info.answer(venue(tmp_path), body, NOW)


def test_first_messages_of_subscriptions(tmp_path: Path) -> None:
    """A book comes at once, fills as a snapshot newest first, and orderUpdates has no replay."""
    built = venue(tmp_path)
    place(built, order("100001", "0.1", tif="Ioc"))
    first: Callable[[str, str], Any] = lambda kind, name: info.snapshot(built, (kind, name), NOW)  # noqa: E731
    assert first("l2Book", "BTC")["coin"] == "BTC"
    assert first("userFills", MASTER) == {"isSnapshot": True, "user": MASTER, "fills": ask(built, "userFills")}
    assert first("userFills", address_of(STRANGER))["fills"] == []
    assert first("orderUpdates", MASTER) is None
    with pytest.raises(UnprocessableError, match="DOGE"):
        first("trades", "DOGE")


def test_a_vault_says_who_leads_it(tmp_path: Path) -> None:
    """Its leader by the registry; null for an address that is no vault, and a question without one is unprocessable."""
    built = venue(tmp_path)
    vault = "0x" + "5a" * 20
    with (tmp_path / "registry").open("a") as file:
        file.write(json.dumps({vault: {"leader": MASTER}}) + "\n")
    told = ask(built, "vaultDetails", vaultAddress=vault.upper().replace("0X", "0x"))
    assert (told["leader"], told["isClosed"]) == (MASTER, False)
    assert ask(built, "vaultDetails", vaultAddress=MASTER) is None
    with pytest.raises(UnprocessableError, match="vaultAddress"):
        ask(built, "vaultDetails")
