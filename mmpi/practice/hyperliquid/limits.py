"""What one IP address may ask of the venue: weight over REST, messages, posts and connections over WebSockets.

Invariant: what is refused is not counted, and what is remembered of an address is bounded by what it may do.
It must not know accounts, sockets or clocks.

Source: Hyperliquid "Rate limits and user limits" (read 2026-11-28). How the venue cuts its minutes is not in our
sources; here a minute is the last 60 seconds. The number of messages goes with the weight: 2000 of them for 1200.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mmpi.practice.hyperliquid.messages import Json

MINUTE_S: Final = 60.0
WEIGHT: Final = 1200
"""A minute's, over REST."""
MESSAGES_TO_WEIGHT: Final = 2000 / 1200
"""Messages of a minute over WebSockets, all connections together, for the weight over REST."""
MAX_SOCKETS: Final = 10
"""Of an address ("websocket connections"; an older copy of the page says 100)."""
MAX_NEW_SOCKETS: Final = 30
"""In a minute."""
MAX_POSTS: Final = 100
"""Not answered yet, of all connections."""
MAX_ADDRESSES: Final = 1000
"""Remembered; only a server that is not on loopback ever sees a second one."""

LIGHT: Final = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
LIGHT_WEIGHT: Final = 2
HEAVY: Final = "userRole"
HEAVY_WEIGHT: Final = 60
INFO_WEIGHT: Final = 20
BY_ITEM: Final = frozenset(
    {
        "recentTrades", "historicalOrders", "userFills", "userFillsByTime", "fundingHistory", "userFunding",
        "nonUserFundingUpdates", "twapHistory", "userTwapSliceFills", "userTwapSliceFillsByTime", "delegatorHistory",
        "delegatorRewards", "validatorStats",
    }
)  # fmt: skip
"""Questions that weigh one more for each ITEMS items of their answer, which only the answer tells."""
ITEMS: Final = 20
CANDLES: Final = 60
BATCH: Final = 40
"""Parts of an action for which it weighs one more."""
BATCHES: Final = ("orders", "cancels", "modifies")


def info_weight(body: Json) -> int:
    """Return what a question weighs, its answer not counted."""
    kind = body.get("type")
    if kind in LIGHT:
        return LIGHT_WEIGHT
    return HEAVY_WEIGHT if kind == HEAVY else INFO_WEIGHT


def answer_weight(body: Json, answer: Any) -> int:
    """Return what the answer to a question weighs beside it."""
    if not isinstance(answer, list):
        return 0
    if body.get("type") == "candleSnapshot":
        return len(answer) // CANDLES
    return len(answer) // ITEMS if body.get("type") in BY_ITEM else 0


def action_weight(body: Json) -> int:
    """Return what a signed action weighs."""
    action = body.get("action")
    parts = [action[key] for key in BATCHES if isinstance(action.get(key), list)] if isinstance(action, dict) else []
    return 1 + sum(map(len, parts)) // BATCH


class Minute:
    """What was spent in the last minute, of `cap`."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def spend(self, weight: int, now: float) -> bool:
        """Return whether there is room for a weight, having spent it."""
        self._forget(now)
        if self._sum + weight > self.cap:
            return False
        self.charge(weight, now)
        return True

    def charge(self, weight: int, now: float) -> None:
        """Spend what cannot be refused any more."""
        if weight:
            self._spent.append((now, weight))
            self._sum += weight

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - MINUTE_S:
            self._sum -= self._spent.popleft()[1]


class Address:
    """What one address has spent and holds."""

    def __init__(self, weight: int) -> None:
        self.weight = Minute(weight)
        self.messages = Minute(round(weight * MESSAGES_TO_WEIGHT))
        self.new_sockets = Minute(MAX_NEW_SOCKETS)
        self.sockets = 0
        self.posts = 0
        """Not answered yet."""


class Limits:
    """The limits of every address; with a weight of 0 none is enforced."""

    def __init__(self, weight: int = WEIGHT) -> None:
        self.enforced = weight > 0
        self.refused = 0
        self._weight = weight
        self._addresses: dict[str, Address] = {}

    def weigh(self, peer: str, weight: int, now: float) -> bool:
        """Return whether a request over REST may be made."""
        return self._allow(peer, lambda address: address.weight.spend(weight, now))

    def charge(self, peer: str, weight: int, now: float) -> None:
        """Add what an answer weighs."""
        if self.enforced and weight:
            self._address(peer).weight.charge(weight, now)

    def message(self, peer: str, now: float) -> str:
        """Return why a message over a WebSocket is one too many, in the venue's words, or ""."""
        if self._allow(peer, lambda address: address.messages.spend(1, now)):
            return ""
        # Seen (nktkas/hyperliquid, issue 78, 2025-11), for 2000.
        return f"Cannot send more than {self._address(peer).messages.cap} messages per minute."

    def connect(self, peer: str, now: float) -> str:
        """Return why a new socket is one too many, or "" having counted it until `disconnect`."""
        address = self._address(peer)
        if self.enforced and address.sockets >= MAX_SOCKETS:
            self.refused += 1
            return f"more than {MAX_SOCKETS} connections of one address"
        if not self._allow(peer, lambda address: address.new_sockets.spend(1, now)):
            return f"more than {MAX_NEW_SOCKETS} new connections of one address in a minute"
        address.sockets += 1
        return ""

    def disconnect(self, peer: str) -> None:
        """Count a socket no more."""
        self._address(peer).sockets -= 1

    def post(self, peer: str) -> bool:
        """Return whether one more post may wait for its answer, having counted it until `posted`."""
        address = self._address(peer)
        if self.enforced and address.posts >= MAX_POSTS:
            self.refused += 1
            return False
        address.posts += 1
        return True

    def posted(self, peer: str) -> None:
        """Count a post no more."""
        self._address(peer).posts -= 1

    def _allow(self, peer: str, spend: Callable[[Address], bool]) -> bool:
        if not self.enforced or spend(self._address(peer)):
            return True
        self.refused += 1
        return False

    def _address(self, peer: str) -> Address:
        address = self._addresses.get(peer)
        if address is None:
            if len(self._addresses) >= MAX_ADDRESSES:
                holding = {name: each for name, each in self._addresses.items() if each.sockets or each.posts}
                self._addresses = holding
            address = self._addresses[peer] = Address(self._weight)
        return address
