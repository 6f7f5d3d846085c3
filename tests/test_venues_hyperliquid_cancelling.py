"""What the guardian uses: our live orders, and the frame that cancels them."""

import json
from typing import Any

import msgspec
import pytest

from mmpi.errors import RemoteError
from mmpi.events import OpenOrder
from mmpi.instrument import BUY, SELL
from mmpi.venues.hyperliquid import cancelling
from mmpi.venues.hyperliquid.answers import Meta, UserRole
from mmpi.venues.hyperliquid.cancelling import LiveOrders
from mmpi.venues.hyperliquid.messages import PostResponse
from mmpi.venues.hyperliquid.signing import Signer

OURS = "0x1111222233334444" + "0" * 16
EARLIER = "0x1111222299999999" + "0" * 16
THEIRS = "0x9999222233334444" + "0" * 16
ACCOUNT = "0x" + "ab" * 20
ASSETS = {"BTC": 3, "ETH": 4}


def order(oid: int, cloid: str | None, **changes: Any) -> dict[str, Any]:
    """Return an order as the venue describes it."""
    fields = {"coin": "BTC", "side": "B", "limitPx": "50000.05", "sz": "0.001", "oid": oid, "cloid": cloid}
    return fields | {"timestamp": 1, "isTrigger": False} | changes


def updates(*each: tuple[dict[str, Any], str]) -> bytes:
    """Return an orderUpdates frame."""
    data = [{"order": described, "status": status, "statusTimestamp": 1} for described, status in each]
    return json.dumps({"channel": "orderUpdates", "data": data}).encode()


def response(kind: str, payload: object) -> PostResponse:
    """Return an answer to a post."""
    return PostResponse(kind, msgspec.Raw(json.dumps(payload).encode()))


def test_only_this_instances_orders_are_listed() -> None:
    """Orders of any run of ours are listed without needing a grid; strangers' are not."""
    listed = [
        order(1, OURS),
        order(2, EARLIER, coin="ETH", side="A"),
        order(3, THEIRS),
        order(4, None, coin="DOGE"),
    ]
    found = cancelling.open_orders(response("info", {"type": "frontendOpenOrders", "data": listed}), OURS, ASSETS)
    assert found == [OpenOrder("BTC", OURS, "1", BUY, 0, 0), OpenOrder("ETH", EARLIER, "2", SELL, 0, 0)]


def test_an_order_in_an_unknown_market_is_never_passed_over() -> None:
    """An order of ours in a market listed since we connected is an error: zero must not be verified while it lives."""
    listed = [order(1, OURS), order(2, OURS, coin="DOGE")]
    with pytest.raises(RemoteError, match=r"live in markets that were not listed before: \['DOGE'\]"):
        cancelling.open_orders(response("info", {"type": "frontendOpenOrders", "data": listed}), OURS, ASSETS)


@pytest.mark.parametrize(("kind", "payload"), [("error", "429 Too Many Requests"), ("info", {"data": {}}), ("info", 1)])
def test_no_list_is_not_an_empty_list(kind: str, payload: object) -> None:
    """An answer that is no list of orders is an error: it must never pass for "nothing is live"."""
    with pytest.raises(RemoteError, match="hyperliquid: "):
        cancelling.open_orders(response(kind, payload), OURS, ASSETS)


def test_the_cancel_frame_names_every_order_under_one_signature() -> None:
    """The frame is a signed cancel by oid, with its expiry."""
    signer = Signer((5).to_bytes(32, "big"), mainnet=True)
    orders = [OpenOrder("BTC", OURS, "1", BUY, 0, 0), OpenOrder("ETH", EARLIER, "2", SELL, 0, 0)]
    frame = json.loads(cancelling.cancel_frame(9, orders, ASSETS, signer, 1000, 3000))
    payload = frame["request"]["payload"]
    assert (frame["method"], frame["id"], frame["request"]["type"]) == ("post", 9, "action")
    assert payload["action"] == {"type": "cancel", "cancels": [{"a": 3, "o": 1}, {"a": 4, "o": 2}]}
    assert (payload["nonce"], payload["expiresAfter"]) == (1000, 3000)
    r, s, v = signer.sign(payload["action"], 1000, 3000)
    assert payload["signature"] == {"r": r, "s": s, "v": v}


def test_questions_and_answers_carry_their_number() -> None:
    """The question is an info post; only a post's answer is read as one."""
    question = json.loads(cancelling.open_orders_request(4, ACCOUNT))
    expected = {"type": "info", "payload": {"type": "frontendOpenOrders", "user": ACCOUNT}}
    assert (question["id"], question["request"]) == (4, expected)
    frame = b'{"channel":"post","data":{"id":4,"response":{"type":"info","payload":{"data":[]}}}}'
    answered = cancelling.post_answer(frame)
    assert answered is not None
    number, body = answered
    assert (number, cancelling.open_orders(body, OURS, ASSETS)) == (4, [])
    for other in (b'{"channel":"pong"}', b"Websocket connection established.", b"\xff"):
        assert cancelling.post_answer(other) is None
    assert json.loads(cancelling.subscription(ACCOUNT))["subscription"] == {"type": "orderUpdates", "user": ACCOUNT}


def test_live_orders_follow_the_updates() -> None:
    """Orders enter when open and leave when cancelled, rejected or filled."""
    live = LiveOrders(OURS)
    live.receive(updates(*((order(oid, OURS), "open") for oid in (1, 2, 3, 4)), (order(5, THEIRS), "open")))
    live.receive(updates((order(1, OURS), "filled"), (order(2, OURS), "selfTradeCanceled")))
    live.receive(updates((order(2, OURS), "canceled")))
    live.receive(updates((order(3, OURS), "perpMarginRejected")))
    assert [one.order_id for one in live.orders()] == ["4"]


def test_an_unknown_status_counts_as_live() -> None:
    """A word that we do not know keeps the order in the set: a cancel too many does no harm."""
    live = LiveOrders(OURS)
    live.receive(updates((order(1, OURS), "pondering")))
    assert len(live) == 1


def test_a_full_answer_replaces_the_set() -> None:
    """After a reconnect there is no replay, so the venue's list is what is live."""
    live = LiveOrders(OURS)
    live.receive(updates((order(1, OURS), "open")))
    live.replace([OpenOrder("ETH", OURS, "7", SELL, 0, 0)])
    assert [one.order_id for one in live.orders()] == ["7"]


def test_live_orders_survive_noise_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreadable frames are counted, others passed over, and the set is bounded."""
    monkeypatch.setattr(cancelling, "MAX_LIVE", 3)
    live = LiveOrders(OURS)
    for frame in (b"\xff", "{", b'{"channel":"orderUpdates","data":[1]}'):
        live.receive(frame)
    assert live.unreadable == 3
    live.receive(b'{"channel":"pong"}')
    live.receive(updates(*((order(oid, OURS), "open") for oid in range(1, 10))))
    assert [one.order_id for one in live.orders()] == ["7", "8", "9"]


def test_meta_and_roles_are_read() -> None:
    """The answers that start-up needs: asset numbers and whom an agent trades for."""
    meta = msgspec.json.decode(b'{"universe":[{"name":"BTC","szDecimals":5,"maxLeverage":50}]}', type=Meta)
    assert [(asset.name, asset.sz_decimals) for asset in meta.universe] == [("BTC", 5)]
    agent = msgspec.json.decode(b'{"role":"agent","data":{"user":"0xab"}}', type=UserRole)
    assert (agent.role, agent.data and agent.data.user) == ("agent", "0xab")
    assert msgspec.json.decode(b'{"role":"missing"}', type=UserRole).data is None
