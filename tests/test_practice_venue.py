"""mmpi.practice.hyperliquid: signed actions, orders and their answers, questions, streams; without sockets."""

import json
from pathlib import Path
from typing import Any

import pytest
from practice_builders import (
    CLOID,
    ETH_ASSET,
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
    cancel_by_cloid,
    order,
    orders,
    place,
    signed,
    status,
    trade,
    venue,
)

from mmpi.practice.hyperliquid.messages import UnprocessableError
from mmpi.practice.hyperliquid.rules import Rules
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import MAX_SIGNERS, Venue

VAULT = "0x" + "cd" * 20
GONE = {"error": "Order was never placed, already canceled, or filled."}


def test_an_order_rests_in_its_masters_account(tmp_path: Path) -> None:
    """An agent's order is live in the master's account, with its cloid, in every list."""
    built = venue(tmp_path)
    oid = place(built, order(cloid=CLOID))["resting"]["oid"]
    (shown,) = ask(built, "openOrders")
    assert shown == {
        "coin": "BTC", "side": "B", "limitPx": "99990.0", "sz": "0.01", "oid": oid,
        "timestamp": NOW_MS, "origSz": "0.01", "cloid": CLOID,
    }  # fmt: skip
    (frontend,) = ask(built, "frontendOpenOrders")
    assert frontend | shown == frontend
    assert (frontend["tif"], frontend["reduceOnly"], frontend["isTrigger"]) == ("Alo", False, False)
    assert built.live_orders() == [
        {"coin": "BTC", "oid": oid, "cloid": CLOID, "side": "B", "px": "99990.0", "sz": "0.01", "account": MASTER}
    ]


def test_two_agents_share_one_account(tmp_path: Path) -> None:
    """What the quoter places the guardian can cancel; the master sees both."""
    built = venue(tmp_path)
    oid = place(built, order(), key=QUOTER)["resting"]["oid"]
    assert status(built.act(signed(cancel(oid), GUARDIAN), NOW)) == "success"
    assert ask(built, "openOrders") == built.live_orders() == []


def test_an_unregistered_signer_trades_for_itself(tmp_path: Path) -> None:
    """A key in no registry has its own orders, and cannot touch those of others."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    assert status(built.act(signed(cancel(oid), STRANGER), NOW)) == GONE
    place(built, order(), key=STRANGER)
    assert [live["account"] for live in built.live_orders()] == [MASTER, address_of(STRANGER)]


def test_in_a_strict_venue_an_unregistered_signer_does_not_exist(tmp_path: Path) -> None:
    """The venue's own sentence names the address."""
    answer = venue(tmp_path, strict=True).act(signed(orders(order()), STRANGER), NOW)
    assert answer == {"status": "err", "response": f"User or API Wallet {address_of(STRANGER)} does not exist."}


def test_a_registry_spoilt_while_the_server_runs_is_named(tmp_path: Path) -> None:
    """A signer that would have to be looked up is told which line is wrong; known agents go on."""
    built = venue(tmp_path)
    with (tmp_path / "registry").open("a") as file:
        file.write("spoilt\n")
    answer = built.act(signed(orders(order()), STRANGER), NOW)
    assert answer["status"] == "err"
    assert "registry: line 2" in answer["response"]
    with pytest.raises(UnprocessableError, match="registry: line 2"):
        ask(built, "userRole", user=address_of(STRANGER))
    assert "resting" in place(built, order())


@pytest.mark.parametrize("field", ["action", "nonce", "expiresAfter", "network", "key order"])
def test_a_signature_holds_for_what_was_signed_only(tmp_path: Path, field: str) -> None:
    """Any change after signing makes it the signature of somebody who does not exist."""
    built = venue(tmp_path, strict=True)
    body = signed(orders(order()), mainnet=field == "network")
    if field == "action":
        body["action"]["orders"][0]["p"] = "99991"
    elif field == "nonce":
        body["nonce"] += 1
    elif field == "expiresAfter":
        body["expiresAfter"] = NOW_MS + 1000
    elif field == "key order":
        body["action"] = dict(reversed(body["action"].items()))
    answer = built.act(body, NOW)
    assert answer["status"] == "err"
    assert "does not exist" in answer["response"]
    assert built.live_orders() == []


def test_a_nonce_is_used_once_by_each_signer(tmp_path: Path) -> None:
    """The same nonce works for another agent, and not a second time for the same."""
    built = venue(tmp_path)
    assert built.act(signed(orders(order()), QUOTER, nonce=NOW_MS), NOW)["status"] == "ok"
    assert built.act(signed(orders(order()), GUARDIAN, nonce=NOW_MS), NOW)["status"] == "ok"
    answer = built.act(signed(orders(order()), QUOTER, nonce=NOW_MS), NOW)
    assert answer == {"status": "err", "response": f"Invalid nonce: duplicate nonce {NOW_MS}"}
    assert len(built.live_orders()) == 2


@pytest.mark.parametrize(("late_ms", "taken"), [(0, True), (1, False)])
def test_an_action_expires(tmp_path: Path, late_ms: int, taken: bool) -> None:
    """An action that arrives after its expiresAfter changes nothing."""
    built = venue(tmp_path)
    answer = built.act(signed(orders(order()), expires_after=NOW_MS), NOW + late_ms * 1_000_000)
    assert (answer["status"], len(built.live_orders())) == (("ok", 1) if taken else ("err", 0))
    assert taken or answer["response"] == "Action already expired"


def vaulted(path: Path, vault: str, leader: str = MASTER) -> Venue:
    """Return a venue in whose registry a vault has a leader."""
    built = venue(path)
    with (path / "registry").open("a") as file:
        file.write(json.dumps({vault: {"leader": leader}}) + "\n")
    return built


def test_a_vaults_leader_trades_for_it(tmp_path: Path) -> None:
    """Agents of the leader place and cancel in the vault's account, and neither touches the other's orders."""
    built = vaulted(tmp_path, VAULT)
    body = signed(orders(order(cloid=CLOID)), vault=VAULT.upper().replace("X", "x"))
    oid = status(built.act(body, NOW))["resting"]["oid"]
    own = place(built, order("99980"))["resting"]["oid"]
    assert [live["account"] for live in built.live_orders()] == [VAULT, MASTER]
    assert ask(built, "userRole", user=VAULT) == {"role": "vault"}
    assert [each["oid"] for each in ask(built, "openOrders", user=VAULT)] == [oid]
    assert status(built.act(signed(cancel(own), vault=VAULT), NOW)) == GONE
    assert status(built.act(signed(cancel(oid)), NOW)) == GONE
    assert status(built.act(signed(cancel(oid), GUARDIAN, vault=VAULT), NOW)) == "success"
    assert ask(built, "userRateLimit", user=VAULT)["nRequestsUsed"] == 3


@pytest.mark.parametrize("leader", ["nobody", "somebody else"])
def test_a_vault_of_others_is_refused(tmp_path: Path, leader: str) -> None:
    """A vault that is not registered has the venue's sentence; one that another leads is not acted for either."""
    built = venue(tmp_path) if leader == "nobody" else vaulted(tmp_path, VAULT, leader="0x" + "ef" * 20)
    answer = built.act(signed(orders(order()), vault=VAULT), NOW)
    said = f"Vault not registered: {VAULT}" if leader == "nobody" else f"User {MASTER} does not lead vault {VAULT}"
    assert answer == {"status": "err", "response": said}
    assert built.live_orders() == []


@pytest.mark.parametrize(("fast", "signer"), [(True, True), (False, False)])
def test_a_fast_cancel(tmp_path: Path, fast: bool, signer: bool) -> None:
    """`f: true` is taken; signed as false it is the signature of somebody else, as the venue leaves it out."""
    built = venue(tmp_path, strict=True)
    oid = place(built, order(cloid=CLOID))["resting"]["oid"]
    answer = built.act(signed(cancel(oid) | {"f": fast}), NOW)
    assert (answer["status"] == "ok", "does not exist" in str(answer)) == (signer, not signer)
    place(built, order("99980", cloid=CLOID[:-1] + "0"))
    answer = built.act(signed(cancel_by_cloid(CLOID[:-1] + "0") | {"f": fast}), NOW)
    assert (answer["status"] == "ok") == signer


@pytest.mark.parametrize(
    ("asset", "leverage", "sentence"),
    [(0, 21, "Invalid leverage value"), (0, 0, "Invalid leverage value"), (10_000, 5, "Unknown asset 10000.")],
)
def test_leverage(tmp_path: Path, asset: int, leverage: int, sentence: str) -> None:
    """It is what the margin of a position counts with, once it was set within its bounds."""
    built = venue(tmp_path)
    place(built, order("100001", "0.5", tif="Ioc"))
    update = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 5}
    assert built.act(signed(update), NOW) == {"status": "ok", "response": {"type": "default"}}
    refused = built.act(signed(update | {"asset": asset, "leverage": leverage}), NOW)
    assert refused == {"status": "err", "response": sentence}
    (only,) = ask(built, "clearinghouseState")["assetPositions"]
    assert only["position"]["leverage"] == {"type": "cross", "value": 5}
    assert float(only["position"]["marginUsed"]) == 0.5 * 100_000.5 / 5


@pytest.mark.parametrize("action", [{"type": "withdraw3"}, {"type": "order", "orders": 1, "grouping": "na"}, {}])
def test_an_action_that_is_not_understood_is_refused(tmp_path: Path, action: dict[str, Any]) -> None:
    """An unknown or malformed action has status err."""
    answer = venue(tmp_path).act(signed(action), NOW)
    assert answer["status"] == "err"
    assert answer["response"].startswith("Unknown or malformed action")


@pytest.mark.parametrize("missing", ["action", "nonce", "signature"])
def test_a_body_that_is_no_signed_action_is_unprocessable(tmp_path: Path, missing: str) -> None:
    """Without one of its parts the body has not the documented form."""
    body = signed(orders(order()))
    del body[missing]
    with pytest.raises(UnprocessableError, match=missing):
        venue(tmp_path).act(body, NOW)


def test_numbers_that_are_no_signature_are_unprocessable(tmp_path: Path) -> None:
    """A signature nobody can have made has no address to answer to."""
    body = signed(orders(order())) | {"signature": {"r": "0x0", "s": "0x0", "v": 27}}
    with pytest.raises(UnprocessableError):
        venue(tmp_path).act(body, NOW)


def test_the_number_of_signers_is_bounded(tmp_path: Path) -> None:
    """Signing with ever new keys cannot make the server's memory grow."""
    built = venue(tmp_path)
    answers = [built.act(signed(orders(), bytes([1, i] * 16)), NOW)["status"] for i in range(MAX_SIGNERS + 1)]
    assert answers == ["ok"] * MAX_SIGNERS + ["err"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (order("99990.05"), "Price must be divisible by tick size. asset=0"),
        (order("99990.5"), "Price must be divisible by tick size. asset=0"),
        (order("0"), "Order has invalid price."),
        (order("-1"), "Order has invalid price."),
        (order("x"), "Price must be divisible by tick size. asset=0"),
        (order(size="0.000001"), "Order has invalid size."),
        (order(size="0"), "Order has zero size."),
        (order(size="-1"), "Order has invalid size."),
        (order("99990.0"), "Price and size must be decimals without trailing zeros."),
        (order(size="0.010"), "Price and size must be decimals without trailing zeros."),
        (order(size="0.0001"), "Order must have minimum value of $10. asset=0"),
        (order("100001"), "Post only order would have immediately matched, bbo was 100000@100001. asset=0"),
        (order("100000", buy=False), "Post only order would have immediately matched, bbo was 100000@100001. asset=0"),
        (order("99990", tif="Ioc"), "Order could not immediately match against any resting orders. asset=0"),
        (order(reduce_only=True), "Reduce only order would increase position. asset=0"),
        (order(cloid="0x1"), "Order has invalid cloid."),
        (order(asset=7), "Unknown asset 7."),
        (order(asset=-1), "Unknown asset -1."),
        (order("3000", "1", asset=ETH_ASSET), "no book yet"),
        (order() | {"t": {"trigger": {"isMarket": True}}}, "Trigger orders are not part of the practice venue."),
    ],
)
def test_a_wrong_order_has_the_venues_sentence(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    """One order of a batch is refused with its reason, the others are placed."""
    built = venue(tmp_path)
    answer = built.act(signed(orders(order("99980"), wrong, order("99970"))), NOW)
    first, second, third = answer["response"]["data"]["statuses"]
    assert second == {"error": sentence}
    assert [live["oid"] for live in built.live_orders()] == [first["resting"]["oid"], third["resting"]["oid"]]


def test_a_cloid_is_live_once(tmp_path: Path) -> None:
    """A second live order of the same cloid is refused; after a cancel the name is free."""
    built = venue(tmp_path)
    place(built, order(cloid=CLOID))
    assert "error" in place(built, order(cloid=CLOID))
    assert status(built.act(signed(cancel_by_cloid(CLOID)), NOW)) == "success"
    assert "resting" in place(built, order(cloid=CLOID))


def test_cancels_that_miss(tmp_path: Path) -> None:
    """A cancel of what is unknown, over, or of another coin has the venue's sentence; by cloid too."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    other_coin = {"type": "cancel", "cancels": [{"a": ETH_ASSET, "o": oid}]}
    assert status(built.act(signed(other_coin), NOW)) == GONE
    assert status(built.act(signed(cancel(1)), NOW)) == GONE
    assert status(built.act(signed(cancel_by_cloid(CLOID)), NOW)) == GONE
    both = built.act(signed(cancel(oid, oid)), NOW)
    assert both["response"] == {"type": "cancel", "data": {"statuses": ["success", GONE]}}


def test_a_taker_is_filled_at_once(tmp_path: Path) -> None:
    """An IOC takes what is shown at its price, at the average it got, and pays the taker's fee."""
    built = venue(tmp_path)
    answer = place(built, order("100001", "0.5", tif="Ioc"))
    assert answer["filled"] | {"oid": 0} == {"totalSz": "0.5", "avgPx": "100001.0", "oid": 0}
    (fill,) = ask(built, "userFills")
    assert (fill["crossed"], fill["dir"], fill["startPosition"], fill["side"]) == (True, "Open Long", "0.0", "B")
    assert fill["fee"] == "22.500225", "4.5 bps of 50000.5"
    assert built.live_orders() == []


def test_a_taker_that_meets_its_own_order_cancels_it(tmp_path: Path) -> None:
    """The venue's self-trade prevention: the resting order ends as selfTradeCanceled, the taker keeps its fill."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    oid = place(built, order("100001", "0.01", buy=False))["resting"]["oid"]
    hub.add(("orderUpdates", MASTER), ear)
    answer = place(built, order("100001", "1.5", tif="Ioc"))
    assert answer["filled"]["totalSz"] == "1.0"
    updates = [(u["order"]["oid"], u["status"]) for each in ear.on("orderUpdates") for u in each]
    assert updates == [(oid, "selfTradeCanceled"), (answer["filled"]["oid"], "canceled")]
    assert built.live_orders() == []
    assert len(ask(built, "userFills")) == 1


def test_a_maker_is_filled_by_the_market(tmp_path: Path) -> None:
    """A trade through a resting order fills it at its own price; the streams and lists all say so."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    for topic in ("orderUpdates", "userFills", "userEvents"):
        hub.add((topic, MASTER), ear)
    oid = place(built, order("99990", "0.01", cloid=CLOID))["resting"]["oid"]
    built.on_market(trade("99989", "0.004"))
    built.on_market(trade("99989", "1"))
    updates = [(u["order"]["oid"], u["status"], u["order"]["sz"]) for each in ear.on("orderUpdates") for u in each]
    assert updates == [(oid, "open", "0.01"), (oid, "open", "0.006"), (oid, "filled", "0.0")]
    fills = [fill for each in ear.on("userFills") for fill in each["fills"]]
    assert [(f["px"], f["sz"], f["startPosition"]) for f in fills] == [
        ("99990.0", "0.004", "0.0"),
        ("99990.0", "0.006", "0.004"),
    ]
    assert fills[0].keys() == {
        "coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid", "crossed",
        "fee", "tid", "cloid", "feeToken", "twapId",
    }  # fmt: skip
    assert [fill["tid"] for each in ear.on("user") for fill in each["fills"]] == [fill["tid"] for fill in fills]
    assert ask(built, "userFills") == list(reversed(fills)), "newest first"
    assert ask(built, "userFillsByTime", startTime=0) == fills, "oldest first"
    assert ask(built, "userFillsByTime", startTime=0, endTime=NOW_MS - 1) == []
    assert ask(built, "orderStatus", oid=oid)["order"]["status"] == "filled"


def test_fees_are_the_rules(tmp_path: Path) -> None:
    """Other rates are charged as they are shown."""
    built = venue(tmp_path, rules=Rules(maker_fee_bps=-1.0, taker_fee_bps=10.0))
    place(built, order("100001", "0.5", tif="Ioc"))
    place(built, order("99990", "0.5"))
    built.on_market(trade("99989", "1"))
    assert [fill["fee"] for fill in ask(built, "userFillsByTime")] == ["50.0005", "-4.9995"]
    assert ask(built, "userFees")["userAddRate"] == "-0.0001"


def test_the_market_as_streams(tmp_path: Path) -> None:
    """Books come whole, best prices only when they change, trades as they happen, own taking included."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    for topic in ("l2Book", "bbo", "trades"):
        hub.add((topic, "BTC"), ear)
    hub.add(("allMids", ""), ear)
    for event in (book(), book("100000", "100002"), trade("100000", "0.25")):
        built.on_market(event)
    place(built, order("100002", "0.5", tif="Ioc"))
    assert [len(data["levels"][0]) for data in ear.on("l2Book")] == [1, 1]
    assert [[side["px"] for side in data["bbo"]] for data in ear.on("bbo")] == [["100000.0", "100002.0"]]
    assert ear.on("allMids")[-1] == {"mids": {"BTC": "100001.0"}}
    printed = [one for data in ear.on("trades") for one in data]
    assert [(one["side"], one["px"], one["sz"]) for one in printed] == [
        ("A", "100000.0", "0.25"),
        ("B", "100002.0", "0.5"),
    ]
    assert printed[1]["users"] == [MASTER, "0x" + "0" * 40]
    assert len({one["tid"] for one in printed}) == 2


def test_requests_are_counted_per_order(tmp_path: Path) -> None:
    """A batch of n costs n of the address's budget, and volume raises the cap."""
    built = venue(tmp_path)
    built.act(signed(orders(order(), order("99980"), order("100001", "0.01", tif="Ioc"))), NOW)
    assert ask(built, "userRateLimit") == {
        "cumVlm": "1000.01", "nRequestsUsed": 3, "nRequestsCap": 11_000, "nRequestsSurplus": 0,
    }  # fmt: skip


def test_lists_agree_with_the_exchange(tmp_path: Path) -> None:
    """After fills, cancels and rejects the listed orders are exactly those the simulated exchange holds."""
    built = venue(tmp_path)
    oids = [place(built, order(str(99_990 - i), "0.01"))["resting"]["oid"] for i in range(4)]
    built.act(signed(cancel(oids[2])), NOW)
    built.on_market(trade("99988", "0.015"))
    held = {(o.order_id, o.size) for o in built._matching.open_orders()}
    sizes = {str(live["oid"]): round(float(live["sz"]) * 100_000) for live in built.live_orders()}
    assert held == set(sizes.items())
    assert sorted(sizes.values()) == [500, 1000]


def test_an_agents_signature_for_the_other_network_is_nobodys(tmp_path: Path) -> None:
    """Also where every address exists: it would otherwise be an order in the name of a stranger, silently."""
    built = venue(tmp_path, strict=False)
    answer = built.act(signed(orders(order()), mainnet=True), NOW)
    assert answer["status"] == "err" and answer["response"].endswith("does not exist.")
    assert built.placed_log() == []
