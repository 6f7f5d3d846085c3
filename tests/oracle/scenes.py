"""What the vendor's own Python SDK, not one line of it changed, says and hears at a practice server.

Each scene is a function of a Stage; it returns what the SDK returned, as JSON. The claims are in
tests/test_vendor_client.py: this module judges nothing. It runs in the environment that `make oracle` makes.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import keccak
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError
from hyperliquid.utils.signing import get_timestamp_ms
from hyperliquid.utils.types import Cloid

Answers = dict[str, Any]
ALO, GTC, IOC = ({"limit": {"tif": tif}} for tif in ("Alo", "Gtc", "Ioc"))
AWAY = 200.0
"""In the price of BTC: an order so far from the touch rests for as long as a scene takes."""
SLIP = 50.0
"""Past the touch: an order there trades, however the market moved since it was read."""
SIZE = 0.001
PATIENCE_S = 20.0
FIRES_MS = 5_500
"""The venue takes nothing below five seconds."""
UNTIL_FIRED_S = 9.0
MOST_QUESTIONS = 1_000
UNKNOWN_VAULT = "0x" + "5a" * 20


class Stage:
    """One practice server and the people who trade there, each with a key of its own, made from a name."""

    def __init__(self, url: str, keys: Path) -> None:
        """Take the server's URL and the folder of a registered account's keys."""
        self.url, self.keys = url, keys
        self.info = Info(url, skip_ws=True)

    def exchange(self, name: str, **more: Any) -> Exchange:
        """Return the SDK's trading client for somebody."""
        return Exchange(person(name), self.url, **more)

    def agent(self, name: str, **more: Any) -> Exchange:
        """Return the trading client of a registered agent, which knows the account that it trades for."""
        wallet = Account.from_key(self.read(f"{name}.key"))
        return Exchange(wallet, self.url, account_address=self.read("account"), **more)

    def read(self, name: str) -> str:
        """Return what one of the account's files of keys says."""
        return (self.keys / name).read_text().strip()

    def touch(self, name: str = "BTC") -> tuple[float, float]:
        """Return the best bid and ask."""
        bids, asks = self.info.l2_snapshot(name)["levels"]
        return float(bids[0]["px"]), float(asks[0]["px"])

    def below(self) -> float:
        """Return a price at which a buy of BTC rests."""
        return round(self.touch()[0] - AWAY)

    def above(self) -> float:
        """Return a price at which a sell of BTC rests."""
        return round(self.touch()[1] + AWAY)

    def crossing(self) -> float:
        """Return a price at which a buy of BTC trades."""
        return round(self.touch()[1] + SLIP)


def person(name: str) -> LocalAccount:
    """Return somebody's wallet, the same every time."""
    return Account.from_key(keccak(text=name))


def cloid(number: int) -> Cloid:
    """Return a client order id."""
    return Cloid.from_int(0xC0FFEE << 64 | number)


def oids(answer: Answers) -> list[int]:
    """Return the venue's numbers of the orders that an action left resting."""
    return [each["resting"]["oid"] for each in answer["response"]["data"]["statuses"] if "resting" in each]


def until(true: Callable[[], Any], seconds: float = PATIENCE_S) -> float:
    """Return how many seconds it took to become true, or the time that was waited in vain."""
    began = time.monotonic()
    while not true() and time.monotonic() - began < seconds:
        time.sleep(0.02)
    return time.monotonic() - began


# Questions ----------------------------------------------------------------------------------------------------------


def questions(stage: Stage) -> Answers:
    """Ask everything about the venue, and about an address that has never done anything."""
    info, nobody = stage.info, person("nobody").address
    return {
        "nobody": nobody,
        "assets": {name: info.name_to_asset(name) for name in ("BTC", "ETH")},
        "meta": info.meta(),
        "spot_meta": info.spot_meta(),
        "all_mids": info.all_mids(),
        "l2_snapshot": info.l2_snapshot("BTC"),
        "user_state": info.user_state(nobody),
        "open_orders": info.open_orders(nobody),
        "frontend_open_orders": info.frontend_open_orders(nobody),
        "user_fills": info.user_fills(nobody),
        "user_rate_limit": info.user_rate_limit(nobody),
        "unknown_oid": info.query_order_by_oid(nobody, 1),
    }


# Orders -------------------------------------------------------------------------------------------------------------


def resting(stage: Stage) -> Answers:
    """Place one Alo order with a cloid and one Gtc order without, look at them, cancel each in its way, look again."""
    trader, info = stage.exchange("resting"), stage.info
    me, name = trader.wallet.address, cloid(1)
    low, high = stage.below(), stage.above()
    alo = trader.order("BTC", True, SIZE, low, ALO, cloid=name)
    gtc = trader.order("BTC", False, SIZE, high, GTC)
    oid = oids(gtc)[0]
    seen = {
        "low": low,
        "high": high,
        "cloid": name.to_raw(),
        "alo": alo,
        "gtc": gtc,
        "open_orders": info.open_orders(me),
        "frontend_open_orders": info.frontend_open_orders(me),
        "by_cloid": info.query_order_by_cloid(me, name),
        "by_oid": info.query_order_by_oid(me, oid),
    }
    return seen | {
        "cancel_by_cloid": trader.cancel_by_cloid("BTC", name),
        "cancel": trader.cancel("BTC", oid),
        "left": info.open_orders(me),
        "by_cloid_after": info.query_order_by_cloid(me, name),
        "by_oid_after": info.query_order_by_oid(me, oid),
    }


def taking(stage: Stage) -> Answers:
    """Buy with an Ioc order, look at fills, position and budget, and close the position with market_close."""
    trader, info = stage.exchange("taking"), stage.info
    me, began = trader.wallet.address, get_timestamp_ms()
    taken = trader.order("BTC", True, 0.002, stage.crossing(), IOC, cloid=cloid(2))
    held = info.user_state(me)
    fills = info.user_fills(me)
    closed = trader.market_close("BTC")
    return {
        "cloid": cloid(2).to_raw(),
        "taken": taken,
        "held": held,
        "fills": fills,
        "by_cloid": info.query_order_by_cloid(me, cloid(2)),
        "closed": closed,
        "left": info.user_state(me),
        "all_fills": info.user_fills(me),
        "fills_since": info.user_fills_by_time(me, began),
        "fills_before": info.user_fills_by_time(me, began - 60_000, began - 1),
        "user_rate_limit": info.user_rate_limit(me),
    }


def batches(stage: Stage) -> Answers:
    """Place ten orders under one signature, one of them too small; cancel by oid and by cloid, one of each unknown."""
    trader, low = stage.exchange("batches"), stage.below()
    wanted = [
        {
            "coin": "BTC",
            "is_buy": True,
            "sz": 0.00005 if level == 4 else SIZE,
            "limit_px": low - level,
            "order_type": ALO,
            "reduce_only": False,
            "cloid": cloid(100 + level),
        }
        for level in range(10)
    ]
    placed = trader.bulk_orders(wanted)
    shown = stage.info.open_orders(trader.wallet.address)
    by_oid = [{"coin": "BTC", "oid": oid} for oid in [*oids(placed)[:4], 1]]
    by_cloid = [{"coin": "BTC", "cloid": cloid(100 + level)} for level in (5, 6, 7, 8, 9, 4)]
    return {
        "placed": placed,
        "open_orders": shown,
        "bulk_cancel": trader.bulk_cancel(by_oid),
        "bulk_cancel_by_cloid": trader.bulk_cancel_by_cloid(by_cloid),
        "left": stage.info.open_orders(trader.wallet.address),
    }


def modifying(stage: Stage) -> Answers:
    """Modify one order by oid, then by cloid, then two at once, then one that does not exist."""
    trader, info = stage.exchange("modifying"), stage.info
    me, low, name = trader.wallet.address, stage.below(), cloid(200)
    placed = trader.bulk_orders(
        [
            {"coin": "BTC", "is_buy": True, "sz": SIZE, "limit_px": low, "order_type": ALO, "reduce_only": False,
             "cloid": name},
            {"coin": "BTC", "is_buy": True, "sz": SIZE, "limit_px": low - 1, "order_type": ALO, "reduce_only": False},
        ]
    )  # fmt: skip
    first, second = oids(placed)
    by_oid = trader.modify_order(first, "BTC", True, 0.002, low - 10, ALO, cloid=name)
    seen = {
        "low": low,
        "cloid": name.to_raw(),
        "first": first,
        "second": second,
        "by_oid": by_oid,
        "old": info.query_order_by_oid(me, first),
        "after_one": info.open_orders(me),
    }
    by_cloid = trader.modify_order(name, "BTC", True, 0.003, low - 20, ALO, cloid=name)
    after_two = info.open_orders(me)
    third = next(order["oid"] for order in after_two if order.get("cloid") == name.to_raw())
    both = trader.bulk_modify_orders_new(
        [
            {"oid": oid, "order": {"coin": "BTC", "is_buy": True, "sz": 0.004, "limit_px": low - 30 - number,
                                   "order_type": GTC, "reduce_only": False}}
            for number, oid in enumerate((third, second))
        ]
    )  # fmt: skip
    return seen | {
        "by_cloid": by_cloid,
        "after_two": after_two,
        "both": both,
        "after_three": info.open_orders(me),
        "unknown": trader.modify_order(1, "BTC", True, SIZE, low, ALO),
        "after_unknown": info.open_orders(me),
    }


def complaints(stage: Stage) -> Answers:
    """Do what the venue refuses, each in its own way."""
    trader, low = stage.exchange("complaints"), stage.below()
    return {
        "tick": trader.order("BTC", True, SIZE, low + 0.5, GTC),
        "value": trader.order("BTC", True, 0.00005, low, ALO),
        "crossing": trader.order("BTC", True, SIZE, stage.crossing(), ALO),
        "no_match": trader.order("BTC", True, SIZE, low, IOC),
        "reduce_only": trader.order("BTC", True, SIZE, low, GTC, reduce_only=True),
        "cancel": trader.cancel("BTC", 1),
        "cancel_by_cloid": trader.cancel_by_cloid("BTC", cloid(404)),
        "left": stage.info.open_orders(trader.wallet.address),
    }


# Limits in time -----------------------------------------------------------------------------------------------------


def expiring(stage: Stage) -> Answers:
    """Place an order that has expired already, one that will not for a while, and one without an expiry."""
    trader, low = stage.exchange("expiring"), stage.below()
    seen = {}
    for name, expires in (("late", -1_000), ("early", 30_000), ("never", None)):
        trader.set_expires_after(None if expires is None else get_timestamp_ms() + expires)
        seen[name] = trader.order("BTC", True, SIZE, low, ALO)
    return seen | {"left": stage.info.open_orders(trader.wallet.address)}


def dead_man(stage: Stage) -> Answers:
    """Set the dead-man switch and let it fire; meanwhile somebody else unsets theirs, and it does not."""
    struck, spared, info = stage.exchange("struck"), stage.exchange("spared"), stage.info
    low = stage.below()
    too_soon = struck.schedule_cancel(get_timestamp_ms() + 2_000)
    placed = [struck.order("BTC", True, SIZE, low - level, ALO, cloid=cloid(300 + level)) for level in range(2)]
    kept = spared.order("BTC", True, SIZE, low, ALO)
    fires_at = get_timestamp_ms() + FIRES_MS
    answers = {
        "too_soon": too_soon,
        "set": struck.schedule_cancel(fires_at),
        "set_other": spared.schedule_cancel(fires_at),
        "unset": spared.schedule_cancel(None),
        "before": info.open_orders(struck.wallet.address),
    }
    until(lambda: not info.open_orders(struck.wallet.address), UNTIL_FIRED_S)
    gone_at = get_timestamp_ms()
    return answers | {
        "fires_at": fires_at,
        "gone_at": gone_at,
        "after": info.open_orders(struck.wallet.address),
        "fates": [info.query_order_by_oid(struck.wallet.address, oid) for each in placed for oid in oids(each)],
        "kept": kept,
        "spared": info.open_orders(spared.wallet.address),
    }


def gated(stage: Stage) -> Answers:
    """Set the dead-man switch where the venue asks for volume first; trade all the same."""
    trader = stage.exchange("gated")
    return {
        "set": trader.schedule_cancel(get_timestamp_ms() + FIRES_MS),
        "order": trader.order("BTC", True, SIZE, stage.below(), ALO),
    }


def asking_much(stage: Stage) -> Answers:
    """Ask for the fills of one address, over and over, until the venue has had enough."""
    answered = 0
    try:
        while answered < MOST_QUESTIONS:
            stage.info.user_fills(person("nobody").address)
            answered += 1
    except ClientError as error:
        return {"answered": answered, "status": error.status_code}
    return {"answered": answered, "status": 200}


# Other people's accounts --------------------------------------------------------------------------------------------


def agent(stage: Stage) -> Answers:
    """Trade as a registered agent for its account."""
    trader, account = stage.agent("quoter"), stage.read("account")
    placed = trader.order("BTC", True, SIZE, stage.below(), ALO, cloid=cloid(400))
    own = trader.wallet.address
    seen = {
        "placed": placed,
        "of_account": stage.info.open_orders(account),
        "of_agent": stage.info.open_orders(own),
        "role": stage.info.user_role(own),
        "account": account.lower(),
    }
    return seen | {
        "taken": trader.order("BTC", True, SIZE, stage.crossing(), IOC),
        "closed": trader.market_close("BTC"),  # finds the position by account_address
        "cancel": trader.cancel_by_cloid("BTC", cloid(400)),
        "left": stage.info.open_orders(account),
    }


def vault(stage: Stage) -> Answers:
    """Trade for a vault as an agent of its leader; try the same as a stranger, and for a vault that is none."""
    mine, info, low, name = stage.read("vault"), stage.info, stage.below(), cloid(500)
    trader = stage.agent("quoter", vault_address=mine)
    placed = trader.order("BTC", True, SIZE, low, ALO, cloid=name)
    seen = {
        "vault": mine.lower(),
        "placed": placed,
        "of_vault": info.open_orders(mine),
        "of_leader": info.open_orders(stage.read("account")),
        "role": info.user_role(mine),
    }
    return seen | {
        "modify": trader.modify_order(name, "BTC", True, 0.002, low, ALO, cloid=name),
        "modified": info.open_orders(mine),
        "cancel": trader.cancel_by_cloid("BTC", name),
        "left": info.open_orders(mine),
        "of_a_stranger": stage.exchange("stranger", vault_address=mine).order("BTC", True, SIZE, low, ALO),
        "unknown": stage.agent("quoter", vault_address=UNKNOWN_VAULT).order("BTC", True, SIZE, low, ALO),
        "left_after": info.open_orders(mine),
    }


def stranger(stage: Stage) -> Answers:
    """Trade with a key that the venue does not know, and with a registered one."""
    trader, known = stage.exchange("stranger"), stage.agent("quoter")
    low = stage.below()
    return {
        "address": trader.wallet.address,
        "refused": trader.order("BTC", True, SIZE, low, ALO),
        "refused_cancel": trader.cancel("BTC", 1),
        "refused_dead_man": trader.schedule_cancel(None),
        "role": stage.info.user_role(trader.wallet.address),
        "taken": known.order("BTC", True, SIZE, low, ALO),
        "open_orders": stage.info.open_orders(stage.read("account")),
    }


def spot(stage: Stage) -> Answers:
    """Buy the first spot pair, and rest an order there."""
    trader, info = stage.exchange("spot"), stage.info
    meta = info.spot_meta()
    pair = meta["universe"][0]["name"]
    bid, ask = stage.touch(pair)
    before = info.spot_user_state(trader.wallet.address)
    size = round(20 / bid, info.asset_to_sz_decimals[info.name_to_asset(pair)])
    placed = trader.order(pair, True, size, float(f"{bid * 0.97:.4g}"), ALO, cloid=cloid(600))
    seen = {
        "spot_meta": meta,
        "pair": pair,
        "asset": info.name_to_asset(pair),
        "mid": info.all_mids()[pair],
        "before": before,
        "placed": placed,
        "open_orders": info.open_orders(trader.wallet.address),
    }
    return seen | {
        "taken": trader.order(pair, True, size, float(f"{ask * 1.03:.4g}"), IOC),
        "fills": info.user_fills(trader.wallet.address),
        "after": info.spot_user_state(trader.wallet.address),
        "cancel": trader.cancel_by_cloid(pair, cloid(600)),
        "left": info.open_orders(trader.wallet.address),
    }


# Streams ------------------------------------------------------------------------------------------------------------


def streams(stage: Stage) -> Answers:
    """Subscribe to everything, trade, and say what was heard on each subscription."""
    trader = stage.exchange("streams")
    me, name = trader.wallet.address, cloid(700)
    before = trader.order("BTC", True, SIZE, stage.crossing(), IOC)
    info = Info(stage.url)
    heard: dict[str, list[Any]] = defaultdict(list)
    try:
        numbers = _subscribe(info, me, heard)
        until(lambda: all(heard[kind] for kind in ("l2Book", "userFills", "userFundings", "activeAssetCtx", "bbo")))
        snapshots = {kind: heard[kind][0] for kind in list(heard) if heard[kind]}
        placed = trader.order("BTC", True, SIZE, stage.below(), ALO, cloid=name)
        modified = trader.modify_order(name, "BTC", True, 0.002, stage.below(), ALO, cloid=name)
        cancelled = trader.cancel_by_cloid("BTC", name)
        taken = trader.order("BTC", False, SIZE, round(stage.touch()[0] - SLIP), IOC)
        until(lambda: _of(heard["trades"], me) and heard["userEvents"] and len(heard["userFills"]) > 1)
        until(lambda: len(heard["l2Book"]) > 1 and heard["allMids"])
        info.unsubscribe({"type": "l2Book", "coin": "BTC"}, numbers["l2Book"])
        time.sleep(0.3)
        books = len(heard["l2Book"])
        time.sleep(1.5)
        silent = len(heard["l2Book"]) == books
    finally:
        info.disconnect_websocket()
    return {
        "me": me.lower(),
        "cloid": name.to_raw(),
        "answers": {"before": before, "placed": placed, "modified": modified, "cancelled": cancelled, "taken": taken},
        "snapshots": snapshots,
        "orderUpdates": heard["orderUpdates"],
        "userFills": heard["userFills"],
        "userEvents": heard["userEvents"],
        "trades": _of(heard["trades"], me),
        "counts": {kind: len(messages) for kind, messages in heard.items()},
        "silent_after_unsubscribe": silent,
    }


def _subscribe(info: Info, me: str, heard: dict[str, list[Any]]) -> dict[str, int]:
    public = [{"type": kind, "coin": "BTC"} for kind in ("l2Book", "trades", "bbo", "activeAssetCtx")]
    private = [{"type": kind, "user": me} for kind in ("userFills", "orderUpdates", "userEvents", "userFundings")]
    wanted: list[dict[str, str]] = [*public, {"type": "allMids"}, *private]
    return {each["type"]: info.subscribe(each, heard[each["type"]].append) for each in wanted}


def _of(messages: list[Any], user: str) -> list[Any]:
    """Return the public trades that a user took part in."""
    trades = [trade for message in messages for trade in message["data"]]
    return [trade for trade in trades if user.lower() in map(str.lower, trade.get("users", ()))]


SCENES: dict[str, Callable[[Stage], Answers]] = {
    scene.__name__: scene
    for scene in (
        questions,
        resting,
        taking,
        batches,
        modifying,
        complaints,
        expiring,
        dead_man,
        gated,
        asking_much,
        agent,
        vault,
        stranger,
        spot,
        streams,
    )
}
