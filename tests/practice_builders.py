"""Builders for the tests of the practice venue: keys, signed actions, a venue with a book, a listener."""

import json
from itertools import count
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import SELL, Side
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.rules import DEFAULT, Rules
from mmpi.practice.hyperliquid.signatures import address_of, agent_digest, connection_id
from mmpi.practice.hyperliquid.spot import PAIRS
from mmpi.practice.hyperliquid.streams import Client, Hub
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.keys import Registry
from mmpi.sim.market import GENERATED

BTC = GENERATED["BTC"]
PURR = PAIRS["PURR/USDC"].instrument
BTC_ASSET, ETH_ASSET, PURR_ASSET = 0, 1, 10_000
NOW_MS = 1_800_000_000_000
NOW = NOW_MS * 1_000_000
QUOTER, GUARDIAN, STRANGER = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)
MASTER = "0x" + "ab" * 20
CLOID = "0x" + "0c" * 16
_nonces = count(NOW_MS)


def signed(
    action: dict[str, Any],
    key: bytes = QUOTER,
    *,
    nonce: int | None = None,
    expires_after: int | None = None,
    vault: str | None = None,
    mainnet: bool = False,
) -> dict[str, Any]:
    """Return the body of /exchange."""
    nonce = next(_nonces) if nonce is None else nonce
    digest = agent_digest(connection_id(action, nonce, vault, expires_after), mainnet=mainnet)
    raw = PrivateKey(key).sign_recoverable(digest, hasher=None)
    signature = {"r": "0x" + raw[:32].hex(), "s": "0x" + raw[32:64].hex(), "v": 27 + raw[64]}
    return {
        "action": action,
        "nonce": nonce,
        "signature": signature,
        "vaultAddress": vault,
        "expiresAfter": expires_after,
    }


def order(
    price: str = "99990",
    size: str = "0.01",
    *,
    buy: bool = True,
    tif: str = "Alo",
    cloid: str | None = None,
    asset: int = BTC_ASSET,
    reduce_only: bool = False,
) -> dict[str, Any]:
    """Return one order in the wire's keys."""
    body = {"a": asset, "b": buy, "p": price, "s": size, "r": reduce_only, "t": {"limit": {"tif": tif}}}
    return body if cloid is None else body | {"c": cloid}


def orders(*each: dict[str, Any]) -> dict[str, Any]:
    """Return an order action."""
    return {"type": "order", "orders": list(each), "grouping": "na"}


def cancel(*oids: int) -> dict[str, Any]:
    """Return a cancel action for BTC."""
    return {"type": "cancel", "cancels": [{"a": BTC_ASSET, "o": oid} for oid in oids]}


def cancel_by_cloid(*cloids: str) -> dict[str, Any]:
    """Return a cancelByCloid action for BTC."""
    return {"type": "cancelByCloid", "cancels": [{"asset": BTC_ASSET, "cloid": cloid} for cloid in cloids]}


def modify(oid: int | str, new: dict[str, Any], **flags: bool) -> dict[str, Any]:
    """Return a modify action; `a=True` places the new order in any case."""
    return {"type": "modify", "oid": oid, "order": new, **flags}


def batch_modify(*each: tuple[int | str, dict[str, Any]], **flags: bool) -> dict[str, Any]:
    """Return a batchModify action of (old, new)."""
    return {"type": "batchModify", "modifies": [{"oid": oid, "order": new} for oid, new in each], **flags}


def schedule_cancel(time: int | None = None) -> dict[str, Any]:
    """Return a scheduleCancel action for a time in milliseconds, None to clear it."""
    return {"type": "scheduleCancel"} if time is None else {"type": "scheduleCancel", "time": time}


def book(bid: str = "100000", ask: str = "100001", size: str = "1", ts: int = NOW) -> BookSnapshot:
    """Return a BTC book of one level a side."""
    lots = BTC.lots(size)
    return BookSnapshot(ts, "BTC", ts, 1, ((BTC.ticks(bid), lots),), ((BTC.ticks(ask), lots),))


def spot_book(bid: str = "0.19999", ask: str = "0.20001", size: str = "100000", ts: int = NOW) -> BookSnapshot:
    """Return a PURR/USDC book of one level a side."""
    lots = PURR.lots(size)
    return BookSnapshot(ts, PURR.name, ts, 1, ((PURR.ticks(bid), lots),), ((PURR.ticks(ask), lots),))


def spot_order(price: str, size: str, *, buy: bool = True, tif: str = "Gtc", **how: Any) -> dict[str, Any]:
    """Return one PURR/USDC order in the wire's keys."""
    return order(price, size, buy=buy, tif=tif, asset=PURR_ASSET, **how)


def trade(price: str, size: str = "1", side: Side = SELL, ts: int = NOW + 1) -> Trade:
    """Return a BTC trade by a taker, later than the book."""
    return Trade(ts, "BTC", ts, 1, side, BTC.ticks(price), BTC.lots(size))


def registry(path: Path, agents: tuple[bytes, ...] = (QUOTER, GUARDIAN), *, strict: bool = False) -> Registry:
    """Return a registry in which MASTER has these agents."""
    file = path / "registry"
    file.write_text(json.dumps({MASTER: [address_of(key) for key in agents]}) + "\n")
    return Registry(file, strict=strict)


def venue(path: Path, hub: Hub | None = None, *, strict: bool = False, rules: Rules = DEFAULT) -> Venue:
    """Return a venue that has shown one BTC book."""
    agents = registry(path, strict=strict)
    built = Venue(GENERATED, agents, hub or Hub(), mainnet=False, first_id=1000, rules=rules)
    built.on_market(book())
    return built


def status(answer: dict[str, Any]) -> Any:
    """Return the only status in the answer to an action."""
    (only,) = answer["response"]["data"]["statuses"]
    return only


def place(built: Venue, *each: dict[str, Any], key: bytes = QUOTER, now: int = NOW) -> Any:
    """Return the only status of an order action."""
    return status(built.act(signed(orders(*each), key), now))


def ask(built: Venue, kind: str, **fields: Any) -> Any:
    """Return the answer to an info question about MASTER."""
    return info.answer(built, {"type": kind, "user": MASTER} | fields, NOW)


class Ear:
    """A listener that remembers what it heard, decoded."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def send(self, message: bytes) -> None:
        """Remember a message."""
        self.heard.append(json.loads(message))

    def on(self, channel: str) -> list[Any]:
        """Return the data heard on one channel."""
        return [message["data"] for message in self.heard if message["channel"] == channel]


def client(hub: Hub, ear: Ear) -> Client:
    """Return a conversation whose posts are echoed and whose topics have no snapshot."""
    return Client(hub, ear, lambda request, now: {"echo": request.payload, "at": now}, lambda *_: None)
