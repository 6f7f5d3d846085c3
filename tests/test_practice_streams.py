"""mmpi.practice.hyperliquid.streams: the conversation of one client, without a socket."""

import json
from typing import Any

import pytest
from practice_builders import NOW, Ear, client

from mmpi.practice.hyperliquid.streams import MAX_SUBSCRIPTIONS, Client, Hub

BOOK = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None}


def frame(method: str, **fields: Any) -> str:
    """Return a frame of a client."""
    return json.dumps({"method": method} | fields)


def test_a_subscription_is_echoed_and_served_until_it_ends() -> None:
    """The echo has the subscription as it was asked; after unsubscribe nothing comes."""
    hub, ear = Hub(), Ear()
    one = client(hub, ear)
    one.receive(frame("subscribe", subscription=BOOK), NOW)
    hub.publish(("l2Book", "BTC"), 1)
    hub.publish(("l2Book", "ETH"), 2)
    one.receive(frame("unsubscribe", subscription=BOOK), NOW)
    hub.publish(("l2Book", "BTC"), 3)
    assert ear.heard == [
        {"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": BOOK}},
        {"channel": "l2Book", "data": 1},
        {"channel": "subscriptionResponse", "data": {"method": "unsubscribe", "subscription": BOOK}},
    ]
    assert not hub.wanted(("l2Book", "BTC"))


def test_user_events_arrive_on_another_channel() -> None:
    """userEvents has the channel `user`, and addresses do not depend on case."""
    hub, ear = Hub(), Ear()
    client(hub, ear).receive(frame("subscribe", subscription={"type": "userEvents", "user": "0xAB"}), NOW)
    hub.publish(("userEvents", "0xab"), {"fills": []})
    assert ear.heard[-1] == {"channel": "user", "data": {"fills": []}}


def test_the_context_of_a_pair_arrives_on_another_channel() -> None:
    """activeAssetCtx of a spot pair has a channel of its own, its first message too."""
    hub, ear = Hub(), Ear()
    one = Client(hub, ear, lambda *_: {}, lambda topic, *_: {"first": topic[1]})
    for coin in ("BTC", "PURR/USDC"):
        one.receive(frame("subscribe", subscription={"type": "activeAssetCtx", "coin": coin}), NOW)
        hub.publish(("activeAssetCtx", coin), {"coin": coin})
    assert ear.on("activeAssetCtx") == [{"first": "BTC"}, {"coin": "BTC"}]
    assert ear.on("activeSpotAssetCtx") == [{"first": "PURR/USDC"}, {"coin": "PURR/USDC"}]


def test_ping_and_post() -> None:
    """A ping is answered by pong, a post by its id, type and payload."""
    ear = Ear()
    one = client(Hub(), ear)
    one.receive(frame("ping"), NOW)
    one.receive(frame("post", id=7, request={"type": "info", "payload": {"type": "meta"}}), NOW)
    response = {"type": "info", "payload": {"echo": {"type": "meta"}, "at": NOW}}
    assert ear.heard == [{"channel": "pong"}, {"channel": "post", "data": {"id": 7, "response": response}}]


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "[" * 100_000,
        frame("dance"),
        frame("subscribe"),
        frame("subscribe", subscription={"type": "l2Book"}),
        frame("subscribe", subscription={"type": "candle", "coin": "BTC"}),
        frame("unsubscribe", subscription=BOOK),
        frame("post", request={"type": "info", "payload": {}}),
        frame("post", id=1, request={"type": "explorer", "payload": {}}),
    ],
)
def test_what_cannot_be_done_is_an_error_message(text: str) -> None:
    """A bad frame has one answer on the channel `error`, and the conversation goes on."""
    ear = Ear()
    one = client(Hub(), ear)
    one.receive(text, NOW)
    one.receive(frame("ping"), NOW)
    assert [message["channel"] for message in ear.heard] == ["error", "pong"]


def test_a_second_subscription_of_the_same_is_an_error() -> None:
    """Already subscribed: nothing is sent twice."""
    hub, ear = Hub(), Ear()
    one = client(hub, ear)
    for _ in range(2):
        one.receive(frame("subscribe", subscription=BOOK), NOW)
    hub.publish(("l2Book", "BTC"), 1)
    assert [message["channel"] for message in ear.heard] == ["subscriptionResponse", "error", "l2Book"]
    assert ear.on("error")[0].startswith("Already subscribed: ")


def test_subscriptions_are_bounded_and_end_with_the_client() -> None:
    """One client cannot subscribe without end, and leaves nothing behind."""
    hub, ear = Hub(), Ear()
    one = client(hub, ear)
    for i in range(MAX_SUBSCRIPTIONS + 1):
        one.receive(frame("subscribe", subscription={"type": "trades", "coin": f"C{i}"}), NOW)
    assert ear.on("error") == [f"Cannot subscribe to more than {MAX_SUBSCRIPTIONS} channels."]
    one.close()
    assert not any(hub.wanted(("trades", f"C{i}")) for i in range(MAX_SUBSCRIPTIONS))
