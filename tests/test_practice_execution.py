"""mmpi.practice.hyperliquid.execution: modify and batchModify, what the venue cancels itself, the order of streams."""

from pathlib import Path
from typing import Any

import pytest
from practice_builders import (
    CLOID,
    ETH_ASSET,
    MASTER,
    NOW,
    QUOTER,
    STRANGER,
    Ear,
    ask,
    batch_modify,
    book,
    cancel,
    modify,
    order,
    orders,
    place,
    signed,
    spot_book,
    spot_order,
    status,
    trade,
    venue,
)

from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue

GONE = "Cannot modify canceled or filled order"
REFUSED = "Error placing new order during modify: "
OTHER = "0x" + "0d" * 16
DONE = {"status": "ok", "response": {"type": "default"}}


def act(built: Venue, action: dict[str, Any], key: bytes = QUOTER) -> dict[str, Any]:
    """Return the answer to an action signed now."""
    return built.act(signed(action, key), NOW)


def live(built: Venue) -> list[tuple[int, str, str]]:
    """Return oid, price and size of every live order."""
    return [(each["oid"], each["px"], each["sz"]) for each in built.live_orders()]


def updates(ear: Ear) -> list[tuple[int, str]]:
    """Return oid and status of every order update heard."""
    return [(told["order"]["oid"], told["status"]) for each in ear.on("orderUpdates") for told in each]


def test_a_modified_order_has_another_oid(tmp_path: Path) -> None:
    """modify answers without an oid; the old order is canceled, the new one has the new price, size and cloid."""
    built = venue(tmp_path)
    oid = place(built, order(cloid=CLOID))["resting"]["oid"]
    assert act(built, modify(oid, order("99980", "0.02", cloid=CLOID))) == DONE
    ((new, price, size),) = live(built)
    assert (new != oid, price, size) == (True, "99980.0", "0.02")
    assert ask(built, "orderStatus", oid=oid)["order"]["status"] == "canceled"
    assert ask(built, "orderStatus", oid=CLOID)["order"]["order"]["oid"] == new


def test_an_order_is_named_by_its_cloid_and_may_lose_or_change_it(tmp_path: Path) -> None:
    """The old order may be named by cloid; the new one has the cloid of its request, or none."""
    built = venue(tmp_path)
    place(built, order(cloid=CLOID))
    assert act(built, modify(CLOID, order("99980", cloid=OTHER))) == DONE
    assert [each["cloid"] for each in built.live_orders()] == [OTHER]
    assert act(built, modify(OTHER, order("99970"))) == DONE
    assert [each["cloid"] for each in built.live_orders()] == [None]


def test_a_batch_has_a_status_for_each(tmp_path: Path) -> None:
    """batchModify answers as order does; one that misses says so, the others are modified."""
    built = venue(tmp_path)
    first, second = (place(built, order(price))["resting"]["oid"] for price in ("99990", "99980"))
    modified = batch_modify((first, order("99970", cloid=CLOID)), (7, order("99960")), (second, order("99950")))
    answer = act(built, modified)
    assert answer["response"]["type"] == "order"
    a, b, c = answer["response"]["data"]["statuses"]
    assert (a["resting"]["cloid"], b, "cloid" in c["resting"]) == (CLOID, {"error": GONE}, False)
    assert [each[:2] for each in live(built)] == [(a["resting"]["oid"], "99970.0"), (c["resting"]["oid"], "99950.0")]


def test_both_streams_come_in_either_order(tmp_path: Path) -> None:
    """By turns the new order is told first and the old one is: a client must bear both."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    oid = place(built, order())["resting"]["oid"]
    hub.add(("orderUpdates", MASTER), ear)
    for price in ("99980", "99970"):
        act(built, modify(built.live_orders()[0]["oid"], order(price)))
    assert [told for _, told in updates(ear)] == ["open", "canceled", "canceled", "open"]
    (new, _), (old, _), (again, _), (newest, _) = updates(ear)
    assert old == oid and again == new and len({oid, new, newest}) == 3


@pytest.mark.parametrize("how", ["canceled", "filled", "unknown", "of another coin", "of somebody else"])
def test_nothing_takes_the_place_of_what_is_not_there(tmp_path: Path, how: str) -> None:
    """Where the old order is not live the modify is refused in the venue's words, and nothing is placed."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    if how == "canceled":
        act(built, cancel(oid))
    elif how == "filled":
        built.on_market(trade("99989", "5"))
    elif how == "unknown":
        oid += 1
    before = live(built)
    new = order("3000", "1", asset=ETH_ASSET) if how == "of another coin" else order("99980")
    answer = act(built, modify(oid, new), STRANGER if how == "of somebody else" else QUOTER)
    assert answer == {"status": "err", "response": GONE}
    assert live(built) == before


def test_always_place_places(tmp_path: Path) -> None:
    """With `a` the new order is placed though the old one is gone, and it may take."""
    built = venue(tmp_path)
    assert act(built, modify(7, order("99980"), a=True)) == DONE
    ((oid, price, _),) = live(built)
    assert price == "99980.0"
    answer = status(act(built, batch_modify((oid, order("100001", "0.5", tif="Ioc")), a=True)))
    assert answer["filled"]["totalSz"] == "0.5"
    assert live(built) == []


def test_a_gtc_becomes_post_only(tmp_path: Path) -> None:
    """Without `a` a Gtc that does not execute rests as Alo."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    act(built, modify(oid, order("99980", tif="Gtc")))
    assert [each["tif"] for each in ask(built, "frontendOpenOrders")] == ["Alo"]


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        (order("99980.05"), "Price must be divisible by tick size. asset=0"),
        (order("99980", "0"), "Order has zero size."),
        (order("99980", cloid="0x1"), "Order has invalid cloid."),
        (order("99980", tif="Ioc"), "Modified order must be Alo or Gtc unless always_place is set."),
        (order("99980") | {"t": {"trigger": {}}}, "Trigger orders are not part of the practice venue."),
    ],
)
def test_a_new_order_out_of_form_leaves_the_old_one(tmp_path: Path, new: dict[str, Any], sentence: str) -> None:
    """What is wrong whatever the market does refuses the whole modify; the old order stays."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    assert act(built, modify(oid, new)) == {"status": "err", "response": sentence}
    assert live(built) == [(oid, "99990.0", "0.01")]


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        (order("100001"), "Post only order would have immediately matched, bbo was 100000@100001. asset=0"),
        (order("100001", tif="Gtc"), "Post only order would have immediately matched, bbo was 100000@100001. asset=0"),
        (order("99980", "0.0001"), "Order must have minimum value of $10. asset=0"),
        (order("99980", reduce_only=True), "Reduce only order would increase position. asset=0"),
    ],
)
def test_a_new_order_that_cannot_be_placed_comes_too_late_for_the_old_one(
    tmp_path: Path, new: dict[str, Any], sentence: str
) -> None:
    """What only the placing shows is told with both orders gone, and the old one is streamed as canceled."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    oid = place(built, order())["resting"]["oid"]
    hub.add(("orderUpdates", MASTER), ear)
    assert status(act(built, batch_modify((oid, new)))) == {"error": REFUSED + sentence}
    assert live(built) == []
    assert updates(ear) == [(oid, "canceled")]


def test_a_partly_filled_order_is_replaced_by_its_whole_new_size(tmp_path: Path) -> None:
    """The new order has the size that its request names, whatever the old one had filled."""
    built = venue(tmp_path)
    oid = place(built, order())["resting"]["oid"]
    built.on_market(trade("99989", "0.004"))
    act(built, modify(oid, order("99980", "0.01")))
    assert [each[1:] for each in live(built)] == [("99980.0", "0.01")]


def test_what_the_venue_cancels_itself_is_told_apart(tmp_path: Path) -> None:
    """nonUserCancel names the own order that a taker met; a cancel by its owner is no such event."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    hub.add(("userEvents", MASTER), ear)
    asked = place(built, order())["resting"]["oid"]
    met = place(built, order("100001", "0.01", buy=False))["resting"]["oid"]
    act(built, cancel(asked))
    place(built, order("100001", "1.5", tif="Ioc"))
    assert [event["nonUserCancel"] for event in ear.on("user") if "nonUserCancel" in event] == [
        [{"coin": "BTC", "oid": met}]
    ]


def test_the_ledger_has_every_order_and_fill(tmp_path: Path) -> None:
    """Accepted orders and fills of all accounts are written down, refused ones are not."""
    built = venue(tmp_path)
    built.on_market(spot_book())
    resting = place(built, order(cloid=CLOID))["resting"]["oid"]
    place(built, order("99990.05"))
    taken = place(built, spot_order("0.20001", "100", tif="Ioc"), key=STRANGER)["filled"]["oid"]
    act(built, modify(resting, order("99980")))
    ((new, _, _),) = live(built)
    placed = built.placed_log()
    assert [(row["oid"], row["cloid"], row["coin"], row["time"]) for row in placed] == [
        (resting, CLOID, "BTC", NOW // 1_000_000),
        (taken, None, "PURR/USDC", NOW // 1_000_000),
        (new, None, "BTC", NOW // 1_000_000),
    ]
    assert [row["account"] == MASTER for row in placed] == [True, False, True]
    built.on_market(book("99900", "99950"))
    first, second = built.fill_log()
    assert (first["oid"], first["side"], first["px"], first["sz"], first["fee"], first["feeToken"]) == (
        taken, "B", "0.20001", "100.0", "0.07", "PURR",
    )  # fmt: skip
    assert second | {"tid": 0, "fee": ""} == {
        "tid": 0, "oid": new, "cloid": None, "coin": "BTC", "side": "B", "px": "99980.0", "sz": "0.01",
        "fee": "", "feeToken": "USDC", "time": NOW // 1_000_000, "account": MASTER,
    }  # fmt: skip
    assert first["tid"] != second["tid"]


def test_historical_orders_are_all_orders_latest_first(tmp_path: Path) -> None:
    """What is open comes first, then what is over, the last that ended first."""
    built = venue(tmp_path)
    oids = [place(built, order(str(99_990 - i)))["resting"]["oid"] for i in range(4)]
    act(built, cancel(oids[2], oids[0]))
    told = [(each["order"]["oid"], each["status"]) for each in ask(built, "historicalOrders")]
    assert told == [(oids[3], "open"), (oids[1], "open"), (oids[0], "canceled"), (oids[2], "canceled")]


def test_several_orders_in_one_action_are_settled_one_by_one(tmp_path: Path) -> None:
    """A batch that rests and takes answers each in its place."""
    built = venue(tmp_path)
    answer = act(built, orders(order("99990"), order("100001", "0.01", tif="Ioc"), order("99980", "0.0001")))
    kinds = [next(iter(each)) for each in answer["response"]["data"]["statuses"]]
    assert kinds == ["resting", "filled", "error"]
