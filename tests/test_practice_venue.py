"""mmpi.practice.hyperliquid: signed actions, orders and their answers, questions, streams; without sockets."""

from collections.abc import Callable
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
    book,
    cancel,
    cancel_by_cloid,
    order,
    orders,
    signed,
    status,
    trade,
    venue,
)

from mmpi.events import Mark
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.messages import UnprocessableError
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import MAX_SIGNERS, Venue

GONE = {"error": "Order was never placed, already canceled, or filled."}


def place(built: Venue, *each: dict[str, Any], key: bytes = QUOTER) -> Any:
    """Return the only status of an order action."""
    return status(built.act(signed(orders(*each), key), NOW))


def ask(built: Venue, kind: str, **fields: Any) -> Any:
    """Return the answer to an info question about MASTER."""
    return info.answer(built, {"type": kind, "user": MASTER} | fields, NOW)


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
    assert taken or answer["response"].startswith("Action expired")


def test_vaults_are_refused(tmp_path: Path) -> None:
    """A validly signed action for a vault is answered by a refusal."""
    answer = venue(tmp_path).act(signed(orders(order()), vault="0x" + "11" * 20), NOW)
    assert answer == {"status": "err", "response": "Vaults are not part of the practice venue"}


def test_the_dead_man_needs_volume(tmp_path: Path) -> None:
    """scheduleCancel is refused in the venue's words for an account without volume."""
    answer = venue(tmp_path).act(signed({"type": "scheduleCancel", "time": NOW_MS + 10_000}), NOW)
    text = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
    assert answer == {"status": "err", "response": text}


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
        (order("99990.05"), "Price must be divisible by tick size."),
        (order("99990.5"), "Price must be divisible by tick size."),
        (order("0"), "Price must be divisible by tick size."),
        (order("x"), "Price must be divisible by tick size."),
        (order(size="0.000001"), "Order has invalid size."),
        (order(size="0"), "Order has invalid size."),
        (order("99990.0"), "Price and size must be decimals without trailing zeros."),
        (order(size="0.010"), "Price and size must be decimals without trailing zeros."),
        (order(size="0.0001"), "Order must have minimum value of $10."),
        (order("100001"), "Post only order would have immediately matched, bbo was 100000@100001."),
        (order("100000", buy=False), "Post only order would have immediately matched, bbo was 100000@100001."),
        (order("99990", tif="Ioc"), "Order could not immediately match against any resting orders."),
        (order(reduce_only=True), "Reduce only order would increase position."),
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
    """An agent is told its master, an account that it is one, and a stranger that it is missing until it trades."""
    built = venue(tmp_path)
    assert ask(built, "userRole", user=address_of(QUOTER)) == {"role": "agent", "data": {"user": MASTER}}
    assert ask(built, "userRole", user=MASTER.upper().replace("X", "x")) == {"role": "user"}
    assert ask(built, "userRole", user=address_of(STRANGER)) == {"role": "missing"}
    place(built, order(), key=STRANGER)
    assert ask(built, "userRole", user=address_of(STRANGER)) == {"role": "user"}
    assert [agent["address"] for agent in ask(built, "extraAgents")] == [address_of(QUOTER), address_of(GUARDIAN)]


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


@pytest.mark.parametrize("body", [{}, {"type": "nonsense"}, {"type": "l2Book", "coin": "DOGE"}, {"type": "openOrders"}])
def test_a_question_that_is_none_is_unprocessable(tmp_path: Path, body: dict[str, Any]) -> None:
    """Unknown types, unknown coins and missing users are refused."""
    with pytest.raises(UnprocessableError):
        info.answer(venue(tmp_path), body, NOW)


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


def test_requests_are_counted_per_order(tmp_path: Path) -> None:
    """A batch of n costs n of the address's budget, and volume raises the cap."""
    built = venue(tmp_path)
    built.act(signed(orders(order(), order("99980"), order("100001", "0.01", tif="Ioc"))), NOW)
    assert ask(built, "userRateLimit") == {"cumVlm": "1000.01", "nRequestsUsed": 3, "nRequestsCap": 11_000}


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
