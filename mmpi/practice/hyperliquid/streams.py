"""Who hears what: subscriptions by topic, and one client's conversation over a WebSocket, without the socket.

Invariant: a message is encoded once however many listen, and not at all when nobody does.
It must not know sockets, queues or latency.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

from mmpi.instrument import Nanos
from mmpi.practice.hyperliquid.messages import (
    UNPROCESSABLE,
    Json,
    PostRequest,
    SocketRequest,
    Subscription,
    UnprocessableError,
    convert,
    encode,
    parse,
)
from mmpi.practice.hyperliquid.spot import PAIRS

GREETING: Final = b"Websocket connection established."
MAX_SUBSCRIPTIONS: Final = 1000
"""Per IP at the venue (Hyperliquid "Rate limits and user limits"); here per connection."""
BY_COIN: Final = frozenset({"l2Book", "trades", "bbo", "activeAssetCtx"})
BY_USER: Final = frozenset(
    {"orderUpdates", "userFills", "userEvents", "userFundings", "userNonFundingLedgerUpdates"}
)
CHANNELS: Final[Mapping[str, str]] = {"userEvents": "user"}
"""Where a subscription's messages do not arrive on the channel of its own name."""
SPOT_CONTEXT: Final = "activeSpotAssetCtx"
"""And where those of `activeAssetCtx` arrive if the coin is a pair (seen on the venue, in no document)."""

Topic: TypeAlias = tuple[str, str]
"""The subscription's type, and its coin or user or ""."""


class Listener(Protocol):
    """One client's outgoing line."""

    def send(self, message: bytes) -> None:
        """Queue a message; never blocks."""
        ...


class Hub:
    """The subscriptions of all clients."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, set[Listener]] = {}

    def wanted(self, topic: Topic) -> bool:
        """Return whether anybody listens."""
        return topic in self._listeners

    def publish(self, topic: Topic, data: object) -> None:
        """Send a message to everyone who subscribed to its topic."""
        listeners = self._listeners.get(topic)
        if listeners:
            message = _topic_message(topic, data)
            for listener in tuple(listeners):
                listener.send(message)

    def add(self, topic: Topic, listener: Listener) -> None:
        """Subscribe."""
        self._listeners.setdefault(topic, set()).add(listener)

    def remove(self, topic: Topic, listener: Listener) -> None:
        """Unsubscribe; a topic without listeners is forgotten."""
        listeners = self._listeners[topic]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[topic]


class Client:
    """One client's conversation: its frames come in by `receive`, everything for it goes out by its Listener."""

    def __init__(
        self,
        hub: Hub,
        listener: Listener,
        answer: Callable[[PostRequest, Nanos], Json],
        snapshot: Callable[[Topic, Nanos], object | None],
    ) -> None:
        """`answer` does what a post asks; `snapshot` gives the first message of a new subscription, None for none."""
        self._hub = hub
        self._listener = listener
        self._answer = answer
        self._snapshot = snapshot
        self._topics: set[Topic] = set()

    def receive(self, frame: bytes | str, now: Nanos) -> None:
        """Do what a frame asks; what cannot be done is answered on the channel `error`."""
        try:
            request = convert(parse(frame), SocketRequest)
            match request.method:
                case "ping":
                    self._listener.send(encode({"channel": "pong"}))
                case "post":
                    self._post(request, now)
                case "subscribe":
                    self._subscribe(request, now)
                case _:
                    self._unsubscribe(request)
        except UnprocessableError as error:
            self._listener.send(channel_message("error", str(error)))

    def close(self) -> None:
        """End every subscription."""
        for topic in self._topics:
            self._hub.remove(topic, self._listener)
        self._topics.clear()

    def _subscribe(self, request: SocketRequest, now: Nanos) -> None:
        topic = _topic(request)
        if topic in self._topics:
            raise UnprocessableError(f"Already subscribed: {encode(request.subscription).decode()}")
        if len(self._topics) >= MAX_SUBSCRIPTIONS:
            raise UnprocessableError(f"Cannot subscribe to more than {MAX_SUBSCRIPTIONS} channels.")
        first = self._snapshot(topic, now)
        self._topics.add(topic)
        self._hub.add(topic, self._listener)
        self._echo(request)
        if first is not None:
            self._listener.send(_topic_message(topic, first))

    def _unsubscribe(self, request: SocketRequest) -> None:
        topic = _topic(request)
        if topic not in self._topics:
            raise UnprocessableError(f"Already unsubscribed: {encode(request.subscription).decode()}")
        self._topics.remove(topic)
        self._hub.remove(topic, self._listener)
        self._echo(request)

    def _echo(self, request: SocketRequest) -> None:
        echo = {"method": request.method, "subscription": request.subscription}
        self._listener.send(channel_message("subscriptionResponse", echo))

    def _post(self, request: SocketRequest, now: Nanos) -> None:
        if request.id is None or request.request is None:
            raise UnprocessableError("a post needs id and request")
        try:
            response: Json = {"type": request.request.type, "payload": self._answer(request.request, now)}
        except UnprocessableError:
            response = {"type": "error", "payload": f"422 Unprocessable Entity: {UNPROCESSABLE}"}
        self._listener.send(channel_message("post", {"id": request.id, "response": response}))


def channel_message(channel: str, data: object) -> bytes:
    """Return a message on a channel."""
    return encode({"channel": channel, "data": data})


def _topic_message(topic: Topic, data: object) -> bytes:
    kind, name = topic
    spot = kind == "activeAssetCtx" and name in PAIRS
    return channel_message(SPOT_CONTEXT if spot else CHANNELS.get(kind, kind), data)


def _topic(request: SocketRequest) -> Topic:
    subscription = convert(request.subscription, Subscription)
    kind = subscription.type
    if kind in BY_COIN and subscription.coin:
        return (kind, subscription.coin)
    if kind in BY_USER and subscription.user:
        return (kind, subscription.user.lower())
    if kind == "allMids":
        return (kind, "")
    raise UnprocessableError(f"Invalid subscription {encode(request.subscription).decode()}")
